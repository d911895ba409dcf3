"""What a result was computed with, and a place for Jupyter's own files where HOME takes none.

Both are asked once, at the start of headless work.
"""

import importlib.metadata
import os
import platform
import subprocess
import tempfile
from pathlib import Path

__all__ = ["lend_home", "surroundings"]

_VERSIONS = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib")
_FOLDERS = (
    "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME",
)  # fmt: skip


def surroundings(root: Path | None = None) -> dict[str, str]:
    """Versions, commit, device and threads.

    Args:
        root: the checkout whose commit is told; None is the one labkit was imported from.
    """
    from labkit import __version__

    found = {"labkit": __version__, "commit": _commit(root or Path(__file__).parents[2])}
    found["python"] = platform.python_version()
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    found["threads"] = os.environ.get("OMP_NUM_THREADS", "1")
    return found


def lend_home() -> None:
    """Point Jupyter, IPython and matplotlib to a temporary folder where HOME cannot be written."""
    if os.access(Path("~").expanduser(), os.W_OK):
        return
    lent = Path(tempfile.gettempdir()) / f"labkit-home-{os.getuid() if hasattr(os, 'getuid') else 0}"
    for name in _FOLDERS:
        folder = lent / name.lower()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault(name, str(folder))


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + (" with local changes" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
