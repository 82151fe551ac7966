/* A separator, a KEY up to the first newline, and a line: the hash in pieces of every size is that
 * of the line, and both are those of the plain way: the fields as strings, one after the other,
 * then hashed. */
#include "proto/key.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The n-th field; empty if there is none. */
static struct slice field(const struct key *k, const char *line, size_t size, uint32_t n)
{
    size_t at = 0, end;
    for (;; at = end + 1) {
        while (k->separator < 0 && at < size && is_blank(line[at]))
            at++;
        end = at;
        while (end < size &&
               !(k->separator < 0 ? is_blank(line[end]) : line[end] == (char)k->separator))
            end++;
        if (--n == 0)
            return (struct slice){line + at, end - at};
        if (end >= size)
            return (struct slice){line, 0};
    }
}

static void add(struct buf *b, const struct key_span *s, struct slice f)
{
    const char *p = f.data, *end = p + f.size;
    if (!s->number) {
        for (; p < end; p++)
            buf_byte(b, s->fold && *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p);
        return;
    }
    while (p < end && is_blank(*p))
        p++;
    bool minus = p < end && *p == '-';
    p += minus;
    while (p < end && *p == '0')
        p++;
    const char *whole = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    const char *point = p, *last = p;
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9'; p++)
            last = *p == '0' ? last : p + 1;
    if (minus && last > whole)
        buf_byte(b, '-');
    buf_add(b, whole, (size_t)((last > point ? last : point) - whole));
}

static uint64_t plain(const struct key *k, const char *line, size_t size)
{
    struct buf b = BUF_INIT(1u << 20);
    uint64_t h = 14695981039346656037u;
    if (k->line)
        buf_add(&b, line, size);
    if (k->line)
        buf_byte(&b, '\0');
    for (uint32_t i = 0; i < k->count; i++)
        for (uint32_t n = k->span[i].from; n <= k->span[i].to; n++) {
            add(&b, &k->span[i], field(k, line, size, n));
            buf_byte(&b, '\0');
        }
    if (b.failed)
        abort();
    for (size_t i = 0; i < b.size; i++)
        h = (h ^ (unsigned char)b.data[i]) * 1099511628211u;
    buf_clear(&b);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[1024];
    const uint8_t *end = size ? memchr(data + 1, '\n', size - 1) : NULL;
    size_t length = end ? (size_t)(end - data - 1) : 0;
    struct key k;
    struct err e;
    if (!end || length >= sizeof text)
        return 0;
    memcpy(text, data + 1, length);
    text[length] = '\0';
    if (key_parse(text, data[0] == '-' ? -1 : data[0], &k, &e) < 0)
        return 0;
    const char *line = (const char *)end + 1;
    size -= length + 2;
    for (uint32_t i = 1; i < k.count; i++)
        if (k.span[i].from <= k.span[i - 1].to)
            abort();
    bool small = !k.count || (uint64_t)k.span[k.count - 1].to * (size + 1) < 1000000;
    uint64_t want = small ? plain(&k, line, size) : 0;
    for (size_t piece = size + 1; piece; piece = piece > 3 ? 3 : piece - 1) {
        struct key_hash h;
        key_begin(&h, &k);
        for (size_t at = 0; at < size; at += piece)
            key_add(&h, line + at, size - at < piece ? size - at : piece);
        uint64_t got = key_end(&h);
        want = piece == size + 1 && !small ? got : want;
        if (got != want || key_partition(got, 16) - 1 > 15)
            abort();
    }
    return 0;
}
