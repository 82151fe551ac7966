#!/usr/bin/env python3
"""Runs what the documents show:   docs.py --bin DIR FILE...

In an indented block (or, in a manual page, between ``` lines) a line that begins with `$ ` is a command, goes on in lines
that begin with `> `, and the lines up to the next command are what it prints on stdout and stderr, if there are any.  It must succeed,
unless the block's last line of output is `[N]`, its status.  The commands of one block run in one shell, in a fresh
directory that holds a copy of examples/ and the files below; port 7117 becomes a free one."""
import argparse, os, re, shutil, signal, socket, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = {
    "words.txt": "fox\nthe\nax\nx\n", "a.txt": "One fox\ntwo\n", "b.txt": "two\nthe fox\n",
    "t.tsv": "k2\tb\t2\nk1\ta\t1\n", "logs/1.txt": "one\ntwo words here\n", "logs/2.txt": "more two words\n",
    "access.log": '1.2.3.4 - - [1/Jan] "GET /a HTTP/1.1" 200\n1.2.3.5 - - [1/Jan] "GET /b HTTP/1.1" 200 bot\n',
    "parse.py": "#!/usr/bin/python3\nimport sys\nfor line in sys.stdin:\n    print(sys.argv[1], line.strip())\n",
}


def blocks(path):
    """(line number, [(command, expected lines)]) of every block that has a command."""
    number, block, fenced = 0, [], False
    for at, line in enumerate(open(path).read().split("\n") + [""], 1):
        if line.strip() == "```":
            fenced = not fenced
            line = ""
        inside = fenced or re.match(r"    |\t", line)
        text = line if fenced else re.sub(r"^(    |\t)", "", line)
        if inside and text.startswith("$ "):
            number = number if block else at
            block.append((text[2:], []))
        elif inside and block and not block[-1][1] and text.startswith("> "):
            block[-1] = (block[-1][0] + "\n" + text[2:], [])
        elif inside and block:
            block[-1][1].append(text)
        elif block and not inside:
            yield number, block
            block = []


def run(block, zpipe_dir, port):
    """What is wrong with the block, or None."""
    with tempfile.TemporaryDirectory(prefix="zpipe-docs-") as d:
        shutil.copytree(os.path.join(ROOT, "examples"), os.path.join(d, "examples"))
        for name, text in FILES.items():
            os.makedirs(os.path.dirname(os.path.join(d, name)), exist_ok=True)
            with open(os.path.join(d, name), "w") as f:
                f.write(text)
        os.chmod(os.path.join(d, "parse.py"), 0o755)
        script = "".join("{ %s\n} > %d.out 2>&1\necho $? > %d.status\n" % (c.replace("7117", str(port)), i, i)
                         for i, (c, _) in enumerate(block))
        env = {**os.environ, "PATH": zpipe_dir + ":" + os.environ["PATH"]}
        p = subprocess.Popen(["sh", "-c", script], cwd=d, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            p.wait(timeout=120)
        except subprocess.TimeoutExpired:
            return "takes longer than 120 s"
        finally:
            try:
                os.killpg(p.pid, signal.SIGKILL)  # what the block left in the background
            except ProcessLookupError:
                pass
        for i, (command, want) in enumerate(block):
            status = open("%s/%d.status" % (d, i)).read().strip()
            got = open("%s/%d.out" % (d, i), errors="replace").read().rstrip("\n").split("\n")
            code = want[-1][1:-1] if want and re.fullmatch(r"\[\d+\]", want[-1]) else "0"
            want = want[:-1] if code != "0" else want
            if status != code or (want and got != want):
                return "`%s`: status %s, prints:\n%s" % (command, status, "\n".join(got))
    return None


ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True)
ap.add_argument("--together", action="store_true", help="all blocks of a file are one: it tells a story")
ap.add_argument("file", nargs="+")
args = ap.parse_args()
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    free = s.getsockname()[1]
ran = failed = 0
for path in args.file:
    parts = list(blocks(path))
    for number, block in [(1, sum((b for _, b in parts), []))] if args.together else parts:
        wrong = run(block, os.path.abspath(args.bin), free)
        ran += len(block)
        failed += wrong is not None
        print("%s %s:%d %s" % ("FAIL" if wrong else "ok  ", os.path.relpath(path, ROOT), number, wrong or block[0][0]), flush=True)
print("%d commands, %d blocks failed" % (ran, failed))
sys.exit(1 if failed or not ran else 0)
