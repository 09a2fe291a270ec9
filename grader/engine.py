"""One submission in, one report out, in a warm process. Layer 3."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from grader import diagnosis, grading
from grader.errors import Fault, UsageError
from grader.exercise import Exercise
from grader.order import Order
from grader.plugin import collect
from grader.remote.calls import Code, Runner
from grader.remote.submission import Trial
from grader.report import Report
from grader.sandbox import layers
from grader.sandbox.host import Pool
from grader.sandbox.inside.lockdown import Limits
from grader.sandbox.tier import Tier
from grader.verdict import Diagnosis

# A suite runs under pytest, which owns `sys.stdout` and the environment meanwhile: two gradings in one process would
# take each other's. Many at once are `grader.batch`'s, on processes.
ONE_AT_A_TIME = threading.RLock()


def quiet(message: str) -> None:
    """The default of `notify`."""


class Engine:
    """A warm engine: its sandboxes stay open between gradings. A context manager."""

    def __init__(self, *, memory: int = 4 << 30, tier: str | None = None) -> None:
        """
        memory  bytes that one submission may allocate
        tier    a value of Tier; by default the best that works here
        """
        if tier is not None and tier not in set(Tier):
            raise UsageError(f"no isolation tier `{tier}`; there are {', '.join(Tier)}")
        self.limits = Limits(memory=memory)
        self.tiers = [Tier(tier)] if tier else layers.promising_tiers()
        self.pool = Pool(self.tiers.pop(0))
        self.recall = diagnosis.Recall()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.pool.close()

    @property
    def tier(self) -> Tier:
        return self.pool.tier

    def warm(self, exercise: Exercise) -> None:
        """Start the sandbox that an exercise needs, import the suite meanwhile, and wait.

        A tier that does not work here gives way to the next.
        """
        self.pool.zygote(exercise.packages)
        collect.load(exercise)
        while True:
            try:
                return self.pool.zygote(exercise.packages).wait()
            except Fault:
                if not self.tiers:
                    raise
                self.pool.close()
                self.pool = Pool(self.tiers.pop(0), gpu=self.pool.gpu)

    def runner(self, order: Order, code: Code) -> Runner:
        """Where the calls of an order go, for one text."""
        return Runner(
            self.pool.zygote(order.exercise.packages),
            code,
            self.limits,
            device=order.device,
            seed=order.seed,
            timeout=order.timeout or order.exercise.card.timeout,
            threads=order.threads,
        )

    def name(self, exercise: Exercise, trials: tuple[Trial, ...]) -> list[Diagnosis]:
        """The mistakes that explain failed tests of an earlier grading."""
        with ONE_AT_A_TIME:
            order = Order(exercise, exercise.solution)
            runner = self.runner(order, Code(exercise.text, f"{exercise.slug}.py"))
            try:
                replay = diagnosis.Replay(exercise, runner, self.recall)
                return diagnosis.name(replay, replay.failing(trials))
            finally:
                runner.close()

    def grade(self, order: Order, notify: Callable[[str], None] = quiet) -> Report:
        """Grade one submission; others of this process wait for it.

        Never raises for what is in the submission; raises UsageError for an order that cannot be, Fault when the kit is
        broken.
        """
        with ONE_AT_A_TIME:
            started = time.perf_counter()
            if (order.device == "cuda") != self.pool.gpu:  # only a sandbox that is to use the GPU sees it
                self.pool.close()
                self.pool = Pool(self.pool.tier, gpu=order.device == "cuda")
            report = grading.grade(self, order, notify)
            report.verdict.seconds = round(time.perf_counter() - started, 4)
            return report
