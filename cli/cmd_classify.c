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
    uint64_t random;
    bool fails[WAYS];
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
    s.io = (struct zpipe_io){-1, -1, -1, true, on_stdout, on_stderr, NULL, o};
    struct zpipe_job *j = zpipe_submit(c->z, &s, &e);
    if (!j)
        return cli_fail(-1, &e);
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
        zpipe_turn(c->z, true);
    }
    o->status = zpipe_wait(j, &e);
    zpipe_job_free(j);
    if (o->status == ZPIPE_STATUS_FAILED && e.text[0])
        return cli_fail(-1, &e);
    return o->out.failed ? cli_say(-1, "its output is larger than %u bytes", OUTPUT_MAX) : 0;
}

/* ---- inputs ------------------------------------------------------------------------------ */

static unsigned random_below(struct classify *c, unsigned n)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(c->random >> 33) % n;
}

/* Kind 0 to 7; the size, with lines that the kind is about. */
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
                             : snprintf(out + size, room, "the same line\n"));
    }
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
    if (c->fails[RERUN])
        return 0;
    int r = run(c, joined->data ? joined->data : "", joined->size, &again);
    c->fails[RERUN] = again.status != 0 || again.complained || !equal(&again.out, &whole->out);
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
    bool status = least == whole->status;
    c->fails[CONCAT] |= !status || !equal(&forward, &whole->out);
    c->fails[REVERSE] |= !status || !equal(&backward, &whole->out);
    c->fails[SUM] |= !status || !numbers || !number(&whole->out, &all) || all != sum;
    c->fails[RERUN] |= !status;
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
    for (unsigned kind = 0; kind < 8; kind++) {
        struct outcome whole;
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

/* Words that an entry can hold as they are. */
static bool plain(const char *text)
{
    return text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+%@:- ")] ==
           '\0';
}

static void print_entry(const struct classify *c, enum way way)
{
    static const char *const clauses[] = {"", " | native columns 0 +", " | reverse", " | rerun"};
    char words[1024], *save, *list[64];
    size_t count = 0, options = 1;
    snprintf(words, sizeof words, "%s", c->text);
    for (char *w = strtok_r(words, " ", &save); w && count < 64; w = strtok_r(NULL, " ", &save))
        list[count++] = w;
    while (options < count && list[options][0] == '-' && list[options][1])
        options++;
    printf("# zpipe classify '%s': %u trials on %u inputs\ncommand %s\n", c->text, c->trials,
           c->inputs, list[0]);
    if (options > 1)
        printf("  flags");
    for (size_t i = 1; i < options; i++)
        printf(" %s", list[i]);
    printf("%s  operands any\n  ordered\n  status 0", options > 1 ? "\n" : "");
    for (unsigned i = 1; i < 32; i++)
        if (c->statuses >> i & 1)
            printf(" %u", i);
    printf("\n  form");
    for (size_t i = 1; i < options; i++)
        printf(" %s", list[i]);
    printf(" given");
    for (size_t i = options; i < count; i++)
        printf(" %s", list[i]);
    printf(" : lines%s", clauses[way]);
    for (size_t i = 0; i < count && way == RERUN; i++)
        printf(" %s", list[i]);
    printf("%s\n", c->joined && way == CONCAT ? " | joined" : "");
}

int cmd_classify(struct cli *c)
{
    struct zpipe_error e;
    if (c->word_count != 1 || !c->word[0][0] || strlen(c->word[0]) > 1000 || !plain(c->word[0]))
        return cli_say(
            ZPIPE_STATUS_FAILED,
            "zpipe classify wants one simple command, without quotes and signs of the shell");
    struct classify t = {.z = zpipe_open(&c->open, &e), .cli = c, .text = c->word[0], .random = 1};
    if (!t.z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    int r = try_all(&t);
    zpipe_close(t.z);
    if (r < 0)
        return ZPIPE_STATUS_FAILED;
    if (t.trials < TRIALS_LEAST)
        return cli_say(
            1, "only %u trials could be made of `%s`: it failed or wrote to stderr in the others",
            t.trials, t.text);
    for (int way = 0; way < WAYS; way++)
        if (!t.fails[way]) {
            print_entry(&t, (enum way)way);
            return 0;
        }
    return cli_say(1,
                   "`%s` is whole: in %u trials neither end to end, nor added, nor reversed, nor "
                   "run again were its outputs right",
                   t.text, t.trials);
}
