"""The author's side: what `grade dev new` writes passes once it has variants, and the gate finds what is broken."""

from __future__ import annotations

import json
import shutil

import pytest

from grader.authoring.mutants import mutants

pytestmark = pytest.mark.slow


def test_a_scaffold_with_variants_passes(kit):
    statement = kit.solution.read_text()
    stale = "the mutation score is of another suite or solution"
    assert kit.problems() == ["the statement cites no source", stale]
    kit.edit(kit.solution, "authors (year)", "Euclid (1482)")
    kit.edit(kit.solution, "1482", "1956")
    kit.dev("sync")
    assert kit.dev("mutate").returncode == 0
    assert kit.problems() == []
    assert "(known)" in kit.dev("check").stderr
    assert "(known)" not in kit.dev("check", "--again", "1").stderr
    assert "### BEGIN SOLUTION" in statement
    stub = kit.stub.read_text()
    assert "    # YOUR CODE HERE\n    raise NotImplementedError()\n" in stub
    assert "return x * x" not in stub


BROKEN = {
    "a wrong solution": ("solution", "return x * x", "return x * x + 1e-3", "the solution does not pass with seed 0"),
    "a seed that matters": ("suite", "assert_close(sub", "assert x < 2.9\n        assert_close(sub", "breaks on the kit's own solution with seed"),
    "a probe without words": (
        "suite",
        "\n\nclass Test",
        "\n\nfrom grader.suite import probe\n\n\n@probe\ndef twice(module):\n    return 2\n\n\nclass Test",
        "probe `twice` has no docstring",
    ),
    "a mistake that passes": ("mistakes", "+    return x + x", "+    return x * x * 1", "mistake `doubled` passes"),
    "an edit that does not match": ("mistakes", "-    return x * x", "-    return y * y", "0 places instead of one hold"),
    "a mistake that does not compile": ("mistakes", "+    return x + x", "+    return x +", "mistake `doubled` does not compile: invalid syntax"),
    "two mistakes alike": (
        "mistakes",
        "## doubled",
        "## twice\nit is doubled\n@@ -1,1 +1,1 @@\n-    return x * x\n+    return 2 * x\n\n## doubled",
        "mistake `doubled` is named `twice`, `doubled`",
    ),
    "two of one name": (
        "mistakes",
        "## doubled",
        "## doubled\nit is doubled\n@@ -1,1 +1,1 @@\n-    return x * x\n+    return 3 * x\n\n## doubled",
        "two mistakes are called `doubled`",
    ),
    "a hint that tells": ("card", '"nearly the answer"', '"    \\"\\"\\"What goes in and what comes out: shapes, dtypes, errors.\\"\\"\\""', "hint 3 holds a line of the solution"),
    "a block that is none": ("mistakes", "@@ -17,3 +17,3 @@", "@@ -17,9 +17,9 @@", "the hunks of `doubled` cannot be read"),
    "a test that nothing fails": (
        "suite",
        'what="the square")\n',
        'what="the square")\n\n    @pytest.mark.part("square")\n    def test_zero(self, submission):\n        """zero"""\n'
        '        assert_close(submission.square(0.0), 0.0, what="zero")\n',
        "no mistake fails TestValues::test_zero",
    ),
    "a test of no part": ("suite", '    @pytest.mark.part("square")\n', "", "is marked with no part"),
    "too few hints": ("card", '["a nudge", "a larger one", "nearly the answer"]', '["a nudge"]', "1 hints; three at least"),
    "an unknown level": ("card", '"core"', '"brutal"', "no level 'brutal'"),
    "an unknown field": ("card", "minutes = 20", "minutes = 20\nhours = 1", "there is no field `hours`"),
    "too few follow-ups": (
        "card",
        '[[follow_ups]]\nquestion = "And then?"\nanswer = "What an expert would answer."\n',
        "",
        "two follow-ups with answers at least",
    ),
    "an unknown prerequisite": ("card", "after = []", 'after = ["circle"]', "`after` names `circle`"),
    "its own prerequisite": ("card", "after = []", 'after = ["square"]', "in a circle: square, square"),
    "a stale stub": ("stub", "YOUR CODE", "MY CODE", "exercises/maths/square.py is not what is derived"),
    "a right answer rejected": ("variant", "return x**2", "return x**3", "power.py is correct but does not pass"),
    "no part": ("solution", "### BEGIN SOLUTION", "### BEGIN", "the solution has no part"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_the_gate_finds(kit, case):
    which, old, new, message = BROKEN[case]
    file = {
        "solution": kit.solution,
        "suite": kit.suite,
        "card": kit.card,
        "mistakes": kit.mistakes,
        "stub": kit.stub,
        "variant": kit.accepted / "power.py",
    }[which]
    kit.edit(file, old, new)
    assert any(message in what for what in kit.problems())


def test_the_gate_finds_what_is_missing(kit):
    shutil.copy(kit.solution, kit.solution.parent / "cube.py")
    shutil.copytree(kit.suite.parent, kit.suite.parent.with_name("root"))
    (kit.folder / "exercises" / "maths" / "old.py").write_text("")
    for file in kit.accepted.glob("style_*.py"):
        file.unlink()
    found = "\n".join(kit.problems())
    for words in (
        "the solution has no suite",
        "the suite has no solution",
        "exercises/maths/old.py has no solution",
        "1 other correct solutions; 4 at least",
    ):
        assert words in found


@pytest.mark.parametrize("path", ["square", "maths/", "Maths/Square", "other/square", "../x/y"])
def test_names_that_cannot_be(kit, path):
    said = kit.dev("new", path)
    assert said.returncode == 2
    assert "error" in said.stderr
    assert "Traceback" not in said.stderr


def mutated(kit):
    """The only exercise in what `dev mutate --json` prints, and the exit code."""
    said = kit.dev("mutate", "--json", "--jobs", "1")
    printed = json.loads(said.stdout)
    assert printed["version"] == 1
    return printed["exercises"][0], said.returncode


def test_mutants_are_killed(kit):
    expected = {"exercise": "maths/square", "mutants": 1, "killed": 1, "equivalent": 0, "score": 1.0, "survivors": []}
    assert mutated(kit) == (expected, 0)


@pytest.mark.parametrize(
    ("hunk", "message"),
    [
        ("-    return x * x\n+    return x / x\n", "an edit is no survivor:\n    return x / x"),
        ("-    return y\n+    return x\n", "0 places instead of one hold these lines:\n    return y"),
    ],
    ids=["killed", "gone"],
)
def test_an_equivalent_without_a_survivor_is_an_error(kit, hunk, message):
    kit.equivalent.write_text(f"## the same\n@@ -1,1 +1,1 @@\n{hunk}")
    said = kit.dev("mutate")
    assert said.returncode == 1
    assert message in said.stdout


def test_the_committed_score_can_neither_lie_nor_rot(kit):
    kit.dev("mutate")
    measured = json.loads(kit.measured.read_text())
    measured["mutation"].update(killed=0, survivors=["0123456789ab"])
    kit.measured.write_text(json.dumps(measured))
    assert "1 mutants survive, 0 are killed" in kit.problems()
    solution = kit.solution.read_text()
    mutant = mutants(solution)[0]
    measured["mutation"].update(killed=40, survivors=[mutant.key])
    kit.measured.write_text(json.dumps(measured))
    assert any(what.startswith(f"a mutant in line {mutant.line(solution)} is killed now") for what in kit.problems())
    kit.edit(kit.suite, "what=", "reason=None, what=")
    assert "the mutation score is of another suite or solution" in kit.problems()


def test_a_committed_finding_is_of_what_is_there(kit):
    kit.edit(kit.solution, "authors (year)", "Euclid (1956)")
    kit.dev("sync")
    kit.dev("mutate")
    assert kit.problems() == []
    figures = json.loads(kit.measured.read_text())["finding"]
    del figures["key"]
    assert figures == {"tests": 2, "mistakes": 1, "named": 1, "variants": 4}
    compare = kit.folder / "grader" / "compare.py"
    for changed, more, known in (
        (kit.solution, "# another\n", False),
        (kit.accepted / "power.py", "# another\n", False),
        (kit.suite, "# another\n", True),
        (kit.suite, "ANOTHER = 1\n", False),
        (compare, "# another\n", True),
        (compare, "ANOTHER = 1\n", False),
        (kit.folder / "grader" / "watch.py", "ANOTHER = 1\n", True),
    ):
        text = changed.read_text()
        changed.write_text(f"{text}\n{more}")
        assert ("(known)" in kit.dev("check").stderr) is known, (changed, more)
        changed.write_text(text)
        assert kit.dev("check").returncode == 0
    (kit.accepted / "power.py").write_text("def square(x):\n    return x + x\n")
    assert kit.problems() != []
    assert json.loads(kit.measured.read_text()).keys() == {"mutation"}


def test_a_solution_that_does_not_pass_has_no_score(kit):
    kit.edit(kit.solution, "return x * x", "return x * x * x")
    said = kit.dev("mutate")
    assert said.returncode == 2
    assert "the solution of maths/square does not pass: mend that first" in said.stderr
