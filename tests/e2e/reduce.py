#!/usr/bin/env python3
"""reduce by KEY: its output beside that of a model, which deals out the lines here and runs the body with sh on each
partition; and beside sh itself where the order of partitions cannot be seen.

    reduce.py --bin DIR [--cluster] [CASE...]"""
import argparse, os, random, resource, stat, subprocess, sys, tempfile

from run import Cluster, reference
from watch import processes_with, until

TIMEOUT = 120

# What stands behind `reduce`, the body, the input.
ROWS = [
    ("by 1", "sort | uniq -c", "words"),
    ("by 1", "cat", "words"),
    ("by 1 into 1", "cat", "words"),
    ("by 1 into 2", "sort", "words"),
    ("by 2 into 7", "tr a-z A-Z | nl", "words"),
    ("by 1,3 into 5", "cat", "words"),
    ("by 3,1 into 5", "cat", "words"),
    ("by 2-4 into 5", "cat", "words"),
    ("by 2-4000000000 into 5", "cat", "words"),
    ("by 9 into 4", "wc -l", "words"),
    ("by line into 3", "uniq", "words"),
    ("by 1f into 6", "cut -d' ' -f1 | sort -fu", "words"),
    ("by 1f,2 into 6", "cat", "words"),
    ("by 1n into 6", "cat", "numbers"),
    ("by 2n,1 into 6", "cat", "numbers"),
    ("by 2 -t , into 6", "cat", "numbers"),
    ("by 2n -t , into 6", "cat", "numbers"),
    ("by 2,4 -t $'\\t' into 8", "cut -f2,4 | sort -u", "tabs"),
    ("by 2-3 -t ' ' into 8", "cat", "tabs"),
    ("by 1 into 1000", "wc -l", "tabs"),
    ("by line into 8", "cat", "nulls"),
    ("by 1 into 8", "cat", "nulls"),
    ("by 1 into 4", "cat", "crlf"),
    ("by 2 into 4", "cat", "crlf"),
    ("by 1 into 4", "cat", "nonl"),
    ("by line into 4", "wc -c", "nonl"),
    ("by 1 into 4", "cksum", "huge"),
    ("by 2 into 4", "cksum", "huge"),
    ("by line into 4", "cksum", "huge"),
    ("by 1 into 16", "sort | uniq -c", "skewed"),
    ("by line into 16", "wc -l", "one"),
    ("by line into 16", "wc", "blank"),
    ("by 1", "wc -l", "empty"),
    ("by 1", "cat", "empty"),
    ("by 1 into 4", "sh -c 'wc -l; echo heard >&2'", "words"),
    ("by 1 into 4", "head -1", "words"),
    ("by 1 into 4", "if grep -q a; then echo some; else echo none; fi", "words"),
    ("by 1 into 3", "sed 's/^/in '{#}' /' | awk '{ print NR, $0 }'", "tabs"),
]

# Texts whose output does not depend on partitions, with what is the same in sh.
SAME = [
    ("cat words | reduce by 1 { sort | uniq -c } | sort", "cat words | sort | uniq -c | sort"),
    ("cat words | reduce by 1 into 3 { sort -u } | wc -l", "sort -u words | wc -l"),
    ("cat words skewed | reduce by line { sort | uniq -d } | sort", "cat words skewed | sort | uniq -d"),
    ("cat nonl words | grep a | reduce by line { sort | uniq -c } | sort -rn | head -5",
     "cat nonl words | grep a | sort | uniq -c | sort -rn | head -5"),
    ("seq 100000 | reduce by line into 5 { cat } | sort -n", "seq 100000"),
    ("cat numbers | reduce by 1 { awk '{ s[$1] += $2 } END { for (k in s) print k, s[k] }' } | sort",
     "awk '{ s[$1] += $2 } END { for (k in s) print k, s[k] }' numbers | sort"),
    ("cat tabs | reduce by 1 { cat } | reduce by 2 into 3 { sort -u } | sort", "sort -u tabs"),
    ("cat tabs | reduce by 1 { cat } > out; sort out", None),
    ("cat words | reduce by 1 into 2 { cat } | head -1 | wc -l", "echo 1"),
    ("seq 2000000 | reduce by line into 2 { cat } | head -1 | wc -l", "echo 1"),
]


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def number(f):
    """As sort -n reads it, in one spelling."""
    f = f.lstrip(b" \t")
    minus, f = f[:1] == b"-", f[f[:1] == b"-":]
    n = len(f) - len(f.lstrip(b"0123456789"))
    whole, rest = f[:n].lstrip(b"0"), f[n:]
    point = rest[1:1 + len(rest[1:]) - len(rest[1:].lstrip(b"0123456789"))].rstrip(b"0") if rest[:1] == b"." else b""
    return (b"-" if minus and (whole or point) else b"") + whole + (b"." + point if point else b"")


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def processes():
    return {int(n) for n in os.listdir("/proc") if n.isdigit()}


def children(pid):
    return {p for p in processes() if b"\nPPid:\t%d\n" % pid in read("/proc/%d/status" % p)}


def ancestors(pid):
    found = set()
    while pid > 1:
        parent = read("/proc/%d/status" % pid).partition(b"\nPPid:\t")[2].split(b"\n")[0]
        pid = int(parent or 0)
        found.add(pid)
    return found


def written(pid):
    """Bytes of the files that it has open."""
    total = 0
    for n in os.listdir("/proc/%d/fd" % pid):
        try:
            s = os.stat("/proc/%d/fd/%s" % (pid, n))
        except OSError:
            continue
        total += s.st_size if stat.S_ISREG(s.st_mode) else 0
    return total


class Key:
    def __init__(self, words):
        self.key, self.separator, self.into = words[1], None, 16
        for option, value in zip(words[2::2], words[3::2]):
            if option == "into":
                self.into = int(value)
            else:
                self.separator = {"$'\\t'": b"\t", "' '": b" "}.get(value, value.encode())
        self.known = {}

    def spans(self):
        for item in self.key.split(","):
            first, _, last = item.rstrip("fn").partition("-")
            yield int(first), int(last or first), item[len(item.rstrip("fn")):]

    def bytes(self, line):
        if self.key == "line":
            return line + b"\0"
        fields = [f for f in line.replace(b"\t", b" ").split(b" ") if f] if self.separator is None else line.split(self.separator)
        spans, out, last = list(self.spans()), b"", max(s[1] for s in self.spans())
        for i in range(1, min(last, len(fields)) + 1):
            letters = [s[2] for s in spans if s[0] <= i <= s[1]]
            if not letters:
                continue
            f = fields[i - 1]
            out += (number(f) if "n" in "".join(letters) else f.lower() if "f" in "".join(letters) else f) + b"\0"
        return out, sum(1 for i in range(len(fields) + 1, min(last, 100) + 1) if any(s[0] <= i <= s[1] for s in spans)), last

    def partition(self, line):
        got = self.bytes(line)
        if got not in self.known:
            if isinstance(got, bytes):
                h = fnv(got)
            else:
                h = fnv(got[0])
                missing = got[1] + max(0, got[2] - 100)  # rows name few fields, or a range to the end of the world
                h = h * pow(0x100000001B3, missing, 1 << 64) % (1 << 64)
            self.known[got] = (h ^ h >> 32) % self.into
        return self.known[got]


def parts_of(header, data):
    """Lines by partition, from 0."""
    key = Key(header.split(" ") if "' '" not in header else header.replace("' '", "\0").split(" "))
    if key.separator == b"\0":
        key.separator = b" "
    lines = data.split(b"\n")
    parts = {}
    for line in lines if lines[-1] else lines[:-1]:
        parts.setdefault(key.partition(line), []).append(line + b"\n")
    return parts


def model(header, body, data, d):
    """stdout, and what is said on stderr."""
    parts = parts_of(header, data)
    out = err = b""
    for p in sorted(parts) or [0]:
        text = body.replace("'{#}'", str(p + 1)).replace("{#}", str(p + 1))
        r = subprocess.run(reference(text), cwd=d, input=b"".join(parts.get(p, [])), capture_output=True)
        assert r.returncode == 0, text
        out += r.stdout
        err += r.stderr
    return out, err


def make_files(d):
    r = random.Random(11)
    words = ["the", "The", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "zebra", "x1", "alpha", "A"]

    def put(name, data):
        with open(os.path.join(d, name), "wb") as f:
            f.write(data)
    put("words", "".join(r.choice((" ", "", "\t ")) + r.choice((" ", "  ", "\t")).join(r.choice(words) for _ in range(r.randrange(6))) + "\n"
                         for _ in range(20000)).encode())
    spelled = ["1", "01", "1.0", "-1", "-01.00", "0", "-0", ".5", "0.50", "x", "", "1e3", "+1", "007", "7", "7.", "1,000"]
    put("numbers", "".join("%s %s,%s,\n" % (r.choice(spelled), r.choice(spelled), r.choice(spelled)) for _ in range(3000)).encode())
    put("tabs", "".join("k%d\tv w%d\t\tx %d\n" % (r.randrange(40), r.randrange(5), i % 7) for i in range(5000)).encode())
    put("nulls", b"".join(b"a\0%d b\0\n\0\n" % (i % 9) for i in range(500)))
    put("crlf", b"".join(b"k%d v\r\n" % (i % 9) for i in range(500)))
    put("nonl", b"".join(b"k%d a%d\n" % (i % 9, i) for i in range(5000)) + b"k3 end")
    put("huge", b"a b\n" + b"c " + b"x" * 3000000 + b" d\n" + b"y" * 600000 + b" b\na b\n" + b"c" * 262144 + b"\nz")
    put("skewed", b"".join(b"same 1\n" if i % 100 else b"k%d 2\n" % i for i in range(60000)))
    put("one", b"x")
    put("blank", b"\n" * 1000)
    put("empty", b"")
    return {n: open(os.path.join(d, n), "rb").read() for n in os.listdir(d)}


class Test:
    def __init__(self, a, d):
        self.zpipe, self.d, self.wanted = os.path.join(os.path.abspath(a.bin), "zpipe"), d, a.case
        self.data = make_files(d)
        self.work = os.path.join(d, "cluster")
        self.cluster = None
        self.env = dict(os.environ)
        if a.cluster:
            os.mkdir(self.work)
            self.cluster = Cluster(self.zpipe, lambda: None, self.work)
            self.env.update(self.cluster.env)
        self.options = ["--placement", "spread"] if a.cluster else []
        self.passed = self.failed = 0

    def run(self, text, *options, stdin=subprocess.DEVNULL, **more):
        p = subprocess.run([self.zpipe, *self.options, *options, text], cwd=self.d, env=self.env, stdin=stdin, capture_output=True,
                           timeout=TIMEOUT, **more)
        return p.stdout, p.stderr, p.returncode

    def case(self, name, wrong):
        if self.wanted and name not in self.wanted:
            return
        wrong = wrong()
        self.passed += not wrong
        self.failed += bool(wrong)
        print("%s %s%s" % ("FAIL  " if wrong else "ok    ", name, "".join("\n       " + w for w in wrong or ())), flush=True)

    def differs(self, what, got, want):
        return [] if got == want else ["%s: %.300r, not %.300r" % (what, got, want)]

    def row(self, header, body, name):
        want = model(header, body, self.data[name], self.d) + (0,)
        text = "reduce %s { %s }" % (header, body)
        wrong = self.differs("a file", self.run("cat %s | %s" % (name, text)), want)
        with open(os.path.join(self.d, name), "rb") as f:
            feed = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
        wrong += self.differs("a pipe", self.run(text, "-j", "3", stdin=feed.stdout), want)
        feed.stdout.close()
        feed.wait()
        return wrong

    def same(self, text, other):
        out, err, status = self.run(text) if other else (b"", b"", 0)
        if not other:  # a file of its own
            first, other = text.split("; ")
            err, status = self.run(first)[1:]
            out = subprocess.run(reference(other), cwd=self.d, capture_output=True).stdout
            other = "sort tabs"
        want = subprocess.run(reference(other), cwd=self.d, capture_output=True)
        return self.differs("stdout", (out, err, status), (want.stdout, b"", 0))

    def widths(self):
        text = "cat words tabs | reduce by 1 into 11 { sort | uniq -c }"
        want = self.run(text)
        return [w for j in "1237" for w in self.differs("-j " + j, self.run(text, "-j", j), want)]

    def files(self):
        """A file of its own for each partition that has lines; an empty one writes none."""
        parts = parts_of("by 1 into 60", self.data["tabs"])
        where = os.path.join(self.d, "parts")
        os.mkdir(where)
        got = self.run("cat tabs | reduce by 1 into 60 { tee parts/raw-{#} | sort -u > parts/{#}.txt }")
        want = {}
        for p, lines in parts.items():
            want["raw-%d" % (p + 1)] = b"".join(lines)
            want["%d.txt" % (p + 1)] = b"".join(sorted(set(lines)))
        wrong = self.differs("the run", got, (b"", b"", 0)) + ([] if 1 < len(parts) < 60 else ["all or none of the partitions are empty"])
        found = {n: read(os.path.join(where, n)) for n in os.listdir(where)}
        return wrong + self.differs("names", sorted(found), sorted(want)) + self.differs("bytes", found == want, True)

    def files_of_a_failure(self):
        status = self.run("cat tabs | reduce by 1 into 5 { cat > failed-{#}; exec false; }")[2]
        return self.differs("status", status, 1) + ["%s is there" % n for n in os.listdir(self.d) if n.startswith("failed")]

    def files_are_added_to(self):
        for p in (b"1", b"2"):
            with open(os.path.join(self.d, "log-" + p.decode()), "wb") as f:
                f.write(b"old\n")
        got = self.run("cat tabs | reduce by 1 into 2 { wc -l >> log-{#} }")
        parts = parts_of("by 1 into 2", self.data["tabs"])
        return self.differs("the run", got, (b"", b"", 0)) + self.differs(
            "files", [read(os.path.join(self.d, "log-%d" % p)) for p in (1, 2)], [b"old\n%d\n" % len(parts[p]) for p in (0, 1)])

    # Partition 3 of 3 has the line 3; awk says so, and 7 too.
    FAILING = "seq 10 | reduce by 1 into 3 { awk '{ print } /^3$/ { exit 3 } /^1$/ { exit 4 }' }"
    ALL = b"5\n6\n1\n3\n"

    def stop(self):
        out, err, status = self.run(self.FAILING)
        return self.differs("status", status, 4) + self.differs("stdout", out if not self.cluster else b"5\n6\n1\n", b"5\n6\n1\n") + (
            [] if b"status 4 on partition 2" in err else ["stderr: %r" % err])

    def stop_leaves_no_file(self):
        status = self.run(self.FAILING + " > failed.txt")[2]
        return self.differs("status", status, 4) + (["failed.txt is there"] if os.path.exists(os.path.join(self.d, "failed.txt")) else [])

    def go(self, rule):
        text = self.FAILING.replace("reduce", "with fail=%s reduce" % rule)
        return self.differs("all", self.run(text), (self.ALL, b"", 4)) + self.differs(
            "all in a file", self.run(text + " > %s.txt" % rule)[2], 4) + self.differs(
            "the file", open(os.path.join(self.d, rule + ".txt"), "rb").read(), self.ALL)

    def signal(self):
        out, err, status = self.run("seq 10 | reduce by 1 into 3 { sh -c 'kill -9 $$' }")
        return self.differs("status", (out, status), (b"", 137)) + ([] if b"signal 9" in err and b"partition 1" in err else ["stderr: %r" % err])

    def missing(self):
        out, err, status = self.run("seq 10 | reduce by 1 { no-such-program }")
        return self.differs("status", (out, status), (b"", 127)) + ([] if b"partition 2" in err else ["stderr: %r" % err])

    def limit(self):
        """A temporary file that may not grow: told, and nothing is left."""
        def before():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        out, err, status = self.run("cat big | reduce by line into 2 { wc -l }", preexec_fn=before)
        return self.differs("status", (out, status), (b"", 125)) + ([] if b"File too large" in err else ["stderr: %r" % err])

    def killed(self):
        """kill -9, once while lines are dealt out and once while bodies run: no process and no file is left."""
        wrong, spools = [], os.path.join(self.d, "spools")
        os.mkdir(spools)
        mark = "mark%d" % os.getpid()
        for size, body in ((1 << 40, "cat"), (1 << 20, "sh -c 'cat > /dev/null; exec yes %s > /dev/null'" % mark)):
            feed = subprocess.Popen(["sh", "-c", "yes | head -c %d" % size], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            p = subprocess.Popen([self.zpipe, "reduce by 1 into 2 { %s }" % body], stdin=feed.stdout, stdout=subprocess.DEVNULL, cwd=self.d,
                                 env=dict(self.env, TMPDIR=spools))
            feed.stdout.close()
            try:
                until("it deals out lines, or its body runs",
                      lambda: written(p.pid) > 8 << 20 if body == "cat" else processes_with(mark) - {p.pid})
                inside = children(p.pid)
            finally:
                p.kill()
                p.wait()
                feed.wait()
            until("its processes end", lambda: not any(b"zpipe" in read("/proc/%d/cmdline" % i) for i in inside) and not processes_with(mark))
            wrong += ["%s is left" % n for n in os.listdir(spools)]
        return wrong

    def lost_worker(self):
        """kill -9 of the worker that runs the bodies: all of it runs again on the other."""
        mark = "lost%d" % os.getpid()
        text = "cat tabs | reduce by 1 into 4 { sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; cat' %s }" % mark
        want = subprocess.run([self.zpipe, text], cwd=self.d, capture_output=True)
        p = subprocess.Popen([self.zpipe, text], cwd=self.d, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("its body runs", lambda: p.poll() is not None or processes_with(mark) - {p.pid})
        above = set().union(*(ancestors(i) for i in processes_with(mark) - {p.pid}))
        lost = [w for w in self.cluster.started[1:] if w.pid in above]
        for w in lost:
            w.kill()
            w.wait()
            self.cluster.started.remove(w)
        out, err = p.communicate(timeout=TIMEOUT)
        return self.differs("the job", (out, p.returncode), (want.stdout, 0))

    def memory(self):
        """Of zpipe itself, while 200 MB of lines pass."""
        feed = subprocess.Popen(["sh", "-c", "seq -w 5000000 | sed 's/$/ some words that make up a line/'"], stdout=subprocess.PIPE)
        p = subprocess.Popen([self.zpipe, "reduce by 1 { wc -l }"], stdin=feed.stdout, stdout=subprocess.PIPE, cwd=self.d)
        feed.stdout.close()
        out = p.stdout.read()
        feed.wait()
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = 0
        wrong = self.differs("status", status, 0)
        if sum(map(int, out.split())) != 5000000:
            wrong.append("lines: %r" % out)
        if used.ru_maxrss > 64 << 10:
            wrong.append("%d KiB of memory" % used.ru_maxrss)
        return wrong

    def cases(self):
        for header, body, name in ROWS:
            yield "%s { %s } of %s" % (header, body, name), lambda h=header, b=body, n=name: self.row(h, b, n)
        for text, other in SAME:
            yield text, lambda t=text, o=other: self.same(t, o)
        for name in ("widths", "stop", "stop_leaves_no_file", "signal", "missing", "files", "files_of_a_failure", "files_are_added_to"):
            yield name, getattr(self, name)
        for rule in ("go", "sh"):
            yield "fail=" + rule, lambda r=rule: self.go(r)
        if self.cluster:
            yield "lost_worker", self.lost_worker
        else:
            with open(os.path.join(self.d, "big"), "w") as f:
                f.writelines("%d\n" % i for i in range(700000))
            yield "limit", self.limit
            yield "memory", self.memory
            yield "killed", self.killed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--cluster", action="store_true")
    ap.add_argument("case", nargs="*")
    a = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="zpipe-reduce-") as d:
        t = Test(a, d)
        for name, test in t.cases():
            t.case(name, test)
        if t.cluster and not t.cluster.stop():
            t.failed += 1
            print("FAIL   the cluster did not end well")
    print("%d passed, %d failed" % (t.passed, t.failed))
    return 1 if t.failed or not t.passed else 0


if __name__ == "__main__":
    sys.exit(main())
