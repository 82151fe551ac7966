#!/usr/bin/env python3
"""kill -9 of what runs the sandboxes is nobody's end: no program takes it for the end of its input, and nothing is left of it.

    ends.py --bin DIR [--times N] [--seed N]

Jobs that have no end print nothing, whoever is killed; the others a beginning of what they print.  A kill that hit nothing does not count."""
import argparse, glob, http.client, os, random, select, signal, socket, subprocess, tempfile

from watch import until

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--times", type=int, default=3)
ap.add_argument("--seed", type=int, default=1)
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
chance = random.Random(args.seed)
TRIES = 20  # until a kill hits

# Their stdin is a pipe that stays open.
ENDLESS = [
    "yes | wc -l",
    "yes | sort -u | cat",
    "yes | sh -c 'cat > /dev/null; echo wrong'",
    "wc -c",
    "tail -n 1 | cat",
    "with output=1GiB yes | wc -c",
    "with output=1GiB cat | wc -c",
    "sh -c 'yes | wc -l'",
    "sh -c 'while cat /etc/passwd > /dev/null; do :; done; echo wrong'",
    "python3 -c 'import os\nwhile True: open(os.devnull).close()'",
]
# With a template that is cloned for each block.
CLONED = "map { awk '{ n += length($1) } END { print n, NR }' }"


def text_of(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def below(pid):
    """All processes there, each with when it began."""
    found = {}
    for t in glob.glob("/proc/%d/task/*/children" % pid):
        for c in map(int, text_of(t).split()):
            found[c] = text_of("/proc/%d/stat" % c).rpartition(")")[2].split()[19:20]
            found.update(below(c))
    return found


def boxes(pid):
    return [c for t in glob.glob("/proc/%d/task/*/children" % pid) for c in map(int, text_of(t).split())
            if text_of("/proc/%d/comm" % c) == "zpipe-box\n"]


def at_work(pid):
    """Does a program run?  It is in a pid namespace of its own in the zygote's."""
    return any(text_of("/proc/%d/comm" % p)[:6] not in ("zpipe-", "") and len(words(p)) > 2 for p in below(pid))


def cloned(pid):
    """Does a clone stand or run?  Its pid namespace lies in its template's."""
    return any(len(words(p)) > 3 for p in below(pid))


def words(pid):
    return next((l.split()[1:] for l in text_of("/proc/%d/status" % pid).splitlines() if l.startswith("NSpid:")), [])


def is_gone(pid, began):
    stat = text_of("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return not stat or stat[19:20] != began or stat[0] in "ZX"


def kill(pid):
    """False: there is none any more."""
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


class Job:
    def __init__(self, d, text, stdin, *options):
        self.out, self.err = (open(os.path.join(d, n), "w+b") for n in ("out", "err"))
        tmp = os.path.join(d, "tmp")
        self.p = subprocess.Popen([zpipe, *options, text], cwd=tmp, stdin=stdin, stdout=self.out, stderr=self.err, env={**os.environ, "TMPDIR": tmp})
        self.tmp = tmp

    def said(self):
        self.err.seek(0)
        return [l for l in self.err.read().decode().splitlines() if not l.startswith(("zpipe: ", "warn ", "info "))]

    def printed(self):
        self.out.seek(0)
        return self.out.read()

    def end(self):
        """kill -9, and nothing is left: neither processes nor files."""
        family = below(self.p.pid)
        hit = self.p.poll() is None
        self.p.kill()
        self.p.wait()
        until("all below it is gone", lambda: all(is_gone(p, began) for p, began in family.items()))
        assert os.listdir(self.tmp) == [], os.listdir(self.tmp)
        return hit


def pause():
    select.select([], [], [], chance.uniform(0, 0.03))  # what is injected, not a wait for something


def endless(d, text):
    """zpipe-box is killed at some moment, and zpipe at another."""
    hits = tries = 0
    while hits < args.times:
        tries += 1
        assert tries < TRIES * args.times, "no kill hit"
        r, w = os.pipe()
        os.write(w, b"a line\n" * 100)
        j = Job(d, text, r)
        os.close(r)
        until("a zpipe-box is there", lambda: j.p.poll() is not None or boxes(j.p.pid))
        if tries % 3:
            until("programs run", lambda: j.p.poll() is not None or at_work(j.p.pid))
        pause()
        hits += sum(kill(b) for b in boxes(j.p.pid))
        pause()
        hits += j.end()
        os.close(w)
        assert (j.printed(), j.said()) == (b"", []), (text, tries, j.printed()[:1000], j.said())


def with_templates(d):
    """As long as clones are there: zpipe-box, or zpipe itself.  What was printed is a beginning of what there is to print."""
    with open(os.path.join(d, "in"), "w") as f:
        f.writelines("%d\n" % i for i in range(1000000))
    whole = b""
    for victim in ("nobody", "zpipe-box", "zpipe") * args.times:
        for _ in range(TRIES):
            with open(os.path.join(d, "in")) as f:
                j = Job(d, CLONED, f, "-j", "2")
            hit = victim == "nobody"
            if not hit:
                until("clones are there", lambda: j.p.poll() is not None or cloned(j.p.pid))
                pause()
            if victim == "zpipe-box":
                stood = cloned(j.p.pid)
                hit = any([kill(b) for b in boxes(j.p.pid)]) and stood
            if victim == "zpipe":
                stood = cloned(j.p.pid)
                hit = j.end() and stood
            else:
                status = j.p.wait()
                hit = hit and (not status or victim == "zpipe-box")
                assert status in (0, 125) and (status == 0) <= (j.printed() == whole or not whole), (victim, status, j.said())
            j.end()
            if hit:
                break
        else:
            raise AssertionError("%s: no kill hit" % victim)
        whole = whole or j.printed()
        assert whole.startswith(j.printed()) and j.said() == [], (victim, len(whole), j.printed()[-100:], j.said())
    assert whole.count(b"\n") > 20, whole


def serving(d):
    """zpipe serve itself, with templates that stand idle."""
    tmp = os.path.join(d, "tmp")
    p = subprocess.Popen([zpipe, "serve", "sort", "--http", "127.0.0.1:0"], cwd=tmp, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": tmp})
    where = p.stdout.readline().decode().split()[2]

    def ask():
        c = http.client.HTTPConnection(where, timeout=60)
        c.request("POST", "/", b"b\na\n")
        assert c.getresponse().read() == b"a\nb\n"
        return cloned(p.pid)

    until("a clone stands", ask)
    family = below(p.pid)
    p.kill()
    p.wait()
    until("all below it is gone", lambda: all(is_gone(c, began) for c, began in family.items()))
    assert os.listdir(tmp) == [], os.listdir(tmp)


def a_group(d):
    """SIGTERM to zpipe's process group, as timeout(1) sends it, is zpipe's to answer: nothing below it ends before it, and nothing is said."""
    for text in ("yes | wc -c", "wc -c") * args.times:
        r, w = os.pipe()
        os.write(w, b"a line\n" * 100)
        err = os.path.join(d, "err")
        with open(err, "wb") as f:
            p = subprocess.Popen([zpipe, text], cwd=os.path.join(d, "tmp"), stdin=r, stdout=subprocess.DEVNULL, stderr=f, start_new_session=True)
        os.close(r)
        until("programs run", lambda: at_work(p.pid))
        os.kill(p.pid, signal.SIGSTOP)
        family = below(p.pid)
        os.killpg(p.pid, signal.SIGTERM)
        ended = [text_of("/proc/%d/comm" % pid) for pid, began in family.items() if is_gone(pid, began)]
        os.kill(p.pid, signal.SIGCONT)
        status = p.wait()
        os.close(w)
        assert (status, ended, text_of(err)) == (-signal.SIGTERM, [], ""), (text, status, ended, text_of(err))
        until("all below it is gone", lambda: all(is_gone(c, began) for c, began in family.items()))


def by_itself(d):
    """A zpipe-box that somebody else has started ends by SIGTERM."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    p = subprocess.Popen([zpipe + "-box", "--serve", str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    until("it serves", lambda: any(text_of("/proc/%d/comm" % c) == "zpipe-mounter\n" for c in below(p.pid)))
    family = below(p.pid)
    p.terminate()
    assert p.wait() == -signal.SIGTERM, p.returncode
    until("all below it is gone", lambda: all(is_gone(c, began) for c, began in family.items()))


def main():
    with tempfile.TemporaryDirectory(prefix="zpipe-ends-") as d:
        os.mkdir(os.path.join(d, "tmp"))
        for text in ENDLESS:
            endless(d, text)
            print("ok     %s" % text.replace("\n", "; "), flush=True)
        for f in (with_templates, serving, a_group, by_itself):
            f(d)
            print("ok     %s" % f.__name__, flush=True)


main()
