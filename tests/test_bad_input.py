"""Everything a learner's file can be: each gives its own plain verdict and message, never a traceback of the kit."""

from __future__ import annotations

import pytest

from grader import catalog
from grader.engine import Engine
from grader.order import Order
from grader.verdict import Cause, Outcome, Status

pytestmark = pytest.mark.slow

GAP = catalog.find("maximum_gap")
SOLUTION = GAP.text
ADAMW = catalog.find("adamw").text


PLAIN = SOLUTION.replace("from __future__ import annotations\n", "")  # so that lines may stand before it


def answering(body: str, before: str = "", signature: str = "nums") -> str:
    """An answer to maximum_gap with this body."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"{before}\n\ndef maximum_gap({signature}):\n{lines}\n"


def first_failure(verdict):
    return next(test for test in verdict.tests if test.outcome is Outcome.FAILED and test.category != "examples")


FILES = {
    "empty": (b"", "`maximum_gap.py` is empty"),
    "blank": (b" \n\n", "`maximum_gap.py` is empty"),
    "nul": (b"x = 1\n\0\n", "holds a NUL byte at byte 6"),
    "latin-1": ("é = 1\n".encode("latin-1"), "is not UTF-8 at byte 0 (0xe9)"),
    "huge": (b"#" * (1 << 20) + b"\n", "larger than 1 MiB"),
    "syntax": (
        b"def maximum_gap(nums):\n    return (1 +\n",
        "SyntaxError: '(' was never closed (maximum_gap.py, line 2)",
    ),
    "tabs": (b"def f():\n\tif 1:\n        pass\n", "TabError: inconsistent use of tabs and spaces in indentation"),
    "return": (b"return 3\n", "SyntaxError: 'return' outside function (maximum_gap.py, line 1)"),
    "magic": (b"%matplotlib inline\n", "SyntaxError: invalid syntax (maximum_gap.py, line 1)"),
    "nested": (b"x = " + b"(" * 5000 + b")" * 5000 + b"\n", "too many nested parentheses"),
}


@pytest.mark.parametrize("case", FILES)
def test_unreadable_files(grade, case):
    data, message = FILES[case]
    verdict = grade("maximum_gap", data)
    assert verdict.status is Status.ERROR
    assert message in verdict.message
    assert verdict.tests == []  # said once, not for each test


def test_syntax_error_shows_line_and_caret(grade):
    verdict = grade("maximum_gap", "def maximum_gap(nums):\n    return nums $ 2\n")
    assert verdict.message.splitlines()[-2:] == ["    return nums $ 2", "                ^"]


@pytest.mark.parametrize("text", ["\ufeff" + SOLUTION, SOLUTION.replace("\n", "\r\n")], ids=["bom", "crlf"])
def test_byte_order_mark_and_windows_lines_are_fine(grade, text):
    assert grade("maximum_gap", text).status is Status.PASSED


def test_missing_file_folder_and_notebook(engine, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "maximum_gap.ipynb").write_text("{}")
    cases = {"nowhere.py": "there is no file", "folder": "is a folder", "maximum_gap.ipynb": "is a notebook"}
    for name, message in cases.items():
        verdict = engine.grade(Order(GAP, tmp_path / name)).verdict
        assert verdict.status is Status.ERROR
        assert message in verdict.message


NAMES = {
    "missing": ("def other(nums):\n    return 1\n", "there is no `maximum_gap` in maximum_gap.py; found `other`"),
    "misspelt": ("def maximun_gap(nums):\n    return 1\n", "found `maximun_gap`\n\nhint: rename it to `maximum_gap`"),
    "nothing": ("x = 1\n", "found no function or class"),
}


@pytest.mark.parametrize("case", NAMES)
def test_missing_names(grade, case):
    text, message = NAMES[case]
    verdict = grade("maximum_gap", text)
    assert verdict.status is Status.ERROR
    assert message in verdict.message


IMPORTS = {
    "exception": (
        "x = 1 / 0\n",
        Status.ERROR,
        "line 1, in <module>\n    x = 1 / 0\nZeroDivisionError: division by zero",
    ),
    "package": (
        "import nowhere_to_be_found\n",
        Status.ERROR,
        "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    ),
    "relative": ("from . import other\n", Status.ERROR, "import from installed packages only"),
    "exit": ("import sys\nsys.exit(0)\n", Status.ERROR, "SystemExit: 0"),
    "hard exit": ("import os\nos._exit(0)\n", Status.CRASHED, "ended itself with exit code 0"),
    "input": ("name = input()\n", Status.ERROR, "EOFError"),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_imports_that_fail(grade, case):
    before, status, message = IMPORTS[case]
    verdict = grade("maximum_gap", before + PLAIN)
    assert verdict.status is status
    assert message in verdict.message


def test_import_that_hangs(grade, monkeypatch):
    monkeypatch.setattr("grader.remote.calls.IMPORT_LIMIT", 0.5)
    verdict = grade("maximum_gap", "while True:\n    pass\n" + PLAIN)
    assert verdict.status is Status.TIMEOUT
    assert "no answer within 0.5 s" in verdict.message


ENDINGS = {
    "hang": ("while True:\n    pass", Status.TIMEOUT, Cause.TIMEOUT, "no answer within"),
    "sleep": ("import time\ntime.sleep(1e9)", Status.TIMEOUT, Cause.TIMEOUT, "no answer within"),
    "segfault": ("import ctypes\nctypes.string_at(0)", Status.CRASHED, Cause.CRASHED, "a segmentation fault"),
    "memory": (
        "return len(bytearray(20 << 30))",
        Status.OUT_OF_MEMORY,
        Cause.OUT_OF_MEMORY,
        "more memory than it may use",
    ),
    "flood": ("while True:\n    print('x' * 100000)", Status.CRASHED, Cause.FLOOD, "printed more than 16 MiB"),
    "sys.exit": ("import sys\nsys.exit(0)", Status.CRASHED, Cause.CRASHED, "your code called `sys.exit`"),
    "os._exit": ("import os\nos._exit(3)", Status.CRASHED, Cause.CRASHED, "ended itself with exit code 3"),
    "recursion": (
        "return maximum_gap(nums)",
        Status.FAILED,
        Cause.RAISED,
        "RecursionError: maximum recursion depth exceeded",
    ),
    "exception": ("return nums['a']", Status.FAILED, Cause.RAISED, "TypeError: list indices must be integers"),
    "interrupt": ("raise KeyboardInterrupt", Status.FAILED, Cause.RAISED, "KeyboardInterrupt"),
    "skip": ("import unittest\nraise unittest.SkipTest('no')", Status.FAILED, Cause.RAISED, "SkipTest: no"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_endings(grade, case, monkeypatch):
    monkeypatch.setattr("grader.remote.calls.SHORT_LIMIT", 2.0 if case == "flood" else 0.1)
    body, status, cause, message = ENDINGS[case]
    verdict = grade("maximum_gap", answering(body), performance=False)
    failure = first_failure(verdict)
    assert (verdict.status, failure.cause) == (status, cause)
    assert message in failure.message
    assert Cause.NOT_RUN not in {test.cause for test in verdict.tests}  # the remaining tests still ran


def test_a_hang_in_one_test_costs_that_test_alone(grade):
    slow = SOLUTION.replace("### BEGIN SOLUTION\n", "### BEGIN SOLUTION\n    while len(nums) == 1:\n        pass\n", 1)
    verdict = grade("maximum_gap", slow, performance=False)
    assert verdict.status is Status.TIMEOUT
    assert 1 <= sum(test.cause is Cause.TIMEOUT for test in verdict.tests) < len(verdict.tests) / 2
    assert verdict.points > 0


SHAPES = {
    "none": ("nums = nums", "the function returned None: is a `return` missing?"),
    "generator": ("yield 1", "got       a generator"),
    "string": ("return '3'", "got       '3'"),
    "float": ("return 3.0", "expected an int, not a float"),
    "tuple": ("return (3,)", "got       (3,)"),
    "nan": ("return float('nan')", "got       nan"),
    "object": ("class C:\n    def __repr__(self):\n        raise ValueError\nreturn C()", "its repr raised ValueError"),
    "huge int": ("return 10 ** 10000", "the result cannot be taken over"),
    "deep": ("x = []\nfor _ in range(10**5):\n    x = [x]\nreturn x", "nested more than 64 levels deep"),
    "huge": ("return ['x' * 1000] * 10**5", "the result cannot be taken over: larger than 64 MiB"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_wrong_results(grade, case):
    body, message = SHAPES[case]
    verdict = grade("maximum_gap", answering(body), performance=False)
    assert message in first_failure(verdict).message


SIGNATURES = {
    "too few": ("", "maximum_gap() takes 0 positional arguments but 1 was given", "got       def maximum_gap()"),
    "too many": ("nums, k", "missing 1 required positional argument: 'k'", "got       def maximum_gap(nums, k)"),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_wrong_signature_shows_both(grade, case):
    signature, *messages = SIGNATURES[case]
    message = first_failure(grade("maximum_gap", answering("return 1", signature=signature))).message
    for expected in ("expected  def maximum_gap(nums)", *messages):
        assert expected in message


def test_wrong_signature_of_a_method_shows_both(grade):
    text = ADAMW.replace("    def zero_grad(self)", "    def zero_grad(self, closure)")
    verdict = grade("adamw", text, performance=False)
    shown = "expected  def zero_grad(self)\ngot       def zero_grad(self, closure)"
    assert any(shown in test.message for test in verdict.tests)


def test_changed_inputs_are_named(grade):
    body = "if nums:\n    nums[0] = 0\nreturn 0"
    messages = [t.message for t in grade("maximum_gap", answering(body), performance=False).tests]
    assert any("your code changed argument 1 in place" in message for message in messages)


def test_a_result_that_depends_on_earlier_calls(grade):
    text = SOLUTION.replace(
        "### BEGIN SOLUTION\n",
        "### BEGIN SOLUTION\n    SEEN.append(1)\n    if len(SEEN) > 4:\n        return len(SEEN)\n",
        1,
    )
    verdict = grade(
        "maximum_gap", text.replace("def maximum_gap", "SEEN = []\n\n\ndef maximum_gap", 1), performance=False
    )
    assert "it depends on earlier calls" in first_failure(verdict).message


def test_output_is_shown_capped(grade):
    verdict = grade("maximum_gap", "print('hello from the top')\nprint('y' * 100000)\n" + PLAIN)
    assert verdict.status is Status.PASSED
    assert verdict.output.startswith("hello from the top\n")
    assert len(verdict.output) == 4000


def test_stub_is_not_started_and_needs_no_sandbox():
    with Engine() as cold:
        for exercise in catalog.exercises():
            verdict = cold.grade(Order(exercise, exercise.stub, exercise.stub_text)).verdict
            assert verdict.status is Status.NOT_STARTED, exercise.path
            assert "the first stub is in line" in verdict.message
            assert (verdict.points, verdict.tests) == (0, [])
            assert verdict.max_points > 0
        assert cold.pool.zygotes == {}


@pytest.mark.parametrize("body", ["pass", "...", "raise NotImplementedError", '"""Later."""'])
def test_other_stubs_are_stubs_too(grade, body):
    assert grade("maximum_gap", answering(body)).status is Status.NOT_STARTED


def test_a_part_that_is_a_stub_makes_its_tests_wait(grade):
    start = ADAMW.index(
        '        for group in self.param_groups:\n            for p in group["params"]:\n                if p.grad is not None:\n                    p.mul_'
    )
    text = ADAMW[:start] + "        raise NotImplementedError()\n"
    verdict = grade("adamw", text, performance=False)
    assert verdict.status is Status.PARTIAL
    waiting = [test for test in verdict.tests if test.cause is Cause.WAITING]
    assert {test.outcome for test in waiting} == {Outcome.SKIPPED}
    assert all(test.message == "waiting for `AdamW.step`" for test in waiting)
    assert 0 < verdict.points < verdict.max_points
    assert not [test for test in verdict.tests if test.outcome is Outcome.FAILED]
