"""Actions of the circle on pictures by orthogonal matrices T(t) = exp(tG): a turn, and a shift, both without loss.

Pixels do not turn, functions do: each action comes with the interpolation that makes it an exact group.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

__all__ = ["CircleAction", "rotation", "shift"]


@dataclass(frozen=True, eq=False)
class CircleAction:
    """The one-parameter group T(t) = exp(tG) of orthogonal matrices, with T(s) T(t) = T(s + t) and T(period) = 1.

    Attributes:
        generator: (n, n), antisymmetric, its eigenvalues whole multiples of 2πi / period.
        period: the t after which everything is back where it was.

    Raises:
        ValueError: if the generator is not square and antisymmetric, or exp(period · G) is not the identity.

    Example:
        >>> turn = CircleAction(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64), 2 * math.pi)
        >>> turn.move(torch.tensor([[1.0, 0.0]], dtype=torch.float64), math.pi / 2).round(decimals=12)
        tensor([[0., 1.]], dtype=torch.float64)
    """

    generator: Float[Tensor, "n n"]
    period: float

    def __post_init__(self) -> None:
        G = self.generator
        size = float(G.abs().max())
        if not float((G + G.mT).abs().max()) <= 1e-9 * size:
            raise ValueError("generator is not antisymmetric, so exp(tG) is not orthogonal; give G with Gᵀ = −G")
        if not self._off_integer() < 1e-6:
            raise ValueError(
                f"exp({self.period:g} G) is not the identity; eigenvalues of G multiples of 2πi/period would do"
            )

    @cached_property
    def _eigen(self) -> tuple[Float[Tensor, "n"], Complex[Tensor, "n n"]]:
        """Frequencies ω and unitary U with G = U diag(iω) Uᴴ."""
        frequencies, vectors = torch.linalg.eigh(-1j * self.generator.double())
        return frequencies, vectors

    def _off_integer(self) -> float:
        turns = self._eigen[0] * self.period / (2 * math.pi)
        return float((turns - turns.round()).abs().max())

    @cached_property
    def _turns(self) -> Int[Tensor, "n"]:
        """How many times each harmonic turns in a period, with its sign."""
        return (self._eigen[0] * self.period / (2 * math.pi)).round().long()

    @cached_property
    def degrees(self) -> Int[Tensor, "n"]:
        """(n,): how many times a period each column of `harmonics` turns, ascending; 0 is what never moves.

        Example:
            >>> rotation(2).degrees
            tensor([0, 0, 1, 1])
        """
        return self._turns.abs().sort(stable=True).values

    @cached_property
    def harmonics(self) -> Float[Tensor, "n n"]:
        """(n, n) orthonormal columns in the order of `degrees`: of each degree r cosines, then their r sines.

        The action turns the plane of the j-th cosine and the j-th sine by its degree; columns of degree 0 stay.
        """
        _, U = self._eigen
        columns = []
        for degree in sorted(set(self.degrees.tolist())):
            own = U[:, self._turns == degree]
            if degree:
                columns += [math.sqrt(2) * own.real, -math.sqrt(2) * own.imag]
            else:
                projector = (own @ own.mH).real
                columns.append(torch.linalg.eigh(projector).eigenvectors[:, -own.shape[1] :])
        return torch.cat(columns, dim=1).to(self.generator)

    def matrix(self, t: Any) -> Tensor:
        """T(t), orthogonal: (*t.shape, n, n) for a number or a tensor `t`.

        Example:
            >>> T = shift(4).matrix(torch.tensor([0.5, 4.0]))
            >>> T.shape, bool((T[1] - torch.eye(16)).abs().max() < 1e-12)
            (torch.Size([2, 16, 16]), True)
        """
        phases = self._phases(t, self.generator)
        U = self._eigen[1].to(self.generator.device)
        return ((U * phases[..., None, :]) @ U.mH).real.to(self.generator.dtype)

    def move(self, x: Tensor, t: Any) -> Tensor:
        """T(t) x, row by row: x (B, n) and t a number, or (B,) with one for each row.

        Raises:
            ValueError: if x is not (B, n).
        """
        self._check(x)
        U = self._eigen[1].to(x.device, torch.promote_types(x.dtype, torch.complex64))
        return ((x.to(U.dtype) @ U.conj()) * self._phases(t, x).to(U.dtype) @ U.mT).real.to(x.dtype)

    def velocity(self, x: Tensor) -> Tensor:
        """G x, the velocity of the orbit t ↦ T(t) x at t = 0: (B, n) for x (B, n).

        Example:
            >>> blob = torch.zeros(1, 64, dtype=torch.float64)
            >>> blob[0, 27] = 1
            >>> bool(rotation(8).velocity(blob) @ blob[0] == 0)  # a step along a sphere
            True

        Raises:
            ValueError: if x is not (B, n).
        """
        self._check(x)
        return x @ self.generator.to(x).mT

    def commuting(self, W: Tensor) -> Tensor:
        """The mean of T(t)ᵀ W T(t) over the circle: the nearest matrix that commutes with the action, (n, n).

        Raises:
            ValueError: if W is not (n, n).

        Example:
            >>> turn = CircleAction(torch.tensor([[0.0, -1.0], [1.0, 0.0]]), 2 * math.pi)
            >>> turn.commuting(torch.tensor([[3.0, 1.0], [0.0, 1.0]]))
            tensor([[ 2.0000,  0.5000],
                    [-0.5000,  2.0000]])
        """
        n = len(self.generator)
        if W.shape != (n, n):
            raise ValueError(f"W has shape {tuple(W.shape)}; ({n}, {n}), as the generator has, would do")
        U = self._eigen[1].to(W.device)
        same = (self._turns[:, None] == self._turns).to(W.device)
        return (U @ torch.where(same, U.mH @ W.to(U.dtype) @ U, 0) @ U.mH).real.to(W.dtype)

    def average(self, f: Callable[[Tensor], Tensor], count: int) -> Callable[[Tensor], Tensor]:
        """The mean of f(T(t) x) over `count` equally spaced t: exactly invariant under these steps, and no others.

        Raises:
            ValueError: for a count below 1.

        Example:
            >>> half = rotation(2).average(lambda x: x, 2)
            >>> half(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).round(decimals=4)
            tensor([[2.5000, 2.5000, 2.5000, 2.5000]])
        """
        if count < 1:
            raise ValueError(f"count={count} is no mean; at least 1 would do")
        times = [self.period * k / count for k in range(count)]
        return lambda x: torch.stack([f(self.move(x, t)) for t in times]).mean(0)

    def _phases(self, t: Any, like: Tensor) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64, device=like.device)
        rate = 2 * math.pi / self.period
        return torch.exp(1j * time[..., None] * rate * self._turns.to(like.device))

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != len(self.generator):
            raise ValueError(f"x has shape {tuple(x.shape)}; flat inputs (B, {len(self.generator)}) would do")


def rotation(side: int) -> CircleAction:
    """Turns of square pictures, `side` pixels a side, about their middle: counter-clockwise as shown, t in radians.

    A picture is expanded in products of Kravchuk functions, the eigenfunctions of an oscillator that lives on `side`
    points. Products with the same sum of orders are mixed as angular momentum mixes them (Atakishiyev, Pogosyan, Vicent
    & Wolf 2001; Wolf & Vicent 2011). Smooth pictures turn like functions on the plane; sharp edges ring a little.

    Args:
        side: pixels a side, at least 2.

    Returns:
        The action on flat pictures, n = side², rows from the top, in float64, with period 2π.

    Raises:
        ValueError: if side is below 2.

    Example:
        >>> corner = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64).reshape(1, 4)
        >>> rotation(2).move(corner, math.pi).reshape(2, 2).abs().round(decimals=12)
        tensor([[0., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    _check_side(side)
    modes = _kravchuk(side)
    lift = torch.zeros(side, side, side, side, dtype=torch.float64)  # from orders (a, b), across and up, to (a', b')
    for order in range(2 * side - 1):
        low, size = max(0, order - side + 1), min(order, 2 * side - 2 - order) + 1
        for step in range(size - 1):
            a, b = low + step, order - low - step
            lift[a + 1, b - 1, a, b] = math.sqrt((step + 1) * (size - 1 - step))
    lift = lift.reshape(side**2, side**2)
    across_up = torch.einsum("ca,rb->rcab", modes, modes.flip(0)).reshape(side**2, side**2)  # row 0 is the top
    G = across_up @ (lift.mT - lift) @ across_up.mT
    return CircleAction((G - G.mT) / 2, 2 * math.pi)


def shift(side: int) -> CircleAction:
    """Shifts of square pictures to the right, t in pixels, what leaves on one side coming back on the other.

    Rows are interpolated by their Fourier series, so that every shift is orthogonal and whole pixels are exact, but for
    the fastest wave of an even number of pixels, 1, −1, 1, …: it cannot move and stay real, so it stays.

    Args:
        side: pixels a side, at least 2.

    Returns:
        The action on flat pictures, n = side², in float64, with period `side`.

    Raises:
        ValueError: if side is below 2.

    Example:
        >>> ramp = torch.tensor([[0.0, 1.0, 2.0]] * 3, dtype=torch.float64).reshape(1, 9)
        >>> shift(3).move(ramp, 1).reshape(3, 3)[0].abs().round(decimals=12)
        tensor([2., 0., 1.], dtype=torch.float64)
    """
    _check_side(side)
    wave = torch.fft.fftfreq(side, dtype=torch.float64) * side
    wave = torch.where(wave.abs() * 2 == side, 0.0, wave)
    F = torch.fft.fft(torch.eye(side, dtype=torch.float64), dim=0, norm="ortho")
    D = (F.mH @ (-2j * math.pi * wave[:, None] / side * F)).real.contiguous()
    G = torch.kron(torch.eye(side, dtype=torch.float64), (D - D.mT) / 2)
    return CircleAction(G, float(side))


def _kravchuk(side: int) -> Float[Tensor, "side side"]:
    """Columns: the eigenfunctions of the finite oscillator by order, each positive at the last point."""
    spin = (side - 1) / 2
    place = torch.arange(side, dtype=torch.float64) - spin
    off = (spin * (spin + 1) - place[:-1] * place[1:]).sqrt() / 2
    functions: Tensor = torch.linalg.eigh(-torch.diag(off, 1) - torch.diag(off, -1)).eigenvectors
    return functions * functions[-1].sign()


def _check_side(side: int) -> None:
    if side < 2:
        raise ValueError(f"side={side} has nothing to move; at least 2 pixels a side would do")
