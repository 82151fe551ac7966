/* Amounts as people write them: `64MiB`, `1.5s`. */
#include "base/units.h"

#include <stddef.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit sizes[] = {
    {"", 1},
    {"B", 1},
    {"K", 1ull << 10},
    {"KiB", 1ull << 10},
    {"M", 1ull << 20},
    {"MiB", 1ull << 20},
    {"G", 1ull << 30},
    {"GiB", 1ull << 30},
    {"T", 1ull << 40},
    {"TiB", 1ull << 40},
    {"KB", 1000ull},
    {"MB", 1000000ull},
    {"GB", 1000000000ull},
    {"TB", 1000000000000ull},
    {NULL, 0},
};

static const struct unit times[] = {
    {"", 1000000000ull},
    {"ms", 1000000ull},
    {"s", 1000000000ull},
    {"m", 60 * 1000000000ull},
    {"h", 3600 * 1000000000ull},
    {"d", 86400 * 1000000000ull},
    {NULL, 0},
};

/* NUMBER [ "." digits ] unit; nothing may be lost by overflow. */
static bool read_units(const char *text, const struct unit *units, bool fraction, uint64_t *out)
{
    uint64_t whole = 0, part = 0, scale = 1;
    const char *c = text;
    if (*c < '0' || *c > '9')
        return false;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*c - '0'), &whole))
            return false;
    if (*c == '.' && fraction) {
        if (c[1] < '0' || c[1] > '9')
            return false;
        for (c++; *c >= '0' && *c <= '9'; c++)
            if (scale < 1000000) {
                part = part * 10 + (uint64_t)(*c - '0');
                scale *= 10;
            }
    }
    for (; units->name; units++) {
        if (strcmp(units->name, c) != 0)
            continue;
        if (__builtin_mul_overflow(whole, units->factor, out))
            return false;
        uint64_t rest = units->factor / scale * part + units->factor % scale * part / scale;
        return !__builtin_add_overflow(*out, rest, out) && *out <= INT64_MAX;
    }
    return false;
}

bool units_size(const char *text, uint64_t *bytes)
{
    return read_units(text, sizes, true, bytes);
}

bool units_time(const char *text, uint64_t *ns)
{
    return read_units(text, times, true, ns);
}

bool units_count(const char *text, uint64_t *count)
{
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    return read_units(text, none, false, count);
}

bool units_named(const char *text)
{
    size_t size = strlen(text);
    return size && !(text[size - 1] >= '0' && text[size - 1] <= '9');
}
