"""Files that are whole or not there, and hashes that say whether work must be done again.

A reader never meets half a file: everything is written beside its place and moved there at the end.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["digest", "write_atomically"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def digest(files: Iterable[Path], *more: str) -> str:
    """A hash of the files' contents, in the order of their names, and of further strings."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for text in more:
        total.update(b"\1" + text.encode())
    return total.hexdigest()[:16]
