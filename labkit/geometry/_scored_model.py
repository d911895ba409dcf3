"""A model with the likelihood of its outputs, checked: outputs as a function of parameters, and what weighs them.

The model is left as it was, and no call sees what another one wrote.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from labkit._automatic import forward_mode_allowed
from labkit._cut_checks import refuse_train_mode
from labkit._memory import available_bytes
from labkit._preflight import leave_as_it_was
from labkit.geometry._likelihoods import Likelihood
from labkit.geometry._score_checks import check_arguments, check_behaviour, check_parameters

__all__ = ["ScoredModel"]


class ScoredModel:
    """A model at x, and S with S Sᵀ the Fisher matrix of its outputs; or with labels their scores in the place of S.

    Args:
        model: acts on each sample of x by itself.
        x: (B, *s), floating or token ids.
        likelihood: gives the root S of the Fisher matrix of the outputs.
        labels: of the B samples, for the empirical Fisher.

    Raises:
        TypeError, ValueError, RuntimeError: one sentence on what is wrong with the model, x or the labels.

    Attributes:
        parameters: those with `requires_grad`, by name.
        per_sample: rows of Sᵀ J that one sample has: its outputs, or 1 with labels.
        shape: (n, P), of all rows.
        own_dtype: of the parameters.
        dtype: that sums are taken in, at least float32.
        device: of x.
    """

    def __init__(self, model: Any, x: Any, likelihood: Likelihood, labels: Any = None):
        check_arguments(model, x)
        self._model, self.x, self._likelihood, self.labels = model, x, likelihood, labels
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        check_parameters(model, self.parameters)
        refuse_train_mode(model)
        with self.settled():
            f = check_behaviour(model, partial(self.outputs, self.parameters), x.detach())
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

    def weigh(self, f: Tensor, w: Tensor, y: Tensor | None) -> Tensor:
        """S w for w (b, outputs), or with labels their score times w (b, 1); in the shape and dtype of f."""
        wide = f.to(torch.promote_types(f.dtype, torch.float32))
        if y is None:
            return self._likelihood.root(wide, w.reshape(f.shape).to(wide)).to(f.dtype)
        score = self._likelihood.score(wide, y)
        return (score * w.reshape(-1, *[1] * (f.ndim - 1))).to(f.dtype)

    def weigh_transposed(self, f: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        """Sᵀ z for z like f, or with labels the products of their scores and z, (b,)."""
        wide = f.to(torch.promote_types(f.dtype, torch.float32))
        if y is None:
            return self._likelihood.root_transposed(wide, z.to(wide))
        score = self._likelihood.score(wide, y)
        return (score * z).reshape(len(f), -1).sum(-1)

    def outputs(self, parameters: Mapping[str, Tensor], x: Tensor) -> Any:
        """What the model gives at x with these parameters; its buffers and x stay as they are."""
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        return functional_call(self._model, {**parameters, **buffers}, (x.clone(),))

    def flat(self, parts: Any) -> Tensor:
        """Tensors like the parameters as one vector (P,)."""
        dense = [part.to_dense() if part.layout != torch.strided else part for part in parts]
        return torch.cat([part.reshape(-1).to(self.dtype) for part in dense])

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
        return self.flat([v[name].detach() for name in self.parameters])

    def as_parameters(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector (P,) as a dictionary like the parameters, in their shapes and dtypes."""
        sizes = [p.numel() for p in self.parameters.values()]
        parts = flat.to(self.device).split(sizes)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return {
            name: part.reshape(p.shape).to(p.dtype)
            for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Where the model may be run and differentiated: it is put back at the end, and so are torch's settings."""
        keep = torch.is_grad_enabled()
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(keep),  # leaving inference mode switches gradients on
            leave_as_it_was([self._model], self.x),
            forward_mode_allowed(),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "There is a performance drop")  # vmap over an operation without its rule
            yield

    def require_memory(self, count: int, what: str, way_out: str) -> None:
        """Raises MemoryError, with the figure and the way out, where that many bytes are not free."""
        if count > 2**26 and count > (free := available_bytes(self.device)):
            raise MemoryError(f"{what} needs {count / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {way_out}")
