#!/usr/bin/env python3
"""bench/serve.py ZPIPE: requests per second and their latency, of `zpipe serve` and of a server that starts the same handler by
fork and exec for each request, in the same run.

Prints a table and writes build/bench/serve.json.  REQUESTS and CLIENTS in the environment; this is no test."""
import concurrent.futures, http.client, http.server, json, os, socketserver, statistics, subprocess, sys, tempfile, threading, time

zpipe = os.path.abspath(sys.argv[1])
REQUESTS, CLIENTS = int(os.environ.get("REQUESTS", 400)), int(os.environ.get("CLIENTS", 4))
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


def client(address, count):
    c = http.client.HTTPConnection(address)
    took, answers = [], set()
    for _ in range(count):
        begin = time.perf_counter()
        c.request("POST", "/", BODY)
        answers.add(c.getresponse().read())
        took.append(time.perf_counter() - begin)
    return took, answers


def measure(address):
    client(address, 5)
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        parts = list(pool.map(lambda _: client(address, REQUESTS // CLIENTS), range(CLIENTS)))
    wall = time.perf_counter() - begin
    took = sorted(t for p in parts for t in p[0])
    return {"per_s": len(took) / wall, "p50_ms": 1000 * statistics.median(took), "p99_ms": 1000 * took[int(len(took) * .99)],
            "answers": set.union(*(p[1] for p in parts))}


def main():
    rows = []
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)
        open("handler.py", "w").write(HANDLER)
        for name, argv in HANDLERS.items():
            p = subprocess.Popen([zpipe, "serve", " ".join(argv), "--http", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
            mine = measure(p.stdout.readline().split()[2])
            p.terminate()
            p.wait()
            s = Threads(("127.0.0.1", 0), type("Handler", (Forking,), {"argv": argv}))
            threading.Thread(target=s.serve_forever, daemon=True).start()
            theirs = measure("127.0.0.1:%d" % s.server_address[1])
            s.shutdown()
            if mine.pop("answers") != theirs.pop("answers"):
                sys.exit("%s: not the same bytes" % name)
            rows.append({"handler": name, "zpipe": mine, "fork": theirs, "ratio": mine["per_s"] / theirs["per_s"]})
            print("%-8s zpipe %6.0f/s p50 %6.2f ms p99 %6.2f ms   fork+exec %6.0f/s p50 %6.2f ms p99 %6.2f ms   %.2fx" % (
                name, *mine.values(), *theirs.values(), rows[-1]["ratio"]), flush=True)
    out = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "bench")
    os.makedirs(out, exist_ok=True)
    json.dump(rows, open(os.path.join(out, "serve.json"), "w"), indent=1)


main()
