"""What the project asks for is written once: pyproject.toml, the lock, environment.yml and setup.sh must agree.

Nothing here needs conda or a network: the files are read and compared.
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements/lock.txt").read_text().split())
DIRECT = [Requirement(line) for group in [PROJECT["dependencies"], *EXTRAS.values()] for line in group]


def test_conda_names_a_python_that_fits_and_no_version_twice() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, through_pip = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert python.startswith("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert pip == "pip"
    assert through_pip == {"pip": ["-c requirements/lock.txt", "-e .[all]"]}


def test_all_names_every_extra() -> None:
    (everything,) = (Requirement(line) for line in EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(EXTRAS) - {"all"}


@pytest.mark.parametrize("requirement", [r for r in DIRECT if r.name != PROJECT["name"]], ids=lambda r: r.name)
def test_lock_holds_a_version_in_range(requirement: Requirement) -> None:
    locked = {canonicalize_name(name): version for name, version in LOCK.items()}
    assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_lock_has_nothing_that_only_one_machine_can_install() -> None:
    assert not [name for name, version in LOCK.items() if "+" in version or "@" in version]
    assert "torchvision" not in LOCK  # must match torch's build, and nothing here needs it


def test_setup_accepts_exactly_the_pythons_that_pyproject_names() -> None:
    script = (ROOT / "scripts/setup.sh").read_text()
    accepted = re.search(r"suits\(\) \{ case \$1 in ([\d. |]+)\)", script)
    assert accepted is not None
    fitting = {f"3.{minor}" for minor in range(30) if SpecifierSet(PROJECT["requires-python"]).contains(f"3.{minor}")}
    assert set(accepted[1].split(" | ")) == fitting


def test_citation_tells_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
