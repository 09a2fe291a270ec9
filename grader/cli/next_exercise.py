"""`grade next`: which exercise to do next."""

from __future__ import annotations

import click

from grader import catalog
from grader.cli.session import Session, complete_names, describe, json_option, select
from grader.curriculum import next_exercise
from grader.render import overview


@click.command("next")
@click.argument("track", required=False, shell_complete=lambda _c, _p, text: complete_names(text))
@json_option
def next_(track: str | None, as_json: bool) -> None:
    """Name the next exercise: not passed, its prerequisites passed, the easiest and shortest first."""
    session = Session.anywhere()
    standings = session.standings()
    passed = {name for name, standing in standings.items() if standing.passed}
    following = next_exercise(catalog.exercises(), passed, among=select(track) if track else None)
    if as_json:
        session.screen.json(describe(following, standings.get(following.path)) if following else None)
    else:
        session.screen.result("\n".join(overview.next_lines(following, session.screen.width)))
