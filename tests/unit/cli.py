#!/usr/bin/env python3
"""The command's own words: each mistake gets one sentence and its status; what is printed is printed, or it says why not.

    cli.py BIN"""
import http.client, os, resource, signal, subprocess, sys, tempfile

bin = os.path.abspath(sys.argv[1])
zpipe = os.path.join(bin, "zpipe")
TIMEOUT = 60
failed = 0


def run(*words, close=(), prepare=None, **how):
    """Status, stdout and stderr; `close`: descriptors that it has not."""
    def child():
        for fd in close:
            os.close(fd)
        if prepare:
            prepare()
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **how}
    r = subprocess.run([zpipe, *words], preexec_fn=child, timeout=TIMEOUT, **how)
    return r.returncode, (r.stdout or b"").decode(), (r.stderr or b"").decode()


def check(what, good, *shown):
    global failed
    if not good:
        failed += 1
        print("%s: %s" % (what, " ".join("%.400r" % s for s in shown)))


def help():
    status, out, _ = run("--help")
    check("--help", status == 0 and "zpipe serve" in out, status, out)
    for line in out.split("\n\n")[0].splitlines()[1:]:
        name = line.split()[1]
        for words in (name, "--help"), (name, "-h"):
            status, said, err = run(*words)
            check("zpipe " + " ".join(words), status == 0 and "zpipe" in said and name in said and not err, status, said, err)
    status, out, err = run("run", "x.zp", "--hlep")
    check("a misspelt option", status == 125 and err == "zpipe: there is no option --hlep; `zpipe --help` lists them\n", status, err)


# Where an option has no effect it is refused.  Each command with one that is another's, and what is said.
NO_EFFECT = (("status --split never", "--split"), ("cancel 3 --env A=b", "--env"), ("attach 3 --joblog f", "--joblog"), ("logs 3 -j4", "-j"),
             ("drain w --pipefail", "--pipefail"), ("replay d --audit 1%", "--audit"), ("plan --joblog f cat", "--joblog"),
             ("submit --isolation none cat", "--isolation"), ("submit --progress cat", "--progress"), ("classify --http :1 cat", "--http"),
             ("keygen --slots 3", "--slots"), ("scheduler --data-listen tcp://x:1", "--data-listen"), ("worker --listen x", "--listen"),
             ("keeper --store d", "--store"), ("serve cat --joblog f", "--joblog"), ("run f --json", "--json"), ("cat --listen x", "--listen"))


def options():
    for words, option in NO_EFFECT:
        words = words.split()
        name = words[0] if words[0] != "cat" else "'PIPELINE'"
        status, out, err = run(*words)
        said = "zpipe: %s is no option of `zpipe %s`: it would have no effect there\n" % (option, name)
        check(" ".join(words), status == 125 and err == said, status, out, err)
    for words, said in (("scheduler allow client K --keys d --listen x", "zpipe scheduler allow takes --keys and no other option"),
                        ("--cluster tcp://x:1 --keys d --slots 2 cat", "--slots is about this process, and the programs run on the workers of "
                         "tcp://x:1: leave it out, or say --cluster ''"),
                        ("--keys d cat", "--keys is for a cluster: say which one, with --cluster URL"),
                        ("--record no --record-tasks 1/1 cat", "--record-tasks keeps tasks, and --record no keeps none: leave one out"),
                        ("status ::: a", "`:::` is for the files of a pipeline, not for `zpipe status`")):
        status, out, err = run(*words.split())
        check(words, status == 125 and err == "zpipe: " + said + "\n", status, out, err)
    for words, said in (("--serve 3 --seed 1", "with --serve"), ("--templates=never -- true", "--templates and --lane go with --serve"),
                        ("--digest -- true", "--digest is for the report"), ("--verify --trace t -- true", "--verify compares the calls"),
                        ("--isolation=none --seed 1 -- true", "without isolation"), ("--isolation=none --procs 3 -- true", "without isolation"),
                        ("--files 3 -- true", "'3' is no number of open files from 4 to 1024"), ("--files 1025 -- true", "'1025' is no number")):
        status, out, err = run("box", *words.split())
        check("box " + words, status == 125 and err.startswith("zpipe-box: " + said) and not os.path.exists("t"), status, out, err)
    check("the least of descriptors is enough", run("box", "--files", "4", "--", "cat", "/etc/hostname")[:2] == (0, "zpipe\n"))


def stdout():
    """What nobody took was not printed, and is no success."""
    for words in ("--help",), ("--version",), ("run", "--help"), ("plan", "cat a"):
        with open("/dev/full", "w") as full:
            status, _, err = run(*words, stdout=full)
        check("%s > /dev/full" % (words,), status == 125 and err == "zpipe: cannot write to stdout: No space left on device\n", status, err)
        status, _, err = run(*words, close=[1])
        check("%s >&-" % (words,), status == 125 and err == "zpipe: cannot write to stdout: Bad file descriptor\n", status, err)
    status, out, err = run("--version", close=[0, 2])
    check("--version <&- 2>&-", status == 0 and out.startswith("zpipe "), status, out)


def terminal():
    """What a terminal would obey is not for it."""
    evil = "x\x1b[31m\u009b2J\x7f"
    for words in ("nosuch" + evil,), ("true > '%s/f'" % evil,), ("run", evil), ("--store", evil, "true"), ("a", evil), ("--" + evil,):
        status, _, err = run(*words)
        check("%r" % (words,), status in (125, 126, 127) and err.endswith("\n") and not set(err) & set("\x1b\x7f\u009b"), status, err)


    status, out, err = run("plan", "sort '%s'" % evil)
    check("a plan", status == 0 and "sort" in out and not set(out) & set("\x1b\x7f\u009b"), status, out, err)


def configuration():
    open("nul.conf", "wb").write(b"slots = 2\0\nnonsense\n")
    status, _, err = run("--config", "nul.conf", "true")
    check("a NUL in a configuration", status == 125 and err == "zpipe: the configuration 'nul.conf' holds a NUL byte\n", status, err)
    for size, wanted in (65536, ""), (65537, "zpipe: the configuration 'large.conf' is larger than 65536 bytes\n"):
        open("large.conf", "w").write("#" * size)
        status, _, err = run("--config", "large.conf", "true")
        check("a configuration of %d bytes" % size, status == (125 if wanted else 0) and err == wanted, status, err)
    for size, wanted in (16 << 20, ""), ((16 << 20) + 1, "zpipe: the job file 'job' is larger than 16777216 bytes\n"):
        open("job", "w").write("true".ljust(size, "\n"))
        status, _, err = run("run", "job")
        check("a job file of %d bytes" % size, status == (125 if wanted else 0) and err == wanted, status, err)


def keys():
    """Who is allowed: no word of several at once is lost, who is denied is out, and a file is whole or not there."""
    status, _, err = run("keygen", "--dir", "keys")
    check("keygen", status == 0, status, err)
    text = open("keys/allow").read()
    pubs = ["%s%039d" % (c, 0) for c in "abcdefgh"]
    each = [subprocess.Popen([zpipe, "scheduler", "allow", "client", k, "me", "--keys", "keys"]) for k in pubs]
    check("eight at once", [p.wait(TIMEOUT) for p in each] == [0] * 8)
    now = open("keys/allow").read()
    check("all are there", now.startswith(text) and all("client %s me\n" % k in now for k in pubs), now)
    open("keys/allow", "a").write("client %s me\n" % pubs[0])
    status, _, err = run("scheduler", "deny", pubs[0], "--keys", "keys")
    check("one that is there twice is denied", status == 0 and pubs[0] not in open("keys/allow").read(), status, err)
    for what, more in ("holds a NUL byte", "\0"), ("is larger than 1048576 bytes", "#" * (1 << 20)):
        open("keys/allow", "w").write(text + "# %s\n" % more)
        status, _, err = run("scheduler", "allow", "client", pubs[0], "me", "--keys", "keys")
        check("a list that " + what, status == 125 and err == "zpipe: the key file 'keys/allow' %s\n" % what, status, err)
        check("it stays as it is", open("keys/allow").read() == text + "# %s\n" % more)

    def no_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    status, _, err = run("keygen", "--dir", "mine", "me", prepare=no_files)
    check("no room for a key", status == 125 and "cannot write the key file 'own.key': File too large" in err and not os.listdir("mine"),
          status, err, os.listdir("mine"))
    status, _, err = run("keygen", "--dir", "mine", "me")
    check("room again", status == 0 and sorted(os.listdir("mine")) == ["own.key", "own.pub"], status, err)


def ports():
    for address in "127.0.0.1:65536", "127.0.0.1:99999999999999999999", "127.0.0.1:-1", "127.0.0.1:8o", "127.0.0.1:":
        for words in ("--http", address), ("--listen", "tcp://" + address):
            status, _, err = run("serve", "cat", *words)
            check("%s %s" % words, status == 125 and err == "zpipe: '%s' is not HOST:PORT, as in 127.0.0.1:8080\n" % address, status, err)


def file_size():
    """A limit of file sizes costs the request that meets it, not the server; and its files are where --store says."""
    os.mkdir("store")
    p = subprocess.Popen([zpipe, "serve", "wc -c", "--store", "store", "--http", "127.0.0.1:0"], stdout=subprocess.PIPE)
    port = int(p.stdout.readline().split(b":")[-1])

    def post(body):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        c.request("POST", "/", body)
        return c.getresponse().status, c
    try:
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        check("a body larger than a file may be", post(b"x" * (2 << 20))[0] == 507)
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        check("the next one", post(b"x")[0] == 200)
        half = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        half.putrequest("POST", "/")
        half.putheader("Content-Length", "100000")
        half.endheaders(b"y" * 50000)
        post(b"x")
        links = [os.readlink(f.path) for f in os.scandir("/proc/%d/fd" % p.pid) if os.path.islink(f.path)]
        check("the body's file", any(f.startswith(os.path.abspath("store") + "/") for f in links), links)
        half.close()
    finally:
        p.terminate()
        check("its end", p.wait(TIMEOUT) == 0, p.returncode)


with tempfile.TemporaryDirectory(prefix="zpipe-cli-") as d:
    os.chdir(d)
    os.environ.update(HOME=d, XDG_CACHE_HOME=d + "/cache", XDG_CONFIG_HOME=d + "/config")
    open("a", "w").write("a\n")
    for case in help, options, stdout, terminal, configuration, keys, ports, file_size:
        case()
print("%d failed" % failed)
sys.exit(failed > 0)
