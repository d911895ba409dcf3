"""How attention makes tokens alike: rank collapse with uniform weights, near rank one, and as a flow on the sphere.

Each is solvable: moments of a random linear chain, an expansion to third order, and one ordinary differential equation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.theory._arguments import ANY, check, grid
from labkit.theory._token_flow import distance, elapsed, journey, put, within

__all__ = [
    "CollapseBound",
    "TokenMoments",
    "attention_near_rank_one",
    "collapse_bound",
    "equiangular_cosine",
    "equiangular_speed",
    "equiangular_time",
    "uniform_attention",
    "uniform_attention_limit",
]

_F64 = torch.float64
_ROUNDING = 1e-7  # of a cosine in float32
_BALANCED = 1e-15  # |Σx|²/Σ|x|² of tokens that sum to zero but for rounding
_RANGES = {"correlation": ANY, "alpha": ANY}  # correlations are checked against the number of tokens
_COLDEST = 300.0  # times grow like e^(2β), which leaves float64 soon after
_FLOW = {"beta": (0.0, _COLDEST), "cosine": ANY, "start": ANY, "time": (0.0, torch.inf)}


@dataclass(frozen=True)
class TokenMoments:
    """Mean squares of n tokens X (n, d) after a random stack, in units of |X_0|²; float64, shaped like the grid.

    Attributes:
        sum_square: E|1ᵀX|², of the sum of the tokens; inf where it leaves float64.
        norm_square: E|X|_F², alike.
        correlation: (E|1ᵀX|² - E|X|²) / ((n - 1) E|X|²), the mean cosine of two tokens of equal length: a ratio of
            means, not a mean of ratios.

    Example:
        >>> found = uniform_attention(8, [0, 1, 100], 1.0)  # O(1) branches on skips: collapse, and explosion
        >>> found.correlation
        tensor([0.0000, 0.1111, 1.0000], dtype=torch.float64)
        >>> found.norm_square
        tensor([1.0000e+00, 1.1250e+00, 1.5846e+29], dtype=torch.float64)
    """

    sum_square: Float[Tensor, "*grid"]
    norm_square: Float[Tensor, "*grid"]
    correlation: Float[Tensor, "*grid"]


def uniform_attention(
    tokens: object,
    depth: object,
    attention: object,
    mlp: object = None,
    skip: object = 1.0,
    correlation: object = 0.0,
) -> TokenMoments:
    """Rank collapse under uniform attention, exact at any width: with skips it slows, without them one layer is enough.

    A layer is X ← s X + √a_1 (11ᵀ/n) X W_V, then X ← s X + √a_2 X W_F, with fresh weights N(0, 1/d). Then
    E|1ᵀX|² grows by (s² + a_1)(s² + a_2), and the share of |X|² that is not common to all tokens falls by
    s²/(s² + a_1) a layer (Noci et al. 2022, at s = 1). Attention scores of zero make the weights uniform; the
    linear MLP leaves the correlation alone.

    Args:
        tokens: n ≥ 2. All arguments are numbers or tensors, and broadcast.
        depth: L ≥ 0, the number of layers.
        attention: a_1 ≥ 0, the variance of the attention branch.
        mlp: a_2 ≥ 0, that of the MLP branch; None for layers without an MLP.
        skip: s ≥ 0, the weight of the skip connections: 1, or 0 for none.
        correlation: ρ_0 in [-1/(n-1), 1], of the first tokens.

    Returns:
        TokenMoments; the correlation is nan where nothing is left (a_1 = s = 0).

    Raises:
        TypeError, ValueError: If an argument is no number, out of its range, or does not broadcast.

    Example:
        >>> uniform_attention(8, 20, attention=1 / 20).correlation
        tensor(0.1713, dtype=torch.float64)
        >>> uniform_attention(8, 1, attention=1.0, skip=0.0).correlation
        tensor(1., dtype=torch.float64)
    """
    last = 0.0 if mlp is None else mlp
    given = {"tokens": tokens, "depth": depth, "attention": attention, "mlp": last, "skip": skip}
    n, layers, a_1, a_2, s, rho = grid({**given, "correlation": correlation}, _RANGES)
    rho = _check_tokens(n, rho)
    check("depth", layers, layers == layers.round(), "whole numbers")
    log_gain = (s.square() + a_1).log() + (0.0 if mlp is None else (s.square() + a_2).log())
    log_gain = torch.where(layers == 0, 0.0, layers * log_gain)
    kept = torch.where((layers == 0) | (a_1 == 0), 0.0, -layers * torch.log1p(a_1 / s.square()))
    own, shared = _parts(kept, n, rho)
    found = torch.where(log_gain.isneginf(), torch.nan, _correlation(own, shared, rho))
    return TokenMoments((1 + (n - 1) * rho) * log_gain.exp(), (own + shared) * log_gain.exp(), found)


def uniform_attention_limit(tokens: object, alpha: object, correlation: object = 0.0) -> Float[Tensor, "*grid"]:
    """The correlation of tokens under L layers of uniform attention with skips at a_1 = α²/L, as L → ∞: below 1.

    From orthogonal tokens of equal length (e^(α²) - 1) / (n - 1 + e^(α²)) (Noci et al. 2022).

    Args:
        tokens: n ≥ 2; the arguments broadcast.
        alpha: α, of either sign.
        correlation: ρ_0 in [-1/(n-1), 1].

    Raises:
        TypeError, ValueError: If an argument is no number, out of its range, or does not broadcast.

    Example:
        >>> uniform_attention_limit(8, [0.0, 1.0, 3.0])
        tensor([0.0000, 0.1768, 0.9990], dtype=torch.float64)
    """
    n, scale, rho = grid({"tokens": tokens, "alpha": alpha, "correlation": correlation}, _RANGES)
    rho = _check_tokens(n, rho)
    own, shared = _parts(-scale.square(), n, rho)
    return _correlation(own, shared, rho)


def attention_near_rank_one(x: Tensor, query_key: Tensor, value: Tensor) -> Float[Tensor, "batch tokens width"]:
    """What one attention layer without skip makes of the differences between nearly equal tokens: their cube.

    With R the tokens less their mean x̄, head h gives A V_h with scores X Q_h Xᵀ, and to third order in R the output's
    own differences are Σ_h R Q_h S_h V_h, S_h the covariance of R under the weights softmax(x̄ Q_h Rᵀ). Halving R
    divides them by 8: Dong, Cordonnier & Loukas's (2021) rate, here with its constant. Only near rank one.

    Args:
        x: (B, n, d), floating.
        query_key: (d, d) or (H, d, d), W_Q W_Kᵀ/√d_qk of each head.
        value: alike, W_V W_O of each head.

    Returns:
        (B, n, d): the differences from their mean after the layer, up to fifth-order terms; differentiable.

    Raises:
        TypeError: If the dtypes are not one floating dtype.
        ValueError: If the shapes do not fit.

    Example:
        >>> x = 1 + 0.01 * torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]])
        >>> eye = torch.eye(2)
        >>> attention_near_rank_one(x, eye, eye)[0, 0] * 1e6
        tensor([0.6632, 0.3266])
    """
    if not x.is_floating_point() or x.dtype != query_key.dtype or x.dtype != value.dtype:
        raise TypeError(
            f"x, query_key and value are {x.dtype}, {query_key.dtype} and {value.dtype}; one floating dtype would do."
        )
    if (
        x.ndim != 3
        or query_key.ndim not in (2, 3)
        or query_key.shape != value.shape
        or query_key.shape[-2:] != (x.shape[2],) * 2
    ):
        raise ValueError(
            f"x, query_key and value have shapes {tuple(x.shape)}, {tuple(query_key.shape)} and {tuple(value.shape)}; "
            "(B, n, d) and twice (d, d) or (H, d, d) would do."
        )
    mean = x.mean(1, keepdim=True)
    residual = x - mean
    heads = zip(query_key.reshape(-1, *query_key.shape[-2:]), value.reshape(-1, *value.shape[-2:]), strict=True)
    found = torch.zeros_like(x)
    for Q, V in heads:
        weights = torch.softmax(mean @ Q @ residual.mT, dim=-1).mT
        centred = residual - (weights * residual).sum(1, keepdim=True)
        found = found + residual @ Q @ (centred.mT @ (weights * centred)) @ V
    return found


@dataclass(frozen=True)
class CollapseBound:
    """Dong's bound on what is left of the differences between tokens.

    Attributes:
        log_residual: log of the bound on ‖res(X_L)‖; ±inf where it leaves float64.
        contracts: whether it falls with depth, 4γβH‖res(X)‖² < √d_qk; elsewhere it says nothing.

    Example:
        >>> collapse_bound(0.1, [0, 1, 2, 5], beta=1.0, d_qk=16).log_residual
        tensor([  -2.3026,   -6.9078,  -20.7233, -559.5282], dtype=torch.float64)
    """

    log_residual: Float[Tensor, "*grid"]
    contracts: Bool[Tensor, "*grid"]


def collapse_bound(
    residual: object, depth: object, beta: object, d_qk: object, heads: object = 1, gamma: object = 1.0
) -> CollapseBound:
    """The bound (4γβH/√d_qk)^((3^L - 1)/2) ‖res(X)‖^(3^L) after L layers of attention alone.

    Dong, Cordonnier & Loukas 2021, for ‖·‖ = √(‖·‖_1 ‖·‖_∞), ‖W_QK‖_1 ‖W_V‖ ≤ β in every head and γ a
    factor of order one that depends on the attention weights. An *upper* bound, cubed a layer: networks fall so fast
    only near rank one, those with skips or a residual beyond the condition need not fall at all.

    Args:
        residual: ‖res(X)‖ ≥ 0; all arguments are numbers or tensors, and broadcast.
        depth: L ≥ 0.
        beta: β > 0.
        d_qk: width of queries and keys.
        heads: H.
        gamma: γ > 0.

    Returns:
        A CollapseBound.

    Raises:
        TypeError, ValueError: If an argument is no number, out of its range, or does not broadcast.

    Example:
        >>> collapse_bound([0.1, 2.0], 3, beta=1.0, d_qk=16).contracts
        tensor([ True, False])
    """
    factors = {"beta": beta, "d_qk": d_qk, "heads": heads, "gamma": gamma}
    size, layers, *of_layer = grid({"residual": residual, "depth": depth, **factors})
    b, d, h, g = (check(name, v, v > 0, "positive numbers") for name, v in zip(factors, of_layer, strict=True))
    check("depth", layers, layers == layers.round(), "whole numbers")
    half = 0.5 * torch.log(4 * g * b * h / d.sqrt())
    reach = size.log() + half  # of ‖res‖ times the root of the constant, which is cubed a layer
    grown = torch.where(reach == 0, 0.0, 3.0**layers * reach)
    return CollapseBound(grown - half, reach < 0)


def equiangular_speed(cosine: object, tokens: object, beta: object) -> Float[Tensor, "*grid"]:
    """dρ/dt of n tokens on the sphere that all meet at cosine ρ, 2 e^(βρ) (1-ρ) (1+(n-1)ρ) / (e^β + (n-1) e^(βρ)).

    Attention as a flow, x_i' = P_{x_i} Σ_j softmax_j(β⟨x_i, x_j⟩) x_j, keeps equal angles equal and closes them
    (Geshkovski, Letrouit, Polyanskiy & Rigollet 2023).

    Args:
        cosine: ρ in [-1/(n-1), 1]; the arguments broadcast.
        tokens: n ≥ 2.
        beta: inverse temperature, 0 ≤ β ≤ 300.

    Raises:
        TypeError, ValueError: If an argument is no number, out of its range, or does not broadcast.

    Example:
        >>> equiangular_speed([0.0, 0.5, 1.0], 8, 2.0)
        tensor([0.1390, 0.4630, 0.0000], dtype=torch.float64)
    """
    rho, n, b = grid({"cosine": cosine, "tokens": tokens, "beta": beta}, _FLOW)
    rho = _check_tokens(n, rho, "cosine")
    return 2 * (1 - rho) * (1 + (n - 1) * rho) / ((b * (1 - rho)).exp() + n - 1)


def equiangular_time(cosine: object, tokens: object, beta: object, start: object = 0.0) -> Float[Tensor, "*grid"]:
    """The time at which tokens that meet at cosine ρ_0 meet at ρ, by exponential integrals.

    In s = log((1+(n-1)ρ)/(1-ρ)) the speed is ds/dt = 2n/(n - 1 + e^(β(1-ρ))), which integrates exactly. From
    orthogonal tokens it is e^β/(2β) for β ≫ n: cold attention waits exponentially long.

    Args:
        cosine: the cosine ρ ≥ ρ_0 to reach; the arguments broadcast.
        tokens: n ≥ 2.
        beta: inverse temperature, 0 ≤ β ≤ 300.
        start: ρ_0.

    Returns:
        The time, float64 and detached; inf for ρ = 1, and from the fixed point ρ_0 = -1/(n-1).

    Raises:
        ValueError: If an argument is out of range, or ρ < ρ_0.

    Example:
        >>> equiangular_time(0.99, 8, [0.0, 2.0, 8.0])
        tensor([  3.3379,   3.9955, 131.9361], dtype=torch.float64)
    """
    rho, n, b, first = grid({"cosine": cosine, "tokens": tokens, "beta": beta, "start": start}, _FLOW)
    rho = _check_tokens(n, rho, "cosine")
    first = _check_tokens(n, first, "start")
    check("cosine", rho, rho >= first, "cosines of at least start, for tokens only close up")
    found = torch.where(rho == first, 0.0, torch.inf).to(_F64)
    free = put(rho, n).isfinite() & put(first, n).isfinite()
    m, cold, begin, way = (v[free].detach().cpu().numpy() for v in (n, b, put(first, n), distance(first, rho, n)))
    found[free] = torch.as_tensor(elapsed(begin, way, m, cold), device=found.device)
    return found


def equiangular_cosine(time: object, tokens: object, beta: object, start: object = 0.0) -> Float[Tensor, "*grid"]:
    """The cosine at which tokens meet a time t after they met at ρ_0: the clustering flow, solved.

    The inverse of `equiangular_time`, by Newton's steps: there is no step size, and the answer is that of a time a few
    ulp from t. At β beyond 20 that is a limit: the wait is long, the clustering sudden.

    Args:
        time: t ≥ 0; the arguments broadcast.
        tokens: n ≥ 2.
        beta: inverse temperature, 0 ≤ β ≤ 300.
        start: ρ_0 in [-1/(n-1), 1], both ends being fixed points.

    Returns:
        ρ(t), float64 and detached.

    Raises:
        TypeError, ValueError: If an argument is no number, out of its range, or does not broadcast.

    Example:
        >>> equiangular_cosine([0.0, 1.5, 3.0, 6.0], 8, 2.0)
        tensor([0.0000, 0.4329, 0.9316, 0.9998], dtype=torch.float64)
    """
    t, n, b, first = grid({"time": time, "tokens": tokens, "beta": beta, "start": start}, _FLOW)
    first = _check_tokens(n, first, "start")
    found = first.detach().clone()  # which the fixed points keep
    free = put(first, n).isfinite()
    m, cold, begin, wait = (v[free].detach().cpu().numpy() for v in (n, b, put(first, n), t))
    end = within(begin + journey(wait, begin, m, cold), m)
    found[free] = torch.as_tensor(end, device=found.device)
    return found


def _parts(log_kept: Tensor, n: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
    """Of |X|², what the tokens kept of their own and what uniform attention has added, in units of the gain."""
    total = 1 + (n - 1) * rho
    total = torch.where(total <= _BALANCED, 0.0, total)
    return log_kept.exp(), -total / n * torch.expm1(log_kept)


def _correlation(own: Tensor, shared: Tensor, rho: Tensor) -> Tensor:
    return torch.where(shared == 0, rho, (rho * own + shared) / torch.where(shared == 0, 1.0, own + shared))


def _check_tokens(n: Tensor, rho: Tensor, name: str = "correlation") -> Tensor:
    """The cosines, raised to -1/(n-1) where rounding left them below."""
    check("tokens", n, (n >= 2) & (n == n.round()), "whole numbers of at least 2")
    least = -1 / (n - 1)
    check(name, rho, (rho >= least - _ROUNDING) & (rho <= 1), "cosines between -1/(n-1) and 1")
    return torch.maximum(rho, least)
