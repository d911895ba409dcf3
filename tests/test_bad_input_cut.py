"""What `cut` refuses: each with one sentence that names the cause, and a model left as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labkit import cut


class Net(nn.Module):
    """Three layers and a forward made of a function of them."""

    def __init__(self, forward: Callable[["Net", Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.rule = forward
        self.double()

    def forward(self, x: Tensor) -> Any:
        return self.rule(self, x)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def straight(n: Net, x: Tensor) -> Tensor:
    return n.c(n.b(n.a(x)).tanh())


def traces(model: nn.Module) -> list[Any]:
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    return [hooks, [m.training for m in model.modules()], [p.grad for p in model.parameters()]]


def refused(kind: type[Exception], message: str, model: Any, at: Any, *inputs: Any, **kwargs: Any) -> None:
    """Cutting raises one sentence, and leaves hooks, modes, weights, buffers, inputs and random state alone."""
    before, random = traces(model), torch.get_rng_state()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    kept = [x.clone() for x in inputs]
    with pytest.raises(kind, match=message) as caught:
        cut(model, at, *inputs, **kwargs)
    assert "\n" not in str(caught.value)
    assert traces(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(x, old) for x, old in zip(inputs, kept, strict=True))


@pytest.mark.parametrize(
    ("at", "kind", "message"),
    [
        ("d", ValueError, "'d', which the model does not have; near it: 'a', 'b', 'c'"),
        ("inner.*.x", ValueError, r"'inner.\*.x', which the model does not have"),
        ([], ValueError, "at names no module"),
        (["b", "a"], ValueError, "out of order: 'b', 'a' came, but the model enters 'a', 'b'"),
        (["a", "a"], ValueError, "'a' twice"),
        (["a", "*"], ValueError, "'a' twice"),
        ([0], TypeError, "at must be a name or a sequence of names, but holds 0"),
    ],
)
def test_names_that_cannot_be_cut(at: Any, kind: type[Exception], message: str) -> None:
    refused(kind, message, Net(straight), at, X)


def test_a_near_name_is_found_by_its_spelling_and_by_its_tail() -> None:
    model = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))})
    refused(ValueError, "near it: 'encoder.0', 'encoder.1'", model, "encodr.0", X)
    refused(ValueError, "near it: 'encoder.1'", model, "1", X)
    refused(ValueError, "near it: 'encoder'", model, "completely_different", X)


def test_a_star_does_not_cross_a_dot() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 4)).double()
    assert cut(model, "*", X)[0].names == ["0", "1"]
    assert cut(model, "*.*", X)[0].names == ["0.0", "0.1"]
    assert cut(model, ["0", "0.1", "[1-9]"], X)[0].names == ["0", "0.1", "1"]


def test_modules_entered_never_or_repeatedly() -> None:
    refused(ValueError, "'b', which is never entered", Net(lambda n, x: n.a(x)), ["a", "b"], X)
    refused(ValueError, "'a', which is entered 2 times", Net(lambda n, x: n.a(n.a(x))), "a", X)
    shared = nn.Linear(4, 4).double()
    stack = nn.Sequential(shared, nn.Tanh(), shared)
    refused(ValueError, "'0', which is entered 2 times", stack, ["0", "1"], X)
    refused(ValueError, "'2' and '0', which are one shared module", stack, ["0", "2"], X)

    class Container(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h = nn.ModuleList([nn.Linear(4, 4).double()])

        def forward(self, x: Tensor) -> Tensor:
            return self.h[0](x)

    refused(ValueError, r"'h', which is never entered in this forward \(a container", Container(), "h", X)


@pytest.mark.parametrize(
    ("forward", "at", "around"),
    [
        (lambda n, x: n.c(n.b(n.a(x))) + n.a.weight.sum() * x, ["a", "b"], "'b'"),  # around both
        (lambda n, x: n.c(n.b(h := n.a(x)) + h), ["a", "b"], "'b'"),
        (lambda n, x: n.c(n.b(h := n.a(x)) + h), ["b"], "'b'"),  # the first cut: only its caller holds the skip
        (lambda n, x: n.c(n.b(h := n.a(x)) + h), ["b", "c"], "'b'"),
        (lambda n, x: n.c(n.b((h := n.a(x)).clone())) + 1e-3 * h, ["a", "c"], "'c'"),
        (lambda n, x: n.b(h := n.a(x)) + n.c(h), ["b", "c"], "'b'"),
        (lambda n, x: n.c(n.b(n.a(x)).tanh()) + x[:, :1], ["a"], "'a'"),  # through a view
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_path_around_a_cut_is_named(forward: Any, at: list[str], around: str, dtype: torch.dtype) -> None:
    model = Net(forward).to(dtype)
    refused(ValueError, f"a path goes around the cut at {around}: .* leave that name out", model, at, X.to(dtype))


def test_a_tiny_path_is_found_in_double_precision() -> None:
    model = Net(lambda n, x: n.c(n.b((h := n.a(x)).clone())) + 1e-9 * h)
    refused(ValueError, "around the cut at 'c'", model, ["a", "c"], X)


def test_equality_at_h_would_have_passed_the_bypass() -> None:
    model = Net(lambda n, x: n.c(n.b(h := n.a(x)) + h))
    whole, h = cut(model, ["a", "c"], X)
    assert torch.equal(whole(h), model(X))
    refused(ValueError, "around the cut at 'b'", model, ["a", "b", "c"], X)


def test_a_residual_branch_of_a_real_resnet_is_no_cut() -> None:
    transformers = pytest.importorskip("transformers", reason="pip install 'jacobian-chain[hf]' to cut its models")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[2], layer_type="basic")
    model = transformers.ResNetModel(config).double().eval()
    name = "encoder.stages.0.layers.1.layer.0"
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    refused(ValueError, f"around the cut at '{name}'", model, name, pixels)


def test_states_that_have_no_derivative() -> None:
    ids = torch.tensor([[1, 2], [3, 4]])
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    refused(TypeError, "'0', which is entered by torch.int64 .* cut at a later module, such as '1'", model, "*", ids)
    refused(TypeError, "output is torch.int64", Net(lambda n, x: n.a(x).argmax(-1)), "a", X)

    def under(guard: Callable[[], Any]) -> Net:
        def forward(n: Net, x: Tensor) -> Tensor:
            x = n.a(x)
            with guard():
                return n.c(n.b(x))

        return Net(forward)

    for guard in (torch.no_grad, torch.inference_mode):
        refused(ValueError, "no derivative from 'b' to 'c': a forward there runs", under(guard), ["a", "b", "c"], X)
        refused(ValueError, "no derivative from 'a' to the output", under(guard), ["a"], X)
    detached = Net(lambda n, x: n.b(n.a(x).detach()))
    refused(ValueError, "no derivative from 'a' to 'b'", detached, ["a", "b"], X)


def test_states_that_are_no_tensor_and_outputs_that_are_none() -> None:
    class Both(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0] + pair[1]

    model = Net(lambda n, x: n.pair((n.a(x), x)))
    model.pair = Both()
    refused(TypeError, "'pair', which no tensor enters", model, "pair", X)
    refused(TypeError, "output is a str without a tensor; wrap the model", Net(lambda n, x: str(n.a(x))), "a", X)
    fields = Net(lambda n, x: {"n": 1, "y": n.a(x)})
    refused(TypeError, r"at output='z'; output= may be one of \['y'\]", fields, "a", X, output="z")


def test_random_models() -> None:
    dropout = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Linear(4, 4)).double()
    refused(ValueError, r"Dropout '1' is in a mode that makes Df random; call model.eval\(\)", dropout, "*", X)
    assert len(cut(dropout.eval(), "*", X)[0]) == 3
    functional = Net(lambda n, x: n.b(nn.functional.dropout(n.a(x), 0.5, n.training)))
    refused(ValueError, r"two runs differ at 'b'; call model.eval\(\)", functional, ["a", "b"], X)
    noisy = Net(lambda n, x: n.a(x) + torch.rand_like(x)).eval()
    refused(ValueError, "two runs differ at the output; make it deterministic", noisy, "a", X)


def test_a_model_that_remembers_its_last_call() -> None:
    calls: list[int] = []

    def forward(n: Net, x: Tensor) -> Tensor:
        calls.append(1)
        return n.a(x) * len(calls)

    refused(ValueError, "remembers its last call", Net(forward).eval(), "a", X)


def test_samples_that_see_each_other() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)).double()
    refused(ValueError, r"BatchNorm1d '0' is in a mode that makes Df batch-coupled; call model.eval\(\)", norm, "*", X)
    centred = Net(lambda n, x: n.b((h := n.a(x)) - h.mean(0)))
    refused(ValueError, "samples see each other: .* at 'a', of shape", centred, ["a", "b"], X)
    attention = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)
    time_first = nn.TransformerEncoder(attention, 2, enable_nested_tensor=False).double().eval()
    sequence = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    refused(ValueError, r"of shape \(5, 3, 4\).*batch_first=True", time_first, "layers.*", sequence)


def test_batch_that_is_lost_on_the_way() -> None:
    loss = Net(lambda n, x: n.a(x).sum())
    refused(ValueError, r"'a' has shape \(3, 4\) and at the output \(\); choose", loss, "a", X)
    windows = Net(lambda n, x: n.b(n.a(x).reshape(-1, 2).repeat(1, 2)).reshape(3, -1))
    refused(ValueError, r"'a' has shape \(3, 4\) and at 'b' \(6, 4\); cut elsewhere", windows, ["a", "b"], X)
    for x in (X[0], X[:0]):
        refused(ValueError, r"'a' has shape .* but a chain needs \(B, \*s\)", Net(straight), "a", x)


def test_autocast_would_not_last_until_the_links_run() -> None:
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="autocast is on"):
        cut(Net(straight), "a", X)


def test_compiled_code_runs_past_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        traced = torch.jit.trace(model, X)
    with pytest.raises(ValueError, match=r"'1', which is never entered in this forward .* compiled code"):
        cut(traced, "1", X)


def test_states_that_are_not_finite() -> None:
    x = X.clone()
    x[2, 0] = torch.inf
    with pytest.raises(ValueError, match="state at 'a' is not finite in sample 2"):
        cut(Net(straight), "a", x)
    model = Net(lambda n, x: n.b(n.a(x) / 0))
    refused(ValueError, "state at 'b' is not finite in sample 0", model, ["a", "b"], X)


@pytest.mark.parametrize("index", [3, [0, 5], [], "first", torch.tensor(0.5)])
def test_index_outside_the_batch(index: Any) -> None:
    refused(ValueError, "index (must pick|picks no)", Net(straight), "a", X, index=index)


def test_index_of_arguments_that_are_not_per_sample() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4).double()

        def forward(self, x: Tensor, positions: Tensor) -> Tensor:
            return self.a(x + 1e-4 * positions[: x.shape[1]].sum())

    sentence = "picked by index differ .* whose first size is 3 was indexed"
    refused(ValueError, sentence, Mixed(), "a", X, X[:, 0], index=[0])
    square = Net(lambda n, x: n.a(x))
    square.rule = lambda n, x: n.a(x) @ n.mask(x)
    square.mask = lambda x: torch.eye(4, dtype=x.dtype) if len(x) == 3 else torch.eye(5)
    refused(ValueError, "model fails on the samples picked by index", square, "a", X, index=[0])


def test_a_link_takes_the_batch_that_was_cut() -> None:
    chain, h = cut(Net(straight), ["a", "b"], X)
    for wrong in (h[:1], torch.cat([h, h]), h[0], h.float()):
        with pytest.raises(ValueError, match=r"link at 'a' was cut for states of shape \(3, 4\) .* index= picks"):
            chain(wrong)


def test_train_mode_after_the_cut_is_found_when_it_is_linearized() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double().eval()
    chain, h = cut(model, ["0", "2"], X)
    model.train()
    with pytest.raises(ValueError, match=r"of link '0' is in a mode that makes Df random; call .eval\(\)"):
        chain.linearize(h)
    chain.eval().linearize(h)
    assert not model.training


def test_control_flow_that_changed_since() -> None:
    model = Net(straight)
    chain, h = cut(model, ["a", "b"], X)
    model.rule = lambda n, x: n.a(x)
    with pytest.raises(RuntimeError, match="did not come from 'a' to 'b' as it did when it was cut"):
        chain(h)
    model.rule = lambda n, x: n.c(x)
    with pytest.raises(RuntimeError, match="did not come from 'b' to the output"):
        chain[1](h)
    assert traces(model)[0] == [0, 0, 0, 0]


def test_an_error_of_the_model_passes_through_and_leaves_no_hook() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        n.a(x)
        raise KeyError("of the model")

    refused(KeyError, "of the model", Net(forward), "a", X)
    broken = Net(straight)
    chain, h = cut(broken, ["a", "b"], X)
    broken.c = None
    with pytest.raises(TypeError):
        chain(h)
    assert traces(broken)[0] == [0, 0, 0]
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_that_swallows_exceptions_cannot_swallow_a_stop() -> None:
    def forward(n: Net, x: Tensor) -> Tensor:
        try:
            return n.b(n.a(x))
        except Exception:
            return x

    model = Net(forward)
    chain, h = cut(model, ["a", "b"], X)
    assert torch.equal(chain(h), model(X))


def test_functions_have_no_names() -> None:
    with pytest.raises(TypeError, match=r"must be an nn.Module, .* a function came; labkit.Chain"):
        cut(lambda x: x, "a", X)
