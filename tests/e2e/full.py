#!/usr/bin/env python3
"""Full disks: each is told with where it is and what to do, nothing half-written is left, and the daemons go on.

    full.py --bin DIR [CASE...]

The disks are small tmpfs of a mount namespace of our own, so that none outlives us."""
import contextlib, os, subprocess, sys

if "--inside" not in sys.argv:
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        print("skipped: a mount namespace is not permitted here")
        sys.exit(77)
    os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv, "--inside"])

import daemons
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

arguments.add_argument("--inside", action="store_true")
args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
DATA = lines(200000)  # 4.6 MB


@contextlib.contextmanager
def disk(name, size):
    """Its whole path."""
    os.mkdir(name)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", name], capture_output=True)
    if r.returncode:
        print("skipped: no tmpfs can be mounted here:", r.stderr.decode().strip())
        sys.exit(77)
    try:
        yield os.path.realpath(name)
    finally:
        subprocess.run(["umount", "-l", name], check=True)


def fill(name):
    with open(name, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


# Where bytes stay at a worker: inputs that are fetched, what is cut, what is kept of tasks, merges, files that tasks make.
AT_WORKER = [
    ("sort in.txt | wc -l", "sort in.txt | wc -l"),
    ("cat in.txt | sort | wc -l", "cat in.txt | sort | wc -l"),
    ("cat in.txt | reduce by 1 into 4 { wc -l } | wc -l", "echo 4"),
    ("seq 9 | map { sh -c 'cat; head -c 3000000 /dev/zero' } | wc -c", "echo 3000018"),
    ("seq 9 | map { sh -c 'cat; head -c 3000000 /dev/zero >&2' 2>&1 } | wc -c", "echo 3000018"),
    ("seq 9 | map { cat } merge { sh -c 'cat; head -c 3000000 /dev/zero; true' } | wc -c", "echo 3000018"),
    ("seq 9 | reduce by 1 into 1 { sh -c 'cat; head -c 3000000 /dev/zero; true' > out-{#} }", "true"),
]


@case
def at_a_worker():
    """The job fails and says so; where another worker has room, it runs there."""
    open("in.txt", "wb").write(DATA)
    with disk("small", "1m") as store, Cluster(workers=0, worker_wait="2s") as c:
        c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "2", "--name", "w0", "--store", store)
        for text, _ in AT_WORKER:
            r = c.run("--split", "always,64K", text)
            said = r.stderr.decode()
            assert (r.returncode, r.stdout.strip()) in ((125, b""), (125, b"0")) and "No space left" in said, (text, r)
            assert store in said and "--store" in said and "worker 'w0'" in said, (text, said)
            assert not os.path.exists("out-1"), text
            r = c.run("echo well")
            assert (r.returncode, r.stdout, r.stderr) == (0, b"well\n", b""), r
        c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "2", "--name", "w1")
        # The second again and again: it tries the full disk in each job, and that a loan was given back may be known from the scheduler first.
        for text, same in AT_WORKER + AT_WORKER[1:2] * 12:
            r = c.run("--split", "always,64K", text)
            assert (r.returncode, r.stdout) == (0, reference(same)), (text, r)
        assert os.path.getsize("out-1") == 3000018


@case
def small_inputs_at_a_worker():
    """They need no file there: nor do they take long where the file system is slow to make them."""
    for i in range(300):
        with open("in-%d.log" % i, "w") as f:
            f.write("%d x\n" % i)
    with disk("small", "1m,nr_inodes=64") as store, Cluster(workers=0, worker_wait="2s") as c:
        c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "2", "--name", "w0", "--store", store)
        text = "grep -h x in-*.log | md5sum"
        r = c.run(text)
        assert (r.returncode, r.stdout, r.stderr) == (0, reference(text), b""), r


@case
def at_the_client():
    """Its files: none is put in place, and one that is added to is as it was."""
    open("in.txt", "wb").write(DATA)
    with disk("small", "1m") as where, Cluster(workers=1) as c:
        open("small/app.txt", "w").write("was\n")
        for text in ("sort in.txt > small/out.txt", "sort in.txt | tee small/out.txt | wc -l", "sort in.txt >> small/app.txt"):
            for env in (c.env, {**os.environ, "ZPIPE_CLUSTER": ""}):
                r = subprocess.run([zpipe, text], env=env, capture_output=True, timeout=90)
                said = r.stderr.decode()
                assert r.returncode == 125 and "No space left" in said and "small/" in said, (text, r)
                assert os.listdir("small") == ["app.txt"] and open("small/app.txt").read() == "was\n", (text, os.listdir(where))
        # No copy of its stdin can be kept, which only matters to a job that begins anew.
        r = c.run("--store", where, "sort | wc -l", input=DATA)
        assert (r.returncode, r.stdout) == (0, b"200000\n"), r


@case
def at_a_keeper():
    """What does not fit is refused or fails; jobs that are there end and can be taken, and then there is room again."""
    with disk("keep", "6m") as state, Cluster(workers=1) as c:
        c.start_keeper()
        r = c.run("submit", "wc -l", input=DATA * 2)
        assert r.returncode == 125 and "No space left" in r.stderr.decode() and state in r.stderr.decode(), r
        jobs = [c.run("submit", "head -c 9000000 /dev/zero; echo here >&2").stdout.decode().strip()]
        until("it has ended", lambda: "ended with" in c.run("status", jobs[0]).stdout.decode(), 90)
        fill("keep/fill")
        r = c.run("submit", "echo well")
        assert r.returncode == 125 and "no room" in r.stderr.decode() and state in r.stderr.decode(), r
        r = c.run("attach", jobs[0])
        assert r.returncode == 125 and "No space left" in r.stderr.decode() and state in r.stderr.decode(), r
        assert c.run("cancel", jobs[0]).returncode == 0
        os.unlink("keep/fill")
        r = c.run("submit", "echo well")
        assert r.returncode == 0, r
        r = c.run("attach", r.stdout.decode().strip())
        assert (r.returncode, r.stdout) == (0, b"well\n"), r
        assert c.keeper.poll() is None


# Takes what room there is at once, again and again.
THIEF = """
import sys
told = False
with open(sys.argv[1], "wb", buffering=0) as f:
    while True:
        try:
            f.write(b"x" * 4096)
        except OSError:
            told = told or not print("full", flush=True)
"""


@case
def beside_a_thief():
    """Another process takes all room on a keeper's disk, as soon as there is any: jobs end all the same, and can be taken."""
    with disk("keep", "6m"), Cluster(workers=0) as c:
        c.start_keeper()
        jobs = [c.run("submit", text).stdout.decode().strip() for text in ("true", "echo well", "false")]
        thief = subprocess.Popen(["nice", sys.executable, "-c", THIEF, "keep/fill"], stdout=subprocess.PIPE)
        try:
            thief.stdout.readline()
            c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "1", "--name", "w0")
            for job, status in zip(jobs, (0, 125, 1)):
                until("it has ended", lambda: "ended with status %d" % status in c.run("status", job).stdout.decode(), 20)
                assert c.run("attach", job).returncode == status, job
        finally:
            thief.kill()
            thief.wait()
        assert c.keeper.poll() is None


@case
def without_a_reserve():
    """A keeper that begins on a full disk has no room for an end: the job waits for that, and not longer."""
    with disk("keep", "6m"), Cluster(workers=0) as c:
        c.start_keeper()
        job = c.run("submit", "true").stdout.decode().strip()
        c.keeper.terminate()
        c.keeper.wait()
        os.unlink("keep/journal-wal")
        fill("keep/fill")
        c.start_keeper()
        c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "1", "--name", "w0")
        until("it waits", lambda: "waits for room" in c.run("status", job).stdout.decode(), 90)
        r = c.run("cancel", job)
        assert r.returncode == 125 and "no room" in r.stderr.decode(), r
        os.unlink("keep/fill")
        until("it has ended", lambda: "ended with status 0" in c.run("status", job).stdout.decode(), 90)
        assert c.run("attach", job).returncode == 0
        assert c.keeper.poll() is None


@case
def where_nothing_can_be_written():
    """A keeper's directory on a disk that was mounted read-only, as one that failed is: it says so, and has all its jobs when that is over."""
    with disk("keep", "6m") as state, Cluster(workers=1) as c:
        c.start_keeper()
        job = c.run("submit", "echo well").stdout.decode().strip()
        until("it has ended", lambda: "ended with" in c.run("status", job).stdout.decode(), 90)
        c.keeper.terminate()
        c.keeper.wait()
        subprocess.run(["mount", "-o", "remount,ro", state], check=True)
        r = subprocess.run([zpipe, "keeper", "--keys", "keys", "--scheduler", c.url, "--state", "keep"], capture_output=True, timeout=60)
        assert r.returncode == 125 and "Read-only file system" in r.stderr.decode() and state in r.stderr.decode(), r
        subprocess.run(["mount", "-o", "remount,rw", state], check=True)
        c.start_keeper()
        r = c.run("attach", job)
        assert (r.returncode, r.stdout) == (0, b"well\n"), r


@case
def at_a_scheduler():
    """It does not start, and leaves nothing; where it runs, it needs no room."""
    with disk("state", "64k") as where:
        fill("state/fill")
        subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True, capture_output=True)
        r = subprocess.run([zpipe, "scheduler", "--keys", "keys", "--listen", "tcp://127.0.0.1:*", "--state", where], capture_output=True, timeout=60)
        assert r.returncode == 125 and "No space left" in r.stderr.decode() and where in r.stderr.decode(), r
        assert os.listdir("state") == ["fill"], os.listdir("state")
        os.unlink("state/fill")
        with Cluster(workers=1) as c:
            fill("state/fill")
            r = c.run("seq 9 | sort -r | head -n 1")
            assert (r.returncode, r.stdout) == (0, b"9\n"), r


run_cases(args, failed_too=tell_logs)
