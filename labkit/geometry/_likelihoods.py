"""What the outputs of a model mean: each likelihood's Fisher matrix on its outputs, as a square root A = S Sᵀ.

The root is applied and never built; it and the scores keep their digits where a classifier is sure and 1 − p has none.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood", "as_likelihood"]


@runtime_checkable
class Likelihood(Protocol):
    """A density of labels y given the outputs f (b, *out) of b samples."""

    def root(self, f: Tensor, w: Tensor) -> Tensor:
        """S w, for w (b, *out)."""

    def root_transposed(self, f: Tensor, z: Tensor) -> Tensor:
        """Sᵀ z, for z (b, *out)."""

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        """The derivative of log p(y | f) in f, (b, *out)."""

    def check_outputs(self, f: Tensor) -> None:
        """Raises ValueError where f cannot be its outputs."""

    def check_labels(self, f: Tensor, y: Any) -> None:
        """Raises ValueError or TypeError where y cannot be labels of f."""


@dataclass(frozen=True)
class Gaussian:
    """Outputs are the means of independent normal labels: A = I / σ²."""

    variance: float

    def root(self, f: Tensor, w: Tensor) -> Tensor:
        return w / math.sqrt(self.variance)

    root_transposed = root

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        residual: Tensor = y.to(f) - f
        return residual / self.variance

    def check_outputs(self, f: Tensor) -> None:
        _check_finite(f)

    def check_labels(self, f: Tensor, y: Any) -> None:
        _check_shape(y, f.shape, "one an output")


class Bernoulli:
    """Outputs are the logits z of independent labels 0 or 1: A = diag σ(z) σ(−z)."""

    def root(self, f: Tensor, w: Tensor) -> Tensor:
        return ((logsigmoid(f) + logsigmoid(-f)) / 2).exp() * w

    root_transposed = root

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.where(y == 1, (-f).sigmoid(), -f.sigmoid())

    def check_outputs(self, f: Tensor) -> None:
        _check_finite(f)

    def check_labels(self, f: Tensor, y: Any) -> None:
        _check_shape(y, f.shape, "one an output")
        if not bool(((y == 0) | (y == 1)).all()):
            raise ValueError('labels holds other numbers than 0 and 1, which are all that "bernoulli" can give')


class Categorical:
    """Outputs are the logits of C classes along the last axis, each position its own label: A = diag p − p pᵀ."""

    def root(self, f: Tensor, w: Tensor) -> Tensor:
        log_p = f.log_softmax(-1)
        part = (log_p / 2).exp() * w
        return part - log_p.exp() * part.sum(-1, keepdim=True)

    def root_transposed(self, f: Tensor, z: Tensor) -> Tensor:
        log_p = f.log_softmax(-1)
        return (log_p / 2).exp() * (z - (log_p.exp() * z).sum(-1, keepdim=True))

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        p = f.softmax(-1)
        here = torch.arange(f.shape[-1], device=f.device) == y[..., None]
        others = torch.where(here, 0.0, p)  # 1 - p of the label is their sum, which keeps the digits of a sure guess
        return torch.where(here, others.sum(-1, keepdim=True), -p)

    def check_outputs(self, f: Tensor) -> None:
        if f.ndim < 2 or f.shape[-1] < 2:
            raise ValueError(
                f'the model\'s outputs have shape {tuple(f.shape)}; "categorical" needs the logits of at least two '
                'classes along the last axis, and one logit a label is "bernoulli"'
            )
        _check_finite(f.masked_fill(f.isneginf(), 0.0))  # a class that is ruled out is no fault

    def check_labels(self, f: Tensor, y: Any) -> None:
        _check_shape(y, f.shape[:-1], "one class a position")
        if y.is_floating_point() or y.dtype == torch.bool:
            raise TypeError(f"labels is {y.dtype}; pass the classes as integers")
        if bool(((y < 0) | (y >= f.shape[-1])).any()):
            raise ValueError(f"labels holds classes outside of 0 … {f.shape[-1] - 1}; the model gives logits of these")


def as_likelihood(name: object, variance: object) -> Likelihood:
    """The likelihood of that name; ValueError or TypeError where there is none, or `variance` does not go with it."""
    if name not in ("categorical", "bernoulli", "gaussian"):
        raise ValueError(f'likelihood={name!r}; pass "categorical", "bernoulli" or "gaussian"')
    if isinstance(variance, bool) or not isinstance(variance, (int, float)):
        raise TypeError(f"variance is a {type(variance).__name__}; pass a positive number")
    if not 0 < variance < float("inf"):
        raise ValueError(f"variance={variance!r}; pass a positive number")
    if name != "gaussian" and variance != 1.0:
        raise ValueError(f'variance={variance!r} with likelihood={name!r}; only "gaussian" has a variance')
    if name == "gaussian":
        return Gaussian(float(variance))
    return Categorical() if name == "categorical" else Bernoulli()


def _check_finite(f: Tensor) -> None:
    bad = (~f.isfinite()).reshape(len(f), -1).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"the model's output holds NaN or Inf in sample {bad[0]}; repair its weights or x")


def _check_shape(y: object, shape: torch.Size, what: str) -> None:
    if not isinstance(y, Tensor):
        raise TypeError(f"labels is a {type(y).__name__}; pass a tensor of shape {tuple(shape)}, {what}")
    if y.shape != shape:
        raise ValueError(f"labels has shape {tuple(y.shape)}; pass {tuple(shape)}, {what}")
    if not bool(y.isfinite().all()):
        raise ValueError("labels holds NaN or Inf; pass labels that the likelihood can give")
