#!/usr/bin/env python3
"""Hosts whose clocks are apart, and are set while jobs run: nothing is lost, done otherwise, forgotten or kept too long for it.

    clocks.py --bin DIR [CASE...]

tests/lib/clock.c is what is wrong with a host's clock."""
import os, signal, subprocess, sys, time

import daemons
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import below, children, until  # noqa: E402

args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
HOUR, DAY = 3600, 24 * 3600
PIPELINE = "cat | sh -c 'tr a-z A-Z' | sort | uniq -c"
TICKS = 2.5  # seconds in which a keeper has looked for jobs to forget


class Hosts(Cluster):
    """Each with a clock of its own, a file of that name."""

    def __init__(self, workers=2, state=True, **apart):
        self.state_is_kept = state
        for host in ("scheduler", "w0", "w1", "keeper", "client"):
            set_clock(host, apart.get(host, 0))
        super().__init__(workers=0, slots=4)
        for i in range(workers):
            self.start_worker("w%d" % i)
        self.start_keeper()

    def start_worker(self, name):
        self.workers.append(self.start("worker", "--keys", self.keys, "--scheduler", self.url, "--slots", "4", "--name", name, "--image", "tests",
                                       env=host_env(name))[0])

    def start_scheduler(self, url):
        kept = ("--state", "state") if self.state_is_kept else ()
        self.scheduler, self.url = self.start("scheduler", "-v", "--keys", self.keys, "--listen", url, *kept, *self.waits, env=host_env("scheduler"))

    def start_keeper(self):
        super().start_keeper(env=host_env("keeper"))

    def zpipe(self, *argv, **kw):
        return subprocess.run([zpipe, *argv], env={**self.env, **host_env("client")}, capture_output=True, timeout=90, **kw)

    def submit(self, text, data=b""):
        r = self.zpipe("submit", text, input=data)
        assert r.returncode == 0 and r.stdout.strip().isdigit(), r
        return r.stdout.decode().strip()

    def state(self, job):
        r = self.zpipe("status", job)
        return r.stdout.decode().split("  ")[1] if r.returncode == 0 else r.stderr.decode()

    def until_over(self, job):
        until("job %s is over" % job, lambda: self.state(job).startswith("ended"), 60)

    def attach(self, job):
        r = self.zpipe("attach", job)
        return r.returncode, r.stdout, r.stderr

    def kill(self, p):
        p.kill()
        p.wait()

    def new_keeper(self):
        self.kill(self.keeper)
        self.start_keeper()


def host_env(host):
    """As on that host.  What looks for leaks, or the like, is to be first otherwise."""
    return {**os.environ, "LD_PRELOAD": os.path.join(os.path.dirname(zpipe), "libclock.so"), "HOST_CLOCK": os.path.abspath("clock." + host),
            "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}


def programs(pid):
    """Those of tasks below it."""
    found = []
    for p in below(pid):
        try:
            with open("/proc/%d/cmdline" % p, "rb") as f:
                found += [p] * f.read().startswith(b"sh\0-c\0")
        except OSError:
            pass
    return found


def set_clock(host, seconds, booted=0, monotonic=0):
    with open("clock.new", "w") as f:
        f.write("%s %d %d\n" % (seconds, booted, monotonic))
    os.rename("clock.new", "clock." + host)


def clock_of(host):
    return float(subprocess.run([sys.executable, "-c", "import time; print(time.time())"], env=host_env(host), check=True, stdout=subprocess.PIPE).stdout)


@case
def the_clocks_are_wrong():
    """What the other cases stand on."""
    for host, seconds in (("a", 5 * DAY), ("b", -HOUR), ("c", "=1000")):
        set_clock(host, seconds)
        seen = clock_of(host)
        assert seen == 1000 if host == "c" else abs(seen - time.time() - seconds) < 60, (host, seen)


@case
def a_job_goes_on():
    """A worker is killed, the scheduler is, while one clock is an hour ahead, one a year behind, and all of them jump."""
    data = lines(200000)
    for victim in ("worker", "scheduler", None):
        with Hosts(scheduler=HOUR, w0=-365 * DAY, keeper=DAY, client=-HOUR) as c:
            p = subprocess.Popen([zpipe, "--placement", "spread", PIPELINE], env={**c.env, **host_env("client")}, stdin=subprocess.PIPE,
                                 stdout=open("out", "wb"), stderr=open("err", "wb"))
            p.stdin.write(data[:len(data) // 2])
            p.stdin.flush()
            until("it runs", lambda: b"  runs  " in c.zpipe("status").stdout)
            for host, seconds in (("scheduler", -30 * DAY), ("w0", HOUR), ("w1", -HOUR), ("client", 30 * DAY)):
                set_clock(host, seconds)
            time.sleep(4)  # longer than any of them may be silent, by the clock that is not set
            if victim == "worker":
                c.kill(c.at_work())
            elif victim:
                c.kill(c.scheduler)
                c.start_scheduler(c.url)
            p.stdin.write(data[len(data) // 2:])
            p.stdin.close()
            assert p.wait(timeout=60) == 0, open("err").read()
            assert open("out", "rb").read() == reference(PIPELINE, data), victim
            log = open("daemons.log").read()
            assert ("attempt=2" in log) == (victim == "worker") and "longer than its lease" not in log, log[-2000:]
        os.unlink("daemons.log")


@case
def limits_of_time_are_of_time():
    """Not of a clock that jumps."""
    with Hosts() as c:
        p = subprocess.Popen([zpipe, "with timeout=30s sh -c 'cat; echo well'"], env={**c.env, **host_env("client")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until("it runs", lambda: b"  runs  " in c.zpipe("status").stdout)
        for host in ("scheduler", "w0", "w1", "client"):
            set_clock(host, HOUR)
        assert c.zpipe("with timeout=300ms sh -c 'while :; do :; done'").returncode == 124
        for host in ("scheduler", "w0", "w1", "client"):
            set_clock(host, -HOUR)
        assert c.zpipe("with timeout=300ms sh -c 'while :; do :; done'").returncode == 124
        out, _ = p.communicate(b"all ")
        assert (p.returncode, out) == (0, b"all well\n"), (p.returncode, out)


@case
def a_submitted_job_goes_on():
    """Everybody is killed once, and finds another time when he is back."""
    open("in.txt", "wb").write(lines(100000))
    with Hosts(workers=1, keeper=HOUR, client=-DAY) as c:
        job = c.submit("cat in.txt | sort | sh -c 'cat; while ! test -e /dev/null/none; do :; done'")
        short = c.submit("sort in.txt | tail -1")
        until("it runs", lambda: c.state(job).startswith("runs"))
        c.until_over(short)
        for host, seconds in (("keeper", -DAY), ("scheduler", -HOUR), ("w0", 400 * DAY)):
            set_clock(host, seconds)
        c.new_keeper()
        c.kill(c.scheduler)
        c.start_scheduler(c.url)
        c.kill(c.workers[0])
        c.start_worker("w1")
        until("it runs again", lambda: c.state(job).startswith("runs"), 60)
        assert c.attach(short) == (0, reference("sort in.txt | tail -1"), b"")
        assert c.zpipe("cancel", job).returncode == 0
        c.until_over(job)
        status, out, said = c.attach(job)
        assert status == 125 and b"cancelled" in said and reference("sort in.txt").startswith(out), (status, said)


@case
def what_ended_is_forgotten_after_a_week_and_not_before():
    """A host that was booted in 1970 sets its clock, or one is a month ahead, with its keeper there or not.  A week that passed is one."""
    with Hosts(keeper=-int(time.time()) + 1000) as c:
        jobs = [c.submit("echo %d" % i) for i in range(3)]
        for job in jobs:
            c.until_over(job)

        def all_are_there(how):
            time.sleep(TICKS)
            for i, job in enumerate(jobs):
                assert c.state(job) == "ended with status 0", (how, job, c.state(job))
        set_clock("keeper", 0)
        all_are_there("the clock was set")
        c.new_keeper()
        all_are_there("the clock was set, and the keeper is another")
        set_clock("keeper", 30 * DAY)
        c.new_keeper()
        all_are_there("a month ahead")
        jobs.append(c.submit("echo 3"))
        c.until_over(jobs[-1])
        set_clock("keeper", -HOUR)
        c.new_keeper()
        all_are_there("an hour behind")
        for i, job in enumerate(jobs[1:], 1):
            assert c.attach(job) == (0, b"%d\n" % i, b"")
        set_clock("keeper", 0, 8 * DAY)  # by the time since the machine's start
        until("they are forgotten", lambda: all("of yours" in c.state(job) for job in jobs))
        until("nothing is left", lambda: os.listdir("keep/jobs") == [])


@case
def a_first_run_that_stands_still_is_not_waited_for_long():
    """No other run has ended, so nobody knows how long one takes; after a minute a worker that has nothing else to do tries it, too."""
    text = "cat | map { sh -c 'cat; i=0; while test $i -lt 300000; do i=$((i + 1)); done; echo well' }"
    with Hosts() as c:
        until("both have joined", lambda: c.zpipe("status").stdout.count(b"worker ") == 2)
        p = subprocess.Popen([zpipe, text], env={**c.env, **host_env("client")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(b"a line\n")
        p.stdin.close()
        p.stdin = None
        until("it runs", lambda: any(programs(w.pid) for w in c.workers), 60)
        owner = next(i for i, w in enumerate(c.workers) if programs(w.pid))
        for program in programs(c.workers[owner].pid):
            os.kill(program, signal.SIGSTOP)
        set_clock("w%d" % owner, 0, 0, 61)
        assert p.communicate(timeout=60)[0] == b"a line\nwell\n" and p.returncode == 0, p.returncode
        assert not programs(c.workers[1 - owner].pid)


@case
def a_worker_whose_sandboxes_stand_still_gets_others():
    """Its zpipe-box was stopped: what streams there, and a stage that waits to be put together there, begin again after a minute.  One that has
    nothing to do, or to say, does not stand still."""
    with Hosts(workers=1) as c:
        p = subprocess.Popen([zpipe, "sh -c 'sleep 8; echo well'"], env={**c.env, **host_env("client")}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for minute in range(1, 9):
            set_clock("w0", 0, 0, 60 * minute)
            time.sleep(1)
        assert p.communicate(timeout=60)[0] == b"well\n" and "box_lost" not in open("daemons.log").read()
    for text, want in ("cat | sh -c cat | wc -l", b"100\n"), ("cat | map { sh -c 'head -2; cat >/dev/null; sleep 1' } | cat", b"a line\na line\n"):
        with Hosts() as c:
            until("both have joined", lambda: c.zpipe("status").stdout.count(b"worker ") == 2)
            p = subprocess.Popen([zpipe, text], env={**c.env, **host_env("client")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            p.stdin.write(100 * b"a line\n")
            p.stdin.flush()
            until("it runs", lambda: b"  runs  " in c.zpipe("status").stdout)
            w = c.at_work()
            for box in children(w.pid):
                os.kill(box, signal.SIGSTOP)
            for minute in range(1, 30):  # there each second is one
                set_clock("w%d" % c.workers.index(w), 0, 0, 60 * minute)
                try:
                    out = p.communicate(timeout=1)[0]
                    break
                except subprocess.TimeoutExpired:
                    out = b"none"
            assert (out, p.returncode) == (want, 0), (out, p.returncode)
            assert 'box_lost why="zpipe-box has ended unexpectedly"' in open("daemons.log").read()
        os.unlink("daemons.log")


@case
def two_lives_in_one_second():
    """Of a scheduler that holds nothing: its jobs are none of those that it, or another, gave a keeper before."""
    with Hosts(workers=1, state=False, scheduler="=1700000000") as c:
        first = c.submit("echo first")
        c.until_over(first)
        c.kill(c.scheduler)
        c.start_scheduler(c.url)
        until("the keeper is back", lambda: c.state(first).startswith("ended"))
        second = c.submit("echo second")
        assert c.attach(second) == (0, b"second\n", b"") and c.attach(first) == (0, b"first\n", b"")


run_cases(args, failed_too=tell_logs)
