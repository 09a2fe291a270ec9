"""The command line. Layer 5.

Each command is a file here, imported when it is called: `grade` alone must answer in a quarter of a second, so
nothing on its way imports torch, numpy, pytest or rich. A first word that is no command is an exercise, a track or
a stub's path, and goes to `grade.py` with everything after it. No file here may be called like a builtin: once
imported, it would take that builtin's place in this module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from grader import __version__
from grader.cli.boundary import guarded

# name: (where it is, the line in `grade -h`)
COMMANDS = {
    "init": ("grader.cli.init:init", "write the stubs into a new workspace"),
    "demo": ("grader.cli.demo:demo", "grade a bundled attempt with one mistake, to see what that looks like"),
    "watch": ("grader.cli.watch:watch", "regrade on save"),
    "list": ("grader.cli.list_exercises:list_", "every exercise, by track, and where you stand"),
    "next": ("grader.cli.next_exercise:next_", "which exercise to do next"),
    "path": ("grader.cli.path:path", "what to solve before an exercise, in order"),
    "show": ("grader.cli.show:show", "the statement, parts, rules and prerequisites of an exercise"),
    "hint": ("grader.cli.hint:hint", "the next hint for an exercise"),
    "solution": ("grader.cli.solution:solution", "the kit's answer, after you passed"),
    "reset": ("grader.cli.reset:reset", "bring a stub back; the old file is kept"),
    "history": ("grader.cli.history:history", "your attempts"),
    "doctor": ("grader.cli.doctor:doctor", "what this machine offers, and how to get more"),
    "dev": ("grader.authoring.commands:dev", "for authors: new, sync, check, mutate"),
}
GRADE = "grade"
EPILOG = (
    "`grade` alone shows where you are. `grade SLUG -h` shows the options of grading.\n\n"
    "\b\n"
    "exit codes: 0 passed, 1 not passed, 2 usage, 3 the kit's own fault, 130 interrupted\n"
    'completion: eval "$(_GRADE_COMPLETE=bash_source grade)" in ~/.bashrc;\n'
    "            zsh_source and fish_source for the other shells\n"
    "colour:     NO_COLOR=1 turns it off, FORCE_COLOR=1 on"
)


class Kit(click.Group):
    """Loads a command when it is called, and turns whatever it raises into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == GRADE:
            where = "grader.cli.grade:grade"
        elif cmd_name in COMMANDS:
            where = COMMANDS[cmd_name][0]
        else:
            return None
        module, _, name = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = not args or args[0] in (*COMMANDS, GRADE, "-h", "--help", "--version")
        if not own or (not args and not ctx.resilient_parsing):  # completion of an empty line offers commands too
            args = [GRADE, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from grader.cli.session import complete_names

        commands = [CompletionItem(n, help=line) for n, (_, line) in COMMANDS.items() if n.startswith(incomplete)]
        options = [item for item in super().shell_complete(ctx, incomplete) if item.value.startswith("-")]
        names = complete_names(incomplete)
        return commands + [item for item in names if not commands or item.type == "plain"] + options

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(Kit, self).main(args, "grade", complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(guarded(run, sys.argv[1:] if args is None else list(args)))


@click.command(
    cls=Kit,
    epilog=EPILOG,
    subcommand_metavar="[SLUG | TRACK | FILE | all | COMMAND]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="grade", message="%(prog)s %(version)s")
def cli() -> None:
    """Machine-learning interview exercises, and a grader that says what is wrong."""


def main(args: Sequence[str] | None = None) -> None:
    """The exercise point of `grade`."""
    cli.main(args)
