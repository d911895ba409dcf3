"""A browser, a JupyterLab of its own in temporary folders, and what a test asks of an explorer on a page."""

import importlib.util
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HELD = """input => { const held = document.activeElement === input;
    input.focus(); window.held = held ? window.held + 1 : 0; return window.held >= 20 }"""
PICTURE = """image => { const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL() }"""


def _load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jupyter_lab = _load("jupyter_lab")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def demo():
    """The module of demonstration explorers, which the notebooks of the tests import too."""
    return _load("demo_explorer")


@pytest.fixture(scope="session")
def browser():
    if not jupyter_lab.find_chromium():
        pytest.fail(jupyter_lab.MISSING) if os.environ.get("CI") else pytest.skip(jupyter_lab.MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = jupyter_lab.launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where every page leaves its last look; the variable SCREENSHOTS keeps them."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory, browser):
    running = jupyter_lab.Lab(tmp_path_factory.mktemp("lab"))
    try:
        running.wait()
        yield running
    finally:
        running.stop()


class Shown:
    """An explorer on a page, as a reader finds it: by role and name."""

    def __init__(self, page, title):
        self.page = page
        self.root = page.get_by_role("group", name=title)
        self.words = self.root.locator("figcaption")
        self.image = self.root.locator("img")

    def slider(self, label):
        return self.root.get_by_role("slider", name=label.replace("_", ""), exact=True)

    def focus(self, slider):
        """Focus a slider for good: JupyterLab takes the focus once more, some time after it ran all cells."""
        self.page.wait_for_function(HELD, arg=slider.element_handle())

    def picture(self):
        return self.image.evaluate(PICTURE)

    def says(self, text):
        """Wait until the picture's alternative text begins so, and the words below it say the same."""
        self.root.locator(f'img[alt^="{text}"]').wait_for()
        assert self.words.inner_text() == self.image.get_attribute("alt").translate({ord(mark): None for mark in "_^"})

    def settle(self):
        """Wait until a screen reader would have heard the words."""
        words = "e => e.querySelector('.said').textContent === e.querySelector('img').alt"
        self.page.wait_for_function(words, arg=self.root.element_handle())

    def click_at(self, across, down):
        """Click the picture at fractions of its width and height."""
        self.image.scroll_into_view_if_needed()
        box = self.image.bounding_box()
        self.image.click(position={"x": across * box["width"], "y": down * box["height"]})


@pytest.fixture(scope="session")
def shown():
    return Shown
