#!/usr/bin/env python3
"""Sandboxes at work are killed, others stand still for a while, and the bytes are the same.

    killed.py --bin DIR [--all] [--seed N]

Each pipeline runs at several widths; --all: at each of WIDTHS, twice.  A kill counts when zpipe said that a sandbox was lost: a
run that lost none is done again."""
import argparse, glob, hashlib, os, random, select, signal, subprocess, sys, tempfile

WIDTHS = (1, 2, 3, 7, 64)
TRIES = 10  # until a kill hits something
ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--all", action="store_true")
ap.add_argument("--seed", type=int, default=1)
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
chance = random.Random(args.seed)

# Each with what sh is asked instead, and how many kills it stands (the third of one block is its last): what is no block has no second try in one process.  A
# last merge that is killed makes the stage run whole, once.
PIPELINES = [
    ("cat in | tr a-z A-Z | grep -v 77", None, 2),
    ("cat in | map { sh -c 'sort | uniq -c' | sort -rn | head -n 2 }", "same", 2),
    ("cat part.* | map per file { sort -r | head -n 20; echo end }", "for f in part.*; do sort -r $f | head -n 20; echo end; done", 2),
    ("cat in | reduce by 1 into 8 { sort | md5sum }", "same", 2),
    ("cat in | cut -d' ' -f2 | sort -n", None, 1),
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


def at_work(pid):
    """First processes of sandboxes in which a program runs: below zpipe, zpipe-box and that one's first process."""
    inits = [pid]
    for _ in range(3):
        inits = [c for at in inits for c in children(at) if is_box(c)]
    return [at for at in inits if any(text_of("/proc/%d/cmdline" % c, b"\0")[0] and not is_box(c) for c in children(at))]


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def disturb(p, kills):
    """Until the job is over: now and then one is killed, or stopped and let go a little later."""
    asleep = None
    while p.poll() is None:
        select.select([], [], [], chance.uniform(0.002, 0.04))  # what is injected, not a wait for something
        boxes = at_work(p.pid)
        if asleep:
            send(asleep, signal.SIGCONT)
            asleep = None
        elif boxes and kills and chance.random() < 0.5:
            kills -= send(chance.choice(boxes), signal.SIGKILL)
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


def main():
    failed = hits = 0
    with tempfile.TemporaryDirectory(prefix="zpipe-killed-") as d:
        lines = ["%d %d some text of line %d\n" % (i % 37, i * 7919 % 10007, i) for i in range(120000)]
        with open(os.path.join(d, "in"), "w") as f:
            f.writelines(lines)
        for k in range(24):
            with open(os.path.join(d, "part.%02d" % k), "w") as f:
                f.writelines(lines[k::24])
        for i, (text, sh, kills) in enumerate(PIPELINES):
            if sh == "same":
                want = run(d, text, 2, 0)[1]
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
