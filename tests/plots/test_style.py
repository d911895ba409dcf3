import colorsys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from labkit.plots import style


@pytest.fixture
def ax():
    with style.context():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def luminance(color):
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def contrast(color):
    return 1.05 / (luminance(color) + 0.05)


def test_context_ends_and_use_stays():
    with mpl.rc_context():
        mpl.rcdefaults()
        with style.context():
            assert mpl.rcParams["font.family"] == ["cmss10", "DejaVu Sans"]
        assert mpl.rcParams["axes.spines.top"]
        style.use()
        assert not mpl.rcParams["axes.spines.top"]
        assert style._settings().items() <= dict(mpl.rcParams).items()


def test_cycle_is_the_colours_by_name():
    cycle = [entry["color"] for entry in style._settings()["axes.prop_cycle"]]
    assert cycle == [style.INK, style.ORDERED, style.CRITICAL, style.CHAOTIC, style.RELU, style.BOUNDARY]


@pytest.mark.parametrize("color", [style.INK, style.NOTE, *(style.dark(p.color) for p in style.PHASES.values())])
def test_text_colours_are_readable_on_white(color):
    assert contrast(color) >= 4.5


def test_phases_differ_without_colour():
    assert len({str(phase.dashes) for phase in style.PHASES.values()}) == len(style.PHASES)
    assert len({phase.marker for phase in style.PHASES.values()}) == len(style.PHASES)


def test_deeper_is_darker():
    assert (np.diff([luminance(style.DEPTH(d)) for d in np.linspace(0, 1, 9)]) < 0).all()


def test_stretch_is_blue_below_orange_above_and_palest_at_no_change():
    look = style.stretch(torch.tensor([[-1.0, 0.5], [float("-inf"), 3.0]]))
    color = lambda value: look["cmap"](look["norm"](value))  # noqa: E731
    assert (look["norm"].vmin, look["norm"].vmax) == (-3, 3)
    assert color(-2)[2] > color(-2)[0]
    assert color(2)[0] > color(2)[2]
    assert colorsys.rgb_to_hsv(*color(0)[:3])[1] < 0.05
    assert style.stretch([0.0, -np.inf])["norm"].halfrange == 1


def test_prediction_is_a_line_and_measurement_a_point_with_a_bar(ax):
    line = style.predicted(ax, [0, 1], [0, 1])
    assert (line.get_color(), line.get_linestyle(), line.get_marker()) == (style.INK, "-", "None")
    points, _, bars = style.measured(ax, [0, 1], [0, 1], [0.1, 0.2], "critical", ms=7)
    assert (points.get_marker(), points.get_linestyle(), points.get_markersize()) == ("D", "None", 7)
    low_high = np.array([segment[:, 1] for segment in bars[0].get_segments()])
    np.testing.assert_allclose(low_high, [[-0.1, 0.1], [0.8, 1.2]])


def test_tensors_are_plotted_as_they_are(ax):
    x = torch.linspace(0, 1, 5)
    style.band(ax, x, x - 1, x + 1, "ordered")
    np.testing.assert_allclose(style.predicted(ax, x, x**2).get_ydata(), x**2)


def test_unknown_phase_is_an_error(ax):
    with pytest.raises(KeyError, match="liquid"):
        style.predicted(ax, [0], [0], "liquid")


def test_reference_takes_one_coordinate(ax):
    assert list(style.reference(ax, y=2).get_ydata()) == [2, 2]
    assert list(style.reference(ax, x=3).get_xdata()) == [3, 3]
    with pytest.raises(ValueError, match="reference takes one of x and y, got x=None and y=None"):
        style.reference(ax)


def test_text_follows_the_slope_of_its_curve(ax):
    x = np.linspace(0, 1, 101)
    ax.set(xlim=(0, 1), ylim=(0, 2), aspect="equal")
    up = style.on_curve(style.predicted(ax, x, x), 0.5, "up")
    back = style.on_curve(style.predicted(ax, x[::-1], x[::-1]), 0.5, "up too", side=-1)
    down = style.on_curve(style.predicted(ax, x, 1 - x), 0.5, "down")
    ax.figure.draw_without_rendering()  # only then the aspect holds
    angles = [text.get_rotation() for text in (up, back, down)]
    np.testing.assert_allclose(np.cos(np.radians(angles)), 2**-0.5, atol=1e-2)
    np.testing.assert_allclose(np.sin(np.radians(angles)), np.array([1, 1, -1]) * 2**-0.5, atol=1e-2)
    assert (up.get_va(), back.get_va()) == ("bottom", "top")


def test_line_names_do_not_touch(ax):
    for name, end in (("a", 1.0), ("b", 1.001), ("c", 1.002), ("_hidden", 1.0)):
        ax.plot([0, 1], [0, end], label=name)
    style.label_lines(ax, gap=14)
    ax.figure.draw_without_rendering()
    names = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert list(names) == ["a", "b", "c"]
    assert names["a"].y1 <= names["b"].y0 + 1
    assert names["b"].y1 <= names["c"].y0 + 1


def test_line_names_apply_at_the_ends_where_there_is_room(ax):
    ax.set(xlim=(0, 2), ylim=(0, 10))
    for name, end in (("low", 1.0), ("high", 9.0)):
        ax.plot([0, 2], [5, end], label=name)
    style.label_lines(ax)
    ax.figure.draw_without_rendering()
    middle = [ax.transData.inverted().transform(text.get_window_extent().get_points().mean(0))[1] for text in ax.texts]
    np.testing.assert_allclose(middle, [1, 9], atol=0.3)


def test_depth_bar_spans_the_depths(ax):
    bar = style.depth_bar(ax, 12)
    assert list(bar.get_xticks()) == [0, 12]
    assert bar.get_title() == "depth"


def test_notes_say_where_the_numbers_come_from(ax):
    figure = ax.figure
    assert style.computed_now(figure, "2 networks").get_text() == "Computed now: 2 networks."
    note = style.loaded(figure, "edge of stability", commit="0123456789abcdef", seeds="0-15", hardware="1 CPU core")
    assert note.get_text() == "Loaded: edge of stability, commit 012345678, seeds 0-15, 1 CPU core."
    figure.draw_without_rendering()
    assert note.get_window_extent().y1 < ax.get_tightbbox().y0 + 1  # below the axes' labels


def test_new_turns_the_look_on():
    with mpl.rc_context():
        mpl.rcdefaults()
        figure, axes = style.new(1, 2, size=(6, 2), sharey=True)
        assert tuple(figure.get_size_inches()) == (6, 2)
        assert not axes[1].spines["right"].get_visible()
        plt.close(figure)
