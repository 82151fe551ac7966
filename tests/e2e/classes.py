#!/usr/bin/env python3
"""Tries what the planner says of commands: classes.py TOOL [--seed N] [--rounds N] [--seconds N] [--planted|--pipelines] [FORM...].

Each form of classes.test is looked up through TOOL (tests/lib/split_tool.c); of `FORM | sort` the first stage, whose lines may then
come in any order.  One that may be cut is
run whole and in blocks, on inputs made to break it and cut at random; the outputs are made one as the
graph says, and must be the whole run's, byte for byte, with its status.  A block whose status is not
allowed, that writes to stderr or holds a byte that spoils is no mismatch: the whole would run again.
But a form that is never tried in two blocks or more is.

--rounds: that often, and each form on all inputs; on a terminal and every minute it says how far it is.  --seconds: no form is begun
after so many; forms are then tried in an order of the seed's own, so that each run sees others.
--pipelines: how many stages of pipelines.test can be cut; 95 of 100 must be.
--planted: with a table of wrong entries every form must be found out.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C", "TZ": "UTC"}
MOST_LINES = 120


PLANTED = """command uniq
  form : lines
command sort
  form : lines | rerun cat
command head
  form : lines
command wc
  form : lines | native first
command nl
  form : lines
command tac
  form : lines
command tr
  operands any
  flags -s
  form : lines
command paste
  operands any
  form : lines
"""
PLANTED_FORMS = ["stateless uniq", "rerun sort", "stateless head", "reduce wc", "stateless nl", "stateless tac",
                 "stateless tr -s '\\n'", "stateless paste - -"]


def raw(text):
    return text.encode("latin-1")


class Tool:
    def __init__(self, path, *table):
        self.p = subprocess.Popen([path, *table], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answer(self):
        self.p.stdin.flush()
        size = int(self.p.stdout.readline())
        return None if size < 0 else self.p.stdout.read(size)

    def classify(self, text):
        data = text.encode()
        self.p.stdin.write(b"C %d\n" % len(data) + data)
        got = self.answer()
        if got is None:
            return None
        stages = json.loads(got)
        for d in stages:
            for key in ("argv", "block", "rest", "again", "files"):
                d[key] = [raw(w) for w in d[key]]
            for key in ("spoils", "text", "seam"):
                d[key] = raw(d[key])
            d["why"] = raw(d["why"]).decode()
        return stages

    def join(self, text, parts):
        self.p.stdin.write(b"J %d %d\n" % (len(text), len(parts)) + text)
        for lines, size, data in parts:
            self.p.stdin.write(b"%d %d %d\n" % (lines, size, len(data)) + data)
        return self.answer()


def run(argv, data, file=None):
    given = {"stdin": open(file, "rb")} if file else {"input": data}
    r = subprocess.run(argv, capture_output=True, env=ENV, close_fds=False, **given)
    return r.returncode, r.stdout, r.stderr


# ---- inputs

WORDS = b"the quick brown fox jumps over the lazy dog the end a ab abc e Ee x1 10 2 -3 4.5 1K a,b a:b".split()


def inputs(r):
    def prose(n, seps=(b" ",)):
        return b"".join(r.choice(seps).join(r.choice(WORDS) for _ in range(r.randrange(8))) + b"\n" for _ in range(n))
    n = r.randrange(20, MOST_LINES)
    few = sorted(r.choice([b"a", b"a", b"A", b"b x", b"b y", b"c x", b"the", b""]) for _ in range(n))
    return {
        "prose": prose(n),
        "blanks": prose(n, (b" ", b"\t", b"  ", b" \t ")),
        "words": b"\n".join(few) + b"\n",
        "same": b"the same line\n" * n,
        "newlines": b"\n" * n,
        "runs": b"".join(r.choice([b"\n", b"\n\n\n", b"aa\n", b" \n", b"e \n"]) for _ in range(n)),
        "open": prose(n) + b"no newline at the end e",
        "open empty": prose(2) + b"x",
        "zeros": b"".join(r.choice([b"e\0f\n", b"e\n", b"ab\0", b"\0\n"]) for _ in range(n)),
        "bytes": b"".join(bytes(r.choice(b"e\n\xc3\xa9\xff\x80 ab") for _ in range(30)) for _ in range(n // 3)) + b"\n",
        "long": prose(3) + b"e word " * 9000 + b"\n" + prose(3),
        "numbers": b"".join(b"%d\n" % r.choice([1, 7, 12, 96, 1000, 123456, 10 ** 9]) for _ in range(n)),
        "fractions": b"".join(b"%s %d\n" % (r.choice([b"0.1", b"2", b"1e3", b"-7", b"nan", b"inf", b"9007199254740991"]), r.randrange(9)) for _ in range(n)),
        "json": b"".join(b'{"n": %d, "name": "a%d"}\n' % (r.randrange(9), r.randrange(99)) for _ in range(n)),
        "pretty": b'{\n "n": 3,\n "name": "x"\n}\n' * 9,
        "base": b"".join(b"w%d %d\n" % (r.randrange(9), r.randrange(9)) for _ in range(n // 3)),
        "table": b"".join(b"%d,%d:%s\t%s\n" % (r.randrange(30), r.randrange(3), r.choice(WORDS), r.choice(WORDS)) for _ in range(n)),
        "quotes": b"".join(r.choice([b"a'b\n", b"c\\\n", b"d \"e f\" g\n", b"h\n"]) for _ in range(n)),
        "ends": b"".join(r.choice([b"e \n", b" e\n", b"e\t\n", b" \n", b"x y  \n"]) for _ in range(n)),
        "controls": b"".join(r.choice([b"e\n", b"\x1b7x\n", b"a\x0bb\n", b"\x0c\n", b"e\x08_\n", b"\x0ee\n", b"\r\n"]) for _ in range(n)),
        "sections": b"".join(r.choice([b"\\:\\:\\:\n", b"\\:\n", b"e x\n", b"\n"]) for _ in range(n)),
        "one": b"e\n",
    }


# ---- cutting

def places(data, cut, seam):
    """Where a boundary may be, the ends left out."""
    if seam:
        return [i for i in range(1, len(data)) if data[i - 1] in seam and data[i] not in seam]
    if cut == "bytes":
        return range(1, len(data))
    mark = b"\0" if cut == "nuls" else b"\n"
    found, at = [], data.find(mark)
    while 0 <= at < len(data) - 1:
        found.append(at + 1)
        at = data.find(mark, at + 1)
    return found


def blocks(r, data, d):
    all_places = list(places(data, d["cut"], d["seam"]))
    step = d["step"]
    if step > 1:
        all_places = all_places[step - 1::step]
    if d["run"] == "first":
        units = d["first"]
        all_places = [p for p in all_places if (p if d["cut"] == "bytes" else all_places.index(p) + 1) >= units]
    chosen = sorted(r.sample(all_places, min(len(all_places), r.randrange(1, 6))))
    ends = [0] + chosen + [len(data)]
    return [data[a:b] for a, b in zip(ends, ends[1:])]


def in_blocks(r, tool, d, named):
    """The outcome (status, stdout, number of blocks), or a word: why the whole runs again."""
    if d["cut"] == "files":
        parts = [(b, name) for name in d["files"] for b in [named[name]]]
    elif d["files"]:
        parts = [(b, name) for name in d["files"] if named[name] for b in blocks(r, named[name], d)]
    else:
        parts = [(b, None) for b in blocks(r, named[None], d)]
    if not parts:
        return "empty"
    status, outs = 255, []
    for i, (data, name) in enumerate(parts):
        main = d["run"] == "each" or (i == 0 if d["run"] == "first" else i == len(parts) - 1)
        argv = (d["block"] or d["argv"]) if main else d["rest"]
        argv = [w.replace(b"\x01{", name or b"") for w in argv]
        if any(bytes([b]) in data for b in d["spoils"]):
            return "spoils"
        got, out, err = run(argv, None if d["cut"] == "files" else data)
        if err or not (0 <= got < 32 and d["ok"] >> got & 1):
            return "status"
        if d["ends_lines"] and data.endswith(b"\n") and out and not out.endswith(b"\n") and d["cut"] != "bytes":
            raise AssertionError("a block's output does not end a line")
        status = min(status, got)
        outs.append((data.count(b"\n"), len(data), out))
    joined = b"".join(o for _, _, o in outs)
    if d["combine"] == "reverse":
        joined = b"".join(o for _, _, o in reversed(outs))
    elif d["combine"] == "rerun":
        got, joined, err = run(d["again"], joined)
        if got or err:
            return "again"
    elif d["combine"] == "merge":
        joined = merge(d["again"], [o for _, _, o in outs])
    elif d["combine"] == "native":
        joined = tool.join(d["text"], outs)
        if joined is None:
            return "join"
    return status, joined, len(parts)


def merge(argv, outs):
    """Neighbours first, then what came of them."""
    while len(outs) > 1:
        made = []
        for i in range(0, len(outs), 3):
            names = []
            for k, out in enumerate(outs[i:i + 3]):
                names.append(b".part%d" % k)
                with open(names[-1], "wb") as f:
                    f.write(out)
            got, joined, err = run(argv + names, b"")
            assert not got and not err, err
            made.append(joined)
        outs = made
    return outs[0]


# ---- forms

KINDS = "whole stateless files reduce merge boundary rerun first last offset aligned reverse".split()


def forms():
    """A form is a line; lines behind it that begin with no class are its words too."""
    found = []
    for line in open(os.path.join(HERE, "classes.test")).read().split("\n"):
        if line.split(" ")[0].split("@")[0] in KINDS:
            found.append(line)
        elif line and not line.startswith("# "):
            found[-1] += "\n" + line
    return found


def try_form(tool, form, r, every, failures, counts):
    head, command = form.split(" ", 1)
    want, _, feed = head.partition("@")
    d = (tool.classify(command) or [None])[0]
    if d is None or d["class"] != want:
        failures.append("%s: is %s, should be %s: %s" % (command, d and d["class"], want, d and d["why"]))
        return
    if want == "whole":
        if not d["why"]:
            failures.append("%s: is whole without a reason" % command)
        return
    if not shutil.which(d["argv"][0], path=ENV["PATH"].encode()):
        counts["missing"] = counts.get("missing", 0) + 1
        return
    pool = inputs(r)
    names = [feed] if feed in pool else list(pool)
    if not every:
        names = ([feed] if feed in pool else []) + r.sample(sorted(pool), 3)
    elif feed in pool:
        names = [feed] * 3 + list(pool)
    tried = 0
    for at, name in enumerate(names + sorted(pool)):
        if at >= len(names) and tried:
            break  # the rest is for forms that most inputs say nothing to
        data = pool[name]
        named = {None: data}
        stdin = command.rpartition(" ")[2] if command.endswith(" < a.txt") else None
        if d["files"] or stdin:
            several = {b"a.txt": data, b"b.txt": pool[r.choice(sorted(pool))], b"c.txt": pool["prose"]}
            for f, content in several.items():
                with open(f, "wb") as o:
                    o.write(content)
            named.update(several)
        # wc's columns are as wide as the file's size says, which is known when the plan is made.
        d = tool.classify(command)[0]
        whole = run(d["argv"], data, stdin)
        for _ in range(2 if every else 1):
            got = in_blocks(r, tool, d, named)
            counts["trials"] += 1
            if isinstance(got, str):
                counts[got] = counts.get(got, 0) + 1
                continue
            tried += got[2] > 1
            if d["combine"] == "rerun" and not whole[0] and run(d["again"], whole[1])[1] != whole[1]:
                failures.append("%s on %s: what it prints as a whole does not pass what puts blocks together" % (command, name))
                return
            if command.endswith(" | sort"):
                got, whole = [(x[0], b"".join(sorted(x[1].splitlines(True))), x[2]) for x in (got, whole)]
            if got[:2] != whole[:2] or whole[2]:
                failures.append("%s on %s in %d blocks: status %d, not %d\n  %r\n  %r\n  %r" % (
                    command, name, got[2], got[0], whole[0], got[1][:300], whole[1][:300], data[:200]))
                return
    if not tried:
        failures.append("%s: was never tried in blocks" % command)


def coverage(tool):
    cut, whole = 0, []
    for line in open(os.path.join(HERE, "pipelines.test")).read().split("\n"):
        if line and not line.startswith("#"):
            for d in tool.classify(line):
                cut += d["class"] != "whole"
                whole += ["%s: %s" % (b" ".join(d["argv"]).decode(), d["why"])] if d["class"] == "whole" else []
    for w in whole:
        print(w)
    share = 100 * cut / (cut + len(whole))
    print("%d of %d stages can be cut: %.1f %%" % (cut, cut + len(whole), share))
    return share < 95


def main():
    args = sys.argv[1:]
    tool_path = os.path.abspath(args.pop(0))
    seed, rounds, planted, pipelines, seconds = 1, 1, False, False, 0
    only = []
    while args:
        word = args.pop(0)
        if word == "--seed":
            seed = int(args.pop(0))
        elif word == "--rounds":
            rounds = int(args.pop(0))
        elif word == "--seconds":
            seconds = float(args.pop(0))
        elif word == "--planted":
            planted = True
        elif word == "--pipelines":
            pipelines = True
        else:
            only.append(word)
    failures, counts = [], {"trials": 0}
    all_forms = forms()
    with tempfile.TemporaryDirectory() as here:
        os.chdir(here)
        os.mkdir("dir")
        with open("patterns", "wb") as f:
            f.write(b"e\nthe quick\nx1\n")
        for name in (b"a.txt", b"b.txt", b"c.txt"):
            open(name, "wb").close()
        tool = Tool(tool_path)
        if pipelines:
            result = coverage(tool)
            os.chdir("/")
            return result
        if planted:
            with open("planted.conf", "w") as f:
                f.write(PLANTED)
            tool, all_forms = Tool(tool_path, "planted.conf"), PLANTED_FORMS
        chosen = [(n, form) for n in range(rounds) for form in all_forms if not only or any(o in form for o in only)]
        if seconds:
            random.Random(seed).shuffle(chosen)
        begun = said = time.monotonic()
        for done, (n, form) in enumerate(chosen):
            now = time.monotonic()
            if seconds and now - begun > seconds:
                print("%d of %d forms were tried in %.0f s" % (done, len(chosen), now - begun))
                break
            if now - said > (1 if sys.stderr.isatty() else 60):
                said = now
                print("%d of %d forms, %d trials, %d failures, %.0f s" % (done, len(chosen), counts["trials"], len(failures), now - begun), file=sys.stderr, flush=True)
            r = random.Random("%d %d %s" % (seed, n, form))
            try:
                try_form(tool, form, r, rounds > 1 or planted or bool(only), failures, counts)
            except AssertionError as e:
                failures.append("%s: %s" % (form, e))
        os.chdir("/")
    if planted:
        wrong = {f.split(" on ")[0] for f in failures if " on " in f}
        missed = [f for f in PLANTED_FORMS if f.split(" ", 1)[1] not in wrong]
        print("%d planted, not found out: %s" % (len(PLANTED_FORMS), missed))
        return bool(missed)
    for f in failures:
        print(f)
    print("%d forms, %s, %d failures" % (len(all_forms), ", ".join("%s %d" % c for c in sorted(counts.items())), len(failures)))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
