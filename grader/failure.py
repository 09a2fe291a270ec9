"""A check that failed: what it says in fields, and the one place where these become a message. Layer 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from textwrap import indent

from grader.verdict import Details, TestResult

ROWS = ("example", "allowed", "expected", "got", "where", "how_far", "tolerance", "looks_like", "note")
ROW = 4000  # characters of a field, whatever it quotes
BESIDE = 11 * " "  # under what stands behind `the call`
STATEFUL = (
    "run by itself, the same call gives another result: it depends on earlier calls\n\n"
    "hint: look for a default argument that is changed, a cache, or a global"
)


class Failure(AssertionError):
    """What a failed check raises.

    Its details may be given as a function: where only the fact counts, as when two results are merely compared,
    nobody pays for the words.
    """

    def __init__(self, details: Details | Callable[[], Details]) -> None:
        super().__init__(details)
        self._details = details

    @cached_property
    def details(self) -> Details:
        return self._details if isinstance(self._details, Details) else self._details()

    def __str__(self) -> str:
        return text(self.details)


def cut(quoted: object) -> str:
    """A field's text, bounded."""
    words = str(quoted)
    return words if len(words) <= ROW else f"{words[:ROW]} ... ({len(words)} characters)"


def text(details: Details) -> str:
    """What a check says: the headline, an aligned row for each field, the traceback, the hint."""
    rows = {name.replace("_", " "): words for name in ROWS if (words := getattr(details, name))}
    width = max(map(len, rows), default=0) + 2
    lines = [f"{name:<{width}}{words.replace(chr(10), chr(10) + ' ' * width)}" for name, words in rows.items()]
    block = "\n".join(filter(None, [details.headline, *lines]))
    hint = details.hint and f"hint: {details.hint}"
    return "\n\n".join(filter(None, [block, details.trace, hint]))


def message(test: TestResult) -> str:
    """What a learner reads under a test: what its check says, and the call that led to it."""
    if test.details is None:
        return ""
    paragraphs = [text(test.details)]
    if test.call:
        last = f"\nthe last of {test.calls} that this test made" if test.calls > 1 else ""
        paragraphs.append("the call   " + indent(test.call + last, BESIDE).lstrip())
    if test.details.stateful:
        paragraphs.append(STATEFUL)
    return "\n\n".join(paragraphs)
