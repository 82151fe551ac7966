#!/usr/bin/env python3
"""bench/run.py ZPIPE: what the sandboxes cost, as ratios against sh in the same run.

Prints a table and writes build/bench/pipelines.json.  Runs alternate, figures are medians; the smallest stands beside
them, since a busy machine moves the median.  A goal that is missed is said, and is no failure: this is no test."""
import json, os, statistics, subprocess, sys, tempfile, time

zpipe = os.path.abspath(sys.argv[1])
BIG = int(os.environ.get("BENCH_BYTES", 200_000_000))
RUNS = int(os.environ.get("BENCH_RUNS", 7))
sh = ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C", "TZ=UTC", "sh", "-c"]


def wall(argv, cwd, pinned):
    argv = (["taskset", "-c", "0"] if pinned else []) + argv
    t = time.perf_counter()
    r = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return time.perf_counter() - t, r.stdout, r.returncode


def verdict(met, goal):
    return "goal %s: %s" % (goal, "met" if met else "MISSED")


def pair(name, text, cwd, runs, pinned):
    mine, theirs = [], []
    wall([zpipe, text], cwd, pinned)
    for _ in range(runs):
        a, b = wall([zpipe, text], cwd, pinned), wall(sh + [text], cwd, pinned)
        if a[1:] != b[1:]:
            sys.exit("%s: not the same bytes or status" % name)
        mine.append(a[0])
        theirs.append(b[0])
    z, s = statistics.median(mine), statistics.median(theirs)
    said = verdict(s / z >= 0.9, ">= 0.90x") if pinned else verdict(z <= 0.012, "<= 12 ms")
    print("%-30s zpipe %8.2f ms (min %8.2f)   sh %8.2f ms (min %8.2f)   %5.2fx of sh   %s" %
          (name, z * 1e3, min(mine) * 1e3, s * 1e3, min(theirs) * 1e3, s / z, said), flush=True)
    return {"name": name, "zpipe_ms": z * 1e3, "zpipe_min_ms": min(mine) * 1e3, "sh_ms": s * 1e3,
            "sh_min_ms": min(theirs) * 1e3, "ratio": s / z, "runs": runs, "pinned": pinned}


def peak_rss(text, cwd, feed_bytes):
    """Peak memory of the zpipe process itself (VmHWM), while feed_bytes stream through it."""
    feeder = subprocess.Popen(["sh", "-c", "yes 'a line of text to stream' | head -c %d" % feed_bytes], stdout=subprocess.PIPE)
    p = subprocess.Popen([zpipe, text], cwd=cwd, stdin=feeder.stdout, stdout=subprocess.DEVNULL)
    feeder.stdout.close()
    peak = 0
    while p.poll() is None:
        try:
            for line in open("/proc/%d/status" % p.pid):
                if line.startswith("VmHWM"):
                    peak = int(line.split()[1]) / 1024
        except OSError:
            pass
        time.sleep(0.002)
    feeder.wait()
    return peak


# CPU-bound, on all CPUs, with inputs of their own: what blocks bring.
PARALLEL = (r"grep -E '([a-z]).*\1.*\1 in' BIG", "sort BIG", "sort -k2,2 -k1n BIG", "tr -cs A-Za-z0-9 '\\n' < BIG | sort | uniq -c | sort -rn | head",
            "awk '{ print $NF, length($0) }' BIG", "grep x BIG | cut -d' ' -f1 | sort -n | tail -3")


# Likewise where the author says how it may be cut, beside what is the same in sh; the order of lines is not.
AUTHOR = (("reduce by 1 into 8 { sort | uniq -c } < BIG", "sort BIG | uniq -c"),)


# Where there is little to be gained nothing may be lost.
BESIDE = ("cat BIG | cat | wc -c", "tr -s ' ' < BIG", "cut -d' ' -f2 BIG | sort | uniq -c")


def parallel(text, cwd, other=None):
    """Beside sh, which has all CPUs too, and beside an ideal: sh's time on one CPU, divided by how many there are."""
    mine, theirs, one = [], [], []
    theirs_text = other or text
    for _ in range(max(3, RUNS // 2)):
        a, b, c = wall([zpipe, text], cwd, False), wall(sh + [theirs_text], cwd, False), wall(sh + [theirs_text], cwd, True)
        if (a[1:] != b[1:]) if not other else (sorted(a[1].split(b"\n")), a[2]) != (sorted(b[1].split(b"\n")), b[2]):
            sys.exit("%s: not the same bytes or status" % text)
        mine.append(a[0])
        theirs.append(b[0])
        one.append(c[0])
    z, s, ideal = statistics.median(mine), statistics.median(theirs), statistics.median(one) / os.cpu_count()
    said = verdict(s < 0.3 or s / z >= 0.95, ">= 0.95x of sh") if text in BESIDE else verdict(ideal / z >= 0.85, ">= 0.85x of ideal")
    print("%-60s %8.3f s   sh %8.3f s   %5.2fx of sh   %5.2fx of ideal   %s" % (text[:60], z, s, s / z, ideal / z, said), flush=True)
    return {"name": text, "zpipe_s": z, "sh_s": s, "ideal_s": ideal}


def main():
    out = {"bytes": BIG, "kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "uid": os.geteuid(),
           "rows": []}
    print("%d CPUs, kernel %s, load %.1f, uid %d" % (out["cpus"], out["kernel"], out["load"], out["uid"]))
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "BIG"), "w") as f:
            n = i = 0
            while n < BIG:
                chunk = "".join("%d some text with x in it %d\n" % (k * 7919 % 1000003, k) if k % 3 else "%d nothing here\n" % k
                                for k in range(i, i + 10000))
                i += 10000
                n += len(chunk)
                f.write(chunk)
        out["rows"].append(pair("true", "true", d, 100, False))
        for text in ("cat BIG | grep x | sort", "cat BIG | cat | cat | wc -c"):
            out["rows"].append(pair(text, text, d, RUNS, True))
        for text in PARALLEL + BESIDE:
            out["rows"].append(parallel(text, d))
        for text, other in AUTHOR:
            out["rows"].append(parallel(text, d, other))
        for size in (1_000_000, 2_000_000_000):
            rss = peak_rss("cat | cat | wc -c", d, size)
            print("peak memory of zpipe, %10d bytes streamed: %6.1f MiB   %s" % (size, rss, verdict(rss <= 32, "<= 32 MiB")))
            out["rows"].append({"name": "memory", "bytes": size, "peak_mib": rss})
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/pipelines.json", "w") as f:
        json.dump(out, f, indent=1)


main()
