"""Writes the table of attacks in docs/security.md, and its sum in the README, from a real run.

python -m tests.adversarial.table
"""

from __future__ import annotations

import re
import sys

from . import THEMES
from .case import Case
from .play import ROOT, best_tier, play_case

PAGE = ROOT / "docs" / "security.md"
README = ROOT / "README.md"
PLACE = re.compile(r"(?<=<!-- attacks -->\n).*?(?=<!-- /attacks -->)", re.DOTALL)
ROW = re.compile(r"^\| `([a-z-]+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
HEAD = "| attack | what is tried | what stops it | sandbox | restricted |\n| --- | --- | --- | --- | --- |\n"
AS_THERE = "as there"


def outcome(case: Case, tier: str, status: str) -> str:
    """A cell of the table."""
    if tier == "restricted" and not case.isolation:
        return AS_THERE
    if case.limit:
        return f"**documented limit**, `{status}`"
    return f"`{status}`" + ("" if tier in case.promised_by else ", **not promised**")


def committed() -> dict[str, tuple[str, ...]]:
    """The rows of the page by name: what is tried, what stops it, and the outcome on each tier."""
    return {name: tuple(cells) for name, *cells in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def summary() -> str:
    """What became of the attacks of the page, in one line."""
    outcomes = [cells[2:] for cells in committed().values()]
    limits = sum(any("documented limit" in cell for cell in cells) for cells in outcomes)
    less = sum(any("not promised" in cell for cell in cells) for cells in outcomes)
    return (
        f"Attacks survived: {len(outcomes) - limits} of {len(outcomes)} in the `sandbox` tier "
        f"(the other {limits} are documented limits), of which `restricted` does not promise {less}.\n"
    )


def row(case: Case) -> str:
    cells = []
    for tier in ("sandbox", "restricted"):
        status = play_case(case, tier).status if tier == "sandbox" or case.isolation else ""
        cells.append(outcome(case, tier, status))
    print(f"{case.name:<28}{'  '.join(cells)}", file=sys.stderr)
    return f"| `{case.name}` | {case.says} | {case.stopped_by} | {' | '.join(cells)} |"


def main() -> None:
    if best_tier() != "sandbox":
        sys.exit("the table needs the sandbox tier; `grade doctor` says what is missing")
    tables = []
    for theme in THEMES:
        title = (theme.__doc__ or "").strip().splitlines()[0].rstrip(".")
        tables.append(f"\n### {title}\n\n{HEAD}" + "\n".join(row(case) for case in theme.CASES) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(PLACE.sub(lambda _: "".join(tables) + "\n", page), encoding="utf-8")
    README.write_text(PLACE.sub(lambda _: summary(), README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
