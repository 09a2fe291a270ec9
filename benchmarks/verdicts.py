"""How long a verdict takes, cold and warm: one table, medians, everything measured in this run.

make bench
"""

from __future__ import annotations

import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from grader import catalog
from grader.engine import Engine
from grader.exercise import Exercise
from grader.mistake import plant
from grader.order import Order
from grader.sandbox.host import Zygote
from grader.sandbox.inside.lockdown import Limits

COLD, WARM, FORKS = 5, 7, 40
GRADE = [sys.executable, "-c", "from grader.cli import main; main()"]
EMPTY = dict(op="load", source="", filename="x.py", seed=0, rules=[], stubs=[], device="cpu")


def main() -> None:
    say(f"medians on {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        say(row("", "measured", "aim"))
        say(row("---", "--:", "--:"))
        for what, measured, aim in chain(cold(Path(folder)), sandbox()):
            say(row(what, measured, aim))
        say(
            "\n" + row("warm verdict", "tests", "without performance", "all", "failing, mistake named", "failing again")
        )
        say(row("---", "--:", "--:", "--:", "--:", "--:"))
        say(row("aim", "", "100 ms", "", "300 ms", ""))
        for figures in warm(Path(folder)):
            say(row(*figures))


def say(line: str) -> None:
    print(line, flush=True)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def median(action: Callable[[], object], times: int) -> float:
    spans = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        spans.append(time.perf_counter() - start)
    return statistics.median(spans)


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def cold(folder: Path):
    """Whole processes, from the shell's point of view; the commands take turns."""
    workspace = folder / "workspace"
    command(GRADE, "init", str(workspace), cwd=folder)
    answers = {}
    for slug in ("adamw", "maximum_gap"):
        exercise = catalog.find(slug)
        answers[slug] = workspace / exercise.stub_path
        answers[slug].write_text(exercise.text, encoding="utf-8")
    jobs = {
        "import torch": [sys.executable, "-c", "import torch"],
        "adamw": [*GRADE, "adamw"],
        "adamw without performance tests": [*GRADE, "adamw", "--no-performance"],
        "maximum_gap": [*GRADE, "maximum_gap"],
        "maximum_gap without performance tests": [*GRADE, "maximum_gap", "--no-performance"],
        "dashboard": GRADE,
    }
    spans: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(COLD):
        for name, job in jobs.items():
            spans[name].append(median(lambda job=job: command(job, cwd=workspace), 1))
    base = statistics.median(spans["import torch"])
    aims = {"adamw": f"{seconds(base + 1)} (import torch + 1 s)", "maximum_gap": "600 ms", "dashboard": "250 ms"}
    for name, found in spans.items():
        label = (
            '`python -c "import torch"`'
            if name == "import torch"
            else f"cold `grade {name}`"
            if name != "dashboard"
            else "`grade`, the dashboard"
        )
        yield (
            label,
            seconds(statistics.median(found)),
            aims.get(name.split(" ")[0], "") if name != "import torch" else "",
        )


def command(job: list[str], *more: str, cwd: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(catalog.PACKAGE.parent)}
    done = subprocess.run([*job, *more], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stdout}{done.stderr}")


def sandbox():
    """Zygote start, fork, memory."""
    with Engine() as engine:
        engine.warm(catalog.find("maximum_gap"))
        tier = engine.tier
    for needs, name in (((), "without torch"), (catalog.find("adamw").packages, "with torch")):
        start = time.perf_counter()
        zygote = Zygote(needs, tier)
        zygote.wait()
        yield f"zygote start {name} ({tier})", seconds(time.perf_counter() - start), ""

        def fork(zygote: Zygote = zygote) -> None:
            child = zygote.spawn(Limits())
            child.ask(EMPTY, b"", 10.0)
            child.close()

        yield f"fork, load, end of a child {name}", seconds(median(fork, FORKS)), ""
        child = zygote.spawn(Limits())
        child.ask(EMPTY, b"", 10.0)
        parent, own = memory(zygote.process.pid)
        yield f"memory {name}: zygote / private to a child", f"{parent:.0f} / {own:.1f} MB", ""
        child.close()
        zygote.close()


def memory(top: int) -> tuple[float, float]:
    """MB of the largest process below `top`, and the private MB of the last one forked."""
    pids = sorted(below(top) | {top})
    return max(rss(pid) for pid in pids), private(pids[-1])


def below(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found |= {int(stat.parent.name)} | below(int(stat.parent.name))
    return found


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def private(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def warm(folder: Path):
    """Verdicts in a warm process, as in watch mode."""
    with Engine() as engine:
        for exercise in catalog.exercises():
            whole = Order(exercise, exercise.solution)
            short = replace(whole, performance=False)
            engine.grade(whole)
            plain = median(functools.partial(engine.grade, short), WARM)
            full = median(functools.partial(engine.grade, whole), 3)
            tests = len(engine.grade(short).verdict.tests)
            first, again = failing(engine, exercise, folder)
            yield exercise.slug, str(tests), *map(seconds, (plain, full, first, again))


def failing(engine: Engine, exercise: Exercise, folder: Path) -> tuple[float, float]:
    """Medians over the first mistakes, without performance tests: with nothing known of the other mistakes' results,
    and as in a session that saves again.
    """
    file = folder / f"{exercise.slug}.py"
    firsts, agains = [], []
    for mistake in exercise.mistakes[:5]:
        file.write_text(plant(exercise.text, mistake), encoding="utf-8")
        engine.recall.results.clear()
        firsts.append(median(lambda: engine.grade(Order(exercise, file, performance=False)), 1))
        agains.append(median(lambda: engine.grade(Order(exercise, file, performance=False)), 3))
    return statistics.median(firsts), statistics.median(agains)


if __name__ == "__main__":
    main()
