"""Log singular values of every prefix J_l ⋯ J_1 of a long product, in float64, at any condition number.

One QR a link, whose R is flipped by a second, keeps a prefix as W diag(e^d) up to orthogonal factors: W near the
identity, d as logarithms, so nothing overflows and no small value drowns in a large one. A prefix is finished by
one `svdvals`, which the determinant checks; what fails the check is redone in windows of neighbouring values.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from labkit._linalg import (
    LN2,
    column_norms,
    inverse_triangular,
    qr,
    rows_sorted_qr,
    svdvals,
    take_columns,
    triangular_factor,
)
from labkit._product_factors import TINY, Jiggle, Links, Push, factors

__all__ = ["log_singular_values", "log_volumes"]

Matrices = Float[Tensor, "batch m n"]
Vectors = Float[Tensor, "batch p"]

_LOST = -1e30  # log 0 inside the fold: differences of it are finite, those of -inf are not
_DEEP = -200.0  # e^-200 stands for anything smaller: no denormals, and a relative error of e^-200
_EPS = 2.0**-52
_DOUBTFUL = 1e8  # times the noise: below this the noise of the other columns is asked as well
_HELD = 2**18  # entries of W that are held back to be finished in one call
_TRUSTING, _CAREFUL = 300.0, 7.0  # nats that one svdvals is asked to resolve


def log_singular_values(
    links: Links, start: Matrices, depths: Sequence[int], jiggle: Jiggle | None = None
) -> Float[Tensor, "depths folds k"]:
    """Log singular values of J_l ⋯ J_1 `start`, where l runs over `depths`; descending, -inf where rank is lost.

    Args:
        links: the factors, (B, n_l, n_{l-1}), first applied first; each is looked at once.
        start: (B, n_0, k) in float64, orthonormal columns.
        depths: which prefixes to answer, 0 … L in any order.
        jiggle: perturb the links; the batch of the answer is then copies·B, copy by copy.
    """
    if jiggle:
        start = start.repeat(jiggle.copies, 1, 1)
    batch, _, k = start.shape
    found = {0: start.new_zeros(batch, k)}
    held: dict[int, tuple[Tensor, Tensor]] = {}

    def finish() -> None:
        W, d = (torch.cat(parts) for parts in zip(*held.values(), strict=True))
        values = _finished(W, d)
        values = pad(values, (0, k - values.shape[-1]), value=-torch.inf)
        found.update(zip(held, torch.split(values, batch), strict=True))
        held.clear()

    for depth, (W, d) in enumerate(_fold(links, start, jiggle), start=1):
        if depth in depths:
            if held and next(iter(held.values()))[0].shape != W.shape:
                finish()
            held[depth] = W, d
            if len(held) * W.numel() >= _HELD:
                finish()
        if depth >= max(depths):
            break
    if held:
        finish()
    return torch.stack([found[depth] for depth in depths])


def log_volumes(links: Links, start: Matrices, depths: Sequence[int]) -> Float[Tensor, "depths batch"]:
    """The sum of the log singular values of J_l ⋯ J_1 `start`, from one QR a link; -inf where rank is lost."""
    X, volume = start, start.new_zeros(len(start))
    found = {0: volume}
    alive = torch.ones_like(volume, dtype=torch.bool)
    for depth, link in enumerate(links, start=1):
        for factor in factors(link, depth - 1, start.shape[-1]):
            push = factor.push(X)
            k = push.M.shape[-1]
            with torch.no_grad():
                X, R = rows_sorted_qr(push.M)
                alive = alive & _alive(X, R, torch.ones_like(R[:, 0]), push.noise).all(-1) & (R.shape[-2] == k)
            if push.M.requires_grad and alive.any():
                # a sample without volume goes on as a constant, for a singular QR has no derivative
                X, R = rows_sorted_qr(torch.where(alive[:, None, None], push.M, X))
            logs = torch.where(alive[:, None], R.diagonal(dim1=-2, dim2=-1).abs(), 1.0).log()
            volume = volume + logs.sum(-1) + k * LN2 * push.exponent
        found[depth] = torch.where(alive, volume, -torch.inf)
        if depth >= max(depths) or not alive.any():
            break
    nothing = torch.full_like(volume, -torch.inf)
    return torch.stack([found.get(depth, nothing) for depth in depths])


def _fold(links: Links, start: Matrices, jiggle: Jiggle | None) -> Iterator[tuple[Float[Tensor, "batch p p"], Vectors]]:
    """W and d of every prefix: J_l ⋯ J_1 start is W diag(e^d) up to orthogonal factors left and right."""
    X, d = start, start.new_zeros(len(start), start.shape[-1])
    for index, link in enumerate(links):
        for factor in factors(link, index, start.shape[-1], jiggle):
            X, W, d = _step(factor.push(X), d)
        yield W, d


def _step(
    push: Push, d: Float[Tensor, "batch n"]
) -> tuple[Float[Tensor, "batch m p"], Float[Tensor, "batch p p"], Vectors]:
    """M diag(e^d) V = X diag(e^d') V', V and V' orthogonal and forgotten; X = Q W, Q orthonormal. Also W."""
    M = push.M
    with torch.no_grad():  # every scale is a gauge: it cancels between M and d, so it needs no derivative
        c = column_norms(M)
        d, order = (d + c.log()).clamp(min=_LOST).sort(-1, descending=True)
        c = c.gather(-1, order).clamp(min=TINY)
        d = d + LN2 * push.exponent[:, None]
    M = take_columns(M, order) / c[:, None, :]
    with torch.no_grad():
        Q, R = rows_sorted_qr(M)
        alive = _alive(Q, R, c, push.noise)
        whole = bool(alive.all())
        if not whole:
            order, Q, R, alive = _revealed(M, Q, R, c, push.noise)
            d = d.gather(-1, order)
    if not whole:
        M = take_columns(M, order)
    if M.requires_grad:
        Q, _ = rows_sorted_qr(torch.where(alive[:, None, :], M[:, :, : R.shape[-2]], Q))
        R = (Q.mT @ M).triu()
    W, d = _flip(R * alive[:, :, None], d)
    W, d, order = _sweep(W, d)
    return take_columns(Q, order) @ W, W, d


def _reach(Q: Float[Tensor, "batch m p"], noise: Float[Tensor, "batch m"]) -> Vectors:
    """Per column of Q, how far a unit of it stands out of the noise, in the row of the link where it does most."""
    return (Q.abs() / torch.where(noise > 0, noise, torch.inf)[:, :, None]).amax(-2)


def _alive(
    Q: Float[Tensor, "batch m p"],
    R: Float[Tensor, "batch p n"],
    c: Float[Tensor, "batch n"],
    noise: Float[Tensor, "batch m"],
) -> Bool[Tensor, "batch p"]:
    """Which columns of M diag(c) = Q R diag(c) leave the span of those before them by more than rounding.

    The noise in r_ii is that of column i and, through the coefficients R⁻¹ e_i, of all columns before it; a row's noise
    is relative to its norm, so by Cauchy and Schwarz the norm of the coefficients bounds what they add.
    """
    p, reach = R.shape[-2], _reach(Q, noise)
    diagonal = R.diagonal(dim1=-2, dim2=-1).abs()
    standing = diagonal * c[:, :p] * reach
    alive = standing > 1
    if (standing < _DOUBTFUL).any():
        blocked = R[:, :, :p] + torch.diag_embed((~alive).to(R) / TINY)
        alive = alive & (reach > column_norms(inverse_triangular(blocked) / c[:, :p, None]))
    return alive


def _revealed(
    M: Matrices,
    Q: Float[Tensor, "batch m p"],
    R: Float[Tensor, "batch p n"],
    c: Float[Tensor, "batch n"],
    noise: Float[Tensor, "batch m"],
) -> tuple[Tensor, Float[Tensor, "batch m p"], Float[Tensor, "batch p n"], Bool[Tensor, "batch p"]]:
    """Columns reordered until a row of R that starts with noise is noise altogether: a lost direction must die.

    Returns the order of the columns, Q, R, and which rows of R are alive.
    """
    n = M.shape[-1]
    order = torch.arange(n, device=M.device).expand(len(M), -1)
    for _ in range(n):
        level = c.gather(-1, order)
        alive = _alive(Q, R, level, noise)
        stands = R.abs() * level[:, None, :] * _reach(Q, noise)[:, :, None] > 1
        wasted = ~alive & stands.triu(1).any(-1)
        if not wasted.any():
            break
        later = pad(wasted, (0, n - wasted.shape[-1])).byte().argsort(dim=-1, stable=True)
        order = order.gather(-1, later)
        Q, R = rows_sorted_qr(take_columns(M, order))
    return order, Q, R, alive


def _flip(R: Float[Tensor, "batch p n"], d: Float[Tensor, "batch n"]) -> tuple[Float[Tensor, "batch n p"], Vectors]:
    """Upper R, descending d -> lower W with unit columns, d': (R diag(e^d))ᵀ = W diag(e^d').

    W_ij carries e^(d_i - d_j) <= 1, so nothing overflows and each flip drives values far apart further apart.
    """
    top = d[:, : R.shape[-2]]
    row = R.detach().abs().amax(-1)
    W = (R / row.clamp(min=TINY)[:, :, None]).mT * (d[:, :, None] - top[:, None, :]).clamp_(_DEEP, 0.0).exp_()
    size = column_norms(W).detach()
    d = (top + row.log() + size.log()).clamp(min=_LOST)
    return W / size.clamp(min=TINY)[:, None, :], d


def _sweep(W: Float[Tensor, "batch n p"], d: Vectors) -> tuple[Float[Tensor, "batch p p"], Vectors, Tensor]:
    """One more QR: off-diagonal W_ij shrink by e^(d_i - d_j). Also the order that was put on the columns."""
    d, order = d.sort(-1, descending=True)
    W = take_columns(W, order)
    alive = d > _LOST / 2
    if W.requires_grad and not alive.all():  # zero columns have no differentiable QR: any orthonormal ones will do
        with torch.no_grad():
            Q, _ = qr(W)
        R = triangular_factor(torch.where(alive[:, None, :], W, Q))
        R = R * alive[:, :, None] * alive[:, None, :]
    else:
        R = triangular_factor(W)
    return *_flip(R, d), order


def _finished(W: Float[Tensor, "batch p p"], d: Vectors) -> Vectors:
    """Log singular values of W diag(e^d), descending."""
    if W.requires_grad:  # singular vectors are accurate norm-wise only, and feel every neglected coupling
        return _windows(W, d, _CAREFUL, margin=5.0, sweeps=4)
    if W.device.type != "cpu":  # LAPACK's accuracy on graded matrices is not promised elsewhere
        return _windows(W, d, _CAREFUL, margin=5.0, sweeps=2)
    found = _windows(W, d, _TRUSTING, margin=15.0, sweeps=0)
    # One svdvals of a graded matrix is nearly always accurate in every value; W is triangular, its diagonal tells.
    alive = d > _LOST / 2
    expected = torch.where(alive, d + W.diagonal(dim1=-2, dim2=-1).abs().log(), 0.0).sum(-1)
    slack = 1e-11 + _EPS * torch.where(alive, d, 0.0).abs().sum(-1)
    off = ~((torch.where(found.isfinite(), found, 0.0).sum(-1) - expected).abs() < slack)
    if off.any():
        found[off] = _windows(W[off], d[off], _CAREFUL, margin=5.0, sweeps=2)
    return found


def _windows(W: Float[Tensor, "batch p p"], d: Vectors, core: float, margin: float, sweeps: int) -> Vectors:
    """svdvals of diagonal blocks that span `core` nats and a margin either side, all blocks of a size in one call."""
    for _ in range(sweeps):
        W, d, _ = _sweep(W, d)
    p = d.shape[-1]
    d, order = d.sort(-1, descending=True)
    box = torch.where(d > _LOST / 2, ((d[:, :1] - d) / core).floor(), torch.inf)
    first = box.isfinite() & (box != pad(box, (1, 0), value=-1.0)[:, :-1])
    sample, begin = first.nonzero(as_tuple=True)  # a block answers for begin <= t < end
    end = torch.searchsorted(box, box, right=True)[sample, begin]
    low = torch.searchsorted(-d, -d - margin)[sample, begin]  # and reaches from low
    high = torch.searchsorted(-d, -d + margin, right=True)[sample, end - 1]  # to high
    grain = max(1, p // 16)  # few sizes, little padding
    size = ((high - low + grain - 1) // grain * grain).clamp(max=p)
    found = torch.full_like(d, -torch.inf)
    for width in sorted(set(size.tolist())):
        block = (size == width).nonzero()
        s, t = sample[block], low[block] + torch.arange(width, device=d.device)
        inside, t = t < p, t.clamp(max=p - 1)
        at, level = order[s, t], d[s, t]
        scale = inside * (level - level[:, :1]).clamp(min=-650.0).exp()
        values = svdvals(W[s[:, :, None], at[:, :, None], at[:, None, :]] * (inside[:, :, None] * scale[:, None, :]))
        keep = inside & (t >= begin[block]) & (t < end[block])
        found[s.expand_as(t)[keep], t[keep]] = values[keep].log() + level[:, :1].expand_as(t)[keep]
    return found
