#!/usr/bin/env python3
"""bench/growth.py ZPIPE: what more input costs: time and memory per megabyte, at sizes ten times apart; and what more blocks
and more files cost, each a task of its own.

Prints a table and writes build/bench/growth.json.  Time is the smallest of some runs.  Memory is the peak of zpipe's own process,
and of it and all its descendants together, as looked at every few milliseconds (what they share is counted more than once).
Growth is the price of a megabyte beside that at the smallest size: 1.0 is linear."""
import json, os, subprocess, sys, tempfile, threading, time

zpipe = os.path.abspath(sys.argv[1])
SIZES = [int(float(s)) for s in os.environ.get("GROWTH_BYTES", "10e6,100e6,1e9").split(",")]
RUNS = int(os.environ.get("GROWTH_RUNS", 2))
TASKS = [int(float(s)) for s in os.environ.get("GROWTH_TASKS", "10,100,1e3,1e4,1e5").split(",")]
FILES_MAX = 10000
START_UP = 1000  # fewer cost what zpipe's start does
TEXTS = ("grep -c x BIG", "awk '{ print $NF, length($0) }' BIG", "cat BIG | map ./words.py", "sort BIG", "cut -d' ' -f2 BIG | sort | uniq -c", "tr -cs A-Za-z0-9 '\\n' < BIG | sort | uniq -c | sort -rn | head",
         "cat BIG | ./pass | wc -c")
SCRIPTS = {"pass": "#!/bin/sh\nexec cat\n",
           "words.py": "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin:\n    print(len(line.split()))\n"}


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


def run(text, cwd, *options):
    peak, over = [0, 0], threading.Event()
    start = time.perf_counter()
    p = subprocess.Popen([zpipe, *options, text], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    t = threading.Thread(target=watch, args=(p.pid, peak, over))
    t.start()
    status = p.wait()
    wall = time.perf_counter() - start
    over.set()
    t.join()
    if status:
        sys.exit("%s: status %d" % (text, status))
    return wall, peak[0], peak[1]


def tasks(out):
    """Blocks of one line and files of one line; and blocks that nobody's word made tasks, some to a sandbox."""
    for name, text, most in (("blocks of a map", "with block=1 { cat LINES | map { wc -c } } | tail -n 1", None),
                             ("files of a map", "cat f*.txt | map per file { wc -c } | tail -n 1", FILES_MAX),
                             ("blocks of a command", "cat LINES | tr a-z A-Z | tail -n 1", None)):
        base = None
        for count in TASKS:
            if most and count > most:
                continue
            with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
                with open(os.path.join(d, "LINES"), "w") as f:
                    f.write("a line of 63 bytes and its end, which is all that is in a block\n" * count)
                for i in range(count if "f*.txt" in text else 0):
                    with open(os.path.join(d, "f%06d.txt" % i), "w") as f:
                        f.write("%d\n" % i)
                options = () if "map" in text else ("--split", "always,64")
                wall, own, all_ = (min(v) for v in zip(*(run(text, d, *options) for _ in range(RUNS))))
            base = base or (wall / count if count >= START_UP else None)
            growth = "%4.2f" % (wall / count / base) if base else "   -"
            print("%-62s %6d %11.2f s %7.2f ms each  growth %s   zpipe %6.1f MiB   all %7.1f MiB" %
                  (name, count, wall, wall / count * 1e3, growth, own / 2**20, all_ / 2**20), flush=True)
            out["rows"].append({"text": text, "tasks": count, "wall_s": wall, "own_peak": own, "all_peak": all_})


def main():
    out = {"kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "rows": []}
    print("%d CPUs, load %.1f, smallest of %d runs" % (out["cpus"], out["load"], RUNS))
    first = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
            make(os.path.join(d, "BIG"), size)
            for name, text in SCRIPTS.items():
                with open(os.path.join(d, name), "w") as f:
                    f.write(text)
                os.chmod(os.path.join(d, name), 0o755)
            for text in TEXTS:
                wall, own, all_ = (min(v) for v in zip(*(run(text, d) for _ in range(RUNS))))
                mb = size / 1e6
                base = first.setdefault(text, wall / mb)
                print("%-62s %6.0f MB %8.2f s %7.2f ms/MB  growth %4.2f   zpipe %6.1f MiB   all %7.1f MiB" %
                      (text[:62], mb, wall, wall / mb * 1e3, wall / mb / base, own / 2**20, all_ / 2**20), flush=True)
                out["rows"].append({"text": text, "bytes": size, "wall_s": wall, "own_peak": own, "all_peak": all_})
    tasks(out)
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/growth.json", "w") as f:
        json.dump(out, f, indent=1)


main()
