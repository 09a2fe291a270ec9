"""A card of any text: a Card whose fields are what they say, or a Fault that names the file."""

from __future__ import annotations

import pytest
from effort import effort, mutated_bytes, mutated_text
from hypothesis import example, given
from hypothesis import strategies as st

from grader import card, catalog
from grader.card import Card
from grader.errors import Fault

CARDS = [(exercise.folder / "card.toml").read_text(encoding="utf-8") for exercise in catalog.exercises()]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "card.toml"


def read(file, data: bytes) -> Card | None:
    file.write_bytes(data)
    try:
        found = card.read(file)
    except Fault as fault:
        assert "card.toml" in str(fault)
        return None
    assert isinstance(found.title, str)
    assert isinstance(found.minutes, int)
    assert isinstance(found.timeout, int | float)
    assert all(isinstance(word, str) for word in (found.level, *found.hints, *found.after, *found.forbid, *found.needs))
    assert all(isinstance(word, str) for pair in found.follow_ups for word in pair)
    return found


def test_the_cards_themselves(file):
    for exercise, text in zip(catalog.exercises(), CARDS, strict=True):
        assert read(file, text.encode()) == exercise.card


FIELDS = 'title = "t"\nlevel = "core"\nminutes = {}\nhints = {}\nfollow_ups = [{{question = "q", answer = "a"}}]\n'


@effort(200)
@given(mutated_text(CARDS))
@example(FIELDS.format("3", '["a", "b", "c"]'))
@example(FIELDS.format('"3"', '["a", "b", "c"]'))  # minutes in words
@example(FIELDS.format("3", '"a"'))  # one text is no list of texts
@example(FIELDS.format("3", '["a", 1]'))
@example(FIELDS.format("true", "[]"))
@example(FIELDS.format("3", "[" * 1500 + "]" * 1500))
def test_a_rewritten_card(file, text):
    read(file, text.encode("utf-8", "surrogatepass"))


@effort(100)
@given(st.sampled_from(CARDS).flatmap(lambda text: mutated_bytes(text.encode())))
def test_a_damaged_card(file, data):
    read(file, data)


VALUES = st.one_of(
    st.booleans(), st.integers(-9, 9), st.floats(), st.text("ab", max_size=5), st.lists(st.text("ab", max_size=3), max_size=4),
    st.lists(st.integers(0, 3), max_size=2), st.just([{"question": "q", "answer": "a"}]), st.just([{"question": 1}]),
)  # fmt: skip


@effort(150)
@given(st.dictionaries(st.sampled_from([*Card.__dataclass_fields__, "other"]), VALUES, max_size=10))
def test_a_card_of_any_values(fields):
    try:
        found = card.parse(fields)
    except TypeError:
        return
    assert {name: getattr(found, name) for name in ("title", "level", "minutes")} == {
        name: " ".join(value.split()) if isinstance(value := fields[name], str) else value
        for name in ("title", "level", "minutes")
    }
