"""Content hashes change with what they are of, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
import time

import fake_kit
import pytest

from grader import catalog, digest


@pytest.fixture
def adamw(tmp_path, monkeypatch):
    fake_kit.use(tmp_path, monkeypatch)
    yield catalog.find("adamw")
    catalog.exercises.cache_clear()


@pytest.mark.parametrize("name", ["card.toml", "suite.py", "mistakes.diff"])
def test_of_an_exercise(adamw, name):
    before = digest.exercise(adamw)
    assert digest.exercise(adamw) == before
    (adamw.folder / "notes.txt").write_text("apart")
    assert digest.exercise(adamw) == before
    file = adamw.folder / name
    file.write_text((file.read_text() if file.exists() else "") + "# more\n")
    assert digest.exercise(adamw) != before


def test_of_an_exercise_with_another_solution(adamw):
    before = digest.exercise(adamw)
    adamw.solution.write_text(adamw.text.replace("2 * x", "x + x"))
    del vars(adamw)["text"]  # as it was read before
    assert digest.exercise(adamw) != before


def test_of_the_engine(tmp_path, monkeypatch):
    """Of the modules alone, wherever they lie, without those that only show a verdict."""
    monkeypatch.setattr(digest, "PACKAGE", tmp_path)
    for name in ("engine.py", "sandbox/host.py", "cli/grade.py", "suites/a/suite.py", "render/text.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [file.name for file in digest.engine_files()] == ["engine.py", "host.py"]
    before = digest.engine.__wrapped__()
    (tmp_path / "cli/grade.py").write_text("other")
    assert digest.engine.__wrapped__() == before
    (tmp_path / "sandbox/host.py").rename(tmp_path / "sandbox/guest.py")
    assert digest.engine.__wrapped__() != before


def test_of_a_submission():
    assert digest.submission("x = 1\n") == digest.submission("x = 1\n") != digest.submission("x = 1")
    assert digest.submission("'\ud800'") != digest.submission("''")


@pytest.mark.alone
def test_of_the_engine_costs_little():
    spans = []
    for _ in range(5):
        started = time.perf_counter()
        digest.engine.__wrapped__()
        spans.append(time.perf_counter() - started)
    assert min(spans) < 0.015


def test_the_dashboard_does_not_pay_for_it():
    code = "import grader.cli, grader.cli.dashboard, grader.store, sys\nprint('grader.digest' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=catalog.PACKAGE.parent)
    assert (said.stdout, said.stderr) == ("False\n", "")
