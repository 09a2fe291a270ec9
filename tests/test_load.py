"""Load and faults: nothing leaks, nothing that is killed or full or read-only costs an attempt or gives a wrong verdict.

In short here; `make soak` runs 2,000 verdicts and 200 kills.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import faults
import pytest

from grader import catalog
from grader.cli.exit_code import ExitCode
from grader.engine import Engine
from grader.mistake import plant

pytestmark = [
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="processes are counted in /proc"),
    pytest.mark.alone,
]

WARM_UP, VERDICTS, KILLS = 50, 100, 12
GROWTH = 12 << 20  # bytes: allocators keep a little; a leak of one verdict's data would be a multiple


def test_many_verdicts_in_one_process(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    start = faults.figures(temporary)
    with Engine() as engine:
        wrong = [pair for pair in faults.grade_many(engine, WARM_UP, tmp_path, seed=1) if pair[0].status is not pair[1]]
        warm = faults.figures(temporary)
        wrong += [
            pair for pair in faults.grade_many(engine, VERDICTS, tmp_path, seed=2) if pair[0].status is not pair[1]
        ]
        now = faults.figures(temporary)
    assert wrong == []
    assert now.descriptors <= warm.descriptors
    assert now.processes <= warm.processes
    assert now.resident < warm.resident + GROWTH
    end = faults.figures(temporary)
    assert (end.descriptors, end.processes, end.files) == (start.descriptors, start.processes, 0)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return faults.Workspace.make(tmp_path_factory.mktemp("faults"))


def test_kills_at_any_moment(workspace):
    came_to = [end for _, _, end in faults.kills(workspace, KILLS, seed=20)]
    assert "killed" in came_to  # the shortest moment is before Python has started
    assert len(came_to) == KILLS


def test_two_gradings_at_once(workspace):
    before = workspace.history()
    running = [workspace.start(slug, "--json") for slug in ("maximum_gap", "combination_sum", "maximum_gap")]
    for process in running:
        said, complained = process.communicate(timeout=60)
        assert (process.returncode, complained) == (0, "")
        verdict = json.loads(said)
        assert (verdict["status"], verdict["points"]) == ("passed", verdict["max_points"])
    after = workspace.history()
    assert after[: len(before)] == before
    names = sorted(json.loads(text)["exercise"] for _, text in after[len(before) :])
    assert names == ["leetcode/combination_sum", "leetcode/maximum_gap", "leetcode/maximum_gap"]


# ------------------------------------------------------------------------------------------ disks full and read-only


def bubblewrap(*options: str) -> list[str]:
    """A command prefix that mounts something over a folder, for root and for everybody else."""
    command = ["bwrap", "--dev-bind", "/", "/", *options]
    if shutil.which("bwrap") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs bubblewrap, with --size, to mount a small or read-only disk")
    return command


def run(prefix, place, *words, script=None):
    command = [sys.executable, "-c", script] if script else [*faults.GRADE, *words]
    return subprocess.run(
        [*prefix, *command], cwd=place.root, env=place.environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def place(tmp_path):
    """A workspace with one attempt and one hint."""
    made = faults.Workspace.make(tmp_path)
    for words in (["maximum_gap"], ["hint", "adamw"]):
        assert run([], made, *words).returncode == 0
    return made


def is_plain(done) -> bool:
    """A message and no traceback, and not the kit's own fault."""
    return done.returncode != ExitCode.FAULT and "Traceback" not in done.stderr and "error: " in done.stderr


WRITING = {
    "grade": (["maximum_gap"], ExitCode.PASSED, "is read-only"),
    "grade wrong": (["combination_sum"], ExitCode.NOT_PASSED, "is read-only"),
    "repro": (["combination_sum", "--repro"], ExitCode.NOT_PASSED, "the script cannot be written"),
    "hint": (["hint", "adamw"], ExitCode.PASSED, "is read-only"),
    "reset": (["reset", "maximum_gap"], ExitCode.USAGE, "cannot be written"),
    "init": (["init", "."], ExitCode.USAGE, "cannot be written"),
}


def test_a_read_only_workspace(place):
    """The verdict is there whatever the disk; what could not be kept is said, and what was kept stays."""
    before = place.history()
    shutil.copyfile(wrong(place), place.root / catalog.find("combination_sum").stub_path)
    (place.root / catalog.find("adamw").stub_path).unlink()
    files = snapshot(place.root)
    prefix = bubblewrap("--ro-bind", str(place.root), str(place.root))
    for words, code, message in WRITING.values():
        done = run(prefix, place, *words)
        assert done.returncode == code, done.stderr
        assert is_plain(done)
        assert message in done.stderr
    for words in ([], ["list"], ["history"], ["show", "adamw"], ["next"]):
        assert run(prefix, place, *words).returncode == 0
    assert place.history() == before
    assert snapshot(place.root) == files


def wrong(place) -> Path:
    exercise = catalog.find("combination_sum")
    file = place.root.parent / "wrong.py"
    file.write_text(plant(exercise.text, exercise.mistakes[0]))
    return file


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Runs inside, on the small disk, with the workspace copied onto it; prints what a test then checks.
FULL = """
import json, os, pathlib, shutil, subprocess, sys
small, original, grade = pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
shutil.copytree(original, small / "ws")
os.chdir(small / "ws")
for unit in (4096, 1):
    try:
        with open(small / "filler", "ab", buffering=0) as filler:
            while True:
                filler.write(b"x" * unit)
    except OSError:
        pass
told = {}
for name, words in json.loads(sys.argv[4]).items():
    done = subprocess.run([*grade, *words], capture_output=True, text=True)
    told[name] = [done.returncode, done.stderr]
with open("/dev/full", "w") as full:
    done = subprocess.run([*grade, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
told["stdout"] = [done.returncode, done.stderr]
os.unlink(small / "filler")
again = subprocess.run([*grade, "maximum_gap"], capture_output=True, text=True)
told["again"] = [again.returncode, again.stderr]
shutil.copytree(small / "ws", sys.argv[5])
print(json.dumps(told))
"""
ON_A_FULL_DISK = {
    "grade": (["maximum_gap"], ExitCode.PASSED, "the disk is full"),
    "grade wrong": (["combination_sum"], ExitCode.NOT_PASSED, "the disk is full"),
    "repro": (["combination_sum", "--repro"], ExitCode.NOT_PASSED, "the script cannot be written"),
    "hint": (["hint", "adamw"], ExitCode.PASSED, "the disk is full"),
    "reset": (["reset", "maximum_gap"], ExitCode.USAGE, "No space left on device"),
    "init": (["init", "."], ExitCode.USAGE, "No space left on device"),
}


def test_a_full_disk(place, tmp_path):
    """Workspace and temporary files on one disk that is full: said plainly, and nothing is lost or cut off."""
    before = place.history()
    shutil.copyfile(wrong(place), place.root / catalog.find("combination_sum").stub_path)
    (place.root / catalog.find("adamw").stub_path).unlink()
    files = snapshot(place.root)
    small, copy = tmp_path / "small", tmp_path / "copy"
    small.mkdir()
    prefix = bubblewrap("--size", str(2 << 20), "--tmpfs", str(small), "--setenv", "TMPDIR", str(small))
    words = {name: words for name, (words, _, _) in ON_A_FULL_DISK.items()}
    arguments = [str(small), str(place.root), json.dumps(faults.GRADE), json.dumps(words), str(copy)]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", FULL, *arguments], cwd=tmp_path, env=place.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for name, (_, code, message) in ON_A_FULL_DISK.items():
        assert (told[name][0], "Traceback" in told[name][1]) == (code, False), told[name][1]
        assert message in told[name][1]
    assert told["stdout"][0] == ExitCode.USAGE
    assert "No space left on device" in told["stdout"][1]
    assert told["again"] == [ExitCode.PASSED, ""]  # once there is space

    moved = faults.Workspace(copy, place.temporary)
    after = moved.history()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    now = snapshot(copy)
    kept = {name: data for name, data in now.items() if not name.startswith(".grade/")}
    assert kept == {name: data for name, data in files.items() if not name.startswith(".grade/")}
