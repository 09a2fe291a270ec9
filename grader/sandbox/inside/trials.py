"""Tries each layer of isolation: a fork takes the layer, and then tries what the layer must deny."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import lockdown
from . import seccomp as seccomp_filter

USUAL = vars(lockdown.Limits())


def main(*names: str) -> None:
    """Print, as JSON, for each layer whether it works, and what was found."""
    print(json.dumps({name: in_child(globals()[name]) for name in names}))


def denied(attempt: Callable[..., object], *arguments: object) -> None:
    try:
        attempt(*arguments)
    except PermissionError:
        return
    raise OSError("it denies nothing")


def namespaces() -> str:
    lockdown.enter_namespaces()
    assert os.getuid() == lockdown.NOBODY, f"the user is {os.getuid()}"
    assert in_child(lambda: str(os.getpid())) == [True, "1"], "a child is not PID 1"
    return "user, PID, network, IPC and mounts"


def landlock() -> str:
    version = lockdown.restrict_files([], [])
    denied(os.listdir, "/")
    return f"version {version} of the interface"


def seccomp() -> str:
    seccomp_filter.load(seccomp_filter.build())
    denied(socket.socket)
    return "libseccomp"


def limits() -> None:
    lockdown.limit_resources(1 << 30, 60, 1 << 20, 64, 1 << 16)
    try:
        bytearray(2 << 30)
    except MemoryError:
        return
    if sys.platform == "linux":
        raise OSError("it denies nothing")


def bubblewrap() -> None:
    box = lockdown.enter(lockdown.LAYERS, USUAL)
    assert box == lockdown.BOX, "there is no scratch directory"

    def child() -> None:
        lockdown.apply(lockdown.LAYERS, USUAL, box)
        denied(os.listdir, "/")
        os.mkdir(box + "/writable")

    said = in_child(child)
    assert said[0], said[1]


def in_child(trial: Callable[[], object]) -> list[Any]:
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
    answer = os.read(read, 4096)
    os.close(read)
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else [False, "the trial crashed"]
