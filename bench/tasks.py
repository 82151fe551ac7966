#!/usr/bin/env python3
"""bench/tasks.py ZPIPE: trivial tasks per second on two CPUs, beside xargs -P2 and GNU parallel (where it is installed), in the same run.

A task is a line of its own for a program of its own, through planner, scheduler, worker and sandbox.  TASKS in the environment says
how many (20000; the peers do a tenth).  Prints a table and writes build/bench/tasks.json; a goal that is missed is said, and is no failure."""
import json, os, shutil, subprocess, sys, tempfile, time

zpipe = os.path.abspath(sys.argv[1])
TASKS = int(os.environ.get("TASKS", 20000))
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/tmp"}


def rate(argv, count, same):
    text = "".join("%d\n" % i for i in range(count)).encode()
    begin = time.perf_counter()
    r = subprocess.run(argv, input=text, stdout=subprocess.PIPE, env=ENV)
    took = time.perf_counter() - begin
    if r.returncode or (same and r.stdout != text):
        sys.exit("%s: status %d, or other bytes" % (argv, r.returncode))
    return count / took


def task_times(log):
    """The median and the 99th of 100, in ms, of the tasks' own wall times."""
    rows = [l.split("\t") for l in open(log).read().splitlines()[1:]]
    times = sorted(float(r[3]) * 1000 for r in rows if "/" in r[9])
    return times[len(times) // 2], times[int(len(times) * .99)], len(times)


def main():
    with tempfile.TemporaryDirectory() as d:
        log = os.path.join(d, "log")
        mine = rate([zpipe, "-j", "2", "--joblog", log, "with block=1 { map cat }"], TASKS, True)
        p50, p99, count = task_times(log)
    if count != TASKS:
        sys.exit("%d tasks, not %d" % (count, TASKS))
    peers = {"xargs -P2": ["xargs", "-P2", "-n1", "echo"]}
    if shutil.which("parallel"):
        peers["GNU parallel"] = ["parallel", "-j2", "--pipe", "-N1", "cat"]
    rates = {name: rate(argv, TASKS // 10, False) for name, argv in peers.items()}
    print("%d tasks of one line: zpipe %.0f/s (a task: median %.2f ms, p99 %.2f ms); %s" % (
        TASKS, mine, p50, p99, "; ".join("%s %.0f/s, %.2fx" % (n, r, mine / r) for n, r in rates.items())))
    if mine < 0.9 * rates["xargs -P2"]:
        print("goal missed: at least 0.9x of xargs -P2")
    out = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "bench")
    os.makedirs(out, exist_ok=True)
    json.dump({"tasks": TASKS, "per_s": mine, "p50_ms": p50, "p99_ms": p99, "peers": rates}, open(os.path.join(out, "tasks.json"), "w"), indent=1)


main()
