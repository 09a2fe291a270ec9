"""Derives what is derived: the stubs, and the tables of the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grader import source
from grader.authoring import record
from grader.catalog import content, exercises
from grader.errors import SubmissionError
from grader.exercise import Exercise


def derived() -> Iterator[tuple[Path, str]]:
    """Every derived file with the text that it must have."""
    for exercise in exercises():
        if exercise.solution.is_file():
            yield exercise.stub, exercise.stub_text
    readme = content() / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        for mark, table in (("exercises", exercise_table()), ("teeth", teeth_table())):
            begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
            text = re.sub(f"(?<={begin}).*?(?={end})", table.replace("\\", r"\\"), text, flags=re.DOTALL)
        yield readme, text


def stale() -> list[Path]:
    """The derived files that are missing or not what is derived."""
    return [path for path, text in derived() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def orphans() -> list[Path]:
    """Stubs without a solution."""
    expected = {exercise.stub for exercise in exercises() if exercise.solution.is_file()}
    found = [*(content() / "exercises").glob("*/*.py"), *(content() / "leetcode").glob("*.py")]
    return sorted(path for path in found if path not in expected)


def answered(path: Path, stub: str) -> bool:
    """Whether a file where a stub belongs holds somebody's work: a part is filled in, or it does not parse."""
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        file = source.read(path)
    except SubmissionError:
        return path.stat().st_size > 0
    defined = {name for node in file.definitions().values() for name, _ in source.functions(node)}
    return bool(source.parse(path, stub).stubs().keys() & (defined - file.stubs().keys()))


def write() -> tuple[list[Path], list[Path]]:
    """Write the derived files that are not what they must be. Returns those written, and the answers left alone."""
    texts = dict(derived())
    outdated = stale()
    answers = [path for path in outdated if answered(path, texts[path])]
    written = [path for path in outdated if path not in answers]
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    return written, answers


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
