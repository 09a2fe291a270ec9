"""Names the mistake: the failing calls, replayed on every catalogued mistake. Layer 3.

A mistake explains a failing call when its result equals the learner's and differs from the
solution's. Results are kept by content, so that a mistake is executed once for each call.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grader.catalog import Entry
from grader.compare import Mismatch, assert_close
from grader.cost import Cost
from grader.exercise import Mistake
from grader.plugin.calls import Call, Result, Runner, Source
from grader.plugin.submission import Trial
from grader.source import apply, fingerprint
from grader.verdict import Cause, Diagnosis

MOST = 3  # names at most
FIRSTS = 4  # failing tests whose first call is tried on every mistake, as long as nothing explains them
MAX_CALLS = 40  # failing calls that are replayed
ALIKE = 1.05  # costs within this factor are the same cost
NOISE = 2048  # bytes that the peak of plain Python varies by from run to run; all else is counted exactly


@dataclass(frozen=True)
class Case:
    """An exercise whose mistakes are to be tried."""

    entry: Entry
    solution: str
    mistakes: list[Mistake]


@dataclass(frozen=True, eq=False)
class Failing:
    """A call whose result was not the solution's."""

    call: Call
    got: Result
    right: Result
    test: str


@dataclass
class Memory:
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

    def remember(self, text: str, trials: list[Trial]) -> None:
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


def failing_calls(case: Case, reference: Runner, trials: list[Trial], memory: Memory) -> list[Failing]:
    """The calls of the failed tests whose results differ from the solution's."""
    pairs = [(call, got, trial.test) for trial in trials for call, got in trial.calls]
    pairs = [pair for pair in pairs if not (pair[1].error and pair[1].error.kind == "stub")][:MAX_CALLS]
    rights = memory.get(case.solution, [call for call, _, _ in pairs], reference.run)
    return [
        Failing(call, got, right, test)
        for (call, got, test), right in zip(pairs, rights, strict=True)
        if not same(got, right)
    ]


def name(case: Case, runner: Runner, failing: list[Failing], memory: Memory) -> list[Diagnosis]:
    """The mistakes that explain most of the failing calls; none when nothing is explained.

    `runner` executes the mistakes one after another; none of them is the learner's code.
    """
    if not failing:
        return []

    def explained(mistake: Mistake, items: list[Failing]) -> list[Failing]:
        text = apply(mistake, case.solution)
        runner.switch(Source(text, f"{case.entry.slug}.py"))
        results = memory.get(text, [item.call for item in items], runner.run)
        pairs = zip(results, items, strict=True)
        return [item for result, item in pairs if same(result, item.got) and not same(result, item.right)]

    # a wrong value says more than a cost, and sooner: metered calls and ends only break ties
    ties = [item for item in failing if item.call.metered or item.got.ended]
    items = [item for item in failing if not (item.call.metered or item.got.ended)]
    items, ties = (items, ties) if items else (ties, [])

    scores: dict[str, int] = {}
    open_tests = {item.test: item for item in reversed(items)}  # the first call of each test
    for _ in range(FIRSTS):  # a round finds what explains the plainest call that nothing explains yet
        if not open_tests:
            break
        _, first = open_tests.popitem()
        for mistake in case.mistakes:
            if mistake.name not in scores and (found := explained(mistake, [first])):
                found = explained(mistake, items)
                scores[mistake.name] = len(found)
                open_tests = {test: item for test, item in open_tests.items() if item not in found}
    best = max(scores.values(), default=0)
    named = [mistake for mistake in case.mistakes if scores.get(mistake.name) == best]
    if best and len(named) > 1 and ties:
        broken = {mistake.name: len(explained(mistake, ties)) for mistake in named}
        named = [mistake for mistake in named if broken[mistake.name] == max(broken.values())]
    return [Diagnosis(mistake.name, mistake.says, best, len(items)) for mistake in named[:MOST] if best]


def stateful(runner: Runner, failing: list[Failing]) -> set[str]:
    """The tests whose first failing call gives another result in a child of its own."""
    found: set[str] = set()
    firsts = {item.test: item for item in reversed(failing) if not item.got.ended and not item.got.cost}
    for item in reversed(firsts.values()):
        runner.fresh()
        if same(runner.run(item.call), item.got):
            break  # the plainest failure is the same by itself: no need to look further
        found.add(item.test)
    runner.close()
    return found


def same(a: Result, b: Result) -> bool:
    """Whether two results are the same to a suite: value up to rounding, cost, exception or end."""
    if a.ended or b.ended:
        return a.ended == b.ended and a.ended is not Cause.RULE
    if a.error or b.error:
        return bool(a.error and b.error) and _words(a) == _words(b)
    return a.changed == b.changed and _same_value(a.value, b.value) and _same_cost(a.cost, b.cost)


def _words(result: Result) -> tuple[str, str]:
    assert result.error is not None
    return result.error.type, "".join(c for c in result.error.text if not c.isdigit())


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
