"""Calls repeated on the kit's own sources: the solution, and the solution with mistakes planted. Layer 3."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from grader.compare import Mismatch, assert_close
from grader.cost import Cost
from grader.diagnosis.reach import Reach
from grader.exercise import Exercise
from grader.mistake import Mistake, plant
from grader.remote.calls import Call, Code, Result, Runner
from grader.remote.submission import Trial
from grader.source import fingerprint
from grader.verdict import Cause

MAX_CALLS = 60  # failing calls that are replayed
ALIKE = 1.05  # costs within this factor are the same cost
NOISE = 2048  # bytes that the peak of plain Python varies by from run to run; all else is counted exactly


@dataclass(frozen=True, eq=False)
class Failing:
    """A call whose result was not the solution's."""

    call: Call
    got: Result
    right: Result
    test: str


@dataclass
class Recall:
    """Results of the kit's own sources, the solution and the mistakes, by content of source and call."""

    results: dict[tuple[str, str], Result] = field(default_factory=dict)  # the last used at the end
    held: int = 0  # bytes of their answers
    most: int = 20_000
    most_bytes: int = 64 << 20

    def get(self, text: str, calls: list[Call], run: Callable[[Call], Result]) -> list[Result]:
        source = fingerprint(text)
        found = []
        for call in calls:
            key = source, call_key(call)
            found.append(self.results.get(key) or run(call))
            self._keep(key, found[-1])
        return found

    def remember(self, text: str, trials: Iterable[Trial]) -> None:
        """Keep results of a source that was graded; for the gate, which grades the mistakes themselves."""
        source = fingerprint(text)
        for trial in trials:
            for call, result in trial.calls:
                self._keep((source, call_key(call)), result)

    def _keep(self, key: tuple[str, str], result: Result) -> None:
        """Keep a result in the last place, and forget the first ones where it gets too much."""
        if (old := self.results.pop(key, None)) is not None:
            self.held -= old.size
        self.results[key] = result
        self.held += result.size
        while len(self.results) > self.most or self.held > self.most_bytes:
            self.held -= self.results.pop(next(iter(self.results))).size


def call_key(call: Call) -> str:
    digest = hashlib.sha256(json.dumps(call.request(), sort_keys=True).encode())
    digest.update(call.blob)
    return digest.hexdigest()


@dataclass
class Replay:
    """Calls repeated on an exercise's solution and mistakes; the runner executes none of the learner's code."""

    exercise: Exercise
    runner: Runner
    recall: Recall
    looked: int = 0  # results asked for, remembered or not

    @functools.cached_property
    def reach(self) -> Reach:
        return Reach(self.exercise)

    def failing(self, trials: Iterable[Trial]) -> list[Failing]:
        """The calls of the failed tests whose results differ from the solution's."""
        pairs = [(call, got, trial.test) for trial in trials for call, got in trial.calls]
        pairs = [pair for pair in pairs if not (pair[1].error and pair[1].error.kind == "stub")][:MAX_CALLS]
        rights = self._results([call for call, _, _ in pairs])
        return [
            Failing(call, got, right, test)
            for (call, got, test), right in zip(pairs, rights, strict=True)
            if not same(got, right)
        ]

    def explained(self, items: list[Failing], *mistakes: Mistake) -> list[Failing]:
        """The calls whose result is the learner's, and not the right one, with all of these mistakes planted."""
        try:
            results = self._results([item.call for item in items], *mistakes)
        except ValueError:  # two edits of one place
            return []
        pairs = zip(results, items, strict=True)
        return [item for result, item in pairs if same(result, item.got) and not same(result, item.right)]

    def changed(self, item: Failing, mistake: Mistake) -> bool:
        """Whether a mistake by itself makes a call's result wrong."""
        (result,) = self._results([item.call], mistake)
        return not same(result, item.right)

    def _results(self, calls: list[Call], *mistakes: Mistake) -> list[Result]:
        text = plant(self.exercise.text, *mistakes)
        self.looked += len(calls)
        self.runner.switch(Code(text, f"{self.exercise.slug}.py"))
        return self.recall.get(text, calls, self.runner.run)


def same(a: Result, b: Result) -> bool:
    """Whether two results are the same to a suite: value up to rounding, cost, exception or end."""
    if a.ended or b.ended:
        return a.ended == b.ended and a.ended is not Cause.RULE
    if a.error or b.error:
        return bool(a.error and b.error) and _words(a) == _words(b)
    return a.changed == b.changed and _same_value(a.value, b.value) and _same_cost(a.cost, b.cost)


def _words(result: Result) -> tuple[str, str]:
    assert result.error is not None
    return result.error.type, re.sub("0x[0-9a-f]+", "", result.error.text)  # addresses differ from run to run


def _same_value(a: Any, b: Any) -> bool:
    try:
        assert_close(a, b)
        assert_close(b, a)
    except Mismatch:
        return False
    return True


def _same_cost(a: Cost | None, b: Cost | None) -> bool:
    """Costs are the same when every figure is within a few per cent."""
    if a is None or b is None:
        return a is b
    mine, other = a.figures(), b.figures()
    return all(
        math.isclose(
            mine.get(metric, 0),
            other.get(metric, 0),
            rel_tol=ALIKE - 1,
            abs_tol=NOISE if metric == "peak_bytes" and a.operators is None else 0,
        )
        for metric in mine.keys() | other.keys()
    )
