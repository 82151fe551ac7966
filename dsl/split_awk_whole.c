/* Awk programs of known forms that keep something from line to line: sums, first lines of their kind, counts by keys.  The
 * blocks run another program, and a third program combines what they print. */
#include "dsl/split_awk.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Do the tokens from i to end have this form?  Its parts have a blank between them; N: a name, F: a field. */
static bool range_like(const struct awk *a, uint32_t i, uint32_t end, const char *form)
{
    const struct awk_token *bound = NULL;
    while (*form) {
        size_t size = strcspn(form, " ");
        if (i >= end)
            return false;
        const struct awk_token *t = &a->token[i++];
        if (size == 1 && *form == 'N') {
            if (t->kind != AWK_NAME || (bound && !awk_same(bound, t)))
                return false;
            bound = t;
        } else if (size == 1 && *form == '9') {
            if (t->kind != AWK_NUMBER)
                return false;
        } else if (t->size != size || memcmp(t->text, form, size) != 0 || t->kind == AWK_STRING) {
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

/* May this text be part of what the END of a sum prints?  Marks begin with an equal sign, so no line of its own may. */
static bool shows_text(const struct awk_token *t, bool format)
{
    size_t end = t->size - 1;
    if (format && (t->size < 4 || memcmp(t->text + t->size - 3, "\\n", 2) != 0))
        return false;
    end -= format ? 2 : 0;
    for (size_t i = 1; i < end; i++) {
        if (t->text[i] == '=' || (t->text[i] == '\\' && t->text[++i] != 't'))
            return false;
        if (!format || t->text[i] != '%')
            continue;
        for (i++; i < end && strchr("-0123456789.", t->text[i]);)
            i++;
        if (i >= end || !strchr("sdifg%", t->text[i]))
            return false;
    }
    return true;
}

/* Is it one `print` or `printf` of a line that is made of the sum and of constants only? */
static bool shows_sum(const struct awk *a, const struct awk_rule *end, const struct awk_token *sum)
{
    static const char *const signs[] = {"(", ")", ",", "+", "-", "*", "/", "%"};
    const struct awk_token *t = a->token;
    uint32_t i = end->action, last = end->action_end;
    while (last > i && (awk_is(&t[last - 1], ";") || t[last - 1].kind == AWK_NEWLINE))
        last--;
    bool format = i < last && awk_is(&t[i], "printf");
    if (i >= last || !(format || awk_is(&t[i], "print")) || last - i < 2)
        return false;
    i += 1 + (format && awk_is(&t[i + 1], "("));
    if (format && (i >= last || t[i].kind != AWK_STRING))
        return false;
    for (bool first = format; i < last; i++, first = false)
        if (t[i].kind == AWK_STRING ? !shows_text(&t[i], first)
            : t[i].kind == AWK_NAME ? !awk_same(&t[i], sum) && !awk_is(&t[i], "int")
                                    : t[i].kind != AWK_NUMBER && !AWK_AMONG(&t[i], signs))
            return false;
    return true;
}

/* { N += $9 } END { print N / 2, "x" }, { N++ } ..., perhaps with a pattern.  *what: what a line adds. */
static bool adds_up(struct awk *a, const struct split_case *c, struct awk_token *what)
{
    static const char *const sums[] = {"N += $ 9", "N += $ NF", "N ++"};
    if (a->rules != 2 || !awk_is_rule(a, &a->rule[1], "END") || !only_separator(c))
        return false;
    const struct awk_rule *r = &a->rule[0], *end = &a->rule[1];
    const struct awk_token *sum = &a->token[r->action];
    bool good = false;
    for (size_t i = 0; i < 3; i++)
        if (range_like(a, r->action, r->action_end, sums[i])) {
            good = true;
            *what = i == 2 ? (struct awk_token){AWK_NUMBER, "1", 1, false} : sum[2];
            if (i < 2)
                what->size = (size_t)(sum[3].text + sum[3].size - sum[2].text);
        }
    if (!good || isupper((unsigned char)*sum->text) || !shows_sum(a, end, sum))
        return false;
    struct awk_rule pattern = *r;
    pattern.action = pattern.action_end = r->pattern_end;
    for (uint32_t i = r->pattern; i < r->pattern_end; i++)
        if (awk_same(&a->token[i], sum) || awk_is(&a->token[i], "NR") || awk_is(&a->token[i], "FNR"))
            return false;
    return split_awk_rule(a, &pattern, true);
}

/* Sums of whole numbers, as long as they are exact; otherwise a block, or the program that adds up the blocks, ends with 9.
 * (Four times 10^15 twice is still less than 2^53.)  A block's sum is marked.  If the command was run whole after all, what
 * it printed has no mark, may be rounded (1.3e+10), and is passed on as it is. */
static int sums(struct split_case *c, const struct awk *a, const struct awk_token *what)
{
    static const char check[] = "if (zp_s >= 4e15 || zp_s <= -4e15) exit 9";
    const struct awk_token *t = a->token;
    const struct awk_rule *r = &a->rule[0], *end = &a->rule[1];
    int pattern =
        (int)(r->pattern_end == r->pattern
                  ? 0
                  : t[r->pattern_end - 1].text + t[r->pattern_end - 1].size - t[r->pattern].text);
    const struct awk_token *sum = &t[r->action], *show = &t[end->action], *shown = &t[end->action_end - 1];
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX), again = BUF_INIT(GRAPH_BYTES_MAX);
    buf_printf(&b,
               "%.*s {zp_x = %.*s + 0; if (zp_x != int(zp_x)) exit 9; zp_s += zp_x; zp_n = 1; %s} "
               "END {if (zp_n) printf \"=%%.0f\\n\", zp_s}",
               pattern, t[r->pattern].text, (int)what->size, what->text, check);
    buf_printf(&again, "/^=/ {zp_s += substr($0, 2); %s; next} {zp_w = 1; print} END {if (!zp_w) {%.*s = zp_s; %.*s}}", check,
               (int)sum->size, sum->text, (int)(shown->text + shown->size - show->text), show->text);
    if (!b.failed && !again.failed) {
        c->s->block_argv = split_self(c, b.data, &c->s->block_argc);
        c->s->combine_argv = split_words(c, &c->s->combine_argc, c->n->argv[0], again.data, (const char *)NULL);
    }
    c->s->combine = GRAPH_COMBINE_RERUN;
    c->apart = true;
    bool good = c->s->block_argv && c->s->combine_argv;
    if (b.failed || again.failed)
        err_nomem(c->e);
    buf_clear(&b);
    buf_clear(&again);
    return good ? SPLIT_OK : SPLIT_FAILED;
}

/* ---- what is counted by keys ------------------------------------------------------------- */

/* Is its only reader a sort that gives the same output for its lines in any order?  (Lines that compare as equal are then
 * ordered by their bytes.) */
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

/* The print statement at i prints a line that is not empty, from the key and its number only. */
static bool shows_line(const struct awk *a, uint32_t i, uint32_t end, const struct awk_token *array)
{
    const struct awk_token *t = a->token;
    bool format = awk_is(&t[i], "printf"), shows = false;
    i += 1 + (format && awk_is(&t[i + 1], "("));
    if (format) { /* the format must end in \n and contain something that is always printed */
        const struct awk_token *f = &t[i];
        if (i >= end || f->kind != AWK_STRING || f->size < 5 || memcmp(f->text + f->size - 3, "\\n\"", 3) != 0)
            return false;
        for (size_t k = 1; k < f->size - 3; k++) {
            if (f->text[k] == '\\' && f->text[++k] != 't')
                return false;
            if (f->text[k] == '%' && f->text[k + 1] != 's' && f->text[k + 1] != 'd')
                return false;
            shows = shows || strchr(" ,:;|=t", f->text[k]);
            k += f->text[k] == '%';
        }
        return shows && i + 1 < end && awk_is(&t[i + 1], ",");
    }
    for (; i < end && t[i].kind != AWK_NEWLINE && !awk_is(&t[i], ";") && !awk_is(&t[i], "}"); i++) {
        if (split_awk_function(&t[i])) /* a function may return an empty string */
            i = awk_closed(a, i + 1) - 1;
        else
            shows = shows || awk_same(&t[i], array) || (t[i].kind == AWK_STRING && t[i].size > 2);
    }
    return shows;
}

/* for (K in N) ...: prints lines of K and N[K] only, each independent of the others. */
static bool shows_keys(const struct awk *a, const struct awk_rule *r, const struct awk_token *array)
{
    static const char *const fine[] = {"if", "else", "print", "printf", "substr", "length", "toupper", "tolower", "int", "index", "sprintf"};
    static const char *const signs[] = {"(", ")", "[", "]", "{", "}", ",", ";", "<", ">", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "&&", "||", "!"};
    const struct awk_token *t = a->token, *key = &t[r->action + 2];
    int depth = 0, prints = 0;
    if (r->action_end - r->action < 8 || !range_like(a, r->action, r->action + 2, "for (") || key->kind != AWK_NAME || awk_same(key, array) ||
        !awk_is(key + 1, "in") || !awk_same(key + 2, array) || !awk_is(key + 3, ")"))
        return false;
    for (uint32_t i = r->action + 6; i < r->action_end; i++) {
        bool print = awk_is(&t[i], "print") || awk_is(&t[i], "printf");
        depth += awk_is(&t[i], "(") - awk_is(&t[i], ")");
        if (t[i].kind == AWK_REGEX || (t[i].kind == AWK_PUNCTUATION && (!AWK_AMONG(&t[i], signs) || (awk_is(&t[i], ">") && !depth))))
            return false;
        if (t[i].kind == AWK_STRING && !(i && awk_is(&t[i - 1 - awk_is(&t[i - 1], "(")], "printf")) && !split_awk_plain(&t[i]))
            return false;
        if (print && !shows_line(a, i, r->action_end, array))
            return false;
        prints += print;
        if (awk_same(&t[i], array) && i + 3 < r->action_end && awk_is(&t[i + 1], "[") && awk_same(&t[i + 2], key) && awk_is(&t[i + 3], "]"))
            i += 3;
        else if (t[i].kind == AWK_NAME && !awk_same(&t[i], key) && !AWK_AMONG(&t[i], fine))
            return false;
        else if (awk_is(&t[i], "length") && (!awk_is(&t[i + 1], "(") || awk_is(&t[i + 2], ")"))) /* length of $0 */
            return false;
    }
    /* There must be one statement: what follows it would not be part of the loop. */
    bool block = awk_is(&t[r->action + 6], "{");
    if (awk_is(&t[r->action + 6], ";"))
        return false;
    uint32_t end = block ? awk_closed(a, r->action + 6) : r->action + 7;
    for (; !block && end < r->action_end && t[end].kind != AWK_NEWLINE && !awk_is(&t[end], ";"); end++)
        ;
    for (; end < r->action_end; end++)
        if (t[end].kind != AWK_NEWLINE && !awk_is(&t[end], ";"))
            return false;
    return prints;
}

/* { N[KEY]++ } or { N[KEY] += $9 }, perhaps with a pattern, and END { for (K in N) ... }.  *what: what a line adds; empty:
 * 1. */
static bool counts_keys(struct awk *a, struct awk_rule *r, struct awk_token *what)
{
    const struct awk_token *t = a->token, *array = &t[r->action];
    uint32_t bracket = r->action + 1, behind = bracket < r->action_end && awk_is(&t[bracket], "[") ? awk_closed(a, bracket) : 0;
    if (!behind || behind >= r->action_end || array->kind != AWK_NAME || isupper((unsigned char)*array->text))
        return false;
    while (r->action_end > behind && (awk_is(&t[r->action_end - 1], ";") || t[r->action_end - 1].kind == AWK_NEWLINE))
        r->action_end--;
    if (range_like(a, behind, r->action_end, "+= $ 9") || range_like(a, behind, r->action_end, "+= $ NF"))
        *what = (struct awk_token){AWK_NAME, t[behind + 1].text, (size_t)(t[behind + 2].text + t[behind + 2].size - t[behind + 1].text), false};
    else if (!range_like(a, behind, r->action_end, "++") && !range_like(a, behind, r->action_end, "+= 1"))
        return false;
    struct awk_rule key = *r, pattern = *r;
    key.pattern = key.pattern_end = key.action = bracket + 1;
    key.action_end = behind - 1;
    pattern.action = pattern.action_end = r->pattern_end;
    for (uint32_t i = r->pattern; i < behind; i++) {
        bool other = i < r->pattern_end || (i > bracket && i < behind - 1);
        if (other && (awk_same(&t[i], array) || awk_is(&t[i], "NR") || awk_is(&t[i], "FNR") || (t[i].kind == AWK_STRING && !split_awk_plain(&t[i]))))
            return false;
    }
    return key.action < key.action_end && split_awk_rule(a, &key, true) && split_awk_rule(a, &pattern, true);
}

/* Blocks print an empty line, how much they have added up, and then the number before each key, which is all that a line of it costs awk when they
 * are put together: there may be as many as the input has lines.  If the first line is not empty the command was run whole after all, and what it
 * printed is passed on: none of its own lines is empty. */
static int keys(struct split_case *c, struct awk *a)
{
    const struct awk_token *t = a->token;
    struct awk_rule r = a->rule[a->rules - 2], *end = &a->rule[a->rules - 1];
    struct awk_token what = {.kind = AWK_NUMBER, .text = ""};
    split_awk_marks(a);
    if (!counts_keys(a, &r, &what) || !shows_keys(a, end, &t[r.action]))
        return -2;
    if (!sorted_next(c))
        return split_whole(c, "the order of its keys is its own: `sort` behind it would let it be cut");
    const char *n = t[r.action].text, *first = t[r.pattern].text, *show = t[end->action].text;
    int n_size = (int)t[r.action].size, key_size = (int)(t[awk_closed(a, r.action + 1) - 1].text + 1 - n);
    int pattern = r.pattern_end == r.pattern ? 0 : (int)(t[r.pattern_end - 1].text + t[r.pattern_end - 1].size - first);
    int show_size = (int)(t[end->action_end - 1].text + t[end->action_end - 1].size - show);
    struct buf block = BUF_INIT(GRAPH_BYTES_MAX), again = BUF_INIT(GRAPH_BYTES_MAX);
    if (a->rules == 3) /* a rule BEGIN { FS = "x" } */
        buf_printf(&block, "BEGIN {FS = %.*s} ", (int)t[a->rule[0].action + 2].size, t[a->rule[0].action + 2].text);
    buf_printf(&block, "%.*s {", pattern, first);
    if (what.size)
        buf_printf(&block, "zp_x = %.*s + 0; if (zp_x != int(zp_x)) exit 9; zp_s += zp_x < 0 ? -zp_x : zp_x; ", (int)what.size, what.text);
    buf_printf(&block, "%.*s += %s} END {if (zp_s >= 4e15) exit 9; printf \"\\n%%.0f\\n\", %s; for (zp_k in %.*s) print sprintf(\"%%.0f \", %.*s[zp_k]) zp_k}",
               key_size, n, what.size ? "zp_x" : "1", what.size ? "zp_s" : "NR", n_size, n, n_size, n);
    buf_printf(&again,
               "!zp_b && (NR > 1 || $0 != \"\") {print; next} $0 == \"\" {zp_b = 1; getline; zp_s += $0; next} "
               "{%.*s[substr($0, index($0, \" \") + 1)] += $0} END {if (zp_s >= 4e15) exit 9; %.*s}",
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

/* Allowed are -F, one -v OFS=x, and before the two rules BEGIN { FS = "x" }. */
static bool may_count_keys(const struct awk *a, const struct split_case *c)
{
    unsigned given = 0;
    for (uint32_t i = 0; i < c->option_count; i++) {
        const char *v = c->option[i].value;
        bool ofs = strcmp(c->option[i].option->name[0], "-v") == 0 && v && strncmp(v, "OFS=", 4) == 0 && (!strchr(v, '\\') || strcmp(v, "OFS=\\t") == 0) &&
                   !strchr(v, '\n');
        given += ofs;
        if (!ofs && strcmp(c->option[i].option->name[0], "-F") != 0)
            return false;
    }
    const struct awk_rule *b = &a->rule[0], *last = &a->rule[a->rules - 1];
    if (given > 1 || a->rules < 2 || a->rules > 3 || !awk_is_rule(a, last, "END") || !a->rule[a->rules - 2].braces)
        return false;
    if (a->rules == 2)
        return !awk_is_rule(a, b, "BEGIN");
    uint32_t end = b->action_end;
    while (end > b->action && (awk_is(&a->token[end - 1], ";") || a->token[end - 1].kind == AWK_NEWLINE))
        end--;
    return awk_is_rule(a, b, "BEGIN") && end == b->action + 3 && range_like(a, b->action, end - 1, "FS =") && a->token[end - 1].kind == AWK_STRING;
}

int split_awk_whole(struct split_case *c, struct awk *a)
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
    struct awk_token what = {.kind = AWK_NUMBER, .text = ""};
    if (adds_up(a, c, &what))
        return sums(c, a, &what);
    int r = may_count_keys(a, c) ? keys(c, a) : -2;
    a->bad[0] = '\0';
    return r;
}
