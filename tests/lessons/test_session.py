"""The first call of a lesson: seeds, style, strictness, and parameters refused early."""

import warnings

import matplotlib as mpl
import pytest
import torch

import labkit.lessons
from labkit.lessons import setup


def test_it_seeds_and_says_whether_the_profile_is_full() -> None:
    assert setup("full", seed=3) is True
    first = torch.rand(2)
    assert setup("fast", seed=3) is False
    assert torch.equal(torch.rand(2), first)


def test_it_sets_the_one_style() -> None:
    with mpl.rc_context():
        mpl.rcParams["axes.spines.top"] = True
        setup()
        assert mpl.rcParams["axes.spines.top"] is False


def test_warnings_are_errors_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.delenv("LABKIT_STRICT", raising=False)
        setup()
        warnings.warn("quiet", UserWarning, stacklevel=1)
        monkeypatch.setenv("LABKIT_STRICT", "1")
        setup()
        with pytest.raises(UserWarning, match="loud"):
            warnings.warn("loud", UserWarning, stacklevel=1)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="profile is 'slow'; 'fast' or 'full' would do"):
        setup("slow")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        setup(device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test must miss")
def test_an_absent_gpu_is_told() -> None:
    with pytest.raises(RuntimeError, match="finds no NVIDIA GPU here"):
        setup(device="cuda")


def test_the_public_names_load_when_used() -> None:
    for name in labkit.lessons.__all__:
        assert callable(getattr(labkit.lessons, name))
        assert name in dir(labkit.lessons)
    with pytest.raises(AttributeError, match="has no attribute 'chekc'; it has check, "):
        _ = labkit.lessons.chekc
