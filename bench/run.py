#!/usr/bin/env python3
"""bench/run.py ZPIPE: what zpipe costs and what it brings, as ratios against sh in the same run, and GNU parallel (where it is installed).

Prints tables and writes build/bench/pipelines.json.  Runs alternate, figures are medians; on a busy machine they mean little, so the load
is printed.  BENCH_BYTES and BENCH_RUNS say otherwise than 200 MB and 7.  A goal that is missed is said, and is no failure: this is no test.

Each row says what is asked of it:
- small: at most so many milliseconds;
- beside sh, which has all CPUs too: 0.95x of its time, or 15 ms more where it takes less than 300;
- early stop: from the moment when all that `head` lets through has come, zpipe, and so all that runs for it, is gone after that;
- ideal: sh's time on one CPU, divided by how many there are; at most that / 0.85.

"attainable" is what the machine gives: sh's time on one CPU beside that of as many of it as there are CPUs, one on each at once.  CPUs that
share a core, its caches or the memory's bandwidth do less then, whoever runs on them; so who loses nothing reaches this of ideal, not 1."""
import gzip, json, os, shutil, statistics, subprocess, sys, tempfile, threading, time

zpipe = os.path.abspath(sys.argv[1])
BIG = int(os.environ.get("BENCH_BYTES", 200_000_000))
RUNS = int(os.environ.get("BENCH_RUNS", 7))
CPUS = len(os.sched_getaffinity(0))
LONG_S, MORE_S, BESIDE_MIN, IDEAL_MIN, TRUE_S, RSS_MIB, STOP_S = 0.3, 0.015, 0.95, 0.85, 0.012, 32, 0.1
FILES = 64
sh = ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C", "TZ=UTC", "sh", "-c"]

# CPU-bound: what blocks bring.  `hand` is how one does it with GNU parallel and its parsort by hand.
PARSORT = "parsort --parallel=%d " % CPUS
BY_HAND = "parallel --pipepart -a BIG --block -1 -k -j %d " % CPUS
PARALLEL = (
    (r"grep -E '([a-z])[a-z]* \1[a-z]* [0-9]*7$' BIG", BY_HAND + r"""grep -E "'([a-z])[a-z]* \1[a-z]* [0-9]*7$'" """),
    ("sort BIG", PARSORT + "BIG"),
    ("sort -k2,2 -k1n BIG", PARSORT + "-k2,2 -k1n BIG"),
    ("tr -cs A-Za-z0-9 '\\n' < BIG | sort | uniq -c | sort -rn | head", BY_HAND + r"""tr -cs A-Za-z0-9 "'\\n'" | """ + PARSORT + "| uniq -c | sort -rn | head"),
    ("awk '{ print $NF, length($0) }' BIG", BY_HAND + """awk "'{ print \\$NF, length(\\$0) }'" """),
    ("grep x BIG | cut -d' ' -f1 | sort -n | tail -3", BY_HAND + """"grep x | cut -d' ' -f1" | """ + PARSORT + "-n | tail -3"),
)
# Where the author says how it may be cut, beside what is the same in sh; the order of lines is not, where `any` says so.
AUTHOR = (
    ("cat BIG | map ./script.py", "./script.py < BIG", BY_HAND + "./script.py", False),
    ("reduce by 1 into 8 { sort | uniq -c } < BIG", "sort BIG | uniq -c", PARSORT + "BIG | uniq -c", True),
    ("cat gz/*.gz | map per file { gzip -dc }", "gzip -dc gz/*.gz", "ls gz/*.gz | parallel -k -j %d gzip -dc {}" % CPUS, False),
)
# Where there is little to be gained nothing may be lost.
BESIDE = ("cat BIG | cat | wc -c", "tr -s ' ' < BIG", "cut -d' ' -f2 BIG | sort | uniq -c", "head -c 100M BIG | wc -l")
# What runs in front of a `head` that has its lines: by what it is.
EARLY = (
    ("streams", "cat BIG | cat | cat"),
    ("blocks", r"grep -E '([a-z])[a-z]* \1[a-z]* [0-9]*7$' BIG"),
    ("blocks, light ones", "tr a-z A-Z < BIG | cut -d' ' -f1"),
    ("blocks behind a stream", "cat BIG | ./pass | awk '{ print NF, length($0) }'"),
    ("map", "cat BIG | map ./script.py"),
    ("map of files", "cat gz/*.gz | map per file { gzip -dc }"),
    ("whole", "./endless"),
    ("whole, behind blocks", "sed 's/t/T/2' BIG | ./pass"),
)
SCRIPTS = {"pass": "#!/bin/sh\nexec cat\n", "endless": "#!/usr/bin/awk -f\nBEGIN { while (1) print ++n, \"lines\" }\n"}
SCRIPT = """#!/usr/bin/python3
import sys
for line in sys.stdin:
    words = line.split()
    print(len(words), words[0][::-1])
"""


def wall(argv, cwd, pinned=False):
    argv = (["taskset", "-c", "0"] if pinned else []) + argv
    t = time.perf_counter()
    r = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return time.perf_counter() - t, r.stdout, r.returncode


def wall_of_all(argv, cwd):
    """argv on each CPU at once, until the last one has ended."""
    t = time.perf_counter()
    started = [subprocess.Popen(["taskset", "-c", str(c)] + argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
               for c in sorted(os.sched_getaffinity(0))]
    readers = [threading.Thread(target=p.communicate) for p in started]
    for r in readers:
        r.start()
    for r in readers:
        r.join()
    return time.perf_counter() - t


def verdict(met, goal):
    return "goal %s: %s" % (goal, "met" if met else "MISSED")


def beside(z, s):
    return verdict(s / z >= BESIDE_MIN, ">= %.2fx of sh" % BESIDE_MIN) if s >= LONG_S else verdict(z - s <= MORE_S, "<= %d ms more" % (MORE_S * 1e3))


def row(name, cwd, runs, said, pinned=False, text=None, hand=None, any_order=False, ideal=False):
    """zpipe NAME, sh TEXT (the same, if there is none), sh on one CPU, and what one does by hand, one after the other, some times."""
    argv = {"zpipe": [zpipe, name], "sh": sh + [text or name]}
    if ideal:
        argv["one"] = ["taskset", "-c", "0"] + argv["sh"]
    if hand and shutil.which("parallel"):
        argv["hand"] = sh + [hand]
    took, seen, together = {k: [] for k in argv}, None, []
    wall(argv["zpipe"], cwd, pinned)
    for _ in range(runs):
        for k, a in argv.items():
            t, out, status = wall(a, cwd, pinned)
            out = sorted(out.split(b"\n")) if any_order else out
            seen = seen or (out, status)
            if (out, status) != seen:
                sys.exit("%s: not the same bytes or status as %s" % (name, k))
            took[k].append(t)
        if ideal:
            together.append(wall_of_all(argv["sh"], cwd))
    m = {k: statistics.median(v) for k, v in took.items()}
    r = {"name": name, "pinned": pinned, "runs": runs, "ratio": m["sh"] / m["zpipe"]}
    r.update({k + "_s": v for k, v in m.items()})
    line = "%-62s %9.4f s   sh %9.4f s %5.2fx" % (name[:62], m["zpipe"], m["sh"], r["ratio"])
    if ideal:
        r["ideal"] = m["one"] / CPUS / m["zpipe"]
        r["attainable"] = m["one"] / statistics.median(together)
        line += "   ideal %5.2fx of attainable %4.2fx" % (r["ideal"], r["attainable"])
    if "hand" in m:
        r["hand"] = m["hand"] / m["zpipe"]
        line += "   beside GNU parallel %5.2fx" % r["hand"]
    print("%s   %s" % (line, said(m)), flush=True)
    return r


def early(kind, text, cwd, runs):
    """How long zpipe goes on when all three lines were seen; it ends when nothing of it runs."""
    text, took = text + " | head -n 3", []
    for _ in range(runs):
        p = subprocess.Popen([zpipe, text], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        lines = [p.stdout.readline() for _ in range(3)]
        t = time.perf_counter()
        if p.wait() or not all(lines):
            sys.exit("%s: status %d, %s" % (text, p.returncode, lines))
        took.append(time.perf_counter() - t)
    r = {"name": text, "early": kind, "runs": runs, "zpipe_s": statistics.median(took), "most_s": max(took)}
    print("%-62s %9.1f ms after its last line, at most %5.1f   %s" %
          (("%s: %s" % (kind, text))[:62], r["zpipe_s"] * 1e3, r["most_s"] * 1e3, verdict(r["zpipe_s"] <= STOP_S, "<= %d ms" % (STOP_S * 1e3))), flush=True)
    return r


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


def make_inputs(d):
    with open(os.path.join(d, "BIG"), "w") as f:
        n = i = 0
        while n < BIG:
            chunk = "".join("%d some text with x in it %d\n" % (k * 7919 % 1000003, k) if k % 3 else "%d nothing here\n" % k
                            for k in range(i, i + 10000))
            i += 10000
            n += len(chunk)
            f.write(chunk)
    for name, text in {**SCRIPTS, "script.py": SCRIPT}.items():
        with open(os.path.join(d, name), "w") as f:
            f.write(text)
        os.chmod(os.path.join(d, name), 0o755)
    os.mkdir(os.path.join(d, "gz"))
    with open(os.path.join(d, "BIG"), "rb") as f:
        for i in range(FILES):
            with gzip.open(os.path.join(d, "gz", "%03d.gz" % i), "wb", 6) as g:
                g.write(f.read(BIG // FILES))


def main():
    out = {"bytes": BIG, "kernel": os.uname().release, "cpus": CPUS, "load": os.getloadavg()[0], "uid": os.geteuid(), "rows": []}
    print("%d CPUs, kernel %s, load %.1f, uid %d" % (CPUS, out["kernel"], out["load"], out["uid"]))
    rows, few = out["rows"], max(3, RUNS // 2)
    with tempfile.TemporaryDirectory() as d:
        make_inputs(d)
        rows.append(row("true", d, 100, lambda m: verdict(m["zpipe"] <= TRUE_S, "<= %d ms" % (TRUE_S * 1e3))))
        print("on one CPU:")
        for text in ("cat BIG | grep x | sort", "cat BIG | cat | cat | wc -c"):
            rows.append(row(text, d, RUNS, lambda m: beside(m["zpipe"], m["sh"]), pinned=True))
        print("on all CPUs:")
        for text in BESIDE:
            rows.append(row(text, d, RUNS, lambda m: beside(m["zpipe"], m["sh"])))
        ideal = lambda m: verdict(m["one"] / CPUS / m["zpipe"] >= IDEAL_MIN, ">= %.2fx of ideal" % IDEAL_MIN)
        for text, hand in PARALLEL:
            rows.append(row(text, d, few, ideal, hand=hand, ideal=True))
        for text, other, hand, any_order in AUTHOR:
            rows.append(row(text, d, few, ideal, text=other, hand=hand, any_order=any_order, ideal=True))
        print("early stop:")
        for kind, text in EARLY:
            rows.append(early(kind, text, d, RUNS))
        for size in (1_000_000, 2_000_000_000):
            rss = peak_rss("cat | cat | wc -c", d, size)
            print("peak memory of zpipe, %10d bytes streamed: %6.1f MiB   %s" % (size, rss, verdict(rss <= RSS_MIB, "<= %d MiB" % RSS_MIB)))
            rows.append({"name": "memory", "bytes": size, "peak_mib": rss})
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/pipelines.json", "w") as f:
        json.dump(out, f, indent=1)


main()
