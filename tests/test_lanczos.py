"""The matrix-free engine against dense decompositions."""

import pytest
import torch
from torch import Tensor

from labkit import Linearization
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
