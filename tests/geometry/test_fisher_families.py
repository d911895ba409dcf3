"""Two families of densities as surfaces: what Gauss' machine says of them is what their Fisher metric implies."""

import pytest
import torch
from torch import Tensor

from labkit import Chain
from labkit.geometry import curvature, fisher, metric

POINTS = torch.tensor([[0.3, 1.1], [-1.2, 1.5], [2.0, 6.0]], dtype=torch.float64)


def normal_surface(at: Tensor) -> Tensor:
    """(μ, σ), σ > 1/√2, on a surface of revolution of radius 1/σ: z'(σ)² = 2/σ² − 1/σ⁴ makes the metric Fisher's."""
    mu, sigma = at[:, 0], at[:, 1]
    root = (2 * sigma**2 - 1).sqrt()
    return torch.stack([mu.cos() / sigma, mu.sin() / sigma, 2**0.5 * root.asinh() - root / sigma], 1)


def roots(logits: Tensor) -> Tensor:
    """2√p, the last logit being 0."""
    return 2 * torch.cat([logits, torch.zeros_like(logits[:, :1])], 1).softmax(1).sqrt()


class TestNormalFamily:
    @pytest.mark.parametrize("at", POINTS)
    def test_its_fisher_matrix_and_the_surface_that_has_it(self, at):
        def divergence(to: Tensor) -> Tensor:
            here = torch.distributions.Normal(at[0], at[1])
            return torch.distributions.kl_divergence(here, torch.distributions.Normal(to[0], to[1]))

        F = torch.func.jacrev(torch.func.jacrev(divergence))(at)
        torch.testing.assert_close(F, torch.tensor([1.0, 2.0], dtype=torch.float64).diag() / at[1] ** 2)
        g = metric.pullback_metric(Chain([normal_surface]).linearize(at[None]))[0]
        torch.testing.assert_close(g, F, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize(
        ("coordinates", "second"),
        [
            (lambda at: at, (1.1, 1.5, 6.0)),  # μ, σ
            (lambda at: torch.stack([at[:, 0], at[:, 1].exp()], 1), (-0.2, 0.9, 1.3)),  # μ, log σ
            (lambda at: torch.stack([at[:, 0] / at[:, 1], at[:, 1].rsqrt()], 1), (0.2, 0.9, 1.3)),  # μ/σ², 1/σ²
        ],
        ids=["sigma", "log sigma", "natural"],
    )
    def test_curvature_is_minus_one_half_in_any_parameters(self, coordinates, second):
        at = torch.stack([POINTS[:, 0], torch.tensor(second, dtype=torch.float64)], 1)
        K = curvature.scalar_curvature(Chain([coordinates, normal_surface]).jet(at)) / 2
        torch.testing.assert_close(K, torch.full((3,), -0.5, dtype=torch.float64))


@pytest.mark.parametrize("labels", [3, 5])
def test_probabilities_lie_on_a_sphere_of_curvature_one_quarter(labels):
    """Fisher on the logits is the metric of 2√p, and every plane of the simplex has the curvature 1/4."""
    generator = torch.Generator().manual_seed(labels)
    logits, u, v = torch.randn(3, 4, labels - 1, generator=generator, dtype=torch.float64)
    chain = Chain([roots])
    p = torch.cat([logits, torch.zeros(4, 1, dtype=torch.float64)], 1).softmax(1)
    S = (torch.diag_embed(p) - p[:, :, None] * p[:, None])[:, :-1, :-1]
    torch.testing.assert_close(metric.pullback_metric(chain.linearize(logits)), S, rtol=1e-12, atol=1e-14)
    lin = Chain([lambda z: torch.cat([z, torch.zeros_like(z[:, :1])], 1)]).linearize(logits)
    torch.testing.assert_close(fisher.on_inputs(lin, p), S, rtol=1e-12, atol=1e-14)
    K = curvature.sectional_curvature(chain.jet(logits), u, v)
    torch.testing.assert_close(K, torch.full((4,), 0.25, dtype=torch.float64))
