"""`grade solution SLUG`: the kit's answer, once you have your own."""

from __future__ import annotations

from pathlib import Path

import click

from grader import source
from grader.cli.session import ExerciseName, Session, find
from grader.errors import UnknownExercise, UsageError
from grader.exercise import Exercise
from grader.render.text import bad, good, paragraph, safe, strong


def complete_style(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The styles of the exercise that is named before; none where that is no exercise."""
    try:
        exercise = find(str(ctx.params.get("exercise")))
    except UnknownExercise:
        return []
    return [name for name in exercise.styles if name.startswith(incomplete)]


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="SLUG")
@click.option("--diff", is_flag=True, help="show how your answer differs from it")
@click.option("--style", metavar="NAME", shell_complete=complete_style, help="another right answer, in this style")
@click.option("--anyway", is_flag=True, help="before you passed")
def solution(exercise: Exercise, diff: bool, style: str | None, anyway: bool) -> None:
    """Print the kit's answer and an interviewer's follow-up questions, after you passed.

    Other right answers, with --style: the same in einsum, in place, in loops; those that there are stand under it.
    """
    session = Session.anywhere()
    if not anyway and exercise.path not in session.passed():
        raise UsageError(
            f"you have not passed `{exercise.slug}` yet\n\n"
            f"hint: `grade hint {exercise.slug}` gives the next hint; `--anyway` shows the solution all the same"
        )
    text = _styled(exercise, style) if style else exercise.text
    if diff:
        session.screen.result(_diff(text, _own_file(exercise, session)))
        return
    session.screen.result(source.answer(text))
    width = session.screen.width
    if others := [name for name in exercise.styles if name != style]:
        hint = f"{', '.join(others)}: `grade solution {exercise.slug} --style {others[0]}`"
        session.screen.result(paragraph("other right answers: ", hint, width))
    session.screen.result(strong("\nan interviewer may go on:"))
    for question, answer in exercise.card.follow_ups:
        session.screen.result("\n" + paragraph("- ", question, width) + "\n" + paragraph("  ", answer, width))


def _styled(exercise: Exercise, style: str) -> str:
    """The text of a right answer in another style. Raises UsageError, which names those that there are."""
    if style not in exercise.styles:
        known = ", ".join(exercise.styles) or "none"
        raise UsageError(f"`{exercise.slug}` has no answer in the style `{style}`\n\nhint: there are {known}")
    return exercise.styles[style].read_text(encoding="utf-8")


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
