#!/usr/bin/env python3
"""The units of share/systemd under this host's systemd: it is process 1 of namespaces of its own, with a cgroup of its own, an overlay for /etc and /var/lib, and
a network that nobody else has.   units.py --build DIR

The three daemons start as the user zpipe, run a job and a submitted one, are killed and come back, and stop without a rest.  Nothing outlives us."""
import argparse, os, subprocess, sys, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from watch import until  # noqa: E402

SYSTEMD = "/lib/systemd/systemd"
DAEMONS = ("scheduler", "worker", "keeper")
URL = "tcp://127.0.0.1:7117"
# What is the machine's, and not a container's to do.
MASKED = ("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-journal-flush.service", "systemd-tmpfiles-setup.service",
          "systemd-tmpfiles-setup-dev.service", "systemd-sysctl.service", "systemd-modules-load.service", "dev-hugepages.mount", "dev-mqueue.mount",
          "sys-kernel-debug.mount", "sys-kernel-tracing.mount")
INSIDE = r"""
set -e
mount --make-rprivate /
mkdir made && mount -t tmpfs none made
for d in etc var/lib; do
    mkdir -p made/$d/upper made/$d/work
    mount -t overlay overlay -o lowerdir=/$d,upperdir=made/$d/upper,workdir=made/$d/work /$d
done
mount -t tmpfs none /run
mkdir -p /run/lock /run/systemd/system
cp -a inst /run/inst # /tmp is each unit's own
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
getent passwd zpipe >/dev/null || useradd -r -d /var/lib/zpipe zpipe
rm -rf /etc/zpipe
mkdir /etc/zpipe
/run/inst/bin/zpipe keygen --dir /etc/zpipe/keys >/dev/null
printf 'keys = /etc/zpipe/keys\nlisten = URL\nstate = /var/lib/zpipe\n' >/etc/zpipe/scheduler.conf
printf 'keys = /etc/zpipe/keys\nscheduler = URL\nslots = 2\n' >/etc/zpipe/worker.conf
printf 'keys = /etc/zpipe/keys\nscheduler = URL\nstate = /var/lib/zpipe/kept\n' >/etc/zpipe/keeper.conf
chown -R zpipe /etc/zpipe
for unit in /run/inst/lib/systemd/system/zpipe-*.service; do
    sed "s|=/[^ ]*/bin/zpipe |=/run/inst/bin/zpipe |" $unit >/run/systemd/system/${unit##*/}
done
printf '[Unit]\nAllowIsolate=yes\nRequires=basic.target\nAfter=basic.target\nWants=zpipe-scheduler.service zpipe-worker.service zpipe-keeper.service\n' >/run/systemd/system/zpipe.target
for unit in MASKED; do ln -s /dev/null /run/systemd/system/$unit; done
export container=zpipe
exec SYSTEMD --unit=zpipe.target --log-target=console --show-status=no
"""


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def make_cgroup():
    """One of version 2 below the one that all processes are in."""
    for line in open("/proc/mounts"):
        where, kind = line.split()[1:3]
        if kind == "cgroup2":
            path = os.path.join(where, "zpipe-units-%d" % os.getpid())
            try:
                os.mkdir(path)
                return path
            except OSError as e:
                skip("no cgroup can be made: %s" % e)
    skip("there are no cgroups of version 2")


def remove_cgroup(path):
    for root, _, _ in os.walk(path, topdown=False):
        os.rmdir(root)


class Machine:
    def __init__(self, cgroup):
        script = INSIDE.replace("URL", URL).replace("MASKED", " ".join(MASKED)).replace("SYSTEMD", SYSTEMD)
        join = 'echo $$ >"$0/cgroup.procs" && exec unshare -C -m -p -n -u -i --fork --kill-child --mount-proc sh -c "$1"'
        self.log = open("systemd.log", "wb")
        self.p = subprocess.Popen(["sh", "-c", join, cgroup, script], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = None

    def booted(self):
        if self.p.poll() is not None:
            skip("no systemd runs in namespaces here: " + open("systemd.log", errors="replace").read()[-300:])
        children = open("/proc/%d/task/%d/children" % (self.p.pid, self.p.pid)).read().split()
        self.pid = children[0] if children else None
        return self.pid and open("/proc/%s/comm" % self.pid).read() == "systemd\n" and self.all_run()

    def run(self, *argv):
        env = {**os.environ, "ZPIPE_CLUSTER": URL, "ZPIPE_KEYS": "/etc/zpipe/keys"}
        return subprocess.run(["nsenter", "-t", self.pid, "-m", "-p", "-n", "-u", "-i", "-C", "--", *argv], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    def zpipe(self, *argv):
        return self.run("/run/inst/bin/zpipe", *argv)

    def show(self, daemon, what):
        return self.run("systemctl", "show", "zpipe-" + daemon, "-p", what, "--value").stdout.strip()

    def all_run(self):
        return all(self.show(d, "SubState") == "running" for d in DAEMONS)

    def at_work(self):
        return self.zpipe("status").stdout.count("worker ") == 1


def judge(m):
    until("the daemons run", m.booted, 120)
    until("the worker has joined", m.at_work, 60)
    job = "seq 9999 | sort -r | head -1"
    for killed in (False, True):
        r = m.zpipe(job)
        assert (r.returncode, r.stdout, r.stderr) == (0, "9999\n", ""), r
        r = m.zpipe("submit", job)
        r = m.zpipe("attach", r.stdout.strip())
        assert (r.returncode, r.stdout) == (0, "9999\n"), r
        for d in DAEMONS:
            pid = m.show(d, "MainPID")
            user = [line.split()[1] for line in m.run("cat", "/proc/%s/status" % pid).stdout.splitlines() if line.startswith("Uid:")]
            assert user and user[0] != "0", (d, user)
            assert m.show(d, "NRestarts") == ("1" if killed else "0"), (d, m.show(d, "NRestarts"))
            if not killed:
                m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "zpipe-" + d)
        until("they run again", m.all_run, 60)
        until("the worker has joined again", m.at_work, 60)
    for d in reversed(DAEMONS):
        m.run("systemctl", "stop", "zpipe-" + d)
        assert (m.show(d, "SubState"), m.show(d, "ExecMainStatus")) == ("dead", "0"), (d, m.run("systemctl", "status", "zpipe-" + d).stdout)
    left = [p for p in m.run("ps", "-eo", "args").stdout.splitlines() if "zpipe" in p.split()[0]]
    assert not left, left


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--build", required=True)
    build = os.path.abspath(a.parse_args().build)
    if os.getuid():
        skip("only root makes these namespaces")
    if not os.path.exists(SYSTEMD):
        skip("there is no " + SYSTEMD)
    with tempfile.TemporaryDirectory(prefix="zpipe-units-") as d:
        os.chdir(d)
        os.chmod(d, 0o755)
        subprocess.run(["cmake", "--install", build, "--prefix", d + "/inst"], check=True, stdout=subprocess.DEVNULL)
        cgroup = make_cgroup()
        m = Machine(cgroup)
        try:
            judge(m)
            print("ok: they start, come back when they are killed, and stop")
        except AssertionError as e:
            print("FAIL:", e, open("systemd.log", errors="replace").read()[-1500:])
            sys.exit(1)
        finally:
            if m.pid and m.p.poll() is None:
                os.kill(int(m.pid), 9)
            m.p.kill()
            m.p.wait()
            os.chdir("/")
            until("nothing is left in its cgroup", lambda: "populated 0" in open(cgroup + "/cgroup.events").read(), 30)
            remove_cgroup(cgroup)


main()
