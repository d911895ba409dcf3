"""Curvature of the image of a chain: from a jet at a point, and along paths and loops, where f is asked at many points.

Gauss' equation reads it off two derivatives, in float64, for the k directions of the jet's basis and no others: the
curvature of a slice is not that of the data's manifold. What rounding the jet's own dtype leaves is magnified by the
condition number of `jet.first`, up to its square; the result has the dtype of the jet.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import inverse_triangular, lift
from labkit._memory import available_bytes
from labkit.geometry._frames import in_frame, normal_part, tangent_frame
from labkit.geometry._polygons import total_curvature, turning_angle
from labkit.geometry._tangents import holonomy, metric_variation
from labkit.jets import Jet

__all__ = [
    "CurveGeometry", "bill", "christoffel", "curve_geometry", "holonomy", "mean_curvature", "metric_variation", "ricci",
    "riemann", "scalar_curvature", "second_fundamental_form", "sectional_curvature", "total_curvature", "turning_angle",
]  # fmt: skip

if TYPE_CHECKING:
    AnyJet = Jet
else:
    AnyJet = object  # run-time type checkers leave bad input to the sentences below


@dataclass(frozen=True)
class CurveGeometry:
    """What Poole et al. 2016 measure at points of a curve in the output.

    Attributes:
        speed: |f'|, (B,); its integral over t is the length of the image.
        curvature: κ, one over the radius of the circle that fits best, (B,), at least 0.
        turning: κ |f'|, the speed of the unit tangent, (B,); its integral over t is the length under the Gauss map,
            which is the total curvature.

    Example:
        >>> from labkit import Chain
        >>> parabola = Chain([lambda t: torch.cat([t, t**2 / 2], 1)]).jet(torch.tensor([[0.0]]))
        >>> geometry = curve_geometry(parabola)
        >>> geometry.speed, geometry.curvature, geometry.turning
        (tensor([1.]), tensor([1.]), tensor([1.]))
    """

    speed: Float[Tensor, "batch"]
    curvature: Float[Tensor, "batch"]
    turning: Float[Tensor, "batch"]


def second_fundamental_form(jet: AnyJet) -> Float[Tensor, "batch n k k"]:
    """II(u, v), the part of D²f(u, v) at right angles to the image: how it bends away from its tangent space.

    Returns:
        (B, n, k, k) in the coordinates of the jet's basis, symmetric in the last two.

    Raises:
        ValueError: if the metric of the basis has not full rank k, with the rank and the direction it loses.
        TypeError: if `jet` is no jet.

    Example:
        >>> jet = Jet(torch.zeros(1, 3), torch.eye(3, 2)[None], torch.zeros(1, 3, 2, 2))
        >>> jet.second[0, 2] = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # the paraboloid (x, y, x² + y²/2) at its vertex
        >>> second_fundamental_form(jet)[0, 2]
        tensor([[2., 0.],
                [0., 1.]])
        >>> scalar_curvature(jet), mean_curvature(jet)  # 2 det and ½ trace
        (tensor([4.]), tensor([[0.0000, 0.0000, 1.5000]]))
    """
    _check(jet)
    return normal_part(tangent_frame(jet.first)[0], lift(jet.second)).to(jet.second)


def mean_curvature(jet: AnyJet) -> Float[Tensor, "batch n"]:
    """The mean curvature vector (1/k) Σ_a II(e_a, e_a) over an orthonormal tangent frame.

    It points to the inner side: on a sphere of radius r to the centre, with length 1/r, for every k.

    Returns:
        (B, n), normal to the image.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`.

    Example:
        >>> circle = Jet(*(torch.tensor([values]) for values in ([2.0, 0.0], [[0.0], [2.0]], [[[-2.0]], [[0.0]]])))
        >>> mean_curvature(circle)  # of radius 2
        tensor([[-0.5000,  0.0000]])
    """
    form = _normal_form(jet)
    return form.diagonal(dim1=-2, dim2=-1).mean(-1).to(jet.second)


def christoffel(jet: AnyJet) -> Float[Tensor, "batch k k k"]:
    """Christoffel symbols Γ^c_ij = g^cl ⟨∂_l f, ∂_i ∂_j f⟩, the upper index first: the tangent part of D²f.

    Returns:
        (B, k, k, k), symmetric in the last two; they depend on the coordinates, unlike the curvature.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`.

    Example:
        >>> from labkit import Chain
        >>> jet = Chain([lambda x: x + x**2 / 2]).jet(torch.ones(1, 1))  # f' = 2 and f'' = 1
        >>> christoffel(jet)
        tensor([[[[0.5000]]]])
    """
    _check(jet)
    Q, R = tangent_frame(jet.first)
    tangent = Q.mT @ lift(jet.second).flatten(-2)
    return (inverse_triangular(R) @ tangent).reshape(-1, *3 * R.shape[-1:]).to(jet.second)


def riemann(jet: AnyJet) -> Float[Tensor, "batch k k k k"]:
    """The Riemann tensor by Gauss' equation, R_ijkl = ⟨II_ik, II_jl⟩ − ⟨II_il, II_jk⟩; R_0101 = det g on unit spheres.

    Returns:
        (B, k, k, k, k), all indices lowered, in the coordinates of the jet's basis.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`.
        MemoryError: before allocating, if k⁴ numbers a sample would not fit.

    Example:
        >>> jet = Jet(torch.zeros(1, 3), torch.eye(3, 2)[None], torch.zeros(1, 3, 2, 2))
        >>> jet.second[0, 2] = torch.eye(2)  # to second order the unit sphere, at its pole
        >>> riemann(jet)[0, 0, 1]
        tensor([[ 0.,  1.],
                [-1.,  0.]])
    """
    _check(jet)
    batch, _, k = jet.first.shape
    needed = 8.0 * 3 * batch * k**4
    if needed > 2**26 and needed > (free := available_bytes(jet.first.device)):
        raise MemoryError(
            f"the Riemann tensor of k = {k} directions at {batch} points needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} "
            "GB are free; ask for ricci, scalar_curvature or sectional_curvature, or pass a smaller basis"
        )
    form = normal_part(tangent_frame(jet.first)[0], lift(jet.second)).flatten(-2)
    products = (form.mT @ form).reshape(batch, k, k, k, k)  # ⟨II_ik, II_jl⟩ at [i, k, j, l]
    crossed = products.transpose(2, 3)
    return (crossed - crossed.transpose(3, 4)).to(jet.second)


def ricci(jet: AnyJet) -> Float[Tensor, "batch k k"]:
    """The Ricci tensor Ric_jl = g^ik R_ijkl: of a unit vector, the sum of the curvatures of k − 1 planes through it.

    Returns:
        (B, k, k), symmetric, in the coordinates of the jet's basis; (k − 1) g on the unit sphere.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`.

    Example:
        >>> jet = Jet(torch.zeros(1, 4), torch.eye(4, 3)[None], torch.zeros(1, 4, 3, 3))
        >>> jet.second[0, 3] = torch.eye(3)
        >>> ricci(jet)[0].diagonal()
        tensor([2., 2., 2.])
    """
    _check(jet)
    Q, R = tangent_frame(jet.first)
    form = normal_part(Q, lift(jet.second))
    half = form @ inverse_triangular(R)[:, None]
    trace = in_frame(form, R).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (torch.einsum("bn,bnij->bij", trace, form) - torch.einsum("bnia,bnja->bij", half, half)).to(jet.second)


def scalar_curvature(jet: AnyJet) -> Float[Tensor, "batch"]:
    """The scalar curvature, the sum of the sectional curvatures of all ordered pairs of an orthonormal frame.

    Returns:
        (B,): k (k − 1) on the unit sphere, twice Gauss' curvature for k = 2, 0 for k = 1.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`.

    Example:
        >>> from labkit import Chain
        >>> def sphere(x):
        ...     polar, azimuth = x.unbind(-1)
        ...     return torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], -1)
        >>> scalar_curvature(Chain([sphere]).jet(torch.tensor([[0.5, 1.0], [1.5, 0.0]]).double()))
        tensor([2.0000, 2.0000], dtype=torch.float64)
    """
    return _pair_sums(_normal_form(jet)[None])[:, 0, 0].to(jet.second)


def sectional_curvature(jet: AnyJet, u: Tensor, v: Tensor) -> Float[Tensor, "batch"]:
    """Gauss' curvature of the plane that u and v span, R(u, v, u, v) / (|u|² |v|² − ⟨u, v⟩²); +1 on the unit sphere.

    Args:
        jet: a jet of k directions.
        u: a direction in the coordinates of the jet's basis, (k,) or (B, k).
        v: another, independent of it.

    Returns:
        (B,), the same for any two vectors of the plane.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`, and if u and v do not fit or span no plane.

    Example:
        >>> jet = Jet(torch.zeros(1, 3), torch.eye(3, 2)[None], torch.zeros(1, 3, 2, 2))
        >>> jet.second[0, 2] = torch.tensor([[3.0, 0.0], [0.0, -2.0]])  # a saddle
        >>> sectional_curvature(jet, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
        tensor([-6.])
    """
    _check(jet)
    Q, R = tangent_frame(jet.first)
    columns = [_direction(name, w, jet) for name, w in (("u", u), ("v", v))]
    plane = torch.stack(columns, -1)
    if plane.shape[-2] < 2:
        raise ValueError("jet has k = 1 direction, which spans no plane; pass a basis of k >= 2")
    spanned = (R @ plane).to(jet.first.dtype)
    E, _ = tangent_frame(spanned, lambda sample: f"on the plane of u and v, sample {sample}")
    form = E.mT[:, None] @ in_frame(normal_part(Q, lift(jet.second)), R) @ E[:, None]
    return (_pair_sums(form[None])[:, 0, 0] / 2).to(jet.second)


def bill(jet: AnyJet) -> Float[Tensor, "batch links links"]:
    """What each pair of links contributes to the scalar curvature, which is quadratic in what the links add to D²f.

    A row sum is a link's share, which may be negative. Merging neighbouring links sums their rows and columns.
    Derived in this project from Gauss' equation and Faà di Bruno's formula.

    Args:
        jet: from `chain.jet(x, by_link=True)`.

    Returns:
        (B, L, L), symmetric; all entries sum to the scalar curvature.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`, and if the jet has no parts.

    Example:
        >>> from labkit import Chain
        >>> chain = Chain([torch.nn.Linear(2, 5), torch.tanh, torch.nn.Linear(5, 5), torch.tanh])
        >>> jet = chain.jet(torch.zeros(3, 2), by_link=True)
        >>> torch.allclose(bill(jet).sum((1, 2)), scalar_curvature(jet), atol=1e-4)
        True
        >>> bool((bill(jet)[:, 0] == 0).all())  # an affine link bends nothing
        True
    """
    _check(jet)
    if jet.parts is None:
        raise ValueError("jet has no parts by link; ask for them with chain.jet(x, by_link=True)")
    Q, R = tangent_frame(jet.first)
    return _pair_sums(in_frame(normal_part(Q, lift(jet.parts)), R)).to(jet.second)


def curve_geometry(jet: AnyJet) -> CurveGeometry:
    """Speed, curvature and turning of a curve in the output (Poole et al. 2016, sec. 3).

    For the image of a curve c of data, let c be the first link: `Chain([c, *links]).jet(t)` with t (B, 1).

    Args:
        jet: a jet of one direction, k = 1.

    Returns:
        The three, each (B,), in the dtype of the jet.

    Raises:
        ValueError, TypeError: as `second_fundamental_form`, and if k is not 1.

    Example:
        >>> from labkit import Chain
        >>> circle = lambda t: 2 * torch.cat([t.cos(), t.sin()], 1)
        >>> chain = Chain([circle, lambda x: 3 * x])
        >>> t = 2 * torch.pi * torch.arange(8, dtype=torch.float64)[:, None] / 8
        >>> geometry = curve_geometry(chain.jet(t))
        >>> geometry.speed[0], 1 / geometry.curvature[0], geometry.turning.mean() * 2  # radius twice, turns of π
        (tensor(6., dtype=torch.float64), tensor(6., dtype=torch.float64), tensor(2., dtype=torch.float64))
    """
    _check(jet)
    if jet.first.shape[-1] != 1:
        raise ValueError(f"jet has k = {jet.first.shape[-1]} directions; a curve has one, from a basis (n_0, 1)")
    Q, R = tangent_frame(jet.first)
    speed = R[:, 0, 0]
    bend: Tensor = torch.linalg.vector_norm(in_frame(normal_part(Q, lift(jet.second)), R)[..., 0, 0], dim=-1)
    return CurveGeometry(*(found.to(jet.second) for found in (speed, bend, bend * speed)))


def _check(jet: AnyJet) -> None:
    if not isinstance(jet, Jet):
        raise TypeError(f"jet is a {type(jet).__name__}; pass chain.jet(x)")
    for name, derivative in (("second", jet.second), ("parts", jet.parts)):
        if derivative is not None and not derivative.detach().isfinite().all():
            raise ValueError(f"jet.{name} holds NaN or infinity; repair these points, or take a wider dtype")


def _normal_form(jet: AnyJet) -> Float[Tensor, "batch n k k"]:
    """II in an orthonormal frame of the image, in float64."""
    _check(jet)
    Q, R = tangent_frame(jet.first)
    return in_frame(normal_part(Q, lift(jet.second)), R)


def _pair_sums(forms: Float[Tensor, "links batch n k k"]) -> Float[Tensor, "batch links links"]:
    """Σ ⟨II_aa, II_bb⟩ − ⟨II_ab, II_ab⟩ over a ≠ b, for each pair of forms in an orthonormal frame.

    The terms a = b cancel; they are left out, as they may be larger than the sum by more than all digits.
    """
    k = forms.shape[-1]
    distinct = 1 - torch.eye(k, dtype=forms.dtype, device=forms.device)
    forms = forms.movedim(0, 1)
    own = forms.diagonal(dim1=-2, dim2=-1)
    mixed = (forms * distinct).flatten(2)
    return own.flatten(2) @ (own @ distinct).flatten(2).mT - mixed @ mixed.mT


def _direction(name: str, w: Tensor, jet: Jet) -> Float[Tensor, "batch k"]:
    batch, _, k = jet.first.shape
    if not isinstance(w, Tensor) or tuple(w.shape) not in ((k,), (batch, k)):
        came = f"shape {tuple(w.shape)}" if isinstance(w, Tensor) else f"type {type(w).__name__}"
        raise ValueError(f"{name} has {came}; pass coordinates in the jet's basis, ({k},) or ({batch}, {k})")
    return lift(w.to(jet.first.device)).expand(batch, k)
