"""The Jacobian of a model in its parameters with rows R scaled so that Rᵀ R is its Fisher matrix, mean over samples.

Dense, in chunks of samples, by vmap where plain autograd agrees.
"""

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.func import vjp, vmap

from labkit._linalg import lift, triangular_factor
from labkit.geometry._scored_model import ScoredModel

__all__ = ["ScoreRows"]

_CHUNK = 2**27  # bytes of rows made at once


class ScoreRows(ScoredModel):
    """The rows R (n, P) = Sᵀ J / √B of a model at x, n = B · outputs; or with labels the B rows of their scores."""

    @cached_property
    def tolerance(self) -> float:
        """What a singular value of R must exceed, relative to the largest, to be told from rounding.

        Twenty times the rounding seen where the rank is known. Some models compute in a shorter dtype than that of
        their parameters; the derivative then is linear to its rounding only, which 3 w against w brings out.
        """
        x, y = self.x[:8], None if self.labels is None else self.labels[:8]
        with self.settled(), torch.no_grad():
            w = torch.arange(1, len(x) * self.per_sample + 1, device=self.device).to(self.dtype).sin()
            one, three = self._rows_plainly(x, y, [c * w.reshape(len(x), -1) for c in (1, 3)])
        noise = float(((three - 3 * one).norm() / three.norm()).nan_to_num(0.0))
        return 8 * math.sqrt(min(self.shape)) * max(torch.finfo(self.own_dtype).eps, noise)

    def chunks(self) -> Iterator[Tensor]:
        """R a few samples at a time, (·, P); a graph is kept where gradients are on."""
        count = max(1, _CHUNK // (self.per_sample * self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self.x), count):
            yield self._rows(slice(start, start + count))

    @torch.no_grad()
    def dense(self) -> Tensor:
        """R itself, (n, P), detached."""
        R = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        start = 0
        for rows in self.chunks():
            R[start : start + len(rows)] = rows
            start += len(rows)
        return R

    @torch.no_grad()
    def triangular_factor(self) -> Tensor:
        """T in float64 with the singular values of R and the smaller side's size, folded chunk by chunk.

        R = Q T where n ≥ P, else Rᵀ = Q T: the Gram matrix is Tᵀ T, but T keeps the digits that squaring loses.
        """
        n, P = self.shape
        if n >= P:
            blocks: Iterator[Tensor] = self.chunks()
        else:
            blocks = (block.mT for block in self.dense().split(max(8 * n, 1024), dim=1))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        T = lift(torch.empty(0, min(n, P), device=self.device))
        for block in blocks:
            T = triangular_factor(torch.cat([T, lift(block)]))
        return T

    def _rows(self, samples: slice) -> Tensor:
        x, y = self.x[samples], None if self.labels is None else self.labels[samples]
        with self.settled():
            rows = self._rows_by_vmap(x, y)
            if rows is None:
                rows = torch.stack(
                    [self._rows_of_one(x[i : i + 1], None if y is None else y[i : i + 1]) for i in range(len(x))]
                )
        broken = (~rows.detach().flatten(1).sum(1).isfinite()).nonzero().flatten().tolist()
        if broken:
            raise ValueError(
                f"the model has no finite derivative in its parameters at sample {samples.start + broken[0]}; move x "
                "off that point or use smaller weights"
            )
        return rows.flatten(0, 1) / math.sqrt(len(self.x))

    def _rows_by_vmap(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """The rows (b, ·, P) of b samples at once; None where functorch fails or is wrong, as torch is in `solve`."""
        unit = torch.eye(self.per_sample, dtype=self.own_dtype, device=self.device)
        columns = max(1, _CHUNK // (len(x) * self.shape[1] * self.dtype.itemsize))

        def of_sample(x: Tensor, y: Tensor | None) -> Tensor:
            labels = None if y is None else y[None]
            f, pull = vjp(lambda p: self.outputs(p, x[None]), self.parameters)[:2]

            def row(w: Tensor) -> Tensor:
                return self.flat(pull(self.weigh(f, w[None].to(f.dtype), labels))[0].values())

            rows: Tensor = vmap(row, chunk_size=columns)(unit)
            return rows

        try:
            rows: Tensor = vmap(of_sample, in_dims=(0, None if y is None else 0))(x, y)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, ValueError):
            return None
        return rows if self._is_plain(rows, x, y) else None

    def _is_plain(self, rows: Tensor, x: Tensor, y: Tensor | None) -> bool:
        """Whether plain autograd, in one pass over all samples, gives the same sum of all rows with odd weights.

        Where a graph is kept its derivative is compared too: torch's is wrong through a vmapped layer norm.
        """
        w = torch.arange(1, rows[..., 0].numel() + 1, device=self.device).to(self.dtype).sin()
        (plain,) = self._rows_plainly(x, y, [w.reshape(len(x), -1)])
        pairs = [(w @ rows.flatten(0, 1), plain, rows.norm())]
        if plain.requires_grad or rows.requires_grad:
            v = torch.arange(1, len(plain) + 1, device=self.device).to(self.dtype).cos()
            inputs = [*self.parameters.values(), *([x] if x.requires_grad else [])]
            one, other = (_gradients(found @ v, inputs) for found in (pairs[0][0], plain))
            pairs += [(a, b, b.norm() + plain.norm()) for a, b in zip(one, other, strict=True)]
        tolerance = min(1e3 * torch.finfo(self.own_dtype).eps, 0.1)
        return all(bool((a - b).norm() <= tolerance * size) for a, b, size in pairs)

    def _rows_of_one(self, x: Tensor, y: Tensor | None) -> Tensor:
        unit = torch.eye(self.per_sample, dtype=self.dtype, device=self.device)
        try:
            return torch.stack(self._rows_plainly(x, y, list(unit[:, None])))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"the model cannot take one sample of x alone, of shape {tuple(x.shape)} ({reason}); make it act "
                "on any number of samples"
            ) from error

    def _rows_plainly(self, x: Tensor, y: Tensor | None, weights: list[Tensor]) -> list[Tensor]:
        """Jᵀ S w for each w (b, ·), by plain autograd; a graph is kept where gradients are on."""
        keep, inputs = torch.is_grad_enabled(), tuple(self.parameters.values())
        with torch.enable_grad():
            f = self.outputs(self.parameters, x)
            found = []
            for w in weights:
                covector = self.weigh(f, w, y)
                gradients = torch.autograd.grad(
                    f, inputs, covector, retain_graph=True, create_graph=keep, materialize_grads=True
                )
                found.append(self.flat(gradients))
        return found if keep else [row.detach() for row in found]


def _gradients(number: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    if not number.requires_grad:
        return tuple(torch.zeros_like(entry) for entry in inputs)
    found: tuple[Tensor, ...] = torch.autograd.grad(number, inputs, retain_graph=True, materialize_grads=True)
    return found
