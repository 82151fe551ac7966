#!/usr/bin/env python3
"""Jobs over streams far larger than memory: what zpipe itself takes stays under a ceiling.

    bounded.py --bin DIR [--bytes N]

Counted are zpipe and all zpipe-box processes together, each at its peak; the commands' own memory is theirs.  The files that a
job spills to are made in $TMPDIR, and need about as much room there as it reads."""
import argparse, glob, os, subprocess, sys, tempfile, threading

CEILING = 256 << 20
# The last one: a task that needs more than a stream may be ahead of who reads it.
PIPELINES = ["tr a-z A-Z | grep -c 77", "tee >(wc -l > lines) | wc -c", "with block=16M map { wc -l } | awk '{ n += $1 } END { print n }'",
             "cut -d' ' -f2 | sort | uniq -c | awk '{ n += $1 } END { print n }'",
             "with block=280M map { wc -l } | awk '{ n += $1 } END { print n }'"]
LINE = b"some text of a line, and 77 more, and so on to the end of it\n"
ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--bytes", type=float, default=2e9)
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")


def field(pid, name):
    try:
        for line in open("/proc/%d/status" % pid):
            if line.startswith(name):
                return line.split()[1]
    except OSError:
        pass
    return "0"


def own(pid):
    """zpipe and the zpipe-box processes below it."""
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found += [at] if field(at, "Name:").startswith("zpipe") else []
        for t in glob.glob("/proc/%d/task/*/children" % at):
            try:
                todo += [int(c) for c in open(t).read().split()]
            except OSError:
                pass
    return found


def watch(p, peak, over):
    """VmHWM is a process's own peak: that it is looked at now and then is enough.  Of those that share pages with the
    one they were forked from, what is theirs is RssAnon."""
    while not over.wait(0.1):
        pids = own(p.pid)
        now = sum(int(field(pid, "RssAnon:")) for pid in pids if pid != p.pid) + int(field(p.pid, "VmHWM:"))
        peak[0] = max(peak[0], now << 10)


def main():
    failed = 0
    count = int(args.bytes) // len(LINE)
    for text in PIPELINES:
        with tempfile.TemporaryDirectory(prefix="zpipe-bounded-") as d:
            source = subprocess.Popen(["sh", "-c", "yes '%s' | head -n %d" % (LINE.decode().rstrip(), count)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            p = subprocess.Popen([zpipe, text], cwd=d, stdin=source.stdout, stdout=subprocess.PIPE)
            source.stdout.close()
            peak, over = [0], threading.Event()
            t = threading.Thread(target=watch, args=(p, peak, over))
            t.start()
            out = p.communicate()[0]
            over.set()
            t.join()
            source.wait()
            want = count * len(LINE) if "wc -c" in text else count
            good = p.returncode == 0 and out == b"%d\n" % want and 0 < peak[0] < CEILING
            failed += not good
            print("%s %.1f GB, zpipe itself at most %.1f MiB: %s%s" % ("ok    " if good else "FAIL  ", count * len(LINE) / 1e9, peak[0] / 2**20, text,
                  "" if good else "; status %d, %r" % (p.returncode, out)), flush=True)
    sys.exit(failed > 0)


main()
