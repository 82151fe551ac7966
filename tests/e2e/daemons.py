"""The daemons of a cluster on this machine, in the working directory."""
import os, subprocess

zpipe = None  # its path: whoever imports this sets it


def lines(count):
    return b"".join(b"%08d of many lines\n" % (i * 7919 % count) for i in range(count))


def reference(pipeline, data=b""):
    return subprocess.run(["sh", "-c", pipeline], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}).stdout


def tell_logs():
    if os.path.exists("daemons.log"):
        print(open("daemons.log").read()[-1500:])


class Cluster:
    def __init__(self, workers=2, keys="keys", slots=8, worker_wait="10s", client_wait="60s", options=()):
        self.all, self.waits = [], ["--worker-wait", worker_wait, "--client-wait", client_wait]
        if not os.path.exists(keys):
            subprocess.run([zpipe, "keygen", "--dir", keys], check=True)
        self.keys = keys
        self.start_scheduler("tcp://127.0.0.1:*")
        self.workers = [self.start("worker", "--keys", keys, "--scheduler", self.url, "--slots", str(slots), "--name", "w%d" % i,
                                   "--image", "tests", *options)[0]
                        for i in range(workers)]
        self.env = {**os.environ, "ZPIPE_CLUSTER": self.url, "ZPIPE_KEYS": keys}

    def start_scheduler(self, url):
        self.scheduler, self.url = self.start("scheduler", "-v", "--keys", self.keys, "--listen", url, "--state", "state", *self.waits)

    def start_keeper(self, *argv, **kw):
        self.keeper, _ = self.start("keeper", "-v", "--keys", self.keys, "--scheduler", self.url, "--state", "keep", *argv, **kw)

    def start(self, *argv, before=(), **kw):
        kw.setdefault("stderr", open("daemons.log", "a"))
        p = subprocess.Popen([*self.at(argv), *before, zpipe, *argv], stdout=subprocess.PIPE, **kw)
        self.all.append(p)
        word, url = p.stdout.readline().decode().split()
        assert word == "ready"
        return p, url

    def run(self, *argv, **kw):
        return subprocess.run([*self.at(), zpipe, *argv], env=self.env, capture_output=True, timeout=90, **kw)

    def at(self, daemon=("client",)):
        """What runs something where it belongs, if there are several hosts."""
        return []

    def at_work(self):
        """One of the workers that have stages of the one job there is."""
        line = self.run("status").stdout.decode().splitlines()[0]
        assert line.startswith("job "), line
        return self.workers[int(line.split("  on w")[1][0])]

    def popen(self, *argv):
        return subprocess.Popen([zpipe, *argv], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in reversed(self.all):
            if p.poll() is None:
                p.terminate()
                p.wait(timeout=30)
