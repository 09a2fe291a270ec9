"""The mutation score of the kit's own modules, on a clone that holds one of three lines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from grader.authoring import kit
from grader.authoring.mutation import mutate_command
from grader.errors import UsageError
from grader.mistake import read_equivalents

pytestmark = pytest.mark.slow

MODULE = '''"""Numbers."""


def larger(x: int, y: int) -> int:
    """The larger of two."""
    if x > y:
        return x
    return y
'''
LOOP = """def countdown(n):
    while n != 0:
        n = n - 1
    return n
"""
TESTS = """from grader.numbers import larger


def test_larger():
    assert larger(1, 2) == larger(2, 1) == 2
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose only module is `numbers`."""
    for name in kit.COPIED:
        if "." not in name:
            (tmp_path / name).mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "grader" / "__init__.py").write_text("")
    (tmp_path / "grader" / "numbers.py").write_text(MODULE)
    (tmp_path / "tests" / "test_numbers.py").write_text(TESTS)
    monkeypatch.setattr(kit, "content", lambda: tmp_path)
    monkeypatch.setattr(kit, "PACKAGE", tmp_path / "grader")
    monkeypatch.setattr(kit, "MODULES", ("numbers",))
    monkeypatch.setattr(kit, "SLOW", ())
    monkeypatch.setattr(kit, "PATIENCE", 1.0)
    return tmp_path


def measured(every=True):
    told = []
    ((module, score),) = kit.measure(kit.select(()), every, 2, lambda *done: told.append(done))
    assert told[-1] == (module, len(told), len(told))
    assert len(told) == score.mutants
    return score


def test_survivors_are_what_the_tests_let_pass(clone):
    score = measured()
    (survivor,) = score.survivors
    assert survivor.diff(MODULE).endswith("-    if x > y:\n+    if x >= y:\n         return x")
    assert (score.mutants, score.killed) == (len(kit.of_module(MODULE)), len(kit.of_module(MODULE)) - 1)


def test_weaker_tests_kill_less(clone):
    before = measured().killed
    file = clone / "tests" / "test_numbers.py"
    file.write_text(TESTS.replace("larger(2, 1) == ", ""))
    assert measured().killed < before
    file.write_text(
        f"import pytest\n{TESTS}".replace("def test", "@pytest.mark.slow\ndef test") + "\n\ndef test_nothing(): pass\n"
    )
    assert measured().killed == 0  # slow tests are not for this


def test_a_mutant_that_never_ends_is_killed(clone):
    (clone / "grader" / "numbers.py").write_text(LOOP)
    (clone / "tests" / "test_numbers.py").write_text(
        "from grader.numbers import countdown\n\ndef test_it():\n    assert countdown(2) == 0\n"
    )
    (module,) = kit.select(())
    endless = next(mutant for mutant in kit.of_module(LOOP) if "n = n + 1" in mutant.text)
    with kit._clones(1) as (only,):
        assert only.kill(module, endless, only.limit(module)) == "timeout"
        assert only.kill(module, replace(endless, text=LOOP), 60.0) == ""
        assert only.kill(module, replace(endless, text="import os\nos._exit(3)\n"), 60.0) == "crash"
        assert only.kill(module, replace(endless, text="1 / 0\n"), 60.0) == "tests/test_numbers.py"


def test_what_is_listed_is_no_survivor(clone):
    (survivor, *_) = measured().survivors
    (module,) = kit.select(("numbers",))
    file = kit.equivalent(module, survivor.key, "the larger of two equal numbers is either")
    assert file == clone / "tests" / "equivalent" / "numbers.diff"
    (item,) = read_equivalents(file)
    assert item.reason == "the larger of two equal numbers is either"
    score = measured()
    assert (score.equivalent, score.stale) == ((survivor.key,), ())
    killed = next(mutant for mutant in kit.of_module(MODULE) if mutant.key not in score.equivalent)
    kit.equivalent(module, killed.key, "it is not")
    assert len(measured().stale) == 1
    with pytest.raises(UsageError, match="numbers has no mutant `0123456789ab`"):
        kit.equivalent(module, "0123456789ab", "so")


def test_a_sample_is_always_the_same(clone, monkeypatch):
    monkeypatch.setattr(kit, "SAMPLE", 2)
    first, second = measured(every=False), measured(every=False)
    assert first == second
    assert first.mutants == 2


def test_tests_that_do_not_pass_have_no_score(clone):
    (clone / "tests" / "test_numbers.py").write_text(TESTS.replace("== 2", "== 3"))
    with pytest.raises(
        UsageError, match=r"the tests of numbers do not pass on it as it is: tests/test_numbers\.py::test_larger"
    ):
        measured()


def test_the_command(clone):
    said = CliRunner().invoke(mutate_command, ["--kit", "--all", "--json"])
    (found,) = json.loads(said.stdout)["modules"]
    assert (found["module"], found["mutants"]) == ("numbers", len(kit.of_module(MODULE)))
    assert said.exit_code == (0 if found["score"] >= kit.AIM else 1)
    said = CliRunner().invoke(mutate_command, ["--kit", "words"])
    assert "`words` is not mutated; it is one of numbers" in str(said.exception)


def test_every_module_has_its_tests():
    for module in kit.select(()):
        assert (kit.PACKAGE / f"{module.path}.py").is_file()
        assert (kit.content() / "tests" / f"test_{module.name}.py").is_file(), module.path
