#!/usr/bin/env python3
"""The wall, asked from inside: tests/lib/wall_probe.c in a sandbox, with --isolation=none, and started directly.  In the
sandbox every question is refused; without a wall those get through that the probe's table says.  The host is compared
before and after.  Other attacks, on what is handed over at the end, follow.

    wall.py --bin DIR --probe FILE --refuse FILE --fuzz FILE [--user UID] [--seconds N] [--seed N]"""
import argparse, errno, os, shutil, signal, stat, subprocess, sys, tempfile, time

from watch import SLOW

TIMEOUT = 120 * SLOW  # of a run that hangs
SKIPPED = 77
FORGOTTEN = 17
failed = []


def check(name, good, *more):
    print("%-6s %s" % ("ok" if good else "FAIL", name), *([] if good else more), flush=True)
    if not good:
        failed.append(name)


class Place:
    """A directory of one user's, the programs in it."""

    def __init__(self, a, work):
        self.owner, self.work = a.user, work
        self.box, self.probe = (shutil.copy(p, work) for p in (os.path.join(a.bin, "zpipe-box"), a.probe))
        self.refuse, self.fuzz = shutil.copy(a.refuse, work), shutil.copy(a.fuzz, work)
        self.zpipe = shutil.copy(os.path.join(a.bin, "zpipe"), work)
        self.marker = os.path.join(work, "marker")
        self.dir = os.path.join(work, "dir")
        os.mkdir(self.dir)
        for name, text in ((self.marker, "of the host\n"), (os.path.join(self.dir, "input.txt"), "input\n")):
            with open(name, "w") as f:
                f.write(text)
        shutil.copy(self.probe, os.path.join(self.dir, "probe"))
        shutil.copy(self.fuzz, os.path.join(self.dir, "fuzz"))
        for root, dirs, files in os.walk(work):
            for n in [root] + [os.path.join(root, f) for f in files]:
                os.chmod(n, 0o755 if os.path.isdir(n) or os.access(n, os.X_OK) else 0o644)
                if a.user:
                    os.chown(n, a.user, a.user)

    def demote(self):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(os.open("/", os.O_RDONLY | os.O_DIRECTORY), FORGOTTEN, inheritable=True)
        if self.owner:
            os.setgroups([])
            os.setgid(self.owner)
            os.setuid(self.owner)

    def run(self, *argv, stdin="input.txt"):
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "ZPIPE_TEST_SECRET": "1"}
        env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        with open(os.path.join(self.dir, stdin)) as f:
            p = subprocess.run(argv, cwd=self.dir, stdin=f, capture_output=True, env=env, preexec_fn=self.demote,
                               timeout=TIMEOUT, close_fds=False)
        return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")

    def sandboxed(self, *argv, options=(), **more):
        return self.run(self.box, *options, "--", *argv, **more)

    def host(self):
        """What must be the same after all: the mounts, the names, the files."""
        files = {}
        for root, dirs, names in os.walk(self.work):
            for n in names:
                s = os.lstat(os.path.join(root, n))
                files[os.path.join(root, n)] = (s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_mtime_ns)
        return {"mounts": set(open("/proc/self/mountinfo")), "names": os.uname(), "priority": os.getpriority(os.PRIO_PROCESS, 0), "files": set(files.items())}

    def check_host(self, name, before):
        after = self.host()
        check(name, after == before, *("%s: %s, now %s" % (k, *((sorted(a - b), sorted(b - a)) if isinstance(a, set) else (a, b)))
                                       for k, a, b in ((k, before[k], after[k]) for k in before) if a != b))


def questions(place):
    outside = subprocess.Popen(["sleep", "1000"], preexec_fn=place.demote)
    try:
        ask(place, str(outside.pid))
    finally:
        outside.kill()
        outside.wait()


def ask(place, outside, ways=None, remark=""):
    files = ["--with", "probe", "--with", "input.txt"]
    for mode, start in ways or (("full", [place.box, *files, "--"]), ("bare", []),
                                ("none", [place.box, "--isolation", "none", *files, "--"])):
        before = place.host()
        status, out, err = place.run(*start, "./probe", mode, place.marker, outside)
        lines = out.splitlines()
        print("      ", lines[-1] if lines else err)
        check("questions, %s %s" % (mode, remark), status == 0, "status %d" % status, *[l for l in lines if l.startswith("WRONG")], err[-300:])
        place.check_host("the host after them, %s %s" % (mode, remark), before)


# What a host may refuse, with which errno, and the step that must be named.  The box ends with 125 and a reason, and nothing
# was run.
REFUSED = [("clone", "EPERM", "namespaces"), ("clone", "ENOSPC", "user.max_user_namespaces"), ("clone", "EUSERS", "nested"),
           ("unshare", "EPERM", "mount namespace"), ("mount", "EPERM", "mounts private"), ("mount", "EACCES", "mounts private"),
           ("umount2", "EPERM", "host's root"), ("pivot_root", "EPERM", "pivot_root"), ("open_tree", "EPERM", "/usr"),
           ("open_tree", "ENOSYS", "/usr"), ("move_mount", "EPERM", "/usr"), ("mount_setattr", "EPERM", "/usr"),
           ("sethostname", "EPERM", "host"), ("setresuid", "EPERM", "user"), ("personality", "EPERM", "memory layout"),
           ("capset", "EPERM", "rights"), ("seccomp", "EPERM", "filter"),
           ("seccomp", "ENOSYS", "filter"), ("close_range", "ENOSYS", "must not have"), ("pidfd_getfd", "EPERM", "system calls"),
           ("landlock_create_ruleset", "EPERM", "Landlock"), ("landlock_restrict_self", "EPERM", "Landlock")]
# What Docker's default profile refuses, all at once.
DOCKER = ["clone", "unshare", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr", "personality", "sethostname"]
# Kernels that lack these have a wall all the same.
LACKING = ["mount_setattr", "landlock_create_ruleset"]


def refusals(place):
    for call, name, words in REFUSED:
        status, out, err = place.run(place.refuse, call, str(getattr(errno, name)), "--", place.box, "--", "echo", "it runs")
        check("refused %s (%s)" % (call, name), status == 125 and out == "" and words in err and "; " in err,
              "status %d" % status, out, err)


    all_of_them = [w for call in DOCKER for w in (call, str(errno.EPERM))]
    status, out, err = place.run(place.refuse, *all_of_them, "--", place.box, "--", "echo", "it runs")
    check("refused as by Docker", status == 125 and out == "" and "namespaces" in err and "; " in err, "status %d" % status, out, err)
    status, out, err = place.run(place.refuse, *all_of_them, "--", place.box, "--isolation=none", "--", "echo", "it runs")
    check("and without isolation it runs", status == 0 and out == "it runs\n", "status %d" % status, err)


def settings(place):
    """Settings of the host, in a user namespace of their own: there they may be set."""
    zero = "echo 0 >/proc/sys/user/max_%s_namespaces || exit 77; exec %s -- echo it runs"
    # As AppArmor and an older Debian do it: the setting is there, and a step is refused to an ordinary user.
    fake = "mount -t tmpfs x /proc/sys/kernel && echo %d >/proc/sys/kernel/%s || exit 77; exec %s mount %d -- %s -- echo it runs"
    for kind in ("user", "pid"):
        status, out, err = place.run("unshare", "-r", "sh", "-c", zero % (kind, place.box))
        if status == 77:
            print("skip   max_%s_namespaces: cannot be set here" % kind)
            continue
        check("max_%s_namespaces=0" % kind, status == 125 and out == "" and "user.max_%s_namespaces=" % kind in err, err)
    for value, name in ((1, "apparmor_restrict_unprivileged_userns"), (0, "unprivileged_userns_clone")):
        if not place.owner and os.geteuid() == 0:
            continue  # both are for ordinary users
        status, out, err = place.run("unshare", "-c", "-m", "--keep-caps", "sh", "-c",
                                     fake % (value, name, place.refuse, errno.EPERM, place.box))
        if status == 77:
            print("skip   %s: cannot be feigned here" % name)
            continue
        check("%s=%d" % (name, value), status == 125 and out == "" and "sysctl -w kernel.%s=%d" % (name, 1 - value) in err, err)


def lacking(place):
    for call in LACKING:
        ask(place, str(os.getpid()), [("full", [place.refuse, call, str(errno.ENOSYS), "--", place.box, "--with", "probe", "--with",
                                                "input.txt", "--"])], "without " + call)


# What a program may leave behind under the names of outputs.
LEAVE = r"""
import os
def put(name, text):
    with open(name, "w") as f:
        f.write(text)
put("plain", "plain\n")
put("closed", "closed\n")
os.chmod("closed", 0)
os.link("plain", "hard")
os.symlink("plain", "near")
os.symlink("/etc/passwd", "far")
os.symlink("../" * 9 + os.environ["MARKER"], "up")
os.symlink("loop", "loop")
os.mkfifo("fifo")
os.mkdir("directory")
put("over", "over\n")
for i in range(600):
    put("directory/%d" % i, "")
put("red\x1b[31m", "")
for name in ("device", "setuid"):
    try:
        if name == "device":
            os.mknod(name, 0o60600, os.makedev(7, 250))
        else:
            put(name, "")
            os.chmod(name, 0o4755)
    except OSError:
        pass
"""


def outputs(place):
    """Outputs are regular files of the program's own, or they are not there."""
    names = "plain closed hard near far up loop fifo directory device setuid over none".split()
    with open(os.path.join(place.dir, "leave.py"), "w") as f:
        f.write(LEAVE)
    os.symlink(place.marker, os.path.join(place.dir, "over"))  # of the caller's: not to be followed
    marker = os.lstat(place.marker)
    status, out, err = place.sandboxed("python3", "leave.py", options=["--env", "MARKER=" + place.marker, "--with", "leave.py"] +
                                       [w for n in names for w in ("--out", n)])
    there = {n for n in names if os.path.isfile(os.path.join(place.dir, n)) and not os.path.islink(os.path.join(place.dir, n))}
    check("outputs are files", there == {"plain", "closed", "hard", "near", "setuid"}, str(there), err)
    modes = {n: os.lstat(os.path.join(place.dir, n)).st_mode for n in there}
    check("with no more than modes", all(stat.S_ISREG(m) and not m & 0o7000 for m in modes.values()), str(modes))
    check("no link of the host's was followed", status == 125 and "over" in err and os.lstat(place.marker) == marker, err)
    lines = [l for l in err.splitlines() if "left behind" in l]
    check("names left behind are few and plain", 0 < len(lines) <= 64 and "\x1b" not in err, str(len(lines)))
    for n in there | {"over", "leave.py"}:
        os.unlink(os.path.join(place.dir, n))


# Programs that take what they can, each within a limit: (name, settings, program, status, words of stdout or stderr).
GREEDY = [
    ("processes", "procs=20", "import os, signal\nn = 0\ntry:\n    while n < 200:\n        if os.fork() == 0: signal.pause()\n        n += 1\n"
     "except OSError as e: print('stopped at', n, flush=True)\nos.kill(0, 9)", 124, ("stopped at 19", "procs")),
    ("memory", "memory=128MiB", "keep = []\nwhile len(keep) < 64: keep.append(bytearray(8 << 20))", 124, ("MemoryError", "memory")),
    ("scratch", "scratch=4MiB", "f = open('/tmp/x', 'wb', 0)\nfor i in range(64): f.write(bytes(1 << 20))", 124, ("No space left", "scratch")),
    ("output", "output=1MiB", "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nf = open('/tmp/x', 'wb', 0)\nfor i in range(64): f.write(bytes(1 << 20))", 124, ("output",)),
    ("time", "timeout=1s", "while True: pass", 124, ("timeout",)),
    ("zombies", "timeout=%ds" % (60 * SLOW), "import os\nfor i in range(500):\n    if os.fork() == 0: os._exit(0)\nprint('all', i + 1)", 0, ("all 500",)),
    ("descriptors", "timeout=%ds" % (60 * SLOW), "import os\nn = 3\ntry:\n    while n < 5000: n = os.open('/dev/null', 0)\nexcept OSError: print('last', n)", 0,
     ("last 1023",)),
]
# Programs that do to their channel what a pipe has not: (name, stage, next stage, its output).
HOSTILE = [
    ("shuts its output", "import socket, os\ns = socket.socket(fileno=os.dup(1))\ns.shutdown(2)\ntry: os.write(1, b'x')\nexcept OSError: pass",
     "wc -c", "0"),
    ("sends urgent bytes", "import socket, os\ns = socket.socket(fileno=os.dup(1))\ntry: s.send(b'!', socket.MSG_OOB)\n"
     "except OSError: os.write(1, b'refused')", "cat", "refused"),
    ("sends a descriptor", "import socket, os\ns = socket.socket(fileno=os.dup(1))\ntry: socket.send_fds(s, [b'!'], [2])\n"
     "except OSError: os.write(1, b'refused')", "cat", "refused"),
    ("closes and lives", "import os, signal\nos.close(1)\nos.close(2)\nif os.fork() == 0: signal.pause()", "wc -c", "0"),
]


def processes(word):
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            count += word.encode() in open("/proc/%s/cmdline" % pid, "rb").read()
        except OSError:
            pass
    return count


def greedy(place):
    """Limits hold, nothing is left, and the next one works."""
    program = "zpipe-wall-greedy-%d.py" % os.getpid()
    path = os.path.join(place.dir, program)
    for name, setting, text, wanted, words in GREEDY:
        with open(path, "w") as f:
            f.write(text + "\n")
        status, out, err = place.run(place.zpipe, "with %s { python3 %s }" % (setting, program))
        check("greedy: " + name, status == wanted and all(w in out + err for w in words), "status %d" % status, out, err)
    for name, text, reader, wanted in HOSTILE:
        with open(path, "w") as f:
            f.write(text + "\n")
        status, out, err = place.run(place.zpipe, "python3 %s | %s" % (program, reader))
        check("hostile: " + name, status == 0 and out.strip() == wanted, "status %d" % status, out, err)
    check("nothing is left of them", processes(program) == 0)
    os.unlink(path)


def fuzz(place, seconds, seed):
    """System calls at random, for so long, and at least once; then a sandbox works as before."""
    status, out, err = place.run(place.fuzz, "1", "1")
    check("at random, and no wall: nothing is called", status == 3, out)
    end, before, children = time.monotonic() + seconds, place.host(), 0
    while True:
        status, out, err = place.sandboxed("./fuzz", str(seed), "200",
                                           options=["--memory", "256MiB", "--with", "fuzz", "--with", "input.txt"])
        if status != 0 or not out.startswith("200 children"):
            check("at random, seed %d" % seed, False, "status %d" % status, out, err[-1000:])
            break
        children += 200
        if time.monotonic() > end:
            break
        seed += 1
    print("       %d children, the last seed was %d: %s" % (children, seed, out.strip()))
    place.check_host("the host after that", before)
    check("a sandbox after that", place.sandboxed("cat")[:2] == (0, "input\n"))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--probe", required=True)
    ap.add_argument("--refuse", required=True)
    ap.add_argument("--fuzz", required=True)
    ap.add_argument("--seconds", type=int, help="only system calls at random, for so long, from a seed of the day")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--user", type=int)
    a = ap.parse_args()
    if a.user and os.geteuid() != 0:
        print("only root can become another user")
        return SKIPPED
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="zpipe-wall-") as work:
        place = Place(a, work)
        if a.seconds:
            fuzz(place, a.seconds, a.seed if a.seed > 1 else int(time.time()))
            return 1 if failed else 0
        questions(place)
        fuzz(place, 0, a.seed)
        outputs(place)
        greedy(place)
        refusals(place)
        settings(place)
        lacking(place)
    print("%d failed" % len(failed))
    return 1 if failed else 0


sys.exit(main())
