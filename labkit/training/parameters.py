"""The parameters of a model as one long vector: the same model somewhere else in its parameter space.

Order and layout are those of `torch.nn.utils.parameters_to_vector`.
"""

import copy

from torch import Tensor, nn

__all__ = ["moved"]


def moved(model: nn.Module, theta: Tensor) -> nn.Module:
    """A copy of the model with other parameters; the model itself is left as it is.

    Args:
        model: any module.
        theta: (P,), all parameters in the order of `model.parameters()`; no graph leads back to it.

    Returns:
        The copy, its parameters in the dtype and on the device of the model's.

    Raises:
        ValueError: If `theta` is not a vector of as many numbers as there are parameters.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1)
        >>> moved(model, torch.tensor([2.0, 3.0]))(torch.ones(1, 1)).item()
        5.0
    """
    count = sum(p.numel() for p in model.parameters())
    if tuple(theta.shape) != (count,):
        raise ValueError(f"theta has shape {tuple(theta.shape)}; pass a vector of the model's {count} parameters")
    other = copy.deepcopy(model)
    begin = 0
    for p in other.parameters():
        p.data.copy_(theta.detach()[begin : begin + p.numel()].reshape(p.shape))
        begin += p.numel()
    return other
