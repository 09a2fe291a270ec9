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
from grader.sandbox.tier import Tier

INSIDE = Path(lockdown.INSIDE)
PROBE_LIMIT = 20.0

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


@dataclass(frozen=True)
class Layer:
    """One layer of isolation: whether it works here, what was found, and how to get it."""

    name: str
    available: bool
    why: str
    remedy: str


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


def inside_command(program: str, *words: str) -> list[str]:
    """What starts a program of `inside/`, of which alone it can import."""
    return [sys.executable, "-I", str(INSIDE / "__main__.py"), program, *words]


def _start(prefix: list[str], names: list[str]) -> subprocess.Popen[str] | None:
    command = [*prefix, *inside_command("trials", *names)]
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


def best_tier(layers: dict[str, Layer]) -> Tier:
    """The strongest tier whose layers all work."""
    works = {name for name, layer in layers.items() if layer.available}
    if works >= {"bubblewrap", *Tier.SANDBOX.layers}:
        return Tier.SANDBOX
    return Tier.RESTRICTED if works >= Tier.RESTRICTED.layers else Tier.PROCESS


def promising_tiers() -> list[Tier]:
    """The tiers worth trying here, strongest first. Starting one is what shows whether it works."""
    if not lockdown.LINUX:
        return [Tier.PROCESS]
    return [*Tier] if shutil.which("bwrap") else [Tier.RESTRICTED, Tier.PROCESS]


def environment() -> dict[str, str]:
    """All that a zygote gets of the environment. One thread a pool: a parent with more hangs its children."""
    scratch = tempfile.gettempdir()
    fixed = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # `getpass` asks for it, and nobody has no entry among the users
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
