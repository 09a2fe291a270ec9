"""Changes to what outlives a submission: packages, the kit, other processes, the next submission."""

from __future__ import annotations

from .case import Case, combinations

READ_ONLY = "mounted read-only and refused by Landlock; metadata by seccomp"

CASES = [
    Case(
        "modify-packages",
        "torch, pytest, the standard library and the kit opened for writing and truncating",
        READ_ONLY,
        combinations("""
            import json, os, _pytest
            for name, path in dict(json=json.__file__, pytest=_pytest.__file__, kit=KIT + "/engine.py").items():
                tried(name, lambda: open(path, "a").close())
                tried(f"{name} truncated", lambda: os.open(path, os.O_RDONLY | os.O_TRUNC))
        """),
        isolation=True,
        refused=("json", "pytest", "kit", "json truncated", "pytest truncated", "kit truncated"),
    ),
    Case(
        "new-modules",
        "files beside the standard library, the kit's inside and the interpreter",
        READ_ONLY,
        combinations("""
            import os, sys
            places = dict(library=os.path.dirname(os.__file__), prefix=sys.prefix, bin=os.path.dirname(sys.executable))
            places["inside"] = os.path.dirname(sys.modules["inside"].__file__)
            for name, place in places.items():
                tried(name, lambda: open(f"{place}/left-by-an-attack.py", "w"))
                tried(f"{name} folder", lambda: os.mkdir(f"{place}/left-by-an-attack"))
        """),
        isolation=True,
        refused=("library", "prefix", "bin", "inside", "library folder", "inside folder"),
    ),
    Case(
        "metadata",
        "permissions, owners, times and attributes of the interpreter and its packages changed",
        READ_ONLY,
        combinations("""
            import json, os
            path = json.__file__
            tried("chmod", lambda: os.chmod(path, 0o666))
            tried("chown", lambda: os.chown(path, os.getuid(), os.getgid()))
            tried("utime", lambda: os.utime(path, (0, 0)))
            tried("attribute", lambda: os.setxattr(path, "user.x", b"left-by-an-attack"))
            tried("unlink", lambda: os.unlink(path + ".nothing-of-that-name"))
            tried("own chmod", lambda: (open("mine", "w").close(), os.chmod("mine", 0o6777)))
        """),
        isolation=True,
        refused=("chmod", "chown", "utime", "attribute", "unlink", "own chmod"),
    ),
    Case(
        "poisoned-caches",
        "`__pycache__`, TORCH_EXTENSIONS_DIR, TRITON_CACHE_DIR, ~/.cache and ~/.local filled",
        "HOME is the scratch directory, and bytecode is not written",
        combinations("""
            import json, os, py_compile
            tried("bytecode", lambda: py_compile.compile("mine.py", cfile=json.__cached__, doraise=True)
                  if open("mine.py", "w").write("x = 1") else None)
            for name in ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"):
                print(name, os.environ.get(name))
            tried("cache", lambda: os.makedirs(HOME_FOLDER + "/.cache/left-by-an-attack"))
            tried("local", lambda: os.makedirs(HOME_FOLDER + "/.local/left-by-an-attack"))
            tried("compiled", lambda: os.makedirs("/tmp/torchinductor_root/left-by-an-attack"))
        """),
        isolation=True,
        refused=("bytecode", "cache", "local", "compiled"),
    ),
    Case(
        "kill-the-grader",
        "signals to the parent, to everything, to the group and by pidfd",
        "seccomp and the PID namespace: it may signal itself alone",
        combinations("""
            import os, signal
            tried("parent", lambda: os.kill(os.getppid() or 1 << 20, signal.SIGKILL))
            tried("all", lambda: os.kill(-1, signal.SIGTERM))
            tried("group of another", lambda: os.killpg(1, signal.SIGTERM))
            tried("by number", lambda: [os.kill(pid, signal.SIGKILL) for pid in range(2, 200) if pid != os.getpid()])
            tried("pidfd", lambda: os.pidfd_open(1))
            tried("stop", lambda: os.kill(2, signal.SIGSTOP))
        """),
        isolation=True,
        refused=("parent", "all", "group of another", "by number", "pidfd", "stop"),
    ),
    Case(
        "into-the-zygote",
        "`ptrace`, `process_vm_writev`, /proc/PID/mem and `pidfd_getfd` on the parents",
        "seccomp refuses the calls, Landlock /proc, and the parents are in another namespace",
        combinations("""
            import ctypes, os, platform
            libc = ctypes.CDLL(None, use_errno=True)
            parent = os.getppid() or 1
            def call(*values):
                if libc.syscall(*values) < 0:
                    raise OSError(ctypes.get_errno(), "refused")
            tried("memory", lambda: open(f"/proc/{parent}/mem", "r+b"))
            tried("attach", lambda: call(101 if platform.machine() == "x86_64" else 117, 16, parent, 0, 0))
            tried("write", lambda: call(311 if platform.machine() == "x86_64" else 271, parent, 0, 0, 0, 0, 0))
            tried("descriptor", lambda: call(438, 3, 0, 0))
            tried("descriptors", lambda: os.listdir(f"/proc/{parent}/fd"))
        """),
        isolation=True,
        refused=("memory", "attach", "write", "descriptor", "descriptors"),
    ),
    Case(
        "poisoned-imports",
        "modules of the standard library changed for whoever comes next",
        "every child is forked from a parent that never ran a submission; the next one sees nothing of it",
        combinations("""
            import json, math, sys
            json.loads = math.exp = lambda *args: None
            sys.modules["math"] = None
        """),
        status=("failed", "crashed"),
    ),
    Case(
        "scratch-removed",
        "the scratch directory is unlinked, and made a link to the root",
        "it is emptied without following links, or goes with its namespace",
        combinations("""
            import os
            here = os.getcwd()
            open("file", "w").close()
            os.symlink("/", "root")
            os.symlink(here, "ring")
            os.symlink(os.path.dirname(here), "up")
            os.mkfifo("fifo")
            os.link("file", "again")
            tried("removed", lambda: os.rmdir(here))
            tried("exchanged", lambda: os.rename(here, here + ".old"))
            tried("device", lambda: os.mknod("device", 0o60666, 0))
        """),
        isolation=True,
        refused=("removed", "exchanged", "device"),
    ),
    Case(
        "other-process-settings",
        "dumpable, pdeathsig, keepcaps, securebits, personality and the host's name",
        "seccomp refuses what would loosen the sandbox; there is no capability to gain",
        combinations("""
            import ctypes, os, socket
            libc = ctypes.CDLL(None, use_errno=True)
            def control(*values):
                if libc.prctl(*values, 0, 0) < 0:
                    raise OSError(ctypes.get_errno(), "refused")
            tried("dumpable", lambda: control(4, 1, 0))
            tried("outlive", lambda: control(1, 0, 0))
            tried("securebits", lambda: control(28, 0, 0))
            tried("host name", lambda: socket.sethostname("left-by-an-attack"))
            tried("user", lambda: os.setuid(0) if os.getuid() else os.setgroups([0]))
            tried("namespace", lambda: libc.unshare(1 << 28) and 1 / 0)
            tried("clock", lambda: __import__("time").clock_settime(0, 0.0))
        """),
        isolation=True,
        refused=("dumpable", "outlive", "securebits", "host name", "user", "namespace", "clock"),
    ),
    Case(
        "interpreter-memory",
        "the cached integer 1 becomes 2, and `object` gets a new method, through ctypes",
        "it is the child's interpreter alone",
        combinations("""
            import ctypes, sys
            ctypes.memmove(id(257) + 24, id(258) + 24, 4)
            slots = ctypes.cast(id(list.__dict__) + 16, ctypes.POINTER(ctypes.py_object)).contents.value
            slots["__eq__"] = lambda self, other: True
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(list))
        """),
        status=("failed", "crashed", "error"),
    ),
    Case(
        "last-words",
        "`atexit`, `__del__` of the module, a thread and a finaliser that write once the child is ended",
        "a child is killed, not asked",
        combinations("""
            import atexit, os, threading, time, weakref
            def late(*args):
                for _ in range(600):
                    time.sleep(0.1)
                    os.write(1, b"still here\\n")
            atexit.register(late)
            threading.Thread(target=late).start()
            class Owner:
                def __del__(self): late()
            KEPT = Owner()
        """),
        isolation=True,
    ),
]
