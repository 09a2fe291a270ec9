"""What comes out of the engine. Layer 3."""

from __future__ import annotations

from dataclasses import dataclass

from grader import repro
from grader.order import Order
from grader.remote.calls import Call
from grader.remote.submission import Trial
from grader.verdict import Verdict


@dataclass(frozen=True)
class Report:
    """What came of an order.

    failing  the plainest call whose result is wrong, if a call failed and the mistake was looked for
    trials   the failed tests with their calls
    text     what was graded; None where it could not be read
    """

    order: Order
    verdict: Verdict
    failing: Call | None = None
    trials: tuple[Trial, ...] = ()
    text: str | None = None

    @property
    def repro(self) -> str | None:
        """A script that repeats the failing call under any debugger."""
        return repro.script(self.order.file, self.failing) if self.failing else None
