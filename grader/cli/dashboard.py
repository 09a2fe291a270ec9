"""`grade` alone: where you are, and what is next. Runs nothing and imports nothing heavy."""

from __future__ import annotations

import time

from grader import catalog
from grader.cli.exit_code import ExitCode
from grader.cli.session import Session, describe
from grader.curriculum import due_exercises, next_exercise
from grader.render import overview


def dashboard(as_json: bool) -> int:
    """Print where every track stands, what is due again, what was begun, and what is next."""
    session = Session.anywhere()
    exercises, standings, now = catalog.exercises(), session.standings(), time.time()
    following = next_exercise(exercises, {name for name, standing in standings.items() if standing.passed})
    due = due_exercises(exercises, standings, now)
    if as_json:
        session.screen.json(
            {
                "workspace": str(session.workspace.root) if session.workspace else None,
                "tracks": [
                    {"track": row.track, "passed": row.passed, "exercises": row.exercises}
                    for row in overview.tracks(exercises, standings)
                ],
                "due": [describe(exercise, standings.get(exercise.path)) for exercise in due],
                "begun": [describe(e, standings[e.path]) for e in overview.begun(exercises, standings)],
                "next": describe(following, standings.get(following.path)) if following else None,
            }
        )
        return ExitCode.PASSED
    page = overview.dashboard(exercises, standings, due, following, now=now, width=session.screen.width)
    session.screen.result(page)
    if session.workspace is None:
        session.screen.note("\nhint: this is no workspace; `grade init DIR` makes one, `grade demo` shows a verdict")
    return ExitCode.PASSED
