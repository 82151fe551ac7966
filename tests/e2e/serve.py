#!/usr/bin/env python3
"""zpipe serve: each request its own sandbox, and nobody pays for a client that stalls, leaves or lies.

    serve.py --bin DIR"""
import argparse, concurrent.futures, glob, http.client, os, re, resource, signal, socket, subprocess, sys, tempfile, threading, time

from watch import until

TIMEOUT = 60


class Server:
    def __init__(self, zpipe, d, text, *options, **how):
        self.p = subprocess.Popen([zpipe, "serve", text, *options], cwd=d, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
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


def children(pid):
    return [int(c) for t in glob.glob("/proc/%d/task/*/children" % pid) for c in open(t).read().split()]


def box_of(s):
    """The process that runs the sandboxes."""
    return [c for c in children(s.p.pid) if open("/proc/%d/comm" % c).read() == "zpipe-box\n"][0]


def box_dies(zpipe, d):
    """Whose program has no end is told so in a sentence, or has his answer from a second try; the next ones have theirs."""
    with Server(zpipe, d, "sort", "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0") as s:
        for _ in range(5):
            want("a template", s.post(b"b\na\n")[2], b"a\nb\n")
        with s.socket("http") as waits, s.socket() as plain:
            plain.sendall(b"2\n1\n")
            waits.sendall(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n2\n")
            box = box_of(s)
            os.kill(box, signal.SIGKILL)
            until("zpipe-box is dead", lambda: box not in children(s.p.pid) and not os.path.exists("/proc/%d" % box))
            waits.sendall(b"1\n")
            got = http.client.HTTPResponse(waits)
            got.begin()
            body = got.read()
            if (got.status, body) != (200, b"1\n2\n") and (got.status != 500 or body.count(b"\n") != 1 or b"zpipe-box" not in body):
                raise AssertionError("at the time: %d %r" % (got.status, body))
            plain.shutdown(socket.SHUT_WR)
            want("plain, at the time", plain.recv(100) in (b"", b"1\n2\n"), True)
        for _ in range(5):
            want("afterwards", s.post(b"b\na\n")[2], b"a\nb\n")
        want("another one", box_of(s) != box, True)
    want("end", s.status, 0)


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


def sizes(zpipe, d):
    """What is kept in memory, what is not, and what is too much."""
    with Server(zpipe, d, "cat", "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0") as s:
        for size in (0, 1, 16383, 16384, 16385, 65536, 65537, 3000000):
            body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
            want("%d bytes" % size, s.post(body)[2] == body, True)
            want("%d bytes, plain" % size, s.plain(body) == body, True)
            want("%d bytes in pieces" % size, s.post(iter([body[:16000], body[16000:]]))[2] == body, True)
    with Server(zpipe, d, "yes | tr y x", "--http", "127.0.0.1:0") as s:
        status, _, body = s.post(b"")
        want("an answer without end", (status, b"256 MiB" in body), (504, True))
        want("afterwards", s.post(b"")[0], 504)


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


def dribble(sockets, over):
    """A byte a second on each, so that none is ever idle."""
    while not over.wait(1):
        for one in sockets:
            try:
                one.sendall(b"1")
            except OSError:
                pass


def stalled(zpipe, d):
    """More clients that never come to an end than there are places: others are served all the same."""
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2304, 2304))  # 128 places
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2304:
        return
    for kind, option, address in (("http", "--http", "127.0.0.1:0"), ("plain", "--listen", "tcp://127.0.0.1:0")):
        with Server(zpipe, d, "cat", option, address, preexec_fn=few) as s:
            over, sockets = threading.Event(), []
            for i in range(200):
                sockets.append(s.socket(kind))
                sockets[-1].sendall(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" if i % 2 else b"PO")
            thread = threading.Thread(target=dribble, args=(sockets, over))
            thread.start()
            try:
                want(kind, s.post(b"x")[2] if kind == "http" else s.plain(b"x"), b"x")
            finally:
                over.set()
                thread.join()
                for one in sockets:
                    one.close()
        want("end", s.status, 0)


def descriptors(s):
    return len(os.listdir("/proc/%d/fd" % s.p.pid))


def crowd(zpipe, d):
    """Many times more connections than places, that say nothing or half of something, and clients that take no answer; then all are
    gone, and nothing of them is left."""
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2304, 2304))  # 128 places
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2304:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for kind, option in (("http", "--http"), ("plain", "--listen")):
        with Server(zpipe, d, "sh -c 'cat; seq 200000'", option, "127.0.0.1:0" if kind == "http" else "tcp://127.0.0.1:0", preexec_fn=few) as s:
            ask = lambda: (s.post(b"x")[2] if kind == "http" else s.plain(b"x"))[:1]
            want("alone", ask(), b"x")
            before, sockets = descriptors(s), []
            for i in range(900):
                c = s.socket(kind)
                sockets.append(c)
                if i % 9 == 0:  # a whole request, whose answer is not taken
                    c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx" if kind == "http" else b"x")
                    c.shutdown(socket.SHUT_WR)
                elif i % 3:
                    c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + b"y" * (i * 40))
                if i % 60 == 59:
                    want("among %d" % i, ask(), b"x")
            for c in sockets:
                c.close()
            want("afterwards", ask(), b"x")
            until("nothing is left of them", lambda: descriptors(s) <= before + 2, TIMEOUT)
            for c in [s.socket(kind) for _ in range(30)]:
                c.sendall(b"POST /")
        want("end", s.status, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def few_files(zpipe, d):
    """A low limit is raised; one that cannot be raised is told of."""
    with Server(zpipe, d, "cat", "--http", "127.0.0.1:0", preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))) as s:
        sockets = [s.socket("http") for _ in range(100)]
        for c in sockets:
            c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        want("with 64", s.post(b"x")[2], b"x")
        for c in sockets:
            c.close()
    want("end", s.status, 0)
    p = subprocess.run([zpipe, "serve", "cat", "--http", "127.0.0.1:0"], cwd=d, capture_output=True, text=True, timeout=TIMEOUT,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    want("at most 64", (p.returncode, "open files" in p.stderr, p.stderr.count("\n")), (125, True, 1))


def ended(zpipe, d):
    """A signal: what runs is answered, whoever comes later is not served.  A second one: it ends at once."""
    work = "echo begun >&2; n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done; cat"
    with Server(zpipe, d, work, "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0") as s:
        half, c, l = s.socket("http"), s.socket("http"), s.socket("plain")
        half.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
        c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nanswer")
        l.sendall(b"answer")
        l.shutdown(socket.SHUT_WR)
        for _ in range(2):
            want("stderr", s.p.stderr.readline(), b"begun\n")
        s.p.terminate()
        r = http.client.HTTPResponse(c)
        r.begin()
        want("what ran", (r.status, r.read()), (200, b"answer"))
        want("what ran", l.recv(100), b"answer")
        want("the end", s.p.wait(TIMEOUT), 0)
    endless = "echo begun >&2; while :; do :; done"
    with Server(zpipe, d, endless, "--http", "127.0.0.1:0", "--with", "timeout=1000s") as s:
        c = s.socket("http")
        c.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        want("stderr", s.p.stderr.readline(), b"begun\n")
        s.p.terminate()
        try:  # it listens no more, so the first signal was taken; the second is sent on leaving
            while True:
                s.socket("http").close()
        except OSError:
            pass
    want("end", s.status, 0)


def busy(s):
    """Programs at work: those called `sh` below the server that run, while templates stand still."""
    below, all_of = [s.p.pid], []
    while below:
        pid = below.pop()
        try:
            below += children(pid)
            all_of += [pid] * open("/proc/%d/stat" % pid).read().split(" ", 1)[1].startswith("(sh) R")
        except OSError:
            pass
    return all_of


def left(zpipe, d):
    """A client that is gone takes its job along; one that has only ended its side is answered."""
    work = "sh -c 'read x; echo begun >&2; while [ $x = endless ]; do :; done; echo $x'"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    reset = lambda c: c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    path = os.path.join(d, "left")
    for kind, listen in (("http", None), ("plain", "unix://" + path), ("plain", "tcp://127.0.0.1:0")):
        options = ("--http", "127.0.0.1:0") if kind == "http" else ("--listen", listen)
        with Server(zpipe, d, work, *options, "--with", "timeout=1000s") as s:
            for how in ("closed", "half", "reset", "half") * 2:
                if listen and listen.startswith(("tcp", "unix")[how == "reset"]) and how in ("closed", "reset"):
                    continue  # by TCP its end is that of the input; a unix socket is not reset
                body = b"endless\n" if how != "half" else b"some\n"
                c = s.socket(kind)
                c.sendall(head % (len(body), body) if kind == "http" else body)
                if kind == "plain" or how == "half":
                    c.shutdown(socket.SHUT_WR)
                want("stderr", s.p.stderr.readline(), b"begun\n")
                if how == "half":
                    got = b""
                    while data := c.recv(65536):
                        got += data
                    want(how, got[-5:], b"some\n")
                elif how == "reset":
                    reset(c)
                c.close()
                until("%s %s: its program is gone" % (kind, how), lambda: not busy(s) or how == "half", TIMEOUT)
            want("afterwards", s.plain(b"y\n") if kind == "plain" else s.post(b"y\n")[2], b"y\n")
        want("end", s.status, 0)


def lies(zpipe, d):
    """Odd requests get an answer or a closed connection, and cost nobody else."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    with Server(zpipe, d, "cat", "--http", "127.0.0.1:0") as s, s.socket("http") as stalls:
        stalls.sendall(head + b"Content-Length: 10\r\n\r\nhalf")
        for what, sent, answers in (
                ("pipelined", (head + b"Content-Length: 1\r\n\r\na" + head + b"Content-Length: 1\r\n\r\nb") * 3, [b"200"] * 6),
                ("more than it said", head + b"Content-Length: 1\r\n\r\nabc\r\n\r\n", [b"200"]),
                ("chunks", head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", [b"200"]),
                ("bad chunks", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", [b"400"]),
                ("no number", head + b"Content-Length: abc\r\n\r\n", [b"400"]),
                ("below zero", head + b"Content-Length: -5\r\n\r\n", [b"400"]),
                ("too great a number", head + b"Content-Length: 99999999999999999999999\r\n\r\n", [b"413"]),
                ("two lengths", head + b"Content-Length: 1\r\nContent-Length: 5\r\n\r\nabcde", [b"400"]),
                ("a length and chunks", head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [b"400"]),
                ("a name with a space", head + b"Content-Length : 3\r\n\r\nabc", [b"400"]),
                ("another encoding", head + b"Transfer-Encoding: xchunked\r\n\r\nabc", [b"501"]),
                ("a large header", head + b"X: " + b"y" * 100000 + b"\r\n\r\n", [b"431"]),
                ("many headers", head + b"X: y\r\n" * 20000 + b"\r\n", [b"431"]),
                ("HEAD", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", [b"405"]),
                ("PUT", b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", [b"405"]),
                ("no protocol", b"hello\r\n\r\n", [b"400"])):
            with s.socket("http") as c:
                got = b""
                try:
                    c.sendall(sent)
                    c.shutdown(socket.SHUT_WR)
                    while data := c.recv(65536):
                        got += data
                except OSError:
                    pass  # it did not want to hear all of it
            if got or what not in ("a large header", "many headers", "no protocol"):
                want(what, [a for a in re.findall(rb"HTTP/1.[01] (\d+)", got) if a != b"100"][:len(answers)], answers)
            want("after " + what, s.post(b"fine")[2], b"fine")


def handlers(zpipe, d):
    """One that never reads, one that ends at once, one that writes more than is taken: large bodies, and nobody waits for them."""
    body = b"x" * (8 << 20)
    for text, status, size in (("true", 200, 0), ("sh -c 'exit 3'", 200, 0), ("head -c 1", 200, 1), ("seq 400000", 200, 2688895)):
        with Server(zpipe, d, text, "--http", "127.0.0.1:0") as s:
            for _ in range(3):
                got = s.post(body)
                want(text, (got[0], len(got[2])), (status, size))


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
    tests = (http_good, http_status, http_wrong, http_limit, box_dies, sizes, many_at_once, plain_both, plain_name, plain_failed, stalled, crowd, few_files, ended, left, lies, handlers,
             refused)
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
