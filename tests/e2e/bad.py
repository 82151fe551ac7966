#!/usr/bin/env python3
"""Bad input, ends in bad moments, and the terminal: what the user gets.   bad.py --bin DIR [--user UID] [CASE...]"""
import argparse, concurrent.futures, glob, os, pty, re, resource, select, shutil, signal, subprocess, sys, tempfile, time

from watch import busy, processes_with, until

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--user", type=int)
ap.add_argument("case", nargs="*")
args = ap.parse_args()
zpipe = os.path.join(os.path.abspath(args.bin), "zpipe")
if args.user:
    if os.geteuid() != 0:
        print("only root can become another user\n0 passed, 0 failed, 1 skipped")
        sys.exit(77)
    programs = tempfile.mkdtemp(prefix="zpipe-e2e-bin-")
    shutil.copytree(args.bin, os.path.join(programs, "bin"))  # the build tree may lie where that user cannot go
    zpipe = os.path.join(programs, "bin", "zpipe")
    if os.fork():
        status = os.waitstatus_to_exitcode(os.wait()[1])
        shutil.rmtree(programs)
        sys.exit(status)
    os.chmod(programs, 0o755)
    os.setgroups([])
    os.setresgid(args.user, args.user, args.user)
    os.setresuid(args.user, args.user, args.user)
    os.environ["HOME"] = "/"
cases, long_ones = [], []


def case(f):
    cases.append(f)
    return f


def case_of_one_user(f):
    """Takes long, and nothing in it depends on who runs it: not tried again as somebody else."""
    return f if args.user else case(f)


def long_case(f):
    """Hundreds of sandboxes, and nothing that takes long by itself: runs where it is named, optimised."""
    long_ones.append(f)
    return f


class Skip(Exception):
    pass


def run(*argv, stdin=b"", timeout=60, **kw):
    if "stdin_fd" in kw:
        kw["stdin"] = kw.pop("stdin_fd")
    else:
        kw["input"] = stdin
    r = subprocess.run([zpipe, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
    return (r.returncode if r.returncode >= 0 else 128 - r.returncode), r.stdout, r.stderr.decode(errors="replace")


def mounts():
    return open("/proc/self/mountinfo").read()


@case
def unknown_command():
    status, out, err = run("nosuchcommand --x")
    assert status == 127 and "nosuchcommand" in err, (status, err)


@case
def unknown_command_that_is_outside():
    os.mkdir("bin")
    open("bin/mine", "w").write("#!/bin/sh\necho mine\n")
    os.chmod("bin/mine", 0o755)
    status, out, err = run("mine", env={**os.environ, "PATH": os.getcwd() + "/bin:" + os.environ["PATH"]})
    assert status == 127 and "--with " + os.getcwd() + "/bin/mine" in err, err


@case
def missing_file():
    status, out, err = run("sort nosuch.txt")
    assert status == 2 and "nosuch.txt" in err, (status, err)


@case
def missing_file_that_is_outside():
    open("hidden.txt", "w").write("x\n")
    status, out, err = run("python3 -c 'open(\"hid\" + \"den.txt\")' ; cat 'hidden'.txt.no || sort < /dev/null | cat - hidden.tx?")
    status, out, err = run("sh -c 'n=hidden; e=.txt; cat $n$e'")
    assert status != 0 and "--with 'hidden.txt'" in err, err


@case
def what_no_sandbox_has_is_told():
    r, w = os.pipe()
    status, out, err = run("sort /dev/fd/%d" % r, pass_fds=[r])
    assert status == 2 and "inside the quotes" in err and "--with" not in err, (status, err)
    status, out, err = run("sort <&%d" % r, pass_fds=[r])
    assert status == 2 and "Bad file descriptor" in err, (status, err)
    os.close(r)
    os.close(w)
    status, out, err = run("sort /proc/version")
    assert status == 2 and "zpipe '…' < /proc/version" in err and "--with" not in err, (status, err)
    with open("/proc/version") as f:
        assert run("wc -l", stdin_fd=f)[:2] == (0, b"1\n")


@case
def a_fifo_is_an_input_that_must_be_added():
    os.mkfifo("pipe")
    status, out, err = run("cat pipe")
    assert status == 1 and "--with 'pipe'" in err, (status, err)
    writer = subprocess.Popen(["sh", "-c", "echo came > pipe"])
    status, out, err = run("--with", "pipe", "cat pipe")
    assert (status, out) == (0, b"came\n"), (status, out, err)
    writer.wait()


@case
def a_working_directory_that_was_removed_is_told():
    os.mkdir("gone")
    status, out, err = run("echo x", cwd="gone", preexec_fn=lambda: os.rmdir("../gone"))
    assert status == 125 and err.count("\n") == 1 and "the working directory" in err and "cd" in err, (status, err)


@case
def what_may_not_be_read_fails_where_it_is_read():
    """Also where it might be changed, so that others would get a copy."""
    if os.geteuid() == 0:
        raise Skip("root may read everything")
    os.mkdir("d")
    for name in ("a", "secret", "d/a", "d/secret"):
        open(name, "w").write("a\n")
        os.chmod(name, 0 if "secret" in name else 0o644)
    for text in ("cat secret 2>/dev/null || echo failed", "for f in *; do test -f $f && cat $f; done", "find d -type f -exec cat {} +", "grep -s a secret a; echo $?",
                 "ls d | sed 's,^,d/,' | xargs cat", "find . -name a -exec sed -i s/a/b/ {} +; cat a d/a", "cp secret copy; ls"):
        want = subprocess.run(["sh", "-c", text], env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True)
        for name in "a", "d/a":
            open(name, "w").write("a\n")
        assert run(text) == (want.returncode, want.stdout, want.stderr.decode()), (text, run(text), want)


@case
def no_program_has_a_terminal():
    seen = on_terminal(["for i in 0 1 2; do test -t $i || echo none; done"], 3)
    assert seen.count(b"none\r\n") == 3, seen


@case
def files_have_the_mode_of_the_sandbox():
    run("echo x | tee by-tee > by-shell", preexec_fn=lambda: os.umask(0o002))
    run("seq 3 | tee alone > behind", preexec_fn=lambda: os.umask(0o002))
    assert [os.stat(f).st_mode & 0o777 for f in ("by-tee", "alone", "behind")] == [0o644, 0o644, 0o664]


@case
def each_wants_files():
    open("there.txt", "w").write("x\n")
    for names, bad, hint in ((["-x", "there.txt"], "-x", "./-NAME"), (["there.txt", "nosuch"], "nosuch", "must be there"), (["/tmp"], "/tmp", "must be there")):
        status, out, err = run("wc -c", ":::", *names)
        assert status == 125 and "`%s` is none" % bad in err and hint in err, (status, err)


@case
def syntax_error():
    status, out, err = run("cat a.log | | sort")
    assert status == 125 and "pipeline:1:13: error:" in err and "\n" + " " * 16 + "^" in err, err


@case
def a_carriage_return_is_refused():
    status, out, err = run("tr -d '\r' < a.log")
    assert status == 125 and "there is a carriage return here" in err and "$'\\r'" in err, err
    status, out, err = run("(" * 101 + "true" + ")" * 101)
    assert status == 125 and "more than 100 deep" in err, err
    assert run("printf 'a\\r\\n' | tr -d $'\\r'")[:2] == (0, b"a\n")


@case
def two_arguments():
    status, out, err = run("cat", "x y")
    assert status == 125 and "one pair of quotes" in err, err


@case
def killed():
    assert run("sh -c 'kill -9 $$'")[0] == 137
    assert run("sh -c 'kill -SEGV $$'")[0] == 139


@case
def parallel_words_are_refused_in_one_sentence():
    open("a.log", "w").write("x\n")
    text = "cat a.log | with out='x*' map { sort } merge { sort -m {} }"
    status, out, err = run(text)
    assert status == 125 and err.count("\n") == 1 and "`>`" in err, err
    status, out, err = run("plan", text)
    assert status == 0 and "blocks=1, merge tree 1→1".encode() in out, (out, err)


@case
def a_map_tells_once_which_files_it_dropped():
    lines = b"".join(b"%d\n" % i for i in range(200000))
    for text, names in (("map { sh -c 'cat > junk; echo x > more' }", "`junk`, `more`"), ("reduce by 1 { sh -c 'cat > junk' }", "`junk`")):
        status, out, err = run("--split", "always,64K", "cat | " + text, stdin=lines)
        assert status == 0 and err.count("left " + names) == err.count("\n") == 1 and "hole" in err, err
    status, out, err = run("map { sh -c 'cat > junk; exit 3' }", stdin=lines)
    assert status == 3 and "status 3" in err and "left `junk`" in err, err


@case
def blocks_that_keep_all_are_passed_on():
    lines = b"".join(b"%07d%992d\n" % (i % 35_000, 1) for i in range(40_000))
    with open("lines", "wb") as f:
        f.write(lines)
    for text, stdin in (("awk '!n[$0]++' lines", b""), ("awk '!n[$0]++'", lines), ("cat lines | awk '!n[$1]++' | cat", b"")):
        status, out, err = run("--joblog", "log", "-j", "2", text, stdin=stdin)
        assert (status, out == lines[:35_000_000]) == (0, True), (text, status, err)
        read = sum(int(l.split("\t")[4]) for l in open("log").read().splitlines()[1:] if "awk" in l and l.split("\t")[1] != ":")
        assert read < len(lines) * 3 // 4, (text, read)


@case
def blocks_that_leave_much_run_whole_or_are_large():
    """Most lines have a key of their own: what runs leave is most of what awk does."""
    lines = b"".join(b"%0100d %d %0100d\n" % (i * 7919 % 50_021, i, 1) for i in range(60_000))
    with open("lines", "wb") as f:
        f.write(lines)
    text = "awk '{ n[$1] += $2 } END { for (k in n) print k, n[k] }' lines | sort"
    want = subprocess.run(["sh", "-c", text], capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout
    for width in "2", "4":
        status, out, err = run("-v", "--joblog", "log", "-j", width, text)
        assert (status, out == want) == (0, True), (width, status, err)
        assert ("blocks leave much" in err) == (width == "2"), (width, err)


@case
def a_plan_of_records_counts_no_bytes():
    open("r.txt", "w").write("line\n" * 1000)
    for block, told in (("block=1", "per record)"), ("block=50", "per block, blocks<=100)")):
        status, out, err = run("plan", "cat r.txt | with %s { map { wc -l } }" % block)
        assert status == 0 and told.encode() in out, (out, err)


@case
def a_plan_knows_how_many_blocks_there_will_be():
    open("b.txt", "w").write("a line of 16 by\n" * 200000)
    status, out, err = run("cat b.txt | map { wc -l } | wc -l")
    assert status == 0 and run("plan", "cat b.txt | map { wc -l }")[1].count(b"blocks=%d)" % int(out)) == 1 and int(out) == 29, (out, err)


@case
def a_plan_tells_what_one_worker_keeps():
    open("r.txt", "w").write("line\n" * 1000)
    for body, told in (("comm - <(sort r.txt)", True), ("grep -f r.txt", False)):
        status, out, err = run("plan", "cat r.txt | map { %s }" % body)
        assert status == 0 and (b"on one worker: its body reads what comes from outside" in out) == told, (out, err)


@case
def width_stands_behind_its_letter():
    assert run("-j2", "echo x")[:2] == (0, b"x\n")
    status, out, err = run("-jx", "echo x")
    assert status == 125 and "-j wants a number" in err and err.count("\n") == 1, err
    assert run("-k2", "echo x")[0] == 125


# What each does to its input, and the clauses that it gets, or why it gets none.
TOOLS = {
    "upper": ("tr a-z A-Z", "lines"),
    "first": ("head -n 100", "lines | rerun"),
    "few": ("head -c 200", "lines | rerun | joined"),
    "count": ("sed -n '$='", "lines | native columns 0 + | filled"),
    "padded": ("awk 'END { printf \"%03d\\n\", NR }'", "whole: in"),
    "between": ("perl -ne 'print unless /^START_HERE/ .. /^STOP_HERE/'", "whole: in"),
    "late": ("perl -ne 'print unless $. == 70000'", "whole: in"),
    "in-parts": ("awk '/^Chapter [0-9]/ { n = $2 } { print n, $0 }'", "whole: in"),
    "entries": ("awk '/^[0-9]{4}-[0-9][0-9]-/ { drop = /DEBUG|INFO/ } !drop'", "whole: in"),
    "later": ("awk 'NR < 9000 { print; next } { print toupper($0) }'", "lines | rerun"),
    "goes-on": ("while read l; do printf '%s\\n' \"$l\"; done", "whole: in"),
    "says-empty": ("awk '{ print $1 } END { if (!NR) print \"none\" }'", "lines | filled"),
    "zeros": ("tr ' ' '\\000'", "lines"),
    "two": ("cat; exit 2", "lines"),
    "alike": ("echo hello", "was the same for each"),
}


@long_case
def what_classify_finds_is_so():
    lines = b"".join(b"%d %s\n" % (i * i % 97, b"seen" if i % 7 else b"") for i in range(3000))
    open("in", "wb").write(lines)
    for name, (script, _) in TOOLS.items():
        open(name, "w").write("#!/bin/sh\n%s\n" % script)
        os.chmod(name, 0o755)
    with concurrent.futures.ThreadPoolExecutor(2) as two: # each waits for one sandbox at a time
        found = list(two.map(lambda name: run("classify", "./" + name, timeout=300), TOOLS))
    for (name, (_, told)), (status, entry, err) in zip(TOOLS.items(), found):
        if not told.startswith("lines"):
            assert status == 1 and not entry and told in err and err.count("\n") == 1, (name, entry, err)
            continue
        assert status == 0 and not err and entry.decode().endswith("  form : %s\n" % told), (name, entry, err)
        open("my.conf", "ab").write(entry)
    # All in one table, as in commands.conf; in a chain there are blocks of which nothing is left.
    for text in ["cat in | ./%s" % name for name in TOOLS] + ["grep 12 in | ./says-empty", "grep nosuch in | ./says-empty", "cat in | ./zeros | rev | sort", "cat in | ./few | wc -c"]:
        want = subprocess.run(["sh", "-c", text], stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"})
        for split in ("always,256", "always,4K"):
            status, out, err = run("--commands", "my.conf", "--split", split, text)
            assert (status, out) == (want.returncode, want.stdout), (text, split, status, err)


@long_case
def classify_leaves_alone_what_is_known():
    status, out, err = run("classify", "sort -V")
    assert status == 1 and not out and "in the table of commands already" in err, err
    open("w", "w").write("#!/bin/sh\nexec tr a b\n")
    os.chmod("w", 0o755)
    entries = b""
    for words in ("./w a '*'", "./w 'a b' \\\\", "./w \"'\" ''"):
        status, entry, err = run("classify", words, timeout=300)
        assert status == 0, (words, err)
        entries += entry
    open("my.conf", "wb").write(entries)
    for words, known in (("./w a '*'", True), ("./w a \\*", True), ("./w 'a b' '\\\\'", False), ("./w 'a b' '\\'", True), ("./w \\' \"\"", True), ("./w a b", False), ("./w", False), ("X=1 ./w a '*'", False)):
        plan = run("plan", "--commands", "my.conf", "cat w | " + words)[1]
        assert (b"stateless" in plan) == known, (words, plan)


@case_of_one_user
def classify_writes_an_entry_that_holds():
    open("mytool", "w").write("#!/bin/sh\nexec tr a-z A-Z\n")
    os.chmod("mytool", 0o755)
    words = "./mytool --sep=, -d, -x 'a b' c"
    status, entry, err = run("classify", words, timeout=300)
    assert status == 0 and entry.startswith(b"# zpipe classify: ") and b" of up to 20000 lines\n" in entry, (entry, err)
    open("my.conf", "wb").write(entry)
    plans = [run("plan", "--commands", "my.conf", "cat mytool | %s%s | sort" % (words, more))[1] for more in ("", " more")]
    assert b"stateless" in plans[0] and b"stateless" not in plans[1], plans


@case
def classify_leaves_nothing_and_ends():
    open("mytool", "w").write("#!/bin/sh\necho x > made.txt\ncat\n")
    os.chmod("mytool", 0o755)
    before = sorted(os.listdir("."))
    for words, told in (("tee made.txt", "makes files"), ("./mytool made.txt", "makes files"), ("sort -o made.txt", "makes files"), ("yes", "larger"),
                        ("sh -c 'exit 40'", "0 trials"), ("X=1 cat -v", "one simple command"), ("nosuchcommand", "127"), ("cat | sort", "one simple command"), ("cat; ls", "one simple command"), ("", "one simple"),
                        ("cat 'x", "one simple"), ("cat $(ls)", "one simple")):
        status, out, err = run("classify", words)
        assert status and not out and told in err and err.count("\n") == 1, (words, status, out, err)
    assert sorted(os.listdir(".")) == before


EARLY = ["yes | tee f | head -1", "seq 300000 | tee f | cat | head -n 3", "cat in | tee f | grep 9 | head -1", "cat in | tee f >(head -3 >n) | tr 1 2 | sed 5q",
         "yes some words of a line | python3 -c 'import sys\nf = open(sys.argv[1], \"w\", 1)\nfor l in sys.stdin: f.write(l); print(l, end=\"\", flush=True)' f 2>/dev/null | head -2",
         "cat in | tee >(wc -l >f) | true", "yes | dd bs=77k status=none | tee f | dd bs=99k status=none | head -1"]


@case
def how_far_a_writer_came_is_no_chance():
    open("in", "w").write("".join("%d\n" % i for i in range(500000)))
    for text in EARLY:
        seen = set()
        for i in range(3):
            with busy(i):
                status, out, err = run(text)
            assert status == 0 and not err, (text, status, err)
            data = open("f", "rb").read()
            seen.add((out, data))
            os.unlink("f")
        assert len(seen) == 1, (text, [(o, len(d)) for o, d in seen])
        assert data if "wc" in text else 1 << 20 <= len(data) < 5 << 20, (text, len(data))


@case
def outputs_that_are_made_after_the_reader_left_are_there():
    for i in range(20):
        assert run("with out=late sh -c 'echo early; date >/dev/null; echo x >late' | true") == (0, b"", "")
        assert open("late").read() == "x\n", i
        os.unlink("late")


COUNTS = """import ctypes, os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
what, f = sys.argv[1], open(sys.argv[2], "w", 1)
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(90000)
spare = open("/tmp/spare", "w+b")
spare.write(bytes(90000))
spare.flush()
class Piece(ctypes.Structure): _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]
class Message(ctypes.Structure): _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_int), ("piece", ctypes.c_void_p), ("count", ctypes.c_size_t), ("rest", ctypes.c_long * 3)]
begin = ctypes.addressof(room)
pieces = (Piece * 4)(Piece(begin, 10), Piece(None, 0), Piece(begin + 10, 60000), Piece(begin + 60010, 29990))
message = Message(None, 0, ctypes.addressof(pieces), 4)
size, none, at = ctypes.c_size_t(90000), ctypes.c_long(0), ctypes.c_long(-1)
call = {
    "read": lambda: libc.read(0, room, size), "readv": lambda: libc.readv(0, pieces, 4), "preadv2": lambda: libc.preadv2(0, pieces, 4, at, 0),
    "recv": lambda: libc.recv(0, room, size, 0), "recvmsg": lambda: libc.recvmsg(0, ctypes.byref(message), 0),
    "write": lambda: libc.write(1, room, size), "writev": lambda: libc.writev(1, pieces, 4), "pwritev2": lambda: libc.pwritev2(1, pieces, 4, at, 0),
    "send": lambda: libc.send(1, room, size, 0), "sendfile": lambda: libc.sendfile(1, spare.fileno(), ctypes.byref(none), size),
    "sendon": lambda: libc.sendfile(1, spare.fileno(), None, size)}[what]
written = size.value
while written >= 0:
    none.value = spare.seek(0)
    n = call()
    print(n, none.value or os.lseek(spare.fileno(), 0, 1), file=f)
    written = n if "re" not in what else libc.write(1, room, ctypes.c_size_t(9000))
print(ctypes.get_errno(), file=f)
"""


@case
def what_was_stopped_in_a_call_goes_on_with_it():
    """The reader leaves, and all of the writer is stopped for that: no call comes back short, whatever it is."""
    for what in "read readv preadv2 recv recvmsg write writev pwritev2 send sendfile sendon".split():
        seen = set()
        for i in range(3):
            with busy(i):
                status, out, err = run("yes | dd bs=%d status=none | python3 -c '%s' %s f | head -c 1" % (150 + 200 * i, COUNTS.replace("'", '"'), what))
            assert status == 0 and not err, (what, status, err)
            *counts, last = open("f").read().splitlines()
            seen.add((out, len(counts), last, *set(counts[:-1]), counts[-1]))
            os.unlink("f")
        assert len(seen) == 1, (what, seen)
        whole = "90000 90000" if what in ("sendfile", "sendon") else "90000 0"
        assert set(counts[:-1]) == {whole} and last == "32" and counts[-1] in (whole, "-1 0"), (what, counts, last)


@case
def a_program_whose_functions_are_nowhere_does_not_begin():
    """Not when it calls one, as it would in sh: what its clones would look up is looked up once."""
    open("l.c", "w").write("void f(void) {}\n")
    open("a.c", "w").write("void f(void); int main(int c, char **v) { (void)v; if (c > 5) f(); return 0; }\n")
    for line in ("gcc -shared -fPIC l.c -o libl.so", "gcc a.c -Wl,-z,lazy -L. -ll -Wl,-rpath,. -o a", "sed -i s/f/g/ l.c", "gcc -shared -fPIC l.c -o libl.so", "./a"):
        subprocess.run(line.split(), check=True)
    status, out, err = run("--with", "files=libl.so", "./a")
    assert status == 127 and "undefined symbol: f" in err, (status, err)


WAITS = """import ctypes, os, signal, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
f, libc, room = open(sys.argv[1], "w", 1), ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(65536)
wanted, told = ctypes.c_ulong(1 << (signal.SIGUSR1 - 1)), ctypes.create_string_buffer(128)
child = os.fork()
if not child:
    n = libc.syscall(128, ctypes.byref(wanted), told, None, ctypes.c_long(8))
    print(n, ctypes.get_errno(), file=f)
    os._exit(0)
time.sleep(.01)
while libc.write(1, room, ctypes.c_size_t(65536)) >= 0: pass
os.kill(child, signal.SIGUSR1)
os.wait()
"""


@case
def who_waits_for_a_signal_goes_on_waiting():
    """The reader leaves, and all of the writer is stopped for that: rt_sigtimedwait, which the kernel does not begin again by itself, is not over."""
    for _ in range(3):
        status, out, err = run("python3 -c '%s' f | head -c 1" % WAITS.replace("'", '"'))
        assert status == 0 and not err, (status, err)
        assert open("f").read() == "%d 0\n" % signal.SIGUSR1, open("f").read()
        os.unlink("f")


@case
def all_tasks_that_leave_files_run():
    for i in range(40):
        open("p%d" % i, "w").write("%d\n" % i * 30000)
    assert run("cat p* | map per file { tee {/}.x } | head -n 1") == (0, b"0\n", "")
    assert sum(name.endswith(".x") for name in os.listdir(".")) == 40


@case
def line_of_100_mb():
    status, out, err = run("cat | cat | wc -c", stdin=b"x" * 100_000_000)
    assert (status, out) == (0, b"100000000\n"), (status, out, err)


@case
def closed_stdin():
    status, out, err = run("sort | wc -l", preexec_fn=lambda: os.close(0), stdin_fd=None)
    assert (status, out) == (0, b"0\n"), (status, out, err)


@case
def closed_stdout():
    p = subprocess.run([zpipe, "echo x | cat"], preexec_fn=lambda: os.close(1), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert p.returncode in (0, 1), p


@case
def all_closed():
    """And none of zpipe's own files may take the place of one that is closed."""
    open("a.txt", "w").write("x\n")
    for text, want in (("cat a.txt | tee b.txt", 0), ("cat a.txt nosuch.txt > b.txt", 1)):
        p = subprocess.run([zpipe, text], preexec_fn=lambda: os.closerange(0, 3), timeout=60)
        assert p.returncode == want and open("a.txt").read() == open("b.txt").read() == "x\n", (text, p)
        os.remove("b.txt")


@case
def reader_of_stdout_leaves():
    with open("lines", "w") as f:
        f.writelines("%d\n" % i for i in range(400_000))  # more than we and two pipes hold
    for text in ("yes", "sort lines", "grep 1 lines", "cat lines | map { cat }", "cat lines | awk '!n[$0]++'"):
        p = subprocess.Popen([zpipe, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        p.stdout.read(10)
        p.stdout.close()
        assert p.wait(timeout=30) == 141, (text, p.returncode)
        assert p.stderr.read() == b"", text


@case
def reader_of_stdout_leaves_what_is_in_our_hands():
    """Little more than the reader's pipe holds: all of it is on the way when the reader leaves, and still the writer did not get rid of it."""
    with open("few", "w") as f:
        f.writelines("%d\n" % i for i in range(20_000))  # 108,890 bytes
    for text in ("sort few", "grep -v x few", "sort few | uniq -c", "cat few | map { cat }", "cat few | awk '!n[$0]++'", "cat few | tr a b", "seq 20000",
                 "head -n 19999 few", "sort few 2>&1"):
        for split in ("never", "always,4K"):
            argv = [zpipe, "--split", split, text]
            p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            p.stdout.read(10)
            p.stdout.close()
            assert p.wait(timeout=30) == 141, (argv, p.returncode)
            assert p.stderr.read() == b"", argv
            p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=30)
            assert p.returncode == 0, (argv, p)


@case
def full_device():
    status, out, err = run("seq 100000 > /dev/full")
    assert status == 1 and "No space left" in err, (status, err)


@case
def full_disk_leaves_no_output():
    os.mkdir("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", "small"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("no right to mount a small tmpfs")
    try:
        status, out, err = run("seq 1000000 > small/out")
        assert status != 0 and "No space left" in err and os.listdir("small") == [], (status, err, os.listdir("small"))
        open("small/old", "w").write("old\n")
        for text in ("seq 1000000 > small/old", "seq 1000000 | tee small/old | wc -l", "seq 1000000 >> small/old"):
            status, out, err = run(text)
            assert "No space left" in err, (text, status, err)
            assert os.listdir("small") == ["old"] and open("small/old").read() == "old\n", (text, os.listdir("small"))
    finally:
        subprocess.run(["umount", "small"], check=True)


@case
def an_output_that_is_a_link_is_written_through():
    """Also one whose target is not there yet."""
    os.mkdir("sub")
    for link, target in (("old", "sub/old.txt"), ("new", "sub/new.txt"), ("chain", "new"), ("far", os.path.abspath("sub/far.txt"))):
        os.symlink(target, link)
    open("sub/old.txt", "w").write("old\n")
    for text in ("echo x > old", "echo x > chain", "echo x | tee far > /dev/null"):
        assert run(text) == (0, b"", ""), (text, run(text))
    assert run("echo x >> chain")[0] == 0
    assert all(os.path.islink(n) for n in ("old", "new", "chain", "far"))
    assert [open("sub/%s.txt" % n).read() for n in ("old", "new", "far")] == ["x\n", "x\nx\n", "x\n"]
    open("one", "w").write("old\n")
    os.link("one", "other")
    assert run("echo x > one")[0] == 0 and open("one").read() == "x\n" and open("other").read() == "old\n"
    os.symlink("loop", "loop")
    os.symlink("nodir/x", "nowhere")
    for name, word in (("loop", "symbolic links"), ("nowhere", "No such file")):
        status, out, err = run("sh -c 'echo ran >&2' > " + name)
        assert status == 125 and word in err and "ran" not in err and os.path.islink(name), (name, status, err)
    away = os.path.join(os.path.dirname(os.getcwd()), "zpipe-missing-%d" % os.getpid())
    os.symlink(away + "/x", "away")
    for text in "touch away", "cp one away": # a file that is found when the stage has ended: no directory is made for it where a link leads
        status, out, err = run(text)
        assert status == 125 and "No such file" in err and not os.path.exists(away), (text, status, err)


@case
def an_output_whose_name_cannot_be_is_refused_before_anything_runs():
    for name in ("x" * 300, "x/" * 3000 + "x"):
        status, out, err = run("sh -c 'echo ran >&2' > " + name)
        assert status == 125 and "too long" in err and "ran" not in err, (status, err)


@case
def a_limit_of_file_sizes_is_told():
    """ulimit -f: a program is ended by it as in sh; zpipe itself says what it could not write."""
    open("old", "w").write("old\n")
    limit = lambda bytes: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, bytes))
    status, out, err = run("seq 100000 > f", preexec_fn=limit(200_000))
    assert status == 128 + signal.SIGXFSZ and os.path.getsize("f") == 200_000, (status, err)
    os.remove("f")
    for text, bytes in (("seq 35000 >> old", 200_000), ("sort <<END\n" + "x\n" * 2000 + "END", 1000), ("seq 70", 200)):
        status, out, err = run(text, preexec_fn=limit(bytes), cwd=".")
        assert status in (0, 125) and (status == 0 or "File too large" in err and "ulimit -f" in err), (text, status, err)
    assert sorted(os.listdir(".")) == ["old"] and len(open("old").read()) in (4, 198898), os.listdir(".")


@case
def output_of_a_cancelled_job_does_not_appear():
    open("old.txt", "w").write("old\n")
    p = subprocess.Popen([zpipe, "yes cancelled-mark-1 | cat > old.txt"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    until("the programs run", lambda: len(processes_with("cancelled-mark-1")) > 1)
    before = len(os.listdir("."))
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=20) == -signal.SIGINT, p.returncode
    assert open("old.txt").read() == "old\n" and len(os.listdir(".")) == before
    until("nothing is left", lambda: not processes_with("cancelled-mark-1"))


@case
def files_of_a_cancelled_job_do_not_appear():
    p = subprocess.Popen([zpipe, "sh -c 'echo x > \"$0\"; exec yes made-mark > /dev/null' made.txt"], stdin=subprocess.DEVNULL)
    until("the program runs", lambda: processes_with("yes\0made-mark"))
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=20) == -signal.SIGINT and os.listdir(".") == [], (p.returncode, os.listdir("."))


@case
def files_of_a_job_that_is_cancelled_in_a_later_statement_do_not_appear():
    open("job.zp", "w").write("seq 3 > 1.txt\nsh -c 'cat \"$0\"; exec yes later-mark > /dev/null' 1.txt > 2.txt\n")
    p = subprocess.Popen([zpipe, "run", "job.zp"], stdin=subprocess.DEVNULL)
    until("the second runs", lambda: processes_with("yes\0later-mark"))
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=20) == -signal.SIGINT and os.listdir(".") == ["job.zp"], (p.returncode, os.listdir("."))


@case
def a_limit_of_output_holds_for_every_kind_of_stdout():
    """A pipe, a file, a stage that streams and one that is cut; and what is thrown away."""
    for text, most in (("yes", 1 << 20), ("yes | cat", 1 << 20), ("yes | sort", 1 << 20), ("yes > f", 0), ("yes > /dev/null", 0), ("sh -c 'yes >&2' 2> /dev/null", 0)):
        status, out, err = run(text, "--with", "output=1MiB")
        assert status == 124 and "limit of output" in err and len(out) <= most, (text, status, len(out), err)
    open("lines", "w").write("x\n" * 1000)
    for text, want in (("yes", 124), ("grep x lines none", 2)):  # to /dev/null grep prints nothing
        r = subprocess.run([zpipe, text, "--with", "output=1KiB"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        assert r.returncode == want, (text, r)


@case
def what_a_limit_ends_ends_like_a_program():
    """Its readers see the end of its stream, as behind timeout(1), each time."""
    for text, like in (("with output=10K seq 100000 | wc -l", "seq 100000 | head -c 10240 | wc -l"),
                       ("with output=10K { seq 100000 } | sort | tail -1", "seq 100000 | head -c 10240 | sort | tail -1"),
                       ("with cpu=1s sh -c 'echo a; while :; do :; done' | cat", "echo a"), ("with output=10K yes | wc -c > f", "true")):
        want = subprocess.run(["sh", "-c", like], env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE).stdout
        for _ in range(3):
            status, out, err = run(text)
            assert status == 124 and out == want and "reached its limit of" in err and os.listdir(".") == [], (text, status, out, want, err)


@case
def configurations_are_read_and_refused():
    os.mkdir("zpipe")
    env = {**os.environ, "XDG_CONFIG_HOME": os.getcwd()}
    def write(name, text):
        with open(name, "w") as f:
            f.write(text)
    write("zpipe/zpipe.conf", "# mine\n\n  pipefail =  yes\n")
    assert run("false | true", env=env)[0] == 1
    write("later.conf", "pipefail = no\nsplit = never\n")
    assert run("--config", "later.conf", "false | true", env=env)[0] == 1  # yes stays: no is the default
    for text, word in (("slotz = 3", "`slotz`"), ("slots = 0", "number"), ("slots", "NAME = VALUE"), ("quiet = perhaps", "yes or no"),
                       ("config = x", "`config`"), ("keys =", "no value"), ("x" * 70000, "larger than 65536"), ("\n" * 3000, "lines")):
        write("bad.conf", text)
        for argv in (["--config", "bad.conf", "true"], ["worker", "--config=bad.conf", "-n"]):
            status, out, err = run(*argv)
            assert status == 125 and word in err and "bad.conf" in err, (text[:50], status, err)
    assert run("keygen", "--dir", "keys")[0] == 0
    write("worker.conf", "keys = keys\nscheduler = tcp://head:7117\nslots = 4\n")
    assert run("worker", "--config", "worker.conf", "-n")[0] == 0
    status, out, err = run("scheduler", "--config", "worker.conf", "-n")
    assert status == 125 and "--listen" in err, (status, err)
    for time, good in (("1s", True), ("24h", True), ("5m", True), ("0s", False), ("10", False), ("25h", False), ("-1s", False), ("1d", False)):
        write("scheduler.conf", "keys = keys\nlisten = tcp://127.0.0.1:*\nworker-wait = %s\n" % time)
        status, out, err = run("scheduler", "--config", "scheduler.conf", "-n")
        assert (status == 0) == good and (good or status == 125 and "--worker-wait wants a time" in err and "scheduler.conf" in err), (time, status, err)


@case
def configurations_are_looked_at_before_they_are_used():
    """With -n: keys, addresses and directories too; nothing is made."""
    assert run("keygen", "--dir", "keys")[0] == 0
    for name in ("damaged", "garbage", "empty"):
        shutil.copytree("keys", name)
    open("damaged/scheduler.key", "w").write("x\n")
    open("garbage/allow", "a").write("worker nonsense\n")
    os.unlink("empty/worker.key"), os.unlink("empty/keeper.key"), os.unlink("empty/scheduler.pub")
    os.makedirs("lives"), os.mkdir("store")
    open("lives/lives", "w").write("many\n")
    open("file", "w").write("x")
    scheduler = ["scheduler", "-n", "--keys=keys", "--listen=tcp://0.0.0.0:7117"]
    worker = ["worker", "-n", "--keys=keys", "--scheduler=tcp://head:7117"]
    keeper = ["keeper", "-n", "--keys=keys", "--scheduler=tcp://head:7117", "--state=kept"]
    for argv, sentence in (
            (scheduler, None), (scheduler + ["--state=new"], None), (worker, None), (worker + ["--store=store", "--data-listen=tcp://0.0.0.0:*", "--advertise=tcp://me:7"], None), (keeper, None),
            (scheduler + ["--keys=nokeys"], "nokeys"), (scheduler + ["--keys=damaged"], "damaged/scheduler.key"), (scheduler + ["--keys=garbage"], "garbage/allow"),
            (scheduler + ["--listen=tcp://127.0.0.1:7319x"], "is no address"), (scheduler + ["--listen=head:7117"], "is no address"),
            (scheduler + ["--state=file"], "is no directory"), (scheduler + ["--state=none/new"], "cannot make the state directory 'none/new'"), (scheduler + ["--state=lives"], "is damaged"),
            (worker + ["--keys=empty"], "empty"), (worker + ["--scheduler=tcp://head"], "is no address"), (worker + ["--data-listen=tcp://me:99999"], "is no address"),
            (worker + ["--data-listen=tcp://0.0.0.0:7118"], "--advertise"), (worker + ["--advertise=me"], "--advertise"), (worker + ["--store=none"], "none"),
            (worker + ["--shared=rel"], "rel"), (worker + ["--image=a b"], "an image's name"), (keeper + ["--data-listen=tcp://0.0.0.0:7119"], "--advertise"),
            (scheduler + ["--keys=empty/none"], "the scheduler's own directory"),
            (keeper + ["--keys=empty"], "empty"), (keeper + ["--state=file"], "is no directory"), (keeper + ["--scheduler=head"], "is no address")):
        status, out, err = run(*argv)
        assert (status, out) == (125 if sentence else 0, b""), (argv, status, out, err)
        assert err.count("\n") == (1 if sentence else 0) and (sentence or "") in err, (argv, err)
    assert not os.path.exists("new") and not os.path.exists("kept")
    status, out, err = run(*worker, "--shared=/:/no-such-place")  # it may come later: no reason not to start
    assert (status, out, err.count("\n")) == (0, b"", 1) and "shared_missing path=/no-such-place" in err, (status, out, err)


@case
def files_of_a_job_that_met_a_limit_do_not_appear():
    status, out, err = run("with timeout=300ms sh -c 'echo x > \"$0\"; exec yes > /dev/null' made.txt > o.txt")
    assert status == 124 and os.listdir(".") == [], (status, err, os.listdir("."))


@case_of_one_user
def too_many_files_of_a_stage():
    status, out, err = run("with out='f*' python3 -c 'for i in range(4097): open(\"f%d\" % i, \"w\")'")
    assert status == 124 and "4096 output files" in err and os.listdir(".") == [], (status, err, len(os.listdir(".")))
    status, out, err = run("with out='f*' python3 -c 'for i in range(4096): open(\"f%d\" % i, \"w\").write(str(i))'")
    assert status == 0 and len(os.listdir(".")) == 4096 and open("f4095").read() == "4095", (status, err)


def leaves_nothing(signo, number):
    """Two jobs that stream, with a heredoc and outputs, ended by the signal."""
    mark = "mark-%d-%d" % (signo, number)
    os.makedirs("tmp", exist_ok=True)
    before, tmp = mounts(), set(glob.glob("/tmp/zpipe.*"))
    env = {**os.environ, "TMPDIR": os.path.abspath("tmp")}
    texts = ("yes %s | tee t.txt | cat > o1.txt" % mark,
             "cat - /dev/zero <<END | sh -c 'cat > /dev/null' %s > o2.txt\nx\nEND" % mark)
    jobs = [subprocess.Popen([zpipe, text], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for text in texts]
    until("the programs run", lambda: len(processes_with("yes\0" + mark)) and len(processes_with("/dev/null\0" + mark)))
    for p in jobs:
        p.send_signal(signo)
    for p in jobs:
        err = p.communicate(timeout=20)[1]
        assert p.returncode == -signo and err == b"", (p.returncode, err)
    until("no process is left", lambda: not processes_with(mark))
    until("no file is left", lambda: sorted(os.listdir(".")) == ["tmp"])
    until("no temporary file is left", lambda: os.listdir("tmp") == [])
    assert mounts() == before
    until("nor elsewhere", lambda: not set(glob.glob("/tmp/zpipe.*")) - tmp)  # as base/spool.c names them; others' tests have longer names
    sockets = [l.split()[-1] for l in open("/proc/net/unix") if "zpipe" in l.split()[-1]]
    assert not [name for name in sockets if mark in name], sockets


@case
def signals_leave_nothing():
    for number, signo in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)):
        leaves_nothing(signo, number)


@case
def kill_9_leaves_nothing():
    for number in range(5):
        leaves_nothing(signal.SIGKILL, number)


@case
def interrupted_at_any_moment():
    """Ctrl-C 0, 1, 2 ... ms after the start: ended by it, or done before it, and nothing is left."""
    for ms in range(0, 40, 2):
        mark = "moment-%d" % ms
        p = subprocess.Popen([zpipe, "yes %s | head -c 300000000 > o.txt" % mark], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        select.select([], [], [], ms / 1000)
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=20)[1]
        assert p.returncode in (-signal.SIGINT, 0) and err == b"", (ms, p.returncode, err)
        until("nothing is left", lambda: not processes_with(mark))
        assert (os.listdir(".") == []) == (p.returncode != 0), (ms, os.listdir("."))
        if p.returncode == 0:
            os.remove("o.txt")


def of_a_group(ms, signo):
    """As a terminal does it: to zpipe and all that is in its process group."""
    p = subprocess.Popen([zpipe, "sleep 1 | cat"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=lambda: os.setpgid(0, 0))
    select.select([], [], [], ms / 1000)
    os.killpg(p.pid, signo)
    return p


@case
def ctrl_c_says_nothing_at_any_moment():
    """A Ctrl-C goes to zpipe-box, too, which is just starting."""
    for step in range(40):
        p = of_a_group(step / 4, signal.SIGINT)
        err = p.communicate(timeout=20)[1]
        assert p.returncode in (-signal.SIGINT, 0) and err == b"", (step, p.returncode, err)


@case
def ctrl_z_stops_at_any_moment():
    """And it goes on, as behind `fg`.  While zpipe-box is started a stop must not meet the one half and keep the other waiting."""
    stopped = 0
    for step in range(40):
        p = of_a_group(step / 4, signal.SIGTSTP)
        status = None

        def changed():
            nonlocal status
            pid, status = os.waitpid(p.pid, os.WNOHANG | os.WUNTRACED)
            return pid
        until("zpipe is stopped or has ended", changed)
        if os.WIFSTOPPED(status):
            stopped += 1
            os.killpg(p.pid, signal.SIGCONT)
            err = p.communicate(timeout=20)[1]
            assert p.returncode == 0 and err == b"", (step, p.returncode, err)
        else:
            p.communicate()
    assert stopped, "no stop hit"


def ticks(pid):
    return sum(int(n) for n in open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[11:13])


@case
def ctrl_z_leaves_at_work_who_computes():
    """As DIFFERENCES.md says: a stop within a sandbox would show there."""
    p = subprocess.Popen([zpipe, "sh -c 'while :; do :; done # goes-on'"], stdin=subprocess.DEVNULL, preexec_fn=lambda: os.setpgid(0, 0))
    # Until it has begun it asks, and who would answer is stopped: 20 ticks are more than its start takes.
    until("it computes", lambda: any(ticks(q) > 20 for q in processes_with("goes-on") - {p.pid}))
    (program,) = processes_with("goes-on") - {p.pid}
    os.killpg(p.pid, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(p.pid, os.WUNTRACED)[1])
    before = ticks(program)
    until("it goes on", lambda: ticks(program) > before)
    os.killpg(p.pid, signal.SIGCONT)
    os.killpg(p.pid, signal.SIGINT)
    assert p.wait(timeout=20) == -signal.SIGINT
    until("nothing is left", lambda: not processes_with("goes-on"))


def boxes(p):
    """Those that run its sandboxes; a sanitizer has children, too."""
    try:
        below = [c for t in glob.glob("/proc/%d/task/*/children" % p.pid) for c in open(t).read().split()]
        return [int(c) for c in below if open("/proc/%s/comm" % c).read() == "zpipe-box\n"]
    except OSError:
        return []


@case
def kill_9_of_the_box_costs_time():
    """Another is started, and what ran there begins anew.  A kill that came too late says nothing."""
    for _ in range(10):
        p = subprocess.Popen([zpipe, "seq 20000077 | tail -n 1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("the programs run", lambda: p.poll() is not None or processes_with("20000077") - {p.pid})
        for box in boxes(p):
            os.kill(box, signal.SIGKILL)
        out, err = p.communicate(timeout=60)
        assert (p.returncode, out) == (0, b"20000077\n"), (p.returncode, out, err)
        if b"box_lost" in err:
            return
    raise AssertionError("no kill hit")


@case
def kill_9_of_every_box_is_told():
    p = subprocess.Popen([zpipe, "yes box-mark | cat > /dev/null"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    killed = set()
    while p.poll() is None:
        until("the programs run, or never again", lambda: p.poll() is not None or set(boxes(p)) - killed and len(processes_with("box-mark")) > 1)
        for box in set(boxes(p)) - killed:
            os.kill(box, signal.SIGKILL)
            killed.add(box)
    err = p.communicate(timeout=20)[1].decode()
    assert p.returncode == 125 and "zpipe-box" in err, (p.returncode, err)
    assert 1 < len(killed) < 6, killed
    until("no sandbox is left", lambda: not processes_with("box-mark"))


@case
def links_that_lead_away_are_files_where_they_are_named():
    os.makedirs("around/in")
    open("around/x", "w").write("above\n")
    os.symlink("../x", "around/in/l.lnk")
    os.symlink("/etc/hostname", "around/in/host.lnk")
    assert run("find . -name '*.lnk' -type l | sort", cwd="around/in") == (0, b"./host.lnk\n./l.lnk\n", "")
    assert run("cat l.lnk host.lnk | cat", cwd="around/in") == (0, b"above\n" + open("/etc/hostname", "rb").read(), "")
    status, out, err = run("find . -name 'l.*' -exec cat {} +", cwd="around/in")
    assert status == 1 and "add --with './l.lnk'" in err, (status, out, err)
    assert run("--with", "l.lnk", "find . -name 'l.*' -exec cat {} +", cwd="around/in") == (0, b"above\n", "")
    shutil.rmtree("around")


@case
def a_file_that_is_followed_is_told():
    said = "zpipe: hint: `%s` waits for a file to grow, but a job's inputs must not change: start it outside, %s | zpipe --line-reads '\u2026'\n"
    for text, told in (("tail -n 1 -f no.such | head -n 1", True), ("tail -F no.such", True), ("tail --follow=name no.such", True), ("tail -1f no.such", True),
                       ("tail -n 1 words.f | head -n 1", False), ("tail -n -f no.such", False), ("seq 3 | tail -f", False), ("seq 3 | tail -f -", False), ("tail -- -f", False)):
        p = subprocess.Popen([zpipe, text], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        stage = text.split(" | ")[0]
        err = p.communicate(timeout=20)[1].decode() if not told else p.stderr.readline().decode()
        p.kill(), p.wait()
        assert (said % (stage, stage) in err) == told, (text, err)


@case
def a_missing_file_is_told_once_and_by_its_whole_name():
    open("its.txt", "w").close()
    for word, times in (("its.txt", 1), ("its.txt:", 0), ("isn't", 0)):
        status, _, err = run('seq 3 | sed "s/.*/%s/" | xargs -d "\\n" -n1 rm' % word)
        assert status == 123 and err.count("cannot remove") == 3 and err.count("zpipe: hint") == times, (word, status, err)


@case
def a_limit_without_effect_is_told():
    for text, told in (("ulimit -n 20; echo 1", True), ("ulimit 9", True), ("true && ulimit -S -v 9999", True), ("(ulimit -f unlimited)", True),
                       ("ulimit -n; echo 1", False), ("ulimit -S -n; echo 1", False), ("echo ulimit -n 9; true", False), ("ulimit | cat; true", False)):
        assert ("`ulimit` changes nothing" in run(text)[2]) == told, text


@case
def waits_that_only_another_ends_hold_nobody_up():
    """A program's processes take turns; one that is at work and stands still must not keep the others from what would wake it."""
    stopped = "import os, signal\nme = os.getpid()\nif os.fork() == 0:\n os.kill(me, signal.SIGCONT)\n os._exit(0)\nos.kill(me, signal.SIGSTOP)\nprint('on')\n"
    written = ("import ctypes, os\nr, w = os.pipe()\nif os.fork() == 0:\n os.close(w)\n print(len(open(r, 'rb').read()), flush=True)\n os._exit(0)\n"
               "b = ctypes.create_string_buffer(300000)\nv = (ctypes.c_size_t * 2)(ctypes.addressof(b), 300000)\n"
               "ctypes.CDLL(None).pwritev2(w, v, 1, ctypes.c_long(-1), 0)\nos.close(w)\nos.wait()\n")
    signalled = ("import ctypes, os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nme = os.getpid()\n"
                 "mask = ctypes.create_string_buffer(128)\nmask[1] = 2\nf = ctypes.CDLL(None).signalfd(-1, mask, 0)\n"
                 "if os.fork() == 0:\n os.kill(me, signal.SIGUSR1)\n os._exit(0)\nprint(os.read(f, 128)[0])\nos.wait()\n")
    for text, out in ((stopped, b"on\n"), (written, b"300000\n"), (signalled, b"10\n")):
        open("p.py", "w").write(text)
        start = time.monotonic()
        assert run("python3 p.py") == (0, out, ""), text
        assert time.monotonic() - start < 30, text


@case
def a_read_of_all_is_of_all():
    """Also where what it waits for comes from the program's other processes, which have their turns meanwhile."""
    open("p.py", "w").write("import os, socket\na, b = socket.socketpair()\nif os.fork() == 0:\n a.close()\n"
                            " for i in range(100):\n  b.send(b'0123456789')\n  os.sched_yield()\n os._exit(0)\n"
                            "b.close()\nprint(len(a.recv(370, socket.MSG_WAITALL)))\nwhile a.recv(1000):\n pass\n")
    got = run("python3 p.py")
    assert got == (0, b"370\n", ""), got


@case
def tail_f_delivers_lines():
    open("log", "w").write("x one\n")
    tail = subprocess.Popen(["tail", "-n", "+1", "-f", "log"], stdout=subprocess.PIPE)
    p = subprocess.Popen([zpipe, "--line-reads", "grep --line-buffered x"], stdin=tail.stdout, stdout=subprocess.PIPE)
    tail.stdout.close()
    assert p.stdout.readline() == b"x one\n"
    with open("log", "a") as f:
        f.write("no\nx two\n")
    assert p.stdout.readline() == b"x two\n"
    tail.kill()
    tail.wait()
    assert p.wait(timeout=20) == 0


@case
def live_input_is_waited_for():
    """Who waits for its input or its child's output is told of what there is."""
    open("idle.py", "w").write("import os, select, subprocess\np = subprocess.Popen(['echo', 'x'], stdout=subprocess.PIPE)\n"
                               "ready = select.select([0, p.stdout], [], [])[0]\nprint(0 in ready, p.stdout in ready, flush=True)\nos._exit(0)\n")
    silent, hold = os.pipe()
    p = subprocess.run([zpipe, "--line-reads", "python3 idle.py"], stdin=silent, capture_output=True, timeout=240)
    os.close(silent)
    os.close(hold)
    assert p.stdout == b"False True\n", (p.stdout, p.stderr)


def on_terminal(argv, seconds):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(zpipe, [zpipe, *argv])
    seen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    os.kill(pid, signal.SIGKILL) if os.waitpid(pid, os.WNOHANG)[0] == 0 else None
    os.close(fd)
    return seen


@case
def progress_on_a_terminal_after_a_second():
    seen = on_terminal(["cat /dev/zero | cat > /dev/null"], 4)
    assert re.search(rb"zpipe [0-9.]+s \| cat [0-9.]+[MGT]>[0-9.]+[MGT]", seen), seen


@case
def no_progress_over_what_is_typed():
    assert b"zpipe " not in on_terminal(["cat | wc -c"], 2)
    assert b"zpipe " in on_terminal(["--progress", "cat | wc -c"], 2)


@case
def progress_says_how_far_where_the_input_is_known():
    with open("in.bin", "wb") as f:
        f.truncate(100_000_000)
    seen = on_terminal(["cat in.bin | python3 -c 'import sys; sys.stdin.buffer.read(50_000_000)\nwhile True: pass'"], 4)
    assert re.search(rb"zpipe [0-9.]+s 5[0-9]% eta [0-9:]+ \| python3 ", seen), seen


@case
def no_progress_elsewhere():
    p = subprocess.Popen([zpipe, "cat | cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    select.select([], [], [], 1.5)
    out, err = p.communicate(b"x")
    assert (out, err) == (b"x", b""), (out, err)
    assert rb"zpipe " not in on_terminal(["--quiet", "cat /dev/zero | head -c 1000000000 > /dev/null"], 2)


@case
def very_long_texts():
    status, out, err = run("true " + "x" * 100_000)
    assert status == 0, (status, err[:200])
    status, out, err = run("|".join(["cat"] * 60), stdin=b"hello")
    assert (status, out) == (0, b"hello"), (status, err[:300])
    r = subprocess.run([zpipe, "run", "-"], input=b"echo x" + b" | cat" * 5000 + b"\n", capture_output=True)
    assert r.returncode in (0, 125) and (r.returncode == 0 or b"more than" in r.stderr), r.stderr[:300]
    r = subprocess.run([zpipe, "run", "-"], input=b"#" * 17_000_000, capture_output=True)
    assert r.returncode == 125 and b"larger than" in r.stderr, r.stderr[:300]


@case
def few_descriptors():
    limit = lambda soft, hard: lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    status, out, err = run("cat | cat", stdin=b"x", preexec_fn=limit(64, 4096))
    assert (status, out) == (0, b"x"), (status, err)
    status, out, err = run("cat | cat", stdin=b"x", preexec_fn=limit(64, 64))
    assert (status, out) == (0, b"x") or status == 125 and "ulimit" in err, (status, err)
    for few in range(4, 12): # what our libraries open, too
        status, out, err = run("echo x", preexec_fn=limit(few, few))
        assert status == 125 and err.count("\n") == 1 and "ulimit" in err or status == 127 and "shared libraries" in err, (few, status, err)


@case
def many_files():
    """More than there may be descriptors; small ones are read as one, and those with more bytes, or none, are not."""
    os.mkdir("m")
    for i in range(2400):
        with open("m/%04d" % i, "w") as f:
            f.write("" if i % 61 == 0 else "%d is long\n" % i * 9000 if i % 97 == 0 else "%d\nno end" % i)
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2100, 2100))
    for text in ("cat m/* | grep -v x | cksum", "cat m/* | wc"):
        want = subprocess.run(["sh", "-c", text], stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout
        status, out, err = run(text, preexec_fn=few)
        assert (status, out, err) == (0, want, ""), (text, status, out, want, err[:300])
    with open("m/0000", "w") as f: # without a size, and not without bytes
        f.write("x" * 100)
    os.symlink("/proc/version", "m/zz")
    want = subprocess.run(["sh", "-c", "cat m/* | wc -c"], stdout=subprocess.PIPE).stdout
    assert run("cat m/* | wc -c")[:2] == (0, want), want


@case
def a_directory_of_many_files_may_be_listed():
    """What a cluster would not be sent is no limit here, and two stages have the same files."""
    os.mkdir("m")
    for i in range(10001):
        os.close(os.open("m/%d" % i, os.O_CREAT | os.O_WRONLY))
    for text in ("ls | wc -l", "ls | xargs cat"):
        status, out, err = run("plan", text, cwd="m")
        assert status == 0 and b"ls  (10001 input files)" in out, (text, status, out, err)


@case
def lists_of_names_are_read_up_to_a_limit():
    """`cat *.log | xargs` is no reason to read all logs before anything runs."""
    open("z.txt", "w").write("z\n")
    for i in range(6):
        open("list%d" % i, "w").write("x\n" * 120000 + "z.txt\n" * (i in (0, 5)))
    assert run("cat list1 list0 | tail -1 | xargs cat")[:2] == (0, b"z\n")
    status, out, err = run("cat list[1-5] | tail -1 | xargs cat")
    assert status == 123 and out == b"" and "--with" in err and "z.txt" in err, (status, out, err)


@case
def more_files_than_may_be_open():
    os.mkdir("d")
    for i in range(1500):
        open("d/%d" % i, "w").write("%d\n" % i)
    few = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2200, 2200)))
    status, out, err = run("wc -l d/*", **few)
    assert status == 125 and out == b"" and err.count("\n") == 1 and "ulimit -Hn" in err and "xargs -n" in err, (status, err)
    want = subprocess.run(["sh", "-c", "md5sum d/*"], stdout=subprocess.PIPE, env={"LC_ALL": "C"}).stdout
    assert run("md5sum d/*", **few) == (0, want, "")  # some at a time


@case
def a_run_of_a_file_has_this_one():
    for name in "abc":
        open(name, "w").write(name * 100 + "\n")
    with open("look", "w") as f:
        f.write("#!/bin/sh\necho $1 : $(ls)\n")
    os.chmod("look", 0o755)
    with open("my.conf", "w") as f:
        f.write("command ./look\n  operands files\n  form files>1 : files | block {name} {operands} {file}\n")
    out = run("--commands", "my.conf", "--split", "always,64", "./look a b c")
    assert out == (0, b"a : a look\nb : b look\nc : c look\n", ""), out


@case
def little_memory_and_few_threads():
    """One sentence, whatever is refused first."""
    status, out, err = run("echo x", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 44, 1 << 44)))
    assert status == 125 and err.count("\n") == 1 and "ulimit -s" in err, (status, err)
    asan = b"__asan" in open(zpipe, "rb").read()
    open("lines", "w").write("x\n" * 100000)
    if not asan:
        status, out, err = run("sort lines > out; wc -l < out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (128 << 10, 128 << 10)))
        assert (status, out, err) == (0, b"100000\n", ""), (status, out, err)
    for mib in [] if asan else range(16, 36, 2): # sanitizers need terabytes
        status, out, err = run("echo x", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20)))
        assert (status, out) == (0, b"x\n") or status == 125 and err.count("\n") == 1 or status == 127 and "shared" in err, (mib, status, err)



@case
def no_home_no_environment():
    os.mkdir("home", 0o555)
    for env in ({"PATH": "/usr/bin:/bin"}, {}, {"HOME": os.path.abspath("home"), "PATH": ""}, {"HOME": "/nonexistent"}):
        status, out, err = run("cat | cat", stdin=b"x", env=env)
        assert (status, out, err) == (0, b"x", ""), (env, status, err)


@case
def no_shared_memory():
    plain = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro,mode=0 none /dev/shm && exec \"$@\"", "sh"]
    unshare = plain if os.geteuid() == 0 else plain[:1] + ["-Ur"] + plain[1:]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("cannot hide /dev/shm here")
    p = subprocess.run([*unshare, zpipe, "echo x | sort"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (p.returncode, p.stdout) == (0, b"x\n"), p


@case
def a_store_with_little_room():
    os.mkdir("store")
    status, out, err = run("--store", "gone", "map cat", stdin=b"x\n")
    assert status == 125 and "'gone'" in err and "No such file" in err, (status, err)
    task = "with block=1 { map sh -c 'read n; head -c $n /dev/zero' }"
    status, out, err = run("--store", "store", task, stdin=b"3000000\n2\n")
    assert (status, len(out)) == (0, 3000002), (status, err)
    assert os.listdir("store") == []
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("cannot mount here")
    p = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m none store && exec \"$@\"", "sh", zpipe,
                        "--store", "store", task], input=b"3\n3000000\n", capture_output=True, timeout=120)
    err = p.stderr.decode()
    assert p.returncode == 125 and "No space left" in err and "--store" in err and "/store'" in err, (p.returncode, err)


@case
def temporary_directory_that_cannot_be_written():
    os.mkdir("full", 0o555)
    status, out, err = run("sort <<END\nb\na\nEND", env={**os.environ, "TMPDIR": "/nonexistent"})
    assert (status, out) == (0, b"a\nb\n") or status == 125 and "TMPDIR" in err, (status, out, err)


@case
def an_input_is_all_there_is():
    open("secret.txt", "w").write("secret\n")
    status, out, err = run("sh -c 'cat \"$0\"' \"$(printf /etc/shadow)\"")
    assert b"root" not in out
    status, out, err = run("sh -c 'x=secret; cat $x*'")  # no word of the text names it
    assert status != 0 and b"secret\n" not in out, (status, out, err)


@case
def no_network():
    status, out, err = run("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 1))'")
    assert status == 1 and "refused" not in err.lower(), err


@case
def the_same_twice():
    text = "date; mktemp -u; python3 -c 'import os,time;print(os.urandom(4),time.time(),os.getpid(),hash(\"a\"))'; uname -a; nproc"
    first, second = run(text), run(text)
    assert first[0] == 0 and first == second, (first, second)
    for one in ("date", "mktemp -u", "python3 -c 'import os,time;print(os.urandom(4),time.time(),os.getpid(),hash(\"a\"))'"):
        assert run(one) == run(one) and run(one)[0] == 0, run(one)


@case
def early_stop_many_times():
    """Under load, as in sh: status, what was read, and not a word more on stderr."""
    python = "python3 -c 'while True: print(1)' | head -1"
    texts = [("yes | head -1", (0, b"y\n", "")), ("seq 10000000 | head -1", (0, b"1\n", "")),
             ("sh -c 'yes; echo x >&2' | head -1", (0, b"y\n", "x\n"))]
    sh = subprocess.run(["sh", "-c", python], capture_output=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    texts.append((python, (sh.returncode, sh.stdout, sh.stderr.decode())))
    with busy(2):
        for i in range(int(os.environ.get("EARLY_STOPS", "8"))):
            for text, want in texts:
                got = run(text)
                assert got == want, (i, text, got, want)
            assert run("--pipefail", "yes | head -1")[0] == 0


passed = failed = skipped = 0
for f in [f for f in cases + long_ones if f.__name__ in args.case] if args.case else cases:
    with tempfile.TemporaryDirectory(prefix="zpipe-e2e-") as d:
        os.chdir(d)
        try:
            f()
            passed += 1
            print("ok    ", f.__name__)
        except Skip as s:
            skipped += 1
            print("skip  ", f.__name__, "-", s)
        except Exception as e:
            failed += 1
            print("FAIL  ", f.__name__, "-", type(e).__name__, str(e)[:600])
        sys.stdout.flush()
        os.chdir("/")
print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
sys.exit(1 if failed or not passed else 0)
