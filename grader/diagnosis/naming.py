"""Which of the catalogued mistakes explains the failing calls, and which failures hang on earlier calls. Layer 3."""

from __future__ import annotations

from grader.diagnosis.replay import Failing, Replay, same
from grader.diagnosis.together import together
from grader.remote.calls import Runner
from grader.verdict import Diagnosis

MOST = 3  # names at most, where each explains as much as the others
FIRSTS = 4  # failing tests whose first call is tried on every mistake, as long as nothing explains them


def name(replay: Replay, failing: list[Failing]) -> list[Diagnosis]:
    """The mistakes that explain most of the failing calls; none when nothing is explained."""
    if not failing:
        return []
    # a wrong value says more than a cost, and sooner: metered calls and ends only break ties
    ties = [item for item in failing if item.call.metered or item.got.ended]
    items = [item for item in failing if not (item.call.metered or item.got.ended)]
    items, ties = (items, ties) if items else (ties, [])

    scores: dict[str, int] = {}
    likely = {item: replay.reach.mistakes(item.call) for item in _firsts(items)}
    left = sorted(likely, key=lambda item: len(likely[item]))
    for _ in range(FIRSTS):  # a round finds what explains the plainest call that nothing explains yet
        if not left:
            break
        first, *left = left
        for mistake in likely[first]:
            if mistake.name not in scores and replay.explained([first], mistake):
                found = replay.explained(items, mistake)
                scores[mistake.name] = len(found)
                left = [item for item in left if item not in found]
    best = max(scores.values(), default=0)
    named = [mistake for mistake in replay.exercise.mistakes if best and scores.get(mistake.name) == best]
    if len(named) > 1 and ties:
        broken = {mistake.name: len(replay.explained(ties, mistake)) for mistake in named}
        named = [mistake for mistake in named if broken[mistake.name] == max(broken.values())]
    if replay.exercise.card.composes and (several := together(replay, items + ties, named)):
        return several
    return [Diagnosis(mistake.name, mistake.says, best, len(items)) for mistake in named[:MOST]]


def stateful(runner: Runner, failing: list[Failing]) -> set[str]:
    """The tests whose first failing call gives another result in a child of its own."""
    found: set[str] = set()
    for item in _firsts([item for item in failing if not item.got.ended and not item.got.cost]):
        runner.fresh()
        if same(runner.run(item.call), item.got):
            break  # the plainest failure is the same by itself: no need to look further
        found.add(item.test)
    runner.close()
    return found


def _firsts(items: list[Failing]) -> list[Failing]:
    """The first call of each test."""
    return list({item.test: item for item in reversed(items)}.values())[::-1]
