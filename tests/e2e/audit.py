#!/usr/bin/env python3
"""Audits: tasks that are run twice and compared, in one process and over workers.

    audit.py --bin DIR [CASE...]"""
import os, re, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from blocks import make_files  # noqa: E402
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402
from workers import Workers  # noqa: E402

TIMEOUT = 90
TRIES = 5
args = arguments.parse_args()
zpipe = zpipe_of(args)
SLOW = "cat big.txt | map { grep -E '(.*)(.*)(.*)zz\\1' | sort } | wc -l"  # a second or two, in blocks of 64 KiB
TEXTS = ["cat big.txt | map { sort | uniq -c }", "grep the big.txt", "cat big.txt | reduce by 1 into 5 { cut -d' ' -f2 | sort }",
         "sort big.txt nonl.txt | uniq -c", "cat big.txt | map { head -2 >&2; tee seen | wc }",
         "cat big.txt nonl.txt latin.txt | map per file { wc {}; sh -c 'exit 0' }", "cat big.txt | map { sort } merge sort -m {}"]


def run(text, *options, env=None):
    """stdout, status, stderr without the last line of an audit, and how many that says."""
    p = subprocess.run([zpipe, "--split", "always,64K", *options, text], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                       env={**os.environ, **(env or {})})
    said = re.search(rb"zpipe: audit: (\d+) tasks? (?:was|were) run twice, different: 0\n\Z", p.stderr)
    return p.stdout, p.returncode, p.stderr[:said.start()] if said else p.stderr, int(said.group(1)) if said else None


def count_blocks(text):
    run(text, "-j", "3", "--joblog", "log")  # ranges of keys are as many as the width makes worth it
    with open("log") as f:
        return sum("/" in line.split("\t")[9] for line in f.readlines()[1:])


@case
def all_of_them_in_one_process():
    told = []
    for text in TEXTS:
        plain, all_twice = run(text, "-j", "3"), run(text, "-j", "3", "--audit", "100%")
        assert plain[:3] == all_twice[:3] and plain[3] is None, (text, plain[1:], all_twice[1:])
        blocks = count_blocks(text)
        assert blocks and all_twice[3] == blocks, (text, all_twice[3], blocks)
        told.append(blocks)
    return "%s tasks" % told


@case
def a_share_is_the_same_each_time():
    blocks = count_blocks(TEXTS[0])
    found = [run(TEXTS[0], "-j", j, "--audit", share)[3] for j, share in (("2", "40%"), ("3", "40%"), ("2", "80%"), ("2", "0.0001%"))]
    assert found[0] == found[1] and 0 < found[0] <= found[2] and found[2] > 1 and found[3] <= 1 and found[0] < blocks, (found, blocks)


@case
def what_varies_is_told():
    with open("out", "w") as f:
        f.write("as it was\n")
    out, status, err, compared = run("cat big.txt | map { sh -c 'echo $$' } > out", "-j", "2", "--audit", "100%", "--isolation", "none")
    assert (out, status, compared) == (b"", 125, None), (out, status, compared)
    assert re.search(rb"not deterministic: block \d+ of `sh -c 'echo \$\$'` was run twice and came out differently: "
                     rb"digest [0-9a-f]{32} on 'local', [0-9a-f]{32} on 'local'\n", err), err
    assert open("out").read() == "as it was\n"


@case
def how_a_task_ends_is_compared():
    text = "cat big.txt | with fail=go { map { sh -c 'exit $(( $$ % 251 ))' } }"
    out, status, err, compared = run(text, "-j", "2", "--audit", "100%", "--isolation", "none")
    assert status == 125 and b"not deterministic: block" in err, (status, err)


@case
def on_another_worker():
    blocks = count_blocks(SLOW)
    want = run(SLOW)
    for _ in range(TRIES):
        with Workers(zpipe, 2) as c:
            got = run(SLOW, "--audit", "100%", env=c.env)
            assert got == (*want[:3], blocks), (got, want, blocks)
            lent = sum(c.heard("WORK"))  # whoever owns the stage
            if lent >= blocks // 2:
                return "%d of %d" % (lent, blocks)
    raise AssertionError("half of the blocks were not lent even once: %d of %d" % (lent, blocks))


@case
def a_lender_that_is_killed():
    blocks = count_blocks(SLOW)
    want = run(SLOW)
    for _ in range(TRIES):
        with Workers(zpipe, 2) as c:
            job = subprocess.Popen([zpipe, "--split", "always,64K", "--audit", "100%", SLOW], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env={**os.environ, **c.env})
            until("a run is lent", lambda: c.heard("WORK")[1] or job.poll() is not None, TIMEOUT)
            c.kill(2)
            out, err = job.communicate(timeout=TIMEOUT)
            assert (out, job.returncode) == want[:2] and b"audit: %d tasks" % blocks in err, (out, job.returncode, err)
            if b"lender_lost" in c.log(1) and b"runs=0" not in c.log(1):
                return "hit"
    raise AssertionError("the lender never had a run: the test tests nothing")


run_cases(args, make_files)
