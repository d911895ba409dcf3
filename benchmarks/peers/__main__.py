"""labkit beside the packages nearest to it: `make peers`, or `python -m benchmarks.peers [name …]` where they are.

Each comparison runs in a fresh process, since geomstats takes its backend from the environment and a peer that fails
must not take the others along: its error goes into peers.json instead of a row. One thread; processor time.
"""

import importlib
import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "peers.json"
PEERS = ("geomstats", "nngeometry", "curvlinops-for-pytorch", "backpack-for-pytorch", "stochman")
PATIENCE = 900  # seconds a comparison may take

COMPARISONS = {  # name: (module, function, what it needs, environment)
    "curvature: the unit sphere, geomstats on autograd": ("curvature", "sphere", "geomstats", "autograd"),
    "curvature: the unit sphere, geomstats on pytorch": ("curvature", "sphere", "geomstats", "pytorch"),
    "curvature: a random surface, geomstats": ("curvature", "by_geomstats", "geomstats", "autograd"),
    "curvature: a random surface, torch.func": ("curvature", "by_torch", "torch", None),
    "Fisher: nngeometry": ("fisher", "by_nngeometry", "nngeometry", None),
    "Fisher: curvlinops": ("fisher", "by_curvlinops", "curvlinops-for-pytorch", None),
    "Jacobians: torch.func": ("first_order", "by_torch", "torch", None),
    "Jacobians: stochman": ("first_order", "by_stochman", "stochman", None),
    "geodesics: stochman": ("first_order", "geodesics_by_stochman", "stochman", None),
}


def main(chosen: list[str]) -> None:
    """Run the comparisons whose names begin with one of those given, or all; write and print what they found."""
    found = json.loads(RESULTS.read_text())["comparisons"] if chosen and RESULTS.exists() else {}
    for name in COMPARISONS:
        if not chosen or name.startswith(tuple(chosen)):
            found[name] = outcome(name)
            report(name, found[name])
    ordered = {name: found[name] for name in COMPARISONS if name in found}
    RESULTS.write_text(json.dumps(machine() | {"comparisons": ordered}, indent=1) + "\n")
    print(f"written to {RESULTS}")


def outcome(name: str) -> dict[str, Any]:
    """The rows of one comparison from a process of its own, or the error that ended it; and the load meanwhile."""
    _, _, peer, backend = COMPARISONS[name]
    if installed(peer) is None:
        return {"error": f"{peer} is not installed: {why_not_installed(peer)}"}
    environment = os.environ | ({"GEOMSTATS_BACKEND": backend} if backend else {})
    command = [sys.executable, "-m", "benchmarks.peers", "--alone", name]
    before = os.getloadavg()[0]
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {PATIENCE} s"}
    if process.returncode:
        said = process.stderr.strip().splitlines() or [f"the process ended with {process.returncode}"]
        return {"error": said[-1]}
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    return {"load": load, "rows": json.loads(process.stdout.splitlines()[-1])}


def alone(name: str) -> None:
    """Run one comparison here and print its rows as one line of JSON, the last."""
    import torch

    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(1)
    module, function, _, _ = COMPARISONS[name]
    print(json.dumps(getattr(importlib.import_module(f"benchmarks.peers.{module}"), function)()))


def report(name: str, result: dict[str, Any]) -> None:
    """Print one comparison in plain words."""
    print(f"{name}  {'load ' + str(result['load']) if 'load' in result else ''}")
    if "error" in result:
        print(f"    FAILED: {result['error']}")
    for row in result.get("rows", []):
        shown = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
        print("    " + ", ".join(shown))


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    import platform

    names = ("torch", "numpy", "scipy", *PEERS)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: installed(name) or f"not installed: {why_not_installed(name)}" for name in names},
    }


def installed(name: str) -> str | None:
    """The version of a package, None where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def why_not_installed(name: str) -> str:
    """The last error of pip, which `make peers` keeps in the environment; else that nobody tried."""
    logs = sorted(Path(sys.prefix).glob(f"{name}==*.log"))
    errors = [line for log in logs for line in log.read_text().splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else "no attempt is recorded"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        alone(sys.argv[2])
    else:
        main(sys.argv[1:])
