"""What a call cost: counts from the sandbox, and checks of how they grow."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from grader.cost import WORDS, Cost, Measured, TooCostly, assert_cost, assert_growth
from grader.verdict import Details, Limit


def refused(check, *args, **kwargs):
    with pytest.raises(TooCostly) as caught:
        check(*args, **kwargs)
    return caught.value


# before and after, allowed, slack: whether that is too steep
GROWTH = {
    "as much as is allowed": (100, 220, 2.2, 0, False),
    "one more": (100, 221, 2.2, 0, True),
    "less": (100, 10, 1.0, 0, False),
    "slack": (100, 230, 2.2, 10, False),
    "one more than slack": (100, 231, 2.2, 10, True),
    "from nothing": (0, 1, 9.0, 0, True),
    "nothing to nothing": (0, 0, 1.0, 0, False),
}


@pytest.mark.parametrize("case", GROWTH)
def test_growth(case):
    before, after, at_most, slack, steep = GROWTH[case]
    small, large = Cost(flops=before, lines=1), Cost(flops=after, lines=1)
    check = dict(at_most=at_most, when="n doubles", slack=slack)
    if steep:
        said = refused(assert_growth, small, large, "flops", **check)
        assert said.details.headline == "floating-point operations: too steep when n doubles"
    else:
        assert_growth(small, large, "flops", **check)
    assert large.checks == [Limit("flops", at_most, round(after / max(before, 1), 4), when="n doubles")]
    assert small.checks == []


def test_no_slack_unless_it_is_said():
    with pytest.raises(TooCostly):
        assert_growth(Cost(reads=10), Cost(reads=21), "reads", at_most=2.0, when="n doubles")


def test_what_a_steep_cost_says():
    said = refused(assert_growth, Cost(lines=1100), Cost(lines=23456), "lines", at_most=2.25, when="n doubles")
    assert str(said).splitlines() == [
        "lines executed: too steep when n doubles",
        "allowed  2.25 times as many",
        "got      21.3 times as many: 1,100 became 23,456",
    ]


def test_the_factor_that_is_kept():
    large = Cost(lines=4)
    assert_growth(Cost(lines=3), large, "lines", at_most=2, when="n doubles")
    assert large.checks == [Limit("lines", 2, 1.3333, when="n doubles")]


def test_a_cost_that_is_allowed():
    cost = Cost(peak_bytes=230)
    assert_cost(cost, "peak_bytes", at_most=230, why="the product")
    assert cost.checks == [Limit("peak_bytes", 230, 230, why="the product")]


def test_a_cost_that_is_too_high():
    cost = Cost(peak_bytes=23456)
    said = refused(assert_cost, cost, "peak_bytes", at_most=1234.4, why="the product")
    assert said.details == Details("too many bytes at the peak", allowed="1,234: the product", got="23,456")
    assert cost.checks == [Limit("peak_bytes", 1234.4, 23456, why="the product")]


@pytest.mark.parametrize("metric", WORDS)
def test_what_was_not_counted_cannot_be_checked(metric):
    with pytest.raises(ValueError, match=f"`{metric}` was not counted in this call"):
        assert_cost(Cost(), metric, at_most=1, why="x")
    for pair in ((Cost(), Cost(**{metric: 1})), (Cost(**{metric: 1}), Cost())):
        with pytest.raises(ValueError, match=f"`{metric}` was not counted in this call"):
            assert_growth(*pair, metric, at_most=1, when="x")
    assert_cost(Cost(**{metric: 0}), metric, at_most=0, why="nothing is enough")


def test_figures_are_what_was_counted():
    assert Cost().figures() == {}
    assert Cost(lines=0, flops=2, by_name={"aten::cos": 1}).figures() == {"flops": 2, "lines": 0}
    counted = {name: number for number, name in enumerate(WORDS)}
    assert Cost(**counted).figures() == counted


# --- from the sandbox ---

ACCEPTED = [
    {}, {"flops": 0}, {"flops": 3, "lines": 4}, {"by_name": {}}, {"by_name": {"aten::cos": 2}, "writes": 1},
    {"flops": (1 << 62) - 1},
]  # fmt: skip
FORGED = [
    None, [], "flops", {"flops": -1}, {"flops": True}, {"flops": 1.5}, {"flops": None}, {"flops": "1"}, {"other": 1},
    {"flops": 1 << 62}, {"by_name": {"a": "b"}}, {"by_name": {"a": -1}}, {"by_name": [1]}, {"by_name": None},
    {"flops": 1, "checks": 3}, {"checks": []},
]  # fmt: skip


@pytest.mark.parametrize("data", ACCEPTED, ids=str)
def test_counts_are_taken_over(data):
    assert Cost.from_plain(data) == Cost(**data)


@pytest.mark.parametrize("data", FORGED, ids=str)
def test_forged_costs_are_refused(data):
    with pytest.raises(ValueError, match=r"^not a co(st|unt)$"):
        Cost.from_plain(data)


def test_costs_are_values():
    one, other = Cost(flops=1), Cost(flops=1)
    assert_cost(one, "flops", at_most=1, why="x")
    assert one == other  # what it went through is no part of it
    assert "checks" not in repr(one)
    assert Cost().checks is not Cost().checks
    for record in (one, Measured(1, one)):
        with pytest.raises(FrozenInstanceError):
            record.cost = other
