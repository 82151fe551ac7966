#!/usr/bin/env python3
"""Real programs in a sandbox: the same bytes and status as bare, and the same again on a busy machine.

Each row of PROGRAMS is a name and a command; a row that begins with a word and `?` needs that program and is skipped
where it is not installed.  A command without shell characters is started itself, others by sh.  Rows of OWN show what is
constant inside and not outside: they are compared among themselves only.  Each is certified, but for those of UNCERTIFIED.

With --clones, instead: each as the tasks of a map, cold and from templates where it can be cloned: the same bytes and status.

    programs.py --bin DIR [--user UID] [--static FILE] [--runs N] [--clones] [ROW...]"""
import argparse, json, os, re, shlex, shutil, subprocess, sys, tempfile

from watch import SLOW, busy

RUNS = 2       # inside, without --runs
TASKS = 10     # of a map, with --clones: so many that a template is made before the first
TIMEOUT = 120 * SLOW  # of a run that hangs
SKIPPED = 77
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C", "TZ": "UTC"}
ENV.update(("GIT_%s_%s" % (who, what), value) for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "n"), ("EMAIL", "e"), ("DATE", "2020-01-01T00:00:00Z")))

PROGRAMS = """
cat             cat words -
tac             tac words
nl              nl -ba words
head            head -n 30 words
tail            tail -n +500 words
wc              wc words table
cut             cut -f 2,3 table
paste           paste words numbers
join            join -t '	' -1 1 -2 1 table table
comm            comm -12 sorted sorted
uniq            uniq -c sorted
sort            sort -k 2,2n -t '	' table
sort-stdin      sort -u
sort-reverse    sort -rn numbers
tr              tr a-z A-Z
fold            fold -w 20 words
fmt             fmt -w 60 words
pr              pr -2 -l 40 numbers | grep -v Page
expand          expand table
unexpand        unexpand -a words
od              od -An -tx1 words
base64          base64 words
base32          base32 words
basenc          basenc --base16 words
cksum           cksum words table
md5sum          md5sum words
sha1sum         sha1sum words
sha256sum       sha256sum words
sha512sum       sha512sum words
b2sum           b2sum words
sum             sum words
tsort           printf 'a b\\nb c\\na d\\n' | tsort
shuf-seeded     shuf --random-source=words numbers
factor          factor 123456789 1000000007
numfmt          numfmt --to=iec 1048576 123456789
seq             seq 1 7 500
expr            expr 6 '*' 7
printf          printf '%05d %s\\n' 42 x
basename        basename /a/b/c.txt .txt
dirname         dirname /a/b/c.txt
split           split -l 300 words part. && cat part.*
csplit          csplit -s words 100 200 && wc -l xx00 xx01 xx02
tee             tee copy < words > other && cmp copy other && cat copy
dd              dd if=words bs=100 count=7 status=none
truncate        cp words w && truncate -s 99 w && cat w
cp-mv-ln        cp words a && mv a b && ln b c && ln -s c d && cat d && rm b c d && ls | wc -l
mkdir           mkdir -p x/y/z && rmdir -p x/y/z && ls | wc -l
test            [ -f words ] && [ ! -e none ] && [ -d . ] && [ words -ef ./words ] && echo yes
test-pipe       [ -p /dev/stdin ] && echo pipe
test-newer      touch a; sleep 0.05; touch b; [ b -nt a ] && echo newer
touch-given     touch -d 2001-02-03 a; touch -d 2040-01-01 b; touch -a -d 2002-02-02 a; stat -c '%X %Y' a b; [ b -nt a ] && echo yes
times-kept      touch -d 2003-03-03 a && cp -p a b && tar cf t.tar a && rm a && tar xf t.tar && stat -c %Y a b
du-less         find . -name 'w*' -type f | sort
ls              ls -1
od-offset       od -j 100 -N 40 -c words
date-given      date -u -d '2001-02-03 04:05:06' +%s
yes-head        yes hello | head -n 3
timeout-part    timeout 0.5 sleep 0.7; echo $?; timeout 1.5 sleep 1; echo $?
env-i           env -i A=1 B=2 env
nice            nice -n 0 echo fine
timeout         timeout 1 sleep 5; echo $?
stream          seq 1 100000 | sort | tail -n 1; yes | head -c 1000000 | md5sum; yes | sed 5q | wc -l
xargs           xargs -n 3 echo < numbers
cmp             cmp words table; echo $?
diff            diff words sorted | tail -n 5
sdiff           sdiff -s numbers sorted | wc -l
grep            grep -n e words
grep-c          grep -c z words; grep -vE '^a|b$' words | tail -n 3
grep-r          grep -r 'ee' words sorted
sed             sed -n 's/e/E/gp' words
sed-i           cp words w && sed -i 3d w && cat w
gawk ?          gawk '{ n[length($0)]++ } END { for (k in n) print k, n[k] }' words
mawk ?          mawk '{ n[length($0)]++ } END { for (k in n) print k, n[k] }' words
awk-getline     awk 'BEGIN { while (("cat words" | getline l) > 0) n++; print n; system("echo sub") }'
perl            perl -ne '$n{length $_}++; END { print map { "$_ $n{$_}\\n" } sort { $a <=> $b } keys %n }' words
perl-fork       perl -e 'for (1..3) { if (!fork) { print "child $_\\n"; exit } wait }'
python          /usr/bin/python3 -c 'import json, re, collections, sys; print(json.dumps(collections.Counter(map(len, sys.stdin.read().split())), sort_keys=True))'
python-process  /usr/bin/python3 -c 'import subprocess; print(subprocess.run(["sort", "words"], capture_output=True, text=True).stdout[:200], subprocess.check_output("cat words | wc -l", shell=True))'
python-threads  /usr/bin/python3 -c 'import concurrent.futures as c; print(list(c.ThreadPoolExecutor(4).map(lambda x: x * x, range(50))))'
python-temp     /usr/bin/python3 -c 'import tempfile, os; f = tempfile.NamedTemporaryFile("w+"); f.write("text"); f.seek(0); print(f.read(), os.path.exists(f.name))'
python-asyncio  /usr/bin/python3 asynchronous.py
python-to-thread /usr/bin/python3 -c 'import asyncio; print(asyncio.run(asyncio.wait_for(asyncio.to_thread(sorted, [3, 1, 2]), 9)))'
python-spawn    /usr/bin/python3 -c 'import multiprocessing as m; print(m.get_context("spawn").Pool(2).map(abs, range(-9, 0)))'
python-pipe     /usr/bin/python3 -c 'import multiprocessing as m; a, b = m.Pipe(); p = m.Process(target=b.send, args=([1, 2],)); p.start(); print(a.recv()); p.join()'
python-sqlite   /usr/bin/python3 -c 'import sqlite3; c = sqlite3.connect("d.db"); c.execute("create table t(a)"); c.executemany("insert into t values(?)", [(i,) for i in range(100)]); c.commit(); print(c.execute("select sum(a) from t").fetchall())'
python-zip      /usr/bin/python3 -c 'import zipfile, gzip, bz2, lzma; z = zipfile.ZipFile("z.zip", "w"); z.write("words"); z.close(); print(zipfile.ZipFile("z.zip").read("words")[:50], len(gzip.compress(b"x" * 999, mtime=0)), len(lzma.compress(b"y" * 999)))'
python-select   /usr/bin/python3 -c 'import select, os; n = []\\nwhile select.select([0], [], []) and (b := os.read(0, 100000)): n.append(len(b))\\nprint(sum(n))'
lua5.4 ?        lua5.4 -e 'local n = 0; for l in io.lines("words") do n = n + #l end print(n, string.format("%.3f", math.sin(1)))'
sqlite3 ?       sqlite3 :memory: 'create table t(a, b); insert into t values(1, 2), (3, 4); select sum(a * b) from t;'
sqlite3-file ?  sqlite3 f.db 'create table t(a); insert into t values(7);' && sqlite3 f.db 'select * from t' && rm f.db
gzip            gzip -nc words | gzip -dc
gzip-bytes      gzip -nc < words | sha256sum
bzip2 ?         bzip2 -c words | bzip2 -dc | tail -n 1
xz ?            xz -c words | sha256sum; xz -T2 -c words | xz -dc | tail -n 1
zstd ?          zstd -qc words | zstd -qdc | tail -n 1
tar             tar cf t.tar words table && tar tf t.tar && mkdir o && tar xf t.tar -C o && cmp o/words words && echo same
tar-gzip        tar czf t.tgz --mtime=@0 --owner=0 --group=0 words && tar xzOf t.tgz | tail -n 1
cpio ?          echo words | cpio -o --quiet --reproducible | cpio -it --quiet
openssl ?       openssl dgst -sha256 words; openssl enc -aes-128-cbc -pass pass:x -nosalt -pbkdf2 -in words | openssl enc -d -aes-128-cbc -pass pass:x -nosalt -pbkdf2 | tail -n 1
jq ?            jq -c '.list | map(. * 2), (.name | ascii_upcase)' data.json
bash            bash -c 'a=(3 1 2); printf "%s\\n" "${a[@]}" | sort; cat <(echo one) <(echo two); while read -r x; do n=$((n + 1)); done < words; echo $n'
bash-job        bash -c 'for i in 1 2 3; do (echo job $i > f$i) & done; wait; cat f1 f2 f3; trap "echo bye" EXIT'
bash-stdin      bash -c 'while read -r line; do echo "<$line>"; done' | tail -n 5
dash            dash -c 'i=0; while [ $i -lt 50 ]; do i=$((i + 1)); done; echo $i; read x; echo $x'
git ?           git init -q r && git -C r add -A && cp words r/f && git -C r add f && git -C r commit -qm one && git -C r log --format=%H && git clone -q r s && git -C s fsck && rm -rf r s
groff ?         printf '.TH A 1\\n.SH NAME\\na - b\\n' | groff -man -Tutf8
ed ?            printf 'a\\nhello\\n.\\n1p\\nq!\\n' | ed -s; echo
tclsh ?         echo 'puts [lsort {c a b}]; puts [exec cat words | wc -l]' | tclsh
make            make -s -f Build all && cat made.txt
make-j          make -s -j 4 -f Build all && cat made.txt
make-again      make -s -f Build all && make -f Build all
gcc             gcc -O1 -o prog prog.c && ./prog a b
gcc-static      gcc -static -o prog prog.c && ./prog a b
gcc-object      gcc -O2 -c -o prog.o prog.c && sha256sum prog.o
gcc-pipe        gcc -pipe -x c -E - < prog.c | tail -n 3
ar              gcc -c prog.c && ar rcD lib.a prog.o && ar t lib.a && nm lib.a | grep -c main
node-threads ?  node -e 'const got = []; const { Worker } = require("worker_threads"); new Worker("require(`worker_threads`).parentPort.postMessage(6 * 7)", { eval: true }).on("message", m => got.push(m)); require("zlib").gzip("x".repeat(9999), (e, b) => got.push(b.length)); require("child_process").exec("sort words | tail -n 1", (e, out) => got.push(out)); setTimeout(() => got.push("late"), 900); process.on("exit", () => console.log(got.sort()))'
node ?          node -e 'let n = 0; process.stdin.on("data", d => n += d.length).on("end", () => console.log(n, [3, 1, 2].sort()))'
ruby ?          ruby -e 'n = Hash.new(0); STDIN.each_line { |l| n[l.size] += 1 }; p n.sort.first(3); q = Queue.new; 3.times.map { |i| Thread.new { q << i } }.each(&:join); p q.size'
mlr ?           mlr --inidx --ifs tab --oxtab stats1 -a mean,p50 -f 2 then put '$c = 1' table
fzf ?           fzf --filter=e5 < words | head -n 3
busybox ?       busybox sh -c 'busybox sort words | busybox uniq -c | busybox head -n 5; busybox date -u -d @0'
static          ./static
static-nested   sh -c 'env ./static; ./static | cat; bash -c "exec ./static"'
script          ./script.sh one two
script-env      ./script.py one
dev-stdin       cat /dev/stdin
dev-fd          sort /dev/fd/0
dev-fd-closed   /usr/bin/python3 -c 'import os; print([os.access("/dev/fd/%d" % n, os.R_OK) for n in (0, 9)]); os.open("/dev/stdin", os.O_NOFOLLOW)'
dev-stdout      tee /dev/stdout < words | wc -l
dev-null        cat words > /dev/null; cat /dev/null; head -c 5 /dev/zero | od -c
seek-stdin      (head -n 2 > /dev/null; cat) < words | head -n 3
"""

OWN = """
date            date; date +%N
random          od -An -N 16 -tx1 /dev/urandom; shuf -i 1-100 -n 5; mktemp -u
bash-random     bash -c 'echo $RANDOM $$ $SECONDS $EPOCHREALTIME $SRANDOM'
python-random   /usr/bin/python3 -c 'import os, random, uuid, time, tempfile; print(os.urandom(8), random.random(), uuid.uuid4(), uuid.uuid1(), time.time(), hash("x"), id(os), os.getpid(), {"a", "b", "c"}, object())'
perl-random     perl -e 'print rand(), time, " $$ @{[%ENV]} ", \\1, "\\n"'
lua-random ?    lua5.4 -e 'print(math.random(1000), os.time(), {})'
openssl-random ? openssl rand -hex 16
node-random ?   node -e 'console.log(Math.random(), Date.now(), process.hrtime(), process.pid, require("crypto").randomBytes(8).toString("hex"))'
node-memory ?   node -e 'const m = process.memoryUsage(), os = require("os"); console.log(m.rss, Object.keys(m), os.freemem(), os.cpus())'
gawk-random ?   gawk 'BEGIN { srand(); print rand(), systime(), PROCINFO["pid"] }'
ls-l            echo x > a; mkdir b; ls -lai --full-time
stat            stat words /tmp . /dev/stdin; stat -f .
tar-times       tar cf - words table | sha256sum
gzip-time       gzip -c words | sha256sum
find            touch a b; find . -printf '%p %T@ %i %n %U %D\\n' > list; sort list
nproc           nproc; uname -a; id; hostname; free 2>&1; uptime 2>&1; arch
time            bash -c 'time sleep 3'
ulimit          bash -c 'ulimit -a'
environment     env | sort
static-told     ./static x
gcc-date        printf 'int puts(const char *); int main(void) { return puts(__DATE__ __TIME__) < 0; }' > d.c && gcc -o d d.c && ./d
"""

# Why not, as the report says it; zpipe-box(7) has each among its limits.
UNCERTIFIED = {
    "timeout-part": "a timer of one process rings while another goes on",
    "timeout": "a timer of one process rings while another goes on",
    "python-asyncio": "looks whether a descriptor is ready",
    "node": "looks whether a descriptor is ready",
}
TOO_LONG = "one of its threads is at work for long while others wait for their turn"  # on a machine that is busy enough

FILES = {
    "words": "".join("%s%s%s\n" % ("abcdefghij"[i % 10], "elkmno"[i * 7 % 6] * (i % 5), i * 37 % 101) for i in range(800)),
    "numbers": "".join("%d\n" % (i * 7919 % 1000) for i in range(300)),
    "table": "".join("k%03d\t%d\t%s\n" % (i, i * 31 % 97, "xyz"[i % 3]) for i in range(200)),
    "data.json": '{"name": "zpipe", "list": [1, 2, 3]}\n',
    "prog.c": "#include <math.h>\n#include <stdio.h>\nint main(int n, char **v)\n{\n    for (int i = 1; i < n; i++)\n"
              "        printf(\"%d %s %.6f\\n\", i, v[i], sqrt(i));\n    return n;\n}\n",
    "Build": "all: made.txt\nmade.txt: one.txt two.txt\n\tcat one.txt two.txt > made.txt\n"
             "one.txt: numbers\n\tsort -n numbers | head -n 3 > one.txt\ntwo.txt: words\n\ttail -n 2 words > two.txt\n",
    "asynchronous.py": "import asyncio, sys\nasync def main():\n    reader = asyncio.StreamReader()\n"
                       "    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)\n"
                       "    count = 0\n    while await reader.readline():\n        count += 1\n    print(count)\nasyncio.run(main())\n",
    "script.sh": "#!/bin/sh\necho \"$0 $# $1\"\nexec cat words\n",
    "script.py": "#!/usr/bin/env python3\nimport sys\nprint(sys.argv)\n",
}


def rows(text):
    """(name, command or None when the program it needs is not there)"""
    for line in text.strip().split("\n"):
        name, needs, command = re.match(r"(\S+)( \?)? +(.*)", line).groups()
        missing = needs and not shutil.which(name.split("-")[0] if name != "lua-random" else "lua5.4", path=ENV["PATH"])
        yield name, None if missing else command.replace("\\n", "\n") if name == "python-select" else command


def argv_of(command):
    if re.search(r"[|;&<>$*?()\[\]~`#]|'", command):
        return ["sh", "-c", command]
    return shlex.split(command)


class Place:
    def __init__(self, a, work):
        self.user, self.runs, self.work = a.user, a.runs, work
        self.box, self.zpipe = shutil.copy(os.path.join(a.bin, "zpipe-box"), work), os.path.join(os.path.abspath(a.bin), "zpipe")
        self.files = os.path.join(work, "files")
        os.mkdir(self.files)
        for name, text in dict(FILES, sorted="".join(sorted(FILES["words"].splitlines(True)))).items():
            with open(os.path.join(self.files, name), "w") as f:
                f.write(text)
            os.chmod(f.name, 0o755 if name.startswith("script") else 0o644)
        self.names = sorted(os.listdir(self.files))
        if a.static:
            shutil.copy(a.static, os.path.join(self.files, "static"))
            self.names.append("static")
        os.chmod(work, 0o755)
        os.mkdir(os.path.join(work, "told"))
        os.chmod(os.path.join(work, "told"), 0o777)
        self.report = os.path.join(work, "told", "report")

    def start(self, argv, cwd):
        r = subprocess.run(argv, cwd=cwd, env=ENV, input=FILES["words"].encode(), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=TIMEOUT, user=self.user, group=self.user,
                           extra_groups=[] if self.user else None)
        return r.stdout, r.returncode, r.stderr

    def bare(self, command):
        with tempfile.TemporaryDirectory(dir=self.work) as place:
            for name in self.names:
                shutil.copy(os.path.join(self.files, name), place)
            if self.user:
                os.chown(place, self.user, self.user)
            return self.start(argv_of(command), place)

    def mapped(self, command, templates):
        """The result as ten tasks with `words` as stdin, and how many of them were clones."""
        with tempfile.TemporaryDirectory(dir=self.work) as place:
            for name in self.names:
                shutil.copy(os.path.join(self.files, name), place)
            given = [w for n in self.names for w in ("--with", n)]
            text = "cat %s | with fail=go { map per file { %s } }" % (" ".join(["words"] * TASKS), shlex.join(argv_of(command)))
            result = self.start([self.zpipe, "-j", "2", "--joblog", "log", "--templates", templates, *given, text], place)
            with open(os.path.join(place, "log")) as f:
                return result, f.read().count("\tclone\n")

    def inside(self, command):
        given = [w for n in self.names for w in ("--with", n)]
        kept = [w for n in ENV for w in ("--env", "%s=%s" % (n, ENV[n]))]
        result = self.start([self.box, "--report", self.report] + given + kept + ["--"] + argv_of(command), self.files)
        with open(self.report) as f:
            return result, json.load(f)["uncertified_why"]


def said(result):
    out, status, err = result
    return "status %d, %r, stderr %r" % (status, out[-300:], err[-300:])


def run_row(place, name, command, own):
    got, whys = zip(*(place.inside(command) for _ in range(place.runs)))
    strange = next((w for w in whys if w not in (None, TOO_LONG, UNCERTIFIED.get(name))), None)
    if strange or whys.count(TOO_LONG) == len(whys):
        return "is not certified: %s" % (strange or TOO_LONG)
    wrong = next((g for g in got if g[:2] != got[0][:2]), None)
    if wrong:
        return "%s\n      and again %s" % (said(got[0]), said(wrong))
    if own:
        return "" if got[0][1] == 0 else said(got[0])
    if place.user and name in ("dev-stdin", "dev-fd", "dev-fd-closed"):
        return ""  # bare, root's pipe cannot be opened by another
    want = place.bare(command)
    return "" if want[:2] == got[0][:2] else "%s\n      bare %s" % (said(got[0]), said(want))


def run_clones(place, name, command):
    """(what is wrong, how many were clones)"""
    cold, _ = place.mapped(command, "never")
    warm, clones = place.mapped(command, "auto")
    return "" if warm[:2] == cold[:2] else "%s\n      cold %s" % (said(warm), said(cold)), clones


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--static")
    p.add_argument("--user", type=int)
    p.add_argument("--runs", type=int, default=RUNS)
    p.add_argument("--clones", action="store_true")
    p.add_argument("row", nargs="*")
    a = p.parse_args()
    if a.user and os.geteuid() != 0:
        sys.exit(SKIPPED)
    failed = count = cloned = 0
    with busy(2, "nice"), tempfile.TemporaryDirectory() as work:
        place = Place(a, work)
        for text, own in ((PROGRAMS, False), (OWN, True)):
            for name, command in rows(text):
                if a.row and name not in a.row or "static" in name and name != "gcc-static" and not a.static:
                    continue
                if command is None:
                    print("skip   %s is not installed" % name)
                    continue
                wrong, clones = run_clones(place, name, command) if a.clones else (run_row(place, name, command, own), 0)
                cloned += clones > 0
                count += 1
                failed += bool(wrong)
                if wrong:
                    print("FAIL   %-16s %s" % (name, wrong), flush=True)
    print("%d programs, %d failed%s" % (count, failed, ", %d cloned" % cloned if a.clones else ""))
    return failed != 0 or (a.clones and not a.row and cloned < count // 8)


if __name__ == "__main__":
    sys.exit(main())
