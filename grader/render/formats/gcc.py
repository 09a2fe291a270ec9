"""`path:line:col: error: message [part]`, as compilers write and every editor reads. Layer 4."""

from __future__ import annotations

from grader.render.formats.remark import PATH, Remark, remarks
from grader.render.text import cut
from grader.verdict import Verdict


def render(verdict: Verdict, file: str) -> str:
    """A line for each remark; empty for a pass. `file` is how the editor finds the learner's file."""
    return "\n".join(_line(remark, cut(file, PATH)) for remark in remarks(verdict))


def _line(remark: Remark, file: str) -> str:
    said = ": ".join(filter(None, [remark.title, remark.line_text]))
    part = f" [{remark.part}]" if remark.part else ""
    return f"{file}:{remark.line}:{remark.column}: {remark.severity}: {said}{part}"
