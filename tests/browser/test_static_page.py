"""An explorer on a page without a kernel, opened from a file."""

import base64
import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
SEEN = "weight scale σ_w 1.5, bias scale σ_b 0.5, activation tanh: log length ends at 2.53 nats, at e^2.5."


@pytest.fixture(scope="module")
def address(demo, tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "über eine Seite.html"
    body = f"<title>Two scales</title><main><h1>Two scales</h1>{demo.scales.page()}</main></html>"
    path.write_text(HEAD + body, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address, screenshots, request):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.set_default_timeout(20_000)
    page.requests, page.faults = [], []
    page.on("request", lambda asked: page.requests.append(asked.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    try:
        yield page
    finally:
        page.screenshot(path=screenshots / f"{request.node.name}.png", full_page=True)
        page.close()


def test_arrow_keys_move_it_and_nothing_is_requested(page, shown, address):
    scales = shown(page, "Two scales")
    scales.says(SEEN)
    before = scales.picture()
    scales.focus(scales.slider("weight scale σ_w"))
    page.keyboard.press("ArrowRight")
    scales.says("weight scale σ_w 2.0,")
    assert scales.picture() != before
    assert scales.slider("weight scale σ_w").get_attribute("aria-valuetext") == "2.0"
    scales.settle()
    assert {url for url in page.requests if not url.startswith("data:")} == {address}
    assert page.faults == []


def test_picture_is_whole_so_that_no_other_shines_through_where_it_is_scaled(page, shown, demo):
    scales = shown(page, "Two scales")
    scales.says(SEEN)
    scales.focus(scales.slider("weight scale σ_w"))
    page.keyboard.press("ArrowRight")
    scales.says("weight scale σ_w 2.0,")
    scales.settle()
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(scales.picture().partition(",")[2]))), dtype=int)
    drawn = demo.scales.frame({**demo.scales.start, "sigma_w": 2.0}, dpi=150).pixels
    assert np.abs(seen - drawn).max() <= 24  # 256 colours, all of them opaque


def test_click_sets_two_controls(page, shown, demo):
    scales = shown(page, "Two scales")
    scales.says(SEEN)
    before = scales.picture()
    spots = demo.scales.frame(demo.scales.start).spots
    scales.click_at(spots["x"][demo.SCALES.index(3.5)] - 0.01, spots["y"][demo.BIASES.index(2.0)] + 0.03)
    scales.says("weight scale σ_w 3.5, bias scale σ_b 2.0,")
    assert scales.picture() != before


def test_control_left_out_is_told_not_offered(page, shown):
    scales = shown(page, "Two scales")
    scales.says(SEEN)
    assert scales.root.get_by_role("combobox").count() == 0
    assert scales.root.locator(".control").nth(2).inner_text().split() == ["activation", "tanh"]


def test_narrow_page_does_not_overflow(page, shown):
    page.set_viewport_size({"width": 400, "height": 800})
    shown(page, "Two scales").says(SEEN)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate("document.querySelector('.explorer img').getBoundingClientRect().right <= 400")


def test_no_serious_accessibility_violation(page, shown):
    shown(page, "Two scales").says(SEEN)
    found = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in found if violation["impact"] in ("serious", "critical")] == []


def test_page_without_scripts_still_has_a_picture(browser, address):
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(address)
        assert page.locator("img").get_attribute("alt") == SEEN
    finally:
        context.close()
