"""Plain deep networks, the object of mean-field theory: every link is one layer, state to state.

States are pre-activations, so that |h_l|²/n is the q_l of the theory and nothing has to be shifted by half a layer.
"""

import itertools

import torch

from labkit.chain import Chain
from labkit.links import Layer
from labkit.networks.initialization import Placement, affine, check_sizes, weight_generator
from labkit.theory.activations import Activation, resolve

__all__ = ["mlp"]


def mlp(
    depth: int,
    width: int,
    activation: Activation,
    sigma_w: float | int,
    sigma_b: float | int,
    n_in: int | None = None,
    n_out: int | None = None,
    seed: int = 0,
    *,
    ensemble: str = "gaussian",
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> Chain:
    """A multilayer perceptron as a chain of `depth` links h → W φ(h) + b.

    Without `n_in` the input is itself a pre-activation of `width` entries. With `n_in` the first link is the
    affine one x → W x + b and counts: `len(mlp(L, …)) == L` weight matrices always, the last of which has `n_out`
    rows if that is given.

    Args:
        depth: Number of links, each with one weight matrix.
        width: Entries of every hidden state.
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: Weights have variance σ_w²/fan-in.
        sigma_b: Standard deviation of the biases.
        n_in: Entries of the input; None for a chain that begins at a pre-activation.
        n_out: Entries of the output; None for `width`.
        seed: Draws all parameters; torch's global random state is untouched.
        ensemble: `"gaussian"` or `"orthogonal"` weights.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Returns:
        The chain (B, n_in or width) → (B, n_out or width).

    Raises:
        ValueError: For sizes below 1, a negative σ, an unknown activation or ensemble.
        RuntimeError: For a GPU that is not there.

    Example:
        >>> chain = mlp(3, 64, "tanh", sigma_w=1.5, sigma_b=0.1, n_in=2, n_out=10)
        >>> chain(torch.zeros(5, 2)).shape, len(chain)
        (torch.Size([5, 10]), 3)
    """
    check_sizes(depth=depth, width=width)
    phi = resolve(activation)
    generator = weight_generator(seed)
    sizes = [width if n_in is None else n_in, *[width] * (depth - 1), width if n_out is None else n_out]
    links = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        linear = affine(
            fan_in, fan_out, sigma_w, sigma_b, generator, ensemble=ensemble, device=device, dtype=dtype
        )
        links.append(Layer(linear, None if layer == 0 and n_in is not None else phi))
    return Chain(links)
