#!/usr/bin/env python3
"""Sandboxes at work are killed, or what is to become a program, or a program in one, others stand still for a while, and the bytes are the same.

    killed.py --bin DIR [--all] [--seed N] [--rows [ROW...]]

Each pipeline runs at several widths; --all: at each of WIDTHS, twice.  --rows: every row of table.test, edges.test, words.test and language.test, too.
A kill counts when zpipe said that a sandbox was lost: a run that lost none is done again."""
import argparse, glob, hashlib, os, random, select, signal, subprocess, sys, tempfile
import run as e2e
from watch import until

WIDTHS = (1, 2, 3, 7, 64)
TRIES = 10  # until a kill hits something
ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--all", action="store_true")
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--rows", nargs="*")
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
chance = random.Random(args.seed)

# Each with what sh is asked instead, and how many kills it stands: the third of one block, or of one stage that streams, is its last.  A last merge that is
# killed makes the stage run whole, once.
PIPELINES = [
    ("cat in | tr a-z A-Z | grep -v 77", None, 2),
    ("cat in | map { sh -c 'sort | uniq -c' | sort -rn | head -n 2 }", "same", 2),
    ("cat part.* | map per file { sort -r | head -n 20; echo end }", "for f in part.*; do sort -r $f | head -n 20; echo end; done", 2),
    ("cat in | reduce by 1 into 8 { sort | md5sum }", "same", 2),
    ("cat in | cut -d' ' -f2 | sort -n", None, 1),
    ("cat in | python3 -uc 'import sys\nfor l in sys.stdin: print(l[::-1])' | awk '{ n += length($0); print n }'", None, 2),
    ("comm -12 <(cut -d' ' -f1 in | sort -u) <(cut -d' ' -f2 in | sort -u) | awk '{ s += $1 } END { print s }'", "same", 2),
]


def text_of(path, end):
    try:
        with open(path, "rb") as f:
            return f.read().split(end)
    except OSError:
        return [b""]


def children(pid):
    return [int(c) for t in glob.glob("/proc/%d/task/*/children" % pid) for c in text_of(t, None)[:] if c]


def is_box(pid):
    return text_of("/proc/%d/cmdline" % pid, b"\0")[0].endswith(b"zpipe-box")


def firsts(pid):
    """First processes of sandboxes: below zpipe, zpipe-box and that one's first process."""
    inits = [pid]
    for _ in range(3):
        inits = [c for at in inits for c in children(at) if is_box(c)]
    return inits


def at_work(inits):
    """Those in which a program runs."""
    return [at for at in inits if any(text_of("/proc/%d/cmdline" % c, b"\0")[0] and not is_box(c) for c in children(at))]


def to_be(inits):
    """What is to become a program, and has not begun with it."""
    return [c for at in inits for c in children(at) if is_box(c)]


def programs(inits):
    """All that runs in them: a template's program and its clones, too."""
    below = [c for at in inits for c in children(at) if not is_box(c)]
    return below + (programs(below) if below else [])


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def disturb(p, kills, pause=0.04):
    """Until the job is over: now and then one is killed, or stopped and let go a little later."""
    asleep = None
    while p.poll() is None:
        select.select([], [], [], chance.uniform(pause / 20, pause))  # what is injected, not a wait for something
        inits = firsts(p.pid)
        boxes = at_work(inits)
        if asleep:
            send(asleep, signal.SIGCONT)
            asleep = None
        elif boxes and kills and chance.random() < 0.5:
            kills -= send(chance.choice(chance.choice([boxes, to_be(inits) or boxes, programs(inits) or boxes])), signal.SIGKILL)
        elif boxes:
            below = children(chance.choice(boxes))
            asleep = below[0] if below and send(below[0], signal.SIGSTOP) else None


def run(d, text, width, kills):
    """What it printed, and how many sandboxes were lost."""
    with open(os.path.join(d, "out"), "wb") as out, open(os.path.join(d, "err"), "wb") as err:
        p = subprocess.Popen([zpipe, "-v", "-j", str(width), "--split", "always,64K", text], cwd=d, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        disturb(p, kills)
    said = open(os.path.join(d, "err")).read()
    return p.returncode, hashlib.sha256(open(os.path.join(d, "out"), "rb").read()).hexdigest(), said.count("sandbox_lost"), said


class Rows(e2e.Table):
    """A row of a table at each width, until a kill has hit it there."""
    hits = misses = refused = bad = 0

    def row(self, row):
        ref = self.once(row, e2e.reference(row.text, *row.args))
        for width in WIDTHS:
            lost, tries = 0, 0
            while not lost and tries < TRIES:
                tries += 1
                out, status, err, files = self.once(row, self.argv(row, "-v", "-j", str(width)), lambda p: disturb(p, 1, 0.008))
                lost = sum(b"sandbox_lost" in l for l in err)
                said = [l for l in err if not l.startswith((b"info ", b"warn "))]
                if lost and status == 125 and any(b"cannot be read again" in l for l in said):
                    self.refused += 1
                    continue
                wrong = e2e.compare(row, ref, (out, status, said, files))
                if wrong:
                    self.bad += 1
                    print("FAIL   -j %d %s: %s; lost %d\n%s" % (width, row.name, ", ".join(wrong), lost, b"\n".join(err).decode(errors="replace")))
                    break
            self.hits += lost
            self.misses += not lost
        print("done   %s: so far %d lost, %d runs of which none was, %d that said why they cannot run again" % (row.name, self.hits, self.misses, self.refused), flush=True)


def table_rows(names):
    with tempfile.TemporaryDirectory(prefix="zpipe-killed-") as work:
        table = Rows(argparse.Namespace(bin=args.bin, cluster=False, hosts=False, slots=16, split=None), work, None)
        for name in ("table.test", "edges.test", "words.test", "language.test"):
            for row in e2e.rows(os.path.join(e2e.HERE, name)):
                if not row.want and (not names or row.name in names):
                    table.row(row)
        return table.bad, table.hits


# What a program of each runs for a while and is killed with: zpipe's own answer is that of a run without.
BUSY = "python3 -c 'n = 0\nwhile n < 4000000: n += 1\nprint(n)'"
TOLD = 'sh -c "%s > /dev/null; echo \\$?; %s > /dev/null"' % (BUSY, BUSY)  # it says so, and goes on
SAID = 'sh -c "%s > /dev/null; %s"' % (BUSY, BUSY)  # it says so on stderr alone, which is held back until zpipe-box has looked
# Its processes take no turns (opening a named pipe waits for the other end), and it says nothing at all.
BESIDE = 'sh -c "cd /tmp; mkfifo p; (echo a > p; %s > o; :) 2> /dev/null & cat p; wait; cat o"' % BUSY
HIT = [BUSY, TOLD, SAID, BESIDE, 'sh -c "%s; echo \\$?" | cat' % BUSY, "cat in | head -n 2 | map { cat; %s }" % BUSY]


def told_of(status, err):
    """That it came out differently because of a kill: what was given away, and why it ran again."""
    return (status == 125 and b"the second time is not the " in err and b"reported a process of its own that was killed from outside" in err and
            b"; it ran again since the sandbox of `sh -c" in err)


# Its second run is killed before it has come as far as its first; zpipe hears of that when what it reads from has its end, too.
TWICE = """python3 -c 'n = 0
while n < 3000000: n += 1
print("7\\n" * 50000, flush=True)
while n < 6000000: n += 1' | awk '{ n += $0; print n }'"""


def hit_twice(d):
    err, want = os.path.join(d, "err"), subprocess.run(["sh", "-c", TWICE], stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout
    with open(err, "wb") as e:
        p = subprocess.Popen([zpipe, "-v", TWICE], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=e)
    out = os.read(p.stdout.fileno(), 1 << 16)

    def first_of(name):
        return [i for i in firsts(p.pid) for c in children(i) if text_of("/proc/%d/cmdline" % c, b"\0")[0].endswith(name)]

    def descriptors(pid):
        return len(os.listdir("/proc/%d/fd" % pid))
    send(first_of(b"python3")[0], signal.SIGKILL)
    until("it runs again", lambda: b"attempt=2" in text_of(err, None) and first_of(b"awk") and first_of(b"python3"))
    server = [c for c in children(p.pid) if is_box(c)][0]
    send(p.pid, signal.SIGSTOP)
    before = descriptors(server)
    send(first_of(b"awk")[0], signal.SIGKILL)
    until("its sandbox is cleared away", lambda: descriptors(server) < before)
    send(p.pid, signal.SIGCONT)
    out += p.stdout.read()
    lost = open(err).read().count("sandbox_lost")
    good = p.wait() == 0 and out == want and lost == 2
    print("%s killed, and killed again: %d lost" % ("ok    " if good else "FAIL  ", lost), flush=True)
    if not good:
        print(p.returncode, len(out), open(err).read())
    return good


# Jobs in which all runs in blocks, until a stage has to run whole (a NUL spoils it) or merges what its tasks wrote: the program that is killed
# then, and what sh is asked instead.
WHOLE = [
    ("grep -E -e '^0 0 ' -e '(.)(.)(.)(.)(.).*\\5\\4\\3\\2\\1' nul", b"grep", "same"),
    ("cat nul | grep -E -e '^0 0 ' -e '(.)(.)(.)(.)(.).*\\5\\4\\3\\2\\1' | sed s/7/seven/ > made", b"grep", "same"),
    ("cat part.* | map { sort } merge { sort -m {} | python3 -c 'import sys\nn = 0\nwhile n < 1000000: n += 1\nsys.stdout.write(sys.stdin.read())' }",
     b"python3", "sort part.*"),
]


def hit_whole(d):
    """It is begun again, whichever of its processes is killed, and what its blocks had given away is dropped."""
    failed = 0
    for text, name, sh in WHOLE:
        made = os.path.join(d, "made")
        want = subprocess.run(["sh", "-c", text if sh == "same" else sh], cwd=d, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout
        want += open(made, "rb").read() if "made" in text else b""
        for victim in ("program", "first process", "zpipe-box"):
            with open(os.path.join(d, "err"), "wb") as e:
                p = subprocess.Popen([zpipe, "-v", "-j", "2", "--split", "always,64K", text], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=e)
            lost = b"box_lost" if victim == "zpipe-box" else b"sandbox_lost"

            def at():
                return [(i, c) for i in firsts(p.pid) for c in children(i) if text_of("/proc/%d/cmdline" % c, b"\0")[0].endswith(name)]
            seen = [[]]

            def whole():
                """A block's program that is being ended is there for a moment."""
                seen.append(at() if name != b"grep" or b"runs_whole" in open(e.name, "rb").read() else [])
                return p.poll() is not None or len(seen[-1]) == 1 and seen[-1] == seen[-2]
            until("it runs whole", whole)
            for init, program in seen[-1]:
                send({"program": program, "first process": init}.get(victim) or [c for c in children(p.pid) if is_box(c)][0], signal.SIGKILL)
            out, said = p.communicate()[0], open(e.name, "rb").read()
            out += open(made, "rb").read() if "made" in text and p.returncode == 0 else b""
            good = p.returncode == 0 and out == want and lost in said
            failed += not good
            print("%s %s: its %s was killed" % ("ok    " if good else "FAIL  ", text.split("\n")[0], victim), flush=True)
            if not good:
                print(p.returncode, len(out), len(want), said.decode())
    return failed


def hit_programs(d):
    """A signal from outside is no program's own failure, to whichever of its processes; one that the task sends is."""
    failed = 0
    for text in HIT:
        for number in (signal.SIGKILL, signal.SIGTERM):
            p = subprocess.Popen([zpipe, "-v", text], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while p.poll() is None:
                at = [c for c in programs(firsts(p.pid)) if text_of("/proc/%d/cmdline" % c, b"\0")[0].endswith(b"python3") and text_of("/proc/%d/wchan" % c, None)]
                select.select([], [], [], 0.05)
                if at and send(at[-1], number):
                    break
            out, err = p.communicate()
            good = (p.returncode == 0 and b"".join(out.splitlines()[-2:]) in (b"4000000", b"40000000", b"1 7919 some text of line 14000000", b"a4000000") or
                    # What the shell said when its program was killed may be given away by then.
                    text.startswith("sh") and text is not SAID and told_of(p.returncode, err)) and b"sandbox_lost" in err and text is not TOLD
            # It is killed as soon as it says so on stderr, which may be before it has written the status.
            good |= text is TOLD and (told_of(p.returncode, err) and out.strip() == b"%d" % (128 + number) or
                                      p.returncode == 0 and out == b"0\n" and b"sandbox_lost" in err)
            failed += not good
            print("%s %s: signal %d" % ("ok    " if good else "FAIL  ", text.split("\n")[0], number), flush=True)
            if not good:
                print(p.returncode, out, err.decode())
    failed += not hit_twice(d)
    for text, want in (("sh -c 'kill -9 $$'", 137), ("sh -c 'kill $$'", 143), ("sh -c 'sleep 9 & kill -9 $!; wait $!'", 137), ("timeout -s KILL 1 sleep 9", 137), ("timeout 1 sleep 9", 124),
                       ("python3 -c 'import ctypes, os\nif os.fork():\n print(os.wait()[1])\nelse:\n if os.fork():\n  os._exit(0)\n ctypes.CDLL(None).prctl(1, 9)'", 0)):
        p = subprocess.run([zpipe, "-v", text], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        good = p.returncode == want and b"sandbox_lost" not in p.stderr
        failed += not good
        print("%s %s: status %d" % ("ok    " if good else "FAIL  ", text.split("\n")[0], p.returncode), flush=True)
        if not good:
            print(p.stdout, p.stderr.decode())
    return failed


def main():
    failed = hits = 0
    if args.rows is not None:
        failed, hits = table_rows(args.rows)
    with tempfile.TemporaryDirectory(prefix="zpipe-killed-") as d:
        lines = ["%d %d some text of line %d\n" % (i % 37, i * 7919 % 10007, i) for i in range(120000)]
        with open(os.path.join(d, "in"), "w") as f:
            f.writelines(lines)
        for k in range(24):
            with open(os.path.join(d, "part.%02d" % k), "w") as f:
                f.writelines(lines[k::24])
        with open(os.path.join(d, "nul"), "w") as f:
            f.writelines([*lines[:10000], "\0\n", *lines[10000:10100]])
        failed += hit_whole(d) + hit_programs(d)
        for i, (text, sh, kills) in enumerate(PIPELINES):
            if sh == "same":
                alone = subprocess.run([zpipe, "-j", "2", "--split", "always,64K", text], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
                want = hashlib.sha256(alone.stdout).hexdigest()
            else:
                want = hashlib.sha256(subprocess.run(["sh", "-c", sh or text], cwd=d, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout).hexdigest()
            for width in WIDTHS * 2 if args.all else (WIDTHS[i % 5], WIDTHS[(i + 3) % 5]):
                lost, tries = 0, 0
                while not lost and tries < TRIES:
                    status, got, lost, said = run(d, text, width, kills)
                    tries += 1
                    if (status, got) != (0, want):
                        failed += 1
                        print("FAIL   -j %d %s: status %d, %s bytes; lost %d\n%s" % (width, text, status, "same" if got == want else "other", lost, said))
                        break
                hits += lost
                print("%s -j %d %s: %d lost" % ("ok    " if lost else "no hit", width, text, lost), flush=True)
    print("%d sandboxes lost, %d failed" % (hits, failed))
    sys.exit(1 if failed or not hits else 0)


main()
