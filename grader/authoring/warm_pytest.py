"""Runs pytest as often as it is asked to, each time in a child of a process that has imported its arguments.

A script, which `kit` starts in a copy of the clone: it imports nothing of the kit, so that a child finds the copy's.
A line on stdin holds the arguments of a run, its limit in seconds, and whether to keep bytecode; a line on stdout the
test that failed first, or how else the run ended, and nothing where all passed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys

import pytest


class First:
    """A plugin that notes what fails first."""

    failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def child(arguments: list[str], answer: int) -> None:
    """Run the tests, write what failed, and end."""
    os.setsid()  # what the tests start ends with them
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    first = First()
    code = pytest.main(arguments, plugins=[first])
    os.write(answer, (first.failed or (f"exit code {code:d}" if code else "")).encode())
    os.write(answer, b"\n")
    os._exit(0)


def run(arguments: list[str], limit: float, keep: bool) -> str:
    """What failed."""
    sys.dont_write_bytecode = not keep
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(arguments, writing)
        finally:
            os._exit(1)
    os.close(writing)
    said = b""
    while not said.endswith(b"\n") and (in_time := bool(select.select([reading], [], [], limit)[0])):
        if not (more := os.read(reading, 4096)):
            break
        said += more
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):  # it ended before it began
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said.decode().strip() if said.endswith(b"\n") else "crash" if in_time else "timeout"


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    for name in sys.argv[1:]:
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
