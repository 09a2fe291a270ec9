"""What the kit keeps on disk, damaged in any way: a plain message, never a traceback, and exit codes 0 to 2."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3

import fake_kit
import pytest
from click.testing import CliRunner
from effort import damaged, effort, mutated_bytes
from hypothesis import example, given
from hypothesis import strategies as st

from grader import catalog, workspace
from grader.authoring import findings
from grader.authoring.check import Finding
from grader.cli import cli
from grader.curriculum import due_exercises
from grader.store import MIGRATIONS, SCHEMA, Store, StoreUnavailable
from grader.verdict import Status

COMMANDS = [[], ["--json"], ["list"], ["list", "--json"], ["next"], ["show", "adamw"], ["hint", "adamw"], ["hint", "adamw", "--all"],
            ["history"], ["history", "--json"], ["history", "adamw", "-n", "3"], ["solution", "adamw"]]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    fake_kit.use(tmp_path / "kit", monkeypatch)
    made = workspace.init(tmp_path / "ws").workspace
    monkeypatch.chdir(made.root)
    yield made
    catalog.exercises.cache_clear()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A sound store of three attempts and a hint."""
    path = tmp_path_factory.mktemp("store") / "progress.db"
    store = Store(path)
    for status in (Status.FAILED, Status.PASSED, Status.ERROR):
        store.record(fake_kit.verdict(status, digests={"submission": "0" * 32}), text="x = 1\n")
    store.take_hint("optimizers/adamw", 1)
    return path


def clear(path) -> None:
    for old in path.parent.glob(path.name + "*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def verdict_of(attempt) -> None:
    with contextlib.suppress(KeyError, TypeError, ValueError):  # as `Attempt.verdict` says
        attempt.verdict()


def use(path) -> None:
    """Everything that a store does, each giving what it should or StoreUnavailable."""
    store = Store(path, timeout=0.05)
    for action in (
        lambda: [verdict_of(attempt) for attempt in store.attempts()],
        lambda: due_exercises(catalog.exercises(), store.standings(), 1e10),
        lambda: store.passed() <= {"optimizers/adamw"},
        lambda: max(store.hints("optimizers/adamw"), default=0) + 1,
        lambda: [store.text(attempt.digest) for attempt in store.attempts() if attempt.digest],
        lambda: store.take_hint("optimizers/adamw", 2),
        lambda: store.record(fake_kit.verdict(Status.FAILED, digests={"submission": "0" * 32}), text="x = 1\n"),
    ):
        with contextlib.suppress(StoreUnavailable):
            action()


def run_commands() -> None:
    for arguments in COMMANDS:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code in (0, 1, 2), (arguments, done.stderr)
        assert "Traceback" not in done.output


@effort(100)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda rest: b"SQLite format 3\0" + rest)))
def test_any_bytes_in_place_of_the_store(place, data):
    clear(place.database)
    place.database.write_bytes(data)
    use(place.database)


@effort(100)
@given(st.integers(0, 1 << 40))
@example(3126)  # one bit of the schema: `max_poInts`, which SQL takes for the same column
def test_a_damaged_store(place, database, seed):
    clear(place.database)
    place.database.write_bytes(damaged(database.read_bytes(), seed))
    use(place.database)


VERDICT = json.dumps(fake_kit.verdict(Status.PASSED).to_json())
CELLS = st.one_of(
    st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(max_size=6), st.binary(max_size=6),
    st.sampled_from(["optimizers/adamw", "passed", "failed", VERDICT, "[" * 5000, 0, 1, 1e300, float("inf"), "{}"]),
)  # fmt: skip
ROW = {
    "at": 1e6, "exercise": "optimizers/adamw", "part": None, "complete": 1, "status": "passed", "points": 1, "max_points": 2,
    "seconds": 0.1, "verdict": VERDICT, "file": "adamw.py", "digest": "0" * 32, "costs": None,
}  # fmt: skip
ROWS = st.fixed_dictionaries({key: st.one_of(st.just(value), st.just(value), CELLS) for key, value in ROW.items()})
LOOSE = (
    f"CREATE TABLE attempts (id INTEGER PRIMARY KEY, {', '.join(ROW)}); CREATE TABLE hints (exercise, number, at);"
    "CREATE TABLE texts (digest, text)"
)


def fill(path, schema: str, rows, hints, version: int) -> None:
    clear(path)
    db = sqlite3.connect(path)
    try:
        db.executescript(f"{schema}; PRAGMA user_version = {version}")
        for row in rows:
            marks = ", ".join("?" * len(row))
            db.execute(f"INSERT INTO attempts ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        for hint in hints:
            db.execute("INSERT INTO hints VALUES (?, ?, ?)", hint)
        db.commit()
    finally:
        db.close()


@effort(40)
@given(
    st.lists(ROWS, min_size=1, max_size=3),
    st.lists(st.tuples(st.just("optimizers/adamw"), CELLS, CELLS), max_size=2),
    st.sampled_from([SCHEMA, SCHEMA, 0, -1, 99]),
)
@example([{**ROW, "at": "yesterday"}], [], SCHEMA)
@example([{**ROW, "at": 1e300}], [], SCHEMA)
@example([{**ROW, "at": None}], [], SCHEMA)
@example([{**ROW, "verdict": "{"}], [], SCHEMA)
@example([{**ROW, "verdict": "[" * 5000}], [], SCHEMA)
@example([{**ROW, "verdict": "[]"}], [], SCHEMA)
@example([{**ROW, "exercise": b"blob"}], [], SCHEMA)
@example([{**ROW, "costs": "[" * 5000}], [], SCHEMA)
@example([{**ROW, "costs": "[]"}], [], SCHEMA)
@example([{**ROW, "digest": 7}], [], SCHEMA)
@example([ROW], [("optimizers/adamw", "three", None)], SCHEMA)
@example([ROW], [("optimizers/adamw", 99, 0.0)], SCHEMA)
@example([ROW], [("optimizers/adamw", -13501, 0.0)], SCHEMA)
def test_a_store_of_other_types(place, rows, hints, version):
    fill(place.database, LOOSE, rows, hints, version)
    use(place.database)
    fill(place.database, LOOSE, rows, hints, version)
    run_commands()


SCHEMAS = {
    "no tables": "CREATE TABLE other (a)",
    "a column less": "CREATE TABLE attempts (id, at, exercise); CREATE TABLE hints (exercise)",
    "a view": "CREATE VIEW attempts AS SELECT 1 AS id; CREATE VIEW hints AS SELECT 1 AS exercise, 2 AS number",
    "as it is": "".join(MIGRATIONS),
    "as it was": MIGRATIONS[0],
    "in other letters": "".join(MIGRATIONS).upper(),
}


@pytest.mark.parametrize("version", [SCHEMA, 1, 0, -1, 99])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_store_of_another_schema(place, schema, version):
    fill(place.database, SCHEMAS[schema], [], [], version)
    use(place.database)
    run_commands()


def test_a_folder_in_place_of_the_store(place):
    place.database.mkdir()
    use(place.database)
    run_commands()


def test_a_file_in_place_of_its_folder(place):
    shutil.rmtree(place.state)
    place.state.write_text("")
    use(place.database)
    run_commands()


def test_a_damaged_store_and_every_command(place, database):
    data = database.read_bytes()
    for length in (0, 1, 50, 100, 4096, len(data) // 2, len(data) - 1):
        clear(place.database)
        place.database.write_bytes(data[:length])
        run_commands()


def test_more_attempts_than_a_database_can_count(place, database):
    shutil.copyfile(database, place.database)
    done = CliRunner().invoke(cli, ["history", "-n", "9" * 25])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 3)


FIGURES = {"tests": 1, "mistakes": 2, "named": 2, "variants": 3}
MEASURED = json.dumps({"finding": {"key": "0" * 32, **FIGURES}, "mutation": {"killed": 1}})


@effort(150)
@example(MEASURED.encode())
@given(
    st.one_of(
        st.binary(max_size=60), mutated_bytes(MEASURED.encode()), st.sampled_from([b"[]", b"3", b"null", b"[" * 5000])
    )
)
def test_damaged_findings_of_the_gate(tmp_path, monkeypatch, data):
    file = tmp_path / "measured.json"
    file.write_bytes(data)
    monkeypatch.setattr(findings.record, "file", lambda exercise: file)
    known = findings._known(catalog.find("adamw"))
    if data == MEASURED.encode():
        assert known == ("0" * 32, Finding("optimizers/adamw", **FIGURES, problems=()))
    assert known is None or isinstance(known[1], Finding)
