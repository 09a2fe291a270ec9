"""What a measurement depends on: everything that can change it is in its key, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from grader import catalog
from grader.authoring import findings, keys, mutants, record
from grader.catalog import PACKAGE
from grader.errors import Fault
from grader.exercise import Exercise

MODULE = '''"""A module."""

import math


def area(radius: float) -> float:
    """Of a circle."""
    # from school
    return math.pi * radius**2
'''

# edits of the module above, and whether it is another one then
EDITS = {
    "a comment": ("from school", "from a book", False),
    "the module's docstring": ("A module.", "The module.", False),
    "a function's docstring": ('    """Of a circle."""\n', "", False),
    "white space": ("math.pi * radius", "math.pi    *    radius", False),
    "an operator": ("radius**2", "radius*2", True),
    "a constant": ("radius**2", "radius**2.0", True),
    "an annotation": ("-> float", "-> int", True),
    "an import": ("import math\n", "import math\nimport cmath\n", True),
    "a text that is no docstring": ("    # from school\n", '    "from school"\n', True),
    "what does not parse": ("return", "return return", True),
}


@pytest.mark.parametrize("case", EDITS)
def test_the_syntax_of_a_module(case):
    old, new, other = EDITS[case]
    assert (keys.syntax(MODULE.replace(old, new)) != keys.syntax(MODULE)) is other


def test_what_grading_imports():
    found = {str(path.relative_to(PACKAGE)) for path in keys.modules(*keys.GRADING)}
    assert {"engine.py", "authoring/check.py", "compare.py", "plugin/draw.py", "sandbox/__init__.py"} <= found
    apart = {"cli", "render", "watch.py", "store.py", "curriculum.py", "suites", "__init__.py"}
    assert not {name for name in found if name.split("/")[0] in apart}


def test_a_score_depends_on_the_properties_and_not_on_how_results_are_compared():
    asked = [path for path in keys.modules(catalog.find("adamw").suite) if keys._asks(path)]
    names = {"/".join(path.relative_to(PACKAGE).parts[-2:]) for path in asked}
    assert {"adamw/suite.py", "properties/any_layout.py"} <= names
    assert not names & {"compare.py", "cost.py"}


def test_imports_are_found_wherever_they_are(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport grader.errors\n"
        "if TYPE_CHECKING:\n    from grader.watch import Watcher\n\n"
        "def f():\n    from grader import card as c, verdict\n    import torch, json\n    return c\n"
    )
    assert keys.modules(module) == sorted([module, *(PACKAGE / f"{name}.py" for name in ("errors", "card", "verdict"))])


FILES = {
    "card": "grader/suites/leetcode/maximum_gap/card.toml",
    "suite": "grader/suites/leetcode/maximum_gap/suite.py",
    "mistakes": "grader/suites/leetcode/maximum_gap/mistakes.diff",
    "equivalent": "grader/suites/leetcode/maximum_gap/equivalent.diff",
    "accepted": "grader/suites/leetcode/maximum_gap/accepted/radix.py",
    "solution": "solutions/leetcode/maximum_gap.py",
}
BOTH, FINDING, NOTHING = {"finding", "mutation"}, {"finding"}, set()

# an edit of a file of an exercise, and which of its keys is another then
TOUCHED = {
    "a hint": ("card", "hints = [", 'hints = [\n    "think",', NOTHING),
    "the title": ("card", "title = ", 'title = "The " # ', NOTHING),
    "a comment in the card": ("card", "title = ", "# what it is called\ntitle = ", NOTHING),
    "the timeout": ("card", "title = ", "timeout = 7.0\ntitle = ", BOTH),
    "a rule": ("card", "forbid = [", 'forbid = ["print", ', BOTH),
    "what mistakes may do": ("card", "title = ", "composes = true\ntitle = ", BOTH),
    "a comment in the suite": ("suite", "import pytest\n", "import pytest  # the tests' runner\n", NOTHING),
    "what a test is called to learners": ("suite", '"""30 000 numbers"""', '"""thirty thousand numbers"""', NOTHING),
    "a test": ("suite", "import pytest\n", "import pytest\n\nMORE = 1\n", BOTH),
    "what a learner is told": ("mistakes", "\n@@", " indeed\n@@", NOTHING),
    "the head of the catalogue": ("mistakes", "What people get wrong", "What they get wrong", NOTHING),
    "a mistake's name": ("mistakes", "\n## ", "\n## new-", FINDING),
    "a mistake": ("mistakes", "\n+", "\n+ ", FINDING),
    "why two are equivalent": ("equivalent", "\n## ", "\n## as is plain, ", NOTHING),
    "an equivalent mutant": ("equivalent", "\n+", "\n+ ", BOTH),
    "the statement": ("solution", "Maximum gap", "The gap", NOTHING),
    "a worked example": ("solution", "\n>>> ", "\n>>> 1 + ", BOTH),
    "a comment in the solution, where lines are counted": ("solution", "### BEGIN SOLUTION\n", "### BEGIN SOLUTION\n    # so\n", BOTH),
    "a style": ("accepted", "def ", "\n\ndef ", FINDING),
}  # fmt: skip


def exercise_in(folder: Path) -> Exercise:
    """Read anew."""
    return Exercise("leetcode", "maximum_gap", folder / "grader" / "suites", folder)


@pytest.fixture
def copied(tmp_path):
    """The files of one exercise, alone."""
    for name in ("grader/suites/leetcode/maximum_gap", "solutions/leetcode"):
        shutil.copytree(catalog.content() / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def all_keys(exercise: Exercise) -> dict[str, object]:
    return {
        "finding": keys.finding(exercise, None),
        "mutation": keys.mutation(exercise, Path(mutants.__file__)),
    }


@pytest.mark.parametrize("case", TOUCHED)
def test_what_touches_an_exercise(copied, case):
    which, old, new, expected = TOUCHED[case]
    file = copied / FILES[which]
    before, text = all_keys(exercise_in(copied)), file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    after = all_keys(exercise_in(copied))
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_finding_depends_on_the_mutation_score(copied):
    exercise = exercise_in(copied)
    assert keys.finding(exercise, {"killed": 1}) != keys.finding(exercise, {"killed": 2})


def test_an_answer_counts_with_all_that_runs():
    said = '"""What to do.\n\n>>> f(1)\n2\n"""'
    assert keys.code(f"{said}\nx = 1\n") == keys.code(f"{said.replace('do', 'build')}\nx = 1\n")
    others = [
        f"{said}\nx = 2\n",
        f"{said.replace('2', '3')}\nx = 1\n",
        f"{said}; x = 1\n",
        f"#\n{said}\nx = 1\n",
        "x = 1\n",
        "",
    ]
    assert len({keys.code(text) for text in [*others, f"{said}\nx = 1\n"]}) == len(others) + 1
    assert keys.code("def f(:") == "def f(:"


@pytest.mark.parametrize("which", ["suite", "card", "solution", "mistakes"])
def test_what_cannot_be_read_is_named(copied, which):
    (copied / FILES[which]).unlink()
    with pytest.raises(Fault, match=f"{FILES[which].rsplit('/')[-1]}|maximum_gap"):
        all_keys(exercise_in(copied))
    assert findings._key(exercise_in(copied)) == ""


def test_every_exercise_has_its_turn():
    exercises = list(catalog.exercises())
    commits = [f"{number:040x}" for number in range(100)]
    for count in (1, 3, len(exercises) + 2):
        turns = [findings.turn(exercises, count, commit) for commit in commits]
        assert {exercise for chosen in turns for exercise in chosen} == set(exercises)
        assert all(len(set(chosen)) == min(count, len(exercises)) for chosen in turns)
        assert turns == [findings.turn(exercises, count, commit) for commit in commits]


def test_the_samples_are_drawn_by_the_commit(kit, monkeypatch):
    monkeypatch.setattr(catalog, "content", lambda: kit.folder)
    monkeypatch.setattr(catalog, "SUITES", kit.folder / "grader" / "suites")

    def drawn():
        record.commit.cache_clear()
        return record.commit()

    without = drawn()
    kit.edit(kit.suite, "what=", "reason=None, what=")
    assert drawn() != without
    kit.commit()
    assert drawn() == kit.git("rev-parse", "HEAD")
    record.commit.cache_clear()
