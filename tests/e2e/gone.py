#!/usr/bin/env python3
"""Clients whose host is gone for a while, or for good: on hosts of their own, where that is permitted.   gone.py --bin DIR [CASE...]
It takes minutes, most of which is waiting: `make killed`."""
import os, signal, subprocess, sys, time

import daemons
from daemons import Cluster, lines, reference, tell_logs

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from cases import arguments, case, run_cases, zpipe_of  # noqa: E402
from watch import until  # noqa: E402

args = arguments.parse_args()
zpipe = daemons.zpipe = zpipe_of(args)
PIPELINE = "cat | sh -c 'tr a-z A-Z' | sort | uniq -c"
hosts = subprocess.Popen(["sh", os.path.join(HERE, "..", "lib", "hosts.sh"), "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
holder = hosts.stdout.readline().split()
if holder[:1] != ["ready"]:
    print(" ".join(holder))
    sys.exit(77)


class Hosts(Cluster):
    """The scheduler, a worker and a client, each on a host."""

    def __init__(self, client_wait):
        super().__init__(workers=0, client_wait=client_wait)
        self.workers.append(self.start("worker", "-v", "--keys", self.keys, "--scheduler", self.url, "--slots", "4", "--image", "tests", "--data-listen",
                                       "tcp://10.99.0.2:*")[0])

    def start_scheduler(self, url):
        super().start_scheduler("tcp://10.99.0.1:*")

    def at(self, daemon=("client",)):
        return ["nsenter", "-t", holder[{"scheduler": 1, "worker": 2}.get(daemon[0], 3)], "-n", "--"]

    def client(self, pipeline, out):
        return subprocess.Popen([*self.at(), zpipe, pipeline], env=self.env, stdin=subprocess.PIPE, stdout=out, stderr=open("err", "wb"))

    def network(self, state):
        subprocess.run([*self.at(), "ip", "link", "set", "eth0", state], check=True)


def stuck(c):
    """Has the worker's host had the same bytes to send for a second?"""
    seen = [0, 0.0]

    def look():
        rows = subprocess.run([*c.at(("worker",)), "cat", "/proc/net/tcp"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[1:]
        waiting = sum(int(row.split()[4].split(":")[0], 16) for row in rows)
        if waiting != seen[0]:
            seen[:] = waiting, time.monotonic()
        return waiting and time.monotonic() - seen[1] > 1
    return look


def log():
    return open("daemons.log").read()


@case
def a_network_that_is_back():
    """After the client has given its connections up, and after it has not; nothing runs twice."""
    data = lines(400000)
    with Hosts("60s") as c:
        for away in 2, 10, 25:
            p = c.client(PIPELINE, open("out", "wb"))
            p.stdin.write(data[:len(data) // 2])
            p.stdin.flush()
            until("it runs", lambda: b"  runs  " in c.run("status").stdout)
            c.network("down")
            time.sleep(away)
            c.network("up")
            p.stdin.write(data[len(data) // 2:])
            p.stdin.close()
            assert p.wait(timeout=60) == 0 and open("out", "rb").read() == reference(PIPELINE, data), open("err").read()
            assert "attempt=2" not in log()


@case
def a_host_that_is_gone():
    """Without a word, while bytes flow, while none do, and while its client was stopped with no room for more."""
    with Hosts("3s") as c:
        for pipeline, stopped in ("yes", False), ("cat | sh -c cat", False), ("yes", True):
            p = c.client(pipeline, subprocess.DEVNULL)
            until("it runs", lambda: b"  runs  " in c.run("status").stdout)
            if stopped:
                p.send_signal(signal.SIGSTOP)
                until("nothing more fits", stuck(c), 30)
            ends = log().count("was gone for too long")
            c.network("down")
            until("its job is cancelled", lambda: log().count("was gone for too long") > ends, 250 if stopped else 18)
            p.kill()
            p.wait()
            c.network("up")
            until("its slots are free", lambda: b"  0 of 4 slots taken" in c.run("status").stdout)


run_cases(args, failed_too=tell_logs)
