"""The lessons as a learner meets them: opened in JupyterLab, run from top to bottom, explorers moved by keyboard."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9A-Z]*.ipynb")) + sorted(NOTEBOOKS.glob("?_*/*.ipynb"))
MOVED = "([image, said]) => image.alt !== said"


def tracebacks(page):
    """What failed cells show; JupyterLab puts them where it puts warnings and progress too."""
    return page.locator('[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback (most recent call")


def test_failing_cell_would_be_seen(lab, browser):
    page = lab.run(browser, "1 / 0", "fails")
    try:
        assert "ZeroDivisionError" in tracebacks(page).inner_text()
    finally:
        page.close()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_explorer_of_the_lesson_answers_to_arrow_keys_and_clicks(lab, browser, screenshots, shown, path):
    page = lab.run(browser, nbformat.read(path, as_version=4), path.stem)
    try:
        assert tracebacks(page).all_inner_texts() == []
        titles = page.locator(".explorer").evaluate_all("all => all.map(e => e.ariaLabel)")
        assert titles
        for title in titles:
            explorer = shown(page, title)
            explorer.root.scroll_into_view_if_needed()
            explorer.root.locator("img[alt]:not([alt=''])").wait_for()
            before, said = explorer.picture(), explorer.image.get_attribute("alt")
            slider = explorer.root.get_by_role("slider").first
            explorer.focus(slider)
            page.keyboard.press("ArrowLeft" if slider.evaluate("e => e.value === e.max") else "ArrowRight")
            page.wait_for_function(MOVED, arg=[explorer.image.element_handle(), said])
            assert explorer.root.locator(".error").text_content() == ""
            assert explorer.picture() != before
            if explorer.root.get_by_text("Click or drag in the first panel").count():
                before, said = explorer.picture(), explorer.image.get_attribute("alt")
                box = explorer.image.bounding_box()
                explorer.image.click(position={"x": 0.3 * box["width"], "y": 0.3 * box["height"]})
                page.wait_for_function(MOVED, arg=[explorer.image.element_handle(), said])
                assert explorer.picture() != before
        assert page.faults == []
    finally:
        page.screenshot(path=screenshots / f"{path.stem}.png", full_page=True)
        page.close()
