"""Workflow commands, which GitHub shows as annotations of the lines. Layer 4.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions; how they are escaped is in the
toolkit's packages/core/src/command.ts.
"""

from __future__ import annotations

from grader.render.formats.remark import PATH, Remark, remarks
from grader.render.text import cut
from grader.verdict import Verdict

COMMANDS = {"error": "error", "note": "notice"}


def render(verdict: Verdict, file: str) -> str:
    """A command for each remark; empty for a pass. `file` is the path from the repository's top."""
    return "\n".join(_command(remark, cut(file, PATH), verdict.exercise) for remark in remarks(verdict))


def _command(remark: Remark, file: str, exercise: str) -> str:
    part = f" ({remark.part})" if remark.part else ""
    properties = {
        "file": file,
        "line": remark.line,
        "col": remark.column,
        "endLine": remark.end_line,
        "title": f"{remark.title or exercise}{part}",
    }
    written = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{COMMANDS[remark.severity]} {written}::{_data(remark.text or remark.line_text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
