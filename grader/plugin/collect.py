"""Collects a suite under a lean pytest, once: only the plugins it needs, no configuration from outside."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from grader.catalog import PACKAGE
from grader.errors import Fault
from grader.exercise import Exercise
from grader.plugin import examples
from grader.source import Examples
from grader.verdict import Cause, Details, Outcome, TestResult

LEAN = (
    "cacheprovider", "capture", "debugging", "doctest", "faulthandler", "junitxml", "logging", "monkeypatch",
    "nose", "pastebin", "pytester", "pytester_assertions", "recwarn", "reports", "setuponly", "setupplan", "stepwise",
    "subtests", "terminal", "terminalprogress", "threadexception", "tmpdir", "unittest", "unraisableexception",
    "warnings",
)  # fmt: skip
ARGUMENTS = [
    "-c", os.devnull, f"--rootdir={PACKAGE.parent}", "--import-mode=importlib", "--assert=plain", "--noconftest",
    "-opython_files=*.py", *(f"-pno:{name}" for name in LEAN),
]  # fmt: skip


@dataclass(frozen=True)
class Test:
    """A collected test, and the result that it has before it is run."""

    __test__ = False

    item: pytest.Item
    unrun: TestResult
    gpu: bool


class Grading(Protocol):
    """What the fixtures and hooks of a suite ask for; one for each grading."""

    submission: Any

    @property
    def device(self) -> str: ...

    def seeded(self, test: str) -> int: ...
    def setup(self, test: Test) -> None: ...
    def report(self, test: Test, call: pytest.CallInfo[None]) -> None: ...


class Suite:
    """A pytest plugin: the tests of a suite, for as many gradings as there are."""

    def __init__(self, shown: tuple[Examples, ...]) -> None:
        self.shown = shown
        self.tests: list[Test] = []
        self.by_id: dict[str, Test] = {}
        self.grading: Grading
        self.fault = ""

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

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in ("part(name): what it grades", "points(n): what it is worth", "gpu: needs a GPU"):
            config.addinivalue_line("markers", mark)
        config.stash[examples.EXAMPLES] = self.shown

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.fault = str(report.longrepr)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Keep the tests instead of running them."""
        self.tests = [Test(item, _unrun(item), item.get_closest_marker("gpu") is not None) for item in session.items]
        self.by_id = {test.item.nodeid: test for test in self.tests}
        return True

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.grading.setup(self.by_id[item.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
        """In place of pytest's own, which formats tracebacks that nobody reads."""
        self.grading.report(self.by_id[item.nodeid], call)
        outcome: Literal["failed", "passed"] = "failed" if call.excinfo else "passed"
        assert call.when != "collect"
        return pytest.TestReport(item.nodeid, item.location, {}, outcome, None, call.when)


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
    files = [examples.__file__] if shown else []
    with own_environment(), contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*ARGUMENTS, *files, str(file)], plugins=[suite])
    if code == pytest.ExitCode.INTERRUPTED and not suite.fault:
        raise KeyboardInterrupt
    if suite.fault or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise Fault(f"the suite {file} did not run: {suite.fault or said.getvalue()[-2000:]}")
    return suite


forget = _collect.cache_clear  # after an interrupt, which leaves fixtures in an unknown state


def load(exercise: Exercise) -> Any:
    """The suite's module. Raises Fault when it does not import."""
    name = f"grader.suites.{exercise.track}.{exercise.slug}.suite"
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except Exception as error:
        raise Fault(f"the suite of {exercise.path} does not import: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """Without what the caller's environment says to pytest."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            del os.environ[name]
        os.environ.update(kept)
