"""Scaffolds an exercise: a solution and a suite to fill in."""

from __future__ import annotations

import re
from pathlib import Path

from grader.catalog import SUITES, content, entries
from grader.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_]*")

SOLUTION = '''"""# {title}

What to build, the formulas, and the convention where conventions differ.
Source: authors (year), arXiv id, equation number.

Rules: what may not be used.

>>> {slug}(2.0)
4.0
"""

from __future__ import annotations


def {slug}(x: float) -> float:
    """What goes in and what comes out: shapes, dtypes, errors."""
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION
'''

SUITE = '''"""Hidden suite for {path}."""

import pytest

from grader.compare import assert_close
from grader.exercise import Exercise, Mistake

EXERCISE = Exercise(
    title="{title}",
    level="core",
    minutes=20,
    needs=(),
    forbid=(),
    hints=("a nudge", "a larger one", "nearly the answer"),
    follow_ups=(
        ("What would an interviewer ask next?", "What an expert would answer."),
        ("And then?", "What an expert would answer."),
    ),
)


class TestValues:
    @pytest.mark.part("{slug}")
    def test_values(self, submission, random):
        """the values are right"""
        x = random.uniform(2.0, 3.0)
        assert_close(submission.{slug}(x), x**2, what="the square")


MISTAKES = [
    Mistake("doubled", "the number is doubled; it is multiplied by itself", {{"return x * x": "return x + x"}}),
]
'''


def write(path: str) -> list[Path]:
    """Write the two files of `TRACK/SLUG`. Raises UsageError when the name is bad or taken."""
    track, _, slug = path.partition("/")
    if not (NAME.fullmatch(track) and NAME.fullmatch(slug)):
        raise UsageError(f"`{path}` is no path for an exercise; write it as `track/slug`, lower case")
    if slug in {entry.slug for entry in entries()}:
        raise UsageError(f"there already is an exercise called `{slug}`; slugs are unique")
    words = {"title": slug.replace("_", " ").capitalize(), "slug": slug, "path": path}
    files = {
        content() / "solutions" / track / f"{slug}.py": SOLUTION.format(**words),
        SUITES / track / f"{slug}.py": SUITE.format(**words),
    }
    for file, text in files.items():
        if file.exists():
            raise UsageError(f"`{file}` exists already")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    entries.cache_clear()
    return list(files)
