/* See parse.h.  The parser looks one token ahead.  It goes back in three places, marked R as in the grammar: when a line of
 * assignments or of settings turns out to be a command, and when a pipeline turns out to be a list for sh.  What depends on
 * the file system or on parameters is left to resolve.c. */
#include "dsl/parse.h"
#include "dsl/dsl.h"
#include "proto/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tokens ------------------------------------------------------------------------------ */

int parse_advance(struct parser *p)
{
    if (p->t.kind != TOKEN_NEWLINE)
        p->last = p->t.end;
    return lex_next(&p->lex, &p->t);
}

bool parse_op(const struct parser *p, const char *op)
{
    return p->t.kind == TOKEN_OPERATOR && strcmp(p->t.op, op) == 0;
}

bool parse_word(const struct parser *p, const char *word)
{
    return p->t.kind == TOKEN_WORD && word_is(p->t.word, word);
}

int parse_set_back(struct parser *p, struct lex_mark mark)
{
    lex_reset(&p->lex, mark);
    return lex_next(&p->lex, &p->t);
}

int parse_skip_lines(struct parser *p)
{
    while (p->t.kind == TOKEN_NEWLINE)
        if (parse_advance(p) < 0)
            return -1;
    return 0;
}

void *parse_make(struct parser *p, size_t size)
{
    void *at = arena_alloc(p->arena, size);
    if (!at)
        text_fail(p->text, p->t.start, p->e, NULL, "there is no memory to read further");
    return at;
}

const char *parse_shown(const struct parser *p, int *size)
{
    *size = (int)(p->t.end - p->t.start > 60 ? 60 : p->t.end - p->t.start);
    return p->text->data + p->t.start;
}

char *parse_literal(struct parser *p, const struct word *w)
{
    char *text = word_literal(w, p->arena);
    return text ? text : arena_string(p->arena, "");
}

/* ---- settings ---------------------------------------------------------------------------- */

/* setting = a word NAME=VALUE; the names are checked by resolve.c */
int parse_settings(struct parser *p, struct setting **out)
{
    while (p->t.kind == TOKEN_WORD && p->t.word->assign) {
        struct setting *s = parse_make(p, sizeof *s);
        if (!s)
            return -1;
        s->word = p->t.word;
        *out = s;
        out = &s->next;
        if (parse_advance(p) < 0)
            return -1;
    }
    return 0;
}

/* ---- simple commands --------------------------------------------------------------------- */

/* subst = ( "<(" | ">(" ) nls pipeline nls ")" */
static int parse_subst(struct parser *p, struct context c, struct item **out)
{
    struct item *item = parse_make(p, sizeof *item);
    struct context inner = {.close = ')', .body = c.body, .depth = c.depth + 1};
    if (!item)
        return -1;
    *item = (struct item){.kind = ITEM_SUBST, .out = parse_op(p, ">("), .at = p->t.start};
    if (inner.depth > DSL_DEPTH_MAX)
        return FAIL(p, p->t.start, NULL, "this is more than %d deep", DSL_DEPTH_MAX);
    const char *op = p->t.op;
    if (parse_advance(p) < 0 || parse_pipeline(p, inner, &item->pipeline) < 0)
        return -1;
    if (!parse_op(p, ")"))
        return FAIL(p, item->at, NULL, "this `%s` has no `)`", op);
    *out = item;
    return parse_advance(p);
}

static int check_program(struct parser *p, const struct word *w)
{
    static const char *const refused[] = {"sudo", "doas", "su"};
    char *text = word_literal(w, p->arena);
    for (size_t i = 0; text && i < sizeof refused / sizeof *refused; i++)
        if (strcmp(text, refused[i]) == 0)
            return FAIL(p, w->start,
                        "nothing in a sandbox has more rights than another; leave the word out",
                        "zpipe does not run `%s`", text);
    return 0;
}

/* Add a word to a simple command; the first that is no assignment is the command's name. */
static int take_word(struct parser *p, struct context c, struct stage *s, struct item ***last,
                     bool *named)
{
    struct word *w = p->t.word;
    if (c.loose && *named && word_is(w, "merge"))
        return FAIL(p, p->t.start, "put { } round the command: map { … } merge …",
                    "`merge` here would be an argument of the mapped command");
    if (parse_advance(p) < 0)
        return -1;
    s->end = w->end;
    if (!*named && !s->command && word_is(w, "command")) {
        s->command = true;
        return 0;
    }
    const char *first = w->part ? w->part->text.data : "";
    if (!*named && s->command && first[0] == '-' && !s->odd) {
        s->odd = "command -";
        s->odd_at = s->start;
    }
    struct item *item = parse_make(p, sizeof *item);
    if (!item)
        return -1;
    bool assign = !*named && !s->command && w->assign;
    *item = (struct item){.kind = assign ? ITEM_ASSIGN : ITEM_WORD, .word = w, .at = w->start};
    **last = item;
    *last = &item->next;
    if (w->odd && !s->odd) {
        s->odd = w->odd;
        s->odd_at = w->odd_at;
    }
    if (assign || *named)
        return 0;
    *named = true;
    return check_program(p, w);
}

static int take_redir(struct parser *p, struct stage *s, struct redir ***last)
{
    const char *odd = NULL;
    size_t at = p->t.start;
    if (parse_redir(p, *last, &odd) < 0)
        return -1;
    struct redir *r = **last;
    const struct word *body = r->here ? r->here->body : NULL;
    const struct word *w = body ? body : r->here ? NULL : r->word;
    *last = &r->next;
    s->end = r->end;
    if (!odd && w && w->odd) {
        odd = w->odd;
        at = w->odd_at;
    }
    if (odd && !s->odd) {
        s->odd = odd;
        s->odd_at = at;
    }
    return 0;
}

static bool touches_word(const struct parser *p)
{
    /* `--file=<(x)`: one word for bash */
    size_t at = p->t.start;
    return p->t.tight && at > 0 && !strchr("<>|&;()", p->text->data[at - 1]);
}

static int take_subst(struct parser *p, struct context c, struct stage *s, struct item ***last)
{
    size_t at = p->t.start;
    const char *op = p->t.op;
    bool glued = at > s->start && touches_word(p);
    if (parse_subst(p, c, *last) < 0)
        return -1;
    (**last)->end = s->end = p->last;
    *last = &(**last)->next;
    glued = glued || (p->t.tight && p->t.kind == TOKEN_WORD);
    if (glued && !s->odd) {
        s->odd = op;
        s->odd_at = at;
    }
    return 0;
}

/* simple = { ASSIGN | redir } [ "command" ] { WORD | subst | redir } */
static int parse_simple(struct parser *p, struct context c, struct stage *s)
{
    struct item **item = &s->item;
    struct redir **redir = &s->redir;
    bool named = false;
    s->kind = STAGE_SIMPLE;
    for (;;) {
        int result;
        if (p->t.kind == TOKEN_WORD && !(c.close == '}' && parse_word(p, "}")))
            result = take_word(p, c, s, &item, &named);
        else if (parse_at_redir(p))
            result = take_redir(p, s, &redir);
        else if (parse_op(p, "<(") || parse_op(p, ">("))
            result = take_subst(p, c, s, &item), named = true;
        else
            return 0;
        if (result < 0)
            return -1;
    }
}

/* compound { redir } */
static int parse_compound(struct parser *p, struct context c, struct stage *s)
{
    const char *at = p->text->data + p->t.start;
    size_t size = p->t.end - p->t.start;
    s->kind = STAGE_OPAQUE;
    s->odd = arena_bytes(p->arena, at, size);
    s->odd_at = s->start;
    if (!s->odd)
        return FAIL(p, s->start, NULL, "there is no memory to read further");
    if (shape_compound(p, c.depth + 1, &s->end) < 0)
        return -1;
    struct redir **redir = &s->redir;
    const char *odd = NULL;
    size_t odd_at, end = s->end;
    if (parse_redirs(p, redir, &odd, &odd_at, &end) < 0)
        return -1;
    for (struct redir *r = s->redir; r; r = r->next)
        if (r->word && r->word->odd)
            odd = r->word->odd;
    if (odd) { /* then sh carries out all redirections of the stage */
        s->end = end;
        s->redir = NULL;
    }
    return 0;
}

/* ---- stages ------------------------------------------------------------------------------ */

static struct definition *find_definition(const struct parser *p)
{
    struct definition *found = NULL;
    for (struct definition *d = p->tree->definition; d; d = d->next)
        if (d->pipeline && parse_word(p, d->name))
            found = d;
    return found;
}

/* A name, used like a program without arguments. */
static int parse_name(struct parser *p, struct context c, struct stage *s, struct definition *d)
{
    s->kind = STAGE_NAME;
    s->definition = d;
    s->end = p->t.end;
    if (parse_advance(p) < 0 || parse_outer_redirs(p, s) < 0)
        return -1;
    if (p->t.kind == TOKEN_WORD && !(c.close == '}' && parse_word(p, "}")))
        return FAIL(p, p->t.start, NULL, "`%s` takes no arguments", d->name);
    return 0;
}

static int fail_no_stage(struct parser *p, struct context c)
{
    int size;
    const char *text = parse_shown(p, &size), *s = p->text->data;
    size_t before = p->last ? p->last - 1 : 0;
    if (p->text->job && c.close == '\n' && parse_op(p, "|"))
        return FAIL(p, p->t.start,
                    "end the line before with `|`: the pipeline then goes on to this one",
                    "a pipeline cannot begin with `|`");
    if (parse_op(p, "|") && p->last && s[before] == '|')
        return FAIL(p, p->t.start, "did you mean `||`?",
                    "there is no command between these two bars");
    if (parse_op(p, "&>") || parse_op(p, "&>>"))
        return FAIL(p, p->t.start, "write `> FILE 2>&1`", "sh and bash read `%s` differently",
                    p->t.op);
    if (p->t.kind == TOKEN_END || p->t.kind == TOKEN_NEWLINE || parse_word(p, "}"))
        return FAIL(p, before, NULL,
                    p->last ? "there is no command after this" : "there is nothing to run");
    return FAIL(p, p->t.start, NULL, "there is no command before this `%.*s`", size, text);
}

typedef int stage_parser(struct parser *p, struct context c, struct stage *s);

static const struct {
    const char *word;
    stage_parser *parse;
} own_words[] = {{"with", parse_with}, {"map", parse_map}, {"reduce", parse_reduce}};

static int own_word(struct parser *p, struct context c, struct stage *s, bool *was)
{
    for (size_t i = 0; i < sizeof own_words / sizeof *own_words; i++) {
        if (!parse_word(p, own_words[i].word))
            continue;
        *was = true;
        p->word = own_words[i].word;
        if (i > 0 && c.body) {
            char hint[80];
            snprintf(hint, sizeof hint, "end the body before it: %s { … } | %s …",
                     strcmp(c.body, "merge") == 0 ? "map" : c.body, p->word);
            return FAIL(p, p->t.start, hint, "`%s` cannot stand inside the body of `%s`", p->word,
                        c.body);
        }
        return own_words[i].parse(p, c, s);
    }
    return 0;
}

/* stage = with | map | reduce | compound { redir } | simple */
int parse_stage(struct parser *p, struct context c, struct stage **out)
{
    struct stage *s = parse_make(p, sizeof *s);
    bool was = false;
    if (!s)
        return -1;
    s->start = s->end = p->t.start;
    s->separator_byte = -1;
    *out = s;
    if (own_word(p, c, s, &was) < 0)
        return -1;
    if (was)
        return 0;
    if (shape_starts_compound(p))
        return parse_compound(p, c, s);
    struct definition *d = find_definition(p);
    if (d)
        return parse_name(p, c, s, d);
    if (parse_word(p, "merge"))
        return FAIL(p, p->t.start, "for a program of that name write `command merge`",
                    "`merge` belongs behind a block: map { … } merge …");
    if (parse_word(p, "!"))
        return FAIL(p, p->t.start, NULL, "`!` stands at the start of a pipeline only");
    if (parse_simple(p, c, s) < 0)
        return -1;
    return s->item || s->redir || s->command ? 0 : fail_no_stage(p, c);
}

/* ---- pipelines --------------------------------------------------------------------------- */

/* [ "time" [ "-p" ] ] [ "!" ] */
static int parse_prefix(struct parser *p, struct pipeline *l)
{
    if (parse_word(p, "time")) {
        l->timed = true;
        if (parse_advance(p) < 0)
            return -1;
        l->timed_posix = parse_word(p, "-p");
        if (l->timed_posix && parse_advance(p) < 0)
            return -1;
    }
    l->negate = parse_word(p, "!");
    return l->negate ? parse_advance(p) : 0;
}

/* Does the pipeline end at this token?  If not, only sh can read on. */
static bool pipeline_ends(const struct parser *p, struct context c)
{
    switch (c.close) {
    case '}':
        return parse_word(p, "}") || p->t.kind == TOKEN_END;
    case ')':
        return parse_op(p, ")") || p->t.kind == TOKEN_END;
    case '\n':
        return p->t.kind == TOKEN_NEWLINE || p->t.kind == TOKEN_END;
    default:
        return p->t.kind == TOKEN_END;
    }
}

static int fail_mixed(struct parser *p, const struct token *t)
{
    int size = (int)(t->end - t->start);
    const char *text = p->text->data + t->start;
    bool line = t->kind == TOKEN_NEWLINE;
    return FAIL(p, t->start, "run two jobs, or write one statement per line in a job file",
                "%s%.*s%s needs sh and `%s` needs zpipe: they cannot be in one pipeline",
                line ? "a second line" : "`", line ? 0 : size, text, line ? "" : "`", p->word);
}

/* R: go back to the pipeline's start and read it as a list for sh. */
static int reread_as_list(struct parser *p, struct context c, struct lex_mark mark,
                          const struct token *at, struct pipeline *l)
{
    if (p->word)
        return fail_mixed(p, at);
    struct stage *s = parse_make(p, sizeof *s);
    if (!s)
        return -1;
    const char *sign = at->kind == TOKEN_NEWLINE
                           ? "\\n"
                           : arena_bytes(p->arena, p->text->data + at->start, at->end - at->start);
    *s = (struct stage){
        .kind = STAGE_OPAQUE, .odd = sign, .odd_at = at->start, .separator_byte = -1};
    if (!sign)
        return FAIL(p, at->start, NULL, "there is no memory to read further");
    if (parse_set_back(p, mark) < 0)
        return -1;
    s->start = p->t.start;
    if (shape_list(p, c, &s->end) < 0)
        return -1;
    *l = (struct pipeline){.stage = s, .start = s->start, .end = s->end};
    return 0;
}

static int parse_stages(struct parser *p, struct context c, struct pipeline *l)
{
    for (struct stage **last = &l->stage;; last = &(*last)->next) {
        if (parse_stage(p, c, last) < 0)
            return -1;
        l->end = (*last)->end;
        (*last)->join = parse_op(p, "|&");
        if (!(*last)->join && !parse_op(p, "|"))
            return 0;
        size_t bar = p->t.start;
        if (parse_advance(p) < 0 || parse_skip_lines(p) < 0)
            return -1;
        if (p->t.kind == TOKEN_END || (c.close == '}' && parse_word(p, "}")))
            return FAIL(p, bar, NULL, "there is no command after this bar");
    }
}

/* pipeline = [ "time" [ "-p" ] ] [ "!" ] stage { ( "|" | "|&" ) nls stage } | list */
int parse_pipeline(struct parser *p, struct context c, struct pipeline **out)
{
    struct pipeline *l = parse_make(p, sizeof *l);
    const char *word = p->word;
    if (!l)
        return -1;
    *out = l;
    if (c.close != '\n' && parse_skip_lines(p) < 0)
        return -1;
    struct lex_mark mark = p->t.mark;
    l->start = p->t.start;
    p->word = NULL;
    c.loose = false;
    if (parse_prefix(p, l) < 0 || parse_stages(p, c, l) < 0)
        return -1;
    struct token stop = p->t; /* the token at which only sh might read on */
    if (c.close != '\n' && parse_skip_lines(p) < 0)
        return -1;
    if (pipeline_ends(p, c)) {
        p->word = p->word ? p->word : word;
        return 0;
    }
    if (parse_op(p, ")") && c.close != ')')
        return FAIL(p, p->t.start, NULL, "this `)` has no `(`");
    if (parse_op(p, "&>") || parse_op(p, "&>>"))
        return FAIL(p, p->t.start, "write `> FILE 2>&1`", "sh and bash read `%s` differently",
                    p->t.op);
    if (stop.kind == TOKEN_WORD || stop.kind == TOKEN_NUMBER ||
        (stop.kind == TOKEN_OPERATOR && strpbrk(stop.op, "<>") != NULL))
        return FAIL(p, stop.start, NULL, "the command before this has ended: `|` is missing");
    if (reread_as_list(p, c, mark, &stop, l) < 0)
        return -1;
    p->word = word;
    if (parse_op(p, ")") && c.close != ')')
        return FAIL(p, p->t.start, NULL, "this `)` has no `(`");
    return 0;
}
