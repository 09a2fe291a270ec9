"""Everything the kit raises on purpose. Layer 0.

GraderError
├── UsageError          the person asked for something that is not there (exit code 2)
│   └── UnknownExercise
├── SubmissionError     the learner's file cannot be graded: its message is the verdict
└── Fault               the kit is broken (exit code 3)
"""

from __future__ import annotations

from grader.verdict import Place


class GraderError(Exception):
    """What every error of the kit derives from."""


class UsageError(GraderError):
    """A command was given something that cannot be; the message says what to do."""


class UnknownExercise(UsageError):
    def __init__(self, name: str, near: list[str]) -> None:
        self.name, self.near = name, near
        hint = f"did you mean {', '.join(f'`{n}`' for n in near)}?" if near else "`grade list` shows them all"
        super().__init__(f"no exercise or track `{name}`\n\nhint: {hint}")


class SubmissionError(GraderError):
    """The learner's file is missing, unreadable or not Python; with a place where one line is to blame."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place


class Fault(GraderError):
    """The kit's own fault: a suite that does not load, a sandbox that does not start."""
