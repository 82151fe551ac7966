/* See key.h. */
#include "proto/key.h"

#include <stdlib.h>

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

/* ---- KEY */

/* Reads one field or range of the KEY and moves *at past it. */
static bool read_span(const char **at, struct key_span *s)
{
    char *end;
    if (**at < '1' || **at > '9')
        return false;
    unsigned long from = strtoul(*at, &end, 10), to = from;
    if (end[0] == '-' && end[1] >= '1' && end[1] <= '9')
        to = strtoul(end + 1, &end, 10);
    if (to < from || to > UINT32_MAX)
        return false;
    *s = (struct key_span){.from = (uint32_t)from, .to = (uint32_t)to};
    for (; *end == 'f' || *end == 'n'; end++)
        *(*end == 'f' ? &s->fold : &s->number) = true;
    *at = end;
    return true;
}

/* Sorts the spans as typed and removes overlaps; where spans overlap, the letters of all of them hold. */
static void order_spans(struct key *k, const struct key_span *typed, uint32_t count)
{
    for (uint64_t at = 1;;) {
        struct key_span s = {0};
        uint64_t from = UINT64_MAX, to = UINT64_MAX;
        for (uint32_t i = 0; i < count; i++)
            if (typed[i].to >= at && (typed[i].from > at ? typed[i].from : at) < from)
                from = typed[i].from > at ? typed[i].from : at;
        if (from == UINT64_MAX)
            return;
        for (uint32_t i = 0; i < count; i++) {
            const struct key_span *t = &typed[i];
            bool holds = t->from <= from && t->to >= from;
            uint64_t end = holds ? t->to : t->from > from ? t->from - 1 : UINT64_MAX;
            to = end < to ? end : to;
            s.fold |= holds && t->fold;
            s.number |= holds && t->number;
        }
        s.from = (uint32_t)from;
        s.to = (uint32_t)to;
        k->span[k->count++] = s;
        at = to + 1;
    }
}

int key_parse(const char *text, int separator, struct key *k, struct err *e)
{
    struct key_span typed[KEY_FIELDS_MAX];
    uint32_t count = 0;
    *k = (struct key){.separator = separator, .line = strcmp(text, "line") == 0};
    for (const char *at = text; !k->line; at++) {
        if (count == KEY_FIELDS_MAX)
            return err_set(e, ERR_LIMIT, "a key has more than %d fields and ranges",
                           KEY_FIELDS_MAX);
        if (!read_span(&at, &typed[count]) || (*at && *at != ','))
            return err_set(e, ERR_INPUT,
                           "'%.60s' is not a key: fields as in cut -f, 1 or 1,3 or 2-4, or `line` "
                           "for the whole line",
                           text);
        count++;
        if (!*at)
            break;
    }
    order_spans(k, typed, count);
    return 0;
}

/* ---- bytes of a field */

static uint64_t add_bytes(uint64_t hash, const unsigned char *p, const unsigned char *end)
{
    for (; p < end; p++)
        hash = (hash ^ *p) * FNV_PRIME;
    return hash;
}

static uint64_t add_byte(uint64_t hash, unsigned char byte)
{
    return (hash ^ byte) * FNV_PRIME;
}

/* Adds a zero byte for each missing field, in less than linear time: a hostile KEY may name four billion. */
static uint64_t add_zero_bytes(uint64_t hash, uint64_t count)
{
    for (uint64_t factor = FNV_PRIME; count; count >>= 1, factor *= factor)
        if (count & 1)
            hash *= factor;
    return hash;
}

static uint64_t add_folded(uint64_t hash, const unsigned char *p, const unsigned char *end)
{
    for (; p < end; p++)
        hash = add_byte(hash, *p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p);
    return hash;
}

enum {
    NUMBER_BLANKS,
    NUMBER_ZEROS,
    NUMBER_WHOLE,
    NUMBER_FRACTION_ZEROS,
    NUMBER_FRACTION,
    NUMBER_BEHIND
};

static bool is_blank(unsigned char c)
{
    return c == ' ' || c == '\t';
}

static void add_digit(struct key_hash *h, unsigned char c)
{
    if (h->number.minus)
        h->hash = add_byte(h->hash, '-');
    h->number.minus = false;
    for (; h->number.zeros; h->number.zeros--)
        h->hash = add_byte(h->hash, '0');
    h->hash = add_byte(h->hash, c);
}

/* Adds a byte of a number, after its blanks and sign. */
static void add_of_number(struct key_hash *h, unsigned char c)
{
    uint8_t *part = &h->number.part;
    bool digit = c >= '0' && c <= '9';
    if (c == '.' && *part <= NUMBER_WHOLE) {
        *part = NUMBER_FRACTION_ZEROS;
    } else if (!digit) {
        *part = NUMBER_BEHIND;
    } else if (*part <= NUMBER_WHOLE) {
        *part = c == '0' && *part <= NUMBER_ZEROS ? NUMBER_ZEROS : NUMBER_WHOLE;
        if (*part == NUMBER_WHOLE)
            add_digit(h, c);
    } else if (c == '0') {
        h->number.zeros++;
    } else {
        /* The point is hashed only with the first digit after it that is not 0. */
        uint64_t zeros = h->number.zeros;
        if (*part == NUMBER_FRACTION_ZEROS) {
            h->number.zeros = 0;
            add_digit(h, '.');
            h->number.zeros = zeros;
        }
        *part = NUMBER_FRACTION;
        add_digit(h, c);
    }
}

static void add_number(struct key_hash *h, const unsigned char *p, const unsigned char *end)
{
    for (; p < end && h->number.part != NUMBER_BEHIND; p++) {
        if (h->number.part == NUMBER_BLANKS && is_blank(*p))
            continue;
        if (h->number.part == NUMBER_BLANKS) {
            h->number.part = NUMBER_ZEROS;
            h->number.minus = *p == '-';
            if (*p == '-')
                continue;
        }
        add_of_number(h, *p);
    }
}

/* ---- fields of a line */

static const struct key_span *span_of(const struct key_hash *h)
{
    const struct key_span *s = &h->key->span[h->span];
    return h->span < h->key->count && s->from <= h->field ? s : NULL;
}

static void add_part(struct key_hash *h, const unsigned char *p, const unsigned char *end)
{
    const struct key_span *s = span_of(h);
    if (!s)
        return;
    if (s->number)
        add_number(h, p, end);
    else
        h->hash = s->fold ? add_folded(h->hash, p, end) : add_bytes(h->hash, p, end);
}

static void end_field(struct key_hash *h)
{
    const struct key_span *s = span_of(h);
    if (s)
        h->hash = add_byte(h->hash, 0);
    h->number.part = NUMBER_BLANKS;
    h->number.minus = false;
    h->number.zeros = 0;
    h->inside = h->key->separator >= 0;
    if (s && s->to == h->field)
        h->span++;
    h->field++;
}

void key_begin(struct key_hash *h, const struct key *k)
{
    *h = (struct key_hash){.key = k, .hash = FNV_BASIS, .field = 1, .inside = k->separator >= 0};
}

/* The end of the field that contains p. */
static const unsigned char *field_end(const struct key *k, const unsigned char *p,
                                      const unsigned char *end)
{
    if (k->separator >= 0) {
        const unsigned char *found = memchr(p, k->separator, (size_t)(end - p));
        return found ? found : end;
    }
    while (p < end && !is_blank(*p))
        p++;
    return p;
}

void key_add(struct key_hash *h, const void *bytes, size_t size)
{
    const struct key *k = h->key;
    const unsigned char *p = bytes, *end = p + size;
    if (k->line) {
        h->hash = add_bytes(h->hash, p, end);
        return;
    }
    while (p < end && h->span < k->count) {
        while (!h->inside && p < end && is_blank(*p))
            p++;
        if (p == end)
            return;
        const unsigned char *stop = field_end(k, p, end);
        h->inside = true;
        add_part(h, p, stop);
        if (stop < end)
            end_field(h);
        p = stop + (stop < end);
    }
}

uint64_t key_end(struct key_hash *h)
{
    const struct key *k = h->key;
    if (k->line)
        return add_byte(h->hash, 0);
    if (h->inside)
        end_field(h);
    for (; h->span < k->count; h->span++) {
        const struct key_span *s = &k->span[h->span];
        h->hash = add_zero_bytes(h->hash, s->to - (s->from > h->field ? s->from : h->field) + 1);
    }
    return h->hash;
}

uint32_t key_partition(uint64_t hash, uint32_t count)
{
    return (uint32_t)((hash ^ hash >> 32) % count) + 1;
}
