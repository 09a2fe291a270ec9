"""The blocks of `mistakes.diff` and `equivalent.diff`: what is written is what is read."""

from __future__ import annotations

import pytest

from grader.authoring import blocks
from grader.errors import UsageError
from grader.mistake import edited, plant, read_equivalents, read_mistakes

SOLUTION = """\
def mean(values):
    total = sum(values)
    return total / len(values)


def spread(values):
    total = sum(values)
    middle = mean(values)
    return sum((v - middle) ** 2 for v in values) / len(values)


def twice(values):
    total = sum(values)
    return 2 * total
"""

# what stands in the solution, what stands there instead, and how often the hunk's lines say it
EDITS = {
    "a line": [("return total / len(values)", "return total / (len(values) - 1)")],
    "two places": [("return total / len(values)", "return total"), ("return 2 * total", "return 3 * total")],
    "a line taken out": [("    middle = mean(values)\n", "")],
    "a line put in": [("    return 2 * total\n", "    total += 1\n    return 2 * total\n")],
    "the first line": [("def mean(values):", "def mean(values, bias=0):")],
    "the last line": [("    return 2 * total\n", "    return total * 2\n")],
    "a line that occurs three times": [("def twice(values):\n    total = sum(values)", "def twice(values):\n    total = max(values)")],
}  # fmt: skip


def change(case):
    text = SOLUTION
    for old, new in EDITS[case]:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("case", EDITS)
def test_a_mistake_is_read_as_it_was_made(tmp_path, case):
    file = tmp_path / "mistakes.diff"
    says = "word " * 60
    blocks.append(file, blocks.MISTAKES, blocks.mistake("some-name", says, SOLUTION, change(case)))
    (found,) = read_mistakes(file)
    assert (found.name, found.says) == ("some-name", says.strip())
    assert plant(SOLUTION, found) == change(case)
    assert max(map(len, file.read_text().splitlines())) <= 120


@pytest.mark.parametrize("case", ["a line", "a line taken out", "a line that occurs three times", "the first line"])
def test_a_mutant_is_read_as_it_was_made(tmp_path, case):
    file = tmp_path / "equivalent.diff"
    blocks.append(file, blocks.EQUIVALENT, blocks.equivalent("it is the same", SOLUTION, [change(case)]))
    (found,) = read_equivalents(file)
    assert found.reason == "it is the same"
    (edit,) = found.edits
    assert edited(SOLUTION, edit) == change(case)


def test_a_hunk_says_what_a_reader_needs():
    text = blocks.hunks(SOLUTION, change("a line"), context=1)
    assert text == (
        "@@ -2,3 +2,3 @@\n     total = sum(values)\n-    return total / len(values)\n"
        "+    return total / (len(values) - 1)\n \n"
    )
    assert blocks.hunks(SOLUTION, change("a line"), context=0).count("\n") == 3
    taken_out = blocks.hunks(SOLUTION, change("a line taken out"), context=0)
    assert taken_out == "@@ -8,1 +7,0 @@\n-    middle = mean(values)\n"


def test_a_hunk_grows_until_it_fits_in_one_place():
    text = blocks.hunks(SOLUTION, change("a line that occurs three times"), context=0)
    assert " def twice(values):\n-    total = sum(values)\n" in text
    with pytest.raises(UsageError, match="the edit fits more than one place, however much stands around it"):
        blocks.hunks("", "x\n", context=0)


def test_nothing_is_no_mistake():
    with pytest.raises(UsageError, match="the edited solution is the solution"):
        blocks.hunks(SOLUTION, SOLUTION, context=1)


def test_lines_that_a_long_file_repeats(tmp_path):
    """Which `difflib` would take for junk."""
    solution = "".join(f"def f{number}(x):\n    return x\n\n\n" for number in range(120))
    text = solution.replace("def f60(x):\n    return x", "def f60(x):\n    return -x")
    file = tmp_path / "mistakes.diff"
    blocks.append(file, "", blocks.mistake("negative", "it is negated", solution, text))
    (found,) = read_mistakes(file)
    assert plant(solution, found) == text
    assert len(found.edits) == 1
    assert found.edits[0].old.count("\n") <= 4


def test_blocks_follow_each_other(tmp_path):
    file = tmp_path / "mistakes.diff"
    for name in ("first", "second"):
        blocks.append(file, blocks.MISTAKES, blocks.mistake(name, "said", SOLUTION, change("a line")))
    text = file.read_text()
    assert text.startswith(blocks.MISTAKES)
    assert text.count("What people get wrong") == 1
    assert "\n\n## second\nsaid\n@@" in text
    assert [item.name for item in read_mistakes(file)] == ["first", "second"]


def test_mutants_of_one_reason_share_a_block(tmp_path):
    file = tmp_path / "equivalent.diff"
    for reason, case in (
        ("one", "a line"),
        ("other", "the last line"),
        ("one", "the first line"),
        ("other", "two places"),
    ):
        blocks.join(file, reason, SOLUTION, change(case))
    found = {item.reason: item.edits for item in read_equivalents(file)}
    assert {reason: len(edits) for reason, edits in found.items()} == {"one": 2, "other": 3}
    assert [edited(SOLUTION, edit) for edit in found["one"]] == [change("a line"), change("the first line")]
    text = file.read_text()
    assert text.startswith(blocks.EQUIVALENT)
    assert text.count("\n\n## ") == 2
    assert text.endswith("\n") and not text.endswith("\n\n")
