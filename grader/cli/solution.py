"""`grade solution SLUG`: the kit's answer, once you have your own."""

from __future__ import annotations

from pathlib import Path

import click

from grader import source
from grader.cli.session import ExerciseName, Session
from grader.errors import UsageError
from grader.exercise import Exercise
from grader.render.text import bad, good, paragraph, safe, strong


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="SLUG")
@click.option("--diff", is_flag=True, help="show how your answer differs from it")
@click.option("--anyway", is_flag=True, help="before you passed")
def solution(exercise: Exercise, diff: bool, anyway: bool) -> None:
    """Print the kit's answer and an interviewer's follow-up questions, after you passed."""
    session = Session.anywhere()
    if not anyway and exercise.path not in session.passed():
        raise UsageError(
            f"you have not passed `{exercise.slug}` yet\n\n"
            f"hint: `grade hint {exercise.slug}` gives the next hint; `--anyway` shows the solution all the same"
        )
    if diff:
        session.screen.result(_diff(exercise.text, _own_file(exercise, session)))
        return
    session.screen.result(source.answer(exercise.text))
    width = session.screen.width
    session.screen.result(strong("\nan interviewer may go on:"))
    for question, answer in exercise.card.follow_ups:
        session.screen.result("\n" + paragraph("- ", question, width) + "\n" + paragraph("  ", answer, width))


def _own_file(exercise: Exercise, session: Session) -> Path:
    place = session.workspace or Session.inside().workspace
    assert place is not None
    return place.file(exercise)


def _diff(solution_text: str, mine: Path) -> str:
    """The diff with its signs coloured; raises SubmissionError when the learner's file does not parse."""
    lines = source.diff(source.read(mine).text, solution_text).splitlines()
    if not lines:
        return "your answer is the solution, to the letter"
    return "\n".join(_coloured(safe(line)) for line in lines)


def _coloured(line: str) -> str:
    return good(line) if line.startswith("+") else bad(line) if line.startswith("-") else line
