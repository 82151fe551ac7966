#!/usr/bin/env python3
"""Memory of workers: what stages declare fits beside what runs there, or waits.   room.py --bin DIR [CASE...]"""
import os, re, signal, subprocess, sys, time

import daemons
from daemons import Cluster, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
GIB = 1 << 30


def rows(c):
    """What status says of each worker: GiB taken, GiB that it gives."""
    said = re.findall(r"^worker (\S+)  \d+ of \d+ slots taken, (\S+) of (\S+) GiB of memory", c.run("status").stdout.decode(), re.M)
    return {name: (float(used), float(all)) for name, used, all in said}


def taken(c):
    return {name: used for name, (used, _) in rows(c).items()}


def add_worker(c, name, *options, slots=4):
    c.workers.append(c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", str(slots), "--name", name, "--image", "tests", *options)[0])
    until(name + " has joined", lambda: name in rows(c))
    return c.workers[-1]


def begin(c, *words):
    """A job that runs until its stdin ends."""
    return subprocess.Popen([zpipe, *words], env=c.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(p, want=b"x\n"):
    out, err = p.communicate(want)
    assert (p.returncode, out) == (0, want), (p.returncode, out, err)


def at_work(word):
    """How many programs with this word run."""
    count = 0
    for pid in os.listdir("/proc"):
        try:
            count += pid.isdigit() and b"\0%s\0" % word.encode() in open("/proc/%s/cmdline" % pid, "rb").read()
        except OSError:
            pass
    return count


@case
def what_does_not_fit_goes_elsewhere_or_waits():
    with Cluster(workers=0) as c:
        add_worker(c, "small", "--memory", "1G")
        large = add_worker(c, "large", "--memory", "3G", slots=2)
        assert rows(c) == {"small": (0, 1), "large": (0, 3)}, rows(c)
        first = begin(c, "with memory=2G { sh -c cat }")
        until("it runs", lambda: taken(c) == {"small": 0, "large": 2})
        second = begin(c, "with memory=1536M { sh -c cat }")
        until("the second waits", lambda: c.run("status").stdout.count(b"job ") == 2)
        little = begin(c, "with memory=512M { sh -c cat } | sh -c cat")
        until("a little one does not", lambda: taken(c) == {"small": 0.5, "large": 2})
        end(begin(c, "sh -c cat"))  # nor does what declares nothing
        assert b"  waits  " in c.run("status").stdout
        end(first)
        until("the second runs", lambda: taken(c) == {"small": 0.5, "large": 1.5})
        end(second)
        end(little)
        until("all is given back", lambda: taken(c) == {"small": 0, "large": 0})
        cancelled = begin(c, "with memory=2G { sh -c cat }")
        until("it runs", lambda: taken(c)["large"] == 2)
        cancelled.send_signal(signal.SIGINT)
        cancelled.communicate()
        until("it is given back", lambda: taken(c)["large"] == 0)
        lost = begin(c, "with memory=2G { sh -c cat }")
        until("it runs", lambda: taken(c)["large"] == 2)
        large.kill()
        add_worker(c, "other", "--memory", "2G")
        until("it runs elsewhere", lambda: taken(c) == {"small": 0, "other": 2})
        end(lost)


@case
def what_no_worker_has_is_told():
    with Cluster(workers=0) as c:
        add_worker(c, "w0", "--memory", "1G")
        add_worker(c, "w1", "--memory", "1536M")
        late = begin(c, "with memory=8G { sh -c cat }")  # the scheduler was started just now: a larger one may come
        w2 = add_worker(c, "w2", "--memory", "8G")
        end(late)
        w2.terminate()
        w2.wait()
        until("it has left", lambda: "w2" not in rows(c))
        c.run("with memory=8G { sort }", stdin=subprocess.DEVNULL)  # it is told when the scheduler's first 10 s are over, and
        began = time.monotonic()
        r = c.run("with memory=8G { sort }", stdin=subprocess.DEVNULL)
        assert time.monotonic() - began < 5, "it was not told at once"
        assert r.returncode == 125 and r.stderr == (b"zpipe: `sort` needs 8 GiB of memory, and the largest worker, 'w1', gives 1.5 GiB: declare less with "
                                                    b"`memory=`, or start a worker with a larger --memory\n"), r
        r = c.run("--with", "memory=1G", "sh -c cat | sh -c sort", stdin=subprocess.DEVNULL)
        assert r.returncode == 125 and b"the job's stages need 2 GiB of memory together, `sh -c cat` alone 1 GiB, and the largest worker, 'w1'," in r.stderr, r
    r = subprocess.run([zpipe, "worker", "--keys", "keys", "--scheduler", "tcp://127.0.0.1:9", "--memory", "8"], capture_output=True, timeout=60)
    assert r.returncode == 125 and b"--memory wants a size with its unit" in r.stderr, r


@case
def no_more_runs_at_once_than_there_is_memory_for():
    """Of tasks that need 1 GiB each, two workers of four slots have room for five."""
    for i in range(16):
        open("in%02d" % i, "w").write("%d\n" % i)
    text = "".join("%d\n" % i for i in range(16)).encode()
    with Cluster(workers=0) as c:
        add_worker(c, "w0", "--memory", "3584M", "--templates", "never")
        add_worker(c, "w1", "--memory", "2G", "--templates", "never")
        p = begin(c, "cat in* | map per file with memory=1G { sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; exec cat $1' a-task-of-room {} }")
        most, over = 0, 0
        while p.poll() is None:
            most = max(most, at_work("a-task-of-room"))
            over = max(over, *(used - all for used, all in rows(c).values()))
        assert (p.returncode, p.stdout.read()) == (0, text), p.stderr.read()
        assert 3 <= most <= 5, most
        assert over <= 0, over
        until("all is given back", lambda: set(taken(c).values()) == {0})


@case
def what_runs_is_counted_again_by_the_next_scheduler():
    with Cluster(workers=0) as c:
        add_worker(c, "w0", "--memory", "3G")
        first = begin(c, "with memory=2G { sh -c cat }")
        until("it runs", lambda: taken(c) == {"w0": 2} and b"  runs  " in c.run("status").stdout)
        c.scheduler.kill()
        c.scheduler.wait()
        c.start_scheduler(c.url)
        until("it goes on", lambda: taken(c) == {"w0": 2}, 60)
        second = begin(c, "with memory=2G { sh -c cat }")
        until("the second waits", lambda: b"  waits  " in c.run("status").stdout)
        assert taken(c) == {"w0": 2}, rows(c)
        end(first)
        end(second)
        until("all is given back", lambda: taken(c) == {"w0": 0})


@case
def in_one_process_nothing_is_refused():
    text = "".join("%d\n" % i for i in range(16)).encode()
    for words in (["with memory=64T { sh -c cat } | sh -c cat"], ["-j", "3", "map with block=1 memory=64T { cat }"]):
        r = subprocess.run([zpipe, *words], input=text, capture_output=True, timeout=60)
        assert (r.returncode, r.stdout) == (0, text), r


run_cases(args, failed_too=tell_logs)
