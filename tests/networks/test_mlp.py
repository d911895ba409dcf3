import itertools
import math

import pytest
import torch

from labkit.networks import mlp


@pytest.mark.statistical
def test_q_follows_its_law_layer_by_layer(normal):
    """Given h_{l-1}, the entries of h_l are N(0, σ_w² |φ(h_{l-1})|²/n + σ_b²), exactly, at any width."""
    n = 600
    chain = mlp(8, n, "tanh", 1.6, 0.3, dtype=torch.float64)
    states = chain.states(normal(4, n))
    for before, after in itertools.pairwise(states):
        predicted = 1.6**2 * torch.tanh(before).square().mean(1) + 0.3**2
        ratio = after.square().mean(1) / predicted
        assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / n)


def test_the_first_of_the_links_is_affine_when_the_input_has_a_size(normal):
    x = normal(4, 600)
    chain = mlp(3, 500, "relu", 1.3, 0.0, n_in=600, n_out=400, dtype=torch.float64)
    assert len(chain) == 3
    q = chain.states(x)[1].square().mean(1)
    assert (q / (1.3**2 * x.square().mean(1)) - 1).abs().max() < 5 * math.sqrt(2 / 500)
    assert torch.allclose(chain[0](2 * x), 2 * chain[0](x))  # σ_b = 0: linear; φ would not be for negative x
    assert torch.allclose(chain[0](-x), -chain[0](x))
    assert [tuple(h.shape) for h in chain.states(x)] == [(4, 600), (4, 500), (4, 500), (4, 400)]


def test_without_an_input_size_the_first_link_has_the_activation(normal):
    chain = mlp(1, 5, "relu", 1.0, 0.0, dtype=torch.float64)
    x = normal(4, 5)
    assert torch.equal(chain(x), chain(x.relu()))


def test_orthogonal_layers_keep_every_length(normal):
    chain = mlp(30, 40, "linear", 1.0, 0.0, ensemble="orthogonal", dtype=torch.float64)
    x = normal(4, 40)
    torch.testing.assert_close(chain(x).norm(dim=1), x.norm(dim=1))


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
def test_linearization_is_autograd(ensemble, normal, assert_equals_autograd):
    chain = mlp(4, 12, "gelu", 1.5, 0.2, n_in=5, n_out=3, ensemble=ensemble, dtype=torch.float64)
    assert_equals_autograd(chain, normal(5, 5))


def test_parameters_come_from_the_seed_alone(assert_from_seed_alone):
    assert_from_seed_alone(lambda seed: mlp(2, 6, "tanh", 1.0, 0.1, seed=seed))


def test_dtype_is_the_default_one_or_the_one_asked_for():
    assert mlp(2, 6, "tanh", 1.0, 0.1)(torch.zeros(1, 6)).dtype == torch.float32
    assert next(mlp(2, 6, "tanh", 1.0, 0.1, dtype=torch.float64).parameters()).dtype == torch.float64


def test_any_elementwise_callable_is_an_activation(normal):
    x = normal(3, 6)
    by_name, by_hand = (
        mlp(2, 6, phi, 1.0, 0.1, dtype=torch.float64) for phi in ("silu", lambda h: h * torch.sigmoid(h))
    )
    torch.testing.assert_close(by_name(x), by_hand(x))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 0}, "depth=0 makes no network; it must be an integer of at least 1"),
        ({"width": -3}, "width=-3 makes no network"),
        ({"n_in": 0}, "n_in=0 makes no network"),
        ({"sigma_w": -1.0}, "sigma_w=-1.0 is no standard deviation"),
        ({"sigma_b": -0.1}, "sigma_b=-0.1 is no standard deviation"),
        ({"activation": "rleu"}, "activation='rleu' is not a name known here; did you mean relu"),
        ({"ensemble": "haar"}, "ensemble='haar' does not exist; take one of gaussian, orthogonal"),
    ],
)
def test_bad_arguments_get_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        mlp(**{"depth": 2, "width": 4, "activation": "tanh", "sigma_w": 1.0, "sigma_b": 0.0} | change)


@pytest.mark.cuda
def test_the_same_network_on_the_gpu():
    kwargs = {"depth": 2, "width": 6, "activation": "tanh", "sigma_w": 1.0, "sigma_b": 0.1, "dtype": torch.float64}
    pairs = zip(mlp(**kwargs).parameters(), mlp(**kwargs, device="cuda").parameters(), strict=True)
    assert all(gpu.is_cuda and torch.equal(cpu, gpu.cpu()) for cpu, gpu in pairs)
