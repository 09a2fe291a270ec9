"""`grade path`: the way to an exercise, through what it builds on."""

from __future__ import annotations

import click

from grader import catalog
from grader.cli.session import Session, complete_names, describe, json_option, select
from grader.curriculum import path_to
from grader.render import overview


@click.command()
@click.argument(
    "names", nargs=-1, metavar="[SLUG | TRACK]...", shell_complete=lambda _c, _p, text: complete_names(text)
)
@json_option
def path(names: tuple[str, ...], as_json: bool) -> None:
    """List exercises in an order that has every prerequisite first; without a name, all of them."""
    session = Session.anywhere()
    standings = session.standings()
    chosen = [exercise for name in names or ("all",) for exercise in select(name)]
    order = path_to(chosen, catalog.exercises())
    if as_json:
        session.screen.json([describe(exercise, standings.get(exercise.path)) for exercise in order])
    else:
        session.screen.result(overview.path(order, standings, session.screen.width))
