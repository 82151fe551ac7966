#!/usr/bin/env python3
"""A task of a map or reduce that fails is kept, and `zpipe replay` runs it again alone: the same bytes, or it says what is not.

    records.py --bin DIR [CASE...]"""
import os, re, shutil, signal, subprocess, sys

import daemons
from daemons import Cluster, lines

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402

args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
TIMEOUT = 90
KEPT = 16
RUN_ALONE = re.compile(rb"zpipe: run it alone: zpipe replay (\S+)\n")


def run(*argv, data=b"", env=None):
    return subprocess.run([zpipe, *argv], input=data, capture_output=True, timeout=TIMEOUT, env=env)


def failed(text, data=b"", records="kept", runs=run):
    """The job fails at a task, which was kept: its directory."""
    r = runs("--record", records, "--split", "always,64K", text, data=data)
    name = RUN_ALONE.search(r.stderr)
    assert r.returncode and name, (text, r.returncode, r.stderr)
    return name.group(1).decode()


def replayed(record, status=0):
    r = run("replay", record)
    assert r.returncode == status, (record, r)
    return r.stdout, r.stderr.decode()


def read(record, name):
    with open(os.path.join(record, name), "rb") as f:
        return f.read()


def change(record, name, how):
    data = how(read(record, name))
    with open(os.path.join(record, name), "wb") as f:
        f.write(data)


def prepare():
    with open("in.txt", "wb") as f:
        f.write(lines(20000))
    with open("words", "wb") as f:
        f.write(b"00019999\n")
    with open("seven.sh", "w") as f:  # fails where it reads a certain line, after some output
        f.write("while read n rest; do\n    [ $n = 00012345 ] && echo at $n >&2 && exit 7\n    echo $n\ndone\n")
    os.mkdir("d")
    for i in range(5):
        with open("d/%d.txt" % i, "wb") as f:
            f.write(lines(200 + i))
    os.symlink("words", "to.words")
    os.symlink("nowhere", "none")


# Of each the task that fails, its pieces and holes are as in the job: what it prints must be the same when it is alone.
TASKS = [
    ("cat in.txt | map { sh seven.sh }", b""),
    ("map { sh seven.sh }", lines(20000)),
    ("cat in.txt | map { sh -c 'head -c 8 /dev/urandom | od -x; cat >/dev/null; head -c 8 /dev/urandom | od -x; exit 5' }", b""),
    ("cat in.txt | map { sort | sh -c 'tee /dev/stderr | grep -c 7; exit 3' | cat -n }", b""),
    ("cat d/*.txt | map per file { sh -c 'wc -c; head -1 $0; echo $1 $2; [ $1 != 3 ]' {} {/.} {#} }", b""),
    ("cat d/*.txt | map per file { sh -c 'cat > $0; ls out; [ $0 != out/3.copy ]' out/{/.}.copy > {/}.names }", b""),
    ("cat in.txt | reduce by 1 into 4 { sort | sh -c 'tail -1; cat words; exit 9' }", b""),
    ("cat in.txt | map { grep -vf words | sh -c 'cat; exit 4' }", b""),
    ("cat in.txt | map { sh -c 'cat <<E\n$(wc -l)\nE\nexit 2' }", b""),
    ("cat in.txt | map { sh -c 'cat - /dev/fd/3 | wc -c; exit 3' 3< words }", b""),
    ("cat in.txt | map { ! sh -c 'cat; kill -9 $$' | cat; sh -c 'exit 6' }", b""),
    ("cat in.txt | map { sh -c 'cat; kill -9 $$' } 2>&1", b""),
    ("cat in.txt | with cpu=1s { map { sh -c 'echo begins; while :; do :; done' } }", b""),
    ("cat in.txt | with output=10KiB { map cat }", b""),
    ("cat in.txt | map { nosuchprogram }", b""),
    ("cat in.txt | map { sh -c 'readlink to.words none; cat to.words; exit 9' }", b""),
]


@case
def the_same_bytes():
    prepare()
    wrong = []
    for text, data in TASKS:
        try:
            record = failed(text, data)
            out, verdict = replayed(record)
            if out != read(record, "out") or "zpipe: same bytes" not in verdict:
                wrong.append((text, out[:100], verdict))
        except AssertionError as e:
            wrong.append((text, str(e)))
    assert not wrong, "\n".join(map(str, wrong))
    out, said = replayed(failed(*TASKS[0]))
    assert out.endswith(b"\n") and said.startswith("at 00012345\nzpipe: same bytes"), said
    assert "status 7" in said, said


def by_name(*argv, data=b""):
    """In zpipe's own directory, found again by its short name."""
    own = {**os.environ, "XDG_CACHE_HOME": os.path.join(os.getcwd(), "cache")}  # a new user has none yet
    return run(*argv, data=data, env=own)


@case
def names_and_how_many_are_kept():
    prepare()
    for i in range(KEPT + 3):
        text = TASKS[0][0] + i * " "
        r = by_name(text)
        assert i or r.stderr == by_name(text).stderr, "the same job says the same"
        name = RUN_ALONE.search(r.stderr).group(1).decode()
        assert re.fullmatch(r"[0-9a-f]+/2/\d+", name) and ("block " + name.split("/")[2]).encode() in r.stderr, r
    assert len(os.listdir("cache/zpipe/failed")) == KEPT
    assert os.stat("cache/zpipe/failed").st_mode & 0o77 == 0
    r = by_name("replay", name)
    assert r.returncode == 0 and b"same bytes" in r.stderr, r
    r = by_name("replay", "abc/1/2")
    assert r.returncode == 125 and b"neither a record's directory nor JOB/STAGE/BLOCK" in r.stderr, r
    before = os.listdir("cache/zpipe/failed")
    r = by_name("--record", "no", TASKS[0][0])
    assert r.returncode == 7 and not RUN_ALONE.search(r.stderr), r
    r = by_name("cat in.txt | with fail=go { map { sh seven.sh } } | tail -1")
    assert not RUN_ALONE.search(r.stderr), r
    assert os.listdir("cache/zpipe/failed") == before
    # What else lies in the directory stays.
    os.makedirs("mine/1-1-1/deep")
    open("mine/notes", "w").close()
    for i in range(KEPT + 1):
        failed(TASKS[0][0] + i * " ", records="mine")
    assert os.path.isdir("mine/1-1-1/deep") and os.path.exists("mine/notes")


@case
def what_changed_is_named():
    prepare()
    record = failed("cat in.txt | map { grep -vf words | sh seven.sh }")
    change(record, "out", lambda b: b[:10] + b"x" + b[11:])
    _, said = replayed(record, 1)
    assert "different: stdout from its byte 11 on" in said, said
    change(record, "out", lambda b: b[:-1])
    change(record, "err", lambda b: b + b"more\n")
    _, said = replayed(record, 1)
    assert "; stderr from its byte 13 on: 17 bytes then, 12 now" in said, said
    with open("words", "ab") as f:
        f.write(b"another\n")
    _, said = replayed(record, 125)
    assert "words' changed since the task ran" in said, said
    os.unlink("words")
    _, said = replayed(record, 125)
    assert "words': No such file" in said, said
    record = failed("cat d/*.txt | map per file { sh -c 'cat; [ $0 != 3.txt ]' {/} }")
    assert "in.0" not in os.listdir(record), "the file is where it was"
    with open("d/3.txt", "wb") as f:
        f.write(b"other\n")
    _, said = replayed(record, 125)
    assert "d/3.txt' changed since" in said, said
    # Nothing is made where the user is.
    assert sorted(os.listdir(".")) == ["d", "in.txt", "kept", "none", "seven.sh", "to.words"], os.listdir(".")


@case
def damaged_records():
    prepare()
    whole = failed(TASKS[0][0])
    task = read(whole, "task")

    def damaged(name, how):
        shutil.rmtree("bad", ignore_errors=True)
        shutil.copytree(whole, "bad")
        how(os.path.join("bad", name))
        r = run("replay", "bad")
        assert r.returncode in (0, 1, 125) and r.stderr, (name, r)
        return r

    def written(data):
        def how(path):
            with open(path, "wb") as f:
                f.write(data)
        return how

    for name in ("in.0", "out", "err"):
        assert b"No such file" in damaged(name, os.unlink).stderr
    assert b"has 3 bytes, and had" in damaged("in.0", written(b"abc")).stderr
    assert b"is damaged" in damaged("task", written(b"")).stderr and b"is damaged" in damaged("task", written(b"\0" * 500)).stderr
    assert b"is no file" in damaged("in.0", lambda p: (os.unlink(p), os.mkfifo(p))).stderr
    r = damaged("in.0", lambda p: (os.unlink(p), os.symlink("/etc/hostname", p)))
    assert r.returncode == 125 and b"symbolic links" in r.stderr, r
    for at in range(0, len(task), 61):  # each is refused, or runs and is compared
        damaged("task", written(task[:at]))
        damaged("task", written(task[:at] + bytes([task[at] ^ 0x55]) + task[at + 1:]))


class Two(Cluster):
    def runs(self, *argv, data=b""):
        return self.run(*argv, input=data)


@case
def over_two_workers():
    prepare()
    with Two(workers=2) as c:
        wrong = []
        for text, data in TASKS:
            record = failed(text, data, runs=lambda *argv, data: c.runs("--placement", "spread", *argv, data=data))
            out, said = replayed(record)  # here, in no cluster
            if "zpipe: same bytes" not in said:
                wrong.append((text, said))
        assert not wrong, "\n".join(map(str, wrong))


# Tasks that end well, by their numbers.
WELL = [
    ("cat in.txt | map { sort -r | uniq -c }", b"", "2/1"),
    ("map { sh -c 'head -c 8 /dev/urandom | od -x; wc -l; date; echo said >&2' }", lines(20000), "2/3-7"),
    ("cat d/*.txt | map per file { sort | tee {/.}.copy | wc -c }", b"", "2/2-3"),
    ("cat in.txt | reduce by 1 into 4 { sort | tail -2; } | cat", b"", "2/4"),
    ("cat in.txt | map { grep -vf words } | map { tr a-z A-Z | wc -l }", b"", "6/1"),
    ("cat in.txt | with fail=go { map { sh seven.sh } } | tail -1", b"", "2/1-8"),
]
RECORDED = re.compile(rb"zpipe: recorded: zpipe replay (\S+)\n")


def recorded(text, data, tasks, runs=run):
    r = runs("--record", "well", "--record-tasks", tasks, "--split", "always,64K", text, data=data)
    without = runs("--record", "no", "--split", "always,64K", text, data=data)
    names = [n.decode() for n in RECORDED.findall(r.stderr)]
    assert (r.returncode, r.stdout) == (without.returncode, without.stdout) and names, (text, r.stderr)
    return names


@case
def tasks_that_ended_well():
    prepare()
    for text, data, tasks in WELL:
        first, _, last = tasks.partition("/")[2].partition("-")
        names = recorded(text, data, tasks)
        assert [n.rsplit("-", 1)[1] for n in names] == [str(i) for i in range(int(first), int(last or first) + 1)], (text, names)
        for name in names:
            out, said = replayed(name)
            assert out == read(name, "out") and "zpipe: same bytes" in said and "as on" not in said, (text, name, said)
    change(names[0], "out", lambda b: b + b"x")
    assert "different: stdout" in replayed(names[0], 1)[1]
    name = recorded(*WELL[4])[0]
    assert "words" not in os.listdir(name)
    name = recorded("cat d/*.txt | map per file { wc -c }", b"", "2/4")[0]
    with open("d/3.txt", "ab") as f:
        f.write(b"more\n")
    assert "d/3.txt' changed since the task ran" in replayed(name, 125)[1]
    for tasks, said in (("2/99", b"no task was recorded"), ("1/1", b"no map or reduce"), ("3/1", b"no map or reduce"), ("77/1", b"no map or reduce"),
                        ("2/1-17", b"at most 16"), ("2", b"STAGE/BLOCK"), ("2/x", b"STAGE/BLOCK"), ("0/1", b"STAGE/BLOCK"), ("2/3-1", b"STAGE/BLOCK"),
                        ("2/3-", b"STAGE/BLOCK"), ("-2/3", b"STAGE/BLOCK")):
        r = run("--record-tasks", tasks, "--record", "well", WELL[0][0])
        assert said in r.stderr and r.returncode == (0 if "no task" in said.decode() else 125), (tasks, r)


@case
def of_a_worker_that_is_killed():
    """What was recorded comes once more, from another one, and is the same."""
    prepare()
    with Two(workers=2) as c:
        p = subprocess.Popen([zpipe, "--record", "well", "--record-tasks", "2/1-3", "--split", "always,64K", "map { sort -r }"], env=c.env,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(lines(20000))
        p.stdin.flush()
        os.read(p.stdout.fileno(), 1)  # the first task's
        c.at_work().kill()
        out, err = p.communicate(lines(20000), timeout=TIMEOUT)
        assert p.returncode == 0 and len(out) + 1 == 2 * len(lines(20000)) and "attempt=2" in open("daemons.log").read(), (p.returncode, err)
        names = [n.decode() for n in RECORDED.findall(err)]
        assert [n.rsplit("-", 1)[1] for n in names] == ["1", "2", "3"], err
        for name in names:
            assert "same bytes" in replayed(name)[1]


@case
def of_a_submitted_job():
    prepare()
    with Cluster(workers=1) as c:
        c.start_keeper()
        for text in (TASKS[7][0], TASKS[4][0]):
            job = c.run("submit", "--split", "always,64K", text).stdout.decode().strip()
            assert c.run("attach", job).returncode
            name = RUN_ALONE.search(c.run("logs", job).stdout).group(1).decode()
            assert re.fullmatch(job + r"/2/\d+", name), name
            shutil.move("words", "moved")  # what the job read is the keeper's: the record has it
            r = c.run("replay", "--record", "fetched", name)
            shutil.move("moved", "words")
            assert r.returncode == 0 and b"zpipe: same bytes" in r.stderr, r
            assert c.run("cancel", job).returncode == 0  # it is discarded: and what came stays here
            r = c.run("replay", "--record", "fetched", name)
            assert r.returncode == 0 and b"zpipe: same bytes" in r.stderr, r
        with open("fails.sh", "w") as f:
            f.write("#!/bin/sh\nexit 3\n")
        os.chmod("fails.sh", 0o755)
        job = c.run("submit", "cat words | map { ./fails.sh }").stdout.decode().strip()
        assert c.run("attach", job).returncode == 3
        r = c.run("replay", "--record", "fetched", job + "/2/1")
        assert r.returncode == 0 and b"zpipe: same bytes" in r.stderr, r
        job = c.run("submit", "--split", "always,64K", "--record-tasks", "2/2", "cat in.txt | map { sort }").stdout.decode().strip()
        assert c.run("attach", job).returncode == 0
        assert RECORDED.findall(c.run("logs", job).stdout) == [(job + "/2/2").encode()], c.run("logs", job)
        r = c.run("replay", "--record", "fetched", job + "/2/2")
        assert r.returncode == 0 and b"zpipe: same bytes" in r.stderr and r.stdout, r
        r = c.run("replay", "--record", "fetched", "4711/1/1")
        assert r.returncode == 125 and b"neither a record's directory nor JOB" in r.stderr, r
        nobody = {**c.env, "ZPIPE_KEYS": "no-keys"}
        for name, status, sentence in ((job + "/2/2", 0, b"zpipe: same bytes"), ("4711/1/1", 125, b"neither a record's")):
            r = subprocess.run([zpipe, "replay", "--record", "fetched", name], env=nobody, capture_output=True, timeout=TIMEOUT)
            assert r.returncode == status and b"'no-keys' holds no" in r.stderr and sentence in r.stderr, r


@case
def a_task_that_takes_its_sandboxes_with_it():
    prepare()
    # Whoever the mark is shown to kills the sandbox: what happens to a task for which a host is too small.
    p = subprocess.Popen([zpipe, "--record", "kept", "cat words | map { sh -c 'cat; echo killer-mark >/dev/null; while :; do :; done' }"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    kill_sandboxes(p)
    out, err = p.communicate(timeout=TIMEOUT)
    name = RUN_ALONE.search(err)
    assert p.returncode == 125 and b"was lost 3 times" in err and name and out == b"", (p.returncode, err)
    record = name.group(1).decode()
    assert read(record, "in.0") == b"00019999\n"
    p = subprocess.Popen([zpipe, "replay", record], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    kill_sandboxes(p)
    _, err = p.communicate(timeout=TIMEOUT)
    assert p.returncode == 1 and b"it took its sandbox with it here, too" in err, (p.returncode, err)


# The same of a block of the planner's: here of a command that only a table knows to be one that may be cut.
TABLE = "command sh\n  values -c\n  form -c : lines\n"
STUCK = "sh -c 'cat; : killer-mark; while :; do :; done'"
BLOCK = re.compile(rb"block \d+ of .* was lost 3 times .*\nzpipe: run it alone: (.*)\n")


@case
def a_block_that_takes_its_sandboxes_with_it():
    prepare()
    with open("table", "w") as f:
        f.write(TABLE)
    env = {**os.environ, "PATH": os.path.dirname(zpipe) + ":" + os.environ["PATH"]}
    for before, data in (("cat in.txt", b""), ("", lines(20000)), ("cat in.txt | sort -r | cut -b1-4", b""), ("cat in.txt 'd/1.txt' | grep -vf words", b"")):
        text = " | ".join(filter(None, (before, STUCK)))
        with open("stdin", "wb") as f:
            f.write(data)
        with open("stdin", "rb") as f:
            p = subprocess.Popen([zpipe, "--commands", "table", "--split", "always,64K", text], stdin=f, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            kill_sandboxes(p)
        out, err = p.communicate(timeout=TIMEOUT)
        alone = BLOCK.search(err)
        assert p.returncode == 125 and alone and out == b"", (text, p.returncode, err)
        command = alone.group(1).decode().replace("while :; do :; done", ":")  # what it reads and how it is run, to an end
        want = run(*filter(None, ("-j", "1", before or "cat")), data=data).stdout
        r = subprocess.run(["sh", "-c", command], env=env, input=data, capture_output=True, timeout=TIMEOUT)
        assert r.returncode == 0 and len(r.stdout) > 1000 and r.stdout in want, (command, r.stderr, len(r.stdout))


def below(pid):
    """All processes under it, with their words."""
    found, at = [], [pid]
    while at:
        one = at.pop()
        try:
            for t in os.listdir("/proc/%d/task" % one):
                with open("/proc/%d/task/%s/children" % (one, t)) as f:
                    at += [int(w) for w in f.read().split()]
            with open("/proc/%d/cmdline" % one, "rb") as f:
                found.append((one, f.read()))
        except OSError:
            pass
    return found


def kill_sandboxes(p):
    """The first process of each sandbox in which the marked program is at work, until the job is over."""
    while p.poll() is None:
        for pid, words in below(p.pid):
            if b"killer-mark" in words and not words.startswith(zpipe.encode()):
                try:
                    with open("/proc/%d/stat" % pid) as f:
                        parent = int(f.read().rsplit(") ", 1)[1].split()[1])
                    os.kill(parent, signal.SIGKILL)
                except OSError:
                    pass


run_cases(args)
