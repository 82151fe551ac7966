#!/usr/bin/env python3
"""Each limit is met in each way that a program comes to run, and is told as itself: status 124, its name, no output put in place.

    limits.py --bin DIR [--cluster]

--cluster: over two workers on loopback, neighbours on different ones."""
import argparse, os, subprocess, sys, tempfile

from run import Cluster

TIMEOUT = 120

# What meets it, once all of its input was read; `descriptors` is called files there.
PROGRAMS = {
    "cpu=200ms": ("cpu", "sh -c 'cat; while :; do :; done'"),
    "timeout=200ms": ("timeout", "sh -c 'cat; while :; do :; done'"),
    "memory=32MiB": ("memory", "python3 -c 'import sys; sys.stdin.read(); b\"x\" * (1 << 27)'"),
    "procs=4": ("procs", "sh -c 'cat; sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait'"),
    "descriptors=8": ("files", "python3 -c 'import os, sys; sys.stdin.read(); [os.dup(0) for i in range(20)]'"),
    "output=1KB": ("output", "sh -c 'cat > /dev/null; yes | head -c 3000'"),
    "scratch=1MiB": ("scratch", "sh -c 'cat > /dev/null; head -c 3000000 /dev/zero > /tmp/x || exit 3'"),
}
WAYS = {
    "alone": "cat b.txt | with LIMIT PROGRAM > o.txt",
    "before another": "cat b.txt | with LIMIT { PROGRAM } | sort > o.txt",
    "in a shell": "cat b.txt | with LIMIT { PROGRAM; } > o.txt",
    "map": "cat b.txt | with LIMIT map { PROGRAM } > o.txt",
    "map of blocks": "with block=1 { cat b.txt | with LIMIT map { PROGRAM } } | sort > o.txt",
    "map per file": "cat a.txt b.txt | with LIMIT map per file { PROGRAM } > o.txt",
    "merge": "with block=1 LIMIT { cat b.txt | map { cat } merge { PROGRAM } } > o.txt",
    "reduce": "cat b.txt | with LIMIT reduce by 1 { PROGRAM } > o.txt",
    "<( )": "cat <(cat b.txt | with LIMIT PROGRAM) > o.txt",
    ">( )": "cat b.txt | tee >(with LIMIT PROGRAM > o2.txt) > o.txt",
}


# Stages of zpipe's own table: their limit of output is met at the same byte, however their input is cut.
CUTS = ["never", "always,64", "always,4K"]
CUT = {
    "with output=LIMIT sed s/line/row/ big.txt": (999, 18_000),
    "cat big.txt | with output=LIMIT { sed s/line/row/ | grep row } | cut -d ' ' -f 1": (8_000,),
    "with output=LIMIT sort big.txt": (20_000,),
    "with output=LIMIT sort big.txt | head -n 3": (5_000,),
    "cat big.txt | grep -n 1 | with output=LIMIT uniq -c": (9_000,),
    "cat big.txt | with output=LIMIT awk '!n[$1]++'": (7_000,),
    "cat big.txt | with output=LIMIT wc -l": (2, 100),
}


def cut(zpipe, d):
    """As many as are not as they should be."""
    with open(os.path.join(d, "big.txt"), "w") as f:
        f.writelines("%d line %d\n" % (i * 7919 % 10007, i) for i in range(1_500))
    failed = 0
    for text, limits in CUT.items():
        for limit in limits:
            seen = {}
            for how in CUTS:
                p = subprocess.run([zpipe, "--split", how, text.replace("LIMIT", str(limit))], cwd=d, stdin=subprocess.DEVNULL, capture_output=True,
                                   timeout=TIMEOUT)
                seen[how] = p.returncode, p.stdout, p.stderr
            if any(s != seen["never"] for s in seen.values()):
                failed += 1
                print("FAIL   %s, %d: %s" % (text, limit, {how: (s[0], len(s[1]), s[2][:200]) for how, s in seen.items()}))
    return failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--cluster", action="store_true")
    a = ap.parse_args()
    zpipe = os.path.join(os.path.abspath(a.bin), "zpipe")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="zpipe-limits-") as work:
        env, cluster, options = dict(os.environ), None, ["--record", "no"]
        if a.cluster:
            cluster = Cluster(zpipe, lambda: None, work)
            env.update(cluster.env)
            options += ["--placement", "spread"]
        d = os.path.join(work, "d")
        os.mkdir(d)
        for name in ("a.txt", "b.txt"):
            with open(os.path.join(d, name), "w") as f:
                f.write("alpha\nbeta\ngamma\n")
        for limit, (name, program) in PROGRAMS.items():
            for way, text in WAYS.items():
                p = subprocess.run([zpipe, *options, text.replace("LIMIT", limit).replace("PROGRAM", program)], cwd=d, env=env,
                                   stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
                left = sorted(set(os.listdir(d)) - {"a.txt", "b.txt"})
                if p.returncode != 124 or "reached its limit of " + name not in p.stderr or left:
                    failed += 1
                    print("FAIL   %-14s %-16s status %d, left %s: %s" % (limit, way, p.returncode, left, p.stderr))
                for f in left:
                    os.unlink(os.path.join(d, f))
        failed += 0 if cluster else cut(zpipe, d)
        if cluster:
            failed += not cluster.stop()
    print("%d limits, %d ways each: %d failed" % (len(PROGRAMS), len(WAYS), failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
