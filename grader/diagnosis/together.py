"""Several mistakes made at once, as in a bug hunt: how many are left to find, and which. Layer 3.

Only for exercises whose mistakes can be planted together (`composes`). The search goes from calls that few
mistakes can matter to up to those that all can; what is found on the way must hold for all that follow.
"""

from __future__ import annotations

import itertools

from grader.diagnosis.replay import Failing, Replay
from grader.mistake import Mistake
from grader.verdict import Diagnosis

MOST = 5  # mistakes at once
LOOKS = 400  # results that are looked at, at most: a count, so that slow and fast machines give one verdict
STUCK = 3  # metered calls that nothing explains, after which no more is sought: they take long


def together(replay: Replay, failing: list[Failing], named: list[Mistake]) -> list[Diagnosis]:
    """Two mistakes or more that explain the failing calls together; none when one of `named` does, or none are found.

    Each explains as many calls as are not explained without it.
    """
    items = [item for item in failing if not item.got.ended]  # a hang would be waited for again and again
    if any(len(replay.explained(items, one)) == len(items) for one in named):
        return []
    found = _Search(replay, items).run()
    done = replay.explained(items, *found)
    result = []
    for one in found:
        without = replay.explained(done, *(other for other in found if other is not one))
        if needed := len(done) - len(without):
            result.append(Diagnosis(one.name, one.says, needed, len(items), together=len(done)))
    return result if len(result) > 1 else []


class _Search:
    """The mistakes found so far, and the calls that they explain."""

    def __init__(self, replay: Replay, items: list[Failing]) -> None:
        self.replay = replay
        self.likely = {item: replay.reach.mistakes(item.call) for item in items}
        self.items = sorted(items, key=lambda item: (item.call.metered, len(self.likely[item])))
        self.found: tuple[Mistake, ...] = ()
        self.done: list[Failing] = []
        self.stuck = 0
        self.end = replay.looked + LOOKS

    def run(self) -> tuple[Mistake, ...]:
        for item in self.items:
            if len(self.found) >= MOST or self.stuck == STUCK or self.replay.looked > self.end:
                break
            if not self._explained([item]):
                new = self._more(item)
                self.found += new
                if not new:
                    continue
            self.done.append(item)
        return self.found[:MOST]

    def _explained(self, items: list[Failing], *new: Mistake) -> list[Failing]:
        return self.replay.explained(items, *self.found, *new)

    def _more(self, item: Failing) -> tuple[Mistake, ...]:
        """The mistake, or the two, that explain a call and leave what is explained; of several, what explains most."""
        rest = [mistake for mistake in self.likely[item] if mistake not in self.found]
        good: list[tuple[Mistake, ...]] = [(one,) for one in rest if self._fits(item, one)]
        if not good and not item.call.metered:
            changing = [one for one in rest if self.replay.changed(item, one)]
            pairs = itertools.islice(itertools.combinations(changing, 2), max(0, self.end - self.replay.looked))
            good = [two for two in pairs if self._fits(item, *two)]
        self.stuck += item.call.metered and not good
        if len(good) < 2:
            return good[0] if good else ()
        return max(good, key=lambda new: len(self._explained(self.items, *new)))

    def _fits(self, item: Failing, *new: Mistake) -> bool:
        before = [done for done in self.done if any(one in self.likely[done] for one in new)]
        return bool(self._explained([item], *new)) and len(self._explained(before, *new)) == len(before)
