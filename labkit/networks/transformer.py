"""Transformer blocks written plainly, with every part optional: what rank collapse needs taken away can be.

With a skip connection a link is I + J_attention or I + J_mlp; a block is the product of the two.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit._jet_rules import JetRule, add_jet_rule, softmax_attention
from labkit.chain import Chain
from labkit.links import Layer, Residual
from labkit.networks.initialization import Placement, affine, check_device, check_sizes, weight_generator
from labkit.networks.pooling import PooledReadout
from labkit.theory.activations import Activation, resolve

__all__ = ["Attention", "transformer"]


class Attention(nn.Module):
    """Multi-head softmax attention of a sequence to itself, (B, T, d) → (B, T, d).

    Args:
        qkv: Affine map d → 3d giving queries, keys and values.
        out: Affine map d → d applied to the joined heads.
        heads: Number of heads; divides d.
        causal: Whether a token sees only itself and those before it.

    Example:
        >>> Attention(nn.Linear(8, 24), nn.Linear(8, 8), heads=2)(torch.zeros(5, 3, 8)).shape
        torch.Size([5, 3, 8])
    """

    def __init__(self, qkv: nn.Linear, out: nn.Linear, heads: int, causal: bool = False):
        super().__init__()
        self.qkv = qkv
        self.out = out
        self.heads = heads
        self.causal = causal

    def weights(self, h: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens tokens"]:
        """The attention matrices: row t says how much token t takes from each token; rows sum to 1."""
        query, key, _ = self._split(h)
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        if self.causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=h.device).triu(1)
            logits = logits.masked_fill(later, -math.inf)
        return logits.softmax(-1)

    def forward(self, h: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Mix the values of all tokens, head by head, and map the joined heads."""
        *_, value = self._split(h)
        mixed = self.weights(h) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # torch types a module's call as Any

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, T, d/heads)."""
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value


def transformer(
    depth: int,
    width: int,
    heads: int,
    n_in: int | None = None,
    n_out: int | None = None,
    seed: int = 0,
    *,
    norm: str | None = "pre",
    activation: Activation = "gelu",
    sigma_w: float | int = 1.0,
    sigma_b: float | int = 0.0,
    mlp_ratio: int = 4,
    attention: bool = True,
    mlp: bool = True,
    skip: bool = True,
    causal: bool = False,
    scale: float | int = 1.0,
    eps: float = 1e-5,
    links: str = "block",
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> Chain:
    """Transformer blocks on token sequences (B, T, width), each attention and then a two-layer MLP.

    Args:
        depth: Number of blocks; an affine link before them (`n_in`) and a readout (`n_out`) come besides.
        width: Entries of every token.
        heads: Attention heads; must divide `width`.
        n_in: Entries of an input token; None for a chain that begins at a hidden state.
        n_out: Entries of the output, read from the mean token; None for a chain that ends at a sequence.
        seed: Draws all parameters; torch's global random state is untouched.
        norm: `"pre"` h + f(LN h), `"post"` LN(h + f(h)), or None without layer norm.
        activation: Of the MLP, a name of `labkit.theory.activations` or an elementwise callable.
        sigma_w: All weights have variance σ_w²/fan-in.
        sigma_b: Standard deviation of the biases.
        mlp_ratio: Hidden width of the MLP over `width`.
        attention: Whether blocks have attention.
        mlp: Whether blocks have an MLP.
        skip: Whether parts have a skip connection; without it h → f(LN h), or LN f(h), or f(h).
        causal: Whether a token sees only itself and those before it.
        scale: α in front of each part: h + α f.
        eps: Of the layer norm.
        links: `"block"` for one link a block, `"part"` for attention and MLP as links of their own.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Returns:
        The chain (B, T, n_in or width) → (B, T, width) or (B, n_out), equivariant under permutations of the
        tokens unless causal.

    Raises:
        ValueError: For sizes below 1, heads that do not divide the width, blocks without any part, a negative σ
            or eps, an unknown activation, norm or kind of link.
        RuntimeError: For a GPU that is not there.

    Example:
        >>> chain = transformer(1, 8, heads=2, links="part")
        >>> chain(torch.zeros(5, 3, 8)).shape, chain.names
        (torch.Size([5, 3, 8]), ['attention1', 'mlp1'])
    """
    check_sizes(depth=depth, width=width, heads=heads, mlp_ratio=mlp_ratio)
    if width % heads:
        raise ValueError(f"heads={heads} does not divide width={width}; each head gets width/heads entries.")
    if norm not in ("pre", "post", None):
        raise ValueError(f"norm={norm!r} does not exist here; take 'pre', 'post' or None.")
    if links not in ("block", "part"):
        raise ValueError(f"links={links!r} is no way to cut a block; take 'block' or 'part'.")
    if not (attention or mlp):
        raise ValueError("attention=False and mlp=False leave an empty block; keep at least one of them.")
    if eps < 0:
        raise ValueError(f"eps={eps} is negative; layer norm adds it to a variance.")
    phi = resolve(activation)
    generator = weight_generator(seed)
    place = check_device(device)

    def linear(fan_in: int, fan_out: int) -> nn.Linear:
        return affine(fan_in, fan_out, sigma_w, sigma_b, generator, device=device, dtype=dtype)

    def layer_norm() -> nn.LayerNorm:
        return nn.LayerNorm(width, eps=eps, device=place, dtype=dtype)

    def part(inner: nn.Module) -> nn.Module:
        if norm == "pre":
            inner = nn.Sequential(layer_norm(), inner)
        if skip:
            inner = Residual(inner, float(scale))
        return nn.Sequential(inner, layer_norm()) if norm == "post" else inner

    named: dict[str, nn.Module] = {}
    if n_in is not None:
        named["stem"] = Layer(linear(n_in, width), None)
    for block in range(1, depth + 1):
        parts: dict[str, nn.Module] = {}
        if attention:
            inner: nn.Module = Attention(linear(width, 3 * width), linear(width, width), heads, causal)
            parts[f"attention{block}"] = part(inner)
        if mlp:
            hidden = mlp_ratio * width
            inner = nn.Sequential(linear(width, hidden), Layer(linear(hidden, width), phi))
            parts[f"mlp{block}"] = part(inner)
        named |= parts if links == "part" else {f"block{block}": nn.Sequential(*parts.values())}
    if n_out is not None:
        named["readout"] = PooledReadout(linear(width, n_out), (1,), norm=layer_norm() if norm == "pre" else None)
    return Chain(list(named.values()), names=list(named))


add_jet_rule(Attention, JetRule(softmax_attention, methods=(Attention.weights, Attention._split)))
