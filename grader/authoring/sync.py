"""Derives the stubs from the solutions, and leaves alone what a learner has written into one."""

from __future__ import annotations

from pathlib import Path

from grader import source
from grader.authoring import git
from grader.catalog import content, exercises
from grader.errors import SubmissionError


def stale() -> list[Path]:
    """The stubs that are missing or not what is derived: in git, where a learner may have changed the file since."""
    return [path for path, text in _stubs().items() if not path.is_file() or not _as_derived(path, text)]


def _stubs() -> dict[Path, str]:
    """Every stub with the text that it must have."""
    return {exercise.stub: exercise.stub_text for exercise in exercises() if exercise.solution.is_file()}


def _as_derived(path: Path, stub: str) -> bool:
    if path.read_text(encoding="utf-8", errors="replace") == stub:
        return True
    known = git.committed(path)
    return known == stub if known is not None else answered(path, stub)


def orphans() -> list[Path]:
    """Stubs without a solution."""
    expected = {exercise.stub for exercise in exercises() if exercise.solution.is_file()}
    found = [*(content() / "exercises").glob("*/*.py"), *(content() / "leetcode").glob("*.py")]
    return sorted(path for path in found if path not in expected)


def answered(path: Path, stub: str) -> bool:
    """Whether a file where a stub belongs holds somebody's work: a part is filled in, or it does not parse."""
    if not path.is_file():
        return False
    try:
        file = source.read(path)
    except SubmissionError:
        return path.stat().st_size > 0
    defined = {name for node in file.definitions().values() for name, _ in source.functions(node)}
    return bool(source.parse(path, stub).stubs().keys() & (defined - file.stubs().keys()))


def write() -> tuple[list[Path], list[Path]]:
    """Write the stubs that are not what they must be. Returns those written, and the answers left alone."""
    stubs = _stubs()
    outdated = stale()
    answers = [path for path, text in stubs.items() if answered(path, text)]
    written = [path for path in outdated if path not in answers]
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stubs[path], encoding="utf-8")
    return written, answers
