"""Scaffolds an exercise: a solution, a card, a suite, a mistake and a style to fill in."""

from __future__ import annotations

import re
from pathlib import Path

from grader.authoring import blocks
from grader.catalog import SUITES, content, exercises
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

CARD = """\
title = "{title}"
level = "core"
minutes = 20
after = []
needs = []
forbid = []
hints = ["a nudge", "a larger one", "nearly the answer"]

[[follow_ups]]
question = "What would an interviewer ask next?"
answer = "What an expert would answer."

[[follow_ups]]
question = "And then?"
answer = "What an expert would answer."
"""

SUITE = '''"""Hidden suite for {path}."""

import pytest

from grader.compare import assert_close


class TestValues:
    @pytest.mark.part("{slug}")
    def test_values(self, submission, random):
        """the values are right"""
        x = random.uniform(2.0, 3.0)
        assert_close(submission.{slug}(x), x**2, what="the square")
'''

MISTAKE = """
## doubled
the number is doubled; it is multiplied by itself
@@ -17,3 +17,3 @@
     ### BEGIN SOLUTION
-    return x * x
+    return x + x
     ### END SOLUTION
"""

ACCEPTED = """\
def {slug}(x):
    return x**2
"""


def write(path: str) -> list[Path]:
    """Write the files of `TRACK/SLUG`. Raises UsageError when the name is bad or taken."""
    track, _, slug = path.partition("/")
    if not (NAME.fullmatch(track) and NAME.fullmatch(slug)):
        raise UsageError(f"`{path}` is no path for an exercise; write it as `track/slug`, lower case")
    if slug in {exercise.slug for exercise in exercises()}:
        raise UsageError(f"there already is an exercise called `{slug}`; slugs are unique")
    words = {"title": slug.replace("_", " ").capitalize(), "slug": slug, "path": path}
    folder = SUITES / track / slug
    files = {
        content() / "solutions" / track / f"{slug}.py": SOLUTION.format(**words),
        folder / "card.toml": CARD.format(**words),
        folder / "suite.py": SUITE.format(**words),
        folder / "mistakes.diff": blocks.MISTAKES + MISTAKE,
        folder / "accepted" / "power.py": ACCEPTED.format(**words),
    }
    for file, text in files.items():
        if file.exists():
            raise UsageError(f"`{file}` exists already")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    exercises.cache_clear()
    return list(files)
