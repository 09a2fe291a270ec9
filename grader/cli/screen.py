"""Where a command writes: results to stdout, everything else to stderr. Layer 5."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TextIO

import click

from grader.render.text import bad, clamp, cut, safe


def has_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """NO_COLOR wins over FORCE_COLOR, which wins over what the stream is; see no-color.org."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


@dataclass(frozen=True)
class Screen:
    width: int
    colour: bool  # of stdout
    error_colour: bool
    live: bool  # stderr is a terminal: progress may overwrite itself there

    @staticmethod
    def here() -> Screen:
        width = clamp(shutil.get_terminal_size().columns)
        live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return Screen(width, has_colour(sys.stdout, os.environ), has_colour(sys.stderr, os.environ), live)

    def still(self) -> Screen:
        """Without progress, where another program reads along: it would stand at the head of a line."""
        return replace(self, live=False)

    def result(self, text: str) -> None:
        click.echo(text.removesuffix("\n"), color=self.colour)

    def json(self, data: Any, *, indent: int | None = 2) -> None:
        """ASCII, so that it survives any terminal and pipe."""
        click.echo(json.dumps(data, indent=indent))

    def note(self, text: str) -> None:
        click.echo(text, err=True, color=self.error_colour)

    def error(self, text: str) -> None:
        self.note(bad("error:") + " " + safe(text))

    @contextmanager
    def status(self, text: str) -> Iterator[Callable[[str], None]]:
        """A line on stderr that says what is going on and vanishes; nothing where stderr is no terminal."""
        if not self.live:
            yield lambda _: None
            return

        def show(what: str) -> None:
            sys.stderr.write(f"\r\x1b[K{cut(what, self.width - 1)}")
            sys.stderr.flush()

        show(text)
        try:
            yield show
        finally:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
