import pytest
import torch

from labkit.networks import mlp, siblings

KINDS = {"ordered": ("tanh", 0.8, 0.1), "folded": ("relu", 2**0.5, 0.0), "own": (torch.sin, 2, 1)}


def test_each_is_the_network_of_its_seed_to_rounding(normal):
    x = normal(4, 40)
    for name, net in siblings(3, 40, KINDS, seed=7, dtype=torch.float64):
        alone = mlp(3, 40, *KINDS[name], seed=7, dtype=torch.float64)
        for mine, its in zip(net.states(x), alone.states(x), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_they_share_their_draw_but_no_memory():
    first, second, _ = (net for _, net in siblings(1, 8, KINDS))
    ratio = second[0].linear.weight / first[0].linear.weight
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2**0.5 / 0.8))
    before = second[0].linear.weight.clone()
    first[0].linear.weight.zero_()
    assert torch.equal(second[0].linear.weight, before)
    assert not any(p.requires_grad for p in first.parameters())


def test_they_come_in_order_and_one_by_one():
    family = siblings(1, 8, KINDS)
    assert next(family)[0] == "ordered"
    assert [name for name, _ in family] == ["folded", "own"]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(("tanh", -1.0, 0.0), "sigma_w"), (("tangens", 1.0, 0.0), "tangens"), (("tanh", 1.0, -0.1), "sigma_b")],
)
def test_a_bad_kind_is_refused_before_anything_is_drawn(kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        siblings(2, 10**7, {"good": ("tanh", 1.0, 0.0), "bad": kind})


def test_a_bad_size_is_refused_at_once():
    with pytest.raises(ValueError, match="depth"):
        siblings(0, 8, KINDS)
