"""An installed wheel has what labkit reads at run time: data, styles and scripts, each found from elsewhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(folder), str(ROOT)])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    run([*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)])
    return folder


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "labkit").rglob("*") if path.is_file()}
    files = {path for path in files if "__pycache__" not in path}
    missing = files - set(zipfile.ZipFile(wheel).namelist())
    assert not missing
    assert {path.rpartition(".")[2] for path in files} >= {"py", "js", "css", "mplstyle"}


def test_data_are_found_from_an_installed_wheel(installed, tmp_path):
    script = """
import json, os, pathlib
import labkit
from labkit._data import data_file
from labkit.training import _fashion_files
from labkit.training.datasets import fashion_mnist

_fashion_files.DEBIAN = pathlib.Path("absent")
json.loads(data_file("claims.json").read_text())
data = fashion_mnist()
print(pathlib.Path(labkit.__file__).parent)
print(data_file("claims.json").parent)
print(len(data.train.labels), len(data.test.labels), data.source)
"""
    environment = {name: value for name, value in os.environ.items() if name != "LABKIT_DATA"}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    lines = run([sys.executable, "-c", script], cwd=tmp_path, env=environment).splitlines()
    package = installed / "labkit"
    assert lines == [
        str(package),
        str(package / "_data"),
        "5000 1000 Fashion-MNIST, the subset shipped with labkit",
    ]
