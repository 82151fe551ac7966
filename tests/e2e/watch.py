"""Waiting for what can be seen of other processes, and others that are in the way."""
import contextlib, ctypes, glob, os, select, signal, subprocess, time

# How much longer may be waited for what hangs: where the machine is a program (make kernel) it is slow, and nowhere else.
SLOW = 25 if os.environ.get("MACHINE_ACCEL") == "tcg" else 1


def until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (seconds, what))
        select.select([], [], [], 0.01)


def processes_with(mark):
    """The set of pids whose command line holds the mark."""
    found = set()
    for d in glob.glob("/proc/[0-9]*"):
        try:
            if mark.encode() in open(d + "/cmdline", "rb").read():
                found.add(int(d[6:]))
        except OSError:
            pass
    return found - {os.getpid()}


def children(pid):
    found = []
    try:
        for t in os.listdir("/proc/%d/task" % pid):
            found += [int(c) for c in open("/proc/%d/task/%s/children" % (pid, t)).read().split()]
    except OSError:
        pass
    return found


def below(pid):
    found = children(pid)
    for p in found:  # which grows
        found += children(p)
    return found


def stopped(pid):
    """Programs below it that stand still (SIGSTOP), each with its sandbox's first process."""
    found = []
    for p in below(pid):
        try:
            with open("/proc/%d/stat" % p) as f:
                text = f.read()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        found += [(p, int(parent))] * (state == "T" and "(sh)" in text)
    return found


@contextlib.contextmanager
def busy(count, *how):
    """So many processes use the processors meanwhile.  They die with us, also where we are killed."""
    def with_us():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    started = [subprocess.Popen([*how, "sh", "-c", "while :; do :; done"], preexec_fn=with_us) for _ in range(count)]
    try:
        yield
    finally:
        for p in started:
            p.kill()
            p.wait()
