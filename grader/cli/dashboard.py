"""`grade` alone: where you are, and what is next. Runs nothing and imports nothing heavy."""

from __future__ import annotations

import time

from grader import catalog
from grader.cli.session import Session, describe
from grader.progress import due_entries, next_entry
from grader.render import overview
from grader.verdict import ExitCode


def dashboard(as_json: bool) -> int:
    """Print where every track stands, what is due again, what was begun, and what is next."""
    session = Session.anywhere()
    entries, standings, now = catalog.entries(), session.standings(), time.time()
    following = next_entry(entries, {name for name, standing in standings.items() if standing.passed})
    due = due_entries(entries, standings, now)
    if as_json:
        session.screen.json(
            {
                "workspace": str(session.workspace.root) if session.workspace else None,
                "tracks": [
                    {"track": row.track, "passed": row.passed, "exercises": row.exercises}
                    for row in overview.tracks(entries, standings)
                ],
                "due": [describe(entry, standings.get(entry.path)) for entry in due],
                "begun": [describe(e, standings[e.path]) for e in overview.begun(entries, standings)],
                "next": describe(following, standings.get(following.path)) if following else None,
            }
        )
        return ExitCode.PASSED
    page = overview.dashboard(entries, standings, due, following, now=now, width=session.screen.width)
    session.screen.result(page)
    if session.workspace is None:
        session.screen.note("\nhint: this is no workspace; `grade init DIR` makes one, `grade demo` shows a verdict")
    return ExitCode.PASSED
