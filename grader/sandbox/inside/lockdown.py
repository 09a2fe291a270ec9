"""What a process gives up before it runs a learner's code. Standard library, ctypes and, for seccomp, libseccomp.

Layers, each independent of the others:
  namespaces  user, PID, network, IPC, host name and mounts of its own, and a fresh scratch directory
  landlock    reads only the interpreter and its packages, writes only the scratch directory
  seccomp     no sockets but pairs, no new processes, no tracing, nothing done to other processes or to metadata
  limits      memory, processor time, file sizes, descriptors, threads; no capabilities, no core dumps

The zygote calls `prepare` once; for each submission the warden calls `enter` and forks, and the child calls `apply`.
A layer that fails raises OSError: nothing runs with less than was asked for. Outside Linux there are only the limits.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import resource
import signal
import struct
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import seccomp
from .kernel import checked, libc, prctl

NAMESPACES, LANDLOCK, SECCOMP, LIMITS = LAYERS = ("namespaces", "landlock", "seccomp", "limits")
LINUX = sys.platform == "linux"

BOX = "/box"  # where bubblewrap, and `enter` over it, mount the scratch directory
BOX_BYTES, BOX_FILES = 64 << 20, 4096
NOBODY = 65534
SLACK = 1024  # threads that this user may start elsewhere while a child lives

INSIDE = os.path.dirname(os.path.realpath(__file__))
KIT = os.path.dirname(os.path.dirname(INSIDE))

# What libc, torch and numpy look at. /proc/self is not among it: it shows the mounts, and none of them needs it.
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store",
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime",
    "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage",
)  # fmt: skip
KERNEL = ("/dev/zero", "/dev/random", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm")
GPU_READABLE = ("/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/proc/self", "/proc/sys", "/sys")
GPU_DEVICES = ("/dev/nvidia*", "/dev/dxg", "/dev/dri/*")


@dataclass(frozen=True)
class Limits:
    """What one child may use; plain numbers, so that the host can send them as JSON."""

    memory: int = 4 << 30  # bytes beyond what is mapped already; 0 for no limit
    cpu_seconds: int = 600
    file_bytes: int = 64 << 20
    files: int = 256
    processes: int = 64  # threads, where seccomp refuses new processes


_program = b""  # what `prepare` leaves to the children
_paths: tuple[list[str], list[str]] | None = None
_tasks = 0


def prepare(layers: Collection[str]) -> None:
    """In the zygote, before any fork: build the filter and find the paths, so that children only load them."""
    global _program, _paths, _tasks
    if SECCOMP in layers:
        _program = seccomp.build()
    if LANDLOCK in layers:
        _paths = readable_paths()
    if LIMITS in layers and LINUX:
        _tasks = _tasks_of_user()


def enter(layers: Collection[str], limits: Mapping[str, int]) -> str | None:
    """In the warden: enter the namespaces, so that the next fork is PID 1 and finds an empty scratch directory.

    Returns that directory; None where the caller must make one.
    """
    if NAMESPACES not in layers:
        return None
    enter_namespaces()
    if not os.path.isdir(BOX):
        return None
    nosuid_nodev = 0x2 | 0x4
    options = f"size={max(BOX_BYTES, Limits(**limits).file_bytes)},nr_inodes={BOX_FILES},mode=700".encode()
    checked(libc.mount(b"box", BOX.encode(), b"tmpfs", nosuid_nodev, options), "mounting the scratch directory")
    return BOX


def apply(layers: Collection[str], limits: Mapping[str, int], scratch: str, *, gpu: bool = False) -> None:
    """In the child: give up what the layers name. The filter comes last, since it refuses what the others need.

    gpu  leave the devices of the GPU reachable and memory unlimited: CUDA reserves far more addresses than it uses
    """
    if not set(layers) <= set(LAYERS):
        raise ValueError(f"no layers called {sorted(set(layers) - set(LAYERS))}")
    wanted = Limits(**limits)
    die_with_parent()
    if LIMITS in layers:
        # outside a user namespace the kernel counts every thread of this user, whatever started it
        others = 0 if NAMESPACES in layers else _tasks + SLACK
        memory = 0 if gpu else wanted.memory
        limit_resources(memory, wanted.cpu_seconds, wanted.file_bytes, wanted.files, wanted.processes + others)
    if LANDLOCK in layers:
        readable, listable = _paths or readable_paths()
        devices = [path for pattern in GPU_DEVICES for path in glob.glob(pattern)] if gpu else []
        more = GPU_READABLE if gpu else ()
        restrict_files([*readable, *KERNEL, *more], [scratch, "/dev/null", *devices], listable)
    if SECCOMP in layers:
        seccomp.load(_program or seccomp.build())


def die_with_parent() -> None:
    """Be killed when the parent ends, on Linux."""
    if LINUX:
        prctl("PR_SET_PDEATHSIG", 1, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------- namespaces


def enter_namespaces() -> None:
    """New user (as nobody), PID, network, IPC, host name and mount namespaces, for a process of one thread.

    The PID namespace holds from the next fork on. Its own /proc cannot be mounted inside bubblewrap, where part of
    /proc is covered: Landlock keeps the one that is there out of reach.
    """
    if not LINUX:
        raise OSError(errno.ENOSYS, "namespaces: only Linux has them")
    user, group = os.getuid(), os.getgid()
    mounts, uts, ipc, users, pids, network = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
    checked(libc.unshare(mounts | uts | ipc | users | pids | network), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {user} 1"), ("gid_map", f"{NOBODY} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    die_with_parent()  # new credentials clear it


# ----------------------------------------------------------------------------------------------------------- limits


def limit_resources(memory: int, seconds: int, file_bytes: int, files: int, processes: int) -> None:
    """Lower the limits, and drop the capabilities that could raise them; `memory` comes on top of what is mapped.

    After `seconds` of processor time comes SIGXCPU, which PID 1 of a namespace does not notice, a second later SIGKILL.
    RLIMIT_NPROC does not bind the real root: there, only memory limits the number of threads.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, seconds, grace=1)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, files)
    if not LINUX:
        return
    _limit(resource.RLIMIT_NPROC, processes)
    if memory:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, mapped + memory)
    prctl("PR_SET_DUMPABLE", 4, 0)
    version_3_of_this_process = struct.pack("=Ii", 0x20080522, 0)
    checked(libc.capset(version_3_of_this_process, bytes(24)), "capset")


def _limit(which: int, value: int, grace: int = 0) -> None:
    """Never above the hard limit in force, which an ordinary user cannot raise."""
    hard = resource.getrlimit(which)[1]
    ceiling = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(which, (min(value, ceiling), min(value + grace, ceiling)))


def _tasks_of_user() -> int:
    """The threads that this user has, as far as can be seen."""
    found, user = 0, os.getuid()
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == user:
                found += len(os.listdir(f"{entry.path}/task"))
        except OSError:
            continue  # it ended meanwhile
    return found


# --------------------------------------------------------------------------------------------------------- landlock

WRITE_FILE, READ_FILE, READ_DIR, MAKE_CHAR, MAKE_BLOCK, TRUNCATE, IOCTL = (1 << n for n in (1, 2, 3, 6, 11, 14, 15))
ON_FILES = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version of the interface -> how many bits of rights it knows


def roots() -> list[str]:
    """The folders of the interpreter and its packages. Not the prefixes themselves: one may be a clone of the kit."""
    prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
    parts = ("bin", "lib", "lib32", "lib64", "pyvenv.cfg")
    return sorted(f"{prefix}/{part}" for prefix in prefixes for part in parts if os.path.exists(f"{prefix}/{part}"))


def hidden() -> list[str]:
    """Where hidden suites and solutions lie: the kit's package, and the clone around it if there is one."""
    if os.listdir(KIT) == ["sandbox"]:
        return []  # bubblewrap has covered them
    clone = os.path.dirname(KIT)
    return [KIT, clone] if all(os.path.exists(f"{clone}/{name}") for name in ("pyproject.toml", "solutions")) else [KIT]


def readable_paths() -> tuple[list[str], list[str]]:
    """(what may be read with all that is below it, what may only be listed): Landlock cannot except a subfolder,
    so a folder that holds the kit is replaced by its other entries. Its names can still be listed, as imports need."""
    away, waiting, done = hidden(), [*SYSTEM, *roots()], set[str]()
    readable, listable = [INSIDE], []
    while waiting:
        path = os.path.realpath(waiting.pop())
        if path in away or path in done or not os.path.exists(path):
            continue
        done.add(path)
        if any(kit.startswith(f"{path}/") for kit in away):
            listable.append(path)
            waiting += [entry.path for entry in os.scandir(path) if not entry.is_symlink()]  # it may lead anywhere
        else:
            readable.append(path)
    return readable, listable


def restrict_files(readable: Iterable[str], writable: Iterable[str], listable: Iterable[str] = ()) -> int:
    """Landlock: nothing below other paths can be opened, made, moved or removed. Returns the interface's version.

    From version 4 on it refuses TCP too, from 6 on signals and abstract sockets outward. Paths that do not exist are
    left out. It binds one thread and what that starts, so it refuses to run beside other threads.
    """
    version = landlock_version()
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError(errno.EBUSY, "landlock: other threads of this process would stay free")
    rights = (1 << RIGHTS[min(version, max(RIGHTS))]) - 1
    attributes = struct.pack("=QQQ", rights, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = _landlock(444, attributes, len(attributes), 0)
    try:
        for paths, access in (
            (readable, READ_FILE | READ_DIR), (writable, ~(MAKE_CHAR | MAKE_BLOCK)), (listable, READ_DIR),
        ):  # fmt: skip
            for path in paths:
                _allow(rules, path, access & rights)
        prctl("PR_SET_NO_NEW_PRIVS", 38, 1)
        _landlock(446, rules, 0)
    finally:
        os.close(rules)
    return version


def landlock_version() -> int:
    """The version of the interface that this kernel offers. Raises OSError where there is none."""
    if not LINUX:
        raise OSError(errno.ENOSYS, "landlock: only Linux has it")
    return _landlock(444, None, 0, 1)


def _landlock(number: int, *values: Any) -> int:
    """A system call by its number, which is the same on every architecture."""
    return checked(libc.syscall(number, *(ctypes.c_long(v) if isinstance(v, int) else v for v in values)), "landlock")


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # nothing there that a child could reach either
    try:
        access &= -1 if os.path.isdir(path) else ON_FILES
        _landlock(445, rules, 1, struct.pack("=Qi", access, place), 0)
    finally:
        os.close(place)
