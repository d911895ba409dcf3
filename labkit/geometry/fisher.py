"""The Fisher metric of a classifier on its inputs: how fast its probabilities, not its logits, change.

It is the pullback of the information metric of the categorical distribution, which no common shift of the logits moves.
"""

import torch
from torch import Tensor

from labkit.linearization import Linearization

__all__ = ["on_inputs"]


def on_inputs(lin: Linearization, probs: Tensor, *, basis: Tensor | None = None) -> Tensor:
    """The Fisher metric on inputs, G = Jᵀ (diag p − p pᵀ) J with J the Jacobian of the logits.

    To second order it is the change of the prediction: KL(p(x) ‖ p(x + v)) = ½ vᵀ G v + O(|v|³). It equals the
    Euclidean pullback metric of x ↦ 2√p(x), whose values lie on a sphere of radius 2 (Amari 2016, ch. 2).

    Args:
        lin: the chain up to the logits at B points, sizes n_0 … C.
        probs: the softmax of the logits at the same points, (B, C), each row summing to one.
        basis: orthonormal columns (B, n_0, k) or (n_0, k); None for all of R^n0.

    Returns:
        (B, k, k), symmetric and positive semidefinite, of rank at most C − 1, in the dtype of `lin`.

    Raises:
        ValueError: if `probs` does not have one entry a logit, is negative, or does not sum to one.
        TypeError: if `probs` is of another dtype.

    Example:
        >>> logits = torch.eye(2)[None]  # the input is the two logits themselves
        >>> on_inputs(Linearization([logits]), torch.tensor([[0.5, 0.5]]))
        tensor([[[ 0.2500, -0.2500],
                 [-0.2500,  0.2500]]])
    """
    expected = (lin.batch, lin.sizes[-1])
    if tuple(probs.shape) != expected:
        raise ValueError(f"probs has shape {tuple(probs.shape)}; one probability a logit, {expected}, would do.")
    if probs.dtype != lin.dtype:
        raise TypeError(f"probs is {probs.dtype} but the Jacobians are {lin.dtype}; convert one of them.")
    if bool((probs < 0).any()) or not bool(((probs.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError("probs has rows that are no probabilities (non-negative, sum one); softmax the logits first.")
    frame = lin.dense() if basis is None else lin @ basis
    weights = probs[..., None]
    centred = frame - (weights * frame).sum(-2, keepdim=True)  # Var_p: a common shift of the logits drops out here
    scaled = weights.sqrt() * centred
    return torch.einsum("bci,bcj->bij", scaled, scaled)
