"""One warm engine for all tests, and a scratch exercise in plain Python to break in every way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scratch_kit import Kit

from grader import catalog

ROOT = Path(__file__).resolve().parents[1]


SLOW = {"adversarial", "fuzz", "oracles"}  # folders of tests that are not for every save


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def engine():
    from grader.engine import Engine  # not on the way of tests that need none

    with Engine() as warm:
        yield warm


@pytest.fixture
def grade(engine, tmp_path):
    """Grade a text (or bytes) as an answer to an exercise."""
    from grader.order import Order

    def run(slug, answer, **options):
        exercise = catalog.find(slug)
        file = tmp_path / f"{slug}.py"
        file.write_bytes(answer if isinstance(answer, bytes) else answer.encode())
        return engine.grade(Order(exercise, file, **options)).verdict

    return run


@pytest.fixture(scope="session")
def python():
    return sys.executable


@pytest.fixture(scope="session")
def scaffold(tmp_path_factory):
    return Kit.scaffold(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def kit(scaffold, tmp_path):
    """A copy of the kit in which the only exercise is a scaffold, to be changed."""
    return scaffold.copy(tmp_path / "kit")
