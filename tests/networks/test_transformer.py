import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit.networks import transformer
from labkit.networks.transformer import Attention

DOUBLE = {"dtype": torch.float64}
VARIANTS = [
    {},
    {"norm": "post"},
    {"norm": None, "scale": 0.5},
    {"skip": False},
    {"skip": False, "norm": "post", "mlp": False},
    {"attention": False, "activation": "tanh"},
    {"causal": True, "links": "part"},
    {"n_in": 3, "n_out": 4},
    {"n_in": 3, "n_out": 4, "norm": "post", "links": "part"},
]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal, normal):
    x = normal(3, 5, 8)
    own = transformer(1, 8, 2, norm=None, skip=False, mlp=False, causal=causal, sigma_b=0.3, links="part", **DOUBLE)[0]
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, **DOUBLE).eval()
    theirs.in_proj_weight, theirs.in_proj_bias = own.qkv.weight, own.qkv.bias
    theirs.out_proj.weight, theirs.out_proj.bias = own.out.weight, own.out.bias
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected, weights = theirs(x, x, x, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(own(x), expected)
    torch.testing.assert_close(own.weights(x), weights)


def test_blocks_are_their_formulas(normal):
    x = normal(3, 5, 8)

    def norm(h):
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()

    plain = transformer(1, 8, 2, norm=None, skip=False, sigma_b=0.3, links="part", **DOUBLE)
    attention, mlp = plain
    up, down = mlp

    def feed_forward(h):
        return F.linear(F.gelu(F.linear(h, up.weight, up.bias)), down.linear.weight, down.linear.bias)

    torch.testing.assert_close(mlp(x), feed_forward(x))
    h = x + 0.5 * attention(norm(x))
    pre = transformer(1, 8, 2, norm="pre", scale=0.5, sigma_b=0.3, **DOUBLE)
    torch.testing.assert_close(pre(x), h + 0.5 * feed_forward(norm(h)))
    h = norm(x + attention(x))
    post = transformer(1, 8, 2, norm="post", sigma_b=0.3, **DOUBLE)
    torch.testing.assert_close(post(x), norm(h + feed_forward(h)))
    bare = transformer(1, 8, 2, norm="pre", skip=False, sigma_b=0.3, **DOUBLE)
    torch.testing.assert_close(bare(x), feed_forward(norm(attention(norm(x)))))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_linearization_is_autograd(variant, normal, assert_equals_autograd):
    chain = transformer(2, 6, 2, sigma_b=0.2, mlp_ratio=2, **variant, **DOUBLE)
    assert_equals_autograd(chain, normal(3, 4, variant.get("n_in", 6)))


def test_parts_are_the_same_network_cut_finer(normal):
    x = normal(3, 4, 6)
    blocks = transformer(2, 6, 2, **DOUBLE)
    parts = transformer(2, 6, 2, links="part", **DOUBLE)
    assert blocks.names == ["block1", "block2"]
    assert parts.names == ["attention1", "mlp1", "attention2", "mlp2"]
    torch.testing.assert_close(blocks(x), parts(x))
    coarse, fine = blocks.linearize(x), parts.linearize(x)
    torch.testing.assert_close(coarse[0], fine[1] @ fine[0])


def test_a_part_with_a_skip_is_the_identity_and_its_branch(normal):
    x = normal(3, 4, 6)
    kwargs = {"links": "part", "norm": None, "attention": False, **DOUBLE}
    with_skip = transformer(1, 6, 2, scale=0.3, **kwargs).linearize(x)[0]
    branch = transformer(1, 6, 2, skip=False, **kwargs).linearize(x)[0]
    torch.testing.assert_close(with_skip, torch.eye(24, dtype=torch.float64) + 0.3 * branch)


def test_permuted_tokens_give_permuted_outputs(normal):
    x, order = normal(3, 4, 6), torch.tensor([2, 0, 3, 1])
    chain = transformer(2, 6, 2, **DOUBLE)
    torch.testing.assert_close(chain(x[:, order]), chain(x)[:, order])


def test_causal_tokens_see_nothing_later(normal):
    x = normal(3, 4, 6)
    jacobian = transformer(2, 6, 2, causal=True, **DOUBLE).linearize(x).dense().reshape(3, 4, 6, 4, 6)
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    by_tokens = jacobian.abs().amax((2, 4))
    assert by_tokens[:, later].max() == 0
    assert by_tokens[:, ~later].min() > 0


def test_attention_alone_collapses_tokens_and_a_skip_prevents_it(normal):
    x = normal(3, 6, 16)

    def spread(h):
        return ((h - h.mean(1, keepdim=True)).norm() / h.norm()).item()

    alone = transformer(6, 16, 2, norm=None, mlp=False, skip=False, **DOUBLE)
    helped = transformer(6, 16, 2, norm=None, mlp=False, **DOUBLE)
    assert spread(x) > 0.5
    assert spread(alone(x)) < 1e-4
    assert spread(helped(x)) > 0.1


@pytest.mark.statistical
def test_weights_follow_their_law(normal):
    """Given h, queries, keys and values are N(0, σ_w² |h|²/d + σ_b²)."""
    width = 256
    block = transformer(1, width, 4, norm=None, skip=False, sigma_w=1.4, sigma_b=0.3, links="part", **DOUBLE)[0]
    x = normal(1, 1, width)
    predicted = 1.4**2 * x.square().mean() + 0.3**2
    ratio = (block.qkv(x).square().mean() / predicted).item()
    assert ratio == pytest.approx(1, abs=5 * math.sqrt(2 / (3 * width)))


def test_parameters_come_from_the_seed_alone(assert_from_seed_alone):
    assert_from_seed_alone(lambda seed: transformer(2, 6, 2, n_in=3, n_out=2, seed=seed))


def test_attention_takes_any_number_of_tokens(normal):
    attention = Attention(nn.Linear(8, 24, **DOUBLE), nn.Linear(8, 8, **DOUBLE), heads=4)
    for tokens in (1, 7):
        rows = attention.weights(normal(2, tokens, 8)).sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


def test_layer_norm_takes_its_eps(normal):
    chain = transformer(1, 6, 2, norm="post", skip=False, eps=0.0, **DOUBLE)
    out = chain(normal(3, 4, 6))
    torch.testing.assert_close(out.var(-1, correction=0), torch.ones(3, 4, **DOUBLE), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 0}, "depth=0 makes no network"),
        ({"heads": 4}, "heads=4 does not divide width=6"),
        ({"norm": "rms"}, "norm='rms' does not exist here; take 'pre', 'post' or None"),
        ({"links": "head"}, "links='head' is no way to cut a block; take 'block' or 'part'"),
        ({"attention": False, "mlp": False}, "attention=False and mlp=False leave an empty block"),
        ({"eps": -1.0}, "eps=-1.0 is negative"),
        ({"sigma_b": -1.0}, "sigma_b=-1.0 is no standard deviation"),
        ({"activation": "glue"}, "activation='glue' .* did you mean .*elu"),
        ({"mlp_ratio": 0}, "mlp_ratio=0 makes no network"),
    ],
)
def test_bad_arguments_get_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        transformer(**{"depth": 2, "width": 6, "heads": 2} | change)
