"""Gives a submission to the real command line, in a workspace of its own, and looks at what came of it."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grader import catalog, workspace
from grader.sandbox import layers
from grader.sandbox.inside.scratch import remove_tree
from grader.source import REGION

from .case import KEY, MARK, OPTIONS, Case
from .processes import below

ROOT = Path(__file__).resolve().parents[2]
GRADE = "from grader.cli import main; main()"
# The command line has no option for the tier, since nobody should want a weaker one: the same, with the engine's default replaced.
ON_TIER = (
    "import functools, grader.engine as engine\n"
    "engine.Engine = functools.partial(engine.Engine, tier={tier!r})\n" + GRADE
)
SECRET = "a-token-of-whoever-grades"
LONGEST = 180.0


@dataclass(frozen=True)
class Played:
    """What one run of the command line did."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    left: tuple[str, ...]  # what was not there before

    @functools.cached_property
    def verdict(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def status(self) -> str:
        return self.verdict["status"]

    @property
    def passed(self) -> set[str]:
        return {test["name"] for test in self.verdict["tests"] if test["outcome"] == "passed"}

    @property
    def readable(self) -> str:
        """Everything that the submission's author can read, with JSON's escapes undone."""
        try:
            return "\n".join([self.stderr, *_strings(json.loads(self.stdout))])
        except ValueError:
            return self.stderr + self.stdout


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def best_tier() -> str:
    return layers.best_tier(layers.probe_layers())


def tiers_of(case: Case, best: str) -> list[str]:
    """The tiers on which a case is played: the best one, and the restricted one where the layers decide."""
    return ["sandbox", "restricted"] if case.isolation and best == "sandbox" else [best]


def play(exercise: str, code: str, tier: str, *options: str, as_json: bool = True) -> Played:
    """Grade a text. The best tier is the command line's own choice."""
    with _place() as place:
        for folder in ("tmp", "home", "ws"):
            (place / folder).mkdir()
        workspace.init(place / "ws", [])
        file = place / "ws" / f"{exercise}.py"
        file.write_text(code, encoding="utf-8")
        launch = GRADE if tier == best_tier() else ON_TIER.format(tier=tier)
        command = [sys.executable, "-c", launch, exercise, "--file", str(file), *OPTIONS.get(exercise, ()), *options]
        before, since = _present(place), _elsewhere()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
        environment |= {
            "TMPDIR": str(place / "tmp"), "HOME": str(place / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "80",
            "GRADE_TOKEN": SECRET,
        }  # fmt: skip
        started = time.monotonic()
        with _Family() as family:
            done = subprocess.run(
                [*command, *(["--json"] if as_json else [])], cwd=place / "ws", env=environment, timeout=LONGEST,
                stdin=subprocess.DEVNULL, capture_output=True,
            )  # fmt: skip
            seconds = time.monotonic() - started
            left = family.left()
        left += sorted(_present(place) - before) + sorted(_elsewhere() - since)
        out, err = (data.decode("utf-8", "replace") for data in (done.stdout, done.stderr))
        return Played(done.returncode, out, err, seconds, tuple(left))


def play_case(case: Case, tier: str, *, as_json: bool = True) -> Played:
    options = case.options if case.performance else (*case.options, "--no-performance")
    return play(case.exercise, fill_in(case), tier, *options, as_json=as_json)


def fill_in(case: Case) -> str:
    """The code with the places on this machine that it reaches for."""
    exercise = catalog.find(case.exercise)
    places = {
        "SUITE_FILE": exercise.suite, "SOLUTION_FILE": exercise.solution, "KIT": catalog.PACKAGE, "CLONE": ROOT,
        "HOME_FOLDER": Path.home(),
    }  # fmt: skip
    code = case.code
    for name, path in places.items():
        code = re.sub(rf"\b{name}\b", repr(str(path)), code)
    return code


# --- what is left behind


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    name = tempfile.mkdtemp(prefix="attack-")
    try:
        yield Path(name).resolve()
    finally:
        remove_tree(name)  # which copes with whatever an attack may have left there


def _present(place: Path) -> set[str]:
    """Everything below the workspace, HOME and TMPDIR, but for the store of attempts."""
    found: set[str] = set()
    for folder, folders, names in os.walk(place):
        folders[:] = [
            name for name in folders if name != ".grade" and folder.count("/") < place.as_posix().count("/") + 4
        ]
        found.update(os.path.relpath(f"{folder}/{name}", place) for name in folders + names)
    return found


def _elsewhere() -> set[str]:
    """What an attack would have left outside, known by its mark."""
    found: set[str] = set()
    here = Path(__file__).resolve()
    folders = {
        *map(Path, ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock")), Path.home(), ROOT,
        catalog.PACKAGE, catalog.PACKAGE / "sandbox" / "inside", here.parent, Path(json.__file__).parent,
        Path(sys.prefix), Path(os.__file__).parent,
    }  # fmt: skip
    for folder in folders:
        try:
            found.update(f"{folder}/{name}" for name in os.listdir(folder) if MARK in name)
        except OSError:
            continue  # not here, or not ours to read
    for table in ("/proc/net/unix", "/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"):
        try:
            text = Path(table).read_text()
        except OSError:
            continue
        found.update(f"{table}: {line}" for line in text.splitlines() if MARK in line or f" {KEY} " in f" {line} ")
    return found


class _Family:
    """Processes started inside, however they detach themselves: orphans come back to this process."""

    def __enter__(self) -> _Family:
        self.libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            self.libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        self.before = below(os.getpid())
        return self

    def __exit__(self, *error: object) -> None:
        if sys.platform == "linux":
            self.libc.prctl(36, 0, 0, 0, 0)

    def left(self, patience: float = 3.0) -> list[str]:
        """Those that do not end by themselves within a moment; they are ended."""
        deadline = time.monotonic() + patience
        while (new := below(os.getpid()) - self.before) and time.monotonic() < deadline:
            _reap(new)
            time.sleep(0.01)
        found = [f"process {pid}: {_command(pid)}" for pid in sorted(new)]
        for pid in new:
            os.kill(pid, signal.SIGKILL)
        _reap(new)
        return found


def _reap(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # a grandchild


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "ended"


# --- what must not be seen


@functools.cache
def hidden_lines() -> frozenset[str]:
    """Lines of the suites and of the solutions' answers that would give themselves away. Probes run beside the
    learner's code, so they can be seen there; they hold no expectation."""
    found: set[str] = set()
    for exercise in catalog.exercises():
        text = exercise.suite.read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(text)).body:
            marked = isinstance(node, ast.FunctionDef) and "probe" in map(ast.unparse, node.decorator_list)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign) and not marked:
                found.update(text[node.lineno - 1 : node.end_lineno])
        for region in REGION.finditer(exercise.text):
            found.update(region[0].splitlines())
    # a line of numbers alone is an input, which the messages show
    return frozenset(line.strip() for line in found if len(line.strip()) > 30 and re.search("[a-z]", line))


def disclosed(played: Played, code: str) -> list[str]:
    """The hidden lines that can be read; those of the submission itself are no secret."""
    text = played.readable
    return sorted(line for line in hidden_lines() if line in text and line not in code)
