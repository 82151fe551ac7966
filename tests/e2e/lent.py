#!/usr/bin/env python3
"""Stages in blocks over workers with one slot each: their runs are lent out, and the bytes are those of sh.  A lender
that dies or stands still costs time only, and what is lent comes back for a job that waits.

    lent.py --bin DIR [CASE...]"""
import os, re, signal, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from blocks import ROWS, make_files, run  # noqa: E402
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from run import reference  # noqa: E402
from watch import stopped, until  # noqa: E402
from workers import Workers  # noqa: E402

TIMEOUT = 90
TRIES = 5
SLOW = "grep -E '(.*)(.*)(.*)zz\\1' big.txt | wc -l"  # a second or two in blocks of 64 KiB

args = arguments.parse_args()
zpipe = zpipe_of(args)


class Lent(Workers):
    def __init__(self, workers, slots=1, options=()):
        super().__init__(zpipe, workers, slots, options)
        os.environ.update(self.env)

    def submit(self, text, *options):
        return subprocess.Popen([zpipe, "--split", "always,64K", *options, text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)


def same_bytes(workers, split, rows, also=lambda c: None, wanted=lambda text: run(reference(text), ".", subprocess.DEVNULL),
               got_also=tuple):
    with Lent(workers) as c:
        wrong = []
        for text in rows:
            want = wanted(text)
            got = run([zpipe, "--record", "no", "--split", split, text], ".", subprocess.DEVNULL) + got_also()
            if got != want:
                wrong.append("%s: %s, not %s" % (text, (got[1], got[2][:300]), (want[1], want[2][:300])))
        assert not wrong, "\n".join(wrong)
        given = c.heard("WORK")
        # whoever owns a stage lends to the others; who that is may differ from row to row
        assert sum(map(bool, given)) >= workers - 1, "too few workers were lent: %s" % given
        also(c)
        return "%s runs were done elsewhere" % given


TEXTS = [text for text, cut in ROWS if cut and "nosuch" not in text]


@case
def two_workers_and_small_blocks():
    return same_bytes(2, "always,64K", TEXTS[::2])


@case
def three_workers_and_blocks_as_they_come():
    return same_bytes(3, "auto", TEXTS[1::2])


SLOW_TASKS = "cat big.txt | map { grep -E '(.*)(.*)(.*)zz\\1' | sort } | wc -l"


def is_lent(c):
    return c.heard("WORK")[1]


def lose_a_lender(how, text=SLOW, same=SLOW, options=(), when=is_lent):
    """how(cluster, job): when the second worker has a run.  Until it had one that it did not end."""
    want = run(reference(same), ".", subprocess.DEVNULL)
    for _ in range(TRIES):
        with Lent(2) as c:
            job = c.submit(text, *options)
            until("a run is lent", lambda: when(c) or job.poll() is not None, TIMEOUT)
            hit = how(c)
            out, err = job.communicate(timeout=TIMEOUT)
            assert (out, job.returncode, err) == want, (job.returncode, out[:200], err)
            if hit():
                return "hit"
    raise AssertionError("the lender never had a run: the test tests nothing")


# Programs that open files beside what they read as their input.
OPENS = ["grep -vf patterns.txt big.txt | wc", "tr A-Z a-z < big.txt | grep -cf patterns.txt",
         "grep -f patterns.txt big.txt | cut -d' ' -f1 | grep -vFx --file=words.txt | sort | uniq -c"]


@case
def files_that_programs_open_come_once():
    for name, text in (("patterns.txt", "zebra\nlazy dog\n"), ("words.txt", "the\nThe\n")):
        with open(name, "w") as f:
            f.write(text)
    return same_bytes(3, "always,64K", OPENS, fetched_once)


FILE_BEGINS = rb"(?m)^debug in \S+ link=\d+ DATA job=(\d+) attempt=\d+ what=7 index=(\d+) node=\d+ offset=0 flags=0 "


def fetched_once(c):
    got = [re.findall(FILE_BEGINS, c.log(i)) for i in range(1, len(c.started))]
    assert all(len(one) == len(set(one)) for one in got), got
    assert sum(map(len, got)) >= len(OPENS), got


# As in one process.  What tasks say and make comes back, too; sizes tell that each of their files is whole.
TASKS = ["cat big.txt | map { tr a-z A-Z | sort }", "cat big.txt nonl.txt | map ./number.py | tail -2",
         "cat logs/*.txt | map per file { ./number.py | tail -1 }",
         "cat logs/*.txt | map per file { sort > made/{/.}.sorted }", "cat logs/*.txt | map per file { sort {} | tee made/{/.}.copy | wc -c }",
         "cat big.txt | map { sort } merge sort -m {}", "cat big.txt | map { grep -f words.txt | sort | uniq -c }", "cat big.txt | map { grep -cf - nonl.txt < words.txt }",
         "cat big.txt | reduce by 1 into 5 { sort | uniq -c }", "cat big.txt | map { cut -d' ' -f1 } | reduce by 1 { wc -l }",
         "cat big.txt | map { head -2 >&2; cat } | md5sum", "cat big.txt | map { sh -c 'head -1 | tee /dev/stderr' } 2>&1 | md5sum",
         "cat big.txt | map { sh -c 'grep -q qu.*4999 && exit 3; cat' }", "cat big.txt | with output=10KiB { map cat } | tail -1",
         "cat big.txt | map { sh -c 'sort | tee left' | tail -1 }", "grep -c the big.txt nonl.txt latin.txt nul.txt"]


def in_one_process(text):
    env = {k: v for k, v in os.environ.items() if k != "ZPIPE_CLUSTER"}
    p = subprocess.run([zpipe, "-j", "2", "--record", "no", "--split", "always,64K", text], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=TIMEOUT)
    return p.stdout, p.returncode, p.stderr, take_made()


def take_made():
    made = {}
    for name in sorted(os.listdir("made")):
        path = os.path.join("made", name)
        with open(path, "rb") as f:
            made[name] = os.stat(path).st_mode, f.read()
        os.unlink(path)
    return made


@case
def tasks_of_maps_and_reduces():
    os.mkdir("logs")
    os.mkdir("made")
    for i in range(7):
        with open("logs/%d.txt" % i, "w") as f:
            f.write("".join("%d of %d\n" % (k * 7919 % 101, i) for k in range(i * 300)))
    with open("words.txt", "w") as f:
        f.write("the\nThe\n")
    return same_bytes(3, "always,64K", TASKS, wanted=in_one_process, got_also=lambda: (take_made(),))


# A sort whose last merge takes its time, and that only a table knows to be one.
SLOW_MERGE = """#!/bin/sh
case $1 in
"") exec sort ;;
*) i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done; exec sort -m "$@" ;;
esac
"""
SLOW_TABLE = "command ./slowly\n  operands files\n  form : records | apart | block {name} | merge {name} | order sort -m --batch-size=66\n"


def merges(c):
    return [len(re.findall(rb"(?m)^debug in .* WORK .* part=\([1-9]", c.log(i))) for i in range(1, len(c.started))]


def some_merges(c):
    assert any(merges(c)), "no merge was lent"


def lose_a_merge(how):
    with open("slowly", "w") as f:
        f.write(SLOW_MERGE)
    os.chmod("slowly", 0o755)
    with open("slow.conf", "w") as f:
        f.write(SLOW_TABLE)
    return lose_a_lender(how, "./slowly < big.txt", "sort big.txt", ("--commands", "slow.conf"), lambda c: merges(c)[1])


@case
def merges_of_ranges_of_keys():
    return same_bytes(3, "always,64K", ["sort big.txt", "sort -k2,2 -s big.txt", "sort -u nonl.txt", "sort -rn big.txt | head -5"],
                      some_merges)


@case
def a_lender_that_is_killed():
    def kill(c):
        c.kill(2)
        return lambda: b"lender_lost" in c.log(1) and b"runs=0" not in c.log(1)
    return lose_a_lender(kill), lose_a_lender(kill, SLOW_TASKS), lose_a_merge(kill)


@case
def a_lender_that_stands_still():
    def stop(c):
        c.started[2].send_signal(signal.SIGSTOP)
        return lambda: b"run_again" in c.log(1)
    return lose_a_lender(stop), lose_a_lender(stop, SLOW_TASKS), lose_a_merge(stop)


@case
def audits_of_two_stages_share_a_lender():
    """A place that one stage leaves is the other's, which has nothing else to wait for."""
    with open("big.txt", "rb") as f:
        lines = f.read().count(b"\n")
    with Lent(2) as c:
        for split in ("64K", "8K", "2K"):
            out, status, err = run([zpipe, "--split", "always," + split, "--audit", "100%", "cat big.txt | map { tr a-z A-Z } | wc -l"], ".", subprocess.DEVNULL)
            assert (out, status) == (b"%d\n" % lines, 0) and b"different: 0" in err, (split, out, status, err)
        return c.heard("WORK")


# Without a sandbox a command can tell its process: what runs twice is not the same.  The lender has blocks 2 to 5, and is
# with 2 and 3 for some time, so that its owner does 5 and 4 again before the lender comes to them.
TELLS = "cat numbers.txt | sh -c 'read x; case $x in *2) sleep 6;; *3) sleep 2;; esac; cat > /dev/null; echo $$'"


@case
def two_copies_that_differ_are_told():
    with open("table.conf", "w") as f:
        f.write("command sh\n  values -c\n  form -c : lines\n")
    with open("numbers.txt", "w") as f:
        for i in range(6):
            f.write(("%063d\n" % i) * 1024)
    for _ in range(TRIES):
        with Lent(2, 2, ("--isolation", "none")):
            out, status, err = run([zpipe, "--commands", "table.conf", "--split", "always,64K", TELLS], ".", subprocess.DEVNULL)
            if status == 125:
                assert b"not deterministic: block " in err and b"`sh -c" in err, err
                return "told"
    raise AssertionError("no two copies ended, or they were the same: %d %s" % (status, err))


# The first to come to a stop, without a sandbox, stands still until it is killed.  That is the owner: it begins with the first block.
STOPS = "sh -c 'read x; case $x in *%s) mkdir once 2>&- && kill -STOP $$;; esac; echo $x; cat | wc -c'"
STOPS_MERGE = """#!/bin/sh
case $1 in
"") exec sort ;;
*) mkdir %s/once 2>&- && kill -STOP $$; exec sort -m "$@" ;;
esac
"""


def numbered():
    with open("once.conf", "w") as f:
        f.write("command sh\n  values -c\n  form -c : lines\n")
    with open("numbers.txt", "w") as f:
        for i in range(12):
            f.write(("%063d\n" % i) * 1024)


# What sh prints for each of these blocks.
NUMBERED = "for i in 0 1 2 3 4 5 6 7 8 9 10 11; do printf '%063d\\n65472\\n' $i; done"


def stands_still(text, same, options=()):
    want = run(reference(same), ".", subprocess.DEVNULL)
    for _ in range(TRIES):
        with Lent(2, 1, ("--isolation", "none")) as c:
            if os.path.exists("once"):
                os.rmdir("once")
            out, status, err = run([zpipe, "--record", "no", "--split", "always,64K", *options, text], ".", subprocess.DEVNULL)
            assert (out, status) == want[:2], (status, out[:200], err)
            if b"where=elsewhere" in c.log(1):
                return "hit"
    raise AssertionError("the owner did no run twice: the test tests nothing")


@case
def a_block_that_stands_still_where_its_stage_is():
    """A lender does it as well: when nothing is left to begin, or when all others wait for the first one."""
    numbered()
    with open("slowly", "w") as f:
        f.write(STOPS_MERGE % os.getcwd())
    os.chmod("slowly", 0o755)
    with open("slow.conf", "w") as f:
        f.write(SLOW_TABLE)
    stops = STOPS.replace("once", os.getcwd() + "/once")
    return (stands_still("cat numbers.txt | " + stops % "00", NUMBERED, ("--commands", "once.conf")),
            stands_still("cat numbers.txt | map { %s }" % stops % "00", NUMBERED),
            stands_still("./slowly < big.txt", "sort big.txt", ("--commands", "slow.conf")))


STOPS_ALWAYS = "sh -c 'read x; case $x in *00) kill -STOP $$;; esac; echo $x; cat | wc -c'"


@case
def a_run_whose_two_sandboxes_are_lost():
    """When the original is lost its copy goes on, and when that is lost, too, the run begins again."""
    numbered()
    for text in ("cat numbers.txt | " + STOPS_ALWAYS, "cat numbers.txt | map { %s }" % STOPS_ALWAYS):
        want = run(reference(NUMBERED), ".", subprocess.DEVNULL)
        with Lent(2) as c:
            job = c.submit(text, "--commands", "once.conf")
            pids = [worker.pid for worker in c.started[1:]]
            for worker in c.started[1:]:
                until("a program stands still", lambda: stopped(worker.pid), TIMEOUT)
            for worker, told in ((1, lambda: b"sandbox_lost" in c.log(1)), (2, lambda: any(map(stopped, pids)))):
                for _, first in stopped(c.started[worker].pid):
                    os.kill(first, signal.SIGKILL)
                    until("that is gone", lambda: (_, first) not in stopped(c.started[worker].pid), TIMEOUT)
                until("it is noticed", told, TIMEOUT)
            for p, _ in [p for worker in c.started[1:] for p in stopped(worker.pid)]:
                os.kill(p, signal.SIGCONT)
            out, err = job.communicate(timeout=TIMEOUT)
            assert (out, job.returncode, err) == want, (job.returncode, out[:200], err)


@case
def messages_of_the_scheduler_do_not_grow_with_blocks():
    """It hears of slots, not of blocks: WANT when the owner could use twice as many, a loan, and its end."""
    with Lent(2) as c:
        counts = []
        for split in ("64K", "2K"):
            before = sum(sum(c.heard(m)) for m in ("LEND", "LENT", "RECALL", "RUN", "STOP"))
            out, status, err = run([zpipe, "--split", "always," + split, "cat big.txt | map { grep -c . } | wc -l"], ".", subprocess.DEVNULL)
            blocks = int(out)
            after = sum(sum(c.heard(m)) for m in ("LEND", "LENT", "RECALL", "RUN", "STOP"))
            assert status == 0 and after - before <= 40, (split, blocks, after - before, err)
            counts.append((blocks, after - before))
        assert counts[1][0] > 20 * counts[0][0], counts
        return "blocks and messages: %s" % counts


@case
def what_is_lent_comes_back_for_a_job_that_waits():
    with Lent(2) as c:
        long = c.submit("yes | grep y | cat > /dev/null")
        until("a run is lent", lambda: c.heard("WORK")[1], TIMEOUT)
        other = c.submit("echo here | cat")
        out, err = other.communicate(timeout=TIMEOUT)
        assert (out, other.returncode) == (b"here\n", 0) and long.poll() is None, (out, err)
        assert c.heard("RUN") == [1, 1], c.heard("RUN")
        lends = c.heard("LEND")[1]
        until("it is lent again", lambda: c.heard("LEND")[1] > lends or lends > 1, TIMEOUT)
        long.send_signal(signal.SIGINT)
        long.communicate(timeout=TIMEOUT)


run_cases(args, make_files)
