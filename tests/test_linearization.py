"""A linearization against explicit products, for every association, frame, slice and adjoint."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit import Chain, Linearization
from labkit.linearization import Jacobian


def matrices(sizes: list[int], batch: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, m, n, dtype=torch.float64, generator=generator) for n, m in pairwise(sizes)]


def product(jacobians: list[Tensor]) -> Tensor:
    out = jacobians[0]
    for jac in jacobians[1:]:
        out = torch.einsum("bij,bjk->bik", jac, out)
    return out


def lazily(lin: Linearization) -> Linearization:
    return Linearization([Jacobian(jac.__matmul__, jac.mT.__matmul__, jac.shape, jac.dtype, jac.device) for jac in lin])


@given(st.lists(st.integers(1, 6), min_size=2, max_size=7), st.booleans(), st.integers(0, 99))
def test_dense_push_and_adjoint_are_the_product(sizes, lazy, seed):
    jacobians = matrices(sizes, seed=seed)
    lin, expected = Linearization(jacobians), product(jacobians)
    lin = lazily(lin) if lazy else lin
    frame, rows = torch.ones(sizes[0], 2, dtype=torch.float64), torch.ones(3, sizes[-1], 2, dtype=torch.float64)
    assert lin.sizes == sizes
    torch.testing.assert_close(lin.dense(), expected)
    torch.testing.assert_close(lin @ frame, expected @ frame)
    torch.testing.assert_close(lin.mT @ rows, expected.mT @ rows)
    torch.testing.assert_close(lin.mT.dense(), expected.mT)


@pytest.mark.parametrize("lazy", [False, True])
def test_prefixes_are_every_depth_of_the_product(lazy):
    jacobians = matrices([3, 5, 2, 4])
    lin = lazily(Linearization(jacobians)) if lazy else Linearization(jacobians)
    found = list(lin.prefixes())
    assert [tuple(p.shape) for p in found] == [(3, 3, 3), (3, 5, 3), (3, 2, 3), (3, 4, 3)]
    torch.testing.assert_close(found[0], torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    for depth in (1, 2, 3):
        torch.testing.assert_close(found[depth], product(jacobians[:depth]))
    basis = torch.linalg.qr(torch.randn(3, 3, 2, dtype=torch.float64))[0]
    for depth, pushed in enumerate(lin.prefixes(basis)):
        torch.testing.assert_close(pushed, found[depth] @ basis)


def test_prefixes_of_the_adjoint_are_the_suffixes():
    jacobians = matrices([3, 5, 2, 4])
    suffix = list(Linearization(jacobians).mT.prefixes())[2]
    torch.testing.assert_close(suffix.mT, product(jacobians[1:]))


def test_prefixes_apply_each_link_once():
    calls = []

    def counted(index: int, jac: Tensor) -> Jacobian:
        def push(v: Tensor) -> Tensor:
            calls.append(index)
            return jac @ v

        return Jacobian(push, jac.mT.__matmul__, jac.shape, jac.dtype, jac.device)

    lin = Linearization([counted(i, jac) for i, jac in enumerate(matrices([2, 3, 4, 2]))])
    list(lin.prefixes())
    assert calls == [0, 1, 2]


def test_slices_and_properties():
    jacobians = matrices([3, 5, 2, 4])
    lin = Linearization(jacobians)
    assert len(lin) == 3
    assert lin[1:].sizes == [5, 2, 4]
    assert lin[-1] is jacobians[-1]
    assert list(lin) == jacobians
    assert (lin.batch, lin.dtype, lin.device.type, lin.is_dense) == (3, torch.float64, "cpu", True)
    assert not lazily(lin).is_dense
    assert "3 dense links" in repr(lin)


def test_bottleneck_is_never_multiplied_at_full_width():
    seen = []

    def spy(jac: Tensor) -> Jacobian:
        def record(matrix: Tensor):
            def push(v: Tensor) -> Tensor:
                seen.append(v.shape[-1])
                return matrix @ v

            return push

        return Jacobian(record(jac), record(jac.mT), jac.shape, jac.dtype, jac.device)

    jacobians = matrices([50, 40, 2, 40, 50])
    torch.testing.assert_close(Linearization([spy(jac) for jac in jacobians]).dense(), product(jacobians))
    assert set(seen) == {2}


def test_lazy_jacobian_has_the_face_of_a_tensor():
    chain = Chain([nn.Linear(4, 3).double(), torch.sin])
    lin = chain.linearize(torch.randn(2, 4, dtype=torch.float64), dense=False)
    first = lin[0]
    assert isinstance(first, Jacobian)
    assert (first.shape, first.mT.shape, first.ndim) == ((2, 3, 4), (2, 4, 3), 3)
    assert (first.dtype, first.device.type) == (torch.float64, "cpu")
    torch.testing.assert_close(first.dense(), chain[0].weight.expand(2, 3, 4))
    torch.testing.assert_close(first.mT.dense(), first.dense().mT)


def test_lazy_results_are_detached():
    x = torch.randn(2, 4, requires_grad=True)
    lin = Chain([nn.Linear(4, 3), nn.Softmax(-1)]).linearize(x, dense=False)
    assert not (lin @ torch.ones(4, 1)).requires_grad
    assert not (lin.mT @ torch.ones(3, 1)).requires_grad


def test_dense_differentiates_in_matrices():
    jacobians = [jac.requires_grad_() for jac in matrices([2, 3, 2], batch=2)]
    assert torch.autograd.gradcheck(lambda *js: Linearization(list(js)).dense(), jacobians)


BAD = {
    "empty": ([], ValueError, "at least one link"),
    "no batch": ([torch.ones(2, 2)], ValueError, "batch axis first"),
    "orders": (matrices([2, 3, 4])[::-1], ValueError, "order the links first applied first"),
    "batches": ([torch.ones(2, 3, 3), torch.ones(1, 3, 3)], ValueError, "batch 1, torch.float32 on cpu"),
    "integers": ([torch.ones(2, 3, 3).long()], TypeError, r"jacobians\[0\] is torch.int64; give a floating tensor"),
    "complex": ([torch.ones(2, 3, 3).cfloat()], TypeError, "torch.complex64; give a floating tensor"),
    "numpy": ([torch.ones(2, 3, 3).numpy()], TypeError, r"jacobians\[0\] is a ndarray; give a floating tensor"),
    "no numbers": ([torch.ones(2, 0, 3)], ValueError, "at least one number"),
    "dtypes": ([torch.ones(2, 3, 3), torch.ones(2, 3, 3).double()], ValueError, "batch 2, torch.float64"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_matrices_are_refused(name):
    jacobians, error, message = BAD[name]
    with pytest.raises(error, match=message):
        Linearization(jacobians)


@pytest.mark.parametrize("shape", [(2, 1), (3,), (4, 3, 1), (1, 3, 3, 1)])
def test_frame_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"give columns \(3, 3, k\) or \(3, k\)"):
        Linearization(matrices([3, 2])) @ torch.ones(shape, dtype=torch.float64)


def test_frame_of_another_dtype_is_refused():
    with pytest.raises(TypeError, match=r"frame is torch\.float32 but the Jacobians are torch\.float64"):
        Linearization(matrices([3, 2])) @ torch.ones(3, 1)


def test_empty_slice_is_refused():
    with pytest.raises(ValueError, match="jacobians is empty"):
        Linearization(matrices([3, 2]))[1:]
