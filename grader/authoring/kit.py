"""The mutation score of the kit's own pure modules: which mechanical edits of one its own tests reject.

The tests of `grader/x.py` are `tests/test_x.py`, those that are not slow; they run in a scratch copy of the clone, each
mutant in a process of its own. What no test can tell is listed in `tests/equivalent/x.diff`, as for an exercise.
"""

from __future__ import annotations

import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from grader.authoring import blocks, score, warm_pytest
from grader.authoring.mutants import Mutant, of_module
from grader.authoring.score import Killers, Score
from grader.catalog import PACKAGE, content
from grader.errors import UsageError
from grader.mistake import read_equivalents

MODULES = ("compare", "pattern", "cost", "source", "sandbox/inside/wire", "store", "mistake", "card", "curriculum")
AIM = 0.9
SAMPLE = 40  # mutants of a module, always the same ones, where not all are asked for
PATIENCE = 10.0  # seconds, beyond three times what the tests take on the module as it is
OPTIONS = ["-x", "-q", "-m", "not slow", "--tb=no", "-p", "no:cacheprovider"]
SLOW = ("numpy", "torch")  # to import
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
    with _clones(jobs) as clones, ThreadPoolExecutor(jobs) as executor:
        free: queue.SimpleQueue[_Clone] = queue.SimpleQueue()
        for clone in clones:
            free.put(clone)

        def kill(module: Module, mutant: Mutant, limit: float) -> str:
            clone = free.get()
            try:
                return clone.kill(module, mutant, limit)
            finally:
                free.put(clone)

        for module in modules:
            mutants = of_module(module.text)
            chosen = mutants if every else random.Random(module.path).sample(mutants, min(SAMPLE, len(mutants)))
            limit = max(clone.limit(module) for clone in clones)
            killers: Killers = {}
            running = {executor.submit(kill, module, mutant, limit): mutant for mutant in chosen}
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
def _clones(count: int) -> Iterator[list[_Clone]]:
    with tempfile.TemporaryDirectory(prefix="grade-kit-") as folder, ExitStack() as stack:
        clones = [_Clone(Path(folder) / str(number)) for number in range(count)]
        for clone in clones:
            stack.callback(clone.close)
        yield clones


class _Clone:
    """A scratch copy of what the tests need of the clone, and a warm process that runs them in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            place = content() / name
            if place.is_dir():
                shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(place, folder / name)
        self.process = subprocess.Popen(
            [sys.executable, warm_pytest.__file__, *SLOW],
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a second for each run
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self.process.communicate()  # ends with its input

    def limit(self, module: Module) -> float:
        """How many seconds the tests may take on a mutant. Raises UsageError when they do not pass as it is."""
        started = time.monotonic()
        if killer := self._test(module, 600.0, keep=True):
            raise UsageError(f"the tests of {module.path} do not pass on it as it is: {killer}")
        return PATIENCE + 3 * (time.monotonic() - started)

    def kill(self, module: Module, mutant: Mutant, limit: float) -> str:
        """The test that rejects a mutant, or how else the run ended; empty for a survivor."""
        place = self.folder / "grader" / f"{module.path}.py"
        place.write_text(mutant.text, encoding="utf-8")
        killer = self._test(module, limit, keep=False)  # two mutants of one size and second would share their bytecode
        place.write_text(module.text, encoding="utf-8")
        return killer

    def _test(self, module: Module, limit: float, *, keep: bool) -> str:
        order = {"arguments": [*OPTIONS, f"tests/test_{module.name}.py"], "limit": limit, "keep": keep}
        assert self.process.stdin and self.process.stdout
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())
