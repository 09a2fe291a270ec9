"""Gradings side by side: in one process one after another, on several processes whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from grader import batch, catalog
from grader.engine import Engine
from grader.errors import Fault, UsageError
from grader.mistake import plant
from grader.order import Order
from grader.verdict import Status

pytestmark = pytest.mark.slow

GAP, SUM = catalog.find("maximum_gap"), catalog.find("combination_sum")


def order(exercise, text, **how):
    return Order(exercise, Path(f"{exercise.slug}.py"), text, performance=False, diagnose=False, **how)


def test_two_threads_grade_one_after_another(engine):
    """With an engine each: 4 of 60 right answers were refused once, and `sys.stdout` pointed at a dead buffer."""
    stdout, seen = sys.stdout, []

    def grade(own):
        for _ in range(8):
            seen.append(own.grade(order(GAP, GAP.text)).verdict.status)

    with Engine() as other:
        threads = [threading.Thread(target=grade, args=(own,)) for own in (engine, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [Status.PASSED] * 16
    assert sys.stdout is stdout


def test_a_text_is_graded_in_place_of_a_file(engine, tmp_path):
    report = engine.grade(order(GAP, plant(GAP.text, GAP.mistakes[0])))
    assert (report.verdict.status, report.verdict.file) == (Status.FAILED, "maximum_gap.py")
    assert engine.grade(order(GAP, "def maximum_gap(:")).verdict.status is Status.ERROR


def test_a_report_stays_as_it_is(engine):
    wrong = engine.grade(Order(GAP, GAP.solution, plant(GAP.text, GAP.mistakes[0])))
    kept = wrong.repro, len(wrong.trials), wrong.verdict.to_json()
    assert "maximum_gap" in kept[0] and kept[1] > 0
    assert engine.grade(Order(GAP, GAP.solution)).repro is None
    assert (wrong.repro, len(wrong.trials), wrong.verdict.to_json()) == kept
    with pytest.raises(AttributeError):
        wrong.failing = None


def test_orders_come_back_as_they_are_done():
    texts = [(GAP, GAP.text), (SUM, SUM.text), (GAP, GAP.stub_text), (GAP, plant(GAP.text, GAP.mistakes[0]))]
    orders = [order(exercise, text) for exercise, text in texts]
    done = {given.text: report.verdict.status for given, report in batch.grade(orders, jobs=2)}
    expected = [Status.PASSED, Status.PASSED, Status.NOT_STARTED, Status.FAILED]
    assert done == dict(zip((text for _, text in texts), expected, strict=True))


def test_an_order_that_cannot_be_costs_itself_alone():
    good, bad = order(GAP, GAP.text), order(GAP, GAP.text, part="nowhere")
    done = dict(batch.grade([bad, good], jobs=1))
    assert isinstance(done[bad], UsageError) and "no part `nowhere`" in str(done[bad])
    assert done[good].verdict.passed


def sleep_or_die(engine, item):
    if item == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return os.getpid()


def test_a_killed_worker_costs_its_own_item():
    done = dict(batch.run(sleep_or_die, ["a", "dies", "b", "c", "d"], jobs=2))
    assert done.keys() == {"a", "dies", "b", "c", "d"}
    assert isinstance(done.pop("dies"), Fault)
    assert len(set(done.values())) in (2, 3)  # a new process took the place of the killed one, if there was work left


def threads_of_torch(engine, _):
    import torch

    return torch.get_num_threads()


def test_a_worker_has_one_thread():
    """Two workers of two threads each, on two busy cores, waited for each other: 16 s for what takes half a second."""
    assert dict(batch.run(threads_of_torch, [0], jobs=1)) == {0: 1}


def explode(engine, item):
    raise ValueError(item)


def test_an_unforeseen_exception_ends_the_run():
    with pytest.raises(ValueError, match="b"):
        list(batch.run(explode, ["b"], jobs=1))
    assert list(batch.run(explode, [], jobs=2)) == []


def test_workers_end_with_the_process_that_started_them(tmp_path):
    file, script = tmp_path / "pid", tmp_path / "run.py"
    script.write_text(
        "from grader import batch\nfrom tests.test_batch import sleep_on\n"
        f"if __name__ == '__main__':\n    list(batch.run(sleep_on, [{str(file)!r}], jobs=1))\n"
    )
    parent = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": str(catalog.content())})
    until(lambda: file.exists() and file.read_text(), 60.0)
    parent.kill()
    parent.wait()
    until(lambda: not os.path.exists(f"/proc/{file.read_text()}"), 20.0)


def sleep_on(engine, file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(100)


def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
