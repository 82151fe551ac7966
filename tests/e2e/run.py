#!/usr/bin/env python3
"""Runs table.test: every row by the reference shell and by zpipe, in equal fresh directories, and compares
stdout, status, stderr and the files left behind.

    run.py --bin DIR [--cluster] [--user NAME] [ROW...]

--cluster: over one scheduler and two workers on loopback, neighbours on different workers.
--user: as that user (only root can)."""
import argparse, json, os, pwd, re, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60


def rows(path):
    name, flags, lines = None, [], []
    for line in open(path):
        if line.startswith("== "):
            if name:
                yield name, flags, "".join(lines).strip("\n")
            name, *flags = line[3:].split()
            lines = []
        elif name:
            lines.append(line)
    yield name, flags, "".join(lines).strip("\n")


def make_files(d):
    def put(name, data, mode=0o644):
        path = os.path.join(d, name)
        with open(path, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        os.chmod(path, mode)
    words = ["fox", "the", "ax", "box", "lazy", "dog", "x", "over", "fox", "the", "quick", "jumps", "fix", "the"]
    put("words.txt", "".join(w + "\n" for w in words))
    put("a.txt", "The quick brown fox\njumps over the lazy dog\nalpha\nbeta\n\na b c\n}\nzeta\n")
    put("b.txt", "The end\nalpha\ngamma\nzeta\n")
    put("t.tsv", "".join("k%d\tv%d\tw %d\n" % (i, i * 7 % 5, i) for i in range(1, 8)))
    put("u.tsv", "".join("k%d %d\n" % (i, i * i) for i in range(1, 8, 2)))
    put("big.txt", "".join("%d line %d\n" % (i * 7919 % 100003, i) for i in range(40000)))
    put("nul.bin", bytes(range(256)) * 40 + b"\0\0\0end")
    put("empty.txt", "")
    put("nonl.txt", "z\nb\na")
    put("long.txt", b"x" * 10_000_000 + b"\n" + b"a" * 100)
    put("pairs.txt", "a b\nb c\na d\n")
    put("two words.txt", "two words\n")
    put("s.sed", "s/the/THE/\n2d\n")
    put("p.awk", "{ n[$2]++ } END { for (k in n) print k, n[k] | \"sort\" }\n")
    put("parse.py", "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin:\n    print(sys.argv[1:], line.strip().upper())\n", 0o755)
    put("up.sh", "#!/bin/sh\ntr a-z A-Z\n", 0o755)
    os.mkdir(os.path.join(d, "logs"))
    for i in range(3):
        put("logs/%d.txt" % i, "one\ntwo words %d\nthree\n" % i)
    for root, dirs, files in os.walk(d):
        for n in dirs + files:
            os.utime(os.path.join(root, n), (946684800, 946684800))


def snapshot(d):
    found = {}
    for root, dirs, files in os.walk(d):
        for n in files:
            p = os.path.join(root, n)
            found[os.path.relpath(p, d)] = open(p, "rb").read()
    return found


def run(argv, d, flags, env, demote):
    stdin = subprocess.DEVNULL
    feeder = None
    for f in flags:
        if f.startswith("stdin=|"):
            feeder = subprocess.Popen(["cat", os.path.join(d, f[7:])], stdout=subprocess.PIPE)
            stdin = feeder.stdout
        elif f.startswith("stdin="):
            stdin = open(os.path.join(d, f[6:]), "rb")
    p = subprocess.Popen(argv, cwd=d, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                         preexec_fn=demote, start_new_session=True)
    if feeder:
        feeder.stdout.close()
    try:
        out, err = p.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        out, err = p.communicate()
        err += b"(timed out)"
        p.returncode = 999
    if feeder:
        feeder.wait()
    status = p.returncode if p.returncode >= 0 else 128 - p.returncode
    return out, status, sorted(l for l in err.split(b"\n") if l)


def reference(text):
    shell = "bash" if re.search(r"<\(|>\(|<<<|\|&|\$'", text) else "sh"
    return ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C", "TZ=UTC", shell, "-c", text]


def same_stderr(ref, got, shell_speaks):
    if shell_speaks:
        return bool(ref) == bool(got)
    strip = lambda ls: sorted(re.sub(rb"^(sh|bash): (line )?\d+: ", b"sh: ", l) for l in ls)
    return strip(ref) == strip(got)


class Cluster:
    def __init__(self, zpipe, demote, d):
        self.keys = os.path.join(d, "keys")
        self.started = []
        subprocess.run([zpipe, "keygen", "--dir", self.keys], check=True, preexec_fn=demote)
        url = self.start([zpipe, "scheduler", "--keys", self.keys, "--listen", "tcp://127.0.0.1:*", "--state",
                          os.path.join(d, "state")], demote)
        for i in range(2):
            self.start([zpipe, "worker", "--keys", self.keys, "--scheduler", url, "--slots", "16", "--name", "w%d" % i],
                       demote)
        self.env = {"ZPIPE_CLUSTER": url, "ZPIPE_KEYS": self.keys}

    def start(self, argv, demote):
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, preexec_fn=demote, start_new_session=True)
        self.started.append(p)
        line = p.stdout.readline().decode().split()
        if len(line) != 2 or line[0] != "ready":
            raise SystemExit("cannot start " + " ".join(argv))
        return line[1]

    def stop(self):
        for p in reversed(self.started):
            p.terminate()
            p.wait(timeout=20)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--cluster", action="store_true")
    ap.add_argument("--user")
    ap.add_argument("row", nargs="*")
    a = ap.parse_args()
    zpipe = os.path.join(os.path.abspath(a.bin), "zpipe")
    demote, owner = None, None
    if a.user:
        if os.geteuid() != 0:
            print("skipped: only root can become another user\n0 passed, 0 failed, 1 skipped")
            return 0
        owner = pwd.getpwnam(a.user)

        def demote():
            os.setgroups([])
            os.setgid(owner.pw_gid)
            os.setuid(owner.pw_uid)
    work = tempfile.mkdtemp(prefix="zpipe-e2e-")
    os.chmod(work, 0o755)
    if owner:
        os.chown(work, owner.pw_uid, owner.pw_gid)
        # The build tree may lie where that user cannot go.
        shutil.copytree(a.bin, os.path.join(work, "bin"))
        zpipe = os.path.join(work, "bin", "zpipe")
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    cluster = Cluster(zpipe, demote, work) if a.cluster else None
    if cluster:
        env.update(cluster.env)
    passed = failed = skipped = opaque_rows = 0
    for name, flags, text in rows(os.path.join(HERE, "table.test")):
        if a.row and name not in a.row:
            continue
        if cluster and any(f.startswith("local") for f in flags):
            print("skip   %-24s not in a cluster yet" % name)
            skipped += 1
            continue
        results = []
        argv = [zpipe] + (["--placement", "spread"] if cluster else []) + [text]
        for kind, command in (("ref", reference(text)), ("got", argv)):
            d = os.path.join(work, kind)
            os.mkdir(d)
            make_files(d)
            if owner:
                for root, dirs, files in os.walk(d):
                    for n in [root] + [os.path.join(root, x) for x in dirs + files]:
                        os.chown(n, owner.pw_uid, owner.pw_gid)
            results.append(run(command, d, flags, env, demote) + (snapshot(d),))
            if kind == "got":
                plan = subprocess.run([zpipe, "plan", "--json", text], cwd=d, env=env, stdin=subprocess.DEVNULL,
                                      capture_output=True, preexec_fn=demote)
                opaque = plan.returncode == 0 and any(s["class"] == "opaque" for s in json.loads(plan.stdout)["stages"])
            shutil.rmtree(d)
        ref, got = results
        wrong = [w for w, bad in (("stdout", ref[0] != got[0]), ("status", ref[1] != got[1]),
                                  ("stderr", not same_stderr(ref[2], got[2], "stderr=any" in flags)),
                                  ("files", ref[3] != got[3])) if bad]
        opaque_rows += opaque
        if wrong:
            failed += 1
            print("FAIL   %-24s %s: %s" % (name, "opaque" if opaque else "staged", ", ".join(wrong)))
            print("       reference: status %d stdout %r stderr %r" % (ref[1], ref[0][:200], ref[2][:4]))
            print("       zpipe:     status %d stdout %r stderr %r" % (got[1], got[0][:200], got[2][:4]))
            if ref[3] != got[3]:
                print("       files: %s" % sorted(set(ref[3].items()) ^ set(got[3].items()))[:2].__repr__()[:300])
        else:
            passed += 1
            print("ok     %-24s %s" % (name, "opaque" if opaque else "staged"))
        sys.stdout.flush()
    if cluster:
        cluster.stop()
    shutil.rmtree(work)
    print("%d of these rows ran opaque" % opaque_rows)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


sys.exit(main())
