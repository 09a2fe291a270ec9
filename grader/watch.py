"""Regrades on save: the loop of `grade watch`. Layer 4.

Two threads put events into one queue, saved files and pressed keys, and the loop takes them out. What grading,
a hint or a list looks like is the caller's (`Actions`), so that the loop runs in tests without files, a terminal
or an engine.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from grader.exercise import Exercise
from grader.workspace import Workspace

DEBOUNCE = 200  # milliseconds in which the several writes of one save count as one
POLL = 0.2  # seconds after which a waiting thread looks whether it should stop
KEYS = "[h]int  [n]ext  [l]ist  [r]erun  [q]uit"


@dataclass(frozen=True)
class Saved:
    path: Path


@dataclass(frozen=True)
class Key:
    key: str


@dataclass(frozen=True)
class Failed:
    """A source of events broke; the loop raises what it raised."""

    error: BaseException


Event = Saved | Key | Failed


class Actions(Protocol):
    """What the loop asks for. None of it may raise what the learner can cause."""

    def grade(self, exercise: Exercise) -> None: ...
    def hint(self, exercise: Exercise) -> None: ...
    def show_list(self) -> None: ...
    def choose(self, besides: Exercise | None) -> Exercise | None: ...
    def say(self, text: str) -> None: ...


class Watch:
    """The loop. With `exercise` it follows one exercise, without one whichever was saved last."""

    def __init__(
        self, workspace: Workspace, exercises: Sequence[Exercise], actions: Actions, *, exercise: Exercise | None = None
    ) -> None:
        self.workspace, self.exercises, self.actions = workspace, exercises, actions
        self.current, self.pinned = exercise, exercise is not None
        self.events: queue.Queue[Event] = queue.Queue()

    def loop(self) -> None:
        """Until `q`. Raises KeyboardInterrupt on Ctrl-C, and what broke a source of events."""
        if self.current:
            self.actions.grade(self.current)
        else:
            self.actions.say("waiting for you to save an exercise")
        self.actions.say(KEYS)
        while self._handle([self.events.get(), *_waiting(self.events)]):
            self.actions.say(KEYS)

    def _handle(self, batch: Sequence[Event]) -> bool:
        """Whether to go on. Saves that piled up during a grading count once: only the latest text can be graded."""
        saved: Exercise | None = None
        for event in batch:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Key) and not self._press(event.key):
                return False
            if isinstance(event, Saved):
                saved = self._followed(event.path) or saved
        if saved:
            self.current = saved
            self.actions.grade(saved)
        return True

    def _followed(self, path: Path) -> Exercise | None:
        candidates = [self.current] if self.pinned and self.current else self.exercises
        # some systems report a path with its links resolved (/private/var for /var on macOS)
        real = path.resolve()
        return next((exercise for exercise in candidates if real == self.workspace.file(exercise).resolve()), None)

    def _press(self, key: str) -> bool:
        if key == "q":
            return False
        if key == "l":
            self.actions.show_list()
        elif key == "n":
            self._go_on()
        elif key in ("h", "r"):
            if self.current is None:
                self.actions.say("no exercise yet: save one, or press n for the next")
            elif key == "h":
                self.actions.hint(self.current)
            else:
                self.actions.grade(self.current)
        return True

    def _go_on(self) -> None:
        following = self.actions.choose(self.current)
        if following is None:
            self.actions.say("no other exercise is left")
            return
        self.current = following
        self.actions.grade(following)


def _waiting(events: queue.Queue[Event]) -> Iterator[Event]:
    with contextlib.suppress(queue.Empty):
        while True:
            yield events.get_nowait()


@contextlib.contextmanager
def sources(watch: Watch, stdin: IO[str] | None) -> Iterator[None]:
    """Feed the loop from the file system and, where there is one, from `stdin`, for as long as the context lasts."""
    stop = threading.Event()
    present = [folder for folder in watch.workspace.folders if folder.is_dir()]
    feeds: list[Callable[[], None]] = [lambda: feed_saves(saves(present, stop), watch.events)]
    with unbuffered(stdin) as readable:
        if readable and stdin is not None:
            feeds.append(lambda: feed_keys(keys(stdin, stop), watch.events))
        threads = [threading.Thread(target=_guarded, args=(feed, watch.events), daemon=True) for feed in feeds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=1.0)


def _guarded(feed: Callable[[], None], events: queue.Queue[Event]) -> None:
    try:
        feed()
    except BaseException as error:
        events.put(Failed(error))


def feed_saves(changes: Iterable[Iterable[Path]], events: queue.Queue[Event]) -> None:
    for paths in changes:
        for path in paths:
            events.put(Saved(path))


def feed_keys(pressed: Iterable[str], events: queue.Queue[Event]) -> None:
    for key in pressed:
        events.put(Key(key))


def saves(folders: Sequence[Path], stop: threading.Event) -> Iterator[list[Path]]:
    """The Python files that were written, in batches. Editors that save by renaming count as writing."""
    from watchfiles import Change, PythonFilter, watch

    if not folders:
        return
    for batch in watch(
        *folders,
        watch_filter=PythonFilter(),
        debounce=DEBOUNCE,
        stop_event=stop,
        rust_timeout=1000,
        raise_interrupt=False,
    ):
        yield sorted({Path(path) for change, path in batch if change is not Change.deleted})


def keys(stdin: IO[str], stop: threading.Event) -> Iterator[str]:
    """The letters that are pressed, in lower case, until the end of the stream."""
    try:
        descriptor = stdin.fileno()
    except (OSError, ValueError, AttributeError):  # a stream of a test
        yield from (letter.lower() for line in stdin for letter in line if letter.isalpha())
        return
    while not stop.is_set():
        if not select.select([descriptor], [], [], POLL)[0]:
            continue
        pressed = os.read(descriptor, 64)
        if not pressed:
            return
        if not pressed.startswith(b"\x1b"):  # an arrow or function key, whose letters mean nothing
            yield from (letter.lower() for letter in pressed.decode("ascii", "ignore") if letter.isalpha())


@contextlib.contextmanager
def unbuffered(stdin: IO[str] | None) -> Iterator[bool]:
    """Let single keys through without Enter; whether keys can be read at all. Ctrl-C still interrupts."""
    if stdin is None or stdin.closed:
        yield False
        return
    if not stdin.isatty() or sys.platform == "win32":
        yield True
        return
    import termios
    import tty

    descriptor = stdin.fileno()
    if _in_background(descriptor):  # where touching the terminal would stop the process
        yield False
        return
    before: list[Any] = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _in_background(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # not the terminal that controls this process, so there is no job control to mind
        return False
