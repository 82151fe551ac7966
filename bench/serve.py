#!/usr/bin/env python3
"""bench/serve.py ZPIPE: requests per second and their latency, of `zpipe serve` and of a server that starts the same handler by
fork and exec for each request, in the same run.

Prints a table and writes build/bench/serve.json.  REQUESTS and CLIENTS in the environment; this is no test."""
import http.server, json, os, re, signal, socket, socketserver, statistics, subprocess, sys, tempfile, time

zpipe = os.path.abspath(sys.argv[1])
REQUESTS, CLIENTS = int(os.environ.get("REQUESTS", 8000)), int(os.environ.get("CLIENTS", 4))
HANDLER = "import sys, json\nprint(json.dumps(sorted(json.load(sys.stdin))))\n"
HANDLERS = {"cat": ["cat"], "tr": ["tr", "a-z", "A-Z"], "python3": ["python3", "handler.py"]}
BODY = json.dumps(["b", "a", "c"]).encode()


class Forking(http.server.BaseHTTPRequestHandler):
    protocol_version, argv = "HTTP/1.1", None
    wbufsize = 1 << 16  # head and body in one packet: else the peer waits 40 ms for an acknowledgement

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        out = subprocess.run(self.argv, input=body, stdout=subprocess.PIPE).stdout
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *_):
        pass


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def ask(address, count, to):
    """One client: its requests one after another on a connection; times in microseconds and answers to `to`, a line each.  By hand,
    so that the server is what is measured."""
    host, port = address.rsplit(":", 1)
    request = b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (address.encode(), len(BODY), BODY)
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = []
    for _ in range(count):
        begin = time.perf_counter()
        s.sendall(request)
        got, size = b"", None
        while size is None or len(got) < size:
            more = s.recv(65536)
            if not more:
                raise EOFError("the server left: %r" % got)
            got += more
            head = got.find(b"\r\n\r\n")
            if size is None and head >= 0:
                size = head + 4 + int(re.search(rb"(?i)content-length: (\d+)", got[:head]).group(1))
        said.append(b"%d %s" % ((time.perf_counter() - begin) * 1e6, got[head + 4:].strip()))
    to.write(b"".join(line + b"\n" for line in said))
    to.close()


def crowd(address, clients, count):
    """Seconds, and the lines of all."""
    begin, readers = time.perf_counter(), []
    for _ in range(clients):
        r, w = os.pipe()
        if os.fork() == 0:
            try:
                ask(address, count, os.fdopen(w, "wb"))
                os._exit(0)
            except BaseException as e:  # of a fork: no way back into main()
                print(e, file=sys.stderr, flush=True)
                os._exit(1)
        os.close(w)
        readers.append(os.fdopen(r, "rb"))
    lines = [line for r in readers for line in r.read().splitlines()]
    wall = time.perf_counter() - begin
    for _ in readers:
        if os.wait()[1]:
            sys.exit("a client failed")
    return wall, lines


def measure(address, requests):
    crowd(address, 1, 20)
    wall, lines = crowd(address, CLIENTS, requests // CLIENTS)
    took = sorted(int(line.split(b" ", 1)[0]) / 1e3 for line in lines)
    return {"per_s": len(took) / wall, "p50_ms": statistics.median(took), "p99_ms": took[int(len(took) * .99)],
            "answers": {line.split(b" ", 1)[1] for line in lines}}


def serve_forking(argv):
    """The peer, in a process of its own: (pid, address)."""
    s = Threads(("127.0.0.1", 0), type("Handler", (Forking,), {"argv": argv}))
    pid = os.fork()
    if pid == 0:
        s.serve_forever()
    s.socket.close()
    return pid, "127.0.0.1:%d" % s.server_address[1]


def main():
    rows = []
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)
        open("handler.py", "w").write(HANDLER)
        for name, argv in HANDLERS.items():
            p = subprocess.Popen([zpipe, "serve", " ".join(argv), "--http", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
            requests = REQUESTS if name != "python3" else REQUESTS // 10
            mine = measure(p.stdout.readline().split()[2], requests)
            p.terminate()
            p.wait()
            pid, address = serve_forking(argv)
            theirs = measure(address, requests // 4)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if mine.pop("answers") != theirs.pop("answers"):
                sys.exit("%s: not the same bytes" % name)
            rows.append({"handler": name, "zpipe": mine, "fork": theirs, "ratio": mine["per_s"] / theirs["per_s"]})
            print("%-8s zpipe %6.0f/s p50 %6.2f ms p99 %6.2f ms   fork+exec %6.0f/s p50 %6.2f ms p99 %6.2f ms   %.2fx" % (
                name, *mine.values(), *theirs.values(), rows[-1]["ratio"]), flush=True)
    out = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "bench")
    os.makedirs(out, exist_ok=True)
    json.dump(rows, open(os.path.join(out, "serve.json"), "w"), indent=1)


main()
