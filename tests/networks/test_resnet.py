import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from labkit.networks import conv_resnet, resnet


@pytest.mark.statistical
def test_branches_follow_their_law_block_by_block(normal):
    """Given h, the entries of h' − h are N(0, α²(σ_w² |φ(h)|²/n + σ_b²)), exactly, at any width."""
    n, alpha = 600, 0.4
    chain = resnet(6, n, "erf", 1.6, 0.3, scale=alpha, dtype=torch.float64)
    states = chain.states(normal(4, n))
    for before, after in itertools.pairwise(states):
        predicted = alpha**2 * (1.6**2 * torch.erf(before).square().mean(1) + 0.3**2)
        ratio = (after - before).square().mean(1) / predicted
        assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / n)


def test_depth_counts_blocks_and_ends_come_besides(normal):
    chain = resnet(2, 8, "tanh", 1.0, 0.1, n_in=3, n_out=5, dtype=torch.float64)
    assert chain.names == ["stem", "block1", "block2", "readout"]
    assert [tuple(h.shape) for h in chain.states(normal(4, 3))] == [(4, 3), (4, 8), (4, 8), (4, 8), (4, 5)]
    assert resnet(2, 8, "tanh", 1.0, 0.1).names == ["block1", "block2"]


def test_scale_zero_is_the_identity(normal):
    x = normal(4, 8)
    assert torch.equal(resnet(3, 8, "tanh", 1.0, 0.1, scale=0, dtype=torch.float64)(x), x)


def test_linearization_is_autograd(normal, assert_equals_autograd):
    chain = resnet(4, 12, "gelu", 1.5, 0.2, n_in=5, n_out=3, scale=0.5, dtype=torch.float64)
    assert_equals_autograd(chain, normal(5, 5))


def test_parameters_come_from_the_seed_alone(assert_from_seed_alone):
    assert_from_seed_alone(lambda seed: resnet(2, 6, "tanh", 1.0, 0.1, n_in=3, n_out=2, seed=seed))
    assert_from_seed_alone(lambda seed: conv_resnet(2, 4, norm="batch", n_out=2, seed=seed))


def test_a_convolutional_block_is_the_formula(normal):
    x = normal(3, 4, 6, 6)
    block = conv_resnet(1, 4, "tanh", 1.3, 0.2, norm="layer", scale=0.5, dtype=torch.float64)[1]
    first, second = block.branch
    h = x
    for layer in (first, second):
        flat = h.flatten(1)
        centred = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        active = torch.tanh(centred.reshape(h.shape))
        h = F.conv2d(active, layer.convolution.weight, layer.convolution.bias, padding=1)
    torch.testing.assert_close(block(x), x + 0.5 * h)


@pytest.mark.statistical
def test_a_convolutional_layer_follows_its_law(normal):
    """Given h, the channels at one inner pixel are N(0, σ_w² mean φ(h)² over the 3×3 patch + σ_b²)."""
    channels = 200
    layer = conv_resnet(1, channels, "tanh", 1.6, 0.3, dtype=torch.float64)[1].branch[0]
    h = normal(2, channels, 5, 5)
    predicted = 1.6**2 * torch.tanh(h[:, :, 1:4, 1:4]).square().mean((1, 2, 3)) + 0.3**2
    ratio = layer(h)[:, :, 2, 2].square().mean(1) / predicted
    assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / channels)


def test_the_readout_pools_what_the_activation_leaves(normal):
    chain = conv_resnet(1, 4, "relu", n_out=3, dtype=torch.float64)
    h = normal(2, 4, 6, 6)
    linear = chain[-1].linear
    torch.testing.assert_close(chain[-1](h), h.relu().mean((2, 3)) @ linear.weight.mT + linear.bias)


def test_images_keep_their_size_and_a_stride_halves_it():
    x = torch.zeros(2, 3, 8, 8)
    assert conv_resnet(1, 4, channels_in=3)(x).shape == (2, 4, 8, 8)
    assert conv_resnet(1, 4, channels_in=3, stride=2, kernel=5)(x).shape == (2, 4, 4, 4)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_convolutional_linearization_is_autograd(norm, normal, assert_equals_autograd):
    chain = conv_resnet(2, 3, "silu", 1.5, 0.2, n_out=4, norm=norm, scale=0.5, dtype=torch.float64)
    if norm == "batch":  # statistics of its own, as after training
        chain.train()
        chain(2 + 3 * normal(20, 1, 5, 5, seed=1))
        chain.eval()
    assert_equals_autograd(chain, normal(3, 1, 5, 5))


def test_batch_norm_arrives_in_eval_mode():
    assert not any(module.training for module in conv_resnet(1, 4, norm="batch", n_out=2).modules())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: resnet(0, 4, "tanh", 1.0, 0.0), "depth=0 makes no network"),
        (lambda: resnet(2, 4, "tanh", -1.0, 0.0), "sigma_w=-1.0 is no standard deviation"),
        (lambda: resnet(2, 4, "tahn", 1.0, 0.0), "activation='tahn' .* did you mean tanh"),
        (lambda: conv_resnet(2, 0), "channels=0 makes no network"),
        (lambda: conv_resnet(2, 4, norm="instance"), "norm='instance' does not exist for images; take None, 'batch'"),
        (lambda: conv_resnet(2, 4, kernel=2), "kernel=2 is even"),
    ],
)
def test_bad_arguments_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
