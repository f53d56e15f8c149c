"""JupyterLab as `make lab` starts it, on a copy of the project, in a real browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests.browser import CHROMIUM, assert_kept, open_browser, take_picture
from tools import series

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium, Chrome or Edge is installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]

ROOT = Path(__file__).parent.parent
TOKEN = "a-token-of-this-test"
PATIENCE = 240  # seconds, for what takes twenty on a machine that does nothing else
SHOWN = """() => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    if (!panel?.content?.model || !panel.sessionContext) return null;
    return {
        name: panel.context.path,
        kernel: panel.sessionContext.session?.kernel?.status,
        unsaved: panel.context.model.dirty,
        cells: panel.content.model.sharedModel.toJSON().cells.filter((c) => c.cell_type == "code"),
    };
}"""  # the notebook in front, as JupyterLab holds it


class Server:
    """`make lab` in a copy of the project, at a free port, with settings of its own."""

    def __init__(self, folder: Path):
        self.project = folder / "project"
        (self.project / "notebooks").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", self.project)
        shutil.copytree(ROOT / "tools" / "jupyter", self.project / "tools" / "jupyter")
        for path in [*series.notebooks(), *(ROOT / "notebooks").glob("*.jupyterlab-workspace")]:
            shutil.copy(path, self.project / "notebooks")
        for path in series.notebooks(root=self.project):  # no output and no number is left over from before
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            series.save(notebook, path)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        settings = {
            "ServerApp": {"port": int(self.address.rpartition(":")[2]), "port_retries": 0, "open_browser": False},
            "IdentityProvider": {"token": TOKEN},
            "LabApp": {"expose_app_in_browser": True},
        }
        (folder / "config").mkdir()
        for name in ("server", "lab"):
            (folder / "config" / f"jupyter_{name}_config.json").write_text(json.dumps(settings))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMPANION_", "MAKE"))}
        environment["OMP_NUM_THREADS"] = "1"  # as in make test: others run beside this
        environment |= {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "lab")}
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            ["make", "lab", "READY=", f"PY={Path(sys.executable).as_posix()}"],  # READY=: it is set up already
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, path: str, method="GET"):
        request = urllib.request.Request(f"{self.address}{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        return urllib.request.urlopen(request, timeout=PATIENCE)

    def await_start(self):
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self.ask("/api/status").close()
            except urllib.error.URLError:
                assert self.process.poll() is None and time.monotonic() < until, self.said()
                time.sleep(0.2)

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        if self.process.poll() is None:
            self.ask("/api/shutdown", "POST").close()
        self.process.wait(PATIENCE)
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("lab"))
    try:
        server.await_start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def page(server):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        yield page


def wait_until(page, condition: str):
    """Until a JavaScript expression is true; looking seldom leaves the processor to the kernel."""
    page.wait_for_function(f"() => {condition}", polling=500)


def open_notebook(page, server, path: Path) -> None:
    """Open one of the copied project's, and wait for its kernel."""
    name = path.relative_to(server.project).as_posix()
    page.goto(f"{server.address}/lab/tree/{name}?token={TOKEN}")
    wait_until(page, f"({SHOWN})()?.name == '{name}' && ({SHOWN})().kernel == 'idle'")


def restart_and_run_all(page) -> list[dict]:
    """By the menu, as people do it; the cells, when all have run or one has failed."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    failed = "cells.some((c) => c.outputs.some((o) => o.output_type == 'error'))"
    wait_until(page, f"(({{cells}}) => cells.every((c) => c.execution_count) || {failed})(({SHOWN})())")
    wait_until(page, f"({SHOWN})().kernel == 'idle'")
    return page.evaluate(SHOWN)["cells"]


def assert_all_ran(cells):
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_00_runs_from_top_to_bottom_and_nobody_is_asked_anything(page, server):
    open_notebook(page, server, *series.notebooks(["00"], server.project))
    assert_all_ran(restart_and_run_all(page))
    assert page.locator(".jp-RenderedHTML mark").count()
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert "Traceback" not in server.said() and " E 20" not in server.said(), server.said()


BEFORE_THE_WIDGET = """
from companion import display
from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

display.setup()
names = ["negative", "positive"]
model, tokenizer = BertCNN.from_encoder("embedded", num_labels=2), load_tokenizer("embedded")
""".strip()


def save_widget_of_09(path: Path):
    """The cell of its widget, as it stands; the model is untrained, which shows as well."""
    cells = nbformat.read(series.notebooks(["09"])[0], as_version=4).cells
    widget = next(cell for cell in cells if "widget" in cell.metadata.get("tags", []))
    before = nbformat.v4.new_code_cell(BEFORE_THE_WIDGET)
    series.save(nbformat.v4.new_notebook(cells=[before, widget], metadata=series.METADATA), path)


def test_the_widget_of_09_answers_to_a_sentence(page, server):
    path = server.project / "notebooks" / "widget_of_09.ipynb"
    save_widget_of_09(path)
    open_notebook(page, server, path)
    assert_all_ran(restart_and_run_all(page))
    box, shown = page.locator(".widget-text input"), page.locator(".widget-html mark")
    shown.first.wait_for()
    before = shown.all_inner_texts()
    box.fill("Nobody laughed, and the ending is a mess.")
    box.press("Enter")
    page.locator(".widget-html", has_text="laughed").wait_for()  # one word: values stand between the n-grams
    assert shown.count() and shown.all_inner_texts() != before


def test_a_notebook_that_is_only_opened_is_not_unsaved_and_no_menu_is_for_teachers(page, server):
    path = series.notebooks(["01"], server.project)[0]
    before = path.read_bytes()
    open_notebook(page, server, path)
    wait_until(page, f"({SHOWN})().kernel == 'idle' && !({SHOWN})().unsaved")
    page.wait_for_timeout(2000)  # for what a kernel that has just started still tells
    assert not page.evaluate(SHOWN)["unsaved"] and path.read_bytes() == before
    assert page.locator(".lm-MenuBar-itemLabel", has_text="Nbgrader").count() == 0
    assert page.get_by_text("Validate").count() == page.get_by_text("Create Assignment").count() == 0
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    wait_until(page, f"!({SHOWN})().unsaved")
    assert nbformat.read(path, as_version=4).metadata == series.METADATA


SCROLL = """async () => {
    const { shell } = window.jupyterapp;
    for (const id of [...shell.widgets("main")].filter((panel) => panel.isVisible).map((panel) => panel.id)) {
        shell.activateById(id);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        const { content } = shell.currentWidget, { cells } = content.model.sharedModel;
        const place = cells.findIndex((cell) => /^# companion.*BertCNN.convolve/.test(cell.getSource()));
        await content.scrollToItem(place, "start");
        content.activeCellIndex = place;
    }
}"""  # to the same definition in both notebooks


def test_the_workspace_opens_03_beside_04_and_05_with_room_for_code(page, server):
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{server.address}/lab/workspaces/side-by-side?token={TOKEN}")
    wait_until(page, "document.querySelectorAll('.jp-NotebookPanel .jp-RenderedMarkdown h1').length >= 2")
    panels = [panel for panel in page.locator(".jp-NotebookPanel").all() if panel.is_visible()]
    left, right = sorted((panel.bounding_box() for panel in panels), key=lambda box: box["x"])
    titles = {panel.bounding_box()["x"]: panel.locator("h1").first.inner_text() for panel in panels}
    assert [title[:2] for _, title in sorted(titles.items())] == ["03", "04"]
    assert left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
    assert min(left["width"], right["width"]) > 600
    assert page.locator(".lm-TabBar-tabLabel", has_text="05_functional").is_visible()
    assert not page.locator("#jp-left-stack").is_visible()  # no browser of files takes their room
    wait_until(page, f"({SHOWN})()?.kernel == 'idle'")
    page.evaluate(SCROLL)
    page.mouse.move(0, 0)
    page.get_by_text("BertCNN.convolve").first.wait_for()
    page.wait_for_timeout(2000)  # until it stands still
    assert_kept(take_picture(page, "split_view.png"), "split_view.png")
