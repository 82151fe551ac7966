"""Commands made of the forms of share/zpipe/commands.conf, by its grammar (zpipe.commands(5)): a form that is added there is tried.

What the table cannot say, scripts, patterns and the values of options, is taken from classes.test, where the same command has such a word; else from
WORDS."""
import fnmatch, os, re, shlex, shutil

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "..", "..", "share", "zpipe", "commands.conf")
FILES = ("a.txt", "b.txt", "c.txt")
WORDS = ("1", "2", "3", "7", "e", "a", ",", ":", " ", "1,2", "a-e")
OPTIONS = {"flags": 0, "values": 1, "many": 1, "maybe": 2, "files": 1, "outputs": 1, "drop": 1, "in-place": 2}
# Commands that print a time, a chance or the host, or write files that no word names: what they do differs, or is on purpose unlike sh (docs/DIFFERENCES.md).
LEFT_OUT = set("shuf split csplit touch cp patch sqlite3 file du stat readlink find ls tree tar date basename pr gunzip perl tee".split())
# Options of others that do, or that write elsewhere than behind the last byte where their output is a file (`xxd -r`).
NEVER = {"tail": "-f -F --follow --retry --pid -s", "sort": "-R -k=*R* --random-source --compress-program -T -o --files0-from --debug", "xargs": "-p -o -P -a -s -t",
         "grep": "-r -R -f --exclude-from -D -d", "sed": "-i -f --debug --follow-symlinks", "awk": "-f", "jq": "-f -L", "wc": "--files0-from", "iconv": "-c",
         "md5sum": "-c", "cksum": "-c", "hexdump": "-f", "xxd": "-r"}


class Form:
    def __init__(self, entry, text):
        self.entry, self.text = entry, text
        words = shlex.split(text.partition(" : ")[0])[1:] if " : " in text else []
        at = words.index("given") if "given" in words else len(words)
        self.conditions, self.given = words[:at], words[at + 1:] if at < len(words) else None


class Entry:
    def __init__(self, names):
        self.names, self.options, self.forms, self.operands = names, {}, [], ["none"]
        self.ordered = False

    def add(self, line):
        key, *words = line.split()
        if key in OPTIONS and words:
            for word in words:
                spellings = re.split(r",(?=-)", word)
                self.options.setdefault(spellings[0], [key, OPTIONS[key], spellings])
        elif key == "operands":
            self.operands = words
        elif key == "ordered":
            self.ordered = True
        elif key == "form":
            self.forms.append(Form(self, line))

    def first(self, spelling):
        return next((o for o, (_, _, all_of) in self.options.items() if spelling in all_of), None)

    def parse(self, words):
        """Options with their values, and operands, as the command takes them; None: an option that the table does not know."""
        options, operands, at = [], [], 0
        while at < len(words):
            w, at = words[at], at + 1
            if w == "--" or self.ordered and not (w.startswith("-") and len(w) > 1):
                return options, operands + words[at - (w != "--"):]
            if not w.startswith("-") or w == "-":
                operands.append(w)
                continue
            number = next((o for o, (_, _, all_of) in self.options.items() if "-NUM" in all_of), None) if re.fullmatch(r"-\d+", w) else None
            name, eq, value = w.partition("=") if w.startswith("--") else (w[:2], w[2:], w[2:])
            o = number or self.first(w) or self.first(name)
            if not o:
                return None
            takes = self.options[o][1]
            if number:
                options.append((o, w[1:]))
            elif takes == 0 and not w.startswith("--") and len(w) > 2 and w not in self.options[o][2]:
                options.append((o, None))
                words, at = words[:at] + ["-" + w[2:]] + words[at:], at
            elif takes == 1 and not eq:
                if at == len(words):
                    return None
                options.append((o, words[at]))
                at += 1
            else:
                options.append((o, value if eq and takes else None))
        return options, operands

    def form_of(self, options, operands):
        """The first form whose conditions hold."""
        files = sum(1 for o in operands if o in FILES)

        def holds(f, c):
            m = re.fullmatch(r"files([=>])(\d+)", c)
            if m:
                return files > int(m[2]) if m[1] == ">" else files == int(m[2])
            name, eq, pattern = c.partition("=")
            values = [v for o, v in options if o == name]
            return bool(values) and (not eq or any(fnmatch.fnmatchcase(v or "", unescaped(pattern)) for v in values))
        for f in self.forms:
            given = f.given is None or len(f.given) == len(operands) and all(g in ("*", o) for g, o in zip(f.given, operands))
            if given and all(holds(f, c) for c in f.conditions):
                return f
        return None


def unescaped(text):
    return text.replace("\\n", "\n").replace("\\t", "\t").replace("\\s", " ")


def filled(pattern, r):
    """A word that the pattern stands for."""
    def one(m):
        t = m[0]
        if t == "*":
            return r.choice(("", "1", "2"))
        if t == "?":
            return r.choice("123456789")
        inside = t[1:-1]
        return r.choice([c for c in "0123456789xK:% " if fnmatch.fnmatchcase(c, "[%s]" % inside)])
    return re.sub(r"\*|\?|\[[^]]*\]", one, unescaped(pattern))


def entries(path=TABLE):
    found = []
    for line in open(path).read().split("\n"):
        line = line.strip()
        if line.startswith("command "):
            found.append(Entry(line.split()[1:]))
        elif line.startswith("exactly "):
            found.append(Entry([line]))  # its words are all that it is: classes.test has them
        elif line and not line.startswith("#") and found:
            found[-1].add(line)
    return [e for e in found if not e.names[0].startswith("exactly ")]


class Commands:
    """Deals out commands, of each form of the table in turn, in an order of the seed's."""

    def __init__(self, r, examples, refused):
        self.r, self.refused, self.deck, self.drawn, self.rounds = r, refused, [], set(), 0
        here = [e for e in entries() if not LEFT_OUT & {e.names[0]} and any(map(shutil.which, e.names))]
        # whether files are small is zpipe's to see: the same commands are drawn for the form behind
        self.forms = [f for e in here for f in e.forms if "small" not in f.conditions and not self.never(e) & {n for c in f.conditions for n in (c, c.partition("=")[0])}]
        self.all = sum(len(e.forms) for e in entries())
        self.values, self.operands = {}, {}
        for words in examples:
            for e in here:
                parsed = e.parse(words[1:]) if words[0] in e.names else None
                for o, v in parsed[0] if parsed else ():
                    if v is not None:
                        self.values.setdefault((e.names[0], o), []).append(v)
                if parsed:
                    self.operands.setdefault(e.names[0], []).append([w for w in parsed[1] if w not in FILES])

    @staticmethod
    def never(e):
        return set(NEVER.get(e.names[0], "").split()) | {o for o, (kind, _, _) in e.options.items() if kind in ("outputs", "in-place")}

    def value(self, e, o, pattern=None):
        kind, _, _ = e.options[o]
        known = self.values.get((e.names[0], o), [])
        fitting = [v for v in known if pattern is None or fnmatch.fnmatchcase(v, unescaped(pattern))]
        if pattern is not None and not (fitting and self.r.random() < 0.5):
            return filled(pattern, self.r)
        return self.r.choice(fitting) if fitting and self.r.random() < 0.9 else "patterns" if kind == "files" else self.r.choice(WORDS)

    def option(self, e, o, pattern=None):
        """In one of its spellings."""
        _, takes, spellings = e.options[o]
        s = self.r.choice(spellings)
        if takes == 0 or takes == 2 and pattern is None and self.r.random() < 0.7:
            return [s] if s != "-NUM" else [spellings[0]]
        v = self.value(e, o, pattern)
        if s == "-NUM":
            if v.isdigit():
                return ["-" + v]
            s = spellings[0]
        if s.startswith("--"):
            return [s + "=" + v]
        return [s + v] if v and (takes == 2 or self.r.random() < 0.5) and len(s) == 2 else [s, v] if takes == 1 else [s]

    def words(self, e, first):
        """Operands that are no files."""
        spec = e.operands
        count = int(spec[0]) if spec[0].isdigit() else 0
        known = self.operands.get(e.names[0], [])
        if spec[0] == "any":
            return self.r.choice(known) if known else []
        if "unless" in spec and set(spec[spec.index("unless") + 1:]) & first:
            return []
        known = [w for w in known if len(w) == count]
        return self.r.choice(known) if known else [self.r.choice(WORDS) for _ in range(count)]

    def command(self, f, source):
        e, r = f.entry, self.r
        options, taken, files = [], set(), None
        for c in f.conditions:
            if c == "small":  # as all files here are
                continue
            name, eq, pattern = c.partition("=")
            m = re.fullmatch(r"files([=>])(\d+)", c)
            if m:
                files = int(m[2]) + (m[1] == ">")
            else:
                options += self.option(e, name, pattern if eq else None)
                taken.add(name)
        more = [o for o in e.options if o not in taken and o not in self.never(e)]
        for o in r.sample(more, min(len(more), r.choice((0, 0, 0, 1, 1, 2)))):
            options += self.option(e, o)
            taken.add(o)
        if f.given is not None:
            known = [w for w in self.operands.get(e.names[0], []) if len(w) == len(f.given)]
            like = r.choice(known) if known else [r.choice(WORDS) for _ in f.given]
            named = "files" in e.operands and r.random() < 0.5
            operands = [r.choice(FILES) if g == "*" and named else w if g == "*" else g for g, w in zip(f.given, like)]
        else:
            operands = self.words(e, taken)
            if "files" in e.operands or "file" in e.operands:
                most = 1 if "output" in e.operands else 3
                files = files if files is not None else r.choice((0, 1, 1, 2)) if source else r.choice((0,) * 9 + (1,))
                operands = operands + [r.choice(FILES) for _ in range(min(files, most))]
        name = r.choice([n for n in e.names if shutil.which(n)])
        return [name, *options, *operands]

    def missed(self):
        """Forms that had several turns and of which no command could be made."""
        return [f for f in self.forms if f not in self.drawn] if self.rounds > 3 else []

    def next(self, source):
        """A command of the next form; its text."""
        for _ in range(1000):
            if not self.deck:
                self.deck = self.r.sample(self.forms, len(self.forms))
                self.rounds += 1
            f = self.deck.pop()
            for tries in range(20):
                words = self.command(f, source or tries >= 10)  # some forms take files only, wherever they stand
                parsed = f.entry.parse(words[1:])
                text = shlex.join(words)
                if not parsed or f.entry.form_of(*parsed) is not f or self.refused(text):
                    continue
                self.drawn.add(f)
                return text
        raise AssertionError("no form of the table can be made")
