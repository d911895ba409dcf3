"""The empirical Fisher matrix: the second moment of loss gradients at given labels, under names of its own.

It is no Fisher matrix, and the docstring of `empirical_matrix` says how they differ.
"""

from jaxtyping import Float
from torch import Tensor

from labkit.geometry._likelihoods import as_likelihood
from labkit.geometry._score_algebra import dense_matrix, eigenvalues
from labkit.geometry._score_checks import Model, Name, Number, Parameters, Samples
from labkit.geometry._score_products import matrix_product
from labkit.geometry._score_rows import ScoreRows

__all__ = ["empirical_matrix", "empirical_product", "empirical_spectrum"]


def empirical_matrix(
    model: Model, x: Samples, likelihood: Name, labels: Samples, *, variance: Number = 1.0
) -> Float[Tensor, "p p"]:
    """The empirical Fisher matrix: the second moment of the loss gradients at given labels, mean over x.

    It is not the Fisher matrix, whose labels the model itself gives: the two agree in the mean over labels drawn from
    the model, so for a well-specified, well-trained model and much data; elsewhere the empirical one is small where
    the fit is good and is no approximation of curvature (Kunstner, Hennig & Balles 2019).

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        labels: classes (B, …) as integers for "categorical", else like the outputs.
        variance: of the "gaussian" labels.

    Returns:
        (P, P) of rank at most B, as `matrix` gives it.

    Raises:
        ValueError, TypeError, MemoryError: As in `matrix`, or if the labels do not fit.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> empirical_matrix(model, torch.ones(1, 1), "gaussian", torch.ones(1, 1)).item()  # a perfect fit: no gradient
        0.0
    """
    return dense_matrix(ScoreRows(model, x, as_likelihood(likelihood, variance), labels))


def empirical_spectrum(
    model: Model, x: Samples, likelihood: Name, labels: Samples, *, variance: Number = 1.0
) -> Float[Tensor, " r"]:
    """The nonzero eigenvalues of `empirical_matrix`, at most B, by duality as in `spectrum`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(100, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> empirical_spectrum(model, torch.ones(1, 100), "gaussian", torch.full((1, 1), 2.0))
        tensor([400.], dtype=torch.float64)
    """
    return eigenvalues(ScoreRows(model, x, as_likelihood(likelihood, variance), labels))


def empirical_product(
    model: Model,
    x: Samples,
    likelihood: Name,
    labels: Samples,
    v: Parameters,
    *,
    variance: Number = 1.0,
) -> dict[str, Tensor]:
    """The product of `empirical_matrix` and v, as in `product`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> one, two = torch.ones(1, 1), torch.full((1, 1), 2.0)
        >>> empirical_product(model, one, "gaussian", two, {"weight": one})
        {'weight': tensor([[4.]])}
    """
    return matrix_product(ScoreRows(model, x, as_likelihood(likelihood, variance), labels), v)
