"""Where somebody else's notebook runs: a process with limits and, on Linux, a system of its own.

In that system (namespaces, made by util-linux's `unshare` for an ordinary user) there is no network, no other process,
and of all files only Python, its packages and the companion, read-only, and a small disk in memory that vanishes.
Where namespaces cannot be had the limits hold all the same, and `missing` says what does not.
"""

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

interrupted = threading.Event()  # set: all that runs ends
ROOT = Path(__file__).parents[2]
MB = 2**20
RESULTS = ROOT / "notebooks" / "results"  # of this project; never the tests, never .git
KEEPS = "LANG LC_ALL LC_CTYPE TZ SYSTEMROOT OMP_NUM_THREADS COMPANION_ENCODER COMPANION_DATASET COMPANION_DATA".split()
SYSTEM = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] if os.name == "posix" else []
PATH = os.pathsep.join([str(Path(sys.executable).parent), *SYSTEM])
DEVICES = "null zero full random urandom".split()
WHY_NOT = "needs Linux with unshare, pivot_root, setpriv and prlimit, and user namespaces allowed to an ordinary user"


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell_seconds: float = 240
    seconds: float = 900
    memory_mb: int = 6000
    disk_mb: int = 256
    output_kb: int = 1000
    processes: int = 64

    def hard(self) -> dict[str, int]:
        """What the process itself is told not to pass. RLIMIT_AS is not: libraries reserve what they never use."""
        cpu = int(self.seconds * (os.cpu_count() or 1)) + 1
        sizes = {"RLIMIT_DATA": self.memory_mb * MB, "RLIMIT_FSIZE": self.disk_mb * MB}
        return {**sizes, "RLIMIT_CORE": 0, "RLIMIT_CPU": cpu}


def environment(home: Path) -> dict[str, str]:
    """What the notebook's process is told: nothing of ours but where Python is, and how many threads to use."""
    kept = {name: os.environ[name] for name in KEEPS if name in os.environ}
    here = {name: str(home) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # pip neither installs nor uninstalls; what another tool installs vanishes with the notebook's folder.
    offline = {"PIP_NO_INDEX": "1", "PIP_TARGET": str(home / ".packages"), "UV_OFFLINE": "1", "CONDA_OFFLINE": "1"}
    offline |= {"PIP_PYTHON": str(home / "pip is switched off while grading")}
    alike = {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": PATH, **quiet, **offline, **alike, **here, **kept}


# A system of its own ------------------------------------------------------------


def visible(package: Path) -> list[Path]:
    """The folders and files that the notebook's process can read."""
    data = [Path(os.environ[name]) for name in KEEPS if name.startswith("COMPANION") and name in os.environ]
    python = [Path(prefix) for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}]
    system = [Path("/usr"), *map(Path, ("/bin", "/sbin", "/lib", "/lib64"))]
    files = "ld.so.cache passwd group nsswitch.conf localtime alternatives fonts mime.types".split()
    paths = [*system, *(Path("/etc") / name for name in files), *python, package / "companion", RESULTS, *data]
    paths = [path.absolute() for path in paths if path.exists()]
    paths += [path.resolve() for path in paths]  # a .venv may be a link
    return [path for path in dict.fromkeys(paths) if not any(other in path.parents for other in paths)]


def bind(path: Path, to: str) -> str:
    """The commands that show a path, or what it links to, read-only, at the same place below `to`."""
    target, source = shlex.quote(f"{to}{path}"), shlex.quote(str(path))
    # What the mount has of these stays: a user namespace may not take it away.
    kept = [
        name for name in ("nosuid", "nodev", "noexec") if os.statvfs(path).f_flag & getattr(os, f"ST_{name.upper()}")
    ]
    make = f"mkdir -p {target}" if path.is_dir() else f"mkdir -p {shlex.quote(f'{to}{path.parent}')}; touch {target}"
    return f"{make}; mount --rbind {source} {target}; mount -o {','.join(['remount', 'bind', 'ro', *kept])} {target}"


def enter(argv: list[str], limits: Limits, shared: Path, copy: Path, package: Path = ROOT) -> list[str]:
    """The command that runs argv in a system of its own. `shared` is seen there as it is here, `copy` is copied."""
    memory = "nosuid,nodev,mode=700"

    def new(path) -> str:
        """The place of a path in the new system."""
        return shlex.quote(f"{shared / 'root'}{path}")

    script = [
        "set -eu",
        f"mkdir -p {new('')}",
        f"mount -t tmpfs -o {memory},size={limits.disk_mb}m,nr_inodes=20000 tmpfs {new('')}",
        f"mkdir -p {new('/proc')} {new('/dev/shm')} {new('/tmp')} {new('/old')} {new(shared)} {new(copy)}",
        f"mount -t proc -o ro,nosuid,nodev,noexec proc {new('/proc')}",
        f"mount -t tmpfs -o {memory},size={limits.disk_mb}m,nr_inodes=1000 tmpfs {new('/dev/shm')}",
        *(f"touch {new(f'/dev/{d}')}; mount --bind /dev/{d} {new(f'/dev/{d}')}" for d in DEVICES),
        *(bind(path, to=str(shared / "root")) for path in visible(package)),
        f"cp -r {shlex.quote(str(copy))}/. {new(copy)}",
        f"mount --bind {shlex.quote(str(shared))} {new(shared)}",
        f"cd {new('')}; pivot_root . old; umount -l /old; rmdir /old",
        f"cd {shlex.quote(str(copy))}",
        "exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all"
        f" prlimit --nproc={16 * limits.processes} {shlex.join(argv)}",  # threads, too, are counted
    ]
    namespaces = "--user --map-root-user --mount --net --pid --ipc --uts --fork --kill-child".split()
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--", "/bin/sh", "-c", "\n".join(script)]


@functools.cache
def missing() -> str:
    """Empty if this machine can isolate a process; otherwise the reason."""
    needed = "unshare", "pivot_root", "setpriv", "prlimit", "mount"
    if sys.platform != "linux" or not all(map(which, needed)):
        return WHY_NOT
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        shared, copy = Path(folder, "shared"), Path(folder, "copy")
        shared.mkdir()
        copy.mkdir()
        command = enter([sys.executable, "-c", "print('in')"], Limits(), shared, copy)
        done = subprocess.run(command, env=environment(copy), capture_output=True, text=True)
    if done.stdout.strip() == "in":
        return ""
    said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    return f"a trial of it failed ({said}); it {WHY_NOT}"


def which(name: str) -> str | None:
    return shutil.which(name, path=PATH)


# A process with limits ------------------------------------------------------------


class Guard:
    """A process, all that it starts, and an eye on both: `exceeded` says which limit they passed."""

    def __init__(self, argv: list[str], limits: Limits, shared: Path, copy: Path, isolated: bool, package: Path):
        self.limits, self.folder, self.looked, self.family = limits, shared if isolated else copy, 0.0, {}
        self.deadline = time.monotonic() + limits.seconds
        self.process = subprocess.Popen(
            enter(argv, limits, shared, copy, package) if isolated else argv,
            env=environment(copy),
            cwd=copy,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what passes the kernel by, nobody reads
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def exceeded(self, at_once=False) -> str:
        """Empty, or which limit was passed. Looks at most five times a second, unless `at_once`."""
        if time.monotonic() < self.looked + 0.2 and not at_once:
            return ""
        self.looked = time.monotonic()
        if interrupted.is_set():
            return "was interrupted"
        if self.looked > self.deadline:
            return f"took more than {self.limits.seconds:g} s"
        memory = 0
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            self.family |= {(p.pid, p.create_time()): p for p in [parent, *parent.children(recursive=True)]}
        for key, process in list(self.family.items()):
            try:
                memory += process.memory_info().rss if process.is_running() else 0
            except psutil.Error:
                del self.family[key]
        if memory > self.limits.memory_mb * MB:
            return f"used more than {self.limits.memory_mb} MB of memory"
        if len(self.family) > self.limits.processes:
            return f"started more than {self.limits.processes} processes"
        if too_large(self.folder, self.limits.disk_mb * MB):
            return f"wrote more than {self.limits.disk_mb} MB, or very many files"
        return ""

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            self.family |= {(p.pid, p.create_time()): p for p in parent.children(recursive=True)}
        self.process.kill()  # in namespaces everything ends with it
        for process in self.family.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


def too_large(folder: Path, size: int, files: int = 20_000) -> bool:
    """Is there more in the folder than that? Stops counting once it knows."""
    for path, _, names in os.walk(folder):
        for name in names:
            files -= 1
            with contextlib.suppress(OSError):
                size -= os.lstat(os.path.join(path, name)).st_size
            if size < 0 or files < 0:
                return True
    return False
