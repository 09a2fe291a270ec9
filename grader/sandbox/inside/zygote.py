"""The warm parent: imports the heavy packages once, then forks a child for each submission.

Three processes a submission: the zygote, a warden that owns the child's namespaces, watches it
and reports how it ended, and the child itself, which alone runs the learner's code.

Rules kept here, each from a measured failure: the thread pools are one thread wide from the
environment on, and no operator ever runs here (a parent that had run a two-thread operator
hung every child); CUDA is never touched; nothing secret is ever held (a secret deleted before
the fork was still found in a child's heap); the collector is frozen before forking, so that
children do not copy its pages; every child is reseeded.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from typing import Any

from . import child, lockdown
from .scratch import remove_tree

MESSAGE = 1 << 16


def main(control_fd: str) -> None:
    """Import what the host asks for, say so, and fork whenever it sends the ends of three channels."""
    control = socket.socket(fileno=int(control_fd))
    settings = json.loads(control.recv(MESSAGE))
    started = time.perf_counter()
    for package in settings["packages"]:
        importlib.import_module(package)
    lockdown.prepare(settings["layers"])
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's to handle
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.sendall(json.dumps({"pid": os.getpid(), "seconds": time.perf_counter() - started}).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(control, MESSAGE, 3)
        if not message:
            os._exit(0)  # an interpreter that holds torch takes 0.2 s to end in order
        if os.fork() == 0:
            control.close()
            _warden(json.loads(message), *fds)
        for fd in fds:
            os.close(fd)


def _warden(request: dict[str, Any], connection_fd: int, report_fd: int, output_fd: int) -> None:
    """Fork the child inside its own namespaces; kill it when the host lets go; report how it ended."""
    report = socket.socket(fileno=report_fd)
    code, scratch = 1, None
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        lockdown.die_with_parent()
        scratch = lockdown.enter(request["layers"], request["limits"])
        if scratch is None:
            scratch = tempfile.mkdtemp(prefix="grade-")
        pid = os.fork()
        if pid == 0:
            report.close()
            _child(request, connection_fd, output_fd, scratch)
        os.close(connection_fd)
        os.close(output_fd)
        ending = _watch(pid, report)
        if scratch != lockdown.BOX:  # that one goes with its namespace
            remove_tree(scratch)
        report.sendall(json.dumps(ending).encode())
        code = 0
    except (OSError, ValueError) as error:
        _complain(report, f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _complain(report: socket.socket, text: str) -> None:
    try:
        report.sendall(json.dumps({"fault": text}).encode())
    except OSError:
        return  # the host is gone: nobody is left to tell


def _watch(pid: int, report: socket.socket) -> dict[str, Any]:
    """Wait until the child ends or the host lets go; in either case nothing of the child remains."""
    waited = _await(pid, report)
    if waited is None:
        _kill(pid)
        waited = os.wait4(pid, 0)
    else:
        _kill_group(pid)
    _, status, usage = waited
    code = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024
    return {"signal": max(0, -code), "exit": max(0, code), "peak": usage.ru_maxrss * scale, "cpu": usage.ru_utime}


def _await(pid: int, report: socket.socket) -> tuple[int, int, Any] | None:
    """How the child ended, or None when the host closed its end first."""
    if hasattr(os, "pidfd_open"):
        ended = os.pidfd_open(pid)
        ready, _, _ = select.select([ended, report.fileno()], [], [])
        os.close(ended)
        return os.wait4(pid, 0) if report.fileno() not in ready else None
    while not select.select([report], [], [], 0.01)[0]:
        waited = os.wait4(pid, os.WNOHANG)
        if waited[0]:
            return waited
    return None


def _kill(pid: int) -> None:
    _kill_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_group(pid: int) -> None:
    """What the child may have started: a PID namespace ends with its first process, else there is its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _child(request: dict[str, Any], connection_fd: int, output_fd: int, scratch: str) -> None:
    """Become the process that runs the learner's code: no way back from here."""
    connection = socket.socket(fileno=connection_fd)
    code = 1
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        os.close(output_fd)
        os.chdir(scratch)
        os.environ.update(TMPDIR=scratch, HOME=scratch)
        tempfile.tempdir = None
        lockdown.apply(request["layers"], request["limits"], scratch, gpu=request["gpu"])
        if "torch" in sys.modules:  # only now: it starts threads, and Landlock binds those that come after it
            sys.modules["torch"].set_num_threads(request["threads"])
        gc.enable()
        child.serve(connection)
        code = 0
    except (OSError, ValueError) as error:
        os.write(2, f"the sandbox: {type(error).__name__}: {error}\n".encode()[:500])
    finally:
        os._exit(code)
