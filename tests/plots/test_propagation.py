"""Pictures of signal propagation: what they are handed is what they show."""

import numpy as np
import pytest

from labkit.plots import propagation, style


def test_theory_is_a_line_and_networks_are_points() -> None:
    samples = np.array([[1.0, 2.0, 4.0], [1.0, 2.2, 4.4]])
    figure = propagation.through_depth({"growth": {"chaotic": (samples, [1, 2, 4])}}, "It grows")
    (ax,) = figure.axes
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    np.testing.assert_allclose(heights[0], [1, 2, 4])
    np.testing.assert_allclose(heights[1], samples.mean(0))
    assert ax.get_yscale() == "log"
    assert "infinite width" in figure.get_supxlabel()


def test_without_theory_none_is_named() -> None:
    table = np.array([[0.0, -1.0], [0.0, -2.0]])
    figure = propagation.through_depth({"log": {"ordered": (table, None)}}, "It falls", log=False)
    assert "infinite width" not in figure.get_supxlabel()
    assert figure.axes[0].get_yscale() == "linear"


def test_panels_can_be_read_in_two_directions() -> None:
    curves = {"ordered": (np.array([[1.0, 2.0], [1.0, 3.0]]), None)}
    figure = propagation.through_depth({"there": curves, "back": curves}, "Both", xlabel=("depth", "layers back"))
    assert [ax.get_xlabel() for ax in figure.axes] == ["depth", "layers back"]


def test_maps_have_the_diagonal() -> None:
    curve = ([0.0, 1.0], [0.2, 1.0], [0.5], [0.6])
    figure = propagation.maps({"ordered": curve}, {"ordered": curve}, "Maps")
    for ax in figure.axes:
        assert any(np.array_equal(line.get_xdata(), line.get_ydata()) for line in ax.lines)


@pytest.mark.parametrize("size", [5, 9])
def test_the_heat_map_writes_its_numbers_while_there_is_room(size: int) -> None:
    scales = np.linspace(1, 3, size)
    curve = (np.linspace(1, 3, 50), np.linspace(6, 60, 50), "limit")
    figure = propagation.heat(np.full((8, size), 0.5), [5, 7, 10, 14, 20, 28, 40, 80], scales, curve, "Heat")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("50") == (8 * size if size == 5 else 0)
    assert "limit" in texts


def test_a_point_is_no_line() -> None:
    figure = propagation.critical_lines({"tanh": ([0, 1], [1, 2]), "relu": ([0, 1], [1.4, np.nan])}, "Lines")
    assert {text.get_text() for text in figure.axes[0].texts} == {"tanh", "relu"}


def test_a_line_that_begins_at_a_circle_is_named_there_and_starts_there() -> None:
    lines = {"gelu": ([0.0, 0.6, 1.0], [np.nan, 1.4, 1.3])}
    figure = propagation.critical_lines(lines, "Lines", begins={"gelu": (0.5, 1.5)})
    (text,) = figure.axes[0].texts
    assert text.get_text() == "gelu"
    assert text.xy == (0.5, 1.5)  # type: ignore[attr-defined]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0.5, 1.5], [0.6, 1.4], [1.0, 1.3]])
    assert "Circles" in figure.get_supxlabel()


def test_the_heat_map_marks_a_scale() -> None:
    curve = ([1.0, 3.0], [6.0, 9.0], "limit")
    figure = propagation.heat([[0.9, 0.9], [0.1, 0.9]], [5, 10], [1, 3], curve, "Heat", mark=(1.76, "edge"))
    (upright,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(np.asarray(upright.get_xdata(), dtype=float), 1.76)
    assert "edge" in {text.get_text() for text in figure.axes[0].texts}


def test_the_phase_diagram_names_its_regions() -> None:
    figure, ax = style.new()
    phases = np.concatenate([np.full((4, 5), -1), np.full((4, 5), 1)])
    propagation.phase_diagram(ax, np.linspace(1, 2, 8), np.linspace(0, 1, 5), phases, (1.2, 0.3))
    assert {text.get_text() for text in ax.texts} == {"ordered", "chaotic"}
    style.shown_once(figure)
