#!/usr/bin/env python3
"""Workers that lie: about what they were lent, and about what they lend out.  Each lie is found out by whoever hears it,
named in its log, and the job has the bytes of sh: the run is done elsewhere.  tests/lib/liar.c tells the lies.

    liars.py --bin DIR [CASE...]"""
import os, select, signal, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from blocks import make_files  # noqa: E402
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from run import reference  # noqa: E402
from watch import stopped, until  # noqa: E402
from workers import Workers  # noqa: E402

TIMEOUT = 120
CHUNK_BYTES = 1_000_000
CHUNKS_MAX = 200
TEXT = "grep -E '(.)(.*)(.*)\\1\\1z|qu 499'"  # slow

args = arguments.parse_args()
zpipe = zpipe_of(args)

# What the other side says of it; None: it takes no notice.
LENDER = [
    ("silence", None),
    ("none", None),  # a run that it was never lent is done
    ("replay", None),  # somebody else attaches with its token, and gives its run back
    ("early", "before it had its input"),
    ("programs", "a lender ran 2 commands of 1"),
    ("pieces", "2 pieces of output, not 1"),
    ("large", "more than a run may write"),
    ("sum", "output that there cannot be"),
    ("more", "more bytes than were announced"),
    ("fewer", "bytes are not those that were sent"),
    ("digest", "bytes are not those that were sent"),
    ("twice", "bytes are not those that were sent"),
    ("file", "a lender asked for file 77"),
    ("credit", "a stream got credit up to byte"),
]
OWNER = [
    ("stage", "a stage that is none"),
    ("large", "a run of 1099511627776 bytes"),
    ("many", "more runs than 2 for each of 1 slots"),
    ("twice", "run 1 twice"),
    ("file", "a run of a file that is none"),
    ("parts", "a merge of 2 parts, or of a stage that merges nothing"),
    ("places", "bytes are not those that were sent"),  # no such file is anywhere: it wants the bytes
    ("more", "more bytes than were announced"),
    ("fewer", "bytes are not those that were sent"),
    ("digest", "bytes are not those that were sent"),
]


class Liar:
    def __init__(self, c, role, lie):
        program = os.path.join(os.path.dirname(zpipe), "liar")
        self.p = subprocess.Popen([program, c.env["ZPIPE_KEYS"], c.env["ZPIPE_CLUSTER"], role, lie], stdout=subprocess.PIPE, text=True)
        assert self.p.stdout.readline() == "ready\n", "the liar could not join"

    def __enter__(self):
        return self

    def __exit__(self, *wrong):
        self.p.kill()
        self.p.communicate()

    def has_lied(self, seconds):
        """Within so long; it says that once."""
        return bool(select.select([self.p.stdout], [], [], seconds)[0]) and self.p.stdout.readline() == "lied\n"


def joined():
    return b"\nworker w1 " in b"\n" + subprocess.run([zpipe, "status"], stdout=subprocess.PIPE, check=True).stdout


def found_out(c, words):
    lines = c.log(1).decode(errors="replace").splitlines()
    return not words or any(words in line for line in lines if "lender_lost" in line or "loan_failed" in line)


def tell(role, lie, words, chunk, want, text=TEXT, said=b""):
    """A job whose input goes on until the lie was told and heard: there are always runs to be lent."""
    with Workers(zpipe, 1, slots=2, options=("--image", "lies")) as c:  # a job is given to who has most, so the honest one is there first
        os.environ.update(c.env)
        until("the honest worker has joined", joined, TIMEOUT)
        with Liar(c, role, lie) as liar, subprocess.Popen([zpipe, "--split", "always,64K", text], stdin=subprocess.PIPE,
                                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            for count in range(1, CHUNKS_MAX + 1):
                job.stdin.write(chunk)
                job.stdin.flush()
                if liar.has_lied(0.3):
                    break
            else:
                raise AssertionError("%s: the liar never had to do with the job" % lie)
            until("%s is found out" % lie, lambda: found_out(c, words), TIMEOUT)
            out, err = job.communicate(timeout=TIMEOUT)
            assert (out, job.returncode, err.replace(said, b"")) == (want * count, 0, b""), "%s: %s" % (lie, (out[:200], job.returncode, err))
            assert words or b"loan_failed" not in c.log(1), c.log(1)


def chunk_of_lines():
    with open("big.txt", "rb") as f:
        chunk = f.read(CHUNK_BYTES)
    return chunk[:chunk.rindex(b"\n") + 1]


def all_of(role, lies):
    chunk = chunk_of_lines()
    want = subprocess.run(reference(TEXT), input=chunk, stdout=subprocess.PIPE, check=True).stdout
    for lie, words in lies:
        tell(role, lie, words, chunk, want)
    return "%d lies" % len(lies)


@case
def lenders():
    return all_of("lender", LENDER)


@case
def owners():
    return all_of("owner", OWNER)


@case
def an_owner_that_leaves_runs_between_their_outputs():
    chunk = chunk_of_lines()
    tell("owner", "leaves", None, chunk, chunk, "map { sh -c 'cat; echo said >&2' }", b"said\n")


# A block that stands still wherever it runs, and the others' output.
STOPS = "sh -c 'read x; case $x in *11) kill -STOP $$;; esac; echo $x; cat | wc -c'"
STOPS_TABLE = "command sh\n  values -c\n  form -c : lines\n"


def hangs(lie, words, slots, options=(), said=b""):
    """The owner's own run stands still, and its copy is given to a liar, who ends none: a copy here is what is left.  Only that
    one is let go."""
    with open("stops.conf", "w") as f:
        f.write(STOPS_TABLE)
    with open("numbers.txt", "w") as f:
        f.write("".join(("%063d\n" % i) * 1024 for i in range(12)))
    want = b"".join(b"%063d\n65472\n" % i for i in range(12))
    with Workers(zpipe, 1, slots=slots, options=("--image", "lies")) as c:
        os.environ.update(c.env)
        until("the honest worker has joined", joined, TIMEOUT)
        owner = c.started[1]
        with subprocess.Popen([zpipe, "--commands", "stops.conf", "--record", "no", "--split", "always,64K", *options, "cat numbers.txt | " + STOPS],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            until("the last run stands still", lambda: stopped(owner.pid), TIMEOUT)
            first = stopped(owner.pid)
            with Liar(c, "lender", lie) as liar:
                assert liar.has_lied(TIMEOUT), "%s: the liar never had to do with the job" % lie
                until("%s is found out" % lie, lambda: found_out(c, words), TIMEOUT)
                until("a copy stands still here", lambda: set(stopped(owner.pid)) - set(first), TIMEOUT)
                for program, _ in set(stopped(owner.pid)) - set(first):
                    os.kill(program, signal.SIGCONT)
                out, err = job.communicate(timeout=TIMEOUT)
                assert (out, job.returncode, err.replace(said, b"")) == (want, 0, b""), "%s: %s" % (lie, (out[:200], job.returncode, err))


@case
def lenders_where_the_owners_run_hangs():
    """A copy that is never ended; and one that is refused, for an owner that has no other slot."""
    hangs("silence", None, 2)
    hangs("early", dict(LENDER)["early"], 1)


run_cases(args, make_files)
