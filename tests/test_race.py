"""Wall clock against wall clock: sure verdicts, and the benefit of the doubt."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from grader import catalog, race, source
from grader.cost import TooCostly
from grader.remote.calls import Code, Runner
from grader.remote.submission import Submission

GAP = catalog.find("maximum_gap")


def clocked(*spans):
    """A timed run that takes the given times, over and over."""
    turns = itertools.cycle(spans)
    return lambda: next(turns)


def test_clearly_faster_and_clearly_slower():
    race.assert_not_slower(clocked(1.0), clocked(1.0), at_most=2.0)
    with pytest.raises(TooCostly, match="got      5 times as long"):
        race.assert_not_slower(clocked(5.0), clocked(1.0), at_most=2.0)


def test_few_pairs_when_it_is_clear():
    runs = []

    def learner():
        runs.append(1)
        return 1.0

    race.assert_not_slower(learner, clocked(1.0), at_most=2.0)
    assert len(runs) == 1 + race.MIN_PAIRS  # one to warm up


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_fails_an_answer_that_is_as_fast(seed):
    noise = random.Random(seed)
    same = lambda: 1.0 + (noise.random() < 0.3) * 9.0 + noise.random()  # noqa: E731 (a machine that is busy at times)
    race.assert_not_slower(same, same, at_most=2.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_saves_an_answer_that_is_ten_times_as_slow(seed):
    noise = random.Random(seed)
    slow, fast = (
        (lambda factor: lambda: factor * (1.0 + 0.5 * noise.random()))(10.0),
        lambda: 1.0 + 0.5 * noise.random(),
    )
    with pytest.raises(TooCostly):
        race.assert_not_slower(slow, fast, at_most=3.0)


def test_the_interval_covers_the_median():
    noise = random.Random(1)
    covered = 0
    for _ in range(400):
        low, high = race.interval([noise.gauss(5.0, 2.0) for _ in range(15)])
        covered += low <= 5.0 <= high
    assert covered >= 0.93 * 400


def test_the_clock_covers_the_whole_run():
    assert race.clock(lambda: time.sleep(0.02)) >= 0.02


@pytest.mark.alone
def test_a_slow_answer_loses_a_real_race(engine):
    """Through the sandbox: the solution against itself, and against a quadratic one."""
    engine.warm(GAP)
    zygote = engine.pool.zygote(())
    solution = GAP.text
    slow = "def maximum_gap(nums):\n    import time\n    time.sleep(0.2)\n    return 0\n"
    inputs = lambda: (([random.randrange(10**6) for _ in range(2000)],), {})  # noqa: E731
    for text, wins in ((solution, True), (slow, False)):
        runner, reference = (Runner(zygote, Code(t, "x.py"), engine.limits) for t in (text, solution))
        submission = Submission(runner, reference, source.read(GAP.solution), GAP.parts, seed=0)
        submission._begin("race")
        if wins:
            submission.race("maximum_gap", inputs, at_most=20.0)
        else:
            with pytest.raises(TooCostly, match="slower than allowed"):
                submission.race("maximum_gap", inputs, at_most=3.0)
        runner.close()
        reference.close()
