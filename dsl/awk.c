/* See awk.h. */
#include "dsl/awk.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool awk_fails(struct awk *a, const char *why)
{
    if (!a->bad[0])
        snprintf(a->bad, sizeof a->bad, "%s", why);
    return false;
}

bool awk_fails_at(struct awk *a, const struct awk_token *t, const char *why)
{
    if (!a->bad[0])
        snprintf(a->bad, sizeof a->bad, "`%.*s` of awk %s", (int)(t->size > 40 ? 40 : t->size),
                 t->text, why);
    return false;
}

bool awk_is(const struct awk_token *t, const char *text)
{
    return (t->kind == AWK_NAME || t->kind == AWK_PUNCTUATION) && strlen(text) == t->size &&
           memcmp(t->text, text, t->size) == 0;
}

/* A `/` begins a regular expression unless a value has just ended. */
static bool regex_here(const struct awk *a)
{
    if (!a->count)
        return true;
    const struct awk_token *t = &a->token[a->count - 1];
    if (t->kind == AWK_NUMBER || t->kind == AWK_STRING || t->kind == AWK_REGEX)
        return false;
    if (t->kind == AWK_NAME)
        return awk_is(t, "in") || awk_is(t, "print") || awk_is(t, "printf") || awk_is(t, "return");
    return !(awk_is(t, ")") || awk_is(t, "]") || awk_is(t, "$") || awk_is(t, "++") || awk_is(t, "--"));
}

/* From an opening quote or slash: the byte after the closing one; NULL: there is none. */
static const char *quoted(const char *at)
{
    char end = *at++;
    bool bracket = false;
    for (; *at && *at != '\n'; at++) {
        if (*at == '\\' && at[1] && at[1] != '\n')
            at++;
        else if (end == '/' && *at == '[')
            bracket = true;
        else if (end == '/' && *at == ']')
            bracket = false;
        else if (*at == end)
            return bracket ? NULL : at + 1; /* awks disagree about a slash in brackets */
    }
    return NULL;
}

static const char *number_end(const char *at)
{
    char *end;
    strtod(at, &end);
    return at[0] == '0' && (at[1] == 'x' || at[1] == 'X') ? at : end;
}

static const char *punctuation_end(const char *at)
{
    static const char *const two[] = {"&&", "||", "==", "!=", "<=", ">=", "++", "--", "+=",
                                      "-=", "*=", "/=", "%=", "^=", "**", "!~", ">>"};
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (strncmp(at, two[i], 2) == 0)
            return at + 2;
    return strchr("{}()[];,+-*/%^!<>=~?:$|", *at) ? at + 1 : NULL;
}

static bool one_token(struct awk *a, const char **at)
{
    const char *from = *at, *end;
    struct awk_token t = {.text = from};
    if (a->count == AWK_TOKENS_MAX)
        return awk_fails(a, "its program is very long");
    if (*from == '\n') {
        t.kind = AWK_NEWLINE;
        end = from + 1;
    } else if (*from == '"' || (*from == '/' && regex_here(a))) {
        t.kind = *from == '"' ? AWK_STRING : AWK_REGEX;
        end = quoted(from);
    } else if (isdigit((unsigned char)*from) || (*from == '.' && isdigit((unsigned char)from[1]))) {
        t.kind = AWK_NUMBER;
        end = number_end(from);
    } else if (isalpha((unsigned char)*from) || *from == '_') {
        t.kind = AWK_NAME;
        for (end = from; isalnum((unsigned char)*end) || *end == '_';)
            end++;
    } else {
        t.kind = AWK_PUNCTUATION;
        end = punctuation_end(from);
    }
    if (!end || end == from)
        return awk_fails(a, "its program is not understood");
    t.size = (size_t)(end - from);
    a->token[a->count++] = t;
    *at = end;
    return true;
}

bool awk_read_tokens(struct awk *a)
{
    const char *at = a->text;
    while (*at) {
        if (*at == ' ' || *at == '\t' || *at == '\r')
            at++;
        else if (at[0] == '\\' && at[1] == '\n')
            at += 2;
        else if (*at == '#')
            at += strcspn(at, "\n");
        else if (!one_token(a, &at))
            return false;
    }
    return true;
}

uint32_t awk_closed(const struct awk *a, uint32_t i)
{
    uint32_t depth = 0;
    for (; i < a->count; i++) {
        depth += awk_is(&a->token[i], "{") || awk_is(&a->token[i], "(") || awk_is(&a->token[i], "[");
        bool end = awk_is(&a->token[i], "}") || awk_is(&a->token[i], ")") || awk_is(&a->token[i], "]");
        if (end && --depth == 0)
            return i + 1;
    }
    return a->count + 1;
}

bool awk_read_rules(struct awk *a)
{
    uint32_t i = 0;
    while (i < a->count) {
        if (a->token[i].kind == AWK_NEWLINE || awk_is(&a->token[i], ";")) {
            i++;
            continue;
        }
        if (a->rules == AWK_RULES_MAX)
            return awk_fails(a, "it has very many rules");
        struct awk_rule *r = &a->rule[a->rules++];
        *r = (struct awk_rule){.pattern = i};
        while (i < a->count && a->token[i].kind != AWK_NEWLINE && !awk_is(&a->token[i], ";") &&
               !awk_is(&a->token[i], "{")) {
            if (awk_is(&a->token[i], ",") || awk_is(&a->token[i], "}"))
                return awk_fails(a, "a range of awk runs from line to line");
            i = awk_is(&a->token[i], "(") || awk_is(&a->token[i], "[") ? awk_closed(a, i) : i + 1;
        }
        if (i > a->count)
            return awk_fails(a, "a bracket is open");
        r->pattern_end = r->action = r->action_end = i;
        if (i < a->count && awk_is(&a->token[i], "{")) {
            uint32_t end = awk_closed(a, i);
            if (end > a->count)
                return awk_fails(a, "a bracket is open");
            r->braces = true;
            r->action = i + 1;
            r->action_end = end - 1;
            i = end;
        }
    }
    return a->rules ? true : awk_fails(a, "it has no program");
}

bool awk_among(const struct awk_token *t, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (awk_is(t, list[i]))
            return true;
    return false;
}

bool awk_same(const struct awk_token *a, const struct awk_token *b)
{
    return a->kind == AWK_NAME && b->kind == AWK_NAME && a->size == b->size &&
           memcmp(a->text, b->text, a->size) == 0;
}

bool awk_is_rule(const struct awk *a, const struct awk_rule *r, const char *name)
{
    return r->pattern_end == r->pattern + 1 && awk_is(&a->token[r->pattern], name);
}
