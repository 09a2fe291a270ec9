"""One child: loads the learner's file, then answers calls until its connection closes."""

from __future__ import annotations
import __future__

import io
import json
import linecache
import random
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from . import wire
from .counting import Tally
from .guard import Guard, RuleBroken
from .meter import PythonMeter, TorchMeter

MODULE = "submission"
ANNOTATIONS = __future__.annotations.compiler_flag  # those of a probe are not evaluated
MAX_TEXT = 2000
MAX_FRAMES = 8


class Child:
    """The state of one child: the learner's module, its guard, and the probes seen so far."""

    def __init__(self) -> None:
        self.module = types.ModuleType(MODULE)
        self.guard = Guard([], "", self.module)
        self.filename = ""
        self.device = "cpu"
        self.probes: dict[str, Callable[..., Any]] = {}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute a file as a module. The next file gets a module of its own."""
        self.module = types.ModuleType(MODULE)
        self.filename, self.device = request["filename"], request["device"]
        self.stubs = set(request["stubs"])
        self.guard = Guard(request["rules"], self.filename, self.module)
        _seed(request["seed"])
        self.module.__file__ = self.filename
        sys.modules[MODULE] = self.module
        source = request["source"]
        linecache.cache[self.filename] = (len(source), None, source.splitlines(keepends=True), self.filename)
        sys.argv = [self.filename]
        try:
            code = compile(source, self.filename, "exec", dont_inherit=True)
            with self.guard.watching():
                exec(code, self.module.__dict__)
        except BaseException as error:
            return self._failure(error)
        return {"ok": None}

    def call(self, request: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """Run one probe or function on decoded arguments; encode what it returns."""
        decoder = wire.Decoder(blob, opaque=_no_opaque, device=self.device)
        args, kwargs = decoder.decode(request["args"]), decoder.decode(request["kwargs"])
        before = None if request["may_change"] else _snapshot(args, kwargs)
        tally = Tally()
        if request["counting"]:
            args = [tally.wrap(value) for value in args]
            kwargs = {name: tally.wrap(value) for name, value in kwargs.items()}
        meter = self._meter(tally) if request["metered"] else None
        try:
            value = self._run(request, args, kwargs, meter)
            encoder = wire.Encoder(describe=_describe)
            answer: dict[str, Any] = {"ok": encoder.encode(value)}
            data = encoder.blob()
            answer["changed"] = [] if before is None else _changed(before, _snapshot(args, kwargs))
        except BaseException as error:
            return self._failure(error), b""
        answer["cost"] = meter.cost() if meter else None
        answer["broken"] = self.guard.broken
        return answer, data

    def _run(self, request: dict[str, Any], args: list[Any], kwargs: dict[str, Any], meter: Any) -> Any:
        target = self._probe(request["probe"], request["name"]) if request["probe"] else self._function(request["name"])
        _seed(request["seed"])
        own = meter is not None and request["probe"] and request["probe"]["meter"]
        if request["probe"]:
            args = [self.module, *([meter or _Unmetered()] if request["probe"]["meter"] else []), *args]
        with self.guard.watching():
            if meter is None or own:
                return target(*args, **kwargs)
            with meter:
                return target(*args, **kwargs)

    def _function(self, name: str) -> Any:
        if not hasattr(self.module, name):
            raise AttributeError(f"there is no `{name}`")
        return getattr(self.module, name)

    def _probe(self, probe: dict[str, Any], name: str) -> Callable[..., Any]:
        if probe["source"] not in self.probes:
            import importlib

            names: dict[str, Any] = {"__name__": "probe", "probe": lambda function: function}
            for alias, module in probe["modules"].items():
                names[alias] = importlib.import_module(module)
            exec(compile(probe["source"], "<probe>", "exec", ANNOTATIONS, dont_inherit=True), names)
            self.probes[probe["source"]] = names[name]
        return self.probes[probe["source"]]

    def _meter(self, tally: Tally) -> Any:
        return TorchMeter() if "torch" in sys.modules else PythonMeter(self.filename, tally)

    def _failure(self, error: BaseException) -> dict[str, Any]:
        """What happened, for the learner: frames of the learner's own file only."""
        frames, trace, function = [], error.__traceback__, ""
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename == self.filename:
                function = getattr(code, "co_qualname", code.co_name)
                line = linecache.getline(self.filename, trace.tb_lineno).strip()
                frames.append([trace.tb_lineno, function[:200], line[:200]])
            trace = trace.tb_next
        kind = _kind(error)
        if kind == "stub" and function not in self.stubs:
            kind = "raised"
        shown = frames if len(frames) <= MAX_FRAMES else [*frames[:2], *frames[2 - MAX_FRAMES :]]
        return {
            "error": {
                "kind": kind,
                "type": type(error).__name__[:200],
                "bases": [base.__name__[:200] for base in type(error).__mro__[:20]],
                "text": _text(error),
                "frames": shown,
                "function": function[:200],
                "broken": self.guard.broken,
            }
        }


class _Unmetered:
    """Stands in for the meter where a metered probe is merely run."""

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def _kind(error: BaseException) -> str:
    if isinstance(error, RuleBroken):
        return "rule"
    if isinstance(error, NotImplementedError):
        return "stub"
    if isinstance(error, SystemExit):
        return "exit"
    if isinstance(error, wire.WireError):
        return "unsendable"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in _text(error)):
        return "memory"
    return "raised"


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as inner:
        text = f"(its message raised {type(inner).__name__})"
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " ..."


def _describe(value: Any) -> str:
    """A short repr; it may run the learner's code, under the deadline of the call."""
    try:
        text = repr(value)
    except Exception as error:
        return f"its repr raised {type(error).__name__}"
    return text[:200]


def _no_opaque(name: str, description: str) -> Any:
    raise wire.WireError(f"a {name} is not an argument")


def _snapshot(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Each argument in its wire form, to see afterwards which were changed."""
    found = {}
    for name, value in [*((f"argument {i + 1}", v) for i, v in enumerate(args)), *kwargs.items()]:
        encoder = wire.Encoder(describe=_describe)
        found[name] = (json.dumps(encoder.encode(value)), encoder.blob())
    return found


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def _seed(seed: int) -> None:
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % (1 << 32))
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(seed)


def serve(connection: socket.socket) -> None:
    """Answer requests until the host closes the connection."""
    child = Child()
    sys.stdin = io.StringIO()
    while (frame := receive(connection)) is not None:
        request, blob = frame
        if request["op"] == "load":
            answer, data = child.load(request), b""
        else:
            answer, data = child.call(request, blob)
        answer["id"] = request["id"]
        _flush()
        try:
            out = wire.dump(answer, data)
        except wire.WireError as error:
            out = wire.dump({**child._failure(error), "id": request["id"]})
        connection.sendall(out)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the learner closed or replaced it: what it held is theirs to lose
            continue


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """One frame, or None when the other side is gone."""
    header = _exactly(connection, wire.HEADER.size)
    if header is None:
        return None
    text_length, blob_length = wire.lengths(header)
    text, blob = _exactly(connection, text_length), _exactly(connection, blob_length)
    return None if text is None or blob is None else (wire.parse(text), blob)


def _exactly(connection: socket.socket, length: int) -> bytes | None:
    buffer = bytearray(length)
    view, filled = memoryview(buffer), 0
    while filled < length:
        count = connection.recv_into(view[filled:])
        if not count:
            return None
        filled += count
    return bytes(buffer)
