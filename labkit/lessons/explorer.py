"""Explorers: a pure `compute`, a pure `draw` and controls, declared once and shown wherever a lesson is read.

In JupyterLab an explorer is live, headlessly a grid of labelled snapshots, on a static page a slider.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import numbers
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.lessons import _pages
from labkit.lessons._control import Control, minus
from labkit.lessons._stage import Frame, Stage

__all__ = ["Control", "Explorer", "ExplorerError", "Frame", "explore"]

MIME = "application/vnd.labkit.explorer+json"
KEPT_RESULTS = 256
PLAIN, SHARP = 100, 150  # pixels per inch: one of the picture for one of the page, or one and a half
PAGE_LIMIT = 600_000  # bytes above which a page has to do with the plain ones


class ExplorerError(RuntimeError):
    """Some settings of the controls give no picture; the message names them and says why."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Explorer:
    """`draw(compute(**values), axes)` for every value of the controls: live, as a grid, as a static page.

    `draw` gets one `Axes`, or a list of them, row by row, where there are several. It sets limits first, and keeps
    them still or moves them in coarse steps: axes not seen before cost a full draw. It makes no new axes.
    In labels write `$\\sigma_w$`; in `title`, `summary` and the controls' words, which are HTML, "σ_w".

    Args:
        id: the lesson's id, or that and a name: "A1", "A2.curve".
        title: above the controls.
        compute: pure; keywords are the controls' names, and constants.
        draw: pure; puts what `compute` returned on the axes.
        controls: in the order shown.
        summary: what the picture says, in words and numbers, without a full stop.
        snapshot: values that the grid shows, all combinations; controls left out stay at their start.
        static: values that the static page offers; controls left out are told, not offered.
        click: two controls, across and up, that a click on the first panel sets to the nearest values.
        widths: relative widths of the columns of panels.
        heights: relative heights of the rows of panels.
        size: of the figure in inches.
        gap: inches between panels, for ticks and labels.
        constants: further keywords of `compute`; see `fixed`.

    Example:
        >>> line = Explorer(
        ...     id="demo",
        ...     title="A line",
        ...     compute=lambda slope: slope,
        ...     draw=lambda slope, ax: ax.plot([0, 1], [0, slope]),
        ...     controls=[Control("slope", (1, 2, 3), 1, "slope")],
        ...     summary=lambda slope: f"the line ends at {slope}",
        ...     snapshot={"slope": (1, 3)},
        ...     static={"slope": (1, 2, 3)},
        ... )
        >>> line.frame({"slope": 3}).text
        'slope 3: the line ends at 3.'
    """

    id: str
    title: str
    compute: Callable[..., Any]
    draw: Callable[[Any, Any], object]
    controls: Sequence[Control]
    summary: Callable[[Any], str]
    snapshot: Mapping[str, Any]
    static: Mapping[str, Any]
    click: tuple[str, str] | None = None
    widths: Sequence[float | int] = (1,)
    heights: Sequence[float | int] = (1,)
    size: tuple[float | int, float | int] = (7.2, 3.3)
    gap: float | int = 0.78
    constants: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        names = [control.name for control in self.controls]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{self.id}: an explorer needs controls with different names, got {names}")
        for option in ("snapshot", "static"):
            for name, values in getattr(self, option).items():
                known = self._control(name).values if name in names else ()
                if strange := [value for value in values if value not in known]:
                    raise ValueError(f"{self.id}: {option} shows {name} = {strange}, which no control takes")
        for name in self.click or ():
            if name not in names or self._control(name).menu:
                raise ValueError(f"{self.id}: a click cannot set {name!r}, which is no control with numbers")
        try:
            inspect.signature(self.compute).bind(**dict.fromkeys(names), **self.parameters)
        except TypeError as error:
            raise ValueError(f"{self.id}: controls and constants do not fit compute: {error}") from None

    def fixed(self, **overrides: Any) -> Explorer:
        """The same explorer with a lesson's parameters: a control starts there, other names are held constant.

        Args:
            **overrides: keywords of `compute`; numbers, words or booleans, so that a report can repeat them.
        """
        controls, constants = list(self.controls), self.parameters
        accepted = inspect.signature(self.compute).parameters
        for name, given in overrides.items():
            value = given.item() if hasattr(given, "item") else given
            if name not in accepted:
                known = ", ".join(accepted)
                raise ValueError(f"explorer {self.id} has no parameter {name!r}; it has {known}")
            if not isinstance(value, (numbers.Real, str)):
                raise TypeError(f"explorer {self.id} takes for {name} a number, a word or a bool, got {value!r}")
            for at, control in enumerate(controls):
                if control.name == name:
                    same = next((own for own in control.values if own == value), value)  # 3, where a report says 3.0
                    controls[at] = replace(control, start=same)
                    break
            else:
                constants[name] = value
        return replace(self, controls=controls, constants=constants)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constants, a copy."""
        return dict(self.constants or {})

    @property
    def start(self) -> dict[str, Any]:
        """Every control at its start."""
        return {control.name: control.start for control in self.controls}

    def name(self, values: Mapping[str, Any]) -> str:
        """A setting in words."""
        return ", ".join(control.say(values[control.name]) for control in self.controls)

    def result(self, values: Mapping[str, Any]) -> Any:
        """What `compute` returns, remembered."""
        return self._remembered(**values)

    def frame(self, values: Mapping[str, Any], dpi: float | int = PLAIN) -> Frame:
        """The picture at a setting, and the sentence that says what it shows.

        Raises:
            Exception: whatever `compute`, `draw` or `summary` raise.
        """
        data = self.result(values)
        stage = self._stage(dpi)
        pixels = stage.pixels(data)
        spots = stage.spots(*(self._control(name).values for name in self.click)) if self.click else None
        return Frame(pixels, f"{self.name(values)}: {minus(self.summary(data))}.", spots)

    def settings(self) -> list[dict[str, Any]]:
        """All that a sweep tries: each control over all its values from the start, and all corners."""
        each = [self.start | {control.name: value} for control in self.controls for value in control.values]
        corners = self._product({c.name: dict.fromkeys((c.values[0], c.values[-1])) for c in self.controls})
        return list({tuple(values.items()): values for values in each + corners}.values())

    def sweep(
        self, settings: Sequence[Mapping[str, Any]] | None = None, dpi: float | int = PLAIN
    ) -> Iterator[tuple[Mapping[str, Any], Frame]]:
        """Yield each setting with its frame, by default those of `settings()`.

        Raises:
            ExplorerError: after the last, naming every setting that gave no picture.
        """
        settings = self.settings() if settings is None else settings
        failures: list[tuple[str, Exception]] = []
        for values in settings:
            try:
                frame = self.frame(values, dpi)
            except Exception as error:
                failures.append((f"{self.name(values)}: {type(error).__name__}: {error}", error))
            else:
                yield values, frame
        if failures:
            lines = "\n  ".join(line for line, _ in failures)
            count = f"{len(failures)} of {len(settings)} settings give no picture"
            raise ExplorerError(f"{self.title}: {count}\n  {lines}") from failures[0][1]

    def grid(self) -> str:
        """HTML: one labelled picture for each combination of the `snapshot` values."""
        settings = self._product({c.name: self.snapshot.get(c.name, (c.start,)) for c in self.controls})
        return _pages.grid((self.name(values), frame) for values, frame in self.sweep(settings))

    def page(self) -> str:
        """Self-contained HTML for a static page: the player with its frames."""
        page = self._page(SHARP, PAGE_LIMIT) or self._page(PLAIN)
        assert page is not None
        return page

    def spec(self) -> dict[str, Any]:
        """What the player needs to know to show all values: plain data."""
        return self._shown({control.name: control.values for control in self.controls})

    def prove(self) -> None:
        """Try every setting of `settings()`, once.

        Raises:
            ExplorerError: naming every setting that gives no picture.
        """
        _ = self._proven

    def _repr_mimebundle_(self, **_: Any) -> Any:
        if front_end():
            from labkit.lessons._live import Live

            bundle: Any = Live(self)._repr_mimebundle_()
            data, metadata = bundle
            return data | {"text/plain": f"{self.title} (live: run the cell to see it)"}, metadata
        self.prove()
        record = {"id": self.id, "parameters": self.parameters | self.start}
        return {"text/plain": self.title, "text/html": self.grid(), MIME: record}

    def _control(self, name: str) -> Control:
        return next(control for control in self.controls if control.name == name)

    def _product(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())]

    def _kept(self) -> dict[str, tuple[Any, ...]]:
        """The values that the static page offers; the start is always one of them."""
        return {
            c.name: tuple(value for value in c.values if value == c.start or value in self.static.get(c.name, ()))
            for c in self.controls
        }

    def _page(self, dpi: int, limit: int | None = None) -> str | None:
        kept = self._kept()
        frames = (self._offered(frame, kept) for _, frame in self.sweep(self._product(kept), dpi))
        return _pages.page(self._shown(kept), frames, self.frame(self.start, dpi), limit)

    def _offered(self, frame: Frame, kept: Mapping[str, Sequence[Any]]) -> Frame:
        """The frame with the places of those values alone that are offered."""
        if not (self.click and frame.spots):
            return frame
        spots = {"box": frame.spots["box"]}
        for axis, name in zip(("x", "y"), self.click, strict=True):
            values = self._control(name).values
            spots[axis] = [frame.spots[axis][values.index(value)] for value in kept[name]]
        return replace(frame, spots=spots)

    def _shown(self, kept: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        controls = [
            {
                "label": control.label,
                "values": [control.word(value) for value in kept[control.name]],
                "start": kept[control.name].index(control.start),
                "menu": control.menu,
            }
            for control in self.controls
        ]
        click = [[c.name for c in self.controls].index(name) for name in self.click or ()]
        offered = bool(click) and all(len(kept[name]) > 1 for name in self.click or ())
        return {
            "title": self.title,
            "width": round(100 * self.size[0]),
            "height": round(100 * self.size[1]),
            "panels": len(self.widths) * len(self.heights),
            "controls": controls,
            "click": click if offered else None,
        }

    @functools.cached_property
    def _remembered(self) -> Callable[..., Any]:
        return functools.lru_cache(KEPT_RESULTS)(functools.partial(self.compute, **self.parameters))

    @functools.cached_property
    def _stage(self) -> Callable[[float], Stage]:
        return functools.cache(lambda dpi: Stage(self.draw, self.widths, self.heights, self.size, dpi, self.gap))

    @functools.cached_property
    def _proven(self) -> bool:
        for _ in self.sweep():
            pass
        return True


def explore(id: str, **overrides: Any) -> Explorer:
    """The explorer of a lesson, to be the last line of a cell.

    Args:
        id: such as "A1" or "A2.curve".
        **overrides: parameters of the lesson: `explore("A1", seed=3)`; see `Explorer.fixed`.

    Raises:
        ValueError: no explorer has this id; the message lists those there are.
        ExplorerError: without a front end, where some settings give no picture.
    """
    from labkit.lessons import explorers

    lessons = [module.name for module in pkgutil.iter_modules(explorers.__path__)]
    lesson = str(id).split(".")[0]
    declared = _declared(lesson) if lesson in lessons else {}
    if id not in declared:
        known = ", ".join(name for lesson in lessons for name in _declared(lesson)) or "none yet"
        raise ValueError(f"there is no explorer {id!r}; there are: {known}")
    chosen = declared[id].fixed(**overrides)
    if _in_kernel() and not front_end():
        chosen.prove()  # here and not while displaying, where IPython turns errors into text
    return chosen


def front_end() -> bool:
    """Whether a person looks: JupyterLab says which cell it runs, papermill and nbval do not.

    The environment variable LABKIT_EXPLORER, "live" or "grid", overrules.
    """
    if choice := os.environ.get("LABKIT_EXPLORER"):
        return choice == "live"
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return "cellId" in getattr(shell, "parent_header", {}).get("metadata", {})


def _in_kernel() -> bool:
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def _declared(lesson: str) -> Mapping[str, Explorer]:
    found = importlib.import_module(f"labkit.lessons.explorers.{lesson}").EXPLORERS
    explorers: Mapping[str, Explorer] = found() if callable(found) else found
    return explorers
