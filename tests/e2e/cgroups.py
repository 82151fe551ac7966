#!/usr/bin/env python3
"""Cgroups for tasks, where some are given away: what they hold, what is said of them, and that nothing of them is left.

    cgroups.py --bin DIR [--user UID]

It needs root, cgroups of version 2 with the controllers of memory and processes at the root, and no systemd, whose they would
be; `make kernel` has a machine like that."""
import argparse, json, os, signal, subprocess, sys, tempfile, time

SKIPPED = 77
ROOT = "/sys/fs/cgroup"
TIMEOUT = 600
cases = []


def case(f):
    cases.append(f)
    return f


def put(path, text):
    with open(path, "w") as f:
        f.write(text)


def get(path):
    with open(path) as f:
        return f.read().strip()


def wait_for(what, good):
    """Until it is so; what never is, fails the test."""
    end = time.monotonic() + TIMEOUT
    while not good():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Given:
    """A cgroup that belongs to the user, as a service manager would give it: the process that it starts is alone there."""

    count = 0

    def __init__(self, a):
        self.user, self.path = a.user, "%s/zpipe-test.%d.%d" % (ROOT, os.getpid(), Given.count)
        Given.count += 1
        os.mkdir(self.path)
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(os.path.join(self.path, name), a.user, a.user)

    def enter(self):
        leaf = self.path + "/zpipe" # once divided, nobody may be in it: who comes later starts in the leaf
        put((leaf if os.path.exists(leaf) else self.path) + "/cgroup.procs", str(os.getpid()))
        if self.user:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)

    def start(self, *argv, **more):
        return subprocess.Popen(argv, preexec_fn=self.enter, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, *argv, **more):
        p = self.start(*argv, stdin=subprocess.DEVNULL, **more)
        out, err = p.communicate(timeout=TIMEOUT)
        return p.returncode, out.decode(), err.decode()

    def dirs(self):
        """Of servers, in it."""
        return sorted(n for n in os.listdir(self.path) if n.startswith("zpipe-box."))

    def close(self):
        for root, dirs, _ in os.walk(self.path, topdown=False):
            os.rmdir(root)


def report(*argv):
    status, out, err = given.run(box, "--report", "report", *argv)
    with open("report") as f:
        return status, out, err, json.load(f)


def python(text):
    return ("--", "python3", "-c", text)


MIB = "x = bytearray(%d << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
FORKED = "import os\nfor n in range(%d):\n    if os.fork() == 0:\n        %s\n        os._exit(0)\nfor n in range(%d): os.wait()\nprint('done')"


@case
def the_report_names_the_cgroup_and_what_it_holds():
    status, out, err, r = report("--memory", "64MiB", "--procs", "8", "--cpu", "500s", "--", "sort", "/dev/null")
    assert status == 0 and r["certified"], (status, err, r)
    assert r["cgroup"]["path"].startswith(given.path[len(ROOT):] + "/zpipe-box."), r
    for name, by in (("memory", "memory.max"), ("procs", "pids.max"), ("cpu", "cpu.stat")):
        assert by in r["limits"][name]["by"], r


@case
def the_limits_stand_in_its_files_and_all_of_it_goes():
    p = given.start(box, "--memory", "64MiB", "--scratch", "16MiB", "--procs", "8", "--", "cat", stdin=subprocess.PIPE)
    wait_for("a cgroup", given.dirs)
    place = os.path.join(given.path, given.dirs()[0], "0")
    wait_for("its program", lambda: os.path.exists(place) and len(get(place + "/cgroup.procs").split()) == 2)
    assert int(get(place + "/memory.max")) == (64 + 16 + 64) << 20 and int(get(place + "/pids.max")) == 8 + 64
    assert get(place + "/memory.oom.group") == "1"
    p.stdin.close()
    assert p.wait(timeout=TIMEOUT) == 0
    assert not given.dirs()


@case
def a_tree_is_held_where_each_process_is_below_its_limit():
    """Six times 48 MiB: no process is above 64 MiB, all together are above it and the room of 64 + 16."""
    keep = "x = bytearray(48 << 20)\n        for i in range(0, len(x), 4096): x[i] = 1\n        import time; time.sleep(1)"
    one = FORKED % (1, keep, 1)
    six = FORKED % (6, keep.replace("import time; time.sleep(1)", "os.read(r, 1)"), 6)
    status, out, err, r = report("--memory", "64MiB", "--scratch", "16MiB", *python(one))
    assert (status, out) == (0, "done\n"), (status, err, r)
    status, out, err, r = report("--memory", "64MiB", "--scratch", "16MiB", *python("import os\nr, w = os.pipe()\n" + six))
    assert status == 125 and r["end"] == "failed" and not r["certified"], (status, out, err, r)
    assert "more memory than its cgroup has" in err and "more memory than its cgroup has" in r["message"], (err, r)


@case
def memory_that_no_process_owns_is_held_too():
    text = "import os\nf = os.memfd_create('x')\nfor i in range(400): os.write(f, bytes(1 << 20))\nprint('done')"
    status, out, err, r = report(*python(text))
    assert (status, out) == (0, "done\n"), (status, err)
    status, out, err, r = report("--memory", "64MiB", "--scratch", "16MiB", *python(text))
    assert status == 125 and "more memory than its cgroup has" in err, (status, out, err, r)


@case
def memory_of_whoever_gave_it_is_not_its_own():
    """The kernel kills for a limit above: nothing of the task's own was met."""
    put(given.path + "/memory.max", str(150 << 20))
    try:
        status, out, err, r = report("--memory", "1GiB", *python(MIB % 300 + "print('done')"))
    finally:
        put(given.path + "/memory.max", "max")
    assert status == 125 and "its cgroup has" not in err + r["message"], (status, out, err, r)


@case
def one_process_that_is_too_large_fails_as_everywhere():
    status, out, err, r = report("--memory", "64MiB", *python("x = bytearray(200 << 20)"))
    assert status == 124 and r["end"] == "limit" and r["limit"] == "memory", (status, err, r)


@case
def cpu_time_of_those_that_nobody_waited_for_counts():
    status, out, err, r = report("--cpu", "3s", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do "
                                 "(sh -c 'i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done' &); done; sleep 1000")
    assert status == 124 and r["limit"] == "cpu" and "cpu.stat" in r["limits"]["cpu"]["by"], (status, out, err, r)


@case
def the_most_memory_of_the_tree_is_told():
    status, out, err, r = report(*python(MIB % 64))
    most = r["cgroup"].get("memory_peak_bytes")
    if most is None:
        assert tuple(map(int, os.uname().release.split(".")[:2])) < (5, 19), r
        return
    assert most > 64 << 20, r


@case
def killed_supervisors_leave_an_empty_directory_which_the_next_removes():
    p = given.start(box, "--", "cat", stdin=subprocess.PIPE)
    wait_for("a cgroup", given.dirs)
    old = given.dirs()[0]
    place = os.path.join(given.path, old, "0")
    wait_for("its program", lambda: os.path.exists(place) and len(get(place + "/cgroup.procs").split()) == 2)
    for pid in get(given.path + "/zpipe/cgroup.procs").split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass # one that was killed before it has taken this one along
    p.wait()
    p.stdin.close()
    wait_for("the end of all", lambda: get(place + "/cgroup.procs") == "")
    assert given.dirs() == [old]
    status, out, err, r = report("--", "echo", "x")
    assert (status, out) == (0, "x\n") and r["cgroup"], (status, err, r)
    assert not given.dirs()


@case
def a_live_one_is_left_alone():
    p = given.start(box, "--", "cat", stdin=subprocess.PIPE)
    wait_for("a cgroup", given.dirs)
    (old,) = given.dirs()
    status, out, err, r = report("--", "echo", "x")
    assert status == 0 and r["cgroup"], (status, err, r)
    assert given.dirs() == [old]
    p.stdin.close()
    assert p.wait(timeout=TIMEOUT) == 0 and not given.dirs()


@case
def whoever_shares_its_cgroup_has_none_and_is_told():
    other = Given(args)
    try:
        p = subprocess.Popen(["sh", "-c", "\"$@\"; exit $?", "sh", box, "--report", "report", "--", "true"], preexec_fn=other.enter)
        assert p.wait(timeout=TIMEOUT) == 0
        r = json.load(open("report"))
        assert r["cgroup"] is None and r["cgroup_why"] == "others are in the cgroup of zpipe-box", r
    finally:
        other.close()


@case
def a_pipeline_of_many_tasks_uses_few_and_leaves_none():
    with open("lines", "w") as f:
        f.writelines("%d\n" % (i * 7919 % 1000003) for i in range(120000))
    p = given.start(zpipe, "--split", "always,16K", "grep 7 lines | sort -n | uniq | wc -l", stdin=subprocess.DEVNULL)
    most = 0
    while p.poll() is None:
        for d in given.dirs():
            try:
                most = max(most, sum(n.isdigit() for n in os.listdir(os.path.join(given.path, d))))
            except OSError:
                pass # it went
        time.sleep(0.05)
    out, err = p.communicate()
    want = subprocess.run("grep 7 lines | sort -n | uniq | wc -l", shell=True, capture_output=True).stdout
    assert p.returncode == 0 and out == want, (p.returncode, out, err, want)
    assert 0 < most <= 100, most
    assert not given.dirs()


def main():
    global args, box, zpipe, given
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--user", type=int, default=0)
    args = p.parse_args()
    box, zpipe = (os.path.join(os.path.abspath(args.bin), n) for n in ("zpipe-box", "zpipe"))
    try:
        there = get(ROOT + "/cgroup.controllers").split()
        assert os.geteuid() == 0 and {"memory", "pids"} <= set(there) and not os.path.exists("/run/systemd/system")
        put(ROOT + "/cgroup.subtree_control", "+memory +pids")
    except (OSError, AssertionError):
        print("no cgroups of version 2 can be given away here")
        sys.exit(SKIPPED)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="zpipe-cgroups-") as work:
        os.chdir(work)
        os.chmod(work, 0o777)
        for f in cases:
            given = Given(args)
            try:
                f()
                print("ok     %s" % f.__name__, flush=True)
            except Exception as e: # of the case; the next one is another
                failed += 1
                print("FAIL   %s: %r" % (f.__name__, e), flush=True)
            finally:
                try:
                    given.close()
                except OSError as e:
                    failed += 1
                    print("FAIL   %s leaves something: %s" % (f.__name__, e), flush=True)
        os.chdir("/")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
