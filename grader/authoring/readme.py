"""The README's tables of the exercises and of what their suites reject, written before a release.

Not with every exercise: two branches that each add one would meet in these lines.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from grader.authoring import record
from grader.catalog import content, exercises
from grader.exercise import Exercise


def file() -> Path:
    return content() / "README.md"


def stale() -> bool:
    """Whether there is a README with other tables."""
    return file().is_file() and file().read_text(encoding="utf-8") != _filled()


def write() -> bool:
    """Bring the tables up to date. Returns whether they were not."""
    if outdated := stale():
        file().write_text(_filled(), encoding="utf-8")
    return outdated


def _filled() -> str:
    text = file().read_text(encoding="utf-8")
    for mark, table in (("exercises", exercise_table()), ("teeth", teeth_table())):
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        text = re.sub(f"(?<={begin}).*?(?={end})", table.replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


def exercise_table() -> str:
    rows = ["| exercise | parts | level | minutes |", "| --- | --- | --- | --- |"]
    for exercise in exercises():
        if exercise.solution.is_file():
            names = ", ".join(f"`{part.name}`" for part in exercise.parts)
            card = exercise.card
            link = f"[{exercise.path}]({exercise.stub_path}): {card.title}"
            rows.append(f"| {link} | {names} | {card.level} | {card.minutes} |")
    return "\n".join(rows) + "\n"


def teeth_table() -> str:
    """What each suite rejects and accepts, as measured and committed."""
    rows = ["| exercise | tests | mistakes named | mutants killed | equivalent | correct variants |"]
    rows.append("| --- | --: | --: | --: | --: | --: |")
    measured = {
        exercise.path: _figures(exercise, known) for exercise in exercises() if (known := record.score(exercise))
    }
    if measured:
        measured["together"] = [sum(column) for column in zip(*measured.values(), strict=True)]
    for name, (tests, mistakes, killed, mutants, equivalent, variants) in measured.items():
        figures = tests, mistakes, f"{killed} of {mutants}", equivalent, variants
        rows.append(f"| {name} | {' | '.join(map(str, figures))} |")
    return "\n".join(rows) + "\n"


def _figures(exercise: Exercise, known: dict[str, Any]) -> list[int]:
    equivalent = len(known["equivalent"])
    mutants = known["mutants"] - equivalent
    return [known["tests"], known["mistakes"], known["killed"], mutants, equivalent, len(exercise.styles)]
