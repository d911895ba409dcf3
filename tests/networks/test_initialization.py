import math

import pytest
import torch

from labkit.networks.initialization import affine, check_device, convolution, gaussian, orthogonal, weight_generator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def variance_within_five_errors(entries, variance):
    """Normal entries of mean 0: their mean square has standard error variance·√(2/N)."""
    error = variance * math.sqrt(2 / entries.numel())
    assert entries.square().mean().item() == pytest.approx(variance, abs=5 * error)
    assert entries.mean().item() == pytest.approx(0, abs=5 * math.sqrt(variance / entries.numel()))


@pytest.mark.parametrize(("n_out", "n_in"), [(200, 200), (300, 100), (100, 300)])
@pytest.mark.statistical
def test_gaussian_entries_have_variance_one_over_fan_in(n_out, n_in):
    variance_within_five_errors(gaussian(n_out, n_in, seeded()), 1 / n_in)


@pytest.mark.parametrize(("n_out", "n_in"), [(12, 12), (12, 5), (5, 12), (1, 1), (1, 7), (7, 1)])
def test_orthogonal_keeps_the_mean_square_exactly_where_it_can(n_out, n_in):
    w = orthogonal(n_out, n_in, seeded())
    small = torch.eye(min(n_out, n_in), dtype=torch.float64)
    gram = w.mT @ w * n_in / n_out if n_out > n_in else w @ w.mT
    torch.testing.assert_close(gram, small)
    assert w.square().mean().item() == pytest.approx(1 / n_in, rel=1e-12)


@pytest.mark.statistical
def test_orthogonal_is_haar():
    """E tr O = 0 and E (tr O)² = 1 for Haar matrices; without the sign fix of QR the first is far off."""
    traces = torch.stack([orthogonal(5, 5, seeded(seed)).trace() for seed in range(2000)])
    assert traces.mean().item() == pytest.approx(0, abs=5 / math.sqrt(2000))
    assert traces.square().mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 2000))


def test_affine_scales_weights_and_biases():
    layer = affine(400, 500, 1.7, 0.3, seeded(), dtype=torch.float64)
    variance_within_five_errors(layer.weight.detach(), 1.7**2 / 400)
    variance_within_five_errors(layer.bias.detach(), 0.3**2)


def test_convolution_scales_by_its_fan_in():
    layer = convolution(20, 30, 5, 1.7, 0.3, seeded(), stride=2, dtype=torch.float64)
    variance_within_five_errors(layer.weight.detach(), 1.7**2 / (20 * 25))
    variance_within_five_errors(layer.bias.detach(), 0.3**2)
    assert layer(torch.zeros(1, 20, 8, 8, dtype=torch.float64)).shape == (1, 30, 4, 4)


def test_the_same_seed_gives_the_same_numbers_in_every_dtype_and_scaled_with_sigma():
    double = affine(6, 4, 1.0, 1.0, seeded(), dtype=torch.float64)
    single = affine(6, 4, 2.0, 3.0, seeded(), dtype=torch.float32)
    assert torch.equal(single.weight, (2 * double.weight).float())
    assert torch.equal(single.bias, (3 * double.bias).float())
    assert single.weight.requires_grad
    assert single.bias.requires_grad


def test_the_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = (affine(6, 4, 1.0, 1.0, seeded()).weight, convolution(2, 2, 3, 1.0, 1.0, seeded()).weight)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    again = (affine(6, 4, 1.0, 1.0, seeded()).weight, convolution(2, 2, 3, 1.0, 1.0, seeded()).weight)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: affine(0, 2, 1.0, 0.0, seeded()), "n_in=0 makes no network"),
        (lambda: affine(2, 2, -1.0, 0.0, seeded()), "sigma_w=-1.0 is no standard deviation"),
        (lambda: affine(2, 2, 1.0, math.nan, seeded()), "sigma_b=nan is no standard deviation"),
        (lambda: affine(2, 2, 1.0, 0.0, seeded(), ensemble="unitary"), "ensemble='unitary' .* gaussian, orthogonal"),
        (lambda: convolution(2, 2, 4, 1.0, 0.0, seeded()), "kernel=4 is even"),
    ],
)
def test_bad_arguments_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU")
def test_an_absent_gpu_is_named():
    with pytest.raises(RuntimeError, match="device='cuda:0' was asked for, but torch sees no CUDA GPU"):
        check_device("cuda:0")


@pytest.mark.parametrize("seed", [0, 1, 12345, -7, 2**40])
@pytest.mark.statistical
def test_weights_are_independent_of_inputs_drawn_with_the_same_seed(seed):
    w, x = gaussian(50, 100, weight_generator(seed)), torch.randn(50, 100, generator=seeded(seed), dtype=torch.float64)
    correlation = (w * x).mean() / (w.square().mean() * x.square().mean()).sqrt()
    assert abs(correlation.item()) < 5 / math.sqrt(5000)
