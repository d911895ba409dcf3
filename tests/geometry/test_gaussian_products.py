"""Laws of random matrices that the geometry must reproduce: volumes of Gaussian products, one-sample Jacobian norms."""

import math

import pytest
import torch
from torch import Tensor

from labkit import Linearization
from labkit.geometry.spectra import log_spectrum, log_volume

F64 = torch.float64

# Newman 1986: exponents ½[ψ((n − i + 1)/2) + log(2/n)] of products of matrices with entries N(0, 1/n)
LYAPUNOV = {
    2: [-0.28860783245076643, -0.9817550130107118],
    4: [-0.13518142273073908, -0.32832860329068436, -0.6351814227307391, -1.3283286032906845],
    6: [-0.08791397678482132, -0.1977278240114333, -0.3379139767848213, -0.5310611573447667, -0.8379139767848214,
        -1.5310611573447668],
}  # fmt: skip


def gaussian_product(n: int, depth: int, batch: int) -> Linearization:
    generator = torch.Generator().manual_seed(n)
    return Linearization(
        [torch.randn(batch, n, n, generator=generator, dtype=F64) / math.sqrt(n) for _ in range(depth)]
    )


@pytest.mark.statistical
@pytest.mark.parametrize("n", LYAPUNOV)
def test_volumes_of_frames_grow_by_the_sum_of_lyapunov_exponents(n: int) -> None:
    depth, batch = 20, 2000
    lin = gaussian_product(n, depth, batch)
    for k in range(1, n + 1):
        volumes = log_volume(lin, torch.eye(n, dtype=F64)[:, :k]) / depth
        error = float(volumes.std()) / math.sqrt(batch)
        assert abs(float(volumes.mean()) - sum(LYAPUNOV[n][:k])) < 3 * error


@pytest.mark.statistical
def test_lyapunov_exponents_are_not_log_singular_values() -> None:
    depth = 20
    logs = log_spectrum(gaussian_product(4, depth, 500)).values.mean(0)
    assert float(logs[0]) - depth * LYAPUNOV[4][0] > 0.3  # the largest singular value beats the largest exponent


def test_one_random_projection_has_the_mean_and_variance_of_its_law() -> None:
    """Hoffman, Roberts & Yaida 2019: |J|² = C E|vᵀJ|² for v on the sphere, and the variance of one sample."""
    outputs, samples = 5, 400_000
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(1, outputs, 7, generator=generator, dtype=F64)
    v: Tensor = torch.randn(1, outputs, samples, generator=generator, dtype=F64)
    v = v / v.norm(dim=1, keepdim=True)
    estimates = outputs * (Linearization([J]).mT @ v).square().sum(1)[0]
    G = J[0] @ J[0].mT
    norm, fourth = G.trace(), (G @ G).trace()
    variance = outputs**2 * (2 * fourth + norm**2) / (outputs * (outputs + 2)) - norm**2
    assert abs(estimates.mean() - norm) < 3 * (variance / samples).sqrt()
    centred = (estimates - norm).square()
    assert abs(centred.mean() - variance) < 3 * centred.std() / math.sqrt(samples)
