#!/usr/bin/env python3
"""Submitted jobs, while whoever can be killed is.   submitted.py --bin DIR [--seed N] [--rounds N] [CASE...]"""
import fcntl, glob, os, pty, random, resource, shutil, signal, subprocess, sys, termios

import daemons
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

arguments.add_argument("--seed", type=int, default=1)
arguments.add_argument("--rounds", type=int, default=2, help="how often each moment of a kill is tried")
args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
rnd = random.Random(args.seed)


class Kept(Cluster):
    """With a keeper."""

    def __init__(self, *argv, workers=1, slots=8, worker_wait="10s", options=(), **kw):
        super().__init__(workers=workers, slots=slots, worker_wait=worker_wait, options=options)
        self.start_keeper(*argv, **kw)  # ready is: it has joined

    def submit(self, *argv, data=b""):
        r = self.run("submit", *argv, input=data)
        assert r.returncode == 0 and r.stdout.strip().isdigit(), r
        return r.stdout.decode().strip()

    def attach(self, job):
        r = self.run("attach", job)
        return r.returncode, r.stdout, r.stderr

    def state(self, job):
        r = self.run("status", job)
        return r.stdout.decode().split("  ")[1] if r.returncode == 0 else r.stderr.decode()

    def until_over(self, job):
        until("job %s is over" % job, lambda: self.state(job).startswith("ended"), 90)

    def kill_keeper(self, *argv, **kw):
        self.keeper.kill()
        self.keeper.wait()
        self.start_keeper(*argv, **kw)

    def kill_scheduler(self):
        self.scheduler.kill()
        self.scheduler.wait()
        self.start_scheduler(self.url)

    def kill_worker(self, slots="8"):
        self.workers[0].kill()
        self.workers[0].wait()
        self.workers[0] = self.start("worker", "--keys", self.keys, "--scheduler", self.url, "--slots", slots, "--name", "w0", "--image", "tests")[0]


GATE = "sh -c 'cat; while ! test -e /dev/null/none; do :; done'"  # prints what it reads, and does not end


@case
def it_goes_on_without_its_client():
    data = lines(20000)
    open("in.txt", "wb").write(data)
    os.mkdir("d")
    for name in "12":
        open("d/" + name, "w").write(name * 3 + "\n")
    open("job.zp", "w").write("cat in.txt | sort -r > mid.txt\ncat mid.txt | head -3\nhead -2 mid.txt > last.txt\n")
    with Kept() as c:
        rows = [(["sort in.txt | uniq -c | head -2"], b"", "sort in.txt | uniq -c | head -2"),
                (["wc -l"], data, "wc -l"),
                (["cat in.txt | sh -c 'cat; echo said >&2; exit 3'"], b"", "cat in.txt"),
                (["job.zp"], b"", "sort -r in.txt | head -3"),
                (["sort -u in.txt > out/there.txt"], b"", "true"),
                (["cat d/* | map per file { rev > {}.rev }"], b"", "true"),
                (["cat in.txt | tee copy.txt | wc -c"], b"", "cat in.txt | wc -c"),
                (["cat in.txt | grep $WHAT | wc -l", "WHAT=7"], b"", "cat in.txt | grep 7 | wc -l")]
        jobs = [c.submit(*argv, data=given) for argv, given, _ in rows]
        assert len(set(jobs)) == len(jobs), jobs
        os.rename("in.txt", "was.txt")  # it is the keeper's now
        shutil.copy("was.txt", "in.txt")
        for (argv, given, same), job in zip(rows, jobs):
            want = (3 if "exit 3" in argv[0] else 0, reference(same, given), b"")
            got = c.attach(job)
            assert got == want, (argv, got[0], len(got[1]), got[2])
            assert c.attach(job) == (want[0], b"", b""), "what was taken is taken"
            assert c.state(job) == "ended with status %d, and was taken" % want[0], c.state(job)
            log = c.run("logs", job)
            assert (log.returncode, log.stdout) == (0, b"said\n" if "said" in argv[0] else b""), log
        assert open("mid.txt", "rb").read() == reference("sort -r in.txt") and open("last.txt", "rb").read() == reference("head -2 mid.txt")
        assert open("out/there.txt", "rb").read() == reference("sort -u in.txt") and open("copy.txt", "rb").read() == data
        assert open("d/1.rev").read() == "111\n" and open("d/2.rev").read() == "222\n"
        for job in jobs:
            assert c.run("cancel", job).returncode == 0 and b"no job of yours" in c.run("cancel", job).stderr
        assert os.listdir("keep/jobs") == [], os.listdir("keep/jobs")


@case
def what_cannot_be_is_refused():
    open("in.txt", "w").write("x\n")
    with Cluster(workers=1) as c:
        r = c.run("submit", "cat in.txt")
        assert r.returncode == 125 and b"no keeper is connected" in r.stderr, r
    with Kept("--store-max", "100K") as c:
        for text, sentence in (("cat in.txt >> all.txt", b"cannot be submitted"), ("cat in.txt > /tmp/abs.txt", b"below the working directory"),
                               ("cat in.txt > ../up.txt", b"below the working directory"), ("cat no-such.txt | sort |", b"error"),
                               ("head -c 200000 /dev/zero > x.txt", None)):
            r = c.run("submit", text)
            assert r.returncode == (125 if sentence else 0) and (sentence or b"") in r.stderr, (text, r)
        status, out, said = c.attach(r.stdout.decode().strip())
        assert status == 125 and b"--store-max" in said and not os.path.exists("x.txt"), (status, said)
        r = c.run("submit", "wc -c", input=b"x" * 200000)
        assert r.returncode == 125 and b"--store-max" in r.stderr, r
        main, terminal = pty.openpty()
        r = subprocess.run([zpipe, "submit", "sort"], env=c.env, stdin=terminal, capture_output=True, timeout=60)
        assert r.returncode == 125 and b"terminal" in r.stderr, r
        r = subprocess.run([zpipe, "submit", "sort"], env={**os.environ, "ZPIPE_CLUSTER": ""}, capture_output=True, timeout=60)
        assert r.returncode == 125 and b"cluster" in r.stderr, r
        os.close(main), os.close(terminal)


@case
def nobody_elses_business():
    """Another key sees nothing of it and can do nothing to it."""
    with Kept() as c:
        subprocess.run([zpipe, "keygen", "--dir", "laptop", "anna"], check=True, capture_output=True)
        shutil.copy("keys/scheduler.pub", "laptop")
        key = open("laptop/own.pub").read().split()[1]
        job = c.submit("echo mine")
        c.until_over(job)
        assert subprocess.run([zpipe, "scheduler", "allow", "client", key, "anna", "--keys", "keys"]).returncode == 0
        other = {**c.env, "ZPIPE_KEYS": "laptop"}
        for command in ("attach", "logs", "cancel", "status"):
            r = subprocess.run([zpipe, command, job], env=other, capture_output=True, timeout=60)
            assert r.returncode == 125 and b"of yours" in r.stderr and not r.stdout, (command, r)
        assert subprocess.run([zpipe, "status"], env=other, capture_output=True, timeout=60).stdout.count(b"job ") == 0
        assert c.attach(job) == (0, b"mine\n", b"")


@case
def a_terminal_is_told_no_controls():
    """What a job said is a file's as it is; on a terminal nothing of it moves the cursor, or turns the text round."""
    said = b"a\x1b[2Jb\xe2\x80\xaec\xc3\xa9\td" + 70000 * "\u00e9".encode() + b"\n"
    with Kept() as c:
        open("said", "wb").write(said)
        job = c.submit("sh -c 'cat >&2; exit 1' < said")
        c.until_over(job)
        assert c.run("logs", job).stdout == said
        main, terminal = pty.openpty()
        attributes = termios.tcgetattr(terminal)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        p = subprocess.Popen([zpipe, "logs", job], env=c.env, stdout=terminal)
        got = b""
        while not got.endswith(b"\n"):
            got += os.read(main, 65536)
        assert p.wait(timeout=60) == 0 and got == said.replace(b"\x1b", b"?").replace(b"\xe2\x80\xae", b"???"), (len(got), got[:30])
        status = subprocess.run([zpipe, "status"], env=c.env, capture_output=True, timeout=60).stdout
        assert b"\x1b" not in status
        os.close(main), os.close(terminal)


def take_some(c, job, name, size):
    """An attach that is killed once it has written so much."""
    before = os.path.getsize(name) if os.path.exists(name) else 0
    p = subprocess.Popen([zpipe, "attach", job], env=c.env, stdin=subprocess.DEVNULL, stdout=open(name, "ab"), stderr=subprocess.PIPE)
    until("it has written", lambda: os.path.getsize(name) >= before + size or p.poll() is not None, 60)
    p.kill()
    p.wait()


@case
def each_byte_is_given_once():
    """To attaches that are killed: into files of their own and into one, while the job runs and when it is over."""
    data = lines(400000)
    open("in.txt", "wb").write(data)
    want = reference("tr a-z A-Z < in.txt")
    with Kept() as c:
        for when in ("while it runs", "when it is over"):
            job = c.submit("cat in.txt | sh -c 'tr a-z A-Z'")
            if when != "while it runs":
                c.until_over(job)
            for i in range(6):
                take_some(c, job, "part%d" % (i % 3), rnd.choice((1, 1000, 300000, 2000000)))
            status, rest, said = c.attach(job)
            assert (status, said) == (0, b""), (status, said)
            total = sum(os.path.getsize("part%d" % i) for i in range(3)) + len(rest)
            assert total == len(want), (when, total, len(want))
            for i in range(3):
                os.unlink("part%d" % i)
        # in order, into one file, with a keeper that is killed too
        job = c.submit("cat in.txt | sh -c 'tr a-z A-Z'")
        for i in range(8):
            take_some(c, job, "all", rnd.randrange(1, 1500000))
            if i % 3 == 2:
                c.kill_keeper()
        r = subprocess.run([zpipe, "attach", job], env=c.env, stdout=open("all", "ab"), stderr=subprocess.PIPE, timeout=120)
        assert r.returncode == 0, r
        assert open("all", "rb").read() == want, len(want)


@case
def whoever_attaches_next_waits_for_the_first():
    data = lines(200000)
    open("in.txt", "wb").write(data)
    with Kept() as c:
        job = c.submit("cat in.txt | " + GATE)
        first = subprocess.Popen([zpipe, "attach", job], env=c.env, stdout=open("first", "wb"), stderr=subprocess.PIPE)
        until("it took some", lambda: os.path.getsize("first") > 100000)
        second = subprocess.Popen([zpipe, "attach", job], env=c.env, stdout=open("second", "wb"), stderr=subprocess.PIPE)
        assert first.wait(timeout=60) == 125 and b"attach again" in first.stderr.read()
        until("all is there", lambda: os.path.getsize("first") + os.path.getsize("second") >= len(data))
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=60) == -signal.SIGTERM
        assert open("first", "rb").read() + open("second", "rb").read() == data
        assert c.run("cancel", job).returncode == 0
        status, rest, said = c.attach(job)
        assert (status, rest) == (125, b"") and b"cancelled" in said, (status, rest, said)


@case
def who_is_killed_costs_time():
    """Scheduler, worker and keeper, at several moments: same bytes, same number."""
    data = lines(300000)
    open("in.txt", "wb").write(data)
    pipelines = ["cat in.txt | sort | tee made.txt | uniq -c", "cat in.txt | sort -r | sh -c 'cat; echo said >&2; exit 7'"]
    with Kept(workers=2) as c:
        hit = set()
        for number in range(args.rounds * 3):
            text, victim = pipelines[number % 2], ("scheduler", "worker", "keeper")[number % 3]
            want = reference(text)
            if os.path.exists("made.txt"):
                os.unlink("made.txt")
            job = c.submit(text)
            moment = ("runs", "now", "ended")[number // 3 % 3]
            until("job %s %s" % (job, moment), lambda: moment == "now" or c.state(job).startswith((moment, "ended")))
            was = c.state(job)
            getattr(c, "kill_" + victim)()
            if not was.startswith("ended"):
                hit.add(victim)
            until("it is known again", lambda: "of yours" not in c.state(job))
            status, out, said = c.attach(job)
            assert (status, said) == (7 if "exit 7" in text else 0, b""), (victim, moment, status, said)
            assert out == want, (victim, moment, len(out), len(want))
            if "made" in text:
                assert open("made.txt", "rb").read() == reference("sort in.txt")
            else:
                assert c.run("logs", job).stdout == b"said\n", c.run("logs", job)
        assert len(hit) == 3, ("some were never hit", hit)


# Without a sandbox a program can tell that it ran.  The first FREE blocks end, the others when the lock on `go` is given up: whose name is put
# together, else it would be an input, and the lock a copy's.
FREE, BLOCKS = 12, 18
LATE = 2  # have ended at a lender, and what they came to may be on its way to the owner when the kill comes
RAN = "n=$(head -c 8); n=${n#0000}; echo $n >> HERE/ran; test $n -lt 1200 || flock -s $(printf HERE/%s go) true; echo $n; cat"
# What is submitted; the scheduler is killed with the keeper in the first and the last.
HELD = ("cat in.txt | map { sh -c 'RAN; echo said >&2' }",
        "cat d/* | map per file { sh -c 'RAN' > {}.made }",
        "cat in.txt | map { sh -c 'RAN' } merge { sort } | tail -n 1000",
        "cat in.txt | sh -c 'RAN'",
        "cat in.txt > mid.txt\ncat mid.txt | map { sh -c 'RAN' }")


@case
def a_keeper_on_its_way_is_waited_for():
    """Who asks about a job whose keeper was killed, or has not come to the new scheduler yet, is not told that there is no such job."""
    with Kept() as c:
        jobs = [c.submit("echo %d" % i) for i in range(2)]
        for job in jobs:
            c.until_over(job)
        p = subprocess.Popen([zpipe, "attach", c.submit("echo well | " + GATE)], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert p.stdout.read(5) == b"well\n"
        c.keeper.kill()
        c.keeper.wait()
        err = p.communicate(timeout=60)[1]
        assert p.returncode == 125 and b"attach again when it is back" in err and err.count(b"tcp://") == 1, err
        asked = [subprocess.Popen([zpipe, what, jobs[0]], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for what in ("attach", "status")]
        c.start_keeper()
        for p in asked:
            out, err = p.communicate(timeout=90)
            assert p.returncode == 0 and not err and out, (p.args, p.returncode, out, err)
        c.scheduler.kill()
        c.scheduler.wait()
        c.keeper.send_signal(signal.SIGSTOP)
        c.start_scheduler(c.url)
        p = subprocess.Popen([zpipe, "attach", jobs[1]], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("it has asked", lambda: "role=client" in open("daemons.log").read().rpartition("ready")[2], 90)
        c.keeper.send_signal(signal.SIGCONT)
        out, err = p.communicate(timeout=90)
        assert (p.returncode, out, err) == (0, b"1\n", b""), (p.returncode, out, err)
        r = c.run("attach", "999999999")
        assert r.returncode == 125 and b"no submitted job of yours" in r.stderr, r


def what_ran():
    return [int(n) // 100 for n in open("ran").read().split()] if os.path.exists("ran") else []


@case
def a_killed_keepers_jobs_continue():
    """What their runs have come to is at the workers, and none of it runs again; the keeper alone is killed, or the scheduler with it."""
    with open("in.txt", "w") as f:
        for i in range(BLOCKS * 100):
            f.write("%08d %s\n" % (i, "." * 31))
    os.mkdir("d")
    for i in range(BLOCKS):
        with open("d/%02d" % i, "w") as f:
            f.writelines(open("in.txt").readlines()[i * 100:i * 100 + 100])
    with open("table.conf", "w") as f:
        f.write("command sh\n  values -c\n  form -c : lines\n")
    for text in HELD:
        seen = []
        for killed in [(), ("keeper",), ("keeper", "scheduler")][:3 if text in (HELD[0], HELD[-1]) else 2]:
            for name in ["ran"] + glob.glob("d/*.made"):
                if os.path.exists(name):
                    os.unlink(name)
            with open("go", "w") as go, Kept(workers=2, slots=1, options=("--isolation", "none")) as c:
                fcntl.flock(go, fcntl.LOCK_EX)
                with open("job.zp", "w") as f:
                    f.write(text.replace("RAN", RAN).replace("HERE", os.getcwd()))
                job = c.submit("--commands", "table.conf", "--split", "always,4100", "job.zp")
                until("both workers wait", lambda: sum(n >= FREE for n in what_ran()) == 2, 60)
                for victim in killed:
                    getattr(c, victim).kill()
                    getattr(c, victim).wait()
                if "scheduler" in killed:
                    c.start_scheduler(c.url)
                if killed:
                    c.start_keeper()
                    until("both wait again", lambda: sum(n >= FREE for n in what_ran()) >= 4, 60)
                fcntl.flock(go, fcntl.LOCK_UN)
                c.until_over(job)
                status, out, said = c.attach(job)
                ran = what_ran()
                assert (status, said) == (0, b""), (text, killed, status, said)
                seen.append((out, c.run("logs", job).stdout, "".join(open(n).read() for n in sorted(glob.glob("d/*.made")))))
            assert seen[-1] == seen[0] and sum(map(len, seen[0])) > 1000, (text, killed)
            again = sum(ran.count(n) - 1 for n in range(FREE))
            assert all(n in ran for n in range(FREE)) and again <= LATE * len(killed), (text, killed, ran)


@case
def what_was_given_is_compared():
    """A job that prints other bytes after the keeper's death does not get away with it."""
    with Kept() as c:
        job = c.submit("sh -c 'cat /proc/sys/kernel/random/uuid 2>/dev/null || cat /proc/uptime; head -c 300000 /dev/zero' | " + GATE)
        take_some(c, job, "part", 200000)
        was = open("keep/jobs/%s/out" % job, "rb").read()
        c.keeper.kill()
        c.keeper.wait()
        changed = bytes([was[0] ^ 1]) + was[1:]  # as if it had been another then
        open("keep/jobs/%s/out" % job, "wb").write(changed)
        c.start_keeper()
        c.until_over(job)
        status, rest, said = c.attach(job)
        assert status == 125 and b"not deterministic" in said and rest == b"", (status, said, rest[:10])


@case
def half_a_job_is_none():
    """A keeper or a client that is killed while the job is brought: there is none, and nothing is left of it."""
    with Kept() as c:
        for victim in ("keeper", "client"):
            open("big.txt", "wb").write(b"0123456789abcdef" * (4 << 20))
            p = subprocess.Popen([zpipe, "submit", "cat big.txt | wc -c"], env=c.env, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until("it comes", lambda: any("in" in os.listdir("keep/jobs/" + j) for j in os.listdir("keep/jobs")) or p.poll() is not None)
            if victim == "keeper":
                c.keeper.kill()
                c.keeper.wait()
            else:
                p.kill()
            out, said = p.communicate(timeout=60)
            if victim == "keeper":
                c.start_keeper()
            taken = out.strip().decode()
            assert taken or p.returncode, (p.returncode, out, said)
            for line in c.run("status").stdout.decode().splitlines():
                if line.startswith("job "):
                    number = line.split()[1]
                    c.until_over(number)
                    status, got, _ = c.attach(number)
                    assert status == 0 and got in (b"", b"67108864\n"), (status, got)
                    assert c.run("cancel", number).returncode == 0
            until("nothing is left", lambda: os.listdir("keep/jobs") == [])


@case
def a_full_disk_is_told():
    """Files of the keeper may be 1 MiB large: inputs, outputs, then the journal itself."""
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with Kept(preexec_fn=small) as c:
        r = c.run("submit", "wc -c", input=b"x" * (2 << 20))
        assert r.returncode == 125 and b"File too large" in r.stderr, r
        job = c.submit("head -c 2000000 /dev/zero")
        c.until_over(job)
        status, out, said = c.attach(job)
        assert status == 125 and b"File too large" in said, (status, said)
        assert c.attach(c.submit("echo well")) == (0, b"well\n", b"")
        told = None
        for i in range(400):  # each brings a text of 16 KiB into the journal
            r = c.run("submit", "cat > /dev/null", "--env", "A=" + "z" * 16000, input=b"")
            if r.returncode:
                told = r.stderr
                break
        assert told and (b"journal" in told or b"no keeper" in told), told
        kept = [line.split()[1] for line in c.run("status").stdout.decode().splitlines() if line.startswith("job ")]
    with Kept() as c:
        assert kept and all("of yours" not in c.state(job) for job in kept[-3:] + kept[:3])
        assert c.attach(c.submit("echo well"))[1] == b"well\n"


@case
def one_key_leaves_room_for_others():
    with Kept("--store-max", "4M") as c:
        subprocess.run([zpipe, "keygen", "--dir", "other", "eve"], check=True, stdout=subprocess.DEVNULL)
        shutil.copy("keys/scheduler.pub", "other")
        subprocess.run([zpipe, "scheduler", "allow", "client", open("other/own.pub").read().split()[1], "--keys", "keys"], check=True)
        first = c.submit("head -c 2900000 /dev/zero")
        c.until_over(first)  # a job that runs has stages that `ended`, too
        more = c.submit("head -c 900000 /dev/zero")
        r = c.run("attach", more)
        assert r.returncode == 125 and b"of the 3145728 that one key may have" in r.stderr, r
        r = c.run("submit", "wc -c", input=b"x" * 900000)
        assert r.returncode == 125 and b"of the 3145728 that one key may have" in r.stderr, r
        theirs = {**c.env, "ZPIPE_KEYS": "other"}
        job = subprocess.run([zpipe, "submit", "head -c 900000 /dev/zero"], env=theirs, capture_output=True).stdout.decode().strip()
        r = subprocess.run([zpipe, "attach", job], env=theirs, capture_output=True, timeout=60)
        assert (r.returncode, len(r.stdout)) == (0, 900000), r.stderr
        assert c.run("attach", first).stdout == bytes(2900000)
        again = c.submit("head -c 900000 /dev/zero")
        assert c.run("attach", again).stdout == bytes(900000)


@case
def jobs_wait_for_descriptors():
    """Of those that a keeper has taken; with very few it does not start."""
    os.mkdir("in")
    for i in range(120):
        open("in/%d" % i, "w").write("%d\n" % i)
    with Kept(workers=0, before=("prlimit", "--nofile=256:256")) as c:
        r = subprocess.run(["prlimit", "--nofile=60:60", zpipe, "keeper", "--keys", "keys", "--scheduler", c.url, "--state", "few"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"256 open files at least, and may have 60" in r.stderr, r
        jobs = [c.submit("sort -r in/*") for _ in range(4)]
        c.start("worker", "--keys", "keys", "--scheduler", c.url, "--slots", "8")  # all begin now
        want = reference("sort -r in/*")
        for job in jobs:
            c.until_over(job)
            r = c.run("attach", job)
            assert (r.returncode, r.stdout) == (0, want), r
        assert "few_descriptors" in open("daemons.log").read(), "there were enough"


@case
def a_damaged_journal_is_told():
    """Bytes of it are changed at random: it is refused, by name, or all that it said is as it was."""
    with Kept(worker_wait="1s") as c:
        jobs = [c.submit("echo %d" % i) for i in range(5)]
        for job in jobs:
            c.until_over(job)
        for job in jobs[:2]:
            c.attach(job)
        before = {job: c.state(job) for job in jobs}
        c.keeper.kill()
        c.keeper.wait()
        shutil.copytree("keep", "good")
        refused = harmless = 0
        for attempt in range(10 * args.rounds):
            shutil.rmtree("keep")
            shutil.copytree("good", "keep")
            name = "keep/" + rnd.choice([n for n in os.listdir("keep") if n in ("journal", "journal-wal") and os.path.getsize("keep/" + n)])
            whole = bytearray(open(name, "rb").read())
            for _ in range(rnd.choice((1, 1, 4, 64))):
                whole[rnd.randrange(len(whole))] ^= 1 << rnd.randrange(8)
            open(name, "wb").write(whole)
            p = subprocess.Popen([zpipe, "keeper", "--keys", "keys", "--scheduler", c.url, "--state", "keep"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            if p.stdout.readline():
                after = {job: c.state(job) for job in jobs}
                p.kill()
                p.wait()
                until("it has gone", lambda: "of yours" in c.state(jobs[-1]))
                assert before == after, (name, before, after)
                harmless += 1
            else:
                said = p.stderr.read().decode()
                assert p.wait() == 125 and "keep/journal" in said and "damaged" in said, (p.returncode, said, name)
                refused += 1
        assert refused > harmless / 10, (refused, harmless)
        shutil.rmtree("keep")
        shutil.copytree("good", "keep")
        c.start_keeper()
        assert c.attach(jobs[4]) == (0, b"4\n", b"")


@case
def an_output_that_is_gone_is_told():
    """From the keeper's directory, after its job had ended well: nothing instead of it is taken for it."""
    with Kept() as c:
        for lost, cut in (("out", False), ("files", False), ("", False), ("out", True), ("files/made.txt", True)):
            job = c.submit("echo well; echo made > made.txt")
            c.until_over(job)
            path = os.path.join(os.path.realpath("keep/jobs"), job, lost)
            os.truncate(path, 2) if cut else shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            c.kill_keeper()
            until("the keeper is back", lambda: c.state(job) == "ended with status 0")
            for _ in range(2):
                status, out, said = c.attach(job)
                assert (status, out) == (125, b"") and job.encode() in said and (b"damaged" if cut else b"lost") in said, (lost, status, out, said)
            assert not os.path.exists("made.txt") and c.run("cancel", job).returncode == 0
        job = c.submit("echo well")
        assert c.attach(job) == (0, b"well\n", b"")


@case
def shared_directories_are_read_in_place():
    os.mkdir("shared")
    data = lines(50000)
    open("shared/in.txt", "wb").write(data)
    open("own.txt", "wb").write(b"own\n")
    here = os.path.realpath("shared")
    with Kept("--shared", "/none:" + here) as c:
        job = c.submit("cat shared/in.txt own.txt | " + GATE)
        until("it runs", lambda: c.state(job).startswith("runs"))
        assert len(os.listdir("keep/jobs/%s/in" % job)) == 1
        take_some(c, job, "part", len(data))
        assert open("part", "rb").read()[:len(data)] == data
        c.run("cancel", job)
        c.until_over(job)
        c.keeper.kill()
        c.keeper.wait()
        c.start_keeper()
        job = c.submit("wc -l shared/in.txt")  # it shares nothing now: carried
        assert c.attach(job)[:2] == (0, b"50000 shared/in.txt\n")


run_cases(args, failed_too=tell_logs)
