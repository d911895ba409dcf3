"""`cut` against an independently hooked model: values also from noisy states, Jacobians, and what it leaves behind."""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import Chain, cut


class Case(NamedTuple):
    """A model, where to cut it, its arguments, and how to read its output."""

    model: nn.Module
    at: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: list[str]
    read: Callable[[Any], Tensor] = lambda out: out


IDS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=12, n_head=2, bos_token_id=0, eos_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    names = [f"transformer.h.{k}" for k in range(12)]  # h.10 follows h.9, not h.1
    return Case(
        GPT2LMHeadModel(config), "transformer.h.*", (IDS,), {"attention_mask": MASK}, names, lambda out: out.logits
    )


def bert() -> Case:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=6, attn_implementation="eager",
    )  # fmt: skip
    at = ["embeddings.dropout", "encoder.layer.*"]
    names = ["embeddings.dropout", "encoder.layer.0", "encoder.layer.1"]
    kwargs = {"input_ids": IDS, "attention_mask": MASK}
    return Case(BertModel(config), at, (), kwargs, names, lambda out: out.last_hidden_state)


def vit() -> Case:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=4, patch_size=2,
        attn_implementation="sdpa",  # its eager attention computes in float32
    )  # fmt: skip
    names = ["layers.0", "layers.1"]
    return Case(ViTModel(config), "layers.*", (noise(2, 3, 4, 4),), {}, names, lambda out: out.last_hidden_state)


def resnet() -> Case:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 2], layer_type="basic", num_labels=3)
    at = ["resnet.embedder", "resnet.encoder.stages.*", "resnet.encoder.stages.1.layers.1", "resnet.pooler"]
    stages = ["resnet.encoder.stages.0", "resnet.encoder.stages.1"]
    model = ResNetForImageClassification(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    return Case(model, at, (noise(2, 3, 8, 8),), {}, [at[0], *stages, *at[2:]], lambda out: out.logits)


def encoder() -> Case:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    return Case(model, "layers.*", (noise(2, 3, 8),), {"mask": mask}, ["layers.0", "layers.1"])


def cnn() -> Case:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(48, 4), nn.ReLU(inplace=True), nn.Linear(4, 3),
    )  # fmt: skip
    model[1].running_mean.normal_()
    return Case(model, "*", (noise(2, 1, 4, 4),), {}, [str(k) for k in range(8)])


class Gate(nn.Module):
    """Its state is a keyword, of a name that nobody knows, behind one that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, *, level: int, features: Tensor, gate: Tensor) -> Tensor:
        return features + level * torch.sin(self.inner(features) * gate)


class Keywords(nn.Module):
    """Plain functions between its modules, no positional argument, a dict as output, its own input overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.block, self.head = nn.Linear(3, 5), Gate(), nn.Linear(5, 2)

    def forward(self, *, signal: Tensor, gate: Tensor) -> dict[str, Any]:
        signal.mul_(2)
        h = self.block(level=2, features=F.layer_norm(F.silu(self.lift(signal)), (5,)), gate=gate)
        return {"steps": 2, "signal": signal, "scores": self.head(h)}


def keywords() -> Case:
    kwargs = {"signal": noise(2, 3), "gate": noise(2, 1)}
    return Case(Keywords(), ["block", "head"], (), kwargs, ["block", "head"], lambda out: out["scores"])


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def wrapped() -> Case:
    inner = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 2))
    names = ["module.0", "module.1", "module.1.1", "module.2"]
    return Case(Wrapper(inner), names, (noise(2, 3),), {}, names)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


FACTORIES = [gpt2, bert, vit, resnet, encoder, cnn, keywords, wrapped]


@functools.cache
def prepared(factory: Callable[[], Case]) -> Case:
    if factory in (gpt2, bert, vit, resnet):
        pytest.importorskip("transformers", reason="pip install 'jacobian-chain[hf]' to cut its models")
    torch.manual_seed(0)
    case = factory()
    case.model.double().eval()
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # initial zeros and ones would hide paths
    return case


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    return prepared(request.param)


def cut_case(case: Case, **options: Any) -> tuple[Chain, Tensor]:
    return cut(case.model, case.at, *case.args, **case.kwargs, output=output_of(case), **options)


def output_of(case: Case) -> str | None:
    return "scores" if isinstance(case.model, Keywords) else None


def run(case: Case, name: str | None = None, h: Tensor | None = None) -> Tensor:
    """The real model, with h entering the module `name` in place of the tensor that would."""

    def put(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (h.clone(), *args[1:]), kwargs
        name = "features" if "features" in kwargs else "hidden_states"
        return args, kwargs | {name: h.clone()}

    hooks = [] if name is None else [
        case.model.get_submodule(name).register_forward_pre_hook(put, with_kwargs=True)
    ]  # fmt: skip
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return case.read(case.model(*copy.deepcopy(case.args), **copy.deepcopy(case.kwargs)))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_chain_is_the_model(case: Case) -> None:
    chain, h = cut_case(case)
    assert chain.names == case.names
    assert len(chain) == len(case.names)
    assert not h.requires_grad
    states = chain.states(h)
    assert all(len(state) == 2 and state.dtype == torch.float64 for state in states)
    assert_close(states[-1], run(case))


def test_from_a_noisy_state_at_every_name_too(case: Case) -> None:
    chain, h = cut_case(case)
    for k, (name, state) in enumerate(zip(chain.names, chain.states(h), strict=False)):
        moved = state + 0.3 * noise(*state.shape)
        end = chain[k:](moved)
        assert_close(end, run(case, name, moved))
        assert not torch.allclose(end, run(case), rtol=1e-6)


def test_folded_links_are_autograd_through_the_hooked_model(case: Case) -> None:
    chain, h = cut_case(case)
    first = max(0, len(chain) - 4)  # keeps the state of the first name small
    part, state = chain[first:], chain.states(h)[first]
    whole = torch.autograd.functional.jacobian(lambda s: run(case, case.names[first], s).flatten(1), state)
    expected = torch.stack([whole[b, :, b].flatten(1) for b in range(2)])
    assert_close(part.linearize(state).dense(), expected)
    last = torch.autograd.functional.jacobian(
        lambda s: run(case, case.names[-1], s).flatten(1), chain.states(h)[-2]
    )
    assert_close(part.linearize(state)[-1], torch.stack([last[b, :, b].flatten(1) for b in range(2)]))


def test_links_push_tangents_under_vmap(case: Case) -> None:
    chain, h = cut_case(case)
    tangents = noise(3, *h.shape)
    pushed, state = tangents, h
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for link in chain:
            pushed = torch.func.vmap(lambda v, f=link, s=state: torch.func.jvp(f, (s,), (v,))[1])(pushed)
            state = link(state)
        whole = [torch.func.jvp(lambda s: run(case, case.names[0], s), (h,), (v,))[1] for v in tangents]
    assert_close(pushed, torch.stack(whole))


def traces(model: nn.Module) -> list[Any]:
    hooks = [len(getattr(m, kind)) for m in model.modules() for kind in ("_forward_pre_hooks", "_forward_hooks")]
    return [hooks, [m.training for m in model.modules()], [p.grad for p in model.parameters()]]


def test_the_model_is_left_as_it_was(case: Case) -> None:
    traced, weights = traces(case.model), copy.deepcopy(case.model.state_dict())
    arguments = copy.deepcopy((case.args, case.kwargs))
    random, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    chain, h = cut_case(case)
    kept = h.clone()
    chain(h)
    assert traces(case.model) == traced
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.equal(h, kept)
    torch.testing.assert_close(case.model.state_dict(), weights, rtol=0, atol=0)
    torch.testing.assert_close((case.args, case.kwargs), arguments, rtol=0, atol=0)


@pytest.mark.parametrize("index", [1, [1], slice(1, None), torch.tensor([False, True]), -1])
def test_index_picks_the_samples_and_their_masks(index: Any) -> None:
    case = prepared(encoder)
    padding = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]], dtype=torch.float64)
    model, x = case.model, case.args[0]
    whole, h_whole = cut(model, "layers.*", x, src_key_padding_mask=padding, **case.kwargs)
    chain, h = cut(model, "layers.*", x, src_key_padding_mask=padding, **case.kwargs, index=index)
    assert_close(h, h_whole[1:])
    assert_close(chain(h), whole(h_whole)[1:])
    assert_close(chain.linearize(h).dense(), whole.linearize(h_whole).dense()[1:])


def test_index_keeps_its_order_and_repetitions() -> None:
    case = prepared(gpt2)
    whole, h_whole = cut_case(case)
    chain, h = cut_case(case, index=[1, 0, 1])
    assert_close(h, h_whole[[1, 0, 1]])
    assert_close(chain(h), whole(h_whole)[[1, 0, 1]])


def test_output_picks_a_field_by_name_or_position() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(3, 3).double()

        def forward(self, x: Tensor) -> Any:
            y = self.f(x)
            return "label", y, y.exp()

    model, x = Pair(), noise(2, 3)
    for output, expected in [(None, model.f(x)), (1, model.f(x)), (2, model.f(x).exp())]:
        chain, h = cut(model, "f", x, output=output)
        assert_close(chain(h), expected)
    case = prepared(bert)
    chain, h = cut(case.model, "encoder.layer.*", **case.kwargs, output="pooler_output")
    assert chain(h).shape == (2, 8)
    assert_close(chain(h), case.model(**case.kwargs).pooler_output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_a_deep_low_precision_model_is_no_bypass(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU()) for _ in range(24)]
    model = nn.Sequential(*blocks).to(dtype)
    x = noise(3, 16).to(dtype)
    chain, h = cut(model, "*", x)
    assert len(chain) == 24
    assert torch.equal(chain(h), model(x))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_the_callers_guard_does_not_matter(guard: Callable[[], Any]) -> None:
    case = prepared(cnn)
    with guard():
        chain, h = cut(case.model, "*", case.args[0].clone())
    assert not h.is_inference()
    assert_close(chain.linearize(h).dense(), cut_case(case)[0].linearize(h).dense())


def test_padding_keeps_ordinary_states_where_the_fast_path_would_nest_them() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dtype=torch.float64)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, padding = noise(2, 3, 8), torch.tensor([[False, False, False], [False, False, True]])
    chain, h = cut(model, "layers.*", x, src_key_padding_mask=padding)
    with torch.no_grad():
        end = chain(h)
    assert_close(end, model(x, src_key_padding_mask=padding))  # under grad torch takes the ordinary path
    assert torch.backends.mha.get_fastpath_enabled()


def test_states_may_be_views_and_parameters() -> None:
    class Queries(nn.Module):
        def __init__(self, expand: bool) -> None:
            super().__init__()
            self.queries = nn.Parameter(noise(2, 5, 4))
            self.expand = expand
            self.a, self.b = nn.Linear(4, 4).double(), nn.Linear(5, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            entering = self.queries[:1].expand(len(x), -1, -1) if self.expand else self.queries
            return self.b(self.a(entering).transpose(1, 2)) + x[:, None]

    for expand in (True, False):
        model = Queries(expand)
        before = model.queries.detach().clone()
        chain, h = cut(model, ["a", "b"], noise(2, 2))
        assert torch.equal(model.queries, before)
        assert_close(chain(h), model(noise(2, 2)))


def test_tied_weights_are_no_obstacle_and_links_follow_the_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    chain, h = cut(model, ["0", "2"], noise(3, 4))
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert_close(chain(h), model(h))
    assert {id(p) for p in chain.parameters()} == {id(p) for p in model.parameters()}
    chain(h).sum().backward()
    assert model[0].weight.grad is not None


def test_a_chain_moves_with_its_frozen_arguments() -> None:
    case = prepared(keywords)
    chain, h = cut_case(case)
    moved = copy.deepcopy(chain).float()
    torch.testing.assert_close(moved(h.float()), chain(h).float())
    assert chain(h).dtype == torch.float64
    assert repr(chain[1]) == "CutLink('head' to the output of Keywords)"


def test_hooks_of_the_user_belong_to_the_link_after_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    handle = model[2].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    x = noise(2, 3)
    chain, h = cut(model, ["0", "2"], x)
    assert_close(chain(h), model(x))
    assert_close(chain.states(h)[1], torch.tanh(model[0](x)))
    handle.remove()


def test_functions_need_no_cut() -> None:
    chain = Chain([torch.tanh, lambda h: h @ h.new_ones(3, 2)])
    assert_close(chain(noise(2, 3)), torch.tanh(noise(2, 3)) @ torch.ones(3, 2, dtype=torch.float64))
