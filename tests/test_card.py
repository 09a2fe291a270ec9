"""The card of an exercise: what is read, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from grader import card
from grader.card import Card, Level
from grader.errors import Fault

LEAST = """\
title = "Mean"
level = "core"
minutes = 20
hints = ["think"]
follow_ups = []
"""
FULL = """\
title = "A mean"
level = "stretch"
minutes = 20
hints = ["think", '''
think
   twice''']
after = ["sum"]
forbid = ["torch.mean"]
needs = ["numpy"]
timeout = 0.5
composes = true

[[follow_ups]]
question = "And the median?"
answer = '''
Sort, or
select.'''
"""


@pytest.fixture
def read(tmp_path):
    def parsed(text):
        file = tmp_path / "card.toml"
        file.write_text(text)
        return card.read(file)

    return parsed


def test_what_is_not_said_has_a_default(read):
    assert read(LEAST) == Card(title="Mean", level="core", minutes=20, hints=("think",), follow_ups=())
    said = read(LEAST)
    assert (said.after, said.forbid, said.needs, said.timeout, said.composes) == ((), (), ("torch",), 5.0, False)


def test_every_field(read):
    assert read(FULL) == Card(
        title="A mean", level="stretch", minutes=20, hints=("think", "think twice"),
        follow_ups=(("And the median?", "Sort, or select."),), after=("sum",), forbid=("torch.mean",),
        needs=("numpy",), timeout=0.5, composes=True,
    )  # fmt: skip


REFUSED = {
    "a missing field": ("minutes = 20\n", "", "minutes"),
    "an unknown field": ("minutes", 'author = "me"\nminutes', "there is no field `author`"),
    "minutes in words": ("minutes = 20", 'minutes = "20"', "`minutes` is '20'"),
    "minutes that are a truth": ("minutes = 20", "minutes = true", "`minutes` is True"),
    "half a minute": ("minutes = 20", "minutes = 0.5", "`minutes` is 0.5"),
    "a title that is a number": ('title = "Mean"', "title = 1", "`title` holds 1, not a text"),
    "a level that is a number": ('level = "core"', "level = 1", "`level` holds 1, not a text"),
    "one hint for a list": ('["think"]', '"think"', "`hints` is 'think', not a list"),
    "a number among the hints": ('["think"]', '["think", 1]', "`hints` holds 1, not a text"),
    "rules that are no list": ("minutes", 'forbid = "sorting"\nminutes', "`forbid` is 'sorting', not a list"),
    "packages that are no list": ("minutes", 'needs = "torch"\nminutes', "`needs` is 'torch', not a list"),
    "prerequisites that are no list": ("minutes", 'after = "sum"\nminutes', "`after` is 'sum', not a list"),
    "no time": ("minutes", "timeout = 0\nminutes", "`timeout` is 0"),
    "less than no time": ("minutes", "timeout = -1.0\nminutes", "`timeout` is -1.0"),
    "for ever": ("minutes", "timeout = inf\nminutes", "`timeout` is inf"),
    "time in words": ("minutes", 'timeout = "5"\nminutes', "`timeout` is '5'"),
    "a time that is a truth": ("minutes", "timeout = true\nminutes", "`timeout` is True"),
    "a truth in words": ("minutes", 'composes = "yes"\nminutes', "`composes` is 'yes'"),
    "a truth that is a number": ("minutes", "composes = 1\nminutes", "`composes` is 1"),
    "follow-ups that are no list": ("follow_ups = []", 'follow_ups = "?"', "`follow_ups` is '?', not a list"),
    "a follow-up that is a text": ("[]", '["?"]', "a follow-up has a `question` and an `answer`, not '?'"),
    "a question without an answer": ("[]", '[{question = "?"}]', "a follow-up has a `question` and an `answer`, not {"),
    "more than an answer": ("[]", '[{question = "?", answer = "!", more = 1}]', "a follow-up has a `question` and"),
    "an answer that is a number": ("[]", '[{question = "?", answer = 1}]', "`answer` holds 1, not a text"),
    "a question that is a number": ("[]", '[{question = 1, answer = "!"}]', "`question` holds 1, not a text"),
    "no TOML": ("minutes = ", "minutes : ", "Expected '=' after a key"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(read, case):
    old, new, message = REFUSED[case]
    assert LEAST.count(old) == 1
    with pytest.raises(Fault) as caught:
        read(LEAST.replace(old, new))
    assert "card.toml cannot be read: " in str(caught.value)
    assert message in str(caught.value)


def test_the_first_unknown_field_is_named(read):
    with pytest.raises(Fault, match="no field `alpha`"):
        read("omega = 1\nbeta = 1\nalpha = 1\n" + LEAST)


@pytest.mark.parametrize("field", ["minutes = ", "timeout = ", "composes = "])
def test_long_values_are_cut(read, field):
    with pytest.raises(Fault) as caught:
        read(
            LEAST.replace("minutes = 20\n", "")
            + ("" if field == "minutes = " else "minutes = 20\n")
            + f"{field}'{'x' * 500}'"
        )
    assert 50 < str(caught.value).count("x") < 70


@pytest.mark.parametrize("value", ["title = [ '{}' ]", "hints = '{}'", "follow_ups = [ '{}' ]"])
def test_long_texts_are_cut(read, value):
    name = value.split(" ")[0]
    lines = [line for line in LEAST.splitlines() if not line.startswith(name)]
    with pytest.raises(Fault) as caught:
        read("\n".join([*lines, value.format("x" * 500)]))
    assert 50 < str(caught.value).count("x") < 70


def test_there_is_no_card(tmp_path):
    with pytest.raises(Fault, match=r"card\.toml cannot be read"):
        card.read(tmp_path / "card.toml")


def test_a_card_is_a_value(read):
    assert list(Level) == ["warm-up", "core", "stretch"]  # the easiest first: exercises are ordered by it
    with pytest.raises(FrozenInstanceError):
        read(LEAST).minutes = 30
    with pytest.raises(TypeError):
        Card("Mean", "core", 20, (), ())
