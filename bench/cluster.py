#!/usr/bin/env python3
"""bench/cluster.py ZPIPE: jobs that use the CPU over workers of one slot each, which lend each other theirs, beside the
same job in one process with as many slots (`-j`).

Prints a table and writes build/bench/cluster.json: rounds alternate, figures are medians, and a goal that is missed is
said and is no failure: this is no test.  All processes are on this machine, so it has to have as many CPUs as there are
slots; with the load of others on it only the ratio means something."""
import json, os, random, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))
import daemons  # noqa: E402
from run import Cluster  # noqa: E402

zpipe = os.path.abspath(sys.argv[1])
LINES = int(os.environ.get("BENCH_LINES", 200_000))
RUNS = int(os.environ.get("BENCH_RUNS", 5))
GOAL = 0.9
ONLY = os.environ.get("BENCH_ONLY", "")
JOBS = [
    ("grep with back-references", "grep -cE '(.*)(.*)q\\1z' words.txt"),
    ("awk", "awk '{ n = 0; for (i = 1; i < 400; i++) n += length($1) * i; print n % 97, $2 }' words.txt | tail -1"),
    ("sort and count", "tr -cs a-z '\\n' < words.txt | sort | uniq -c | sort -rn | head -3"),
    ("sort -k", "sort -k3,3 -k1,1r words.txt | tail -1"),
    ("map", "cat words.txt | map { tr a-y b-z | rev | sort | uniq -c | sort -rn } | md5sum"),
    ("map with a script", "cat words.txt | map ./count.py | md5sum"),
    ("reduce", "cat words.txt | reduce by 2 { sort | uniq -c | rev | sort } | md5sum"),
]


def once(text, *options, **env):
    t = time.perf_counter()
    r = subprocess.run([zpipe, *options, text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                       env={**os.environ, **env})
    if r.returncode not in (0, 1):
        sys.exit("%s: status %d" % (text, r.returncode))
    return time.perf_counter() - t, r.stdout


def compare(name, text, workers, cluster):
    one, many = [], []
    once(text, **cluster.env)
    for _ in range(RUNS):
        a, b = once(text, "-j", str(workers)), once(text, **cluster.env)
        if a[1] != b[1]:
            sys.exit("%s: not the same bytes" % name)
        one.append(a[0])
        many.append(b[0])
    o, m = statistics.median(one), statistics.median(many)
    print("%-28s embedded -j %d %8.1f ms (min %8.1f)   %d workers %8.1f ms (min %8.1f)   %5.2fx   goal >= %.2fx: %s" %
          (name, workers, o * 1e3, min(one) * 1e3, workers, m * 1e3, min(many) * 1e3, o / m, GOAL,
           "met" if o / m >= GOAL else "MISSED"), flush=True)
    return {"name": name, "workers": workers, "embedded_ms": o * 1e3, "embedded_min_ms": min(one) * 1e3, "cluster_ms": m * 1e3,
            "cluster_min_ms": min(many) * 1e3, "ratio": o / m, "runs": RUNS}


def names_of(c):
    return [line.split()[1] for line in c.run("status").stdout.decode().splitlines() if line.startswith("worker ")]


def moments():
    """From a worker's kill -9 until the scheduler does not count on it any more; and from the start of a scheduler in the place
    of one that was killed until it is ready, and until it has its workers again.  It knows no blocks: how many there are is no matter."""
    lost, ready, again = [], [], []
    for i in range(RUNS):
        daemons.zpipe = zpipe
        with daemons.Cluster() as c:
            t = time.perf_counter()
            c.workers[1].kill()
            while "w1" in names_of(c):
                pass
            lost.append(time.perf_counter() - t)
            c.scheduler.kill()
            c.scheduler.wait()
            t = time.perf_counter()
            c.start_scheduler(c.url)
            ready.append(time.perf_counter() - t)
            while "w0" not in names_of(c):
                pass
            again.append(time.perf_counter() - t)
    rows = []
    for name, seconds, goal in (("a killed worker is known", lost, 3), ("a scheduler is ready again", ready, 1), ("... and has its workers", again, None)):
        s = statistics.median(seconds)
        print("%-28s %8.1f ms (most %8.1f)%s" % (name, s * 1e3, max(seconds) * 1e3, "" if goal is None else "   goal <= %d s: %s" %
                                                (goal, "met" if s <= goal else "MISSED")), flush=True)
        rows.append({"name": name, "ms": s * 1e3, "most_ms": max(seconds) * 1e3, "runs": RUNS})
    return rows


def main():
    rows = []
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
        for workers in (1, 2):
            os.mkdir("cluster%d" % workers)
            cluster = Cluster(zpipe, lambda: None, os.path.join(d, "cluster%d" % workers), workers=workers, slots=1, talk=False)
            try:
                rows += [compare(name, text, workers, cluster) for name, text in JOBS if ONLY in name]
            finally:
                cluster.stop()
        if not ONLY:
            rows += moments()
        os.chdir("/")
    out = os.path.join(os.path.dirname(zpipe), "..", "..", "bench")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "cluster.json"), "w") as f:
        json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
