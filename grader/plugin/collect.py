"""Collects a suite once: its tests, their marks, and the fixtures that they ask for."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from grader.catalog import PACKAGE
from grader.errors import Fault
from grader.exercise import Exercise
from grader.plugin import examples, lean
from grader.source import Examples
from grader.verdict import Cause, Details, Outcome, TestResult


@dataclass(frozen=True)
class Test:
    """A collected test, and the result that it has before it is run."""

    __test__ = False

    item: pytest.Item
    unrun: TestResult
    gpu: bool


class Grading(Protocol):
    """What the fixtures of a suite ask for, and who is told of its tests; one for each grading."""

    submission: Any

    @property
    def device(self) -> str: ...

    def seeded(self, test: str) -> int: ...
    def setup(self, test: Test) -> None: ...
    def report(self, test: Test, call: pytest.CallInfo[None]) -> None: ...


class Suite(lean.Items):
    """The tests of a suite, for as many gradings as there are."""

    def __init__(self, shown: tuple[Examples, ...]) -> None:
        super().__init__()
        self.shown = shown
        self.observer = self
        self.grading: Grading

    @functools.cached_property
    def tests(self) -> dict[str, Test]:
        """By pytest's name for each, in their order."""
        return {
            item.nodeid: Test(item, _unrun(item), item.get_closest_marker("gpu") is not None) for item in self.items
        }

    def setup(self, item: pytest.Item) -> None:
        self.grading.setup(self.tests[item.nodeid])

    def report(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        self.grading.report(self.tests[item.nodeid], call)

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in ("part(name): what it grades", "points(n): what it is worth", "gpu: needs a GPU"):
            config.addinivalue_line("markers", mark)
        config.stash[examples.EXAMPLES] = self.shown

    @pytest.fixture(name="submission")
    def _submission(self) -> Any:
        return self.grading.submission

    @pytest.fixture(name="draw")
    def _draw(self, request: pytest.FixtureRequest) -> Any:
        from grader.plugin.draw import Draw

        return Draw(self.grading.seeded(short_name(request.node)))

    @pytest.fixture(name="random")
    def _random(self, request: pytest.FixtureRequest) -> Any:
        import random

        return random.Random(self.grading.seeded(short_name(request.node)))

    @pytest.fixture(name="device")
    def _device(self) -> str:
        return self.grading.device


def _unrun(item: pytest.Item) -> TestResult:
    points, part = item.get_closest_marker("points"), item.get_closest_marker("part")
    title = " ".join((inspect.getdoc(getattr(item, "function", None)) or item.name).split())
    return TestResult(
        name=short_name(item),
        title=title,
        part=str(part.args[0]) if part else "statement",
        category=_category(item),
        outcome=Outcome.FAILED,
        points=0,
        max_points=int(points.args[0]) if points else 1,
        message="not run",
        details=Details("not run"),
        cause=Cause.NOT_RUN,
    )


def short_name(item: pytest.Item) -> str:
    """`TestValues::test_adamw[decay]`."""
    return item.nodeid.split("::", 1)[-1]


def _category(item: pytest.Item) -> str:
    """`TestEdgeCases` -> `edge_cases`."""
    name = short_name(item).split("::")[0].removeprefix("Test")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def collect(exercise: Exercise) -> Suite:
    """The tests of a suite and of the worked examples, collected anew only when these change: it takes as long as
    fifty tests. Raises Fault when the suite is broken.
    """
    load(exercise)
    return _collect(exercise.suite, exercise.suite.read_text(encoding="utf-8"), exercise.examples)


@functools.lru_cache(64)
def _collect(file: Path, text: str, shown: tuple[Examples, ...]) -> Suite:
    suite = Suite(shown)
    files = [Path(examples.__file__)] if shown else []
    if fault := lean.collect([*files, file], PACKAGE.parent, suite):
        raise Fault(f"the suite {file} did not run: {fault}")
    if not suite.tests:  # which every answer would pass
        raise Fault(f"pytest {pytest.__version__} finds no test in the suite {file}")
    return suite


forget = _collect.cache_clear  # after an interrupt, which leaves fixtures in an unknown state


def load(exercise: Exercise) -> Any:
    """The suite's module. Raises Fault when it does not import."""
    name = f"grader.suites.{exercise.track}.{exercise.slug}.suite"
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except Exception as error:
        raise Fault(f"the suite of {exercise.path} does not import: {type(error).__name__}: {error}") from error
