#!/usr/bin/env python3
"""A cluster in bad moments: lost workers, wrong keys, cancelled clients.   cluster.py --bin DIR [CASE...]"""
import argparse, glob, os, select, signal, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("case", nargs="*")
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
cases = []


def case(f):
    cases.append(f)
    return f


def until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (seconds, what))
        select.select([], [], [], 0.01)


def processes_with(mark):
    found = []
    for d in glob.glob("/proc/[0-9]*"):
        try:
            if mark.encode() in open(d + "/cmdline", "rb").read():
                found.append(int(d[6:]))
        except OSError:
            pass
    return [p for p in found if p != os.getpid()]


class Cluster:
    def __init__(self, workers=2, keys="keys"):
        self.all = []
        if not os.path.exists(keys):
            subprocess.run([zpipe, "keygen", "--dir", keys], check=True)
        self.scheduler, self.url = self.start("scheduler", "--keys", keys, "--listen", "tcp://127.0.0.1:*", "--state", "state")
        self.workers = [self.start("worker", "--keys", keys, "--scheduler", self.url, "--slots", "8", "--name", "w%d" % i)[0]
                        for i in range(workers)]
        self.env = {**os.environ, "ZPIPE_CLUSTER": self.url, "ZPIPE_KEYS": keys}

    def start(self, *argv):
        p = subprocess.Popen([zpipe, *argv], stdout=subprocess.PIPE, stderr=open("daemons.log", "a"))
        self.all.append(p)
        word, url = p.stdout.readline().decode().split()
        assert word == "ready"
        return p, url

    def run(self, *argv, **kw):
        return subprocess.run([zpipe, *argv], env=self.env, capture_output=True, timeout=90, **kw)

    def popen(self, *argv):
        return subprocess.Popen([zpipe, *argv], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in reversed(self.all):
            if p.poll() is None:
                p.terminate()
                p.wait(timeout=30)


@case
def a_stream_of_64_mib_over_two_workers():
    data = b"0123456789abcde\n" * (4 << 20)
    with Cluster() as c:
        r = c.run("--placement", "spread", "cat | cat | sort | uniq -c", input=data)
        assert (r.returncode, r.stdout) == (0, b"%7d 0123456789abcde\n" % (4 << 20)), (r.returncode, r.stdout[:100], r.stderr)


@case
def a_lost_worker_fails_the_job_by_name():
    with Cluster() as c:
        p = c.popen("--placement", "spread", "yes lost-mark | cat > /dev/null")
        until("the programs run", lambda: len(processes_with("lost-mark")) > 1)
        c.workers[0].kill()
        err = p.communicate(timeout=60)[1].decode()
        assert p.returncode == 125 and ("w0" in err or "port" in err), (p.returncode, err)
        until("the other worker's sandboxes end too", lambda: not processes_with("lost-mark"))
        r = c.run("echo still here | cat")
        assert (r.returncode, r.stdout) == (0, b"still here\n"), r


@case
def a_lost_scheduler_is_told():
    with Cluster() as c:
        p = c.popen("yes gone-mark | cat > /dev/null")
        until("the programs run", lambda: len(processes_with("gone-mark")) > 1)
        c.scheduler.kill()
        err = p.communicate(timeout=60)[1].decode()
        assert p.returncode == 125 and c.url in err, (p.returncode, err)
        for w in c.workers:
            assert w.wait(timeout=60) == 125
        until("nothing runs", lambda: not processes_with("gone-mark"))


@case
def a_cancelled_client_leaves_nothing():
    with Cluster() as c:
        p = c.popen("yes cancel-mark | cat > /dev/null")
        until("the programs run", lambda: len(processes_with("cancel-mark")) > 1)
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=30) == -signal.SIGINT
        until("nothing runs", lambda: not processes_with("cancel-mark"))


@case
def wrong_keys_are_refused():
    with Cluster(workers=0) as c:
        subprocess.run([zpipe, "keygen", "--dir", "other"], check=True)
        r = subprocess.run([zpipe, "--cluster", c.url, "--keys", "other", "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"key" in r.stderr, r
        os.rename("other/scheduler.pub", "other/old.pub")
        open("other/scheduler.pub", "w").write(open("keys/scheduler.pub").read())
        r = subprocess.run([zpipe, "--cluster", c.url, "--keys", "other", "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"not allowed" in r.stderr, r
        r = subprocess.run([zpipe, "--cluster", c.url, "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"keys" in r.stderr, r


@case
def nobody_there():
    subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True)
    r = subprocess.run([zpipe, "--cluster", "tcp://127.0.0.1:1", "--keys", "keys", "true"], capture_output=True, timeout=60)
    assert r.returncode == 125 and b"127.0.0.1:1" in r.stderr, r


@case
def no_worker():
    with Cluster(workers=0) as c:
        r = c.run("true")
        assert r.returncode == 125 and b"no worker" in r.stderr, r


@case
def keys_are_never_overwritten():
    subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True)
    before = open("keys/scheduler.key").read()
    r = subprocess.run([zpipe, "keygen", "--dir", "keys"], capture_output=True)
    assert r.returncode == 125 and b"already" in r.stderr and open("keys/scheduler.key").read() == before
    assert os.stat("keys/scheduler.key").st_mode & 0o77 == 0


@case
def one_state_directory_one_scheduler():
    with Cluster(workers=0):
        r = subprocess.run([zpipe, "scheduler", "--keys", "keys", "--listen", "tcp://127.0.0.1:*", "--state", "state"],
                           capture_output=True, timeout=30)
        assert r.returncode == 125 and b"another scheduler" in r.stderr, r


@case
def garbage_at_the_ports_hurts_nobody():
    import random, socket
    with Cluster(workers=1) as c:
        host, port = c.url[6:].rsplit(":", 1)
        rnd = random.Random(1)
        for i in range(200):
            s = socket.create_connection((host.strip("[]").replace("::ffff:", ""), int(port)), timeout=5)
            try:
                s.sendall((b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" if i % 2 else b"") + rnd.randbytes(rnd.randrange(2000)))
            except OSError:
                pass
            s.close()
        r = c.run("echo alive | cat")
        assert (r.returncode, r.stdout) == (0, b"alive\n"), r


passed = failed = 0
for f in cases:
    if args.case and f.__name__ not in args.case:
        continue
    with tempfile.TemporaryDirectory(prefix="zpipe-e2e-") as d:
        os.chdir(d)
        try:
            f()
            passed += 1
            print("ok    ", f.__name__)
        except Exception as e:
            failed += 1
            print("FAIL  ", f.__name__, "-", type(e).__name__, str(e)[:600])
            if os.path.exists("daemons.log"):
                print(open("daemons.log").read()[-600:])
        sys.stdout.flush()
        os.chdir("/")
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
