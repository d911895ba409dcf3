import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit.networks import resnet
from labkit.theory.kernel_jets import correlations, kernel_jet
from labkit.theory.merging import relu_gaps
from labkit.theory.residual import BRANCHES, residual_path, stable_limit, tanh_gain_law

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/kernel_laws.json").read_text())


def rectifier(h):
    """ReLU under another name: computed by quadrature."""
    return h.clamp(min=0)


class TestRelu:
    @pytest.mark.parametrize("case", REFERENCE["relu_residual"], ids=lambda c: f"{c['sigma_w_sq']}-{c['L']}")
    def test_lengths_and_cosines(self, case):
        depth, sigma_w = case["L"], case["sigma_w_sq"] ** 0.5
        for alpha, kind in ((1.0, "unscaled"), (depth**-0.5, "stable")):
            path = residual_path("relu", depth, sigma_w, alpha=alpha)
            assert path.q[-1].item() == pytest.approx(case[f"q_ratio_{kind}"], rel=1e-11)
            assert path.c[-1].item() == pytest.approx(case[f"c_from_0_{kind}"], rel=1e-9)
            growth = depth * math.log1p(alpha**2 * sigma_w**2 / 2)
            assert path.log_gain[-1].item() == pytest.approx(growth, rel=1e-12)

    def test_closed_form_is_the_quadrature(self):
        c0 = torch.tensor([-1.0, -0.5, 0.0, 0.7, 1.0], dtype=torch.float64)
        for branch in BRANCHES:
            exact = residual_path("relu", 3, 1.3, 0.2, c0=c0, q0=0.6, branch=branch)
            summed = residual_path(rectifier, 3, 1.3, 0.2, c0=c0, q0=0.6, branch=branch)
            for name in ("q", "c", "branch_gain"):
                torch.testing.assert_close(getattr(exact, name), getattr(summed, name), rtol=1e-9, atol=1e-10)

    def test_gap_is_that_of_the_arc_cosine_map(self):
        path = residual_path("relu", 20, 2**0.5)
        torch.testing.assert_close(1 - path.c, relu_gaps(20, share=0.5), rtol=1e-12, atol=1e-14)


class TestLimit:
    def test_relu(self):
        cases = REFERENCE["relu_residual_limit"]
        weight, c0 = (torch.tensor([c[k] for c in cases], dtype=torch.float64) for k in ("sigma_w_sq", "c0"))
        end = stable_limit("relu", weight.sqrt(), c0=c0)
        assert end.c.tolist() == pytest.approx([c["c_limit"] for c in cases], rel=1e-9)
        assert end.q.tolist() == pytest.approx([c["q_ratio"] for c in cases], rel=1e-9)
        torch.testing.assert_close(end.log_gain, weight / 2)

    def test_opposite_inputs_leave_the_kink_smoothly(self):
        """From c = -1, where the flow has half a derivative, against a residual network of many layers."""
        end = stable_limit("relu", 1.0, c0=-1.0).c
        near = [residual_path("relu", depth, 1.0, alpha=depth**-0.5, c0=-1.0).c[-1] for depth in (200, 400)]
        assert (2 * near[1] - near[0]).item() == pytest.approx(end.item(), abs=2e-5)

    def test_is_where_many_layers_go(self):
        end = stable_limit("tanh", 1.4, 0.3, q0=0.5, c0=0.2)
        paths = [residual_path("tanh", n, 1.4, 0.3, alpha=n**-0.5, q0=0.5, c0=0.2) for n in (20, 40, 80)]
        for name, wanted in (("q", end.q), ("c", end.c), ("log_gain", end.log_gain)):
            coarse, middle, fine = (getattr(path, name)[-1] for path in paths)
            limit = (4 * (2 * fine - middle) - (2 * middle - coarse)) / 3
            assert limit.item() == pytest.approx(wanted.item(), abs=2e-6)

    def test_time_is_the_square_of_the_scale(self):
        one, two = stable_limit("relu", 1.5, time=1.0), stable_limit("relu", 3.0, time=0.25)
        assert one.c.item() == pytest.approx(two.c.item(), rel=1e-10)
        assert stable_limit("relu", 1.5, time=0.0, c0=0.3).c.item() == 0.3


class TestTanh:
    @pytest.mark.parametrize("case", REFERENCE["tanh_residual"], ids=lambda c: f"{c['sigma_w']}-{c['depth']}")
    def test_lengths_and_gains(self, case):
        if case["depth"] <= 100:
            path = residual_path("tanh", case["depth"], case["sigma_w"], branch="activation_last", c0=1.0)
            assert path.q[-1].item() == pytest.approx(case["q"], rel=1e-10)
            assert path.log_gain[-1].item() == pytest.approx(case["log_gain"], rel=1e-10)
        else:
            error = 0.025 if case["depth"] == 1000 else 0.013
            assert tanh_gain_law(case["depth"], case["sigma_w"]).item() == pytest.approx(case["log_gain"], rel=error)

    def test_spectral_constant_of_wide_networks(self):
        path = residual_path("tanh", 100, 1.0, alpha=0.1, branch="activation_last", c0=1.0)
        assert path.spectral_constant.item() == pytest.approx(REFERENCE["spectral_constant"]["mc_c"], rel=0.01)
        assert path.log_gain[-1].item() == pytest.approx(path.spectral_constant.item(), rel=0.01)


class TestPath:
    def test_weights_last_is_a_kernel_jet(self):
        path = residual_path("gelu", 5, 1.2, 0.3, alpha=0.4, q0=0.8, c0=-0.3)
        layers = [("gelu", 1.2, 0.3, 0.4)] * 5
        jet = kernel_jet(layers, 0.8)
        torch.testing.assert_close(path.q, jet.q)
        torch.testing.assert_close(path.c, correlations(layers, 0.8, -0.3))
        torch.testing.assert_close(path.log_gain.exp(), jet.chi_tot * jet.q / 0.8)

    def test_alpha_zero_is_the_identity(self):
        for branch in BRANCHES:
            path = residual_path("relu", 4, 3.0, 1.0, alpha=0.0, q0=0.7, c0=0.2, branch=branch)
            assert path.q.tolist() == [0.7] * 5
            assert path.c.tolist() == pytest.approx([0.2] * 5, rel=1e-15)
            assert path.log_gain.tolist() == [0.0] * 5

    def test_the_curse_of_depth(self):
        """Pre-norm ReLU at σ_w² = 2: the variance and the gain are 1 + l, so block l is one part in l."""
        path = residual_path("relu", 64, 2**0.5, branch="pre_norm")
        torch.testing.assert_close(path.q, 1 + torch.arange(65).double())
        torch.testing.assert_close(path.log_gain, torch.log1p(torch.arange(65).double()))

    def test_alpha_of_each_block(self):
        path = residual_path("linear", 3, 1.0, alpha=lambda block: block**-0.5)
        assert path.q.tolist() == pytest.approx([1, 2, 3, 4])

    def test_the_mean_of_an_activation_that_is_not_odd_piles_up(self):
        """h + α relu(W h): means m and lengths by hand for two blocks."""
        path = residual_path("relu", 2, 1.0, alpha=0.5, branch="activation_last")
        q1 = 1 + 0.25 / 2
        m1, drift = 0.5 * (1 / (2 * math.pi)) ** 0.5, 0.5 * (q1 / (2 * math.pi)) ** 0.5
        assert path.q.tolist() == pytest.approx([1, q1, q1 + 2 * m1 * drift + 0.25 * q1 / 2], rel=1e-12)

    def test_overflow_is_inf(self):
        path = residual_path("relu", 3, 1e120)
        assert path.q.tolist() == pytest.approx([1, 5e239, math.inf, math.inf])
        assert bool(path.c[2:].isnan().all())

    def test_a_grid_is_a_loop(self):
        sigma_w, c0 = torch.tensor([0.5, 1.5]).double(), torch.tensor([[0.0], [0.8]]).double()
        grid = residual_path("tanh", 3, sigma_w, 0.1, c0=c0, branch="pre_norm")
        one = residual_path("tanh", 3, sigma_w[1], 0.1, c0=c0[1, 0], branch="pre_norm")
        torch.testing.assert_close(grid.c[:, 1, 1], one.c)

    def test_derivatives(self):
        def end(sigma_w, alpha, q0, c0):
            path = residual_path("tanh", 2, sigma_w, 0.3, alpha=alpha, q0=q0, c0=c0, branch="activation_last")
            return path.q[-1], path.c[-1], path.log_gain[-1]

        point = tuple(torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, 0.5, 0.8, 0.2))
        assert torch.autograd.gradcheck(end, point)

    def test_derivative_of_the_limit(self):
        sigma_w = torch.tensor(1.3, dtype=torch.float64)
        slope = torch.func.grad(lambda s: stable_limit("relu", s).c)(sigma_w).item()
        by_differences = (stable_limit("relu", sigma_w + 1e-5).c - stable_limit("relu", sigma_w - 1e-5).c) / 2e-5
        assert slope == pytest.approx(by_differences.item(), rel=1e-7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"depth": 0}, "depth=0; pass a whole number, 1 or more, of blocks"),
        ({"depth": 2.0}, "depth=2.0; pass a whole number"),
        ({"branch": "last"}, "branch='last' is not known; pass one of weights_last"),
        ({"sigma_w": -1.0}, "sigma_w holds -1; pass finite numbers ≥ 0"),
        ({"alpha": math.nan}, "alpha of block 1 holds nan; pass finite numbers$"),
        ({"q0": 0.0}, "q0 holds 0; pass numbers > 0"),
        ({"c0": 1.5}, r"c0 holds 1.5; pass numbers in \[-1, 1\]"),
        ({"sigma_w": torch.ones(2), "q0": torch.ones(3)}, r"shapes \(2,\) of sigma_w and \(3,\) of q0 do not"),
        ({"activation": "rleu"}, "did you mean"),
    ],
)
def test_bad_input(given, words):
    with pytest.raises(ValueError, match=words):
        residual_path(**{"activation": "relu", "depth": 2, "sigma_w": 1.0, **given})


def test_negative_time():
    with pytest.raises(ValueError, match="time holds -1; pass finite numbers ≥ 0"):
        stable_limit("relu", 1.0, time=-1.0)


def orthogonal_pair(width, seed):
    """Two inputs with q = 1 and cosine 0, and a direction across both."""
    frame = torch.randn(width, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.linalg.qr(frame - frame.mean(0))[0] * width**0.5).T


@pytest.mark.statistical
class TestNetworks:
    def test_recorded_ensembles(self):
        """Of width 1,000, measured once; 3 standard errors, or 2 % where none was kept."""
        known = REFERENCE["mc_relu_residual"]
        path = residual_path("relu", 50, 2**0.5, alpha=50**-0.5)
        assert abs(path.q[-1] - known["q_ratio"]) < 3 * known["q_se"]
        assert abs(path.c[-1] - known["c"]) < 3 * known["c_se"]
        path = residual_path("tanh", 100, 1.0, branch="activation_last", c0=1.0)
        known = REFERENCE["mc_tanh_residual"]
        assert path.q[-1].item() == pytest.approx(known["q"], rel=0.02)
        assert path.log_gain[-1].item() == pytest.approx(known["log_gain"], rel=0.02)

    @pytest.mark.parametrize(("activation", "alpha"), [("relu", 20**-0.5), ("relu", 1.0), ("tanh", 1.0)])
    def test_weights_last(self, activation, alpha):
        """16 networks of width 400: log q, c and log gain within 4 standard errors and 2 % of finite width."""
        depth, width = 20, 400
        path = residual_path(activation, depth, 2**0.5, alpha=alpha)
        found = []
        for seed in range(16):
            x = orthogonal_pair(width, seed)
            net = resnet(depth, width, activation, 2**0.5, 0.0, scale=alpha, seed=seed, dtype=torch.float64)
            out, push = net(x[:2]).detach(), torch.func.jvp(net, (x[:1],), (x[2:],))[1].detach()
            q = (out**2).mean(1)
            found.append(torch.stack([q[0].log(), (out[0] * out[1]).mean() / q.prod().sqrt(), (push**2).mean().log()]))
        self._compare(found, torch.stack([path.q[-1].log(), path.c[-1], path.log_gain[-1]]))

    def test_activation_last(self):
        """h + tanh(W h + b), by hand: the gradient grows as exp(√l)."""
        depth, width, sigma_w = 40, 400, 1.2
        path = residual_path("tanh", depth, sigma_w, 0.3, branch="activation_last")
        self._compare(*self._by_hand(torch.tanh, depth, width, sigma_w, 0.3, 1.0, path))

    def test_activation_last_with_a_mean(self):
        """h + α relu(W h): lengths follow only with the drift of the mean."""
        path = residual_path("relu", 20, 1.0, alpha=20**-0.5, branch="activation_last")
        self._compare(*self._by_hand(torch.relu, 20, 400, 1.0, 0.0, 20**-0.5, path))

    def test_pre_norm(self):
        """x + W₂ relu(W₁ LN(x)) as in Transformers, hidden width three times the width."""
        depth, width = 16, 200
        path = residual_path("relu", depth, 2**0.5, branch="pre_norm")
        found = []
        for seed in range(16):
            generator = torch.Generator().manual_seed(seed)
            x = orthogonal_pair(width, seed)
            blocks = [
                (torch.randn(3 * width, width, generator=generator, dtype=torch.float64) / width**0.5,
                 torch.randn(width, 3 * width, generator=generator, dtype=torch.float64) * (2 / (3 * width)) ** 0.5)
                for _ in range(depth)
            ]  # fmt: skip

            def net(h, blocks=blocks):
                for inner, outer in blocks:
                    h = h + F.relu(F.layer_norm(h, h.shape[-1:], eps=0.0) @ inner.T) @ outer.T
                return h

            found.append(self._summary(net, x))
        self._compare(found, torch.stack([path.q[-1].log(), path.c[-1], path.log_gain[-1]]))

    def test_batch_norm_adds_one_unit_of_variance_a_block(self):
        """Var(x_l) = 1 + l with a normalised branch, 2^l without, and with SkipInit's zero nothing changes."""
        depth, width, batch = 12, 256, 256
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, width, generator=generator)
        start = dict.fromkeys(("batch_norm", "plain", "skip_init"), x)
        variances = {kind: [1.0] for kind in start}
        for _ in range(depth):
            weight = torch.randn(width, width, generator=generator) * (2 / width) ** 0.5
            for kind, h in start.items():
                branch = F.relu(h) @ weight.T
                scale = 0.0 if kind == "skip_init" else 1.0
                start[kind] = h + scale * (nn.BatchNorm1d(width)(branch).detach() if kind == "batch_norm" else branch)
                variances[kind].append(float(start[kind].var()))
        law = residual_path("relu", depth, 2**0.5, branch="pre_norm").q
        assert variances["batch_norm"] == pytest.approx(law.tolist(), rel=0.05)
        assert math.log2(variances["plain"][-1]) / depth == pytest.approx(1, abs=0.1)
        assert variances["skip_init"] == pytest.approx([1] * (depth + 1), abs=0.02)

    def test_rezero_is_the_identity_and_only_alpha_has_a_gradient(self):
        """x + α F(x) at α = 0: J = I exactly; dL/dα = ⟨dL/dx, F(x)⟩ and dL/dW = 0."""
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)]
        alphas = [torch.zeros((), requires_grad=True) for _ in blocks]

        def net(h):
            for alpha, block in zip(alphas, blocks, strict=True):
                h = h + alpha * block(h)
            return h

        x, target = torch.randn(8), torch.randn(8)
        assert torch.equal(torch.func.jacrev(net)(x).detach(), torch.eye(8))
        (net(x) @ target).backward()
        for alpha, block in zip(alphas, blocks, strict=True):
            assert alpha.grad.item() == pytest.approx((target @ block(x)).item(), rel=1e-5)
            assert all(bool((parameter.grad == 0).all()) for parameter in block.parameters())

    @staticmethod
    def _summary(net, x):
        out, push = net(x[:2]), torch.func.jvp(net, (x[:1],), (x[2:],))[1]
        q = (out**2).mean(1)
        return torch.stack([q[0].log(), (out[0] * out[1]).mean() / q.prod().sqrt(), (push**2).mean().log()]).detach()

    def _by_hand(self, phi, depth, width, sigma_w, sigma_b, alpha, path):
        found = []
        for seed in range(16):
            generator = torch.Generator().manual_seed(100 + seed)
            draw = {"generator": generator, "dtype": torch.float64}
            layers = [
                (torch.randn(width, width, **draw) * sigma_w / width**0.5, torch.randn(width, **draw) * sigma_b)
                for _ in range(depth)
            ]

            def net(h, layers=layers):
                for weight, bias in layers:
                    h = h + alpha * phi(h @ weight.T + bias)
                return h

            found.append(self._summary(net, orthogonal_pair(width, seed)))
        return found, torch.stack([path.q[-1].log(), path.c[-1], path.log_gain[-1]])

    @staticmethod
    def _compare(found, law):
        mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / len(found) ** 0.5
        # the mean of a logarithm lies below the logarithm of the mean by half its variance
        law = law - torch.tensor([1.0, 0.0, 1.0]).double() * torch.stack(found).var(0) / 2
        assert bool(((mean - law).abs() < 4 * stderr + 0.02 * law.abs() + 0.005).all()), (mean, stderr, law)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_sine_too_fast_to_integrate_has_no_length(branch: str) -> None:
    path = residual_path(lambda h: torch.sin(300 * h), 2, 1.0, branch=branch)
    assert path.q[1:].isnan().all()
    assert path.branch_gain.isnan().all()


@pytest.mark.parametrize("sigma_w", [2.0, 4.0, 30.0])
def test_a_flow_too_steep_for_its_steps_is_nan_or_right(sigma_w: float) -> None:
    found = stable_limit("relu", sigma_w, c0=0.5)
    assert found.q.isnan() or found.q.item() == pytest.approx(math.exp(sigma_w**2 / 2), rel=1e-6)
    assert found.q.isnan() == found.c.isnan() == (sigma_w > 3)
