"""Fashion-MNIST on disk: the four original idx files, or the subset shipped with labkit.

Both give the same images for the same request: the first of each class, in the original order.
"""

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit._data import data_file

__all__ = ["DEBIAN", "IdxFolder", "Shipped", "find"]

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_PREFIX = {"train": "train", "test": "t10k"}
_CLASSES = 10
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class IdxFolder:
    """A folder with the four files of the original distribution, each gzipped or not."""

    folder: Path

    @property
    def words(self) -> str:
        """What `Dataset.source` says."""
        return f"Fashion-MNIST in {self.folder}"

    def missing(self) -> list[str]:
        """The names of the files that are not there."""
        names = [f"{p}-{kind}-ubyte" for p in _PREFIX.values() for kind in ("images-idx3", "labels-idx1")]
        return [name for name in names if not self._path(name).is_file()]

    def read(self, part: str, n: int | None) -> tuple[Bytes, Bytes]:
        """The first n/10 images (n, 28, 28) of every class, with their labels (n,); None for all."""
        labels = self._read(f"{_PREFIX[part]}-labels-idx1-ubyte", shape=())
        chosen = first_of_each_class(labels, n, part, self.words)
        images = self._read(f"{_PREFIX[part]}-images-idx3-ubyte", shape=(28, 28), count=int(chosen[-1]) + 1)
        return images[chosen], labels[chosen]

    def _path(self, name: str) -> Path:
        zipped = self.folder / f"{name}.gz"
        return zipped if zipped.is_file() else self.folder / name

    def _read(self, name: str, shape: tuple[int, ...], count: int = -1) -> Bytes:
        """The first `count` entries of an idx file: a magic number, big-endian sizes, then bytes."""
        path = self._path(name)
        header = 4 + 4 * (1 + len(shape))
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                sizes = np.frombuffer(file.read(header), ">u4")
                entries = int(sizes[1]) if count < 0 else count
                raw = np.frombuffer(file.read(entries * int(np.prod(shape))), np.uint8)
            if sizes[0] != 0x0800 + 1 + len(shape) or tuple(sizes[2:]) != shape:
                raise ValueError("its header is another")
            return raw.reshape(entries, *shape)
        except (ValueError, IndexError, EOFError, gzip.BadGzipFile) as error:
            message = f"{path} is no whole idx file of Fashion-MNIST ({error}); copy it again."
            raise ValueError(message) from error


@dataclass(frozen=True)
class Shipped:
    """The subset in labkit's data folder."""

    path: Path

    @property
    def words(self) -> str:
        """What `Dataset.source` says."""
        return "Fashion-MNIST, the subset shipped with labkit"

    def read(self, part: str, n: int | None) -> tuple[Bytes, Bytes]:
        """The first n/10 images (n, 28, 28) of every class, with their labels (n,); None for all."""
        with np.load(self.path) as arrays:
            labels = arrays[f"{part}_labels"]
            chosen = first_of_each_class(labels, n, part, self.words)
            return arrays[f"{part}_images"][chosen], labels[chosen]


def find(folder: str | Path | None) -> IdxFolder | Shipped:
    """The first source there is: `folder`, $LABKIT_DATA, the Debian package, the shipped subset."""
    for name, named in (("folder", folder), ("LABKIT_DATA", os.environ.get("LABKIT_DATA"))):
        if named:
            source = IdxFolder(Path(named))
            if source.missing():
                raise FileNotFoundError(
                    f"{name}={str(named)!r} lacks {', '.join(source.missing())} (plain or .gz); name the "
                    "folder with the four files of Fashion-MNIST, or none for the images shipped with labkit."
                )
            return source
    if not IdxFolder(DEBIAN).missing():
        return IdxFolder(DEBIAN)
    return Shipped(data_file("fashion_mnist_subset.npz"))


def first_of_each_class(labels: Bytes, n: int | None, part: str, source: str) -> NDArray[np.intp]:
    """The indices, ascending, of the first n/10 entries of each class."""
    if n is None:
        return np.arange(len(labels))
    if n < _CLASSES or n % _CLASSES:
        raise ValueError(f"n_{part}={n} is no positive multiple of {_CLASSES}: classes share it equally.")
    if n > len(labels):
        raise ValueError(
            f"n_{part}={n} is more than the {len(labels)} of {source}; install the Debian package "
            "dataset-fashion-mnist or pass folder= for all 60000 + 10000."
        )
    each = n // _CLASSES
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(_CLASSES)]))
