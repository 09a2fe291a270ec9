"""Mechanical edits of a solution: which there are, and that each can be written down as an edit."""

from __future__ import annotations

import pytest

from grader import catalog
from grader.authoring import blocks
from grader.authoring.mutants import mutants, of_module
from grader.mistake import edited, read_equivalents

TEXT = """def f(x, y, names):
    ### BEGIN SOLUTION
{body}
    ### END SOLUTION
"""

# what stands in the solution, and every line that may stand there instead
EDITS = {
    "return x + y": {"return x - y"},
    "return x // 2": {"return x / 2", "return x // 3", "return x // 1", "return x // (-2)"},
    "return x < y": {"return x <= y"},
    "return x is not y": {"return x is y"},
    "return x and y": {"return x or y"},
    "return -x": {"return (x)"},
    "return not x": {"return (x)"},
    "return x if y else 0.5": {
        "return x if (not (y)) else 0.5", "return (x)", "return (0.5)", "return x if y else 1.5",
        "return x if y else (-0.5)", "return x if y else 1.0",
    },
    "return x[y:]": {"return x[(y) + 1:]", "return x[(y) - 1:]", "return x[y:-1]"},
    "return names(x, y)": {"return names(y, x)"},
    "return names(x, dim=y)": {"return names(x)"},
    "return names(dim=x, keepdim=y)": {"return names(keepdim=y)", "return names(dim=x)"},
    "return max(x, y)": {"return min(x, y)"},
    "return x.tril()": {"return x.triu()"},
    "x += y": {"x -= y", "pass"},
    "x = y": {"pass"},
    "return [i for i in x if y]": {"return [i for i in x if (not (y))]"},
    "raise ValueError('1 + 1')": {"pass"},
    "return True": {"return False"},
    "return zip(x, y, strict=True)": {"return zip(y, x, strict=True)"},
}  # fmt: skip


@pytest.mark.parametrize("line", EDITS)
def test_the_edits_of_a_line(line):
    text = TEXT.format(body=f"    {line}")
    got = {mutant.text.splitlines()[2].strip() for mutant in mutants(text)}
    assert got == EDITS[line]


def test_statements():
    body = "    for name in names:\n        if name:\n            continue\n        x.append(name)"
    found = {mutant.text.split("SOLUTION\n")[1].rsplit("\n    ###", 1)[0] for mutant in mutants(TEXT.format(body=body))}
    assert body.replace("continue", "break") in found
    assert body.replace("x.append(name)", "pass") in found
    assert body + "\n        break" in found
    assert body.replace("if name:\n            continue", "pass") in found


def test_gradients_are_cut_where_there_are_some():
    text = "import torch\n" + TEXT.format(body="    return x * y")
    assert "return (x * y).detach()" in "".join(mutant.text for mutant in mutants(text))
    for without in (text.replace("def f", "@torch.no_grad()\ndef f"), text.replace("import torch", "import math")):
        assert "detach" not in "".join(mutant.text for mutant in mutants(without))


def test_given_code_is_left_alone():
    given = "def given(x):\n    return x + 1\n\n\n" + TEXT.format(body="    return x")
    assert mutants(given) == []


@pytest.mark.parametrize("slug", ["maximum_gap", "adamw"])
def test_every_mutant_can_be_written_as_a_block(slug, tmp_path):
    solution, file = catalog.find(slug).text, tmp_path / "equivalent.diff"
    found = mutants(solution)
    assert len({mutant.key for mutant in found}) == len(found) > 40
    texts = [mutant.text for mutant in found]
    blocks.append(file, blocks.EQUIVALENT, blocks.equivalent("all of them", solution, texts))
    (listed,) = read_equivalents(file)
    assert [edited(solution, edit) for edit in listed.edits] == texts
    assert all(mutant.diff(solution).startswith("@@") for mutant in found)


def test_the_statement_is_no_part_of_a_mutant_s_name():
    text = TEXT.format(body="    return x + y")
    (mutant,) = mutants(f'"""What to do."""\n\n{text}')
    (other,) = mutants(f'"""What\nto do."""\n\n{text}')
    assert mutant.text != other.text
    assert mutant.key == other.key


MODULE = '''"""The number 1."""

SIZE: int | None = 3


def f(x: int | None = 2, *rest: "1 + 1") -> int | None:
    """1 + 1"""
    y: list[int | str] = x
    if x < 0:
        raise ValueError(f"{x + 1} is below zero")
    return y
'''


def test_a_whole_module():
    found = {
        line[1:].strip()
        for mutant in of_module(MODULE)
        for line in mutant.diff(MODULE).splitlines()
        if line.startswith("+")
    }
    assert found == {
        "SIZE: int | None = 4", "SIZE: int | None = 2", "SIZE: int | None = (-3)", "pass",
        'def f(x: int | None = 3, *rest: "1 + 1") -> int | None:', 'def f(x: int | None = 1, *rest: "1 + 1") -> int | None:',
        'def f(x: int | None = (-2), *rest: "1 + 1") -> int | None:',
        "if x <= 0:", "if (not (x < 0)):", "if x < 1:", "if x < (-1):",
    }  # fmt: skip
    assert not [mutant for mutant in of_module(f"import torch\n{MODULE}") if "detach" in mutant.text]
