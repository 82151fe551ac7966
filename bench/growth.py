#!/usr/bin/env python3
"""bench/growth.py ZPIPE: what more input costs: time and memory per megabyte, at sizes ten times apart.

Prints a table and writes build/bench/growth.json.  Time is the smallest of some runs.  Memory is the peak of zpipe's own process,
and of it and all its descendants together, as looked at every few milliseconds (what they share is counted more than once).
Growth is the price of a megabyte beside that at the smallest size: 1.0 is linear."""
import json, os, subprocess, sys, tempfile, threading, time

zpipe = os.path.abspath(sys.argv[1])
SIZES = [int(float(s)) for s in os.environ.get("GROWTH_BYTES", "10e6,100e6,1e9").split(",")]
RUNS = int(os.environ.get("GROWTH_RUNS", 2))
TEXTS = ("grep -c x BIG", "sort BIG", "cut -d' ' -f2 BIG | sort | uniq -c", "tr -cs A-Za-z0-9 '\\n' < BIG | sort | uniq -c | sort -rn | head",
         "cat BIG | ./pass | wc -c")


def make(path, size):
    with open(path, "w") as f:
        i = n = 0
        while n < size:
            chunk = "".join("%d some text with x in it %d\n" % (k * 7919 % 100000007, k) for k in range(i, i + 20000))
            i += 20000
            n += len(chunk)
            f.write(chunk)


def rss(pid):
    try:
        with open("/proc/%d/statm" % pid) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(c) for c in f.read().split()]
    except OSError:
        return []


def watch(pid, peak, over):
    while not over.wait(0.01):
        todo, total = [pid], 0
        while todo:
            at = todo.pop()
            total += rss(at)
            todo += children(at)
        peak[0] = max(peak[0], rss(pid))
        peak[1] = max(peak[1], total)


def run(text, cwd):
    peak, over = [0, 0], threading.Event()
    start = time.perf_counter()
    p = subprocess.Popen([zpipe, text], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    t = threading.Thread(target=watch, args=(p.pid, peak, over))
    t.start()
    status = p.wait()
    wall = time.perf_counter() - start
    over.set()
    t.join()
    if status:
        sys.exit("%s: status %d" % (text, status))
    return wall, peak[0], peak[1]


def main():
    out = {"kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "rows": []}
    print("%d CPUs, load %.1f, smallest of %d runs" % (out["cpus"], out["load"], RUNS))
    first = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
            make(os.path.join(d, "BIG"), size)
            with open(os.path.join(d, "pass"), "w") as f:
                f.write("#!/bin/sh\nexec cat\n")
            os.chmod(os.path.join(d, "pass"), 0o755)
            for text in TEXTS:
                wall, own, all_ = (min(v) for v in zip(*(run(text, d) for _ in range(RUNS))))
                mb = size / 1e6
                base = first.setdefault(text, wall / mb)
                print("%-62s %6.0f MB %8.2f s %7.2f ms/MB  growth %4.2f   zpipe %6.1f MiB   all %7.1f MiB" %
                      (text[:62], mb, wall, wall / mb * 1e3, wall / mb / base, own / 2**20, all_ / 2**20), flush=True)
                out["rows"].append({"text": text, "bytes": size, "wall_s": wall, "own_peak": own, "all_peak": all_})
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/growth.json", "w") as f:
        json.dump(out, f, indent=1)


main()
