"""What goes wrong around a grading, made on purpose: answers of every ending, and kills at any moment.

Used by `test_load.py`, a little of it, and by `benchmarks/soak.py`, all of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adversarial.processes import below

from grader import catalog
from grader.catalog import PACKAGE
from grader.engine import Engine
from grader.exercise import Exercise
from grader.mistake import plant
from grader.order import Order
from grader.store import Store
from grader.verdict import Status

GRADE = [sys.executable, "-c", "from grader.cli import main; main()"]
SLUGS = ("maximum_gap", "combination_sum")


# ------------------------------------------------------------------------------------------------------ many verdicts


@dataclass(frozen=True)
class Answer:
    """A text, and what every grading of it must say."""

    name: str
    exercise: Exercise
    text: str
    status: Status
    timeout: float | None = None


def answers() -> list[Answer]:
    """Right, wrong, crashing, hanging and greedy ones."""
    found = []
    for slug in SLUGS:
        exercise = catalog.find(slug)
        right = exercise.text
        wrong = plant(right, exercise.mistakes[0])
        part = exercise.parts[0].name

        def instead(body: str, part: str = part) -> str:
            return f"def {part}(*args):\n    {body}\n"

        def at_times(body: str, part: str = part, right: str = right) -> str:
            """Right but for a few inputs, so that few tests wait."""
            return f"{right}\n\nright = {part}\n\n\ndef {part}(*args):\n    if len(args[0]) == 1:\n        {body}\n    return right(*args)\n"

        found += [
            Answer("right", exercise, right, Status.PASSED),
            Answer("right again", exercise, right + "\n", Status.PASSED),
            Answer("wrong", exercise, wrong, Status.FAILED),
            Answer("raising", exercise, instead("raise ValueError('no')"), Status.FAILED),
            Answer("exiting", exercise, instead("import os; os._exit(3)"), Status.CRASHED),
            Answer("segfault", exercise, instead("import ctypes; ctypes.string_at(0)"), Status.CRASHED),
            Answer("hanging", exercise, at_times("while True: pass"), Status.TIMEOUT, timeout=0.1),
            Answer("greedy", exercise, instead("return len(bytearray(20 << 30))"), Status.OUT_OF_MEMORY),
            Answer("printing", exercise, "print('x' * 100_000)\n" + instead("raise KeyError"), Status.FAILED),
            Answer(
                "leaving files",
                exercise,
                "open('left', 'w').write('x' * 10_000)\n" + instead("return None"),
                Status.FAILED,
            ),
            Answer("syntax", exercise, right + "\n)", Status.ERROR),
        ]
    return found


@dataclass(frozen=True)
class Figures:
    """What a process holds."""

    descriptors: int
    resident: int  # bytes
    processes: int  # below it
    files: int  # left in the folder for temporary files


def figures(temporary: Path) -> Figures:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Figures(
        descriptors=len(os.listdir("/proc/self/fd")),
        resident=pages * os.sysconf("SC_PAGE_SIZE"),
        processes=len(settled(os.getpid())),
        files=sum(1 for path in temporary.rglob("*") if not path.is_dir()),
    )


def settled(pid: int, seconds: float = 5.0) -> set[int]:
    """The processes below one, once no more of them end: a warden needs a moment to follow its child."""
    found, deadline = below(pid, zombies=False), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = below(pid, zombies=False)
        if now == found:
            break
        found = now
    return found


def grade_many(engine: Engine, times: int, folder: Path, *, seed: int) -> Iterator[tuple[Answer, Status]]:
    """Grade answers drawn at random, so many times."""
    drawn, choices = random.Random(seed), answers()
    weights = [4 if answer.status is Status.PASSED else 1 for answer in choices]
    for answer in drawn.choices(choices, weights, k=times):
        file = folder / f"{answer.exercise.slug}.py"
        file.write_text(answer.text, encoding="utf-8")
        how = dict(performance=False, timeout=answer.timeout, seed=drawn.randrange(100))
        yield answer, engine.grade(Order(answer.exercise, file, **how)).verdict.status


# -------------------------------------------------------------------------------------------------------------- kills

VICTIMS = ("grader", "zygote", "child")
LONGEST = 0.8  # seconds that a grading takes here, roughly: kills come at any moment of it


@dataclass
class Workspace:
    """A workspace made by `grade init`, whose answers are right; a folder for temporary files of its own."""

    root: Path
    temporary: Path

    @classmethod
    def make(cls, folder: Path) -> Workspace:
        made = cls(folder / "workspace", folder / "temporary")
        made.temporary.mkdir(parents=True)
        subprocess.run(
            [*GRADE, "init", str(made.root)], env=made.environment, cwd=folder, check=True, capture_output=True
        )
        for slug in SLUGS:
            exercise = catalog.find(slug)
            (made.root / exercise.stub_path).write_text(exercise.text, encoding="utf-8")
        return made

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(self.temporary)}

    @property
    def database(self) -> Path:
        return self.root / ".grade" / "progress.db"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*GRADE, *words],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def history(self) -> list[tuple[int, str]]:
        """All attempts, (number, JSON), the first first; the file itself is sound."""
        if not self.database.exists():
            return []
        attempts = [(attempt.id, attempt.json) for attempt in reversed(Store(self.database).attempts())]
        db = sqlite3.connect(self.database)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            db.close()
        return attempts


def kill_once(workspace: Workspace, victim: str, moment: float) -> str:
    """Kill one process of a running grading, and check everything that must hold after it.

    Returns what the grading itself came to.
    """
    before = workspace.history()
    grading = workspace.start("maximum_gap", "--json")
    family = _kill(grading, victim, moment)
    said, complained = grading.communicate(timeout=60)
    _wait_for_the_end(family)
    came_to = "killed" if grading.returncode < 0 else f"exit {grading.returncode}"
    isolation = ""
    if said:
        isolation, status = (json.loads(said)[name] for name in ("isolation", "status"))
        came_to = f"{came_to}, {status}"
    if victim == "zygote":  # no wrong verdict on a right answer: it passes, or the kit says that it failed itself
        assert grading.returncode in (0, 3), (grading.returncode, said, complained)
    if grading.returncode == 0:
        assert json.loads(said)["status"] == "passed"
    if grading.returncode == 3:
        assert "the kit itself failed: the " in complained, complained  # in words of its own
    kept = workspace.history()
    assert kept[: len(before)] == before, "an earlier attempt is gone"
    assert len(kept) <= len(before) + 1

    following = workspace.start("maximum_gap", "--json")
    said, complained = following.communicate(timeout=60)
    assert following.returncode == 0, (said, complained)
    verdict = json.loads(said)
    assert (verdict["status"], verdict["points"]) == ("passed", verdict["max_points"])
    assert isolation in ("", verdict["isolation"]), "a kill must not cost a layer of isolation"
    now = workspace.history()
    assert now[: len(kept)] == kept
    assert len(now) == len(kept) + 1
    if verdict["isolation"] == "sandbox":  # elsewhere children work in a folder, which nobody is left to remove
        assert list(workspace.temporary.iterdir()) == []
    return came_to


def _kill(grading: subprocess.Popen[str], victim: str, moment: float) -> set[int]:
    """Kill the grader `moment` seconds after the start, the others half as long after the first of them is there.

    Returns what ran then.
    """
    family: set[int] = set()
    due = time.monotonic() + moment if victim == "grader" else None
    while grading.poll() is None:
        family = below(grading.pid, zombies=False)
        target = grading.pid if victim == "grader" else _of_the_family(grading.pid, victim)
        if due is None and target is not None:
            due = time.monotonic() + moment / 2
        if target is not None and due is not None and time.monotonic() >= due:
            try:
                os.kill(target, signal.SIGKILL)
            except ProcessLookupError:
                continue
            break
        time.sleep(0.005)
    return family | {grading.pid}


def _of_the_family(grader: int, victim: str) -> int | None:
    """The zygote is the first below the grader that runs Python; the child is below all others."""
    line, level = [], [grader]
    while level := [pid for parent in level for pid in _children(parent)]:
        line.append(level[0])
    pythons = [pid for pid in line if "python" in os.path.basename(_program(pid))]
    if victim == "zygote":
        return pythons[0] if pythons else None
    return pythons[2] if len(pythons) >= 3 else None  # after the zygote and the warden


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _wait_for_the_end(family: set[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in family if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.01)


def kills(workspace: Workspace, times: int, seed: int) -> Iterator[tuple[str, float, str]]:
    """(victim, moment, what the grading came to), the victims in turn."""
    drawn = random.Random(seed)
    for number in range(times):
        victim, moment = VICTIMS[number % len(VICTIMS)], drawn.uniform(0.0, LONGEST)
        print(f"kill -9 of the {victim} after {moment:.3f} s (seed {seed}, number {number})")
        yield victim, moment, kill_once(workspace, victim, moment)
