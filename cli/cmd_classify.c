/* zpipe classify 'COMMAND': finds by trying how the input of a command may be cut.  It runs on
 * inputs made to break it, whole and in parts cut at random lines; what holds in every trial is
 * printed as an entry for a table of commands, with the number of trials that it rests on:
 * evidence, no proof. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX    8192
#define OUTPUT_MAX   (1u << 20)
#define PARTS_MAX    6
#define LINES_MAX    400
#define SPLITS_EACH  6
#define TRIALS_LEAST 20 /* fewer say nothing */
#define KINDS        10 /* of inputs */
#define KIND_ZEROS   8  /* the one with zero bytes */
#define WORDS_MAX    64
#define WITH_MAX     64
#define TIME_MAX     "timeout=60s" /* of one run, unless --with says otherwise */

struct bytes {
    char *data;
    size_t size;
    bool failed;
};

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
    char words[2048], *word[WORDS_MAX + 1]; /* its words, without quotes */
    size_t word_count;
    uint64_t random;
    unsigned kind; /* of the input that is tried */
    bool fails[WAYS], fails_zeros[WAYS]; /* in other inputs; in that with zero bytes */
    bool makes_files;
    bool joined; /* output that does not end a line */
    unsigned trials, inputs, spoilt;
    uint32_t statuses; /* bit N: a part ended with N */
};

/* ---- one run ----------------------------------------------------------------------------- */

static void add(struct bytes *b, const void *data, size_t size)
{
    char *more =
        b->failed || b->size + size > OUTPUT_MAX ? NULL : realloc(b->data, b->size + size + 1);
    b->failed = b->failed || !more;
    if (!more)
        return;
    b->data = more;
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = '\0';
}

static void on_stdout(void *owner, const void *data, size_t size)
{
    add(&((struct outcome *)owner)->out, data, size);
}

static void on_stderr(void *owner, const void *data, size_t size)
{
    (void)data;
    ((struct outcome *)owner)->complained |= size > 0;
}

/* -1: zpipe failed, and said so. */
static int run(struct classify *c, const char *data, size_t size, struct outcome *o)
{
    struct zpipe_error e;
    struct zpipe_submission s = c->cli->submission;
    *o = (struct outcome){.status = -1};
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
        return cli_say(-1, "its output is larger than %u bytes", OUTPUT_MAX);
    if (o->status == ZPIPE_STATUS_LIMIT)
        return cli_say(-1, "it reached a limit: %s", e.text);
    if (o->status == ZPIPE_STATUS_FAILED && e.text[0])
        return cli_fail(-1, &e);
    return 0;
}

/* ---- inputs ------------------------------------------------------------------------------ */

static unsigned random_below(struct classify *c, unsigned n)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(c->random >> 33) % n;
}

/* The size, with lines that the kind is about. */
static size_t make_input(struct classify *c, unsigned kind, char *out)
{
    static const char *const words[] = {"the", "quick", "a",  "b",  "a b", "x1 ",
                                        "",    "\t2",   "Ee", "10", "-3",  "a,b:c"};
    static const char *const few[] = {"a", "a", "b", "b", "b", "c x", "", "the end"};
    size_t size = 0;
    for (unsigned line = 0; line < 60; line++) {
        unsigned r = random_below(c, 1000);
        size_t room = INPUT_MAX - size;
        size += (size_t)(kind == 0   ? snprintf(out + size, room, "%s %s %s\n", words[r % 12],
                                                words[r / 12 % 12], words[r / 3 % 12])
                         : kind == 1 ? snprintf(out + size, room, "%s\n", few[line / 8])
                         : kind == 2 ? snprintf(out + size, room, "\n")
                         : kind == 3 ? snprintf(out + size, room, "%u\n", r % 100)
                         : kind == 4 ? snprintf(out + size, room, "%s", r % 3 ? "\n" : "word\n\n")
                         : kind == 5 ? snprintf(out + size, room, "%u %s%s", r, words[r % 12],
                                                line < 59 ? "\n" : "")
                         : kind == 6
                             ? snprintf(out + size, room, "k%u\t%u\t%s\n", r % 5, r, words[r % 12])
                         : kind == KIND_ZEROS
                             ? snprintf(out + size, room, "%s@%u\n", words[r % 12], r)
                         : kind == 9 ? snprintf(out + size, room, "%*s\n", line == 30 ? 4000 : 3, words[r % 12])
                                     : snprintf(out + size, room, "the same line\n"));
    }
    for (size_t i = 0; i < size && kind == KIND_ZEROS; i++)
        out[i] = out[i] == '@' ? (char)(i % 3 ? 0 : 0xe9) : out[i];
    return size;
}

/* Ends of lines that are not the end of all. */
static size_t line_ends(const char *data, size_t size, size_t *ends)
{
    size_t count = 0;
    for (size_t i = 0; i + 1 < size && count < LINES_MAX; i++)
        if (data[i] == '\n')
            ends[count++] = i + 1;
    return count;
}

/* ---- trials ------------------------------------------------------------------------------ */

static bool equal(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* Is it one line with one number? */
static bool number(const struct bytes *b, unsigned long long *out)
{
    char *end;
    if (b->size < 2 || b->size > 18 || b->data[0] < '0' || b->data[0] > '9')
        return false;
    *out = strtoull(b->data, &end, 10);
    return end == b->data + b->size - 1 && *end == '\n';
}

static int try_rerun(struct classify *c, const struct bytes *joined, const struct outcome *whole)
{
    struct outcome again;
    bool *fails = c->kind == KIND_ZEROS ? c->fails_zeros : c->fails;
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
        add(&forward, part[i].out.data, part[i].out.size);
        add(&backward, part[parts - 1 - i].out.data, part[parts - 1 - i].out.size);
        numbers = numbers && number(&part[i].out, &n);
        sum += numbers ? n : 0;
        least = part[i].status < least ? part[i].status : least;
    }
    bool status = least == whole->status, *fails = c->kind == KIND_ZEROS ? c->fails_zeros : c->fails;
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

/* One cutting of an input; whole is what came of it uncut. */
static int trial(struct classify *c, const char *data, size_t size, const struct outcome *whole)
{
    size_t ends[LINES_MAX], count = line_ends(data, size, ends), from = 0, parts = 0, at = 0;
    struct outcome part[PARTS_MAX];
    bool spoilt = false;
    int r = 0;
    while (from < size && r == 0) {
        at += 1 + random_below(c, (unsigned)count / 3 + 1);
        size_t to = parts + 1 == PARTS_MAX || at >= count ? size : ends[at];
        r = run(c, data + from, to - from, &part[parts]);
        const struct outcome *p = &part[parts++];
        spoilt = spoilt || p->complained || p->status < 0 || p->status > 31;
        c->statuses |= p->status >= 0 && p->status < 32 ? 1u << p->status : 0;
        bool open = p->out.size && p->out.data[p->out.size - 1] != '\n';
        c->joined = c->joined || (open && data[to - 1] == '\n');
        from = to;
    }
    c->spoilt += spoilt;
    if (r == 0 && !spoilt && parts > 1) {
        c->trials++;
        r = judge(c, part, parts, whole);
    }
    for (size_t i = 0; i < parts; i++)
        free(part[i].out.data);
    return r;
}

static int try_all(struct classify *c)
{
    char data[INPUT_MAX];
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct outcome whole;
        c->kind = kind;
        size_t size = make_input(c, kind, data);
        int r = run(c, data, size, &whole);
        if (r == 0 && (whole.status == 126 || whole.status == 127))
            r = cli_say(-1, "`%s` cannot be run: status %d", c->text, whole.status);
        bool good = whole.status >= 0 && whole.status < 32 && !whole.complained;
        c->inputs += good;
        for (int i = 0; i < SPLITS_EACH && r == 0 && good; i++)
            r = trial(c, data, size, &whole);
        free(whole.out.data);
        if (r < 0)
            return -1;
    }
    return 0;
}

/* ---- the entry --------------------------------------------------------------------------- */

/* What an entry can hold as it stands; in quotes also a blank, a tab and what is a sign of the shell. */
static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+%@:-=,^";
static const char quoted[] = " \t;&|()<>!~$#'\"";

/* One word of the text, without its quotes, to `out`; NULL: it is no such word. */
static const char *take_word(const char *at, char **out)
{
    char quote = '\0', *to = *out;
    for (; *at && (quote || *at != ' '); at++) {
        if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? '\0' : *at;
        else if (strchr(plain, *at) || (quote && strchr(quoted, *at) && !(quote == '"' && *at == '$')))
            *to++ = *at;
        else
            return NULL;
    }
    *to++ = '\0';
    *out = to;
    return quote ? NULL : at;
}

/* May the table hold it, where some words mean something else?  A colon or a bar ends a list, # is a comment's. */
static bool fits_entry(const char *word)
{
    return *word && strcmp(word, ":") && strcmp(word, "|") && *word != '#';
}

static bool take_words(struct classify *c)
{
    const char *at = c->text;
    char *to = c->words;
    while (*(at += strspn(at, " "))) {
        c->word[c->word_count] = to;
        if (c->word_count == WORDS_MAX || !(at = take_word(at, &to)) || !fits_entry(c->word[c->word_count++]))
            return false;
    }
    return c->word_count > 0;
}

static void print_word(const char *word)
{
    for (; *word; word++)
        if (*word == ' ' || *word == '\t')
            printf("\\%c", *word == ' ' ? 's' : 't');
        else
            putchar(*word);
}

/* `--name=value`, and `-dX` where X has a comma, which the table takes apart: the size of the option, else 0. */
static size_t option_size(const char *word)
{
    const char *is = strchr(word, '=');
    if (word[1] == '-')
        return is ? (size_t)(is - word) : 0;
    return strchr(word, ',') ? 2 : 0;
}

/* The options alone, as flags or as those that have a value. */
static void print_options(const struct classify *c, size_t options, bool values)
{
    bool any = false;
    for (size_t i = 1; i < options; i++) {
        size_t size = option_size(c->word[i]);
        if ((size > 0) != values)
            continue;
        printf("%s %.*s", any ? "" : values ? "  values" : "  flags", size ? (int)size : 1000, c->word[i]);
        any = true;
    }
    printf("%s", any ? "\n" : "");
}

/* As the form's conditions, or as the words of a command. */
static void print_words(const struct classify *c, size_t from, size_t to, bool condition)
{
    for (size_t i = from; i < to; i++) {
        size_t size = condition ? option_size(c->word[i]) : 0;
        putchar(' ');
        if (size)
            printf("%.*s=", (int)size, c->word[i]);
        print_word(c->word[i] + size + (size && c->word[i][1] == '-'));
    }
}

static void print_entry(const struct classify *c, enum way way)
{
    static const char *const clauses[] = {"", " | native columns 0 +", " | reverse", " | rerun"};
    size_t options = 1;
    while (options < c->word_count && c->word[options][0] == '-' && c->word[options][1])
        options++;
    printf("# zpipe classify %s: %u trials on %u inputs\ncommand %s\n", c->text, c->trials, c->inputs, c->word[0]);
    print_options(c, options, false);
    print_options(c, options, true);
    printf("  operands any\n  ordered\n  status 0");
    for (unsigned i = 1; i < 32; i++)
        if (c->statuses >> i & 1)
            printf(" %u", i);
    printf("\n  form");
    print_words(c, 1, options, true);
    printf(" given");
    print_words(c, options, c->word_count, false);
    printf(" : lines%s", clauses[way]);
    if (way == RERUN)
        print_words(c, 0, c->word_count, false);
    printf("%s%s\n", c->joined && way == CONCAT ? " | joined" : "", c->fails_zeros[way] ? " | without 0" : "");
}

static int report(const struct classify *c)
{
    if (c->trials < TRIALS_LEAST)
        return cli_say(1, "only %u trials could be made of `%s`: it failed or wrote to stderr in the others", c->trials,
                       c->text);
    for (int zeros = 0; zeros < 2; zeros++)
        for (int way = 0; way < WAYS; way++)
            if (!c->fails[way] && (zeros || !c->fails_zeros[way])) {
                print_entry(c, (enum way)way);
                return 0;
            }
    return cli_say(1,
                   "`%s` is whole: in %u trials neither end to end, nor added, nor reversed, nor "
                   "run again were its outputs right",
                   c->text, c->trials);
}

int cmd_classify(struct cli *c)
{
    struct zpipe_error e;
    struct classify t = {.cli = c, .text = c->word_count == 1 ? c->word[0] : "", .random = 1};
    if (strlen(t.text) > 1000 || !take_words(&t))
        return cli_say(ZPIPE_STATUS_FAILED,
                       "zpipe classify wants one simple command, whose words have no pattern, backslash or brace");
    t.with[t.with_count++] = TIME_MAX;
    for (size_t i = 0; i < c->submission.with_count && t.with_count < WITH_MAX; i++)
        t.with[t.with_count++] = c->submission.with[i];
    t.z = zpipe_open(&c->open, &e);
    if (!t.z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    int r = try_all(&t);
    zpipe_close(t.z);
    if (r < 0 && t.makes_files)
        return cli_say(1, "`%s` is whole: it makes files", t.text);
    return r < 0 ? ZPIPE_STATUS_FAILED : report(&t);
}
