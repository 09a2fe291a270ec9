"""What other programs read of a verdict: one line a failing test, at its place, and nothing that breaks their syntax."""

from __future__ import annotations

import re
from xml.etree import ElementTree as xml

import fake_kit
import pytest

from grader.render.formats import gcc, github, junit
from grader.verdict import BrokenRule, Cause, Details, Outcome, Place, Status

# what VS Code's `$gcc` matches, and most editors with it
GCC = re.compile(
    r"^(?P<file>.*?):(?P<line>\d+):(?P<column>\d*):?\s+(?:fatal\s+)?(?P<severity>warning|error):\s+(?P<text>.*)$"
)
PLACE = Place(42, 5, 58)


def wrong(name="TestValues::test_double[two]", place=PLACE, details=None, **rest):
    details = details or Details("result is wrong", expected="4", got="3")
    values = dict(cause=Cause.WRONG, message="result is wrong\nexpected  4\ngot       3", title="doubles a number")
    made = fake_kit.result(name, Outcome.FAILED, details=details, **{**values, **rest})
    made.put(place)
    return made


def failed(*tests, **rest):
    return fake_kit.verdict(Status.FAILED, **{"tests": list(tests), "diagnosis": [], **rest})


def broken():
    return fake_kit.verdict(Status.RULE_BROKEN, rules=[BrokenRule("torch.optim", 12, "import torch.optim", 3, 12)])


def unloaded():
    verdict = fake_kit.verdict(
        Status.ERROR, message="SyntaxError: invalid syntax (adamw.py, line 7)\n\n    def f(:\n          ^"
    )
    verdict.put(Place(7, 7, 7))
    return verdict


def test_gcc_has_a_line_for_each_failing_test():
    waiting = fake_kit.result("T::t", Outcome.SKIPPED, cause=Cause.WAITING, message="waiting for `f`")
    verdict = failed(
        fake_kit.result(), waiting, wrong(), wrong("TestValues::test_call", part="Doubler", place=Place(9, 1, 9))
    )
    assert gcc.render(verdict, "ws/adamw.py").split("\n") == [
        "ws/adamw.py:42:5: error: doubles a number [two]: result is wrong; expected 4, got 3 [double]",
        "ws/adamw.py:9:1: error: doubles a number: result is wrong; expected 4, got 3 [Doubler]",
    ]


def test_gcc_says_what_tells_most():
    def said(**fields):
        return GCC.match(gcc.render(failed(wrong(details=Details(**fields), title="t", name="T::t")), "f"))["text"]

    where = "12 of 12 elements differ, worst at [2, 3]: expected 12, got 6"
    assert said(headline="y is wrong", expected="1", got="2", where=where, looks_like="all zeros") == (
        f"t: y is wrong; {where}; looks like all zeros [double]"
    )
    assert said(trace="in your code:\n  line 3, in f\n    1 / 0\nZeroDivisionError: division by zero") == (
        "t: ZeroDivisionError: division by zero [double]"
    )
    assert said(headline="too many reads", allowed="9: once", got="20") == (
        "t: too many reads; allowed 9: once, got 20 [double]"
    )
    assert said(headline="one\ntwo", got="x") == "t: one [double]"


def test_gcc_of_what_did_not_run():
    assert (
        gcc.render(broken(), "f.py")
        == "f.py:12:3: error: the rules exclude torch.optim: `import torch.optim` breaks it"
    )
    assert gcc.render(unloaded(), "f.py") == "f.py:7:7: error: SyntaxError: invalid syntax (adamw.py, line 7)"
    trace = (
        "the file does not import\n\nin your code:\n  line 1, in <module>\n    import x\nModuleNotFoundError: no `x`"
    )
    assert gcc.render(fake_kit.verdict(Status.ERROR, message=trace), "f.py") == (
        "f.py:1:1: error: the file does not import (ModuleNotFoundError: no `x`)"
    )
    stub = fake_kit.verdict(Status.NOT_STARTED, message="not started: the first stub is in line 3 of f.py", line=3)
    assert gcc.render(stub, "f.py") == "f.py:3:1: note: not started: the first stub is in line 3 of f.py"
    assert gcc.render(fake_kit.verdict(), "f.py") == ""


EVIL = "\x1b[31mred\x1b[0m\r\nsecond: 100 % of it, and\n::error ::third \u202eflip \ud800"


def evil():
    details = Details(EVIL, expected=EVIL, got=EVIL, trace=EVIL)
    return failed(
        wrong(f"TestValues::test_double[{EVIL}]", details=details, message=EVIL, title=EVIL, part=EVIL), output=EVIL
    )


def test_gcc_keeps_to_one_line_whatever_the_learner_says():
    for verdict in (evil(), fake_kit.verdict(Status.CRASHED, message=EVIL)):
        text = gcc.render(verdict, "f.py")
        assert GCC.match(text)
        assert not set("\x1b\r\n\u202e\ud800") & set(text)
        assert len(text) < 1500


def test_github_annotates_lines():
    assert github.render(failed(wrong()), "ws/a,b:c.py") == (
        "::error file=ws/a%2Cb%3Ac.py,line=42,col=5,endLine=58,title=doubles a number [two] (double)"
        "::result is wrong%0Aexpected  4%0Agot       3"
    )
    assert github.render(broken(), "f.py") == (
        "::error file=f.py,line=12,col=3,endLine=12,title=the rules exclude torch.optim::`import torch.optim` breaks it"
    )
    assert github.render(unloaded(), "f.py").startswith(
        "::error file=f.py,line=7,col=7,endLine=7,title=optimizers/adamw::SyntaxError: invalid syntax (adamw.py, line 7)%0A%0A"
    )
    stub = fake_kit.verdict(Status.NOT_STARTED, message="not started", line=3)
    assert github.render(stub, "f.py").startswith("::notice file=f.py,line=3,")
    assert github.render(fake_kit.verdict(), "f.py") == ""


def test_github_commands_cannot_be_forged():
    text = github.render(evil(), "f.py")
    assert not set("\x1b\r\n\u202e\ud800") & set(text)
    properties, _, data = text.removeprefix("::error ").partition("::")
    assert [pair.split("=", 1)[0] for pair in properties.split(",")] == ["file", "line", "col", "endLine", "title"]
    assert "100 %25 of it" in data
    assert "100 %25 of it%2C and" in properties or "100 %25" not in properties  # the title is cut to its first line


def report(*verdicts):
    return xml.fromstring(junit.render((verdict, verdict.file) for verdict in verdicts).encode())


def test_junit_counts_and_points():
    skipped = fake_kit.result(
        "TestGpu::test_fast", Outcome.SKIPPED, cause=Cause.NO_GPU, message="needs a GPU", points=0, max_points=0
    )
    verdict = failed(
        fake_kit.result(seconds=0.25),
        wrong(),
        skipped,
        points=2,
        max_points=4,
        digests={"submission": "abc"},
        kit="0.2.0",
    )
    root = report(verdict, fake_kit.verdict(exercise="leetcode/two_sum"))
    assert root.tag == "testsuites"
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5", "failures": "1", "errors": "0", "skipped": "1", "time": "0.1600",
    }  # fmt: skip
    first, second = root
    assert [suite.get("name") for suite in root] == ["optimizers/adamw", "leetcode/two_sum"]
    assert [first.get(name) for name in ("tests", "failures", "skipped", "time")] == ["3", "1", "1", "0.0800"]
    assert {p.get("name"): p.get("value") for p in first.find("properties")} == {
        "status": "failed", "points": "2", "max_points": "4", "seed": "7", "device": "cpu", "isolation": "sandbox",
        "kit": "0.2.0", "digest.submission": "abc",
    }  # fmt: skip
    good, bad, idle = first.findall("testcase")
    assert good.attrib == {"classname": "optimizers.adamw.TestValues", "name": "test_double[one]", "time": "0.2500"}
    assert [child.tag for child in good] == ["properties"]
    assert {p.get("name"): p.get("value") for p in bad.find("properties")} == {
        "title": "doubles a number", "part": "double", "category": "values", "points": "0", "max_points": "2",
    }  # fmt: skip
    assert (bad.get("file"), bad.get("line")) == ("adamw.py", "42")
    failure = bad.find("failure")
    assert (failure.get("type"), failure.get("message")) == ("wrong", "result is wrong; expected 4, got 3")
    assert failure.text == "result is wrong\nexpected  4\ngot       3"
    assert idle.find("skipped").get("message") == "needs a GPU"
    assert second.find("testcase").get("classname") == "leetcode.two_sum.TestValues"


@pytest.mark.parametrize(
    ("verdict", "tag", "message"),
    [
        (unloaded(), "error", "SyntaxError: invalid syntax (adamw.py, line 7)"),
        (broken(), "error", "line 12: the rules exclude torch.optim: import torch.optim"),
        (fake_kit.verdict(Status.NOT_STARTED, message="not started"), "skipped", "not started"),
    ],
    ids=["unloaded", "broken", "not started"],
)
def test_junit_of_what_did_not_run(verdict, tag, message):
    root = report(verdict)
    (case,) = root.iter("testcase")
    assert case.get("name") == junit.LOAD
    assert case.find(tag).get("message") == message
    assert root.get("errors" if tag == "error" else "skipped") == "1"


def test_junit_is_well_formed_whatever_the_learner_says():
    root = report(evil(), fake_kit.verdict(Status.CRASHED, message=EVIL))
    assert "second: 100 % of it" in root.find("testsuite/testcase/failure").text
    assert root.find("testsuite/system-out").text.startswith("red\nsecond")


def test_a_test_that_was_not_run_failed_in_a_report():
    """Silence must not pass for success."""
    test = fake_kit.result("T::t", Outcome.FAILED, cause=Cause.NOT_RUN, message="not run", points=0)
    root = report(failed(test))
    assert root.get("failures") == "1"
    assert root.find("testsuite/testcase/failure").get("type") == "not_run"
