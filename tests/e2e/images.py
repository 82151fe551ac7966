#!/usr/bin/env python3
"""Workers that are not alike: a job runs on one image, whichever, and never on two.   images.py --bin DIR [CASE...]"""
import os, re, shutil, subprocess, sys, time

import daemons
from daemons import Cluster, lines, reference, tell_logs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
PACKAGES = "/var/lib/dpkg/status"
# A worker for which a copy is in the place of the list of packages, in a mount namespace.  Other tests put files into /usr/local.
WITH = ["unshare", "-m", "sh", "-c", 'mount --bind "$1" %s && mount -t tmpfs none /usr/local && shift && exec "$@"' % PACKAGES, "sh"]


LOOKED_AT = 2500  # files of 1 MiB, all holes


def rows(c):
    """The image that status shows of each worker; None: it shows none."""
    found = {}
    for line in c.run("status").stdout.decode().splitlines():
        m = re.fullmatch(r"worker (\S+)  \d+ of \d+ slots taken, \S+ of \S+ GiB of memory(?:, drains)?(?:  image (\S+))?(?:  on .*)?", line)
        if m:
            found[m[1]] = m[2]
    return found


def add_worker(c, name, *options, before=(), slots=2):
    c.workers.append(c.start("worker", "--keys", c.keys, "--scheduler", c.url, "--slots", str(slots), "--name", name, *options, before=before)[0])
    until(name + " has joined", lambda: name in rows(c))


def image_of(c):
    """Of the one worker, as workers say it to others: status shows none where all are alike.  None: it is not there."""
    r = c.run("with image=none-such { sort }", input=b"")
    m = re.search(rb"there are: (\S+) of 1 worker", r.stderr)
    return m and m[1]


def running(c):
    """Where the one job is that runs: names of workers."""
    rows = [line for line in c.run("status").stdout.decode().splitlines() if "  runs  " in line]
    return rows[0].split("  on ")[1].split("  ")[0].split() if rows else []


def at_work(c):
    where = running(c)
    return c.workers[int(where[0][1])] if where and where[0].startswith("w") else None


@case
def a_job_runs_on_one_of_two_images():
    data = lines(60000)
    want = reference("grep -E '(.)(.)\\2\\1' | sort", data)
    with Cluster(workers=0) as c:
        for name, image in (("w0", "old"), ("w1", "new"), ("w2", "new")):
            add_worker(c, name, "--image", image)
        assert rows(c) == {"w0": "old", "w1": "new", "w2": "new"}, rows(c)
        for image, workers in (("old", {"w0"}), ("new", {"w1", "w2"})):
            r = c.run("--joblog", "log", "--split", "always,16K", "with image=%s { grep -E '(.)(.)\\2\\1' | sort }" % image, input=data)
            assert (r.returncode, r.stdout, r.stderr) == (0, want, b""), (r.returncode, r.stderr)
            ran = {w for w in open("log").read().split() if w in ("w0", "w1", "w2")}
            assert ran and ran <= workers, (image, ran)
            until("nothing is lent any more", lambda: c.run("status").stdout.count(b"  0 of 2 slots taken") == 3)
            p = subprocess.Popen([zpipe, "--placement", "spread", "with image=%s { sh -c 'cat' | sh -c 'cat' }" % image], env=c.env,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            until("it runs", lambda: b"  runs  " in c.run("status").stdout)
            assert set(running(c)) == workers, (image, running(c))
            p.communicate(b"")
            assert p.returncode == 0, p.returncode
        r = c.run("with image=old { sort } | with image=new { uniq }", input=b"")
        assert r.returncode == 125 and b"a job runs on one image" in r.stderr, r
    r = subprocess.run([zpipe, "with image=old { sort }"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert r.returncode == 125 and b"names an image of a cluster" in r.stderr, r
    for bad in ("", "a b", "x" * 65, "../x"):
        r = subprocess.run([zpipe, "worker", "--keys", "keys", "--scheduler", "tcp://127.0.0.1:9", "--image", bad], capture_output=True, timeout=60)
        assert r.returncode == 125 and b"an image's name has" in r.stderr, r


@case
def what_is_lost_goes_on_with_the_same_image_or_not_at_all():
    """Of three workers two are alike, and both are killed: the third does not take over."""
    data = lines(200000)
    with Cluster(workers=0) as c:
        for name, image in (("w0", "old"), ("w1", "old"), ("w2", "new")):
            add_worker(c, name, "--image", image)
        p = subprocess.Popen([zpipe, "with image=old { sh -c 'tr a-z A-Z' }"], env=c.env, stdin=subprocess.PIPE, stdout=open("out", "wb"),
                             stderr=subprocess.PIPE)
        p.stdin.write(data[:len(data) // 2])
        p.stdin.flush()
        until("it runs", lambda: b"  runs  " in c.run("status").stdout)
        nobody = subprocess.Popen([zpipe, "with image=newest { sort }"], env=c.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        first = at_work(c)
        first.kill()
        until("it runs again", lambda: "attempt=2" in open("daemons.log").read())
        until("on the other", lambda: at_work(c) in set(c.workers[:2]) - {first})
        at_work(c).kill()
        said = p.communicate(timeout=60)[1].decode()
        assert p.returncode == 125 and "no other worker has its image, old, on the same kernel" in said and "new of 1 worker" in said, (p.returncode, said)
        said = nobody.communicate(timeout=60)[1].decode()
        assert nobody.returncode == 125 and "no worker has the image 'newest'; there are: " in said and "new of 1 worker" in said, said


@case
def an_image_is_found():
    """By the packages: workers with the same ones are alike, and one whose list changes is another one from then on."""
    if os.geteuid() or not os.path.exists(PACKAGES) or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        return "not tried: no mount namespace, or no packages, here"
    shutil.copy(PACKAGES, "plain")
    shutil.copy("plain", "status")
    with open("status", "a") as f:
        f.write("\nPackage: not-there\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n")
    with Cluster(workers=0) as c:
        add_worker(c, "w0", before=[*WITH, os.path.abspath("plain")])
        add_worker(c, "w1", before=[*WITH, os.path.abspath("status")])
        assert rows(c) == {"w0": None, "w1": None}, rows(c)
        until("both are free", lambda: c.run("status").stdout.count(b"  0 of 2 slots taken") == 2)
        p = subprocess.Popen([zpipe, "--placement", "spread", "sh -c 'cat' | sh -c 'cat'"], env=c.env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        until("it runs", lambda: b"  runs  " in c.run("status").stdout)
        with open("status", "a") as f:
            f.write("\nPackage: new-here\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n")
        until("it is another one", lambda: len(set(rows(c).values()) - {None}) == 2)
        assert all(re.fullmatch("[0-9a-f]{12}", i) for i in rows(c).values()), rows(c)
        until("it runs again", lambda: "attempt=2" in open("daemons.log").read())
        until("on the one that is as it was", lambda: b"  on w0  " in c.run("status").stdout)
        p.communicate(b"")
        assert p.returncode == 0, p.returncode


OTHER = 'mount --bind "$1" /usr/local/bin && shift && exec "$@"'


@case
def another_program_in_the_same_image_is_found():
    """Two workers whose images have one name, and in which a program differs: an audit names the block and both."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        return "not tried: no mount namespace here"
    open("in.txt", "wb").write(lines(40000))
    with Cluster(workers=0) as c:
        for name, letters in (("w0", "a-z A-Z"), ("w1", "a-m A-M")):
            os.mkdir(name)
            with open(name + "/zpipe-test-program", "w") as f:
                f.write("#!/bin/sh\nexec tr %s\n" % letters)
            os.chmod(name + "/zpipe-test-program", 0o755)
            add_worker(c, name, "--image", "same", before=["unshare", "-m", "sh", "-c", OTHER, "sh", os.path.abspath(name)], slots=1)
        r = c.run("--split", "always,64K", "--audit", "100%", "cat in.txt | map { zpipe-test-program }")
        said = r.stderr.decode()
        assert r.returncode == 125 and re.search(r"not deterministic: block \d+ of `zpipe-test-program` was run twice and came out differently", said), r
        assert "on 'w0'" in said and "on 'w1'" in said, said
        r = c.run("--split", "always,64K", "--audit", "100%", "cat in.txt | map { sh -c 'tr a-z A-Z' } | wc -l")
        assert (r.returncode, r.stdout) == (0, b"40000\n") and r.stderr.endswith(b"different: 0\n"), r


@case
def a_long_look_costs_no_lease():
    """Gigabytes in /usr/local, and packages that change: it is heard from meanwhile, and then is another one."""
    if os.geteuid() or not os.path.exists(PACKAGES) or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        return "not tried: no mount namespace, or no packages, here"
    shutil.copy(PACKAGES, "status")
    with Cluster(workers=0) as c:
        add_worker(c, "w0", before=[*WITH, os.path.abspath("status")])
        fill = "i=0; while [ $i -lt %d ]; do truncate -s 1M /usr/local/$i; i=$((i+1)); done" % LOOKED_AT
        subprocess.run(["nsenter", "-m", "-t", str(c.workers[0].pid), "sh", "-c", fill], check=True)
        before, began = image_of(c), time.monotonic()
        with open("status", "a") as f:
            f.write("\nPackage: new-here\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n")
        until("it is another one", lambda: image_of(c) not in (None, before), 120)
        took = time.monotonic() - began
        assert took > 3, ("the look was too short to tell anything", took)
        log = open("daemons.log").read()
        assert "silent" not in log and "has changed" in log, log
        return "%.1f s" % took


run_cases(args, failed_too=tell_logs)
