import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit._data import data_file
from labkit.training import _fashion_files
from labkit.training.datasets import digits, fashion_mnist, rings, two_spirals

SUBSET = "fashion_mnist_subset.npz"


@pytest.fixture
def no_folder(monkeypatch, tmp_path):
    """A machine without the Debian package and without LABKIT_DATA."""
    monkeypatch.setattr(_fashion_files, "DEBIAN", tmp_path / "absent")
    monkeypatch.delenv("LABKIT_DATA", raising=False)


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of the original layout with 40 + 20 images of random bytes, half of the files gzipped."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 40), ("t10k", 20)):
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        head = np.array([0x801, n], ">u4").tobytes()
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
        head = np.array([0x803, n, 28, 28], ">u4").tobytes()
        with gzip.open(tmp_path / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + images.tobytes())
    return tmp_path


def test_digits_are_scikit_learns_each_once():
    from sklearn.datasets import load_digits

    data = digits(scaling="unit", dtype=torch.float64)
    both = torch.cat([data.train.inputs, data.test.inputs]) * 16
    labels = torch.cat([data.train.labels, data.test.labels])
    found = sorted([*row, label] for row, label in zip(both.tolist(), labels.tolist(), strict=True))
    bunch = load_digits()
    assert found == sorted([*row, label] for row, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True))
    assert (len(data.train.labels), len(data.test.labels)) == (1438, 359)
    assert data.image_shape == (8, 8)


def test_digits_are_split_by_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = digits(), digits(), digits(seed=1)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.labels, other.train.labels)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("load", [digits, fashion_mnist])
def test_scalings_do_what_they_say(load):
    unit, whole, each = (load(scaling=s, dtype=torch.float64).train.inputs for s in ("unit", "dataset", "sample"))
    assert (unit.min().item(), unit.max().item()) == (0.0, 1.0)
    assert whole.mean().item() == pytest.approx(0, abs=1e-12)
    assert whole.square().mean().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(each.square().mean(1), torch.ones(len(each), dtype=torch.float64))
    torch.testing.assert_close(each.mean(1), torch.zeros(len(each), dtype=torch.float64))


def test_test_images_are_scaled_by_the_training_images():
    unit, whole = (digits(scaling=s, dtype=torch.float64) for s in ("unit", "dataset"))
    pixels = unit.train.inputs
    expected = (unit.test.inputs - pixels.mean()) / (pixels - pixels.mean()).square().mean().sqrt()
    torch.testing.assert_close(whole.test.inputs, expected)


@pytest.mark.parametrize("load", [digits, fashion_mnist])
def test_images_and_flat_inputs_hold_the_same_numbers(load):
    flat, images = load(), load(flat=False)
    height, width = flat.image_shape
    assert flat.shape == (height * width,)
    assert images.shape == (1, height, width)
    assert torch.equal(images.test.inputs.flatten(1), flat.test.inputs)


@pytest.mark.parametrize("load", [digits, two_spirals, rings])
def test_dtype_is_the_default_or_the_one_asked_for(load):
    assert load().train.inputs.dtype == torch.float32
    assert load(dtype=torch.float64).test.inputs.dtype == torch.float64
    assert load().train.labels.dtype == torch.int64


def test_shipped_subset_is_balanced_and_says_so(no_folder):
    data = fashion_mnist(scaling="unit")
    assert data.source == "Fashion-MNIST, the subset shipped with labkit"
    assert data.train.labels.bincount().tolist() == [500] * 10
    assert data.test.labels.bincount().tolist() == [100] * 10
    assert len(data.names) == 10


def test_shipped_subset_is_the_file_that_its_readme_describes():
    path = data_file(SUBSET)
    readme = (Path(__file__).parents[2] / "data" / "README.md").read_text()
    assert path.stat().st_size <= 2_700_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() in re.findall(r"[0-9a-f]{64}", readme)


@pytest.mark.skipif(
    bool(_fashion_files.IdxFolder(_fashion_files.DEBIAN).missing()),
    reason="needs the Debian package dataset-fashion-mnist",
)
def test_shipped_subset_is_the_first_of_each_class_of_the_original(monkeypatch):
    full = fashion_mnist(scaling="unit")
    assert full.source == f"Fashion-MNIST in {_fashion_files.DEBIAN}"
    monkeypatch.setattr(_fashion_files, "DEBIAN", Path("/absent"))
    shipped = fashion_mnist(scaling="unit")
    for one, other in zip((*full.train, *full.test), (*shipped.train, *shipped.test), strict=True):
        assert torch.equal(one, other)


def test_a_smaller_request_is_balanced_too():
    data = fashion_mnist(200, 20)
    assert data.train.labels.bincount().tolist() == [20] * 10
    assert data.test.labels.bincount().tolist() == [2] * 10


def test_own_folder_wins_and_then_the_environment(idx_folder, monkeypatch):
    data = fashion_mnist(20, None, folder=idx_folder, scaling="unit", flat=False, dtype=torch.float64)
    assert data.source == f"Fashion-MNIST in {idx_folder}"
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(40) % 10)
    images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    seen = dict.fromkeys(range(10), 0)
    expected = []
    for index, label in enumerate(labels.tolist()):
        seen[label] += 1
        if seen[label] <= 2:
            expected.append(index)
    assert data.train.labels.tolist() == labels[expected].tolist()
    torch.testing.assert_close(data.train.inputs[:, 0] * 255, torch.from_numpy(images[expected]).double())
    assert len(data.test.labels) == 20

    monkeypatch.setenv("LABKIT_DATA", str(idx_folder))
    assert torch.equal(fashion_mnist(20, 10, scaling="unit").train.labels, data.train.labels)


def test_a_folder_without_the_files_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"folder='.*' lacks train-images-idx3-ubyte, .*images shipped"):
        fashion_mnist(folder=tmp_path)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"LABKIT_DATA='.*' lacks"):
        fashion_mnist()


@pytest.mark.parametrize("damage", ["cut", "not gzip", "other sizes", "empty"])
def test_a_damaged_file_is_named(idx_folder, damage):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(path.read_bytes())
    spoilt = {
        "cut": path.read_bytes()[:5000],
        "not gzip": b"hello",
        "other sizes": gzip.compress(whole[:8] + bytes(4) + whole[12:]),
        "empty": gzip.compress(b""),
    }
    path.write_bytes(spoilt[damage])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is no whole idx file.*copy it again"):
        fashion_mnist(20, 10, folder=idx_folder)


def test_more_than_the_source_has_says_where_more_is(no_folder):
    with pytest.raises(ValueError, match=r"n_train=6000 is more than the 5000 of .*dataset-fashion-mnist"):
        fashion_mnist(6000)


@pytest.mark.parametrize("n", [0, -10, 15])
def test_a_count_that_ten_classes_cannot_share_is_refused(n):
    with pytest.raises(ValueError, match=f"n_test={n} is no positive multiple of 10"):
        fashion_mnist(100, n)


def test_rings_have_their_radii():
    data = rings(400, radius=0.25, noise=0.0, dtype=torch.float64)
    radii = data.train.inputs.norm(dim=1)
    torch.testing.assert_close(radii, torch.where(data.train.labels == 0, 1.0, 0.25).double())


def test_spirals_are_each_others_half_turn():
    data = two_spirals(400, turns=2.0, noise=0.0, dtype=torch.float64)
    x = torch.where(data.train.labels[:, None] == 0, data.train.inputs, -data.train.inputs)
    radius = x.norm(dim=1)
    on_arm = torch.stack([radius * torch.cos(4 * torch.pi * radius), radius * torch.sin(4 * torch.pi * radius)], dim=1)
    torch.testing.assert_close(x, on_arm)
    assert radius.max() <= 1


@pytest.mark.parametrize("load", [two_spirals, rings])
def test_toy_sets_are_balanced_noisy_as_asked_and_reproducible(load):
    quiet, noisy = load(2000, noise=0.0, dtype=torch.float64), load(2000, noise=0.1, dtype=torch.float64)
    labels = torch.cat([quiet.train.labels, quiet.test.labels])
    assert labels.bincount().tolist() == [1000, 1000]
    noise = noisy.train.inputs - quiet.train.inputs  # 3200 numbers: the deviation has standard error 0.1/√6400
    assert noise.std().item() == pytest.approx(0.1, abs=5 * 0.1 / 80)
    assert torch.equal(load(seed=3).test.inputs, load(seed=3).test.inputs)
    assert load().shape == (2,)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: digits(scaling="zscore"), "scaling='zscore' does not exist; take one of unit, dataset, sample"),
        (lambda: digits(test_fraction=1.0), r"test_fraction=1.0 .*\(0, 1\)"),
        (lambda: rings(3), "n=3 is no even number"),
        (lambda: two_spirals(noise=-0.1), "noise=-0.1 is negative"),
    ],
)
def test_bad_arguments_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_file_that_labkit_does_not_have_is_named():
    with pytest.raises(FileNotFoundError, match=r"name='nothing.npz' is no data file"):
        data_file("nothing.npz")
