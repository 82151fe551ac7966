#!/usr/bin/env python3
"""Maps against sh: this program cuts the input itself, by the rules of zpipe-language(5), has sh run the body on every block
or file, one after the other, and compares stdout, stderr, status and files with what zpipe makes of the map.

    maps.py --bin DIR [--cluster] [PART...]

--cluster: over two workers on loopback, neighbours on different ones."""
import argparse, os, random, re, shlex, subprocess, sys, tempfile

from run import Cluster, reference

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--cluster", action="store_true")
ap.add_argument("part", nargs="*")
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
TIMEOUT = 120
K = 1024
env = dict(os.environ)


# ---- what the language says

def ends_of_records(data, by):
    """Where a block may end."""
    words = shlex.split(by)[1:]
    if not by:
        return [m.end() for m in re.finditer(rb"\n", data)]
    if words[-1] == "lines":
        return [m.end() for m in re.finditer(rb"\n", data)][int(words[0]) - 1::int(words[0])]
    if words[-1] == "bytes":
        return list(range(int(words[0]), len(data), int(words[0])))
    if words[0] == "paragraph":
        return [m.end() for m in re.finditer(rb"(?<=[^\n])\n\n+(?=[^\n])", data)]
    text = words[-1].encode().decode("unicode_escape").encode("latin-1")
    if words[0] == "start":
        return [m.start() for m in re.finditer(rb"(?<=\n)" + re.escape(text), data)]
    ends, at = [], data.find(text)
    while at >= 0:
        ends.append(at + len(text))
        at = data.find(text, at + len(text))
    return ends


def nominal(at, split):
    """The next nominal offset behind `at`."""
    at += 1
    step = split or 64 * K
    while not split and step < 4 * K * K and at > 16 * step:
        step *= 2
    return -(-at // step) * step


def blocks(data, by, split, block):
    ends, begin, out = ends_of_records(data, by), 0, []
    while begin < len(data):
        want = begin + block if block else nominal(begin, split)
        end = next((e for e in ends if e >= want and e > begin), len(data))
        out.append(data[begin:end])
        begin = end
    return out or [b""]


def fill(text, name, number):
    base = os.path.basename(name)
    dot = base.rfind(".")
    stem = base[:dot] if dot > 0 else base
    folder = os.path.dirname(name)
    values = {"{}": name, "{.}": os.path.join(folder, stem) if folder else stem, "{/}": base, "{/.}": stem,
              "{//}": folder or ".", "{#}": str(number)}
    return re.sub(r"\{(|\.|/|//|/\.|#)\}", lambda m: values[m.group()], text)


# ---- running

def run(argv, d, stdin):
    p = subprocess.run(argv, cwd=d, input=stdin, capture_output=True, env=env, timeout=TIMEOUT)
    return p.stdout, p.returncode if p.returncode >= 0 else 128 - p.returncode, p.stderr.replace(b"sh: 1: ", b"")


def by_zpipe(d, text, *options, stdin=None):
    return run([zpipe, *(["--placement", "spread"] if args.cluster else []), *options, text], d, stdin or b"")


def by_sh(d, tasks, fail="go", usual=(0,)):
    """tasks: texts with their stdins.  Status: the first that is not usual, else the smallest of the usual ones."""
    out, err, found = b"", b"", []
    for text, stdin in tasks:
        o, status, e = run(reference(text), d, stdin)
        out, err, found = out + o, err + e, found + [status]
        if fail == "stop" and status not in usual:
            break
    return out, next((s for s in found if s not in usual), min(found)), err


failures = 0


def check(what, got, want):
    global failures
    if got != want:
        failures += 1
        print("FAIL   %s\n       %.600r\n   not %.600r" % (what, got, want), flush=True)


parts = []


def part(f):
    parts.append(f)
    return f


def without_ours(result):
    out, status, err = result
    return out, status, b"".join(l for l in err.splitlines(True) if not l.startswith(b"zpipe: "))


# ---- the parts

TEXTS = {
    "lines": ("", b"".join(b"%d line\n" % i for i in range(9000))),
    "nonl": ("", b"one\ntwo\n\n\nthree"),
    "empty": ("", b""),
    "blank": ("", b"\n" * 300),
    "huge": ("", b"a\n" + b"x" * 200000 + b"\nb\n"),
    "fastq": ("by 4 lines", b"".join(b"@r%d\nACGT\n+\nIIII\n" % i for i in range(3000))),
    "bytes": ("by 10 bytes", bytes(range(256)) * 300),
    "nuls": (r"by '\0'", b"".join(b"rec %d\n\0" % i for i in range(5000))),
    "ends": ("by 'aa'", b"baaab\naaaa\n" * 3000),
    "paragraph": ("by paragraph", b"\n\n" + b"".join(b"head %d\nbody\n" % i + b"\n" * (1 + i % 4) for i in range(3000))),
    "fasta": ("by start '>'", b"; comment\n" + b"".join(b">s%d\nAC>GT\n >x\n" % i for i in range(3000))),
}
BODIES = ["wc", "sed -n '1p;$p' | cat -n", "sort | uniq -c | sort -rn | head -3", "head -c 5; echo"]


@part
def every_kind_of_record(d):
    r = random.Random(3)
    for name, (by, data) in TEXTS.items():
        with open(os.path.join(d, "in"), "wb") as f:
            f.write(data)
        for split, block in ((64, 0), (64 * K, 0), (0, 0), (0, 100), (0, 64 * K)):
            cut = blocks(data, by, split, block)
            if len(cut) > 60:
                cut = cut[:60]
                with open(os.path.join(d, "in"), "wb") as f:
                    f.write(b"".join(cut))
                cut = blocks(b"".join(cut), by, split, block)
            body = r.choice(BODIES)
            text = "cat in | %smap %s { %s }" % ("with block=%d " % block if block else "", by, body)
            options = ["-j", str(r.choice((1, 2, 3, 7)))] + (["--split", "always,%d" % split] if split else [])
            check("%s: %s (%d blocks)" % (name, " ".join(options + [text]), len(cut)),
                  by_zpipe(d, text, *options), by_sh(d, [(body, b) for b in cut]))
            with open(os.path.join(d, "in"), "wb") as f:
                f.write(data)


@part
def from_a_pipe_and_into_one(d):
    data = b"".join(b"%d %d\n" % (i, i * i % 97) for i in range(40000))
    cut = blocks(data, "", 0, 0)
    want = by_sh(d, [("md5sum", b) for b in cut])
    for width in (1, 2, 3, 7):
        check("from a pipe, -j %d" % width, by_zpipe(d, "map md5sum", "-j", str(width), stdin=data), want)
    check("into a pipe", by_zpipe(d, "cat | map md5sum | cat -n", stdin=data),
          run(["cat", "-n"], d, want[0]))
    check("two maps", by_zpipe(d, "map md5sum | with block=1 map { tr a-z A-Z } | sort", stdin=data),
          run(["sort"], d, want[0].upper()))
    check("early stop", by_zpipe(d, "yes | map { head -1 } | head -3"), (b"y\ny\ny\n", 0, b""))


FILES = {"a.txt": b"alpha\nx\n", "sub/b.tar.gz": b"beta", "sub/.hidden": b"x\n" * 5, "two words.txt": b"two\n", "empty": b"",
         "it's.\"odd\" $(x).txt": b"odd\n", "noext": b"x\n"}
EACH = ["wc", "cat -n {}", "echo {} {.} {/} {//} {/.} {#}; cat", 'echo "{/}" "<{.}>" \'{}\'', "wc -l < {}",
        "grep -c x {}", "cat {} - | wc -c", "tr a-z A-Z | sed s/^/{#}:/"]


@part
def every_hole(d):
    for name, data in FILES.items():
        os.makedirs(os.path.dirname(os.path.join(d, name)) or d, exist_ok=True)
        with open(os.path.join(d, name), "wb") as f:
            f.write(data)
    names = list(FILES)
    for body in EACH:
        tasks = []
        for i, name in enumerate(names):
            text = re.sub(r"'[^']*'|\"[^\"]*\"|\{[./#]*\}", lambda m: quoted(m.group(), name, i + 1), body)
            tasks.append((text, FILES[name]))
        want = by_sh_files(d, tasks, names, (0, 1) if body.startswith("grep") else (0,))
        text = "cat %s | map per file { %s }" % (" ".join(shlex.quote(n) for n in names), body)
        check(text, by_zpipe(d, text), want)
        if ";" not in body:
            got = run([zpipe, *(["--placement", "spread"] if args.cluster else []), body, ":::", *names], d, b"")
            check("%s ::: ..." % body, got, want)


    nested = 'echo "$(basename "{}")"'
    check("quotes in quotes", by_zpipe(d, "cat %s | map per file { %s }" % (" ".join(shlex.quote(n) for n in names), nested)),
          ("".join(os.path.basename(n) + "\n" for n in names).encode(), 0, b""))
    with open(os.path.join(d, "-x"), "wb") as f:
        f.write(b"one\n")
    check("a name like an option", by_zpipe(d, "cat ./-x | map per file { wc -l ./{} }"), (b"1 ./-x\n", 0, b""))
    said = by_zpipe(d, "cat ./-x | map per file { wc -l {} }")[2]
    check("a name taken for an option", b"'-x'; a name that begins with a `-` may be taken for an option: write `./{}`" in said, True)


def quoted(part, name, number):
    """A piece of a text for sh with its holes filled so that sh reads the values as they are."""
    if part[0] == "'":
        return part
    if part[0] == '"':
        return '"%s"' % re.sub(r"\{[./#]*\}", lambda m: re.sub(r'([$`"\\])', r"\\\1", fill(m.group(), name, number)), part[1:-1])
    return shlex.quote(fill(part, name, number))


def by_sh_files(d, tasks, names, usual):
    """stdin is the file itself."""
    out, err, found = b"", b"", []
    for (text, _), name in zip(tasks, names):
        with open(os.path.join(d, name), "rb") as f:
            p = subprocess.run(reference(text), cwd=d, stdin=f, capture_output=True)
        out, err, found = out + p.stdout, err + p.stderr.replace(b"sh: 1: ", b""), found + [p.returncode]
    return out, next((s for s in found if s not in usual), min(found)), err


@part
def short_tasks(d):
    """Which end before all that they wrote is looked at."""
    data = b"".join(b"%08d some text that is long enough to be a line\n" % i for i in range(20000))
    with open(os.path.join(d, "short.txt"), "wb") as f:
        f.write(data)
    for i in range(30):
        got = by_zpipe(d, "cat short.txt | map { grep -v zz }", "--split", "always,64K")
        check("short tasks", got, (data, 0, b""))


@part
def failures_in_order(d):
    with open(os.path.join(d, "in"), "wb") as f:
        f.write(b"".join(b"%d\n" % i for i in range(1, 13)))
    cut = blocks(open(os.path.join(d, "in"), "rb").read(), "", 0, 1)
    body = "read x; echo out $x; echo err $x >&2; test $x -lt 5 || exit $x"
    for width in (1, 2, 3, 7):
        for fail in ("stop", "go", "sh"):
            want = by_sh(d, [(body, b) for b in cut], fail)
            got = by_zpipe(d, "cat in | with block=1 fail=%s map { %s } > out.%s" % (fail, body, fail), "-j", str(width))
            path = os.path.join(d, "out." + fail)
            there = os.path.exists(path)
            out = open(path, "rb").read() if there else want[0]
            check("fail=%s -j %d" % (fail, width), (out, *without_ours(got)[1:]), want)
            check("fail=%s puts its output in place" % fail, (there, 0, b""), (fail != "stop", 0, b""))
            ours = b"on block 5" in got[2]
            check("fail=%s names the block" % fail, (ours, 0, b""), (fail == "stop", 0, b""))
            if there:
                os.remove(path)
    got = by_zpipe(d, "cat in | with block=1 map { %s } | tac" % body)
    check("what comes before the failure goes on", without_ours(got),
          (b"".join(b"out %d\n" % i for i in (5, 4, 3, 2, 1)), 5, b"".join(b"err %d\n" % i for i in range(1, 6))))
    got = by_zpipe(d, "cat in | with block=1 map { sh -c 'kill -11 $$' | cat }")
    check("a signal inside", (b"signal 11" in got[2], got[1], b""), (True, 139, b""))
    got = by_zpipe(d, "cat in | with block=1 map { nosuchcommand }")
    check("no such program", (b"nosuchcommand" in got[2], got[1], b""), (True, 127, b""))
    got = by_zpipe(d, "cat in | with block=1 map { yes | head -1 }")
    check("a writer that is left has not failed", got, (b"y\n" * 12, 0, b""))
    got = by_zpipe(d, "cat in | with block=1 cpu=1 map { while :; do :; done }")
    check("a limit", (b"limit" in got[2], got[1], b""), (True, 124, b""))
    got = by_zpipe(d, "cat in | with block=1 map { cat; echo e >&2 } 2> e.txt | wc -l")
    check("stderr into a file", (got[0], got[1], open(os.path.join(d, "e.txt"), "rb").read()), (b"12\n", 0, b"e\n" * 12))
    got = by_zpipe(d, "cat in | with block=1 map { cat; echo e >&2 } 2>&1 | wc -l")
    check("stderr with stdout", got, (b"24\n", 0, b""))


def tree(d, items, fan, body):
    """What a merge makes of the tasks' outputs; what it says comes level by level, group by group."""
    merged, said = False, [b""] * len(items)
    while len(items) > 1 or not merged:
        groups = [range(i, min(i + fan, len(items))) for i in range(0, len(items), fan)]
        out = [items[g[0]] for g in groups]
        err = [b"".join(said[k] for k in g) for g in groups]
        for i, g in enumerate(groups):
            if len(g) > 1 or (len(groups) == 1 and not merged):
                o, _, e = run(reference(body), d, b"".join(items[k] for k in g))
                out[i], err[i] = o, err[i] + e
        items, said, merged = out, err, True
    return items[0], said[0]


@part
def merge_trees(d):
    data = b"".join(b"%d\n" % (i * 7919 % 1009) for i in range(1000))
    with open(os.path.join(d, "in"), "wb") as f:
        f.write(data)
    for block, fan, width in ((1, 2, 7), (100, 2, 1), (100, 3, 2), (100, 16, 3), (40, 0, 7), (5000, 2, 2)):
        with open(os.path.join(d, "in"), "wb") as f:
            f.write(data if block > 1 else data[:60])
        cut = blocks(data if block > 1 else data[:60], "", 0, block)
        want, said = tree(d, [b"%d " % len(b) for b in cut], fan or 16, "cat; echo -n m >&2")
        settings = "block=%d %s" % (block, "fan=%d" % fan if fan else "")
        text = "cat in | with %s { map { wc -c | tr '\\n' ' ' } merge { cat; echo -n m >&2 } }" % settings
        check("%s -j %d (%d blocks)" % (text, width, len(cut)), by_zpipe(d, text, "-j", str(width)), (want, 0, said))
        want, _ = tree(d, [b"x" for b in cut], fan or 16, "echo -n '('; cat; echo -n ')'")
        text = "cat in | with %s { map { echo -n x } merge { echo -n '('; cat; echo -n ')' } }" % settings
        check("%s: the tree" % text, by_zpipe(d, text, "-j", str(width)), (want, 0, b""))
        text = "cat in | with %s { map { sort } merge { sort -m {} | cat } } | uniq -c" % settings
        whole = run(reference("sort in | uniq -c"), d, b"")
        check(text, by_zpipe(d, text, "-j", str(width)), whole)
    check("nothing to merge", by_zpipe(d, "map { cat; echo t } merge { cat; echo m }"), (b"t\nm\n", 0, b""))
    for fail in ("stop", "go"):
        got = by_zpipe(d, "cat in | with block=500 fan=2 fail=%s { map { cat } merge { wc -c; exit 7 } } > out.%s" % (fail, fail))
        check("a merge that fails, fail=" + fail, (got[1], os.path.exists(os.path.join(d, "out." + fail))),
              (7, False) if fail == "stop" else (0, True))
    got = by_zpipe(d, "cat in | with block=500 { map { cat; exit 9 } merge { cat } }")
    check("a task that fails before its merge", (got[0], got[1]), (b"", 9))


def files_below(d):
    return {os.path.relpath(os.path.join(r, f), d): open(os.path.join(r, f), "rb").read() for r, _, l in os.walk(d) for f in l}


@part
def outputs_with_holes(d):
    os.makedirs(os.path.join(d, "in/deep"))
    os.makedirs(os.path.join(d, "out"))
    inputs = {"in/a.txt": b"b\na\n", "in/b.tar.gz": b"", "in/deep/c d.txt": b"x\n" * 100000, "in/e": b"last"}
    for name, data in inputs.items():
        with open(os.path.join(d, name), "wb") as f:
            f.write(data)
    words = " ".join(shlex.quote(n) for n in inputs)
    for width in (1, 2, 7):
        got = by_zpipe(d, "cat %s | map per file { tr a-z A-Z | tee out/{/.}.up | wc -c > out/{#}.count }" % words, "-j", str(width))
        want = {"out/%s.up" % fill("{/.}", n, 0): data.upper() for n, data in inputs.items()}
        want.update({"out/%d.count" % (i + 1): b"%d\n" % len(data) for i, data in enumerate(inputs.values())})
        check("outputs by > and by tee, -j %d" % width, (got, files_below(os.path.join(d, "out"))),
              ((b"", 0, b""), {k[4:]: v for k, v in want.items()}))
        for f in files_below(os.path.join(d, "out")):
            os.remove(os.path.join(d, "out", f))
    got = by_zpipe(d, "cat %s | map per file { sort -o out/{/} 2> out/{#}.err; cat - > out/{#}.all < {} }" % words)
    check("in a text for sh", (got[:2], b"left `out/a.txt`, dropped" in got[2], sorted(files_below(os.path.join(d, "out")))[:3]),
          ((b"", 0), True, ["1.all", "1.err", "2.all"]))
    for f in files_below(os.path.join(d, "out")):
        os.remove(os.path.join(d, "out", f))
    got = by_zpipe(d, "cat %s | map per file { cat > out/{/}; test {#} != 3 }" % words)
    check("a failed task leaves none in place", (got[1], files_below(os.path.join(d, "out"))), (1, {}))
    got = by_zpipe(d, "cat %s | map per file { cat > nosuch/{/} }" % words)
    check("a directory that is not there", (got[1], b"nosuch" in got[2]), (125, True))
    with open(os.path.join(d, "in/deep/a.txt"), "w"):
        pass
    got = by_zpipe(d, "cat in/a.txt in/deep/a.txt | map per file { cat > out/{/} }")
    check("two files with one name", (got[1], b"two files give the output name `out/a.txt`" in got[2]), (125, True))
    got = by_zpipe(d, "cat %s | reduce by line into 3 { sort -u > out/{#} }" % words)
    out = files_below(os.path.join(d, "out"))
    check("of a reduce", (got, sorted(b"".join(out.values()).split()), set(out) <= {"1", "2", "3"}),
          ((b"", 0, b""), [b"a", b"b", b"last", b"x"], True))


@part
def many_files(d):
    """More than one process may have open."""
    os.mkdir(os.path.join(d, "many"))
    names = ["many/%04d.txt" % i for i in range(1500)]
    for i, name in enumerate(names):
        with open(os.path.join(d, name), "w") as f:
            f.write("%d\n" % i)
    got = by_zpipe(d, "cat many/*.txt | map per file { cat > {.}.out; echo {#} }")
    check("1500 files", (got, len(files_below(os.path.join(d, "many")))),
          ((b"".join(b"%d\n" % (i + 1) for i in range(1500)), 0, b""), 3000))
    check("in order", b"".join(open(os.path.join(d, n[:-3] + "out"), "rb").read() for n in names),
          b"".join(b"%d\n" % i for i in range(1500)))


def main():
    for p in parts:
        if args.part and p.__name__ not in args.part:
            continue
        before = failures
        with tempfile.TemporaryDirectory(prefix="zpipe-maps-") as d:
            p(d)
        print("%s %s" % ("FAIL  " if failures > before else "ok    ", p.__name__), flush=True)


with tempfile.TemporaryDirectory(prefix="zpipe-maps-") as daemons:
    cluster = Cluster(zpipe, lambda: None, daemons) if args.cluster else None
    env.update(cluster.env if cluster else {})
    try:
        main()
    finally:
        failures += bool(cluster and not cluster.stop())
sys.exit(1 if failures else 0)
