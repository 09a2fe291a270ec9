"""What the learner did so far: attempts, hints taken and passes, in SQLite. Layer 3.

One file, `.grade/progress.db`. Each write is one transaction with a rollback journal, so a kill at any
moment loses at most the attempt in flight, and each opens and closes its own connection, so `watch` in one
terminal and `grade` in another do not hold each other up. What cannot be opened raises `StoreUnavailable`;
grading goes on without it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grader.errors import UsageError
from grader.source import MAX_BYTES
from grader.verdict import Status, Verdict, from_json

# What brings a database from each schema to the next; the first makes one.
MIGRATIONS = (
    """
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,               -- seconds since the epoch, UTC
        exercise TEXT NOT NULL,
        part TEXT,                      -- NULL when all parts were graded
        complete INTEGER NOT NULL,      -- nothing was left out: only then a pass counts
        status TEXT NOT NULL,
        points INTEGER NOT NULL,
        max_points INTEGER NOT NULL,
        seconds REAL NOT NULL,
        verdict TEXT NOT NULL           -- JSON, as `grade SLUG --json` prints it
    );
    CREATE INDEX attempts_of_exercise ON attempts (exercise, id);
    CREATE TABLE hints (
        exercise TEXT NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (exercise, number)
    );
    """,
    """
    CREATE TABLE texts (
        digest TEXT PRIMARY KEY,
        text TEXT NOT NULL              -- of a submission; one that is graded again is kept once
    );
    ALTER TABLE attempts ADD COLUMN file TEXT;
    ALTER TABLE attempts ADD COLUMN digest TEXT;
    ALTER TABLE attempts ADD COLUMN costs TEXT;
    """,
)
SCHEMA = len(MIGRATIONS)
PASSED = "(status = 'passed' AND complete)"
DAY = 86400.0
REVIEW_AFTER_DAYS = (3, 7, 16, 35, 80)  # after the first, second, ... day on which it was passed


class StoreUnavailable(UsageError):
    """The database cannot be used: the message says why and what to do."""


@dataclass(frozen=True)
class Attempt:
    id: int
    at: float
    exercise: str
    part: str | None
    complete: bool
    status: Status
    points: int
    max_points: int
    seconds: float
    json: str
    # what schema 1 did not keep
    file: str | None = None  # where it came from
    digest: str | None = None  # of the text that was graded: see `Store.text`
    costs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of each test, as in the verdict's JSON

    def verdict(self) -> Verdict:
        """Raises KeyError, TypeError or ValueError for the verdict of another version."""
        return from_json(json.loads(self.json))


@dataclass(frozen=True)
class Standing:
    """Where one exercise stands."""

    attempts: int
    best: int  # points
    max_points: int
    status: Status  # of the last attempt
    last_at: float
    passed_at: float | None  # the last pass
    days_passed: int  # on how many days it was passed

    @property
    def passed(self) -> bool:
        return self.passed_at is not None

    def due(self, now: float) -> bool:
        """Whether a passed exercise is to be done again: the gaps grow with each day it was passed."""
        if self.passed_at is None:
            return False
        days = REVIEW_AFTER_DAYS[min(self.days_passed, len(REVIEW_AFTER_DAYS)) - 1]
        return now >= self.passed_at + days * DAY


class Store:
    """The store of one workspace. A file that is not there reads as empty; writing creates it."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time, timeout: float = 1.0) -> None:
        self.path, self.clock, self.timeout = path, clock, timeout

    def record(
        self, verdict: Verdict, *, text: str | None = None, part: str | None = None, complete: bool = True
    ) -> None:
        """Keep an attempt, and the text that was graded unless it is larger than a submission may be."""
        data = verdict.to_json()
        costs = {test["name"]: test["costs"] for test in data["tests"] if test["costs"]}
        digest = verdict.digests.get("submission")
        row = {
            "at": self.clock(), "exercise": verdict.exercise, "part": part, "complete": complete and part is None,
            "status": str(verdict.status), "points": verdict.points, "max_points": verdict.max_points,
            "seconds": verdict.seconds, "verdict": json.dumps(data), "file": verdict.file, "digest": digest,
            "costs": json.dumps(costs) if costs else None,
        }  # fmt: skip
        with self._write() as db:
            db.execute(f"INSERT INTO attempts ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
            if text is not None and digest and _fits(text):
                db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, text))

    def attempts(self, exercise: str | None = None, *, limit: int | None = None) -> list[Attempt]:
        """The attempts, the latest first."""
        where, values = ("WHERE exercise = ?", [exercise]) if exercise else ("", [])
        rows = self._read(
            "SELECT id, at, exercise, part, complete, status, points, max_points, seconds, verdict AS json{since_2}"
            f" FROM attempts {where} ORDER BY id DESC LIMIT ?",
            [*values, -1 if limit is None else min(limit, LARGEST)],
            since_2=", file, digest, costs",
        )
        with self._translated():
            return [_attempt(_checked(row)) for row in rows]

    def text(self, digest: str) -> str | None:
        """The text of a submission that was graded; None where it was not kept."""
        rows = self._read("SELECT text FROM texts WHERE digest = ?", [digest])
        with self._translated():
            return _checked(rows[0])["text"] if rows else None

    def standings(self) -> dict[str, Standing]:
        """Where each exercise that was ever graded stands, by `track/slug`."""
        rows = self._read(
            f"""
            SELECT a.exercise, COUNT(*) AS attempts, MAX(points) AS best, MAX(max_points) AS max_points,
                   (SELECT status FROM attempts b WHERE b.exercise = a.exercise ORDER BY id DESC LIMIT 1) AS status,
                   MAX(at) AS last_at, MAX(CASE WHEN {PASSED} THEN at END) AS passed_at,
                   COUNT(DISTINCT CASE WHEN {PASSED} THEN CAST(at / {DAY} AS INTEGER) END) AS days_passed
            FROM attempts a GROUP BY a.exercise
            """
        )
        with self._translated():
            return {
                row.pop("exercise"): Standing(**{**row, "status": Status(row["status"])}) for row in map(_checked, rows)
            }

    def passed(self) -> set[str]:
        return {row["exercise"] for row in self._read(f"SELECT DISTINCT exercise FROM attempts WHERE {PASSED}")}

    def take_hint(self, exercise: str, number: int) -> None:
        """Keep that a hint was seen; seeing it again changes nothing."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO hints VALUES (?, ?, ?)", (exercise, number, self.clock()))

    def hints(self, exercise: str) -> list[int]:
        """The numbers of the hints that were seen, from 1."""
        rows = self._read("SELECT number FROM hints WHERE exercise = ? ORDER BY number", [exercise])
        with self._translated():
            return [_checked(row)["number"] for row in rows]

    def _read(self, query: str, values: Sequence[Any] = (), since_2: str = "") -> list[dict[str, Any]]:
        """The rows of a query, in which `{since_2}` stands for columns that schema 1 has not."""
        if not os.path.exists(self.path):
            return []
        # "rw" even to read: what a killed writer left must be rolled back. SQLite falls back to reading by itself.
        with self._translated(), _closing(self._connect("rw")) as db:
            if (version := self._version(db)) == 0:
                return []  # created, and killed before the tables were there
            db.row_factory = sqlite3.Row
            rows = db.execute(query.replace("{since_2}", since_2 if version > 1 else ""), values)
            # a column is named as the schema writes it, in whichever case
            return [{name.lower(): row[name] for name in row.keys()} for row in rows]  # noqa: SIM118

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _closing(self._connect("rwc")) as db:
                db.execute("BEGIN IMMEDIATE")  # the lock comes before the look at the version
                try:
                    self._migrate(db)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    db.rollback()
                    raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=self.timeout, isolation_level=None)

    def _version(self, db: sqlite3.Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version < 0:
            raise ValueError(f"its schema is {version}")
        if version > SCHEMA:
            raise StoreUnavailable(
                f"progress in `{self.path}` was written by a newer version of the kit (schema {version}, "
                f"this one knows {SCHEMA})\n\nhint: upgrade the kit"
            )
        return version

    def _migrate(self, db: sqlite3.Connection) -> None:
        """To the schema of this kit, from whichever it is; within the transaction of the write that asks for it."""
        if (version := self._version(db)) == SCHEMA:
            return
        for statement in "".join(MIGRATIONS[version:]).split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, ValueError, RecursionError) as error:
            raise StoreUnavailable(_reason(self.path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the primary code of an extended one
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"progress in `{path}` is locked by another process\n\nhint: try again when that one is done"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or isinstance(error, ValueError | RecursionError):
        return (
            f"progress in `{path}` is damaged: {error}\n\n"
            "hint: move that file away; the kit starts a new one, and your answers are not in it"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or isinstance(error, PermissionError):
        return f"progress in `{path}` is read-only\n\nhint: make the file and its folder writable"
    if code == sqlite3.SQLITE_FULL:
        return f"progress in `{path}` cannot grow: the disk is full"
    return f"progress in `{path}` cannot be used: {error}"


LARGEST = (1 << 63) - 1  # of SQLite's integers
LATEST = 253_402_214_400.0  # the end of the year 9999, past which there are no dates
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("exercise", "status", "json"), (str,)),
    **dict.fromkeys(("id", "complete", "points", "max_points", "attempts", "best", "days_passed", "number"), (int,)),
    **dict.fromkeys(("at", "last_at", "seconds"), (int, float)),
    **dict.fromkeys(("part", "file", "digest", "text", "costs"), (str, type(None))),
    "passed_at": (int, float, type(None)),
}


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """The row itself. Raises ValueError for a value that this kit did not write: a column of SQLite takes any type."""
    for name, value in row.items():
        most = LATEST if name in ("at", "last_at", "passed_at") else LARGEST
        within = not isinstance(value, int | float) or 0 <= value < most
        if not isinstance(value, TYPES[name]) or not within:
            raise ValueError(f"`{name}` is {value!r:.60}")
    return row


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:  # half a character, as a notebook may hold
        return False


def _attempt(row: dict[str, Any]) -> Attempt:
    """Raises ValueError for a status or JSON that is none."""
    json.loads(row["json"])
    costs = json.loads(row.get("costs") or "{}")
    if not isinstance(costs, dict):
        raise ValueError(f"`costs` is {costs!r:.60}")
    return Attempt(**{**row, "complete": bool(row["complete"]), "status": Status(row["status"]), "costs": costs})


@contextmanager
def _closing(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield db
    finally:
        db.close()
