"""The Fisher metric on inputs, against the sphere of 2√p, the divergence, and its own definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit import Chain, Linearization
from labkit.geometry.fisher import on_inputs


def network(seed: int = 0) -> Chain:
    torch.manual_seed(seed)
    return Chain([nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)]).double()


def inputs(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_euclidean_metric_of_twice_the_roots() -> None:
    chain, x = network(), inputs()
    lin, probs = chain.linearize(x), chain(x).softmax(-1)
    roots = torch.func.vmap(torch.func.jacrev(lambda one: 2 * chain(one[None])[0].softmax(-1).sqrt()))(x)
    torch.testing.assert_close(on_inputs(lin, probs), roots.mT @ roots)


def test_it_is_the_definition() -> None:
    chain, x = network(), inputs()
    lin, probs = chain.linearize(x), chain(x).softmax(-1)
    J = lin.dense()
    middle = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None, :]
    torch.testing.assert_close(on_inputs(lin, probs), J.mT @ middle @ J)


def test_half_of_it_is_the_divergence_to_second_order() -> None:
    chain, x = network(), inputs()
    v = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    G = on_inputs(chain.linearize(x), chain(x).softmax(-1))
    half = 0.5 * (v[:, None] @ G @ v[..., None])[:, 0, 0]
    log_p = chain(x).log_softmax(-1)

    def divergence(step: Tensor) -> Tensor:
        return (log_p.exp() * (log_p - chain(x + step).log_softmax(-1))).sum(-1)

    t = 1e-4  # the even part: its error is of fourth order
    torch.testing.assert_close((divergence(t * v) + divergence(-t * v)) / (2 * t**2), half, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 2**31))
def test_no_common_shift_of_the_logits_moves_it(seed: int) -> None:
    chain, x = network(seed), inputs(seed=seed)
    shift = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shifted = chain + Chain([lambda z: z + (z**2 @ shift)[:, None]])
    torch.testing.assert_close(
        on_inputs(shifted.linearize(x), shifted(x).softmax(-1)), on_inputs(chain.linearize(x), chain(x).softmax(-1))
    )


def test_rank_basis_and_batch() -> None:
    chain, x = network(), inputs(5)
    lin, probs = chain.linearize(x), chain(x).softmax(-1)
    G = on_inputs(lin, probs)
    assert (torch.linalg.matrix_rank(G, hermitian=True) == 4).all()
    basis = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64))[0]
    torch.testing.assert_close(on_inputs(lin, probs, basis=basis), basis.mT @ G @ basis)
    each = torch.cat([on_inputs(chain.linearize(one[None]), p[None]) for one, p in zip(x, probs, strict=True)])
    torch.testing.assert_close(G, each)


def test_it_is_differentiable() -> None:
    chain, x = network(), inputs(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: on_inputs(chain.linearize(x), chain(x).softmax(-1)), x)


@pytest.mark.parametrize(
    ("probs", "error", "words"),
    [
        (torch.full((4, 3), 1 / 3, dtype=torch.float64), ValueError, r"\(4, 5\)"),
        (torch.zeros(4, 5, dtype=torch.float64), ValueError, "softmax"),
        (torch.tensor([[2.0, -1, 0, 0, 0]] * 4, dtype=torch.float64), ValueError, "softmax"),
        (torch.full((4, 5), 0.2), TypeError, "float32"),
    ],
)
def test_bad_probabilities_get_a_sentence(probs: Tensor, error: type[Exception], words: str) -> None:
    lin = Linearization([torch.randn(4, 5, 6, dtype=torch.float64)])
    with pytest.raises(error, match=words):
        on_inputs(lin, probs)


def test_what_the_logits_share_drops_out_of_rounded_probabilities() -> None:
    logits = Linearization([1e8 + torch.eye(2, dtype=torch.float64)[None]])
    probs = torch.tensor([[0.5, 0.5005]], dtype=torch.float64)
    expected = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64) / 4
    torch.testing.assert_close(on_inputs(logits, probs), expected, rtol=1e-5, atol=0)


def test_a_basis_on_inputs_is_orthonormal() -> None:
    with pytest.raises(ValueError, match="not orthonormal"):
        on_inputs(Linearization([torch.eye(2)[None]]), torch.tensor([[0.5, 0.5]]), basis=2 * torch.eye(2))
