"""`grade init DIR`: a workspace with every stub."""

from __future__ import annotations

import os
from pathlib import Path

import click

from grader import workspace
from grader.cli.screen import Screen
from grader.render.text import plural


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
def init(directory: Path) -> None:
    """Write the stubs into DIRECTORY (default: here). Files that are there stay as they are."""
    done = workspace.init(directory)
    screen = Screen.here()
    kept = (
        f"; {plural(len(done.kept), 'file')} stayed as they were"
        if len(done.kept) != 1
        else "; 1 file stayed as it was"
    )
    screen.result(f"{plural(len(done.written), 'stub')} written to `{directory}`{kept if done.kept else ''}")
    change = f"`cd {directory}`, then " if done.workspace.root != Path(os.getcwd()) else ""
    screen.result(f"\nhint: {change}`grade next` names an exercise to begin with")
