"""A small honest training loop: seeded, interruptible, and it refuses to go on from a loss that is no number.

Lessons train their networks with it in seconds; what they measure before and after is the network itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from labkit.training.datasets import Dataset, Split

__all__ = ["History", "accuracy", "fit"]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9),
}


@dataclass(frozen=True)
class History:
    """What a training run did, one entry an epoch.

    Attributes:
        loss: (epochs,) mean training loss over the epoch's batches, float64.
        accuracy: (epochs,) share of the test set that is right after the epoch, float64.
        interrupted: Whether Ctrl-C ended it early; the network then holds the weights reached.
    """

    loss: Tensor
    accuracy: Tensor
    interrupted: bool = False


def fit(
    model: nn.Module,
    data: Dataset,
    *,
    epochs: int = 20,
    lr: float | int = 3e-3,
    batch_size: int = 64,
    seed: int = 0,
    optimizer: str = "adam",
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    each_epoch: Callable[[int], object] | None = None,
    progress: bool = True,
) -> History:
    """Train the model in place and leave it in eval mode, ready to be measured.

    Ctrl-C ends the training, not the program: the weights reached stay and the history says `interrupted`.

    Args:
        model: A chain or module (B, *shape) → (B, classes), with `requires_grad` parameters.
        data: What it learns and is tested on, of the model's dtype and device.
        epochs: Passes over the training set.
        lr: Learning rate.
        batch_size: Samples a step.
        seed: Draws the order of the samples and any dropout; the global random state is left as it was.
        optimizer: `"adam"`, `"sgd"` or `"momentum"` (SGD with momentum 0.9).
        loss: (outputs, labels) → a scalar, the mean over the batch.
        each_epoch: Called with the number of the epoch that ended, from 1, with the model in eval mode.
        progress: Whether to show a bar, if it takes longer than two seconds.

    Returns:
        Loss and test accuracy after every epoch.

    Raises:
        ValueError: For numbers that are not positive, an unknown optimizer, a model without parameters, or one
            whose dtype or output does not fit the data.
        RuntimeError: If the loss is no longer finite; the model is put back to where it began.

    Example:
        >>> from labkit.networks import mlp
        >>> from labkit.training.datasets import digits
        >>> history = fit(mlp(2, 32, "relu", 2**0.5, 0.0, n_in=64, n_out=10), digits(), epochs=2)
        >>> bool(history.accuracy[-1] > 0.8)
        True
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    _check(model, data, parameters, optimizer, epochs=epochs, lr=lr, batch_size=batch_size)
    stepper = _OPTIMIZERS[optimizer](parameters, lr=lr)
    state = [*model.parameters(), *model.buffers()]
    beginning = [t.detach().clone() for t in state]
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    accuracies: list[float] = []
    interrupted = False
    bar = tqdm(range(1, epochs + 1), desc="epochs", disable=not progress, delay=2.0, leave=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            for epoch in bar:
                model.train()
                mean = _epoch(model, data.train, batch_size, generator, stepper, loss)
                model.eval()
                if not math.isfinite(mean):
                    with torch.no_grad():
                        for tensor, value in zip(state, beginning, strict=True):
                            tensor.copy_(value)
                    raise RuntimeError(
                        f"the loss became {mean} in epoch {epoch} at lr={lr}; lower lr or the scale of the weights."
                    )
                losses.append(mean)
                accuracies.append(accuracy(model, data.test))
                if each_epoch is not None:
                    each_epoch(epoch)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            model.eval()
            stepper.zero_grad()
            bar.close()
    return History(
        torch.tensor(losses, dtype=torch.float64), torch.tensor(accuracies, dtype=torch.float64), interrupted
    )


@torch.no_grad()
def accuracy(model: nn.Module, part: Split) -> float:
    """The share of inputs whose largest output is their label.

    Example:
        >>> accuracy(nn.Identity(), Split(torch.eye(3), torch.tensor([0, 1, 1])))  # doctest: +ELLIPSIS
        0.666...
    """
    right = 0
    for start in range(0, len(part.labels), 1000):
        batch = slice(start, start + 1000)
        right += int((model(part.inputs[batch]).argmax(-1) == part.labels[batch]).sum())
    return right / len(part.labels)


def _epoch(
    model: nn.Module,
    part: Split,
    batch_size: int,
    generator: torch.Generator,
    stepper: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """One pass in random order; the mean loss, or the first that is not finite."""
    total = 0.0
    order = torch.randperm(len(part.labels), generator=generator).to(part.labels.device)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        value = loss(model(part.inputs[batch]), part.labels[batch])
        if not math.isfinite(value.item()):
            return value.item()
        stepper.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        stepper.step()
        total += value.item() * len(batch)
    return total / len(part.labels)


def _check(
    model: nn.Module,
    data: Dataset,
    parameters: list[nn.Parameter],
    optimizer: str,
    **positive: float | int,
) -> None:
    for name, number in positive.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name}={number} trains nothing; it must be positive.")
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} does not exist; take one of {', '.join(_OPTIMIZERS)}.")
    if not parameters:
        raise ValueError("model has no parameter that requires a gradient, so there is nothing to train.")
    x = data.train.inputs
    if parameters[0].dtype != x.dtype:
        raise ValueError(
            f"model has dtype {parameters[0].dtype} and data has {x.dtype}; make both with the same dtype=."
        )
    out = _shape_of_output(model, x[:2])
    if out != (len(x[:2]), len(data.names)):
        raise ValueError(
            f"model maps a batch of {len(x[:2])} to shape {out}, but data has {len(data.names)} classes; "
            f"it needs n_out={len(data.names)} outputs a sample."
        )


def _shape_of_output(model: nn.Module, x: Tensor) -> tuple[int, ...]:
    """Found in eval mode: dropout would draw from the global state, batch norm would learn from x."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return tuple(model(x).shape)
    except RuntimeError as error:
        raise ValueError(f"model does not take data's inputs of shape {tuple(x.shape[1:])}: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
