"""`grade dev`: commands for authors."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from grader import catalog
from grader.authoring.mutation import mutate_command
from grader.authoring.problem import shown
from grader.cli.exit_code import ExitCode

if TYPE_CHECKING:
    from grader.authoring.check import Finding


@click.group("dev", context_settings={"help_option_names": ["-h", "--help"]})
def dev() -> None:
    """For authors: scaffold, derive, and the gate."""


dev.add_command(mutate_command)


@dev.command("new")
@click.argument("path", metavar="TRACK/SLUG")
def new_command(path: str) -> None:
    """Write a solution and a suite to fill in."""
    from grader.authoring import new

    for file in new.write(path):
        click.echo(f"wrote {shown(file)}")
    click.echo("\nhint: fill in both, then `grade dev sync` and `grade dev check`")


@dev.command("sync")
def sync_command() -> None:
    """Derive the stubs."""
    from grader.authoring import sync

    written, answers = sync.write()
    for file in written:
        click.echo(f"wrote {shown(file)}")
    for file in answers:
        click.echo(f"{shown(file)} holds an answer, left alone: `grade reset {file.stem}` keeps it and brings the stub")
    for file in sync.orphans():
        click.echo(f"{shown(file)} has no solution: delete it")
    if not written and not answers:
        click.echo("everything derived is up to date")


@dev.command("readme")
def readme_command() -> None:
    """Write the README's tables, before a release."""
    from grader.authoring import readme

    click.echo("wrote README.md" if readme.write() else "the tables of the README are up to date")


@dev.command("mistake")
@click.argument("slug")
@click.argument("name")
@click.argument("says")
def mistake_command(slug: str, name: str, says: str) -> None:
    """Catalogue the edit that stands in a solution as a mistake called NAME, and take it out again.

    SAYS is what the learner is told, in one sentence: what was done, and what is right.
    """
    from grader.authoring import catalogue

    exercise = catalog.find(slug)
    click.echo(f"wrote `{name}` into {shown(catalogue.mistake(exercise, name, says))}")
    click.echo(f"the solution is as git has it\n\nhint: `grade dev check {exercise.slug}` says whether a test fails it")


@dev.command("check")
@click.argument("names", nargs=-1, metavar="[SLUG | TRACK]...")
@click.option("--no-cache", is_flag=True, help="Measure everything anew.")
@click.option("--again", type=click.IntRange(0), default=0, help="Measure so many known ones too, others each commit.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Exercises at once (default: one a core).")
@click.option("--table", is_flag=True, help="Print which part holds which property, and check nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_command(
    names: tuple[str, ...], no_cache: bool, again: int, jobs: int | None, table: bool, as_json: bool
) -> None:
    """The gate: everything an exercise must be, checked."""
    from grader import batch
    from grader.authoring import coverage, findings, form, readme

    chosen = list(dict.fromkeys(exercise for name in names or ("all",) for exercise in catalog.select(name)))
    if table:
        click.echo("\n".join(line for exercise in chosen for line in (exercise.path, *coverage.lines(exercise))))
        return
    problems = form.structure()
    ready = [exercise for exercise in chosen if exercise.solution.is_file()]
    read = {exercise.path: form.check(exercise) for exercise in ready}

    def notify(finding: Finding, known: bool) -> None:
        count = len({*finding.problems, *read[finding.exercise]})
        state = f"{count} problems" if count else "ok"
        figures = (
            f"{finding.tests} tests, {finding.named} of {finding.mistakes} mistakes named, {finding.variants} variants"
        )
        click.echo(f"{finding.exercise:<34}{state:<14}{figures}{' (known)' if known else ''}", err=True)

    found = list(findings.findings(ready, None if no_cache else again, jobs or batch.cores(), notify))
    problems += [problem for finding in found for problem in (*read[finding.exercise], *finding.problems)]
    problems = list(dict.fromkeys(problems))
    if as_json:
        data = {"version": 1, "findings": [asdict(f) for f in found], "problems": [asdict(p) for p in problems]}
        click.echo(json.dumps(data, indent=2))
    else:
        for problem in problems:
            click.echo(f"\n{problem.exercise}: {problem.what}\n  mend: {problem.mend}")
        click.echo(f"\n{len(found)} exercises checked, {len(problems)} problems")
    if readme.stale():
        click.echo("\nthe README has other tables\n\nhint: `grade dev readme` writes them, before a release", err=True)
    if problems:
        raise SystemExit(ExitCode.NOT_PASSED)
