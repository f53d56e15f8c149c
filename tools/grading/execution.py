"""Runs the cells of one notebook, and tells for each how it ended."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import zmq
from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from tools.grading.sandbox import MB, ROOT, Guard, Limits

INSIDE = Path(__file__).with_name("inside")
GRACE = 3  # seconds that a cell has to stop, once it is told to
CUT = "\n[The rest of the output was cut.]\n"


@dataclass
class Ending:
    """How a cell ended: ok, error, timeout, stopped (the process is gone), or not run."""

    status: str = "not run"
    message: str = ""
    outputs: list = field(default_factory=list)


class Kernel:
    """A Python kernel in a guarded process. `gone` says why it is no more."""

    def __init__(self, limits: Limits, files: Path | None, isolated: bool, package: Path = ROOT, shown=True):
        """`files`: a folder whose files the notebook finds beside it, as copies. `package`: where the companion is.

        If not `shown`, whatever the notebook puts out is dropped.
        """
        self.limits, self.gone, self.kept, self.cut, self.shown = limits, "", 0, False, shown
        self.folder = Path(tempfile.mkdtemp(prefix="grade-"))
        shared, copy = self.folder / "shared", self.folder / "copy"
        copy.mkdir()
        self.inside = f"_{secrets.token_hex(4)}"  # a name that no file beside the notebook has
        shutil.copytree(INSIDE, shared / self.inside)
        self.place = str(shared / "t") if os.name == "posix" else ""
        for file in files_beside(files):
            shutil.copyfile(file, copy / file.name)
        ways: dict[str, dict] = {"posix": {"transport": "ipc", "ip": str(shared / "k")}}  # files, which need no network
        local = ways.get(os.name, {"transport": "tcp", "ip": "127.0.0.1"})
        connection, _ = write_connection_file(str(shared / "kernel.json"), key=secrets.token_hex(16).encode(), **local)
        launch = [str(shared / self.inside / "launch.py"), json.dumps(limits.hard()), str(package)]
        argv = [sys.executable, "-P", "-s", *launch, "-f", connection, "--IPKernelApp.log_level=50"]
        argv += ["--HistoryManager.hist_file=:memory:"]
        self.guard = Guard(argv, limits, shared, copy, isolated, package)
        context = zmq.Context()
        context.setsockopt(zmq.MAXMSGSIZE, 10 * MB)  # what a message may take of our own memory, and how many may wait
        context.setsockopt(zmq.RCVHWM, 20)
        self.context = context
        self.client = BlockingKernelClient(connection_file=connection, context=context)
        self.client.load_connection_file()
        self.client.start_channels(iopub=False, stdin=False, hb=False)
        start = max(60, limits.cell_seconds)
        try:
            self.listen(start)
            stay = "get_ipython().ask_exit = lambda: None"  # exit() in a scratch cell does not end the kernel
            if self.run(stay, start, remember=False).status != "ok":
                raise RuntimeError(f"Python did not start: {self.gone}")
        except BaseException:  # an interrupt, too, leaves nothing behind
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guard.kill()
        self.client.stop_channels()
        self.context.destroy(linger=0)
        remove(self.folder)

    def listen(self, seconds: float = 5) -> None:
        """Connect to the outputs. What is published before the kernel knows of us is lost: ask it until it is heard."""
        self.iopub, deadline = self.client.connect_iopub(), time.monotonic() + seconds
        while not self.iopub.poll(100) and self.guard.alive() and time.monotonic() < deadline:
            self.client.kernel_info()  # it says there that it is busy with this

    def run(self, code: str, seconds: float, remember=True) -> Ending:
        """Run one cell. `remember`: it stands in the notebook's history, as a cell that a student runs does."""
        if self.gone:
            return Ending(message=f"not run: the notebook's process {self.gone}")
        ending, reply, request = (
            Ending("ok"),
            None,
            self.client.execute(code, store_history=remember, allow_stdin=False, stop_on_error=False),
        )
        shell, poller = self.client.shell_channel.socket, zmq.Poller()
        poller.register(shell, zmq.POLLIN)
        poller.register(self.iopub, zmq.POLLIN)
        deadline, idle, told = time.monotonic() + seconds, not self.shown, False
        while not (reply and idle):
            ready = dict(poller.poll(100))
            if self.iopub in ready and (message := self.receive(self.iopub, request)) and self.shown:
                idle = idle or message["content"].get("execution_state") == "idle"
                self.collect(message, ending.outputs)
            if shell in ready and (message := self.receive(shell, request)):
                reply = message["content"]
                answered = time.monotonic()
            if reply and time.monotonic() > answered + 3:  # its last word got lost, as too long messages do
                break
            if not reply and (gone := self.guard.exceeded() or "" if self.guard.alive() else "ended itself"):
                return self.end(ending, gone)
            if not reply and time.monotonic() > deadline:
                if told:
                    return self.end(ending, f"did not stop after {seconds:g} s")
                told, deadline = True, time.monotonic() + GRACE
                self.client.control_channel.send(self.client.session.msg("interrupt_request"))
        if not idle:
            self.cut = True
            ending.outputs.append(nbformat.v4.new_output("stream", name="stdout", text=CUT))
            self.iopub.close(linger=0)  # it is closed already by a message that was too long, and does not come back
            self.listen()
        if gone := self.guard.exceeded(at_once=True):  # what a quick cell leaves behind, the loop has not seen
            return self.end(ending, gone)
        if told:
            ending.status, ending.message = "timeout", f"stopped after {seconds:g} s"
        elif reply.get("status") != "ok":
            ending.status, ending.message = "error", f"{reply.get('ename')}: {reply.get('evalue')}"[:2000]
        return ending

    def receive(self, channel, request: str) -> dict | None:
        """The next message, if it answers this request. One that cannot be read is none."""
        try:
            _, message = self.client.session.recv(channel)
        except Exception:  # not signed, not JSON: nothing that a kernel sends by itself
            return None
        return message if message and message["parent_header"].get("msg_id") == request else None

    def end(self, ending: Ending, why: str) -> Ending:
        self.gone = why
        self.guard.kill()
        ending.status, ending.message = "stopped", f"the notebook's process {why}"
        return ending

    def collect(self, message: dict, outputs: list) -> None:
        """Keep an output, joined to the stream before it, as long as the notebook's share lasts."""
        kind, content = message["msg_type"], message["content"]
        if kind not in ("stream", "display_data", "execute_result", "error"):
            return
        size = sum(len(str(value)) for value in content.values())
        self.kept += size
        if self.kept > 1000 * self.limits.output_kb:
            self.cut = True
            if not (outputs and outputs[-1].get("text", "").endswith(CUT)):
                text = content["text"][: 10 * self.limits.output_kb] if kind == "stream" else ""
                outputs.append(nbformat.v4.new_output("stream", name="stdout", text=text + CUT))
        elif kind == "stream" and outputs and outputs[-1].get("name") == content["name"]:
            outputs[-1].text += content["text"]
        else:
            outputs.append(nbformat.v4.output_from_msg(message))


def remove(folder: Path) -> None:
    """Remove a folder, even if the permissions of its subfolders forbid it."""
    for path, names, _ in os.walk(folder):
        for inner in (os.path.join(path, name) for name in names):
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def files_beside(folder: Path | None) -> list[Path]:
    """The files that came with a submission; no notebook, no link, nothing large."""
    files = sorted(folder.iterdir()) if folder else []
    files = [file for file in files if file.is_file() and not file.is_symlink() and file.suffix != ".ipynb"]
    return [file for file in files if file.stat().st_size < 10 * MB and os.access(file, os.R_OK)]
