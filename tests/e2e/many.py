#!/usr/bin/env python3
"""Pipelines compared with sh, thousands of them, through one process that uses the library: the same stdout and status, and the
same lines of stderr of each program.

    many.py --bin DIR (--random COUNT [--seed N] | --written)

--random: pipelines over inputs made to break them, with a width and a size of blocks of their own.  Half of the stages are made of the forms of the
          table of commands by its grammar (commands.py), each form in its turn; half are the forms of classes.test, which have scripts.
--written: every line of pipelines.test and oneliners.test, at each of WIDTHS, cut in three ways."""
import argparse, os, random, re, shlex, subprocess, sys, tempfile

from classes import forms, inputs
from commands import Commands
from run import per_stage, reference

WIDTHS = (1, 2, 3, 7, 64)
SPLITS = (64, 4096, 65536)
TIMEOUT = 60
# Forms whose output is not the same each time, that never end, or are unlike sh on purpose: they print a time, or read and write
# files that no word of theirs names (docs/DIFFERENCES.md).
LEFT_OUT = re.compile(r"shuf|sort -(R|k1,1R)|tail -f|split|nothing-like-it|\./g|touch|en_US|random\.|yes|NF[+]=|pr\b|sed '?[rRw1/a-z{]* ?\S*[rRwW] \w|grep -r|\n|< a[.]txt|> .out|<\(|sort .*-k\S* ?\S*R|sort .*-key=\S*R|\brm\b|gzip( -[^n]\S*)*$")

# What is read by the rows about logs, sequences, intervals, accounts and sections.
LINES = b"".join(
    b'10.0.%d.%d - - [%02d/Nov/2026:%02d:00:01 +0000] "%s /a%d HTTP/1.1" %d %d "-" "Agent/%d"\n>s%d x\n%s\n@r%d\n%s\n+\nII\n' % (
        i % 3, i % 20, i % 28 + 1, i % 24, (b"GET", b"POST")[i % 5 == 0], i % 9, (200, 404, 500)[i % 7 % 3], i * 37 % 9000, i % 4, i, b"ACGTNA"[i % 5:] * (i % 9), i, b"GATTACA")
    + b"chr%d\t%d\t%d\tg\t9\t%s\nu%d:x:%d:1:U,,:/home/u:/bin/sh\n[s%d]\n; c\nkey%d = v\r\n\n%d,a,Oslo,%d.25\n" % (i % 5, i * 7, i * 7 + i % 50, b"+-"[i % 2:][:1], i, i, i, i % 4, i, i)
    for i in range(120))


class Many:
    """tests/lib/many.c, started again when a pipeline made it end."""
    def __init__(self, program, d):
        self.program, self.d, self.p = program, d, None

    def run(self, text, width, split):
        if not self.p or self.p.poll() is not None:
            self.p = subprocess.Popen([self.program], cwd=self.d, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        data = text.encode()
        self.p.stdin.write(b"%d %d %d\n" % (width, split, len(data)) + data)
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        return read(self.d, "../out"), int(line) if line else "none: it ended", read(self.d, "../err")

    def end(self):
        """False when it did not end well."""
        if not self.p:
            return True
        self.p.stdin.close()
        return self.p.wait(TIMEOUT) == 0


def read(d, name):
    with open(os.path.join(d, name), "rb") as f:
        return f.read()


def shell(text, d):
    with open(os.path.join(d, "../in"), "rb") as f:
        # as it stands: `sed = | ...` is no pipeline with a name
        p = subprocess.run(reference(text)[:-1] + [text], cwd=d, stdin=f, capture_output=True, timeout=TIMEOUT)
    return p.stdout, p.returncode if p.returncode >= 0 else 128 - p.returncode, p.stderr


def differs(text, want, got):
    # Whether a writer is still there to be killed when its reader leaves is a matter of luck, in sh too.
    lines = [per_stage([l for l in r[2].split(b"\n") if l and not l.endswith(b"by signal 13")]) for r in (want, got)]
    # A stage that reads files instead of its stdin, or nothing at all, or that refuses its words, leaves the one before: what that would
    # have said is not needed.
    unread = re.search(r"\|[^|]* [./]*[abc][.]txt|\| *(head|tail) -[nc] ?0\b|\| *tr z-a |\| *sort --batch-size=1", text)
    if unread and all(l in lines[0].get(p, []) for p, ls in lines[1].items() for l in ls):
        lines[1] = lines[0]
    return [what for what, bad in (("stdout", want[0] != got[0]), ("status", want[1] != got[1]), ("stderr", lines[0] != lines[1])) if bad]


def put(d, name, data):
    with open(os.path.join(d, name), "wb") as f:
        f.write(data)


class Random:
    """Rows (text, width, split), with their files put in place."""
    def __init__(self, d, seed, count):
        self.d, self.seed, self.count = d, seed, count
        self.forms = [f for f in (form.split(" ", 1)[1] for form in forms()) if not LEFT_OUT.search(f)]
        plain = [shlex.split(f) for f in self.forms if not set("|<>$`#") & set(re.sub(r"'[^']*'", "", f))]
        self.commands = Commands(random.Random(seed), plain, LEFT_OUT.search)

    def __iter__(self):
        for i in range(self.count):
            r = random.Random("%d.%d" % (self.seed, i))
            pool = inputs(r)
            source = r.choice(("", "", "cat a.txt | ", "cat a.txt b.txt | ", "< a.txt "))
            stages = [self.commands.next(not source and not k) if r.random() < 0.5 else r.choice(self.forms) for k in range(r.choice((1, 2, 3, 3, 4, 5)))]
            # xargs starts a program for every few words, and fmt tries all ways to break a paragraph: there the long input is left out too
            many = any("xargs" in s or s.startswith("fmt") for s in stages)
            names = sorted(n for n in pool if not many or n != "long")
            for name in ("../in", "a.txt", "b.txt", "c.txt"):
                put(self.d, name, pool[r.choice(names)] * (1 if many else r.choice((1, 1, 1, 20))))
            yield source + " | ".join(stages), r.choice(WIDTHS), r.choice(SPLITS)


class Written:
    def __init__(self, d):
        self.d = d
        texts = [open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)).read() for name in ("pipelines.test", "oneliners.test")]
        self.lines = [l for text in texts for l in text.split("\n") if l and not l.startswith("#")]

    def __iter__(self):
        pool = inputs(random.Random(1))
        put(self.d, "../in", pool["prose"])
        put(self.d, "b.txt", pool["words"])
        put(self.d, "c.txt", pool["numbers"])
        put(self.d, "a.txt", (pool["prose"] + pool["table"] + pool["numbers"] + pool["blanks"]) * 20 + LINES)
        for i, text in enumerate(self.lines):
            for k, split in enumerate(SPLITS[1:] + (0,)):
                yield text, WIDTHS[(i + k) % len(WIDTHS)], split


def compare(rows, many, d):
    """How many were the same, how many not, and how many sh itself does not do the same way twice."""
    same = wrong = loose = 0
    last, want = None, None
    for i, (text, width, split) in enumerate(rows):
        if (text, isinstance(rows, Random)) != (last, False):
            want, last = shell(text, d), text
        got = many.run(text, width, split)
        bad = differs(text, want, got)
        if bad and any(differs(text, want, shell(text, d)) for _ in range(40)):
            loose += 1
        elif bad:
            wrong += 1
            print("FAIL %d: %s   (-j %d --split always,%d): %s" % (i, text, width, split, ", ".join(bad)))
            for who, r in (("sh", want), ("zpipe", got)):
                print("     %-6s status %s stdout %r stderr %r" % (who, r[1], r[0][:200], r[2][:200]), flush=True)
        else:
            same += 1
    return same, wrong, loose


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--random", type=int)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--written", action="store_true")
    a = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="zpipe-many-") as top:
        d = os.path.join(top, "job")
        os.mkdir(d)
        put(d, "patterns", b"e\nthe quick\nx1\n")
        os.mkdir(os.path.join(d, "dir"))
        many = Many(os.path.join(os.path.abspath(a.bin), "many"), d)
        rows = Written(d) if a.written else Random(d, a.seed, a.random)
        same, wrong, loose = compare(rows, many, d)
        ended = many.end()
    missed = [] if a.written else rows.commands.missed()
    if not a.written:
        print("%d of the table's %d forms were drawn; %d are left out, which print a time, a chance or the host, or write files"
              % (len(rows.commands.drawn), rows.commands.all, rows.commands.all - len(rows.commands.forms)))
    for f in missed:
        print("FAIL: never drawn: `%s` of %s" % (f.text, f.entry.names[0]))
    print("%d the same, %d not, %d where sh differs from itself%s" % (same, wrong, loose, "" if ended else "; the program did not end well"))
    return 1 if wrong or missed or not same or not ended else 0


if __name__ == "__main__":
    sys.exit(main())
