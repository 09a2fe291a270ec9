"""The isolation tiers: what they are made of, what works here, and how to get the rest. Trusted side."""

from __future__ import annotations

import functools
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grader.sandbox.inside import lockdown
from grader.sandbox.inside.lockdown import BOX, BOX_BYTES

INSIDE = Path(lockdown.INSIDE)
PROBE_LIMIT = 20.0

TIERS: dict[str, tuple[str, ...]] = {
    "sandbox": ("namespaces", "landlock", "seccomp", "limits"),
    "restricted": ("landlock", "seccomp", "limits"),
    "process": ("limits",),
}
INSTALL = "`apt install bubblewrap`, `dnf install bubblewrap` or your system's package"
ALLOW = (
    "allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`; where AppArmor restricts them (Ubuntu), "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, `--security-opt seccomp=unconfined`"
)
REMEDIES = {
    "bubblewrap": ALLOW,  # it is installed, but may not do its work
    "namespaces": ALLOW,
    "landlock": "use Linux 5.13 or later with `landlock` in the `lsm=` list of the kernel's command line",
    "seccomp": "`apt install libseccomp2`, `dnf install libseccomp` or your system's package; `pip install pyseccomp`",
    "limits": "use Linux or macOS",
}

# Loads the `inside` package by its place alone, so that nothing else of the kit can be imported.
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("inside", sys.argv[1] + "/__init__.py")
sys.modules["inside"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["inside"])
"""

# Runs in a process of its own. Each trial is a fork that takes a layer and then tries what the layer must deny.
TRIALS = """
import errno, json, os, socket
from inside import lockdown, seccomp as filters
usual = vars(lockdown.Limits())

def denied(attempt, *arguments):
    try:
        attempt(*arguments)
    except PermissionError:
        return
    raise OSError("it denies nothing")

def namespaces():
    lockdown.enter_namespaces()
    assert os.getuid() == lockdown.NOBODY, f"the user is {os.getuid()}"
    assert in_child(lambda: str(os.getpid())) == [True, "1"], "a child is not PID 1"
    return "user, PID, network, IPC and mounts"

def landlock():
    version = lockdown.restrict_files([], [])
    denied(os.listdir, "/")
    return f"version {version} of the interface"

def seccomp():
    filters.load(filters.build())
    denied(socket.socket)
    return "libseccomp"

def limits():
    lockdown.limit_resources(1 << 30, 60, 1 << 20, 64, 1 << 16)
    try:
        bytearray(2 << 30)
    except MemoryError:
        return
    if sys.platform == "linux":
        raise OSError("it denies nothing")

def bubblewrap():
    box = lockdown.enter(lockdown.LAYERS, usual)
    assert box == lockdown.BOX, "there is no scratch directory"
    def child():
        lockdown.apply(lockdown.LAYERS, usual, box)
        denied(os.listdir, "/")
        os.mkdir(box + "/writable")
    said = in_child(child)
    assert said[0], said[1]

def in_child(trial):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = [True, trial() or ""]
        except BaseException as error:
            said = [False, f"{type(error).__name__}: {error}"[:300]]
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 4096)
    os.close(read)
    os.waitpid(pid, 0)
    return json.loads(said) if said else [False, "the trial crashed"]

print(json.dumps({name: in_child(globals()[name]) for name in sys.argv[2:]}))
"""


@dataclass(frozen=True)
class Layer:
    """One layer of isolation: whether it works here, what was found, and how to get it."""

    name: str
    available: bool
    why: str
    remedy: str


def tier_layers(tier: str) -> set[str]:
    """The layers that a child of this tier applies to itself."""
    return set(TIERS[tier])


@functools.cache
def probe_layers() -> dict[str, Layer]:
    """Every layer, tried for real in short-lived processes, side by side."""
    installed = lockdown.LINUX and shutil.which("bwrap") is not None
    boxed = _start(bubblewrap_command(INSIDE), ["bubblewrap"]) if installed else None
    own = _start([], [*lockdown.LAYERS])
    found = {"bubblewrap": Layer("bubblewrap", False, "`bwrap` is not installed", INSTALL)}
    if installed:
        found = _finish(boxed, ["bubblewrap"])
    return found | _finish(own, [*lockdown.LAYERS])


def _start(prefix: list[str], names: list[str]) -> subprocess.Popen[str] | None:
    command = [*prefix, sys.executable, "-I", "-c", LOAD + TRIALS, str(INSIDE), *names]
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", env=environment()
        )
    except OSError:
        return None


def _finish(process: subprocess.Popen[str] | None, names: list[str]) -> dict[str, Layer]:
    """What the trials said; one that said nothing has failed."""
    said, why = {}, "it could not be started"
    if process is not None:
        try:
            output, errors = process.communicate(timeout=PROBE_LIMIT)
            lines = errors.strip().splitlines()
            why = lines[-1][:300] if lines else "it said nothing"
            said = json.loads(output)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            why = f"no answer within {PROBE_LIMIT:g} s"
        except ValueError:
            pass  # `why` has what it complained about instead
    found = {}
    for name in names:
        available, text = said.get(name, (False, why))
        found[name] = Layer(name, available, text or "works", "" if available else REMEDIES[name])
    return found


def best_tier(layers: dict[str, Layer]) -> str:
    """The strongest tier whose layers all work: "sandbox", "restricted" or "process"."""
    works = {name for name, layer in layers.items() if layer.available}
    if works >= {"bubblewrap", *TIERS["sandbox"]}:
        return "sandbox"
    return "restricted" if works >= set(TIERS["restricted"]) else "process"


def promising_tiers() -> list[str]:
    """The tiers worth trying here, strongest first. Starting one is what shows whether it works."""
    if not lockdown.LINUX:
        return ["process"]
    return ["sandbox", "restricted", "process"] if shutil.which("bwrap") else ["restricted", "process"]


def environment() -> dict[str, str]:
    """All that a zygote gets of the environment. One thread a pool: a parent with more hangs its children."""
    scratch = tempfile.gettempdir()
    fixed = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # `getpass` asks for it, and nobody has no exercise among the users
    place = {"HOME": scratch, "TMPDIR": scratch, "LOGNAME": "learner"}
    devices = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH") if name in os.environ}
    return fixed | threads | place | devices


def bubblewrap_command(inside: Path, *, python: str = sys.executable, gpu: bool = False) -> list[str]:
    """What stands before a zygote's own command line: no network, no capabilities, the interpreter and its packages
    read-only, the kit hidden except for `inside`, and one scratch directory, size-capped and current.
    """
    # as nobody even for root: a nested namespace cannot map root without capabilities, which are all dropped
    user = ["--uid", str(lockdown.NOBODY), "--gid", str(lockdown.NOBODY), "--cap-drop", "ALL"]
    command = ["bwrap", "--unshare-all", "--unshare-user", *user, "--die-with-parent", "--new-session"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    drivers = ["/sys", "/run/nvidia", "/run/opengl-driver"] if gpu else []
    arguments, covers = _mounts([*lockdown.SYSTEM, *lockdown.roots(), *_links(python), str(inside), *drivers])
    command += arguments
    for device in (path for pattern in lockdown.GPU_DEVICES for path in sorted(glob.glob(pattern)) if gpu):
        command += ["--dev-bind-try", device, device]
    command += ["--size", str(BOX_BYTES), "--tmpfs", BOX, "--chdir", BOX]
    for path in (*covers, "/dev", "/"):
        command += ["--remount-ro", path]  # what bubblewrap makes itself is writable otherwise
    command += ["--clearenv"]
    for name, value in (environment() | {"HOME": BOX, "TMPDIR": BOX}).items():
        command += ["--setenv", name, value]
    return [*command, "--"]


def _mounts(shown: list[str]) -> tuple[list[str], list[str]]:
    """(arguments that show these paths and cover what is hidden below them, the covers). Parents first, so that what
    is shown below a cover comes after it; what is visible already is not mounted again."""
    wanted = dict.fromkeys((path for path in shown if os.path.lexists(path)), True)
    for path in shown:
        real = os.path.realpath(path)
        wanted |= {path + kit.removeprefix(real): False for kit in lockdown.hidden() if kit.startswith(f"{real}/")}
    arguments: list[str] = []
    done: dict[str, bool] = {}
    for path, show in sorted(wanted.items(), key=lambda item: (item[0].count("/"), item[0])):
        above = max((other for other in done if path.startswith(f"{other}/")), key=len, default="")
        if show == done.get(above, False):
            continue
        done[path] = show
        if not show:
            arguments += ["--tmpfs", path]
        elif os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind", path, path]
    return arguments, [path for path, show in done.items() if not show]


def _links(path: str) -> list[str]:
    """A path and the links it leads through: a venv's python is a chain of them."""
    chain = [path]
    while os.path.islink(chain[-1]) and len(chain) < 20:
        chain.append(os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.readlink(chain[-1]))))
    return chain
