"""Time and cost: clocks that lie, work that is hidden, results that come from before."""

from __future__ import annotations

from .case import Case, combinations, features, gap

OTHER_CLOCK = "deadlines and races run on the grader's own clock"

CASES = [
    Case(
        "patched-clocks",
        "`time.time`, `perf_counter`, `monotonic` and `process_time` all return 0",
        OTHER_CLOCK,
        gap("""
            import time
            for name in ("time", "perf_counter", "monotonic", "process_time", "perf_counter_ns", "monotonic_ns"):
                setattr(time, name, lambda: 0)
        """),
        exercise="maximum_gap",
        performance=True,
    ),
    Case(
        "slow-with-stopped-clock",
        "a search that takes forever on one input, under a patched clock",
        OTHER_CLOCK,
        combinations(
            """
            import time
            time.monotonic = time.perf_counter = lambda: 0.0
        """,
            inside="while target == 29: pass",
        ),
        message="no answer within",
    ),
    Case(
        "deferred-to-a-thread",
        "a list is returned at once, and filled by a thread afterwards",
        "the result is what was sent with the answer",
        combinations(
            """
            import threading, time
            def later(candidates, target, into):
                time.sleep(0.005)
                into.extend(honest(candidates, target))
        """,
            inside="""
            found = []
            threading.Thread(target=later, args=(candidates, target, found)).start()
        """,
            returns="found",
        ),
    ),
    Case(
        "replayed-result",
        "results are kept by the identity of the input",
        "every call brings its inputs anew",
        gap("SEEN = {}", returns="SEEN.setdefault(id(nums), honest(nums))"),
        exercise="maximum_gap",
    ),
    Case(
        "batched-calls",
        "all the inputs of the session are collected, to answer them together in the last call",
        "the next input comes only when the result before it has arrived",
        combinations("PENDING = []", inside="PENDING.append((candidates, target))", returns="PENDING"),
    ),
    Case(
        "precomputed-at-import",
        "a table of answers, computed at import, for what the tests may ask",
        "inputs are random, and the import has a limit of its own",
        combinations(
            "TABLE = {(a, b, t): honest([a, b], t) for a in range(2, 14) for b in range(2, 14) for t in range(9, 19)}",
            returns="TABLE[(*candidates, target)] if (*candidates, target) in TABLE else honest(candidates, target)",
        ),
    ),
    Case(
        "cache-across-runs",
        "results saved to disk and shared memory in one run, to be loaded in the next",
        "the scratch directory is new for every child, and nothing else can be written",
        combinations("""
            import json, os
            for i, place in enumerate((".", "..", "/tmp", "/var/tmp", "/dev/shm", "/run", HOME_FOLDER)):
                try:
                    print("kept from before:", open(f"{place}/left-by-an-attack").read())
                except OSError:
                    pass
                if place != ".":
                    tried(place, lambda: open(f"{place}/left-by-an-attack", "w").write("[[2, 2, 3], [7]]"))
            open("left-by-an-attack", "w").write("mine")
        """),
        isolation=True,
        refused=("..", "/tmp", "/var/tmp", "/dev/shm", "/run"),
    ),
    Case(
        "more-threads",
        "`torch.set_num_threads(64)`, and interop threads",
        "counts do not depend on threads",
        features("""
            import torch
            torch.set_num_threads(64)
            try:
                torch.set_num_interop_threads(64)
            except RuntimeError:
                pass
        """),
        exercise="linear_attention",
    ),
    Case(
        "more-cores",
        "another affinity, real-time scheduling and a higher priority, for itself and for the parent",
        "the layers refuse what touches others, and the process has no capability to raise itself",
        combinations("""
            import os
            tried("nice", lambda: os.nice(-10))
            tried("priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -10))
            tried("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
            tried("affinity of another", lambda: os.sched_setaffinity(1, {0}))
            tried("out of memory", lambda: open("/proc/self/oom_score_adj", "w").write("-1000"))
        """),
        isolation=True,
        refused=("nice", "priority", "real time", "affinity of another", "out of memory"),
    ),
    Case(
        "alarm",
        "`setitimer` and `SIGALRM` interrupt whatever runs after the call, its encoding and sending",
        "an exception there is the submission's own",
        combinations("""
            import signal
            def ring(*args): raise SystemExit(0)
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.005)
        """),
        status=("failed", "crashed", "error"),
    ),
    Case(
        "tracing",
        "`sys.settrace`, `sys.setprofile` and a thread's trace function rewrite what callers hold",
        "frames of the child hold inputs and results alone",
        combinations("""
            import sys, threading
            def trace(frame, event, argument):
                if event == "return" and isinstance(argument, dict):
                    argument.update(outcome="passed", status="passed")
                return trace
            sys.settrace(trace)
            sys.setprofile(trace)
            threading.settrace(trace)
        """),
    ),
    Case(
        "global-state",
        "the generators are seeded by the file, so that its random guesses repeat",
        "each call is seeded by the grader; a guess stays a guess",
        combinations(
            """
            import random
            random.seed = lambda *args: None
        """,
            inside="import random",
            returns="[[random.choice(candidates or [1])]]",
        ),
    ),
]
