"""What is derived from a solution's text, and how exercises are found."""

from __future__ import annotations

import pytest

from grader import catalog, source
from grader.errors import UnknownExercise

SOLUTION = '''"""# Squares

>>> square(2)
4
"""


def square(x: int, *, times: int = 1) -> int:
    """The square."""
    ### BEGIN SOLUTION
    return times * x * x
    ### END SOLUTION


class Box:
    """A box."""

    def put(self, x):
        ### BEGIN SOLUTION
        self.x = x
        ### END SOLUTION

    def given(self):
        return 1


def helper():
    return 2
'''


def test_the_stub():
    stub = source.stub(SOLUTION)
    assert "times * x" not in stub and "self.x" not in stub
    assert '    """The square."""\n    # YOUR CODE HERE\n    raise NotImplementedError()\n' in stub
    assert "        # YOUR CODE HERE\n        raise NotImplementedError()\n" in stub
    assert "return 2" in stub
    compile(stub, "stub", "exec")


def test_parts_are_what_the_learner_writes():
    square, box = source.parts(SOLUTION)
    assert (square.name, square.signature, square.stubs) == (
        "square", "def square(x, *, times=1)", {"square": "def square(x, *, times=1)"},
    )  # fmt: skip
    assert (box.name, box.signature, box.stubs) == ("Box", "class Box", {"Box.put": "def put(self, x)"})


@pytest.mark.parametrize("exercise", catalog.exercises(), ids=lambda exercise: exercise.slug)
def test_stubs_hold_no_answer(exercise):
    """That the handed-out files are these is the gate's to say, which lets a learner change them."""
    stub = exercise.stub_text
    assert stub == source.stub(exercise.text)
    assert source.BEGIN not in stub and source.END not in stub
    assert set(source.parse(exercise.stub, stub).stubs()) >= {name for part in exercise.parts for name in part.stubs}


def test_the_answer_is_shown_without_markers_and_statement():
    answer = source.answer(SOLUTION)
    assert answer.startswith("def square")
    assert "###" not in answer and "# Squares" not in answer
    assert "-    return times * x * x\n" in source.diff(SOLUTION, SOLUTION.replace("times * x * x", "0"))


def test_names_find_exercises():
    adamw = catalog.find("adamw")
    for name in ("optimizers/adamw", "adamw.py", "exercises/optimizers/adamw.py", str(adamw.stub)):
        assert catalog.find(name) == adamw
    assert catalog.find("leetcode/maximum_gap.py").slug == "maximum_gap"
    assert [e.slug for e in catalog.select("nlp")] == ["bpe", "ngram"]
    assert catalog.select("all") == catalog.exercises()
    assert len({e.slug for e in catalog.exercises()}) == len(catalog.exercises())


@pytest.mark.parametrize(
    ("name", "near"),
    [("adam", "adamw"), ("maximun_gap", "maximum_gap"), ("ropes", "rope"), ("LINEAR-attention", "linear_attention")],
)
def test_unknown_names_come_with_near_ones(name, near):
    with pytest.raises(UnknownExercise, match=f"did you mean `{near}`"):
        catalog.find(name)
