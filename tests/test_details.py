"""What a verdict says of each test: its fields, its place, its costs, and what it was made of."""

from __future__ import annotations

import json

import pytest

from grader import __version__, catalog, digest, failure
from grader.cost import WORDS
from grader.mistake import plant
from grader.order import Order
from grader.verdict import Cause, Outcome, Status

pytestmark = pytest.mark.slow

GAP, ADAMW = catalog.find("maximum_gap"), catalog.find("adamw")
SOLUTION = GAP.text


def mistaken(exercise, name):
    return plant(exercise.text, next(mistake for mistake in exercise.mistakes if mistake.name == name))


def failing(verdict):
    return [test for test in verdict.tests if test.outcome is Outcome.FAILED]


def test_a_failed_check_keeps_its_fields_and_the_message_is_their_rendering(grade):
    verdict = grade("adamw", mistaken(ADAMW, "coupled-decay"), performance=False)
    test = next(test for test in verdict.tests if test.name == "TestValues::test_adamw[decay]")
    details = test.details
    assert details.headline == "parameters after each step[0][0] is wrong"
    assert details.expected.startswith("tensor (3, 4) float64: ")
    assert "12 of 12 elements differ, worst at " in details.where
    assert (details.cells.shape, len(details.cells.got), details.cells.sampled) == ([3, 4], 3, False)
    assert test.call.startswith("trajectory('AdamW', [float64 (3, 4)")
    assert test.message == failure.message(test)
    examples = next(test for test in verdict.tests if test.category == "examples" and test.outcome is Outcome.FAILED)
    assert (examples.details.example, examples.call) == (">>> p.data", "")
    passed = next(test for test in verdict.tests if test.outcome is Outcome.PASSED)
    assert (passed.details, passed.message, passed.call) == (None, "", "")
    json.dumps(verdict.to_json(), allow_nan=False)


RAISING = '''"""Nothing of it is right."""
import math


def helper(x):
    é = 1; return x[0].nothing


def maximum_gap(nums):
    return helper(nums)
'''


def test_a_failing_test_has_its_place(grade):
    """The deepest line of the learner's that raised, else its part."""
    verdict = grade("maximum_gap", RAISING, performance=False)
    raised = next(test for test in failing(verdict) if test.part == "maximum_gap" and test.cause is Cause.RAISED)
    assert (raised.line, raised.column, raised.end_line) == (6, 5, 6)
    assert raised.details.trace.startswith(
        "in your code:\n  line 10, in maximum_gap\n    return helper(nums)\n  line 6"
    )
    assert raised.details.headline == ""
    wrong = grade("maximum_gap", RAISING.replace("return helper(nums)", "return -1"), performance=False)
    assert {(t.line, t.column, t.end_line) for t in failing(wrong) if t.part == "maximum_gap"} == {(9, 1, 10)}
    assert {(t.line, t.column, t.end_line) for t in failing(wrong) if t.part == "statement"} == {(1, 1, 1)}


def test_a_line_that_the_sandbox_makes_up_is_not_believed(grade):
    forged = "exec(compile('\\n' * 500 + 'def maximum_gap(nums): raise KeyError', 'maximum_gap.py', 'exec'))\n"
    verdict = grade("maximum_gap", "maximum_gap = None\n" + forged, performance=False)
    raised = next(test for test in failing(verdict) if test.part == "maximum_gap")
    assert raised.cause is Cause.RAISED
    assert (raised.line, raised.end_line) == (1, 1)  # where the file binds the name


@pytest.mark.parametrize(
    ("text", "status", "line", "column"),
    [
        ("def maximum_gap(nums:\n    pass\n", Status.ERROR, 1, 16),
        ("x = 1\nimport no_such_package\n\ndef maximum_gap(nums):\n    return 1\n", Status.ERROR, 2, 1),
        ("\n", Status.ERROR, None, None),
        ("def other(nums):\n    return 1\n", Status.ERROR, None, None),
        ("def maximum_gap(nums):\n    ...\n", Status.NOT_STARTED, 1, 1),
        ("def maximum_gap(nums):\n    return sorted(nums)\n", Status.RULE_BROKEN, None, None),
        ("raise SystemExit\n\ndef maximum_gap(nums):\n    return 1\n", Status.ERROR, 1, 1),
    ],
)
def test_what_does_not_run_has_its_place_and_max_points(grade, text, status, line, column):
    verdict = grade("maximum_gap", text)
    assert (verdict.status, verdict.line, verdict.column) == (status, line, column)
    assert (verdict.points, verdict.tests) == (0, [])
    whole = grade("maximum_gap", SOLUTION)
    assert verdict.max_points == whole.max_points > 0
    without = grade("maximum_gap", text, performance=False)
    assert without.max_points == grade("maximum_gap", SOLUTION, performance=False).max_points < whole.max_points
    assert verdict.rules == [] or (verdict.rules[0].line, verdict.rules[0].column) == (2, 12)


def test_a_rule_broken_while_running_costs_all_points_and_no_max_points(grade):
    hidden = (
        "def maximum_gap(nums):\n    return vars(__builtins__ if 0 else __import__('builtins'))['sor' + 'ted'](nums)\n"
    )
    verdict = grade("maximum_gap", hidden)
    assert verdict.status is Status.RULE_BROKEN
    assert (verdict.points, verdict.max_points) == (0, grade("maximum_gap", SOLUTION).max_points)


def test_max_points_of_a_part_alone(grade):
    stub = grade("adamw", ADAMW.stub_text, part="SGD")
    assert (stub.status, stub.max_points) == (
        Status.NOT_STARTED,
        grade("adamw", ADAMW.text, part="SGD").max_points,
    )


SQUARE = (
    "def maximum_gap(nums):\n    for _ in nums:\n        for _ in nums:\n            pass\n    return REST(nums)\n\n\n"
)


def test_a_metered_test_has_its_costs_the_allowed_ones_and_where_it_failed_the_solutions(grade):
    slow = SOLUTION.replace("def maximum_gap(", "def REST(") + "\n\n" + SQUARE
    verdict = grade("maximum_gap", slow)
    costly = [test for test in failing(verdict) if test.cause is Cause.COST]
    test = next(test for test in costly if "in proportion to n" in test.title)
    small, large = test.costs[:2]
    limit = large.allowed[-1]
    assert (small.allowed, limit.when != "", limit.got > limit.at_most) == ([], True, True)
    assert limit.got == pytest.approx(large.counted[limit.metric] / small.counted[limit.metric], rel=1e-3)
    assert large.solution.keys() == large.counted.keys()
    assert 0 < large.solution["lines"] < large.counted["lines"]
    assert (test.details.headline, test.details.allowed[:3]) == (
        f"{WORDS[limit.metric]}: too steep when {limit.when}",
        f"{limit.at_most:g}"[:3],
    )
    assert test.details.got.startswith(f"{limit.got:.3g} times as many")


def test_costs_are_kept_on_a_pass_too(grade):
    verdict = grade("maximum_gap", SOLUTION)
    metered = [test for test in verdict.tests if test.costs]
    assert {test.category for test in metered} == {"performance"}
    assert all(metered.allowed or metered.counted for test in metered for metered in test.costs)
    assert any(limit.got <= limit.at_most for test in metered for cost in test.costs for limit in cost.allowed)
    assert not any(cost.solution for test in metered for cost in test.costs)


def test_a_verdict_names_what_it_was_made_of(grade):
    verdict = grade("maximum_gap", SOLUTION, performance=False)
    assert verdict.digests == {
        "submission": digest.submission(SOLUTION), "exercise": digest.exercise(GAP), "engine": digest.engine(),
    }  # fmt: skip
    assert verdict.kit == __version__
    broken = grade("maximum_gap", "def f(:\n")
    assert broken.digests["submission"] == digest.submission("def f(:\n")
    assert broken.kit == __version__
    unreadable = grade("maximum_gap", b"\xff\xfe")
    assert unreadable.digests.keys() == {"exercise", "engine"}


def test_a_report_holds_the_text_that_was_graded(engine, tmp_path):
    file = tmp_path / "maximum_gap.py"
    for data, text in ((b"x = 1\r\n", "x = 1\n"), (b"def f(:", "def f(:"), (b"\xff", None)):
        file.write_bytes(data)
        assert engine.grade(Order(GAP, file)).text == text
    assert engine.grade(Order(GAP, file, text="y = 2\n")).text == "y = 2\n"


def test_a_call_that_depends_on_earlier_ones_is_marked(grade):
    text = f"{SOLUTION}\n\nright, seen = maximum_gap, []\n\n\ndef maximum_gap(nums):\n    seen.append(1)\n    return right(nums) if len(seen) < 5 else len(seen)\n"
    verdict = grade("maximum_gap", text, performance=False)
    stateful = [test for test in failing(verdict) if test.details.stateful]
    assert stateful
    for test in stateful:
        assert test.message == failure.message(test)
        assert test.message.endswith("hint: look for a default argument that is changed, a cache, or a global")
