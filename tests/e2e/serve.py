#!/usr/bin/env python3
"""zpipe serve: each request its own sandbox, and nobody pays for a client that stalls, leaves or lies.

    serve.py --bin DIR"""
import argparse, concurrent.futures, http.client, os, socket, subprocess, sys, tempfile, time

TIMEOUT = 60


class Server:
    def __init__(self, zpipe, d, text, *options):
        self.p = subprocess.Popen([zpipe, "serve", text, *options], cwd=d, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.at = {}
        for _ in [o for o in options if o in ("--http", "--listen")]:
            line = self.p.stdout.readline().decode().split()
            if len(line) == 3:
                self.at[line[1]] = line[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.terminate()
        self.err = self.p.communicate(timeout=TIMEOUT)[1]
        self.status = self.p.returncode

    def post(self, body, path="/", method="POST", headers={}):
        c = http.client.HTTPConnection(self.at["http"], timeout=TIMEOUT)
        c.request(method, path, body, headers)
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()

    def socket(self, kind="plain"):
        address = self.at[kind]
        if address.startswith("unix://"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(address[7:])
        else:
            host, _, port = address.rpartition(":")
            s = socket.create_connection((host, int(port)))
        s.settimeout(TIMEOUT)
        return s

    def plain(self, body):
        with self.socket() as s:
            s.sendall(body)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while data := s.recv(65536):
                got += data
            return got


def want(what, got, expected):
    if got != expected:
        raise AssertionError("%s: %.300r, not %.300r" % (what, got, expected))


def http_good(zpipe, d):
    with Server(zpipe, d, "tr a-z A-Z | sort", "--http", "127.0.0.1:0") as s:
        status, headers, body = s.post(b"b\na\n")
        want("answer", (status, body), (200, b"A\nB\n"))
        want("status", headers["Zpipe-Status"], "0")
        want("certificate", headers["Zpipe-Certified"], "yes")
        want("nothing in", s.post(b"")[2], b"")
        large = b"".join(b"%d line\n" % (i * 7919 % 100003) for i in range(200000))
        want("large", s.post(large)[2], b"".join(sorted(large.upper().splitlines(True))))
    want("end", s.status, 0)


def http_status(zpipe, d):
    with Server(zpipe, d, "grep x", "--http", "127.0.0.1:0") as s:
        status, headers, body = s.post(b"abc\n")
        want("no match", (status, headers["Zpipe-Status"], body), (200, "1", b""))


def http_wrong(zpipe, d):
    with Server(zpipe, d, "cat", "--http", "127.0.0.1:0", "--body-max", "64K") as s:
        want("GET", s.post(None, method="GET")[0], 405)
        want("path", s.post(b"x", path="/x")[0], 404)
        with s.socket("http") as raw:
            raw.sendall(b"POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n")
            want("too large, said", raw.recv(1000)[:12], b"HTTP/1.1 413")
        want("too large, not said", s.post(iter([b"x" * 40000, b"y" * 40000]))[0], 413)
        with s.socket("http") as raw:
            raw.sendall(b"\0\xff garbage\r\n\r\n" * 100)
            raw.recv(1000)
        want("afterwards", s.post(b"fine")[2], b"fine")


def http_limit(zpipe, d):
    with Server(zpipe, d, "sh -c 'cat; while :; do :; done'", "--http", "127.0.0.1:0", "--with", "timeout=1s") as s:
        status, _, body = s.post(b"x")
        want("time", status, 504)
        if b"limit" not in body:
            raise AssertionError("no word of a limit: %r" % body)
    with Server(zpipe, d, "yes", "--http", "127.0.0.1:0", "--with", "output=1MiB") as s:
        want("output", s.post(b"")[0], 504)


def many_at_once(zpipe, d):
    with Server(zpipe, d, "tr a-z A-Z", "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0") as s:
        stalled = [s.socket(k) for k in ("http", "plain") for _ in range(20)]
        for one in stalled[:20]:
            one.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf")
        gone = s.socket("http")
        gone.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        gone.close()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            bodies = [b"request %d\n" % i * (i % 7 * 1000 + 1) for i in range(120)]
            for body, got in zip(bodies, pool.map(lambda b: s.post(b)[2] if b[8] % 2 else s.plain(b), bodies)):
                want("one of many", got, body.upper())
        for one in stalled:
            one.close()
        want("afterwards", s.post(b"z")[2], b"Z")
    want("end", s.status, 0)


def plain_both(zpipe, d):
    path = os.path.join(d, "socket")
    for address in ("tcp://127.0.0.1:0", "unix://" + path):
        with Server(zpipe, d, "sort | uniq -c", "--listen", address) as s:
            want("answer", s.plain(b"b\na\nb\n"), b"      1 a\n      2 b\n")
    want("the socket's name", os.path.exists(path), False)


def plain_name(zpipe, d):
    """A name that is taken stays whose it is; that of a server which was killed is taken again."""
    path = os.path.join(d, "name")
    with open(path, "w") as f:
        f.write("precious")
    options = ("cat", "--listen", "unix://" + path)
    p = subprocess.run([zpipe, "serve", *options], cwd=d, capture_output=True, text=True, timeout=TIMEOUT)
    want("a file's name", (p.returncode, "there is a file of that name" in p.stderr), (125, True))
    with open(path) as f:
        want("the file", f.read(), "precious")
    os.unlink(path)
    with Server(zpipe, d, *options) as s:
        p = subprocess.run([zpipe, "serve", *options], cwd=d, capture_output=True, text=True, timeout=TIMEOUT)
        want("a server's name", p.returncode, 125)
        want("the server", s.plain(b"x"), b"x")
        s.p.kill()
    want("a name that is left", os.path.exists(path), True)
    with Server(zpipe, d, *options) as s:
        want("the next server", s.plain(b"y"), b"y")
        os.rename(path, path + ".mine")
        with open(path, "w") as f:
            f.write("later")
    want("a file that came later", os.path.exists(path), True)


def plain_failed(zpipe, d):
    with Server(zpipe, d, "sleep 1000; while :; do :; done", "--listen", "tcp://127.0.0.1:0", "--with", "timeout=1s") as s:
        try:
            got = s.plain(b"x")
        except ConnectionResetError:
            return
        raise AssertionError("a failed job ended in %r" % got)


def ended_at_work(zpipe, d):
    with Server(zpipe, d, "while :; do :; done", "--http", "127.0.0.1:0") as s:
        c = s.socket("http")
        c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        deadline = time.monotonic() + TIMEOUT
        while "while" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.replace("serve while", ""):
            if time.monotonic() > deadline:
                raise AssertionError("the job did not start")
    want("end", s.status, 0)


def refused(zpipe, d):
    for options, word in ((("cat", "--http", "0.0.0.0:0"), "--allow-remote"), (("cat | | sort", "--http", "127.0.0.1:0"), "between"),
                          (("cat", "--http", "nowhere"), "HOST:PORT"), (("cat", "--listen", "http://x"), "unix://"), (("cat",), "--http"),
                          ((), "one pipeline"), (("cat", "--http", "127.0.0.1:0", "--body-max", "x"), "size"),
                          (("cat", "--listen", "unix://" + d + "/no/such"), "cannot listen")):
        p = subprocess.run([zpipe, "serve", *options], cwd=d, capture_output=True, text=True, timeout=TIMEOUT)
        want(" ".join(options), (p.returncode, word in p.stderr), (125, True))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    zpipe = os.path.join(os.path.abspath(ap.parse_args().bin), "zpipe")
    failed = 0
    tests = (http_good, http_status, http_wrong, http_limit, many_at_once, plain_both, plain_name, plain_failed, ended_at_work, refused)
    with tempfile.TemporaryDirectory(prefix="zpipe-serve-") as d:
        for test in tests:
            try:
                test(zpipe, d)
                print("ok     %s" % test.__name__, flush=True)
            except (AssertionError, OSError, http.client.HTTPException, KeyError) as e:
                failed += 1
                print("FAIL   %s: %r" % (test.__name__, e), flush=True)
    print("%d passed, %d failed" % (len(tests) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
