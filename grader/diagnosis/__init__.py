"""Names the mistake: the failing calls, replayed on every catalogued mistake. Layer 3.

A mistake explains a failing call when its result equals the learner's and differs from the
solution's. Results are kept by content, so that a mistake is executed once for each call.
"""

from __future__ import annotations

from grader.diagnosis.naming import name, stateful
from grader.diagnosis.replay import Failing, Recall, Replay

__all__ = ["Failing", "Recall", "Replay", "name", "stateful"]
