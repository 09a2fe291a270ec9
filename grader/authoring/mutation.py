"""`grade dev mutate`: the mutation scores of the suites, and of the kit's own tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from grader import catalog
from grader.authoring.problem import shown
from grader.cli.exit_code import ExitCode
from grader.errors import UsageError

if TYPE_CHECKING:
    from grader.authoring.score import Score

Scored = tuple[str, "Score"]  # a text, and what came of its mutants


@click.command("mutate")
@click.argument("names", nargs=-1, metavar="[SLUG | TRACK | MODULE]...")
@click.option("--kit", is_flag=True, help="Mutate the kit's own modules, against their tests.")
@click.option("--all", "every", is_flag=True, help="With --kit: all mutants, in place of a sample.")
@click.option("--no-cache", is_flag=True, help="Measure everything anew.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Mutants at once (default: one a core).")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option(
    "--equivalent", type=(str, str), metavar="KEY REASON", help="List a survivor as one that no test can kill, and why."
)
def mutate_command(
    names: tuple[str, ...],
    kit: bool,
    every: bool,
    no_cache: bool,
    jobs: int | None,
    as_json: bool,
    equivalent: tuple[str, str] | None,
) -> None:
    """The mutation score: mechanical edits of the solution, and which of them the suite lets pass."""
    from grader import batch
    from grader.authoring import kit as modules
    from grader.authoring import mutate

    if equivalent:
        _list_equivalent(names, kit, *equivalent)
        return
    if kit:
        aim, scores = modules.AIM, list(_modules(names, every, jobs or batch.cores()))
    else:
        aim, scores = mutate.AIM, list(_exercises(names, no_cache, jobs or batch.cores()))
    scores.sort(key=lambda pair: pair[1].name)
    if as_json:
        one, several = ("module", "modules") if kit else ("exercise", "exercises")
        click.echo(json.dumps({"version": 1, several: [score.plain(text, one) for text, score in scores]}, indent=2))
    else:
        _show(scores)
        if kit and not every:
            click.echo(f"a sample of {modules.SAMPLE} mutants a module; `--all` measures all")
    if any(score.stale or score.score < aim for _, score in scores):
        raise SystemExit(ExitCode.NOT_PASSED)


def _exercises(names: tuple[str, ...], no_cache: bool, jobs: int) -> Iterator[Scored]:
    from grader.authoring import mutate

    chosen = list(dict.fromkeys(exercise for name in names or ("all",) for exercise in catalog.select(name)))
    cache = None if no_cache else catalog.content() / ".grade" / "mutants.json"
    with _progress(exercise.path for exercise in chosen) as notify:
        for exercise, killers in mutate.measure(
            chosen, jobs, lambda exercise, done, total: notify(exercise.path, done, total), cache
        ):
            score = mutate.judge(exercise, killers)
            mutate.commit(exercise, score)
            yield exercise.text, score


def _modules(names: tuple[str, ...], every: bool, jobs: int) -> Iterator[Scored]:
    from grader.authoring import kit

    chosen = kit.select(names)
    with _progress(module.path for module in chosen) as notify:
        for module, score in kit.measure(
            chosen, every, jobs, lambda module, done, total: notify(module.path, done, total)
        ):
            yield module.text, score


def _list_equivalent(names: tuple[str, ...], kit: bool, key: str, reason: str) -> None:
    from grader.authoring import catalogue
    from grader.authoring import kit as modules

    if len(names) != 1:
        what = "--kit MODULE" if kit else "SLUG"
        raise UsageError(f"`--equivalent` is about one text: `grade dev mutate {what} --equivalent KEY REASON`")
    if kit:
        (module,) = modules.select(names)
        click.echo(f"wrote `{key}` into {shown(modules.equivalent(module, key, reason))}")
        return
    exercise = catalog.find(names[0])
    click.echo(f"wrote `{key}` into {shown(catalogue.equivalent(exercise, key, reason))}")
    click.echo(f"\nhint: `grade dev mutate {exercise.slug}` keeps the new score")


@contextmanager
def _progress(names: Iterable[str]) -> Iterator[Callable[[str, int, int], Any]]:
    """Bars on stderr, one a name; what is given tells how many of how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        rows = {name: bars.add_task(name, total=None) for name in names}
        yield lambda name, done, total: bars.update(rows[name], completed=done, total=total)


def _show(scores: list[Scored]) -> None:
    for text, score in scores:
        for mutant in score.survivors:
            click.echo(f"\n{score.name}: {mutant.key} survives, {mutant.kind}, line {mutant.line(text)}")
            click.echo(mutant.diff(text))
        for problem in score.stale:
            click.echo(f"\n{score.name}: {problem}\n  mend: mend its list of equivalent mutants")
        figures = f"{score.killed} of {score.mutants} mutants killed, {len(score.equivalent)} equivalent"
        click.echo(f"{score.name:<34}{score.score:>7.1%}  {figures}, {len(score.survivors)} survive")
