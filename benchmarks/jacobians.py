"""The Jacobians of a network up to every depth: `linearize` against the same written by hand, and against `jacfwd`.

By hand, for these two kinds of network only: the states, W diag φ' of every link, and one batched product a depth.
The products alone, of link Jacobians that lie ready, are the least that anybody can do. `torch.func.jacfwd` of each
prefix is what one writes without a library, and grows with the square of the depth.
"""

import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from benchmarks.timing import medians, turns
from labkit import Chain
from labkit.networks import mlp, resnet

SIZES = [(8, 50, 64), (64, 100, 16), (16, 20, 256)]
OVERHEAD, ADVANTAGE = 1.3, 8.0  # at most and at least


def rows(sizes: list[tuple[int, int, int]] = SIZES, runs: int = 40) -> list[dict[str, float | str]]:
    """One row a network, dtype and (B, L, n): processor times in ms, and the ratios with their targets."""
    torch.set_num_threads(1)
    _keep_memory()
    kinds = {"mlp": mlp_by_hand, "residual mlp": resnet_by_hand}
    dtypes = (torch.float32, torch.float64)
    return [_row(kind, dtype, *size, runs) for size in sizes for kind in kinds.items() for dtype in dtypes]


def _row(
    kind: tuple[str, Callable[[Chain, Tensor], Iterator[Tensor]]],
    dtype: torch.dtype,
    batch: int,
    depth: int,
    width: int,
    runs: int,
) -> dict[str, float | str]:
    name, by_hand = kind
    if name == "mlp":
        chain = mlp(depth, width, "tanh", sigma_w=1.2, sigma_b=0.1, dtype=dtype)
    else:
        chain = resnet(depth, width, "tanh", sigma_w=1.2, sigma_b=0.1, scale=depth**-0.5, dtype=dtype)
    chain.requires_grad_(False)
    x = torch.randn(batch, width, dtype=dtype, generator=torch.Generator().manual_seed(0))

    def labkit() -> list[Tensor]:
        return list(chain.linearize(x).prefixes())[1:]

    ours, hand = turns([labkit, lambda: multiplied(by_hand(chain, x))], runs)
    ready = list(chain.linearize(x))
    (products,) = medians([lambda: multiplied(iter(ready))], runs)
    (theirs,) = medians([lambda: by_jacfwd(chain, x)], 1)
    linearize = statistics.median(ours)
    return {
        "network": f"{name}, {str(dtype).removeprefix('torch.')}",
        "size": f"B={batch} L={depth} n={width}",
        "linearize_ms": linearize,
        "by_hand_ms": statistics.median(hand),
        "products_ms": products,
        "jacfwd_ms": theirs,
        "to_by_hand": statistics.median(one / other for one, other in zip(ours, hand, strict=True)),
        "at_most": OVERHEAD,
        "to_products": linearize / products,
        "jacfwd_to_linearize": theirs / linearize,
        "at_least": ADVANTAGE,
    }


def mlp_by_hand(chain: Chain, x: Tensor) -> Iterator[Tensor]:
    """W diag φ' of every link, (B, n, n), along the states."""
    for layer in chain:
        activity = x.tanh()
        yield layer.linear.weight * (1 - activity**2)[:, None]
        x = layer.linear(activity)


def resnet_by_hand(chain: Chain, x: Tensor) -> Iterator[Tensor]:
    """I + α W diag φ' of every block, (B, n, n), along the states."""
    unit = torch.eye(x.shape[1], dtype=x.dtype)
    for block in chain:
        linear = block.branch.linear
        activity = x.tanh()
        yield unit + block.scale * (linear.weight * (1 - activity**2)[:, None])
        x = x + block.scale * linear(activity)


def multiplied(factors: Iterator[Tensor]) -> list[Tensor]:
    """The products of the first 1, 2, … L factors."""
    found = [next(factors)]
    for factor in factors:
        found.append(factor @ found[-1])
    return found


def by_jacfwd(chain: Chain, x: Tensor) -> list[Tensor]:
    """The Jacobian (B, n_l, n_0) of each prefix, each from its own forward-mode sweep."""
    return [vmap(jacfwd(chain[:depth]))(x) for depth in range(1, len(chain) + 1)]


def _keep_memory() -> None:
    """Have glibc keep freed memory, as it does in a process that once freed a block of this size.

    Else every run pays for fresh pages, nearly half of its time: more by `linearize`, which keeps the link Jacobians
    (1.4 to 1.8 times by hand then), than by hand, where they are dropped (1.05 to 1.2 if they are kept too).
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)  # freeing a block just below its ceiling of 32 MB raises its limits
