"""The isolation tiers: what they are made of, what works here, and how to get the rest."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grader.sandbox.inside.lockdown import BOX, BOX_BYTES

PACKAGE = Path(__file__).resolve().parents[1]
INSIDE = PACKAGE / "sandbox" / "inside"

TIERS: dict[str, tuple[str, ...]] = {
    "sandbox": ("namespaces", "landlock", "seccomp", "limits"),
    "restricted": ("landlock", "seccomp", "limits"),
    "process": ("limits",),
}

REMEDIES = {
    "bubblewrap": "install it: `apt install bubblewrap`, `dnf install bubblewrap` or your system's package",
    "namespaces": "allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`, or, with AppArmor, "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; containers need `--security-opt seccomp=unconfined`",
    "landlock": "needs Linux 5.13 or later with Landlock enabled (`lsm=` in the kernel's command line)",
    "seccomp": "install libseccomp: `apt install libseccomp2` or your system's package",
    "limits": "needs a POSIX system",
}

# Runs in a process of its own for each layer: tries the layer, and then something that it must deny.
TRIAL = """
import importlib.util, json, os, sys, tempfile
spec = importlib.util.spec_from_file_location("lockdown", sys.argv[1] + "/lockdown.py")
lockdown = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lockdown)

def namespaces():
    pid = os.getpid()
    lockdown.BOX = tempfile.mkdtemp()
    try:
        lockdown.enter(["namespaces"], {})
        child = os.fork()
        if child == 0:
            os._exit(0 if os.getpid() == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0, "a child is not PID 1"
    finally:
        lockdown.libc.umount(lockdown.BOX.encode())
        os.rmdir(lockdown.BOX)

def landlock():
    version = lockdown.restrict_files(["/usr"], [])
    try:
        os.listdir("/")
    except PermissionError:
        return f"version {version}"
    raise OSError("it denies nothing")

def seccomp():
    import socket
    lockdown.prepare(["seccomp"])
    lockdown.filter_system_calls()
    try:
        socket.socket()
    except PermissionError:
        return ""
    raise OSError("it denies nothing")

def limits():
    lockdown.limit_resources(dict(cpu_seconds=60, file_bytes=1 << 20, files=64, memory=0))

found = {}
for trial in (namespaces, landlock, seccomp, limits):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = [True, trial() or ""]
        except BaseException as error:
            said = [False, f"{type(error).__name__}: {error}"]
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 4096)
    os.close(read)
    os.waitpid(pid, 0)
    found[trial.__name__] = json.loads(said) if said else [False, "the trial crashed"]
print(json.dumps(found))
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
    """Every layer, tried for real in short-lived processes."""
    found = {"bubblewrap": _bubblewrap()}
    try:
        command = [sys.executable, "-I", "-c", TRIAL, str(INSIDE)]
        said = subprocess.run(command, capture_output=True, timeout=20, check=True, env=environment()).stdout
        tried = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        tried = {name: [False, f"the trial failed: {type(error).__name__}"] for name in TIERS["sandbox"]}
    for name, (available, why) in tried.items():
        found[name] = Layer(name, available, why, "" if available else REMEDIES[name])
    return found


def _bubblewrap() -> Layer:
    program = shutil.which("bwrap")
    if program is None:
        return Layer("bubblewrap", False, "`bwrap` is not installed", REMEDIES["bubblewrap"])
    try:
        command = [*bubblewrap_command(INSIDE), sys.executable, "-I", "-c", "pass"]
        run = subprocess.run(command, capture_output=True, timeout=20, env=environment())
    except (OSError, subprocess.SubprocessError) as error:
        return Layer("bubblewrap", False, str(error), REMEDIES["namespaces"])
    if run.returncode:
        return Layer("bubblewrap", False, run.stderr.decode(errors="replace")[:300].strip(), REMEDIES["namespaces"])
    return Layer("bubblewrap", True, program, "")


def best_tier(layers: dict[str, Layer]) -> str:
    """The strongest tier whose layers all work."""
    works = {name for name, layer in layers.items() if layer.available}
    if works >= {"bubblewrap", *TIERS["sandbox"]}:
        return "sandbox"
    return "restricted" if works >= set(TIERS["restricted"]) else "process"


def promising_tiers() -> list[str]:
    """The tiers worth trying here, strongest first. Starting one is what shows whether it works."""
    if sys.platform != "linux":
        return ["process"]
    return ["sandbox", "restricted", "process"] if shutil.which("bwrap") else ["restricted", "process"]


def environment() -> dict[str, str]:
    """All that a zygote gets of the environment. One thread a pool: a parent with more hangs its children."""
    kept = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | threads | {"HOME": tempfile.gettempdir(), "TMPDIR": tempfile.gettempdir()}


def bubblewrap_command(inside: Path, *, gpu: bool = False) -> list[str]:
    """The arguments before the zygote's own: no network, nothing writable but a scratch directory, no kit."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc"]
    command += ["--dev", "/dev", "--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
        command += ["--ro-bind-try", path, path]
    for path in _roots():
        command += ["--ro-bind", path, path]
    if any(PACKAGE.is_relative_to(path) for path in _roots()):
        command += ["--tmpfs", str(PACKAGE)]  # an installed kit lies among the packages: hide it
    command += ["--ro-bind", str(inside), str(inside)]
    if gpu:
        for path in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/usr/local/nvidia"):
            command += ["--dev-bind-try", path, path]
    command += ["--size", str(BOX_BYTES), "--tmpfs", BOX, "--chdir", BOX, "--clearenv"]
    for name, value in (environment() | {"HOME": BOX, "TMPDIR": BOX}).items():
        command += ["--setenv", name, value]
    return [*command, "--"]


def _roots() -> list[str]:
    """The interpreter and its packages: the shortest list of folders that holds them all."""
    places = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))}
    places |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)}
    places -= {path for path in places if path.startswith("/usr/") or path == "/usr"}
    return sorted(p for p in places if not any(p != q and Path(p).is_relative_to(q) for q in places))
