#!/usr/bin/env python3
"""A cluster in bad moments: lost workers, wrong keys, cancelled clients.   cluster.py --bin DIR [CASE...]"""
import fcntl, glob, os, shutil, signal, socket, subprocess, sys, time

import daemons
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from relay import Relay  # noqa: E402
from watch import processes_with, until  # noqa: E402

arguments.add_argument("--stopped", type=float, default=8, help="for how many seconds a client is")
args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)


@case
def a_stream_of_64_mib_over_two_workers():
    data = b"0123456789abcde\n" * (4 << 20)
    with Cluster() as c:
        r = c.run("--placement", "spread", "cat | cat | sort | uniq -c", input=data)
        assert (r.returncode, r.stdout) == (0, b"%7d 0123456789abcde\n" % (4 << 20)), (r.returncode, r.stdout[:100], r.stderr)


def until_joined(c):
    until("all have joined", lambda: c.run("status").stdout.count(b"worker ") == len(c.workers))


def begun_again():
    return "attempt=2" in open("daemons.log").read()


def spread(env, pipeline):
    """A client whose pipeline's stages run on different workers; it is fed by the caller."""
    return subprocess.Popen([zpipe, "--placement", "spread", pipeline], env=env, stdin=subprocess.PIPE, stdout=open("out", "wb"),
                            stderr=open("err", "wb"))


STREAMS = ["cat | sh -c 'tr a-z A-Z' | cat", "cat | tee copy | sh -c 'cat' | sort | uniq -c",
           "sh -c 'cat; echo said >&2' | sed 's/of/OF/' | sh -c 'sort | uniq | wc'"]


@case
def a_worker_is_lost_in_the_midst_of_a_stream():
    data = lines(200000)
    for killed in range(4):
        pipeline = STREAMS[killed % len(STREAMS)]
        want = reference(pipeline, data)
        with Cluster(workers=2 + killed % 2) as c:
            until_joined(c)
            p = spread(c.env, pipeline)
            p.stdin.write(data[:len(data) // 2])  # more than all pipes and windows on the way hold together
            p.stdin.flush()
            c.workers[killed % 2].kill()
            p.stdin.write(data[len(data) // 2:])
            p.stdin.close()
            status, got, err = p.wait(timeout=120), open("out", "rb").read(), open("err").read()
            assert (status, got == want, err) == (0, True, "said\n" * err.count("said")), (pipeline, status, err)
            assert err.count("said") == pipeline.count("said"), err
            assert begun_again(), "nothing was hit"
            if "tee" in pipeline:
                assert open("copy", "rb").read() == data
                os.unlink("copy")
        os.unlink("daemons.log")
    assert sorted(os.listdir(".")) == ["err", "keys", "out", "state"], os.listdir(".")


def read_some(p, size):
    got = b""
    while len(got) < size:
        got += os.read(p.stdout.fileno(), size - len(got))
    return got


@case
def inputs_are_read_again():
    open("big", "wb").write(lines(1200000))  # 30 MB: far more than is on its way to a reader that waits
    want = reference("tr a-z A-Z < big", b"")
    for argv, stdin in [(["tr a-z A-Z < big"], None), (["cat big | tr a-z A-Z | cat"], None), (["cat | tr a-z A-Z | cat"], "big"),
                        (["--placement", "spread", "cat big | sh -c 'tr a-z A-Z' | cat | cat"], None)]:
        with Cluster() as c:
            p = subprocess.Popen([zpipe, *argv], env=c.env, stdin=open(stdin or os.devnull), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            got = read_some(p, 1 << 20)
            c.at_work().kill()
            rest, err = p.communicate(timeout=120)
            assert (p.returncode, got + rest == want, err) == (0, True, b""), (argv, p.returncode, err, len(got + rest))
            assert begun_again(), "nothing was hit"
        os.unlink("daemons.log")


def begun_by(worker, programs=(b"cat", b"yes"), ticks=0):
    """Does it run programs now, which have used so much CPU time?  They are far below it: zpipe-box, its zygote, an init, the program."""
    children, command, used = {}, {}, {}
    for d in glob.glob("/proc/[0-9]*"):
        try:
            stat = open(d + "/stat").read().rsplit(")", 1)[1].split()
            parent, used[int(d[6:])] = int(stat[1]), int(stat[11]) + int(stat[12])
            command[int(d[6:])] = open(d + "/cmdline", "rb").read()
        except OSError:
            continue
        children.setdefault(parent, []).append(int(d[6:]))
    found, more = [], [worker.pid]
    while more:
        more = [c for p in more for c in children.get(p, [])]
        found += more
    return any(command[p].split(b"\0")[0] in programs and used[p] >= ticks for p in found)


@case
def an_input_that_changed_is_not_read_again():
    open("big", "wb").write(lines(1200000))
    with Cluster() as c:
        p = subprocess.Popen([zpipe, "tr a-z A-Z < big"], env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        read_some(p, 1 << 20)
        os.utime("big", ns=(1, 1))
        c.at_work().kill()
        err = p.communicate(timeout=120)[1]
        assert p.returncode == 125 and b"'" + os.getcwd().encode() + b"/big' changed" in err, (p.returncode, err)


@case
def a_workers_box_is_killed():
    """Its worker starts another one; what ran there begins anew, and nothing of it is left."""
    data = lines(200000)
    with Cluster() as c:
        until_joined(c)
        p = subprocess.Popen([zpipe, "sh -c 'cat; : a-lost-workers-mark' | cat"], env=c.env, stdin=subprocess.PIPE, stdout=open("out", "wb"),
                             stderr=open("err", "wb"))
        p.stdin.write(data[:len(data) // 2])
        p.stdin.flush()
        until("it runs", lambda: b"  runs  " in c.run("status").stdout)
        w = c.at_work()
        boxes = [int(b) for b in open("/proc/%d/task/%d/children" % (w.pid, w.pid)).read().split()]
        assert len(boxes) == 1 and b"zpipe-box" in open("/proc/%d/cmdline" % boxes[0], "rb").read(), boxes
        os.kill(boxes[0], signal.SIGKILL)
        until("it knows", lambda: "box_lost why=\"zpipe-box has ended unexpectedly" in open("daemons.log").read())
        p.stdin.write(data[len(data) // 2:])
        p.stdin.close()
        assert p.wait(timeout=120) == 0 and begun_again(), open("err").read()
        assert open("out", "rb").read() == data and w.poll() is None
        until("nothing is left", lambda: not processes_with("a-lost-workers-mark"), 60)


@case
def a_network_that_is_slow_and_breaks():
    """All connections go through relays, which are late and, once in each job, break off in the middle of a message: between
    workers and the scheduler, between workers, and between these and the client."""
    data = lines(100000)
    with Cluster(workers=0) as c:
        port = int(c.url.rpartition(":")[2])
        to_scheduler, of_client = Relay("127.0.0.1", port, seed=1), Relay("127.0.0.1", port, seed=2)
        to_data = [Relay("127.0.0.%d" % (2 + i), seed=3 + i) for i in range(2)]
        for i, r in enumerate(to_data):
            c.workers.append(c.start("worker", "--keys", c.keys, "--scheduler", to_scheduler.url, "--slots", "8", "--name", "w%d" % i, "--image", "tests",
                                     "--data-listen", "tcp://%s:%d" % r.to, "--advertise", r.url)[0])
        until_joined(c)
        env = {**c.env, "ZPIPE_CLUSTER": of_client.url}
        for pipeline, broken in zip(STREAMS + STREAMS[:1], (None, to_data[0], to_scheduler, of_client)):
            until_joined(c)
            p = spread(env, pipeline)
            p.stdin.write(data[:len(data) // 2])
            p.stdin.flush()
            until("it runs", lambda: b"  runs  " in c.run("status").stdout)
            if broken:
                broken.cut()
                until("it is cut", lambda: broken.cuts, 60)
            p.stdin.write(data[len(data) // 2:])
            p.stdin.close()
            assert p.wait(timeout=120) == 0, (pipeline, open("err").read())
            assert open("out", "rb").read() == reference(pipeline, data), pipeline
        assert all(r.bytes for r in (to_scheduler, of_client, *to_data))
        for r in (to_scheduler, of_client, *to_data):
            r.close()


@case
def a_clients_network_breaks():
    """All that it has to do with ends in the middle of a message, twice, once for as long as it tries in vain: it goes on where it was, and nothing runs twice."""
    data = lines(300000)
    with Cluster(workers=0) as c:
        both = of_client, to_data = Relay("127.0.0.1", int(c.url.rpartition(":")[2]), late=0), Relay("127.0.0.2", late=0)
        c.workers.append(c.start("worker", "-v", "--keys", c.keys, "--scheduler", c.url, "--slots", "8", "--name", "w0", "--image", "tests",
                                 "--data-listen", "tcp://%s:%d" % to_data.to, "--advertise", to_data.url)[0])
        until_joined(c)
        p = spread({**c.env, "ZPIPE_CLUSTER": of_client.url}, STREAMS[1])
        for part in range(3):
            p.stdin.write(data[len(data) * part // 3:len(data) * (part + 1) // 3])
            p.stdin.flush()
            until("it runs", lambda: b"  runs  " in c.run("status").stdout)
            for r in both if part < 2 else ():
                r.off = part == 1
                r.cut()
                until("it is cut", lambda: r.cuts == part + 1)
            if part == 1:
                until("it has come back in vain", lambda: all(r.refused > 2 for r in both))
            for r in both:
                r.off = False
            if part < 2:
                until("it is back", lambda: open("daemons.log").read().count("link_back") == 2 * part + 2)
        p.stdin.close()
        assert p.wait(timeout=120) == 0, open("err").read()
        assert open("out", "rb").read() == reference(STREAMS[1], data) and open("copy", "rb").read() == data
        log = open("daemons.log").read()
        assert not begun_again() and log.count("job_sent") == 1 and log.count("link_back") == 4, log.count("link_back")
        for r in both:
            r.close()


@case
def a_client_is_killed_and_another_is_stopped():
    """Whose connection is gone may come back, until --client-wait has passed, and then his slots are free.  Who is stopped keeps his
    connection and his job: for longer than anything else may be silent."""
    data = lines(200000)
    with Cluster(client_wait="3s") as c:
        until_joined(c)
        killed, stopped = c.popen("yes a-lost-clients-mark | cat > /dev/null"), spread(c.env, STREAMS[0])
        stopped.stdin.write(data[:len(data) // 2])
        stopped.stdin.flush()
        until("they run", lambda: len(processes_with("a-lost-clients-mark")) > 1 and c.run("status").stdout.count(b"  runs  ") == 2)
        stopped.send_signal(signal.SIGSTOP)
        killed.kill()
        killed.wait()
        began = time.monotonic()
        until("nothing is left", lambda: not processes_with("a-lost-clients-mark"), 60)
        assert time.monotonic() - began > 2.5, time.monotonic() - began
        until("the other's slots are free", lambda: c.run("status").stdout.count(b"  runs  ") == 1, 60)
        time.sleep(max(0, args.stopped - (time.monotonic() - began)))
        stopped.send_signal(signal.SIGCONT)
        stopped.stdin.write(data[len(data) // 2:])
        stopped.stdin.close()
        assert (stopped.wait(timeout=120), open("err").read()) == (0, ""), open("err").read()
        assert open("out", "rb").read() == reference(STREAMS[0], data) and not begun_again()
        until("slots are free", lambda: c.run("status").stdout.count(b"  0 of 8 slots taken") == 2, 60)


@case
def the_last_worker_is_lost():
    with Cluster() as c:
        p = c.popen("yes lost-mark | cat > /dev/null")
        for i in range(2):
            until("the programs run", lambda: any(begun_by(w) for w in c.workers if w.poll() is None))
            w = [w for w in c.workers if w.poll() is None and begun_by(w)][0]
            w.kill()
            w.wait()
        err = p.communicate(timeout=60)[1].decode()
        assert p.returncode == 125 and "was lost" in err and "no other worker is there" in err, (p.returncode, err)
        until("nothing runs", lambda: not processes_with("lost-mark"))


@case
def a_stage_that_takes_workers_with_it_is_not_given_more():
    """And it is told how it is run alone."""
    with Cluster(workers=4) as c:
        until_joined(c)
        p = c.popen("yes killer-mark | sh -c 'cat > /dev/null'")
        for i in range(3):
            until("it runs", lambda: any(begun_by(w) for w in c.workers if w.poll() is None))
            w = [w for w in c.workers if w.poll() is None and begun_by(w)][0]
            w.kill()
            w.wait()
        err = p.communicate(timeout=60)[1].decode()
        assert p.returncode == 125 and "`yes killer-mark` took 3 workers with it" in err and "`zpipe box -- yes killer-mark` runs it alone" in err, err
        r = c.run("echo still here | cat")
        assert (r.returncode, r.stdout) == (0, b"still here\n"), r
        until("nothing runs", lambda: not processes_with("killer-mark"))


@case
def a_block_that_takes_its_owners_with_it_is_found():
    """Each time the worker that has the stage is lost, while this block is at work there: it is told, with what runs it alone, and a
    task of a map is kept, with its input, for `zpipe replay`."""
    open("in", "w").write("".join("a\n" if i != 5 else "killer\n" for i in range(9)))
    body = "sh -c 'read x; case $x in (killer) exec yes > /dev/null;; esac'"
    awk = "awk '{ while ($1 ~ /killer/) ; print }'"
    said = "block 6 of `map { %s }` took 3 workers with it" % body
    for pipeline, programs, workers, words in (
            ("cat in | map { %s }" % body, (b"yes",), 5, [said, "run it alone: zpipe replay "]),
            ("cat in | map { %s }" % body, (b"yes",), 3, [said]),  # nobody is left to keep it
            ("cat in | with fail=sh { map { %s } }" % body, (b"yes",), 5, [said, "run it alone: zpipe replay "]),
            ("cat in | with fail=go { map { %s } } > out" % body, (b"yes",), 5, [said, "run it alone: zpipe replay "]),
            ("cat in | " + awk, (b"awk",), 5, ["of `%s` took 3 workers with it" % awk, "\nzpipe: run it alone: cat in | tail -c +", " | zpipe box -- awk "])):
        with Cluster(workers=workers, worker_wait="1s") as c:
            until_joined(c)
            p = c.popen("-j", "2", "--split", "always,2", pipeline)
            for i in range(3):
                at = []  # the others of its blocks are quick
                until("it runs", lambda: at.extend(w for w in c.workers if w.poll() is None and begun_by(w, programs, 20)) or at)
                w = at[0]
                w.kill()
                w.wait()
            err = p.communicate(timeout=60)[1].decode()
            assert p.returncode == 125 and all(word in err for word in words), err
            assert not os.path.exists("out")
            assert len([w for w in c.workers if w.poll() is None]) == workers - 3


@case
def clocks_that_are_apart():
    """Hosts that were booted at other times: two workers' and the keeper's monotonic clocks are, by days."""
    apart = lambda seconds: ("unshare", "-T", "--monotonic", str(seconds), "--boottime", str(seconds), "--")
    if subprocess.run([*apart(1), "true"], capture_output=True).returncode:
        return "- not permitted here: a time namespace"
    data = lines(100000)
    open("in", "wb").write(data)
    with Cluster(workers=0) as c:
        for i, seconds in enumerate((0, 5000000, 90)):
            c.workers.append(c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", "2", "--name", "w%d" % i, "--image", "tests",
                                     before=apart(seconds))[0])
        c.start_keeper(before=apart(777777))
        until_joined(c)
        for argv in (["--placement", "spread"], ["--split", "always,64K"]):
            for pipeline in ("cat in | tr a-z A-Z | sort | uniq -c | tail -2", "sort in | md5sum"):
                r = c.run(*argv, pipeline)
                assert (r.returncode, r.stdout, r.stderr) == (0, reference(pipeline), b""), (argv, pipeline, r.stderr)
            r = c.run(*argv, "with timeout=300ms sh -c 'while :; do :; done'")
            assert r.returncode == 124, r
        job = c.run("submit", "sort in | tail -1").stdout.decode().strip()
        r = c.run("attach", job)
        assert (r.returncode, r.stdout) == (0, reference("sort in | tail -1")), r
        assert "lost" not in open("daemons.log").read().replace("link_lost", ""), open("daemons.log").read()


@case
def a_worker_that_comes_back_late():
    """It stands still for longer than its lease: its part runs elsewhere, and it is told so."""
    data = lines(200000)
    with Cluster() as c:
        until_joined(c)
        p = subprocess.Popen([zpipe, "--placement", "spread", STREAMS[0]], env=c.env, stdin=subprocess.PIPE,
                             stdout=open("out", "wb"), stderr=subprocess.PIPE)
        p.stdin.write(data[:len(data) // 2])
        p.stdin.flush()
        c.workers[1].send_signal(signal.SIGSTOP)
        p.stdin.write(data[len(data) // 2:])
        p.stdin.close()
        err = p.stderr.read()
        assert (p.wait(timeout=120), err) == (0, b"") and begun_again(), (p.returncode, err)
        assert open("out", "rb").read() == reference(STREAMS[0], data)
        c.workers[1].send_signal(signal.SIGCONT)
        until("it is told", lambda: "lease" in open("daemons.log").read())
        c.workers[0].kill()
        r = c.run("echo it has joined again | cat")
        assert (r.returncode, r.stdout) == (0, b"it has joined again\n"), r


@case
def a_scheduler_is_killed_and_comes_back():
    """Workers and clients join it again, and the job goes on where it was: nothing runs twice."""
    data = lines(200000)
    with Cluster() as c:
        until_joined(c)
        p = spread(c.env, STREAMS[1])
        for part in range(2):
            p.stdin.write(data[len(data) * part // 3:len(data) * (part + 1) // 3])
            p.stdin.flush()
            c.scheduler.kill()
            c.scheduler.wait()
            until("the client says so", lambda: open("err").read().count("the job goes on if") == part + 1)
            c.start_scheduler(c.url)
            until("it knows the job again", lambda: open("daemons.log").read().count("job_accepted job=1 ") == part + 2, 90)
        p.stdin.write(data[len(data) * 2 // 3:])
        p.stdin.close()
        assert p.wait(timeout=120) == 0, open("err").read()
        assert open("out", "rb").read() == reference(STREAMS[1], data) and open("copy", "rb").read() == data
        assert [w.poll() for w in c.workers] == [None, None]
        assert open("state/lives").read() == "3\n" and not begun_again() and open("daemons.log").read().count("job_sent") == 2
        r = c.run("echo still here | cat")
        assert (r.returncode, r.stdout) == (0, b"still here\n"), r


@case
def a_scheduler_is_killed_before_it_has_answered():
    """The way between client and scheduler stands still after so many bytes: at some of them the job runs, and the client has heard nothing yet."""
    data, early = lines(2000), 0
    with Cluster() as c:
        until_joined(c)
        for hold in (300, *range(900, 2100, 150)):
            relay = Relay("127.0.0.1", int(c.url.rpartition(":")[2]), late=0, hold=hold)
            p = subprocess.Popen([zpipe, "sort | uniq -c"], env={**c.env, "ZPIPE_CLUSTER": relay.url}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            assert relay.held.wait(60), hold
            early += b"  runs  " in c.run("status").stdout
            c.scheduler.kill()
            c.scheduler.wait()
            relay.drop()
            c.start_scheduler(c.url)
            out, err = p.communicate(data, timeout=90)
            assert (p.returncode, out) == (0, reference("sort | uniq -c", data)), (hold, p.returncode, err)
            relay.close()
            until_joined(c)
    assert early, "no job was there before the client knew"


@case
def a_lost_scheduler_is_told():
    with Cluster() as c:
        p = c.popen("yes gone-mark | cat > /dev/null")
        until("the programs run", lambda: len(processes_with("gone-mark")) > 1)
        c.scheduler.kill()
        line = p.stderr.readline().decode()
        assert c.url in line and "the job goes on if the scheduler is back" in line, line
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=60) == -signal.SIGINT
        assert processes_with("gone-mark") and [w.poll() for w in c.workers] == [None, None]
        c.start_scheduler(c.url)  # whom nobody asks for what goes on
        until("nothing is left", lambda: not processes_with("gone-mark"), 90)
        assert [w.poll() for w in c.workers] == [None, None]


@case
def what_is_missing_when_a_scheduler_is_back_runs_again():
    """A worker is killed while there is none; the job begins anew, and what the client has is compared."""
    data = lines(200000)
    with Cluster() as c:
        until_joined(c)
        p = spread(c.env, STREAMS[0])
        p.stdin.write(data[:len(data) // 2])
        p.stdin.flush()
        until("it runs", lambda: b"  runs  " in c.run("status").stdout)
        c.scheduler.kill()
        c.scheduler.wait()
        c.workers[0].kill()
        c.workers[0].wait()
        c.start_scheduler(c.url)
        p.stdin.write(data[len(data) // 2:])
        p.stdin.close()
        assert p.wait(timeout=120) == 0, open("err").read()
        said = open("daemons.log").read()
        assert open("out", "rb").read() == reference(STREAMS[0], data) and "job_goes_on" not in said and "job_sent job=1000000001" in said, said


@case
def a_damaged_state_is_told():
    with Cluster(workers=0):
        pass
    for damage in ("", "x", "7", "7\n8\n", "99999999999999999999\n"):
        open("state/lives", "w").write(damage)
        r = subprocess.run([zpipe, "scheduler", "--keys", "keys", "--listen", "tcp://127.0.0.1:*", "--state", "state"],
                           capture_output=True, timeout=30)
        assert r.returncode == 125 and b"state/lives' is damaged" in r.stderr and open("state/lives").read() == damage, r


@case
def absolute_inputs_without_sandboxes_are_refused_at_once():
    with open("x", "w") as f:
        f.write("b\na\n")
    with Cluster(workers=2, options=("--isolation", "none")) as c:
        for text, told in (("cat %s/x | sort", None), ("sort x", None), ("sort %s/x", "cannot put an input at '%s/x': name it relative")):
            sent = open("daemons.log").read().count("job_sent")
            r = c.run(text.replace("%s", os.getcwd()))
            if told:
                assert r.returncode == 125 and r.stderr.count(b"\n") == 1 and (told % os.getcwd()).encode() in r.stderr, r
                assert open("daemons.log").read().count("job_sent") == sent + 1, "it was tried again"
            else:
                assert (r.stdout, r.returncode) == (b"a\nb\n", 0), r


@case
def how_a_daemon_ended_is_told():
    """Also that it was killed, by the scheduler that comes after."""
    with Cluster(workers=0) as c:
        c.scheduler.kill()
        c.scheduler.wait()
        for number, status, why in ((signal.SIGTERM, 0, "warn ends why=\"SIGTERM from process %d\"" % os.getpid()), (signal.SIGHUP, 0, "SIGHUP from"),
                                    (signal.SIGABRT, -signal.SIGABRT, "error crashed why=\"signal 06\"")):
            open("daemons.log", "w").close()
            c.start_scheduler(c.url)
            killed = "was_killed" in open("daemons.log").read()
            c.scheduler.send_signal(number)
            assert c.scheduler.wait(timeout=30) == status and why in open("daemons.log").read(), (number, c.scheduler.returncode, open("daemons.log").read())
            assert killed == (number == signal.SIGTERM), (number, killed)
        open("daemons.log", "w").close()
        c.start_scheduler(c.url)
        for argv in (("worker", "--image", "tests"), ("keeper", "--state", "keep")):
            p, _ = c.start(argv[0], "--keys", c.keys, "--scheduler", c.url, *argv[1:], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
            p.send_signal(signal.SIGHUP)  # as under nohup
            p.send_signal(signal.SIGINT)
            assert p.wait(timeout=30) == 0
        said = open("daemons.log").read()
        assert said.count("SIGINT from process") == 2 and "SIGHUP" not in said, said


class Unread(Cluster):
    """Nobody reads what its daemons say, and there is room for a page of it."""

    def start(self, *argv, **kw):
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self.said = [*getattr(self, "said", []), reader]
        started = super().start(argv[0], "-v", "-v", *argv[1:], stderr=writer, **kw)
        os.close(writer)
        return started


@case
def nobody_waits_for_who_reads_what_a_daemon_says():
    """What found no room is counted, and told when there is some."""
    with Unread(workers=1) as c:
        c.start_keeper()
        told = {}
        for _ in range(4):
            assert c.run("sort | uniq -c", input=b"x\n").stdout == b"      1 x\n"
            job = c.run("submit", "echo well").stdout.decode().strip()
            r = c.run("attach", job)
            assert (r.returncode, r.stdout) == (0, b"well\n"), r
            for fd in c.said:
                text = os.read(fd, 65536).decode()
                assert text.endswith("\n"), text[-100:]
                told.setdefault(fd, []).extend(int(line.rpartition("=")[2]) for line in text.splitlines() if line.startswith("warn lines_left_out count="))
        assert all(told.values()) and all(min(counts) > 0 for counts in told.values()), told
        for fd in c.said:
            os.close(fd)


@case
def a_cancelled_client_leaves_nothing():
    with Cluster() as c:
        p = c.popen("yes cancel-mark | cat > /dev/null")
        until("the programs run", lambda: len(processes_with("cancel-mark")) > 1)
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=30) == -signal.SIGINT
        until("nothing runs", lambda: not processes_with("cancel-mark"))


@case
def status_and_cancel_from_another_terminal():
    for keys in ("keys", "other"):
        subprocess.run([zpipe, "keygen", "--dir", keys], check=True)
    open("keys/allow", "a").write("client %s other\n" % open("other/client.pub").read().split()[-1])
    os.unlink("other/scheduler.pub")
    os.link("keys/scheduler.pub", "other/scheduler.pub")
    with Cluster() as c:
        both = [b"worker w%d  0 of 8 slots taken" % i for i in (0, 1)]
        until("both have joined", lambda: [line.split(b",")[0] for line in sorted(c.run("status").stdout.splitlines())] == both)
        p = c.popen("yes status-mark | cat > /dev/null")
        until("it runs", lambda: b"  runs  " in c.run("status").stdout)
        line = c.run("status").stdout.decode().splitlines()[0]
        assert line.startswith("job 1  runs  attempt 1  0 of 2 stages ended  ") and \
            line[:-len("0  yes status-mark | cat > /dev/null")].endswith(" s  on w") and "  yes status-mark | cat > /dev/null" in line, line
        assert c.run("status", "1").stdout.decode().startswith("job 1  runs")
        for argv in (["status", "2"], ["cancel", "2"]):
            r = c.run(*argv)
            assert r.returncode == 125 and b"no job of yours has the number 2" in r.stderr, r
        for argv in (["status", "x"], ["cancel"], ["cancel", "0"], ["status", "1", "2"]):
            assert c.run(*argv).returncode == 125
        # somebody else's key: sees nothing of it, and cannot end it
        other = {**c.env, "ZPIPE_KEYS": "other"}
        for argv in (["status", "1"], ["cancel", "1"]):
            r = subprocess.run([zpipe, *argv], env=other, capture_output=True, timeout=60)
            assert r.returncode == 125 and b"no job of yours" in r.stderr, r
        assert p.poll() is None
        assert c.run("cancel", "1").returncode == 0
        err = p.communicate(timeout=60)[1]
        assert p.returncode == 125 and b"cancelled by another command" in err, (p.returncode, err)
        until("nothing runs", lambda: not processes_with("status-mark"))
    r = subprocess.run([zpipe, "status"], env={k: v for k, v in os.environ.items() if "ZPIPE" not in k}, capture_output=True)
    assert r.returncode == 125 and b"asks a cluster" in r.stderr, r


@case
def a_worker_is_drained():
    """What runs there ends first; then it does, with 0; nothing new goes there meanwhile."""
    with Cluster(workers=2) as c:
        p = subprocess.Popen([zpipe, "cat | sh -c 'cat' | sort"], env=c.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(b"x\n" * 100000)
        p.stdin.flush()
        until("it runs", lambda: c.run("status").stdout.startswith(b"job") and b"  runs  " in c.run("status").stdout)
        drained = c.at_work()
        name = "w%d" % c.workers.index(drained)

        def drain(keys):
            return subprocess.run([zpipe, "drain", name, "--keys", keys], env={**os.environ, "ZPIPE_CLUSTER": c.url}, capture_output=True, timeout=60)
        os.mkdir("client")
        for f in ("client.key", "scheduler.pub"):
            shutil.copy("keys/" + f, "client")
        r = drain("client")
        assert r.returncode == 125 and b"scheduler.key" in r.stderr, r
        assert drain("keys").returncode == 0
        assert b"worker %s  " % name.encode() in c.run("status").stdout and b", drains" in c.run("status").stdout
        for _ in range(3):
            assert c.run("echo elsewhere | cat").stdout == b"elsewhere\n"
        assert drained.poll() is None
        p.stdin.close()
        assert p.stdout.read() == b"x\n" * 100000 and p.wait(timeout=60) == 0
        assert drained.wait(timeout=60) == 0
        assert c.run("echo still").stdout == b"still\n" and b"worker " + name.encode() not in c.run("status").stdout
        r = drain("keys")
        assert r.returncode == 125 and b"no worker" in r.stderr, r


@case
def wrong_keys_are_refused():
    with Cluster(workers=0) as c:
        subprocess.run([zpipe, "keygen", "--dir", "other"], check=True)
        r = subprocess.run([zpipe, "--cluster", c.url, "--keys", "other", "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"key" in r.stderr, r
        os.rename("other/scheduler.pub", "other/old.pub")
        open("other/scheduler.pub", "w").write(open("keys/scheduler.pub").read())
        r = subprocess.run([zpipe, "--cluster", c.url, "--keys", "other", "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"not allowed" in r.stderr, r
        r = subprocess.run([zpipe, "--cluster", c.url, "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"keys" in r.stderr, r


@case
def keys_come_and_go():
    """A pair of one's own is let in while the scheduler runs, and taken out while its job does."""
    with Cluster(workers=1) as c:
        said = subprocess.run([zpipe, "keygen", "--dir", "laptop", "anna"], check=True, capture_output=True, text=True).stdout
        key = open("laptop/own.pub").read().split()[1]
        assert "allow client '%s' anna" % key in said, said
        shutil.copy("keys/scheduler.pub", "laptop")

        subprocess.run([zpipe, "keygen", "--dir", "other", "nobody"], check=True, stdout=subprocess.DEVNULL)
        shutil.copy("keys/scheduler.pub", "other")

        def change(*words):
            return subprocess.run([zpipe, "scheduler", *words, "--keys", "keys"], capture_output=True, text=True)

        def job(text):
            return [zpipe, "--cluster", c.url, "--keys", "laptop", text]
        r = subprocess.run(job("echo hi"), capture_output=True, timeout=60)
        assert r.returncode == 125 and b"not allowed" in r.stderr, r
        assert change("allow", "client", key, "anna").returncode == 0
        r = subprocess.run(job("echo hi"), capture_output=True, timeout=60)
        assert (r.returncode, r.stdout) == (0, b"hi\n"), r
        for role, more in (("worker", ()), ("keeper", ("--state", "kept"))):
            r = subprocess.run([zpipe, role, "--keys", "laptop", "--scheduler", c.url, *more], capture_output=True, timeout=60)
            assert (r.returncode, r.stdout) == (125, b"") and b"not allowed as a %s" % role.encode() in r.stderr, r
        for role, more in (("worker", ()), ("keeper", ("--state", "kept"))):
            r = subprocess.run([zpipe, role, "--keys", "other", "--scheduler", c.url, *more], capture_output=True, timeout=60)
            assert (r.returncode, r.stdout) == (125, b"") and b"our key is not allowed there" in r.stderr, r
        for where in (("--data-listen", "tcp://0.0.0.0:*"), ("--advertise", "one")):
            r = subprocess.run([zpipe, "worker", "--keys", "keys", "--scheduler", c.url, *where], capture_output=True, timeout=60)
            assert (r.returncode, r.stdout) == (125, b"") and b"--advertise tcp://HOST:PORT" in r.stderr, r
        mark = "denied-mark-%d" % os.getpid()
        p = subprocess.Popen(job("yes %s | cat > /dev/null" % mark), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until("the programs run", lambda: len(processes_with("yes\0" + mark)) > 0)
        assert change("deny", key).returncode == 0
        said = p.communicate(timeout=60)[1]
        assert p.returncode == 125 and b"not allowed any more" in said, (p.returncode, said)
        until("nothing runs", lambda: not processes_with("yes\0" + mark))
        for words, sentence in ((("deny", key), "is not in"), (("allow", "client", "x"), "40 characters"), (("allow", "king", key), "a worker, a client or a keeper"),
                                (("allow", "worker", key, "a\nb"), "one line"), (("allow", "worker", open("keys/client.pub").read().split()[1]), "already")):
            r = change(*words)
            assert r.returncode == 125 and sentence in r.stderr, (words, r)
        r = c.run("echo still")
        assert r.stdout == b"still\n", r


@case
def a_worker_lets_in_those_whose_jobs_it_runs():
    """At its data port, and no longer than that takes."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = "tcp://127.0.0.1:%d" % s.getsockname()[1]
    with Cluster(workers=1, options=("--data-listen", port)) as c:
        os.mkdir("to")
        shutil.copy("keys/client.key", "to")
        shutil.copy("keys/worker.pub", "to/scheduler.pub")
        assert c.run("echo x | cat").stdout == b"x\n"
        r = subprocess.run([zpipe, "--cluster", port, "--keys", "to", "true"], capture_output=True, timeout=30)
        assert r.returncode == 125 and b"our key is not allowed there" in r.stderr, r


@case
def nobody_there():
    subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True)
    r = subprocess.run([zpipe, "--cluster", "tcp://127.0.0.1:1", "--keys", "keys", "true"], capture_output=True, timeout=60)
    assert r.returncode == 125 and b"127.0.0.1:1" in r.stderr, r
    for keys, why in (("nokeys", b"'nokeys' holds no"), ("keys/allow", b"cannot read the key file 'keys/allow/own.key': Not a directory")):
        r = subprocess.run([zpipe, "--cluster", "tcp://127.0.0.1:1", "--keys", keys, "true"], capture_output=True, timeout=60)
        assert r.returncode == 125 and why in r.stderr, r


@case
def no_worker():
    with Cluster(workers=0) as c:
        r = c.run("true")
        assert r.returncode == 125 and b"no worker" in r.stderr, r


@case
def keys_are_never_overwritten():
    subprocess.run([zpipe, "keygen", "--dir", "keys"], check=True)
    before = open("keys/scheduler.key").read()
    r = subprocess.run([zpipe, "keygen", "--dir", "keys"], capture_output=True)
    assert r.returncode == 125 and b"already" in r.stderr and open("keys/scheduler.key").read() == before
    own = subprocess.run([zpipe, "keygen", "--dir", "laptop", "anna"], check=True, capture_output=True) and open("laptop/own.key").read()
    r = subprocess.run([zpipe, "keygen", "--dir", "laptop", "anna"], capture_output=True)
    assert r.returncode == 125 and b"'laptop/own.key' is already there" in r.stderr and open("laptop/own.key").read() == own, r
    for name in ("a\nb", "a;b", "$(b)", "a b", ""):
        r = subprocess.run([zpipe, "keygen", "--dir", "other", name], capture_output=True)
        assert r.returncode == 125 and b"letters, digits" in r.stderr and not os.path.exists("other"), (name, r)
    assert os.stat("keys/scheduler.key").st_mode & 0o77 == 0


@case
def one_state_directory_one_scheduler():
    with Cluster(workers=0):
        r = subprocess.run([zpipe, "scheduler", "--keys", "keys", "--listen", "tcp://127.0.0.1:*", "--state", "state"],
                           capture_output=True, timeout=30)
        assert r.returncode == 125 and b"another scheduler" in r.stderr, r


@case
def garbage_at_the_ports_hurts_nobody():
    import random
    with Cluster(workers=1) as c:
        host, port = c.url[6:].rsplit(":", 1)
        rnd = random.Random(1)
        for i in range(200):
            s = socket.create_connection((host.strip("[]").replace("::ffff:", ""), int(port)), timeout=5)
            try:
                s.sendall((b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" if i % 2 else b"") + rnd.randbytes(rnd.randrange(2000)))
            except OSError:
                pass
            s.close()
        r = c.run("echo alive | cat")
        assert (r.returncode, r.stdout) == (0, b"alive\n"), r


run_cases(args, failed_too=tell_logs)
