"""The Fisher information metric: on the parameters of a model, and of a classifier on its inputs.

Labels are the model's own, summed and never sampled; the empirical Fisher, whose labels are data, has its own names.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._lanczos import Eigen, singular_triplets
from labkit.geometry._arguments import as_basis
from labkit.geometry._densities import Density, spectral_density
from labkit.geometry._empirical_fisher import empirical_matrix, empirical_product, empirical_spectrum
from labkit.geometry._likelihoods import as_likelihood
from labkit.geometry._score_algebra import damped_solution, dense_matrix, eigenvalues
from labkit.geometry._score_checks import Model, Name, Number, Parameters, Samples, check_tolerance
from labkit.geometry._score_products import iterative_solution, matrix_product, nonzero_operator
from labkit.geometry._score_rows import ScoreRows
from labkit.linearization import Linearization

__all__ = [
    "Density",
    "Eigen",
    "density",
    "empirical_matrix",
    "empirical_product",
    "empirical_spectrum",
    "matrix",
    "natural_gradient",
    "on_inputs",
    "product",
    "spectrum",
    "top_eigenvalues",
    "trace",
]


def matrix(model: Model, x: Samples, likelihood: Name, *, variance: Number = 1.0) -> Float[Tensor, "p p"]:
    """The Fisher matrix on parameters, F = mean over x of E_y[∇log p(y|x) ∇log p(y|x)ᵀ], y from the model itself.

    To second order it is the change of the prediction: KL(p_θ ‖ p_{θ+v}) = ½ vᵀ F v + O(|v|³), mean over x (Amari
    2016). Differentiable in x and in the parameters; under `torch.no_grad()` no graph is kept.

    Args:
        model: any module that acts on each sample of x by itself; those of its parameters count that have
            `requires_grad`, in the order of `model.named_parameters()`, each flattened, shared ones once.
        x: (B, *s), numbers or token ids.
        likelihood: what the outputs (B, …) of the model are. "categorical": logits, classes along the last axis;
            "bernoulli": one logit each; "gaussian": means of normal labels. Positions and outputs are independent.
        variance: of the "gaussian" labels.

    Returns:
        (P, P) in the dtype of the parameters, symmetric and positive semi-definite.

    Raises:
        ValueError, TypeError: If an argument does not fit, or the model is random, couples samples or holds NaN.
        MemoryError: If P² numbers are not free; `spectrum` and `product` do without them.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> matrix(model, torch.tensor([[2.0, 0.0]]), "bernoulli").detach()  # p (1 - p) x xᵀ at p = ½
        tensor([[1., 0.],
                [0., 0.]])
    """
    return dense_matrix(ScoreRows(model, x, as_likelihood(likelihood, variance)))


def spectrum(model: Model, x: Samples, likelihood: Name, *, variance: Number = 1.0) -> Float[Tensor, " r"]:
    """The nonzero eigenvalues of the Fisher matrix, exact and without it: by duality from its B · outputs rows.

    F = Rᵀ R has the nonzero spectrum of the Gram matrix R Rᵀ, however many parameters there are; it is read off as
    squared singular values of a triangular factor of R, so small eigenvalues keep digits that R Rᵀ itself would lose.

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        variance: of the "gaussian" labels.

    Returns:
        (r,) descending, float64, detached; r is the numerical rank: √λ counts above 8 √min(n, P) · ε · √λ_max, with
        n rows and ε of the parameters' dtype, below which rounding of R hides it. Empty where F is zero.

    Raises:
        ValueError, TypeError: As in `matrix`.
        MemoryError: If n · P numbers are not free (P² where that is less); `top_eigenvalues` does without them.

    Example:
        >>> from torch import nn
        >>> spectrum(nn.Linear(1000, 2), torch.ones(1, 1000), "gaussian", variance=0.25).round(decimals=6)
        tensor([4004., 4004.], dtype=torch.float64)
    """
    return eigenvalues(ScoreRows(model, x, as_likelihood(likelihood, variance)))


def trace(model: Model, x: Samples, likelihood: Name, *, variance: Number = 1.0) -> Float[Tensor, ""]:
    """The trace of the Fisher matrix, exact, from its rows a few samples at a time; arguments as in `matrix`.

    Returns:
        A number in the dtype of the parameters (at least float32), differentiable like `matrix`.

    Raises:
        ValueError, TypeError: As in `matrix`.

    Example:
        >>> from torch import nn
        >>> trace(nn.Linear(1000, 2), torch.ones(1, 1000), "gaussian", variance=0.25).item()
        8008.0
    """
    rows = ScoreRows(model, x, as_likelihood(likelihood, variance))
    return torch.stack([chunk.square().sum() for chunk in rows.chunks()]).sum()


def product(model: Model, x: Samples, likelihood: Name, v: Parameters, *, variance: Number = 1.0) -> dict[str, Tensor]:
    """The product F v, with F never built; arguments as in `matrix`.

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        v: one tensor a parameter, by name as in `model.named_parameters()`.
        variance: of the "gaussian" labels.

    Returns:
        A dictionary like v, detached; `torch.nn.utils.parameters_to_vector(….values())` is the flat vector.

    Raises:
        ValueError, TypeError: As in `matrix`, or if v is not like the parameters.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1)
        >>> v = {"weight": torch.tensor([[1.0]]), "bias": torch.tensor([0.0])}
        >>> product(model, torch.tensor([[3.0]]), "gaussian", v)
        {'weight': tensor([[9.]]), 'bias': tensor([3.])}
    """
    return matrix_product(ScoreRows(model, x, as_likelihood(likelihood, variance)), v)


def top_eigenvalues(
    model: Model,
    x: Samples,
    likelihood: Name,
    k: int,
    *,
    variance: Number = 1.0,
    generator: torch.Generator | None = None,
) -> Eigen:
    """The k largest eigenvalues of the Fisher matrix and their vectors, from products alone: for large models.

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        k: how many.
        variance: of the "gaussian" labels.
        generator: of the starting block, on the CPU; by default a new one seeded 0.

    Raises:
        ValueError, TypeError: As in `matrix`, or if k exceeds the rank.
        MemoryError: If the basis of some 6 (k + 4) vectors would not fit.

    Example:
        >>> from torch import nn
        >>> top_eigenvalues(nn.Linear(3, 1), torch.eye(3), "gaussian", 1).values.round(decimals=6)
        tensor([1.3333], dtype=torch.float64)
    """
    rows = ScoreRows(model, x, as_likelihood(likelihood, variance))
    found = singular_triplets(nonzero_operator(rows), k, generator)
    return Eigen(found.values.square(), found.right, found.residual * found.values)


def density(
    model: Model,
    x: Samples,
    likelihood: Name,
    probes: int = 16,
    steps: int = 64,
    *,
    variance: Number = 1.0,
    generator: torch.Generator | None = None,
    bandwidth: float = 0.1,
) -> Density:
    """The density of s = √λ, λ the eigenvalues of the Fisher matrix, by stochastic Lanczos: for large models.

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        probes: random directions, at least 2.
        steps: products for each probe, at least 2.
        variance: of the "gaussian" labels.
        generator: of the probes, on the CPU; by default a new one seeded 0.
        bandwidth: of the smoothing, in nats of s.

    Returns:
        Density(log_s, mean, stderr, zero, …) of ½ log λ, as `spectra.spectral_density` gives it of the scaled Jacobian;
        `zero` is the share of the P eigenvalues that vanish. Detached.

    Raises:
        ValueError, TypeError: As in `matrix` and `spectra.spectral_density`.
        MemoryError: If the bases of one probe would not fit.

    Example:
        >>> from torch import nn
        >>> density(nn.Linear(99, 1), torch.eye(25, 99), "gaussian").zero.round(decimals=3)  # 25 of 100 do not
        tensor(0.7500, dtype=torch.float64)
    """
    rows = ScoreRows(model, x, as_likelihood(likelihood, variance))
    return spectral_density(nonzero_operator(rows), probes, steps, generator, bandwidth=bandwidth)


@torch.no_grad()
def natural_gradient(
    model: Model,
    x: Samples,
    likelihood: Name,
    gradient: Parameters,
    *,
    damping: Number = 0.0,
    variance: Number = 1.0,
    tolerance: Number | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """The natural gradient (F + damping · I)⁻¹ gradient, solved on the B · outputs rows of F and not on P × P.

    Without damping it is covariant: a smooth change of parameters changes the step's coordinates and not the step
    (Amari 1998). Damping measures in the given coordinates, so it gives that up for stability.

    Where not even the rows fit, a `tolerance` asks for conjugate gradients on products alone (Martens 2010): a step s
    with ‖(F + damping) s − gradient‖ ≤ tolerance · ‖gradient‖, off by that over the damping at most.

    Args:
        model: as in `matrix`, and so are x, likelihood and variance.
        x: (B, *s).
        likelihood: "categorical", "bernoulli" or "gaussian".
        gradient: one tensor a parameter, by name, such as `{name: p.grad for name, p in model.named_parameters()}`.
        damping: added to every eigenvalue; at 0 the Fisher matrix must be regular, P ≤ B · outputs at least.
        variance: of the "gaussian" labels.
        tolerance: None for the exact solution; a relative residual for large models, whose steps take one product
            each, and number about √(λ_max / damping).
        progress: whether a bar shows after two seconds of these.

    Returns:
        A dictionary like `gradient`, detached.

    Raises:
        ValueError, TypeError: As in `matrix`; if `gradient` is not like the parameters, damping is negative, or is 0
            where the Fisher matrix is singular, or `tolerance` is not between the parameters' rounding and 1.
        MemoryError: If the rows are not free; fewer samples would do, or a tolerance.
        RuntimeError: If rounding keeps the residual above `tolerance`.

    Example:
        >>> from torch import nn
        >>> model, x = nn.Linear(1, 1), torch.tensor([[2.0], [-2.0], [2.0], [-2.0]])  # F = diag(4, 1)
        >>> gradient = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([4.0])}
        >>> natural_gradient(model, x, "gaussian", gradient)
        {'weight': tensor([[0.5000]]), 'bias': tensor([4.])}
        >>> natural_gradient(model, x, "gaussian", gradient, damping=1.0, tolerance=1e-6)
        {'weight': tensor([[0.4000]]), 'bias': tensor([2.])}
    """
    if isinstance(damping, bool) or not isinstance(damping, (int, float)) or not 0 <= damping < float("inf"):
        raise ValueError(f"damping={damping!r}; pass a number of at least 0")
    rows = ScoreRows(model, x, as_likelihood(likelihood, variance))
    check_tolerance(tolerance, rows.own_dtype)
    flat = rows.as_flat(gradient, "gradient")
    if tolerance is None:
        return rows.as_parameters(damped_solution(rows, flat, float(damping)))
    return rows.as_parameters(iterative_solution(rows, flat, float(damping), float(tolerance), progress))


def on_inputs(lin: Linearization, probs: Tensor, *, basis: Tensor | None = None) -> Tensor:
    """The Fisher metric on inputs, G = Jᵀ (diag p − p pᵀ) J with J the Jacobian of the logits.

    To second order it is the change of the prediction: KL(p(x) ‖ p(x + v)) = ½ vᵀ G v + O(|v|³). It equals the
    Euclidean pullback metric of x ↦ 2√p(x), whose values lie on a sphere of radius 2 (Amari 2016, ch. 2).

    Args:
        lin: the chain up to the logits at B points, sizes n_0 … C.
        probs: the softmax of the logits at the same points, (B, C), each row summing to one.
        basis: orthonormal columns (B, n_0, k) or (n_0, k); None for all of R^n0.

    Returns:
        (B, k, k), symmetric and positive semidefinite, of rank at most C − 1, in the dtype of `lin`.

    Raises:
        ValueError: if `probs` does not have one entry a logit, is negative, or does not sum to one; if `basis` does
            not fit or is not orthonormal.
        TypeError: if `probs` is of another dtype.

    Example:
        >>> logits = torch.eye(2)[None]  # the input is the two logits themselves
        >>> on_inputs(Linearization([logits]), torch.tensor([[0.5, 0.5]]))
        tensor([[[ 0.2500, -0.2500],
                 [-0.2500,  0.2500]]])
    """
    expected = (lin.batch, lin.sizes[-1])
    if tuple(probs.shape) != expected:
        raise ValueError(f"probs has shape {tuple(probs.shape)}; one probability a logit, {expected}, would do.")
    if probs.dtype != lin.dtype:
        raise TypeError(f"probs is {probs.dtype} but the Jacobians are {lin.dtype}; convert one of them.")
    if bool((probs < 0).any()) or not bool(((probs.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError("probs has rows that are no probabilities (non-negative, sum one); softmax the logits first.")
    frame = lin.dense() if basis is None else lin @ as_basis(lin, basis).to(lin.device, lin.dtype)
    weights = (probs / probs.sum(-1, keepdim=True))[..., None]  # or a common shift of the logits would not drop out
    centred = frame - (weights * frame).sum(-2, keepdim=True)  # Var_p: a common shift of the logits drops out here
    scaled = weights.sqrt() * centred
    return torch.einsum("bci,bcj->bij", scaled, scaled)
