"""Real and toy data that are there on any machine: handwritten digits, clothes, spirals and rings.

Nothing is downloaded: digits come with scikit-learn, clothes with labkit, the rest is drawn from a seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.training import _fashion_files

__all__ = ["Dataset", "Split", "digits", "fashion_mnist", "rings", "two_spirals"]

_DIGITS = tuple("0123456789")
_GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


class Split(NamedTuple):
    """Inputs (N, *shape) and labels (N,), int64; unpacks as `x, y = data.train`."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Dataset:
    """A labelled data set, already split.

    Attributes:
        train: What a network learns from: inputs (N, *shape), labels (N,).
        test: What it is tested on: inputs (M, *shape), labels (M,).
        names: The name of each class, indexed by label.
        source: Where the data came from, in words.
        image_shape: (height, width) where an input is an image, flat or not; None elsewhere.
    """

    train: Split
    test: Split
    names: tuple[str, ...]
    source: str
    image_shape: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train.inputs.shape[1:])

    def __repr__(self) -> str:
        sizes = f"{len(self.train.inputs)} + {len(self.test.inputs)} inputs of shape {self.shape}"
        return f"Dataset({sizes}, {len(self.names)} classes, {self.source})"


def digits(
    *,
    scaling: str = "dataset",
    flat: bool = True,
    test_fraction: float = 0.2,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Dataset:
    """The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn, shuffled once by `seed`.

    Args:
        scaling: `"unit"`: grey levels in [0, 1]. `"dataset"`: minus the mean and divided by the standard
            deviation of all training pixels, so that the mean squared entry over the training set is q = 1.
            `"sample"`: each image minus its own mean and scaled so that |x|²/n = 1 exactly.
        flat: Inputs of shape (64,), else images (1, 8, 8).
        test_fraction: Share of the images kept for testing, in (0, 1).
        seed: Draws the split; the global random state is untouched.
        device: Where the tensors live; the CPU by default.
        dtype: Of the inputs; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: For a scaling that does not exist or a fraction outside (0, 1).

    Example:
        >>> digits()
        Dataset(1438 + 359 inputs of shape (64,), 10 classes, digits of scikit-learn)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images / 16.0)
    labels = torch.from_numpy(bunch.target).long()
    train, test = _split(pixels, labels, test_fraction, seed)
    return _images(train, test, _DIGITS, "digits of scikit-learn", scaling, flat, device, dtype)


def fashion_mnist(
    n_train: int | None = 5000,
    n_test: int | None = 1000,
    *,
    folder: str | Path | None = None,
    scaling: str = "dataset",
    flat: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Dataset:
    """Photographs of clothes, 28×28 pixels in ten classes (Fashion-MNIST, Zalando, MIT licence).

    Looked for in `folder`, then in the folder that the environment variable LABKIT_DATA names, then where
    the Debian package dataset-fashion-mnist puts it, then among the 5,000 + 1,000 images shipped with labkit.
    Of each class the first ones in the order of the original files are taken, so that the same request gives
    the same images from every source; `Dataset.source` says which it was.

    Args:
        n_train: Training images, a multiple of 10; None for all that the source has (60,000, shipped 5,000).
        n_test: Test images, a multiple of 10; None for all that the source has (10,000, shipped 1,000).
        folder: Holds the four original idx files, gzipped or not.
        scaling: As for `digits`.
        flat: Inputs of shape (784,), else images (1, 28, 28).
        device: Where the tensors live; the CPU by default.
        dtype: Of the inputs; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: If the source has fewer images, a count is no multiple of 10, or a file is damaged.
        FileNotFoundError: If a folder was named that lacks the files.

    Example:
        >>> fashion_mnist(100, 10, flat=False).shape
        (1, 28, 28)
    """
    source = _fashion_files.find(folder)
    train, test = (
        Split(torch.from_numpy(pixels).double() / 255, torch.from_numpy(labels).long())
        for pixels, labels in (source.read("train", n_train), source.read("test", n_test))
    )
    return _images(train, test, _GARMENTS, source.words, scaling, flat, device, dtype)


def two_spirals(
    n: int = 1000,
    *,
    turns: float | int = 1.5,
    noise: float | int = 0.05,
    test_fraction: float = 0.2,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Dataset:
    """Two interleaved spirals in the plane, n/2 points each, about the unit disc.

    Args:
        n: Points in all, even.
        turns: Full turns of each spiral.
        noise: Standard deviation of the Gaussian noise on each coordinate.
        test_fraction: Share of the points kept for testing, in (0, 1).
        seed: Draws points and split; the global random state is untouched.
        device: Where the tensors live; the CPU by default.
        dtype: Of the inputs; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: For n below 4 or odd, negative noise, or a fraction outside (0, 1).

    Example:
        >>> two_spirals(200).shape
        (2,)
    """

    def curve(t: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return t.sqrt(), 2 * math.pi * turns * t.sqrt() + math.pi * label  # √t spreads them along the arm

    return _planar(curve, ("one", "other"), "two spirals", n, noise, test_fraction, seed, device, dtype)


def rings(
    n: int = 1000,
    *,
    radius: float | int = 0.5,
    noise: float | int = 0.05,
    test_fraction: float = 0.2,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Dataset:
    """Two concentric circles in the plane, n/2 points each; the outer one has radius 1.

    Args:
        n: Points in all, even.
        radius: Of the inner circle.
        noise: Standard deviation of the Gaussian noise on each coordinate.
        test_fraction: Share of the points kept for testing, in (0, 1).
        seed: Draws points and split; the global random state is untouched.
        device: Where the tensors live; the CPU by default.
        dtype: Of the inputs; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: For n below 4 or odd, negative noise, or a fraction outside (0, 1).

    Example:
        >>> rings(200).names
        ('outer', 'inner')
    """

    def circle(t: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - (1 - radius) * label, 2 * math.pi * t

    return _planar(circle, ("outer", "inner"), "two rings", n, noise, test_fraction, seed, device, dtype)


def _planar(
    polar: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    names: tuple[str, ...],
    source: str,
    n: int,
    noise: float | int,
    test_fraction: float,
    seed: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Dataset:
    """Noisy points of a curve (t in [0, 1), label) → (radius, angle), half of them with either label."""
    if n < 4 or n % 2:
        raise ValueError(f"n={n} is no even number of at least 4: each of the two classes gets n/2 points.")
    if noise < 0:
        raise ValueError(f"noise={noise} is negative; a standard deviation is at least 0.")
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    t = torch.rand(n, generator=generator, dtype=torch.float64)
    radii, angles = polar(t, labels.double())
    points = torch.stack([radii * angles.cos(), radii * angles.sin()], dim=1)
    points = points + noise * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    train, test = _split(points, labels, test_fraction, seed)
    return Dataset(_placed(train, device, dtype), _placed(test, device, dtype), names, source)


def _split(inputs: Tensor, labels: Tensor, test_fraction: float, seed: int) -> tuple[Split, Split]:
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} leaves nothing on one side; take a share in (0, 1).")
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    n_train = min(max(round(len(inputs) * (1 - test_fraction)), 1), len(inputs) - 1)
    train, test = order[:n_train], order[n_train:]
    return Split(inputs[train], labels[train]), Split(inputs[test], labels[test])


def _images(
    train: Split,
    test: Split,
    names: tuple[str, ...],
    source: str,
    scaling: str,
    flat: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Dataset:
    """Grey images (N, h, w) in [0, 1], scaled and shaped as asked."""
    height, width = train.inputs.shape[1:]
    scale = _scaling(scaling, train.inputs)
    shape = (height * width,) if flat else (1, height, width)
    train, test = (Split(scale(x).reshape(-1, *shape), y) for x, y in (train, test))
    size = (height, width)
    return Dataset(_placed(train, device, dtype), _placed(test, device, dtype), names, source, size)


def _placed(part: Split, device: torch.device | str | None, dtype: torch.dtype | None) -> Split:
    return Split(part.inputs.to(device, dtype or torch.get_default_dtype()), part.labels.to(device))


def _scaling(name: str, pixels: Tensor) -> Callable[[Tensor], Tensor]:
    mean = pixels.mean()
    deviation = (pixels - mean).square().mean().sqrt()

    def by_sample(images: Tensor) -> Tensor:
        centred = images - images.mean((1, 2), keepdim=True)
        return centred / centred.square().mean((1, 2), keepdim=True).sqrt()

    known: dict[str, Callable[[Tensor], Tensor]] = {
        "unit": lambda images: images,
        "dataset": lambda images: (images - mean) / deviation,
        "sample": by_sample,
    }
    if name not in known:
        raise ValueError(f"scaling={name!r} does not exist; take one of {', '.join(known)}.")
    return known[name]
