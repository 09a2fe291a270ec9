"""The one rendering of what a check says."""

from __future__ import annotations

import fake_kit
import pytest

from grader.failure import ROW, ROWS, Failure, cut, message, text
from grader.verdict import Details, Outcome


def failed(**rest):
    return fake_kit.result("T::t", Outcome.FAILED, **rest)


def test_fields_become_aligned_rows_in_a_fixed_order():
    details = Details("y is wrong", note="n", got="2", expected="1", how_far="far", looks_like="a\nb")
    assert text(details) == (
        "y is wrong\n"
        "expected    1\n"
        "got         2\n"
        "how far     far\n"
        "looks like  a\n"
        "            b\n"
        "note        n"
    )  # fmt: skip
    assert text(Details("x", got="1")) == "x\ngot  1"
    assert (
        text(Details(expected="`ValueError`", got="no exception")) == "expected  `ValueError`\ngot       no exception"
    )
    assert text(Details()) == ""


def test_a_trace_and_a_hint_stand_apart():
    trace = "in your code:\n  line 3, in f\n    1 / 0\nZeroDivisionError: division by zero"
    assert text(Details(trace=trace)) == trace
    assert text(Details("your code ended", trace=trace, hint="do not")) == f"your code ended\n\n{trace}\n\nhint: do not"


def test_a_message_ends_with_the_call_that_led_to_it():
    details = Details("x is wrong", hint="look")
    assert message(failed(details=details)) == "x is wrong\n\nhint: look"
    one = failed(details=details, call="f(2)\nf: the double", calls=1)
    assert message(one) == "x is wrong\n\nhint: look\n\nthe call   f(2)\n           f: the double"
    several = failed(details=Details("x", stateful=True), call="f(2)", calls=3)
    assert message(several) == (
        "x\n\nthe call   f(2)\n           the last of 3 that this test made\n\n"
        "run by itself, the same call gives another result: it depends on earlier calls\n\n"
        "hint: look for a default argument that is changed, a cache, or a global"
    )
    assert message(fake_kit.result()) == ""


def test_every_field_that_is_a_row_is_one():
    for name in ROWS:
        assert text(Details(**{name: "said"})) == f"{name.replace('_', ' ')}  said"


def test_words_are_made_when_they_are_asked_for_and_once():
    made = []

    def details():
        made.append(1)
        return Details("late")

    failure = Failure(details)
    assert made == []
    assert (str(failure), failure.details, str(failure)) == ("late", Details("late"), "late")
    assert made == [1]


@pytest.mark.parametrize(("length", "end"), [(ROW, "x"), (ROW + 1, f"... ({ROW + 1} characters)")])
def test_what_is_quoted_is_bounded(length, end):
    assert cut("x" * length).endswith(end)
    assert len(cut("x" * length)) < ROW + 30
