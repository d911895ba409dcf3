"""The Jacobians of a network up to every depth: `linearize` against bare matrix products and against `jacfwd`.

The products are the least that anybody can do: the link Jacobians lie ready and are only multiplied. By hand, for this
one kind of network, they must be written down first: W diag φ'. `torch.func.jacfwd` of each prefix is what one writes
without a library, and grows with the square of the depth.
"""

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from benchmarks.timing import medians
from labkit import Chain
from labkit.networks import mlp

CASES = [(8, 50, 64), (64, 100, 16), (16, 20, 256)]
OVERHEAD, ADVANTAGE = 1.3, 8.0  # at most and at least


def rows(cases: list[tuple[int, int, int]] = CASES, runs: int = 5) -> list[dict[str, float | str]]:
    """One row a case (B, L, n): times in ms, and the two ratios with their targets."""
    torch.set_num_threads(1)
    return [_row(*case, runs) for case in cases]


def _row(batch: int, depth: int, width: int, runs: int) -> dict[str, float | str]:
    chain = mlp(depth, width, "tanh", sigma_w=1.2, sigma_b=0.1)
    chain.requires_grad_(False)
    x = torch.randn(batch, width, generator=torch.Generator().manual_seed(0))
    factors = list(chain.linearize(x))

    def products() -> list[Tensor]:
        found = factors[:1]
        for jacobian in factors[1:]:
            found.append(jacobian @ found[-1])
        return found

    def by_hand() -> list[Tensor]:
        state, found = x, [torch.eye(width).expand(batch, -1, -1)]
        for layer in chain:
            activity = state.tanh()
            found.append((layer.linear.weight * (1 - activity**2)[:, None]) @ found[-1])
            state = layer.linear(activity)
        return found

    def labkit() -> list[Tensor]:
        return list(chain.linearize(x).prefixes())[1:]

    matmul, hand, ours = medians([products, by_hand, labkit], runs)
    (theirs,) = medians([lambda: by_jacfwd(chain, x)], 1)
    return {
        "case": f"B={batch} L={depth} n={width}",
        "products_ms": matmul,
        "by_hand_ms": hand,
        "linearize_ms": ours,
        "jacfwd_ms": theirs,
        "to_products": ours / matmul,
        "to_by_hand": ours / hand,
        "at_most": OVERHEAD,
        "jacfwd_to_linearize": theirs / ours,
        "at_least": ADVANTAGE,
    }


def by_jacfwd(chain: Chain, x: Tensor) -> list[Tensor]:
    """The Jacobian (B, n_l, n_0) of each prefix, each from its own forward-mode sweep."""
    return [vmap(jacfwd(chain[:depth]))(x) for depth in range(1, len(chain) + 1)]
