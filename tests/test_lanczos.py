"""The matrix-free engine against dense decompositions."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from labkit import Linearization, _lanczos, _operator
from labkit._operator import Products
from labkit.geometry import spectra
from labkit.linearization import Jacobian

F64 = torch.float64


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def check(found: spectra.Singular, J: Tensor, k: int) -> None:
    right = torch.linalg.svdvals(J)[..., :k]
    torch.testing.assert_close(found.values, right, rtol=1e-12, atol=1e-12 * float(right.max()))
    scaled = found.left * found.values[..., None, :]
    torch.testing.assert_close(J @ found.right, scaled, rtol=0, atol=1e-12 * float(right.max()))
    residual = (J.mT @ found.left - found.right * found.values[..., None, :]).norm(dim=-2)
    torch.testing.assert_close(found.residual, residual, rtol=0, atol=1e-12 * float(right.max()))
    assert (found.residual <= 1e-10 * right[..., :1]).all()
    for vectors in (found.left, found.right):
        unit = torch.eye(k, dtype=F64).expand(*vectors.shape[:-2], k, k)
        torch.testing.assert_close(vectors.mT @ vectors, unit, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("m", "n", "k"), [(120, 90, 5), (90, 120, 1), (7, 7, 7), (1, 30, 1), (30, 1, 1), (5, 40, 5)])
def test_matrices(m: int, n: int, k: int) -> None:
    J = gaussian(3, m, n)
    check(spectra.top_singular_values(J, k), J, k)
    check(spectra.top_singular_values(J[0], k), J[0], k)


def test_linearization_and_its_adjoint() -> None:
    lin = Linearization([gaussian(2, 40, 30, seed=1), gaussian(2, 25, 40, seed=2), gaussian(2, 35, 25, seed=3)])
    check(spectra.top_singular_values(lin, 4), lin.dense(), 4)
    check(spectra.top_singular_values(lin.mT, 4), lin.dense().mT, 4)


def test_operator_that_only_multiplies() -> None:
    d = torch.linspace(1, 3, 400, dtype=F64)
    lazy = Jacobian(lambda V: d[:, None] * V, lambda U: d[:, None] * U, torch.Size((1, 400, 400)), F64, d.device)
    check(spectra.top_singular_values(lazy, 3), d.diag()[None], 3)


def test_ties_and_clusters() -> None:
    Q = torch.linalg.qr(gaussian(60, 60))[0]
    check(spectra.top_singular_values(Q, 3), Q, 3)
    J = Q @ torch.cat([torch.tensor([2.0, 2, 2, 2]), torch.ones(56)]).to(F64).diag() @ Q.mT
    check(spectra.top_singular_values(J, 4), J, 4)
    check(spectra.top_singular_values(J, 6), J, 6)


def test_low_rank_is_exhausted() -> None:
    J = gaussian(50, 3, seed=1) @ gaussian(3, 40, seed=2)
    check(spectra.top_singular_values(J, 3), J, 3)
    with pytest.raises(ValueError, match=r"k=4 exceeds the rank.*, 3 here"):
        spectra.top_singular_values(J, 4)
    with pytest.raises(ValueError, match="operator is zero in sample 0"):
        spectra.top_singular_values(torch.zeros(6, 6), 1)


def test_answer_does_not_depend_on_the_batch() -> None:
    J = gaussian(5, 30, 20)
    together = spectra.top_singular_values(J, 2)
    for sample in (4, 0):
        alone = spectra.top_singular_values(J[sample : sample + 1], 2)
        torch.testing.assert_close(together.values[sample], alone.values[0], rtol=1e-13, atol=0)


def test_float32_products() -> None:
    J = gaussian(80, 60)
    found = spectra.top_singular_values(J.float(), 3)
    assert found.values.dtype == F64
    torch.testing.assert_close(found.values, torch.linalg.svdvals(J)[:3], rtol=1e-5, atol=0)


def test_generator_and_detachment() -> None:
    J = gaussian(30, 20).requires_grad_()
    first = spectra.top_singular_values(J, 2, torch.Generator().manual_seed(3))
    again = spectra.top_singular_values(J, 2, torch.Generator().manual_seed(3))
    assert torch.equal(first.right, again.right)
    assert not first.values.requires_grad


def with_values(values: Tensor, m: int, n: int, seed: int = 0) -> Tensor:
    """A matrix m × n with these singular values and random directions."""
    U, V = (torch.linalg.qr(gaussian(size, len(values), seed=seed + size))[0] for size in (m, n))
    return U * values @ V.mT


def assert_honest(found: spectra.Singular, J: Tensor) -> None:
    right = torch.linalg.svdvals(J.double())[..., : found.values.shape[-1]]
    assert ((found.values - right).abs() <= found.residual).all()


RANDOM = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=F64).sort(descending=True).values
SPECTRA = {
    "many ties on top": torch.cat([2 * torch.ones(20, dtype=F64), RANDOM]),
    "a tie that k cuts": torch.cat([2 * torch.ones(3, dtype=F64), torch.ones(9, dtype=F64), 0.9 * RANDOM]),
    "a cluster of 1e-3": 1 + 1e-3 * RANDOM,
    "a cluster of 1e-6": 1 + 1e-6 * RANDOM,
    "a cluster of 1e-10": 1 + 1e-10 * RANDOM,
    "graded over 16 decades": 10 ** -torch.linspace(0, 16, 100, dtype=F64),
    "one far above": torch.cat([torch.full((1,), 1e12, dtype=F64), RANDOM]),
}


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("k", [1, 5])
def test_hard_spectra_are_exact_or_say_how_far_off(kind: str, k: int) -> None:
    J = with_values(SPECTRA[kind], 260, 230)
    found = spectra.top_singular_values(J, k)
    assert_honest(found, J)
    assert (found.residual <= 1e-9 * found.values[0]).all()


@given(
    m=st.integers(1, 24),
    n=st.integers(1, 24),
    exponent=st.integers(-300, 300),
    seed=st.integers(0, 99),
    part=st.floats(0.01, 1),
)
def test_any_size_scale_and_k(m: int, n: int, exponent: int, seed: int, part: float) -> None:
    J, k = gaussian(m, n, seed=seed), math.ceil(part * min(m, n))
    scale = math.exp(exponent)
    found = spectra.top_singular_values(J * scale, k, torch.Generator().manual_seed(seed))
    unscaled = spectra.Singular(found.values / scale, found.left, found.right, found.residual / scale)
    check(unscaled, J, k)
    assert_honest(unscaled, J)


@pytest.mark.parametrize("exponent", [-700, -600, 600, 690])
def test_scales_whose_squares_overflow(exponent: int) -> None:
    J = gaussian(80, 60) * math.exp(exponent)
    found = spectra.top_singular_values(J, 4)
    torch.testing.assert_close(found.values, torch.linalg.svdvals(J)[:4], rtol=1e-12, atol=0)
    assert ((found.residual > 0) & (found.residual < 1e-11 * found.values)).all()


def test_float32_links_whose_product_nearly_underflows() -> None:
    links = [1e-3 * gaussian(1, 50, 50, seed=seed) for seed in range(18)]
    found = spectra.top_singular_values(Linearization([J.float() for J in links]), 3)
    right = torch.linalg.svdvals(Linearization([J.float().double() for J in links]).dense())[:, :3]
    assert right.max() < 1e-35
    torch.testing.assert_close(found.values, right, rtol=1e-4, atol=0)


def test_the_basis_is_cut_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    plain = _lanczos.orthonormal

    def recording(block: Tensor, V: Tensor) -> Tensor:
        seen.append(V.shape[-1] + block.shape[-1])
        return plain(block, V)

    monkeypatch.setattr(_lanczos, "orthonormal", recording)
    J = with_values(torch.linspace(0.99, 1, 300, dtype=F64), 300, 300)
    assert_honest(spectra.top_singular_values(J, 2), J)
    assert len(seen) > 20
    assert max(seen) == 6 * (2 + 4)


def test_tolerance_stops_early_and_the_residual_tells() -> None:
    J, products = gaussian(400, 300), 0

    def counted(V: Tensor) -> Tensor:
        nonlocal products
        products += V.shape[-1]
        return J @ V

    lazy = Jacobian(counted, lambda U: J.mT @ U, torch.Size((1, 400, 300)), F64, J.device)
    found = spectra.top_singular_values(lazy, 3, tolerance=1e-3)
    few, products = products, 0
    assert_honest(spectra.Singular(found.values[0], found.left[0], found.right[0], found.residual[0]), J)
    assert 1e-8 < float((found.residual / found.values[:, :1]).max()) <= 1.1e-3
    spectra.top_singular_values(lazy, 3)
    assert few < products / 2


def test_wrong_adjoint_shows_in_the_residual() -> None:
    J = gaussian(40, 40)
    lazy = Jacobian(lambda V: J @ V, lambda U: J @ U, torch.Size((1, 40, 40)), F64, J.device)
    assert (spectra.top_singular_values(lazy, 2).residual > 0.1).all()


def test_a_search_without_progress_ends() -> None:
    J = with_values(torch.linspace(0.5, 1, 300, dtype=F64), 300, 300)
    noise = torch.Generator().manual_seed(0)
    steps = 0

    def noisy(V: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return J @ V + 1e-6 * torch.randn(1, *V.shape[-2:], generator=noise, dtype=F64)

    lazy = Jacobian(noisy, lambda U: J.mT @ U, torch.Size((1, 300, 300)), F64, J.device)
    found = spectra.top_singular_values(lazy, 2)
    assert steps < 200
    assert (found.residual > 1e-8).all()
    torch.testing.assert_close(found.values[0], torch.ones(2, dtype=F64), rtol=0, atol=5e-3)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_eigenpairs(which: str) -> None:
    H = gaussian(3, 120, 120)
    H = H + H.mT + torch.eye(120, dtype=F64)  # so that the largest magnitudes are of either sign
    found = spectra.top_eigenvalues(H, 6, which=which)
    exact = torch.linalg.eigvalsh(H)
    key = {"largest": exact, "smallest": -exact, "magnitude": exact.abs()}[which]
    exact = exact.gather(-1, key.argsort(-1, descending=True))[:, :6]
    torch.testing.assert_close(found.values, exact, rtol=0, atol=1e-11)
    assert ((found.values - exact).abs() <= found.residual).all()
    torch.testing.assert_close(H @ found.vectors, found.vectors * found.values[:, None], rtol=0, atol=1e-9)
    unit = torch.eye(6, dtype=F64).expand(3, 6, 6)
    torch.testing.assert_close(found.vectors.mT @ found.vectors, unit, rtol=0, atol=1e-12)
    alone = spectra.top_eigenvalues(H[2], 6, which=which)
    torch.testing.assert_close(alone.values, found.values[2], rtol=1e-12, atol=1e-12)


def test_eigenvalues_beyond_the_rank_are_zero() -> None:
    A = gaussian(50, 3)
    found = spectra.top_eigenvalues(A @ A.mT, 5)
    torch.testing.assert_close(found.values[3:], torch.zeros(2, dtype=F64), rtol=0, atol=1e-12)
    assert (found.values[:3] > 10).all()
    assert spectra.top_eigenvalues(torch.zeros(4, 4, dtype=F64), 2).values.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("operator", "k", "options", "message"),
    [
        (torch.ones(3, 4), 1, {}, "operator is 3 × 4; eigenvalues need a square symmetric one"),
        (gaussian(9, 9), 1, {}, "operator differs from its transpose by 1 of its size; pass a symmetric one"),
        (torch.eye(3), 4, {}, "k=4; a 3 × 3 operator has eigenvalues 1 … 3"),
        (torch.eye(3), 1, {"which": "top"}, 'which=\'top\'; pass "largest", "smallest" or "magnitude"'),
        (torch.eye(3), 1, {"tolerance": 0.0}, "tolerance=0.0; pass a relative residual between 0 and 1"),
    ],
)
def test_eigenpairs_refuse(operator: Tensor, k: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectra.top_eigenvalues(operator, k, **options)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ([[1.0]], "operator is a list; pass a linearization, or anything with shape"),
        (torch.ones(3), r"operator is a Tensor of shape \(3,\); pass a linearization"),
        (torch.ones(3, 3, dtype=torch.int64), "operator is of torch.int64; pass one of a real floating dtype"),
        (torch.ones(3, 3, dtype=torch.complex64), "operator is of torch.complex64; pass one of a real floating"),
    ],
)
def test_no_operator_is_refused(operator: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        spectra.top_singular_values(operator, 1)


@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 4), (2, 3, 0)])
def test_empty_operator_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"operator is of shape \(.*\); it needs at least one sample, row and column"):
        spectra.top_singular_values(torch.zeros(shape), 1)


def test_non_finite_products_are_refused_with_the_sample() -> None:
    J = gaussian(3, 6, 5)
    J[1, 2, 3] = torch.inf
    with pytest.raises(ValueError, match="operator gives NaN or infinity in sample 1; check the model"):
        spectra.top_singular_values(J, 1)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-3])
def test_impossible_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="pass a relative residual between 0 and 1, or None for rounding"):
        spectra.top_singular_values(torch.eye(3), 1, tolerance=tolerance)


def test_zero_sample_is_named() -> None:
    J = gaussian(3, 6, 5)
    J[2] = 0
    with pytest.raises(ValueError, match="operator is zero in sample 2, so no k is within its rank"):
        spectra.top_singular_values(J, 1)


def test_memory_is_refused_before_any_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(V: Tensor) -> Tensor:
        raise AssertionError("a product was taken")

    huge = Jacobian(never, never, torch.Size((2, 10**6, 10**6)), F64, torch.device("cpu"))
    monkeypatch.setattr(_operator, "available_bytes", lambda device: 1e9)
    said = r"the basis for k=2 .* needs 3.46 GB, 1 GB are free; 4 times fewer samples at once, or a smaller k, would do"
    with pytest.raises(MemoryError, match=said):
        spectra.top_singular_values(huge, 2)


@pytest.mark.parametrize("scale", [1e-30, 2e-30, 1e30, 2e30])
def test_products_keep_the_range_of_float32(scale: float) -> None:
    plain, V = gaussian(2, 5, 4), gaussian(2, 4, 3)
    J = Products((scale * plain).float())
    images = J.measure(V)
    largest = images.abs().amax((-2, -1))
    assert ((largest < 1.01) & (largest > 0.49)).all()
    torch.testing.assert_close(J.times_scale(images), scale * plain @ V, rtol=1e-5, atol=1e-6 * scale)
    entry = images[..., 0, 0].abs()
    torch.testing.assert_close(J.plus_log_scale(entry.log()), J.times_scale(entry).log())


@pytest.mark.parametrize("k", [0, -1, 21, True])
def test_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="a 30 × 20 operator has singular values 1 … 20"):
        spectra.top_singular_values(gaussian(30, 20), k)


@pytest.mark.cuda
def test_on_cuda() -> None:
    J = gaussian(2, 60, 50)
    found = spectra.top_singular_values(J.cuda(), 3)
    assert found.values.is_cuda
    torch.testing.assert_close(found.values.cpu(), torch.linalg.svdvals(J)[:, :3])
