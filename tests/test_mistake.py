"""Edits of a solution: where they fit, what they make of it together, and how they are written down and read."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from grader.errors import Fault
from grader.mistake import (
    Edit,
    Equivalent,
    Mistake,
    edited,
    plant,
    read_equivalents,
    read_mistakes,
    spans,
)

SOLUTION = """\
def mean(values):
    total = sum(values)
    count = len(values)
    return total / count


def half(value):
    return value / 2
"""


def mistake(name, *edits, alone=False):
    return Mistake(name, "said", tuple(Edit(old, new) for old, new in edits), alone)


# --- where an edit fits ---

PLACES = {
    "the first line": ("def mean(values):\n", 0),
    "a line": ("    count = len(values)\n", SOLUTION.index("    count")),
    "two lines": ("\n\ndef half(value):\n", SOLUTION.index("\n\ndef half")),
    "the last line": ("    return value / 2\n", SOLUTION.index("    return value")),
}


@pytest.mark.parametrize("case", PLACES)
def test_whole_lines_are_found(case):
    old, place = PLACES[case]
    assert Edit(old, "").start(SOLUTION) == place


@pytest.mark.parametrize(
    ("old", "count"),
    [("    return nothing\n", 0), ("total / count\n", 0), ("\n", 2)],
    ids=["gone", "the end of a line", "one after the other"],
)
def test_how_often_lines_occur(old, count):
    with pytest.raises(ValueError) as caught:
        Edit(old, "").start(SOLUTION)
    assert str(caught.value) == f"{count} places instead of one hold these lines:\n{old.rstrip()}"


def test_what_really_changes():
    edit = Edit(
        "    total = sum(values)\n    count = len(values)\n", "    total = max(values)\n    count = len(values) + 1\n"
    )
    place, end = SOLUTION.index("sum"), SOLUTION.index("len(values)") + len("len(values)")
    assert edit.spans(SOLUTION) == [(place, place + 3, "max"), (end, end, " + 1")]


def test_the_first_word_of_the_lines():
    assert Edit("def half(value):\n", "async def half(value):\n").spans(SOLUTION)[0][0] == SOLUTION.index("def half")
    place = SOLUTION.index("def half")
    assert Edit("def half(value):\n", "class half(value):\n").spans(SOLUTION) == [(place, place + 3, "class")]


def test_words_that_a_long_hunk_repeats_are_words():
    lines = ["a = b + c\n"] * 100
    changed = [*lines[:50], "a = b - c\n", *lines[51:]]
    place = 50 * len(lines[0]) + lines[0].index("+")
    assert Edit("".join(lines), "".join(changed)).spans("".join(lines)) == [(place, place + 1, "-")]


def test_an_edit_by_itself():
    edit = Edit("    return total / count\n", "    return total * count\n")
    assert edited(SOLUTION, edit) == SOLUTION.replace("/ count", "* count")
    with pytest.raises(ValueError, match="0 places instead of one"):
        edited(SOLUTION, Edit("    return value\n", ""))


# --- planting ---


def test_nothing_planted_is_the_solution():
    assert plant(SOLUTION) == SOLUTION


def test_the_edits_of_a_mistake_are_made_together():
    both = mistake(
        "both", ("def mean(values):\n", "def mean(values, bias=0):\n"), ("    return value / 2\n", "    return value\n")
    )
    assert plant(SOLUTION, both) == SOLUTION.replace("(values):", "(values, bias=0):").replace("value / 2", "value")
    assert spans(both, SOLUTION) == tuple(span for edit in both.edits for span in edit.spans(SOLUTION))


def test_mistakes_of_one_line_are_made_together_in_any_order():
    line = "    return total / count\n"
    one = mistake("one", (line, "    return max(total, 1) / count\n"))
    other = mistake("other", (line, "    return total / (count - 1)\n"))
    wanted = SOLUTION.replace(line, "    return max(total, 1) / (count - 1)\n")
    assert plant(SOLUTION, one, other) == plant(SOLUTION, other, one) == wanted


def test_edits_side_by_side_do_not_meet():
    first = mistake("first", ("    return value / 2\n", "    return -value / 2\n"))
    second = mistake("second", ("    return value / 2\n", "    return total / 2\n"))
    assert plant(SOLUTION, first, second) == SOLUTION.replace("return value", "return -total")


def test_edits_that_meet():
    line = "    total = sum(values)\n"
    one, other = (mistake(name, (line, f"    total = {name}(values)\n")) for name in ("min", "max"))
    with pytest.raises(ValueError) as caught:
        plant(SOLUTION, one, other)
    assert str(caught.value) == "two edits meet in line 2 of the solution"


def test_two_insertions_in_one_place_meet():
    line = "    return value / 2\n"
    one, other = (mistake(name, (line, f"    return {name}value / 2\n")) for name in ("-", "+"))
    with pytest.raises(ValueError, match="two edits meet in line 8 of the solution"):
        plant(SOLUTION, one, other)


def test_an_edit_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"^`lost`: 0 places instead of one hold these lines:\nreturn$"):
        plant(SOLUTION, mistake("lost", ("return\n", "")))


# --- reading ---

FILE = """\
What people get wrong.

## too-many
one is added to the count; the count is the
number of values
@@ -3,1 +3,1 @@
-    count = len(values)
+    count = len(values) + 1

## upside-down (alone)
the quotient is upside down
@@ -3,2 +3,2 @@
     count = len(values)
-    return total / count
+    return count / total
@@ -8,1 +8,1 @@
-    return value / 2
+    return 2 / value
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "some.diff"
        file.write_text(text)
        return file

    return write


def test_a_catalogue_is_read(written):
    too_many = mistake("too-many", ("    count = len(values)\n", "    count = len(values) + 1\n"))
    upside_down = mistake(
        "upside-down",
        (
            "    count = len(values)\n    return total / count\n",
            "    count = len(values)\n    return count / total\n",
        ),
        ("    return value / 2\n", "    return 2 / value\n"),
        alone=True,
    )
    says = "one is added to the count; the count is the number of values", "the quotient is upside down"
    found = read_mistakes(written(FILE))
    assert [(m.name, m.edits, m.alone) for m in found] == [(m.name, m.edits, m.alone) for m in (too_many, upside_down)]
    assert tuple(m.says for m in found) == says
    assert "count = len(values) + 1" in plant(SOLUTION, found[0])


def test_equivalent_mutants_are_read(written):
    found = read_equivalents(written(FILE))
    assert [item.reason for item in found] == [
        "too-many one is added to the count; the count is the number of values",
        "upside-down (alone) the quotient is upside down",
    ]
    assert [len(item.edits) for item in found] == [1, 2]
    assert isinstance(found[0], Equivalent)


def test_a_file_without_a_block_is_an_empty_catalogue(written):
    assert read_mistakes(written("Nothing yet.\n")) == ()


def test_no_file_lists_no_mutant(tmp_path):
    assert read_equivalents(tmp_path / "none.diff") == ()


UNREADABLE = {
    "no hunk": ("## name\nsays\n", "`name` needs hunks that hold lines of the solution"),
    "a hunk that only adds": (
        "## name\nsays\n@@ -1,0 +1,1 @@\n+new\n",
        "`name` needs hunks that hold lines of the solution",
    ),
    "a second hunk that only adds": (
        "## name\nsays\n@@ -1,1 +1,1 @@\n-old\n+new\n@@ -3,0 +3,1 @@\n+new\n",
        "`name` needs hunks that hold lines of the solution",
    ),
    "a hunk of another length": (
        "## name\nsays\n@@ -1,5 +1,5 @@\n-old\n+new\n",
        "the hunks of `name` cannot be read: ",
    ),
    "a hunk without signs": ("## name\nsays\n@@ -1,1 +1,1 @@\nold\n", "the hunks of `name` cannot be read: "),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_named(written, case):
    text, message = UNREADABLE[case]
    file = written(text)
    for read in (read_mistakes, read_equivalents):
        with pytest.raises(Fault) as caught:
            read(file)
        assert str(caught.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize("data", [None, b"## \xff"], ids=["missing", "no text"])
def test_a_file_that_is_none(tmp_path, data):
    file = tmp_path / "some.diff"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(Fault, match=r"some\.diff cannot be read: "):
        read_mistakes(file)


@pytest.mark.parametrize("record", [Edit("a", "b"), mistake("m"), Equivalent("r", ())], ids=lambda r: type(r).__name__)
def test_records_are_values(record):
    """A mistake is a key of caches."""
    assert not Mistake("name", "says", ()).alone
    assert hash(record) == hash(type(record)(**vars(record)))
    with pytest.raises(FrozenInstanceError):
        record.new = "other"
