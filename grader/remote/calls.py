"""One submission under test: calls into its sandboxed child, each recorded so that it can be repeated."""

from __future__ import annotations

import functools
import hashlib
import inspect
import textwrap
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from grader.cost import Cost
from grader.errors import Fault
from grader.sandbox.host import Child, ChildGone, Zygote
from grader.sandbox.inside import wire
from grader.sandbox.inside.lockdown import Limits
from grader.values import Opaque
from grader.verdict import Cause

IMPORT_LIMIT = 10.0
SHORT_LIMIT = 1.0  # after a time-out: what hangs, hangs in every test
PATIENCE = 60.0  # seconds that the calls of one submission may take together before limits become short
MOST_TENSORS = 4  # of a dict that are shown one by one
KEPT_BYTES = 32 << 20  # arguments of one call that are kept for a replay


@dataclass(frozen=True)
class Code:
    """What a child is to load: the learner's file, the solution, or the solution with a mistake."""

    text: str
    filename: str
    rules: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call, in the form in which it crosses."""

    name: str
    probe: dict[str, Any] | None
    args: Any
    kwargs: Any
    blob: bytes
    seed: int
    metered: bool = False
    counting: bool = False
    may_change: bool = False

    def request(self) -> dict[str, Any]:
        return {
            "op": "call", "name": self.name, "probe": self.probe, "args": self.args, "kwargs": self.kwargs,
            "seed": self.seed, "metered": self.metered, "counting": self.counting, "may_change": self.may_change,
        }  # fmt: skip


@dataclass(frozen=True)
class RemoteError:
    """An exception in the learner's code, in words."""

    kind: str  # raised, stub, exit, rule, memory, unsendable
    type: str
    bases: tuple[str, ...]
    text: str
    frames: tuple[tuple[int, str, str], ...]  # line, function, source; the learner's own only
    function: str

    @classmethod
    def from_plain(cls, data: Any) -> RemoteError:
        """From what the sandbox sent. Raises ValueError for anything but an error in words."""
        try:
            frames = tuple((_line(line), _text(name), _text(source)) for line, name, source in data["frames"][:10])
            words = {name: _text(data[name], 2100) for name in ("kind", "type", "text", "function")}
            return cls(bases=_texts(data["bases"]), frames=frames, **words)
        except (LookupError, TypeError) as error:
            raise ValueError(f"not an error: {error}") from None


@dataclass(frozen=True)
class Result:
    """What came of a call: a value, an exception, or the end of the child."""

    value: Any = None
    cost: Cost | None = None
    error: RemoteError | None = None
    ended: Cause | None = None
    message: str = ""
    changed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    size: int = 0  # bytes of the answer


@dataclass
class Runner:
    """Executes calls on one source in a sandboxed child; a child that dies is replaced."""

    zygote: Zygote
    source: Code
    limits: Limits
    device: str = "cpu"
    seed: int = 0
    timeout: float = 5.0
    threads: int = 1
    child: Child | None = None
    loaded: Result | None = None
    timeouts: int = 0
    spent: float = 0.0  # seconds in calls
    output: list[str] = field(default_factory=list)

    def load(self) -> Result:
        """Load the source into a child; the result holds the exception or the child's end, if any."""
        if self.child is None or not self.child.alive:
            self.child, self.loaded = self.zygote.spawn(self.limits, threads=self.threads), None
        if self.loaded is not None:
            return self.loaded
        request = {
            "op": "load", "source": self.source.text, "filename": self.source.filename, "seed": self.seed,
            "rules": list(self.source.rules), "stubs": list(self.source.stubs), "device": self.device,
        }  # fmt: skip
        self.loaded = self._ask(request, b"", IMPORT_LIMIT)
        return self.loaded

    def run(self, call: Call) -> Result:
        """Execute a call. Failing to load is the result of every call."""
        loaded = self.load()
        if loaded.error or loaded.ended:
            return loaded
        return self._ask(call.request(), call.blob, self.limit)

    @property
    def limit(self) -> float:
        return min(self.timeout, SHORT_LIMIT) if self.timeouts or self.spent > PATIENCE else self.timeout

    def _ask(self, request: dict[str, Any], blob: bytes, seconds: float) -> Result:
        assert self.child is not None
        started = time.monotonic()
        try:
            answer = self.child.ask(request, blob, seconds)
        except ChildGone as gone:
            self.timeouts += gone.cause == "timeout"
            self._keep_output()
            if self.child.ending is not None and self.child.ending.fault and self.zygote.ended():
                raise Fault("the sandbox was killed, most likely by the system for want of memory") from None
            cause = Cause(gone.cause) if gone.cause in set(Cause) else Cause.CRASHED
            return Result(ended=cause, message=str(gone))
        finally:
            self.spent += time.monotonic() - started
        try:
            return replace(_result(answer.message, answer.blob), size=answer.size)
        except ValueError as error:
            self.child.close()
            return Result(ended=Cause.CRASHED, message=f"its answer cannot be read: {error}")

    def switch(self, source: Code) -> None:
        """Go on with another source in the same child: only for the kit's own, which trust each other."""
        self.source, self.loaded = source, None

    def fresh(self) -> None:
        """Let the next call start in a new child."""
        if self.child is not None:
            self._keep_output()
            self.child.close()
        self.child = self.loaded = None

    close = fresh

    def _keep_output(self) -> None:
        if self.child is not None and self.child.printed:
            self.output.append(self.child.printed.decode("utf-8", "replace"))
            self.child.printed.clear()


def _result(message: dict[str, Any], blob: bytes) -> Result:
    """What a child answered. Raises ValueError, of which WireError is one, for an answer that is none."""
    if "error" in message:
        error = RemoteError.from_plain(message["error"])
        return Result(error=error, broken=_texts(message["error"].get("broken", [])))
    if "ok" not in message:
        raise ValueError("neither a value nor an error")
    value = wire.Decoder(blob, opaque=Opaque).decode(message["ok"])
    cost = Cost.from_plain(message["cost"]) if message.get("cost") is not None else None
    return Result(value, cost, changed=_texts(message.get("changed", [])), broken=_texts(message.get("broken", [])))


def _texts(items: Any) -> tuple[str, ...]:
    if not isinstance(items, list):
        raise ValueError("not a list of texts")
    return tuple(_text(item) for item in items[:20])


def _text(item: Any, most: int = 200) -> str:
    if not isinstance(item, str):
        raise ValueError("not a text")
    return item[:most]


def _line(item: Any) -> int:
    if type(item) is not int or not 0 <= item < 1 << 31:
        raise ValueError("not a line number")
    return item


def encode_call(target: str | Callable[..., Any], args: Any, kwargs: Any, seed: int, **options: bool) -> Call:
    """A call to a function by name, or to a probe, in wire form. Raises WireError for what does not cross."""
    encoder = wire.Encoder(keep_layout=True)
    tree, keywords = encoder.encode(list(args)), encoder.encode(dict(kwargs))
    name = target if isinstance(target, str) else target.__name__
    probe = None if isinstance(target, str) else probe_spec(target)
    return Call(name, probe, tree, keywords, encoder.blob(), seed, **options)


def call_seed(seed: int, test: str, number: int) -> int:
    """A seed of its own for every call, the same in every run with the same `--seed`."""
    digest = hashlib.sha256(f"{seed}/{test}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


@functools.cache
def probe_spec(function: Callable[..., Any]) -> dict[str, Any]:
    """A probe's source with the probes it uses, and the modules that these name."""
    sources: dict[str, str] = {}
    modules: dict[str, str] = {}
    _collect(function, sources, modules)
    meter = "meter" in inspect.signature(function).parameters
    says = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    return {"source": "\n".join(sources.values()), "modules": modules, "meter": meter, "says": says}


def _collect(function: Callable[..., Any], sources: dict[str, str], modules: dict[str, str]) -> None:
    if not getattr(function, "__probe__", False):
        raise TypeError(f"`{function.__name__}` is not marked @probe, so it stays in the trusted process")
    source = textwrap.dedent(inspect.getsource(function))
    if function.__name__ in sources:
        if sources[function.__name__] != source:
            raise TypeError(f"two probes are called `{function.__name__}`")
        return
    sources[function.__name__] = source
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            modules[name] = value.__name__
        elif isinstance(value, types.FunctionType) and getattr(value, "__probe__", False):
            _collect(value, sources, modules)
            if name != value.__name__:  # a property's probe knows a suite's under a name of its own
                sources[name] = f"{name} = {value.__name__}"


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function and the functions inside it use."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)


def slim(call: Call) -> Call | None:
    """The call if it is small enough to be kept for a replay."""
    return replace(call) if len(call.blob) <= KEPT_BYTES else None


def in_words(call: Call, width: int = 300) -> str:
    """`f(float32 (2, 3), 5)`: a call with its arguments described, and under a probe what it gives."""
    args = [_word(tree) for tree in call.args]
    args += [f"{name}={_word(tree)}" for name, tree in call.kwargs["dict"]]
    text = f"{call.name}({', '.join(args)})"
    text = text if len(text) <= width else f"{text[: width - 5]} ...)"
    says = call.probe["says"] if call.probe else ""
    return f"{text}\n{call.name}: {says}" if says else text


def _word(tree: Any) -> str:
    """An encoded value: arrays by dtype and shape, long lists by their length."""
    if isinstance(tree, list):
        inner = [_word(item) for item in tree[:8]]
        more = [f"... {len(tree)} in all"] if len(tree) > 8 else []
        return f"[{', '.join(inner + more)}]"
    if not isinstance(tree, dict):
        return repr(tree)
    ((kind, inner),) = tree.items()
    if _is_array(tree):
        return f"{inner[0]} {tuple(inner[1])}"
    if kind == "dict" and len(inner) > MOST_TENSORS and all(_is_array(value) for _, value in inner):
        return f"{{{len(inner)} tensors by name}}"
    if kind == "dict":
        return "{" + ", ".join(f"{_word(key)}: {_word(value)}" for key, value in inner[:8]) + "}"
    if kind in ("tuple", "set", "frozenset"):
        return f"{'' if kind == 'tuple' else kind}({', '.join(map(_word, inner[:8]))})"
    return f"{kind} {inner}"[:60]


def _is_array(tree: Any) -> bool:
    return isinstance(tree, dict) and not tree.keys().isdisjoint(("tensor", "array"))
