#!/usr/bin/env python3
"""Memory that runs out: allocation 1, 2, 3, ... fails, in each program of ours, until a run needs no more of them.
Every run ends with the right outputs or with a sentence and none of them; nothing of it is left; the daemons around it live.

    memory.py --bin DIR --faulty DIR [--step N] [CASE...]      --step: only every nth allocation

The programs in --faulty are tests/fault/faulty.c's.  Sanitizers find what leaks on the way."""
import argparse, os, shutil, signal, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--faulty", required=True)
ap.add_argument("--step", type=int, default=1)
ap.add_argument("--first", type=int, default=1)
ap.add_argument("case", nargs="*")
args = ap.parse_args()
zpipe, faulty = (os.path.join(os.path.abspath(d), "zpipe") for d in (args.bin, args.faulty))
TEXT = "cat <<E | cat - w.txt | tee o1 | sort > o2\nx\nE"
WANT = {"o1": "x\nb\na\n", "o2": "a\nb\nx\n"}
PLACES_MAX = 5000
LONG = 120  # seconds for a run
cases = []


def case(f):
    cases.append(f)
    return f


class Wrong(Exception):
    pass


def env_of(name, n, **more):
    return {**os.environ, name: str(n), "ZPIPE_FAULT_NOTE": os.path.abspath("note"), "TMPDIR": os.path.abspath("tmp"), **more}


def outputs():
    return {n: open(n).read() for n in WANT if os.path.exists(n)}


def clean():
    for n in (*WANT, "note", "keys2"):
        if os.path.isdir(n):
            for f in os.listdir(n):
                os.remove(os.path.join(n, f))
            os.rmdir(n)
        elif os.path.exists(n):
            os.remove(n)


def ended(n, p, want, status=0):
    """That a run ended as it may, and whether an allocation failed in it."""
    hit = os.path.exists("note")
    where = " ".join(l.rpartition("(")[2].partition(")")[0] for l in open("note")) if hit else ""
    words = p.stderr.decode(errors="replace").strip().split("\n")
    good = p.returncode == status and (not want or outputs() == want) or hit and p.returncode == 125 and not outputs() and \
        any("memory" in w for w in words)
    if not good or b"Sanitizer" in p.stderr:
        raise Wrong("allocation %d: status %d, files %s, %s\n    at %s" % (n, p.returncode, outputs(), words[:40], where))
    if os.listdir("tmp"):
        raise Wrong("allocation %d left %s" % (n, os.listdir("tmp")))
    return hit


def every(name, argv, want=None, status=0, **more):
    """How many allocations were made to fail."""
    for n in range(args.first, PLACES_MAX, args.step):
        clean()
        p = subprocess.run([faulty, *argv], env=env_of(name, n, **more), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, timeout=LONG)
        if not ended(n, p, want, status):
            return n - 1
    raise Wrong("no end after %d" % PLACES_MAX)


@case
def a_job():
    return every("ZPIPE_FAULT", [TEXT], WANT)


@case
def a_job_in_the_box():
    return every("ZPIPE_FAULT_BOX", [TEXT], WANT)


@case
def a_reduce():
    return every("ZPIPE_FAULT", ["cat <<E | cat - w.txt | reduce by line into 1 { cat } | tee o1 | sort > o2\nx\nE"], WANT)


@case
def a_task_that_fails_and_is_kept():
    """Its status, with its record or without; and the record, again."""
    text = "cat w.txt | map { sh -c 'cat; exit 3' }"
    count = every("ZPIPE_FAULT", ["--record", "kept", text], status=3)
    subprocess.run([zpipe, "--record", "kept", text], capture_output=True)
    return count + every("ZPIPE_FAULT", ["replay", "kept/" + os.listdir("kept")[0]])


@case
def a_plan():
    text = "cat w.txt *.txt | map { grep -v \"$X\" } | reduce by 1 into 4 { uniq -c } | comm <(sort w.txt) - > o1"
    return every("ZPIPE_FAULT", ["plan", "--json", text, "X=1"])


@case
def a_job_file():
    return every("ZPIPE_FAULT", ["run", "job.zp"], WANT)


@case
def keys():
    return every("ZPIPE_FAULT", ["keygen", "--dir", "keys2"])


class Daemon:
    def __init__(self, program, *argv, env=None):
        self.p = subprocess.Popen([program, *argv], env=env, stdout=subprocess.PIPE, stderr=open("daemons.log", "ab"))
        words = self.p.stdout.readline().decode().split()
        self.url = words[1] if words else None

    def stop(self):
        """Its status: 0 when it was told to end and did."""
        self.p.terminate()
        status = self.p.wait(timeout=60)
        self.p.stdout.close()
        return status


def scheduler(program=zpipe, env=None):
    return Daemon(program, "scheduler", "--keys", "keys", "--listen", "tcp://127.0.0.1:*", "--state", "state", "--worker-wait", "2s", env=env)


def worker(url, program=zpipe, env=None):
    return Daemon(program, "worker", "--keys", "keys", "--scheduler", url, "--slots", "8", "--image", "tests", env=env)


PATIENCE = 3  # seconds that a client is left alone whose scheduler is gone: it would wait a minute for another


def cluster_job(s):
    """The client's end, as subprocess.run has it; one that waits for a scheduler that is gone is interrupted."""
    p = subprocess.Popen([zpipe, "--cluster", s.url, "--keys", "keys", TEXT], stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end, gone = time.monotonic() + LONG, None
    while True:
        try:
            err = p.communicate(timeout=0.05)[1]
            return subprocess.CompletedProcess(p.args, p.returncode, None, err)
        except subprocess.TimeoutExpired:
            if s.p.poll() is not None and gone is None:
                gone = time.monotonic() + PATIENCE
            if gone and time.monotonic() > gone:
                p.send_signal(signal.SIGINT)
                gone = float("inf")
            if time.monotonic() > end:
                p.kill()
                p.communicate()
                raise


@case
def a_client_of_a_cluster():
    s = scheduler()
    w = worker(s.url)
    try:
        count = every("ZPIPE_FAULT", ["--cluster", s.url, "--keys", "keys", TEXT], WANT)
    finally:
        statuses = w.stop(), s.stop()
    if statuses != (0, 0):
        raise Wrong("the daemons ended with %s" % (statuses,))
    return count


def daemons_without_memory(start):
    """start(env) gives a scheduler and a worker, of which one has the environment.  That one ends with a sentence, or it
    lives and the next job is as ever; the other one lives in any case.  Most take the time in which a scheduler waits for
    another worker, so fewer are tried, unless it is each."""
    for n in range(args.first, PLACES_MAX, args.step if args.step == 1 else 4 * args.step):
        clean()
        open("daemons.log", "w").close()
        env = env_of("ZPIPE_FAULT", n)
        s, w = start(env)
        ready = s.url and w and w.url
        try:
            p = ready and cluster_job(s)
        except subprocess.TimeoutExpired:
            [d.p.kill() for d in (s, w)]
            raise Wrong("allocation %d: no end, %s, at %s" % (n, open("daemons.log").read()[-600:], open("note").read()))
        interrupted = p and p.returncode == -signal.SIGINT and s.p.poll() is not None
        failed = p and (p.returncode == 125 and p.stderr or interrupted) and not outputs()
        if failed and w.p.poll() is None and s.p.poll() is None:
            p = cluster_job(s)
        good = not ready or failed or p.returncode == 0 and outputs() == WANT
        hit = os.path.exists("note")
        statuses = [d.stop() for d in (w, s) if d]
        log = open("daemons.log").read()
        reason = "memory" in log or "(waited " in log  # with much else to do a handshake can take longer than they wait for it
        if not good or any(code not in (0, 125, -signal.SIGTERM) for code in statuses) or 125 in statuses and not reason or "Sanitizer" in log:
            raise Wrong("allocation %d: %s, the daemons ended with %s, %s, at %s" % (
                n, p, statuses, log[-600:], hit and open("note").read()))
        if not hit:
            return n - 1
    raise Wrong("no end after %d" % PLACES_MAX)


@case
def a_worker():
    def start(env):
        s = scheduler()
        return s, worker(s.url, faulty, env)
    return daemons_without_memory(start)


@case
def a_scheduler():
    def start(env):
        s = scheduler(faulty, env)
        return s, s.url and worker(s.url)
    return daemons_without_memory(start)


def keeper(url, program=zpipe, env=None):
    first = ("keeper",) if program == zpipe else ()
    return Daemon(program, *first, "--keys", "keys", "--scheduler", url, "--state", "keep", env=env)


def run_or_replace(argv, k, s, stdout=subprocess.PIPE):
    """A client's end, and the keeper that is there then: one that has died is started again, with memory."""
    p = subprocess.Popen([zpipe, *argv, "--cluster", s.url, "--keys", "keys"], stdin=subprocess.DEVNULL, stdout=stdout,
                         stderr=subprocess.PIPE)
    end = time.monotonic() + LONG
    while True:
        try:
            out, err = p.communicate(timeout=0.05)
            return p.returncode, out, err, k
        except subprocess.TimeoutExpired:
            if k.p.poll() is not None:
                k.stop()
                k = keeper(s.url)
            if time.monotonic() > end:
                p.kill()
                p.communicate()
                raise


def submit_and_take(s, k, n):
    """A job that was taken in is not lost, whenever its keeper runs out of memory: its output comes, or the reason."""
    status, out, err, k = run_or_replace(["submit", "cat w.txt - | sort"], k, s)
    if status:
        if status != 125 or not err:
            raise Wrong("allocation %d: submit ended with %s" % (n, (status, out, err)))
        return k
    job = out.decode().strip()
    taken = open("taken", "wb+", buffering=0)  # a file: what was written and not told is found in it
    end = time.monotonic() + LONG
    while time.monotonic() < end:  # an attach whose keeper dies says so, and is repeated
        if k.p.poll() is not None:
            k.stop()
            k = keeper(s.url)
        status, _, err, k = run_or_replace(["attach", job], k, s, taken)
        out = open("taken", "rb").read()
        if (status, out) == (0, b"a\nb\n") or status == 125 and b"memory" in err:
            return k
        if status != 125 or not err:
            break
    raise Wrong("allocation %d: attach ended with %s" % (n, (status, out, err)))


@case
def a_keeper():
    s = scheduler()
    w = worker(s.url)
    step = args.step if args.step == 1 else 5 * args.step  # each is a job
    for n in range(args.first, PLACES_MAX, step):
        clean()
        open("daemons.log", "w").close()
        shutil.rmtree("keep", ignore_errors=True)
        k = first = keeper(s.url, os.path.join(os.path.dirname(faulty), "zpipe-keeper"), env_of("ZPIPE_FAULT", n))
        try:
            k = submit_and_take(s, k, n) if k.url else k
        except subprocess.TimeoutExpired:
            first.p.kill()
            raise Wrong("allocation %d: no end, %s, at %s" % (n, open("daemons.log").read()[-600:], open("note").read()))
        statuses = {d.stop() for d in (first, k)}
        log = open("daemons.log").read()
        hit = os.path.exists("note")
        if statuses - {0, 125, -signal.SIGTERM} or 125 in statuses and "memory" not in log or "Sanitizer" in log or not (hit or k is first):
            raise Wrong("allocation %d: the keepers ended with %s, %s, at %s" % (n, statuses, log[-600:], hit and open("note").read()))
        if not hit:
            break
    else:
        raise Wrong("no end after %d" % PLACES_MAX)
    if (w.stop(), s.stop()) != (0, 0):
        raise Wrong("the daemons did not end well")
    return n - 1


passed = failed = 0
for f in cases:
    if args.case and f.__name__ not in args.case:
        continue
    with tempfile.TemporaryDirectory(prefix="zpipe-e2e-") as d:
        os.chdir(d)
        os.mkdir("tmp")
        open("w.txt", "w").write("b\na\n")
        open("job.zp", "w").write(TEXT + "\n")
        subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True)
        try:
            print("ok     %s (of %d allocations)" % (f.__name__, f()))
            passed += 1
        except (Wrong, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL   %s: %s" % (f.__name__, str(e)[:2500]))
        sys.stdout.flush()
        os.chdir("/")
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed or not passed else 0)
