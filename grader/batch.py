"""Many gradings at once: several processes, each with a warm engine of its own. Layer 3."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context, parent_process
from typing import TypeVar

from grader.engine import Engine
from grader.errors import Fault, GraderError
from grader.order import Order
from grader.report import Report

Item = TypeVar("Item")
Result = TypeVar("Result")


def grade(orders: Iterable[Order], jobs: int) -> Iterator[tuple[Order, Report | GraderError]]:
    """Grade orders on so many processes; each with its report, or with the error that it alone ended in, as they are
    done. Reports come without their calls, which stay where they were made.
    """
    return run(_grade, orders, jobs)


def run(
    task: Callable[[Engine, Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[tuple[Item, Result | GraderError]]:
    """Run a task on each item, in the order of completion, each in a worker with a warm engine.

    The task is a module's function. A GraderError is the item's result, and so is a Fault for a worker that was killed:
    others neither wait for it nor end with it. Another exception ends the run.
    """
    waiting = iter(items)
    workers = [_Worker() for _ in range(max(1, jobs))]
    running: dict[Future[Result], tuple[_Worker, Item]] = {}
    try:
        for worker, item in zip(workers, waiting, strict=False):
            running[worker.submit(task, item)] = worker, item
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, item = running.pop(future)
                result = worker.result(future)
                for following in itertools.islice(waiting, 1):
                    running[worker.submit(task, following)] = worker, following
                yield item, result
    finally:
        for worker in workers:
            worker.close()


def cores() -> int:
    """How many processes this machine runs side by side."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One process at a time, so that a killed one costs its own item alone; a pool of several would lose all."""

    def __init__(self) -> None:
        self.executor: ProcessPoolExecutor | None = None

    def submit(self, task: Callable[[Engine, Item], Result], item: Item) -> Future[Result]:
        if self.executor is None:
            self.executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
        return self.executor.submit(_work, task, item)

    def result(self, future: Future[Result]) -> Result | GraderError:
        try:
            return future.result()
        except GraderError as error:
            return error
        except BrokenProcessPool:
            self.close()
            return Fault("the process that graded it was killed, most likely by the system for want of memory")

    def close(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = None


def _begin() -> None:
    """A worker is one of several: threads of its own would wait for each other's cores."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work(task: Callable[[Engine, Item], Result], item: Item) -> Result:
    return task(_engine(), item)


@functools.cache
def _engine() -> Engine:
    """The worker's own, for as long as it lives."""
    return Engine()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on to the end of its item, for nobody."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _grade(engine: Engine, order: Order) -> Report:
    return replace(engine.grade(order), failing=None, trials=())
