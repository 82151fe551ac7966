#!/usr/bin/env python3
"""Processes and threads at random (tests/lib/tangle.c), each seed some times in a sandbox, on a busy machine: no result
that is certified may differ, none may be late, and most must be certified.

    tangle.py --box ZPIPE-BOX --tangle PROGRAM [--seeds N] [--first N] [--user UID]"""
import argparse, json, os, shutil, subprocess, sys, tempfile

from watch import busy

RUNS = 2
TIMEOUT = 300   # of a run that hangs
SKIPPED = 77
# What cannot take turns, and says so.
KNOWN = {"a process gets a signal from another", "one of its threads is at work for long while others wait for their turn",
         "two threads wait for the same process", "a process is told of one child while it waits for another"}


def run(a, work, seed):
    """(certified?, why not, what it did)"""
    report = os.path.join(work, "report")
    r = subprocess.run([a.box, "--report", report, "--with", "tangle", "--", "./tangle", str(seed)], cwd=work, timeout=TIMEOUT,
                       capture_output=True, user=a.user, group=a.user, extra_groups=[] if a.user else None)
    with open(report) as f:
        said = json.load(f)
    return said["certified"], said["uncertified_why"], (r.returncode, r.stdout, r.stderr)


def judge(seed, results):
    """What is wrong, or None."""
    sure = [did for certified, _, did in results if certified]
    strange = [why for certified, why, _ in results if not certified and why not in KNOWN]
    if strange:
        return "is not certified: %s" % strange[0]
    if any(did[0] for _, _, did in results):
        return "ended with %s" % [did[0] for _, _, did in results]
    other = next((did for did in sure if did != sure[0]), None)
    if not other:
        return None
    lines = list(zip(sure[0][1].split(b"\n"), other[1].split(b"\n")))
    return "is certified, and differs: line %d" % next((i for i, (x, y) in enumerate(lines) if x != y), len(lines))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--box", required=True)
    p.add_argument("--tangle", required=True)
    p.add_argument("--seeds", type=int, default=15)
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--user", type=int)
    a = p.parse_args()
    if a.user and os.geteuid() != 0:
        sys.exit(SKIPPED)
    failed = certified = 0
    with busy(2, "nice"), tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o777)
        a.box = shutil.copy(a.box, work)
        shutil.copy(a.tangle, os.path.join(work, "tangle"))
        for seed in range(a.first, a.first + a.seeds):
            results = [run(a, work, seed) for _ in range(RUNS)]
            wrong = judge(seed, results)
            certified += all(r[0] for r in results)
            failed += bool(wrong)
            if wrong:
                print("FAIL   seed %d %s" % (seed, wrong), flush=True)
    print("%d seeds, %d certified, %d failed" % (a.seeds, certified, failed))
    return failed != 0 or certified * 10 < a.seeds * 8


if __name__ == "__main__":
    sys.exit(main())
