"""The `submission` fixture: what a suite calls, and what a failed call says."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from grader import race
from grader.cost import Cost, Measured
from grader.failure import Failure
from grader.remote.calls import Call, RemoteError, Result, Runner, call_seed, encode_call, slim
from grader.source import Answer, Part
from grader.values import Opaque
from grader.verdict import Cause, Details

MOST_SIGNATURE = 400  # characters
KEPT_RESULTS = 256 << 20  # bytes of results that are kept to look for the mistake


class CallFailed(Failure):
    """A call that gave no usable result: an exception, a hang, a crash."""

    def __init__(self, cause: Cause, details: Details, error: RemoteError | None = None) -> None:
        super().__init__(details)
        self.cause, self.error = cause, error


class Waiting(Exception):
    """The call needs a function that is still a stub."""

    def __init__(self, function: str) -> None:
        super().__init__(f"waiting for `{function}`")
        self.function = function


@dataclass
class Trial:
    """One test's calls and what came of them."""

    test: str
    calls: list[tuple[Call, Result]] = field(default_factory=list)
    metered: list[tuple[Call | None, Cost]] = field(default_factory=list)  # None: too large to be kept
    number: int = 0


class Submission:
    """Stands for the learner's module: `submission.f(x)` runs `f(x)` in the sandbox."""

    def __init__(self, runner: Runner, reference: Runner, file: Answer, parts: tuple[Part, ...], seed: int) -> None:
        self._runner, self._reference, self._file = runner, reference, file
        self._parts, self._seed = parts, seed
        self._trial = Trial("")
        self._kept = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._do(name, args, kwargs).value

    def run(self, target: str | Callable[..., Any], *args: Any, may_change: bool = False, **kwargs: Any) -> Any:
        """Run a probe (or a function by name) beside the learner's code; return its result."""
        return self._do(target, args, kwargs, may_change=may_change).value

    def measure(self, target: str | Callable[..., Any], *args: Any, counting: bool = False, **kwargs: Any) -> Measured:
        """The same, metered."""
        result = self._do(target, args, kwargs, metered=True, counting=counting)
        if result.cost is None:
            raise CallFailed(Cause.CRASHED, Details("the call returned no counts"))
        return Measured(result.value, result.cost)

    def race(self, target: str | Callable[..., Any], inputs: Callable[[], tuple[Any, Any]], at_most: float) -> None:
        """Check that the learner's code takes at most `at_most` times as long as the kit's, wall clock."""

        def timed(runner: Runner) -> Callable[[], float]:
            return lambda: race.clock(lambda: self._checked(runner.run(self._call(target, *inputs()))))

        race.assert_not_slower(timed(self._runner), timed(self._reference), at_most)

    @contextmanager
    def expect_raises(self, *kinds: type[BaseException]) -> Iterator[None]:
        """The call inside must raise one of these."""
        names = " or ".join(f"`{kind.__name__}`" for kind in kinds)
        try:
            yield
        except CallFailed as failed:
            bases = failed.error.bases if failed.error else ()
            if any(kind.__name__ in bases for kind in kinds):
                return
            details = replace(failed.details, expected=names, got="another exception" if failed.error else "none")
            raise CallFailed(failed.cause, details, failed.error) from None
        raise CallFailed(Cause.WRONG, Details(expected=names, got="no exception"))

    def solution_costs(self, trial: Trial) -> list[dict[str, int]]:
        """What the kit's solution takes for the metered calls of a test, which it runs; empty for one that was too
        large to be kept.
        """
        costs = [self._reference.run(call).cost if call is not None else None for call, _ in trial.metered]
        return [cost.figures() if cost is not None else {} for cost in costs]

    def _begin(self, test: str) -> Trial:
        self._trial = Trial(test)
        return self._trial

    def _call(self, target: Any, args: Any, kwargs: Any, **options: bool) -> Call:
        self._trial.number += 1
        seed = call_seed(self._seed, self._trial.test, self._trial.number)
        return encode_call(target, args, kwargs, seed, **options)

    def _do(self, target: Any, args: Any, kwargs: Any, **options: bool) -> Result:
        call = self._call(target, args, kwargs, **options)
        result = self._runner.run(call)
        if (kept := slim(call)) is not None:
            self._trial.calls.append((kept, self._slim(result)))
        if call.metered and result.cost is not None:
            self._trial.metered.append((kept, result.cost))
        return self._checked(result)

    def _slim(self, result: Result) -> Result:
        """The result, or a stand-in when those kept so far are large: a submission must not fill this process."""
        self._kept += result.size
        return result if self._kept <= KEPT_RESULTS else replace(result, value=Opaque("result", "too large to keep"))

    def _checked(self, result: Result) -> Result:
        if result.broken:
            rules = ", ".join(f"`{rule}`" for rule in result.broken)
            said = Details(f"the rules exclude {rules}, and the code used it")
            raise CallFailed(Cause.RULE, said, result.error)
        if result.ended:
            raise CallFailed(result.ended, Details(result.message))
        if result.error:
            raise self._failure(result.error)
        if result.changed:
            names = " and ".join(result.changed)
            hint = "work on a copy, such as `x.clone()` or `list(x)`"
            raise CallFailed(Cause.WRONG, Details(f"your code changed {names} in place", hint=hint))
        return result

    def _failure(self, error: RemoteError) -> Exception:
        if error.kind == "stub" and error.function in self._runner.source.stubs:  # as seen here, not as claimed there
            return Waiting(error.function)
        if error.kind == "memory":
            said = Details("your code asked for more memory than it may use", trace=trace(error))
            return CallFailed(Cause.OUT_OF_MEMORY, said, error)
        if error.kind == "exit":
            return CallFailed(Cause.CRASHED, Details("your code called `sys.exit`", trace=trace(error)), error)
        if error.kind == "unsendable":
            return CallFailed(Cause.FLOOD, Details(f"the result cannot be taken over: {error.text}"), error)
        if absent := self._missing(error):
            return CallFailed(Cause.MISSING, absent, error)
        return CallFailed(Cause.RAISED, self._signatures(error) or Details(trace=trace(error)), error)

    def _missing(self, error: RemoteError) -> Details | None:
        if error.type != "AttributeError" or error.frames:
            return None
        for part in self._parts:
            if f"`{part.name}`" in error.text or f"'{part.name}'" in error.text:
                return missing(part.name, self._file)
        return None

    def _signatures(self, error: RemoteError) -> Details | None:
        """Both signatures, where the call itself did not fit."""
        if error.type != "TypeError" or error.frames:
            return None
        for part in self._parts:
            for name, signature in (part.stubs | {part.name: part.signature}).items():
                if re.search(rf"(?<![\w.]){re.escape(name)}\(\)", error.text):
                    return Details(trace(error), expected=signature, got=self._file.signature(name)[:MOST_SIGNATURE])
        return None


def missing(name: str, file: Answer) -> Details:
    """What to say when a part is not in the file: what is, and what is near."""
    found = sorted(file.definitions())
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.6)
    if near:
        return Details(f"there is no `{name}` in {file.path.name}; found `{near[0]}`", hint=f"rename it to `{name}`")
    listed = ", ".join(f"`{n}`" for n in found[:8]) or "no function or class"
    return Details(f"there is no `{name}` in {file.path.name}; found {listed}")


def trace(error: RemoteError) -> str:
    """The learner's own frames and the exception, as Python would show them."""
    lines = [f"  line {line}, in {name}\n    {source}" for line, name, source in error.frames]
    head = ["in your code:", *lines] if lines else []
    text = f"{error.type}: {error.text}" if error.text else error.type
    return "\n".join([*head, text])
