"""A browser, a JupyterLab of its own in temporary folders, and what a test asks of an explorer on a page."""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parent
FLAGS = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
READY = """() => { const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return context?.isReady && context.session?.kernel?.status === 'idle' }"""
PICTURE = """image => { const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL() }"""


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def demo():
    """The module of demonstration explorers, which the notebooks of the tests import too."""
    spec = importlib.util.spec_from_file_location("demo_explorer", HERE / "demo_explorer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser():
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        missing = "no Chromium: `apt-get install chromium`, or set CHROMIUM to the path of a Chromium or Chrome"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS + sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where every page leaves its last look; the variable SCREENSHOTS keeps them."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Lab:
    """A running JupyterLab whose settings, kernels and notebooks live in one temporary folder."""

    def __init__(self, folder):
        self.notebooks, self.token, self.port = folder / "notebooks", secrets.token_hex(16), _free_port()
        self.notebooks.mkdir()
        names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        own = {f"JUPYTER_{name}": folder / name.lower() for name in names}
        own |= {f"JUPYTERLAB_{name}": folder / name.lower() for name in ("SETTINGS_DIR", "WORKSPACES_DIR")}
        own |= {"IPYTHONDIR": folder / "ipython", "MPLCONFIGDIR": folder / "matplotlib"}
        settings = {  # off-screen cells stay in the page, and no news covers it
            "notebook-extension/tracker": {"windowingMode": "none"},
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        }
        for name, value in settings.items():
            path = own["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(value))
        self.log = folder / "server.log"
        options = [
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.notebooks}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LABKIT_")}
        environment |= {name: str(path) for name, path in own.items()}
        environment.pop("MPLBACKEND", None)
        with self.log.open("w") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
            )

    def wait(self, seconds=90):
        for _ in range(4 * seconds):
            if self.server.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=5).close()
                return
            time.sleep(0.25)
        raise RuntimeError(f"JupyterLab does not answer: {self.log.read_text()[-1000:]}")

    def stop(self):
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def run(self, browser, notebook, name, timeout=180_000, **options):
        """Open a notebook on a page, run all its cells, and return the page; its scripts' errors in `page.faults`."""
        nbformat.write(notebook, self.notebooks / f"{name}.ipynb")
        page = browser.new_page(viewport={"width": 1300, "height": 1600}, **options)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}.ipynb?token={self.token}&reset", timeout=60_000)
        page.wait_for_function(READY, timeout=90_000)  # idle is shown before there is a kernel: this waits for it
        page.set_default_timeout(timeout)
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.set_default_timeout(30_000)
        return page


@pytest.fixture(scope="session")
def lab(tmp_path_factory, browser):
    running = Lab(tmp_path_factory.mktemp("lab"))
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

    def picture(self):
        return self.image.evaluate(PICTURE)

    def says(self, text):
        """Wait until the picture's alternative text begins so, and the words below it say the same."""
        self.root.locator(f'img[alt^="{text}"]').wait_for()
        assert self.words.inner_text() == self.image.get_attribute("alt").replace("σ_", "σ")

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


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
