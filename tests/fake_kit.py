"""A kit of four small exercises and an engine that runs nothing, for the tests of the command line."""

from __future__ import annotations

import sys
import types
from pathlib import Path

from grader import catalog, digest
from grader.remote.calls import encode_call
from grader.report import Report
from grader.verdict import Cause, Diagnosis, Outcome, Status, TestResult, Verdict

SOLUTION = '''"""# {title}

Write `double`, which maps $x$ to $2 \\\\cdot x$.

>>> double(2)
4
"""


def double(x):
    """Twice a number."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


class Doubler:
    """Doubles."""

    def call(self, x):
        ### BEGIN SOLUTION
        return double(x)
        ### END SOLUTION


def check(x, *, strict: bool = False):
    """Whether it can be doubled (given)."""
    return _anything(x)


def _anything(x):
    return True
'''
STUB = "# YOUR CODE HERE\n    raise NotImplementedError()\n"
CARD = """\
title = "{title}"
level = "{level}"
minutes = {minutes}
hints = ["think", "think twice", "double it"]
after = [{after}]
forbid = ["torch.optim"]
needs = []

[[follow_ups]]
question = "Why not triple?"
answer = "Because the statement says so."
"""
# path: level, minutes, after
EXERCISES = {
    "attention/rope": ("core", 15, ("adamw",)),
    "leetcode/two_sum": ("core", 20, ()),
    "optimizers/adamw": ("warm-up", 40, ()),
    "optimizers/schedules": ("stretch", 10, ()),
}


def write(root: Path) -> None:
    for path, (level, minutes, after) in EXERCISES.items():
        title = path.rsplit("/", 1)[1].replace("_", " ").capitalize()
        prerequisites = ", ".join(f'"{slug}"' for slug in after)
        card = CARD.format(title=title, level=level, minutes=minutes, after=prerequisites)
        files = {f"suites/{path}/card.toml": card, f"solutions/{path}.py": SOLUTION.format(title=title)}
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)


def use(root: Path, monkeypatch) -> None:
    """Make the catalogue see these exercises and no others."""
    write(root)
    monkeypatch.setattr(catalog, "SUITES", root / "suites")
    monkeypatch.setattr(catalog, "content", lambda: root)
    catalog.exercises.cache_clear()


def result(name="TestValues::test_double[one]", outcome=Outcome.PASSED, **rest):
    points = 2 if outcome is Outcome.PASSED else 0
    values = dict(title="doubles", part="double", category="values", points=points, max_points=2)
    return TestResult(name=name, outcome=outcome, **{**values, **rest})


def verdict(status=Status.PASSED, exercise="optimizers/adamw", file="adamw.py", **rest):
    good = [result(), result("TestValues::test_call", part="Doubler", title="calls")]
    wrong = result(
        "TestValues::test_double[two]", Outcome.FAILED, cause=Cause.WRONG, message="expected  4\ngot       3"
    )
    tests = good if status is Status.PASSED else [*good, wrong] if status is Status.FAILED else []
    found = [Diagnosis("adds", "adds where it should double", 1, 1)] if status is Status.FAILED else []
    values = dict(
        points=sum(t.points for t in tests), max_points=sum(t.max_points for t in tests), seconds=0.08, seed=7,
        isolation="sandbox", tests=tests, diagnosis=found,
    )  # fmt: skip
    return Verdict(exercise, str(file), status, **{**values, **rest})


CALL = encode_call("double", (2,), {}, seed=7)


class Engine:
    """Gives the status that stands in the file as a comment. What all instances share is set by `use_engine`."""

    opened: list[Engine]
    raises: BaseException | None

    def __init__(self, *, memory=4 << 30, tier=None):
        self.memory, self.calls, self.closed = memory, [], False
        Engine.opened.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closed = True

    def grade(self, order, notify=lambda _: None):
        notify("running the tests")
        self.calls.append(
            dict(
                exercise=order.exercise.path, file=order.file, seed=order.seed, device=order.device, part=order.part,
                performance=order.performance,
            )
        )  # fmt: skip
        if Engine.raises is not None:
            raise Engine.raises
        text = Path(order.file).read_text()
        status = next((s for s in Status if f"# {s}\n" in text), Status.NOT_STARTED)
        if "demo" in Path(order.file).parts:
            status = Status.FAILED
        failing = CALL if status is Status.FAILED else None
        digests = {"submission": digest.submission(text)}
        rest = dict(message="not started", max_points=6) if status is Status.NOT_STARTED else {}
        made = verdict(status, order.exercise.path, order.file, seed=order.seed, digests=digests, **rest)
        return Report(order, made, failing, text=text)


def use_engine(monkeypatch) -> type[Engine]:
    module = types.ModuleType("grader.engine")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, "grader.engine", module)
    Engine.opened, Engine.raises = [], None
    return Engine
