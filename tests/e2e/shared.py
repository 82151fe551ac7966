#!/usr/bin/env python3
"""Directories that workers have as the client has them (--shared): what lies there is read there, and not sent; what is not the same, or may not
be read by everybody, is sent; the bytes are those of one process.

    shared.py --bin DIR [CASE...]"""
import os, re, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402
from workers import Workers  # noqa: E402

TIMEOUT = 90
TRIES = 5
EDGE, FILE, RUN_INPUT, LOAN_FILE = 0, 1, 5, 7  # enum msg_what

args = arguments.parse_args()
zpipe = zpipe_of(args)

# Of files as stdin, as operands, as what programs open, in blocks, whole, and in a map; none merges, since merges' parts are always sent.
ROWS = ["cat data/big.txt | grep 7 | wc", "grep -c 99 data/big.txt", "wc -l < data/big.txt", "cat data/big.txt data/small.txt | tr a-z A-Z | md5sum",
        "cat data/logs/*.txt | map per file { sort {} | md5sum }", "cat data/logs/*.txt | map per file { sort | md5sum }",
        "grep -c 7 data/big.txt data/small.txt", "cat data/big.txt | map { grep -cf data/small.txt }", "grep -f data/small.txt data/big.txt | md5sum",
        "sed 5q data/big.txt", "cat data/big.txt | head -3", "rev < data/big.txt | tail -1", "cat data/empty.txt data/small.txt | wc",
        "tac data/big.txt | md5sum", "{ echo here; cat data/small.txt; } | rev", "cat data/big.txt | tee >(wc -l) | md5sum"]


def prepare(d):
    os.chmod(d, 0o755)
    os.makedirs(d + "/data/logs")
    made = {"big.txt": "".join("the %d quick %d\n" % (i, i * 7919 % 10007) for i in range(60000)), "small.txt": "the 7\n", "empty.txt": ""}
    made.update(("logs/%d.txt" % i, "".join("%d of %d\n" % (k * 7919 % 101, i) for k in range(i * 300))) for i in range(7))
    for name, text in made.items():
        with open(d + "/data/" + name, "w") as f:
            f.write(text)
        os.chmod(d + "/data/" + name, 0o644)


def run(text, env=None):
    where = ["-j", "2"] if env is None else []
    p = subprocess.run([zpipe, "--record", "no", *where, "--split", "always,64K", text], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
    return p.stdout, p.returncode, p.stderr


class Shared(Workers):
    """One worker for each list of directories, "" for none."""
    def __init__(self, *lists):
        super().__init__(zpipe, 0, 1)
        for i, one in enumerate(lists):
            self.start("worker", "--keys", self.env["ZPIPE_KEYS"], "--scheduler", self.env["ZPIPE_CLUSTER"], "--slots", "1", "--name", "w%d" % (i + 1),
                       "--image", "tests", "-v", "-v", *(["--shared", one] if one else []))
        self.env = dict(os.environ, **self.env)
        until("all are there", lambda: subprocess.run([zpipe, "status"], env=self.env, capture_output=True).stdout.count(b"worker ") == len(lists))

    def same(self, rows):
        wrong = ["%s: %s, not %s" % (text, got, want) for text in rows for got, want in [(run(text, self.env), run(text))] if got != want]
        assert not wrong, "\n".join(wrong)

    def came(self, what):
        """Frames with bytes of such streams that came to workers."""
        return [len(re.findall(rb"(?m)^debug in \S+ link=\d+ DATA job=\d+ attempt=\d+ what=%d .* flags=0 " % what, self.log(i)))
                for i in range(1, len(self.started))]


def data():
    return os.path.realpath("data")


@case
def what_lies_there_is_not_sent():
    with Shared(data(), data()) as c:
        c.same(ROWS)
        assert sum(c.heard("WORK")) > 20, c.heard("WORK")
        assert not any(map(any, map(c.came, (EDGE, FILE, RUN_INPUT, LOAN_FILE)))), [c.came(w) for w in (EDGE, FILE, RUN_INPUT, LOAN_FILE)]
        return "%s runs elsewhere" % c.heard("WORK")


@case
def a_worker_that_has_it_not_is_sent_it():
    with Shared(data(), "") as c:
        c.same(ROWS)
        assert not any(c.came(EDGE)) and c.came(RUN_INPUT)[1] and c.came(LOAN_FILE)[1], (c.came(EDGE), c.came(RUN_INPUT), c.came(LOAN_FILE))


@case
def a_job_goes_where_its_bytes_are():
    os.makedirs("elsewhere", exist_ok=True)
    os.chmod("elsewhere", 0o755)
    with open("elsewhere/other.txt", "w") as f:
        f.write("other\n")
    with Shared("", data(), os.path.realpath("elsewhere")) as c:
        for text, where in (("wc -l < data/small.txt", 1), ("rev < elsewhere/other.txt", 2), ("grep -c . data/big.txt elsewhere/other.txt", 1)):
            want = c.heard("RUN")
            want[where] += 1
            c.same([text])
            assert c.heard("RUN") == want, (text, c.heard("RUN"), want)


@case
def what_not_everybody_may_read_is_sent():
    os.chmod("data/small.txt", 0o600)
    os.chmod("data/logs", 0o700)
    try:
        with Shared(data()) as c:
            c.same([text for text in ROWS if "small" in text or "logs" in text])
            assert any(c.came(EDGE)) and any(c.came(FILE)), (c.came(EDGE), c.came(FILE))
    finally:
        os.chmod("data/small.txt", 0o644)
        os.chmod("data/logs", 0o755)


@case
def another_file_under_this_name_is_sent():
    """The client's is the one at its own name: a worker that has another one there reads that one for nobody."""
    if os.geteuid():
        return "skipped: only root may mount another directory at this name"
    here, other = data(), os.path.realpath(".") + "/other"
    os.makedirs(other)
    with open(other + "/small.txt", "w") as f:
        f.write("THE 7\n")
    os.utime(other + "/small.txt", ns=(1, os.stat("data/small.txt").st_mtime_ns))
    with Shared() as c:
        wrapper = os.path.join(c.d, "zpipe")
        with open(wrapper, "w") as f:
            f.write("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s %s && exec %s \"$@\"' sh \"$@\"\n" % (other, here, zpipe))
        os.chmod(wrapper, 0o755)
        c.zpipe = wrapper
        c.start("worker", "--keys", c.env["ZPIPE_KEYS"], "--scheduler", c.env["ZPIPE_CLUSTER"], "--slots", "1", "--image", "tests", "-v", "-v", "--shared", here)
        c.same(["cat data/small.txt", "grep -c THE data/small.txt", "rev < data/small.txt", "cat data/big.txt | wc -l"])
        assert c.came(EDGE)[0] and c.came(FILE)[0], (c.came(EDGE), c.came(FILE))


@case
def what_changes_meanwhile_fails_the_job():
    with open("data/grows.txt", "w") as f:
        f.write("here\n" * 30000)
    with Shared(data(), data()) as c:
        p = subprocess.Popen([zpipe, "--split", "always,64K", "cat - data/small.txt > /dev/null; grep -c here data/grows.txt"], env=c.env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("it runs", lambda: any(c.heard("RUN")))
        with open("data/grows.txt", "a") as f:
            f.write("here\n")
        out, err = p.communicate(b"go\n", timeout=TIMEOUT)
        assert p.returncode == 125 and b"/grows.txt' changed" in err, (p.returncode, out, err)


def kill(owner, hit):
    """The owner, or the one that lends it slots; hit(the other one's log)."""
    slow = "grep -E '(.*)(.*)(.*)zz\\1' data/big.txt | wc -l"
    want = run(slow)
    for _ in range(TRIES):
        with Shared(data(), data()) as c:
            p = subprocess.Popen([zpipe, "--split", "always,64K", slow], env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until("a run is lent", lambda: any(c.heard("WORK")) or p.poll() is not None, TIMEOUT)
            first = bool(c.heard("RUN")[0]) == owner
            c.kill(1 if first else 2)
            out, err = p.communicate(timeout=TIMEOUT)
            assert (out, p.returncode, err) == want, (p.returncode, out, err)
            if hit(c.log(2 if first else 1)):
                return "hit"
    raise AssertionError("nobody had a run of it any more: the test tests nothing")


@case
def a_lender_that_is_killed():
    return kill(False, lambda log: b"lender_lost" in log and b"runs=0" not in log)


@case
def an_owner_that_is_killed():
    return kill(True, lambda log: b" RUN " in log)  # all of it began anew there


run_cases(args, prepare)
