"""`grade dev`: commands for authors."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grader import catalog
from grader.cli.exit_code import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress

    from grader.authoring.mutate import Score
    from grader.exercise import Exercise


@click.group("dev", context_settings={"help_option_names": ["-h", "--help"]})
def dev() -> None:
    """For authors: scaffold, derive, and the gate."""


@dev.command("new")
@click.argument("path", metavar="TRACK/SLUG")
def new_command(path: str) -> None:
    """Write a solution and a suite to fill in."""
    from grader.authoring import new

    for file in new.write(path):
        click.echo(f"wrote {_relative(file)}")
    click.echo("\nhint: fill in both, then `grade dev sync` and `grade dev check`")


@dev.command("sync")
def sync_command() -> None:
    """Derive the stubs and the README's tables."""
    from grader.authoring import sync

    written, answers = sync.write()
    for file in written:
        click.echo(f"wrote {_relative(file)}")
    for file in answers:
        click.echo(
            f"{_relative(file)} holds an answer, left alone: `grade reset {file.stem}` keeps it and brings the stub"
        )
    for file in sync.orphans():
        click.echo(f"{_relative(file)} has no solution: delete it")
    if not written and not answers:
        click.echo("everything derived is up to date")


@dev.command("check")
@click.argument("names", nargs=-1, metavar="[SLUG | TRACK]...")
@click.option("--no-cache", is_flag=True, help="Measure everything anew.")
@click.option("--again", type=click.IntRange(0), default=0, help="Measure so many known ones anew, others every day.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Exercises at once (default: one a core).")
@click.option("--table", is_flag=True, help="Print which part holds which property, and check nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_command(
    names: tuple[str, ...], no_cache: bool, again: int, jobs: int | None, table: bool, as_json: bool
) -> None:
    """The gate: everything an exercise must be, checked."""
    from grader.authoring import check, coverage, findings

    chosen = list(dict.fromkeys(exercise for name in names or ("all",) for exercise in catalog.select(name)))
    if table:
        click.echo("\n".join(line for exercise in chosen for line in (exercise.path, *coverage.lines(exercise))))
        return
    problems = check.structure()
    broken = {problem.exercise for problem in problems if "no solution" in problem.what}

    def notify(finding: check.Finding, known: bool) -> None:
        state = "ok" if not finding.problems else f"{len(finding.problems)} problems"
        figures = (
            f"{finding.tests} tests, {finding.named} of {finding.mistakes} mistakes named, {finding.variants} variants"
        )
        click.echo(f"{finding.exercise:<34}{state:<14}{figures}{' (known)' if known else ''}", err=True)

    ready = [exercise for exercise in chosen if exercise.path not in broken]
    found = list(findings.findings(ready, None if no_cache else again, jobs or findings.jobs_here(), notify))
    problems += [problem for finding in found for problem in finding.problems]
    if as_json:
        data = {"version": 1, "findings": [asdict(f) for f in found], "problems": [asdict(p) for p in problems]}
        click.echo(json.dumps(data, indent=2))
    else:
        for problem in problems:
            click.echo(f"\n{problem.exercise}: {problem.what}\n  mend: {problem.mend}")
        click.echo(f"\n{len(found)} exercises checked, {len(problems)} problems")
    if problems:
        raise SystemExit(ExitCode.NOT_PASSED)


@dev.command("mutate")
@click.argument("names", nargs=-1, metavar="[SLUG | TRACK]...")
@click.option("--no-cache", is_flag=True, help="Measure everything anew.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Mutants at once (default: one a core).")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def mutate_command(names: tuple[str, ...], no_cache: bool, jobs: int | None, as_json: bool) -> None:
    """The mutation score: mechanical edits of the solution, and which of them the suite lets pass."""
    from grader.authoring import findings, mutate, sync

    chosen = list(dict.fromkeys(exercise for name in names or ("all",) for exercise in catalog.select(name)))
    cache = None if no_cache else catalog.content() / ".grade" / "mutants.json"
    scores = []
    with _progress() as progress:
        rows = {exercise: progress.add_task(exercise.path, total=None) for exercise in chosen}

        def notify(exercise: Exercise, done: int, total: int) -> None:
            progress.update(rows[exercise], completed=done, total=total)

        for exercise, killers in mutate.measure(chosen, jobs or findings.jobs_here(), notify, cache):
            scores.append((exercise, mutate.judge(exercise, killers)))
            mutate.commit(exercise, scores[-1][1])
    scores.sort(key=lambda pair: pair[0].path)
    plain = [score.plain(exercise.text) for exercise, score in scores]
    if as_json:
        click.echo(json.dumps({"version": 1, "exercises": plain}, indent=2))
    for exercise, score in scores if not as_json else []:
        _show_score(exercise, score)
    if sync.stale():
        click.echo("\nhint: `grade dev sync` brings the figures into the README", err=True)
    if any(score.stale or score.score < mutate.AIM for _, score in scores):
        raise SystemExit(ExitCode.NOT_PASSED)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show_score(exercise: Exercise, score: Score) -> None:
    solution = exercise.text
    for mutant in score.survivors:
        click.echo(f"\n{exercise.path}: {mutant.key} survives, {mutant.kind}, line {mutant.line(solution)}")
        click.echo(mutant.diff(solution))
    for problem in score.stale:
        click.echo(f"\n{exercise.path}: {problem}\n  mend: mend `equivalent.diff`")
    figures = f"{score.killed} of {score.mutants} mutants killed, {len(score.equivalent)} equivalent"
    click.echo(f"{exercise.path:<34}{score.score:>7.1%}  {figures}, {len(score.survivors)} survive")


def _relative(path: Path) -> str:
    return str(path.relative_to(catalog.content())) if path.is_relative_to(catalog.content()) else str(path)
