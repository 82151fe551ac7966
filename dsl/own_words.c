/* See parse.h.  Parses zpipe's own words, `with`, `map` and `reduce`, and the bodies after them. */
#include "dsl/parse.h"

#include "dsl/dsl.h"
#include "proto/graph.h"
#include "proto/key.h"

#include <stdlib.h>
#include <string.h>

/* block = "{" nls pipeline nls "}" */
static int parse_block(struct parser *p, struct context c, const char *body, struct pipeline **out)
{
    struct context inner = {.close = '}', .body = body ? body : c.body, .depth = c.depth + 1};
    size_t at = p->t.start;
    if (inner.depth > DSL_DEPTH_MAX)
        return FAIL(p, at, NULL, "this is more than %d deep", DSL_DEPTH_MAX);
    if (parse_advance(p) < 0 || parse_skip_lines(p) < 0)
        return -1;
    if (parse_word(p, "}"))
        return FAIL(p, at, NULL, "there is no command in this block");
    if (p->t.kind == TOKEN_END)
        return FAIL(p, at, NULL, "this `{` has no `}`");
    if (parse_pipeline(p, inner, out) < 0)
        return -1;
    if (!parse_word(p, "}"))
        return FAIL(p, at, NULL, "this `{` has no `}`");
    return parse_advance(p);
}

/* Redirections at the end of an unbraced body belong to the whole stage: moves them from the body to it. */
static int lift_redirs(struct parser *p, const char *body, struct stage *from, struct stage *to)
{
    while (from->kind == STAGE_WITH && !from->braced)
        from = from->body->stage;
    if (from->kind == STAGE_SIMPLE && !from->item)
        return FAIL(p, from->start, NULL, "there is no command after this `%s`", body);
    if (from->kind == STAGE_SIMPLE) {
        size_t end = from->start;
        for (const struct item *i = from->item; i; i = i->next)
            end = i->word ? i->word->end : i->end;
        struct redir **r = &from->redir;
        while (*r && (*r)->at < end)
            r = &(*r)->next;
        for (const struct redir *o = *r; o; o = o->next)
            if (o->kind == REDIR_ODD || (!o->here && o->word->odd))
                return 0;
        to->redir = *r;
        *r = NULL;
        from->end = end;
        for (const struct redir *o = from->redir; o; o = o->next)
            if (o->end > from->end)
                from->end = o->end;
    } else {
        to->redir = from->redir;
        from->redir = NULL;
    }
    return 0;
}

/* Refuses a word that would end the block in which the canonical text puts the body. */
static int check_braces(struct parser *p, const struct stage *s)
{
    while (s->kind == STAGE_WITH && !s->braced)
        s = s->body->stage;
    for (const struct item *i = s->item; i && s->odd; i = i->next)
        if (i->word && word_is(i->word, "}"))
            return FAIL(p, i->at, "write '}' for the word", "this `}` ends no block");
    return 0;
}

/* Refuses `map {}` and `map {cat}`, which would be the name of a program.  A hole may be one: `map per file {}` runs its files. */
static int refuse_glued(struct parser *p, bool holes)
{
    int size;
    const char *text = parse_shown(p, &size);
    if (p->t.kind != TOKEN_WORD || *text != '{' || (holes && p->t.word->part->kind == PART_HOLE))
        return 0;
    return FAIL(p, p->t.start, "a body has a command in it and blanks round that, as in map { sort }", "`%.*s` is no body", size, text);
}

/* body = block | stage */
static int parse_body(struct parser *p, struct context c, const char *body, bool loose,
                      struct stage *s, struct pipeline **out)
{
    if (parse_word(p, "{"))
        return parse_block(p, c, body, out) < 0 ? -1 : (s->end = p->last, 0);
    if (refuse_glued(p, s->per_file && strcmp(body, "map") == 0) < 0)
        return -1;
    struct context inner = c;
    inner.body = body ? body : c.body;
    inner.loose = loose;
    inner.depth++;
    struct pipeline *one = parse_make(p, sizeof *one);
    if (!one)
        return -1;
    if (inner.depth > DSL_DEPTH_MAX)
        return FAIL(p, p->t.start, NULL, "this is more than %d deep", DSL_DEPTH_MAX);
    one->start = p->t.start;
    if (p->t.kind == TOKEN_END || p->t.kind == TOKEN_NEWLINE)
        return FAIL(p, s->start, NULL, "there is no command after this `%s`", body ? body : "with");
    if (parse_stage(p, inner, &one->stage) < 0)
        return -1;
    s->end = one->stage->end;
    one->end = s->end;
    *out = one;
    return body ? check_braces(p, one->stage) : 0;
}

/* with = "with" setting { setting } ( block { redir } | stage ) */
int parse_with(struct parser *p, struct context c, struct stage *s)
{
    s->kind = STAGE_WITH;
    if (parse_advance(p) < 0)
        return -1;
    if (p->t.kind != TOKEN_WORD || !p->t.word->assign)
        return FAIL(p, p->t.start, "for a program of that name write `command with`",
                    "`with` needs a setting here, as in with memory=2GiB");
    if (parse_settings(p, &s->setting) < 0)
        return -1;
    s->braced = parse_word(p, "{");
    if (parse_body(p, c, NULL, c.loose, s, &s->body) < 0)
        return -1;
    return s->braced ? parse_outer_redirs(p, s) : 0;
}

static bool parse_count(const struct word *w, uint64_t *out)
{
    const struct part *part = w->part;
    if (!part || part->next || part->kind != PART_BARE || part->text.size > 18)
        return false;
    const char *s = part->text.data;
    *out = 0;
    for (size_t i = 0; i < part->text.size; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(s[i] - '0');
    }
    return *out > 0;
}

static int fail_record(struct parser *p)
{
    int size;
    const char *text = parse_shown(p, &size);
    return FAIL(p, p->t.start,
                "as in by 4 lines, by 512 bytes, by paragraph, by start '>', by '\\0'",
                "`%.*s` is not a kind of record", size, text);
}

/* record = NUMBER ( "lines" | "bytes" ) | "paragraph" | "start" WORD | QUOTED */
static int parse_record(struct parser *p, struct stage *s)
{
    if (p->t.kind != TOKEN_WORD)
        return fail_record(p);
    const struct part *part = p->t.word->part;
    s->by = true;
    if (parse_count(p->t.word, &s->count)) {
        if (parse_advance(p) < 0)
            return -1;
        bool lines = parse_word(p, "lines");
        if (!lines && !parse_word(p, "bytes"))
            return fail_record(p);
        s->record = lines ? RECORD_LINES : RECORD_BYTES;
        return parse_advance(p);
    }
    if (parse_word(p, "paragraph")) {
        s->record = RECORD_PARAGRAPH;
        return parse_advance(p);
    }
    if (parse_word(p, "start")) {
        s->record = RECORD_START;
        if (parse_advance(p) < 0)
            return -1;
    } else if (part && part->kind == PART_QUOTED) {
        s->record = RECORD_END;
    } else {
        return fail_record(p);
    }
    if (p->t.kind != TOKEN_WORD || p->t.word->odd || !word_literal(p->t.word, p->arena) ||
        !*word_literal(p->t.word, p->arena) || parse_word(p, "{"))
        return fail_record(p);
    s->record_word = p->t.word;
    return parse_advance(p);
}

static int fail_brace(struct parser *p, size_t at, bool reduce)
{
    return FAIL(p, at,
                reduce ? "as in reduce by 1 -t , into 4 { … }; as a word of a command it is '{'"
                       : "as in map { … }, map per file { … } and map by 4 lines { … }; as a word of a command it is '{'",
                "this `{` begins no body");
}

/* Refuses `map per files { ... }` and `reduce by 1 into 4 -t , { ... }`: no program has such a name, and no program is given a `{`. */
static int refuse_brace(struct parser *p, const struct stage *body, bool reduce)
{
    const struct item *i = body && body->kind == STAGE_SIMPLE ? body->item : NULL;
    for (; i; i = i->next)
        if (i->word && word_is(i->word, "{"))
            return fail_brace(p, i->word->start, reduce);
    return 0;
}

/* map = "map" [ "per" "file" | "by" record ] ( block [ "merge" body ] | stage ) { redir } */
int parse_map(struct parser *p, struct context c, struct stage *s)
{
    s->kind = STAGE_MAP;
    if (parse_advance(p) < 0)
        return -1;
    if (parse_word(p, "per")) {
        struct lex_mark mark = p->t.mark;
        if (parse_advance(p) < 0)
            return -1;
        s->per_file = parse_word(p, "file");
        if ((s->per_file ? parse_advance(p) : parse_set_back(p, mark)) < 0)
            return -1;
    } else if (parse_word(p, "by") && (parse_advance(p) < 0 || parse_record(p, s) < 0)) {
        return -1;
    }
    bool braced = parse_word(p, "{");
    if (parse_body(p, c, "map", true, s, &s->body) < 0)
        return -1;
    if (!braced && (refuse_brace(p, s->body->stage, false) < 0 || lift_redirs(p, "map", s->body->stage, s) < 0))
        return -1;
    if (braced && parse_word(p, "merge")) {
        p->word = "merge";
        if (parse_advance(p) < 0)
            return -1;
        braced = parse_word(p, "{");
        if (parse_body(p, c, "merge", false, s, &s->merge) < 0)
            return -1;
        if (!braced && lift_redirs(p, "merge", s->merge->stage, s) < 0)
            return -1;
    }
    return parse_outer_redirs(p, s);
}

/* [ "-t" CHAR | "-t"CHAR ]: in both cases the result is the word that holds CHAR */
static int parse_separator(struct parser *p, struct stage *s)
{
    const struct part *part = p->t.kind == TOKEN_WORD ? p->t.word->part : NULL;
    if (!part || part->kind != PART_BARE || part->text.size < 2 ||
        memcmp(part->text.data, "-t", 2) != 0)
        return 0;
    struct word *w = p->t.word;
    if (part->text.size == 2 && !part->next) {
        if (parse_advance(p) < 0)
            return -1;
        w = p->t.kind == TOKEN_WORD ? p->t.word : NULL;
    } else {
        struct word *rest = parse_make(p, sizeof *rest);
        struct part *first = parse_make(p, sizeof *first);
        if (!rest || !first)
            return -1;
        *rest = *w;
        rest->start += 2;
        rest->part = part->next;
        if (part->text.size > 2) {
            *first = *part;
            first->text = (struct slice){(const char *)part->text.data + 2, part->text.size - 2};
            rest->part = first;
        }
        w = rest;
    }
    char *byte = w && !word_is(w, "{") ? word_literal(w, p->arena) : NULL;
    if (!byte || strlen(byte) != 1)
        return FAIL(p, w ? w->start : p->t.start, "as in -t, or -t $'\\t'", "-t takes one byte");
    s->separator = w;
    return parse_advance(p);
}

/* reduce = "reduce" "by" KEY [ "-t" CHAR | "-t"CHAR ] [ "into" NUMBER ] body { redir } */
int parse_reduce(struct parser *p, struct context c, struct stage *s)
{
    struct key parsed;
    struct err why;
    int size;
    s->kind = STAGE_REDUCE;
    s->into = 16;
    if (parse_advance(p) < 0)
        return -1;
    if (!parse_word(p, "by"))
        return FAIL(p, p->t.start, "as in reduce by 1 { … }", "`reduce` needs `by` and a key here");
    if (parse_advance(p) < 0)
        return -1;
    char *key = p->t.kind == TOKEN_WORD ? parse_literal(p, p->t.word) : NULL;
    if (!key || key_parse(key, -1, &parsed, &why) < 0) {
        const char *text = parse_shown(p, &size);
        return FAIL(p, p->t.start,
                    key && why.code == ERR_LIMIT
                        ? "these are too many fields and ranges"
                        : "fields as in cut -f: 1 or 1,3 or 2-4, or `line` for the whole line",
                    "`%.*s` is not a key", size, text);
    }
    s->key = p->t.word;
    if (parse_advance(p) < 0 || parse_separator(p, s) < 0)
        return -1;
    if (parse_word(p, "into")) {
        if (parse_advance(p) < 0)
            return -1;
        if (p->t.kind != TOKEN_WORD || !parse_count(p->t.word, &s->into) || s->into > GRAPH_INTO_MAX) {
            const char *text = parse_shown(p, &size);
            return FAIL(p, p->t.start, "from 1 to 65536", "`%.*s` is not a number of partitions",
                        size, text);
        }
        if (parse_advance(p) < 0)
            return -1;
    }
    bool braced = parse_word(p, "{");
    if (parse_body(p, c, "reduce", false, s, &s->body) < 0)
        return -1;
    if (!braced && (refuse_brace(p, s->body->stage, true) < 0 || lift_redirs(p, "reduce", s->body->stage, s) < 0))
        return -1;
    return parse_outer_redirs(p, s);
}
