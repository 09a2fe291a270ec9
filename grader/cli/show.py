"""`grade show SLUG`: the statement."""

from __future__ import annotations

import re

import click

from grader import catalog
from grader.cli.session import ExerciseName, Session, describe, json_option
from grader.errors import UnknownExercise
from grader.exercise import Exercise
from grader.render.text import paragraph, strong


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="SLUG")
@json_option
def show(exercise: Exercise, as_json: bool) -> None:
    """Print the statement of an exercise, its parts, rules and prerequisites."""
    session = Session.anywhere()
    standings = session.standings()
    if as_json:
        more = {
            "statement": exercise.statement,
            "parts": [{"name": part.name, "signature": part.signature} for part in exercise.parts],
            "given": list(exercise.given),
            "forbid": list(exercise.card.forbid),
            "needs": list(exercise.card.needs),
        }
        session.screen.json({**describe(exercise, standings.get(exercise.path)), **more})
        return
    _print_statement(exercise.statement, session)
    passed = {name for name, standing in standings.items() if standing.passed}
    session.screen.result(_facts(exercise, passed, session))


def _print_statement(statement: str, session: Session) -> None:
    # rich comes in here only: importing its Markdown takes as long as the whole dashboard
    from rich.console import Console

    from grader.render.statement import Statement

    # rich ignores a width without a height where TERM is "dumb"
    console = Console(
        width=session.screen.width,
        height=25,
        no_color=not session.screen.colour,
        force_terminal=session.screen.colour,
    )
    with console.capture() as capture:
        console.print(Statement(statement), crop=False)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    session.screen.result(
        re.sub(r"\n(?:(?:\x1b\[[0-9;]*m|\s)*\n){2,}", "\n\n", text)
    )  # rich pads code with blank lines


def _facts(exercise: Exercise, passed: set[str], session: Session) -> str:
    width, card = session.screen.width, exercise.card
    lines = ["", f"{strong(card.title)} ({card.level}, {card.minutes} min)", "", "parts:"]
    lines += [paragraph("", part.signature, width, by=2) for part in exercise.parts]
    if exercise.given:
        lines += ["", "given, complete in the file:"]
        lines += [paragraph("", signature, width, by=2) for signature in exercise.given]
    if card.forbid:
        lines += ["", paragraph("not allowed: ", ", ".join(card.forbid), width)]
    if card.after:
        done = [f"{slug} ({'passed' if _path(slug) in passed else 'not passed'})" for slug in card.after]
        lines += ["", paragraph("best after: ", ", ".join(done), width)]
    file = session.shown(session.workspace.file(exercise)) if session.workspace else str(exercise.stub_path)
    hint = paragraph("hint: ", f"write your answer into `{file}`, then `grade {exercise.slug}`", width)
    return "\n".join([*lines, "", hint])


def _path(slug: str) -> str:
    try:
        return catalog.find(slug).path
    except UnknownExercise:
        return slug
