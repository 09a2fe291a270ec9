"""Hours of grading in one table each: verdicts do not flip, nothing leaks, and kills lose nothing.

make soak
python benchmarks/soak.py --times 5 --load busy --verdicts 0 --kills 0 maximum_gap adamw
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import faults  # noqa: E402

from grader import catalog  # noqa: E402
from grader.batch import cores  # noqa: E402
from grader.engine import Engine  # noqa: E402
from grader.exercise import Exercise  # noqa: E402
from grader.mistake import plant  # noqa: E402
from grader.order import Order  # noqa: E402
from grader.verdict import Outcome, Status  # noqa: E402

VERDICTS, KILLS, SEED = 2000, 200, 1
LOADS = ("idle", "busy")
BUSY = "while True: pass"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slugs", nargs="*", help="exercises to grade again and again; by default all")
    parser.add_argument("--times", type=int, default=50, help="gradings of each answer, idle and under load")
    parser.add_argument("--load", nargs="+", choices=LOADS, default=LOADS, help="by default first idle, then busy")
    parser.add_argument("--verdicts", type=int, default=VERDICTS, help="in one process, for what leaks")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    exercises = [catalog.find(slug) for slug in options.slugs] or list(catalog.exercises())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        wrong = flips(exercises, options.times, options.load, place) if options.times else 0
        wrong += leaks(options.verdicts, options.seed, place)
        wrong += killed(options.kills, options.seed, place)
    say(f"\n{wrong} wrong" if wrong else "\nnothing wrong")
    return 1 if wrong else 0


def say(line: str) -> None:
    print(line, flush=True)


def row(*cells: object) -> None:
    say(f"| {' | '.join(map(str, cells))} |")


# -------------------------------------------------------------------------------------------------------------- flips


@dataclass(frozen=True)
class Case:
    """An answer whose verdict hangs on time: what it is, and what every grading must say."""

    exercise: Exercise
    kind: str
    name: str
    text: str
    status: Status


def cases(engine: Engine, exercise: Exercise, folder: Path) -> Iterator[Case]:
    """The solution, the slowest right answer in another style, and the mistakes that only cost too much."""
    solution = exercise.text
    yield Case(exercise, "solution", exercise.slug, solution, Status.PASSED)
    seconds = {
        file: timed(engine, exercise, file.read_text(encoding="utf-8"), folder) for file in exercise.styles.values()
    }
    slowest = max(seconds, key=seconds.__getitem__)
    yield Case(exercise, "slowest right", slowest.stem, slowest.read_text(encoding="utf-8"), Status.PASSED)
    for mistake in exercise.mistakes:
        text = plant(solution, mistake)
        if graded(engine, exercise, text, folder, performance=False)[0] is not Status.PASSED:
            continue
        status = graded(engine, exercise, text, folder)[0]
        yield Case(exercise, "too costly", mistake.name, text, Status.FAILED if status is Status.PASSED else status)


def timed(engine: Engine, exercise: Exercise, text: str, folder: Path) -> float:
    """Seconds that a grading takes, the better of two."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        graded(engine, exercise, text, folder)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def graded(engine: Engine, exercise: Exercise, text: str, folder: Path, **options) -> tuple[Status, str]:
    """The status, and the tests that did not pass."""
    file = folder / f"{exercise.slug}.py"
    file.write_text(text, encoding="utf-8")
    verdict = engine.grade(Order(exercise, file, diagnose=False, **options)).verdict
    failed = [f"{test.name} ({test.cause})" for test in verdict.tests if test.outcome is Outcome.FAILED]
    return verdict.status, ", ".join(failed)


@contextlib.contextmanager
def load(busy: bool) -> Iterator[None]:
    """Every core kept busy by a process that does nothing else."""
    idlers = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores() if busy else 0)]
    try:
        yield
    finally:
        for idler in idlers:
            idler.kill()
            idler.wait()


def flips(exercises: list[Exercise], times: int, loads: Sequence[str], folder: Path) -> int:
    """Grade each case so many times under each load; returns the verdicts that were not as they must be."""
    say(f"verdicts of {times} gradings; busy is with {cores()} cores kept busy\n")
    row("exercise", "answer", "what it is", "must be", "load", "verdicts", "median", "slowest", "flips")
    row("---", "---", "---", "---", "---", "---", "--:", "--:", "--:")
    total, details = 0, []
    with Engine() as engine:
        for case in [case for exercise in exercises for case in cases(engine, exercise, folder)]:
            for how in loads:
                with load(busy=how == "busy"):
                    verdicts, seconds = repeated(engine, case, times, folder)
                counts = Counter(status for status, _ in verdicts)
                wrong = times - counts[case.status]
                total += wrong
                row(
                    case.exercise.slug, case.name, case.kind, case.status, how,
                    ", ".join(f"{count} {status}" for status, count in counts.items()),
                    f"{statistics.median(seconds):.2f} s", f"{max(seconds):.2f} s", wrong,
                )  # fmt: skip
                details += [
                    f"- {case.name}, seed {seed}, {how}: {status}: {failed}"
                    for seed, (status, failed) in enumerate(verdicts)
                    if status is not case.status
                ]
    for line in details:
        say(line)
    return total


def repeated(engine: Engine, case: Case, times: int, folder: Path) -> tuple[list[tuple[Status, str]], list[float]]:
    """The verdicts of one case under the seeds 0, 1, ..., and what each took in seconds."""
    verdicts, seconds = [], []
    for seed in range(times):
        start = time.perf_counter()
        verdicts.append(graded(engine, case.exercise, case.text, folder, seed=seed))
        seconds.append(time.perf_counter() - start)
    return verdicts, seconds


# -------------------------------------------------------------------------------------------------- leaks and kills


def leaks(verdicts: int, seed: int, folder: Path) -> int:
    """Many verdicts on one engine; returns those that were wrong, and prints what the process held on the way."""
    if not verdicts:
        return 0
    temporary = folder / "temporary"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    say(f"\n{verdicts} verdicts in one process, seed {seed}\n")
    row("after", "descriptors", "resident", "processes", "temporary files", "wrong verdicts")
    row("--:", "--:", "--:", "--:", "--:", "--:")
    wrong = 0
    with Engine() as engine:
        for number, (answer, status) in enumerate(faults.grade_many(engine, verdicts, folder, seed=seed), 1):
            if status is not answer.status:
                wrong += 1
                say(f"{answer.exercise.slug}, {answer.name}: {status} instead of {answer.status}")
            if number % max(1, verdicts // 10) == 0 or number == 50:
                held(number, temporary, wrong)
    held("the end", temporary, wrong)
    tempfile.tempdir = None
    return wrong


def held(after: object, temporary: Path, wrong: int) -> None:
    now = faults.figures(temporary)
    row(after, now.descriptors, f"{now.resident / 2**20:.0f} MiB", now.processes, now.files, wrong)


def killed(times: int, seed: int, folder: Path) -> int:
    """Kills at random moments; each checks itself, so the first that fails ends this."""
    if not times:
        return 0
    say(f"\n{times} kills, seed {seed}\n")
    workspace = faults.Workspace.make(folder / "kills")
    came_to = Counter((victim, end) for victim, _, end in faults.kills(workspace, times, seed))
    say("")
    row("killed", "the grading came to", "times", "the next one")
    row("---", "---", "--:", "---")
    for (victim, end), count in sorted(came_to.items()):
        row(victim, end, count, "passed, history whole")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
