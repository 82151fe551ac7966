/* What a text is made of above its pipelines: the statements of a job file, or one pipeline, with or without `:::` words
 * behind it. */
#include "dsl/parse.h"
#include "dsl/dsl.h"

#include <stdio.h>
#include <string.h>

/* ---- job files --------------------------------------------------------------------------- */

static bool at_line_end(const struct parser *p)
{
    return p->t.kind == TOKEN_NEWLINE || p->t.kind == TOKEN_END;
}

/* R: ASSIGN { ASSIGN }, the whole line, or else nothing is read. */
static int try_assignments(struct parser *p, struct statement *s)
{
    struct lex_mark mark = p->t.mark;
    struct item *first = NULL, **last = &first;
    while (p->t.kind == TOKEN_WORD && p->t.word->assign) {
        struct item *item = parse_make(p, sizeof *item);
        if (!item)
            return -1;
        *item = (struct item){.kind = ITEM_ASSIGN, .word = p->t.word, .at = p->t.start};
        *last = item;
        last = &item->next;
        if (parse_advance(p) < 0)
            return -1;
    }
    if (!first || !at_line_end(p))
        return parse_set_back(p, mark);
    for (struct item *i = first; i; i = i->next)
        if (i->word->odd)
            return FAIL(p, i->word->odd_at, NULL, "a parameter's value cannot hold `%s`",
                        i->word->odd);
    s->kind = STATEMENT_ASSIGN;
    s->assign = first;
    return 0;
}

/* R: "with" setting { setting }, the whole line, or else nothing is read. */
static int try_settings(struct parser *p, struct statement *s)
{
    struct lex_mark mark = p->t.mark;
    if (parse_advance(p) < 0 || parse_settings(p, &s->setting) < 0)
        return -1;
    if (s->setting && at_line_end(p)) {
        s->kind = STATEMENT_WITH;
        return 0;
    }
    s->setting = NULL;
    return parse_set_back(p, mark);
}

/* "check" NAME "sha256" HEX64 */
static int parse_check(struct parser *p, struct statement *s)
{
    s->kind = STATEMENT_CHECK;
    if (parse_advance(p) < 0)
        return -1;
    if (p->t.kind != TOKEN_WORD || !word_literal(p->t.word, p->arena))
        return FAIL(p, p->t.start, "as in check top.txt sha256 4c8c83…",
                    "`check` needs a name here");
    s->name = p->t.word;
    if (parse_advance(p) < 0)
        return -1;
    if (!parse_word(p, "sha256"))
        return FAIL(p, p->t.start, "as in check top.txt sha256 4c8c83…",
                    "`check` needs `sha256` here");
    if (parse_advance(p) < 0)
        return -1;
    char *hex = p->t.kind == TOKEN_WORD ? parse_literal(p, p->t.word) : NULL;
    if (!hex || strlen(hex) != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64)
        return FAIL(p, p->t.start, NULL, "a sha256 has 64 hexadecimal digits");
    for (char *h = hex; *h; h++)
        *h = *h >= 'A' && *h <= 'F' ? (char)(*h + 32) : *h;
    s->sha256 = hex;
    return parse_advance(p);
}

static bool reserved(const char *name)
{
    static const char *const words[] = {"map",   "merge", "reduce", "with",  "if",   "while",
                                        "until", "for",   "case",   "check", "time", "command"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], name) == 0)
            return true;
    return false;
}

/* NAME is a bare word; *out is it, or NULL. */
static const char *name_of(struct parser *p)
{
    const struct part *part = p->t.kind == TOKEN_WORD ? p->t.word->part : NULL;
    if (!part || part->next || part->kind != PART_BARE)
        return NULL;
    const char *s = part->text.data;
    for (size_t i = 0; i < part->text.size; i++)
        if (!((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') && s[i] != '_' &&
            !(i > 0 && ((s[i] >= '0' && s[i] <= '9') || s[i] == '-')))
            return NULL;
    return s;
}

/* NAME "=" pipeline, when the two words stand there. */
static int try_definition(struct parser *p, struct statement *s)
{
    struct lex_mark mark = p->t.mark;
    size_t at = p->t.start;
    const char *name = name_of(p);
    if (!name)
        return 0;
    if (parse_advance(p) < 0)
        return -1;
    if (!parse_word(p, "="))
        return parse_set_back(p, mark);
    if (reserved(name))
        return FAIL(p, at, NULL, "`%s` is a word of the language and cannot be a name", name);
    size_t names = 0;
    for (const struct definition *o = p->tree->definition; o; o = o->next)
        if (++names == PARSE_NAMES_MAX)
            return FAIL(p, at, NULL, "the job defines more than %d pipelines", PARSE_NAMES_MAX);
        else if (strcmp(o->name, name) == 0) {
            char hint[40];
            snprintf(hint, sizeof hint, "first at line %zu", o->line);
            return FAIL(p, at, hint, "%s is defined twice in this job", name);
        }
    struct definition *d = parse_make(p, sizeof *d);
    if (!d)
        return -1;
    uint32_t line, column;
    text_place(p->text, at, &line, &column);
    *d = (struct definition){.name = name, .at = at, .line = line};
    *p->last_definition = d;
    p->last_definition = &d->next;
    s->kind = STATEMENT_DEFINE;
    s->definition = d;
    struct context c = {.close = '\n'};
    if (parse_advance(p) < 0)
        return -1;
    if (at_line_end(p))
        return FAIL(p, p->last - 1, NULL, "there is no command after this");
    if (parse_pipeline(p, c, &s->pipeline) < 0)
        return -1;
    d->pipeline = s->pipeline;
    return 0;
}

/* statement = ASSIGN { ASSIGN } | "with" setting { setting } | "check" NAME "sha256" HEX64
 *           | NAME "=" pipeline | pipeline */
static int parse_statement(struct parser *p, struct statement *s)
{
    s->start = p->t.start;
    s->kind = STATEMENT_PIPELINE;
    p->word = NULL;
    int result = 0;
    if (p->t.kind == TOKEN_WORD && p->t.word->assign)
        result = try_assignments(p, s);
    else if (parse_word(p, "with"))
        result = try_settings(p, s);
    else if (parse_word(p, "check"))
        result = parse_check(p, s);
    else
        result = try_definition(p, s);
    if (result < 0)
        return -1;
    if (s->kind == STATEMENT_PIPELINE &&
        parse_pipeline(p, (struct context){.close = '\n'}, &s->pipeline) < 0)
        return -1;
    s->end = p->last;
    if (at_line_end(p))
        return 0;
    return FAIL(p, p->t.start, NULL, "a statement ends with its line");
}

/* jobfile = nls { statement NL nls } */
static int parse_job(struct parser *p)
{
    struct statement **last = &p->tree->statement;
    if (parse_skip_lines(p) < 0)
        return -1;
    while (p->t.kind != TOKEN_END) {
        struct statement *s = parse_make(p, sizeof *s);
        if (!s)
            return -1;
        *last = s;
        last = &s->next;
        if (parse_statement(p, s) < 0 || parse_skip_lines(p) < 0)
            return -1;
    }
    return 0;
}

/* ---- one-liners -------------------------------------------------------------------------- */

/* `P ::: F...` is `cat F... | map per file { P }`; the words are taken as they are. */
static int wrap_each(struct parser *p, const char *const *each, size_t count, struct pipeline *l)
{
    struct stage *cat = parse_make(p, sizeof *cat), *map = parse_make(p, sizeof *map);
    struct pipeline *body = parse_make(p, sizeof *body);
    if (!cat || !map || !body)
        return -1;
    *cat = (struct stage){.kind = STAGE_SIMPLE, .separator_byte = -1};
    struct item **last = &cat->item;
    for (size_t i = 0; i <= count; i++) {
        struct item *item = parse_make(p, sizeof *item);
        struct word *w = parse_make(p, sizeof *w);
        struct part *part = parse_make(p, sizeof *part);
        if (!item || !w || !part)
            return -1;
        const char *text = i ? each[i - 1] : "cat";
        char *copy = arena_string(p->arena, text);
        if (!copy)
            return FAIL(p, 0, NULL, "there is no memory to read further");
        *part = (struct part){.kind = i ? PART_QUOTED : PART_BARE, .text = slice_of(copy)};
        *w = (struct word){.part = part};
        *item = (struct item){.kind = ITEM_WORD, .word = w};
        *last = item;
        last = &item->next;
    }
    if (l->stage->kind == STAGE_MAP && l->stage->per_file && !l->negate && !l->timed) {
        cat->next = l->stage;
        l->stage = cat;
        return 0;
    }
    *body = *l;
    *map = (struct stage){.kind = STAGE_MAP, .per_file = true, .body = body, .separator_byte = -1};
    map->start = l->start;
    map->end = l->end;
    l->timed = l->timed_posix = l->negate = false;
    cat->next = map;
    l->stage = cat;
    return 0;
}

static bool starts_per_file(struct parser *p)
{
    const struct text *t = p->text;
    static const char words[] = "map per file";
    return strncmp(t->data + p->t.start, words, sizeof words - 1) == 0;
}

/* oneliner = nls pipeline nls EOF */
static int parse_oneliner(struct parser *p, const char *const *each, size_t each_count)
{
    struct statement *s = parse_make(p, sizeof *s);
    if (!s)
        return -1;
    p->tree->statement = s;
    s->kind = STATEMENT_PIPELINE;
    if (parse_skip_lines(p) < 0)
        return -1;
    s->start = p->t.start;
    if (p->t.kind == TOKEN_END)
        return FAIL(p, 0, NULL, "there is nothing to run");
    struct context c = {.body = each_count && !starts_per_file(p) ? "map" : NULL};
    if (parse_pipeline(p, c, &s->pipeline) < 0)
        return -1;
    s->end = p->last;
    return each_count ? wrap_each(p, each, each_count, s->pipeline) : 0;
}

/* A heredoc's body is read at the line end, after its redirection: look for odd words in it now. */
static void find_odd_bodies(struct stage *s)
{
    for (struct redir *r = s->redir; r; r = r->next)
        if (r->here && r->here->body && r->here->body->odd && !s->odd) {
            s->odd = r->here->body->odd;
            s->odd_at = r->at;
        }
}

static void find_bodies(struct pipeline *l)
{
    for (struct stage *s = l ? l->stage : NULL; s; s = s->next) {
        find_odd_bodies(s);
        for (struct item *i = s->item; i; i = i->next)
            find_bodies(i->pipeline);
        find_bodies(s->body);
        find_bodies(s->merge);
    }
}

int parse_text(struct parser *p, const struct text *text, struct arena *a, const char *const *each,
               size_t each_count, struct tree *tree, struct err *e)
{
    *tree = (struct tree){0};
    *p = (struct parser){.text = text, .arena = a, .e = e, .tree = tree};
    p->last_definition = &tree->definition;
    if (lex_init(&p->lex, text, a, e) < 0 || lex_next(&p->lex, &p->t) < 0)
        return -1;
    if ((text->job ? parse_job(p) : parse_oneliner(p, each, each_count)) < 0)
        return -1;
    for (struct statement *s = tree->statement; s; s = s->next)
        find_bodies(s->pipeline);
    tree->here_count = p->lex.at.heredocs;
    struct heredoc **here = arena_array(a, tree->here_count + 1, sizeof *here);
    if (!here)
        return FAIL(p, 0, NULL, "there is no memory to read further");
    if (tree->here_count)
        memcpy(here, p->lex.here, tree->here_count * sizeof *here);
    tree->here = here;
    return 0;
}

void parse_clear(struct parser *p)
{
    lex_clear(&p->lex);
}
