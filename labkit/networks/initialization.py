"""Random weights: Gaussian and orthogonal ensembles for affine maps and convolutions, all from one generator.

The same seed gives the same network on every device and in every dtype: normal numbers are drawn on the CPU in
float64, scaled, then moved, and torch's global random state is neither read nor changed.
"""

import math
from numbers import Integral
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor, nn

__all__ = [
    "affine",
    "check_device",
    "check_sigmas",
    "check_sizes",
    "convolution",
    "gaussian",
    "orthogonal",
    "weight_generator",
]

Placement = torch.device | str | None
Affine = TypeVar("Affine", nn.Linear, nn.Conv2d)
_STREAM = 0x4A434F42


def weight_generator(seed: int) -> torch.Generator:
    """The generator of a network's parameters, unlike the one that `manual_seed(seed)` gives.

    Inputs are often drawn with the same small seed; from the same stream they would be rows of the weights.

    Example:
        >>> inputs = torch.Generator().manual_seed(0)
        >>> torch.equal(gaussian(2, 2, inputs), gaussian(2, 2, weight_generator(0)))
        False
    """
    return torch.Generator().manual_seed((seed + _STREAM) % 2**32)  # torch's CPU generator reads 32 bits


def gaussian(n_out: int, n_in: int, generator: torch.Generator) -> Float64[Tensor, "n_out n_in"]:
    """A matrix (n_out, n_in) of independent entries N(0, 1/n_in), float64 on the CPU."""
    return torch.randn(n_out, n_in, generator=generator, dtype=torch.float64).div(math.sqrt(n_in))


def orthogonal(n_out: int, n_in: int, generator: torch.Generator) -> Float64[Tensor, "n_out n_in"]:
    """A Haar matrix (n_out, n_in), float64 on the CPU: orthogonal rows or columns, entries of variance 1/n_in.

    Square: orthogonal. Wide: orthonormal rows. Tall: orthogonal columns of squared length n_out/n_in, so that
    the mean square of the entries is kept, |Wx|²/n_out = |x|²/n_in, as the Gaussian ensemble keeps it on average.

    Example:
        >>> w = orthogonal(6, 3, torch.Generator().manual_seed(0))
        >>> bool(torch.allclose(w.mT @ w, 2 * torch.eye(3, dtype=w.dtype)))
        True
    """
    wide, tall = min(n_out, n_in), max(n_out, n_in)
    q, r = torch.linalg.qr(torch.randn(tall, wide, generator=generator, dtype=torch.float64))
    haar: Tensor = q * r.diagonal().sgn()  # the factorisation with a positive diagonal is unique
    return haar * math.sqrt(n_out / n_in) if n_out > n_in else haar.mT


_ENSEMBLES = {"gaussian": gaussian, "orthogonal": orthogonal}


def affine(
    n_in: int,
    n_out: int,
    sigma_w: float | int,
    sigma_b: float | int,
    generator: torch.Generator,
    *,
    ensemble: str = "gaussian",
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> nn.Linear:
    """An affine map with weights of variance σ_w²/n_in and biases N(0, σ_b²).

    Args:
        n_in: Entries of the input.
        n_out: Entries of the output.
        sigma_w: Standard deviation of the weights times sqrt(n_in).
        sigma_b: Standard deviation of the biases; they are drawn, and stay trainable, at 0 too.
        generator: A CPU generator; the same draws are taken whatever the two σ.
        ensemble: `"gaussian"` or `"orthogonal"`, the latter scaled as `orthogonal` says.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: For an ensemble that does not exist, or sizes and σ that make no sense.

    Example:
        >>> affine(64, 10, 1.0, 0.0, torch.Generator().manual_seed(0)).weight.shape
        torch.Size([10, 64])
    """
    check_sizes(n_in=n_in, n_out=n_out)
    check_sigmas(sigma_w, sigma_b)
    if ensemble not in _ENSEMBLES:
        raise ValueError(f"ensemble={ensemble!r} does not exist; take one of {', '.join(_ENSEMBLES)}.")
    layer = nn.Linear(n_in, n_out, device="meta", dtype=dtype)
    return _filled(layer, sigma_w * _ENSEMBLES[ensemble](n_out, n_in, generator), sigma_b, generator, device)


def convolution(
    channels_in: int,
    channels_out: int,
    kernel: int,
    sigma_w: float | int,
    sigma_b: float | int,
    generator: torch.Generator,
    *,
    stride: int = 1,
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> nn.Conv2d:
    """A 2-D convolution, zero padded by kernel // 2, with weights N(0, σ_w²/(channels_in·kernel²)).

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Side of the kernel, odd so that stride 1 keeps the image's size.
        sigma_w: Standard deviation of the weights times the root of the fan-in.
        sigma_b: Standard deviation of the biases.
        generator: A CPU generator.
        stride: Step of the kernel.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Raises:
        ValueError: For an even kernel, or sizes and σ that make no sense.

    Example:
        >>> convolution(1, 8, 3, 1.0, 0.0, torch.Generator().manual_seed(0)).weight.shape
        torch.Size([8, 1, 3, 3])
    """
    check_sizes(channels_in=channels_in, channels_out=channels_out, kernel=kernel, stride=stride)
    check_sigmas(sigma_w, sigma_b)
    if kernel % 2 == 0:
        raise ValueError(f"kernel={kernel} is even; an odd one keeps the image's size.")
    layer = nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, device="meta", dtype=dtype
    )
    weight = sigma_w * gaussian(channels_out, channels_in * kernel**2, generator)
    return _filled(layer, weight.reshape(layer.weight.shape), sigma_b, generator, device)


def _filled(
    layer: Affine, weight: Tensor, sigma_b: float | int, generator: torch.Generator, device: Placement
) -> Affine:
    """The layer, built on the meta device so that its default initialisation costs no random number."""
    bias = sigma_b * torch.randn(len(weight), generator=generator, dtype=torch.float64)
    layer = layer.to_empty(device=check_device(device))
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def check_sizes(**sizes: object) -> None:
    """Raise unless every keyword is a positive integer.

    Raises:
        ValueError: Naming the first that is not.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name}={size!r} makes no network; it must be an integer of at least 1.")


def check_sigmas(sigma_w: float | int, sigma_b: float | int) -> None:
    """Raise unless both standard deviations are finite and not negative.

    Raises:
        ValueError: Naming the first that is not.
    """
    for name, sigma in (("sigma_w", sigma_w), ("sigma_b", sigma_b)):
        if not 0 <= sigma < math.inf:
            raise ValueError(f"{name}={sigma} is no standard deviation; it must be finite and at least 0.")


def check_device(device: Placement) -> torch.device:
    """The device asked for, the CPU by default.

    Raises:
        RuntimeError: If it is a GPU that torch does not see.
    """
    found = torch.device("cpu" if device is None else device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device={str(device)!r} was asked for, but torch sees no CUDA GPU here; take 'cpu'.")
    return found
