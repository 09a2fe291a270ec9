"""What the author of a submission must not learn: suites, expectations, solutions, and the secrets of whoever grades."""

from __future__ import annotations

from .case import Case, combinations, gap

HIDDEN = "neither mounted nor readable: Landlock allows the interpreter and its packages, and nothing of the kit"
NEVER_THERE = "expectations never enter the process that runs the file"

CASES = [
    Case(
        "read-the-suite",
        "`open` of the hidden suite and of the solution, also by way of a descriptor and a database",
        HIDDEN,
        combinations("""
            import mmap, os, sqlite3
            tried("suite", lambda: open(SUITE_FILE).read())
            tried("solution", lambda: open(SOLUTION_FILE).read())
            tried("descriptor", lambda: os.read(os.open(SUITE_FILE, os.O_RDONLY), 9999))
            tried("database", lambda: sqlite3.connect(SUITE_FILE).execute("select * from sqlite_master").fetchall())
            tried("by path", lambda: os.open(os.path.basename(SUITE_FILE), os.O_RDONLY,
                                             dir_fd=os.open(os.path.dirname(SUITE_FILE), os.O_PATH)))
        """),
        isolation=True,
        refused=("suite", "solution", "descriptor", "database", "by path"),
    ),
    Case(
        "list-the-course",
        "`os.walk` over the kit, the clone around it, and the home folder",
        HIDDEN,
        combinations("""
            import os
            for name, place in dict(kit=KIT, clone=CLONE, home=HOME_FOLDER, tmp="/tmp", here="..").items():
                tried(name, lambda: os.listdir(place))
            seen = [n for top in (KIT, CLONE, "/") for _, _, names in os.walk(top) for n in names if "combination" in n]
            print("files of the exercise:", seen)
        """),
        isolation=True,
        refused=("kit", "clone", "home", "tmp"),
        prints="files of the exercise: []",
    ),
    Case(
        "import-the-kit",
        "`import grader.suites...`, with the kit put on the path, and `inspect.getsource` of it",
        HIDDEN,
        combinations("""
            import importlib, sys
            sys.path[:0] = [CLONE, KIT]
            for name in ("grader.suites.leetcode.combination_sum.suite", "grader.engine", "suites.leetcode.combination_sum.suite"):
                tried(name, lambda: importlib.import_module(name))
            def package():
                import grader
                return importlib.resources.files(grader)
            tried("resources", package)
        """),
        isolation=True,
        refused=(
            "grader.suites.leetcode.combination_sum.suite",
            "grader.engine",
            "suites.leetcode.combination_sum.suite",
            "resources",
        ),
    ),
    Case(
        "link-to-the-suite",
        "a symbolic link, a hard link and a rename that bring the suite into the scratch directory",
        HIDDEN,
        combinations("""
            import os
            os.symlink(SUITE_FILE, "link.py")
            tried("symbolic", lambda: open("link.py").read())
            tried("hard", lambda: os.link(SUITE_FILE, "hard.py"))
            tried("rename", lambda: os.rename(SUITE_FILE, "moved.py"))
            tried("copy", lambda: os.sendfile(1, os.open(SUITE_FILE, os.O_RDONLY), 0, 9999))
        """),
        isolation=True,
        refused=("symbolic", "hard", "rename", "copy"),
    ),
    Case(
        "open-by-handle",
        "`open_by_handle_at`, `openat2`, `fsopen` and `mount` by their numbers, through ctypes",
        "seccomp refuses the calls",
        combinations("""
            import ctypes, os
            libc = ctypes.CDLL(None, use_errno=True)
            def call(number, *values):
                if libc.syscall(number, *values) < 0:
                    raise OSError(ctypes.get_errno(), "refused")
            for name, number in dict(handle=304, openat2=437, fsopen=430, mount=165, chroot=161).items():
                tried(name, lambda: call(number, 3, SUITE_FILE.encode(), 0, 0, 0))
        """),
        isolation=True,
        refused=("handle", "openat2", "fsopen", "mount", "chroot"),
    ),
    Case(
        "frames",
        "the locals and globals of every frame above, for anything called expected, oracle or solution",
        NEVER_THERE,
        combinations(
            inside="""
            import sys
            place, seen = sys._getframe(), []
            while place:
                names = {**place.f_locals, **place.f_globals}
                seen += [n for n in names if n in ("expected", "oracle", "solution", "check", "EDGES", "MISTAKES")]
                place = place.f_back
            print("seen:", seen)
        """
        ),
        prints="seen: []",
    ),
    Case(
        "collector",
        "every object that the garbage collector knows, for tests, mistakes and expected values",
        NEVER_THERE,
        combinations("""
            import gc
            gc.unfreeze()
            texts = [o for d in gc.get_objects() if isinstance(d, dict) for o in list(d.values()) if isinstance(o, str)]
            words = "## each-used-" + "once", "def " + "oracle(", "grader" + ".suites"
            told = [t[:80] for t in texts if any(word in t for word in words)]
            print("texts:", told)
        """),
        prints="texts: []",
    ),
    Case(
        "heap",
        "the process's own memory, read through ctypes, for text of the suite",
        NEVER_THERE,
        combinations("""
            import ctypes, gc, sys
            gc.unfreeze()
            needle = "each-used-" + "once"
            kept = [o for o in gc.get_referents(*gc.get_objects()) if isinstance(o, str) and needle in o]
            print("found:", [k for k in kept if k is not needle and len(k) < 500 and "needle" not in k])
            tried("maps", lambda: open("/proc/self/maps").read())
            tried("mem", lambda: open("/proc/self/mem", "rb").seek(4096))
        """),
        isolation=True,
        refused=("maps", "mem"),
        prints="found: []",
    ),
    Case(
        "probe-sources",
        "the probes that came with the calls, searched for expectations",
        "nothing: probes and inputs are visible by design, and hold no expectation",
        combinations(
            inside="""
            import gc
            requests = [o for o in gc.get_objects() if isinstance(o, dict) and "probe" in o and "seed" in o]
            text = " ".join(str(r) for r in requests)
            print("expectations:", [word for word in ("expected", "oracle", "assert_") if word in text])
        """
        ),
        prints="expectations: []",
    ),
    Case(
        "next-call",
        "the pending input of the next call, in the connection and in memory",
        "a call is sent only when the one before has been answered",
        combinations(
            """
            import gc, select, socket
        """,
            inside="""
            links = [o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0]
            print("waiting:", [l for l in select.select(links, [], [], 0)[0]])
        """,
        ),
        prints="waiting: []",
    ),
    Case(
        "line-cache",
        "`linecache`, tracebacks and `SyntaxError` with the suite's name, to have its lines echoed",
        "a traceback is made of the learner's own lines, and no other file is opened for it",
        combinations(
            """
            import linecache, traceback
            print("cached:", [name for name in linecache.cache if "suites" in name])
            tried("line", lambda: linecache.getlines(SUITE_FILE) or 1 / 0)
            code = compile("raise SyntaxError('x', (FILE, 1, 1, None))", SUITE_FILE, "exec")
        """,
            inside="""
            def fail(): raise ValueError
            fail.__code__ = fail.__code__.replace(co_filename=SUITE_FILE, co_firstlineno=100)
            try:
                fail()
            except ValueError:
                traceback.print_exc(limit=-1)
            raise SyntaxError("x", (SUITE_FILE, 30, 1, None))
        """,
        ),
        isolation=True,
        refused=("line",),
        prints="cached: []",
    ),
    Case(
        "environment",
        "`os.environ`, /proc/self/environ, and those of the parents",
        "the environment is made anew",
        combinations("""
            import os
            print({k: v for k, v in os.environ.items() if "TOKEN" in k or "GRADE" in k or "PASS" in k})
            tried("own", lambda: open("/proc/self/environ").read())
            tried("parent", lambda: open(f"/proc/{os.getppid() or 1}/environ").read())
            tried("first", lambda: open("/proc/1/environ").read())
            tried("command", lambda: open("/proc/1/cmdline").read())
            tried("processes", lambda: os.listdir("/proc"))
        """),
        isolation=True,
        refused=("own", "parent", "first", "command", "processes"),
        prints="{}",
    ),
    Case(
        "other-users",
        "/etc/passwd, /etc/shadow, ssh keys, shell history, the machine's name and mail",
        "none of it is mounted or readable",
        combinations("""
            import os, pwd
            for name in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/machine-id", "/var/log", "/run", "/root"):
                tried(name, lambda: open(name).read() if os.path.isfile(name) else os.listdir(name))
        """),
        isolation=True,
        refused=("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/machine-id", "/var/log", "/run", "/root"),
    ),
    Case(
        "open-descriptors",
        "everything that is open already, read and asked for its path",
        "open are only the connection and the output",
        combinations("""
            import os, stat
            def kind(fd):
                mode = os.fstat(fd).st_mode
                return next(n for n in ("SOCK", "FIFO", "CHR", "REG", "DIR", "BLK", "LNK") if getattr(stat, f"S_IS{n}")(mode))
            found = []
            for fd in range(3, 256):
                try:
                    found.append(kind(fd))
                except OSError:
                    pass
            print("open:", [kind for kind in found if kind != "CHR"])  # /dev/null
        """),
        isolation=True,
        prints="open: ['SOCK']",
    ),
    Case(
        "expected-in-messages",
        "wrong answers of many shapes, to have the expected one of a hidden test printed",
        "by design, and only for who studies alone: messages show the failing call; the suite's code is never shown",
        gap(returns="[[nums]] if len(nums) % 2 else str(nums)"),
        exercise="maximum_gap",
        terminal=True,
    ),
]
