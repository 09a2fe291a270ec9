"""The mutation score of the kit's own pure modules: which mechanical edits of one its own tests reject.

The tests of `grader/x.py` are `tests/test_x.py`, those that are not slow; they run in a scratch copy of the clone, each
mutant in a process of its own. What no test can tell is listed in `tests/equivalent/x.diff`, as for an exercise.
"""

from __future__ import annotations

import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grader.authoring import blocks, score
from grader.authoring.mutants import Mutant, of_module
from grader.authoring.score import Killers, Score
from grader.catalog import PACKAGE, content
from grader.errors import UsageError
from grader.mistake import read_equivalents

MODULES = ("compare", "pattern", "cost", "source", "sandbox/inside/wire", "store", "mistake", "card", "curriculum")
AIM = 0.9
SAMPLE = 40  # mutants of a module, always the same ones, where not all are asked for
PATIENCE = 10.0  # seconds, beyond three times what the tests take on the module as it is
COPIED = ("grader", "tests", "solutions", "exercises", "leetcode", "pyproject.toml")
Notify = Callable[["Module", int, int], None]  # a module, how many of its mutants are done, of how many


@dataclass(frozen=True)
class Module:
    """A module of the kit, `sandbox/inside/wire`."""

    path: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def text(self) -> str:
        return (PACKAGE / f"{self.path}.py").read_text(encoding="utf-8")

    @property
    def equivalent(self) -> Path:
        return content() / "tests" / "equivalent" / f"{self.name}.diff"


def select(names: tuple[str, ...]) -> list[Module]:
    """The modules of these names, or all. Raises UsageError for another name."""
    known = {module.name: module for module in map(Module, MODULES)}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"`{unknown[0]}` is not mutated; it is one of {', '.join(known)}")
    return [known[name] for name in names or known]


def measure(modules: list[Module], every: bool, jobs: int, notify: Notify) -> Iterator[tuple[Module, Score]]:
    """The score of each module, of all its mutants or of a sample. Raises UsageError when its tests do not pass."""
    with _copies(jobs) as copies, ThreadPoolExecutor(jobs) as executor:
        for module in modules:
            mutants = of_module(module.text)
            chosen = mutants if every else random.Random(module.path).sample(mutants, min(SAMPLE, len(mutants)))
            limit = _limit(copies[0], module)
            free: queue.SimpleQueue[Path] = queue.SimpleQueue()
            for copy in copies:
                free.put(copy)
            killers: Killers = {}
            running = {executor.submit(_kill, free, module, mutant, limit): mutant for mutant in chosen}
            for future in as_completed(running):
                killers[running[future].key] = future.result()
                notify(module, len(killers), len(chosen))
            yield module, score.judge(module.path, module.text, mutants, read_equivalents(module.equivalent), killers)


def equivalent(module: Module, key: str, reason: str) -> Path:
    """Write a mutant into the list of those that no test can tell. Raises UsageError when there is no such mutant."""
    found = {mutant.key: mutant for mutant in of_module(module.text)}
    if key not in found:
        raise UsageError(
            f"{module.path} has no mutant `{key}`\n\nhint: `grade dev mutate --kit {module.name}` names them"
        )
    module.equivalent.parent.mkdir(exist_ok=True)
    blocks.join(module.equivalent, reason, module.text, found[key].text)
    return module.equivalent


@contextmanager
def _copies(count: int) -> Iterator[list[Path]]:
    """Scratch copies of what the tests need of the clone."""
    with tempfile.TemporaryDirectory(prefix="grade-kit-") as folder:
        found = [Path(folder) / str(number) for number in range(count)]
        for copy in found:
            copy.mkdir()
            for name in COPIED:
                place = content() / name
                if place.is_dir():
                    shutil.copytree(place, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy2(place, copy / name)
        yield found


def _limit(copy: Path, module: Module) -> float:
    """How many seconds the tests may take on a mutant."""
    started = time.monotonic()
    if killer := _test(copy, module, 600.0):
        raise UsageError(f"the tests of {module.path} do not pass on it as it is: {killer}")
    return PATIENCE + 3 * (time.monotonic() - started)


def _kill(free: queue.SimpleQueue[Path], module: Module, mutant: Mutant, limit: float) -> str:
    copy = free.get()
    place = copy / "grader" / f"{module.path}.py"
    try:
        place.write_text(mutant.text, encoding="utf-8")
        return _test(copy, module, limit)
    finally:
        place.write_text(module.text, encoding="utf-8")
        free.put(copy)


def _test(copy: Path, module: Module, limit: float) -> str:
    """The test that fails first, or how else the run ended; empty where all pass."""
    options = ["-x", "-q", "-m", "not slow", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, f"tests/test_{module.name}.py"],
        cwd=copy,
        # two mutants of one size and second would share their bytecode
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "timeout"
    if process.returncode == 0:
        return ""
    failed = [line.split()[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0] if failed else f"exit code {process.returncode}"
