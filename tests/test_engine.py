"""Grading end to end: seeds, parts, devices, the verdict's form, the diagnosis and the repro."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from grader import catalog
from grader.diagnosis import Recall
from grader.engine import Engine
from grader.errors import Fault, UsageError
from grader.exercise import Exercise
from grader.mistake import plant
from grader.order import Order
from grader.plugin import collect, lean
from grader.remote.calls import Call, Result
from grader.verdict import Cause, Outcome, Status, from_json

pytestmark = pytest.mark.slow

GAP = catalog.find("maximum_gap")
SOLUTION = GAP.text
ADAMW = catalog.find("adamw")


def mistaken(exercise, name):
    mistakes = {mistake.name: mistake for mistake in exercise.mistakes}
    return plant(exercise.text, mistakes[name])


@pytest.mark.parametrize("exercise", catalog.exercises(), ids=lambda exercise: exercise.slug)
def test_every_solution_passes(engine, exercise):
    verdict = engine.grade(Order(exercise, exercise.solution, seed=12345)).verdict
    assert verdict.status is Status.PASSED
    assert verdict.points == verdict.max_points > 0
    assert all(test.message == "" and test.cause is None for test in verdict.tests)


def test_points_are_those_of_the_tests(grade):
    verdict = grade("maximum_gap", SOLUTION)
    assert (
        verdict.points == sum(test.points for test in verdict.tests) == sum(test.max_points for test in verdict.tests)
    )
    assert verdict.exercise == "leetcode/maximum_gap"
    assert verdict.seconds > 0


def test_the_same_seed_gives_the_same_verdict(grade):
    def told(seed):
        verdict = grade("adamw", mistaken(ADAMW, "eps-inside-root"), seed=seed, performance=False)
        return [(test.name, test.outcome, test.message) for test in verdict.tests]

    assert told(3) == told(3)
    other = told(4)
    assert [(name, outcome) for name, outcome, _ in told(3)] == [(name, outcome) for name, outcome, _ in other]
    assert told(3) != other  # other numbers, the same verdict


def test_a_test_that_breaks_on_the_solution_too_is_no_mistake_of_the_learner(grade, monkeypatch):
    other = "def maximum_gap(nums):\n    return [1]\n"
    monkeypatch.setattr(collect.load(GAP), "oracle", lambda nums: 1 // 0)
    with pytest.raises(Fault, match=r"is wrong: TestValues::test_random.* with seed 0: ZeroDivisionError"):
        grade("maximum_gap", other, performance=False)


def test_a_result_that_breaks_a_test_is_a_mistake_of_the_learner(grade):
    text = 'def retention(*arguments):\n    """Neither output nor state."""\n    return 5\n'
    verdict = grade("mamba", f"{catalog.find('mamba').text}\n\n{text}", performance=False)
    (test,) = [test for test in verdict.tests if test.name == "TestValues::test_linear_attention"]
    assert test.message.startswith("the result is not of the form that the statement asks for\nTypeError: ")
    assert verdict.status is Status.FAILED


def test_a_named_mistake(grade):
    verdict = grade("adamw", mistaken(ADAMW, "coupled-decay"), performance=False)
    assert verdict.status is Status.FAILED
    (named,) = verdict.diagnosis
    assert named.mistake == "coupled-decay"
    assert named.explains == named.of > 1
    failed = next(test for test in verdict.tests if test.name == "TestValues::test_adamw[decay]")
    for words in (
        "expected",
        "got",
        "where",
        "how far",
        "is allowed",
        "the call   trajectory('AdamW', [float64 (3, 4)",
    ):
        assert words in failed.message


def test_the_demo_attempt_has_its_mistake_named(engine):
    verdict = engine.grade(Order(ADAMW, catalog.PACKAGE / "demo" / "adamw.py", performance=False)).verdict
    assert [named.mistake for named in verdict.diagnosis] == ["coupled-decay"]


def test_an_unknown_mistake_is_not_given_a_name(grade):
    text = SOLUTION.replace(
        "def maximum_gap(", "def maximum_gap(nums):\n    return 77 + len(nums)\n\n\ndef ignored(", 1
    )
    verdict = grade("maximum_gap", text, performance=False)
    assert verdict.status is Status.FAILED
    assert verdict.diagnosis == []


def test_one_part_alone(grade):
    verdict = grade("adamw", ADAMW.text, part="SGD")
    assert verdict.status is Status.PASSED
    assert {test.part for test in verdict.tests} == {"SGD"}
    with pytest.raises(
        UsageError, match="no part `Sgd` in optimizers/adamw; its parts are Optimizer, SGD, Adam, AdamW"
    ):
        grade("adamw", SOLUTION, part="Sgd")


def test_without_performance_tests(grade):
    verdict = grade("maximum_gap", SOLUTION, performance=False)
    assert verdict.status is Status.PASSED
    assert "performance" not in {test.category for test in verdict.tests}


def test_memory_is_limited(tmp_path):
    file = tmp_path / "maximum_gap.py"
    file.write_text("def maximum_gap(nums):\n    return len(bytearray(600 << 20))\n")
    causes = {}
    for size in (256 << 20, 2 << 30):
        with Engine(memory=size) as small:
            verdict = small.grade(Order(GAP, file, performance=False)).verdict
        causes[size] = {test.cause for test in verdict.tests if test.outcome is Outcome.FAILED}
    assert Cause.OUT_OF_MEMORY in causes[256 << 20]
    assert Cause.OUT_OF_MEMORY not in causes[2 << 30]


@pytest.mark.parametrize("tier", ["process", "sandbox"])
def test_tiers_agree_and_are_named(tier, tmp_path):
    from grader.sandbox import layers

    if tier == "sandbox" and layers.best_tier(layers.probe_layers()) != "sandbox":
        pytest.skip("the sandbox tier does not work here: see `grade doctor`")
    with Engine(tier=tier) as one:
        assert (one.grade(Order(GAP, GAP.solution)).verdict.status, one.tier) == (Status.PASSED, tier)
        file = tmp_path / "maximum_gap.py"
        file.write_text(mistaken(GAP, GAP.mistakes[0].name))
        verdict = one.grade(Order(GAP, file, performance=False)).verdict
        assert (verdict.status, verdict.isolation) == (Status.FAILED, tier)


def test_an_unknown_tier_is_a_usage_error():
    with pytest.raises(UsageError, match="no isolation tier `jail`"):
        Engine(tier="jail")


def test_exercises_without_torch_never_import_it():
    code = (
        "import sys\nfrom grader import catalog\nfrom grader.engine import Engine\nfrom grader.order import Order\n"
        "with Engine() as engine:\n"
        "    for slug in ('maximum_gap', 'combination_sum', 'combination_sum_ii', 'bpe', 'ngram'):\n"
        "        exercise = catalog.find(slug)\n"
        "        assert engine.grade(Order(exercise, exercise.solution, performance=False)).verdict.passed, slug\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=catalog.content())
    assert (said.stdout, said.stderr) == ("False False\n", "")


def test_a_verdict_survives_json(grade):
    for text in (
        SOLUTION,
        mistaken(GAP, GAP.mistakes[0].name),
        "import heapq\n" + "def maximum_gap(nums):\n    return 1\n",
    ):
        verdict = grade("maximum_gap", text, performance=False)
        data = json.loads(json.dumps(verdict.to_json()))
        assert data["version"] == 1
        assert from_json(data) == verdict


WRONG = {"adamw": "coupled-decay", "maximum_gap": "smallest-to-smallest"}  # mistakes that give a wrong result


@pytest.mark.parametrize("slug", ["adamw", "maximum_gap"])
def test_the_repro_script_repeats_the_failing_call(engine, tmp_path, slug):
    exercise = catalog.find(slug)
    file = tmp_path / f"{slug}.py"
    file.write_text(mistaken(exercise, WRONG[slug]))
    report = engine.grade(Order(exercise, file, performance=False))
    assert report.verdict.status is Status.FAILED
    (wrong,) = {str(result.value) for trial in report.trials for call, result in trial.calls if call is report.failing}
    script = tmp_path / "repro.py"
    script.write_text(report.repro)

    def run():
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True)

    said = run()
    assert (said.stdout, said.stderr) == (f"{wrong}\n", "")
    file.write_text(exercise.text)  # the learner mends it, and sees that the same call gives another result
    said = run()
    assert said.stdout != f"{wrong}\n"
    assert said.stderr == ""


def test_gpu_tests_skip_without_points_where_there_is_none(tmp_path, engine, monkeypatch):
    """A suite whose performance tests are marked as a GPU's, beside the real one."""
    usual = engine.grade(Order(GAP, GAP.solution)).verdict
    suite = GAP.suite.read_text(encoding="utf-8").replace(
        "class TestPerformance:", "@pytest.mark.gpu\nclass TestPerformance:"
    )
    module = tmp_path / "maximum_gap.py"
    module.write_text(suite)
    monkeypatch.setattr(Exercise, "suite", module)
    monkeypatch.setattr(collect, "load", lambda exercise: sys.modules["grader.suites.leetcode.maximum_gap.suite"])
    verdict = engine.grade(Order(GAP, GAP.solution)).verdict
    assert verdict.status is Status.PASSED
    timed = {test.name: test.max_points for test in usual.tests if test.category == "performance"}
    assert timed
    skipped = {test.name: test for test in verdict.tests if test.outcome is Outcome.SKIPPED}
    assert skipped.keys() == timed.keys()
    assert {(test.cause, test.points, test.max_points) for test in skipped.values()} == {(Cause.NO_GPU, 0, 0)}
    assert all("needs a GPU" in test.message for test in skipped.values())
    assert verdict.max_points == verdict.points == usual.max_points - sum(timed.values())


def test_a_suite_without_a_test_is_no_pass(grade, monkeypatch):
    """As older pytests find none, and would let every answer pass."""
    collect.forget()
    monkeypatch.setattr(lean, "collect", lambda files, root, plugin: "")
    with pytest.raises(Fault, match=r"pytest [\d.]+ finds no test in the suite .*maximum_gap.suite\.py"):
        grade("maximum_gap", SOLUTION)
    collect.forget()


def test_memory_forgets_what_was_used_longest_ago():
    memory, ran = Recall(most=3, most_bytes=100), []

    def run(call):
        ran.append(call.name)
        return Result(value=call.name, size={"large": 80, "huge": 200}.get(call.name, 10))

    def values(*names):
        ran.clear()
        calls = [Call(name, None, [], {}, b"", seed=0) for name in names]
        assert [result.value for result in memory.get("source", calls, run)] == list(names)
        return ran

    assert values("a", "b", "c") == ["a", "b", "c"]
    assert values("a", "d") == ["d"]
    assert values("b") == ["b"]
    assert values("a", "large") == ["large"]
    assert values("a", "d") == ["d"]
    assert values("huge", "a") == ["huge", "a"]
    assert memory.held == 10
