#!/usr/bin/env python3
"""kill -9 of each kind of process of a cluster at each stage of a job: the bytes are the same, no process and no file is left.

    killed_cluster.py --bin DIR [--all] [--hosts] [--seed N] [CASE...]

A job is held at a stage by its own ends: it has half of its input, or all of it, or nobody reads on what it prints.  A kill counts when
the victim had a part of the job, and others noticed; one that hit nothing is done again.  --all: every pipeline, at each stage, with each victim.
--hosts: each daemon and the client on a host of its own, a network namespace, where that is permitted.  Keepers are killed in submitted.py."""
import ctypes, functools, os, random, re, signal, subprocess, sys, threading

import daemons
import run as e2e
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from relay import Relay  # noqa: E402
from watch import below, children, until  # noqa: E402

arguments.add_argument("--all", action="store_true")
arguments.add_argument("--hosts", action="store_true")
arguments.add_argument("--seed", type=int, default=1)
args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
chance = random.Random(args.seed)
TRIES = 5  # until a kill hits something
TIMEOUT = 120
PATIENCE = 2  # seconds for a victim to have work
PR_SET_CHILD_SUBREAPER = 36
DATA = lines(300000)  # 7 MB: more than all windows on the way hold together

# Each with what sh is asked instead, and what then is in all files that are made.  All print megabytes.
PIPELINES = [
    (("--placement", "spread"), "tee made.txt | sh -c 'tr a-z A-Z' | sed 's/OF/of/'", "tr a-z A-Z | sed 's/OF/of/'", "cat"),
    (("--split", "always,64K"), "sort | tee made.txt | uniq -c", "sort | uniq -c", "sort"),
    (("--split", "always,64K"), "map { sort | sh -c 'tr a-z A-Z' } | sort", "tr a-z A-Z | sort", "true"),
    (("--split", "always,64K"), "reduce by 1 into 8 { tee made-{#}.txt | sh -c 'tr a-z A-Z' } | sort", "tr a-z A-Z | sort", "sort"),
    (("--split", "always,64K"), "grep -v zz | reduce by 1 into 8 { sort -r } | sort", "sort", "true"),
]
STAGES = ("reads", "works", "gives")
VICTIMS = ("scheduler", "owner", "lender", "owner's box", "lender's box", "client")
# Processes of a zpipe-box, by their names: what then shows in the log.
PARTS = {"init": "sandbox_lost", "zygote": "box_lost", "guard": "box_lost", "feed": "job_sent job=.* attempt=[2-9]", "drain": "job_sent job=.* attempt=[2-9]"}
OF_A_BOX = ("owner's init", "owner's zygote", "owner's guard", "lender's zygote", "lender's guard", "lender's feed", "lender's drain")


def named(pid, name):
    """Those below it; what is to become a program has its first process's name until then."""
    found = []
    for p in below(pid):
        try:
            found += [p] * (open("/proc/%d/comm" % p).read() == name + "\n")
        except OSError:
            pass
    return found


def words(pid):
    try:
        return open("/proc/%d/cmdline" % pid, "rb").read().split(b"\0")[0]
    except OSError:
        return b""


def programs(pid):
    """What is at work in sandboxes below it."""
    return [p for p in below(pid) if words(p) and not words(p).endswith((b"zpipe", b"zpipe-box"))]


def parts(pid, part):
    """One that stands ready for a task to come is nobody's yet: the next job would lose it, beside what is killed of that."""
    return [p for p in named(pid, "zpipe-" + part) if part != "init" or programs(p)]


class Killed(Cluster):
    """Two workers of one slot each, one of which lends the other its own."""

    def __init__(self):
        os.mkdir("tmp")
        os.environ["TMPDIR"] = os.path.join(os.getcwd(), "tmp")
        self.killed, self.jobs = [], []
        super().__init__(workers=0, slots=1, client_wait="1s")
        for name in ("w0", "w1"):
            self.workers.append(self.worker(name))

    def host(self, daemon):
        return 1 if daemon[0] == "scheduler" else 4 if daemon[0] == "client" else 2 + int(daemon[-1][1:])

    def at(self, daemon=("client",)):
        return ["nsenter", "-t", hosts.holder[self.host(daemon) - 1], "-n", "--"] if hosts else []

    def address(self, *daemon):
        return "tcp://10.99.0.%d:*" % self.host(daemon) if hosts else "tcp://127.0.0.1:*"

    def start_scheduler(self, url):
        super().start_scheduler(url if self.all else self.address("scheduler"))

    def worker(self, name):
        return self.start("worker", "-v", "--keys", self.keys, "--scheduler", self.url, "--slots", "1", "--image", "tests",
                          "--data-listen", self.address("worker", name), "--name", name)[0]

    def kill(self, p):
        p.kill()
        p.wait()
        self.killed.append(p)

    def kill_worker(self, p):
        self.kill(p)
        i = self.workers.index(p)
        self.workers[i] = self.worker("w%d" % i)

    def kill_scheduler(self):
        self.kill(self.scheduler)
        self.start_scheduler(self.url)

    def until_idle(self):
        said = []

        def idle():
            said[:] = self.run("status").stdout.splitlines()
            return len(said) == 2 and all(b"  0 of 1 slots taken" in line for line in said)
        try:
            until("all is idle", idle, 90)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, said))

    def __exit__(self, failure, *_):
        """Whoever was not killed ends well, and nothing is left; or after a failure, nobody."""
        if failure:
            for p in self.all + [j.p for j in self.jobs]:
                p.kill()
                p.wait()
            for j in self.jobs:
                j.go.set()
            return
        assert all(p.poll() is None for p in self.all if p not in self.killed)
        super().__exit__()
        assert all(p.returncode == 0 for p in self.all if p not in self.killed), [(p.args[1], p.returncode) for p in self.all]
        until("no process is left", lambda: not reap(), 60)
        assert os.listdir("tmp") == [], os.listdir("tmp")
        assert set(os.listdir(".")) - {"err", "held.log"} == {"daemons.log", "keys", "state", "tmp"}, os.listdir(".")


def reap():
    """Who is left below us: orphans come to us, as to a first process."""
    for p in children(os.getpid()):
        try:
            os.waitpid(p, os.WNOHANG)
        except ChildProcessError:
            pass
    return [p for p in below(os.getpid()) if p not in holders]


class Job:
    """A client, at a stage: what it prints is read up to there, and on when it shall."""

    def __init__(self, c, pipeline):
        self.c, (options, text, _, _) = c, pipeline
        self.err = open("err", "wb")
        self.p = subprocess.Popen([*c.at(), zpipe, *options, text], env=c.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err)
        self.got, self.go = [], threading.Event()
        c.jobs.append(self)

    def feed(self, data, end):
        try:
            self.p.stdin.write(data)
            if end:
                self.p.stdin.close()
            else:
                self.p.stdin.flush()
        except BrokenPipeError:
            pass  # it was killed

    def read(self):
        while True:
            piece = os.read(self.p.stdout.fileno(), 1 << 16)
            self.got.append(piece)
            if not piece:
                return
            if len(self.got) == 2:
                self.go.wait()

    def until_at(self, stage):
        self.feeder = threading.Thread(target=self.feed, args=(DATA[:len(DATA) // 2], False))
        self.feeder.start()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        until("it runs", lambda: b"  runs  " in self.c.run("status").stdout, TIMEOUT)
        if stage == "reads":
            return
        self.feeder.join()
        self.feeder = threading.Thread(target=self.feed, args=(DATA[len(DATA) // 2:], True))
        self.feeder.start()
        if stage == "gives":
            until("it prints", lambda: len(self.got) >= 2, TIMEOUT)

    def finish(self, stage):
        """Status, what it printed, what it said."""
        self.feeder.join()
        if stage == "reads":
            self.feed(DATA[len(DATA) // 2:], True)
        self.go.set()
        self.reader.join(TIMEOUT)
        assert not self.reader.is_alive(), "it does not end: " + self.c.run("status").stdout.decode()
        status = self.p.wait(timeout=TIMEOUT)
        self.p.stdout.close()
        self.err.close()
        return status, b"".join(self.got), open("err").read()


def log():
    return open("daemons.log").read()


def strike(c, job, victim):
    """kill -9 of it; gives what then shows in the log.  None: it has no part of the job now."""
    if victim == "scheduler":
        c.kill_scheduler()
        return "job_accepted|job_goes_on"
    if victim == "client":
        running = job.p.poll() is None
        job.p.kill()
        return "job_sent" if running else None
    owner = c.at_work()
    w = owner if "owner" in victim else c.workers[1 - c.workers.index(owner)]
    part = victim.partition("'s ")[2]
    try:
        if part in PARTS:
            until("it has a " + part, lambda: parts(w.pid, part), PATIENCE)
            os.kill(chance.choice(parts(w.pid, part)), signal.SIGKILL)
            return PARTS[part]
        until("it has programs", lambda: programs(w.pid), PATIENCE)
    except (AssertionError, IndexError, ProcessLookupError):
        return None
    if "box" not in victim:
        c.kill_worker(w)
        return "job_sent job=.* attempt=[2-9]|lender_lost .* runs=[1-9]"
    os.kill([b for b in children(w.pid) if words(b).endswith(b"zpipe-box")][0], signal.SIGKILL)
    return "box_lost"


def one(c, pipeline, stage, victim):
    """true: the kill hit."""
    c.until_idle()
    job = Job(c, pipeline)
    job.until_at(stage)
    before = len(log()) if victim != "client" else 0
    shows = strike(c, job, victim)
    status, got, err = job.finish(stage)
    if victim == "client" and shows:
        assert status == -signal.SIGKILL and made() == b"", status
    else:
        assert status == 0, (pipeline[1], stage, victim, status, err)
        assert got == wanted(pipeline[2]), (pipeline[1], stage, victim, len(got))
        assert made() == wanted(pipeline[3]), (pipeline[1], stage, victim, "what it made")
    return bool(shows and re.search(shows, log()[before:]) and (victim != "scheduler" or "the job goes on if" in err))


def made():
    """All that was, in order if that is in several files; which are taken away."""
    names = [n for n in os.listdir(".") if n.startswith("made")]
    found = b"".join(open(n, "rb").read() for n in names)
    for n in names:
        os.unlink(n)
    return reference("sort", found) if len(names) > 1 else found


@functools.cache
def wanted(same):
    return reference(same, DATA)


@case
def each_kind_of_process_at_each_stage():
    pairs = [(s, v) for s in STAGES for v in VICTIMS]
    if args.all:
        rows = [(p, s, v) for p in PIPELINES for s, v in pairs + [(s, v) for s in STAGES for v in OF_A_BOX]]
    else:  # each victim at two stages, pipelines in turn
        rows = [(PIPELINES[(i + args.seed) % len(PIPELINES)], s, v) for i, (s, v) in enumerate(pairs)
                if (STAGES.index(s) + VICTIMS.index(v) + args.seed) % 3]
        rows += [(PIPELINES[0], "works", v) for v in OF_A_BOX]
    hits, missed = [], []
    with Killed() as c:
        for pipeline, stage, victim in rows:
            hit = any(one(c, pipeline, stage, victim) for _ in range(TRIES))
            if hit:
                hits.append((stage, victim))
            else:
                missed.append((pipeline[1], stage, victim))
            if args.all:
                print("hit    " if hit else "no hit ", stage, victim, pipeline[1], flush=True)
        said = log()
    assert "more runs than" not in said, "an owner sent more than it may"
    victims = {v for _, v in hits}
    assert victims >= {*VICTIMS} and victims & {*OF_A_BOX}, missed  # those of a box are often gone before they can be killed
    return "%d of %d hit%s" % (len(hits), len(rows), missed and "; not %s" % missed or "")


def held_worker(c, name, hold):
    """A worker whose way to the scheduler stands still after so many bytes; and that way."""
    relay = Relay("127.0.0.1", int(c.url.rpartition(":")[2]), late=0, hold=hold)
    p = subprocess.Popen([zpipe, "worker", "--keys", c.keys, "--scheduler", relay.url, "--slots", "1", "--name", name, "--image", "tests"],
                         stdout=subprocess.PIPE, stderr=open("held.log", "wb"))
    c.all.append(p)
    c.killed.append(p)
    assert relay.held.wait(TIMEOUT), (hold, relay.bytes, open("held.log").read())
    return p, relay


def killed_while_joining(c, hold, victim):
    p, relay = held_worker(c, "w2", hold)
    if victim == "worker":
        p.kill()
        relay.drop()
    else:
        c.kill_scheduler()
        relay.drop()
        until("it has joined, or says why not", lambda: p.poll() is not None or len(c.run("status").stdout.splitlines()) == 3, TIMEOUT)
        assert p.poll() in (None, 125) and (p.poll() is None or relay.url in open("held.log").read()), (p.poll(), open("held.log").read())
        p.kill()
    p.wait()
    p.stdout.close()
    relay.close()


# The greeting, CURVE's four messages, HELLO and WELCOME are 1,046 bytes, both ways together.
JOINING = range(1, 1046, 40 if args.all else 520)


def a_worker_that_joins():
    """It is killed, or the scheduler is, in the midst of a handshake or before it is welcome: the others do not notice."""
    with Killed() as c:
        for hold in JOINING:
            for victim in ("worker", "scheduler"):
                killed_while_joining(c, hold, victim)
                c.until_idle()
                r = c.run("sort | uniq -c | wc -l", input=DATA[:230000])
                assert (r.returncode, r.stdout) == (0, b"10000\n"), r


def family(pid):
    """Everybody below it: a number and what it began at, which no other process has."""
    found, at = {}, [pid]
    while at:
        for p in children(at.pop()):
            found[p] = stat(p)[1]
            at.append(p)
    return found


def stat(pid):
    """What it does, and when it began."""
    try:
        fields = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()
        return fields[0], fields[19]
    except OSError:
        return "Z", None


def clones(pid):
    """Whose pid namespace lies in a template's, which lies in the zygote's: a clone stands ready as soon as there is a template."""
    found = []
    for p in family(pid):
        try:
            found += [p for line in open("/proc/%d/status" % p) if line.startswith("NSpid:") and len(line.split()) - 1 >= depth() + 3]
        except OSError:
            pass
    return found


def depth():
    return next(len(line.split()) - 1 for line in open("/proc/self/status") if line.startswith("NSpid:"))


@case
def templates_that_stand():
    """A worker, zpipe, or zpipe-box is killed while templates and clones stand: none of them is left."""
    text = "with block=1 { map cat }"
    with Killed() as c:
        for where in ("cluster", "here"):
            for victim in ("supervisor", "box"):
                c.until_idle()
                env = {k: v for k, v in c.env.items() if where == "cluster" or k != "ZPIPE_CLUSTER"}
                p = subprocess.Popen([*c.at(), zpipe, text], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                top = None

                def stands():
                    nonlocal top
                    p.stdin.write(DATA[:460])
                    p.stdin.flush()
                    top = p if where == "here" else next((w for w in c.workers if clones(w.pid)), None)
                    return top and clones(top.pid)
                until("a clone stands", stands, TIMEOUT)
                box = [b for b in children(top.pid) if words(b).endswith(b"zpipe-box")][0]
                left = family(top.pid if victim == "supervisor" else box)
                assert len(left) >= 5, left  # zygote, mounter, a template's init, its program, a clone
                if victim == "box":
                    os.kill(box, signal.SIGKILL)
                elif where == "cluster":
                    c.kill_worker(top)
                else:
                    p.kill()
                reap_all = lambda: reap() and False
                until("%s %s: none of its own is left" % (where, victim),
                      lambda: reap_all() or not [q for q, began in left.items() if stat(q)[0] != "Z" and stat(q)[1] == began], 60)
                p.kill()
                p.stdin.close()
                p.wait()


if not args.hosts:  # the way that stands still there is one of this machine
    case(a_worker_that_joins)
hosts = e2e.Hosts(4) if args.hosts else None
holders = below(os.getpid())
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
run_cases(args, failed_too=tell_logs)
