"""What an author's commands write: stubs, mistakes, equivalent mutants, the README's tables; and what git makes of it."""

from __future__ import annotations

import json
import shutil

import pytest

from grader.authoring.mutants import mutants
from grader.mistake import plant, read_equivalents, read_mistakes

pytestmark = pytest.mark.slow

ANSWER = "raise NotImplementedError()", "return x + x"


def complaints(kit):
    """What `grade dev check` finds wrong with the derived files."""
    said = kit.dev("check", "maths", "--json", "--jobs", "1")
    problems = json.loads(said.stdout)["problems"]
    return [problem["what"] for problem in problems if problem["exercise"] == "derived"]


# --- stubs ---


def test_sync_leaves_answers_alone(kit):
    kit.edit(kit.stub, *ANSWER)
    answer = kit.stub.read_text()
    said = kit.dev("sync")
    assert "exercises/maths/square.py holds an answer, left alone" in said.stdout
    assert kit.stub.read_text() == answer
    kit.stub.write_text("# an outdated stub\n\ndef square(x):\n    raise NotImplementedError\n")
    assert "wrote exercises/maths/square.py" in kit.dev("sync").stdout


@pytest.mark.parametrize("repository", [True, False], ids=["in git", "without git"])
def test_the_gate_does_not_mind_an_answer(kit, repository):
    if repository:
        kit.commit()
    kit.edit(kit.stub, *ANSWER)
    assert complaints(kit) == []


def test_what_git_has_must_be_derived(kit):
    stale = ["exercises/maths/square.py is not what is derived"]
    derived = kit.stub.read_text()
    kit.stub.write_text(derived + "# more\n")
    kit.commit()
    assert complaints(kit) == stale
    kit.edit(kit.stub, *ANSWER)
    assert complaints(kit) == stale
    answer = kit.stub.read_text()
    assert "holds an answer, left alone" in kit.dev("sync").stdout
    assert kit.stub.read_text() == answer
    kit.stub.write_text(derived)  # as `grade dev sync` does, before the commit
    assert complaints(kit) == []
    kit.commit()
    kit.stub.write_text(derived + "# a learner's remark\n")
    assert complaints(kit) == []
    assert kit.dev("sync").stdout == "everything derived is up to date\n"
    kit.stub.unlink()
    assert complaints(kit) == stale


def test_an_answer_in_git_is_no_stub(kit):
    kit.edit(kit.stub, *ANSWER)
    kit.commit()
    assert complaints(kit) == ["exercises/maths/square.py is not what is derived"]


# --- the README, and branches ---

README = "# A kit\n\n<!-- exercises -->\n<!-- /exercises -->\n\n<!-- teeth -->\n<!-- /teeth -->\n"


def test_stale_tables_are_a_warning(kit):
    kit.edit(kit.solution, "authors (year)", "Euclid (1956)")
    kit.dev("sync")
    kit.dev("mutate")
    (kit.folder / "README.md").write_text(README)
    said = kit.dev("check")
    assert (said.returncode, "the README has other tables" in said.stderr) == (0, True)
    assert kit.dev("readme").stdout == "wrote README.md\n"
    table = (kit.folder / "README.md").read_text()
    assert "| [maths/square](exercises/maths/square.py): Square | `square` | core | 20 |" in table
    assert "| maths/square | 2 | 1 | 1 of 1 | 0 | 4 |" in table
    assert kit.dev("readme").stdout == "the tables of the README are up to date\n"
    assert "README" not in kit.dev("check").stderr


def test_two_branches_that_each_add_an_exercise_merge(kit):
    (kit.folder / "README.md").write_text(README)
    kit.dev("mutate")
    kit.dev("readme")
    kit.commit()
    slugs = "cube", "root"
    for slug in slugs:
        tree = kit.folder.parent / slug
        kit.git("worktree", "add", "--quiet", "-b", slug, str(tree))
        branch = type(kit)(tree)
        for words in (("new", f"maths/{slug}"), ("sync",), ("mutate", slug)):
            assert branch.dev(*words).returncode == 0, words
        branch.commit()
    for slug in slugs:
        kit.git("merge", "--quiet", "--no-edit", slug)
    assert kit.git("status", "--porcelain") == ""
    for slug in slugs:
        assert (kit.folder / "exercises" / "maths" / f"{slug}.py").is_file()
        assert (kit.folder / "tests" / "measured" / "maths" / f"{slug}.json").is_file()
    assert kit.dev("sync").stdout == "everything derived is up to date\n"


# --- mistakes ---

SAYS = "the number is cubed; it is multiplied by itself once"


def test_an_edit_becomes_a_mistake(kit):
    kit.commit()
    solution = kit.solution.read_text()
    kit.edit(kit.solution, "return x * x", "return x * x * x")
    edited = kit.solution.read_text()
    said = kit.dev("mistake", "square", "cubed", SAYS)
    assert said.returncode == 0, said.stderr
    assert "wrote `cubed` into grader/suites/maths/square/mistakes.diff" in said.stdout
    assert "`grade dev check square`" in said.stdout
    assert kit.solution.read_text() == solution
    doubled, cubed = read_mistakes(kit.mistakes)
    assert (doubled.name, cubed.name, cubed.says) == ("doubled", "cubed", SAYS)
    assert plant(solution, cubed) == edited
    assert not [what for what in kit.problems() if "mistake" in what]


def test_an_edit_in_two_places(kit):
    kit.edit(kit.solution, "return x * x", "y = x\n    for _ in range(1):\n        pass\n    y = y * x\n    return y")
    kit.commit()
    solution = kit.solution.read_text()
    kit.edit(kit.solution, "y = x\n", "y = 2 * x\n")
    kit.edit(kit.solution, "return y", "return -y")
    edited = kit.solution.read_text()
    kit.mistakes.unlink()
    assert kit.dev("mistake", "square", "twice-wrong", SAYS).returncode == 0
    (mistake,) = read_mistakes(kit.mistakes)
    assert len(mistake.edits) == 2
    assert plant(solution, mistake) == edited
    assert kit.mistakes.read_text().startswith("What people get wrong")


REFUSED = {
    "no edit": ("x * x", "x * x", "cubed", SAYS, "does what git's does: make the mistake in it first"),
    "a comment": ("x * x", "x * x  # so", "cubed", SAYS, "does what git's does"),
    "a taken name": ("x * x", "x * x * x", "doubled", SAYS, "has a mistake called `doubled` already"),
    "no kebab": ("x * x", "x * x * x", "Cubed_It", SAYS, "`Cubed_It` is no name for a mistake; write it in kebab-case"),
    "no Python": ("x * x", "x *", "cubed", SAYS, "the edited solution does not compile: invalid syntax"),
    "no words": ("x * x", "x * x * x", "cubed", " ", "say what the learner is told"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_mistake(kit, case):
    old, new, name, says, message = REFUSED[case]
    kit.commit()
    kit.edit(kit.solution, f"return {old}", f"return {new}")
    kept = kit.solution.read_text(), kit.mistakes.read_text()
    said = kit.dev("mistake", "square", name, says)
    assert said.returncode == 2
    assert message in said.stderr
    assert (kit.solution.read_text(), kit.mistakes.read_text()) == kept


def test_a_mistake_needs_git(kit):
    kit.edit(kit.solution, "return x * x", "return x * x * x")
    said = kit.dev("mistake", "square", "cubed", SAYS)
    assert said.returncode == 2
    assert "git has no solutions/maths/square.py to compare with" in said.stderr


# --- equivalent mutants ---


@pytest.fixture
def survivors(kit):
    """The kit with a solution of which two mutants survive, and the keys of these."""
    kit.edit(kit.solution, "return x * x", "return x * x * abs(1)")
    kit.edit(kit.mistakes, "-    return x * x", "-    return x * x * abs(1)")
    said = kit.dev("mutate", "--json", "--jobs", "1")
    (found,) = json.loads(said.stdout)["exercises"]
    assert (said.returncode, found["mutants"], found["killed"], found["score"]) == (1, 5, 3, 0.6)
    assert "-    return x * x * abs(1)\n+    return x * x * abs((-1))" in "\n".join(found["survivors"])
    keys = json.loads(kit.measured.read_text())["mutation"]["survivors"]
    shown = kit.dev("mutate").stdout
    assert all(f"maths/square: {key} survives, " in shown for key in keys)
    return keys


def test_survivors_are_listed_as_equivalent(kit, survivors):
    reason = "1 and -1 have one absolute value, by which nothing changes"
    for key in survivors:
        said = kit.dev("mutate", "square", "--equivalent", key, reason)
        assert said.returncode == 0, said.stderr
        assert f"wrote `{key}` into grader/suites/maths/square/equivalent.diff" in said.stdout
    (item,) = read_equivalents(kit.equivalent)
    assert (item.reason, len(item.edits)) == (reason, 2)
    said = kit.dev("mutate", "--json", "--jobs", "1")
    (found,) = json.loads(said.stdout)["exercises"]
    assert (said.returncode, found["equivalent"], found["survivors"]) == (0, 2, [])


def test_each_reason_has_its_block(kit, survivors):
    for key, reason in zip(survivors, ("one reason", "another"), strict=True):
        assert kit.dev("mutate", "square", "--equivalent", key, reason).returncode == 0
    assert [(item.reason, len(item.edits)) for item in read_equivalents(kit.equivalent)] == [
        ("one reason", 1),
        ("another", 1),
    ]


def test_what_cannot_be_listed(kit, survivors):
    killed = next(mutant.key for mutant in mutants(kit.solution.read_text()) if mutant.key not in survivors)
    for words, message in (
        (("square", "--equivalent", "0123456789ab", "so"), "maths/square has no mutant `0123456789ab`"),
        (("square", "--equivalent", killed, "so"), f"the mutant `{killed}` is killed"),
        (("square", "--equivalent", survivors[0], " "), "say why no test can tell"),
        (("--equivalent", survivors[0], "so"), "`--equivalent` is about one text"),
    ):
        said = kit.dev("mutate", *words)
        assert (said.returncode, message in said.stderr) == (2, True), said.stderr
    kit.edit(kit.suite, "what=", "reason=None, what=")
    said = kit.dev("mutate", "square", "--equivalent", survivors[0], "so")
    assert (said.returncode, "the mutants of maths/square are not measured" in said.stderr) == (2, True)
    assert not kit.equivalent.exists()


def test_a_survivor_is_listed_once(kit, survivors):
    words = "mutate", "square", "--equivalent", survivors[0], "so"
    assert kit.dev(*words).returncode == 0
    kit.dev("mutate")
    said = kit.dev(*words)
    assert (said.returncode, "is listed already" in said.stderr) == (2, True)


def test_a_new_kit_has_no_git(scaffold):
    """The tests above would prove nothing about "without git" in a repository."""
    assert shutil.which("git")
    assert not [folder for folder in scaffold.folder.parents if (folder / ".git").exists()]
