#!/usr/bin/env python3
"""Pipelines over inputs large enough to be cut by themselves: the same bytes and status as sh, at every width, from files
and from a pipe; and that they were cut at all.

    blocks.py --bin DIR"""
import argparse, json, os, random, subprocess, sys, tempfile

from run import reference

WIDTHS = (1, 3, 7)
TIMEOUT = 120
TRIES = 10

# Text; how many of its stages must be cut (0: none can be).
ROWS = [
    ("cat big.txt | grep the | wc -l", 2),
    ("cat big.txt | tr A-Z a-z | tr -cs a-z '\\n' | sort | uniq -c | sort -rn | head -20", 6),
    ("cut -d' ' -f2 < big.txt | sort -u | wc -l", 3),
    ("sort big.txt", 1),
    ("sort -k2,2 -s big.txt | uniq | tail -7", 3),
    ("sort -n -k3 big.txt | head -3", 2),
    ("sort -rn big.txt nonl.txt", 1),
    ("grep -c the big.txt", 1),
    ("grep -n qu big.txt | tail -5", 2),
    ("grep the big.txt | grep -n qu | tail -5", 3),
    ("sed 1d big.txt | grep -b qu | tail -5", 3),
    ("grep -q zzzz big.txt", 1),
    ("grep -m 3 the big.txt", 1),
    ("grep -hv the big.txt nonl.txt | head -c 1000", 2),
    ("grep the big.txt nonl.txt | cut -d: -f1 | uniq -c", 2),
    ("sed 's/the/THE/g' big.txt | awk '{ print $2, $1 }' | sort | head -50 | tac", 5),
    ("sed -n '100,200p' big.txt", 1),
    ("awk 'NR % 1000 == 0' big.txt", 1),
    ("awk '{ s += $3 } END { print s }' big.txt", 1),
    ("awk '!seen[$1]++' big.txt | wc", 2),
    ("tac big.txt | nl | tail -2", 3),
    ("head -c 700000 big.txt | wc -c", 2),
    ("tail -n +20000 big.txt | md5sum", 1),
    ("wc big.txt", 1),
    ("tr -d '\\n' < big.txt | wc -c", 2),
    ("tr -s 'a-z ' < big.txt | wc", 2),
    ("paste - - < big.txt | wc -l", 2),
    ("grep the nul.txt | wc -c", 2),
    ("grep -v the nul.txt", 1),
    ("rev latin.txt | rev", 2),
    ("cat big.txt | ./number.py | grep 7 | sort -n | tail -1", 3),
    ("cat big.txt | grep '\\(' | sort", 2),
    ("sort big.txt | grep nowhere | sort", 3),
    ("sort nosuch.txt big.txt | head -1", 1),
    ("seq 300000 | grep 7 | sort -rn | head -2", 3),
    ("yes | head -200000 | uniq -c", 2),
    ("cat one.txt | wc -c", 1),
    ("cat big.txt | md5sum", 0),
]


# What runs together, block by block; False: once.
TOGETHER = [
    ("tr a b < big.txt", False),
    ("tr -cs a-z '\\n' < big.txt | sort", True),
    ("tr a b < big.txt | tr c d | grep x", True),
]


def make_files(d):
    r = random.Random(7)
    words = ["the", "quick", "brown", "fox", "The", "jumps", "over", "a", "lazy", "dog", "qu", "zebra", "x", "alpha"]

    def put(name, data, mode=0o644):
        with open(os.path.join(d, name), "wb") as f:
            f.write(data)
        os.chmod(os.path.join(d, name), mode)
    lines = [" ".join(r.choice(words) for _ in range(r.randrange(5))) + " %d\n" % r.randrange(5000) for _ in range(90000)]
    big = "".join(lines).encode()
    put("big.txt", big)
    put("nonl.txt", big[:400000].rstrip(b"\n"))
    put("nul.txt", big[:900000] + b"the\0nul\n" + big[:500000])
    put("latin.txt", big[:300000] + "caf\xe9\n".encode("latin-1") + big[:300000])
    put("one.txt", b"x" * 1500000)
    put("number.py", b"#!/usr/bin/python3\nimport sys\nfor i, line in enumerate(sys.stdin):\n    print(i, line.strip())\n", 0o755)


def run(argv, d, stdin):
    p = subprocess.run(argv, cwd=d, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)
    return p.stdout, p.returncode if p.returncode >= 0 else 128 - p.returncode, p.stderr.replace(b"sh: 1: ", b"")


def check(zpipe, d, text, cut):
    wrong = []
    want = run(reference(text), d, subprocess.DEVNULL)
    plan = json.loads(subprocess.run([zpipe, "plan", "--json", text], cwd=d, stdout=subprocess.PIPE, check=True).stdout)
    found = sum(s.get("cut", "none") != "none" for s in plan["stages"])
    if found < cut:
        wrong.append("%d of its stages can be cut, not %d" % (found, cut))
    for width in WIDTHS:
        for split in ("auto", "always,64K"):
            got = run([zpipe, "-j", str(width), "--split", split, text], d, subprocess.DEVNULL)
            if got != want:
                wrong.append("-j %d --split %s: %s" % (width, split, " ".join(
                    n for n, a, b in zip(("stdout", "status", "stderr"), want, got) if a != b)))
    return wrong


def from_pipe(zpipe, d, text):
    """The same text, its input through a pipe."""
    with open(os.path.join(d, "big.txt"), "rb") as f:
        want = run(reference(text), d, f)
    feed = subprocess.Popen(["cat", "big.txt"], cwd=d, stdout=subprocess.PIPE)
    got = run([zpipe, text], d, feed.stdout)
    feed.stdout.close()
    feed.wait()
    return [] if got == want else ["from a pipe"]


def left_whole(zpipe, d):
    """Who reads a stage that runs whole leaves before the stage's input has an end: the job ends with its input, or is gone before that
    is all there: nobody wants it any more."""
    through = 0
    for _ in range(TRIES):
        p = subprocess.Popen([zpipe, "--split", "always,64K", "grep the | sed -n '/e/!p' | wc -l big.txt"], cwd=d, bufsize=0,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            p.stdin.write(b"the fox\n" * 12000 + b"\0\n" + b"zz\n" * 40000)
            p.stdout.read(1)  # wc has ended
            through += 1
        except BrokenPipeError:
            pass
        p.stdin.close()
        try:
            status = p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            return ["it hangs"]
        finally:
            p.stdout.close()
        if status:
            return ["status %d" % status]
        if through == 3:
            return []
    return ["it was gone before its input was there, but for %d times" % through]


def job_log(zpipe, d):
    """--joblog: each block once, all bytes, and the stage that is not cut."""
    log = os.path.join(d, "log")
    run([zpipe, "-j", "3", "--split", "always,64K", "--joblog", log, "cat big.txt | grep -v zebra | while read x; do echo $x; done | tail -1"], d, subprocess.DEVNULL)
    head, *lines = [l.split("\t") for l in open(log).read().splitlines()]
    lines = [dict(zip(head, l)) for l in lines]
    blocks = [l for l in lines if l["Task"].startswith("2/")]
    other = log + ".never"
    run([zpipe, "--templates", "never", "--split", "always,64K", "--joblog", other, "cat big.txt | grep -v zebra | tail -1"], d, subprocess.DEVNULL)
    never = {l.split("\t")[-1] for l in open(other).read().splitlines()[1:]}
    return [what for what, bad in (
        ("columns", head[:9] != "Seq Host Starttime JobRuntime Send Receive Exitval Signal Command".split()),
        ("Seq", [int(l["Seq"]) for l in lines] != list(range(1, len(lines) + 1))),
        ("tasks", len(blocks) < 5 or sorted(int(l["Task"][2:]) for l in blocks) != list(range(1, len(blocks) + 1))),
        ("bytes", sum(int(l["Send"]) for l in blocks) != os.path.getsize(os.path.join(d, "big.txt"))),
        ("start", any(l["Start"] != "clone" and not l["Start"].startswith("cold: ") for l in lines)),
        ("never", never != {"cold: templates are switched off"}),
        ("status", any(l["Exitval"] != "0" for l in blocks)),
        ("the whole stage", sum(l["Command"].startswith("while") and l["Host"] == ":" for l in lines) != 1)) if bad]


def templates(zpipe, d):
    """Where many blocks are to come, the first are clones, too, and all are of one kind; where few are, no template is made."""
    log = os.path.join(d, "log")

    def starts(text):
        run([zpipe, "-j", "2", "--joblog", log, text], d, subprocess.DEVNULL)
        rows = [l.split("\t") for l in open(log).read().splitlines()[1:]]
        return [r[-1] for r in rows if "/" in r[9]]
    many, few = starts("with block=65520 { cat big.txt big.txt big.txt big.txt | map cat } | tail -1"), starts("cat big.txt | grep -v zebra | tail -1")
    if any("the host refuses" in why for why in many):
        return []
    cold = [why for why in many if why != "clone"]
    return [what for what, bad in (
        ("%d blocks" % len(many), len(many) < 70),
        ("%d of %d cold: %s" % (len(cold), len(many), set(cold)), 4 * len(cold) > len(many) or any("first" in w or "no template" in w for w in cold)),
        ("%s" % few, not 1 < len(few) < 8 or set(few) != {"cold: few of its kind are to come"})) if bad]


def small_first(zpipe, d):
    """Where the reader may leave early the first block is small, elsewhere a good part of the input."""
    log = os.path.join(d, "log")
    with open(os.path.join(d, "big.txt"), "rb") as f, open(os.path.join(d, "huge.txt"), "wb") as to:
        to.write(f.read() * 8)
    quarter = os.path.getsize(to.name) // 4

    def first(text):
        run([zpipe, "-j", "2", "--joblog", log, text], d, subprocess.DEVNULL)
        rows = [l.split("\t") for l in open(log).read().splitlines()[1:]]
        return next(int(r[4]) for r in rows if r[9] == "1/1")
    got = first("grep the huge.txt | head -3"), first("grep the huge.txt | sort | head -3")
    os.unlink(to.name)
    return [] if got[0] < quarter * 2 // 3 <= got[1] else ["%d and %d bytes of 4 times %d" % (*got, quarter)]


# What makes a stage run once, after all; -v says so.
WHOLE = [
    ("grep -v the nul.txt", "a byte that changes"),
    ("cat big.txt | grep '\\(' | wc -l", "ended with status 2 on a block"),
    ("cat big.txt | paste - - | tail -1", None),
]


def says_why(zpipe, d, text, why):
    said = [l for l in run([zpipe, "-v", text], d, subprocess.DEVNULL)[2].decode(errors="replace").splitlines() if " runs_whole " in l]
    return [] if len(said) == bool(why) and all(why in l for l in said) else [str(said)]


def together(zpipe, d, text, blocks):
    """Is the whole text one task for each block?  The log of tasks says so."""
    log = os.path.join(d, "joblog")
    subprocess.run([zpipe, "--joblog", log, text], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    with open(log) as f:
        tasks = [line.rstrip("\n").split("\t") for line in f][1:]
    name = text.replace("\\", "\\\\")
    found = sum(t[8] == name for t in tasks)
    return [] if found == len(tasks) and (found > 1) == blocks else ["%d tasks of %d" % (found, len(tasks))]


# Over many files: the same as sh, and some files are read by one program, but not all.
MANY_FILES = [
    "grep -c the parts/*", "grep -l 49 parts/*", "grep -L 4999 parts/* nonl.txt", "grep 49 parts/* parts/3", "grep -hn 49 parts/*", "grep the nul.txt parts/*",
    "md5sum parts/*", "grep -h 49 parts/*", "cut -c 1-3 parts/*", "sort parts/*", "awk '{ print $NF }' parts/*", "sed 's/the/THE/' parts/*",
]


def many_files(zpipe, d, text):
    where = os.path.join(d, "parts")
    if not os.path.exists(where):
        os.mkdir(where)
        with open(os.path.join(d, "big.txt"), "rb") as f:
            data = f.read()
            for i in range(40):
                data = data[75000:] + data[:75000]
                part = data[:75000]
                with open(os.path.join(where, str(i)), "wb") as to:
                    to.write(b"" if i % 10 == 7 else part if i % 10 == 3 else part[:part.rindex(b"\n") + 1])
    log = os.path.join(d, "joblog")
    wrong = [] if run([zpipe, "-j", "2", "--joblog", log, text], d, subprocess.DEVNULL) == run(reference(text), d, subprocess.DEVNULL) else ["not as sh"]
    with open(log) as f:
        tasks = len(f.readlines()) - 1
    return wrong if 1 < tasks < 25 or "sed" in text or "nul" in text else wrong + ["%d tasks" % tasks]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    a = ap.parse_args()
    zpipe = os.path.join(os.path.abspath(a.bin), "zpipe")
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="zpipe-blocks-") as d:
        make_files(d)
        rows = [(text, lambda t=text, c=cut: check(zpipe, d, t, c)) for text, cut in ROWS]
        rows += [(t, lambda t=t: from_pipe(zpipe, d, t)) for t in ("sort | uniq -c", "grep fox | head -1", "tr a b | wc", "tail -1")]
        rows.append(("a reader of the whole that leaves", lambda: left_whole(zpipe, d)))
        rows.append(("--joblog", lambda: job_log(zpipe, d)))
        rows.append(("the first block", lambda: small_first(zpipe, d)))
        rows.append(("templates", lambda: templates(zpipe, d)))
        rows += [("-v: " + t, lambda t=t, w=w: says_why(zpipe, d, t, w)) for t, w in WHOLE]
        rows += [("together: " + t, lambda t=t, b=b: together(zpipe, d, t, b)) for t, b in TOGETHER]
        rows += [("files: " + t, lambda t=t: many_files(zpipe, d, t)) for t in MANY_FILES]
        for text, test in rows:
            wrong = test()
            passed += not wrong
            failed += bool(wrong)
            print("%s %s%s" % ("FAIL  " if wrong else "ok    ", text, "".join("\n       " + w for w in wrong)), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
