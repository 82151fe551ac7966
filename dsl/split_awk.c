/* See split_inside.h.  An awk program is cut into tokens and rules.  Its input may be cut at any line if no rule can know
 * about another record.  That is: every variable is constant, or is set before it is read in the same action on every path;
 * and nothing counts, keeps something, reads ahead, writes elsewhere or exits.  NR is allowed in three places: compared
 * with numbers (the first block holds those lines), in `NR % N` (blocks of multiples of N lines), and first in what is
 * printed (the numbers are corrected afterwards).  What is not understood runs whole. */
#include "dsl/split_awk.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 1000000

/* ---- names ------------------------------------------------------------------------------- */

static const char *const words[] = {"if",    "else",   "while", "for",   "do",
                                    "print", "printf", "next",  "break", "continue"};
static const char *const readable[] = {"NF",     "FS",      "OFS",  "ORS",
                                       "SUBSEP", "CONVFMT", "OFMT", "ENVIRON"};

static bool assigns(const struct awk_token *t)
{
    static const char *const all[] = {"=", "+=", "-=", "*=", "/=", "%=", "^="};
    return AWK_AMONG(t, all);
}

bool split_awk_function(const struct awk_token *t)
{
    static const char *const functions[] = {"length", "substr",  "index",   "split",   "sub", "gsub",
                                            "match",  "sprintf", "tolower", "toupper", "int", "sin",
                                            "cos",    "atan2",   "exp",     "log",     "sqrt"};
    return AWK_AMONG(t, functions);
}

/* Is the name at token i changed here? */
static bool changed_at(const struct awk *a, uint32_t i)
{
    const struct awk_token *t = a->token;
    uint32_t behind = i + 1;
    if (behind < a->count && awk_is(&t[behind], "["))
        behind = awk_closed(a, behind);
    if (behind < a->count && (assigns(&t[behind]) || awk_is(&t[behind], "++") || awk_is(&t[behind], "--")))
        return true;
    return i > 0 && (awk_is(&t[i - 1], "++") || awk_is(&t[i - 1], "--"));
}

/* Is token i an argument of a call of this function?  `from`: the first token of the action. */
static bool argument_of(const struct awk *a, uint32_t i, uint32_t from, const char *function)
{
    for (uint32_t k = i; k > from; k--)
        if (awk_is(&a->token[k - 1], function) && awk_is(&a->token[k], "(") && awk_closed(a, k) > i)
            return true;
    return false;
}

/* The functions split, sub and gsub set their arguments. */
static bool filled_at(const struct awk *a, uint32_t i, uint32_t from)
{
    return argument_of(a, i, from, "split") || argument_of(a, i, from, "sub") ||
           argument_of(a, i, from, "gsub");
}

void split_awk_marks(struct awk *a)
{
    for (uint32_t i = 0; i < a->rules; i++) {
        const struct awk_rule *r = &a->rule[i];
        for (uint32_t k = r->pattern; k < r->action_end && !awk_is_rule(a, r, "BEGIN"); k++)
            a->token[k].changed =
                a->token[k].kind == AWK_NAME && (changed_at(a, k) || filled_at(a, k, r->pattern));
    }
}

static bool changes(const struct awk *a, const struct awk_token *name)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (a->token[i].changed && awk_same(&a->token[i], name))
            return true;
    return false;
}

/* Does the first use of the name in the action set it, on every path? */
static bool set_first(const struct awk *a, const struct awk_rule *r, uint32_t use)
{
    static const char *const ways[] = {"if", "else", "while", "do",    "?",       "&&",
                                       "||", "in",   "next",  "break", "continue"};
    const struct awk_token *t = a->token, *name = &t[use];
    bool in_for = false;
    for (uint32_t i = r->action; i < r->action_end; i++) {
        if (AWK_AMONG(&t[i], ways))
            return false;
        if (awk_is(&t[i], "for"))
            in_for = true;
        if (in_for && awk_is(&t[i], ";"))
            return false; /* what follows this part may never run */
        if (!awk_same(&t[i], name))
            continue;
        /* either `x = ...` where the value does not use x, or `split(..., x` */
        bool plain = i + 1 < r->action_end && awk_is(&t[i + 1], "=");
        if (!plain)
            return i + 1 < r->action_end && argument_of(a, i, r->action, "split") &&
                   awk_is(&t[i - 1], ",") && (awk_is(&t[i + 1], ",") || awk_is(&t[i + 1], ")")) &&
                   !argument_of(a, i, r->action, "sub") && !argument_of(a, i, r->action, "gsub");
        for (uint32_t k = i + 2; k < r->action_end && !awk_is(&t[k], ";") && t[k].kind != AWK_NEWLINE; k++)
            if (awk_same(&t[k], name))
                return false;
        return true;
    }
    return false;
}

/* ---- NR ---------------------------------------------------------------------------------- */

static bool small_number(const struct awk_token *t, uint64_t *out)
{
    char *end;
    if (t->kind != AWK_NUMBER || t->size > 7)
        return false;
    *out = strtoull(t->text, &end, 10);
    return end == t->text + t->size && *out <= NUMBER_MAX;
}

static bool compares(const struct awk_token *t)
{
    static const char *const all[] = {"==", "!=", "<", "<=", ">", ">="};
    return AWK_AMONG(t, all);
}

/* May an expression begin or end here beside a comparison? */
static bool edge(const struct awk *a, const struct awk_rule *r, uint32_t i)
{
    static const char *const all[] = {"&&", "||", "(", ")", "{", "}", ";", "!"};
    const struct awk_token *t = &a->token[i];
    return i < r->pattern || i >= r->action_end || t->kind == AWK_NEWLINE || AWK_AMONG(t, all) ||
           i == r->pattern_end;
}

/* Is the NR at i one of the three allowed uses? */
static bool line_number(struct awk *a, const struct awk_rule *r, uint32_t i)
{
    const struct awk_token *t = a->token;
    uint64_t n;
    if (i + 2 < a->count && awk_is(&t[i + 1], "%") && small_number(&t[i + 2], &n) && n > 0) {
        uint64_t x = a->step ? a->step : 1, y = n;
        while (y) {
            uint64_t mod = x % y;
            x = y;
            y = mod;
        }
        a->step = (a->step ? a->step : 1) / x * n;
        return a->step <= NUMBER_MAX ? true : awk_fails(a, "its steps meet very late");
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
    if (i > 0 && awk_is(&t[i - 1], "print")) {
        a->numbers = true;
        const struct awk_token *next = i + 1 < r->action_end ? &t[i + 1] : NULL;
        bool good =
            !next || next->kind == AWK_NEWLINE || awk_is(next, ",") || awk_is(next, ";") || awk_is(next, "}") ||
            (next->kind == AWK_STRING && next->size > 2 && !isdigit((unsigned char)next->text[1]) &&
             (next->text[1] != '\\' || next->text[2] == 't'));
        if (good)
            return true;
    }
    return awk_fails_at(a, &t[i], "counts lines");
}

/* ---- what a rule does -------------------------------------------------------------------- */

/* Does print write to a file or command?  That is, is there a `>` or `|` outside of brackets? */
static bool prints_elsewhere(const struct awk *a, uint32_t i, uint32_t end)
{
    for (i++; i < end && a->token[i].kind != AWK_NEWLINE && !awk_is(&a->token[i], ";") &&
              !awk_is(&a->token[i], "}");) {
        if (awk_is(&a->token[i], ">") || awk_is(&a->token[i], ">>") || awk_is(&a->token[i], "|"))
            return true;
        i = awk_is(&a->token[i], "(") || awk_is(&a->token[i], "[") ? awk_closed(a, i) : i + 1;
    }
    return false;
}

/* An exit is allowed in an action that runs at a line number or after one: no output follows it. */
static bool may_exit(struct awk *a, const struct awk_rule *r, uint32_t i)
{
    const struct awk_token *t = &a->token[r->pattern];
    uint64_t n;
    bool at_line = r->pattern_end == r->pattern + 3 && awk_is(&t[0], "NR") && small_number(&t[2], &n) &&
                   n > 0 && (awk_is(&t[1], "==") || awk_is(&t[1], ">") || awk_is(&t[1], ">="));
    for (uint32_t k = r->action; k < i; k++)
        at_line = at_line && !awk_is(&a->token[k], "if") && !awk_is(&a->token[k], "while") &&
                  !awk_is(&a->token[k], "for") && !awk_is(&a->token[k], "next") && !awk_is(&a->token[k], "?");
    bool plain = i + 1 >= r->action_end || awk_is(&a->token[i + 1], ";") || awk_is(&a->token[i + 1], "}") ||
                 a->token[i + 1].kind == AWK_NEWLINE;
    a->stops = a->stops || (at_line && plain);
    return at_line && plain ? true : awk_fails(a, "it may end at any line");
}

static bool name(struct awk *a, const struct awk_rule *r, uint32_t i, bool files)
{
    const struct awk_token *t = &a->token[i];
    bool call = i + 1 < a->count && awk_is(&a->token[i + 1], "(");
    if (awk_is(t, "print") || awk_is(t, "printf")) {
        a->joined = a->joined || awk_is(t, "printf");
        return prints_elsewhere(a, i, r->action_end) ? awk_fails(a, "it prints to files") : true;
    }
    if (awk_is(t, "exit"))
        return may_exit(a, r, i);
    if (AWK_AMONG(t, words))
        return true;
    if (split_awk_function(t))
        return true;
    if (awk_is(t, "NR") || (awk_is(t, "FNR") && !files))
        return changed_at(a, i) ? awk_fails_at(a, t, "is changed") : line_number(a, r, i);
    if (AWK_AMONG(t, readable))
        return awk_is(t, "NF") || !changed_at(a, i) ? true : awk_fails_at(a, t, "is changed");
    bool upper = true;
    for (size_t k = 0; k < t->size; k++)
        upper = upper && !islower((unsigned char)t->text[k]);
    if (call || (upper && t->size > 1) || awk_is(t, "getline") || awk_is(t, "function") || awk_is(t, "func") ||
        awk_is(t, "delete") || awk_is(t, "nextfile") || awk_is(t, "return") || awk_is(t, "in") || awk_is(t, "switch"))
        return awk_fails_at(a, t, "is not one of those that can be cut");
    if (!changes(a, t))
        return true; /* a constant */
    return i >= r->action && set_first(a, r, i)
               ? true
               : awk_fails_at(a, t, "may keep something from line to line");
}

bool split_awk_rule(struct awk *a, const struct awk_rule *r, bool files)
{
    for (uint32_t i = r->pattern; i < r->action_end; i++) {
        const struct awk_token *t = &a->token[i];
        if (awk_is(t, "|") || (t->kind == AWK_PUNCTUATION && awk_is(t, ">>")))
            return awk_fails(a, "it writes to programs or files");
        if (t->kind == AWK_NAME && !name(a, r, i, files))
            return false;
    }
    return true;
}

/* Is it BEGIN { NAME = constant; ... }, which is the same in every block? */
static bool begins(struct awk *a, const struct awk_rule *r)
{
    const struct awk_token *t = a->token;
    for (uint32_t i = r->action; i < r->action_end; i++) {
        if (t[i].kind == AWK_NEWLINE || awk_is(&t[i], ";"))
            continue;
        if (i + 2 >= r->action_end || t[i].kind != AWK_NAME || !awk_is(&t[i + 1], "="))
            return awk_fails(a, "its BEGIN does more than set names");
        if (awk_is(&t[i], "RS") || awk_is(&t[i], "NR") || awk_is(&t[i], "FNR"))
            return awk_fails_at(a, &t[i], "is changed");
        a->joined = a->joined || awk_is(&t[i], "ORS");
        for (i += 2; i < r->action_end && awk_is(&t[i], "="); i++)
            return awk_fails(a, "its BEGIN does more than set names");
        if (awk_is(&t[i], "OFS") && i + 1 < r->action_end && awk_is(&t[i + 1], "=")) /* as in FS = OFS = "x" */
            i += 2;
        if (i >= r->action_end || (t[i].kind != AWK_STRING && t[i].kind != AWK_NUMBER))
            return awk_fails(a, "its BEGIN does more than set names");
    }
    return true;
}

bool split_awk_plain(const struct awk_token *t)
{
    for (size_t i = 0; i + 1 < t->size; i++)
        if (t->text[i] == '\\' && t->text[++i] != 't')
            return false;
    return true;
}

/* Numbers at the beginning of lines are corrected later, so all output must be such lines. */
static bool all_numbered(struct awk *a, const struct split_case *c)
{
    for (uint32_t i = 0; i < a->count; i++) {
        const struct awk_token *t = &a->token[i];
        bool print = awk_is(t, "print");
        if (print &&
            !(i + 1 < a->count && (awk_is(&a->token[i + 1], "NR") || awk_is(&a->token[i + 1], "FNR"))))
            return false;
        if (awk_is(t, "printf") || awk_is(t, "OFS") || awk_is(t, "ORS") || awk_is(t, "FS") ||
            (t->kind == AWK_STRING && !split_awk_plain(t)))
            return false;
    }
    for (uint32_t i = 0; i < a->rules; i++)
        if (!a->rule[i].braces)
            return false;
    return !split_has(c, "-v");
}

/* ---- the class --------------------------------------------------------------------------- */

/* The blocks after the first one get the number of their first line by -v NR. */
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
        if (awk_is_rule(a, &a->rule[i], "END"))
            return awk_fails(a, "its END knows all lines");
    split_awk_marks(a);
    for (uint32_t i = 0; i < a->rules; i++) {
        const struct awk_rule *r = &a->rule[i];
        bool begin = awk_is_rule(a, r, "BEGIN");
        if (begin ? !begins(a, r) : !split_awk_rule(a, r, c->file_count > 1))
            return false;
        records = records || !begin;
    }
    return records ? true : awk_fails(a, "it reads nothing");
}

static int classify(struct split_case *c, struct awk *a)
{
    int known = split_awk_whole(c, a);
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
        fnr = fnr || awk_is(&a->token[i], "FNR");
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
    int r = awk_read_tokens(a) && awk_read_rules(a) ? classify(c, a) : split_whole(c, "%s", a->bad);
    free(a);
    return r;
}
