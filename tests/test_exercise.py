"""One exercise: where its files are, and what is read from them, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader.errors import Fault
from grader.exercise import Exercise

SOLUTION = '''"""# Mean

>>> mean([1, 3])
2.0
"""


def mean(values):
    """Of numbers."""
    ### BEGIN SOLUTION
    return sum(values) / len(values)
    ### END SOLUTION


def given(x):
    return x
'''
CARD = 'title = "Mean"\nlevel = "core"\nminutes = 5\nhints = []\nfollow_ups = []\n'
MISTAKE = "## total\nthe sum\n@@ -1,1 +1,1 @@\n-    return sum(values) / len(values)\n+    return sum(values)\n"


@pytest.fixture
def exercise(tmp_path):
    files = {
        "suites/maths/mean/card.toml": CARD,
        "suites/maths/mean/suite.py": "",
        "suites/maths/mean/mistakes.diff": MISTAKE,
        "suites/maths/mean/accepted/loop.py": "",
        "suites/maths/mean/accepted/again.py": "",
        "suites/maths/mean/accepted/notes.txt": "",
        "content/solutions/maths/mean.py": SOLUTION,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Exercise("maths", "mean", tmp_path / "suites", tmp_path / "content")


def test_where_its_files_are(exercise, tmp_path):
    assert exercise.path == "maths/mean"
    assert exercise.folder == tmp_path / "suites" / "maths" / "mean"
    assert exercise.suite == exercise.folder / "suite.py"
    assert exercise.solution == tmp_path / "content" / "solutions" / "maths" / "mean.py"
    assert exercise.stub_path == Path("exercises/maths/mean.py")
    assert exercise.stub == tmp_path / "content" / "exercises" / "maths" / "mean.py"
    puzzle = Exercise("leetcode", "gap", Path("suites"), Path("content"))
    assert (puzzle.stub_path, puzzle.stub) == (Path("leetcode/gap.py"), Path("content/leetcode/gap.py"))


def test_what_they_hold(exercise):
    assert exercise.card.title == "Mean"
    assert exercise.text == SOLUTION
    assert exercise.statement.startswith("# Mean")
    assert [part.name for part in exercise.parts] == ["mean"]
    assert exercise.given == ("def given(x)",)
    assert "YOUR CODE HERE" in exercise.stub_text and "sum(values)" not in exercise.stub_text
    assert [item.part for item in exercise.examples] == [""]
    assert [mistake.name for mistake in exercise.mistakes] == ["total"]
    assert exercise.equivalents == ()
    assert list(exercise.styles) == ["again", "loop"]


def test_each_is_read_once(exercise):
    names = ("card", "text", "statement", "parts", "given", "stub_text", "examples", "mistakes", "equivalents")
    before = [getattr(exercise, name) for name in names]
    for file in (exercise.solution, exercise.folder / "card.toml", exercise.folder / "mistakes.diff"):
        file.unlink()
    assert all(getattr(exercise, name) is value for name, value in zip(names, before, strict=True))


@pytest.mark.parametrize(
    ("what", "file", "message"),
    [
        ("text", "content/solutions/maths/mean.py", "the solution of `maths/mean` cannot be read: "),
        ("parts", "content/solutions/maths/mean.py", "the solution of `maths/mean` cannot be read: "),
        ("card", "suites/maths/mean/card.toml", "the card "),
        ("mistakes", "suites/maths/mean/mistakes.diff", ""),
    ],
)
@pytest.mark.parametrize("data", [None, b"\xff"], ids=["missing", "no text"])
def test_what_cannot_be_read(exercise, tmp_path, what, file, message, data):
    (tmp_path / file).unlink()
    if data is not None:
        (tmp_path / file).write_bytes(data)
    with pytest.raises(Fault) as caught:
        getattr(exercise, what)
    assert str(caught.value).startswith(message)
    assert "cannot be read" in str(caught.value)


def test_it_is_called_by_track_and_slug(exercise):
    elsewhere = Exercise("maths", "mean", Path(), Path())
    assert exercise == elsewhere
    assert hash(exercise) == hash(elsewhere)
    assert exercise != Exercise("maths", "median", exercise.suites, exercise.content)
    assert repr(exercise) == "Exercise(track='maths', slug='mean')"


@pytest.mark.parametrize(
    ("needs", "packages"),
    [
        ([], ()),
        (["numpy"], ("numpy",)),
        (["torch"], ("torch", "numpy", "torch.utils.flop_counter")),
        (["numpy", "torch"], ("torch", "numpy", "torch.utils.flop_counter")),
    ],
)
def test_what_its_sandbox_imports(exercise, needs, packages):
    (exercise.folder / "card.toml").write_text(
        f"{CARD}needs = {needs}\n".replace("follow_ups = []\n", "").replace("needs", "follow_ups = []\nneeds")
    )
    assert exercise.packages == packages
