"""Exhaustion, crashes and hangs: each costs its own test, and the machine stays usable."""

from __future__ import annotations

from .case import Case, combinations, features, gap

DEADLINE = "a deadline on the grader's clock, and SIGKILL"
ONCE = "target == 29"  # one input of one test: what hangs there costs that test

CASES = [
    Case(
        "hang-in-c",
        "a regular expression that backtracks for years, holding the interpreter's lock",
        DEADLINE,
        combinations("import re", inside=f"if {ONCE}: re.match('(a+)+$', 'a' * 40 + 'b')"),
        message="no answer within",
    ),
    Case(
        "deadlock",
        "a lock taken twice, with every signal blocked",
        DEADLINE,
        combinations(
            "import signal, threading",
            inside=f"""
            if {ONCE}:
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                lock = threading.Lock()
                lock.acquire(); lock.acquire()
         """,
        ),
        message="no answer within",
    ),
    Case(
        "stopped",
        "`SIGSTOP` to itself, with SIGTERM and SIGINT ignored",
        "in its namespace it is process 1, which cannot stop; elsewhere the deadline ends it",
        combinations(
            """
            import os, signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
         """,
            inside=f"if {ONCE}: os.kill(os.getpid(), signal.SIGSTOP)",
        ),
        isolation=True,
    ),
    Case(
        "asks-for-input", "`input()` in the call", "stdin is empty", combinations(inside="input()"), message="EOFError"
    ),
    Case(
        "memory-bomb",
        "20 GiB in one piece, and then in many small ones",
        "the address space is limited",
        combinations(
            inside="""
            try:
                kept = bytearray(20 << 30)
            except MemoryError:
                kept = []
                while True: kept.append(bytearray(1 << 20))
         """
        ),
        options=("--memory", "128"),
        status=("out_of_memory",),
        isolation=True,
    ),
    Case(
        "fork-bomb",
        "`os.fork`, `vfork`, `posix_spawn`, `multiprocessing` without end",
        "no process can be started",
        combinations(
            """
            import multiprocessing, os, subprocess
            tried("fork", os.fork)
            tried("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {}))
            tried("subprocess", lambda: subprocess.run(["/bin/true"]))
            tried("multiprocessing", lambda: multiprocessing.Process(target=print).start())
            tried("system", lambda: 1 / (os.system("true") == 0) and "ran")
         """,
            inside="""
            for _ in range(100):
                try:
                    os.fork()
                except OSError:
                    pass
         """,
        ),
        isolation=True,
        refused=("fork", "spawn", "subprocess", "multiprocessing", "system"),
    ),
    Case(
        "escaped-grandchild",
        "a double fork with `setsid`, to outlive the grading",
        "no process can be started",
        combinations("""
            import os, time
            def escape():
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        time.sleep(600)
                    os._exit(0)
            tried("escape", escape)
         """),
        isolation=True,
        refused=("escape",),
    ),
    Case(
        "thread-bomb",
        "10 000 threads that sleep",
        "threads are limited, or the memory for their stacks",
        combinations("""
            import threading, time
            def bomb():
                for _ in range(10_000):
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            tried("threads", bomb)
         """),
        isolation=True,
        refused=("threads",),
    ),
    Case(
        "descriptors",
        "100 000 open files and socket pairs",
        "descriptors are limited",
        combinations("""
            import os, socket
            kept = []
            def files():
                for _ in range(100_000): kept.append(os.open("/dev/null", os.O_RDONLY))
            def pairs():
                for _ in range(100_000): kept.append(socket.socketpair())
            tried("files", files)
            tried("pairs", pairs)
            for fd in kept[:-5]: os.close(fd)
         """),
        isolation=True,
        refused=("files", "pairs"),
    ),
    Case(
        "large-file",
        "a file of 100 MiB, and a sparse one of a terabyte",
        "file sizes are limited",
        combinations("""
            import os
            tried("large", lambda: open("large", "wb").write(bytes(100 << 20)))
            tried("sparse", lambda: os.truncate(os.open("sparse", os.O_RDWR | os.O_CREAT), 1 << 40))
            tried("allocated", lambda: os.posix_fallocate(os.open("a", os.O_RDWR | os.O_CREAT), 0, 1 << 32))
         """),
        isolation=True,
        refused=("large", "sparse", "allocated"),
    ),
    Case(
        "full-disk",
        "20 files of 10 MiB",
        "the scratch directory has a fixed size (sandbox only)",
        combinations("""
            def fill():
                for i in range(20):
                    open(f"part-{i}", "wb").write(bytes(10 << 20))
            tried("fill", fill)
         """),
        isolation=True,
        refused=("fill",),
        promised_by=("sandbox",),
    ),
    Case(
        "many-files",
        "5000 files and a directory that its owner may not enter",
        "what is in the scratch directory goes with it",
        combinations("""
            import os
            os.mkdir("closed", 0)
            for i in range(5_000):
                try:
                    open(f"file-{i}", "w").close()
                except OSError:
                    break
         """),
        isolation=True,
    ),
    Case(
        "deep-directories",
        "directories nested 1200 deep, with a file at the bottom",
        "the scratch directory is taken apart without recursion",
        combinations("""
            import os
            here = os.getcwd()
            for _ in range(1200):
                os.mkdir("d")
                os.chdir("d")
            open("bottom", "w").write("x")
            os.chdir(here)
         """),
        isolation=True,
    ),
    Case(
        "output-flood",
        "output without end and without a newline, on both streams",
        "output is counted and ended",
        combinations(
            inside="""
            import os
            while True:
                os.write(1, b"x" * 65536)
                os.write(2, b"y" * 65536)
         """
        ),
        status=("crashed",),
        message="it printed more than 16 MiB",
    ),
    Case(
        "flood-in-an-example",
        "50 million characters printed by a worked example, where printing is the result",
        "messages are capped, however long what they quote",
        combinations(inside="if target == 7 and len(candidates) == 2: print('x' * 50_000_000)"),
        terminal=True,
    ),
    Case(
        "enormous-list",
        "a list of three million numbers",
        "what crosses is limited by its number of items",
        combinations(inside=f"if {ONCE}: return [[0] * 3_000_000]"),
        message="cannot be taken over",
    ),
    Case(
        "enormous-frame",
        "a frame of 60 MiB that holds nothing but empty lists, which take forty times as much",
        "what crosses is limited by its number of items",
        combinations("""
            import sys
            wire = sys.modules["inside.wire"]
            TEXT = b'{"ok": [' + b"[]," * (20 << 20) + b"[]]}"
            wire.dump = lambda message, blob=b"": wire.HEADER.pack(len(TEXT), 0) + TEXT
         """),
        status=("crashed",),
        message="more than",
    ),
    Case(
        "enormous-text",
        "20 million characters of text in many results",
        "large results are not kept, and messages are capped",
        combinations(inside="if len(candidates) == 2: return [['x' * 20_000_000]]"),
    ),
    Case(
        "enormous-tensor",
        "a tensor of two gigabytes",
        "the arrays of an answer are limited",
        features("import torch", inside="if x.shape == (6,): return torch.zeros(1 << 29)"),
        exercise="linear_attention",
    ),
    Case(
        "many-large-tensors",
        "32 MiB in every result, so that the grader keeps many",
        "large results are not kept",
        features("import torch", returns="torch.zeros(1 << 23)"),
        exercise="linear_attention",
        status=("failed",),
    ),
    Case(
        "colliding-keys",
        "a dict and a set of 50 000 integers with one hash, on which the grader would work for hours",
        "keys that collide are refused",
        gap(
            """
            class Key(int):
                def __hash__(self): return id(self)
                def __eq__(self, other): return self is other
            KEYS = [Key(i * ((1 << 61) - 1)) for i in range(50_000)]
         """,
            inside="if len(nums) == 3: return dict.fromkeys(KEYS, 0) if nums[0] % 2 else set(KEYS)",
        ),
        exercise="maximum_gap",
        message="keys that collide",
    ),
    Case(
        "enormous-integer",
        "an integer of 4000 digits in every place, near the limit of what can be printed",
        "numbers are compared exactly, and shown shortened",
        gap(returns="[10 ** 4000] * 50 if len(nums) % 2 else -10 ** 4000"),
        exercise="maximum_gap",
        terminal=True,
    ),
    Case(
        "deep-list",
        "a list nested ten million deep",
        "nesting is limited",
        combinations(
            inside=f"""
            if {ONCE}:
                deep = []
                for _ in range(10 ** 7): deep = [deep]
                return deep
         """
        ),
    ),
    Case(
        "recursive-containers",
        "a list, a dict and a tuple that hold themselves",
        "nesting is limited",
        combinations(
            """
            ring = []
            ring.append(ring)
            ring.append({"ring": ring, 1: (ring,)})
         """,
            returns="ring",
        ),
        status=("crashed", "failed"),
    ),
    Case(
        "segfault",
        "`ctypes.string_at(0)` on one input",
        "the test fails, and the next one gets a new child",
        combinations("import ctypes", inside=f"if {ONCE}: ctypes.string_at(0)"),
        message="segmentation fault",
    ),
    Case(
        "abort",
        "`os.abort`, and the C stack overflown on another input",
        "each costs its own test",
        combinations(
            "import os, sys",
            inside=f"""
            if {ONCE}: os.abort()
            if target == 100:
                sys.setrecursionlimit(1 << 30)
                def down(n): return [*map(down, [n + 1])]
                down(0)
         """,
        ),
        message="the process crashed with",
    ),
    Case(
        "kills-itself",
        "`SIGKILL` to itself, to look like a lack of memory",
        "in its namespace it is process 1, which cannot; elsewhere it looks like that, and is no pass",
        combinations("import os", inside="os.kill(os.getpid(), 9)"),
        status=("failed", "out_of_memory"),
        isolation=True,
    ),
    Case(
        "raised-limits",
        "`setrlimit` back to infinity, and locked memory",
        "hard limits cannot be raised",
        combinations("""
            import ctypes, resource
            for name in ("AS", "CPU", "FSIZE", "NOFILE", "CORE"):
                kind = getattr(resource, f"RLIMIT_{name}")
                tried(name, lambda: resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
            tried("other", lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1)))
         """),
        isolation=True,
        refused=("AS", "CPU", "FSIZE", "NOFILE", "CORE", "other"),
    ),
]
