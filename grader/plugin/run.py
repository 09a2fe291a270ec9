"""Runs a suite under a lean pytest: only the plugins it needs, no configuration from outside."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from grader.catalog import PACKAGE, Entry
from grader.compare import Mismatch
from grader.cost import TooCostly
from grader.errors import Fault
from grader.plugin import examples
from grader.plugin.calls import call_seed, in_words
from grader.plugin.draw import Draw
from grader.plugin.submission import CallFailed, Submission, Trial, Waiting
from grader.verdict import Cause, Outcome, TestResult

LEAN = (
    "cacheprovider", "capture", "debugging", "doctest", "faulthandler", "junitxml", "logging", "monkeypatch",
    "nose", "pastebin", "pytester", "pytester_assertions", "recwarn", "reports", "setuponly", "setupplan", "stepwise",
    "subtests", "terminal", "terminalprogress", "threadexception", "tmpdir", "unittest", "unraisableexception",
    "warnings",
)  # fmt: skip


@dataclass
class SuiteRun:
    """A pytest plugin: the fixtures of a suite, and the results as they come."""

    submission: Submission
    seed: int
    device: str
    part: str | None
    performance: bool
    examples: tuple[examples.Examples, ...]
    results: list[TestResult] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # part -> what to say
    fault: str = ""

    # --- fixtures ---

    @pytest.fixture(name="submission")
    def _submission(self) -> Submission:
        return self.submission

    @pytest.fixture(name="draw")
    def _draw(self, request: pytest.FixtureRequest) -> Draw:
        return Draw(call_seed(self.seed, short_name(request.node), 0))

    @pytest.fixture(name="random")
    def _random(self, request: pytest.FixtureRequest) -> random.Random:
        return random.Random(call_seed(self.seed, short_name(request.node), 0))

    @pytest.fixture(name="device")
    def _device(self) -> str:
        return self.device

    # --- hooks ---

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in ("part(name): what it grades", "points(n): what it is worth", "gpu: needs a GPU"):
            config.addinivalue_line("markers", mark)
        config.stash[examples.EXAMPLES] = self.examples

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._wanted(item)]
        self.results = [self._unrun(item) for item in items]
        self.position = {item.nodeid: i for i, item in enumerate(items)}

    def _wanted(self, item: pytest.Item) -> bool:
        if self.part is not None and part_of(item) != self.part:
            return False
        return self.performance or category(item) != "performance"

    def _unrun(self, item: pytest.Item) -> TestResult:
        mark = item.get_closest_marker("points")
        points = int(mark.args[0]) if mark else 1
        title = " ".join((inspect.getdoc(getattr(item, "function", None)) or item.name).split())
        result = TestResult(short_name(item), title, part_of(item), category(item), Outcome.FAILED, 0, points)
        result.message, result.cause = "not run", Cause.NOT_RUN
        return result

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.trials[short_name(item)] = self.submission._begin(short_name(item))
        if item.get_closest_marker("gpu") and self.device != "cuda":
            raise _Skipped("needs a GPU; there is none, or `--device cuda` was not given")
        if (message := self.missing.get(part_of(item))) is not None:
            raise CallFailed(Cause.MISSING, message)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
        report = yield
        result = self.results[self.position[item.nodeid]]
        result.seconds += call.duration
        if call.excinfo is not None:
            self._record(result, call.excinfo.value)
            trial = self.trials.get(result.name)
            shown = result.outcome is Outcome.FAILED and result.category != "examples"
            if trial is not None and trial.calls and shown:
                result.message += f"\n\nthe call   {in_words(trial.calls[-1][0])}"
        elif call.when == "call":
            result.outcome, result.points = Outcome.PASSED, result.max_points
            result.message, result.cause = "", None
        return report

    def _record(self, result: TestResult, error: BaseException) -> None:
        result.outcome, result.points, result.message = Outcome.FAILED, 0, str(error)
        if isinstance(error, Waiting):
            result.outcome, result.cause = Outcome.SKIPPED, Cause.WAITING
        elif isinstance(error, _Skipped):
            result.outcome, result.cause, result.max_points = Outcome.SKIPPED, Cause.NO_GPU, 0
        elif isinstance(error, CallFailed):
            result.cause = error.cause
        elif isinstance(error, TooCostly):
            result.cause = Cause.COST
        elif isinstance(error, Fault | KeyboardInterrupt):
            self.fault = str(error)
        else:
            result.cause = Cause.WRONG
            if not isinstance(error, Mismatch):
                detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                result.message = f"the result is not of the form that the statement asks for\n{detail[:500]}"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.fault = str(report.longrepr)


class _Skipped(Exception):
    """The test does not apply here."""


def short_name(item: pytest.Item) -> str:
    """`TestValues::test_adamw[decay]`."""
    return item.nodeid.split("::", 1)[-1]


def part_of(item: pytest.Item) -> str:
    mark = item.get_closest_marker("part")
    return str(mark.args[0]) if mark else "statement"


def category(item: pytest.Item) -> str:
    """`TestEdgeCases` -> `edge_cases`."""
    name = short_name(item).split("::")[0].removeprefix("Test")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def run(entry: Entry, suite: SuiteRun) -> None:
    """Run a suite; its results are in `suite.results`. Raises Fault when the suite itself is broken."""
    load(entry)
    files = [Path(examples.__file__), entry.suite] if suite.examples else [entry.suite]
    arguments = [
        "-c",
        os.devnull,
        f"--rootdir={PACKAGE.parent}",
        "--import-mode=importlib",
        "--assert=plain",
        "--noconftest",
    ]
    arguments += [f"-pno:{name}" for name in LEAN]
    arguments += ["-opython_files=*.py", *map(str, files)]
    with _own_environment(), contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(arguments, plugins=[suite])
    if code == pytest.ExitCode.INTERRUPTED and not suite.fault:
        raise KeyboardInterrupt
    if suite.fault or code not in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        raise Fault(f"the suite of {entry.path} did not run: {suite.fault or said.getvalue()[-2000:]}")


def load(entry: Entry) -> Any:
    """The suite's module. Raises Fault when it does not import."""
    name = f"grader.suites.{entry.track}.{entry.slug}"
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except Exception as error:
        raise Fault(f"the suite of {entry.path} does not import: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Without what the caller's environment says to pytest."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            del os.environ[name]
        os.environ.update(kept)
