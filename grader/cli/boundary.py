"""What a command raises becomes a message on stderr and an exit code. Layer 5.

The kit's own fault never shows a raw traceback: it goes to a file, and the message says how to report it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from grader import __version__
from grader.cli.exit_code import ExitCode
from grader.cli.screen import Screen
from grader.errors import SubmissionError, UsageError

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # where output or a temporary file was to go


def guarded(run: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. A command returns its own, or None for success."""
    _tolerate_encodings()
    screen = Screen.here()
    try:
        code = run()
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else ExitCode.PASSED
    except (click.Abort, KeyboardInterrupt):
        screen.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `grade list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PASSED
    except UsageError as error:
        screen.error(str(error))
        return ExitCode.USAGE
    except click.ClickException as error:
        screen.error(_usage_text(error))
        return ExitCode.USAGE
    except SubmissionError as error:
        screen.error(str(error))
        return ExitCode.NOT_PASSED
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            screen.error(_fault_text(error, arguments))
            return ExitCode.FAULT
        screen.error(f"nothing can be written: {error}")
        return ExitCode.USAGE
    except Exception as error:
        screen.error(_fault_text(error, arguments))
        return ExitCode.FAULT


def _tolerate_encodings() -> None:
    """A terminal that cannot show a character shows a question mark, instead of failing the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="replace")


def _usage_text(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    words = context.command_path.removeprefix("grade").split() if context else []
    command = "grade SLUG" if words == ["grade"] else " ".join(["grade", *words])
    return f"{message[:1].lower()}{message[1:]}\n\nhint: `{command} -h` shows what it takes"


def versions() -> dict[str, str]:
    """What a report must name. Reads metadata only: importing torch takes over a second."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"grader": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "numpy", "pytest", "click", "rich", "watchfiles"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _fault_text(error: Exception, arguments: Sequence[str]) -> str:
    import shlex
    import traceback

    found = versions()
    lines = [f"{name}: {value}" for name, value in found.items()]
    report = "\n".join(
        [f"command: grade {shlex.join(arguments)}", *lines, "", "".join(traceback.format_exception(error))]
    )
    what = str(error) or type(error).__name__
    named = what if type(error).__module__.startswith("grader.") else f"{type(error).__name__}: {what}"
    return (
        f"the kit itself failed: {named}\n\n"
        "  this says nothing about your answer, and nothing was counted against it\n"
        f"  report:    {_write_report(report)}\n"
        f"  versions:  grader {found['grader']}, python {found['python']}, torch {found['torch']}\n"
        f"  platform:  {found['platform']}\n\n"
        "hint: open an issue with that file; `grade doctor` checks this machine"
    )


def _write_report(text: str) -> str:
    import tempfile

    from grader import workspace

    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    folders: list[Callable[[], Path]] = [
        lambda: workspace.find(Path.cwd()).make_state(),
        lambda: Path(tempfile.gettempdir()),
    ]
    for folder in folders:
        with contextlib.suppress(OSError, UsageError):
            path = folder() / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return str(path)
    return "could not be written anywhere; run the command again with a writable TMPDIR"
