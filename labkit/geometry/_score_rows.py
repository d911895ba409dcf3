"""The Jacobian of a model in its parameters with rows R scaled so that Rᵀ R is its Fisher matrix, mean over samples.

Dense in chunks of samples, or as an operator that is applied and never built; the model is left as it was.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from labkit._automatic import forward_mode_allowed
from labkit._cut_checks import refuse_train_mode
from labkit._linalg import lift, triangular_factor
from labkit._memory import available_bytes
from labkit._preflight import leave_as_it_was
from labkit.geometry._likelihoods import Likelihood
from labkit.geometry._score_checks import check_arguments, check_behaviour, check_parameters

__all__ = ["RowOperator", "ScoreRows"]

_CHUNK = 2**27  # bytes of rows made at once


@dataclass(frozen=True)
class RowOperator:
    """R as an operator for the matrix-free engine.

    Attributes:
        push: one column (P,) to (n,).
        pull: one column (n,) to (P,), the adjoint of `push`.
        shape: (n, P).
        dtype: of the columns.
        device: where they live.
    """

    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @property
    def mT(self) -> "RowOperator":
        """The adjoint operator (P, n)."""
        return RowOperator(self.pull, self.push, self.shape[::-1], self.dtype, self.device)

    def __matmul__(self, columns: Tensor) -> Tensor:
        return torch.stack([self.push(column) for column in columns.unbind(-1)], -1)


class ScoreRows:
    """The rows R (n, P) = Sᵀ J / √B of a model at x, n = B · outputs; or with labels the B rows of their scores.

    Args:
        model: acts on each sample of x by itself.
        x: (B, *s), floating or token ids.
        likelihood: gives the root S of the Fisher matrix of the outputs.
        labels: of the B samples, for the empirical Fisher.

    Raises:
        TypeError, ValueError, RuntimeError: one sentence on what is wrong with the model, x or the labels.
    """

    def __init__(self, model: Any, x: Any, likelihood: Likelihood, labels: Any = None):
        check_arguments(model, x)
        self._model, self._x, self._likelihood, self._labels = model, x, likelihood, labels
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        check_parameters(model, self.parameters)
        refuse_train_mode(model)
        with self._settled():
            f = check_behaviour(model, partial(self._outputs, self.parameters), x.detach())
        likelihood.check_outputs(f)
        if labels is not None:
            likelihood.check_labels(f, labels)
        self.per_sample = 1 if labels is not None else f[0].numel()
        self.shape = (len(x) * self.per_sample, sum(p.numel() for p in self.parameters.values()))
        self.own_dtype = next(iter(self.parameters.values())).dtype
        for p in self.parameters.values():
            self.own_dtype = torch.promote_types(self.own_dtype, p.dtype)
        self.dtype = torch.promote_types(self.own_dtype, torch.float32)  # half types have too few digits to sum in
        self.device = x.device

    @cached_property
    def tolerance(self) -> float:
        """What a singular value of R must exceed, relative to the largest, to be told from rounding.

        Twenty times the rounding seen where the rank is known. Some models compute in a shorter dtype than that of
        their parameters; the derivative then is linear to its rounding only, which 3 w against w brings out.
        """
        x, y = self._x[:8], None if self._labels is None else self._labels[:8]
        with self._settled(), torch.no_grad():
            w = torch.arange(1, len(x) * self.per_sample + 1, device=self.device).to(self.dtype).sin()
            one, three = self._rows_plainly(x, y, [c * w.reshape(len(x), -1) for c in (1, 3)])
        noise = float(((three - 3 * one).norm() / three.norm()).nan_to_num(0.0))
        return 8 * math.sqrt(min(self.shape)) * max(torch.finfo(self.own_dtype).eps, noise)

    def chunks(self) -> Iterator[Tensor]:
        """R a few samples at a time, (·, P); a graph is kept where gradients are on."""
        count = max(1, _CHUNK // (self.per_sample * self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self._x), count):
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
            blocks = (block.mT for block in self.dense().split(max(8 * n, 1024), dim=1))  # type: ignore[no-untyped-call]
        T = lift(torch.empty(0, min(n, P), device=self.device))
        for block in blocks:
            T = triangular_factor(torch.cat([T, lift(block)]))
        return T

    def operator(self) -> "RowOperator":
        """R as an operator from products alone; detached.

        One graph serves all products: J v is the derivative of u ↦ ⟨Jᵀ u, v⟩, which is linear. A model without second
        derivatives is pushed through row by row.
        """
        B, entries = len(self._x), {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
        inputs = tuple(entries.values())
        with self._settled(), torch.enable_grad():
            f = self._outputs(entries, self._x.detach())
            u = torch.zeros_like(f, requires_grad=True)
            pulled = torch.autograd.grad(f, inputs, u, create_graph=True, materialize_grads=True)
        reached = [index for index, gradient in enumerate(pulled) if gradient.requires_grad]
        value = f.detach()

        def push(column: Tensor) -> Tensor:
            v = list(self.as_parameters(column).values())
            ends, heads = [pulled[i] for i in reached], [v[i] for i in reached]
            (z,) = torch.autograd.grad(ends, u, heads, retain_graph=True, materialize_grads=True)
            return self._weigh_transposed(value, z, self._labels).reshape(-1).to(self.dtype) / math.sqrt(B)

        def push_by_rows(column: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([rows @ column for rows in self.chunks()])

        def pull(column: Tensor) -> Tensor:
            w = self._weigh(value, column.reshape(B, -1), self._labels)
            gradients = torch.autograd.grad(f, inputs, w, retain_graph=True, materialize_grads=True)
            return self._flat(gradients) / math.sqrt(B)

        twice = self._is_adjoint(push, pull)
        return RowOperator(push if twice else push_by_rows, pull, torch.Size(self.shape), self.dtype, self.device)

    def as_flat(self, v: object, what: str) -> Tensor:
        """One vector (P,) of a dictionary like the parameters; TypeError or ValueError where it is none."""
        if not isinstance(v, Mapping):
            raise TypeError(
                f"{what} is a {type(v).__name__}; pass a dictionary from the names of the model's parameters to tensors"
            )
        odd = sorted(map(str, set(v) ^ set(self.parameters)))
        if odd:
            kind = "lacks" if odd[0] in self.parameters else "holds a name of no parameter with requires_grad,"
            raise ValueError(f"{what} {kind} {odd[0]!r}; pass one tensor for each of its {len(self.parameters)}")
        for name, p in self.parameters.items():
            if not isinstance(v[name], Tensor) or v[name].shape != p.shape:
                came = tuple(v[name].shape) if isinstance(v[name], Tensor) else f"a {type(v[name]).__name__}"
                raise ValueError(f"{what}[{name!r}] is {came}; pass a tensor of shape {tuple(p.shape)}")
            if not bool(v[name].isfinite().all()):
                raise ValueError(f"{what}[{name!r}] holds NaN or Inf; pass finite numbers")
        return self._flat([v[name].detach() for name in self.parameters])

    def as_parameters(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector (P,) as a dictionary like the parameters, in their shapes and dtypes."""
        sizes = [p.numel() for p in self.parameters.values()]
        parts = flat.to(self.device).split(sizes)  # type: ignore[no-untyped-call]
        return {
            name: part.reshape(p.shape).to(p.dtype)
            for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }

    def require_memory(self, count: int, what: str, way_out: str) -> None:
        """Raises MemoryError, with the figure and the way out, where that many bytes are not free."""
        if count > 2**26 and count > (free := available_bytes(self.device)):
            raise MemoryError(f"{what} needs {count / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {way_out}")

    def _rows(self, samples: slice) -> Tensor:
        x, y = self._x[samples], None if self._labels is None else self._labels[samples]
        with self._settled():
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
        return rows.flatten(0, 1) / math.sqrt(len(self._x))

    def _rows_by_vmap(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """The rows (b, ·, P) of b samples at once; None where functorch fails or is wrong, as torch is in `solve`."""
        unit = torch.eye(self.per_sample, dtype=self.own_dtype, device=self.device)
        columns = max(1, _CHUNK // (len(x) * self.shape[1] * self.dtype.itemsize))

        def of_sample(x: Tensor, y: Tensor | None) -> Tensor:
            labels = None if y is None else y[None]
            f, pull = vjp(lambda p: self._outputs(p, x[None]), self.parameters)[:2]

            def row(w: Tensor) -> Tensor:
                return self._flat(pull(self._weigh(f, w[None].to(f.dtype), labels))[0].values())

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
            f = self._outputs(self.parameters, x)
            found = []
            for w in weights:
                covector = self._weigh(f, w, y)
                gradients = torch.autograd.grad(
                    f, inputs, covector, retain_graph=True, create_graph=keep, materialize_grads=True
                )
                found.append(self._flat(gradients))
        return found if keep else [row.detach() for row in found]

    def _weigh(self, f: Tensor, w: Tensor, y: Tensor | None) -> Tensor:
        """S w for w (b, outputs), or with labels their score times w (b, 1); in the shape and dtype of f."""
        wide = f.to(torch.promote_types(f.dtype, torch.float32))
        if y is None:
            return self._likelihood.root(wide, w.reshape(f.shape).to(wide)).to(f.dtype)
        score = self._likelihood.score(wide, y)
        return (score * w.reshape(-1, *[1] * (f.ndim - 1))).to(f.dtype)

    def _weigh_transposed(self, f: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        wide = f.to(torch.promote_types(f.dtype, torch.float32))
        if y is None:
            return self._likelihood.root_transposed(wide, z.to(wide))
        score = self._likelihood.score(wide, y)
        return (score * z).reshape(len(f), -1).sum(-1)

    def _outputs(self, parameters: Mapping[str, Tensor], x: Tensor) -> Any:
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        return functional_call(self._model, {**parameters, **buffers}, (x.clone(),))

    def _flat(self, parts: Any) -> Tensor:
        dense = [part.to_dense() if part.layout != torch.strided else part for part in parts]
        return torch.cat([part.reshape(-1).to(self.dtype) for part in dense])

    def _is_adjoint(self, push: Callable[[Tensor], Tensor], pull: Callable[[Tensor], Tensor]) -> bool:
        """Whether ⟨w, R v⟩ = ⟨Rᵀ w, v⟩ on a probe, v along Rᵀ w so that neither is small by chance."""
        w = torch.arange(1, self.shape[0] + 1, device=self.device).to(self.dtype).sin()
        v = pull(w)
        try:
            image = push(v)
        except (RuntimeError, NotImplementedError):  # no second derivative
            return False
        one, other = (w.double() @ image.double()), v.double().square().sum()
        return bool((one - other).abs() <= min(1e3 * torch.finfo(self.own_dtype).eps, 0.1) * other)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        keep = torch.is_grad_enabled()
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(keep),  # leaving inference mode switches gradients on
            leave_as_it_was([self._model], self._x),
            forward_mode_allowed(),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "There is a performance drop")  # vmap over an operation without its rule
            yield


def _gradients(number: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    if not number.requires_grad:
        return tuple(torch.zeros_like(entry) for entry in inputs)
    found: tuple[Tensor, ...] = torch.autograd.grad(number, inputs, retain_graph=True, materialize_grads=True)
    return found
