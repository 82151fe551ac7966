"""Rows nobody thought of: random pipelines over the files that run.py makes.  The same seed, the same rows."""
import random

FILES = ["a.txt", "b.txt", "words.txt", "t.tsv", "u.tsv", "big.txt", "nul.bin", "empty.txt", "nonl.txt", "pairs.txt", "'two words.txt'",
         "logs/0.txt", "logs/1.txt", "patterns", "./a.txt", "nosuch.txt", "*.tsv", "logs/*.txt", "[ab].txt", "t?o*.txt"]
WORDS = ["the", "fox", "x", "a", "^a", "o\\>", "[aeiou]", ".", "", "k3", "line 7", "zzz", "}", "'", "a*", "\\."]
OUTPUTS = ["o1.txt", "o2.txt", "o3.txt", "'o 4.txt'", "logs/o5.txt"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def one(self, *of):
        return self.r.choice(of)

    def some(self, of, most=2):
        return " ".join(self.r.sample(of, self.r.randint(0, min(most, len(of)))))

    def chance(self, p):
        return self.r.random() < p

    def quote(self, word):
        """One of the ways to write it."""
        if not word or "'" in word or "\\" in word:
            return '"%s"' % word.replace("\\", "\\\\")
        form = self.r.randrange(4)
        if form == 0 and word.isalnum():
            return word
        if form == 1 and not set(word) & set("$`\\\""):
            return '"%s"' % word
        if form == 2 and len(word) > 1:
            return "'%s''%s'" % (word[:1], word[1:])
        return "'%s'" % word

    def file(self):
        return self.one(*FILES)

    def files(self):
        return " ".join(self.file() for _ in range(self.one(1, 1, 1, 2, 3)))

    def number(self):
        return self.one(0, 1, 2, 3, 5, 10, 100, 1000)

    def filter(self):
        n, w, q = self.number(), self.one(*WORDS), self.quote
        return self.one(
            lambda: "grep %s %s" % (self.some(["-v", "-i", "-c", "-n", "-x", "-w", "-o", "-F", "-E", "-m2", "-A1", "-q", "-s", "-b"]), q(w)),
            lambda: "grep -f patterns", lambda: "grep -e %s -e %s" % (q(w), q(self.one(*WORDS))),
            lambda: "sed %s" % q(self.one("s/a/b/", "s/[aeiou]/<&>/g", "2d", "$ !d", "1,3p", "/x/d", "y/abc/ABC/", "s/\\(.\\)\\(.\\)/\\2\\1/", "=", "G", "3q", "q7", "n;d")),
            lambda: "sed -n %s" % q(self.one("2,3p", "$p", "/the/p", "$=", "1~3p")),
            lambda: "tr %s" % self.one("a-z A-Z", "-d '\\n'", "-s ' '", "-cs A-Za-z '\\n'", "'[:upper:]' '[:lower:]'", "-d aeiou", "'\\000' n"),
            lambda: "cut %s" % self.one("-c1-3", "-f1", "-f2-", "-d' ' -f1,3", "-b2", "-d, -f1 -s", "-c-2 --output-delimiter=:", "-f0"),
            lambda: "sort %s" % self.some(["-r", "-n", "-u", "-f", "-b", "-k2", "-k2,2n", "-s", "-t: -k1", "-z", "-c", "-d", "-h", "-V"]),
            lambda: "uniq %s" % self.some(["-c", "-d", "-u", "-i", "-f1", "-w3", "-s2"]),
            lambda: "head %s" % self.one("", "-n %s" % n, "-n -%s" % n, "-c %s" % n, "-%s" % max(n, 1), "-q"),
            lambda: "tail %s" % self.one("", "-n %s" % n, "-n +%s" % n, "-c %s" % n, "-c +%s" % n),
            lambda: "wc %s" % self.some(["-l", "-w", "-c", "-m", "-L"]),
            lambda: "awk %s" % q(self.one("{ print $1 }", "NR % 2", "{ s += $1 } END { print s }", "{ print NF, $0 }", "END { print NR }", "length > 5", "/a/ { n++ } END { print n + 0 }", "{ print > \"/dev/stderr\" }", "NR == 3 { exit 4 }")),
            lambda: self.one("rev", "tac", "nl", "nl -ba", "cat -n", "cat -A", "cat -s", "cat", "fold -w 7", "fold -sw10", "expand", "unexpand -a", "fmt -w 20", "paste -s", "paste - -", "paste -d, - - -", "od -c", "od -An -tx1", "cksum", "md5sum", "sha256sum", "base64", "base64 | base64 -d", "xxd | head -3", "tsort", "shuf -n0", "numfmt --to=si --invalid=ignore", "column -t", "pr -t -2", "sum", "strings"),
            lambda: self.one("xargs", "xargs -n2 echo", "xargs -I{} echo '<{}>'", "xargs -n1 | sort | uniq -c", "xargs -0 printf '%s;'", "xargs false"),
            lambda: "tee %s" % self.output(), lambda: "tee /dev/null", lambda: "tee -a %s" % self.output(),
            lambda: "join %s - u.tsv" % self.some(["-a1", "-v1", "-1 1", "-t ' '"]), lambda: "comm %s - words.txt" % self.some(["-1", "-2", "-3", "-12"]),
            lambda: "cat - %s" % self.file(), lambda: "cat %s -" % self.file(), lambda: "paste - %s" % self.file(), lambda: "diff - %s" % self.file(), lambda: "cmp - %s" % self.file(),
            lambda: "sh -c %s" % q(self.one("cat", "read x; cat", "head -1; cat >/dev/null", "exit 3", "cat; exit 2", "cat >&2", "sort; echo end")),
            lambda: self.one("true", "false", "echo done", "printf '%s\\n' a b", "./up.sh", "./count.pl", "cat nosuch", ": ", "env printf 'x%dy\\n' 7", "test -s a.txt", "LC_ALL=C sort", "X=1 sh -c 'echo $X'", "exec cat", "command cat"),
            lambda: "{ %s; }" % self.one("cat", "head -1; cat", "cat; false", "read x; echo \"$x\""), lambda: "(%s)" % self.one("cat", "sort | uniq", "cat; echo $?"),
            lambda: "while read -r a b; do echo \"$b $a\"; done", lambda: "if grep -q x; then echo yes; else echo no; fi",
            lambda: "cat <<END\nhere %s\nEND" % self.one("$((1+2))", "'q'", "`echo y`", "\\$x", ""), lambda: "cat <<'END'\n$x `y` \\\nEND",
                   )()

    def output(self):
        """A name that this pipeline has not written yet."""
        name = self.one(*(o for o in OUTPUTS if o not in self.written)) if len(self.written) < len(OUTPUTS) else "/dev/null"
        self.written.append(name)
        return name

    def source(self):
        return self.one(
            lambda: "cat %s" % self.files(), lambda: "seq %s" % self.one("5", "1000", "3 -1 0", "1 3 20", "x"), lambda: "sort %s" % self.files(),
            lambda: "grep %s %s %s" % (self.some(["-h", "-l", "-c", "-L", "-r"], 1), self.quote(self.one(*WORDS)), self.files()), lambda: "echo %s" % self.some(["a", "b", "'c d'", "*.tsv", "-n", "\\\\n", "\"x\""], 5),
            lambda: "head -2 %s" % self.files(), lambda: "wc %s" % self.files(), lambda: "printf '%%s\\n' %s" % self.files(), lambda: "ls %s" % self.one("*.txt", "nosuch", "a.txt"),
            lambda: "tail -n2 %s" % self.files(), lambda: "cut -c1 %s" % self.files(), lambda: "yes", lambda: "paste %s %s" % (self.file(), self.file()), lambda: "awk 'FNR == 1 { print FILENAME }' %s" % self.files(),
            self.filter, self.filter, self.filter)()

    def stage(self, text, last):
        if text == "yes":
            return text  # into a file it would go on until the disk is full
        p = 0.35 if last else 0.04
        if self.chance(0.05):
            text += " < %s" % self.one("a.txt", "words.txt", "empty.txt", "t.tsv")
        if self.chance(p):
            text += " %s%s%s" % (self.one(">", ">", ">>", ">|", "1>"), self.one("", " "), self.output())
        if self.chance(0.08):
            text += self.one(" 2>/dev/null", " 2>&1", " 2> %s" % self.output() if self.chance(0.5) else " 2>&1", " >&2", " 2>&1 >/dev/null")
        return text

    def pipeline(self):
        self.written = []
        count = self.one(1, 2, 2, 3, 3, 4, 5, 7)
        parts = [self.source()] + [self.filter() for _ in range(count - 1)]
        if parts[0] == "yes":
            parts.insert(1, "head -n %s" % self.number())
        text = ""
        for i, part in enumerate(parts):
            part = self.stage(part, i == len(parts) - 1) if "<<" not in part else part
            glue = "\n" if "<<" in text.rpartition("\n")[0] or "END" == text[-3:] else self.one(" | ", " | ", "|", " |\n", " | \\\n")
            if text.endswith("END"):
                return text  # a heredoc's end is a line of its own
            text += (glue if text else "") + part
        return text


def rows(make, seed, count):
    """make(name, flags, lines) for each."""
    for i in range(count):
        g = Generator("%d.%d" % (seed, i))
        flags = ["stdin=" + g.one("a.txt", "|words.txt", "/dev/null", "t.tsv", "nul.bin", "|big.txt")]
        yield make("random-%d-%d" % (seed, i), flags, [l + "\n" for l in g.pipeline().split("\n")])


class Edges:
    """Job files in which pipelines have names, are used more than once, part and meet again."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names, self.outputs = [], 0

    def one(self, *of):
        return self.r.choice(of)

    def filter(self):
        return self.one("grep %d" % self.r.randrange(10), "tr 0-9 a-j", "sort", "sort -r", "tac", "uniq", "cut -c2-", "sed 's/1/one/'", "cat", "rev",
                        "sed -n 'p;p'", "awk '{ print NR % 7, $0 }'", "sh -c 'cat; echo end'", "perl -pe 's/2/two/'")

    def source(self, depth=0):
        if self.names and self.r.random() < 0.6:
            return self.one(*self.names)
        if depth < 2 and self.r.random() < 0.4:
            return self.reader(depth + 1)
        return self.one("cat big.txt", "seq %d" % self.one(10, 1000, 200000), "cat a.txt b.txt", "sort words.txt", "cat big.txt big.txt", "cat empty.txt")

    def pipeline(self, depth=0):
        return " | ".join([self.source(depth)] + [self.filter() for _ in range(self.one(0, 1, 1, 2))])

    def edge(self, depth):
        return "<(%s)" % self.pipeline(depth)

    def reader(self, depth=0):
        a, b = self.edge(depth), self.edge(depth)
        return self.one("cat %s %s", "paste %s %s", "sort -m %s %s", "cat %s a.txt %s", "comm --nocheck-order %s %s",
                        "diff %s %s | head -c 100000") % (a, b)

    def output(self):
        self.outputs += 1
        return "o%d.txt" % self.outputs

    def statement(self):
        text = self.one(self.reader, self.pipeline)()
        parts = self.r.random() < 0.3
        if parts:
            text += " | tee %s" % " ".join(">(%s > %s)" % (self.filter(), self.output()) for _ in range(self.one(1, 1, 2)))
        # a job's status is that of its first statement that fails, a shell's that of the last: here none fails
        # what a tee has written elsewhere when its reader leaves is a matter of time, in bash too
        early = () if parts else ("head -3", "head -c 50000 | md5sum", "uniq -c | head -5")
        text += " | " + self.one("cat", "cat", "wc", "tail -2", "cksum", "uniq -c", *early)
        return text + self.one("", " > " + self.output())

    def job(self):
        lines = []
        for name in "abc"[:self.one(1, 2, 2, 3)]:
            lines.append("%s = %s" % (name, self.pipeline()))
            self.names.append(name)
        return lines + [self.statement() for _ in range(self.one(1, 2, 3))]


def edges(row, seed, count):
    """Rows with the names that the seed gives; a row by its name alone is made with --seed."""
    for i in range(count):
        yield row("edges-%d" % (seed + i), ["job"], [l + "\n" for l in Edges(seed + i).job()])
