"""What this machine has for the course, and for anything missing the line that brings it."""

import importlib.metadata
import importlib.util
import platform

import torch

__all__ = ["environment"]

_EXTRAS = {"anywidget": ("live explorers", "lab"), "transformers": ("C5, other people's models", "hf")}


def environment() -> str:
    """One line each on Python, torch, the GPU, the data and the optional packages.

    Example:
        >>> environment().splitlines()[0].startswith("Python")
        True
    """
    from labkit.training.datasets import fashion_mnist

    lines = {
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} thread(s)",
        "GPU": _gpu(),
        "images": f"digits of scikit-learn; {fashion_mnist(10, 10).source}",
    }
    for package, (use, extra) in _EXTRAS.items():
        missing = f'missing, needed for {use}: python -m pip install -e ".[{extra}]"'
        there = importlib.util.find_spec(package) is not None
        lines[package] = importlib.metadata.version(package) if there else missing
    return "\n".join(f"{name:13s} {text}" for name, text in lines.items())


def _gpu() -> str:
    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()}: set device = "cuda" above to use it'
    return "none; nothing here needs one"
