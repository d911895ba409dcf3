"""The metric against autograd and closed forms; ellipses against points that lie on them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labkit import Linearization
from labkit.geometry import metric

F64 = torch.float64


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def plane(longer: float, shorter: float, angle: float) -> Tensor:
    """The metric of an ellipse with these semi-axes, the longer at this angle."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]], dtype=F64)
    return turn @ torch.tensor([longer**-2, shorter**-2], dtype=F64).diag() @ turn.mT


class TestPullback:
    def test_equals_autograd(self) -> None:
        A, B = gaussian(4, 3, seed=1), gaussian(5, 4, seed=2)
        x = gaussian(6, 3)
        J = torch.stack([torch.autograd.functional.jacobian(lambda v: B @ torch.tanh(A @ v), each) for each in x])
        first = (1 - torch.tanh(x @ A.mT).square())[:, :, None] * A
        g = metric.pullback_metric(Linearization([first, B.expand(6, 5, 4)]))
        torch.testing.assert_close(g, J.mT @ J)

    def test_depths_and_basis(self) -> None:
        lin = Linearization([gaussian(2, 4, 3, seed=1), gaussian(2, 2, 4, seed=2)])
        basis = torch.linalg.qr(gaussian(2, 3, 2, seed=3))[0]
        g = metric.pullback_metric(lin, basis, depths=[2, 0, 1])
        assert g.shape == (3, 2, 2, 2)
        pushed = lin.dense() @ basis
        torch.testing.assert_close(g[0], pushed.mT @ pushed)
        torch.testing.assert_close(g[1], torch.eye(2, dtype=F64).expand(2, 2, 2))
        torch.testing.assert_close(g[2], (lin[0] @ basis).mT @ (lin[0] @ basis))
        torch.testing.assert_close(metric.pullback_metric(lin, basis[1])[1], g[0, 1])

    def test_batch_of_five_equals_a_loop(self) -> None:
        lin = Linearization([gaussian(5, 4, 3, seed=1), gaussian(5, 4, 4, seed=2)])
        g = metric.pullback_metric(lin)
        for sample in (4, 3, 0):
            alone = metric.pullback_metric(Linearization([J[sample : sample + 1] for J in lin]))
            torch.testing.assert_close(g[sample], alone[0])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_dtype_is_that_of_the_links(self, dtype: torch.dtype) -> None:
        lin = Linearization([gaussian(2, 3, 3, seed=1).to(dtype)] * 2)
        g = metric.pullback_metric(lin)
        assert g.dtype == dtype
        J = lin[0].double() @ lin[0].double()
        torch.testing.assert_close(
            g.double(), J.mT @ J, rtol=8 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps * 8
        )

    def test_derivative_equals_finite_differences(self) -> None:
        A, C, w = gaussian(2, 3, 3, seed=1), gaussian(2, 3, 3, seed=2), gaussian(2, 3, 3, seed=3)

        def at(t: Tensor | float) -> Tensor:
            return (metric.pullback_metric(Linearization([A + t * C, A - t * C])) * w).sum()

        t = torch.zeros((), dtype=F64, requires_grad=True)
        (slope,) = torch.autograd.grad(at(t), t)
        assert slope.item() == pytest.approx(float(at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-8)

    def test_bad_input_is_refused(self) -> None:
        lin = Linearization([torch.eye(3)[None]])
        with pytest.raises(TypeError, match="lin is a Tensor"):
            metric.pullback_metric(torch.eye(3))
        with pytest.raises(ValueError, match="not orthonormal"):
            metric.pullback_metric(lin, 2 * torch.eye(3))
        with pytest.raises(ValueError, match="dependent"):
            metric.pullback_metric(lin, torch.ones(3, 2) / 3**0.5)
        with pytest.raises(ValueError, match=r"has shape \(2, 2\)"):
            metric.pullback_metric(lin, torch.eye(2))
        with pytest.raises(ValueError, match="depths holds 2"):
            metric.pullback_metric(lin, depths=[2])


class TestLengthsAndAngles:
    def test_are_those_of_the_pushed_vectors(self) -> None:
        J, u, v = gaussian(7, 4, 3, seed=1), gaussian(7, 3, seed=2), gaussian(7, 3, seed=3)
        g = J.mT @ J
        Ju, Jv = ((J @ each[..., None])[..., 0] for each in (u, v))
        torch.testing.assert_close(metric.inner(g, u, v), (Ju * Jv).sum(-1))
        torch.testing.assert_close(metric.norm(g, u), Ju.norm(dim=-1))
        cosine = (Ju * Jv).sum(-1) / (Ju.norm(dim=-1) * Jv.norm(dim=-1))
        torch.testing.assert_close(metric.angle(g, u, v), cosine.arccos())

    def test_broadcast_over_vectors(self) -> None:
        g, v = gaussian(3, 2, 2).mT @ gaussian(3, 2, 2), gaussian(2)
        assert metric.norm(g, v).shape == (3,)

    @given(st.floats(1e-12, math.pi))
    def test_small_angles_keep_their_digits(self, angle: float) -> None:
        u = torch.tensor([1.0, 0.0], dtype=F64)
        v = torch.tensor([math.cos(angle), math.sin(angle)], dtype=F64)
        found = metric.angle(torch.eye(2, dtype=F64), u, 3 * v)
        assert found.item() == pytest.approx(angle, rel=1e-3 if angle < 1e-8 else 1e-7)

    @pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
    def test_sizes_whose_squares_do_not_fit(self, size: float) -> None:
        u, v = size * torch.tensor([3.0, 0.0]), torch.tensor([0.0, size])
        for g in (torch.eye(2), size * torch.eye(2)):
            assert metric.angle(g, u, v).item() == pytest.approx(math.pi / 2, rel=1e-6)
        assert metric.norm(torch.eye(2), u).item() == pytest.approx(3 * size, rel=1e-6)
        assert metric.norm(torch.eye(2) / size, u).item() == pytest.approx(3 * size**0.5, rel=1e-6)

    def test_an_unseen_vector_has_no_angle(self) -> None:
        g = torch.tensor([1.0, 0.0], dtype=F64).diag()
        assert metric.angle(g, torch.tensor([0.0, 1.0], dtype=F64), torch.tensor([1.0, 0.0], dtype=F64)).isnan()


class TestEllipse:
    @given(st.floats(1e-3, 1e3), st.floats(0.0, 6.0), st.floats(-1.57, 1.57))
    def test_recovers_axes_and_angle(self, size: float, log_ratio: float, angle: float) -> None:
        ratio = math.exp(log_ratio)
        found = metric.ellipse(plane(size * ratio, size, angle))
        torch.testing.assert_close(
            found.semi_axes, torch.tensor([size * ratio, size], dtype=F64), rtol=1e-15 * 20 * ratio**2, atol=0
        )
        if ratio > 1.1:
            assert abs(math.sin(found.angle.item() - angle)) < 1e-13
            assert -math.pi / 2 < found.angle <= math.pi / 2

    def test_its_axes_lie_on_it(self) -> None:
        J = gaussian(50, 2, 2)
        g = J.mT @ J
        found = metric.ellipse(g)
        for axis, turn in ((0, 0.0), (1, math.pi / 2)):
            at = found.angle + turn
            v = found.semi_axes[:, axis, None] * torch.stack([at.cos(), at.sin()], -1)
            torch.testing.assert_close(metric.norm(g, v), torch.ones(50, dtype=F64), rtol=1e-9, atol=0)

    def test_distortion_and_volume_are_those_of_the_singular_values(self) -> None:
        J = gaussian(50, 3, 2)
        found, stretches = metric.ellipse(J.mT @ J), torch.linalg.svdvals(J).log()
        torch.testing.assert_close(found.log_distortion, stretches[:, 0] - stretches[:, 1])
        torch.testing.assert_close(found.log_volume, stretches.sum(1))

    def test_a_metric_that_is_not_definite_has_no_finite_distortion(self) -> None:
        for g in (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)):
            assert metric.ellipse(g).log_distortion.isposinf()
            assert metric.ellipse(g).log_volume.isneginf()

    def test_of_axes_of_any_size(self) -> None:
        g = torch.tensor([[1e-140, 1e140], [1e30, 1e-30], [4.0, 4.0]], dtype=F64).diag_embed()
        found = metric.ellipse(g)
        torch.testing.assert_close(
            found.semi_axes, torch.tensor([[1e70, 1e-70], [1e15, 1e-15], [0.5, 0.5]], dtype=F64), rtol=1e-14, atol=0
        )
        torch.testing.assert_close(found.angle, torch.tensor([0.0, math.pi / 2, 0.0], dtype=F64))

    @pytest.mark.parametrize("entries", [(1e300, 1e-300), (1e-310, 4e-310), (5e-324, 1e308)])
    def test_axes_whose_squares_and_products_leave_float64(self, entries: tuple[float, float]) -> None:
        found = metric.ellipse(torch.diag(torch.tensor(entries, dtype=F64))).semi_axes
        expected = sorted((entry**-0.5 for entry in entries), reverse=True)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=1e-14, atol=0)

    def test_a_small_product_keeps_the_slant(self) -> None:
        g = torch.tensor([[1e300, 1.0], [1.0, 1e-299]], dtype=F64)  # det 10 - 1
        torch.testing.assert_close(metric.ellipse(g).log_volume.exp(), torch.tensor(3.0, dtype=F64), rtol=1e-10, atol=0)

    def test_integers_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"g is torch\.int64; a floating"):
            metric.ellipse(torch.eye(2, dtype=torch.int64))

    def test_a_strong_shear_keeps_its_digits(self) -> None:
        a = 2.0**20  # J = [[1, a], [0, 1]]: det g = 1 although the entries of g reach a²
        g = torch.tensor([[1.0, a], [a, a * a + 1]], dtype=F64)
        found = metric.ellipse(g).semi_axes
        longest = math.sqrt((a * a + 2 + a * math.sqrt(a * a + 4)) / 2)
        torch.testing.assert_close(found, torch.tensor([longest, 1 / longest], dtype=F64), rtol=1e-15 * 8, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_what_is_not_seen_is_infinite(self, dtype: torch.dtype) -> None:
        row = gaussian(20, 1, 2, seed=1).to(dtype)
        found = metric.ellipse(row.mT @ row)
        assert found.semi_axes[:, 0].isposinf().all()
        torch.testing.assert_close(found.semi_axes[:, 1], 1 / row.norm(dim=-1)[:, 0])
        nothing = metric.ellipse(torch.zeros(2, 2, dtype=dtype))
        assert nothing.semi_axes.isposinf().all()
        assert nothing.angle == 0

    @pytest.mark.parametrize(
        ("g", "said"),
        [
            (torch.eye(3), "has shape"),
            (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
            (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "semi-definite"),
            (-torch.eye(2), "semi-definite"),
            (torch.full((2, 2), torch.nan), "finite"),
        ],
    )
    def test_bad_input_is_refused(self, g: Tensor, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            metric.ellipse(g)


@pytest.mark.cuda
def test_stays_on_the_device() -> None:
    lin = Linearization([gaussian(3, 2, 2).cuda()] * 2)
    g = metric.pullback_metric(lin, torch.eye(2, device="cuda"))
    there = metric.ellipse(g)
    assert g.is_cuda
    assert there.semi_axes.is_cuda
    here = metric.ellipse(metric.pullback_metric(Linearization([gaussian(3, 2, 2)] * 2)))
    torch.testing.assert_close(there.semi_axes.cpu(), here.semi_axes)
