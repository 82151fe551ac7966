#!/usr/bin/env python3
"""bench/growth.py ZPIPE: what more input costs: time and memory per megabyte, at sizes ten times apart; and what more blocks
and more files cost, each a task of its own.

Prints a table and writes build/bench/growth.json.  CPU is that of zpipe and all that it started, as perf counts it, so that others on the
machine hardly matter; without perf it is the time, which is printed beside it.  Both are the smallest of some runs (from 1 GB on, of one).
Memory is the peak of zpipe's own process, and of it and all its descendants together, as looked at every few milliseconds (what they share
is counted more than once).  Growth is the price of a megabyte beside that at the smallest size: 1.0 is linear."""
import json, os, shutil, subprocess, sys, tempfile, threading, time

zpipe = os.path.abspath(sys.argv[1])
SIZES = [int(float(s)) for s in os.environ.get("GROWTH_BYTES", "10e6,100e6,1e9,10e9").split(",") if s]
RUNS = int(os.environ.get("GROWTH_RUNS", 2))
TASKS = [int(float(s)) for s in os.environ.get("GROWTH_TASKS", "10,100,1e3,1e4,1e5").split(",") if s]
FILES_MAX = 10000
ONCE = 10**9     # from here on one run is enough, and long
DISK = 4         # the input, runs of it, and their merge
START_UP = 1000  # fewer cost what zpipe's start does
TEXTS = ("grep -c x BIG", "awk '{ print $NF, length($0) }' BIG", "cat BIG | map ./words.py", "sort BIG", "cut -d' ' -f2 BIG | sort | uniq -c", "tr -cs A-Za-z0-9 '\\n' < BIG | sort | uniq -c | sort -rn | head",
         "cat BIG | ./pass | wc -c")
SCRIPTS = {"pass": "#!/bin/sh\nexec cat\n",
           "words.py": "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin:\n    print(len(line.split()))\n"}


def grow(path, size):
    """Appends to a file up to a size; its lines are the same however it grew."""
    with open(path, "a") as f:
        f.seek(0, os.SEEK_END)
        n, i = f.tell(), grow.lines
        while n < size:
            chunk = "".join("%d some text with x in it %d\n" % (k * 7919 % 100000007, k) for k in range(i, i + 20000))
            i += 20000
            n += len(chunk)
            f.write(chunk)
        grow.lines = i


grow.lines = 0


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


def watch(pid, below, peak, over):
    """What zpipe uses, which is pid, or what pid has started."""
    while not over.wait(0.01):
        own = (children(pid) + [0])[0] if below else pid
        todo, total = [own], 0
        while todo:
            at = todo.pop()
            total += rss(at)
            todo += children(at)
        peak[0] = max(peak[0], rss(own))
        peak[1] = max(peak[1], total)


def run(text, cwd, *options):
    """Wall, CPU, and the two peaks of memory."""
    peak, over, told = [0, 0], threading.Event(), os.path.join(cwd, "perf.txt")
    counted = ["perf", "stat", "-x,", "-e", "task-clock", "-o", told, "--"] if shutil.which("perf") else []
    start = time.perf_counter()
    p = subprocess.Popen([*counted, zpipe, *options, text], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    t = threading.Thread(target=watch, args=(p.pid, bool(counted), peak, over))
    t.start()
    status = p.wait()
    wall = cpu = time.perf_counter() - start
    over.set()
    t.join()
    if status:
        sys.exit("%s: status %d" % (text, status))
    if counted:
        with open(told) as f:
            cpu = float([line for line in f if "task-clock" in line][0].split(",")[0]) / 1e3
    return wall, cpu, peak[0], peak[1]


def least(runs, text, cwd, *options):
    return tuple(min(v) for v in zip(*(run(text, cwd, *options) for _ in range(runs))))


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
                wall, cpu, own, all_ = least(RUNS, text, d, *options)
            base = base or (cpu / count if count >= START_UP else None)
            growth = "%4.2f" % (cpu / count / base) if base else "   -"
            print("%-62s %6d   %8.2f s   CPU %8.2f s %7.2f ms each  growth %s   zpipe %6.1f MiB   all %7.1f MiB" %
                  (name, count, wall, cpu, cpu / count * 1e3, growth, own / 2**20, all_ / 2**20), flush=True)
            out["rows"].append({"text": text, "tasks": count, "wall_s": wall, "cpu_s": cpu, "own_peak": own, "all_peak": all_})


def main():
    out = {"kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "rows": []}
    print("%d CPUs, load %.1f, smallest of %d runs" % (out["cpus"], out["load"], RUNS))
    first = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
        for name, text in SCRIPTS.items():
            with open(os.path.join(d, name), "w") as f:
                f.write(text)
            os.chmod(os.path.join(d, name), 0o755)
        for size in SIZES:
            if shutil.disk_usage(d).free < DISK * size:
                print("%d MB: left out, as %s has no room for %d times as much" % (size / 1e6, d, DISK))
                continue
            grow(os.path.join(d, "BIG"), size)
            for text in TEXTS:
                wall, cpu, own, all_ = least(RUNS if size < ONCE else 1, text, d)
                mb = size / 1e6
                base = first.setdefault(text, cpu / mb)
                print("%-62s %6.0f MB %8.2f s   CPU %8.2f s %7.2f ms/MB  growth %4.2f   zpipe %6.1f MiB   all %7.1f MiB" %
                      (text[:62], mb, wall, cpu, cpu / mb * 1e3, cpu / mb / base, own / 2**20, all_ / 2**20), flush=True)
                out["rows"].append({"text": text, "bytes": size, "wall_s": wall, "cpu_s": cpu, "own_peak": own, "all_peak": all_})
    tasks(out)
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/growth.json", "w") as f:
        json.dump(out, f, indent=1)


main()
