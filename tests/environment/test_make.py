"""`make` on machines that lack something: each tells in one sentence what is wrong, and the next call mends it.

A copy of the Makefile and its scripts runs in a folder with a space and an umlaut, with only shell tools and fake
Pythons on PATH, so nothing here needs a network or takes more than a moment.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = (
    "make bash sh echo sed awk df cat cksum mkdir rm ls cp head tail grep tee uname dirname basename sleep chmod touch"
)

FAKE_PYTHON = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
  *version_info*) echo {version} ;;
  *ensurepip*) {ensurepip} ;;
  *libatomic*) exit 0 ;;
  "-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && touch "$4/pyvenv.cfg" && cp "$0" "$4/bin/python" ;;
  *"pip install"*)
    touch "$CALLS.pip"
    if [[ ${{PIP_SAYS-}} == hang ]]; then sleep 30; fi
    if [[ ${{PIP_SAYS-}} ]]; then echo "ERROR: $PIP_SAYS"; exit 1; fi
    printf '#!/bin/sh\\necho lessons on "$3"\\n' >"$(dirname "$0")/labkit" && chmod +x "$(dirname "$0")/labkit" ;;
  *torchvision*) exit 1 ;;
esac
"""


class Machine:
    """A folder of the project and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "Meine Übungen"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.venv = self.project / ".venv"
        self.bin.mkdir()
        for tool in TOOLS.split():
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.fail(f"this test needs {tool}"))
        (self.project / "requirements").mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.project / "scripts")
        for name in ["Makefile", "pyproject.toml", "requirements/lock.txt"]:
            shutil.copy(ROOT / name, self.project / name)
        self.environment = {"PATH": str(self.bin), "HOME": "/nonexistent", "CALLS": str(self.calls)}

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str = "python3", version: str = "3.11", ensurepip: str = "exit 0") -> None:
        self.tool(name, FAKE_PYTHON.format(version=version, ensurepip=ensurepip))

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--no-print-directory", *words]
        settings = self.environment | environment
        return subprocess.run(command, cwd=self.project, env=settings, capture_output=True, text=True, timeout=60)

    def times(self, call: str) -> int:
        return sum(line.startswith(call) for line in self.calls.read_text().splitlines())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def told(process: subprocess.CompletedProcess[str]) -> list[str]:
    assert process.returncode != 0
    return [line for line in process.stderr.splitlines() if line and not line.startswith("make:")]


def test_alone_it_lists_the_two_commands_first(machine: Machine) -> None:
    lines = machine.make().stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["make", "report"],
        ["make", "test"],
        ["make", "lab"],
    ]


def test_wrong_python_is_one_sentence(machine: Machine) -> None:
    machine.python(version="3.9")
    (sentence,) = told(machine.make("report"))
    assert sentence.startswith("python3 is Python 3.9, but Python 3.11, 3.12 or 3.13 is needed")
    assert not machine.venv.exists()


@pytest.mark.parametrize(("version", "start"), [("3.14", "mine is Python 3.14"), (None, "PYTHON=mine does not run")])
def test_wrong_python_by_name_is_one_sentence(machine: Machine, version: str | None, start: str) -> None:
    machine.python()
    if version is not None:
        machine.python("mine", version)
    (sentence,) = told(machine.make("report", "PYTHON=mine"))
    assert sentence.startswith(start)
    assert "make test PYTHON=python3.12" in sentence


def test_takes_another_python_where_the_first_does_not_suit(machine: Machine) -> None:
    machine.python(version="3.14")
    machine.python("python3.12", version="3.12")
    process = machine.make("report")
    assert process.stdout == "lessons on cpu\n"
    assert "with python3.12" in process.stderr


def test_a_second_call_does_no_setup(machine: Machine) -> None:
    machine.python()
    machine.make("report")
    process = machine.make("report", "DEVICE=cuda")
    assert (process.stdout, process.stderr) == ("lessons on cuda\n", "")
    assert machine.times("-m pip install") == 1


def test_half_built_environment_is_made_again(machine: Machine) -> None:
    machine.python()
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "pyvenv.cfg").touch()
    (machine.venv / "bin/python").symlink_to("/nonexistent")
    assert machine.make("report").stdout == "lessons on cpu\n"
    assert machine.times("-m venv --clear") == 1


def test_environment_of_a_moved_folder_is_made_again(machine: Machine) -> None:
    machine.python()
    machine.make("report")
    machine.project = machine.project.rename(machine.project.with_name("moved"))
    assert machine.make("report").stdout == "lessons on cpu\n"
    assert machine.times("-m venv --clear") == 2


def test_changed_lock_updates_in_place(machine: Machine) -> None:
    machine.python()
    machine.make("report")
    with (machine.project / "requirements/lock.txt").open("a") as lock:
        lock.write("another==1.0\n")
    machine.make("report")
    assert (machine.times("-m venv"), machine.times("-m pip install")) == (1, 2)


def test_another_python_makes_it_again(machine: Machine) -> None:
    machine.python()
    machine.python("python3.13", version="3.13")
    machine.make("report")
    machine.make("report", "PYTHON=python3.13")
    assert "with python3.13" not in machine.make("report").stderr
    assert machine.times("-m venv") == 2


@pytest.mark.parametrize(("pip", "advice"), [
    ("No matching distribution found for hatchling>=1.27", "check the network"),
    ("[Errno 28] No space left on device", "make room"),
    ("Package 'x' requires a different Python", "its whole output is in .venv/setup.log"),
])
def test_failed_pip_is_explained_and_mended(machine: Machine, pip: str, advice: str) -> None:
    machine.python()
    assert advice in told(machine.make("report", PIP_SAYS=pip))[-1]
    assert machine.make("report").stdout == "lessons on cpu\n"


def test_interrupted_setup_is_mended(machine: Machine) -> None:
    machine.python()
    process = subprocess.Popen(
        ["make", "report"], cwd=machine.project, env=machine.environment | {"PIP_SAYS": "hang"}, text=True,
        stderr=subprocess.PIPE, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until(Path(f"{machine.calls}.pip").exists)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "interrupted; the next call starts it afresh" in errors
    assert machine.make("report").stdout == "lessons on cpu\n"
    assert machine.times("-m venv --clear") == 2


def test_foreign_folder_is_left_alone(machine: Machine) -> None:
    machine.python()
    machine.venv.mkdir()
    (machine.venv / "thesis.tex").touch()
    (sentence,) = told(machine.make("report"))
    assert sentence == "VENV=.venv is a folder with other things in it: name a new one."
    assert (machine.venv / "thesis.tex").exists()


def test_a_browser_that_is_there_is_not_asked_for(machine: Machine) -> None:
    machine.python()
    machine.tool("chromium-browser", "")
    assert machine.make("with-browser").returncode == 0
    assert "lacks" not in machine.make("with-browser").stderr


@pytest.mark.parametrize("target", ["report", "test"])
def test_what_debian_lacks_is_one_line_to_paste(machine: Machine, target: str) -> None:
    machine.python(ensurepip="exit 1")
    machine.tool("apt-get", '#!/bin/bash\necho "apt-get $*" >>"$CALLS"\n')
    process = machine.make(target)
    assert process.returncode != 0
    packages = {"report": "python3-venv", "test": "python3-venv chromium"}[target]
    if os.geteuid() == 0:
        assert machine.times(f"apt-get install -y -qq {packages}") == 1
    else:
        assert f"    apt-get install {packages}\n" in process.stderr
    assert not machine.venv.exists()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
