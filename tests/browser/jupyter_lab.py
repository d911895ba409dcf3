"""A Chromium and a running JupyterLab of one's own, for the tests and for the benchmark of the explorers.

Loaded by its path, since tests are no package.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat

FLAGS = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
READY = """() => { const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return context?.isReady && context.session?.kernel?.status === 'idle' }"""
MISSING = "no Chromium: `apt-get install chromium`, or set CHROMIUM to the path of a Chromium or Chrome"


def find_chromium():
    """The path of a Chromium; None where there is none."""
    known = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return os.environ.get("CHROMIUM") or next(filter(None, known), None)


def launch(playwright):
    """A headless Chromium; without its sandbox only where the user is root, whom it refuses."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS + sandbox)


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

    def run(self, browser, notebook, name, timeout=180_000, probe=""):
        """Open a notebook, or one cell of code, run all its cells, and return the page.

        The errors of the page's scripts are in `page.faults`; `probe` is a script that the page runs first.
        """
        if isinstance(notebook, str):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(notebook)])
            notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.notebooks / f"{name}.ipynb")
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.add_init_script(probe)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}.ipynb?token={self.token}&reset", timeout=60_000)
        page.wait_for_function(READY, timeout=90_000)  # idle is shown before there is a kernel: this waits for it
        page.set_default_timeout(timeout)
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.set_default_timeout(30_000)
        return page


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
