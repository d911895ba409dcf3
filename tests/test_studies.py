"""The study of trained networks: its functions on networks small enough to check by hand, and its table as committed.

Nothing here needs the trained weights.
"""

import importlib.util
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "data/studies/pretrained.py"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrained_study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bert(study: ModuleType) -> SimpleNamespace:
    """A tiny random BERT at three of six padded sentences, and what the study finds there in three directions."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, vocab_size=30,
        max_position_embeddings=8, initializer_range=0.5, attn_implementation="eager",
    )  # fmt: skip
    model = BertModel(config).double().eval()
    ids = torch.randint(1, 30, (6, 5))
    mask = torch.tensor([[1] * 5, [1] * 3 + [0] * 2, [1] * 4 + [0], [1] * 5, [1] * 2 + [0] * 3, [1] * 5])
    subject = study.sentence_subject(model, ids * mask, mask, points=3)
    return SimpleNamespace(
        model=model, ids=ids * mask, mask=mask, subject=subject,
        frame=study.directions(subject, 3), found=study.measure(subject, k=3),
    )  # fmt: skip


class TinyNet(nn.Module):
    """The parts of an EfficientNet by their names."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self._conv_stem, self._bn0, self._swish = nn.Conv2d(2, 3, 2, stride=2), nn.BatchNorm2d(3), nn.ReLU6()
        self._blocks = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU6())])
        self._conv_head, self._bn1, self._avg_pooling = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1)
        self._fc, self.scale = nn.Linear(4, 5), scale

    def forward(self, x: Tensor) -> Tensor:
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = self.scale * block(x)
        x = self._swish(self._bn1(self._conv_head(x)))
        return self._fc(self._avg_pooling(x).flatten(1))


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()


def test_sentences_end_in_the_mean_over_their_tokens(bert: SimpleNamespace) -> None:
    with torch.no_grad():
        states = bert.model(bert.ids[:3], attention_mask=bert.mask[:3]).last_hidden_state
        found = bert.subject.chain(bert.subject.x)
    expected = torch.stack([h[: int(m.sum())].mean(0) for h, m in zip(states, bert.mask[:3], strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_directions_are_orthonormal_and_lead_to_data(bert: SimpleNamespace) -> None:
    frame = bert.frame
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3).double().expand(3, 3, 3), rtol=0, atol=1e-12)
    padding = (bert.mask[:3, :, None].expand(3, 5, 8) == 0).flatten(1)
    assert padding.any()
    assert frame[padding].abs().max() < 1e-12
    step = ((bert.subject.others[4] - bert.subject.x[2]) * bert.subject.support[2]).flatten()
    torch.testing.assert_close(frame[2, :, :2] @ (frame[2, :, :2].mT @ step), step, rtol=1e-12, atol=1e-12)


def test_spectrum_and_curvature_are_those_of_automatic_differentiation(bert: SimpleNamespace) -> None:
    """At the last point, of the model itself run from its embeddings, with Gauss' equation written out."""
    x, frame, mask = bert.subject.x[2], bert.frame[2], bert.mask[2].double()
    hidden = (1 - mask)[None, None, None] * torch.finfo(torch.float64).min

    def pooled(u: Tensor) -> Tensor:
        h = (x + (frame @ u).reshape(x.shape))[None]
        for block in bert.model.encoder.layer:
            out = block(h, hidden)
            h = out[0] if isinstance(out, tuple) else out
        return (mask @ h[0]) / mask.sum()

    zero = torch.zeros(3).double()
    jacobian, hessian = torch.func.jacrev(pooled)(zero), torch.func.jacrev(torch.func.jacrev(pooled))(zero)
    expected = torch.linalg.svdvals(jacobian).log()
    np.testing.assert_allclose(bert.found["log_s"][-1][2], expected.detach(), rtol=0, atol=1e-9)

    tangent, bend = jacobian[:, :2].detach(), hessian[:, :2, :2].detach()
    normal = torch.eye(8).double() - tangent @ torch.linalg.pinv(tangent)
    form = torch.einsum("mn,nij->mij", normal, bend)
    gram = tangent.mT @ tangent
    gauss = 2 * (form[:, 0, 0] @ form[:, 1, 1] - form[:, 0, 1] @ form[:, 0, 1]) / torch.linalg.det(gram)
    half = torch.linalg.inv(torch.linalg.cholesky(gram))
    in_frame = half @ form @ half.mT
    spread = bert.found["spread"][-1]
    with torch.no_grad():
        states = bert.subject.chain(bert.subject.x)
    distances = [float((states[i] - states[j]).norm()) for i in range(3) for j in range(i)]
    assert math.isclose(spread, sum(distances) / 3, rel_tol=1e-12)
    mean = (in_frame[:, 0, 0] + in_frame[:, 1, 1]).norm() / 2
    assert math.isclose(bert.found["scalar"][-1][2], gauss * spread**2, rel_tol=1e-7)
    assert math.isclose(bert.found["mean_curvature"][-1][2], mean * spread, rel_tol=1e-7)
    assert math.isclose(bert.found["bending"][-1][2], in_frame.norm() * spread, rel_tol=1e-7)


def test_pictures_give_the_turning_of_circles(study: ModuleType, pictures: Tensor) -> None:
    torch.manual_seed(0)
    model = TinyNet().double().eval()
    study.settle(model, pictures)
    subject = study.image_subject(model, pictures, points=2)
    found = study.measure(subject, k=2, samples=32)
    assert found["states"] == ["_conv_stem", "_blocks.0", "_blocks.1", "_conv_head", "_fc", "output"]
    assert found["sizes"] == [32, 12, 12, 12, 4, 5]
    np.testing.assert_allclose(found["turning"][0], 1, rtol=1e-9)  # a circle turns once
    assert (np.array(found["turning"]) >= 1 - 1e-9).all()  # Fenchel
    assert np.max(found["turning"]) > 1.01
    assert (np.array(found["turning_coarse"]) <= np.array(found["turning"]) + 1e-9).all()  # inscribed polygons
    assert np.abs(found["scalar"]).max() < 1e-9  # between kinks it is flat


def test_pictures_of_another_network_are_refused(study: ModuleType, pictures: Tensor) -> None:
    with pytest.raises(RuntimeError, match="its blocks in a row differ at depth 2"):
        study.image_subject(TinyNet(scale=2.0).double().eval(), pictures, points=2)


def test_settled_batch_norm_gives_mean_0_and_variance_1(study: ModuleType, pictures: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).double().eval()
    study.settle(model, pictures)
    assert not model[1].training
    with torch.no_grad():
        out = model(pictures).transpose(0, 1).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(out.var(1), torch.ones(3).double(), rtol=0, atol=1e-3)


def test_circle_goes_through_its_three_points(study: ModuleType) -> None:
    corners = torch.tensor([[0.0, 0, 1], [3, 0, 1], [0, 3, 1]]).double()
    path = study.circle(corners, 400)
    centre = path.mean(0)
    torch.testing.assert_close(centre, torch.tensor([1.5, 1.5, 1.0]).double())
    torch.testing.assert_close((path - centre).norm(dim=1), torch.full((400,), 1.5 * math.sqrt(2)).double())
    torch.testing.assert_close(path[0], corners[0])
    assert torch.cdist(corners, path).amin(1).max() < 0.02


@pytest.mark.parametrize(("values", "expected"), [
    ([[2.0, 2.0, 2.0]], (2, 2, 2)),
    ([[0.0, 1.0]], (0.5, 0, 1)),  # both points may be the same one
    ([[0.0, 0.0], [1.0, 1.0]], (0.5, 0, 1)),  # and so may both seeds
])
def test_interval_of_known_values(study: ModuleType, values: list[list[float]], expected: tuple[float, ...]) -> None:
    assert study.interval(values) == pytest.approx(expected)


def test_rows_have_the_columns_of_the_table(study: ModuleType, bert: SimpleNamespace) -> None:
    rows = study.rows_of("tiny", "random", [bert.found | {"dtype": "float64"}] * 2)
    _, table = study.read_table()
    expected = [name for name in table.columns if not name.startswith("log_s_")] + ["log_s_1", "log_s_2", "log_s_3"]
    assert list(rows[0]) == expected
    assert [row["state"] for row in rows] == ["encoder.layer.0", "encoder.layer.1", "mean of tokens", "output"]
    assert rows[-1]["seeds"] == 2
    assert rows[-1]["effective_rank"] == pytest.approx(np.mean(bert.found["effective_rank"][-1]))


@pytest.fixture(scope="module")
def committed(study: ModuleType) -> tuple[dict[str, str], Any]:
    found: tuple[dict[str, str], Any] = study.read_table()
    return found


def test_table_says_how_it_was_made(study: ModuleType, committed: tuple[dict[str, str], Any]) -> None:
    about, table = committed
    python, script = about["command"].split()
    assert python == "python"
    assert (ROOT / script).samefile(SCRIPT)
    assert {"commit", "labkit", "python", "torch", "threads", "device", *study.PACKAGES} <= set(about)
    assert "local changes" not in about["commit"]
    assert about["threads"] == "1"
    for model, group in table.groupby("model"):
        seeds = group[group.variant == "random"].seeds.iloc[0]
        labels = [f"{model} trained", *(f"{model} random {seed}" for seed in range(seeds))]
        hashes = [about[label] for label in labels]
        assert all(text.startswith("weights sha256 ") and ", probe " in text for text in hashes)
        assert len(set(hashes)) == len(labels)


def test_every_network_has_every_depth(committed: tuple[dict[str, str], Any]) -> None:
    _, table = committed
    assert set(table.model) == {"minilm", "efficientnet"}
    for model, group in table.groupby("model"):
        trained, random = (group[group.variant == variant] for variant in ("trained", "random"))
        assert len(trained) + len(random) == len(group)
        for column in ("depth", "state", "size", "k", "points", "dtype"):
            assert list(trained[column]) == list(random[column]), (model, column)
        assert list(trained.depth) == list(range(len(trained)))
        assert trained.state.iloc[-1] == "output"
        assert (random.seeds >= 2).all()


def test_numbers_are_finite_and_in_order(study: ModuleType, committed: tuple[dict[str, str], Any]) -> None:
    _, table = committed
    (k,) = set(table.k)
    log_s = table[[f"log_s_{i}" for i in range(1, k + 1)]].to_numpy()
    assert np.isfinite(log_s).all()
    assert (np.diff(log_s, axis=1) <= 0).all()
    assert table.error.between(0, 0.1).all()
    assert table.effective_rank_low.ge(1 - 1e-5).all()
    assert table.effective_rank_high.le(k + 1e-4).all()
    np.testing.assert_allclose(table.growth, log_s.mean(1), atol=1e-5)
    np.testing.assert_allclose(table.distortion, log_s[:, 0] - log_s[:, -1], atol=1e-4)
    smooth = table.model == "minilm"
    for name in study.QUANTITIES:
        rows = table[~smooth] if name == "turning" else table
        low, mean, high = (rows[f"{name}{end}"].to_numpy() for end in ("_low", "", "_high"))
        assert ((low <= mean + 1e-5 * abs(mean)) & (mean <= high + 1e-5 * abs(high))).all(), name
    assert table[smooth].turning.isna().all()
    assert (table[~smooth].turning >= 1 - 1e-4).all()  # Fenchel: a closed curve turns at least once
    start = table[table.depth == 0]
    np.testing.assert_allclose(start.effective_rank, k, rtol=1e-5)
    np.testing.assert_allclose(start[["growth", "distortion", "scalar", "bending"]], 0, atol=1e-5)
