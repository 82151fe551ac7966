#!/usr/bin/env python3
"""What a host is set to shows in nothing that is certified: a program that asks for all it can get is run under one setting of the
kernel after the other. It says the same each time, or its result is not certified, or zpipe-box(7) has it as a limit.

    settings.py --bin DIR

The settings are the whole host's: this is for a machine of its own (`make kernel`)."""
import argparse, json, os, subprocess, sys, tempfile

SKIPPED = 77
TIMEOUT = 600
MEMORY = "/sys/kernel/mm/transparent_hugepage/"
# The file, and what is written there.
SETTINGS = (
    ("vm/max_map_count", "131072"), ("fs/epoll/max_user_watches", "10"), (MEMORY + "shmem_enabled", "always"),
    (MEMORY + "enabled", "never"), (MEMORY + "enabled", "always"), ("vm/overcommit_memory", "1"),
    ("vm/overcommit_memory", "2"), ("vm/mmap_min_addr", "4096"), ("vm/mmap_min_addr", "65536"),
    ("vm/legacy_va_layout", "1"), ("vm/memfd_noexec", "1"), ("net/core/wmem_default", "425984"),
    ("net/core/rmem_default", "425984"), ("net/unix/max_dgram_qlen", "512"), ("fs/pipe-user-pages-soft", "1"), ("fs/pipe-max-size", "65536"),
    ("kernel/randomize_va_space", "0"), ("kernel/randomize_va_space", "1"), ("kernel/core_pattern", "|/bin/false"),
    ("kernel/pid_max", "4000"), ("kernel/threads-max", "3000"), ("kernel/ngroups_max", "3"),
    ("kernel/sched_autogroup_enabled", "0"), ("kernel/hostname", "other"),
    ("fs/suid_dumpable", "2"), ("fs/protected_regular", "2"), ("fs/protected_fifos", "2"),
    ("fs/protected_hardlinks", "0"), ("fs/protected_symlinks", "0"), ("fs/lease-break-time", "1"),
    ("kernel/yama/ptrace_scope", "2"), ("kernel/io_uring_disabled", "1"), ("kernel/unprivileged_bpf_disabled", "1"))

PROGRAM = r"""
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, select, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
FAILED = 2 ** 64 - 1

def map(size, prot=3, flags=0x22, at=None):
    p = libc.mmap(at, size, prot, flags, -1, 0)
    return errno.errorcode[ctypes.get_errno()] if p == FAILED else hex(p)

def told(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]

what = sys.argv[1]
if what == "rest":
    print([map(1 << n) for n in (21, 26, 35, 36)], [map(1 << 35, flags=0x21)], [map(1 << n, flags=0x4022) for n in (34, 40)])
    print([map(4096, 1, 0x32, at) for at in (0x1000, 0x8000, 0xf000, 0x10000)], [map(4096, 1, 0x22, at) for at in (0x1000, 0x8000)])
    for kind in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
        a, b = socket.socketpair(socket.AF_UNIX, kind)
        a.setblocking(False)
        n = 0
        try:
            while True:
                n += a.send(b"x" * 512)
        except BlockingIOError:
            print("room", n)
    fd = os.memfd_create("x")
    print(oct(os.fstat(fd).st_mode), fcntl.fcntl(fd, fcntl.F_GET_SEALS))
    r, w = os.pipe()
    print(fcntl.fcntl(w, 1032)) # F_GETPIPE_SZ
    pid = os.fork()
    if pid == 0:
        os._exit(os.write(w, bytes(1000000)) != 1000000)
    os.close(w)
    print(sum(iter(lambda: len(os.read(r, 65536)), 0)), fcntl.fcntl(r, 1032), os.waitpid(pid, 0)[1])
    print([resource.getrlimit(n) for n in range(16)], os.sysconf("SC_NGROUPS_MAX"), os.uname())
    print([libc.prctl(n, 0, 0, 0, 0) for n in (3, 7, 39)], [libc.prctl(23, n, 0, 0, 0) for n in range(42)])
    open("/tmp/f", "w").close()
    print(told(lambda: os.link("/tmp/f", "/tmp/g")), told(lambda: os.close(os.open("/usr/bin/env", os.O_RDONLY | os.O_DIRECT))))
    print(told(lambda: os.copy_file_range(fd, fd, 1)), told(lambda: os.posix_fallocate(fd, 0, 4096)))
    pid = os.fork()
    if pid == 0:
        os.abort()
    print(os.waitpid(pid, 0))
    children = []
    for _ in range(100):
        children.append(os.fork())
        if not children[-1]:
            signal.pause()
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    print("children", children[-1])
elif what == "large":
    print([map(1 << n) for n in (30, 32, 33, 34)])
elif what == "maps":
    n = 0
    at = libc.mmap(None, 600000 * 4096, 0, 0x4022, -1, 0)
    while n < 250000 and libc.mprotect(at + n * 8192, 4096, 1) == 0:
        n += 1
    print(n)
elif what == "watches":
    e, n = select.epoll(), 0
    try:
        for _ in range(400):
            e.register(os.pipe()[0])
            n += 1
    except OSError as error:
        print(errno.errorcode[error.errno])
    print(n)
elif what == "shared":
    print(map(64 << 20, flags=0x21))
"""
WHATS = ("rest", "large", "maps", "watches", "shared")
# What zpipe-box(7) says that it shows, by what asks for it.
LIMITS = {"vm/max_map_count": "maps", "fs/epoll/max_user_watches": "watches", MEMORY + "shmem_enabled": "shared"}


def run(what):
    r = subprocess.run([box, "--report", "report", "--", "/usr/bin/python3", "-I", "-S", "-c", PROGRAM, what], stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=TIMEOUT)
    with open("report") as f:
        report = json.load(f)
    return (r.returncode, r.stdout.decode(), r.stderr.decode()), report["certified"], report["uncertified_why"]


def try_one(path, text):
    """What is wrong; "" is nothing."""
    path = path if path[0] == "/" else "/proc/sys/" + path
    try:
        with open(path) as f:
            before = f.read().strip()
        before = before[before.index("[") + 1:before.index("]")] if "[" in before else before
        with open(path, "w") as f:
            f.write(text)
    except OSError:
        return None
    try:
        limit = LIMITS.get(path.replace("/proc/sys/", ""))
        for what in ("rest", "large")[:1 + ("overcommit" in path)] + ((limit,) if limit else ()):
            said, certified, why = run(what)
            if said != first[what][0] and certified and what != limit:
                return "%s: certified, and %r, where it was %r" % (what, said, first[what][0])
            if not certified:
                print("       %s: %s" % (what, why))
        return ""
    finally:
        with open(path, "w") as f:
            f.write(before)


def main():
    global box, first
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    box = os.path.join(os.path.abspath(p.parse_args().bin), "zpipe-box")
    if os.geteuid() or os.uname().nodename != "machine":
        print("the settings of this host are not ours to change")
        sys.exit(SKIPPED)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="zpipe-settings-") as work:
        os.chdir(work)
        first = {what: run(what) for what in WHATS}
        for what, (said, certified, why) in first.items():
            print("%s: %s %s %s" % (what, said, certified, why))
            failed += said[0] != 0
        for path, text in SETTINGS:
            wrong = try_one(path, text)
            failed += bool(wrong)
            print("%s %s = %s%s" % ("skip  " if wrong is None else "FAIL  " if wrong else "ok    ", path, text, ": " + wrong if wrong else ""), flush=True)
        os.chdir("/")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
