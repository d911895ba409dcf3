"""The five largest singular values of Df of a transformer the size of GPT-2 small, without Df, beside all of Df.

The dense Jacobian, 9.7 GB, is never made: its cost is extrapolated from 64 of its rows or columns, whichever is
cheaper, and labelled so. Each size runs in a process of its own, whose peak of memory is the one reported.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from labkit import Linearization, cut
from labkit.geometry import spectra

SIZES = [(12, 768, 64)]  # blocks, width, tokens
TOP, TOLERANCE, PROBED = 5, 1e-3, 64
MEMORY, ADVANTAGE = 4.0, 20.0  # GB at most, ratio at least


def rows(sizes: list[tuple[int, int, int]] = SIZES) -> list[dict[str, float | str]]:
    """One row a (blocks, width, tokens): processor times in s, their ratio and the peak of memory, with targets."""
    spawn = multiprocessing.get_context("spawn")
    found = []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=spawn) as process:  # a fresh one: the peak of a process never falls
            found.append(process.submit(measure, *size).result())
    return found


def measure(blocks: int, width: int, tokens: int) -> dict[str, float | str]:
    """Matrix-free first, while the peak of memory is its own; then the rows and columns."""
    torch.set_num_threads(1)
    lin = transformer(blocks, width, tokens)
    n = lin.sizes[0]
    found, ours = timed(lambda: spectra.top_singular_values(lin, TOP, tolerance=TOLERANCE))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    unit = torch.eye(n, PROBED)
    _, by_rows = timed(lambda: lin.mT @ unit)
    _, by_columns = timed(lambda: lin @ unit)
    dense = min(by_rows, by_columns) * n / PROBED
    return {
        "size": f"{blocks} blocks × {width}, {tokens} tokens",
        "matrix_free_s": ours,
        "dense_extrapolated_s": dense,
        "ratio": dense / ours,
        "at_least": ADVANTAGE,
        "peak_GB": peak,
        "at_most": MEMORY,
        "dense_GB": 4e-9 * n * n,
        "s_1": float(found.values[0, 0]),
        "s_5": float(found.values[0, -1]),
        "worst_residual": float((found.residual / found.values[:, :1]).max()),
    }


def transformer(blocks: int, width: int, tokens: int) -> Linearization:
    """GPT-2 with random weights, cut where its first block is entered, at random token ids, in float32."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(n_layer=blocks, n_embd=width, n_head=width // 64, attn_implementation="eager", use_cache=False)
    model = GPT2Model(config).eval().requires_grad_(False)
    chain, h = cut(model, "h.0", torch.randint(config.vocab_size, (1, tokens)))
    return chain.linearize(h, dense=False, chunk_size=16)


def timed(function: Any) -> tuple[Any, float]:
    """The result, and the processor time in s."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start
