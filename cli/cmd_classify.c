/* zpipe classify 'COMMAND': finds out by trials how the input of a command may be cut.  The command runs on inputs made to
 * break it, whole and in parts cut at random lines.  What holds in every trial is tried as an entry of a table, and printed
 * with the number of trials on which it rests: evidence, no proof. */
#include "cli.h"
#include "classify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARTS_MAX    6
#define FEW          60    /* lines of a small input, which is cut in SPLITS_FEW ways */
#define SPLITS_FEW   5
#define MORE         2000  /* lines of a larger one, cut in SPLITS_MORE ways */
#define SPLITS_MORE  2
#define MANY         20000 /* lines of an input of short lines */
#define TRIALS_LEAST 20    /* fewer trials say nothing */
#define WORDS_MAX    62    /* so many words fit in a line of a table */
#define TEXT_MAX     1000
#define WITH_MAX     64
#define TIME_MAX     "timeout=60s" /* time of one run, unless --with says otherwise */

struct outcome {
    struct bytes out;
    int status;
    bool complained; /* wrote to stderr */
};

enum way { CONCAT, SUM, REVERSE, RERUN, WAYS };

struct classify {
    struct zpipe *z;
    const struct cli *cli;
    const char *text; /* the command */
    const char *with[WITH_MAX];
    size_t with_count;
    char words[TEXT_MAX + 2], *word[WORDS_MAX]; /* its words, without quotes */
    size_t word_count;
    struct inputs inputs;
    bool zeros; /* the input contains zero bytes */
    bool fails[WAYS], fails_zeros[WAYS]; /* did it fail on inputs without zero bytes, and on inputs with them? */
    bool makes_files;
    bool joined; /* some output did not end with a newline */
    bool filled; /* an empty input is not treated like other inputs */
    struct bytes first; /* the output for the first input; */
    bool differs;       /* not all other inputs gave the same */
    unsigned trials, good, lines;
    uint32_t statuses, statuses_zeros; /* bit N: a part ended with status N */
};

/* ---- one run ----------------------------------------------------------------------------- */

static void on_stdout(void *owner, const void *data, size_t size)
{
    bytes_add(&((struct outcome *)owner)->out, data, size);
}

static void on_stderr(void *owner, const void *data, size_t size)
{
    (void)data;
    ((struct outcome *)owner)->complained |= size > 0;
}

/* Runs the command as it is; or with a table and its input in blocks of about `split` bytes.  -1: zpipe failed, and said
 * so. */
static int run_as(struct classify *c, const char *data, size_t size, const char *table, uint64_t split, struct outcome *o)
{
    struct zpipe_error e;
    struct zpipe_submission s = c->cli->submission;
    *o = (struct outcome){.status = -1};
    s.split_bytes = table ? split : ZPIPE_SPLIT_NEVER;
    s.commands = table ? &table : s.commands;
    s.commands_count = table ? 1 : s.commands_count;
    s.text = c->text;
    s.no_outputs = true; /* a trial leaves nothing behind */
    s.with = c->with;
    s.with_count = c->with_count;
    s.io = (struct zpipe_io){-1, -1, -1, true, on_stdout, on_stderr, NULL, o};
    struct zpipe_job *j = zpipe_submit(c->z, &s, &e);
    c->makes_files |= !j && e.code == ZPIPE_DENIED;
    if (!j)
        return c->makes_files ? -1 : cli_fail(-1, &e);
    bool fed = false;
    while (!zpipe_over(j)) {
        ptrdiff_t took = fed ? 0 : zpipe_feed(j, data, size, &e);
        if (took > 0) {
            data += took;
            size -= (size_t)took;
        }
        if (!fed && (size == 0 || took < 0)) {
            zpipe_feed_end(j);
            fed = true;
        }
        if (o->out.failed)
            zpipe_cancel(j); /* it may never end */
        zpipe_turn(c->z, true);
    }
    o->status = zpipe_wait(j, &e);
    zpipe_job_free(j);
    c->makes_files |= o->status == ZPIPE_STATUS_FAILED && e.code == ZPIPE_DENIED;
    if (c->makes_files)
        return -1;
    if (o->out.failed)
        return cli_say(-1, "its output is larger than %u bytes", BYTES_MAX);
    if (o->status == ZPIPE_STATUS_LIMIT)
        return cli_say(-1, "it reached a limit: %s", e.text);
    if (o->status == ZPIPE_STATUS_FAILED && e.text[0])
        return cli_fail(-1, &e);
    return 0;
}

static int run(struct classify *c, const char *data, size_t size, struct outcome *o)
{
    return run_as(c, data, size, NULL, 0, o);
}

/* ---- trials ------------------------------------------------------------------------------ */

static bool equal(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* Is it one line with one number, written as zpipe writes numbers? */
static bool number(const struct bytes *b, unsigned long long *out)
{
    char *end;
    if (b->size < 2 || b->size > 18 || b->data[0] < '0' || b->data[0] > '9')
        return false;
    if (b->data[0] == '0' && b->size > 2)
        return false;
    *out = strtoull(b->data, &end, 10);
    return end == b->data + b->size - 1 && *end == '\n';
}

static int try_rerun(struct classify *c, const struct bytes *joined, const struct outcome *whole)
{
    struct outcome again;
    bool *fails = c->zeros ? c->fails_zeros : c->fails;
    if (fails[RERUN])
        return 0;
    int r = run(c, joined->data ? joined->data : "", joined->size, &again);
    fails[RERUN] = again.status != 0 || again.complained || !equal(&again.out, &whole->out);
    free(again.out.data);
    return r;
}

static int judge(struct classify *c, struct outcome *part, size_t parts,
                 const struct outcome *whole)
{
    struct bytes forward = {0}, backward = {0};
    unsigned long long sum = 0, n, all;
    bool numbers = true;
    int least = 255;
    for (size_t i = 0; i < parts; i++) {
        bytes_add(&forward, part[i].out.data, part[i].out.size);
        bytes_add(&backward, part[parts - 1 - i].out.data, part[parts - 1 - i].out.size);
        numbers = numbers && number(&part[i].out, &n);
        sum += numbers ? n : 0;
        least = part[i].status < least ? part[i].status : least;
    }
    bool status = least == whole->status, *fails = c->zeros ? c->fails_zeros : c->fails;
    fails[CONCAT] |= !status || !equal(&forward, &whole->out);
    fails[REVERSE] |= !status || !equal(&backward, &whole->out);
    fails[SUM] |= !status || !numbers || !number(&whole->out, &all) || all != sum;
    fails[RERUN] |= !status;
    int r = forward.failed || backward.failed ? cli_say(-1, "out of memory")
                                              : try_rerun(c, &forward, whole);
    free(forward.data);
    free(backward.data);
    return r;
}

/* The end of the line that contains this byte. */
static size_t line_end(const char *data, size_t size, size_t at)
{
    const char *end = at < size ? memchr(data + at, '\n', size - at) : NULL;
    return end ? (size_t)(end - data) + 1 : size;
}

/* One trial: cuts an input and compares with `whole`, the outcome of the uncut input. */
static int trial(struct classify *c, const struct bytes *in, const struct outcome *whole)
{
    size_t from = 0, parts = 0;
    struct outcome part[PARTS_MAX];
    uint32_t statuses = 0;
    bool spoilt = false, joined = false;
    int r = 0;
    while (from < in->size && r == 0) {
        size_t most = in->size / 3 + 1, step = inputs_random(&c->inputs, 4) ? inputs_random(&c->inputs, (unsigned)most) : 0;
        size_t to = parts + 1 == PARTS_MAX ? in->size : line_end(in->data, in->size, from + step);
        r = run(c, in->data + from, to - from, &part[parts]);
        const struct outcome *p = &part[parts++];
        spoilt = spoilt || p->complained || p->status < 0 || p->status > 31;
        statuses |= p->status >= 0 && p->status < 32 ? 1u << p->status : 0;
        joined = joined || (p->out.size && p->out.data[p->out.size - 1] != '\n' && in->data[to - 1] == '\n');
        from = to;
    }
    if (r == 0 && !spoilt && parts > 1) {
        c->trials++;
        c->joined |= joined;
        *(c->zeros ? &c->statuses_zeros : &c->statuses) |= statuses;
        r = judge(c, part, parts, whole);
    }
    for (size_t i = 0; i < parts; i++)
        free(part[i].out.data);
    return r;
}

static int try_input(struct classify *c, enum input_kind kind, unsigned lines, unsigned splits)
{
    struct bytes in;
    struct outcome whole = {.status = -1};
    c->zeros = kind == INPUT_ZEROS;
    int r = inputs_make(&c->inputs, kind, lines, &in) < 0 ? cli_say(-1, "no memory for an input") : run(c, in.data, in.size, &whole);
    if (r == 0 && (whole.status == 126 || whole.status == 127))
        r = cli_say(-1, "`%s` cannot be run: status %d", c->text, whole.status);
    bool good = r == 0 && whole.status >= 0 && whole.status < 32 && !whole.complained;
    c->lines = good && lines > c->lines ? lines : c->lines;
    for (unsigned i = 0; i < splits && r == 0 && good; i++)
        r = trial(c, &in, &whole);
    if (good && c->good++ == 0) {
        c->first = whole.out;
        whole.out = (struct bytes){0};
    } else if (good) {
        c->differs |= !equal(&c->first, &whole.out);
    }
    free(whole.out.data);
    free(in.data);
    return r;
}

/* Tries an empty input, because the command before may leave nothing of a block. */
static int try_nothing(struct classify *c)
{
    struct outcome o;
    int r = run(c, "", 0, &o);
    unsigned long long n = 1;
    bool nothing = c->fails[CONCAT] && !c->fails[SUM] ? number(&o.out, &n) && n == 0 : o.out.size == 0;
    c->filled = !nothing || o.complained || o.status < 0 || o.status > 31 || !(c->statuses >> o.status & 1);
    free(o.out.data);
    return r;
}

static bool any_way(const struct classify *c)
{
    bool any = false;
    for (int i = 0; i < WAYS; i++)
        any |= !c->fails[i];
    return any;
}

static int try_all(struct classify *c)
{
    unsigned many = c->inputs.number * 2 > MANY ? c->inputs.number * 2 : MANY;
    for (int size = 0; size < 2; size++)
        for (int kind = 0; kind <= INPUT_MIXED && (size == 0 || any_way(c)); kind++)
            if (try_input(c, (enum input_kind)kind, size ? MORE : FEW, size ? SPLITS_MORE : SPLITS_FEW) < 0)
                return -1;
    for (int kind = INPUT_MANY; kind <= INPUT_LETTERS && any_way(c); kind++)
        if (try_input(c, (enum input_kind)kind, many, SPLITS_MORE) < 0)
            return -1;
    return try_nothing(c);
}

/* ---- the entry --------------------------------------------------------------------------- */

/* Characters that need no quotes in sh wherever they stand. */
static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+%@:-=,^";

/* Copies one word of the text to `out`, without its quotes; NULL: it is not a plain or quoted word. */
static const char *take_word(const char *at, char **out)
{
    char quote = '\0', *to = *out;
    for (; *at && (quote || *at != ' '); at++) {
        if (*at == '\n' || (quote != '\'' && (*at == '$' || *at == '`')))
            return NULL;
        if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? '\0' : *at;
        else if (*at == '\\' && quote != '\'') {
            bool escapes = !quote || strchr("\"\\$`", at[1]);
            if (!at[1] || at[1] == '\n')
                return NULL;
            if (!escapes)
                *to++ = '\\';
            *to++ = *++at;
        } else if (quote || strchr(plain, *at))
            *to++ = *at;
        else
            return NULL;
    }
    *to++ = '\0';
    *out = to;
    return quote ? NULL : at;
}

/* Splits the command into words.  The first may not set a variable. */
static bool take_words(struct classify *c)
{
    const char *at = c->text;
    char *to = c->words;
    while (*(at += strspn(at, " "))) {
        if (c->word_count == WORDS_MAX)
            return false;
        c->word[c->word_count++] = to;
        if (!(at = take_word(at, &to)))
            return false;
    }
    return c->word_count > 0 && c->word[0][0] && !strchr(c->word[0], '=');
}

static void add_text(struct bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

/* Adds a word as a table has it: in quotes if it needs them. */
static void add_word(struct bytes *b, const char *word)
{
    bool quotes = !*word || word[strspn(word, plain)];
    add_text(b, quotes ? " '" : " ");
    for (; *word; word++)
        if (quotes && *word == '\'')
            add_text(b, "'\\''");
        else
            bytes_add(b, word, 1);
    add_text(b, quotes ? "'" : "");
}

static void make_entry(const struct classify *c, enum way way, bool zeros, struct bytes *out)
{
    static const char *const clauses[] = {"", " | native columns 0 +", " | reverse", " | rerun"};
    uint32_t statuses = c->statuses | (zeros ? 0 : c->statuses_zeros);
    char text[200];
    snprintf(text, sizeof text, "# zpipe classify: %u trials on %u inputs of up to %u lines\nexactly", c->trials, c->good, c->lines);
    add_text(out, text);
    for (size_t i = 0; i < c->word_count; i++)
        add_word(out, c->word[i]);
    add_text(out, "\n  status");
    for (int i = 0; i < 32; i++) {
        snprintf(text, sizeof text, " %d", i);
        add_text(out, statuses >> i & 1 ? text : "");
    }
    snprintf(text, sizeof text, "\n  form : lines%s%s%s%s\n", clauses[way], c->joined && way != SUM ? " | joined" : "", c->filled ? " | filled" : "",
             zeros ? " | without 0" : "");
    add_text(out, text);
}

/* Does the table make zpipe cut the command's input, and is the output the same?  1: yes; 0: no; -1: zpipe failed, and said so. */
static int entry_holds(struct classify *c, const char *table)
{
    for (int kind = 0; kind < INPUT_MANY; kind++) {
        bool more = kind % 3 == 0 || kind == INPUT_MIXED;
        struct bytes in;
        struct outcome whole = {.status = -1}, cut;
        int r = inputs_make(&c->inputs, (enum input_kind)kind, more ? MORE / 4 : FEW, &in) < 0 ? cli_say(-1, "no memory for an input")
                                                                                               : run(c, in.data, in.size, &whole);
        r = r < 0 ? r : run_as(c, in.data, in.size, table, more ? 4096 : 128, &cut);
        bool same = r == 0 && cut.status == whole.status && cut.complained == whole.complained && equal(&cut.out, &whole.out);
        if (r == 0)
            free(cut.out.data);
        free(in.data);
        free(whole.out.data);
        if (r < 0 || !same)
            return r < 0 ? -1 : 0;
    }
    return 1;
}

/* The class that the plan names for the command, with this table or the usual ones; the caller frees it.  NULL after saying
 * why. */
static char *class_of(struct classify *c, const char *table, bool *whole)
{
    struct zpipe_error e;
    struct zpipe_submission s = c->cli->submission;
    s.text = c->text;
    s.split_bytes = 64;
    s.commands = table ? &table : s.commands;
    s.commands_count = table ? 1 : s.commands_count;
    char *plan = zpipe_plan(c->z, &s, true, &e);
    if (!plan)
        cli_fail(-1, &e);
    else
        *whole = strstr(plan, "\"class\": \"stream\"") != NULL; /* unambiguous: inside a word these quotes would have backslashes */
    return plan;
}

static int try_entry(struct classify *c, const struct bytes *entry)
{
    struct zpipe_error e;
    char table[40];
    bool whole = true;
    int fd = zpipe_file(&e);
    if (fd < 0)
        return cli_fail(-1, &e);
    snprintf(table, sizeof table, "/proc/self/fd/%d", fd);
    int r = pwrite(fd, entry->data, entry->size, 0) == (ssize_t)entry->size ? 0 : cli_say(-1, "cannot write to a temporary file");
    char *plan = r < 0 ? NULL : class_of(c, table, &whole);
    if (plan)
        r = whole ? cli_say(0, "`%s` stays whole with an entry, too: zpipe plan says why", c->text) : entry_holds(c, table);
    if (plan && !whole && r == 0)
        cli_say(0, "`%s` is whole: with an entry its output was another", c->text);
    free(plan);
    close(fd);
    return plan ? r : -1;
}

static int print_entry(struct classify *c, enum way way, bool zeros)
{
    struct bytes entry = {0};
    make_entry(c, way, zeros, &entry);
    int r = entry.failed ? cli_say(-1, "no memory for an entry") : try_entry(c, &entry);
    if (r > 0)
        fwrite(entry.data, 1, entry.size, stdout);
    free(entry.data);
    return r < 0 ? ZPIPE_STATUS_FAILED : r == 0;
}

static int report(struct classify *c)
{
    if (c->trials < TRIALS_LEAST)
        return cli_say(1, "only %u trials could be made of `%s`: it failed or wrote to stderr in the others", c->trials,
                       c->text);
    if (!c->differs)
        return cli_say(1, "the output of `%s` was the same for each of %u inputs, which says nothing of how they may be cut", c->text, c->good);
    for (int zeros = 0; zeros < 2; zeros++)
        for (int way = 0; way < WAYS; way++)
            if (!c->fails[way] && (zeros || !c->fails_zeros[way]))
                return print_entry(c, (enum way)way, zeros);
    return cli_say(1,
                   "`%s` is whole: in %u trials neither end to end, nor added, nor reversed, nor "
                   "run again were its outputs right",
                   c->text, c->trials);
}

static int classify(struct classify *t)
{
    bool whole;
    char *plan = class_of(t, NULL, &whole);
    free(plan);
    if (!plan)
        return ZPIPE_STATUS_FAILED;
    if (!whole)
        return cli_say(1, "`%s` is in the table of commands already: zpipe plan says how its input is cut", t->text);
    inputs_read(&t->inputs, t->word, t->word_count);
    int r = try_all(t);
    if (r < 0 && t->makes_files)
        return cli_say(1, "`%s` is whole: it makes files", t->text);
    return r < 0 ? ZPIPE_STATUS_FAILED : report(t);
}

int cmd_classify(struct cli *c)
{
    static struct classify t; /* static: its list of words is long */
    struct zpipe_error e;
    t = (struct classify){.cli = c, .text = c->word_count == 1 ? c->word[0] : "", .inputs = {.random = 1}};
    if (strlen(t.text) > TEXT_MAX || !take_words(&t))
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe classify wants one simple command of at most %d bytes, without patterns, variables and newlines", TEXT_MAX);
    t.with[t.with_count++] = TIME_MAX;
    for (size_t i = 0; i < c->submission.with_count && t.with_count < WITH_MAX; i++)
        t.with[t.with_count++] = c->submission.with[i];
    t.z = zpipe_open(&c->open, &e);
    if (!t.z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    int r = classify(&t);
    zpipe_close(t.z);
    inputs_clear(&t.inputs);
    free(t.first.data);
    return r;
}
