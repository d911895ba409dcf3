"""Many plain networks trained side by side, one batched product a layer: what a heat map of accuracies needs.

They differ in the scale of their weights alone, so that a row of the map costs little more than one network.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.theory.activations import Activation, resolve
from labkit.training.datasets import Dataset

__all__ = ["depth_at", "train_scales"]


def train_scales(
    data: Dataset,
    depth: int,
    width: int,
    activation: Activation,
    sigma_w: Any,
    sigma_b: float | int,
    *,
    epochs: int = 10,
    lr: float | int = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """Test accuracies of networks that begin from the same random numbers, scaled by each of `sigma_w`.

    Plain SGD with momentum 0.9, the same batches for all; a network whose weights are no longer finite is right by
    chance only.

    Args:
        data: What they learn; inputs (N, n).
        depth: Weight matrices, at least 2.
        width: Units of a hidden layer.
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: (K,), weights begin with variance σ_w²/fan-in.
        sigma_b: Standard deviation of the biases at the beginning.
        epochs: Passes over the training set.
        lr: Learning rate.
        batch_size: Samples a step.
        seed: Draws weights, biases and batches.

    Returns:
        (K,), shares of the test set that are right.

    Raises:
        ValueError: For a depth below 2 or sizes and rates that are not positive.

    Example:
        >>> from labkit.training.datasets import digits
        >>> train_scales(digits(), 2, 16, "tanh", [1.0, 1.5], 0.1, epochs=1).shape
        torch.Size([2])
    """
    for name, value, least in (("depth", depth, 2), ("width", width, 1), ("epochs", epochs, 1)):
        if value < least:
            raise ValueError(f"{name}={value}, but it must be at least {least}.")
    if not lr > 0:
        raise ValueError(f"lr={lr}, but a learning rate must be positive.")
    phi, x, y = resolve(activation), data.train.inputs, data.train.labels
    scales = torch.as_tensor(sigma_w, dtype=x.dtype, device=x.device)[:, None, None]
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *[width] * (depth - 1), len(data.names)]
    weights, biases = [], []
    for fan_in, fan_out in itertools.pairwise(sizes):
        W = torch.randn(fan_in, fan_out, generator=generator, dtype=torch.float64).to(x) / fan_in**0.5
        b = sigma_b * torch.randn(1, fan_out, generator=generator, dtype=torch.float64).to(x)
        weights.append((scales * W).requires_grad_())
        biases.append(b.repeat(len(scales), 1, 1).requires_grad_())
    optimizer = torch.optim.SGD([*weights, *biases], lr, momentum=0.9)

    def outputs(inputs: Any) -> Any:
        h = inputs.expand(len(scales), *inputs.shape)
        for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
            h = torch.baddbmm(b, phi(h) if layer else h, W)
        return h

    with torch.enable_grad():
        for _ in range(epochs):
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for batch in torch.split(order, batch_size):
                logits = outputs(x[batch])
                labels = y[batch].repeat(len(scales))
                loss = F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum") / len(batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
    with torch.no_grad():
        right: Tensor = outputs(data.test.inputs).argmax(2) == data.test.labels
        return right.double().mean(1)


def depth_at(accuracies: Any, depths: Any, level: float | int) -> Tensor:
    """The depth at which accuracy falls through a level, interpolated in its logarithm.

    Args:
        accuracies: (n, K), one row a depth.
        depths: (n,), ascending and positive.
        level: Between chance and the best.

    Returns:
        (K,); the first or the last depth where the level is crossed before or not at all.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> depth_at([[0.9, 0.9], [0.9, 0.1], [0.1, 0.1]], [10, 20, 40], 0.5)
        tensor([28.2843, 14.1421], dtype=torch.float64)
    """
    table = torch.as_tensor(accuracies, dtype=torch.float64)
    logs = torch.as_tensor(depths, dtype=torch.float64).log()
    if table.ndim != 2 or logs.shape != table.shape[:1]:
        raise ValueError(f"accuracies is {tuple(table.shape)} and depths {tuple(logs.shape)}; pass (n, K) and (n,).")
    found = []
    for column in table.mT:
        below = (column < level).nonzero()[:, 0]
        if not len(below) or below[0] == 0:
            found.append(logs[0] if len(below) else logs[-1])
            continue
        i = int(below[0])
        share = (column[i - 1] - level) / (column[i - 1] - column[i])
        found.append(logs[i - 1] + share * (logs[i] - logs[i - 1]))
    return torch.stack(found).exp()
