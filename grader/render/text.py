"""Text that is safe to print, and fits. Layer 4.

What comes from learners' code may hold anything: escape sequences that repaint the terminal, bidirectional
overrides that reorder a line, half surrogates. `safe` takes them out. Styles are plain ANSI codes, added last;
`click.echo` drops them where there is no colour, so no meaning may hang on them.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata

import click

SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|[\]PX^_].*?(?:\x07|\x1b\\|\Z)"  # OSC, DCS, SOS, PM, APC: titles, links, up to the terminator
    r"|[ -/]*[0-~])"  # two-character ones
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
ROW = re.compile(r" *\S+(?: \S+){0,2} {2,}(?=\S)")  # `expected    tensor ...`
# Cc control, Cf format (bidirectional marks among them), Cs surrogates, Co private use, Zl and Zp separators
DROPPED = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
MIN_WIDTH, MAX_WIDTH = 40, 120


def safe(text: str) -> str:
    """The text without control characters; newlines stay, tabs become spaces."""
    text = SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in DROPPED)


def clamp(width: int) -> int:
    return max(MIN_WIDTH, min(width, MAX_WIDTH))


def indent(text: str, by: int, width: int) -> str:
    """The text's own lines, indented; what is too long goes on further in, or under the second column of a row."""
    return "\n".join(_wrapped(" " * by + line, width) for line in safe(text).rstrip("\n").split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width or not line.strip():
        return line.rstrip()
    margin = " " * min(len(line) - len(line.lstrip()), width // 2)
    row = ROW.match(line)
    hanging = " " * row.end() if row and row.end() <= width // 2 else margin + "  "
    pieces = textwrap.wrap(
        line.strip(),
        width,
        initial_indent=margin,
        subsequent_indent=hanging,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return "\n".join(pieces)


def paragraph(label: str, text: str, width: int, *, by: int = 0) -> str:
    """`label: text`, wrapped, with what follows under the text."""
    lead = " " * by + label
    return textwrap.fill(
        safe(text).replace("\n", " "),
        width,
        initial_indent=lead,
        subsequent_indent=" " * (len(lead) if len(lead) <= width // 2 else by + 2),
        break_on_hyphens=False,
    )


def cut(text: str, width: int) -> str:
    """The first line, cut to a width with an ellipsis."""
    line = safe(text).strip("\n").split("\n", 1)[0].rstrip()
    return line if len(line) <= width else line[: max(0, width - 3)].rstrip() + "..."


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def good(text: str) -> str:
    return click.style(text, fg="green")


def bad(text: str) -> str:
    return click.style(text, fg="red")


def warn(text: str) -> str:
    return click.style(text, fg="yellow")


def strong(text: str) -> str:
    return click.style(text, bold=True)


def faint(text: str) -> str:
    return click.style(text, dim=True)
