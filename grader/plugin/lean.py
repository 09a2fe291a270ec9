"""A lean pytest, and all that the kit relies on in pytest's inside: `tests/test_lean.py` has a test for each.

- Built-in plugins can be switched off by name (a stock `pytest.main` costs 300 ms more).
- Items stay usable after `pytest.main` has returned, are run one by one through `pytest_runtest_protocol`, and again.
- `nextitem=None` tears every fixture down, so that each run has fixtures of its own.
- A `pytest_runtest_makereport` that comes first replaces pytest's own, and a TestReport can be made by hand.
- Plain values go from the plugin to a collected module through `config.stash`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import pytest

LEAN = (
    "cacheprovider", "capture", "debugging", "doctest", "faulthandler", "junitxml", "logging", "monkeypatch",
    "nose", "pastebin", "pytester", "pytester_assertions", "recwarn", "reports", "setuponly", "setupplan", "stepwise",
    "subtests", "terminal", "terminalprogress", "threadexception", "tmpdir", "unittest", "unraisableexception",
    "warnings",
)  # fmt: skip
ARGUMENTS = [
    "-c", os.devnull, "--import-mode=importlib", "--assert=plain", "--noconftest", "-opython_files=*.py",
    *(f"-pno:{name}" for name in LEAN),
]  # fmt: skip


class Observer(Protocol):
    """Who is told of each phase of an item's run."""

    def setup(self, item: pytest.Item) -> None: ...
    def report(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None: ...


class Items:
    """A pytest plugin that keeps the collected items instead of running them, and hands their phases to an observer."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.observer: Observer
        self.fault = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.fault = str(report.longrepr)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = session.items
        return True

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.observer.setup(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
        """In place of pytest's own, which formats tracebacks that nobody reads."""
        self.observer.report(item, call)
        outcome: Literal["failed", "passed"] = "failed" if call.excinfo else "passed"
        assert call.when != "collect"
        return pytest.TestReport(item.nodeid, item.location, {}, outcome, None, call.when)


def collect(files: Sequence[Path], root: Path, plugin: Items) -> str:
    """Collect files, whose items are the plugin's from then on. Returns what is wrong with them, or an empty text."""
    with own_environment(), contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*ARGUMENTS, f"--rootdir={root}", *map(str, files)], plugins=[plugin])
    if code == pytest.ExitCode.INTERRUPTED and not plugin.fault:
        raise KeyboardInterrupt
    if plugin.fault or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return plugin.fault or said.getvalue()[-2000:] or f"pytest ended with {code!r}"
    return ""


def run(item: pytest.Item) -> None:
    """Run one item; its observer hears what came of it."""
    item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


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
