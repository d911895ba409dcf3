import math

import pytest
import torch
from torch import nn

from labkit import Chain
from labkit.networks import conv_resnet, mlp
from labkit.training.datasets import Dataset, Split, digits, rings
from labkit.training.loop import accuracy, fit


def small(seed=0, **kwargs):
    return mlp(2, 16, "tanh", 1.5, 0.1, n_in=2, n_out=2, seed=seed, **kwargs)


@pytest.fixture(scope="module")
def data():
    return rings(200)


def test_digits_are_learned():
    data = digits()
    model = mlp(2, 64, "relu", 2**0.5, 0.0, n_in=64, n_out=10)
    history = fit(model, data)
    assert history.accuracy[-1] >= 0.95
    assert history.accuracy[-1] == accuracy(model, data.test)
    assert history.loss.shape == history.accuracy.shape == (20,)
    assert not history.interrupted


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.01), ("sgd", 0.3), ("momentum", 0.1)])
def test_every_optimizer_lowers_the_loss(optimizer, lr, data):
    history = fit(small(), data, epochs=30, lr=lr, optimizer=optimizer)
    assert history.loss[-1] < 0.8 * history.loss[0]


def test_one_step_of_sgd_is_the_gradient_step(data):
    """One batch that holds everything: θ' = θ − lr ∇ mean loss, here from the closed form of softmax regression."""
    model = mlp(1, 2, "linear", 1.0, 0.5, n_in=2, n_out=2, dtype=torch.float64)
    data = rings(40, dtype=torch.float64)
    weight, bias = (p.detach().clone() for p in model.parameters())
    x, y = data.train
    residual = (x @ weight.mT + bias).softmax(1) - nn.functional.one_hot(y, 2)
    history = fit(model, data, epochs=1, lr=0.3, batch_size=1000, optimizer="sgd")
    new_weight, new_bias = model.parameters()
    torch.testing.assert_close(new_weight, weight - 0.3 * residual.mT @ x / len(x))
    torch.testing.assert_close(new_bias, bias - 0.3 * residual.mean(0))
    chosen = (x @ weight.mT + bias).log_softmax(1)[torch.arange(len(y)), y]
    assert history.loss.item() == pytest.approx(-chosen.mean().item())


def test_another_loss_is_the_one_minimised(data):
    def squared(out, labels):
        return (out - nn.functional.one_hot(labels, 2)).square().sum(1).mean() / 2

    history = fit(small(), data, epochs=40, loss=squared)
    assert history.loss[0] > 0.2
    assert history.loss[-1] < 0.7 * history.loss[0]


def test_the_seed_decides_everything_and_the_global_state_stays(data):
    def weights(seed, noise):
        torch.manual_seed(noise)
        model = Chain([*small(), nn.Dropout(0.2)])
        state = torch.get_rng_state()
        fit(model, data, epochs=2, seed=seed)
        assert torch.equal(state, torch.get_rng_state())
        return next(model.parameters())

    assert torch.equal(weights(0, noise=1), weights(0, noise=2))
    assert not torch.equal(weights(0, noise=1), weights(1, noise=1))


def test_the_model_ends_in_eval_mode_without_gradients(data):
    train, test = (Split(x.repeat(1, 8).reshape(-1, 1, 4, 4), y) for x, y in (data.train, data.test))
    images = Dataset(train, test, data.names, "rings as images")
    model = conv_resnet(1, 4, n_out=2, norm="batch")
    before = model[1].branch[0].norm.running_mean.clone()
    seen = []
    fit(model, images, epochs=2, each_epoch=lambda epoch: seen.append((epoch, model.training)))
    assert not any(module.training for module in model.modules())
    assert not torch.equal(before, model[1].branch[0].norm.running_mean)  # batch norm did learn
    assert all(p.grad is None for p in model.parameters())
    assert seen == [(1, False), (2, False)]


def test_an_interrupt_keeps_the_weights_reached(data):
    def stop(epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    model, twin = small(), small()
    history = fit(model, data, epochs=10, each_epoch=stop)
    assert history.interrupted
    assert len(history.loss) == len(history.accuracy) == 3
    fit(twin, data, epochs=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert not model.training


def test_an_exploding_loss_stops_and_puts_the_model_back(data):
    model, twin = (mlp(4, 16, "linear", 1.0, 0.0, n_in=2, n_out=2) for _ in range(2))
    with pytest.raises(RuntimeError, match=r"the loss became (nan|inf) in epoch \d+ at lr=100000.0; lower lr"):
        fit(model, data, lr=1e5, optimizer="sgd")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_frozen_parameters_stay(data):
    model = small()
    model[0].requires_grad_(False)
    before = model[0].linear.weight.clone()
    fit(model, data, epochs=1)
    assert torch.equal(before, model[0].linear.weight)


def test_accuracy_counts_across_its_own_batches():
    labels = torch.arange(2500) % 2
    part = Split(torch.eye(2)[labels], torch.where(torch.arange(2500) < 500, 1 - labels, labels))
    assert accuracy(nn.Identity(), part) == 0.8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs=0 trains nothing"),
        ({"lr": -0.1}, "lr=-0.1 trains nothing"),
        ({"lr": math.nan}, "lr=nan trains nothing"),
        ({"batch_size": 0}, "batch_size=0 trains nothing"),
        ({"optimizer": "lion"}, "optimizer='lion' does not exist; take one of adam, sgd, momentum"),
    ],
)
def test_bad_numbers_get_one_sentence(change, sentence, data):
    with pytest.raises(ValueError, match=sentence):
        fit(small(), data, **change)


def test_models_that_do_not_fit_the_data_get_one_sentence(data):
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        fit(Chain([torch.tanh]), data)
    with pytest.raises(ValueError, match=r"model has dtype torch.float64 and data has torch.float32"):
        fit(small(dtype=torch.float64), data)
    with pytest.raises(ValueError, match=r"model does not take data's inputs of shape \(2,\)"):
        fit(mlp(2, 7, "tanh", 1.0, 0.0, n_out=2), data)
    with pytest.raises(ValueError, match=r"shape \(2, 7\), but data has 2 classes; it needs n_out=2"):
        fit(mlp(2, 7, "tanh", 1.0, 0.0, n_in=2), data)
