"""The store: what it keeps, and that nothing short of losing the disk makes it lie or raise the wrong thing."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import fake_kit
import pytest

from grader import catalog
from grader.curriculum import due_exercises, next_exercise
from grader.source import MAX_BYTES
from grader.store import DAY, SCHEMA, Standing, Store, StoreUnavailable
from grader.verdict import Cause, Limit, Metered, Outcome, Status

ROOT = Path(__file__).resolve().parents[1]
OLD_VERDICT = (ROOT / "tests" / "data" / "verdict-0.1.0.json").read_text(encoding="utf-8")


class Clock:
    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    return Store(tmp_path / ".grade" / "progress.db", clock=clock, timeout=0.05)


@pytest.fixture
def exercises(tmp_path_factory, monkeypatch):
    fake_kit.use(tmp_path_factory.mktemp("kit"), monkeypatch)
    yield catalog.exercises()
    catalog.exercises.cache_clear()


def test_reading_creates_nothing(store):
    assert store.attempts() == []
    assert store.standings() == {}
    assert store.passed() == set()
    assert store.hints("optimizers/adamw") == []
    assert not store.path.parent.exists()


def test_attempts_come_back_whole_and_latest_first(store, clock):
    first, second = fake_kit.verdict(Status.FAILED), fake_kit.verdict(Status.PASSED)
    store.record(first)
    clock.now += 5
    store.record(second)
    attempts = store.attempts("optimizers/adamw")
    assert [attempt.verdict() for attempt in attempts] == [second, first]
    assert [attempt.at for attempt in attempts] == [1_000_005.0, 1_000_000.0]
    assert [attempt.status for attempt in store.attempts(limit=1)] == [Status.PASSED]
    assert store.attempts("attention/rope") == []


def test_standing(store, clock):
    store.record(fake_kit.verdict(Status.FAILED))
    assert store.standings()["optimizers/adamw"] == Standing(1, 4, 6, Status.FAILED, clock.now, None, 0)
    clock.now += DAY
    store.record(fake_kit.verdict(Status.PASSED))
    passed_at = clock.now
    clock.now += 60
    store.record(fake_kit.verdict(Status.ERROR))
    standing = store.standings()["optimizers/adamw"]
    assert standing == Standing(3, 4, 6, Status.ERROR, clock.now, passed_at, 1)
    assert standing.passed
    assert store.passed() == {"optimizers/adamw"}


@pytest.mark.parametrize("left_out", [{"part": "double"}, {"complete": False}])
def test_a_pass_of_less_than_everything_does_not_count(store, left_out):
    store.record(fake_kit.verdict(Status.PASSED), **left_out)
    assert store.passed() == set()
    assert not store.standings()["optimizers/adamw"].passed


def test_hints_are_kept_once(store):
    for number in (1, 2, 1):
        store.take_hint("optimizers/adamw", number)
    assert store.hints("optimizers/adamw") == [1, 2]
    assert store.hints("attention/rope") == []


def test_the_schema_has_a_version(store):
    store.take_hint("a/b", 1)
    db = sqlite3.connect(store.path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    db.close()


FIRST = """
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, exercise TEXT NOT NULL, part TEXT, complete INTEGER NOT NULL,
    status TEXT NOT NULL, points INTEGER NOT NULL, max_points INTEGER NOT NULL, seconds REAL NOT NULL, verdict TEXT NOT NULL
);
CREATE INDEX attempts_of_exercise ON attempts (exercise, id);
CREATE TABLE hints (exercise TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (exercise, number));
INSERT INTO hints VALUES ('optimizers/adamw', 1, 999.0);
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(store):
    """A store as schema 1 wrote it: one pass, with some verdict of an older kit."""
    store.path.parent.mkdir()
    db = sqlite3.connect(store.path)
    db.executescript(FIRST)
    db.execute(
        "INSERT INTO attempts (at, exercise, part, complete, status, points, max_points, seconds, verdict)"
        " VALUES (1000.0, 'optimizers/adamw', NULL, 1, 'passed', 6, 6, 0.5, ?)",
        [OLD_VERDICT],
    )
    db.commit()
    db.close()
    return store


def columns(path):
    db = sqlite3.connect(path)
    found = {row[1] for row in db.execute("PRAGMA table_info(attempts)")}, *db.execute("PRAGMA user_version").fetchone()
    db.close()
    return found


def test_an_older_store_is_read_as_it_is(old):
    before = old.path.read_bytes()
    (attempt,) = old.attempts()
    assert (attempt.at, attempt.file, attempt.digest, attempt.costs) == (1000.0, None, None, {})
    assert attempt.verdict().max_points == 24
    assert old.passed() == {"optimizers/adamw"}
    assert old.hints("optimizers/adamw") == [1]
    assert old.path.read_bytes() == before


def test_an_older_store_is_brought_up_to_date_by_the_first_write(old):
    old.record(fake_kit.verdict(Status.FAILED, digests={"submission": "d"}), text="x = 1\n")
    latest, first = old.attempts()
    assert (first.at, first.file, first.digest) == (1000.0, None, None)
    assert (latest.file, latest.digest, old.text("d")) == ("adamw.py", "d", "x = 1\n")
    assert old.standings()["optimizers/adamw"].attempts == 2
    assert old.hints("optimizers/adamw") == [1]
    added = {"file", "digest", "costs"}
    assert added <= columns(old.path)[0]
    assert columns(old.path)[1] == SCHEMA


def test_a_write_that_fails_leaves_an_older_store_as_it_was(old, monkeypatch):
    before = columns(old.path)
    assert before[1] == 1
    with pytest.raises(StoreUnavailable), old._write() as db:
        assert db.execute("SELECT costs FROM attempts").fetchall() == [(None,)]  # it was under way
        db.execute("INSERT INTO nothing VALUES (1)")
    assert columns(old.path) == before
    assert len(old.attempts()) == 1


def test_what_was_graded_is_kept(store):
    costs = [Metered({"flops": 230}, [Limit("flops", 200, 230, why="the product")], {"flops": 190})]
    cost = fake_kit.result("TestPerformance::test_flops", Outcome.FAILED, cause=Cause.COST, costs=costs)
    made = fake_kit.verdict(
        Status.FAILED, file="ws/adamw.py", tests=[fake_kit.result(), cost], digests={"submission": "d"}
    )
    store.record(made, text="x = 1\n")
    (attempt,) = store.attempts()
    assert (attempt.file, attempt.digest, store.text("d")) == ("ws/adamw.py", "d", "x = 1\n")
    assert attempt.costs == {
        "TestPerformance::test_flops": [
            {
                "counted": {"flops": 230},
                "allowed": [{"metric": "flops", "at_most": 200, "got": 230, "why": "the product"}],
                "solution": {"flops": 190},
            }
        ]
    }
    assert attempt.verdict() == made


def test_a_text_that_is_graded_again_is_kept_once(store):
    for _ in range(3):
        store.record(fake_kit.verdict(digests={"submission": "d"}), text="x = 1\n")
    store.record(fake_kit.verdict(digests={"submission": "e"}), text="x = 2\n")
    db = sqlite3.connect(store.path)
    assert db.execute("SELECT digest, text FROM texts ORDER BY digest").fetchall() == [
        ("d", "x = 1\n"),
        ("e", "x = 2\n"),
    ]
    db.close()


def test_a_text_that_is_no_submission_is_not_kept(store):
    store.record(fake_kit.verdict(digests={"submission": "d"}), text="é" * (MAX_BYTES // 2 + 1))
    store.record(fake_kit.verdict(digests={"submission": "d"}), text="'\ud800'")
    store.record(fake_kit.verdict(Status.ERROR))
    assert [attempt.digest for attempt in store.attempts()] == [None, "d", "d"]
    assert store.text("d") is None
    store.record(fake_kit.verdict(digests={"submission": "d"}), text="é" * (MAX_BYTES // 2))
    assert len(store.text("d")) == MAX_BYTES // 2


def refusal(call, *arguments):
    with pytest.raises(StoreUnavailable) as error:
        call(*arguments)
    return str(error.value)


def test_an_empty_file_is_an_empty_store(store):
    """What a kill between creating the file and the first transaction leaves."""
    store.path.parent.mkdir()
    store.path.touch()
    assert store.standings() == {}
    store.record(fake_kit.verdict())
    assert store.passed() == {"optimizers/adamw"}


def test_a_file_that_is_no_database(store):
    content = b"not a database at all, but long enough to have a header" * 40
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    for message in (refusal(store.standings), refusal(store.record, fake_kit.verdict())):
        assert f"progress in `{store.path}` is damaged" in message
        assert "hint: move that file away; the kit starts a new one" in message
    assert store.path.read_bytes() == content


def test_a_database_damaged_in_the_middle(store):
    for _ in range(30):
        store.record(fake_kit.verdict(Status.FAILED))
    data = bytearray(store.path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    store.path.write_bytes(data)
    assert "is damaged" in refusal(store.attempts)


def test_values_that_make_no_sense_are_damage_too(store):
    store.record(fake_kit.verdict())
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE attempts SET status = 'glorious'")
    db.close()
    assert "is damaged" in refusal(store.standings)
    assert "is damaged" in refusal(store.attempts)


def test_a_schema_that_never_was_is_damage(store):
    store.path.parent.mkdir()
    db = sqlite3.connect(store.path)
    db.execute("PRAGMA user_version = -1")
    db.close()
    for message in (refusal(store.passed), refusal(store.record, fake_kit.verdict())):
        assert "is damaged: its schema is -1" in message


def test_a_newer_schema_is_left_alone(store):
    store.path.parent.mkdir()
    db = sqlite3.connect(store.path)
    db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    for message in (refusal(store.passed), refusal(store.record, fake_kit.verdict())):
        assert f"written by a newer version of the kit (schema {SCHEMA + 1}, this one knows {SCHEMA})" in message
        assert message.endswith("hint: upgrade the kit")


def test_a_locked_database(store):
    store.record(fake_kit.verdict())
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "is locked by another process" in refusal(store.record, fake_kit.verdict())
        assert "is locked by another process" in refusal(store.standings)
    finally:
        other.rollback()
        other.close()
    store.record(fake_kit.verdict())
    assert len(store.attempts()) == 2


def test_a_folder_in_its_place(store):
    store.path.mkdir(parents=True)
    assert "cannot be used" in refusal(store.standings)


def test_a_file_where_its_folder_should_be(store):
    store.path.parent.write_text("")
    assert "cannot be used" in refusal(store.record, fake_kit.verdict())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_database_can_be_read(store):
    store.record(fake_kit.verdict())
    store.path.chmod(0o400)
    store.path.parent.chmod(0o500)
    assert store.passed() == {"optimizers/adamw"}
    assert "is read-only" in refusal(store.record, fake_kit.verdict())
    store.path.parent.chmod(0o700)


def test_read_only_is_told_from_damage(store, monkeypatch):
    """As root nothing is read-only, so the mode is set by hand."""
    store.record(fake_kit.verdict())
    real = store._connect
    monkeypatch.setattr(store, "_connect", lambda _: real("ro"))
    assert refusal(store.record, fake_kit.verdict()).startswith(f"progress in `{store.path}` is read-only")


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
import fake_kit
from grader.store import Store
from grader.verdict import Status
store = Store(Path(sys.argv[1]), timeout=10.0)
verdict = fake_kit.verdict(Status.FAILED, output="x" * 20000)
print("ready", flush=True)
for _ in range(int(sys.argv.pop())):
    store.record(verdict)
    print("kept", flush=True)
"""


def writer(path, attempts):
    command = [sys.executable, "-c", WRITER, str(path), str(ROOT), str(ROOT / "tests"), str(attempts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_at_most_the_attempt_in_flight(tmp_path):
    """What the writer said it kept is there after kill -9, the rest reads well, and writing goes on."""
    path, generator, kept = tmp_path / ".grade" / "progress.db", random.Random(3), 0
    store = Store(path)
    for _ in range(8):
        process = writer(path, 1_000_000)
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.0, 0.12))
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        kept += said.count("kept\n")
        attempts = store.attempts()
        assert kept <= len(attempts) <= kept + 1
        kept = len(attempts)
        for attempt in attempts:
            assert attempt.verdict().status is Status.FAILED
    assert kept > 0
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    store.record(fake_kit.verdict())
    assert len(store.attempts()) == kept + 1


@pytest.mark.slow
def test_two_writers_that_create_it_at_once(tmp_path):
    path = tmp_path / ".grade" / "progress.db"
    processes = [writer(path, 3) for _ in range(3)]
    assert [process.communicate()[0].count("kept") for process in processes] == [3, 3, 3]
    assert len(Store(path).attempts()) == 9


def test_kept_verdicts_are_what_json_prints(store):
    made = fake_kit.verdict(Status.FAILED)
    store.record(made)
    assert json.loads(store.attempts()[0].json) == json.loads(json.dumps(made.to_json()))


def test_next_goes_by_prerequisites_level_and_minutes(exercises):
    def following(*passed, **rest):
        found = next_exercise(exercises, set(passed), **rest)
        return found and found.slug

    assert following() == "adamw"  # the only warm-up, though the longest
    assert following(besides=catalog.find("adamw")) == "two_sum"  # rope is shorter, and waits for adamw
    assert following("optimizers/adamw") == "rope"
    assert following("optimizers/adamw", "attention/rope") == "two_sum"
    assert following("optimizers/adamw", "attention/rope", "leetcode/two_sum") == "schedules"
    assert following(*(exercise.path for exercise in exercises)) is None


def test_next_when_everything_left_waits(exercises):
    assert next_exercise(exercises, set(), among=catalog.select("attention")).slug == "rope"


def test_next_in_some_tracks_minds_prerequisites_in_others(exercises):
    among = [catalog.find("schedules"), catalog.find("rope")]  # rope is easier, and waits for adamw
    assert next_exercise(exercises, set(), among=among).slug == "schedules"
    assert next_exercise(exercises, {"optimizers/adamw"}, among=among).slug == "rope"


def test_due_again_after_growing_gaps(exercises):
    def standing(days_passed):
        return Standing(1, 6, 6, Status.PASSED, 0.0, 0.0, days_passed)

    assert not standing(1).due(3 * DAY - 1)
    assert standing(1).due(3 * DAY)
    assert not standing(2).due(7 * DAY - 1)
    assert standing(2).due(7 * DAY)
    assert standing(99).due(80 * DAY)
    assert not Standing(1, 4, 6, Status.FAILED, 0.0, None, 0).due(1e12)
    standings = {"optimizers/adamw": Standing(1, 6, 6, Status.PASSED, 0.0, DAY, 1), "attention/rope": standing(1)}
    assert [exercise.slug for exercise in due_exercises(exercises, standings, 10 * DAY)] == ["rope", "adamw"]
    assert [exercise.slug for exercise in due_exercises(exercises, standings, 3 * DAY)] == ["rope"]
