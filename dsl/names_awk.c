/* See script_names.h: the files that an awk program names. */
#include "dsl/awk.h"
#include "dsl/script_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is this string a whole value, not joined with something before or after it? */
static bool stands_alone(const struct awk *a, uint32_t i)
{
    static const char *const behind[] = {")", ";", "}", "|", ",", "&&", "||"};
    const struct awk_token *next = i + 1 < a->count ? &a->token[i + 1] : NULL;
    return !next || next->kind == AWK_NEWLINE || AWK_AMONG(next, behind);
}

/* Finds out how a string is used from the tokens before and after it.  `prints`: it is after `print`, outside of brackets. */
static bool use_of(const struct awk *a, uint32_t i, bool prints, enum script_use *use)
{
    const struct awk_token *t = a->token;
    bool piped = i + 2 < a->count && awk_is(&t[i + 1], "|") && awk_is(&t[i + 2], "getline");
    if (!i || !stands_alone(a, i)) {
        *use = SCRIPT_RUNS;
        return piped;
    }
    bool called = i > 1 && awk_is(&t[i - 1], "(") && awk_is(&t[i - 2], "system");
    bool written = prints && (awk_is(&t[i - 1], ">") || awk_is(&t[i - 1], ">>"));
    *use = piped || called || awk_is(&t[i - 1], "|") ? SCRIPT_RUNS
           : written                             ? SCRIPT_WRITES
                                                 : SCRIPT_READS;
    return *use != SCRIPT_READS || awk_is(&t[i - 1], "<") || awk_is(&t[i - 1], "=");
}

/* May this string be the known part of a pattern? */
static bool is_plain(const struct awk_token *t)
{
    if (t->kind != AWK_STRING)
        return false;
    for (size_t i = 0; i < t->size; i++)
        if (strchr("*?[\\", t->text[i]))
            return false;
    return true;
}

/* The tokens [*from, *to) of the name after a `>`: the rest of the statement without brackets around it.  false: it is more
 * than strings and values side by side. */
static bool name_of(const struct awk *a, uint32_t i, uint32_t *from, uint32_t *to)
{
    static const char *const ends[] = {";", "}"}, *const parts[] = {"$", "(", ")", "[", "]", "{"};
    uint32_t end = i;
    while (end < a->count && a->token[end].kind != AWK_NEWLINE && !AWK_AMONG(&a->token[end], ends))
        end++;
    if (end > i + 1 && awk_is(&a->token[i], "(") && awk_closed(a, i) == end) {
        i++;
        end--;
    }
    *from = i;
    *to = end;
    for (; i < end; i++)
        if (a->token[i].kind == AWK_PUNCTUATION && !AWK_AMONG(&a->token[i], parts))
            return false;
    return *to > *from;
}

static int tell_made(const struct awk *a, uint32_t i, struct script_names *n)
{
    char text[SCRIPT_PATTERN_MAX + 1] = "*";
    uint32_t from, to;
    int size = 1;
    if (name_of(a, i + 1, &from, &to)) {
        const struct awk_token *first = &a->token[from], *last = &a->token[to - 1];
        bool begins = is_plain(first), ends = last > first && is_plain(last);
        if (begins && first == last)
            return n->told(n, SCRIPT_WRITES, first->text + 1, first->size - 2);
        size = snprintf(text, sizeof text, "%.*s*%.*s", begins ? (int)first->size - 2 : 0, first->text + 1, ends ? (int)last->size - 2 : 0, last->text + 1);
    }
    bool fits = size > 0 && size < (int)sizeof text;
    return n->told(n, awk_is(&a->token[i], ">") ? SCRIPT_MAKES : SCRIPT_ADDS, fits ? text : "*", fits ? (size_t)size : 1);
}

/* Does getline open a file whose name is not known: `getline < $0`, `getline line < name`? */
static bool opens_unknown(const struct awk *a, uint32_t i)
{
    uint32_t from = i > 4 ? i - 4 : 0, k = i;
    if (!awk_is(&a->token[i], "<") || (i + 1 < a->count && a->token[i + 1].kind == AWK_STRING))
        return false;
    while (k > from && a->token[k].kind != AWK_NEWLINE && !awk_is(&a->token[k], ";") && !awk_is(&a->token[k], "getline"))
        k--;
    return awk_is(&a->token[k], "getline");
}

int script_names_awk(const char *script, struct script_names *n)
{
    struct awk *a = calloc(1, sizeof *a);
    bool prints = false;
    int result = 0, depth = 0;
    if (!a)
        return -1;
    a->text = script;
    awk_read_tokens(a);
    for (uint32_t i = 0; i < a->count && result == 0; i++) {
        const struct awk_token *t = &a->token[i];
        enum script_use use;
        depth += awk_is(t, "(") - awk_is(t, ")");
        if (t->kind == AWK_NEWLINE || awk_is(t, ";") || awk_is(t, "{") || awk_is(t, "}")) {
            prints = false;
            depth = 0;
        } else if (awk_is(t, "print") || awk_is(t, "printf")) {
            prints = true;
            depth = 0;
        }
        if (t->kind == AWK_STRING && !memchr(t->text, '\\', t->size) &&
            use_of(a, i, prints && !depth, &use))
            result = n->told(n, use, t->text + 1, t->size - 2);
        else if (prints && !depth && (awk_is(t, ">") || awk_is(t, ">>")) && !(i + 1 < a->count && a->token[i + 1].kind == AWK_STRING && stands_alone(a, i + 1)))
            result = tell_made(a, i, n);
        else if (opens_unknown(a, i))
            result = n->told(n, SCRIPT_LISTS, "", 0);
    }
    free(a);
    return result;
}
