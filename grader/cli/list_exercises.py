"""`grade list`: every exercise, and where you stand."""

from __future__ import annotations

import click

from grader import catalog
from grader.card import Level
from grader.cli.session import Session, complete_names, describe, json_option, select
from grader.render import overview


@click.command("list")
@click.argument("names", nargs=-1, metavar="[TRACK]...", shell_complete=lambda _c, _p, text: complete_names(text))
@click.option("--level", type=click.Choice([str(level) for level in Level]), help="only this level")
@click.option("--todo", is_flag=True, help="only what is not passed yet")
@json_option
def list_(names: tuple[str, ...], level: str | None, todo: bool, as_json: bool) -> None:
    """List every exercise by track with its level, minutes, and your points or pass."""
    session = Session.anywhere()
    standings = session.standings()
    wanted = {exercise for name in names or ("all",) for exercise in select(name)}
    passed = {name for name, standing in standings.items() if standing.passed}
    shown = [
        exercise
        for exercise in catalog.exercises()
        if exercise in wanted and level in (None, exercise.card.level) and not (todo and exercise.path in passed)
    ]
    if as_json:
        session.screen.json([describe(exercise, standings.get(exercise.path)) for exercise in shown])
    elif shown:
        session.screen.result(overview.listing(shown, standings, session.screen.width))
    else:
        session.screen.note("no exercise is like that\n\nhint: `grade list` shows them all")
