"""A learner's file that holds anything: it is read and looked through, or a SubmissionError says why not."""

from __future__ import annotations

import contextlib
import functools
import os

import pytest
from effort import effort, mutated_bytes, mutated_text
from hypothesis import example, given
from hypothesis import strategies as st

from grader import catalog, source
from grader.errors import SubmissionError
from grader.order import Order
from grader.remote.submission import missing
from grader.sandbox import rules
from grader.verdict import Status

EXERCISES = catalog.exercises()
SOLUTIONS = [exercise.text for exercise in EXERCISES]
FORBIDDEN = tuple(dict.fromkeys(rule for exercise in EXERCISES for rule in exercise.card.forbid))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "answer.py"


def look_through(file, data: bytes) -> None:
    """All that is done with a file before it runs."""
    file.write_bytes(data)
    with contextlib.suppress(SubmissionError):
        submission = source.read(file)
        assert submission.names() >= set(submission.definitions())
        assert all(line >= 1 for line in submission.stubs().values())
        for name in [*submission.definitions(), "nowhere"]:
            assert submission.signature(name)
            assert missing(name, submission).headline
        for broken in rules.check(submission.text, submission.tree, FORBIDDEN):
            assert broken.line >= 1
        source.diff(submission.text, SOLUTIONS[0])


@effort(150)
@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
@example(b"# nothing but a comment")  # a module without a statement has no first one
def test_any_bytes(file, data):
    look_through(file, data)


@effort(150)
@given(st.sampled_from(SOLUTIONS).flatmap(lambda text: mutated_bytes(text.encode())))
def test_damaged_solutions(file, data):
    look_through(file, data)


@effort(150)
@given(mutated_text(SOLUTIONS))
@example("def f():\n    'x'\\\n    ### BEGIN SOLUTION\n    return 1\n")  # without the marker, the line goes on
@example("x = '\\d'\n")  # a warning, which is an error under these tests and `PYTHONWARNINGS=error`
@example("x = torch" + ".optim" * 1500)  # the compiler's limit of depth is three times the interpreter's
@example("def f(x=" + "-" * 900 + "1): return x")
@example("def f(x=a" + ".b" * 1400 + "): return x")
def test_rewritten_solutions(file, text):
    look_through(file, text.encode("utf-8", "surrogatepass"))


DEEP = {
    "(": ")",
    "[": "]",
    "{": "}",
    "-": "",
    "not ": "",
    "a.": "b",
    "f(": ")",
    "lambda: ": "1",
    "a if b else ": "c",
    "x[": "]",
}


@effort(60)
@given(
    st.sampled_from(sorted(DEEP)),
    st.sampled_from([10, 90, 199, 201, 900, 990, 1500, 2900, 3100, 20_000, 150_000]),
    st.sampled_from(
        ["x = {}", "def f(x={}): return 1", "def f():\n    return {}", "class C({}): ...", "@{}\ndef f(): ..."]
    ),
)
def test_any_depth(file, opening, depth, where):
    look_through(file, where.format(opening * depth + "1" + DEEP[opening] * depth).encode())


def test_a_pipe_that_nobody_writes_to(file):
    """It hung the command, in the middle of a class."""
    os.mkfifo(file)
    with pytest.raises(SubmissionError, match="is no regular file"):
        source.read(file)


def test_a_form_feed_does_not_shift_the_lines(file):
    """Python counts newlines only; `str.splitlines` counts seven other characters too."""
    file.write_text("x = '\u2028 \x85'\n\f\nx = sorted([])\n\n\ndef f():\n    return 1\n", encoding="utf-8")
    submission = source.read(file)
    (broken,) = rules.check(submission.text, submission.tree, ("sorting",))
    assert (broken.line, broken.source) == (3, "x = sorted([])")
    assert source.answer('"""Statement.\u2028 And more."""\nx = 1\n') == "x = 1\n"


STATUSES = {*Status} - {Status.NOT_STARTED}


@pytest.fixture
def impatient(monkeypatch):
    """Orders for the exercise without torch, with short time limits: what hangs is not what is tested here."""
    monkeypatch.setattr("grader.remote.calls.IMPORT_LIMIT", 1.0)
    return functools.partial(Order, catalog.find("maximum_gap"), performance=False, timeout=0.3)


GAP = catalog.find("maximum_gap").text


@effort(12)
@given(mutated_text([GAP[GAP.index("def maximum_gap") :]]))
def test_rewritten_solutions_are_graded(engine, impatient, file, text):
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    verdict = engine.grade(impatient(file)).verdict
    assert verdict.status in Status
    assert verdict.tests or verdict.message or verdict.rules
