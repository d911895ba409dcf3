"""Chains built to break a spectrum: each value must be right, or covered by the error that stands beside it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from labkit import Chain, Linearization
from labkit.geometry import spectra

F64 = torch.float64
Links = list[Tensor]


class Source:
    """Random matrices, reproducible by a seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def gaussian(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=F64)

    def orthogonal(self, n: int) -> Tensor:
        return torch.linalg.qr(self.gaussian(n, n))[0]

    def stretched(self, n: int, nats: float) -> Tensor:
        return self.orthogonal(n) @ torch.linspace(0, -nats, n, dtype=F64).exp().diag() @ self.orthogonal(n)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=F64)


def there_and_back(source: Source, links: int) -> Links:
    out = [source.gaussian(6, 6) for _ in range(links)]
    return out + [torch.linalg.inv(A) for A in reversed(out)]


def once_and_back(source: Source, links: int, inverse_first: bool) -> Links:
    A = source.gaussian(6, 6)
    pair = [A] * links, [torch.linalg.inv(A)] * links
    return pair[1] + pair[0] if inverse_first else pair[0] + pair[1]


def hilbert(n: int) -> Tensor:
    return matrix(*([1 / (i + j + 1) for j in range(n)] for i in range(n)))


def jordan(n: int) -> Tensor:
    return 0.5 * torch.eye(n, dtype=F64) + torch.ones(n - 1, dtype=F64).diag(1)


def kahan(n: int) -> Tensor:
    return (0.43 ** torch.arange(n, dtype=F64)).diag() @ (
        torch.eye(n, dtype=F64) - 0.9 * torch.ones(n, n, dtype=F64).triu(1)
    )


def graded(s: Source, n_links: int, side: str) -> Links:
    c = torch.tensor([1.0, 1e-20, 1e-9, 1.0, 1e-5], dtype=F64)
    W = [s.gaussian(5, 5) for _ in range(n_links)]
    return [c[:, None] * w for w in W] if side == "rows" else [w * c for w in W]


def turning_hyperbolas(turns: int) -> Links:
    c, s = math.cos(0.3), math.sin(0.3)
    stretch, turn = matrix([2, 0], [0, 0.5]), matrix([c, -s], [s, c])
    return [J for i in range(turns) for J in (stretch, turn.T if i % 2 else turn, torch.linalg.inv(stretch))]


def growing_unequally(s: Source) -> Links:
    return [s.gaussian(5, 5) * math.exp(x) for x in (300, -300, 700, -700, -740, 600)]


SHEAR = matrix([1e-3, 1], [0, 1])
ATTACKS: dict[str, Callable[[Source], Links]] = {
    "triangular once": lambda s: [SHEAR],
    "triangular five times": lambda s: [SHEAR] * 5,
    "triangular twenty times": lambda s: [SHEAR] * 20,
    "triangular sixty times": lambda s: [SHEAR] * 60,
    "unipotent": lambda s: [matrix([1, 1], [0, 1])] * 50,
    "jordan blocks": lambda s: [jordan(4)] * 40,
    "companion matrices": lambda s: [matrix([0, 0, 0, -24], [1, 0, 0, 50], [0, 1, 0, -35], [0, 0, 1, 10])] * 25,
    "kahan": lambda s: [kahan(6)] * 20,
    "hilbert of condition 1e7": lambda s: [hilbert(6)] * 10,
    "hilbert of condition 1e13": lambda s: [hilbert(10)] * 4,
    "vandermonde": lambda s: [torch.vander(torch.linspace(0.1, 2, 7, dtype=F64))] * 6,
    **{f"there and back, {n} links": lambda s, n=n: there_and_back(s, n) for n in (1, 2, 4, 8, 12, 30)},
    "one map and its inverse": lambda s: once_and_back(s, 10, inverse_first=False),
    "the inverse first": lambda s: once_and_back(s, 20, inverse_first=True),
    "turning hyperbolas": lambda s: turning_hyperbolas(30),
    "links of e^300": lambda s: [s.gaussian(5, 5) * math.exp(300) for _ in range(6)],
    "links of e^-300": lambda s: [s.gaussian(5, 5) * math.exp(-300) for _ in range(6)],
    "links of e^±700": growing_unequally,
    "diagonal e^±300": lambda s: [torch.tensor([300.0, -300, 0, 20, -20], dtype=F64).exp().diag()] * 3,
    "subnormal entries": lambda s: [matrix([1.1e-309, 1e-310], [1e-310, 1e-310]), s.gaussian(2, 2)],
    "rows of very different size": lambda s: graded(s, 4, "rows"),
    "columns of very different size": lambda s: graded(s, 4, "columns"),
    "rows and columns in turn": lambda s: graded(s, 2, "rows") + graded(s, 2, "columns") + graded(s, 2, "rows"),
    "a swap with a tiny gain": lambda s: [matrix([1, 0], [0, 1e-25])] + [matrix([0, 1], [1e-20, 0])] * 2,
    "stretched by 14 nats": lambda s: [s.stretched(6, 14) for _ in range(20)],
    "stretched by 30 nats": lambda s: [s.stretched(6, 30) for _ in range(10)],
    "nearly singular": lambda s: [matrix([1, 1], [1, 1 + 2**-40])] * 4,
    "ties: orthogonal": lambda s: [s.orthogonal(6) for _ in range(100)],
    "ties: permutations": lambda s: [torch.eye(6, dtype=F64).roll(i, 0) for i in range(20)],
    "ties in pairs": lambda s: [
        s.orthogonal(6) @ torch.tensor([2.0, 2, 1, 1, 0.5, 0.5], dtype=F64).diag() @ s.orthogonal(6) for _ in range(20)
    ],
    "identity": lambda s: [torch.eye(4, dtype=F64)] * 7,
    "residual": lambda s: [torch.eye(6, dtype=F64) + 0.1 * s.gaussian(6, 6) for _ in range(60)],
    "width 1": lambda s: [s.gaussian(1, 1) for _ in range(50)],
    "depth 1": lambda s: [s.gaussian(5, 5)],
    "bottleneck": lambda s: [s.gaussian(2, 6), s.gaussian(6, 2), s.gaussian(6, 6), s.gaussian(3, 6)],
    "wide in the middle": lambda s: [s.gaussian(7, 1), s.gaussian(9, 7), s.gaussian(4, 9)],
    "classifier": lambda s: [s.gaussian(8, 8) for _ in range(8)] + [s.gaussian(3, 8)],
    "zero in the middle": lambda s: [s.gaussian(4, 4), torch.zeros(4, 4, dtype=F64), s.gaussian(4, 4)],
    "nilpotent": lambda s: [torch.ones(4, dtype=F64).diag(1)] * 3,
    "nilpotent to zero": lambda s: [torch.ones(4, dtype=F64).diag(1)] * 5,
    "twin columns": lambda s: [matrix([1, 1, 0], [0, 0, 1], [0, 0, 0])] * 2,
    "relu, rows": lambda s: [(s.gaussian(8, 1) > -0.7).double() * s.gaussian(8, 8) for _ in range(20)],
    "relu, columns": lambda s: [s.gaussian(8, 8) * (s.gaussian(1, 8) > -0.7).double() for _ in range(20)],
    "relu after 200 residual links": lambda s: (
        [torch.eye(3, dtype=F64) + 0.3 * s.gaussian(3, 3) for _ in range(200)]
        + [(s.gaussian(3, 1) > -1).double() * s.gaussian(3, 3)]
    ),
}


@pytest.mark.parametrize("adjoint", [False, True], ids=["", "adjoint"])
@pytest.mark.parametrize("name", ATTACKS)
def test_right_or_covered(exact: Callable[[Links], Tensor], name: str, adjoint: bool) -> None:
    links = ATTACKS[name](Source(1))
    if adjoint:
        links = [J.mT.contiguous() for J in reversed(links)]
    lin, right = Linearization([J[None] for J in links]), exact(links)
    spec = spectra.log_spectrum(lin)
    values, error = spec.values[0], spec.error[0]

    assert torch.equal(values.isneginf(), right.isneginf())
    finite = right.isfinite()
    wrong = (values - right)[finite].abs()
    assert (wrong <= error[finite] + 1e-11).all(), f"wrong by {wrong.max():.1e}, said {error[finite].tolist()}"
    assert error[~finite].eq(0).all()
    assert (values[:-1] >= values[1:]).all()
    volume = spectra.log_volume(lin)
    if finite.all():
        allowed = error.sum() + 1e-10
        assert allowed.isinf() or (volume - right.sum()).abs() <= 3 * allowed
    else:
        assert volume.isneginf()


SHARP = set(ATTACKS) - {"there and back, 30 links", "hilbert of condition 1e13", "the inverse first"}
SHARP -= {"stretched by 30 nats", "nearly singular", "hilbert of condition 1e7"}


@pytest.mark.parametrize("name", sorted(SHARP))
def test_error_is_no_excuse(name: str) -> None:
    spec = spectra.log_spectrum(Linearization([J[None] for J in ATTACKS[name](Source(1))]))
    assert spec.error.max() < 1e-7


def test_no_digits_are_admitted() -> None:
    error = spectra.log_spectrum(Linearization([J[None] for J in there_and_back(Source(1), 30)])).error
    assert error.isinf().any()


def test_folds_that_round_alike_are_told_apart() -> None:
    """What is left of each cancellation is an ulp or two, and the three refolds used to agree in it by chance."""
    out = [Source(seed).gaussian(400, 2, 2) * torch.tensor([1e80, 1.0], dtype=F64) for seed in (0, 1)]
    back = [torch.linalg.inv(A) for A in reversed(out)]
    assert spectra.log_spectrum(Linearization([*out, *back])).error.isinf().all()


def test_no_samples_have_no_errors() -> None:
    assert spectra.log_spectrum(Linearization([torch.zeros(0, 3, 3)])).error.shape == (0, 3)


def test_nonnormality_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lin\[1\] holds NaN"):
        spectra.nonnormality(Linearization([torch.eye(2)[None], torch.full((1, 2, 2), math.nan)]))


class TestNumericalRank:
    """Links that are singular but for the rounding of their entries lose rank, whatever stands before them."""

    @pytest.mark.parametrize("repeat", [1, 5])
    def test_projection_along_an_earlier_direction(self, repeat: int) -> None:
        Q = Source(3).orthogonal(5)
        stretch = Q @ torch.tensor([5.0, 4, 3, 2, 1], dtype=F64).diag() @ Q.mT
        project = Q @ torch.tensor([1.0, 1, 1, 0, 0], dtype=F64).diag() @ Q.mT
        spec = spectra.log_spectrum(Linearization([J[None] for J in [stretch, project] * repeat]))
        expected = repeat * torch.tensor([5.0, 4, 3], dtype=F64).log()
        torch.testing.assert_close(spec.values[0, :3], expected, rtol=0, atol=1e-12)
        assert spec.rank.item() == 3
        assert spec.error[0, 3:].eq(0).all()

    def test_low_rank_products(self) -> None:
        s = Source(4)
        links = [(s.gaussian(50, 6, 4) @ s.gaussian(50, 4, 6)) for _ in range(5)]
        lin = Linearization(links)
        assert spectra.log_spectrum(lin, depths=range(1, 6)).rank.eq(4).all()
        assert spectra.log_volume(lin, depths=range(1, 6)).isneginf().all()

    @pytest.mark.parametrize("least", [1e-12, 1e-13])
    def test_a_small_value_of_one_dense_link_is_kept_or_in_doubt(self, least: float) -> None:
        s, log_s = Source(6), torch.ones(64, dtype=F64)
        log_s[-1] = least
        links = torch.stack([s.orthogonal(64) * log_s @ s.orthogonal(64) for _ in range(10)])
        spec = spectra.log_spectrum(Linearization([links]))
        last, error = spec.values[:, -1], spec.error[:, -1]
        lost = last.isneginf()
        assert error[lost].isinf().all()
        assert ((last - math.log(least)).abs() < 3 * error + 1e-3)[~lost].all()
        assert lost.any() == (least < 1e-12)

    def test_values_of_a_transformer_block_are_kept_or_in_doubt(self) -> None:
        for seed in range(5):
            torch.manual_seed(seed)
            block = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True).double().eval()
            spec = spectra.log_spectrum(Chain([block]).linearize(torch.randn(1, 8, 8, dtype=F64)))
            certain = spec.values[0, spec.error[0].isfinite()]
            assert spec.values[0, :54].isfinite().all()
            assert certain.isneginf().sum() == 8  # LayerNorm's, one a token

    def test_centring(self) -> None:
        s = Source(5)
        centre = torch.eye(6, dtype=F64) - 1 / 6
        lin = Linearization([J[None] for J in [centre, s.gaussian(6, 6)] * 4])
        assert spectra.log_spectrum(lin).rank.item() == 5

    @pytest.mark.parametrize("n", [4, 16, 64])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_many_deep_relu_chains(self, n: int, dtype: torch.dtype) -> None:
        s = Source(n)
        links, alive, before = [], torch.full((40,), n), torch.ones(40, n, dtype=dtype)
        for i in range(40):
            mask = (s.gaussian(40, n) > -0.5).to(dtype)
            W = (s.gaussian(40, n, n) / n**0.5).to(dtype)
            links.append(mask[:, :, None] * W if i % 4 < 2 else W * mask[:, None, :])
            meets = i % 4 == 2  # the columns of this link meet the rows of the one before
            alive = torch.minimum(alive, ((before * mask) if meets else mask).sum(-1).long())
            before = mask
        spec = spectra.log_spectrum(Linearization(links))
        assert torch.equal(spec.rank, alive)

    def test_a_value_far_below_all_others_is_kept(self) -> None:
        spec = spectra.log_spectrum(Linearization([torch.tensor([[[1.0, 0.0], [0.0, 1e-200]]], dtype=F64)] * 3))
        torch.testing.assert_close(spec.values, torch.tensor([[0.0, -600 * math.log(10)]], dtype=F64))
