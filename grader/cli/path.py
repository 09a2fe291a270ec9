"""`grade path`: the way to an exercise, through what it builds on."""

from __future__ import annotations

import click

from grader import catalog
from grader.cli.session import Session, complete_names, describe, json_option, select
from grader.progress import path_to
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
    chosen = [entry for name in names or ("all",) for entry in select(name)]
    order = path_to(chosen, catalog.entries())
    if as_json:
        session.screen.json([describe(entry, standings.get(entry.path)) for entry in order])
    else:
        session.screen.result(overview.path(order, standings, session.screen.width))
