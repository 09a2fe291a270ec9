"""A card of any text: an Card whose fields are what they say, or a Fault that names the file."""

from __future__ import annotations

import warnings

import pytest
from effort import effort, mutated_bytes, mutated_text
from hypothesis import example, given
from hypothesis import strategies as st

from grader import catalog
from grader.errors import Fault
from grader.exercise import Card

SUITES = [exercise.suite.read_text(encoding="utf-8") for exercise in catalog.exercises()]
CARDS = [text[text.index("\nEXERCISE = ") : text.index("\n)\n", text.index("\nEXERCISE = ")) + 3] for text in SUITES]


@pytest.fixture
def suite(tmp_path):
    return tmp_path / "suite.py"


def read(suite, data: bytes) -> Card | None:
    suite.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            card = catalog.read_card(suite)
    except Fault as fault:
        assert "suite.py" in str(fault)
        return None
    assert isinstance(card.title, str)
    assert isinstance(card.minutes, int)
    assert isinstance(card.timeout, int | float)
    assert all(isinstance(word, str) for word in (card.level, *card.hints, *card.after, *card.forbid, *card.needs))
    assert all(isinstance(word, str) for pair in card.follow_ups for word in pair)
    return card


def test_the_cards_themselves(suite):
    for card, text in zip(CARDS, SUITES, strict=True):
        assert read(suite, card.encode()) == read(suite, text.encode()) is not None


FIELDS = 'EXERCISE = Card(\n    title="t", level="core", minutes={}, hints={}, follow_ups=(("q", "a"),),\n)\n'


@effort(200)
@given(mutated_text(CARDS))
@example(FIELDS.format("3", '("a", "b", "c")'))
@example(FIELDS.format('"3"', '("a", "b", "c")'))  # minutes in words
@example(FIELDS.format("3", '("a")'))  # a tuple of one, without its comma
@example(FIELDS.format("-" * 1200 + "3", "()"))
@example(FIELDS.format("3", "(" * 150 + ")" * 150))
@example(FIELDS.format("3", "()" + ".a" * 1500))
def test_a_rewritten_card(suite, text):
    read(suite, text.encode("utf-8", "surrogatepass"))


@effort(100)
@given(st.sampled_from(CARDS).flatmap(lambda text: mutated_bytes(text.encode())))
def test_a_damaged_card(suite, data):
    read(suite, data)


VALUES = st.one_of(
    st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5),
    st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=4).map(tuple), st.dictionaries(st.text(), st.none(), max_size=2),
)  # fmt: skip


@effort(150)
@given(st.dictionaries(st.sampled_from([*Card.__dataclass_fields__, "other"]), VALUES, max_size=10))
def test_a_card_of_any_literals(suite, fields):
    arguments = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    read(suite, f"EXERCISE = Card({arguments})\n".encode("utf-8", "surrogatepass"))
