"""A child that answers anything at all: every answer is a Result, at once, and never an exception of the kit."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any

import pytest
from effort import effort, mutated_bytes
from hypothesis import example, given
from hypothesis import strategies as st

from grader.cost import Cost
from grader.remote.calls import Call, Code, RemoteError, Result, Runner
from grader.sandbox.host import Answer, Child, Ending
from grader.sandbox.inside import wire
from grader.sandbox.inside.lockdown import Limits
from grader.verdict import Cause

ENDED = json.dumps(vars(Ending(exit=1))).encode()


NUMBER = 7


class Forged(Child):
    """A child whose answers are written beforehand; it ends after the last."""

    number = property(lambda self: NUMBER, lambda self, value: None)  # of its requests: drawn at random elsewhere

    def __init__(self, answers: list[bytes], report: bytes, printed: bytes) -> None:
        connection, self.mouth = socket.socketpair()
        reports, self.warden = socket.socketpair()
        read_end, write_end = os.pipe()
        self.answers = list(answers)
        self.warden.sendall(report)
        self.warden.shutdown(socket.SHUT_WR)
        os.write(write_end, printed)
        os.close(write_end)
        super().__init__(connection, reports, read_end)

    def ask(self, request: dict[str, Any], blob: bytes, seconds: float) -> Answer:
        if self.answers:
            self.mouth.sendall(self.answers.pop(0))
            if not self.answers:
                self.mouth.shutdown(socket.SHUT_WR)
        return super().ask(request, blob, seconds)

    def close(self, grace: float = 0.0) -> Ending:
        ending = super().close(grace)
        self.mouth.close()
        self.warden.close()
        return ending


class Forger:
    """In place of a zygote."""

    alive = True

    def __init__(self, answers: list[bytes], report: bytes = ENDED, printed: bytes = b"") -> None:
        self.script = answers, report, printed

    def ended(self) -> bool:
        return False

    def spawn(self, limits: Limits, *, threads: int = 1) -> Child:
        return Forged(*self.script)


def outcome(*answers: bytes, **rest) -> Result:
    """What a runner makes of a child's answers: to the load, then to a call."""
    runner = Runner(Forger(list(answers), **rest), Code("x = 1", "x.py"), Limits())  # type: ignore[arg-type]
    try:
        runner.load()
        return runner.run(Call("f", None, [], {"dict": []}, b"", 0))
    finally:
        runner.close()


def frame(message: dict[str, Any], blob: bytes = b"") -> bytes:
    return wire.dump({**message, "id": NUMBER}, blob)


LOADED = {"ok": None}
READY = frame(LOADED)
ERROR = {
    "kind": "raised", "type": "ValueError", "bases": ["ValueError", "Exception"], "text": "no", "frames": [[3, "f", "x"]],
    "function": "f", "broken": [],
}  # fmt: skip
GOOD = frame({"ok": {"tuple": [1, 2]}, "cost": {"lines": 3, "by_name": {"aten::mul": 2}}, "changed": [], "broken": []})
FAILED = frame({"error": ERROR})
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
        st.sampled_from([1 << 62, -1, 10**4000, float("inf"), "\ud800", "x" * 5000, "fault"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=8,
)  # fmt: skip


def nearly(message: dict) -> st.SearchStrategy[dict]:
    """The message with some of its fields replaced by anything, or left out."""
    return st.fixed_dictionaries({}, optional={key: st.one_of(st.just(value), JSON) for key, value in message.items()})


COST = {"operators": 1, "lines": 2, "comparisons": 3, "by_name": {"aten::mul": 2}}
ANSWER = {"ok": 1, "error": nearly(ERROR), "cost": nearly(COST), "changed": ["argument 1"], "broken": []}
ANSWERS = st.fixed_dictionaries(
    {},
    optional={k: v if isinstance(v, st.SearchStrategy) else st.one_of(st.just(v), JSON) for k, v in ANSWER.items()},
)


def test_the_forger_itself():
    assert outcome(READY, GOOD).value == (1, 2)
    assert outcome(READY, FAILED).error.text == "no"
    assert outcome(READY).ended is Cause.CRASHED


@effort(200)
@given(ANSWERS, ANSWERS, st.binary(max_size=16))
@example({"error": {**ERROR, "frames": [[float("inf"), "f", "x"]]}}, LOADED, b"")  # int() of infinity overflows
@example(LOADED, {"error": {**ERROR, "frames": {"f": 1}}}, b"")
@example(LOADED, {"ok": 1, "cost": {"by_name": []}}, b"")
@example(LOADED, {"ok": 1, "broken": 3}, b"")
def test_any_answer_is_a_result(first, second, blob):
    result = outcome(frame(first), frame(second, blob))
    assert isinstance(result, Result)


@effort(200)
@given(st.sampled_from([GOOD, FAILED]).flatmap(mutated_bytes))
def test_any_damaged_frame_is_a_result(answer):
    assert isinstance(outcome(READY, answer), Result)


@effort(100)
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_a_result(answers, printed):
    assert outcome(answers, printed=printed).ended is Cause.CRASHED


ENDING = {"signal": 9, "exit": 1, "peak": 1 << 20, "cpu": 0.5, "fault": ""}
REPORTS = st.one_of(
    st.binary(max_size=80),
    nearly(ENDING).map(lambda data: json.dumps(data).encode()),
    JSON.map(lambda data: json.dumps(data).encode()),
)


@effort(150)
@given(REPORTS)
@example(json.dumps({**ENDING, "cpu": "long"}).encode())
@example(json.dumps({**ENDING, "signal": []}).encode())
@example(b"[" * 4000)
def test_any_report_of_a_warden_is_an_ending(report):
    result = outcome(READY, report=report[:4096])
    assert result.ended in (Cause.CRASHED, Cause.OUT_OF_MEMORY, Cause.TIMEOUT)
    assert result.message


@effort(200)
@given(st.one_of(nearly(ERROR), JSON))
@example({**ERROR, "type": [[]]})
def test_any_error_reads_or_is_a_value_error(data):
    with contextlib.suppress(ValueError):
        read = RemoteError.from_plain(data)
        assert {type(word) for word in (read.kind, read.type, read.text, read.function, *read.bases)} == {str}
        assert all(type(line) is int for line, _, _ in read.frames)


@effort(200)
@given(st.one_of(nearly(COST), JSON))
@example({"by_name": [1]})
@example({"operators": None})
def test_any_cost_reads_or_is_a_value_error(data):
    with contextlib.suppress(ValueError):
        assert all(type(count) is int and count >= 0 for count in Cost.from_plain(data).figures().values())


def test_a_line_at_infinity_is_no_fault():
    """It came out of `load`, where nothing catches what is not expected, and ended the command with 3."""
    forged = frame({"error": {**ERROR, "frames": [[float("inf"), "f", "x"]]}})
    runner = Runner(Forger([forged]), Code("x = 1", "x.py"), Limits())  # type: ignore[arg-type]
    loaded = runner.load()
    runner.close()
    assert loaded.ended is Cause.CRASHED
    assert "cannot be read" in loaded.message


@pytest.mark.parametrize("report", [b"", b"[" * 4096, b'{"signal": "x"}'])
def test_a_warden_that_says_nothing_sensible(report):
    assert outcome(READY, report=report).ended is Cause.CRASHED
