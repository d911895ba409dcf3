"""An explorer in a running JupyterLab: keyboard, click, fast drag, errors, and what assistive technology is told."""

from pathlib import Path

import pytest

CELL = f"""import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from demo_explorer import scales, slow
display(scales)
slow"""
COUNT = """root => { window.shown = 0;
    new MutationObserver(() => window.shown++).observe(root.querySelector('img'), {attributeFilter: ['src']}) }"""
SET = "(input, k) => { input.value = k; input.dispatchEvent(new Event('input')) }"


@pytest.fixture(scope="module")
def page(lab, browser, screenshots):
    page = lab.run(browser, CELL, "demo")
    try:
        yield page
    finally:
        page.screenshot(path=screenshots / "live.png", full_page=True)
        page.close()


def test_arrow_keys_move_picture_words_and_value(page, shown):
    scales = shown(page, "Two scales")
    scales.says("weight scale σ_w 1.5, bias scale σ_b 0.5, activation tanh: log length ends at 2.53 nats, at e^2.5.")
    before = scales.picture()
    slider = scales.slider("weight scale σ_w")
    scales.focus(slider)
    page.keyboard.press("ArrowRight")
    scales.says("weight scale σ_w 1.75,")
    assert scales.picture() != before
    assert slider.get_attribute("aria-valuetext") == "1.75"
    scales.settle()
    page.keyboard.press("ArrowLeft")
    scales.says("weight scale σ_w 1.5,")
    assert scales.picture() == before


def test_click_sets_two_controls_to_the_nearest_values(page, shown, demo):
    scales = shown(page, "Two scales")
    scales.says("weight scale σ_w 1.5")
    before = scales.picture()
    values = {"sigma_w": 3.0, "sigma_b": 1.75, "activation": "tanh"}
    spots = demo.scales.frame(values).spots
    scales.click_at(spots["x"][demo.SCALES.index(3.0)] + 0.006, spots["y"][demo.BIASES.index(1.75)] - 0.02)
    scales.says("weight scale σ_w 3.0, bias scale σ_b 1.75,")
    assert scales.picture() != before
    assert scales.slider("bias scale σ_b").get_attribute("aria-valuetext") == "1.75"
    scales.click_at(0.9, 0.5)  # the other panel sets nothing
    page.keyboard.press("Escape")
    assert scales.slider("weight scale σ_w").get_attribute("aria-valuetext") == "3.0"


def test_menu_is_named_and_changes_the_picture(page, shown):
    scales = shown(page, "Two scales")
    menu = scales.root.get_by_role("combobox", name="activation", exact=True)
    before = scales.picture()
    menu.select_option("relu")
    scales.says("weight scale σ_w 3.0, bias scale σ_b 1.75, activation relu")
    assert scales.picture() != before
    menu.select_option("tanh")
    scales.says("weight scale σ_w 3.0, bias scale σ_b 1.75, activation tanh")


def test_last_value_wins_over_a_fast_drag(page, shown):
    slow = shown(page, "Slow")
    slow.says("x 1:")
    slow.root.evaluate(COUNT)
    for k in range(4, 30):  # 26 moves, each answer takes 0.3 s
        slow.slider("x").evaluate(SET, k)
    slow.says("x 30:")
    assert page.evaluate("window.shown") <= 4


def test_error_of_a_setting_is_shown_and_goes_away(page, shown):
    slow = shown(page, "Slow")
    slow.slider("x").evaluate(SET, 2)
    alert = slow.root.get_by_role("alert").filter(has_text="x 3: ValueError: there is nothing at three")
    alert.wait_for()
    assert not slow.image.is_visible()
    assert slow.words.inner_text() == ""
    slow.focus(slow.slider("x"))
    page.keyboard.press("ArrowLeft")
    slow.says("x 2: the line ends at 2.")
    assert slow.image.is_visible()
    assert not alert.is_visible()


def test_no_script_failed(page):
    assert page.faults == []
