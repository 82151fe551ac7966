#!/usr/bin/env python3
"""bench/cluster.py ZPIPE: jobs that use the CPU over workers of one slot each, which lend each other theirs, beside the
same job in one process with as many slots (`-j`); and again, with inputs that the workers have in place (--shared).

Prints a table and writes build/bench/cluster.json: rounds alternate, figures are medians, and a goal that is missed is
said and is no failure: this is no test.  All processes are on this machine, so it has to have as many CPUs as there are
slots; with the load of others on it only the ratio means something, and that of CPU seconds more than that of the time: it is
printed where a control group can be made, since nobody else counts what sandboxes use."""
import json, os, random, signal, socket, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
import daemons  # noqa: E402
from run import Cluster  # noqa: E402
from relay import Relay  # noqa: E402
from watch import until  # noqa: E402

zpipe = daemons.zpipe = os.path.abspath(sys.argv[1])
LINES = int(os.environ.get("BENCH_LINES", 200_000))
RUNS = int(os.environ.get("BENCH_RUNS", 5))
GOAL = 0.9
ONLY = os.environ.get("BENCH_ONLY", "")
JOBS = [
    ("grep with back-references", "grep -cE '(.*)(.*)q\\1z' words.txt"),
    ("awk", "awk '{ n = 0; for (i = 1; i < 400; i++) n += length($1) * i; print n % 97, $2 }' words.txt | tail -1"),
    ("sort and count", "tr -cs a-z '\\n' < words.txt | sort | uniq -c | sort -rn | head -3"),
    ("sort -k", "sort -k3,3 -k1,1r words.txt | md5sum"),
    ("map", "cat words.txt | map { tr a-y b-z | rev | sort | uniq -c | sort -rn } | md5sum"),
    ("map with a script", "cat words.txt | map ./count.py | md5sum"),
    ("reduce", "cat words.txt | reduce by 2 { sort | uniq -c | rev | sort } | md5sum"),
]


class Meter:
    """CPU seconds of this program and all that it starts."""
    def __init__(self):
        self.group = None
        for place, member, self.usage in (("/sys/fs/cgroup/cpuacct", "tasks", "cpuacct.usage"), ("/sys/fs/cgroup", "cgroup.procs", "cpu.stat")):
            group = os.path.join(place, "zpipe-bench-%d" % os.getpid())
            if not os.path.exists(os.path.join(place, member)):
                continue
            try:
                os.mkdir(group)
                self.move(os.path.join(group, member))
                self.group, self.leave = group, os.path.join(place, member)
                return
            except OSError:  # not permitted here
                if os.path.isdir(group):
                    os.rmdir(group)

    @staticmethod
    def move(to):
        with open(to, "w") as f:
            f.write(str(os.getpid()))

    def seconds(self):
        if not self.group:
            return 0.0
        with open(os.path.join(self.group, self.usage)) as f:
            text = f.read().split()
        return int(text[0]) / 1e9 if len(text) == 1 else int(text[text.index("usage_usec") + 1]) / 1e6

    def is_gone(self):
        try:
            os.rmdir(self.group)
        except OSError:
            return False  # somebody of it is still at work
        return True

    def stop(self):
        if self.group:
            self.move(self.leave)
            until("the control group is empty", self.is_gone)
        self.group = None


def once(text, *options, **env):
    used = meter.seconds()
    t = time.perf_counter()
    r = subprocess.run([zpipe, *options, text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                       env={**os.environ, **env})
    if r.returncode not in (0, 1):
        sys.exit("%s: status %d" % (text, r.returncode))
    return time.perf_counter() - t, r.stdout, meter.seconds() - used


def compare(name, text, workers, cluster):
    one, many, used = [], [], ([], [])
    once(text, **cluster.env)
    for _ in range(RUNS):
        a, b = once(text, "-j", str(workers)), once(text, **cluster.env)
        if a[1] != b[1]:
            sys.exit("%s: not the same bytes" % name)
        one.append(a[0])
        many.append(b[0])
        used[0].append(a[2])
        used[1].append(b[2])
    o, m = statistics.median(one), statistics.median(many)
    cpu = [statistics.median(u) for u in used]
    print("%-28s embedded -j %d %8.1f ms (min %8.1f)   %d workers %8.1f ms (min %8.1f)   %5.2fx   goal >= %.2fx: %s" %
          (name, workers, o * 1e3, min(one) * 1e3, workers, m * 1e3, min(many) * 1e3, o / m, GOAL,
           "met" if o / m >= GOAL else "MISSED"), flush=True)
    if cpu[0]:
        print("%-28s CPU %21.1f ms %32.1f ms %26.2fx" % ("", cpu[0] * 1e3, cpu[1] * 1e3, cpu[0] / cpu[1]), flush=True)
    return {"name": name, "embedded_cpu_ms": cpu[0] * 1e3, "cluster_cpu_ms": cpu[1] * 1e3, "workers": workers, "embedded_ms": o * 1e3, "embedded_min_ms": min(one) * 1e3, "cluster_ms": m * 1e3,
            "cluster_min_ms": min(many) * 1e3, "ratio": o / m, "runs": RUNS}


def names_of(c):
    return [line.split()[1] for line in c.run("status").stdout.decode().splitlines() if line.startswith("worker ")]


def seconds_until(condition):
    t = time.perf_counter()
    while not condition():
        pass
    return time.perf_counter() - t


def moments():
    """How soon the scheduler does not count on a worker any more that was killed, or stands still; and from the start of a scheduler
    in the place of one that was killed until it is ready, and until it has its workers again."""
    killed, silent, ready, again = [], [], [], []
    for i in range(RUNS):
        with daemons.Cluster(workers=3) as c:
            c.workers[1].kill()
            killed.append(seconds_until(lambda: "w1" not in names_of(c)))
            c.workers[2].send_signal(signal.SIGSTOP)
            silent.append(seconds_until(lambda: "w2" not in names_of(c)))
            c.workers[2].send_signal(signal.SIGCONT)
            c.scheduler.kill()
            c.scheduler.wait()
            t = time.perf_counter()
            c.start_scheduler(c.url)
            ready.append(time.perf_counter() - t)
            again.append(ready[-1] + seconds_until(lambda: "w0" in names_of(c)))
    return [told("a killed worker is known", killed, 3), told("a silent worker is known", silent, 3),
            told("a scheduler is ready again", ready, 1), told("... and has its workers", again, 1)]


GROUPS = [d for d in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(d + "/cgroup.procs") and os.access(d, os.W_OK)]


class Spent:
    """CPU seconds of workers from now on, with all that runs below them: a control group each, for clones of templates are counted
    nowhere else."""

    def __init__(self, workers):
        self.workers = workers
        for w in workers:
            w.group = "%s/zpipe-bench-%d" % (GROUPS[0], w.pid)
            os.makedirs(w.group, exist_ok=True)
            for pid in self.below(w.pid):
                try:
                    with open(w.group + "/cgroup.procs", "w") as f:
                        f.write(str(pid))
                except ProcessLookupError:
                    pass  # it has ended
        self.began = {w: self.now(w) for w in workers}

    def below(self, pid):
        found = [pid]
        try:
            for t in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/children" % (pid, t)) as f:
                    found += [p for c in f.read().split() for p in self.below(int(c))]
        except FileNotFoundError:
            pass  # it has ended
        return found

    @staticmethod
    def now(w):
        if os.path.exists(w.group + "/cpuacct.usage"):
            with open(w.group + "/cpuacct.usage") as f:
                return int(f.read()) / 1e9
        with open(w.group + "/cpu.stat") as f:
            return int(f.readline().split()[1]) / 1e6

    def of(self, w):
        return self.now(w) - self.began[w]

    def all(self):
        return sum(map(self.of, self.workers))


def ungroup(workers):
    for w in workers:
        w.kill()
        w.wait()
        seconds_until(lambda: not open(w.group + "/cgroup.procs").read())
        os.rmdir(w.group)


def begin(c, pipeline, *options):
    return subprocess.Popen([zpipe, *options, pipeline], env=c.env, stdin=subprocess.DEVNULL, stdout=open("out", "wb"))


def end(p, want):
    if p.wait() or (want is not None and open("out", "rb").read() != want):
        sys.exit("a job that was disturbed has not the same bytes")
    return open("out", "rb").read()


def all_busy(c):
    rows = [line.split() for line in c.run("status").stdout.decode().splitlines() if line.startswith("worker ")]
    return len(rows) == 2 and all(int(r[2]) > 0 for r in rows)


BLOCKS = int(os.environ.get("BENCH_BLOCKS", 100_000))


def restart():
    """A job of many blocks, whose scheduler is killed and started again when a third of it is done."""
    with open("in.txt", "w") as f:
        for i in range(BLOCKS):
            f.write("%063d\n" % i)
    pipeline, options = "cat in.txt | map { cat }", ("--split", "always,64")
    again, ratio = [], []
    with daemons.Cluster(workers=2, slots=1) as c:
        spent = Spent(c.workers)
        want = end(begin(c, pipeline, *options), None)
        plain = spent.all()
        for _ in range(min(RUNS, 2)):
            spent = Spent(c.workers)
            p = begin(c, pipeline, *options)
            seconds_until(lambda: os.path.getsize("out") > len(want) // 3)
            c.scheduler.kill()
            c.scheduler.wait()
            t = time.perf_counter()
            c.start_scheduler(c.url)
            seconds_until(lambda: all_busy(c) or p.poll() is not None)
            again.append(time.perf_counter() - t)
            end(p, want)
            ratio.append(spent.all() / plain)
        ungroup(c.workers)
    return [told("... in a job of %d blocks" % BLOCKS, again, 1),
            share("CPU of it, restarted", statistics.median(ratio), plain, 1.15)]


MANY = int(os.environ.get("BENCH_MANY", 1_000_000))


def messages():
    """What the scheduler hears of a job of very many blocks, heartbeats included; and of one of a few."""
    heard = []
    for lines in (1000, MANY):
        with open("in.txt", "w") as f:
            for i in range(lines):
                f.write("%063d\n" % i)
        with daemons.Cluster(workers=2, slots=1) as c:
            used, t = [], time.perf_counter()
            for pipeline, options in (("echo begun", ()), ("grep -c 7 in.txt", ("--split", "always,64"))):
                end(begin(c, pipeline, *options), None)
                used.append(int(open("daemons.log").read().rpartition(" events=")[2].split()[0]))
            heard.append(used[1] - used[0])
            took = time.perf_counter() - t
        os.unlink("daemons.log")
    print("%-28s %8d messages   %5.1f s   (of 1000 blocks: %d)   goal: thousands: %s" %
          ("a job of %d blocks" % MANY, heard[1], took, heard[0], "met" if heard[1] < 10_000 else "MISSED"), flush=True)
    return [{"name": "messages to the scheduler", "blocks": MANY, "messages": heard[1], "of_1000_blocks": heard[0], "goal": 10_000}]


TASK = "sh -c 'i=0; while [ $i -lt %d ]; do i=$((i+1)); done; cat%s'"


def death(who, task, spent_of, *worker_options):
    """What was done twice as a share of what was lost, and that.  spent_of: makes what tells all that was spent from then on."""
    pipeline, options = "cat in.txt | map { %s }" % task, ("--split", "always,1K")
    with daemons.Cluster(workers=2, slots=1, options=worker_options) as c:
        spent = spent_of(c.workers)
        want = end(begin(c, pipeline, *options), None)
        plain, spent = spent.all(), spent_of(c.workers)
        p = begin(c, pipeline, *options)
        seconds_until(lambda: os.path.getsize("out") > len(want) // 2)
        owner = c.at_work()
        victim = owner if who == "the owner" else [w for w in c.workers if w != owner][0]
        held = spent.all() if who == "the owner" else spent.of(victim)
        victim.kill()
        end(p, want)
        twice = spent.all() - plain
        if isinstance(spent, Spent):
            ungroup(c.workers)
    return twice / held, held


class Counted:
    """Blocks that have ended, each of which has added a line to a file: without a sandbox, and whoever ran them."""

    def __init__(self, _):
        if os.path.exists("blocks"):
            os.unlink("blocks")  # if it is there, it is an input

    def all(self):
        return open("blocks").read().count("\n")


def deaths():
    """What of a worker's work is done again when it dies in the middle of a job: of one that lends slots, and of the owner of the
    stages, which has what all have done.  CPU seconds are the difference of two jobs, each twice as long as what was lost: if blocks
    cost a tenth more in one than in the other that is two tenths here.  So they are medians, and for an owner blocks are counted as well."""
    with open("in.txt", "w") as f:
        for i in range(8000):
            f.write("%063d\n" % i)
    rows = []
    for who in ("a lender", "the owner"):
        ratio, held = zip(*(death(who, TASK % (5000, ""), Spent) for _ in range(RUNS)))
        rows.append(share("done twice: %s dies" % who, statistics.median(ratio), statistics.median(held), 1.15))
    ratio, held = death("the owner", TASK % (5000, "; echo >> %s/blocks" % os.getcwd()), Counted, "--isolation", "none")
    print("%-28s %8d blocks    %5.2fx of it" % ("", held, ratio), flush=True)
    rows.append({"name": "blocks done twice: the owner dies", "blocks": held, "ratio": ratio})
    return rows


BUSY = "cat words.txt | map { sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; wc -l' } | md5sum"
SMALL = "tr -cs a-z '\\n' < words.txt | head -n 100000 | sort | uniq -c | sort -rn | md5sum"


def fair():
    """A small job by itself, and beside one of another client's that could use both workers for as long as it lasts: what it waits for is a
    slot that is lent, and half of the slots are its share."""
    alone, beside = [], []
    with daemons.Cluster(workers=2, slots=1) as c:
        want = once(SMALL, **c.env)[1]
        for _ in range(RUNS):
            alone.append(once(SMALL, **c.env))
            large = c.popen("--split", "always,16K", BUSY)
            seconds_until(lambda: all_busy(c))
            beside.append(once(SMALL, **c.env))
            if large.poll() is not None:
                sys.exit("the large job ended before the small one")
            large.terminate()
            large.wait()
            seconds_until(lambda: c.run("status").stdout.count(b"  0 of 1 slots taken") == 2)
    if any(one[1] != want for one in alone + beside):
        sys.exit("a job beside another has not the same bytes")
    a, b = (statistics.median(one[0] for one in runs) for runs in (alone, beside))
    print("%-28s alone %8.1f ms   beside a large one %8.1f ms   %5.2fx" % ("a small job", a * 1e3, b * 1e3, b / a), flush=True)
    return [{"name": "a small job beside a large one", "alone_ms": a * 1e3, "beside_ms": b * 1e3, "ratio": b / a, "runs": RUNS}]


class Relayed(daemons.Cluster):
    """Two workers of one slot, and how many bytes pass their data ports, from clients and between them."""

    def __init__(self, *options):
        super().__init__(workers=0)
        self.relays = []
        for i in range(2):
            with socket.create_server(("127.0.0.1", 0)) as s:
                port = s.getsockname()[1]
            self.relays.append(Relay("127.0.0.1", port, late=0))
            self.workers.append(self.start("worker", "--keys", self.keys, "--scheduler", self.url, "--slots", "1", "--name", "w%d" % i, "--image", "tests",
                                           "--data-listen", "tcp://127.0.0.1:%d" % port, "--advertise", self.relays[i].url, *options)[0])

    def passed(self, text, *options):
        before = sum(r.bytes for r in self.relays)
        out = once(text, *options, **self.env)[1]
        return sum(r.bytes for r in self.relays) - before, out

    def __exit__(self, *a):
        super().__exit__(*a)
        for r in self.relays:
            r.close()


def local():
    """Bytes that cross a data port for each of the input's: with every stage on another worker than its neighbours; with all of them where the
    blocks are that they read, and blocks lent to the other worker; and likewise with an input that both have in place."""
    rows, size = [], os.path.getsize("words.txt")
    for name, text in (("tr, sort and count", "tr a-y b-z < words.txt | sort | uniq -c | sort -rn | md5sum"), ("grep and awk", "grep -v zzz words.txt | awk '{ print $3 }' | sort | md5sum"),
                       ("map", "cat words.txt | map { tr a-y b-z | rev | sort | uniq -c } | md5sum")):
        got = []
        with Relayed() as c:
            got += [c.passed(text, "--placement", "spread"), c.passed(text)]
        with Relayed("--shared", os.getcwd()) as c:
            got += [c.passed(text)]
        if len({out for _, out in got}) != 1:
            sys.exit("%s: not the same bytes" % name)
        spread, placed, shared = (passed / size for passed, _ in got)
        print("%-28s bytes moved per byte of input: stages apart %5.2f   together, blocks lent %5.2f (%4.2fx)   and input in place %5.2f (%4.2fx)" %
              (name, spread, placed, placed / spread, shared, shared / placed), flush=True)
        rows.append({"name": "bytes moved: " + name, "input_bytes": size, "apart": spread, "placed": placed, "in_place": shared})
    return rows


def share(name, ratio, seconds, goal):
    print("%-28s %8.2f s of CPU   %5.2fx of it   goal <= %.2fx: %s" % (name, seconds, ratio, goal, "met" if ratio <= goal else "MISSED"),
          flush=True)
    return {"name": name, "cpu_s": seconds, "ratio": ratio, "goal": goal}


def told(name, seconds, goal):
    s = statistics.median(seconds)
    print("%-28s %8.1f ms (most %8.1f)   %5.2fx of %d s: %s" %
          (name, s * 1e3, max(seconds) * 1e3, s / goal, goal, "met" if s <= goal else "MISSED"), flush=True)
    return {"name": name, "ms": s * 1e3, "most_ms": max(seconds) * 1e3, "goal_ms": goal * 1e3, "runs": len(seconds)}


def main():
    rows = []
    global meter
    meter = Meter()
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as d:
        r = random.Random(3)
        with open(os.path.join(d, "words.txt"), "w") as f:
            for _ in range(LINES):
                f.write(" ".join("".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randrange(1, 9)))
                                 for _ in range(6)) + "\n")
        with open(os.path.join(d, "count.py"), "w") as f:
            f.write("#!/usr/bin/python3\nimport collections, sys\nn = collections.Counter(w for line in sys.stdin for w in line.split())\n"
                    "for w, count in sorted(n.items()):\n    print(count, w)\n")
        os.chmod(os.path.join(d, "count.py"), 0o755)
        os.chdir(d)
        os.chmod(d, 0o755)
        for workers, where, options in ((1, "", ()), (2, "", ()), (2, ", in place", ("--shared", d))):
            place = os.path.join(d, "cluster%d%s" % (workers, where))
            os.mkdir(place)
            cluster = Cluster(zpipe, lambda: None, place, workers=workers, slots=1, talk=False, options=options)
            try:
                rows += [compare(name + where, text, workers, cluster) for name, text in JOBS if ONLY in name + where]
            finally:
                cluster.stop()
        if ONLY in "fair":
            rows += fair()
        if ONLY in "local":
            rows += local()
        if ONLY in "moments":
            rows += moments() + messages()
            if GROUPS:
                rows += restart() + deaths()
            else:
                print("CPU seconds of workers are counted in control groups, and here is none that may be used")
        os.chdir("/")
    meter.stop()
    out = os.path.join(os.path.dirname(zpipe), "..", "..", "bench")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "cluster.json"), "w") as f:
        json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
