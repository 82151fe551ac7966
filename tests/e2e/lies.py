#!/usr/bin/env python3
"""Peers that lie about one thing: each field of each message that they send, and of a graph; and messages that are left out, come twice, or
have other bytes.  The others must go on, without a crash, a leak or a wait that does not end, and bytes that come are those of sh.

    lies.py --bin DIR [--step N] [--first N] [--table NAME] [CASE...]      each Nth lie, from that number on

Whoever has a part of a job may let it wait, as a slow program may; but its client can always be interrupted."""
import os, signal, subprocess, sys, time

import daemons
from daemons import Cluster, lines, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

arguments.add_argument("--step", type=int, default=1)
arguments.add_argument("--first", type=int, default=0)
arguments.add_argument("--table", action="append")
args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
SECONDS = 15
LIAR_SECONDS = 3
TEXT = "cat in.txt - | grep -v 77 | tee copy.txt | sort | %s | tee out.txt | cat - <(awk -f p.awk in.txt | sort -n | head -3) | cksum"
JOB = ["--split", "always,16K", TEXT % "map { ./p.sh }"]
WANT = None
found = []


def say(*words):
    found.append(" ".join(str(w) for w in words))
    print("FOUND ", *words)
    sys.stdout.flush()


def prepare():
    global WANT
    open("in.txt", "wb").write(lines(8000))
    open("p.awk", "w").write("{ print $1 * 2 }\n")
    with open("p.sh", "w") as f:
        f.write("#!/bin/sh\nexec tr 0-9 a-j\n")
    os.chmod("p.sh", 0o755)
    WANT = subprocess.run(["bash", "-c", TEXT % "./p.sh"], input=STDIN, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}).stdout, files()


STDIN = lines(3000)


def files():
    got = {}
    for name in ("copy.txt", "out.txt"):
        got[name] = open(name, "rb").read() if os.path.exists(name) else None
        if os.path.exists(name):
            os.unlink(name)
    return got


class Lying(Cluster):
    """Of its daemons, those that `liars` names lie."""
    def __init__(self, lie, liars, **kw):
        self.lie, self.liars = lie, liars
        for name in ("note", "daemons.log"):
            if os.path.exists(name):
                os.unlink(name)
        subprocess.run(["rm", "-rf", "state", "keep"])
        super().__init__(**kw)

    def start(self, *argv, **kw):
        name = argv[argv.index("--name") + 1] if "--name" in argv else argv[0]
        if name in self.liars:
            program = [zpipe + "-lies", *argv] if argv[0] != "keeper" else [zpipe + "-keeper-lies", *argv[1:]]
            env = {**os.environ, "ZPIPE_LIE": self.lie, "ZPIPE_LIE_NOTE": "note", "ASAN_OPTIONS": "detect_leaks=0"}
        else:
            program, env = [zpipe, *argv], dict(os.environ)
        p = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=open("daemons.log", "a"), env=env, **kw)
        p.lies, p.role = name in self.liars, name
        self.all.append(p)
        said = p.stdout.readline().decode().split()
        if not said and not p.lies:
            p.wait()
            if p.returncode < 0:
                say(self.lie, noted(), name, "died of", p.returncode)
        return p, (said or ["", "tcp://127.0.0.1:1"])[1]

    def __exit__(self, *_):
        for p in reversed(self.all):
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    if not p.lies:
                        say(self.lie, noted(), p.role, "does not end")
                    p.kill()
                    p.wait()
            if not p.lies and p.returncode not in (0, 125):
                say(self.lie, noted(), p.role, "ended with", p.returncode)
        log = open("daemons.log", errors="replace").read()
        if "Sanitizer" in log or "runtime error" in log:
            say(self.lie, noted(), "sanitizer:", log[max(0, log.find("Sanitizer") - 200):][:1500])


def noted():
    return open("note").read().strip() if os.path.exists("note") else ""


def run(c, argv, lies=False, stdin=STDIN, seconds=SECONDS):
    env = {**c.env, **({"ZPIPE_LIE": c.lie, "ZPIPE_LIE_NOTE": "note", "ASAN_OPTIONS": "detect_leaks=0"} if lies else {})}
    p = subprocess.Popen([zpipe + ("-lies" if lies else ""), *argv], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    who = "liar" if lies else "client"
    try:
        out, err = p.communicate(stdin, timeout=min(seconds, LIAR_SECONDS) if lies else seconds)
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGKILL if lies else signal.SIGINT)
        try:
            out, err = p.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            if not lies:
                say(c.lie, noted(), who, "does not end, nor by SIGINT")
        if not lies and not c.liars: # who has a part of a job may let it wait
            say(c.lie, noted(), who, "was slow", argv[0], err[-300:])
        if p.returncode == -signal.SIGINT:
            return 125, b"", b"interrupted"
    if not lies and (p.returncode < 0 or b"Sanitizer" in err or b"runtime error" in err):
        say(c.lie, noted(), who, "ended with", p.returncode, err[-1500:])
    if not lies and p.returncode and not err:
        say(c.lie, noted(), who, "ended with", p.returncode, "and no word")
    return p.returncode, out, err


def check(c, status, out, err):
    got = out, files()
    if status == 0 and got != WANT:
        say(c.lie, noted(), "other bytes", out[:60], {k: v and len(v) for k, v in got[1].items()}, err[-300:])
    if status and any(got[1].values()):
        say(c.lie, noted(), "status", status, "and files", {k: v and len(v) for k, v in got[1].items()}, err[-300:])


def each(tables, tell):
    """Tells each lie about each of these kinds of messages."""
    count = told = 0
    for table in args.table or tables:
        number = args.first
        while True:
            for at in (1, 0) if table in ("data", "credit", "leave", "done", "work", "attach") else (1,):
                lie = "%s %d %d" % (table, number, at)
                began = time.monotonic()
                tell(lie)
                count += 1
                took = time.monotonic() - began
                if took > 12:
                    print("slow  ", lie, noted(), "%.1f s" % took)
                if noted().endswith("none") or not noted():
                    break
                told += 1
            if noted().endswith("none") or not noted():
                break
            number += args.step
        print("table ", table, number, noted())
        sys.stdout.flush()
    assert told, "nobody lied"
    assert not found, "%d found" % len(found)
    return "%d lies" % told


def lives(c):
    status, out, err = run(c, ["echo well | cat"])
    if (status, out) != (0, b"well\n"):
        say(c.lie, noted(), "the cluster is not well:", status, out, err)
    try:
        until("all is free", lambda: not any(word in c.run("status").stdout for word in (b"  runs  ", b"  waits  ", b"  starts  ")), 30)
    except Exception as e:
        say(c.lie, noted(), "left:", c.run("status").stdout)


@case
def clients():
    prepare()
    with Lying("", (), workers=1, slots=2, client_wait="1s") as c:
        def tell(lie):
            c.lie = lie
            if os.path.exists("note"):
                os.unlink("note")
            run(c, JOB, lies=True)
            files()
            lives(c)
        return each(("hello", "submit", "graph", "cancel", "attach", "credit", "data", "leave", "lost"), tell)


@case
def askers():
    prepare()
    with Lying("", (), workers=1, slots=2, client_wait="1s") as c:
        c.start_keeper()

        def tell(lie):
            c.lie = lie
            if os.path.exists("note"):
                os.unlink("note")
            status, out, err = run(c, ["submit", JOB[2]], lies=True)
            job = out.decode().strip()
            if job.isdigit():
                run(c, ["attach", job], lies=True)
                run(c, ["cancel", job], lies=True)
            if not noted():
                run(c, ["status"], lies=True)
            files()
            status, out, err = run(c, ["submit", "echo well"])
            if status or run(c, ["attach", out.decode().strip()])[:2] != (0, b"well\n"):
                say(lie, noted(), "the keeper is not well", status, out, err)
        return each(("ask", "kept", "attach", "credit", "data", "leave"), tell)


@case
def workers():
    prepare()

    def tell(lie):
        told = ""
        for liars in (("w0",), ("w1",)):
            with Lying(lie, liars, workers=2, slots=1, worker_wait="3s") as c:
                check(c, *run(c, JOB))
            told = told or noted()
        with open("note", "w") as f:
            f.write(told)
    return each(("hello", "started", "task", "progress", "fail", "stopped", "attach", "credit", "data", "leave", "want", "returned", "work", "done", "block", "lost"), tell)


@case
def a_client_can_be_interrupted():
    """Whose scheduler accepts its job as another one's, or that waits for a stream which nobody sends, when all has ended."""
    for lie in ("accept 0 1", "run 84 1"):
        with Lying(lie, ("scheduler",), workers=1, slots=1) as c:
            p = subprocess.Popen([zpipe, "echo x"], env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until("the scheduler has lied", lambda: noted(), 30)
            p.send_signal(signal.SIGINT)
            err = p.communicate(timeout=30)[1]
            assert p.returncode == -signal.SIGINT, (lie, noted(), p.returncode, err)


VIA_PATH = 106  # the number of the lie that the input of `sort FILE 2>&1` is a file of the worker's host: it is the second stream of a RUN


@case
def a_worker_opens_no_file_that_is_said_to_be_its_own():
    open("secret", "w").write("nobody's business\n")
    with Lying("run %d 0" % VIA_PATH, ("scheduler",), workers=1, slots=1, worker_wait="1s") as c:
        status, out, err = run(c, ["sort '%s' 2>&1" % os.path.realpath("secret")], stdin=b"")
        assert noted() == "RUN msg_run.routemsg_route.via 1", noted()
        assert (status, out) == (125, b"") and b"this host's own files or descriptors" in err, (status, out, err)
    assert not found, found


@case
def schedulers():
    prepare()

    def tell(lie):
        with Lying(lie, ("scheduler",), workers=2, slots=1, worker_wait="3s") as c:
            check(c, *run(c, JOB))
            if "stop" in lie or "refuse" in lie or not noted():
                run(c, ["yes | head -c 100000000 | cat | wc -c"], seconds=2)
    return each(("welcome", "refuse", "accept", "route", "run", "started", "task", "progress", "result", "lend", "lent", "recall", "block", "stop"), tell)


@case
def keepers():
    prepare()

    def tell(lie):
        with Lying(lie, ("keeper",), workers=1, slots=2, client_wait="1s") as c:
            c.start_keeper()
            status, out, err = run(c, ["submit", JOB[2]])
            if not status:
                status, out, err = run(c, ["attach", out.decode().strip()])
                check(c, status, out, err)
                if err == b"interrupted": # its job waits for it, and may have all slots; without it they are free
                    c.keeper.kill()
            lives(c)
    return each(("hello", "submit", "graph", "held", "visited", "kept", "attach", "credit", "data", "leave"), tell)


run_cases(args, failed_too=tell_logs)
