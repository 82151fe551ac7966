/* See split_inside.h.  A sed script is read into a flat list of commands with their addresses.  How it may be cut depends
 * on what it remembers from line to line.  If nothing, it is cut at any line.  If it has line numbers, the first block
 * holds all these lines, and the other blocks run the commands that apply after them.  If it has `$`, only the last block
 * runs the whole script.  Anything else, and anything that is not understood, runs whole. */
#include "dsl/script_names.h"
#include "dsl/split_inside.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMANDS_MAX 256
#define BLOCKS_MAX   32
#define STEP_MAX     1000000

enum address {
    NO_ADDRESS,
    REGEX,
    LINE,      /* N, or N,M: `to` is the last line */
    FROM_LINE, /* N,$ */
    STEP,      /* N~M */
    LAST,      /* $ */
    UNKNOWN,   /* a range with a regular expression */
};

struct sed_command {
    enum address address;
    bool negate;
    uint64_t from, to; /* for LINE; for STEP: from ~ to */
    char name;
    size_t at, end; /* where the command is, without its address */
    size_t begin;   /* where its address begins */
    bool inside;    /* it is inside a block */
};

struct sed {
    const char *text;
    size_t at;
    struct sed_command command[COMMANDS_MAX];
    uint32_t count;
    uint32_t block[BLOCKS_MAX]; /* the open blocks */
    uint32_t depth;
    const char *bad; /* what is not understood or cannot be cut */
    char unknown[8];
    struct script_names *names; /* NULL: the caller only asks how the script may be cut */
    int told;
};

static bool fails(struct sed *s, const char *why)
{
    s->bad = s->bad ? s->bad : why;
    return false;
}

/* ---- the script's parts ------------------------------------------------------------------ */

/* Moves past the next unescaped `end`.  Fails if a bracket expression is still open there, as `end` may be part of it. */
static bool part(struct sed *s, char end, bool pattern)
{
    const char *from = s->text + s->at;
    while (s->text[s->at] && s->text[s->at] != end) {
        if (s->text[s->at] == '\n' && pattern)
            return fails(s, "a pattern with a newline");
        if (s->text[s->at] == '\\' && s->text[s->at + 1])
            s->at++;
        s->at++;
    }
    if (!s->text[s->at])
        return fails(s, "a part without an end");
    const char *open = NULL;
    for (const char *p = from; pattern && p < s->text + s->at; p++)
        if (*p == '\\')
            p++;
        else if (*p == '[' && !open)
            open = p;
        else if (*p == ']' && open && p > open + 1)
            open = NULL;
    s->at++;
    return open ? fails(s, "a delimiter inside brackets") : true;
}

static uint64_t number(struct sed *s)
{
    char *end;
    uint64_t n = strtoull(s->text + s->at, &end, 10);
    s->at = (size_t)(end - s->text);
    return n;
}

static bool digit(const struct sed *s)
{
    return isdigit((unsigned char)s->text[s->at]);
}

/* Reads /re/ or \cREc, with its I and M. */
static bool regex(struct sed *s)
{
    char end = '/';
    if (s->text[s->at] == '\\')
        end = s->text[++s->at];
    if (!end || end == '\n' || end == '\\')
        return fails(s, "an address");
    size_t from = ++s->at;
    if (!part(s, end, true))
        return false;
    if (s->at == from + 1)
        return fails(s, "an empty pattern");
    while (s->text[s->at] == 'I' || s->text[s->at] == 'M')
        s->at++;
    return true;
}

/* Reads what follows the comma. */
static bool range(struct sed *s, struct sed_command *c)
{
    s->at += strspn(s->text + s->at, " \t");
    char first = s->text[s->at];
    if (first == '$') {
        s->at++;
        c->address = c->address == LINE ? FROM_LINE : UNKNOWN;
    } else if (digit(s) || first == '+') {
        s->at += first == '+';
        if (!digit(s))
            return fails(s, "an address");
        uint64_t n = number(s);
        if (c->address == LINE)
            c->to = first == '+' ? c->from + n : n > c->from ? n : c->from;
        else
            c->address = UNKNOWN;
    } else if (first == '/' || first == '\\') {
        c->address = UNKNOWN;
        return regex(s);
    } else {
        return fails(s, "an address");
    }
    return true;
}

static bool address(struct sed *s, struct sed_command *c)
{
    c->begin = s->at;
    if (digit(s)) {
        c->address = LINE;
        c->from = c->to = number(s);
        if (s->text[s->at] == '~') {
            s->at++;
            c->address = STEP;
            c->to = digit(s) ? number(s) : 0;
        }
        if (c->from > STEP_MAX || c->to > STEP_MAX)
            return fails(s, "a large line number");
    } else if (s->text[s->at] == '$') {
        c->address = LAST;
        s->at++;
    } else if (s->text[s->at] == '/' || s->text[s->at] == '\\') {
        c->address = REGEX;
        if (!regex(s))
            return false;
    }
    s->at += strspn(s->text + s->at, " \t");
    if (s->text[s->at] == ',') {
        s->at++;
        if (c->address == NO_ADDRESS || !range(s, c))
            return fails(s, "an address");
        if (c->to > STEP_MAX)
            return fails(s, "a large line number");
    }
    s->at += strspn(s->text + s->at, " \t");
    while (s->text[s->at] == '!') {
        c->negate = true;
        s->at++;
        s->at += strspn(s->text + s->at, " \t");
    }
    return true;
}

/* Reads a file name, up to the end of the line.  Which lines are written to the file is not known. */
static bool file(struct sed *s, enum script_use use, const char *why)
{
    s->at += strspn(s->text + s->at, " \t");
    size_t size = strcspn(s->text + s->at, "\n");
    if (!s->names)
        return fails(s, why);
    s->told = s->names->told(s->names, use, s->text + s->at, size);
    s->at += size;
    return s->told == 0;
}

static bool change(struct sed *s, const struct sed_command *c)
{
    char end = s->text[s->at];
    if (!end || end == '\n' || end == '\\')
        return fails(s, "a part without an end");
    size_t from = ++s->at;
    if (!part(s, end, true))
        return false;
    /* An empty pattern means the one used last: that of its own address, or else an unknown one. */
    if (s->at == from + 1 && c->name == 's' && (c->address != REGEX || c->negate))
        return fails(s, "an empty pattern");
    if (!part(s, end, false))
        return false;
    if (c->name == 'y')
        return true;
    s->at += strspn(s->text + s->at, "gpiImM0123456789");
    static const char elsewhere[] = "`s` with a flag that writes or runs";
    if (s->text[s->at] == 'e')
        return fails(s, elsewhere);
    if (s->text[s->at] != 'w')
        return true;
    s->at++;
    return file(s, SCRIPT_WRITES, elsewhere);
}

/* Reads the text of a, i, c: to the end of the line, with the lines that follow a backslash. */
static void text_lines(struct sed *s)
{
    while (s->text[s->at] && s->text[s->at] != '\n')
        s->at += s->text[s->at] == '\\' && s->text[s->at + 1] ? 2 : 1;
}

static void label(struct sed *s)
{
    s->at += strspn(s->text + s->at, " \t");
    while (s->text[s->at] && !strchr(" \t\n;}", s->text[s->at]))
        s->at++;
}

/* Is there nothing after the command but its end? */
static bool ends(struct sed *s)
{
    s->at += strspn(s->text + s->at, " \t");
    return s->text[s->at] && !strchr(";\n}#", s->text[s->at])
               ? fails(s, "something behind a command")
               : true;
}

static bool body(struct sed *s, struct sed_command *c)
{
    if (strchr("sy", c->name))
        return change(s, c) && ends(s);
    if (strchr("aic", c->name))
        return text_lines(s), true;
    if (strchr("btT:", c->name))
        return label(s), ends(s);
    if (strchr("dpPhHgGxnNqQlz=", c->name))
        return ends(s);
    snprintf(s->unknown, sizeof s->unknown, "`%c`",
             isprint((unsigned char)c->name) ? c->name : '?');
    if (strchr("rRwW", c->name))
        return file(s, strchr("rR", c->name) ? SCRIPT_READS : SCRIPT_WRITES, s->unknown);
    return fails(s, s->unknown);
}

static bool next_command(struct sed *s)
{
    s->at += strspn(s->text + s->at, " \t\n;");
    if (s->text[s->at] == '#') {
        s->at += strcspn(s->text + s->at, "\n");
        return true;
    }
    if (s->text[s->at] == '}') {
        if (!s->depth)
            return fails(s, "a `}` without `{`");
        s->command[s->block[--s->depth]].end = ++s->at;
        return ends(s);
    }
    if (!s->text[s->at])
        return true;
    if (s->count == COMMANDS_MAX)
        return fails(s, "very many commands");
    struct sed_command *c = &s->command[s->count++];
    *c = (struct sed_command){.inside = s->depth > 0};
    if (!address(s, c))
        return false;
    c->at = s->at;
    c->name = s->text[s->at];
    if (!c->name)
        return fails(s, "an address without a command");
    s->at++;
    if (c->name == '{') {
        if (s->depth == BLOCKS_MAX)
            return fails(s, "very deep blocks");
        s->block[s->depth++] = s->count - 1;
        return true;
    }
    bool good = body(s, c);
    c->end = s->at;
    return good;
}

static bool read_script(struct sed *s)
{
    if (strncmp(s->text, "#n\n", 3) == 0 || strcmp(s->text, "#n") == 0)
        return fails(s, "`#n` in its first line");
    while (s->text[s->at])
        if (!next_command(s))
            return false;
    return s->depth ? fails(s, "a `{` without `}`") : true;
}

/* ---- what it remembers ------------------------------------------------------------------- */

static bool uses(const struct sed *s, const char *names)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (strchr(names, s->command[i].name))
            return true;
    return false;
}

static bool has_address(const struct sed *s, enum address a)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->command[i].address == a)
            return true;
    return false;
}

/* Is the hold space always empty, or set in each line before it is used? */
static bool holds_nothing(const struct sed *s)
{
    if (!uses(s, "hHx"))
        return true;
    for (uint32_t i = 0; i < s->count; i++)
        if (strchr("hHgGx", s->command[i].name))
            return s->command[i].name == 'h' && s->command[i].address == NO_ADDRESS &&
                   !s->command[i].negate && !s->command[i].inside && !uses(s, "btT:D");
    return true;
}

/* How many lines each cycle reads: more than one if n and N are always reached; 0: unknown. */
static uint64_t lines_a_round(const struct sed *s)
{
    uint64_t lines = 1;
    if (!uses(s, "nN"))
        return 1;
    if (uses(s, "btT:DqQ"))
        return 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sed_command *c = &s->command[i];
        bool plain = c->address == NO_ADDRESS && !c->negate;
        bool but_last = c->address == LAST && c->negate && c->name == 'N';
        if (c->name == 'n' || c->name == 'N') {
            if (c->inside || (!plain && !but_last))
                return 0;
            lines++;
        } else if (c->address == LAST || c->address == LINE || c->address == FROM_LINE ||
                   c->address == STEP) {
            return 0;
        }
        if (strchr("dc", c->name)) /* an n or N after it is not always reached */
            for (uint32_t k = i; k < s->count; k++)
                if (strchr("nN", s->command[k].name))
                    return 0;
    }
    return lines;
}

/* ---- the classes ------------------------------------------------------------------------- */

static bool silent(const struct split_case *c)
{
    return split_has(c, "-n");
}

/* Makes the script for the other blocks: the commands that may still apply, each on a line of its own. */
static int rest(struct split_case *c, const struct sed *s, bool stopped)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    bool empty = true;
    for (uint32_t i = 0; i < s->count && !stopped; i++) {
        const struct sed_command *k = &s->command[i];
        bool drop = k->negate ? k->address == FROM_LINE : k->address == LINE || k->address == LAST;
        bool always =
            k->negate ? k->address == LINE || k->address == LAST : k->address == FROM_LINE;
        if (drop || k->inside)
            continue;
        empty = false;
        size_t from = always ? k->at : k->begin;
        buf_add(&b, s->text + from, k->end - from);
        buf_byte(&b, '\n');
    }
    if (b.failed)
        return err_nomem(c->e), SPLIT_FAILED;
    if (empty)
        c->s->rest_argv = split_words(c, &c->s->rest_argc, stopped || silent(c) ? "true" : "cat",
                                      (const char *)NULL);
    else
        c->s->rest_argv = split_self(c, b.data, &c->s->rest_argc);
    buf_clear(&b);
    return c->s->rest_argv ? SPLIT_OK : SPLIT_FAILED;
}

/* Line numbers are all in the first block.  A `q` at a line number ends everything. */
static int first_lines(struct split_case *c, const struct sed *s)
{
    uint64_t most = 1;
    bool stops = false;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sed_command *k = &s->command[i];
        if (k->name == '{' && k->address != NO_ADDRESS && k->address != REGEX)
            return split_whole(c, "a block `{ }` of sed with a line number");
        if (k->address == LAST || k->address == STEP)
            return split_whole(c, "it uses line numbers and `$` or `~`");
        if (strchr("qQ", k->name)) {
            if (k->address != LINE || k->negate || k->from != k->to || k->inside)
                return split_whole(c, "it may end at any line");
            stops = true;
        }
        if (k->address == LINE || k->address == FROM_LINE)
            most = k->to > most ? k->to : most;
    }
    if (uses(s, "btT:"))
        return split_whole(c, "it uses line numbers and branches");
    c->s->run = GRAPH_RUN_FIRST;
    c->s->first_units = most + 1;
    c->s->stops_early = stops;
    return rest(c, s, stops);
}

static int last_line(struct split_case *c, const struct sed *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sed_command *k = &s->command[i];
        if (k->name == '{' && k->address == LAST)
            return split_whole(c, "a block `{ }` of sed with `$`");
        if (k->address == STEP || strchr("btT:qQ", k->name))
            return split_whole(c, "it uses `$` and `~`, branches or `q`");
    }
    c->s->run = GRAPH_RUN_LAST;
    return rest(c, s, false);
}

static int steps(struct split_case *c, const struct sed *s)
{
    uint64_t step = 1;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sed_command *k = &s->command[i];
        if (k->address != STEP)
            continue;
        if (k->to == 0 || k->from > k->to)
            return split_whole(c, "its steps begin behind their first round");
        uint64_t a = step, b = k->to;
        while (b) {
            uint64_t mod = a % b;
            a = b;
            b = mod;
        }
        step = step / a * k->to;
        if (step > STEP_MAX)
            return split_whole(c, "its steps meet very late");
    }
    c->s->cut_step = step;
    return SPLIT_OK;
}

static int rerun(struct split_case *c)
{
    c->s->combine = GRAPH_COMBINE_RERUN;
    c->s->combine_argv = split_self(c, NULL, &c->s->combine_argc);
    return c->s->combine_argv ? SPLIT_OK : SPLIT_FAILED;
}

/* Scripts of one command that end early, or that need the last line: they are run again on what the blocks leave. */
static int alone(struct split_case *c, const struct sed *s, bool *done)
{
    const struct sed_command *k = &s->command[0];
    *done = true;
    if (s->count != 1)
        return *done = false, SPLIT_OK;
    bool line = k->address == LINE && k->from == k->to && k->from > 0;
    if (strchr("qQ", k->name) && !silent(c) && !k->negate && (line || k->address == REGEX)) {
        char *with_q = arena_string(&c->g->arena, s->text);
        if (!with_q)
            return err_nomem(c->e), SPLIT_FAILED;
        with_q[k->at] = 'q'; /* Q would leave out the line that shows where the script ended */
        c->s->stops_early = true;
        c->s->block_argv = split_self(c, with_q, &c->s->block_argc);
        return c->s->block_argv ? rerun(c) : SPLIT_FAILED;
    }
    bool last = k->address == LAST && ((k->name == 'p' && !k->negate && silent(c)) ||
                                       (k->name == 'd' && k->negate && !silent(c)));
    if (last)
        return rerun(c);
    if (k->address == LAST && k->name == '=' && !k->negate && silent(c))
        return split_native(c, "columns 0 +");
    *done = false;
    return SPLIT_OK;
}

static int classify(struct split_case *c, const struct sed *s)
{
    bool done;
    int r = alone(c, s, &done);
    if (r != SPLIT_OK || done)
        return r;
    if (uses(s, "="))
        return split_whole(c, "`=` of sed prints line numbers");
    if (has_address(s, UNKNOWN))
        return split_whole(c, "a range of sed runs from line to line");
    if (!holds_nothing(s))
        return split_whole(c, "sed's hold space goes from line to line");
    if (uses(s, "D"))
        return split_whole(c, "`D` of sed begins again with what is left");
    c->s->cut_step = lines_a_round(s);
    if (c->s->cut_step > 1)
        return SPLIT_OK;
    if (c->s->cut_step == 0)
        return split_whole(c, "how many lines a round of sed takes depends on them");
    if (has_address(s, LINE) || has_address(s, FROM_LINE))
        return first_lines(c, s);
    if (has_address(s, LAST))
        return last_line(c, s);
    if (uses(s, "qQ"))
        return split_whole(c, "it may end at any line");
    return has_address(s, STEP) ? steps(c, s) : SPLIT_OK;
}

/* The script: the first operand, or the values of -e, one on each line. */
static const char *script_of(struct split_case *c)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    bool any = false;
    for (uint32_t i = 0; i < c->option_count; i++) {
        if (strcmp(c->option[i].option->name[0], "-e") != 0)
            continue;
        buf_printf(&b, "%s%s", any ? "\n" : "", c->option[i].value ? c->option[i].value : "");
        any = true;
    }
    if (!any)
        buf_text(&b, c->operand_count ? c->operand[0] : "");
    buf_add(&b, "", 0);
    const char *text = b.failed ? NULL : arena_string(&c->g->arena, b.data);
    buf_clear(&b);
    return text;
}

int split_sed(struct split_case *c)
{
    struct sed *s = calloc(1, sizeof *s);
    if (s)
        s->text = script_of(c);
    if (!s || !s->text) {
        free(s);
        return err_nomem(c->e), SPLIT_FAILED;
    }
    int r = split_has(c, "--posix") ? split_whole(c, "`--posix` is not in the table")
            : read_script(s)        ? classify(c, s)
                                    : split_whole(c, "its script has %s", s->bad);
    free(s);
    return r;
}

int script_names_sed(const char *script, struct script_names *n)
{
    struct sed *s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    s->text = script;
    s->names = n;
    read_script(s);
    int r = s->told;
    free(s);
    return r;
}
