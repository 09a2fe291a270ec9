"""What the gate reads without running anything, and so every time: the files, the cards, the edits, the scores."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator

from grader import catalog
from grader.authoring import coverage, mutate, record, sync
from grader.authoring.check import misfit
from grader.authoring.problem import Problem, shown
from grader.card import Level
from grader.curriculum import builds_on
from grader.errors import Fault
from grader.exercise import Exercise

STYLES = 4  # different correct solutions, at least
CITED = re.compile(r"arXiv:\s*\d{4}\.\d{4,5}|\b(19|20)\d\d\b|LeetCode\s+\d+", re.IGNORECASE)
Complaints = Iterator[tuple[str, str]]  # what is wrong, and what mends it


def structure() -> list[Problem]:
    """Suites and solutions come in pairs, slugs are unique, and stubs are as derived."""
    return [*_pairs(), *_derived(), *_slugs()]


def check(exercise: Exercise) -> list[Problem]:
    """What is wrong with the files of one exercise that has a solution."""
    found = []
    for complaints in (_card, _order, _statement, _probes, coverage.holes, _mistakes, _styles, _score):
        try:
            found += [Problem(exercise.path, what, mend) for what, mend in complaints(exercise)]
        except Fault as error:
            found.append(Problem(exercise.path, str(error), f"mend what is in {shown(exercise.folder)}"))
    return list(dict.fromkeys(found))


def _pairs() -> Iterator[Problem]:
    for exercise in catalog.exercises():
        if not exercise.solution.is_file():
            yield Problem(exercise.path, "the suite has no solution", f"write {shown(exercise.solution)}")
    suites = {exercise.solution for exercise in catalog.exercises()}
    for path in sorted((catalog.content() / "solutions").glob("*/*.py")):
        if path not in suites:
            name = f"{path.parent.name}/{path.stem}"
            yield Problem(name, "the solution has no suite", f"write grader/suites/{name}/")


def _derived() -> Iterator[Problem]:
    for path in sync.stale():
        yield Problem("derived", f"{shown(path)} is not what is derived", "grade dev sync")
    for path in sync.orphans():
        yield Problem("derived", f"{shown(path)} has no solution", f"delete {shown(path)}")


def _slugs() -> Iterator[Problem]:
    slugs = [exercise.slug for exercise in catalog.exercises()]
    for slug in sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        yield Problem(slug, "two exercises have this slug", "rename one")


def _card(exercise: Exercise) -> Complaints:
    card = exercise.card
    mend = f"mend {shown(exercise.folder / 'card.toml')}"
    if card.level not in set(Level):
        yield f"no level {card.level!r}", mend
    if len(card.hints) < 3:
        yield f"{len(card.hints)} hints; three at least", mend
    lines = {line.strip() for line in exercise.text.splitlines() if len(line.strip()) > 20}
    for number, hint in enumerate(card.hints, 1):
        if any(line in hint for line in lines):
            yield f"hint {number} holds a line of the solution", mend
    if len(card.follow_ups) < 2 or not all(q.strip() and a.strip() for q, a in card.follow_ups):
        yield "two follow-ups with answers at least", mend


def _order(exercise: Exercise) -> Complaints:
    mend = f"mend {shown(exercise.folder / 'card.toml')}"
    for slug in exercise.card.after:
        if slug not in {exercise.slug for exercise in catalog.exercises()}:
            yield f"`after` names `{slug}`, which is no exercise", mend
    try:
        graphlib.TopologicalSorter(builds_on([exercise], catalog.exercises())).prepare()
    except graphlib.CycleError as error:
        yield f"`after` leads around in a circle: {', '.join(exercise.slug for exercise in error.args[1])}", mend


def _statement(exercise: Exercise) -> Complaints:
    if not exercise.parts:
        yield "the solution has no part", "put code between ### BEGIN SOLUTION and ### END SOLUTION"
    if not CITED.search(exercise.statement):
        yield "the statement cites no source", f"name authors and year in {shown(exercise.solution)}"


def _probes(exercise: Exercise) -> Complaints:
    try:
        body = ast.parse(exercise.suite.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError) as error:
        yield f"the suite cannot be read: {error}", f"mend {shown(exercise.suite)}"
        return
    for node in body:
        marks = [ast.unparse(mark) for mark in node.decorator_list] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.FunctionDef) and "probe" in marks and not ast.get_docstring(node):
            yield f"probe `{node.name}` has no docstring", "say what it gives: it is shown under a failing call"


def _mistakes(exercise: Exercise) -> Complaints:
    names = [mistake.name for mistake in exercise.mistakes]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two mistakes are called `{name}`", "rename one"
    yield from filter(None, (misfit(exercise, mistake) for mistake in exercise.mistakes))


def _styles(exercise: Exercise) -> Complaints:
    if (count := len(exercise.styles)) < STYLES:
        yield f"{count} other correct solutions; {STYLES} at least", f"write {shown(exercise.folder)}/accepted/*.py"


def _score(exercise: Exercise) -> Complaints:
    """The committed mutation score is of this suite, and high enough; whether it is true is measured."""
    again = f"run `grade dev mutate {exercise.slug}`"
    known = record.current_score(exercise)
    if known is None:
        yield "the mutation score is of another suite or solution", again
        return
    killed, survive = known["killed"], len(known["survivors"])
    if killed < mutate.AIM * (killed + survive):
        yield f"{survive} mutants survive, {killed} are killed", f"{again}; kill them or list them as equivalent"
