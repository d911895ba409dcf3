"""From slider to picture: what an explorer takes in a real JupyterLab, beside a widget that only ships a ready PNG.

Run `python benchmarks/explorer.py`; needs Chromium. Times run from the key or the event to the painted picture, with
`compute` done beforehand; a first-visit jump cannot be asked ahead, an arrow step can.
"""

import importlib.util
import os
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.geometry import spectra
from labkit.lessons._stage import png
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import style

HERE = Path(__file__).resolve()
DEPTHS, SCALES, WIDTH, POINTS = range(1, 21), (1.0, 1.5, 2.0, 2.5), 64, 769
TARGETS = {"arrow step": (25, None), "first-visit jump": (60, 120)}
PAUSE = 250  # ms between moves, as of a reader who looks
CELL = f"""import sys
sys.path.insert(0, {str(HERE.parent)!r})
from explorer import bare, circle_and_spectrum
jumps, steps = circle_and_spectrum("Jumps", 0), circle_and_spectrum("Steps", 1)
for explorer in (jumps, steps):
    for depth, sigma_w in ((d, s) for d in explorer.controls[0].values for s in explorer.controls[1].values):
        explorer.result(dict(depth=depth, sigma_w=sigma_w))
display(jumps, steps)
bare(jumps)"""
BARE = """export default { render({ model, el }) {
  const input = Object.assign(document.createElement('input'), {type: 'range', max: 100}), image = new Image();
  input.setAttribute('data-lm-suppress-shortcuts', '');
  model.on('msg:custom', (_, [bytes]) => { image.src = URL.createObjectURL(new Blob([bytes], {type: 'image/png'})) });
  input.addEventListener('input', () => model.send({}));
  el.classList.add('bare');
  el.append(input, image);
} }"""
PROBE = """window.probe = {start: 0, times: []};
document.addEventListener('load', event => {
  if (!event.target.matches?.('.explorer img, .bare img')) return;
  const start = probe.start;
  requestAnimationFrame(() => {
    const painted = new MessageChannel();
    painted.port2.postMessage(0);
    painted.port1.onmessage = () => { if (start) probe.times.push(performance.now() - start); probe.start = 0 };
  }) }, true);
addEventListener('keydown', event => probe.start = event.timeStamp, true)"""
SET = "(input, k) => { input.value = k; probe.start = performance.now(); input.dispatchEvent(new Event('input')) }"


def circle_and_spectrum(title: str, seed: int) -> Explorer:
    """A typical explorer of two panels: a circle's image, and a histogram of log singular values."""

    def compute(depth: int, sigma_w: float) -> dict[str, np.ndarray]:
        chain = mlp(depth, WIDTH, "tanh", sigma_w, 0.3, seed=seed, dtype=torch.float64)
        angle = torch.linspace(0, 2 * torch.pi, POINTS, dtype=torch.float64)
        circle = torch.zeros(POINTS, WIDTH, dtype=torch.float64)
        circle[:, 0], circle[:, 1] = WIDTH**0.5 * angle.cos(), WIDTH**0.5 * angle.sin()
        with torch.no_grad():
            image, logs = chain(circle), spectra.log_spectrum(chain.linearize(circle[::96])).values
        return {"image": (image[:, :2] / WIDTH**0.5).numpy(), "logs": logs.flatten().numpy()}

    def draw(data: dict[str, np.ndarray], axes: list[Any]) -> None:
        plane, spectrum = axes
        plane.set(
            xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title="Image of the circle", xlabel="unit 1", ylabel="unit 2"
        )
        plane.plot(*data["image"].T, color=style.ORDERED)
        low = 10 * np.floor(data["logs"].min() / 10)
        counts, edges = np.histogram(data["logs"], np.linspace(low, 5, 61), density=True)
        spectrum.set(xlim=(low, 5), ylim=(0, 1), title="Spectrum of the Jacobian", ylabel="density (1/nat)")
        spectrum.set_xlabel("log singular value (nats)")
        spectrum.fill_between(edges, np.append(counts, 0), step="post", color=style.MEASURED, alpha=0.6, lw=0)
        style.reference(spectrum, x=0)

    return Explorer(
        id="benchmark",
        title=title,
        compute=compute,
        draw=draw,
        controls=[Control("depth", DEPTHS, 10, "depth"), Control("sigma_w", SCALES, 1.5, "weight scale")],
        summary=lambda data: f"log singular values begin at {data['logs'].min():.1f} nats",
        snapshot={},
        static={},
        widths=(1, 1.45),
    )


def bare(explorer: Explorer) -> Any:
    """A widget that answers each move with one ready PNG of the same size."""
    import anywidget

    class Bare(anywidget.AnyWidget):
        _esm = BARE

    image, widget = png(explorer.frame(explorer.start).pixels), Bare()
    widget.on_msg(lambda widget, _, __: widget.send({}, [image]))
    return widget


def rows() -> list[dict[str, float | str | None]]:
    """One dictionary a kind of move: median and 95th percentile in ms, their targets, moves and load."""
    from playwright.sync_api import sync_playwright

    spec = importlib.util.spec_from_file_location("jupyter_lab", HERE.parents[1] / "tests/browser/jupyter_lab.py")
    assert spec is not None
    assert spec.loader is not None
    jupyter_lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(jupyter_lab)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lab = jupyter_lab.Lab(Path(folder))
        try:
            lab.wait()
            page = lab.run(jupyter_lab.launch(playwright), CELL, "benchmark", probe=PROBE)
            return _measure(page)
        finally:
            lab.stop()


def _measure(page: Any) -> list[dict[str, float | str | None]]:
    choose, found = random.Random(0), []
    page.locator(".bare input").evaluate(SET, 1)
    page.locator(".bare img[src]").wait_for()
    jumps = [(d, s) for d in range(len(DEPTHS)) for s in range(len(SCALES)) if (d, s) != (9, 1)]
    choose.shuffle(jumps)
    depth, scale = (page.get_by_role("group", name="Jumps").get_by_role("slider", name=n) for n in ("depth", "weight"))

    def jump(at: tuple[int, int]) -> None:
        scale.evaluate("(input, k) => input.value = k", at[1])
        depth.evaluate(SET, at[0])

    found.append(_timed(page, "first-visit jump", jumps, jump))
    own = page.get_by_role("group", name="Steps")
    depth, scale = (own.get_by_role("slider", name=n) for n in ("depth", "weight"))
    steps = []
    for s in range(len(SCALES)):  # every step meets a frame never shown; the first of each row is not measured
        scale.evaluate("(input, k) => input.value = k", s)
        depth.evaluate(SET, 0)
        page.wait_for_timeout(2 * PAUSE)
        depth.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(PAUSE)
        steps.append(_timed(page, "arrow step", range(2, len(DEPTHS)), lambda _: page.keyboard.press("ArrowRight")))
    found.append(_row("arrow step", [time for row in steps for time in row["times"]]))
    slider = page.locator(".bare input")
    found.append(_timed(page, "bare PNG", range(2, 62), lambda k: slider.evaluate(SET, k)))
    return [{name: value for name, value in row.items() if name != "times"} for row in found]


def _timed(page: Any, name: str, moves: Any, move: Any) -> dict[str, Any]:
    page.evaluate("probe.times = []")
    for at in moves:
        move(at)
        page.wait_for_timeout(PAUSE)
    return _row(name, page.evaluate("probe.times"))


def _row(name: str, times: list[float]) -> dict[str, Any]:
    median_target, p95_target = TARGETS.get(name, (None, None))
    return {
        "case": name,
        "median_ms": statistics.median(times),
        "target": median_target,
        "p95_ms": float(np.percentile(times, 95)),
        "p95_target": p95_target,
        "moves": len(times),
        "load": os.getloadavg()[0],
        "times": times,
    }


if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; from key or event to painted picture")
    print(f"{'':>18} {'median':>9} {'target':>7} {'p95':>9} {'target':>7} {'moves':>6} {'load':>5}")
    for row in rows():
        targets = ["" if row[name] is None else f"{row[name]}" for name in ("target", "p95_target")]
        print(
            f"{row['case']:>18} {row['median_ms']:6.0f} ms {targets[0]:>7} {row['p95_ms']:6.0f} ms {targets[1]:>7} "
            f"{row['moves']:>6} {row['load']:5.1f}"
        )
