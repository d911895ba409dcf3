"""Where the lessons stand: each a percent script in `notebooks/source/` and a notebook of the same stem.

Everything in the press takes the root of a checkout, so that a test can make a small one of its own.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["STAGES", "Lesson", "find_lesson", "find_root", "lessons"]

STAGES = {"A": "A_formalization", "B": "B_diagnostics", "C": "C_principles"}


@dataclass(frozen=True)
class Lesson:
    """One lesson of a checkout.

    Attributes:
        root: the checkout.
        stem: file name without suffix, "A1_jacobian_chain".
    """

    root: Path
    stem: str

    @property
    def id(self) -> str:
        """What exercises and claims start with: "A1"; "S0" for 00_start_here."""
        head = self.stem.split("_")[0]
        return "S0" if head == "00" else head

    @property
    def source(self) -> Path:
        """The percent script."""
        return self.root / "notebooks" / "source" / f"{self.stem}.py"

    @property
    def notebook(self) -> Path:
        """The notebook, in its stage's folder."""
        return self.root / "notebooks" / STAGES.get(self.stem[:1], "") / f"{self.stem}.ipynb"


def find_root(start: Path | None = None) -> Path:
    """The checkout around `start`.

    Args:
        start: where to look; None is the current folder.

    Raises:
        ValueError: no folder on the way up has `notebooks/source`.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks" / "source").is_dir():
            return folder
    raise ValueError(f"no lessons at or above {here}; run this inside the checkout, or name it with --root.")


def lessons(root: Path) -> list[Lesson]:
    """All lessons that have a source or a notebook, in the order of the course."""
    stems = {path.stem for path in (root / "notebooks" / "source").glob("*.py")}
    for folder in ("", *STAGES.values()):
        stems |= {path.stem for path in (root / "notebooks" / folder).glob("*.ipynb")}
    return [Lesson(root, stem) for stem in sorted(stems)]


def find_lesson(root: Path, name: str) -> Lesson:
    """The lesson of that id, stem or file name.

    Raises:
        ValueError: there is none; the sentence lists the near ones.
    """
    known = lessons(root)
    wanted = Path(name).stem
    for lesson in known:
        if wanted in (lesson.id, lesson.stem):
            return lesson
    names = [lesson.id for lesson in known]
    near = difflib.get_close_matches(wanted, names, cutoff=0.3) or names
    raise ValueError(f"there is no lesson {name!r}; there is {', '.join(near) or 'none yet'}.")
