"""Ways out: the network, other processes on the machine, and the terminal of whoever reads the verdict."""

from __future__ import annotations

from .case import Case, combinations, gap

NO_SOCKETS = "seccomp allows pairs of connected sockets only, and the network namespace is empty"
CLEANED = "what comes from a submission loses its control and format characters before it is shown"
SEQUENCES = r"\x1b[2J\x1b[H\x1b]0;owned\x07\x1bP+q\x1b\\\x9b31m\x1b]8;;http://x\x07link\x1b]8;;\x07\x07\x08\x7f\r\u202epassed\u2066"

CASES = [
    Case(
        "network",
        "HTTP to the internet, DNS, a local service and the cloud's metadata address",
        NO_SOCKETS,
        combinations("""
            import socket, urllib.request
            tried("http", lambda: urllib.request.urlopen("http://192.0.2.1/", timeout=2).read())
            tried("names", lambda: socket.getaddrinfo("example.org", 80))
            tried("local", lambda: socket.create_connection(("127.0.0.1", 8888), 2))
            tried("metadata", lambda: socket.create_connection(("169.254.169.254", 80), 2))
            tried("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
        """),
        isolation=True,
        refused=("http", "names", "local", "metadata", "datagram"),
    ),
    Case(
        "other-families",
        "raw, packet, netlink, vsock, AF_ALG and Bluetooth sockets, and io_uring",
        NO_SOCKETS,
        combinations("""
            import ctypes, os, socket
            for name, values in dict(raw=(2, 3, 1), packet=(17, 3, 0), netlink=(16, 3, 0), vsock=(40, 1, 0),
                                     alg=(38, 5, 0), bluetooth=(31, 3, 0), six=(10, 1, 0)).items():
                tried(name, lambda: socket.socket(*values))
            libc = ctypes.CDLL(None, use_errno=True)
            def ring():
                if libc.syscall(425, 8, ctypes.create_string_buffer(120)) < 0:
                    raise OSError(ctypes.get_errno(), "refused")
            tried("ring", ring)
        """),
        isolation=True,
        refused=("raw", "packet", "netlink", "vsock", "alg", "bluetooth", "six", "ring"),
    ),
    Case(
        "unix-sockets",
        "abstract and named Unix sockets: the session bus, X11, docker, and one to be left behind",
        NO_SOCKETS,
        combinations("""
            import multiprocessing.connection, socket
            def bind(): socket.socket(socket.AF_UNIX).bind("\\0left-by-an-attack")
            tried("abstract", bind)
            for name in ("/run/docker.sock", "/run/dbus/system_bus_socket", "\\0/tmp/.X11-unix/X0"):
                tried(name.strip("\\0"), lambda: socket.socket(socket.AF_UNIX).connect(name))
            tried("listener", lambda: multiprocessing.connection.Listener("/tmp/left-by-an-attack", "AF_UNIX"))
            tried("datagram pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        """),
        isolation=True,
        refused=("abstract", "/run/docker.sock", "/run/dbus/system_bus_socket", "listener", "datagram pair"),
    ),
    Case(
        "shared-memory",
        "System V and POSIX shared memory, semaphores, message queues and memfd, to be left behind",
        "seccomp refuses the calls, and /dev/shm cannot be written",
        combinations("""
            import ctypes, mmap, os
            from multiprocessing import shared_memory
            libc = ctypes.CDLL(None, use_errno=True)
            def checked(result):
                if result < 0: raise OSError(ctypes.get_errno(), "refused")
                return result
            KEY = 0x0ADE5A17
            tried("segment", lambda: checked(libc.shmget(KEY, 4096, 0o1666)))
            tried("semaphore", lambda: checked(libc.semget(KEY, 1, 0o1666)))
            tried("queue", lambda: checked(libc.msgget(KEY, 0o1666)))
            tried("posix", lambda: shared_memory.SharedMemory("left-by-an-attack", create=True, size=4096))
            tried("posix queue", lambda: checked(libc.mq_open(b"/left-by-an-attack", 0o102, 0o666, None)))
            tried("memfd", lambda: os.memfd_create("left-by-an-attack"))
        """),
        isolation=True,
        refused=("segment", "semaphore", "queue", "posix", "memfd"),
    ),
    Case(
        "watching-others",
        "inotify and fanotify on what others do, perf events, keyrings and the kernel's log",
        "seccomp refuses the calls",
        combinations("""
            import ctypes, platform
            libc = ctypes.CDLL(None, use_errno=True)
            x86 = platform.machine() == "x86_64"
            def call(*values):
                if libc.syscall(*values) < 0: raise OSError(ctypes.get_errno(), "refused")
            tried("inotify", lambda: call(294 if x86 else 26, 0))
            tried("fanotify", lambda: call(300 if x86 else 262, 0, 0))
            tried("perf", lambda: call(298 if x86 else 241, 0, 0, -1, -1, 0))
            tried("keyring", lambda: call(248 if x86 else 217, b"user", b"left-by-an-attack", b"x", 1, -5))
            tried("log", lambda: call(103 if x86 else 116, 3, ctypes.create_string_buffer(100), 100))
            tried("userfault", lambda: call(323 if x86 else 282, 0))
        """),
        isolation=True,
        refused=("inotify", "fanotify", "perf", "keyring", "log", "userfault"),
    ),
    Case(
        "terminal-input",
        "characters pushed into the grader's terminal by TIOCSTI, /dev/tty, /dev/console and ptys",
        "there is no terminal to reach, and seccomp refuses the request",
        combinations("""
            import fcntl, os
            for name in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/ptmx", "/dev/vcs"):
                tried(name, lambda: fcntl.ioctl(os.open(name, os.O_RDWR), 0x5412, b"x"))
            tried("stdin", lambda: fcntl.ioctl(0, 0x5412, b"x"))
            tried("owner", lambda: fcntl.fcntl(1, fcntl.F_SETOWN, 1))
        """),
        isolation=True,
        refused=("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/ptmx", "stdin", "owner"),
    ),
    Case(
        "escapes-printed",
        "sequences that clear the screen, set the title, ask the terminal and reorder the line",
        CLEANED,
        combinations(f'print("{SEQUENCES}")\nprint("{SEQUENCES}" * 50, end="")'),
        terminal=True,
        prints="owned",
    ),
    Case(
        "escapes-raised",
        "the same in an exception's text and name, in its function's name and source line",
        CLEANED,
        gap(
            f"""
            Strange = type("E{SEQUENCES}", (Exception,), {{}})
            def fail(): raise Strange("{SEQUENCES}", "status: passed")
            fail.__code__ = fail.__code__.replace(co_name="f{SEQUENCES}", co_qualname="f{SEQUENCES}")
            import linecache
            linecache.getline = lambda *args: "{SEQUENCES}"
        """,
            inside="fail()",
        ),
        exercise="maximum_gap",
        terminal=True,
        message="status: passed",
    ),
    Case(
        "escapes-returned",
        "the same in strings, keys, type names and descriptions of results",
        CLEANED,
        gap(
            f"""
            class Result:
                def __repr__(self): return "{SEQUENCES}"
            Result.__name__ = "R{SEQUENCES}"
            TURN = []
        """,
            inside="TURN.append(1)",
            returns=f'[Result(), "{SEQUENCES}", {{"{SEQUENCES}": 1}}, ["{SEQUENCES}"]][len(TURN) % 4]',
        ),
        exercise="maximum_gap",
        terminal=True,
    ),
    Case(
        "look-alike-names",
        "names in full-width letters and ligatures where the part is looked for",
        "Python reads such letters as the plain ones, and the name that is near is named",
        "def combinations_sum(candidates, target):\n    return []\n\n\ndef \uff43ombinatio\ufb01():\n    return 1\n",
        status=("error",),
        terminal=True,
        message="found `combinations_sum`",
    ),
    Case(
        "escapes-in-warnings",
        "an invalid escape sequence beside terminal sequences, to have Python print the line",
        "the grader parses quietly",
        combinations('x = "\\d \x1b]0;owned\x07 \u202e"\nassert (1, "\x1b[2J")\n1 is 1'),
        terminal=True,
    ),
    Case(
        "half-characters",
        "lone surrogates, NUL and private characters in everything that is shown or stored",
        CLEANED,
        gap(
            """
            import os
            os.write(1, b"\\xff\\xfe\\xed\\xa0\\x80\\x00 bytes\\n")
        """,
            inside="if nums and nums[0] % 2: raise ValueError('\\ud800\\udfff\\0\\ue000')",
            returns="['\\ud83d', '\\0']",
        ),
        exercise="maximum_gap",
        terminal=True,
        prints="bytes",
    ),
]
