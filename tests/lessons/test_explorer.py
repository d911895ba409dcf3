import base64
import io
import json
import pkgutil
import re
from importlib import import_module

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from matplotlib.text import Text
from nbclient import NotebookClient
from PIL import Image

from labkit.lessons import explorers
from labkit.lessons.explorer import MIME, Control, Explorer, ExplorerError, explore, front_end
from labkit.plots import style

LESSONS = [module.name for module in pkgutil.iter_modules(explorers.__path__)]
SLOPES = (-2, -1, 0, 1, 2)


def line(slope, rise=0, kind="solid"):
    return {"slope": slope, "rise": rise, "kind": kind}


def draw(data, ax):
    ax.set(xlim=(0, 1), ylim=(-4, 8), xlabel="$x$", title=f"Slope {data['slope']}")
    ax.plot([0, 1], [data["rise"], data["rise"] + data["slope"]], ls={"solid": "-", "dotted": ":"}[data["kind"]])


def declare(**changes):
    usual = {
        "id": "T1.line",
        "title": "A line",
        "compute": line,
        "draw": draw,
        "controls": [
            Control("slope", SLOPES, 1, "slope", lambda value: f"{value:+d}"),
            Control("kind", ("solid", "dotted"), "solid", "kind"),
        ],
        "summary": lambda data: f"it ends at {data['rise'] + data['slope']}",
        "snapshot": {"slope": (-2, 2)},
        "static": {"slope": SLOPES},
    }
    return Explorer(**usual | changes)


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A lesson T1 among the explorers, whose two explorers are a whole and a failing one."""
    (tmp_path / "T1.py").write_text(
        "from labkit.lessons.explorer import Control, Explorer\n"
        "def declare(id, compute):\n"
        "    return Explorer(id=id, title='A line', compute=compute, draw=lambda y, ax: ax.plot([0, 1], [0, y]),\n"
        "                    controls=[Control('slope', (1, 2, 3), 1, 'slope')], summary=str,\n"
        "                    snapshot={'slope': (1, 3)}, static={})\n"
        "def EXPLORERS():\n"
        "    return {'T1': declare('T1', lambda slope, seed=0: slope + seed),\n"
        "            'T1.broken': declare('T1.broken', lambda slope: 1 / (slope - 2))}\n"
    )
    monkeypatch.setattr(explorers, "__path__", [str(tmp_path)])
    yield tmp_path
    monkeypatch.delitem(__import__("sys").modules, "labkit.lessons.explorers.T1", raising=False)


# --- the declaration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"snapshot": {"slope": (7,)}}, "snapshot shows slope = [7], which no control takes"),
        ({"controls": []}, "an explorer needs controls with different names, got []"),
        ({"controls": [Control("slope", (1,), 1, "a")] * 2}, "different names, got ['slope', 'slope']"),
        ({"static": {"rise": (1,)}}, "static shows rise = [1], which no control takes"),
        ({"click": ("slope", "kind")}, "a click cannot set 'kind', which is no control with numbers"),
        ({"click": ("slope", "rise")}, "a click cannot set 'rise'"),
        ({"constants": {"width": 3}}, "controls and constants do not fit compute"),
        ({"compute": lambda slope: slope}, "controls and constants do not fit compute"),
    ],
)
def test_contradictory_declaration_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        declare(**changes)


@pytest.mark.parametrize("values", [(), (1, 1, 2)])
def test_control_needs_values_each_once(values):
    with pytest.raises(ValueError, match="control 'x' needs values, each once"):
        Control("x", values, 1, "x")


def test_control_values_are_hashable():
    with pytest.raises(
        TypeError, match=re.escape("control 'x' needs values that can be hashed, such as tuples; got [1]")
    ):
        Control("x", ((1,), [1]), (1,), "x")


def test_control_starts_at_one_of_its_values():
    with pytest.raises(ValueError, match="control 'x' cannot start at 4; its values are 1, 2"):
        Control("x", (1, 2), 4, "x")


def test_settings_are_each_control_over_its_values_and_all_corners():
    settings = declare().settings()
    pairs = {(values["slope"], values["kind"]) for values in settings}
    assert len(settings) == len(pairs)
    assert pairs == {(s, "solid") for s in SLOPES} | {(1, "dotted"), (-2, "dotted"), (2, "dotted")}


# --- frames ----------------------------------------------------------------------------------------------------------


def test_text_names_the_setting_and_says_what_is_seen_with_minus_signs():
    frame = declare().frame({"slope": -2, "kind": "dotted"})
    assert frame.text == "slope −2, kind dotted: it ends at −2."


def test_pictures_depend_on_the_setting_and_not_on_what_was_shown_before():
    explorer, fresh = declare(), declare()
    first = explorer.frame({"slope": 1, "kind": "solid"}).pixels
    other = explorer.frame({"slope": 2, "kind": "dotted"}).pixels
    assert first.shape == other.shape == (330, 720, 4)
    assert (first != other).any()
    np.testing.assert_array_equal(explorer.frame({"slope": 1, "kind": "solid"}).pixels, first)
    np.testing.assert_array_equal(fresh.frame({"slope": 2, "kind": "dotted"}).pixels, other)


def test_compute_runs_once_for_each_setting():
    calls = []
    explorer = declare(compute=lambda slope, kind: calls.append(slope) or line(slope, 0, kind))
    for slope in (1, 2, 1, 2):
        explorer.frame({"slope": slope, "kind": "solid"})
    assert calls == [1, 2]


def test_look_is_the_one_style_and_leaves_the_settings_alone():
    before = dict(mpl.rcParams)
    seen = {}
    declare(draw=lambda data, ax: seen.update(spine=ax.spines["top"].get_visible(), **mpl.rcParams)).frame(
        declare().start
    )
    assert seen["spine"] is False
    assert {name: seen[name] for name in style._settings()} == style._settings()
    assert dict(mpl.rcParams) == before


def test_spots_say_where_values_lie_in_the_picture():
    explorer = declare(
        controls=[Control("slope", SLOPES, 1, "slope"), Control("rise", (0, 2), 0, "rise")],
        draw=lambda data, ax: (
            ax.set(xlim=(-3, 3), ylim=(-1, 3)),
            ax.plot(data["slope"], data["rise"], "s", ms=9, color="#ff0000"),
        ),
        click=("slope", "rise"),
    )
    for values in ({"slope": -2, "rise": 2}, {"slope": 1, "rise": 0}):
        frame = explorer.frame(values)
        rows, columns = np.nonzero((frame.pixels[..., :3] == (255, 0, 0)).all(-1))
        height, width, _ = frame.pixels.shape
        at = frame.spots["x"][SLOPES.index(values["slope"])], frame.spots["y"][(0, 2).index(values["rise"])]
        np.testing.assert_allclose(at, ((columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height), atol=0.004)
    left, top, right, bottom = frame.spots["box"]
    assert 0 < left < min(frame.spots["x"]) < max(frame.spots["x"]) < right < 1
    assert 0 < top < min(frame.spots["y"]) < max(frame.spots["y"]) < bottom < 1


def test_sweep_names_every_failing_setting_after_the_last():
    def fragile(slope, kind):
        return 1 / slope if kind == "solid" else {}["nothing"]

    explorer = declare(compute=fragile, draw=lambda data, ax: None, summary=str)
    with pytest.raises(ExplorerError) as caught:
        explorer.prove()
    message = str(caught.value)
    assert message.startswith("A line: 4 of 8 settings give no picture")
    assert "slope +0, kind solid: ZeroDivisionError: division by zero" in message
    assert message.count("kind dotted: KeyError: 'nothing'") == 3


# --- a lesson's parameters -------------------------------------------------------------------------------------------


def test_fixed_parameters_reach_compute_and_a_control_starts_there():
    explorer = declare().fixed(rise=np.int64(5), slope=-1.0)
    assert explorer.start == {"slope": -1, "kind": "solid"}
    assert explorer.parameters == {"rise": 5}
    assert explorer.frame(explorer.start).text == "slope −1, kind solid: it ends at 4."


def test_a_start_that_the_page_leaves_out_is_added_to_it():
    explorer = declare(static={"slope": (-2, 2)}).fixed(slope=-1)
    assert _carried(explorer.page())["controls"][0] == {
        "label": "slope", "values": ["−2", "−1", "+2"], "start": 1, "menu": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        ({"width": 3}, ValueError, "explorer T1.line has no parameter 'width'; it has slope, rise, kind"),
        ({"slope": 9}, ValueError, "control 'slope' cannot start at 9"),
        ({"rise": [1]}, TypeError, "explorer T1.line takes for rise a number, a word or a bool, got [1]"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(overrides, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        declare().fixed(**overrides)


def test_explore_finds_an_explorer_by_its_id(lesson):
    assert explore("T1", seed=3).result({"slope": 2}) == 5
    assert explore("T1.broken").id == "T1.broken"


@pytest.mark.parametrize("id", ["T1.nothing", "T9", "", "..secrets"])
def test_unknown_id_lists_the_known_ones(lesson, id):
    with pytest.raises(ValueError, match=re.escape(f"there is no explorer {id!r}; there are: T1, T1.broken")):
        explore(id)


# --- renderings ------------------------------------------------------------------------------------------------------


def _carried(page):
    return json.loads(re.search(r"const spec = (\{.*\}); player\(", page).group(1))


def test_page_carries_the_frames_in_the_order_the_player_reads():
    explorer = declare(static={"slope": (1, 2), "kind": ("solid", "dotted")})
    carried = _carried(explorer.page())
    settings = [(slope, kind) for slope in (1, 2) for kind in ("solid", "dotted")]
    assert [frame["text"] for frame in carried["frames"]] == [
        explorer.frame({"slope": slope, "kind": kind}).text for slope, kind in settings
    ]
    assert len({frame["src"] for frame in carried["frames"]}) == 4
    assert all(frame["src"].startswith("data:image/webp;base64,") for frame in carried["frames"])


def test_page_too_large_when_sharp_is_drawn_plain(monkeypatch):
    explorer, sizes = declare(), []
    for limit in (600_000, 10_000):
        monkeypatch.setattr("labkit.lessons.explorer.PAGE_LIMIT", limit)
        base = _carried(explorer.page())["base"].removeprefix("data:image/webp;base64,")
        sizes.append(Image.open(io.BytesIO(base64.b64decode(base))).size)
    assert sizes == [(1080, 495), (720, 330)]


def test_page_offers_a_click_only_where_both_controls_are_offered():
    controls = [Control("slope", SLOPES, 1, "slope"), Control("rise", (0, 2, 4), 0, "rise")]
    both = declare(controls=controls, click=("slope", "rise"), static={"slope": (-2, 1), "rise": (0, 4)})
    carried = _carried(both.page())
    assert carried["click"] == [0, 1]
    everything = both.frame(both.start).spots
    offered = carried["frames"][0]["spots"]
    assert offered["x"] == [everything["x"][0], everything["x"][3]]
    assert offered["y"] == [everything["y"][0], everything["y"][2]]
    one = declare(controls=controls, click=("slope", "rise"), static={"slope": (-2, 1)})
    assert _carried(one.page())["click"] is None


def test_words_are_escaped_wherever_they_stand():
    explorer = declare(title="</script><b>A</b>", summary=lambda data: 'below </script> "1" & <2>')
    page, grid = explorer.page(), explorer.grid()
    assert page.count("</script>") == 1
    assert _carried(page)["title"] == "</script><b>A</b>"
    assert 'alt="slope −2, kind solid: below &lt;/script&gt; &quot;1&quot; &amp; &lt;2&gt;."' in grid


def test_without_a_front_end_the_bundle_is_a_grid_and_a_record():
    bundle = declare().fixed(rise=3)._repr_mimebundle_()
    assert bundle["text/plain"] == "A line"
    assert bundle["text/html"].count("<img") == 2
    assert bundle[MIME] == {"id": "T1.line", "parameters": {"rise": 3, "slope": 1, "kind": "solid"}}
    assert json.loads(json.dumps(bundle[MIME])) == bundle[MIME]


def test_with_a_front_end_the_bundle_is_a_widget_that_says_what_to_do_without_one(monkeypatch):
    monkeypatch.setenv("LABKIT_EXPLORER", "live")
    data, _ = declare()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "A line (live: run the cell to see it)"


def test_environment_overrules_what_the_kernel_says(monkeypatch):
    monkeypatch.setenv("LABKIT_EXPLORER", "live")
    assert front_end()
    monkeypatch.setenv("LABKIT_EXPLORER", "grid")
    assert not front_end()


def test_live_answers_with_a_picture_or_with_a_reason(monkeypatch):
    from labkit.lessons._live import Live

    live, sent = Live(declare(compute=lambda slope, kind: line(1 / slope, 0, kind))), []
    monkeypatch.setattr(live, "send", lambda content, buffers=None: sent.append((content, buffers)))
    live._answer(live, {"id": "a", "at": [3, 0], "ratio": 1}, [])
    live._answer(live, {"id": "b", "at": [2, 1], "ratio": 3}, [])
    (picture, (image,)), (reason, nothing) = sent
    assert picture == {"id": "a", "text": "slope +1, kind solid: it ends at 1.0.", "spots": None}
    assert image.startswith(b"\x89PNG")
    assert reason == {"id": "b", "error": "slope +0, kind dotted: ZeroDivisionError: division by zero"}
    assert nothing is None


def test_live_answers_an_interrupt_before_it_goes_on(monkeypatch):
    from labkit.lessons._live import Live

    def interrupted(slope, kind):
        raise KeyboardInterrupt

    live, sent = Live(declare(compute=interrupted)), []
    monkeypatch.setattr(live, "send", lambda content, buffers=None: sent.append(content["error"]))
    with pytest.raises(KeyboardInterrupt):
        live._answer(live, {"id": "a", "at": [3, 0], "ratio": 1}, [])
    assert sent == ["slope +1, kind solid: KeyboardInterrupt: "]


def test_headless_notebook_shows_the_grid_and_stops_at_a_failing_explorer(lesson):
    header = f"from labkit.lessons import explorers\nexplorers.__path__.append({str(lesson)!r})\n"
    cells = [
        header + "from labkit.lessons.explorer import explore\nexplore('T1', seed=2)",
        "try:\n    explore('T1.broken')\nexcept Exception as error:\n    print(f'{type(error).__name__}: {error}')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown, failed = (cell.outputs[0] for cell in notebook.cells)
    assert set(shown.data) == {"text/plain", "text/html", MIME}
    assert shown.data[MIME] == {"id": "T1", "parameters": {"seed": 2, "slope": 1}}
    assert failed.text.startswith("ExplorerError: A line: 1 of 3 settings give no picture\n  slope 2: ZeroDivision")


# --- every lesson's explorers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_every_explorer_of_a_lesson_shows_all_its_settings(lesson_id):
    found = import_module(f"labkit.lessons.explorers.{lesson_id}").EXPLORERS
    for id in found() if callable(found) else found:
        explorer = explore(id)
        assert explorer.id == id
        assert id.split(".")[0] == lesson_id
        for _, frame in explorer.sweep():
            assert not [letter for letter in frame.text if ord(letter) >= 0x1D400], "letters that few fonts have"
            labels = [text.get_text() for text in explorer._stage(100).figure.findobj(Text)]
            wrong = [label for label in labels if set(re.sub(r"\$[^$]*\$", "", label)) & set('<>|_{}"\\')]
            assert not wrong, "cmss10 draws these as other glyphs: write them inside $...$"
        assert len(explorer.grid()) < 300_000, f"{id}: show fewer values in `snapshot`"
        assert len(explorer.page()) < 600_000, f"{id}: offer fewer values in `static`"
