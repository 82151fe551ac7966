/* See split_inside.h: commands whose class depends on their words, except sed and awk. */
#include "dsl/split_inside.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- tr: what becomes of a newline ------------------------------------------------------- */

#define SET_MAX 4096

struct set {
    unsigned char byte[SET_MAX];
    size_t size;
    bool fills; /* [c*] at fill_at: as many as the other set needs */
    size_t fill_at;
    bool bad;
};

static void set_add(struct set *s, unsigned byte, size_t times)
{
    for (; times && s->size < SET_MAX; times--)
        s->byte[s->size++] = (unsigned char)byte;
    s->bad = s->bad || times;
}

/* Reads one byte of a set and moves *at past it; *escaped: it was written with a backslash. */
static unsigned set_byte(struct set *s, const char **at, bool *escaped)
{
    static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
    const char *p = *at;
    *escaped = *p == '\\';
    if (*p != '\\') {
        *at = p + 1;
        return (unsigned char)*p;
    }
    unsigned value = 0, digits = 0;
    for (p++; digits < 3 && *p >= '0' && *p <= '7'; digits++)
        value = value * 8 + (unsigned)(*p++ - '0');
    s->bad = s->bad || value > 255 || (!digits && !*p);
    if (!digits && *p) {
        const char *letter = strchr(from, *p);
        value = letter ? (unsigned char)to[letter - from] : (unsigned char)*p;
        p++;
    }
    *at = p;
    return value;
}

static bool set_class(struct set *s, const char **at)
{
    static const struct {
        const char *name;
        int (*is)(int);
    } classes[] = {{"[:alnum:]", isalnum}, {"[:alpha:]", isalpha}, {"[:blank:]", isblank},
                   {"[:cntrl:]", iscntrl}, {"[:digit:]", isdigit}, {"[:graph:]", isgraph},
                   {"[:lower:]", islower}, {"[:print:]", isprint}, {"[:punct:]", ispunct},
                   {"[:space:]", isspace}, {"[:upper:]", isupper}, {"[:xdigit:]", isxdigit}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t size = strlen(classes[i].name);
        if (strncmp(*at, classes[i].name, size) != 0)
            continue;
        for (int b = 0; b < 128; b++)
            if (classes[i].is(b))
                set_add(s, (unsigned)b, 1);
        *at += size;
        return true;
    }
    return false;
}

/* [c*n] */
static bool set_repeat(struct set *s, const char **at)
{
    const char *p = *at + 1;
    bool escaped;
    if (!*p)
        return false;
    unsigned byte = set_byte(s, &p, &escaped);
    if (*p != '*')
        return false;
    char *end;
    p++;
    unsigned long times = strtoul(p, &end, *p == '0' ? 8 : 10);
    if (*end != ']' || !(isdigit((unsigned char)*p) || *p == ']'))
        return false;
    if (times == 0) {
        s->bad = s->bad || s->fills;
        s->fills = true;
        s->fill_at = s->size;
        set_add(s, byte, 1);
    } else {
        set_add(s, byte, times);
    }
    *at = end + 1;
    return true;
}

static void set_read(struct set *s, const char *text)
{
    *s = (struct set){.bad = false};
    while (*text && !s->bad) {
        if (*text == '[' && (set_class(s, &text) || set_repeat(s, &text)))
            continue;
        if (text[0] == '[' && (text[1] == ':' || text[1] == '=') && text[2]) {
            s->bad = true; /* an unknown class, or an equivalence class */
            return;
        }
        bool escaped;
        unsigned from = set_byte(s, &text, &escaped), to = from;
        if (text[0] == '-' && text[1]) {
            text++;
            to = set_byte(s, &text, &escaped);
        }
        s->bad = s->bad || to < from;
        for (unsigned b = from; b <= to; b++)
            set_add(s, b, 1);
    }
}

static bool set_has(const struct set *s, unsigned byte)
{
    return memchr(s->byte, (int)byte, s->size) != NULL;
}

static void set_complement(struct set *s)
{
    bool in[256] = {false};
    for (size_t i = 0; i < s->size; i++)
        in[s->byte[i]] = true;
    s->size = 0;
    for (unsigned b = 0; b < 256; b++)
        if (!in[b])
            set_add(s, b, 1);
}

/* What a byte becomes: byte i of `from` becomes byte i of `to`, whose last byte is repeated. */
static unsigned set_image(const struct set *from, const struct set *to, bool truncate,
                          unsigned byte)
{
    unsigned image = byte;
    size_t size = to->size, fill = 0;
    if (to->fills && from->size > to->size)
        fill = from->size - to->size;
    for (size_t i = 0; i < from->size && !(truncate && i >= size + fill); i++) {
        if (from->byte[i] != byte)
            continue;
        size_t k = i <= to->fill_at || !fill ? i : i <= to->fill_at + fill ? to->fill_at : i - fill;
        image = to->byte[k < size ? k : size - 1];
    }
    return image;
}

int split_tr(struct split_case *c)
{
    struct set sets[2] = {{.size = 0}};
    bool deletes = split_has(c, "-d"), squeezes = split_has(c, "-s"), two = c->operand_count == 2;
    for (uint32_t i = 0; i < c->operand_count; i++)
        set_read(&sets[i], c->operand[i]);
    if (sets[0].bad || (two && (sets[1].bad || !sets[1].size)) || sets[0].fills)
        return split_whole(c, "its sets are not understood");
    if ((two && deletes && !squeezes) || (!two && !deletes && !squeezes) ||
        (!two && deletes && squeezes))
        return split_whole(c, "it lacks a set, or has one too many");
    if (split_has(c, "-c"))
        set_complement(&sets[0]);
    if (two && sets[1].fills && sets[0].size < sets[1].size)
        return split_whole(c, "its sets are not understood");
    const struct set *squeezed = two ? &sets[1] : &sets[0];
    bool gone = deletes && set_has(&sets[0], '\n');
    unsigned newline =
        two && !deletes ? set_image(&sets[0], &sets[1], split_has(c, "-t"), '\n') : '\n';
    c->s->ends_lines = !gone && newline == '\n';
    if (!squeezes) {
        c->s->cut = GRAPH_CUT_BYTES;
        return SPLIT_OK;
    }
    if (gone)
        return split_whole(c, "it deletes newlines and squeezes what is around them");
    if (!set_has(squeezed, newline))
        return SPLIT_OK;
    if (deletes)
        return split_whole(c, "it squeezes newlines that what it deletes may stand between");
    /* All bytes that become the same as a newline, and are squeezed with it. */
    char seam[256];
    size_t size = 0;
    for (unsigned b = 0; b < 256; b++)
        if ((two ? set_image(&sets[0], &sets[1], split_has(c, "-t"), b) : b) == newline)
            seam[size++] = (char)b;
    return split_seam(c, seam, size);
}

/* ---- wc ---------------------------------------------------------------------------------- */

static unsigned digits_of(uint64_t n)
{
    unsigned digits = 1;
    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

/* The regular file that is its stdin or its operand; GRAPH_NONE: it reads a stream. */
static uint32_t only_file(const struct split_case *c)
{
    const struct graph_fd *in = graph_fd_of(c->n, 0);
    if (c->file_count)
        return c->file[0];
    if (!in || !c->g->edge[in->edge].seekable)
        return GRAPH_NONE;
    const struct graph_node *from = &c->g->node[c->g->edge[in->edge].from];
    return from->segment_count == 1 && from->segment[0].kind == GRAPH_SEGMENT_FILE ? from->segment[0].file : GRAPH_NONE;
}

/* The job's stdin may be a regular file, which is not known here. */
static bool reads_job_stdin(const struct split_case *c)
{
    const struct graph_fd *in = graph_fd_of(c->n, 0);
    const struct graph_node *from = in ? &c->g->node[c->g->edge[in->edge].from] : NULL;
    return from && from->segment_count == 1 && from->segment[0].kind == GRAPH_SEGMENT_STDIN;
}

/* wc with several columns: they are as wide as the size of a regular file has digits, else 7 wide. */
int split_wc(struct split_case *c)
{
    static const char *const order[] = {"-l", "-w", "-m", "-c", "-L"};
    char ops[6];
    size_t columns = 0;
    bool bytes = true;
    for (size_t i = 0; i < 5; i++)
        if (split_has(c, order[i])) {
            ops[columns++] = i == 4 ? '>' : '+';
            bytes = bytes && (i == 0 || i == 3);
        }
    if (!columns) {
        memcpy(ops, "+++", columns = 3);
        bytes = false;
    }
    ops[columns] = '\0';
    if (!c->file_count && c->operand_count)
        return split_whole(c, "it prints the name of its input");
    uint32_t file = only_file(c);
    if (file == GRAPH_NONE && columns > 1 && reads_job_stdin(c))
        return split_whole(c, "its columns are as wide as the size of its stdin says");
    unsigned width = columns == 1         ? 0
                     : file == GRAPH_NONE ? 7
                                          : digits_of(c->g->file[file].size_bytes);
    if (bytes)
        c->s->cut = GRAPH_CUT_BYTES;
    const char *name = c->file_count ? c->operand[0] : "";
    if (strchr(name, '\n'))
        return split_whole(c, "it prints a name with a newline");
    return split_native(c, "columns %u %s%s%s", width, ops, *name ? "  " : "", name);
}

/* ---- paste -s ---------------------------------------------------------------------------- */

/* The delimiters repeat: with n of them a block must be a multiple of n lines. */
int split_paste(struct split_case *c)
{
    static const char from[] = "0bfnrtv\\", to[] = "\0\b\f\n\r\t\v\\";
    const char *list = split_value(c, "-d");
    uint64_t count = 0;
    int last = '\t';
    for (const char *at = list ? list : "\t"; *at; at++, count++) {
        const char *letter = *at == '\\' && at[1] ? strchr(from, at[1]) : NULL;
        if (*at == '\\' && !letter)
            return split_whole(c, "its delimiters are not understood");
        last =
            letter ? (*letter == '0' ? -1 : (unsigned char)to[letter - from]) : (unsigned char)*at;
        at += letter != NULL;
    }
    c->s->ends_lines = c->s->empty_ok = false;
    c->s->cut_step = count ? count : 1;
    if (!count || last < 0)
        return split_native(c, "join");
    return split_native(c, "join %d", last);
}

/* ---- iconv: codes without a state -------------------------------------------------------- */

static bool plain_code(const char *name)
{
    static const char *const codes[] = {"ASCII", "US-ASCII", "LATIN1",   "LATIN2", "LATIN9",
                                        "UTF-8", "UTF8",     "KOI8-R",   "KOI8-U", "CP437",
                                        "CP850", "CP866",    "MACINTOSH"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcasecmp(name, codes[i]) == 0)
            return true;
    const char *rest = strncasecmp(name, "ISO-8859-", 9) == 0      ? name + 9
                       : strncasecmp(name, "WINDOWS-125", 11) == 0 ? name + 11
                       : strncasecmp(name, "CP125", 5) == 0        ? name + 5
                                                                   : "";
    size_t n = strspn(rest, "0123456789");
    return n && n < 3 && !rest[n];
}

int split_iconv(struct split_case *c)
{
    const char *codes[] = {split_value(c, "-f"), split_value(c, "-t")};
    size_t size = strcspn(codes[1], "/");
    if (strcasecmp(codes[1] + size, "//translit") == 0) {
        char *plain = arena_bytes(&c->g->arena, codes[1], size);
        if (!plain)
            return err_nomem(c->e), SPLIT_FAILED;
        codes[1] = plain;
    }
    for (size_t i = 0; i < 2; i++)
        if (!plain_code(codes[i]))
            return split_whole(c, "`%.40s` may have a state or a byte order mark", codes[i]);
    return SPLIT_OK;
}

/* ---- xargs ------------------------------------------------------------------------------- */

/* One run for each line or each item, of commands that do nothing but print. */
int split_xargs(struct split_case *c)
{
    static const char *const inner[] = {"basename", "cat",  "dirname", "echo",      "expr",
                                        "factor",   "grep", "head",    "md5sum",    "printf",
                                        "seq",      "stat", "tail",    "sha256sum", "wc"};
    static const char *const known[] = {"-0", "-r", "-x", "-d", "-I", "-L", "-n"};
    for (uint32_t i = 0; i < c->option_count; i++) {
        bool found = false;
        const char *name = c->option[i].option->name[0];
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            found = found || strcmp(known[k], name) == 0;
        if (!found)
            return split_whole(c, "`%s` of xargs is not in the table", name);
    }
    c->s->empty_ok = false;
    c->s->ends_lines = false; /* `printf`, `echo -n`, `seq -s` */
    const char *n = split_value(c, "-n"), *lines = split_value(c, "-L"), *d = split_value(c, "-d");
    bool each = split_has(c, "-I") || (n && strcmp(n, "1") == 0 && !lines);
    if (!each || (split_has(c, "-I") && (n || lines)))
        return split_whole(c, "how many words a command gets depends on all of them: `-n1` and "
                              "`-I` do not");
    const char *command = c->operand_count ? c->operand[0] : "echo";
    bool found = false;
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        found = found || strcmp(inner[i], command) == 0;
    if (!found)
        return split_whole(c, "nobody knows that `%.40s` does nothing but print", command);
    if (split_has(c, "-0") && d)
        return split_whole(c, "`-0` and `-d` together are not in the table");
    if (split_has(c, "-0")) {
        c->s->cut = GRAPH_CUT_NULS;
        return SPLIT_OK;
    }
    if (d)
        return strcmp(d, "\\n") == 0 || strcmp(d, "\n") == 0
                   ? SPLIT_OK
                   : split_whole(c, "`-d` is not a newline");
    if (!split_has(c, "-r") && !split_has(c, "-I"))
        return split_whole(c, "without `-r` a block of blanks runs its command once");
    return split_without(c, "\\\"'", 4); /* the zero byte too: quotes may join lines */
}

/* ---- jq, perl, grep -z ------------------------------------------------------------------- */

/* Does one of these stand in the text as a word of its own? */
static const char *word_in(const char *text, const char *const *words, size_t count)
{
    for (const char *at = text; *at;) {
        size_t n = 0;
        while (isalnum((unsigned char)at[n]) || at[n] == '_')
            n++;
        for (size_t i = 0; n && i < count; i++)
            if (strlen(words[i]) == n && strncmp(words[i], at, n) == 0)
                return words[i];
        at += n ? n : 1;
    }
    return NULL;
}

/* A value that stands in two blocks is an error in the first, so the whole runs again. */
int split_jq(struct split_case *c)
{
    static const char *const words[] = {"input",
                                        "inputs",
                                        "debug",
                                        "stderr",
                                        "input_line_number",
                                        "input_filename",
                                        "halt",
                                        "halt_error",
                                        "now",
                                        "env",
                                        "ENV",
                                        "import",
                                        "include",
                                        "localtime",
                                        "label",
                                        "strflocaltime",
                                        "mktime",
                                        "getpath",
                                        "modulemeta",
                                        "splits"};
    if (split_has(c, "-L") || c->operand_count < 1)
        return split_whole(c, "it has no filter, or modules");
    const char *word = word_in(c->operand[0], words, sizeof words / sizeof *words);
    if (word)
        return split_whole(c, "`%s` may look at more than one value", word);
    c->s->ends_lines = !split_has(c, "-j");
    return split_without(c, "\xef", 1); /* a byte order mark is one at the beginning only */
}

/* The end of a pattern or a replacement that begins at `at`; NULL: it is not as simple. */
static const char *perl_part(const char *at, char end, bool pattern)
{
    const char *from = at;
    for (; *at && *at != end; at++) {
        bool name = isalpha((unsigned char)at[1]) || strchr("_{.&:(+-!?", at[1]);
        name = name || (pattern && isdigit((unsigned char)at[1])); /* of the match before */
        if (*at == '@' || (*at == '$' && at[1] && name) || (*at == '(' && at[1] == '?'))
            return NULL;
        if (*at == '\\' && at[1])
            at++;
    }
    return *at && (!pattern || at > from) ? at : NULL;
}

/* May this change what is behind the newline that ends the line, or that newline itself?  It cannot if its pattern is made of what matches no
 * newline; and with `g` only if that does not match the empty string, which is found behind the newline, too. */
static bool perl_reaches_end(const char *at, const char *end, bool pattern, const char *flags, const char *flags_end)
{
    size_t size = (size_t)(flags_end - flags);
    bool all = memchr(flags, 'g', size), dot = memchr(flags, 's', size) && pattern;
    if (!pattern && memchr(flags, 'c', size))
        return true;
    for (; at < end; at++) {
        if (*at == '\\' ? isalnum((unsigned char)at[1]) && !(pattern && strchr("dwbS", at[1]))
                        : *at == '[' ? at[1] == '^' || at[1] == ':' || at[1] == ']'
                                     : (unsigned char)*at < ' ' || (*at == '.' && dot) || (pattern && all && strchr("*?{|$^()", *at)))
            return true;
        if (*at == '\\' && *++at == 'b' && all)
            return true;
    }
    return false;
}

/* s/a/b/gimsx, tr/a/b/cdsr, y: behind it, or NULL.  *keeps: a line that ends with a newline still does. */
static const char *perl_change(const char *at, bool *keeps)
{
    bool tr = strncmp(at, "tr", 2) == 0;
    if (!tr && *at != 's' && *at != 'y')
        return NULL;
    bool pattern = *at == 's';
    at += 1 + tr;
    char end = *at;
    if (!end || !strchr("/|,!%", end))
        return NULL;
    const char *from = at + 1, *to = perl_part(from, end, true);
    at = to ? perl_part(to + 1, end, false) : NULL;
    if (!at)
        return NULL;
    const char *behind = at + 1 + strspn(at + 1, pattern ? "gims" : "cds");
    *keeps = *keeps && !perl_reaches_end(from, to, pattern, at + 1, behind);
    return behind;
}

/* print, print if /re/, print unless /re/ */
static const char *perl_print(const char *at)
{
    if (strncmp(at, "print", 5) != 0)
        return NULL;
    at += 5;
    at += strspn(at, " ");
    size_t word = strncmp(at, "if ", 3) == 0 ? 3 : strncmp(at, "unless ", 7) == 0 ? 7 : 0;
    if (!word)
        return at;
    at += word + strspn(at + word, " ");
    if (*at != '/')
        return NULL;
    at = perl_part(at + 1, '/', true);
    return at ? at + 1 + strspn(at + 1, "ims") : NULL;
}

int split_perl(struct split_case *c)
{
    uint32_t programs = 0;
    for (uint32_t i = 0; i < c->option_count; i++) {
        const char *name = c->option[i].option->name[0];
        programs += strcmp(name, "-e") == 0;
        if (strcmp(name, "-e") != 0 && strcmp(name, "-n") != 0 && strcmp(name, "-p") != 0)
            return split_whole(c, "`%s` of perl is not in the table", name);
    }
    const char *at = split_value(c, "-e");
    if (programs != 1)
        return split_whole(c, "it has several programs");
    for (uint32_t i = 0; i < c->operand_count; i++)
        if (strpbrk(c->operand[i], "<>| ")) /* `<>` opens `x|` as a command */
            return split_whole(c, "perl takes `%.60s` for more than a name", c->operand[i]);
    c->apart = true;
    for (at += strspn(at, " "); *at; at += strspn(at, " ;")) {
        const char *end = perl_change(at, &c->s->ends_lines);
        if (!end)
            end = perl_print(at);
        if (!end || (end[strspn(end, " ")] && end[strspn(end, " ")] != ';'))
            return split_whole(c, "its program is not understood");
        at = end + strspn(end, " ");
    }
    return SPLIT_OK;
}

int split_plain(struct split_case *c)
{
    static const char *const known[] = {"-E", "-F", "-G", "-P", "-i", "-v", "-w", "-x",
                                        "-o", "-e", "-f", "-a", "-h", "-s", "-z"};
    for (uint32_t i = 0; i < c->option_count; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            found = found || strcmp(known[k], c->option[i].option->name[0]) == 0;
        if (!found)
            return split_whole(c, "`%s` with `-z` is not in the table",
                               c->option[i].option->name[0]);
    }
    return SPLIT_OK;
}
