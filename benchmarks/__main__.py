"""Runs every benchmark of this folder and prints its table: `python -m benchmarks [name …]`.

Each table goes into results.json as soon as it is measured, with the machine, its load and the versions beside it.
"""

import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

FOLDER = Path(__file__).parent


def main(chosen: list[str]) -> None:
    """Run the benchmarks named, or all."""
    names = [path.stem for path in sorted(FOLDER.glob("[!_]*.py")) if "def rows(" in path.read_text()]
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise SystemExit(f"no benchmark is called {unknown[0]!r}; there are {', '.join(names)}")
    results = FOLDER / "results.json"
    tables = json.loads(results.read_text()) if results.exists() else {}
    for name in chosen or names:
        tables[name] = machine() | measured(name)
        results.write_text(json.dumps(dict(sorted(tables.items())), indent=1, default=str) + "\n")
    print(f"written to {results}")


def measured(name: str) -> dict[str, Any]:
    """Run one benchmark, print its docstring's first line, the load and the table; return load and rows."""
    module = importlib.import_module(f"benchmarks.{name}")
    before = os.getloadavg()[0]
    rows = module.rows()
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    print((module.__doc__ or name).splitlines()[0])
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda number: f"{number:.3g}", na_rep=""))
    print(f"load before and after: {load[0]}, {load[1]}; {torch.get_num_threads()} thread(s)\n")
    return {"load": load, "threads": torch.get_num_threads(), "rows": rows}


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jacobian-chain", "torch", "numpy", "scipy")},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
