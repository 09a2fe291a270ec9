"""The command line: what each command prints, where, and with which exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree as xml

import fake_kit
import pytest
from click.testing import CliRunner

from grader import __version__, catalog, repro, workspace
from grader.cli import COMMANDS, GRADE, cli
from grader.cli import device as devices
from grader.cli.exit_code import ExitCode
from grader.errors import Fault, SubmissionError
from grader.report import Report
from grader.store import Store
from grader.verdict import Status, from_json

ROOT = Path(__file__).resolve().parents[1]


class Kit:
    """A workspace with the fake kit and engine, and a way to run commands in it."""

    def __init__(self, place, engine):
        self.place, self.engine = place, engine
        self.store = Store(place.database)

    def run(self, *arguments, stdin="", **environment):
        runner = CliRunner(env={"NO_COLOR": None, "FORCE_COLOR": None, "COLUMNS": "80", **environment})
        return runner.invoke(cli, list(arguments), input=stdin, color=True, catch_exceptions=False)

    def answer(self, slug, status):
        """Make the engine say this of the learner's file."""
        path = self.place.file(catalog.find(slug))
        path.write_text(f"# {status}\n")
        return path


@pytest.fixture
def kit(tmp_path, monkeypatch):
    fake_kit.use(tmp_path / "kit", monkeypatch)
    engine = fake_kit.use_engine(monkeypatch)
    place = workspace.init(tmp_path / "ws").workspace
    monkeypatch.chdir(place.root)
    yield Kit(place, engine)
    catalog.exercises.cache_clear()


# forms


def test_forms_for_other_programs(kit):
    kit.answer("adamw", Status.FAILED)
    kit.answer("rope", Status.PASSED)
    done = kit.run("adamw", "rope", "--format", "gcc")
    assert done.exit_code == ExitCode.NOT_PASSED
    assert done.stdout == "exercises/optimizers/adamw.py:1:1: error: doubles [two]: expected  4 [double]\n"
    done = kit.run("adamw", "--format", "github")
    assert done.stdout.startswith(
        "::error file=exercises/optimizers/adamw.py,line=1,col=1,endLine=1,title=doubles [two]"
    )
    done = kit.run("adamw", "rope", "--format", "junit")
    root = xml.fromstring(done.stdout)
    assert [suite.get("name") for suite in root] == ["optimizers/adamw", "attention/rope"]
    assert root.get("failures") == "1"
    assert done.exit_code == ExitCode.NOT_PASSED
    assert len(kit.store.attempts()) == 5


@pytest.mark.parametrize("form", ["text", "json", "gcc", "github", "junit"])
def test_a_pass_is_0_in_every_form(kit, form):
    kit.answer("adamw", Status.PASSED)
    done = kit.run("adamw", "--format", form)
    assert done.exit_code == ExitCode.PASSED
    assert (done.stdout == "") == (form in ("gcc", "github"))


def test_json_is_a_form(kit):
    kit.answer("adamw", Status.FAILED)
    assert kit.run("adamw", "--json").stdout == kit.run("adamw", "--format", "json").stdout
    assert kit.run("--json").stdout == kit.run("--format", "json").stdout
    assert kit.run("adamw", "--json", "--format", "json").exit_code == ExitCode.NOT_PASSED


def test_the_text_that_was_graded_is_kept(kit):
    kit.answer("adamw", Status.FAILED)
    kit.run("adamw")
    (attempt,) = kit.store.attempts()
    assert kit.store.text(attempt.digest) == "# failed\n"


# exit codes


def test_passed_is_0(kit):
    kit.answer("adamw", Status.PASSED)
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.PASSED
    assert done.stdout.startswith("passed: optimizers/adamw, 4 of 4 points")
    assert "  - Why not triple?" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PASSED])
def test_not_passed_is_1(kit, status):
    kit.answer("adamw", status)
    assert kit.run("adamw").exit_code == ExitCode.NOT_PASSED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adamx"], "error: no exercise or track `adamx`\n\nhint: did you mean `adamw`?\n"),
        (["zzzzzz"], "error: no exercise or track `zzzzzz`\n\nhint: `grade list` shows them all\n"),
        (["wacth"], "hint: did you mean `watch`?\n"),
        (["hint", "roop"], "hint: did you mean `rope`?\n"),
        (["hint"], "error: missing argument 'SLUG'\n\nhint: `grade hint -h` shows what it takes\n"),
        (["adamw", "--sed", "1"], "hint: `grade SLUG -h` shows what it takes\n"),
        (["adamw", "--seed", "many"], "`many` is no seed: give a whole number from 0, or `random`"),
        (["adamw", "--seed", "-1"], "`-1` is no seed"),
        (["adamw", "rope", "--part", "double"], "error: `--part` needs exactly one exercise\n"),
        (
            ["adamw", "--part", "doubel"],
            "has no part `doubel`: it has double, Doubler\n\nhint: did you mean `double`?\n",
        ),
        (["all", "--file", "x.py"], "error: `--file` needs exactly one exercise\n"),
        (["adamw", "--file", "nowhere.py"], "error: there is no file `nowhere.py`\n"),
        (["--repro"], "error: `--part` and `--repro` need an exercise\n"),
        (["--format", "gcc"], "error: `--format gcc` needs an exercise\n\nhint: `grade list` shows them all\n"),
        (["adamw", "--json", "--format", "junit"], "error: `--json` and `--format junit` contradict each other\n"),
        (["hint", "adamw", "9"], "error: `adamw` has 3 hints, not 9\n"),
        (["hint", "adamw", "2"], "error: hint 2 comes later\n\nhint: `grade hint adamw` gives hint 1\n"),
        (["hint", "adamw", "--all"], "error: you took no hint for `adamw` yet\n"),
        (["solution", "adamw"], "error: you have not passed `adamw` yet\n"),
    ],
)
def test_usage_is_2_and_says_what_to_do(kit, arguments, message):
    done = kit.run(*arguments)
    assert done.exit_code == ExitCode.USAGE
    assert done.stdout == ""
    assert message in done.stderr
    assert not kit.engine.opened


def test_the_kits_own_fault_is_3_and_says_how_to_report_it(kit):
    kit.engine.raises = KeyError("lost")
    done = kit.run("adamw", "--seed", "5")
    assert done.exit_code == ExitCode.FAULT
    assert done.stdout == ""
    assert done.stderr.startswith("error: the kit itself failed: KeyError: 'lost'\n")
    assert "this says nothing about your answer" in done.stderr
    assert f"grader {__version__}, python {sys.version.split()[0]}" in done.stderr
    assert "platform:  " in done.stderr
    assert "hint: open an issue with that file; `grade doctor` checks this machine" in done.stderr
    assert "Traceback" not in done.stderr
    (report,) = kit.place.state.glob("fault-*.txt")
    assert str(report) in done.stderr
    text = report.read_text()
    assert text.startswith("command: grade adamw --seed 5\n")
    assert "Traceback (most recent call last)" in text
    assert kit.engine.opened[0].closed


def test_a_fault_the_kit_raises_speaks_for_itself(kit):
    kit.engine.raises = Fault("the suite of adamw does not load")
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.FAULT
    assert done.stderr.startswith("error: the kit itself failed: the suite of adamw does not load\n")


def test_a_fault_outside_a_workspace_is_reported_too(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    kit.engine.raises = RuntimeError()
    (tmp_path / "adamw.py").write_text("")
    done = kit.run("adamw.py")
    assert done.exit_code == ExitCode.FAULT
    assert "the kit itself failed: RuntimeError: RuntimeError" in done.stderr
    assert len(list(tmp_path.glob("fault-*.txt"))) == 1


def test_ctrl_c_is_130(kit):
    kit.engine.raises = KeyboardInterrupt()
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.INTERRUPTED
    assert done.stderr.rstrip().endswith("interrupted")
    assert kit.engine.opened[0].closed
    assert kit.store.attempts() == []


def test_a_file_that_cannot_be_graded_is_1(kit):
    kit.engine.raises = SubmissionError("`adamw.py` is empty")
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.NOT_PASSED
    assert done.stderr == "error: `adamw.py` is empty\n"


# what words mean


def test_a_track_and_all_print_a_line_each_and_a_sum(kit):
    kit.answer("adamw", Status.PASSED)
    done = kit.run("optimizers")
    assert done.exit_code == ExitCode.NOT_PASSED
    assert done.stdout.splitlines() == [
        "passed: optimizers/adamw, 4 of 4 points (0.08 s, seed 0, cpu, sandbox)",
        "not started: optimizers/schedules, 0 of 6 points (0.08 s, seed 0, cpu, sandbox)",
        "",
        "1 of 2 passed",
    ]
    assert kit.run("all").stdout.endswith("\n1 of 4 passed\n")
    assert len(kit.engine.opened[-1].calls) == 4


def test_words_mean_each_exercise_once(kit):
    kit.run("adamw", "optimizers/adamw", "exercises/optimizers/adamw.py", "exercises/optimizers")
    assert [call["exercise"] for call in kit.engine.opened[0].calls] == ["optimizers/adamw", "optimizers/schedules"]


def test_a_stub_by_its_path_from_anywhere(kit, monkeypatch):
    monkeypatch.chdir(kit.place.root / "leetcode")
    assert "leetcode/two_sum" in kit.run("two_sum.py").stdout
    assert "optimizers/adamw" in kit.run("../exercises/optimizers/adamw.py").stdout


def test_a_path_grades_the_file_that_is_there(kit, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere" / "adamw.py"
    other.parent.mkdir()
    other.write_text("# passed\n")
    assert kit.run(str(other)).exit_code == ExitCode.PASSED
    assert kit.run("adamw", "--file", str(other)).exit_code == ExitCode.PASSED
    monkeypatch.chdir(other.parent)  # no workspace: nothing is kept, grading works
    done = kit.run("adamw.py")
    assert done.exit_code == ExitCode.PASSED
    assert done.stderr == ""


def test_outside_a_workspace_a_slug_says_what_to_do(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith(f"error: no workspace in `{tmp_path}` or above it")


def test_a_missing_file_is_named(kit):
    kit.place.file(catalog.find("adamw")).unlink()
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr == (
        "error: there is no file `exercises/optimizers/adamw.py`\n\nhint: `grade reset adamw` writes the stub\n"
    )
    done = kit.run("optimizers")
    assert "error: left out, for want of a file: `exercises/optimizers/adamw.py`" in done.stderr
    assert done.stdout.startswith("not started: optimizers/schedules")


def test_no_exercise_is_called_like_a_command(request):
    names = {exercise.slug for exercise in catalog.exercises()} | set(catalog.tracks()) | {"all"}
    assert not names & {*COMMANDS, GRADE}


def test_options_reach_the_engine(kit):
    kit.run("adamw", "--part", "double", "--seed", "7", "--memory", "512", "--no-performance")
    (opened,) = kit.engine.opened
    assert opened.memory == 512 << 20
    call = dict(opened.calls[0])
    assert call.pop("file") == kit.place.file(catalog.find("adamw"))
    assert call == {"exercise": "optimizers/adamw", "seed": 7, "device": "cpu", "part": "double", "performance": False}


def test_a_random_seed_is_in_the_verdict(kit):
    seeds = [json.loads(kit.run("adamw", "--seed", "random", "--json").stdout)["seed"] for _ in range(3)]
    assert len(set(seeds)) == 3


def test_options_before_the_name(kit):
    assert kit.run("--json", "adamw").stdout.startswith('{"version": 1')


# what grading prints and keeps


def test_json_is_one_object_a_line(kit):
    kit.answer("adamw", Status.FAILED)
    done = kit.run("adamw", "--json")
    assert done.exit_code == ExitCode.NOT_PASSED
    verdict = from_json(json.loads(done.stdout))
    assert verdict.exercise == "optimizers/adamw"
    assert verdict.status is Status.FAILED
    assert len(kit.run("all", "--json").stdout.splitlines()) == 4


def test_attempts_are_kept(kit):
    kit.answer("adamw", Status.FAILED)
    kit.run("adamw")
    kit.answer("adamw", Status.PASSED)
    kit.run("adamw", "--part", "double")
    assert kit.store.passed() == set()
    kit.run("adamw")
    assert [attempt.status for attempt in kit.store.attempts()] == [Status.PASSED, Status.PASSED, Status.FAILED]
    assert kit.store.passed() == {"optimizers/adamw"}


def test_grading_a_stub_is_no_attempt(kit):
    kit.run("adamw")
    assert kit.store.attempts() == []


def test_what_never_loaded_shows_no_points(kit):
    kit.answer("adamw", Status.ERROR)
    kit.run("adamw")
    assert "\nbegun\n  adamw  tried just now\n" in kit.run().stdout
    assert "  tried       Adamw\n" in kit.run("list").stdout


def test_a_damaged_store_costs_the_verdict_nothing(kit):
    kit.place.database.write_bytes(b"damaged" * 1000)
    kit.answer("adamw", Status.PASSED)
    done = kit.run("adamw")
    assert done.exit_code == ExitCode.PASSED
    assert done.stdout.startswith("passed: optimizers/adamw")
    assert done.stderr.startswith("error: progress in `")
    assert "is damaged" in done.stderr
    assert done.stderr.count("is damaged") == 1
    done = kit.run()
    assert done.exit_code == ExitCode.PASSED
    assert "0 of 4 exercises passed" in done.stdout
    assert "is damaged" in done.stderr
    assert kit.run("hint", "adamw", "2").stdout.startswith("hint 2 of 3")
    assert kit.run("history").exit_code == ExitCode.USAGE


def test_repro_writes_a_script(kit):
    kit.answer("adamw", Status.FAILED)
    done = kit.run("adamw", "--repro")
    script = kit.place.state / "repro" / "adamw.py"
    assert script.read_text() == repro.script(kit.place.file(catalog.find("adamw")), fake_kit.CALL)
    assert done.stdout.endswith("the failing call as a script: .grade/repro/adamw.py\n")
    done = kit.run("adamw", "--repro", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert "the failing call as a script" in done.stderr
    kit.answer("adamw", Status.PASSED)
    assert "no call of `adamw` failed" in kit.run("adamw", "--repro").stdout


def test_a_gpu_that_is_not_there(kit, monkeypatch):
    monkeypatch.setattr(devices, "gpu", lambda: devices.Gpu(None, "torch finds no CUDA device"))
    done = kit.run("adamw", "--device", "cuda")
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith("error: no GPU can be used: torch finds no CUDA device\n\nhint: `--device auto`")
    kit.run("adamw", "--device", "auto")
    assert kit.engine.opened[-1].calls[0]["device"] == "cpu"
    monkeypatch.setattr(devices, "gpu", lambda: devices.Gpu("H200"))
    kit.run("adamw", "--device", "auto")
    assert kit.engine.opened[-1].calls[0]["device"] == "cuda"


def test_colour(kit):
    def escapes(**environment):
        return "\x1b[" in kit.run("adamw", **environment).stdout

    assert not escapes()  # no terminal
    assert escapes(FORCE_COLOR="1")
    assert not escapes(FORCE_COLOR="0")
    assert not escapes(FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[" not in kit.run("show", "adamw").stdout
    assert "\x1b[" in kit.run("show", "adamw", FORCE_COLOR="1").stdout


def test_width(kit):
    kit.answer("adamw", Status.FAILED)
    for width in (40, 80):
        for arguments in (["adamw"], [], ["list"], ["show", "adamw"], ["next"]):
            lines = kit.run(*arguments, COLUMNS=str(width)).stdout.splitlines()
            assert max(len(line) for line in lines) <= width, arguments


# the other commands


def test_dashboard(kit):
    done = kit.run()
    assert done.exit_code == 0
    assert done.stdout.startswith("0 of 4 exercises passed\n")
    assert "next  adamw  Adamw (warm-up, 40 min)" in done.stdout
    assert not kit.engine.opened
    assert not kit.place.database.exists()
    data = json.loads(kit.run("--json").stdout)
    assert data["next"]["exercise"] == "optimizers/adamw"
    assert data["tracks"][2] == {"track": "optimizers", "passed": 0, "exercises": 2}
    assert data["begun"] == data["due"] == []


def test_dashboard_outside_a_workspace(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = kit.run()
    assert done.exit_code == 0
    assert "0 of 4 exercises passed" in done.stdout
    assert "hint: this is no workspace; `grade init DIR` makes one" in done.stderr


def test_help_and_version(kit):
    assert kit.run("--version").stdout == f"grade {__version__}\n"
    for flag in ("-h", "--help"):
        text = kit.run(flag).stdout
        assert "exit codes: 0 passed, 1 not passed, 2 usage, 3 the kit's own fault, 130 interrupted" in text
        assert "_GRADE_COMPLETE=bash_source grade" in text
        for name, (_, line) in COMMANDS.items():
            assert f"\n  {name:<8}  {line[:50]}" in text
    assert kit.run("adamw", "-h").stdout.startswith("Usage: grade [SLUG | TRACK | FILE | all]... [OPTIONS]\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "dev"])
def test_every_command_has_help(kit, name):
    done = kit.run(name, "-h")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: grade {name}")


def completions(kit, words, current):
    environment = {"_GRADE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(current)}
    done = kit.run(**environment)
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_completion(kit):
    assert completions(kit, ["grade", "a"], 1) == {"adamw", "attention", "all"}
    assert completions(kit, ["grade", "hi"], 1) == {"hint", "history"}
    assert {"adamw", "hint", "rope", "all"} <= completions(kit, ["grade", ""], 1)
    assert completions(kit, ["grade", "hint", "ro"], 2) == {"rope"}
    assert completions(kit, ["grade", "adamw", "ro"], 2) == {"rope"}
    assert completions(kit, ["grade", "adamw", "--dev"], 2) == {"--device"}


def test_init(kit, tmp_path):
    done = kit.run("init", str(tmp_path / "new"))
    assert done.exit_code == 0
    assert done.stdout.startswith(f"4 stubs written to `{tmp_path / 'new'}`\n")
    assert f"hint: `cd {tmp_path / 'new'}`, then `grade next`" in done.stdout
    assert kit.run("init").stdout.startswith("0 stubs written to `.`; 4 files stayed as they were\n")


def test_list(kit):
    kit.answer("adamw", Status.PASSED)
    kit.run("adamw")
    text = kit.run("list").stdout
    assert "optimizers  1 of 2 passed\n  adamw      warm-up  40 min  passed      Adamw\n" in text
    assert "attention" not in kit.run("list", "optimizers").stdout
    assert "adamw" not in kit.run("list", "--todo").stdout
    rows = json.loads(kit.run("list", "--level", "core", "--json").stdout)
    assert [row["exercise"] for row in rows] == ["attention/rope", "leetcode/two_sum"]
    assert rows[0]["after"] == ["adamw"]
    done = kit.run("list", "attention", "--level", "stretch")
    assert done.stdout == ""
    assert "no exercise is like that" in done.stderr


def test_next(kit):
    assert kit.run("next").stdout.startswith("next  adamw")
    kit.answer("adamw", Status.PASSED)
    kit.run("adamw")
    assert kit.run("next").stdout.startswith("next  rope")
    assert kit.run("next", "leetcode").stdout.startswith("next  two_sum")
    assert json.loads(kit.run("next", "--json").stdout)["exercise"] == "attention/rope"
    for slug in ("rope", "two_sum", "schedules"):
        kit.answer(slug, Status.PASSED)
        kit.run(slug)
    assert kit.run("next").stdout == "every exercise is passed\n"
    assert kit.run("next", "--json").stdout == "null\n"


def test_path(kit):
    assert kit.run("path", "rope").stdout.splitlines() == [
        "  1  adamw  warm-up  40 min  -",
        "  2  rope   core     15 min  -           after 1",
        "",
        "55 min left",
    ]
    order = ["optimizers/adamw", "attention/rope", "leetcode/two_sum", "optimizers/schedules"]
    assert [row["exercise"] for row in json.loads(kit.run("path", "--json").stdout)] == order
    kit.answer("adamw", Status.PASSED)
    kit.run("adamw")
    text = kit.run("path", "adamw").stdout
    assert "passed" in text and text.endswith("\nall passed\n")


def test_show(kit):
    text = kit.run("show", "rope").stdout
    assert "Write double, which maps x to 2 · x." in text
    assert ">>> double(2)" in text
    assert "parts:\n  def double(x)\n  class Doubler\n" in text
    assert "given, complete in the file:\n  def check(x, *, strict=False)\n" in text
    assert "not allowed: torch.optim\n" in text
    assert "best after: adamw (not passed)\n" in text
    assert "hint: write your answer into `exercises/attention/rope.py`, then `grade rope`" in text
    data = json.loads(kit.run("show", "rope", "--json").stdout)
    assert data["parts"] == [
        {"name": "double", "signature": "def double(x)"},
        {"name": "Doubler", "signature": "class Doubler"},
    ]
    assert data["given"] == ["def check(x, *, strict=False)"]
    assert data["statement"].startswith("# Rope\n")


def test_hints_come_one_at_a_time(kit):
    assert kit.run("hint", "adamw").stdout == "hint 1 of 3: think\n"
    assert kit.run("hint", "adamw").stdout == "hint 2 of 3: think twice\n"
    assert kit.run("hint", "adamw", "1").stdout == "hint 1 of 3: think\n"
    assert kit.run("hint", "adamw", "--all").stdout == "hint 1 of 3: think\nhint 2 of 3: think twice\n"
    assert json.loads(kit.run("hint", "adamw", "--json").stdout) == {
        "exercise": "optimizers/adamw",
        "number": 3,
        "of": 3,
        "text": "double it",
    }
    done = kit.run("hint", "adamw")
    assert done.stdout == "hint 3 of 3: double it\n"
    assert done.stderr.startswith("that was the last of 3 hints")
    assert kit.store.hints("optimizers/adamw") == [1, 2, 3]


def test_solution_after_a_pass_or_anyway(kit):
    assert kit.run("solution", "adamw").exit_code == ExitCode.USAGE
    text = kit.run("solution", "adamw", "--anyway").stdout
    assert text.startswith("def double(x):\n")
    assert "BEGIN SOLUTION" not in text
    assert "- Why not triple?\n  Because the statement says so.\n" in text
    path = kit.answer("adamw", Status.PASSED)
    kit.run("adamw")
    path.write_text("# passed\ndef double(x):\n    return x + x\n")
    diff = kit.run("solution", "adamw", "--diff").stdout
    assert "\n-    return x + x\n" in diff
    assert "\n+    return 2 * x\n" in diff


def test_other_styles_are_listed_and_shown(kit, tmp_path):
    folder = catalog.find("adamw").folder / "accepted"
    folder.mkdir()
    (folder / "twice.py").write_text('"""Added."""\n\n\ndef double(x):\n    return x + x\n')
    (folder / "shifted.py").write_text("def double(x):\n    return x << 1\n")
    assert kit.run("solution", "adamw", "--style", "twice").exit_code == ExitCode.USAGE  # not before the pass
    shown = kit.run("solution", "adamw", "--anyway").stdout
    assert "other right answers: shifted, twice: `grade solution adamw --style shifted`\n" in shown
    shown = kit.run("solution", "adamw", "--style", "twice", "--anyway").stdout
    assert shown.startswith("def double(x):\n    return x + x\n")
    assert "other right answers: shifted: `grade" in shown
    wrong = kit.run("solution", "adamw", "--style", "einsum", "--anyway")
    assert wrong.exit_code == ExitCode.USAGE
    assert "has no answer in the style `einsum`\n\nhint: there are shifted, twice" in wrong.stderr


def test_a_diff_with_a_file_that_does_not_parse(kit):
    kit.place.file(catalog.find("adamw")).write_text("def double(x:\n")
    done = kit.run("solution", "adamw", "--diff", "--anyway")
    assert done.exit_code == ExitCode.NOT_PASSED
    assert done.stderr.startswith("error: SyntaxError: ")


def test_reset(kit):
    path = kit.answer("adamw", Status.PASSED)
    assert kit.run("reset", "adamw").stdout == (
        "`exercises/optimizers/adamw.py` is the stub again; your old file is `exercises/optimizers/adamw.py.bak`\n"
    )
    assert fake_kit.STUB in path.read_text()
    assert kit.run("reset", "adamw").stdout == "`exercises/optimizers/adamw.py` is the stub already\n"


def test_history(kit):
    assert kit.run("history").stdout == "no attempt yet\n"
    kit.answer("adamw", Status.FAILED)
    kit.run("adamw")
    kit.answer("two_sum", Status.ERROR)
    kit.run("two_sum", "--part", "double")
    first, second = kit.run("history").stdout.splitlines()
    assert first[18:].split() == ["leetcode/two_sum", "does", "not", "load", "0", "of", "0", "double", "only"]
    assert second[18:].split() == ["optimizers/adamw", "failed", "4", "of", "6"]
    assert len(kit.run("history", "-n", "1").stdout.splitlines()) == 1
    assert kit.run("history", "rope").stdout == "no attempt of `rope` yet\n"
    (data,) = json.loads(kit.run("history", "adamw", "--json").stdout)
    assert data["at"].endswith("+00:00")
    assert from_json(data["verdict"]).status is Status.FAILED


def test_demo_works_as_a_demo(kit, tmp_path, monkeypatch):
    for folder in (kit.place.root, tmp_path):  # in a workspace and outside one
        monkeypatch.chdir(folder)
        done = kit.run("demo")
        assert done.exit_code == ExitCode.PASSED
        assert done.stdout.startswith("a bundled attempt at `adamw`")
        assert "failed: optimizers/adamw" in done.stdout
        assert "looks like: " in done.stdout
        assert "next  adamw" in done.stdout
    assert kit.store.attempts() == []


def test_a_demo_that_does_not_fail_is_the_kits_fault(kit, monkeypatch):
    monkeypatch.setattr(kit.engine, "grade", lambda _, order, __: Report(order, fake_kit.verdict(Status.PASSED)))
    done = kit.run("demo")
    assert done.exit_code == ExitCode.FAULT
    assert "the demo should have failed its tests, and the verdict is `passed`" in done.stderr


@pytest.fixture
def machine(monkeypatch):
    layer = types.SimpleNamespace
    layers = {
        "landlock": layer(name="landlock", available=True, why="ABI 6", remedy=""),
        "bubblewrap": layer(name="bubblewrap", available=False, why="not found", remedy="install bubblewrap"),
    }
    module = types.ModuleType("grader.sandbox.layers")
    module.probe_layers, module.best_tier = lambda: layers, lambda _: "restricted"
    monkeypatch.setitem(sys.modules, "grader.sandbox.layers", module)
    monkeypatch.setattr("grader.sandbox.layers", module, raising=False)
    monkeypatch.setattr("grader.cli.doctor.gpu", lambda: devices.Gpu(None, "torch finds no CUDA device"))
    monkeypatch.setattr("shutil.which", lambda _: None)


def test_doctor(kit, machine):
    done = kit.run("doctor")
    assert done.exit_code == 0
    assert done.stdout.startswith("isolation: restricted\n")
    assert "  landlock    yes" in done.stdout
    assert "  bubblewrap  no    not found\n" in done.stdout
    assert "hint: install bubblewrap\n" in done.stdout
    assert "gpu         none: torch finds no CUDA device\n" in done.stdout
    assert f"python      {sys.version.split()[0]}\n" in done.stdout
    assert f"workspace   {kit.place.root}"[:70] in done.stdout
    data = json.loads(kit.run("doctor", "--json").stdout)
    assert data["tier"] == "restricted"
    assert data["layers"][1]["remedy"] == "install bubblewrap"


def test_watch_without_a_terminal(kit):
    kit.answer("adamw", Status.PASSED)
    done = kit.run("watch", "adamw", stdin="hlnq")
    assert done.exit_code == 0
    assert done.stdout.startswith("passed: optimizers/adamw")
    assert "hint 1 of 3: think\n" in done.stdout
    assert "optimizers  1 of 2 passed\n" in done.stdout
    assert "not started: attention/rope" in done.stdout
    (opened,) = kit.engine.opened
    assert opened.closed
    assert len(kit.store.attempts()) == 1  # rope is still a stub


MATCHERS = [
    task["problemMatcher"]
    for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "editors.md").read_text(encoding="utf-8"), re.DOTALL)
    for task in json.loads(block)["tasks"]
]


def test_an_editor_reads_along_while_it_watches(kit):
    """With the patterns that the page on editors shows."""
    kit.answer("adamw", Status.FAILED)
    done = kit.run("watch", "adamw", "--format", "gcc", stdin="nq")
    begin, failing, end, *following = done.stdout.splitlines()
    matcher = MATCHERS[0]
    assert re.search(matcher["background"]["beginsPattern"], begin)
    assert begin == "grading exercises/optimizers/adamw.py"
    assert re.search(matcher["background"]["endsPattern"], end)
    assert end == "graded exercises/optimizers/adamw.py: failed, 4 of 6 points"
    pattern = matcher["pattern"]
    found = re.fullmatch(pattern["regexp"], failing)
    assert [found[pattern[name]] for name in ("file", "line", "column", "severity")] == [
        "exercises/optimizers/adamw.py", "1", "1", "error",
    ]  # fmt: skip
    assert not any(re.search(pattern["regexp"], line) for line in (begin, end))
    assert following[0] == "grading leetcode/two_sum.py"
    assert re.fullmatch(pattern["regexp"], following[1])[pattern["severity"]] == "note"
    assert following[2:] == ["graded leetcode/two_sum.py: not started, 0 of 6 points"]
    assert "KEYS" not in done.stdout


def test_an_editor_hears_of_the_end_of_what_cannot_be_graded(kit):
    kit.engine.raises = Fault("the suite does not load")
    done = kit.run("watch", "adamw", "--format", "gcc", stdin="q")
    assert done.stdout == "grading exercises/optimizers/adamw.py\ngraded exercises/optimizers/adamw.py: not graded\n"
    assert "the suite does not load" in done.stderr


def test_watch_survives_what_cannot_be_graded(kit):
    kit.engine.raises = Fault("the suite does not load")
    done = kit.run("watch", "adamw", stdin="rq")
    assert done.exit_code == 0
    assert done.stderr.count("error: the suite does not load") == 2


# the bundled attempt


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "oracle", "hyper"),
    [
        ("SGD", "SGD", dict(lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True)),
        ("Adam", "Adam", dict(lr=0.1, weight_decay=0.1, amsgrad=True)),
        ("AdamW", "AdamW", dict(lr=0.1, weight_decay=0.0)),
        ("AdamW", "Adam", dict(lr=0.1, weight_decay=0.1)),  # the mistake: coupled decay is Adam's
    ],
)
@pytest.mark.slow
def test_the_demo_is_right_but_for_coupled_decay(name, oracle, hyper):
    import torch

    demo = load(ROOT / "grader" / "demo" / "adamw.py")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours, reference = getattr(demo, name)([mine], **hyper), getattr(torch.optim, oracle)([theirs], **hyper)
    for _ in range(5):
        gradient = torch.randn(3, 4, dtype=torch.float64, generator=generator)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
    torch.testing.assert_close(mine, theirs)


# processes of their own

HEAVY = ("torch", "numpy", "pytest", "nbformat", "rich", "watchfiles", "sqlite3")


def process(code, *arguments, cwd=ROOT, encoding="utf-8", **environment):
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=cwd,
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding=encoding,
    )


def test_importing_the_command_line_brings_in_nothing_heavy():
    done = process(f"import sys, grader.cli; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_the_dashboard_imports_nothing_heavy_in_a_real_process(tmp_path):
    workspace.init(tmp_path, [])
    heavy = tuple(name for name in HEAVY if name != "sqlite3")
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules], file=sys.stderr))\n"
        "from grader.cli import main; main()"
    )
    done = process(code, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert "exercises passed\n" in done.stdout or "exercise passed\n" in done.stdout


def test_a_terminal_without_the_letters_gets_question_marks(tmp_path):
    workspace.init(tmp_path, [])
    code = "from grader.cli import main; main()"
    done = process(code, "show", "adamw", cwd=tmp_path, encoding="latin-1", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "?_t = ?_{t-1} - ? b_t" in done.stdout
