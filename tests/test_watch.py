"""Watch mode: the loop by itself, its two sources, and the whole command in a process of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import fake_kit
import pytest

from grader import catalog, workspace
from grader.watch import KEYS, Failed, Key, Saved, Watch, feed_keys, keys, saves, sources, unbuffered

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


class Actions:
    """Writes down what the loop asks for."""

    def __init__(self):
        self.done = []
        self.following = None

    def grade(self, exercise):
        self.done.append(f"grade {exercise.slug}")

    def hint(self, exercise):
        self.done.append(f"hint {exercise.slug}")

    def show_list(self):
        self.done.append("list")

    def choose(self, besides):
        self.done.append(f"choose besides {besides and besides.slug}")
        return self.following

    def say(self, text):
        if text != KEYS:
            self.done.append(text)


@pytest.fixture
def place(tmp_path, monkeypatch):
    fake_kit.use(tmp_path / "kit", monkeypatch)
    yield workspace.init(tmp_path / "ws").workspace
    catalog.exercises.cache_clear()


@pytest.fixture
def actions():
    return Actions()


def run(place, actions, events, slug=None):
    """What the loop did, with one batch of events after the other, then `q`."""
    loop = Watch(place, catalog.exercises(), actions, exercise=catalog.find(slug) if slug else None)
    for event in [*events, Key("q")]:
        loop.events.put(event)
    loop.loop()
    return actions.done


def saved(place, slug):
    return Saved(place.file(catalog.find(slug)))


def test_one_exercise_is_graded_at_once_and_on_save(place, actions):
    loop = Watch(place, catalog.exercises(), actions, exercise=catalog.find("adamw"))
    assert loop._handle([saved(place, "adamw")])
    loop.events.put(Key("q"))
    loop.loop()
    assert actions.done == ["grade adamw", "grade adamw"]


def test_saves_that_pile_up_count_once(place, actions):
    loop = Watch(place, catalog.exercises(), actions)
    loop._handle([saved(place, "rope"), saved(place, "adamw"), saved(place, "adamw")])
    assert actions.done == ["grade adamw"]


def test_without_a_name_whatever_is_saved_is_graded(place, actions):
    loop = Watch(place, catalog.exercises(), actions)
    loop._handle([saved(place, "rope")])
    loop._handle([Key("h")])
    loop._handle([saved(place, "two_sum")])
    loop._handle([Key("r")])
    assert actions.done == ["grade rope", "hint rope", "grade two_sum", "grade two_sum"]


def test_with_a_name_other_files_are_left_alone(place, actions):
    loop = Watch(place, catalog.exercises(), actions, exercise=catalog.find("adamw"))
    loop._handle([saved(place, "rope"), Saved(place.root / "exercises" / "notes.py")])
    assert actions.done == []


def test_a_backup_or_a_stray_file_is_not_graded(place, actions):
    loop = Watch(place, catalog.exercises(), actions)
    loop._handle([Saved(place.file(catalog.find("adamw")).with_name("adamw.py.bak")), Saved(place.root / "adamw.py")])
    assert actions.done == []


def test_a_path_with_its_links_resolved_is_the_same_file(place, actions, tmp_path):
    (tmp_path / "link").symlink_to(place.root)
    linked = workspace.Workspace(tmp_path / "link")
    Watch(linked, catalog.exercises(), actions)._handle([saved(place, "adamw")])
    assert actions.done == ["grade adamw"]


def test_keys_before_the_first_save(place, actions):
    assert run(place, actions, [Key("h"), Key("r"), Key("l"), Key("x")]) == [
        "waiting for you to save an exercise",
        "no exercise yet: save one, or press n for the next",
        "no exercise yet: save one, or press n for the next",
        "list",
    ]


def test_next_moves_on_and_follows(place, actions):
    actions.following = catalog.find("rope")
    loop = Watch(place, catalog.exercises(), actions, exercise=catalog.find("adamw"))
    loop._handle([Key("n")])
    loop._handle([saved(place, "adamw")])
    loop._handle([saved(place, "rope")])
    assert actions.done == ["choose besides adamw", "grade rope", "grade rope"]


def test_next_when_nothing_is_left(place, actions):
    assert run(place, actions, [Key("n")], "adamw")[1:] == ["choose besides adamw", "no other exercise is left"]


def test_quit_wins_over_a_save_in_the_same_batch(place, actions):
    assert not Watch(place, catalog.exercises(), actions)._handle([saved(place, "rope"), Key("q")])
    assert actions.done == []


def test_a_source_that_breaks_ends_the_loop(place, actions):
    with pytest.raises(OSError, match="too many watches"):
        run(place, actions, [Failed(OSError("too many watches"))])


# the sources


def test_keys_of_a_plain_stream():
    assert list(keys(io.StringIO("hQ\n1r"), threading.Event())) == ["h", "q", "r"]


def test_keys_of_a_pipe_until_its_end():
    read, write = os.pipe()
    os.write(write, b"h")
    os.write(write, b"\x1b[A")
    os.close(write)
    with os.fdopen(read) as stream:
        assert list(keys(stream, threading.Event()))[:1] == ["h"]


def test_an_arrow_key_is_no_letter():
    read, write = os.pipe()
    os.write(write, b"\x1b[H")
    os.close(write)
    with os.fdopen(read) as stream:
        assert list(keys(stream, threading.Event())) == []


def test_keys_stop_when_told():
    read, write = os.pipe()
    stop = threading.Event()
    stop.set()
    with os.fdopen(read) as stream:
        assert list(keys(stream, stop)) == []
    os.close(write)


def test_a_terminal_gives_single_keys_and_is_put_back():
    outer, inner = os.openpty()
    with os.fdopen(inner) as stream:
        before = termios.tcgetattr(inner)
        with unbuffered(stream) as readable:
            assert readable
            assert not termios.tcgetattr(inner)[3] & termios.ICANON
            assert termios.tcgetattr(inner)[3] & termios.ISIG  # Ctrl-C still interrupts
            os.write(outer, b"q")  # no newline
            assert next(keys(stream, threading.Event())) == "q"
        assert termios.tcgetattr(inner) == before
    os.close(outer)


def test_no_stdin_means_no_keys():
    with unbuffered(None) as readable:
        assert not readable


def test_saves_are_seen_however_an_editor_writes(place):
    stop, found = threading.Event(), []
    path = place.file(catalog.find("adamw"))

    def collect():
        for batch in saves([place.root / "exercises"], stop):
            found.extend(batch)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for write in (lambda: path.write_text("a\n"), lambda: replace(path, "b\n")):
            until(lambda w=write: (w(), found)[1])
            assert set(found) == {path}
            found.clear()
    finally:
        stop.set()
        thread.join()


def replace(path, text):
    """Save as vim and many others do: write next to it, then rename."""
    new = path.with_name("adamw.py.swp")
    new.write_text(text)
    new.replace(path)


def until(condition, patience=8.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)


def test_sources_feed_the_loop_and_end_with_it(place, actions):
    before = threading.active_count()
    loop = Watch(place, catalog.exercises(), actions)
    with sources(loop, io.StringIO("lq")):
        loop.loop()
    assert actions.done == ["waiting for you to save an exercise", "list"]
    assert threading.active_count() == before


def test_feeding_keys():
    loop_events = Watch(workspace.Workspace(Path()), (), Actions()).events
    feed_keys("hq", loop_events)
    assert [loop_events.get_nowait(), loop_events.get_nowait()] == [Key("h"), Key("q")]


# the command

SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a gate in the background inherits an ignored Ctrl-C
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
import fake_kit
from pytest import MonkeyPatch
patch = MonkeyPatch()
fake_kit.use(Path(sys.argv[1]), patch)
fake_kit.use_engine(patch)
from grader.cli import main
main(sys.argv[4:])
"""


def start(place, kit, *arguments):
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        SCRIPT,
        str(kit),
        str(ROOT),
        str(ROOT / "tests"),
        "watch",
        *arguments,
    ]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=place.root, **pipes)


def test_the_command_grades_on_save_and_quits(place, tmp_path):
    process = start(place, tmp_path / "kit", "adamw")
    try:
        lines = []
        assert process.stdout.readline().startswith("not started: optimizers/adamw")
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        path = place.file(catalog.find("adamw"))
        until(lambda: (path.write_text("# passed\n"), any(line.startswith("passed:") for line in lines))[1])
        process.stdin.write("hq")
        process.stdin.close()
        assert process.wait(timeout=5) == 0
        reader.join()
        assert any(line.startswith("hint 1 of 3: think") for line in lines)
        with process.stderr:
            assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_ctrl_c_ends_the_command_with_130(place, tmp_path):
    process = start(place, tmp_path / "kit", "adamw")
    try:
        assert process.stdout.readline().startswith("not started: optimizers/adamw")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read().rstrip().endswith("interrupted")
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
