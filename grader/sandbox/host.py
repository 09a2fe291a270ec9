"""The trusted side of the sandbox: starts zygotes, spawns children, calls them under deadlines.

Nothing that a child sends is executed or unpickled; what it prints is kept for display, capped.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from grader.errors import Fault
from grader.sandbox import layers as isolation
from grader.sandbox.inside import wire
from grader.sandbox.inside.lockdown import Limits
from grader.sandbox.inside.scratch import remove_tree
from grader.sandbox.tier import Tier

START_LIMIT = 120.0  # a cold disk may take this long to import torch
CANARY_LIMIT = 20.0
CANARY = "import torch\n(torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()"
KEPT_OUTPUT = 32 << 10
MAX_OUTPUT = 16 << 20


@dataclass(frozen=True)
class Ending:
    """How a child ended, as its warden saw it."""

    signal: int = 0
    exit: int = 0
    peak: int = 0
    cpu: float = 0.0
    fault: str = ""

    @classmethod
    def from_report(cls, report: bytes) -> Ending:
        """From what a warden sent: one that says nothing sensible did not report."""
        silent = cls(fault="its warden did not report")
        try:
            data = json.loads(report)
        except (ValueError, RecursionError):
            return silent
        kinds = {name: type(value) for name, value in vars(silent).items()}
        well_formed = isinstance(data, dict) and all(type(value) is kinds.get(name) for name, value in data.items())
        return cls(**data) if well_formed else silent


class ChildGone(Exception):
    """The child ended, or was ended, before it answered. `cause` is a verdict.Cause value."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass
class Answer:
    """What a child answered: the decoded frame, and its blob of arrays."""

    message: dict[str, Any]
    blob: bytes
    size: int = 0  # bytes of the frame


def _scratch_file() -> BinaryIO:
    """In memory where that can be: a full disk is no reason not to grade."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("errors"), "w+b")
    return tempfile.TemporaryFile()


class Zygote:
    """A warm parent process for one set of packages. A context manager; `start` returns at once."""

    def __init__(self, packages: tuple[str, ...], tier: str, *, gpu: bool = False) -> None:
        self.packages, self.tier, self.gpu = packages, Tier(tier), gpu
        self.layers = self.tier.layers
        self._start()

    def _start(self) -> None:
        self.ready = False
        ours, theirs = socket.socketpair()
        self.control = ours
        self.errors = _scratch_file()
        command = isolation.inside_command("zygote", str(theirs.fileno()))
        environment = isolation.environment()
        self.scratch = ""  # of all children, where they have none of their own: what one leaves goes with the zygote
        if self.tier is Tier.SANDBOX:
            command = isolation.bubblewrap_command(isolation.INSIDE, gpu=self.gpu) + command
        else:
            self.scratch = tempfile.mkdtemp(prefix="grade-")
            environment |= {"HOME": self.scratch, "TMPDIR": self.scratch}
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            env=environment, start_new_session=True, cwd=self.scratch or "/",
        )  # fmt: skip
        theirs.close()
        with contextlib.suppress(OSError):  # it is gone already, which `wait` tells
            ours.sendall(json.dumps({"packages": list(self.packages), "layers": sorted(self.layers)}).encode())

    def wait(self) -> None:
        """Wait until the packages are imported. Raises Fault when the zygote does not come up.

        One that was killed is started once more: that says nothing about the tier, which would be given up for a
        weaker one.
        """
        for again in (False, True):
            if self.ready:
                return
            problem, killed = self._begin()
            if not problem:
                return
            self.close()
            if again or not killed:
                raise Fault(problem)
            self._start()

    def _begin(self) -> tuple[str, bool]:
        """What keeps it from working, and whether that is a kill from outside."""
        self.control.settimeout(START_LIMIT)
        try:
            hello = self.control.recv(4096)
        except OSError:  # too late, or gone with a message unread
            hello = b""
        if not hello:
            self.errors.seek(0)
            said = self.errors.read(4000).decode(errors="replace")
            return f"the {self.tier} tier did not start:\n{said}", self._was_killed()
        self.ready = True
        problem, killed = self._canary()
        return problem and f"the {self.tier} tier does not work here: {problem}", killed

    def _was_killed(self) -> bool:
        # bubblewrap ends with 128 and the signal's number
        return self.ended() and self.process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def _canary(self) -> tuple[str, bool]:
        """A first child shows that all layers apply here and that children of this zygote do work."""
        try:
            child = self.spawn(Limits())
        except Fault as fault:
            return str(fault), self._was_killed()
        request = {
            "op": "load", "source": CANARY if "torch" in self.packages else "", "filename": "canary.py", "seed": 0,
            "rules": [], "stubs": [], "device": "cpu",
        }  # fmt: skip
        try:
            answer = child.ask(request, b"", CANARY_LIMIT)
            problem = str(answer.message.get("error", ""))
        except ChildGone as gone:
            problem = f"{gone}\n{child.printed.decode(errors='replace')[:500]}"
        ending = child.close()
        itself = child.ended_by_itself and ending.signal == signal.SIGKILL
        killed = itself or (bool(ending.fault) and self._was_killed())
        return problem, bool(problem) and killed

    def spawn(self, limits: Limits, *, threads: int = 1) -> Child:
        """Fork a child. Raises Fault when the zygote is gone."""
        self.wait()
        connection, theirs = socket.socketpair()
        report, their_report = socket.socketpair()
        read_end, write_end = os.pipe()
        request = {"layers": sorted(self.layers), "limits": vars(limits), "threads": threads, "gpu": self.gpu}
        try:
            fds = [theirs.fileno(), their_report.fileno(), write_end]
            socket.send_fds(self.control, [json.dumps(request).encode()], fds)
        except OSError as error:
            for end in (connection.detach(), report.detach(), read_end):
                os.close(end)
            raise Fault(f"the {self.tier} is gone: {error}") from error
        finally:
            theirs.close()
            their_report.close()
            os.close(write_end)
        return Child(connection, report, read_end)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ended(self, seconds: float = 0.5) -> bool:
        """Whether it is gone, or goes while its children already are: a kill takes a moment to go round."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End the zygote and with it everything in its sandbox."""
        self.control.close()
        self.errors.close()
        if self.process.poll() is None:
            try:
                self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
        if self.scratch:
            remove_tree(self.scratch)


class Child:
    """One child, for one submission. Calls are strictly one after another."""

    def __init__(self, connection: socket.socket, report: socket.socket, output: int) -> None:
        self.connection, self.report, self.output = connection, report, output
        connection.setblocking(False)
        os.set_blocking(output, False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(output, selectors.EVENT_READ, "output")
        self.selector.register(connection, selectors.EVENT_READ, "answer")
        self.printed = bytearray()
        self.printed_total = 0
        self.number = 0
        self.buffer = bytearray()
        self.ending: Ending | None = None
        self.ended_by_itself = False

    @property
    def alive(self) -> bool:
        return self.ending is None

    def ask(self, request: dict[str, Any], blob: bytes, seconds: float) -> Answer:
        """Send a request and wait for its answer. Raises ChildGone; the child is dead then."""
        self.number = int.from_bytes(os.urandom(6))  # one that cannot be answered before it is asked
        deadline = time.monotonic() + seconds
        frame = memoryview(wire.dump({**request, "id": self.number}, blob))
        try:
            self._send(frame, deadline, seconds)
            answer = self._receive(deadline, seconds)
        except (wire.WireError, UnicodeError) as error:
            raise self._gone("crashed", f"its answer cannot be read: {error}") from None
        if answer.message.get("id") != self.number:
            raise self._gone("crashed", "it answered what was not asked")
        return answer

    def _send(self, frame: memoryview, deadline: float, seconds: float) -> None:
        self.selector.modify(self.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, "answer")
        while frame:
            self._poll(deadline, seconds)
            try:
                frame = frame[self.connection.send(frame[: 1 << 20]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._died() from None
        self.selector.modify(self.connection, selectors.EVENT_READ, "answer")

    def _receive(self, deadline: float, seconds: float) -> Answer:
        need, lengths = wire.HEADER.size, None
        self.buffer.clear()
        while True:
            while len(self.buffer) >= need:
                if lengths is None:
                    lengths = wire.lengths(bytes(self.buffer[:need]))
                    need += sum(lengths)
                    continue
                if len(self.buffer) > need:
                    raise wire.WireError("more than one answer")
                start = wire.HEADER.size
                self._drain()
                text = bytes(self.buffer[start : start + lengths[0]])
                return Answer(wire.parse(text), bytes(self.buffer[start + lengths[0] :]), len(self.buffer))
            if "answer" in self._poll(deadline, seconds):
                try:
                    data = self.connection.recv(1 << 20)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    raise self._died()
                self.buffer += data

    def _poll(self, deadline: float, seconds: float) -> set[str]:
        left = deadline - time.monotonic()
        events = self.selector.select(left) if left > 0 else []
        if not events:
            raise self._gone("timeout", f"no answer within {seconds:g} s")
        ready = {key.data for key, _ in events}
        if "output" in ready:
            self._drain()
        return ready

    def _drain(self) -> None:
        """Take what was printed: keep the beginning, count the rest, end a flood."""
        while self.output >= 0:
            try:
                data = os.read(self.output, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.selector.unregister(self.output)
                os.close(self.output)
                self.output = -1
                return
            self.printed += data[: max(0, KEPT_OUTPUT - len(self.printed))]
            self.printed_total += len(data)
            if self.printed_total > MAX_OUTPUT:
                raise self._gone("flood", f"it printed more than {MAX_OUTPUT >> 20} MiB")

    def _died(self) -> ChildGone:
        """The connection ended by itself: find out why from the warden."""
        ending = self.close(grace=2.0)
        if not self.ended_by_itself:
            return ChildGone("crashed", "it closed its connection to the grader")
        if ending.fault:
            return ChildGone("fault", ending.fault)
        # a child that is PID 1 does not notice SIGXCPU; SIGKILL follows a second later
        if ending.signal == signal.SIGXCPU or (ending.signal == signal.SIGKILL and ending.cpu >= Limits.cpu_seconds):
            return ChildGone("timeout", "it used up its processor time")
        if ending.signal == signal.SIGKILL:
            return ChildGone("out_of_memory", "the system killed it, most likely for its use of memory")
        if ending.signal:
            name = signal.Signals(ending.signal).name if ending.signal in set(signal.Signals) else str(ending.signal)
            words = {"SIGSEGV": "a segmentation fault (or an abort)", "SIGABRT": "an abort", "SIGBUS": "a bus error"}
            return ChildGone("crashed", f"the process crashed with {words.get(name, name)}")
        return ChildGone("crashed", f"the process ended itself with exit code {ending.exit} (`os._exit`?)")

    def _gone(self, cause: str, message: str) -> ChildGone:
        self.close()
        return ChildGone(cause, message)

    def close(self, grace: float = 0.0) -> Ending:
        """End the child and everything it started. With `grace`, first wait for it to end by itself."""
        if self.ending is not None:
            return self.ending
        self.ending = Ending(fault="its warden did not report")
        if self.output >= 0:
            with contextlib.suppress(ChildGone):  # it is being ended already
                self._drain()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1
        self.selector.close()
        self.connection.close()
        self.ending = self._ended(grace)
        self.report.close()
        return self.ending

    def _ended(self, grace: float) -> Ending:
        try:
            self.report.settimeout(grace or None)
            data = self.report.recv(4096) if grace else b""
        except (TimeoutError, OSError):
            data = b""
        self.ended_by_itself = bool(data)
        if not data:
            try:
                self.report.shutdown(socket.SHUT_WR)  # the warden kills the child and reports
                self.report.settimeout(10.0)
                data = self.report.recv(4096)
            except OSError:
                data = b""
        return Ending.from_report(data)


@dataclass
class Pool:
    """The zygotes of one engine, one for each set of packages; started when first needed."""

    tier: Tier
    gpu: bool = False
    zygotes: dict[tuple[str, ...], Zygote] = field(default_factory=dict)

    def zygote(self, packages: tuple[str, ...]) -> Zygote:
        """The running zygote for these packages; a dead one is replaced."""
        found = self.zygotes.get(packages)
        if found is not None and not found.alive:
            found.close()
            found = None
        if found is None:
            found = self.zygotes[packages] = Zygote(packages, self.tier, gpu=self.gpu)
        return found

    def close(self) -> None:
        for zygote in self.zygotes.values():
            zygote.close()
        self.zygotes.clear()
