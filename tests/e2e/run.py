#!/usr/bin/env python3
"""Runs table.test, edges.test, differences.test, words.test and language.test: every row by the reference shell and by zpipe, in equal
fresh directories, and compares stdout, status, stderr and the files left behind, with their modes.  table.test says the formats.

    run.py --bin DIR [--cluster] [--user NAME|UID] [--table FILE | --random COUNT | --edges COUNT] [--seed N] [ROW...]

--cluster: over one scheduler and two workers on loopback, neighbours on different workers; --slots: of each.
--hosts: the same over hosts of their own, network namespaces: the scheduler on one, each worker on one, the client on one.
--split: as the option of zpipe, to run small inputs in blocks.
--user: as that user (only root can); a number needs no entry in the password file.
--random: rows that generate.py makes, instead of a table's; --edges: job files whose pipelines part and meet again."""
import argparse, ctypes, generate, os, pwd, re, shutil, signal, stat, subprocess, sys, tempfile, threading

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60
SKIPPED = 77


class Row:
    def __init__(self, name, flags, lines):
        self.name, self.flags = name, flags
        self.args = [f[4:] for f in flags if f.startswith("arg=")]
        cut = next((i for i, l in enumerate(lines) if l.startswith("-- ")), len(lines))
        self.text = "".join(lines[:cut]).strip("\n")
        self.want = [l[3:].rstrip("\n").partition(" ")[::2] for l in lines[cut:] if l.startswith("-- ")]

    def flag(self, name):
        return next((f[len(name) + 1:] for f in self.flags if f.startswith(name + "=")), None)


def rows(path):
    head, lines = None, []
    for line in list(open(path)) + ["== "]:
        if line.startswith("== "):
            if head:
                yield Row(head[0], head[1:], lines)
            head, lines = line[3:].split(), []
        else:
            lines.append(line)


def make_files(d, owner):
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
    with open(os.path.join(d, "large.bin"), "wb") as f:
        f.truncate(17 << 20)
    put("pairs.txt", "a b\nb c\na d\n")
    put("two words.txt", "two words\n")
    put("-dash.txt", "dash\n")
    put("s.sed", "s/the/THE/\n2d\n")
    put("names.list", "a.txt\nb.txt\n")
    put("build.sh", '#!/bin/sh\n# small\nwc -l < b.txt\nfor i in 1 2; do echo $i > part.$i; done\nsort a.txt > sorted.txt\n', 0o755)
    put("names.sed", "w copy.txt\n$r b.txt\n")
    put("names.awk", "{ print > \"logs/\" NR } END { while ((getline l < \"b.txt\") > 0) print l > \"all.txt\" }\n")
    put("p.awk", "{ n[$2]++ } END { for (k in n) print k, n[k] | \"sort\" }\n")
    put("count.pl", "#!/usr/bin/perl\nmy %n; while (<>) { $n{$_}++ for split } print \"$_ $n{$_}\\n\" for sort keys %n;\n", 0o755)
    put("parse.py", "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin:\n    print(sys.argv[1:], line.strip().upper())\n", 0o755)
    put("up.sh", "#!/bin/sh\ntr a-z A-Z\n", 0o755)
    put("norun.sh", "#!/nosuch/interpreter\n", 0o755)
    put("crlf.sh", "#!/bin/sh\r\necho hi\r\n", 0o755)
    put("here.sh", "#!/bin/sh\nls\n", 0o755)
    put("patterns", "fox\ndog\n")
    os.mkdir(os.path.join(d, "logs"))
    for i in range(3):
        put("logs/%d.txt" % i, "one\ntwo words %d\nthree\n" % i)
    os.mkdir(os.path.join(d, "logs/deep"))
    put("logs/deep/d.log", "deep\nalpha\n")
    for root, dirs, files in os.walk(d):
        for n in [root] + [os.path.join(root, x) for x in dirs + files]:
            os.utime(n, (946684800, 946684800))
            if owner:
                os.chown(n, *owner)


LARGE = 1 << 20
LINKS = {"l.txt": "a.txt", "lines": "logs/deep", "logs/up.log": "../a.txt", "logs/none": "nothing", "logs/loop": "loop", "logs/far": "/far/off"}


def make_links(d, owner):
    for name in "hollow", "hollow/in":
        os.mkdir(os.path.join(d, name))
        if owner:
            os.chown(os.path.join(d, name), *owner)
    for name, to in LINKS.items():
        os.symlink(to, os.path.join(d, name))
        if owner:
            os.lchown(os.path.join(d, name), *owner)


def is_linked(d, name, text):
    """Files that are large are linked, not copied, where the text does not name them."""
    return os.path.getsize(os.path.join(d, name)) > LARGE and name.partition(".")[0] not in text


def place_files(fixture, d, text, owner):
    for root, dirs, files in os.walk(fixture):
        to = os.path.join(d, os.path.relpath(root, fixture))
        for n in dirs:
            os.mkdir(os.path.join(to, n))
        for n in files:
            path, name = os.path.join(root, n), os.path.join(to, n)
            if is_linked(root, n, text):
                os.link(path, name)
                continue
            shutil.copy2(path, name)
            if owner:
                os.chown(name, *owner)
    for root, _, _ in os.walk(d):
        os.utime(root, (946684800, 946684800))
        if owner:
            os.chown(root, *owner)


def snapshot(d):
    found = {}
    for root, dirs, files in os.walk(d):
        for n in dirs + files:
            p = os.path.join(root, n)
            s = os.lstat(p)
            linked = s.st_nlink > 1 and s.st_size > LARGE and stat.S_ISREG(s.st_mode)
            data = os.readlink(p).encode() if stat.S_ISLNK(s.st_mode) else b"as it was" if linked else open(p, "rb").read() if stat.S_ISREG(s.st_mode) else b""
            found[os.path.relpath(p, d)] = (oct(s.st_mode), data)
    return found


class Directory:
    """Where rows run: the fixture's files at one path.  Most rows change nothing there; it is made anew after those that did."""
    def __init__(self, fixture, path, owner):
        self.fixture, self.path, self.owner = fixture, path, owner
        self.kind = self.marks = self.files = None

    def place(self, text, links):
        kind = links, [n for n in sorted(os.listdir(self.fixture)) if is_linked(self.fixture, n, text)]
        if kind == self.kind and self.marks == self.now():
            return
        if self.kind:
            shutil.rmtree(self.path)
        os.mkdir(self.path)
        place_files(self.fixture, self.path, text, self.owner)
        if links:
            make_links(self.path, self.owner)
        self.kind, self.marks, self.files = kind, self.now(), None

    def now(self):
        """Of each entry that it is the one that was there, and when it was changed."""
        entries = [self.path] + [os.path.join(root, n) for root, dirs, files in os.walk(self.path) for n in dirs + files]
        return {p: (s.st_ino, s.st_ctime_ns, s.st_mtime_ns, s.st_size) for p, s in ((p, os.lstat(p)) for p in entries)}

    def found(self):
        changed = self.marks != self.now()
        if changed or not self.files:
            files = snapshot(self.path)
            self.files = None if changed else files
            return files
        return self.files


def run(argv, d, row, env, demote, beside=None):
    """stdout, status as sh would have it, stderr's lines.  beside: what else is done meanwhile, with the process."""
    feeder = None
    name = row.flag("stdin") or "/dev/null"
    if name.startswith("|"):
        feeder = subprocess.Popen(["cat", os.path.join(d, name[1:])], stdout=subprocess.PIPE)
        stdin = feeder.stdout
    else:
        stdin = open(os.path.join(d, name), "rb")
    closed = row.flag("close")

    def before():
        demote()
        if closed:
            os.close(int(closed))
    p = subprocess.Popen(argv, cwd=d, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                         preexec_fn=before, start_new_session=True)
    stdin.close()
    if beside:
        threading.Thread(target=beside, args=(p,), daemon=True).start()
    try:
        out, err = p.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        out, err = p.communicate()
        return out, "none in %d s" % TIMEOUT, err.split(b"\n")
    finally:
        if feeder:
            feeder.wait()
    status = p.returncode if p.returncode >= 0 else 128 - p.returncode
    return out, status, [l for l in err.split(b"\n") if l]


def reference(text, *args):
    text = re.sub(r"(?m)^(\w+) = (.*)$", r"\1() { \2; }", text)  # a named pipeline is a function, to a shell
    bare = re.sub(r"""\\.|(?<![$'])'[^']*'|"[^"$`]*\"""", "", text, flags=re.S)  # what is in quotes is no sign of bash
    shell = "bash" if re.search(r"<\(|>\(|<<<|\|&|(?<!\$)\$'", bare) else "sh"
    return ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C", "TZ=UTC", *args, shell, "-c", text]


def per_stage(lines):
    """Lines of different programs mix in any order, those of one stay in theirs: a list per program."""
    stages = {}
    for line in lines:
        line = re.sub(rb"^(sh|bash): (line )?\d+: ", b"sh: ", line)
        stages.setdefault(line.partition(b":")[0], []).append(line)
    return stages


def compare(row, ref, got):
    """What is wrong, as words."""
    words, remark = row.flag("stderr"), row.flag("sh-says")
    if words:
        same = all(words.encode() in b"\n".join(err) for err in (ref[2], got[2]))
    else:
        theirs = [l for l in ref[2] if not remark or l != remark.replace("-", " ").encode()]
        same = per_stage(theirs) == per_stage(got[2]) and not (remark and theirs == ref[2])
    return [w for w, bad in (("stdout", ref[0] != got[0]), ("status", ref[1] != got[1]), ("stderr", not same),
                             ("files", ref[3] != got[3])) if bad]


def wrote_early(text):
    """Some other stage than the last writes a file: what it has written there when its reader leaves is a matter of time, in sh too."""
    return re.search(r"(tee (?!/dev/null)|>).*\|", text, re.S)


def expect(row, ref, got):
    """A row of differences: as it says, and not as the reference."""
    wrong, stdout = [], b""
    for what, value in row.want:
        if what == "status" and got[1] != int(value):
            wrong.append("status")
        elif what == "stdout":
            stdout += value.encode() + b"\n"
        elif what == "stderr" and value.encode() not in b"\n".join(got[2]):
            wrong.append("stderr without '%s'" % value)
        elif what == "file" and got[3].get(value.partition(" ")[0], ("", b""))[1].decode() != value.partition(" ")[2].replace("\\n", "\n"):
            wrong.append("file " + value)
        elif what == "no-file" and value in got[3]:
            wrong.append("file %s is there" % value)
    if not any(what == "any-stdout" for what, _ in row.want) and got[0] != stdout:
        wrong.append("stdout")
    if not wrong and "host" not in row.flags and not compare(row, ref, got):
        wrong.append("no difference: the reference does the same")
    return wrong


class Hosts:
    """Network namespaces, as long as this process lives."""
    def __init__(self, count):
        script = os.path.join(HERE, "..", "lib", "hosts.sh")
        self.process = subprocess.Popen(["sh", script, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        word, *self.holder = self.process.stdout.readline().decode().split()
        if word != "ready":
            print(word, *self.holder, "\n0 passed, 0 failed, 1 skipped")
            sys.exit(SKIPPED)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Cluster:
    def __init__(self, zpipe, demote, d, workers=2, slots=16, talk=True, hosts=None,
                 options=()):
        self.zpipe, self.demote, self.d, self.started, self.hosts = zpipe, demote, d, [], hosts
        keys = os.path.join(d, "keys")
        subprocess.run([zpipe, "keygen", "--dir", keys], check=True, preexec_fn=demote, stdout=subprocess.DEVNULL)
        url = self.start("scheduler", "--keys", keys, "--listen", self.address(1), "--state", os.path.join(d, "state"))
        for i in range(workers):
            self.start("worker", "--keys", keys, "--scheduler", url, "--slots", str(slots), "--name", "w%d" % (i + 1), "--image", "tests",
                       "--data-listen", self.address(2 + i), *(["-v", "-v"] if talk else []), *options)
        self.env = {"ZPIPE_CLUSTER": url, "ZPIPE_KEYS": keys}

    def address(self, host):
        return "tcp://10.99.0.%d:*" % host if self.hosts else "tcp://127.0.0.1:*"

    def at(self, host):
        """What runs a command there: the scheduler is on 1, workers follow, the last is the client's."""
        return ["nsenter", "-t", self.hosts.holder[host - 1], "-n", "--"] if self.hosts else []

    def start(self, *argv):
        def before():
            self.demote()
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: this program may be killed
        said = os.path.join(self.d, "log%d" % len(self.started))
        where = self.at(1 + len(self.started))
        p = subprocess.Popen([*where, self.zpipe, *argv], stdout=subprocess.PIPE, stderr=open(said, "wb"), preexec_fn=before,
                             start_new_session=True)
        p.said = said
        self.started.append(p)
        line = p.stdout.readline().decode().split()
        if len(line) != 2 or line[0] != "ready":
            raise SystemExit("cannot start " + " ".join(argv))
        return line[1]

    def log(self, worker):
        return open(os.path.join(self.d, "log%d" % worker), "rb").read()

    def heard(self, message):
        """How often each worker was sent it."""
        return [len(re.findall(rb"(?m)^debug in \S+ link=\d+ %s " % message.encode(), self.log(i)))
                for i in range(1, len(self.started))]

    def stop(self):
        """False if a daemon did not end by itself, with status 0."""
        good = True
        for p in reversed(self.started):
            p.terminate()
            try:
                status = p.wait(timeout=20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                status = "none within 20 s"
            if status != 0:
                good = False
                said = [line for line in open(p.said, errors="replace") if not line.startswith("debug")]
                print("%s: status %s; at its end it said\n%s" % (" ".join(p.args[p.args.index(self.zpipe):][:2]), status, "".join(said[-120:])))
        return good


class Table:
    def __init__(self, a, work, owner):
        self.a, self.work, self.owner = a, work, owner
        self.zpipe = os.path.join(os.path.abspath(a.bin), "zpipe")
        if owner:
            # The build tree may lie where that user cannot go.
            os.chown(work, *owner)
            shutil.copytree(a.bin, os.path.join(work, "bin"))
            self.zpipe = os.path.join(work, "bin", "zpipe")
        self.fixture = os.path.join(work, "fixture")
        os.mkdir(self.fixture)
        make_files(self.fixture, owner)
        self.directory = Directory(self.fixture, os.path.join(work, "dir"), owner)
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
        self.env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        self.hosts = Hosts(4) if a.hosts else None
        self.cluster = Cluster(self.zpipe, self.demote, work, hosts=self.hosts, slots=a.slots) if a.cluster else None
        if self.cluster:
            self.env.update(self.cluster.env)
        self.passed = self.failed = self.skipped = 0

    def demote(self):
        if self.owner:
            for fd in (0, 1, 2):  # or /dev/stderr could not be opened by its name
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    os.fchown(fd, *self.owner)
            os.setgroups([])
            os.setgid(self.owner[1])
            os.setuid(self.owner[0])

    def once(self, row, argv, beside=None):
        self.directory.place(row.text, "links" in row.flags)
        return run(argv, self.directory.path, row, self.env, self.demote, beside) + (self.directory.found(),)

    def argv(self, row, *options):
        at = self.cluster.at(4) if self.hosts else []
        split = ["--split", self.a.split] if self.a.split else []
        if "job" not in row.flags:
            return [*at, self.zpipe, *options, *split, row.text, *row.args]
        path = os.path.join(self.work, "job.zp")
        with open(path, "w") as f:
            f.write(row.text + "\n")
        return [*at, self.zpipe, "run", *options, *split, path, *row.args]

    def row(self, row):
        reason = self.a.cluster and row.flag("local")
        if reason:
            self.skipped += 1
            return print("skip   %-28s %s" % (row.name, reason))
        ref = self.once(row, reference(row.text, *row.args))
        spread = ["--placement", "spread"] if self.cluster else []
        argv = self.argv(row, *spread)
        got = self.once(row, argv)
        wrong = (expect if row.want else compare)(row, ref, got)
        if wrong and (self.a.random or self.a.edges) and any(compare(row, ref, self.once(row, reference(row.text))) for _ in range(9)):
            self.skipped += 1
            return print("skip   %-28s the reference is not the same each time" % row.name)
        if "files" in wrong and set(wrong) <= {"files", "stderr"} and self.a.random and wrote_early(row.text) and any(not compare(row, ref, self.once(row, argv)) for _ in range(9)):
            self.skipped += 1
            return print("skip   %-28s its reader left a stage that writes a file" % row.name)
        if not wrong:
            self.passed += 1
            return print("ok     %s" % row.name, flush=True)
        self.failed += 1
        print("FAIL   %-28s %s" % (row.name, ", ".join(wrong)))
        for who, r in (("reference", ref), ("zpipe", got)):
            print("       %-10s status %s stdout %r stderr %r" % (who, r[1], r[0][:200], r[2][:6]))
        if ref[3] != got[3]:
            print("       files: %.600r" % sorted(set(ref[3].items()) ^ set(got[3].items())), flush=True)

    def end(self):
        if self.cluster:
            given = self.cluster.heard("RUN")
            print("the two workers were given %d and %d attempts" % tuple(given))
            if not self.cluster.stop() or (min(given) == 0 and not self.a.row):
                print("FAIL   the cluster: an idle worker, or a daemon that did not end well")
                self.failed += 1
            runs = self.cluster.heard("WORK")
            print("they did %d and %d runs for each other" % tuple(runs))
            if self.hosts and self.a.split and not sum(runs):
                print("FAIL   nothing was lent")
                self.failed += 1
        if self.hosts:
            self.hosts.end()


def owner_of(user):
    if user.isdigit():
        return int(user), int(user)
    found = pwd.getpwnam(user)
    return found.pw_uid, found.pw_gid


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bin", required=True)
    ap.add_argument("--cluster", action="store_true")
    ap.add_argument("--hosts", action="store_true")
    ap.add_argument("--slots", type=int, default=16)
    ap.add_argument("--user")
    ap.add_argument("--split")
    ap.add_argument("--table", action="append")
    ap.add_argument("--random", type=int)
    ap.add_argument("--edges", type=int)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("row", nargs="*")
    a = ap.parse_args()
    a.cluster |= a.hosts
    if a.user and os.geteuid() != 0:
        print("only root can become another user\n0 passed, 0 failed, 1 skipped")
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("mode: %s, as %s" % ("two workers" if a.cluster else "embedded", a.user or "uid %d" % os.geteuid()))
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="zpipe-e2e-") as work:
        os.chmod(work, 0o755)
        table = Table(a, work, owner_of(a.user) if a.user else None)
        try:
            paths = a.table or [os.path.join(HERE, n) for n in ("table.test", "edges.test", "differences.test", "words.test", "language.test")]
            made = generate.rows(Row, a.seed, a.random) if a.random else generate.edges(Row, a.seed, a.edges) if a.edges else (row for path in paths for row in rows(path))
            for row in made:
                if not a.row or row.name in a.row:
                    table.row(row)
        finally:
            table.end()
    print("%d passed, %d failed, %d skipped" % (table.passed, table.failed, table.skipped))
    return 1 if table.failed or not table.passed else 0


if __name__ == "__main__":
    sys.exit(main())
