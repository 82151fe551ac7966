/* See split_inside.h.  An awk program is cut into tokens and rules.  It may be cut at any line when
 * no rule can know another record: every variable is constant or set before it is read in the same
 * action, on every way to it; nothing counts, keeps, reads ahead, writes elsewhere or ends.  NR is
 * allowed compared with numbers (the first block holds those lines), in `NR % N` (blocks of N
 * lines) and first in what is printed (the numbers are put right afterwards).  What is not
 * understood is whole. */
#include "dsl/script_names.h"
#include "dsl/split_inside.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 512
#define RULES_MAX  64
#define NUMBER_MAX 1000000

enum token_kind { NUMBER, STRING, REGEX, NAME, PUNCTUATION, NEWLINE };

struct awk_token {
    enum token_kind kind;
    const char *text;
    size_t size;
    bool changed; /* a name that something is done to here */
};

struct rule {
    uint32_t pattern, pattern_end; /* tokens */
    uint32_t action, action_end;   /* without the braces; equal: none */
    bool braces;
};

struct awk {
    const char *text;
    struct awk_token token[TOKENS_MAX];
    uint32_t count;
    struct rule rule[RULES_MAX];
    uint32_t rules;
    char bad[120]; /* why it is whole */

    bool counts; /* NR is compared: lines up to `most` are special */
    uint64_t most;
    uint64_t step; /* of NR % N */
    bool numbers;  /* output begins with NR */
    bool stops;    /* exit behind a line number */
    bool joined;   /* output need not end lines */
};

static bool fails(struct awk *a, const char *why)
{
    if (!a->bad[0])
        snprintf(a->bad, sizeof a->bad, "%s", why);
    return false;
}

/* The same, of a piece of the program. */
static bool fails_at(struct awk *a, const struct awk_token *t, const char *why)
{
    if (!a->bad[0])
        snprintf(a->bad, sizeof a->bad, "`%.*s` of awk %s", (int)(t->size > 40 ? 40 : t->size),
                 t->text, why);
    return false;
}

/* ---- tokens ------------------------------------------------------------------------------ */

static bool is(const struct awk_token *t, const char *text)
{
    return (t->kind == NAME || t->kind == PUNCTUATION) && strlen(text) == t->size &&
           memcmp(t->text, text, t->size) == 0;
}

/* A `/` begins a regular expression where no value has just ended. */
static bool regex_here(const struct awk *a)
{
    if (!a->count)
        return true;
    const struct awk_token *t = &a->token[a->count - 1];
    if (t->kind == NUMBER || t->kind == STRING || t->kind == REGEX)
        return false;
    if (t->kind == NAME)
        return is(t, "in") || is(t, "print") || is(t, "printf") || is(t, "return");
    return !(is(t, ")") || is(t, "]") || is(t, "$") || is(t, "++") || is(t, "--"));
}

/* From an opening quote or slash to behind the closing one; NULL: there is none. */
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
            return bracket ? NULL : at + 1; /* awks differ on a slash in brackets */
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
    if (a->count == TOKENS_MAX)
        return fails(a, "its program is very long");
    if (*from == '\n') {
        t.kind = NEWLINE;
        end = from + 1;
    } else if (*from == '"' || (*from == '/' && regex_here(a))) {
        t.kind = *from == '"' ? STRING : REGEX;
        end = quoted(from);
    } else if (isdigit((unsigned char)*from) || (*from == '.' && isdigit((unsigned char)from[1]))) {
        t.kind = NUMBER;
        end = number_end(from);
    } else if (isalpha((unsigned char)*from) || *from == '_') {
        t.kind = NAME;
        for (end = from; isalnum((unsigned char)*end) || *end == '_';)
            end++;
    } else {
        t.kind = PUNCTUATION;
        end = punctuation_end(from);
    }
    if (!end || end == from)
        return fails(a, "its program is not understood");
    t.size = (size_t)(end - from);
    a->token[a->count++] = t;
    *at = end;
    return true;
}

static bool read_tokens(struct awk *a)
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

/* ---- rules ------------------------------------------------------------------------------- */

/* Behind the bracket that closes the one at i, or count. */
static uint32_t closed(const struct awk *a, uint32_t i)
{
    uint32_t depth = 0;
    for (; i < a->count; i++) {
        depth += is(&a->token[i], "{") || is(&a->token[i], "(") || is(&a->token[i], "[");
        bool end = is(&a->token[i], "}") || is(&a->token[i], ")") || is(&a->token[i], "]");
        if (end && --depth == 0)
            return i + 1;
    }
    return a->count + 1;
}

static bool read_rules(struct awk *a)
{
    uint32_t i = 0;
    while (i < a->count) {
        if (a->token[i].kind == NEWLINE || is(&a->token[i], ";")) {
            i++;
            continue;
        }
        if (a->rules == RULES_MAX)
            return fails(a, "it has very many rules");
        struct rule *r = &a->rule[a->rules++];
        *r = (struct rule){.pattern = i};
        while (i < a->count && a->token[i].kind != NEWLINE && !is(&a->token[i], ";") &&
               !is(&a->token[i], "{")) {
            if (is(&a->token[i], ",") || is(&a->token[i], "}"))
                return fails(a, "a range of awk runs from line to line");
            i = is(&a->token[i], "(") || is(&a->token[i], "[") ? closed(a, i) : i + 1;
        }
        if (i > a->count)
            return fails(a, "a bracket is open");
        r->pattern_end = r->action = r->action_end = i;
        if (i < a->count && is(&a->token[i], "{")) {
            uint32_t end = closed(a, i);
            if (end > a->count)
                return fails(a, "a bracket is open");
            r->braces = true;
            r->action = i + 1;
            r->action_end = end - 1;
            i = end;
        }
    }
    return a->rules ? true : fails(a, "it has no program");
}

/* ---- names ------------------------------------------------------------------------------- */

static bool among(const struct awk_token *t, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is(t, list[i]))
            return true;
    return false;
}
#define AMONG(t, list) among(t, list, sizeof list / sizeof *list)

static const char *const words[] = {"if",    "else",   "while", "for",   "do",
                                    "print", "printf", "next",  "break", "continue"};
static const char *const functions[] = {"length", "substr",  "index",   "split",   "sub", "gsub",
                                        "match",  "sprintf", "tolower", "toupper", "int", "sin",
                                        "cos",    "atan2",   "exp",     "log",     "sqrt"};
static const char *const readable[] = {"NF",     "FS",      "OFS",  "ORS",
                                       "SUBSEP", "CONVFMT", "OFMT", "ENVIRON"};

static bool assigns(const struct awk_token *t)
{
    static const char *const all[] = {"=", "+=", "-=", "*=", "/=", "%=", "^="};
    return AMONG(t, all);
}

static bool same(const struct awk_token *a, const struct awk_token *b)
{
    return a->kind == NAME && b->kind == NAME && a->size == b->size &&
           memcmp(a->text, b->text, a->size) == 0;
}

/* Is token i, a name, changed here? */
static bool changed_at(const struct awk *a, uint32_t i)
{
    const struct awk_token *t = a->token;
    uint32_t behind = i + 1;
    if (behind < a->count && is(&t[behind], "["))
        behind = closed(a, behind);
    if (behind < a->count && (assigns(&t[behind]) || is(&t[behind], "++") || is(&t[behind], "--")))
        return true;
    return i > 0 && (is(&t[i - 1], "++") || is(&t[i - 1], "--"));
}

/* Is it among the arguments of a call of this function?  `from`: of the action. */
static bool argument_of(const struct awk *a, uint32_t i, uint32_t from, const char *function)
{
    for (uint32_t k = i; k > from; k--)
        if (is(&a->token[k - 1], function) && is(&a->token[k], "(") && closed(a, k) > i)
            return true;
    return false;
}

/* split, sub and gsub fill names. */
static bool filled_at(const struct awk *a, uint32_t i, uint32_t from)
{
    return argument_of(a, i, from, "split") || argument_of(a, i, from, "sub") ||
           argument_of(a, i, from, "gsub");
}

static bool is_rule(const struct awk *a, const struct rule *r, const char *name)
{
    return r->pattern_end == r->pattern + 1 && is(&a->token[r->pattern], name);
}

/* Marks the names that rules change; what BEGIN sets is a constant. */
static void mark_changes(struct awk *a)
{
    for (uint32_t i = 0; i < a->rules; i++) {
        const struct rule *r = &a->rule[i];
        for (uint32_t k = r->pattern; k < r->action_end && !is_rule(a, r, "BEGIN"); k++)
            a->token[k].changed =
                a->token[k].kind == NAME && (changed_at(a, k) || filled_at(a, k, r->pattern));
    }
}

static bool changes(const struct awk *a, const struct awk_token *name)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->token[i].changed && same(&a->token[i], name))
            return true;
    return false;
}

/* The first use of the name in the action sets it, before anything can go another way. */
static bool set_first(const struct awk *a, const struct rule *r, uint32_t use)
{
    static const char *const ways[] = {"if", "else", "while", "do",    "?",       "&&",
                                       "||", "in",   "next",  "break", "continue"};
    const struct awk_token *t = a->token, *name = &t[use];
    bool in_for = false;
    for (uint32_t i = r->action; i < r->action_end; i++) {
        if (AMONG(&t[i], ways))
            return false;
        if (is(&t[i], "for"))
            in_for = true;
        if (in_for && is(&t[i], ";"))
            return false; /* what is behind the first part may never run */
        if (!same(&t[i], name))
            continue;
        /* x = ..., and not in its own value; split(..., x */
        bool plain = i + 1 < r->action_end && is(&t[i + 1], "=");
        if (!plain)
            return i + 1 < r->action_end && argument_of(a, i, r->action, "split") &&
                   is(&t[i - 1], ",") && (is(&t[i + 1], ",") || is(&t[i + 1], ")")) &&
                   !argument_of(a, i, r->action, "sub") && !argument_of(a, i, r->action, "gsub");
        for (uint32_t k = i + 2; k < r->action_end && !is(&t[k], ";") && t[k].kind != NEWLINE; k++)
            if (same(&t[k], name))
                return false;
        return true;
    }
    return false;
}

/* ---- NR ---------------------------------------------------------------------------------- */

static bool small_number(const struct awk_token *t, uint64_t *out)
{
    char *end;
    if (t->kind != NUMBER || t->size > 7)
        return false;
    *out = strtoull(t->text, &end, 10);
    return end == t->text + t->size && *out <= NUMBER_MAX;
}

static bool compares(const struct awk_token *t)
{
    static const char *const all[] = {"==", "!=", "<", "<=", ">", ">="};
    return AMONG(t, all);
}

/* Where an expression may begin or end beside a comparison. */
static bool edge(const struct awk *a, const struct rule *r, uint32_t i)
{
    static const char *const all[] = {"&&", "||", "(", ")", "{", "}", ";", "!"};
    const struct awk_token *t = &a->token[i];
    return i < r->pattern || i >= r->action_end || t->kind == NEWLINE || AMONG(t, all) ||
           i == r->pattern_end;
}

/* NR at i, in one of the three ways that are known. */
static bool line_number(struct awk *a, const struct rule *r, uint32_t i)
{
    const struct awk_token *t = a->token;
    uint64_t n;
    if (i + 2 < a->count && is(&t[i + 1], "%") && small_number(&t[i + 2], &n) && n > 0) {
        uint64_t x = a->step ? a->step : 1, y = n;
        while (y) {
            uint64_t mod = x % y;
            x = y;
            y = mod;
        }
        a->step = (a->step ? a->step : 1) / x * n;
        return a->step <= NUMBER_MAX ? true : fails(a, "its steps meet very late");
    }
    bool right = i + 2 < a->count && compares(&t[i + 1]) && small_number(&t[i + 2], &n) &&
                 edge(a, r, i + 3) && (i == 0 || edge(a, r, i - 1));
    bool left = !right && i >= 2 && compares(&t[i - 1]) && small_number(&t[i - 2], &n) &&
                (i == 2 || edge(a, r, i - 3)) && edge(a, r, i + 1);
    if (right || left) {
        a->counts = true;
        a->most = n > a->most ? n : a->most;
        return true;
    }
    if (i > 0 && is(&t[i - 1], "print")) {
        a->numbers = true;
        const struct awk_token *next = i + 1 < r->action_end ? &t[i + 1] : NULL;
        bool good =
            !next || next->kind == NEWLINE || is(next, ",") || is(next, ";") || is(next, "}") ||
            (next->kind == STRING && next->size > 2 && !isdigit((unsigned char)next->text[1]) &&
             (next->text[1] != '\\' || next->text[2] == 't'));
        if (good)
            return true;
    }
    return fails_at(a, &t[i], "counts lines");
}

/* ---- what a rule does -------------------------------------------------------------------- */

/* print ... > file: a `>` that is not in brackets. */
static bool prints_elsewhere(const struct awk *a, uint32_t i, uint32_t end)
{
    for (i++; i < end && a->token[i].kind != NEWLINE && !is(&a->token[i], ";") &&
              !is(&a->token[i], "}");) {
        if (is(&a->token[i], ">") || is(&a->token[i], ">>") || is(&a->token[i], "|"))
            return true;
        i = is(&a->token[i], "(") || is(&a->token[i], "[") ? closed(a, i) : i + 1;
    }
    return false;
}

/* exit in an action that runs at a line number, or behind one: nothing comes after it. */
static bool may_exit(struct awk *a, const struct rule *r, uint32_t i)
{
    const struct awk_token *t = &a->token[r->pattern];
    uint64_t n;
    bool at_line = r->pattern_end == r->pattern + 3 && is(&t[0], "NR") && small_number(&t[2], &n) &&
                   n > 0 && (is(&t[1], "==") || is(&t[1], ">") || is(&t[1], ">="));
    for (uint32_t k = r->action; k < i; k++)
        at_line = at_line && !is(&a->token[k], "if") && !is(&a->token[k], "while") &&
                  !is(&a->token[k], "for") && !is(&a->token[k], "next") && !is(&a->token[k], "?");
    bool plain = i + 1 >= r->action_end || is(&a->token[i + 1], ";") || is(&a->token[i + 1], "}") ||
                 a->token[i + 1].kind == NEWLINE;
    a->stops = a->stops || (at_line && plain);
    return at_line && plain ? true : fails(a, "it may end at any line");
}

static bool name(struct awk *a, const struct rule *r, uint32_t i, bool files)
{
    const struct awk_token *t = &a->token[i];
    bool call = i + 1 < a->count && is(&a->token[i + 1], "(");
    if (is(t, "print") || is(t, "printf")) {
        a->joined = a->joined || is(t, "printf");
        return prints_elsewhere(a, i, r->action_end) ? fails(a, "it prints to files") : true;
    }
    if (is(t, "exit"))
        return may_exit(a, r, i);
    if (AMONG(t, words))
        return true;
    if (AMONG(t, functions))
        return true;
    if (is(t, "NR") || (is(t, "FNR") && !files))
        return changed_at(a, i) ? fails_at(a, t, "is changed") : line_number(a, r, i);
    if (AMONG(t, readable))
        return is(t, "NF") || !changed_at(a, i) ? true : fails_at(a, t, "is changed");
    bool upper = true;
    for (size_t k = 0; k < t->size; k++)
        upper = upper && !islower((unsigned char)t->text[k]);
    if (call || (upper && t->size > 1) || is(t, "getline") || is(t, "function") || is(t, "func") ||
        is(t, "delete") || is(t, "nextfile") || is(t, "return") || is(t, "in") || is(t, "switch"))
        return fails_at(a, t, "is not one of those that can be cut");
    if (!changes(a, t))
        return true; /* a constant */
    return i >= r->action && set_first(a, r, i)
               ? true
               : fails_at(a, t, "may keep something from line to line");
}

static bool one_rule(struct awk *a, const struct rule *r, bool files)
{
    for (uint32_t i = r->pattern; i < r->action_end; i++) {
        const struct awk_token *t = &a->token[i];
        if (is(t, "|") || (t->kind == PUNCTUATION && is(t, ">>")))
            return fails(a, "it writes to programs or files");
        if (t->kind == NAME && !name(a, r, i, files))
            return false;
    }
    return true;
}

/* BEGIN { NAME = constant; ... }: the same in every block. */
static bool begins(struct awk *a, const struct rule *r)
{
    const struct awk_token *t = a->token;
    for (uint32_t i = r->action; i < r->action_end; i++) {
        if (t[i].kind == NEWLINE || is(&t[i], ";"))
            continue;
        if (i + 2 >= r->action_end || t[i].kind != NAME || !is(&t[i + 1], "="))
            return fails(a, "its BEGIN does more than set names");
        if (is(&t[i], "RS") || is(&t[i], "NR") || is(&t[i], "FNR"))
            return fails_at(a, &t[i], "is changed");
        a->joined = a->joined || is(&t[i], "ORS");
        for (i += 2; i < r->action_end && is(&t[i], "="); i++)
            return fails(a, "its BEGIN does more than set names");
        if (is(&t[i], "OFS") && i + 1 < r->action_end && is(&t[i + 1], "=")) /* FS = OFS = "x" */
            i += 2;
        if (i >= r->action_end || (t[i].kind != STRING && t[i].kind != NUMBER))
            return fails(a, "its BEGIN does more than set names");
    }
    return true;
}

/* No newline can come of it. */
static bool plain_string(const struct awk_token *t)
{
    for (size_t i = 0; i + 1 < t->size; i++)
        if (t->text[i] == '\\' && t->text[++i] != 't')
            return false;
    return true;
}

/* Numbers that begin lines are put right later: then all output must be such lines. */
static bool all_numbered(struct awk *a, const struct split_case *c)
{
    for (uint32_t i = 0; i < a->count; i++) {
        const struct awk_token *t = &a->token[i];
        bool print = is(t, "print");
        if (print &&
            !(i + 1 < a->count && (is(&a->token[i + 1], "NR") || is(&a->token[i + 1], "FNR"))))
            return false;
        if (is(t, "printf") || is(t, "OFS") || is(t, "ORS") || is(t, "FS") ||
            (t->kind == STRING && !plain_string(t)))
            return false;
    }
    for (uint32_t i = 0; i < a->rules; i++)
        if (!a->rule[i].braces)
            return false;
    return !split_has(c, "-v");
}

/* ---- programs that are known as a whole -------------------------------------------------- */

/* Do the tokens from i to end read like this, words with a blank between them; N: a name, F: a
 * field? */
static bool range_like(const struct awk *a, uint32_t i, uint32_t end, const char *form)
{
    const struct awk_token *bound = NULL;
    while (*form) {
        size_t size = strcspn(form, " ");
        if (i >= end)
            return false;
        const struct awk_token *t = &a->token[i++];
        if (size == 1 && *form == 'N') {
            if (t->kind != NAME || (bound && !same(bound, t)))
                return false;
            bound = t;
        } else if (size == 1 && *form == '9') {
            if (t->kind != NUMBER)
                return false;
        } else if (t->size != size || memcmp(t->text, form, size) != 0 || t->kind == STRING) {
            return false;
        }
        form += size + (form[size] == ' ');
    }
    return i == end;
}

static bool reads_like(const struct awk *a, const char *form)
{
    return range_like(a, 0, a->count, form);
}

static bool only_separator(const struct split_case *c)
{
    for (uint32_t i = 0; i < c->option_count; i++)
        if (strcmp(c->option[i].option->name[0], "-F") != 0)
            return false;
    return true;
}

/* { N += $9 } END { print N }, { N++ } ..., perhaps with a pattern: what is what
 * a line adds. */
static bool adds_up(struct awk *a, const struct split_case *c, struct awk_token *what)
{
    static const char *const sums[] = {"N += $ 9", "N += $ NF", "N ++"};
    static const char *const ends[] = {"N", "N + 0"};
    if (a->rules != 2 || !is_rule(a, &a->rule[1], "END") || !only_separator(c))
        return false;
    const struct rule *r = &a->rule[0], *end = &a->rule[1];
    const struct awk_token *sum = &a->token[r->action];
    bool good = false, shown = false;
    for (size_t i = 0; i < 3; i++)
        if (range_like(a, r->action, r->action_end, sums[i])) {
            good = true;
            *what = i == 2 ? (struct awk_token){NUMBER, "1", 1, false} : sum[2];
            if (i < 2)
                what->size = (size_t)(sum[3].text + sum[3].size - sum[2].text);
        }
    for (size_t i = 0; i < 2; i++)
        shown = shown || (end->action < end->action_end && is(&a->token[end->action], "print") &&
                          range_like(a, end->action + 1, end->action_end, ends[i]));
    if (!good || !shown || !same(sum, &a->token[end->action + 1]) ||
        isupper((unsigned char)*sum->text))
        return false;
    struct rule pattern = *r;
    pattern.action = pattern.action_end = r->pattern_end;
    for (uint32_t i = r->pattern; i < r->pattern_end; i++)
        if (same(&a->token[i], sum) || is(&a->token[i], "NR") || is(&a->token[i], "FNR"))
            return false;
    return one_rule(a, &pattern, true);
}

/* Sums of whole numbers, as long as they are exact: else a block, or what adds up the blocks, ends
 * with 9.  Four times 10^15 twice is still less than 2^53.  A block's sum is marked: what the command itself
 * prints, when it is run whole after all, may be rounded (1.3e+10) and is passed on as it stands. */
static int sums(struct split_case *c, const struct awk *a, const struct awk_token *what)
{
    static const char check[] = "if (zp_s >= 4e15 || zp_s <= -4e15) exit 9";
    const struct awk_token *t = a->token;
    const struct rule *r = &a->rule[0], *end = &a->rule[1];
    int pattern =
        (int)(r->pattern_end == r->pattern
                  ? 0
                  : t[r->pattern_end - 1].text + t[r->pattern_end - 1].size - t[r->pattern].text);
    bool zero = end->action_end - end->action > 2;
    char again[200];
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    buf_printf(&b,
               "%.*s {zp_x = %.*s + 0; if (zp_x != int(zp_x)) exit 9; zp_s += zp_x; zp_n = 1; %s} "
               "END {if (zp_n) printf \"=%%.0f\\n\", zp_s}",
               pattern, t[r->pattern].text, (int)what->size, what->text, check);
    snprintf(again, sizeof again, "/^=/ {zp_s += substr($0, 2); %s; next} {zp_w = 1; print} END {if (!zp_w) print zp_s%s}", check,
             zero ? " + 0" : "");
    if (b.failed)
        return err_nomem(c->e), SPLIT_FAILED;
    c->s->block_argv = split_self(c, b.data, &c->s->block_argc);
    c->s->combine = GRAPH_COMBINE_RERUN;
    c->s->combine_argv =
        split_words(c, &c->s->combine_argc, c->n->argv[0], again, (const char *)NULL);
    c->apart = true;
    buf_clear(&b);
    return c->s->block_argv && c->s->combine_argv ? SPLIT_OK : SPLIT_FAILED;
}

/* ---- what is counted by keys ------------------------------------------------------------- */

/* Is its only reader a sort that makes the same of its lines in any order?  Of those that compare as equal the bytes decide then. */
static bool sorted_next(const struct split_case *c)
{
    static const char *const fine[] = {"-n", "-r", "-k", "-t", "-h", "-V", "-M", "-b", "-d", "-f", "-i", "-S", "-T", "--parallel", "-o"};
    const struct graph_fd *out = graph_fd_of(c->n, 1);
    const struct graph_node *n = out ? &c->g->node[c->g->edge[out->edge].to] : NULL;
    struct err quiet;
    if (!n || n->kind != GRAPH_COMMAND || !n->argc || strcmp(n->argv[0], "sort") != 0)
        return false;
    const struct command *k = commands_find(c->commands, "sort", &quiet);
    struct command_walk walk = command_walk(k, n->argv + 1, n->argc - 1);
    struct command_item i;
    while (k && (i = command_next(&walk)).kind != ITEM_END) {
        bool known = i.kind == ITEM_OPERAND && strcmp(i.value, "-") == 0;
        for (size_t f = 0; f < sizeof fine / sizeof *fine; f++)
            known = known || (i.kind == ITEM_OPTION && strcmp(i.option->name[0], fine[f]) == 0);
        if (!known || (i.kind == ITEM_OPTION && i.value && strchr(i.value, 'R')))
            return false;
    }
    return k;
}

/* The statement of a print at i shows a line that is not empty, of its key and that key's number alone. */
static bool shows_line(const struct awk *a, uint32_t i, uint32_t end, const struct awk_token *array)
{
    const struct awk_token *t = a->token;
    bool format = is(&t[i], "printf"), shows = false;
    i += 1 + (format && is(&t[i + 1], "("));
    if (format) { /* "... \n", and in it something that is always there */
        const struct awk_token *f = &t[i];
        if (i >= end || f->kind != STRING || f->size < 5 || memcmp(f->text + f->size - 3, "\\n\"", 3) != 0)
            return false;
        for (size_t k = 1; k < f->size - 3; k++) {
            if (f->text[k] == '\\' && f->text[++k] != 't')
                return false;
            if (f->text[k] == '%' && f->text[k + 1] != 's' && f->text[k + 1] != 'd')
                return false;
            shows = shows || strchr(" ,:;|=t", f->text[k]);
            k += f->text[k] == '%';
        }
        return shows && i + 1 < end && is(&t[i + 1], ",");
    }
    for (; i < end && t[i].kind != NEWLINE && !is(&t[i], ";") && !is(&t[i], "}"); i++) {
        if (AMONG(&t[i], functions)) /* may make nothing of it */
            i = closed(a, i + 1) - 1;
        else
            shows = shows || same(&t[i], array) || (t[i].kind == STRING && t[i].size > 2);
    }
    return shows;
}

/* for (K in N) ...: lines of K and N[K] alone, each by itself. */
static bool shows_keys(const struct awk *a, const struct rule *r, const struct awk_token *array)
{
    static const char *const fine[] = {"if", "else", "print", "printf", "substr", "length", "toupper", "tolower", "int", "index", "sprintf"};
    static const char *const signs[] = {"(", ")", "[", "]", "{", "}", ",", ";", "<", ">", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "&&", "||", "!"};
    const struct awk_token *t = a->token, *key = &t[r->action + 2];
    int depth = 0, prints = 0;
    if (r->action_end - r->action < 8 || !range_like(a, r->action, r->action + 2, "for (") || key->kind != NAME || same(key, array) || !is(key + 1, "in") ||
        !same(key + 2, array) || !is(key + 3, ")"))
        return false;
    for (uint32_t i = r->action + 6; i < r->action_end; i++) {
        bool print = is(&t[i], "print") || is(&t[i], "printf");
        depth += is(&t[i], "(") - is(&t[i], ")");
        if (t[i].kind == REGEX || (t[i].kind == PUNCTUATION && (!AMONG(&t[i], signs) || (is(&t[i], ">") && !depth))))
            return false;
        if (t[i].kind == STRING && !(i && is(&t[i - 1 - is(&t[i - 1], "(")], "printf")) && !plain_string(&t[i]))
            return false;
        if (print && !shows_line(a, i, r->action_end, array))
            return false;
        prints += print;
        if (same(&t[i], array) && i + 3 < r->action_end && is(&t[i + 1], "[") && same(&t[i + 2], key) && is(&t[i + 3], "]"))
            i += 3;
        else if (t[i].kind == NAME && !same(&t[i], key) && !AMONG(&t[i], fine))
            return false;
        else if (is(&t[i], "length") && (!is(&t[i + 1], "(") || is(&t[i + 2], ")"))) /* of $0 */
            return false;
    }
    /* One statement: what stands behind it would not be the loop's. */
    bool block = is(&t[r->action + 6], "{");
    if (is(&t[r->action + 6], ";"))
        return false;
    uint32_t end = block ? closed(a, r->action + 6) : r->action + 7;
    for (; !block && end < r->action_end && t[end].kind != NEWLINE && !is(&t[end], ";"); end++)
        ;
    for (; end < r->action_end; end++)
        if (t[end].kind != NEWLINE && !is(&t[end], ";"))
            return false;
    return prints;
}

/* { N[KEY]++ } or { N[KEY] += $9 }, perhaps with a pattern, END { for (K in N) ... }.  *what: what a line adds, or of no size: 1. */
static bool counts_keys(struct awk *a, struct rule *r, struct awk_token *what)
{
    const struct awk_token *t = a->token, *array = &t[r->action];
    uint32_t bracket = r->action + 1, behind = bracket < r->action_end && is(&t[bracket], "[") ? closed(a, bracket) : 0;
    if (!behind || behind >= r->action_end || array->kind != NAME || isupper((unsigned char)*array->text))
        return false;
    while (r->action_end > behind && (is(&t[r->action_end - 1], ";") || t[r->action_end - 1].kind == NEWLINE))
        r->action_end--;
    if (range_like(a, behind, r->action_end, "+= $ 9") || range_like(a, behind, r->action_end, "+= $ NF"))
        *what = (struct awk_token){NAME, t[behind + 1].text, (size_t)(t[behind + 2].text + t[behind + 2].size - t[behind + 1].text), false};
    else if (!range_like(a, behind, r->action_end, "++") && !range_like(a, behind, r->action_end, "+= 1"))
        return false;
    struct rule key = *r, pattern = *r;
    key.pattern = key.pattern_end = key.action = bracket + 1;
    key.action_end = behind - 1;
    pattern.action = pattern.action_end = r->pattern_end;
    for (uint32_t i = r->pattern; i < behind; i++) {
        bool other = i < r->pattern_end || (i > bracket && i < behind - 1);
        if (other && (same(&t[i], array) || is(&t[i], "NR") || is(&t[i], "FNR") || (t[i].kind == STRING && !plain_string(&t[i]))))
            return false;
    }
    return key.action < key.action_end && one_rule(a, &key, true) && one_rule(a, &pattern, true);
}

/* Blocks leave the numbers of their keys, each behind an empty line; where the first is none the command has been run
 * whole after all, and what it printed is passed on.  None of its own lines is empty. */
static int keys(struct split_case *c, struct awk *a)
{
    const struct awk_token *t = a->token;
    struct rule r = a->rule[a->rules - 2], *end = &a->rule[a->rules - 1];
    struct awk_token what = {.kind = NUMBER, .text = ""};
    mark_changes(a);
    if (!counts_keys(a, &r, &what) || !shows_keys(a, end, &t[r.action]))
        return -2;
    if (!sorted_next(c))
        return split_whole(c, "the order of its keys is its own: `sort` behind it would let it be cut");
    const char *n = t[r.action].text, *first = t[r.pattern].text, *show = t[end->action].text;
    int n_size = (int)t[r.action].size, key_size = (int)(t[closed(a, r.action + 1) - 1].text + 1 - n);
    int pattern = r.pattern_end == r.pattern ? 0 : (int)(t[r.pattern_end - 1].text + t[r.pattern_end - 1].size - first);
    int show_size = (int)(t[end->action_end - 1].text + t[end->action_end - 1].size - show);
    struct buf block = BUF_INIT(GRAPH_BYTES_MAX), again = BUF_INIT(GRAPH_BYTES_MAX);
    if (a->rules == 3) /* BEGIN { FS = "x" } */
        buf_printf(&block, "BEGIN {FS = %.*s} ", (int)t[a->rule[0].action + 2].size, t[a->rule[0].action + 2].text);
    buf_printf(&block, "%.*s {", pattern, first);
    if (what.size)
        buf_printf(&block, "zp_x = %.*s + 0; if (zp_x != int(zp_x)) exit 9; zp_s += zp_x < 0 ? -zp_x : zp_x; if (zp_s >= 4e15) exit 9; ", (int)what.size, what.text);
    buf_printf(&block, "%.*s += %s} END {print \"\"; for (zp_k in %.*s) print sprintf(\"%%.0f \", %.*s[zp_k]) zp_k}", key_size, n, what.size ? "zp_x" : "1", n_size, n, n_size, n);
    buf_printf(&again,
               "NR == 1 {zp_b = $0 == \"\"} !zp_b {print; next} $0 != \"\" {zp_i = index($0, \" \"); zp_x = substr($0, 1, zp_i - 1) + 0; "
               "zp_s += zp_x < 0 ? -zp_x : zp_x; if (zp_s >= 4e15) exit 9; %.*s[substr($0, zp_i + 1)] += zp_x} END {%.*s}",
               n_size, n, show_size, show);
    const char *ofs = split_value(c, "-v");
    if (!block.failed && !again.failed) {
        c->s->block_argv = split_self(c, block.data, &c->s->block_argc);
        c->s->combine_argv = ofs ? split_words(c, &c->s->combine_argc, c->n->argv[0], "-v", ofs, again.data, (const char *)NULL)
                                 : split_words(c, &c->s->combine_argc, c->n->argv[0], again.data, (const char *)NULL);
    }
    c->s->combine = GRAPH_COMBINE_RERUN;
    c->apart = true;
    bool good = c->s->block_argv && c->s->combine_argv;
    if (block.failed || again.failed)
        err_nomem(c->e);
    buf_clear(&block);
    buf_clear(&again);
    return good ? SPLIT_OK : SPLIT_FAILED;
}

/* -F, one -v OFS=x; before the two rules perhaps BEGIN { FS = "x" }. */
static bool may_count_keys(const struct awk *a, const struct split_case *c)
{
    unsigned given = 0;
    for (uint32_t i = 0; i < c->option_count; i++) {
        const char *v = c->option[i].value;
        bool ofs = strcmp(c->option[i].option->name[0], "-v") == 0 && v && strncmp(v, "OFS=", 4) == 0 && (!strchr(v, '\\') || strcmp(v, "OFS=\\t") == 0) && !strchr(v, '\n');
        given += ofs;
        if (!ofs && strcmp(c->option[i].option->name[0], "-F") != 0)
            return false;
    }
    const struct rule *b = &a->rule[0], *last = &a->rule[a->rules - 1];
    if (given > 1 || a->rules < 2 || a->rules > 3 || !is_rule(a, last, "END") || !a->rule[a->rules - 2].braces)
        return false;
    if (a->rules == 2)
        return !is_rule(a, b, "BEGIN");
    uint32_t end = b->action_end;
    while (end > b->action && (is(&a->token[end - 1], ";") || a->token[end - 1].kind == NEWLINE))
        end--;
    return is_rule(a, b, "BEGIN") && end == b->action + 3 && range_like(a, b->action, end - 1, "FS =") && a->token[end - 1].kind == STRING;
}

/* -2: none of these. */
static int whole_program(struct split_case *c, struct awk *a)
{
    static const char *const firsts[] = {"! N [ $ 9 ] ++", "! N [ $ 9 ] ++ { print }",
                                         "! N [ $ 9 ] ++ { print $ 0 }"};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++)
        if (reads_like(a, firsts[i]) && !split_has(c, "-v")) {
            c->s->combine = GRAPH_COMBINE_RERUN;
            c->s->combine_argv = split_self(c, NULL, &c->s->combine_argc);
            c->apart = true;
            return c->s->combine_argv ? SPLIT_OK : SPLIT_FAILED;
        }
    if (reads_like(a, "END { print NR }") && !split_has(c, "-v")) {
        c->apart = true;
        return split_native(c, "columns 0 +");
    }
    struct awk_token what = {.kind = NUMBER, .text = ""};
    if (adds_up(a, c, &what))
        return sums(c, a, &what);
    int r = may_count_keys(a, c) ? keys(c, a) : -2;
    a->bad[0] = '\0';
    return r;
}

/* ---- the class --------------------------------------------------------------------------- */

/* The lines behind the first block are numbered from there by -v NR. */
static int first_lines(struct split_case *c, const struct awk *a)
{
    char number[40];
    struct graph_split *s = c->s;
    s->run = GRAPH_RUN_FIRST;
    s->first_units = a->most + 1;
    s->stops_early = a->stops;
    if (a->stops) {
        s->rest_argv = split_words(c, &s->rest_argc, "true", (const char *)NULL);
        return s->rest_argv ? SPLIT_OK : SPLIT_FAILED;
    }
    snprintf(number, sizeof number, "NR=%llu", (unsigned long long)a->most + 1);
    uint32_t count;
    const char *const *self = split_self(c, NULL, &count);
    const char **list = arena_array(&c->g->arena, (size_t)count + 3, sizeof *list);
    const char *kept = arena_string(&c->g->arena, number);
    if (!self || !list || !kept)
        return err_nomem(c->e), SPLIT_FAILED;
    list[0] = self[0];
    list[1] = "-v";
    list[2] = kept;
    memcpy(list + 3, self + 1, (count - 1) * sizeof *list);
    s->rest_argv = list;
    s->rest_argc = count + 2;
    return SPLIT_OK;
}

static bool look(struct awk *a, const struct split_case *c)
{
    bool records = false;
    for (uint32_t i = 0; i < a->rules; i++)
        if (is_rule(a, &a->rule[i], "END"))
            return fails(a, "its END knows all lines");
    mark_changes(a);
    for (uint32_t i = 0; i < a->rules; i++) {
        const struct rule *r = &a->rule[i];
        bool begin = is_rule(a, r, "BEGIN");
        if (begin ? !begins(a, r) : !one_rule(a, r, c->file_count > 1))
            return false;
        records = records || !begin;
    }
    return records ? true : fails(a, "it reads nothing");
}

static int classify(struct split_case *c, struct awk *a)
{
    int known = whole_program(c, a);
    if (known != -2)
        return known;
    for (uint32_t i = 0; i < c->option_count; i++) {
        const char *v = c->option[i].value;
        if (strcmp(c->option[i].option->name[0], "-v") == 0 && v &&
            (strncmp(v, "RS=", 3) == 0 || strncmp(v, "NR=", 3) == 0 || strncmp(v, "FNR=", 4) == 0))
            return split_whole(c, "`%.20s` changes what a line is", v);
        if (strcmp(c->option[i].option->name[0], "-v") == 0 && v && strncmp(v, "ORS", 3) == 0)
            a->joined = true;
    }
    if (!look(a, c))
        return split_whole(c, "%s", a->bad);
    int ways = a->counts + (a->step > 1) + a->numbers;
    bool fnr = false;
    for (uint32_t i = 0; i < a->count; i++)
        fnr = fnr || is(&a->token[i], "FNR");
    if (ways > 1 || (fnr && a->counts))
        return split_whole(c, "it counts lines in several ways");
    c->apart = ways == 0;
    c->s->ends_lines = !a->joined;
    if (a->counts)
        return first_lines(c, a);
    if (a->numbers)
        return all_numbered(a, c) ? split_native(c, "lines") : split_whole(c, "it prints NR");
    c->s->cut_step = a->step ? a->step : 1;
    return SPLIT_OK;
}

int split_awk(struct split_case *c)
{
    struct awk *a = calloc(1, sizeof *a);
    if (!a)
        return err_nomem(c->e), SPLIT_FAILED;
    a->text = c->operand_count ? c->operand[0] : "";
    int r = read_tokens(a) && read_rules(a) ? classify(c, a) : split_whole(c, "%s", a->bad);
    free(a);
    return r;
}

/* ---- the files it names ------------------------------------------------------------------ */

/* A whole value: nothing is put before or behind it. */
static bool stands_alone(const struct awk *a, uint32_t i)
{
    static const char *const behind[] = {")", ";", "}", "|", ",", "&&", "||"};
    const struct awk_token *next = i + 1 < a->count ? &a->token[i + 1] : NULL;
    return !next || next->kind == NEWLINE || AMONG(next, behind);
}

/* What a string is, by what stands before and behind it; `prints`: behind `print`, outside of
 * brackets. */
static bool use_of(const struct awk *a, uint32_t i, bool prints, enum script_use *use)
{
    const struct awk_token *t = a->token;
    bool piped = i + 2 < a->count && is(&t[i + 1], "|") && is(&t[i + 2], "getline");
    if (!i || !stands_alone(a, i)) {
        *use = SCRIPT_RUNS;
        return piped;
    }
    bool called = i > 1 && is(&t[i - 1], "(") && is(&t[i - 2], "system");
    bool written = prints && (is(&t[i - 1], ">") || is(&t[i - 1], ">>"));
    *use = piped || called || is(&t[i - 1], "|") ? SCRIPT_RUNS
           : written                             ? SCRIPT_WRITES
                                                 : SCRIPT_READS;
    return *use != SCRIPT_READS || is(&t[i - 1], "<") || is(&t[i - 1], "=");
}

/* A string of which nobody knows what it says, as part of a pattern. */
static bool is_plain(const struct awk_token *t)
{
    if (t->kind != STRING)
        return false;
    for (size_t i = 0; i < t->size; i++)
        if (strchr("*?[\\", t->text[i]))
            return false;
    return true;
}

/* The tokens [*from, *to) of the name behind a `>`: all that is left of the statement, without brackets around it.  false: it
 * is more than strings and values side by side. */
static bool name_of(const struct awk *a, uint32_t i, uint32_t *from, uint32_t *to)
{
    static const char *const ends[] = {";", "}"}, *const parts[] = {"$", "(", ")", "[", "]", "{"};
    uint32_t end = i;
    while (end < a->count && a->token[end].kind != NEWLINE && !AMONG(&a->token[end], ends))
        end++;
    if (end > i + 1 && is(&a->token[i], "(") && closed(a, i) == end) {
        i++;
        end--;
    }
    *from = i;
    *to = end;
    for (; i < end; i++)
        if (a->token[i].kind == PUNCTUATION && !AMONG(&a->token[i], parts))
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
    return n->told(n, is(&a->token[i], ">") ? SCRIPT_MAKES : SCRIPT_ADDS, fits ? text : "*", fits ? (size_t)size : 1);
}

/* `getline < $0`, `getline line < name` */
static bool opens_unknown(const struct awk *a, uint32_t i)
{
    uint32_t from = i > 4 ? i - 4 : 0, k = i;
    if (!is(&a->token[i], "<") || (i + 1 < a->count && a->token[i + 1].kind == STRING))
        return false;
    while (k > from && a->token[k].kind != NEWLINE && !is(&a->token[k], ";") && !is(&a->token[k], "getline"))
        k--;
    return is(&a->token[k], "getline");
}

int script_names_awk(const char *script, struct script_names *n)
{
    struct awk *a = calloc(1, sizeof *a);
    bool prints = false;
    int result = 0, depth = 0;
    if (!a)
        return -1;
    a->text = script;
    read_tokens(a);
    for (uint32_t i = 0; i < a->count && result == 0; i++) {
        const struct awk_token *t = &a->token[i];
        enum script_use use;
        depth += is(t, "(") - is(t, ")");
        if (t->kind == NEWLINE || is(t, ";") || is(t, "{") || is(t, "}")) {
            prints = false;
            depth = 0;
        } else if (is(t, "print") || is(t, "printf")) {
            prints = true;
            depth = 0;
        }
        if (t->kind == STRING && !memchr(t->text, '\\', t->size) &&
            use_of(a, i, prints && !depth, &use))
            result = n->told(n, use, t->text + 1, t->size - 2);
        else if (prints && !depth && (is(t, ">") || is(t, ">>")) && !(i + 1 < a->count && a->token[i + 1].kind == STRING && stands_alone(a, i + 1)))
            result = tell_made(a, i, n);
        else if (opens_unknown(a, i))
            result = n->told(n, SCRIPT_LISTS, "", 0);
    }
    free(a);
    return result;
}
