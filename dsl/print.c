/* See print.h.  A word is printed with as few quotes as needed to keep its parts apart.  If that would read back as
 * something else, each quoted part is printed in quotes.  The program finds out by reading the text back, not by rules.
 * Bodies of heredocs follow at the next line end, as in the source. */
#include "dsl/print.h"
#include "dsl/dsl.h"
#include "dsl/lex.h"

#include <stdlib.h>
#include <string.h>

struct printer {
    const struct text *text;
    const struct tree *tree;
    struct buf out;
    const struct heredoc **waiting; /* owned: as many as the tree has */
    size_t waiting_count;
    bool quote_dash; /* the next word must not be read as the -p of `time` */
    bool block;      /* inside braces: a bare `}` would close the block */
};

static void print_pipeline(struct printer *p, const struct pipeline *l);

/* ---- words ------------------------------------------------------------------------------- */

static bool safe(struct slice s)
{
    const char *c = s.data;
    for (size_t i = 0; i < s.size; i++)
        if (!((c[i] & 0x80) || (c[i] >= '0' && c[i] <= '9') || strchr("_./,:+@%-=^", c[i]) ||
              ((c[i] | 32) >= 'a' && (c[i] | 32) <= 'z')))
            return false;
    return s.size > 0;
}

static bool holds(struct slice s, const char *set)
{
    const char *c = s.data;
    for (size_t i = 0; i < s.size; i++)
        if (strchr(set, c[i]))
            return true;
    return false;
}

static bool holds_control(struct slice s)
{
    const unsigned char *c = s.data;
    for (size_t i = 0; i < s.size; i++)
        if (c[i] < 0x20 || c[i] == 0x7f)
            return true;
    return false;
}

static void print_c_string(struct slice s, struct buf *out)
{
    static const char from[] = "\n\t\r\a\b\033\f\v\\'", to[] = "ntrabefv\\'";
    const char *c = s.data;
    buf_text(out, "$'");
    for (size_t i = 0; i < s.size; i++) {
        const char *found = strchr(from, c[i]);
        if (found)
            buf_printf(out, "\\%c", to[found - from]);
        else if ((unsigned char)c[i] < 0x20 || c[i] == 0x7f)
            buf_printf(out, "\\%03o", (unsigned)(unsigned char)c[i]);
        else
            buf_byte(out, c[i]);
    }
    buf_byte(out, '\'');
}

/* Each text has one spelling only, so that printing again gives the same text. */
static void print_quoted(struct slice s, bool full, struct buf *out)
{
    if (!full && safe(s)) {
        buf_add(out, s.data, s.size);
    } else if (holds_control(s)) {
        print_c_string(s, out);
    } else if (!holds(s, "'")) {
        buf_byte(out, '\'');
        buf_add(out, s.data, s.size);
        buf_byte(out, '\'');
    } else if (!holds(s, "$`\"\\{")) {
        buf_byte(out, '"');
        buf_add(out, s.data, s.size);
        buf_byte(out, '"');
    } else {
        const char *c = s.data;
        for (size_t i = 0; i < s.size;) {
            size_t n = i;
            while (n < s.size && (c[n] == '\'') == (c[i] == '\''))
                n++;
            print_quoted((struct slice){c + i, n - i}, full, out);
            i = n;
        }
    }
}

static bool name_goes_on(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static void print_parts(const struct word *w, bool full, struct buf *out)
{
    bool bare = false; /* the part before was bare */
    size_t start = out->size;
    for (const struct part *p = w->part; p; p = p->next) {
        size_t before = out->size;
        if (p->kind == PART_QUOTED) {
            bool between = bare && p->next && p->next->kind == PART_BARE;
            if (p->text.size || between || full)
                print_quoted(p->text, full, out);
        } else if (p->kind == PART_NAME) {
            struct buf rest = BUF_INIT(8u * DSL_JOB_MAX);
            const struct part *n = p->next;
            while (n && n->kind == PART_QUOTED && !n->text.size)
                n = n->next;
            if (n && n->kind == PART_QUOTED)
                print_quoted(n->text, full, &rest);
            const char *first = n && n->kind == PART_BARE ? n->text.data
                                : rest.size               ? rest.data
                                                          : "";
            buf_printf(out, name_goes_on(*first) ? "${%s}" : "$%s", (const char *)p->text.data);
            buf_clear(&rest);
        } else {
            buf_add(out, p->text.data, p->text.size);
        }
        if (out->size > before)
            bare = p->kind == PART_BARE;
    }
    if (out->size == start)
        buf_text(out, "''");
}

/* The next byte of a word and the kind of part that holds it; empty quotes are skipped. */
struct cursor {
    const struct part *part;
    size_t at;
};

static bool next_byte(struct cursor *c, int *kind, int *byte)
{
    while (c->part && c->at >= c->part->text.size) {
        c->part = c->part->next;
        c->at = 0;
    }
    if (!c->part)
        return false;
    *kind = c->part->kind;
    *byte = ((const unsigned char *)c->part->text.data)[c->at++];
    if (c->part->kind != PART_BARE && c->part->kind != PART_QUOTED && c->at == 1)
        *kind += 100; /* marks where a parameter or hole begins */
    return true;
}

static bool same_word(const struct word *a, const struct word *b)
{
    struct cursor x = {a->part, 0}, y = {b->part, 0};
    int kind[2], byte[2];
    if (a->assign != b->assign || a->odd || b->odd)
        return false;
    for (;;) {
        bool more = next_byte(&x, &kind[0], &byte[0]);
        if (more != next_byte(&y, &kind[1], &byte[1]))
            return false;
        if (!more)
            return true;
        /* A quoted byte may become bare if it has no special meaning there. */
        bool plain =
            kind[0] == PART_QUOTED && kind[1] == PART_BARE && !strchr("*?[]~!{}$", byte[0]);
        if (byte[0] != byte[1] || (kind[0] != kind[1] && !plain))
            return false;
    }
}

static bool has_bracket(const struct word *w)
{
    for (const struct part *p = w->part; p; p = p->next)
        if (p->kind == PART_BARE && (holds(p->text, "[") || *(const char *)p->text.data == '~'))
            return true;
    return false;
}

/* Does this text read back as the word? */
static bool reads_back(const char *data, size_t size, const struct word *w)
{
    struct arena a = ARENA_INIT(256u << 20);
    struct text text;
    struct lexer l;
    struct token t;
    struct err quiet;
    bool same = false;
    if (text_init(&text, &a, data, size, "", &quiet) == 0 && lex_init(&l, &text, &a, &quiet) == 0) {
        same =
            lex_next(&l, &t) == 0 && t.kind == TOKEN_WORD && t.end == size && same_word(w, t.word);
        lex_clear(&l);
    }
    arena_clear(&a);
    return same;
}

void print_word(const struct word *w, struct buf *out)
{
    size_t start = out->size;
    bool plain = true; /* nothing is quoted, so there is nothing to try */
    for (const struct part *p = w->part; p; p = p->next)
        plain = plain && p->kind == PART_BARE;
    print_parts(w, !plain && has_bracket(w), out);
    if (plain || out->failed || reads_back(out->data + start, out->size - start, w))
        return;
    out->size = start;
    print_parts(w, true, out);
}

/* ---- heredocs ---------------------------------------------------------------------------- */

static void flush_heredocs(struct printer *p)
{
    for (size_t i = 0; i < p->waiting_count; i++) {
        const struct heredoc *h = p->waiting[i];
        if (p->out.size && p->out.data[p->out.size - 1] != '\n')
            buf_byte(&p->out, '\n');
        buf_add(&p->out, p->text->data + h->from, h->to - h->from);
    }
    p->waiting_count = 0;
}

static void wait_heredoc(struct printer *p, const struct heredoc *h)
{
    if (p->waiting && p->waiting_count < p->tree->here_count)
        p->waiting[p->waiting_count++] = h;
}

/* ---- text for sh, as it stands
 * ------------------------------------------------------------------- */

/* Prints a text for sh unchanged, but for the bodies of heredocs whose operators stand before it: these are printed at its
 * first line end, and left out where they lie.  Bodies of its own operators that lie behind it wait for the next line end. */
static void print_source(struct printer *p, size_t start, size_t end)
{
    const char *s = p->text->data;
    const struct tree *t = p->tree;
    size_t at = start, first = tree_heredoc(t, start), next = first;
    for (size_t i = start; i < end;) {
        const struct heredoc *h = next < t->here_count ? t->here[next] : NULL;
        if (h && i == h->from && h->op < start) {
            buf_add(&p->out, s + at, i - at);
            i = at = h->to < end ? h->to : end;
            next++;
            continue;
        }
        if (h && i >= h->from)
            next++;
        if (s[i++] == '\n' && p->waiting_count) {
            buf_add(&p->out, s + at, i - at);
            at = i;
            flush_heredocs(p);
        }
    }
    buf_add(&p->out, s + at, end - at);
    for (size_t i = first; i < t->here_count && t->here[i]->op < end; i++)
        if (t->here[i]->op >= start && t->here[i]->from >= end)
            wait_heredoc(p, t->here[i]);
}

/* ---- stages ------------------------------------------------------------------------------ */

static void print_redir(struct printer *p, const struct redir *r)
{
    static const char *const ops[] = {
        [REDIR_IN] = "<", [REDIR_OUT] = ">", [REDIR_APPEND] = ">>", [REDIR_STRING] = "<<<"};
    if (p->out.size && !strchr(" \n", p->out.data[p->out.size - 1]))
        buf_byte(&p->out, ' ');
    if (r->fd > 1 || (r->fd == 1 && r->kind == REDIR_IN))
        buf_printf(&p->out, "%d", r->fd);
    if (r->kind == REDIR_DUP) {
        buf_printf(&p->out, ">&%d", r->dup);
    } else if (r->here) {
        buf_text(&p->out, r->here->dash ? "<<-" : "<<");
        if (r->here->quoted && !holds(r->here->end, "'")) {
            buf_printf(&p->out, "'%s'", (const char *)r->here->end.data);
        } else {
            print_word(r->word, &p->out);
        }
        wait_heredoc(p, r->here);
    } else {
        buf_printf(&p->out, "%s ", r->clobber ? ">|" : ops[r->kind]);
        print_word(r->word, &p->out);
    }
}

static void print_redirs(struct printer *p, const struct stage *s)
{
    for (const struct redir *r = s->redir; r; r = r->next)
        print_redir(p, r);
}

static bool reserved(const struct printer *p, const char *text, size_t size)
{
    static const char *const words[] = {"map",   "merge", "reduce", "with",    "if",
                                        "while", "until", "for",    "case",    "time",
                                        "{",     "check", "!",      "command", "}"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_equal((struct slice){text, size}, slice_of(words[i])))
            return true;
    for (const struct definition *d = p->tree->definition; d; d = d->next)
        if (slice_equal((struct slice){text, size}, slice_of(d->name)))
            return true;
    return false;
}

static bool is_bare(const struct word *w)
{
    return w->part && !w->part->next && w->part->kind == PART_BARE;
}

/* Would the command, printed as `text`, be read as one of the language's own words?  Not if it was written just like that:
 * then a redirection or quotes before it kept it from being read so. */
static bool misread(const struct printer *p, const struct stage *s, const struct item *i,
                    struct slice text)
{
    bool first = i == s->item, moved = false, names = false;
    const char *c = text.data;
    if (p->text->job && i->next && i->next->word && word_is(i->next->word, "=") && text.size &&
        (name_goes_on(*c) && !(*c >= '0' && *c <= '9')))
        names = true;
    for (const struct redir *r = s->redir; r; r = r->next)
        moved = moved || r->at < (names ? i->next->at : i->at);
    if (is_bare(i->word) && !moved)
        return false;
    if (!first)
        return slice_equal(text, slice_of("command"));
    return names || reserved(p, text.data, text.size);
}

static void print_items(struct printer *p, const struct stage *s)
{
    bool named = false;
    const char *blank = "";
    for (const struct item *i = s->item; i; i = i->next) {
        buf_text(&p->out, blank);
        blank = " ";
        if (i->kind == ITEM_SUBST) {
            if (s->command && !named)
                buf_text(&p->out, "command ");
            named = true;
            bool block = p->block;
            p->block = false;
            buf_text(&p->out, i->out ? ">(" : "<(");
            print_pipeline(p, i->pipeline);
            buf_byte(&p->out, ')');
            p->block = block;
            continue;
        }
        if (i->kind == ITEM_WORD && !named && s->command)
            buf_text(&p->out, "command ");
        size_t start = p->out.size;
        bool dash = p->quote_dash && *(const char *)i->word->part->text.data == '-';
        if (p->block && word_is(i->word, "}"))
            buf_text(&p->out, "'}'");
        else if (dash)
            print_parts(i->word, true, &p->out);
        else
            print_word(i->word, &p->out);
        p->quote_dash = false;
        if (i->kind == ITEM_WORD && !named && !s->command && !p->out.failed &&
            misread(p, s, i, (struct slice){p->out.data + start, p->out.size - start})) {
            p->out.size = start;
            buf_text(&p->out, "command ");
            print_word(i->word, &p->out);
        }
        named = named || i->kind == ITEM_WORD;
    }
    if (s->command && !named)
        buf_printf(&p->out, "%scommand", blank);
}

static void print_settings(struct printer *p, const struct setting *s)
{
    buf_text(&p->out, "with");
    for (; s; s = s->next) {
        buf_byte(&p->out, ' ');
        print_word(s->word, &p->out);
    }
}

static void print_block(struct printer *p, const struct pipeline *l)
{
    bool block = p->block;
    p->block = true;
    buf_text(&p->out, "{ ");
    print_pipeline(p, l);
    p->block = block;
    buf_text(&p->out, p->out.size && p->out.data[p->out.size - 1] == '\n' ? "}" : " }");
}

/* Does the stage begin with an assignment?  Printed directly behind `with X=1` it would be one more setting; in the source
 * a redirection stood between them. */
static bool starts_with_assignment(const struct stage *s)
{
    return s->kind == STAGE_SIMPLE && !s->odd && s->item && s->item->kind == ITEM_ASSIGN;
}

static void print_record(struct printer *p, const struct stage *s)
{
    if (s->per_file)
        buf_text(&p->out, "per file ");
    if (!s->by)
        return;
    switch (s->record) {
    case RECORD_LINES:
    case RECORD_BYTES:
        buf_printf(&p->out, "by %llu %s ", (unsigned long long)s->count,
                   s->record == RECORD_LINES ? "lines" : "bytes");
        break;
    case RECORD_PARAGRAPH:
        buf_text(&p->out, "by paragraph ");
        break;
    case RECORD_START:
    case RECORD_END:
        buf_text(&p->out, s->record == RECORD_START ? "by start " : "by ");
        if (s->record == RECORD_END) /* printed in quotes, as only the quotes say that it is the end of a record */
            print_parts(s->record_word, true, &p->out);
        else
            print_word(s->record_word, &p->out);
        buf_byte(&p->out, ' ');
        break;
    }
}

static void print_one(struct printer *p, const struct stage *s)
{
    switch (s->kind) {
    case STAGE_SIMPLE:
        if (s->odd) {
            print_source(p, s->start, s->end);
            return;
        }
        print_items(p, s);
        break;
    case STAGE_OPAQUE:
        print_source(p, s->start, s->end);
        break;
    case STAGE_NAME:
        buf_text(&p->out, s->definition->name);
        break;
    case STAGE_WITH:
        print_settings(p, s->setting);
        buf_byte(&p->out, ' ');
        if (s->braced || starts_with_assignment(s->body->stage))
            print_block(p, s->body);
        else
            print_one(p, s->body->stage);
        break;
    case STAGE_MAP:
        buf_text(&p->out, "map ");
        print_record(p, s);
        print_block(p, s->body);
        if (s->merge) {
            buf_text(&p->out, " merge ");
            print_block(p, s->merge);
        }
        break;
    case STAGE_REDUCE:
        buf_text(&p->out, "reduce by ");
        print_word(s->key, &p->out);
        if (s->separator) {
            buf_text(&p->out, " -t ");
            print_word(s->separator, &p->out);
        }
        buf_printf(&p->out, " into %llu ", (unsigned long long)s->into);
        print_block(p, s->body);
        break;
    }
    print_redirs(p, s);
}

static void print_pipeline(struct printer *p, const struct pipeline *l)
{
    if (l->timed)
        buf_text(&p->out, l->timed_posix ? "time -p " : "time ");
    if (l->negate)
        buf_text(&p->out, "! ");
    if (l->timed && !l->timed_posix && !l->negate)
        p->quote_dash = true; /* `time '-p' x` */
    for (const struct stage *s = l->stage; s; s = s->next) {
        print_one(p, s);
        p->quote_dash = false;
        if (s->next)
            buf_text(&p->out, s->join ? " |& " : " | ");
    }
}

/* ---- statements -------------------------------------------------------------------------- */

static void print_statement(struct printer *p, const struct statement *s)
{
    switch (s->kind) {
    case STATEMENT_ASSIGN:
        for (const struct item *i = s->assign; i; i = i->next) {
            print_word(i->word, &p->out);
            if (i->next)
                buf_byte(&p->out, ' ');
        }
        break;
    case STATEMENT_WITH:
        print_settings(p, s->setting);
        break;
    case STATEMENT_CHECK:
        buf_text(&p->out, "check ");
        print_word(s->name, &p->out);
        buf_printf(&p->out, " sha256 %s", s->sha256);
        break;
    case STATEMENT_DEFINE:
        buf_printf(&p->out, "%s = ", s->definition->name);
        print_pipeline(p, s->pipeline);
        break;
    case STATEMENT_PIPELINE:
        print_pipeline(p, s->pipeline);
        break;
    }
}

static struct printer begin(const struct text *text, const struct tree *tree)
{
    struct printer p = {.text = text, .tree = tree, .out = BUF_INIT(8u * DSL_JOB_MAX)};
    p.waiting = calloc(tree->here_count + 1, sizeof *p.waiting);
    p.out.failed = !p.waiting;
    return p;
}

static char *finish(struct printer *p)
{
    free(p->waiting);
    return buf_take(&p->out);
}

char *print_tree(const struct text *text, const struct tree *tree)
{
    struct printer p = begin(text, tree);
    for (const struct statement *s = tree->statement; s; s = s->next) {
        print_statement(&p, s);
        flush_heredocs(&p);
        if (s->next && p.out.size && p.out.data[p.out.size - 1] != '\n')
            buf_byte(&p.out, '\n');
    }
    if (p.out.size && !p.out.failed && p.out.data[p.out.size - 1] == '\n')
        p.out.data[--p.out.size] = '\0';
    return finish(&p);
}

char *print_stage(const struct text *text, const struct tree *tree, const struct stage *s)
{
    struct printer p = begin(text, tree);
    print_one(&p, s);
    return finish(&p);
}
