#!/usr/bin/env python3
"""sort with options at random, on lines that often are equal, in blocks: the same bytes and status as sh; and its last
merge is done by ranges of keys, or where these cannot be found as one.

    sorts.py --bin DIR [--seed N] [--count N]"""
import argparse, os, random, subprocess, sys, tempfile

from run import reference

TIMEOUT = 240
FLAGS = ["-n", "-r", "-f", "-b", "-d", "-i", "-g", "-h", "-V", "-M", "-s", "-u"]
KEYS = ["-k1,1", "-k2", "-k2,2n", "-k1.2,1.4", "-k3,3r", "-k2,2f", "-t, -k2,2", "-t, -k1,1 -k3,3nr", "-k2b,2", "-k1,1V", "-k2,2h",
        "-k2,2M"]
WORDS = ["a", "A", "b", "ab", "aB", "10", "9", "-3", "1e2", "0x1f", "2K", "1M", "3G", "1.10", "1.9", "Jan", "feb", "Dec", " ", "\t",
         ",", "a,b", "z\x01z", "~", "_", "\xff"]


def lines(r, size, distinct, end):
    some = [r.choice(["", " ", "\t"]) + r.choice([" ", ",", ""]).join(r.choice(WORDS) for _ in range(r.randrange(5)))
            for _ in range(distinct)]
    out, n = [], 0
    while n < size:
        out.append(some[min(int(r.paretovariate(0.8)) - 1, distinct - 1) if r.random() < 0.7 else r.randrange(distinct)])
        n += len(out[-1]) + 1
    return (end.join(out) + r.choice([end, ""])).encode("latin-1")


def options(r):
    words = r.sample(FLAGS, r.choice([0, 1, 1, 2, 3]))
    if r.random() < 0.6:
        words += r.sample(KEYS, r.choice([1, 1, 2]))
    return " ".join(words + (["-z"] if r.random() < 0.15 else []))


def run(argv, d):
    p = subprocess.run(argv, cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)
    return p.stdout, p.returncode, p.stderr.replace(b"sh: 1: ", b"")


TAILS = ["", "", " | head -3", " | tail -2", " | uniq -c", " | uniq", " | uniq -d", " | uniq -cu", " | uniq -D", " | uniq -ic", " | uniq -w2 | wc -l",
         " | head -n 0", " | tail -n 70 | head -c 99", " | head -n 5000 | tail -n 1",
         " | uniq -c | sort -rn | head -4", " | uniq -d | grep -v 1 | sort -u", " | uniq | sed -n '1p;$p'", " | uniq -zc"]


class Test:
    def __init__(self, zpipe, d, r):
        self.zpipe, self.d, self.r, self.failed, self.passed = zpipe, d, r, 0, 0

    def tell(self, name, wrong):
        self.failed += bool(wrong)
        self.passed += not wrong
        if wrong:
            print("FAIL   %s: %s" % (name, wrong), flush=True)

    def put(self, data):
        with open(os.path.join(self.d, "in"), "wb") as f:
            f.write(data)

    def same(self, text, *more):
        want = run(reference(text), self.d)
        for words in more:
            got = run([self.zpipe] + words + [text], self.d)
            self.tell("%s %s" % (" ".join(words), text), "" if got == want else
                      "not as sh: %d bytes for %d, status %d, %s" % (len(got[0]), len(want[0]), got[1], got[2][-500:]))

    def at_random(self, count):
        for i in range(count):
            r, o = self.r, options(self.r)
            end = "\0" if "-z" in o else "\n"
            tail = r.choice(TAILS) if end == "\n" else r.choice(["", " | uniq -zc", " | uniq -c", " | head -zn 2", " | tail -zn 3", " | head -n 2"])
            self.put(lines(r, 3000, r.choice([1, 2, 5, 40, 400]), end))
            self.same("sort %s in%s" % (o, tail), ["-j", str(r.choice([1, 2, 3])), "--split", "always,64"])
            self.put(lines(r, 400000, r.choice([1, 3, 50, 5000]), end))
            self.same("sort %s in%s" % (o, tail), ["-j", str(r.choice([2, 3])), "--split", "always,64K"])

    def many(self):
        """As many runs as one merge takes, and more."""
        for size in (4096, 6000):
            self.put(b"".join(b"%03d\n" % self.r.randrange(1000) for _ in range(size // 4)))
            self.same("sort -s -k1.2,1.2 in", ["--split", "always,64"])

    def more_blocks_than_descriptors(self):
        self.put(b"".join(b"%07d and so many bytes more that a line is as long as a block\n" % self.r.randrange(10**7) for _ in range(12000)))
        for text in ("sort in", "tac in"):
            got, want = (run(["sh", "-c", "ulimit -n 3000; exec \"$@\"", "sh", *words], self.d)
                         for words in ([self.zpipe, "--split", "always,64", text], reference(text)))
            self.tell("more blocks than descriptors: " + text, "" if got == want else "not as sh: %d bytes, status %d, %s" % (len(got[0]), got[1], got[2][-300:]))

    def large(self):
        self.put(b"".join(b"%d %s %d\n" % (self.r.randrange(10**6), b"abc"[i % 3:i % 3 + 1], i) for i in range(550000)))
        self.same("sort -k2,2 -k1,1n in", ["-j", "1"], ["-j", "2"], ["-j", "3"], ["-j", "7"])
        self.same("cut -d' ' -f2 in | sort | uniq -c", ["-j", "2"], ["-j", "7"])
        self.same("sort -u -s -k1.1,1.2 in | tail -3", ["-j", "3"])

    def table(self, merge, order):
        with open(os.path.join(self.d, "table.conf"), "w") as f:
            f.write("command sort\n  operands files\n  form : lines | block sort | merge %s | order %s\n" % (merge, order))
        return run([self.zpipe, "--commands", "table.conf", "-j", "2", "--split", "always,64K", "sort in"], self.d)

    # What equal lines become, range by range: a command that is said to care for nothing else shows how often it ran.
    def groups(self):
        self.put(b"".join(b"%03d\n" % (self.r.randrange(1000) * 7 % 1000) for _ in range(60000)))
        for form, least, most in (("lines | groups", 4, 200), ("lines | groups -t", 1, 1), ("nuls | groups", 1, 1)):
            with open(os.path.join(self.d, "table.conf"), "w") as f:
                f.write("command md5sum\n  flags -t\n  form : %s | rerun md5sum -t\n" % form)
            got, status, said = run([self.zpipe, "--commands", "table.conf", "-j", "2", "--split", "always,64K", "sort in | md5sum -t"], self.d)
            self.tell("groups of " + form, "" if least <= got.count(b"\n") <= most and (status, said) == (0, b"") else "%s, status %d, %s" % (got, status, said))

    # `sort | tail`: how much is left of each block to be merged.
    def picks(self):
        self.put(b"".join(b"%07d\n" % self.r.randrange(10**7) for _ in range(60000)))
        for text, most in (("sort in | tail -n 2", 16), ("cat in | sort -n | head -n 3 | wc -c", 24), ("sort in | head -c 24", 10**6)):
            self.same(text, ["--joblog", "log", "-j", "2", "--split", "always,64K"])
            with open(os.path.join(self.d, "log")) as f:
                sent = [int(row.split("\t")[5]) for row in f.read().splitlines()[1:]]
            self.tell("what blocks leave of " + text, "" if sent and max(sent) <= most and (most < 100 or max(sent) > 1000) else "%s bytes" % sent)

    # A merge that puts files end to end: what is out of order in its output tells how often it ran.
    def by_ranges(self):
        data = [b"%07d" % self.r.randrange(10**7) for _ in range(60000)]
        self.put(b"\n".join(data) + b"\n")
        blocks = 480000 // 65536 + 1
        got, status, said = self.table("cat", "sort -m -s")
        got = got.split(b"\n")[:-1]
        falls = sum(a > b for a, b in zip(got, got[1:]))
        self.tell("by ranges", "" if (status, said) == (0, b"") and sorted(got) == sorted(data) and falls > 4 * blocks
                  else "%d lines out of order, status %d, %s" % (falls, status, said))
        got, status, said = self.table("sort -m", "sort -m -s -r")
        self.tell("an order that is none", "" if (got, status, said) == (b"\n".join(sorted(data)) + b"\n", 0, b"") else "not sorted")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--count", type=int, default=12)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="zpipe-sorts-") as d:
        t = Test(os.path.join(os.path.abspath(a.bin), "zpipe"), d, random.Random(a.seed))
        t.by_ranges()
        t.groups()
        t.picks()
        t.more_blocks_than_descriptors()
        t.at_random(a.count)
        t.many()
        t.large()
        print("%d passed, %d failed (seed %d)" % (t.passed, t.failed, a.seed))
        return 1 if t.failed else 0


if __name__ == "__main__":
    sys.exit(main())
