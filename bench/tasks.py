#!/usr/bin/env python3
"""bench/tasks.py ZPIPE: trivial tasks per second on two CPUs, beside xargs -P2 and GNU parallel (where it is installed), in the same run.

A task is a line of its own for a program of its own, through planner, scheduler, worker and sandbox.  A row for each number in TASKS
(1000,10000,100000): the median of RUNS (3) runs each, zpipe, zpipe without templates and xargs taking turns; of more than PEER_MAX tasks
the latter two do so many, and parallel a thousand, which is said.  A task's own times come from one more run of zpipe, with a job log, which is slower.  Prints a table
and writes build/bench/tasks.json; a goal that is missed is said, and is no failure: 5,000 clones a second in rows of CLONES_FROM tasks and
more, cold at least 0.9x of xargs in rows of PEER_MAX and more."""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

zpipe = os.path.abspath(sys.argv[1])
TASKS = [int(n) for n in os.environ.get("TASKS", "1000,10000,100000").split(",")]
RUNS = int(os.environ.get("RUNS", 3))
PEER_MAX = 10000
CLONES_FROM = 100000
TEXT = "with block=1 { map cat }"
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/tmp"}


def rate(argv, count, same):
    text = "".join("%d\n" % i for i in range(count)).encode()
    begin = time.perf_counter()
    r = subprocess.run(argv, input=text, stdout=subprocess.PIPE, env=ENV)
    took = time.perf_counter() - begin
    if r.returncode or (same and r.stdout != text):
        sys.exit("%s: status %d, or other bytes" % (argv, r.returncode))
    return count / took


def task_times(count):
    """The median and the 99th of 100, in ms, of the tasks' own wall times."""
    with tempfile.TemporaryDirectory() as d:
        log = os.path.join(d, "log")
        rate([zpipe, "-j", "2", "--joblog", log, TEXT], count, True)
        rows = [l.split("\t") for l in open(log).read().splitlines()[1:]]
    times = sorted(float(r[3]) * 1000 for r in rows if "/" in r[9])
    if len(times) != count:
        sys.exit("%d tasks, not %d" % (len(times), count))
    return times[len(times) // 2], times[int(len(times) * .99)]


def ms(value):
    return "%.0f ms" % value if value >= 1 else "< 1 ms"  # the log has no more digits


def main():
    rows, missed = [], []
    parallel = shutil.which("parallel") and rate(["parallel", "-j2", "--pipe", "-N1", "cat"], 1000, False)
    print("%8s %10s %10s %10s %8s %14s %10s%s" % ("tasks", "zpipe /s", "cold /s", "xargs /s", "ratio", "a task: median", "p99",
                                          "     GNU parallel %.0f/s (1000)" % parallel if parallel else ""))
    for count in TASKS:
        peer = min(count, PEER_MAX)
        runs = [(rate([zpipe, "-j", "2", TEXT], count, True), rate([zpipe, "-j", "2", "--templates", "never", TEXT], peer, True),
                 rate(["xargs", "-P2", "-n1", "echo"], peer, False)) for _ in range(RUNS)]
        mine, cold, theirs = (statistics.median(r[i] for r in runs) for i in range(3))
        ratio, cold_ratio = (statistics.median(r[i] / r[2] for r in runs) for i in (0, 1))
        p50, p99 = task_times(count)
        missed += ["%d tasks from templates: %.0f/s, not 5,000" % (count, mine)] if count >= CLONES_FROM and mine < 5000 else []
        missed += ["%d tasks cold: %.2fx of xargs -P2, not 0.9x" % (peer, cold_ratio)] if count >= PEER_MAX and cold_ratio < 0.9 else []
        note = "     cold, xargs: %d tasks" % peer if peer < count else ""
        print("%8d %10.0f %10.0f %10.0f %7.2fx %15s %10s%s" % (count, mine, cold, theirs, ratio, ms(p50), ms(p99), note), flush=True)
        rows.append({"tasks": count, "per_s": mine, "cold_per_s": cold, "xargs_per_s": theirs, "ratio": ratio, "cold_ratio": cold_ratio, "p50_ms": p50, "p99_ms": p99})
    for m in missed:
        print("goal missed: " + m)
    out = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "bench")
    os.makedirs(out, exist_ok=True)
    json.dump({"rows": rows, "parallel_per_s": parallel}, open(os.path.join(out, "tasks.json"), "w"), indent=1)


main()
