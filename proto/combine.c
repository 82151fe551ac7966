/* See combine.h.  Each way to combine is a row of functions: begin and end of a part, bytes of a part, end of all.  What it
 * remembers between parts is the seam: the end of what was written, or the line that the next part may continue. */
#include "proto/combine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX      16
#define FIELD_BYTES_MAX  64 /* bytes of a number with the blanks around it */
#define NUMBER_BYTES_MAX 32 /* bytes of a number that is written, with its padding */
#define DIGITS_MAX       18

struct counts {
    bool count, repeated, unique, every, fold;
    char group; /* 0, or n(one), s(eparate), p(repend), a(ppend), b(oth) */
    char end;
    uint64_t fields, chars, width;
    struct buf line; /* the line that is being read, as far as it is in bytes that are gone */
    struct buf key;  /* seams: the last line that was written.  counts: see text */
    struct slice text; /* counts: the line that is held back, without its number, because the next part may begin with the same
                        * one.  The byte that ends it follows.  It is in `key`, or in what is being read */
    uint64_t times;
    bool held, first; /* the line being read is the first of its part */
    bool wrote;
};

struct combine {
    const struct way *way;
    uint64_t parts;
    uint64_t lines, bytes; /* lines and bytes of input before this part */
    uint64_t next_lines, next_bytes;

    struct buf text; /* the text of a part, for columns, first, all */
    bool had, lacked;
    char ops[COLUMNS_MAX + 1];
    uint64_t value[COLUMNS_MAX];
    char tail[COMBINE_TEXT_MAX];

    unsigned width;
    char how;
    int join; /* a byte, or -1 */
    bool seam, newline;

    uint64_t first, step, next, base;
    bool empty_ok, in_text;
    char field[FIELD_BYTES_MAX];
    size_t field_size;

    struct counts counts;
};

struct way {
    const char *name;
    int (*parse)(struct combine *c, char *words);
    int (*begin)(struct combine *c);
    int (*add)(struct combine *c, const char *data, size_t size, struct buf *out);
    int (*finish)(struct combine *c, struct buf *out); /* called at the end of a part */
    int (*end)(struct combine *c, struct buf *out);
};

static int number_of(const char *text, uint64_t *out)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > DIGITS_MAX || text[n])
        return -1;
    *out = strtoull(text, NULL, 10);
    return 0;
}

/* Takes the next word off a text, which is changed; NULL: there is none. */
static char *word_of(char **words)
{
    return *words && **words ? strsep(words, " ") : NULL;
}

static int number_word(char **words, uint64_t *out)
{
    const char *w = word_of(words);
    return w ? number_of(w, out) : -1;
}

/* ---- columns, first, all: parts of a few bytes ------------------------------------------- */

static int text_add(struct combine *c, const char *data, size_t size, struct buf *out)
{
    (void)out;
    buf_add(&c->text, data, size);
    return c->text.failed ? -1 : 0;
}

static int columns_parse(struct combine *c, char *words)
{
    uint64_t width;
    if (number_word(&words, &width) < 0 || width > 32)
        return -1;
    const char *ops = word_of(&words);
    if (!ops || !*ops || strlen(ops) > COLUMNS_MAX || ops[strspn(ops, "+>")])
        return -1;
    strcpy(c->ops, ops);
    if (words)
        strcpy(c->tail, words);
    c->width = (unsigned)width;
    return 0;
}

static int columns_finish(struct combine *c, struct buf *out)
{
    (void)out;
    const char *at = c->text.data ? c->text.data : "";
    for (size_t i = 0; c->ops[i]; i++) {
        at += strspn(at, " ");
        size_t n = strspn(at, "0123456789");
        if (n == 0 || n > DIGITS_MAX)
            return -1;
        uint64_t v = strtoull(at, NULL, 10);
        if (c->ops[i] == '+')
            c->value[i] += v;
        else if (v > c->value[i])
            c->value[i] = v;
        at += n;
    }
    if (strcmp(at, "\n") != 0 || c->text.data + c->text.size != at + 1)
        return -1;
    buf_clear(&c->text);
    return 0;
}

static int columns_end(struct combine *c, struct buf *out)
{
    for (size_t i = 0; c->ops[i]; i++)
        buf_printf(out, "%s%*" PRIu64, i ? " " : "", (int)c->width, c->value[i]);
    buf_printf(out, "%s\n", c->tail);
    return 0;
}

static int none_parse(struct combine *c, char *words)
{
    (void)c;
    return words ? -1 : 0;
}

static int first_finish(struct combine *c, struct buf *out)
{
    if (c->text.size && !c->had)
        buf_add(out, c->text.data, c->text.size);
    c->had = c->had || c->text.size;
    buf_clear(&c->text);
    return 0;
}

static int all_finish(struct combine *c, struct buf *out)
{
    (void)out;
    c->lacked = c->lacked || !c->text.size;
    if (c->text.size >= sizeof c->tail)
        return -1;
    if (c->text.size)
        memcpy(c->tail, c->text.data, c->text.size + 1);
    buf_clear(&c->text);
    return 0;
}

static int all_end(struct combine *c, struct buf *out)
{
    if (c->parts && !c->lacked)
        buf_text(out, c->tail);
    return 0;
}

/* ---- join: bytes at a seam ----------------------------------------------------------------- */

static int join_parse(struct combine *c, char *words)
{
    uint64_t byte;
    c->join = -1;
    if (!words)
        return 0;
    if (number_word(&words, &byte) < 0 || byte > 255 || words)
        return -1;
    c->join = (int)byte;
    return 0;
}

static int join_begin(struct combine *c)
{
    if (c->parts && !c->newline)
        return -1;
    c->seam = c->parts > 0;
    return 0;
}

/* The newline at the end is held back until something follows it. */
static int join_add(struct combine *c, const char *data, size_t size, struct buf *out)
{
    if (!size)
        return 0;
    if (c->seam && c->join >= 0)
        buf_byte(out, (char)c->join);
    else if (!c->seam && c->newline)
        buf_byte(out, '\n');
    c->seam = false;
    c->newline = data[size - 1] == '\n';
    buf_add(out, data, size - c->newline);
    return 0;
}

static int join_finish(struct combine *c, struct buf *out)
{
    (void)out;
    return c->seam ? -1 : 0;
}

static int join_end(struct combine *c, struct buf *out)
{
    if (c->newline)
        buf_byte(out, '\n');
    return 0;
}

/* ---- number, lines, bytes: the beginning of each line ------------------------------------ */

static int number_parse(struct combine *c, char *words)
{
    uint64_t width;
    if (number_word(&words, &width) < 0 || width == 0 || width > 32)
        return -1;
    const char *how = word_of(&words);
    if (!how || strlen(how) != 1 || !strchr("lrz", *how))
        return -1;
    c->how = *how;
    c->width = (unsigned)width;
    if (number_word(&words, &c->first) < 0 || number_word(&words, &c->step) < 0)
        return -1;
    c->empty_ok = words && strcmp(words, "empty") == 0;
    c->next = c->first;
    return words && !c->empty_ok ? -1 : 0;
}

static int number_begin(struct combine *c)
{
    c->base = c->next - c->first;
    return 0;
}

static int lines_begin(struct combine *c)
{
    c->base = c->lines;
    return 0;
}

static int bytes_begin(struct combine *c)
{
    c->base = c->bytes;
    return 0;
}

/* Writes a number as nl does; returns how many bytes it takes, NUMBER_BYTES_MAX at most.  printf took most of the time of
 * `grep -n`. */
static size_t number_text(const struct combine *c, uint64_t n, char *out)
{
    char digit[20];
    size_t at = sizeof digit, size, pad;
    do
        digit[--at] = (char)('0' + n % 10);
    while (n /= 10);
    size = sizeof digit - at;
    pad = c->width > size ? c->width - size : 0;
    size_t left = c->how == 'l' ? 0 : pad;
    memset(out, c->how == 'z' ? '0' : ' ', left);
    memcpy(out + left, digit + at, size);
    memset(out + left + size, ' ', pad - left);
    return size + pad;
}

/* Reads the beginning of a line, of which n bytes are here, and writes it with the number that it should have.  Returns how
 * many bytes it has read, with at least one more here; 0: that takes more of the line.  A line of blanks, which has no
 * number, is read to its end. */
static int number_try(struct combine *c, const char *f, size_t n, struct buf *out)
{
    size_t from = 0, digits = 0;
    uint64_t number = 0;
    while (from < n && f[from] == ' ')
        from++;
    if (from == n)
        return n == FIELD_BYTES_MAX ? -1 : 0;
    if (f[from] == '\n') {
        if (c->width == 0 || (from == 0 && !c->empty_ok))
            return -1;
        buf_add(out, f, from + 1);
        return (int)from + 1;
    }
    for (; from + digits < n && f[from + digits] >= '0' && f[from + digits] <= '9'; digits++)
        number = number * 10 + (uint64_t)(f[from + digits] - '0');
    if (digits == 0 || digits > DIGITS_MAX || from >= (c->width ? c->width : 1))
        return -1;
    size_t need = c->how == 'l' && digits < c->width ? c->width : digits + from;
    if (from + digits == n || need >= n)
        return n == FIELD_BYTES_MAX ? -1 : 0;
    size_t used = from + digits;
    for (; c->how == 'l' && used < c->width; used++)
        if (f[used] != ' ')
            return -1;
    number += c->base;
    c->next = number + c->step;
    char *to = buf_reserve(out, NUMBER_BYTES_MAX);
    if (to)
        buf_grew(out, number_text(c, number, to));
    return (int)used;
}

/* The beginning of a line is looked at where it lies; one that is cut off is kept, and completed byte by byte. */
static int number_begins(struct combine *c, const char *data, size_t size, size_t *took, struct buf *out)
{
    bool kept = c->field_size > 0;
    size_t n = size < FIELD_BYTES_MAX ? size : FIELD_BYTES_MAX;
    if (kept)
        c->field[c->field_size++] = *data;
    int r = kept ? number_try(c, c->field, c->field_size, out) : number_try(c, data, n, out);
    if (r < 0)
        return -1;
    if (r == 0 && !kept) {
        memcpy(c->field, data, n);
        c->field_size = n;
        *took = n;
        return 0;
    }
    *took = kept || r == 0 ? 1 : (size_t)r;
    if (r == 0)
        return 0;
    c->in_text = data[*took - 1] != '\n';
    if (kept)
        buf_add(out, c->field + r, c->field_size - (size_t)r);
    c->field_size = 0;
    return 0;
}

static int number_add(struct combine *c, const char *data, size_t size, struct buf *out)
{
    while (size) {
        size_t take;
        if (c->in_text) {
            const char *end = memchr(data, '\n', size);
            take = end ? (size_t)(end - data) + 1 : size;
            buf_add(out, data, take);
            c->in_text = !end;
        } else if (number_begins(c, data, size, &take, out) < 0) {
            return -1;
        }
        data += take;
        size -= take;
    }
    return 0;
}

/* A last line may lack its newline, but not its number. */
static int number_finish(struct combine *c, struct buf *out)
{
    (void)out;
    bool whole = c->field_size == 0;
    c->in_text = false;
    return whole ? 0 : -1;
}

/* ---- counts: uniq ------------------------------------------------------------------------ */

static int counts_value(const char *word, uint64_t *out)
{
    return word[2] ? number_of(word + 2, out) : -1;
}

static int counts_long(struct counts *u, const char *word)
{
    static const char *const hows[] = {"none", "separate", "prepend", "append", "both"};
    const char *equals = strchr(word, '=');
    bool group = strncmp(word, "--group", 7) == 0 && (word[7] == '=' || !word[7]);
    bool every = strncmp(word, "--all-repeated", 14) == 0 && (word[14] == '=' || !word[14]);
    if (!group && !every)
        return -1;
    u->every = every;
    u->group = group ? 's' : 'n';
    for (size_t i = 0; equals && i < sizeof hows / sizeof *hows; i++)
        if (strcmp(equals + 1, hows[i]) == 0) {
            u->group = hows[i][0];
            return 0;
        }
    return equals ? -1 : 0;
}

static int counts_parse(struct combine *c, char *words)
{
    struct counts *u = &c->counts;
    char *word;
    u->width = UINT64_MAX;
    u->line = u->key = BUF_INIT(COMBINE_LINE_MAX);
    while ((word = word_of(&words))) {
        int r = 0;
        if (strncmp(word, "--", 2) == 0) {
            r = counts_long(u, word);
        } else if (word[0] != '-' || !word[1]) {
            r = -1;
        } else if (strchr("fsw", word[1])) {
            r = counts_value(word, word[1] == 'f'   ? &u->fields
                                   : word[1] == 's' ? &u->chars
                                                    : &u->width);
        } else {
            u->count |= word[1] == 'c';
            u->repeated |= word[1] == 'd';
            u->unique |= word[1] == 'u';
            u->every |= word[1] == 'D';
            u->fold |= word[1] == 'i';
            u->end |= word[1] == 'z';
            r = strchr("cduDiz", word[1]) && !word[2] ? 0 : -1;
        }
        if (r < 0)
            return -1;
    }
    bool members = u->every || u->group; /* the members of a group must be identical to be written from one of them */
    u->end = u->end ? '\0' : '\n';
    return members && (u->count || u->unique || u->fields || u->chars || u->fold ||
                       u->width != UINT64_MAX)
               ? -1
               : 0;
}

/* The part of a line (without its newline) that uniq compares. */
static struct slice counts_key(const struct counts *u, const char *text, size_t size)
{
    size_t at = 0;
    for (uint64_t i = 0; i < u->fields && at < size; i++) {
        while (at < size && (text[at] == ' ' || text[at] == '\t'))
            at++;
        while (at < size && text[at] != ' ' && text[at] != '\t')
            at++;
    }
    at = u->chars < size - at ? at + u->chars : size;
    size -= at;
    return (struct slice){text + at, size < u->width ? size : u->width};
}

static unsigned char upper(unsigned char c)
{
    return c >= 'a' && c <= 'z' ? (unsigned char)(c - 32) : c;
}

static bool counts_equal(const struct counts *u, struct slice a, struct slice b)
{
    if (!u->fold || a.size != b.size)
        return slice_equal(a, b);
    const unsigned char *p = a.data, *q = b.data;
    for (size_t i = 0; i < a.size; i++)
        if (upper(p[i]) != upper(q[i]))
            return false;
    return true;
}

/* Are these lines of one group? */
static bool counts_goes_on(const struct counts *u, struct slice held, const char *text, size_t size)
{
    return counts_equal(u, counts_key(u, held.data ? held.data : "", held.size), counts_key(u, text, size));
}

/* Writes a group's line `times` times; its blocks held at least that many. */
static void counts_members(struct counts *u, struct buf *out)
{
    bool before = u->group == 'p' || u->group == 'b' || (u->group == 's' && u->wrote);
    if (before && !(u->group == 'b' && u->wrote))
        buf_byte(out, u->end);
    for (uint64_t i = 0; i < u->times && !out->failed; i++)
        buf_add(out, u->text.data, u->text.size + 1);
    if (u->group == 'a' || u->group == 'b')
        buf_byte(out, u->end);
    u->wrote = true;
}

static int counts_flush(struct counts *u, struct buf *out)
{
    if (!u->held)
        return 0;
    bool shown = !(u->repeated && u->times == 1) && !(u->unique && u->times > 1) &&
                 !(u->every && u->times == 1);
    if (shown && (u->every || u->group)) {
        counts_members(u, out);
    } else if (shown) {
        if (u->count)
            buf_printf(out, "%7" PRIu64 " ", u->times);
        buf_add(out, u->text.data, u->text.size + 1);
    }
    u->held = false;
    return out->failed ? -1 : 0;
}

/* Reads a line of `uniq -c`: a number right-aligned in 7 bytes, a blank, the line.  The byte that ends it follows. */
static int counts_line(struct counts *u, const char *text, size_t size, struct buf *out)
{
    size_t at = 0, digits = 0;
    uint64_t times = 0;
    while (at < size && text[at] == ' ')
        at++;
    for (; at + digits < size && text[at + digits] >= '0' && text[at + digits] <= '9'; digits++)
        times = times * 10 + (uint64_t)(text[at + digits] - '0');
    if (digits == 0 || digits > DIGITS_MAX || at + digits < 7 || at + digits >= size ||
        text[at + digits] != ' ')
        return -1;
    text += at + digits + 1;
    size -= at + digits + 1;
    if (u->first && u->held && counts_goes_on(u, u->text, text, size)) {
        u->times += times;
    } else {
        if (counts_flush(u, out) < 0)
            return -1;
        u->text = (struct slice){text, size};
        u->times = times;
        u->held = true;
    }
    u->first = false;
    return 0;
}

/* The line that is held back must outlive what is being read. */
static int counts_keep(struct counts *u)
{
    if (!u->held || u->text.data == u->key.data)
        return 0;
    u->key.size = 0;
    buf_add(&u->key, u->text.data, u->text.size + 1);
    u->text.data = u->key.data;
    return u->key.failed ? -1 : 0;
}

static int counts_begin(struct combine *c)
{
    c->counts.first = true;
    return 0;
}

/* Writes the lines that are neither the first of their part nor perhaps its last: they stay as `uniq -c` wrote them.
 * Returns how many bytes at the beginning of the data these are. */
static size_t counts_pass(struct counts *u, const char *data, size_t size, struct buf *out)
{
    bool plain = u->count && !u->repeated && !u->unique && !u->every && !u->group;
    const char *last = plain && !u->first && !u->line.size ? memrchr(data, u->end, size) : NULL;
    const char *before = last ? memrchr(data, u->end, (size_t)(last - data)) : NULL;
    size_t pass = before ? (size_t)(before + 1 - data) : 0;
    if (pass && counts_flush(u, out) == 0)
        buf_add(out, data, pass);
    return pass;
}

static int counts_add(struct combine *c, const char *data, size_t size, struct buf *out)
{
    struct counts *u = &c->counts;
    while (size) {
        size_t pass = counts_pass(u, data, size, out);
        data += pass;
        size -= pass;
        const char *end = memchr(data, u->end, size);
        size_t take = end ? (size_t)(end - data) : size;
        bool cut = !end || u->line.size; /* not all of the line is in data */
        if (cut)
            buf_add(&u->line, data, take + (end != NULL));
        if (u->line.failed ||
            (end && counts_line(u, cut ? u->line.data : data, cut ? u->line.size - 1 : take, out) < 0) ||
            (end && cut && counts_keep(u) < 0))
            return -1;
        if (end)
            u->line.size = 0;
        data += take + (end != NULL);
        size -= take + (end != NULL);
    }
    return counts_keep(u);
}

static int counts_finish(struct combine *c, struct buf *out)
{
    (void)out;
    return c->counts.line.size ? -1 : 0;
}

static int counts_end(struct combine *c, struct buf *out)
{
    return counts_flush(&c->counts, out);
}

/* ---- seams: uniq without numbers ---------------------------------------------------------- */

static int seams_parse(struct combine *c, char *words)
{
    const struct counts *u = &c->counts;
    return counts_parse(c, words) < 0 || u->count || u->repeated || u->unique || u->every || u->group ? -1 : 0;
}

static int seams_begin(struct combine *c)
{
    c->counts.first = c->counts.held;
    return 0;
}

/* The last line that is written is kept: the next part may begin with one of the same key. */
static void seams_keep(struct counts *u, const char *data, size_t size)
{
    const char *last = memrchr(data, u->end, size);
    if (last) {
        const char *before = memrchr(data, u->end, (size_t)(last - data));
        const char *from = before ? before + 1 : data;
        struct buf key = u->line;
        key.size = before ? 0 : key.size;
        buf_add(&key, from, (size_t)(last - from));
        u->line = u->key;
        u->line.size = 0;
        u->key = key;
        u->held = true;
        size -= (size_t)(last + 1 - data);
        data = last + 1;
    }
    buf_add(&u->line, data, size);
}

/* Only the first line of a part is looked at; it is left out if the last one before it has the same key. */
static int seams_add(struct combine *c, const char *data, size_t size, struct buf *out)
{
    struct counts *u = &c->counts;
    if (u->first) {
        const char *end = memchr(data, u->end, size);
        size_t take = end ? (size_t)(end - data) : size;
        buf_add(&u->line, data, take);
        if (!end || u->line.failed)
            return u->line.failed ? -1 : 0;
        if (!counts_goes_on(u, (struct slice){u->key.data, u->key.size}, u->line.data ? u->line.data : "", u->line.size)) {
            buf_add(out, u->line.data, u->line.size);
            buf_byte(out, u->end);
        }
        u->key.size = 0;
        buf_add(&u->key, u->line.data, u->line.size); /* of equal keys either will do */
        u->line.size = 0;
        u->first = false;
        data += take + 1;
        size -= take + 1;
    }
    buf_add(out, data, size);
    seams_keep(u, data, size);
    return u->line.failed || u->key.failed ? -1 : 0;
}

/* ---- all of them ------------------------------------------------------------------------- */

static const struct way ways[] = {
    {"columns", columns_parse, NULL, text_add, columns_finish, columns_end},
    {"first", none_parse, NULL, text_add, first_finish, NULL},
    {"all", none_parse, NULL, text_add, all_finish, all_end},
    {"join", join_parse, join_begin, join_add, join_finish, join_end},
    {"number", number_parse, number_begin, number_add, number_finish, NULL},
    {"lines", none_parse, lines_begin, number_add, number_finish, NULL},
    {"bytes", none_parse, bytes_begin, number_add, number_finish, NULL},
    {"counts", counts_parse, counts_begin, counts_add, counts_finish, counts_end},
    {"seams", seams_parse, seams_begin, seams_add, counts_finish, NULL},
};

struct combine *combine_new(const char *text, struct err *e)
{
    char words[COMBINE_TEXT_MAX], *rest = words;
    struct combine *c = calloc(1, sizeof *c);
    if (!c) {
        err_nomem(e);
        return NULL;
    }
    c->text = BUF_INIT(COMBINE_PART_MAX);
    if (strlen(text) < sizeof words) {
        strcpy(words, text);
        const char *name = word_of(&rest);
        for (size_t i = 0; name && i < sizeof ways / sizeof *ways; i++)
            if (strcmp(ways[i].name, name) == 0)
                c->way = &ways[i];
    }
    if (!c->way || c->way->parse(c, rest) < 0) {
        err_set(e, ERR_INPUT, "blocks cannot be combined by `%.100s`", text);
        combine_free(c);
        return NULL;
    }
    return c;
}

void combine_free(struct combine *c)
{
    if (!c)
        return;
    buf_clear(&c->text);
    buf_clear(&c->counts.line);
    buf_clear(&c->counts.key);
    free(c);
}

bool combine_adds(const char *text)
{
    return strncmp(text, "columns ", 8) == 0;
}

bool combine_counts_lines(const struct combine *c)
{
    return strcmp(c->way->name, "lines") == 0;
}

bool combine_counts_input(const char *text)
{
    return strcmp(text, "lines") == 0 || strcmp(text, "bytes") == 0;
}

static int done(const struct combine *c, const struct buf *out, int r, struct err *e)
{
    if (r < 0 || out->failed)
        return err_set(e, ERR_INPUT, "the output of block %" PRIu64 " cannot be combined by `%s`",
                       c->parts, c->way->name);
    return 0;
}

static int finish(struct combine *c, struct buf *out)
{
    return c->parts && c->way->finish ? c->way->finish(c, out) : 0;
}

int combine_part(struct combine *c, uint64_t input_lines, uint64_t input_bytes, struct buf *out,
                 struct err *e)
{
    int r = finish(c, out);
    c->lines = c->next_lines;
    c->bytes = c->next_bytes;
    c->next_lines += input_lines;
    c->next_bytes += input_bytes;
    if (r == 0 && c->way->begin)
        r = c->way->begin(c);
    c->parts++;
    return done(c, out, r, e);
}

int combine_add(struct combine *c, const void *data, size_t size, struct buf *out, struct err *e)
{
    return done(c, out, c->way->add(c, data, size, out), e);
}

int combine_end(struct combine *c, struct buf *out, struct err *e)
{
    int r = finish(c, out);
    if (r == 0 && c->way->end)
        r = c->way->end(c, out);
    return done(c, out, r, e);
}
