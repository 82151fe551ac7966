/* Files named in texts that are programs: scripts of sed and awk, and texts for sh (whole stages, or the argument of `sh
 * -c`).  If only a part of a name is known (`> part-$i.txt`, `print > $1 ".txt"`) it becomes a pattern. */
#include "base/fds.h"
#include "dsl/commands.h"
#include "dsl/files.h"
#include "dsl/glob.h"
#include "dsl/lex.h"
#include "dsl/script_names.h"
#include "dsl/uses_inside.h"
#include "proto/graph.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SCRIPT_FILES_MAX       1000      /* files that a script may append to, which are inputs */
#define SCRIPT_DIRECTORIES_MAX 100       /* directories in which it may make files */
#define SCRIPT_NAMES_MAX       10000     /* names that are looked at to find these directories */
#define SCAN_WORDS_MAX         64        /* words of a command that are looked at for whether it reads the working directory */
#define SCRIPT_BYTES_MAX       (1 << 20) /* size of a script in a file; a longer one names nothing */

/* ---- scripts ------------------------------------------------------------------------------ */

struct scan {
    struct resolver *r;
    struct stage *s;
    int depth;
    size_t at;
    const char *command; /* the command, if it is sed or awk; else "" */
    bool first_seen;     /* the command's name was seen */
    bool shell;          /* a shell is among the words */
    bool text_next;      /* the next word is the shell's text (after -c) */
    bool file_next;      /* the next word is a script's file (after -f) */
    bool *makes;         /* set to true if one of the text's commands may make files; or NULL */
    bool word;           /* the text stands in a word, for a shell that the stage starts; the files it writes may be temporary */
    bool directories;    /* the words may name directories: `for d in logs`, `cd logs` */
    bool cd;             /* the command is cd */
    bool runs, edits;    /* the command runs what follows, as xargs does; sed or perl is run */
    bool says;           /* the command is echo or printf: its words may be saved and run */
    bool test;           /* the command is test: a directory may follow its -d */
    const char *by;      /* the interpreter whose program is the next word (`sh x.sh`); or NULL */
    const char *there;   /* the directory of the last `cd`, or NULL */
    bool away;           /* some `cd` was seen, wherever it goes */
    const struct command *known;
    const char *text[SCAN_WORDS_MAX]; /* the words behind the command */
    uint32_t words;      /* how many there are, also beyond SCAN_WORDS_MAX */
    bool dot;            /* an operand is the working directory */
};

static int scan_text(struct scan *c, const char *text, size_t size);

/* Files that match the pattern are outputs if the stage makes them.  Files that it may append to must be in the sandbox.
 * If they are too many, what the stage makes under such names is dropped, and the plan says so. */
static int made_pattern(struct scan *c, const char *pattern, bool appends)
{
    const struct use *before = c->s->maybe;
    struct glob_names names = {0};
    struct err quiet;
    bool few = !appends || (glob_expand(c->r->arena, c->r->in->directory, pattern, false, &names, &quiet) == 0 && names.count <= SCRIPT_FILES_MAX);
    c->s->appends_unseen |= !few;
    for (size_t i = 0; i < names.count && few; i++)
        if (uses_input(c->r, c->s, names.name[i], NULL, c->at, false, false) < 0)
            return -1;
    if (uses_maybe(c->r, c->s, pattern, c->at) < 0)
        return -1;
    if (c->s->maybe != before)
        c->s->maybe->pattern = true;
    return 0;
}

/* Names that a script or a shell puts together.  If the beginning of the name is not known, the file may be in any existing
 * directory; the directories nearest to the working directory come first. */
static int made_names(struct scan *c, const char *pattern, bool appends)
{
    const char *directory[SCRIPT_DIRECTORIES_MAX + 1] = {""};
    size_t count = 1, looked = 0;
    struct err quiet;
    struct stat st;
    if (made_pattern(c, pattern, appends) < 0)
        return -1;
    if (pattern[0] != '*' || c->s->holes_at)
        return 0;
    for (size_t i = 0; i < count && looked < SCRIPT_NAMES_MAX; i++) {
        struct glob_names names = {0};
        char *all = arena_alloc(c->r->arena, strlen(directory[i]) + 2);
        if (!all)
            return resolve_no_memory(c->r);
        strcpy(stpcpy(all, directory[i]), "*");
        if (glob_expand(c->r->arena, c->r->in->directory, all, false, &names, &quiet) < 0)
            return 0;
        looked += names.count;
        for (size_t k = 0; k < names.count && count <= SCRIPT_DIRECTORIES_MAX; k++) {
            const char *path = uses_path(c->r, names.name[k]);
            char *below = path ? arena_alloc(c->r->arena, 2 * strlen(names.name[k]) + strlen(pattern) + 4) : NULL;
            if (!below)
                return path ? resolve_no_memory(c->r) : -1;
            if (strpbrk(names.name[k], "*?[\\") || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                continue;
            char *name = below + strlen(names.name[k]) + strlen(pattern) + 2;
            strcpy(stpcpy(stpcpy(below, names.name[k]), "/"), pattern);
            strcpy(stpcpy(name, names.name[k]), "/");
            directory[count++] = name;
            if (made_pattern(c, below, appends) < 0)
                return -1;
        }
    }
    return 0;
}

/* Treats a name that a script of sed or awk uses like a word. */
static int script_told(struct script_names *n, enum script_use use, const char *name, size_t size)
{
    struct scan *c = n->owner;
    struct scan inner = {.r = c->r, .s = c->s, .depth = c->depth + 1, .at = c->at, .command = ""};
    char *word = arena_bytes(c->r->arena, name, size);
    if (!word)
        return resolve_no_memory(c->r);
    if (use == SCRIPT_MAKES || use == SCRIPT_ADDS)
        return made_names(c, word, use == SCRIPT_ADDS);
    if (use == SCRIPT_LISTS)
        c->s->reads_names = true;
    if (use == SCRIPT_LISTS)
        return 0;
    if (use == SCRIPT_RUNS)
        return c->depth < DSL_DEPTH_MAX ? scan_text(&inner, word, size) : 0;
    if (use == SCRIPT_WRITES && uses_maybe(c->r, c->s, word, c->at) < 0)
        return -1;
    return uses_input(c->r, c->s, word, NULL, c->at, false, false) < 0 ? -1 : 0;
}

static bool is_awk(const char *command)
{
    size_t n = strlen(command);
    return n >= 3 && n <= 4 && strcmp(command + n - 3, "awk") == 0;
}

bool uses_has_scripts(const char *command)
{
    return is_awk(command) || strcmp(command, "sed") == 0;
}

static int scan_shell_text(const struct scan *c, const char *text);

/* Is this string in an awk script the beginning of a text for sh?  `| "..."`, `| ("..."`, `system("..."` */
static bool begins_command(const char *script, const char *at)
{
    while (at > script && strchr(" \t(", at[-1]))
        at--;
    return at > script && (at[-1] == '|' || (at - script >= 6 && !strncmp(at - 6, "system", 6)));
}

/* A string with blanks in an awk script may be a text for sh, wherever it stands: `c = "sort > f"; print | c`, `system("cat
 * " $1 " >> f")`.  A text for sh is read together with the values and strings beside it.  `all`: every string begins such a
 * text. */
static int scan_strings(struct scan *c, const char *script, bool all)
{
    static const char value[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$[] \t";
    struct buf text = BUF_INIT(DSL_JOB_MAX);
    int r = 0;
    for (const char *at = strchr(script, '"'), *to; at && r == 0; at = *to ? strchr(to, '"') : NULL) {
        bool joins = all || begins_command(script, at);
        buf_clear(&text);
        text = BUF_INIT(DSL_JOB_MAX);
        for (bool next = true; next;) {
            for (to = at + 1; *to && *to != '"'; to += *to == '\\' && to[1] ? 2 : 1)
                ;
            buf_add(&text, at + 1, (size_t)(to - at - 1));
            to += *to != '\0';
            size_t gap = joins ? strspn(to, value) : 0;
            if (gap > strspn(to, " \t"))
                buf_text(&text, "${_}"); /* stands for a text that is not known */
            next = joins && to[gap] == '"';
            at = next ? to + gap : at;
        }
        char *whole = text.failed ? NULL : arena_bytes(c->r->arena, text.data ? text.data : "", text.size);
        r = !whole ? resolve_no_memory(c->r) : strchr(whole, ' ') ? scan_shell_text(c, whole) : 0;
    }
    buf_clear(&text);
    return r;
}

static int script_scan(struct scan *c, const char *script)
{
    struct script_names names = {script_told, c};
    if (!uses_has_scripts(c->command))
        return 0;
    int r = is_awk(c->command) ? script_names_awk(script, &names) : script_names_sed(script, &names);
    return r == 0 && is_awk(c->command) ? scan_strings(c, script, false) : r;
}

/* The same for a script in a file. */
static int script_scan_file(struct scan *c, const char *name)
{
    const char *path = uses_has_scripts(c->command) ? uses_path(c->r, name) : "";
    if (!path)
        return -1;
    struct slice text = uses_text_of(c->r, path, SCRIPT_BYTES_MAX);
    return text.size ? script_scan(c, text.data) : 0; /* if it is missing the command says so itself */
}

bool uses_is_dash_c(const char *word)
{
    size_t size = strlen(word);
    return size > 1 && word[0] == '-' && word[1] != '-' && word[size - 1] == 'c';
}

/* Files named in the text of `sh -c TEXT`.  If its commands only read, none of them is an output. */
static int scan_shell_text(const struct scan *c, const char *text)
{
    bool makes = false;
    struct use *before = c->s->maybe;
    struct scan inner = {.r = c->r, .s = c->s, .depth = c->depth + 1, .at = c->at, .command = "", .word = true, .makes = &makes};
    int r = c->depth < DSL_DEPTH_MAX ? scan_text(&inner, text, strlen(text)) : 0;
    if (!makes)
        c->s->maybe = before;
    else if (c->makes)
        *c->makes = true;
    return r;
}

/* ---- the words of a text for sh ---------------------------------------------------------- */

/* The text of a part of a word if it is known, else a NULL slice. */
static struct slice known_part(const struct scan *c, const struct part *p)
{
    const struct parameter *given = p->kind == PART_NAME ? words_parameter(c->r, p->text.data, p->text.size) : NULL;
    struct slice s = given && given->set ? (struct slice){given->value, strlen(given->value)} : p->text;
    bool known = p->kind == PART_BARE || p->kind == PART_QUOTED || (given && given->set);
    for (size_t i = 0; known && i < s.size; i++)
        known = !strchr("*?[\\", ((const char *)s.data)[i]);
    return known ? s : (struct slice){0};
}

/* A name that a shell puts together (`> part-$i.txt`, `cp $f $f.old`) becomes a pattern of its known beginning and end. */
static int scan_made(struct scan *c, const struct word *w, bool output, bool appends)
{
    struct buf pattern = BUF_INIT(PATH_MAX);
    const struct part *last = w->part, *p;
    for (p = w->part; p && known_part(c, p).data; p = p->next)
        buf_add(&pattern, known_part(c, p).data, known_part(c, p).size);
    if (w->assign && pattern.size > w->assign) { /* `g=$f.txt` */
        char *value = arena_bytes(c->r->arena, pattern.data + w->assign + 1, pattern.size - w->assign - 1);
        buf_clear(&pattern);
        pattern = BUF_INIT(PATH_MAX);
        buf_text(&pattern, value ? value : "");
    }
    for (; p; p = p->next)
        last = known_part(c, p).data ? last : p;
    buf_text(&pattern, "*");
    for (p = last ? last->next : NULL; p; p = p->next)
        buf_add(&pattern, known_part(c, p).data, known_part(c, p).size);
    const char *text = pattern.failed ? NULL : arena_bytes(c->r->arena, pattern.data, pattern.size);
    bool any = pattern.size == 1 && !output; /* a word of which nothing is known is probably no name */
    if (output && c->makes)
        *c->makes = true;
    int r = pattern.failed || any ? 0 : !text ? resolve_no_memory(c->r) : made_names(c, text, appends || !output); /* as in `tee -a $f.log` */
    buf_clear(&pattern);
    return r;
}

/* Is the directory of the name missing, as in `mkdir -p d && sort f > d/f`?  Then the file is an output if the text makes
 * it. */
static bool may_make_directory(const struct scan *c, const char *word)
{
    const char *slash = strrchr(word, '/');
    char *name = slash && slash > word && word[0] != '/' && !c->s->holes_at ? arena_bytes(c->r->arena, word, (size_t)(slash - word)) : NULL;
    const char *path = name ? uses_path(c->r, name) : NULL;
    struct stat st;
    return path && stat(path, &st) < 0;
}

/* After `cd logs` a name may mean a file in that directory. */
static int may_make_there(struct scan *c, const char *word)
{
    char *name = *word == '/' ? NULL : arena_alloc(c->r->arena, strlen(c->there) + strlen(word) + 2);
    if (!name)
        return *word == '/' ? 0 : resolve_no_memory(c->r);
    char *end = stpcpy(stpcpy(name, c->there), "/");
    bool up = strncmp(word, "../", 3) == 0 && uses_is_open(c->there);
    for (; end > name && strncmp(word, "../", 3) == 0 && up; word += 3)
        for (end--; end > name && end[-1] != '/';)
            end--;
    strcpy(end, word);
    if (up && !uses_is_open(name))
        return 0;
    return uses_maybe(c->r, c->s, name, c->at) < 0 || (up && uses_input(c->r, c->s, name, NULL, c->at, false, false) < 0) ? -1 : 0;
}

static bool is_dots(const char *word)
{
    return !word[strspn(word, "./")];
}

/* Words after which a command's name follows. */
static bool is_keyword(const char *word)
{
    static const char *const keyword[] = {"!", "do", "elif", "else", "if", "then", "until", "while", "{"};
    for (size_t i = 0; i < sizeof keyword / sizeof *keyword; i++)
        if (!strcmp(word, keyword[i]))
            return true;
    return false;
}

/* A word that is just `${1:-a.txt}`: the default may be the name of a file. */
static int scan_default(struct scan *c, const struct word *w, bool output)
{
    const struct part *p = w->part;
    if (w->assign && p->next && p->text.size == w->assign + 1) /* `f=${1:-a.txt}` */
        p = p->next;
    const char *s = p->text.data, *end = s + p->text.size - 1;
    if (p->next || p->kind != PART_ODD || p->text.size < 5 || strncmp(s, "${", 2) != 0 || *end != '}')
        return 0;
    const char *at = s + 2;
    while (at < end && (isalnum((unsigned char)*at) || *at == '_'))
        at++;
    at += at < end && *at == ':';
    char *text = at + 1 < end && strchr("-=", *at) ? arena_bytes(c->r->arena, at + 1, (size_t)(end - at - 1)) : NULL;
    if (!text || strpbrk(text, "$`\"'\\*?[~ "))
        return 0;
    if (uses_maybe(c->r, c->s, text, c->at) < 0)
        return -1;
    return output ? 0 : uses_input(c->r, c->s, text, NULL, c->at, false, false);
}

/* After `sed -i.bak` and `perl -pi.bak` the copies that are kept end in .bak. */
static int scan_backup(struct scan *c, const char *word)
{
    const char *at = word + (*word == '-');
    while (at > word && isalpha((unsigned char)*at))
        at++;
    char *pattern = at > word && *at == '.' && at[-1] == 'i' && at[1] ? arena_alloc(c->r->arena, strlen(at) + 2) : NULL;
    if (!pattern || strpbrk(at, "*?[\\/"))
        return 0;
    strcpy(stpcpy(pattern, "*"), at);
    return made_names(c, pattern, false);
}

/* Does the command open files named in its input, as `xargs wc < list` and `md5sum -c sums` do? */
static bool opens_names(const struct command *known, const char *word, bool command)
{
    if (command)
        return known->reads_names;
    for (size_t i = 0; i < known->names_count; i++) {
        size_t n = strlen(known->names_with[i]);
        if (strncmp(known->names_with[i], word, n) == 0 && (!word[n] || word[n] == '='))
            return true;
    }
    return false;
}

/* Files that hold programs (`sh x.sh`, `. x.sh`, `./x.sh`, `timeout 9 python3 x.py`), and a program in a word (`python3 -c
 * TEXT`). */
static int scan_program(struct scan *c, const char *word, bool command)
{
    int r = uses_program_word(c->r, c->s, c->at, word);
    if (r == 0 && c->by && word[0] != '-') {
        r = command_is_shell(c->by) ? 0 : uses_program(c->r, c->s, c->at, word, strlen(word));
        r = r < 0 ? r : uses_program_file(c->r, c->s, c->at, word, c->by);
        c->by = NULL;
    }
    if (command_interprets(word))
        c->by = word;
    else if (command && (strcmp(word, ".") == 0 || strcmp(word, "source") == 0))
        c->by = "sh";
    return r;
}

/* Are all parts of the word known?  Also scans the text in its $( ).  -1 with the message. */
static int scan_parts(struct scan *c, const struct word *w)
{
    bool known = true;
    for (const struct part *p = w->part; p; p = p->next) {
        const char *s = p->text.data;
        if (p->kind == PART_NAME && !words_parameter(c->r, s, p->text.size))
            known = false;
        if (p->kind != PART_ODD)
            continue;
        known = false;
        size_t skip = s[0] == '`' ? 1 : s[1] == '(' ? 2 : 0;
        if (skip && p->text.size > skip + 1 && c->depth < DSL_DEPTH_MAX) {
            struct scan inner = {
                .r = c->r, .s = c->s, .depth = c->depth + 1, .at = c->at, .command = "", .word = c->word, .makes = c->makes};
            if (scan_text(&inner, s + skip, p->text.size - skip - 1) < 0)
                return -1;
        }
    }
    return known;
}

/* A name after `>`. */
static int scan_output(struct scan *c, const char *text)
{
    if (c->makes)
        *c->makes = true;
    bool maybe = c->word || c->there || may_make_directory(c, text);
    if (c->there && may_make_there(c, text) < 0)
        return -1;
    return maybe ? uses_maybe(c->r, c->s, text, c->at) : uses_output(c->r, c->s, text, NULL, c->s->start);
}

/* Notes a word of a command, for scan_here; NULL: one that is not known, which may be an operand. */
static void note_word(struct scan *c, const char *text)
{
    c->away |= c->cd && !(text && text[0] == '-');
    c->dot |= text && (!strcmp(text, ".") || !strcmp(text, "./"));
    if (c->words < SCAN_WORDS_MAX)
        c->text[c->words] = text ? text : "?";
    c->words++;
}

/* At the end of a simple command: `ls`, `find -name x` and `grep -r x .` read the working directory.  Not in a script that is a file: it
 * may be about any directory, and this one may be large. */
static int scan_here(const struct scan *c)
{
    if (!c->known || c->away || c->r->only_open || c->words > SCAN_WORDS_MAX || !command_reads_here(c->known, c->text, c->words, c->dot))
        return 0;
    return uses_input(c->r, c->s, ".", NULL, c->s->start, true, false) < 0 ? -1 : 0;
}

/* Notes what the words after this command may mean. */
static void note_command(struct scan *c, const char *text)
{
    if (c->makes && !(c->known && !command_may_make(c->known)))
        *c->makes = true;
    c->cd = !strcmp(text, "cd") || !strcmp(text, "pushd");
    c->says = !strcmp(text, "echo") || !strcmp(text, "printf");
    c->runs = uses_runs_words(text);
    c->test = !strcmp(text, "test") || !strcmp(text, "[") || !strcmp(text, "[[");
    c->directories = c->cd || !strcmp(text, "for") || (c->known && c->known->directories);
}

/* If the word is a text for sh or a script, scans it. */
static int scan_script(struct scan *c, const struct word *w, const char *text)
{
    const char *equals = strchr(text, '=');
    if (c->text_next && scan_shell_text(c, text) < 0)
        return -1;
    /* `f="a b"` and `p='*.txt'`: where the value is used, sh takes it apart and looks for files */
    if (equals && strpbrk(equals, " *?[") && w->assign && scan_shell_text(c, equals + 1) < 0)
        return -1;
    c->text_next = (c->shell && uses_is_dash_c(text)) || (!c->first_seen && strcmp(text, "eval") == 0);
    c->shell |= command_is_shell(text);
    if (uses_has_scripts(text))
        c->command = text;
    else if (text[0] != '-' && (c->file_next ? script_scan_file(c, text) : script_scan(c, text)) < 0)
        return -1;
    c->file_next = strcmp(text, "-f") == 0;
    return 0;
}

/* If the word names a file that may be read, makes it an input. */
static int scan_input(struct scan *c, const struct word *w, const char *text, bool command)
{
    struct resolver *r = c->r;
    const char *equals = strchr(text, '=');
    bool directories = !command && c->directories && !is_dots(text);
    int got = uses_input(r, c->s, text, NULL, c->s->start, directories, false);
    if (c->test) /* only after -d and the like, not in `[ "$x" = src ]` */
        c->directories = text[0] == '-' && strlen(text) == 2 && strchr("Ldehrsxw", text[1]);
    if (got > 0 && c->cd)
        c->there = text;
    if (got == 0 && c->says && !command && strchr(text, ' ') && r->only_open == 0 && uses_said(r, c->s, c->at, text) < 0)
        return -1;
    if (got == 0 && (command || c->runs || c->edits) && uses_run_word(r, c->s, c->at, text, command, &c->edits) < 0)
        return -1;
    if (got >= 0 && scan_program(c, text, command) < 0)
        return -1;
    if (got == 0 && !command)
        got = scan_backup(c, text);
    if (got == 0 && equals) {
        got = uses_input(r, c->s, equals + 1, NULL, c->s->start, w->assign && !is_dots(equals + 1), false);
        if (got > 0 && w->assign && uses_maybe(r, c->s, equals + 1, c->at) < 0) /* `d=out; sort f > $d/s` */
            return -1;
    }
    return got;
}

static int scan_value(struct scan *c, const struct word *w, const struct value *v, bool output)
{
    if (output && scan_output(c, v->text) < 0)
        return -1;
    if ((output && !c->word) || v->hole)
        return 0;
    if (scan_script(c, w, v->text) < 0)
        return -1;
    bool command = !c->first_seen;
    if (command && is_keyword(v->text))
        return 0;
    struct err quiet;
    if (command)
        c->known = commands_find(c->r->commands, v->text, &quiet);
    c->first_seen = true;
    c->s->unknown_words |= c->known && opens_names(c->known, v->text, command);
    const struct use *made = c->s->maybe;
    if (!command)
        note_word(c, v->text);
    if (command)
        note_command(c, v->text);
    else if (c->there && may_make_there(c, v->text) < 0)
        return -1;
    const char *hole = c->runs && !command ? uses_hole(c->known ? c->known->name : "", c->text, c->words < SCAN_WORDS_MAX ? c->words : 0) : NULL;
    if (hole && uses_hole_word(c->r, c->s, c->at, v->text, hole) < 0)
        return -1;
    if ((!command && uses_maybe_word(c->r, c->s, v->text, c->s->start) < 0) ||
        uses_prefixes(c->r, c->s, made, c->known, c->s->start) < 0)
        return -1;
    return scan_input(c, w, v->text, command);
}

/* If all parts of the word are known, tries its values.  Else only the texts in its $( ), its default, and its pattern. */
static int scan_word(struct scan *c, const struct word *w, bool output, bool appends)
{
    int known = scan_parts(c, w);
    if (known < 0)
        return -1;
    if (!known) {
        c->s->unknown_words = true;
        note_word(c, NULL);
        if (w->part && scan_default(c, w, output) < 0)
            return -1;
        return scan_made(c, w, output, appends);
    }
    if (w->odd)
        return 0;
    struct value *first = NULL, **last = &first;
    struct err quiet, *e = c->r->e;
    c->r->e = &quiet; /* a `~` without HOME is left to sh */
    int result = words_expand(c->r, w, c->s->holes_at, !output, &last);
    c->r->e = e;
    for (struct value *v = result == 0 ? first : NULL; v; v = v->next)
        if (scan_value(c, w, v, output) < 0)
            return -1;
    return 0;
}

static bool writes(const char *op)
{
    return strcmp(op, ">") == 0 || strcmp(op, ">>") == 0 || strcmp(op, ">|") == 0;
}

/* `cat > x.sh <<END`, `python3 - <<END`: the here-document may be a program. */
static int scan_heredocs(const struct scan *c, const struct lexer *l, const char *text)
{
    for (uint32_t i = 0; i < l->at.waiting; i++) {
        struct slice body = {text + l->here[i]->from, l->here[i]->to - l->here[i]->from};
        if (uses_program(c->r, c->s, c->at, body.data, body.size) < 0 || uses_program_text(c->r, c->s, c->at, body, "sh") < 0)
            return -1;
    }
    return 0;
}

static int scan_text(struct scan *c, const char *text, size_t size)
{
    struct text part;
    struct lexer l;
    struct token t;
    struct err quiet;
    int result = 0;
    const char *op = "";
    char *copy = arena_bytes(c->r->arena, text, size);
    if (!copy || text_init(&part, c->r->arena, copy, size, "", &quiet) < 0)
        return resolve_no_memory(c->r);
    if (lex_init(&l, &part, c->r->arena, &quiet) < 0)
        return 0;
    while (result == 0 && lex_next(&l, &t) == 0 && t.kind != TOKEN_END) {
        bool seen = c->first_seen, redirects = strpbrk(op, "<>") && op[strlen(op) - 1] != '(';
        if (t.kind == TOKEN_WORD && strncmp(op, "<<", 2) == 0 && op[2] != '<') {
            result = lex_heredoc(&l, t.start, t.word, op[2] == '-') ? 0 : -1;
        } else if (t.kind == TOKEN_WORD) {
            uint32_t words = c->words;
            c->first_seen |= redirects; /* `< f sort` */
            result = scan_word(c, t.word, writes(op), strcmp(op, ">>") == 0);
            c->first_seen = redirects ? seen : c->first_seen;
            c->words = redirects ? words : c->words;
        } else if (t.kind != TOKEN_NUMBER && !(t.kind == TOKEN_OPERATOR && strpbrk(t.op, "<>") && t.op[strlen(t.op) - 1] != '(')) {
            result = scan_here(c);
            *c = (struct scan){
                .r = c->r, .s = c->s, .depth = c->depth, .at = c->at, .command = "", .word = c->word, .makes = c->makes, .there = c->there, .away = c->away};
        }
        op = t.kind == TOKEN_OPERATOR ? t.op : "";
    }
    result = result < 0 || scan_here(c) < 0 ? -1 : scan_heredocs(c, &l, copy);
    lex_clear(&l);
    return result;
}

static int by_word(const void *a, const void *b)
{
    return strcmp((*(struct use *const *)a)->word, (*(struct use *const *)b)->word);
}

/* Sorts the list and removes duplicates. */
static int sort_uses(struct resolver *r, struct use **list)
{
    size_t count = 0;
    for (const struct use *u = *list; u; u = u->next)
        count++;
    struct use **all = arena_array(r->arena, count + 1, sizeof *all);
    if (!all)
        return resolve_no_memory(r);
    count = 0;
    for (struct use *u = *list; u; u = u->next)
        all[count++] = u;
    if (count)
        qsort(all, count, sizeof *all, by_word);
    struct use **last = list;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(all[i]->word, all[i - 1]->word) != 0) {
            *last = all[i];
            last = &all[i]->next;
        }
    *last = NULL;
    return 0;
}

int uses_scan(struct resolver *r, struct stage *s)
{
    struct scan c = {.r = r, .s = s, .at = s->start, .command = ""};
    struct buf source = BUF_INIT(DSL_JOB_MAX);
    buf_add(&source, r->text->data + s->start, s->end - s->start);
    int result = source.failed ? resolve_no_memory(r) : scan_text(&c, source.data, source.size);
    buf_clear(&source);
    s->last_input = NULL;
    for (const struct use *u = s->changes_names && result == 0 ? s->input : NULL; u && result == 0; u = u->next)
        result = uses_changed(r, s, u->word);
    return result < 0 ? -1 : sort_uses(r, &s->input);
}

/* ---- for a command's words ---------------------------------------------------------------- */

int uses_script(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script)
{
    struct scan c = {.r = r, .s = s, .at = at, .command = command};
    return script_scan(&c, script);
}

/* The replacement in `s/^.../cp & &.bak/` as a text for sh, in which the text for `&` is not known. */
static int scan_replacement(struct scan *c, const char *script)
{
    struct buf text = BUF_INIT(DSL_JOB_MAX);
    const char mark = *script == 's' ? script[1] : '\0', *at = script + 2;
    while (mark && *at && *at != mark)
        at += *at == '\\' && at[1] ? 2 : 1;
    for (at += mark && *at; mark && *at && *at != mark; at++) {
        bool escaped = *at == '\\' && at[1];
        if (*at == '&' || (escaped && isdigit((unsigned char)at[1])))
            buf_text(&text, "${_}");
        else
            buf_add(&text, at + escaped, 1);
        at += escaped;
    }
    char *whole = text.failed ? NULL : arena_bytes(c->r->arena, text.data ? text.data : "", text.size);
    buf_clear(&text);
    return whole ? scan_shell_text(c, whole) : resolve_no_memory(c->r);
}

int uses_printed(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script)
{
    struct scan c = {.r = r, .s = s, .at = at};
    return is_awk(command) ? scan_strings(&c, script, true) : strcmp(command, "sed") == 0 ? scan_replacement(&c, script) : 0;
}

int uses_script_file(struct resolver *r, struct stage *s, size_t at, const char *command, const char *name)
{
    struct scan c = {.r = r, .s = s, .at = at, .command = command};
    return script_scan_file(&c, name);
}

int uses_shell_text(struct resolver *r, struct stage *s, size_t at, const char *text, const char *hole)
{
    struct scan c = {.r = r, .s = s, .at = at};
    struct buf with = BUF_INIT(DSL_JOB_MAX);
    size_t size = hole ? strlen(hole) : 0;
    const char *found;
    for (; size && (found = strstr(text, hole)); text = found + size) {
        buf_add(&with, text, (size_t)(found - text));
        buf_text(&with, "${_}"); /* stands for a text that is not known */
    }
    buf_text(&with, text);
    char *whole = with.failed ? NULL : arena_string(r->arena, with.data);
    buf_clear(&with);
    return whole ? scan_shell_text(&c, whole) : resolve_no_memory(r);
}

int uses_pattern(struct resolver *r, struct stage *s, size_t at, const char *pattern)
{
    struct scan c = {.r = r, .s = s, .at = at};
    return made_names(&c, pattern, true);
}
