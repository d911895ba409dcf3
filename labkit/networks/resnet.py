"""Residual networks, with every block one link whose Jacobian is I + α J.

`resnet` is the residual MLP of the theory; `conv_resnet` is the network that classifies images.
"""

import torch
from torch import Tensor, nn

from labkit.chain import Chain
from labkit.links import Layer, Residual
from labkit.networks.initialization import (
    Placement,
    affine,
    check_device,
    check_sizes,
    convolution,
    weight_generator,
)
from labkit.networks.pooling import PooledReadout
from labkit.theory.activations import Activation, Elementwise, resolve

__all__ = ["ConvLayer", "conv_resnet", "resnet"]


def resnet(
    depth: int,
    width: int,
    activation: Activation,
    sigma_w: float | int,
    sigma_b: float | int,
    n_in: int | None = None,
    n_out: int | None = None,
    seed: int = 0,
    *,
    scale: float | int = 1.0,
    ensemble: str = "gaussian",
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> Chain:
    """A residual MLP: `depth` blocks h → h + α (W φ(h) + b).

    Args:
        depth: Number of residual blocks. An affine link before them (`n_in`) and a readout W φ(h) + b after them
            (`n_out`) come besides: they are links, but no blocks.
        width: Entries of every hidden state.
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: Weights have variance σ_w²/fan-in.
        sigma_b: Standard deviation of the biases.
        n_in: Entries of the input; None for a chain that begins at a hidden state.
        n_out: Entries of the output; None for a chain that ends at the last block.
        seed: Draws all parameters; torch's global random state is untouched.
        scale: α; `depth**-0.5` keeps the variance bounded at any depth.
        ensemble: `"gaussian"` or `"orthogonal"` weights.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Returns:
        The chain (B, n_in or width) → (B, n_out or width).

    Raises:
        ValueError: For sizes below 1, a negative σ, an unknown activation or ensemble.
        RuntimeError: For a GPU that is not there.

    Example:
        >>> chain = resnet(4, 64, "relu", sigma_w=1.0, sigma_b=0.0, n_in=2, scale=4**-0.5)
        >>> chain(torch.zeros(5, 2)).shape, chain.names
        (torch.Size([5, 64]), ['stem', 'block1', 'block2', 'block3', 'block4'])
    """
    check_sizes(depth=depth, width=width)
    phi = resolve(activation)
    generator = weight_generator(seed)

    def layer(fan_in: int, fan_out: int, activation: Elementwise | None) -> Layer:
        linear = affine(
            fan_in, fan_out, sigma_w, sigma_b, generator, ensemble=ensemble, device=device, dtype=dtype
        )
        return Layer(linear, activation)

    links: dict[str, nn.Module] = {}
    if n_in is not None:
        links["stem"] = layer(n_in, width, None)
    for block in range(1, depth + 1):
        links[f"block{block}"] = Residual(layer(width, width, phi), float(scale))
    if n_out is not None:
        links["readout"] = layer(width, n_out, phi)
    return Chain(list(links.values()), names=list(links))


class ConvLayer(nn.Module):
    """The convolutional layer seen from pre-activation to pre-activation, h → W ∗ φ(norm(h)) + b.

    Args:
        convolution: The convolution that follows the activation.
        activation: φ, elementwise.
        norm: A normalisation before the activation, or None.

    Example:
        >>> ConvLayer(nn.Conv2d(3, 8, 3, padding=1), torch.relu)(torch.zeros(5, 3, 4, 4)).shape
        torch.Size([5, 8, 4, 4])
    """

    def __init__(self, convolution: nn.Conv2d, activation: Elementwise, norm: nn.Module | None = None):
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.convolution = convolution

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        h = h if self.norm is None else self.norm(h)
        return self.convolution(self.activation(h))  # type: ignore[no-any-return]  # torch types a module's call as Any


_NORMS = (None, "batch", "layer")


def conv_resnet(
    depth: int,
    channels: int,
    activation: Activation = "relu",
    sigma_w: float | int = 2**0.5,
    sigma_b: float | int = 0.0,
    channels_in: int = 1,
    n_out: int | None = None,
    seed: int = 0,
    *,
    scale: float | int = 1.0,
    norm: str | None = None,
    kernel: int = 3,
    stride: int = 1,
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> Chain:
    """A convolutional ResNet on images: a stem, `depth` pre-activation blocks, perhaps a pooled readout.

    A block is h → h + α W₂ ∗ φ(norm(W₁ ∗ φ(norm(h)))), He et al.'s full pre-activation; zero padding keeps the
    size of the image.

    Args:
        depth: Number of residual blocks; the stem, and the readout if there is one, come besides.
        channels: Channels of every hidden state.
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: Weights have variance σ_w²/fan-in; the default is He's.
        sigma_b: Standard deviation of the biases.
        channels_in: Channels of the images.
        n_out: Entries of the output; None for a chain that ends at the last block, an image.
        seed: Draws all parameters; torch's global random state is untouched.
        scale: α.
        norm: None, `"batch"` (which couples samples in train mode) or `"layer"` (over each sample).
        kernel: Side of the kernels, odd.
        stride: Of the stem; 2 halves the sides of the image, which quarters the Jacobians' sides.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Returns:
        The chain (B, channels_in, H, W) → (B, n_out) or (B, channels, H', W'), in eval mode.

    Raises:
        ValueError: For sizes below 1, an even kernel, a negative σ, an unknown activation or norm.
        RuntimeError: For a GPU that is not there.

    Example:
        >>> conv_resnet(2, 8, n_out=10)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """
    check_sizes(depth=depth, channels=channels, channels_in=channels_in)
    if norm not in _NORMS:
        raise ValueError(f"norm={norm!r} does not exist for images; take None, 'batch' or 'layer'.")
    phi = resolve(activation)
    generator = weight_generator(seed)
    place = check_device(device)

    def conv(fan_in: int, step: int = 1) -> nn.Conv2d:
        return convolution(
            fan_in, channels, kernel, sigma_w, sigma_b, generator, stride=step, device=device, dtype=dtype
        )

    def normalisation() -> nn.Module | None:
        if norm == "batch":
            return nn.BatchNorm2d(channels, device=place, dtype=dtype)
        return nn.GroupNorm(1, channels, device=place, dtype=dtype) if norm == "layer" else None

    links: dict[str, nn.Module] = {"stem": conv(channels_in, stride)}
    for block in range(1, depth + 1):
        branch = nn.Sequential(*(ConvLayer(conv(channels), phi, normalisation()) for _ in range(2)))
        links[f"block{block}"] = Residual(branch, float(scale))
    if n_out is not None:
        linear = affine(channels, n_out, sigma_w, sigma_b, generator, device=device, dtype=dtype)
        links["readout"] = PooledReadout(linear, (2, 3), phi, normalisation())
    return Chain(list(links.values()), names=list(links)).eval()
