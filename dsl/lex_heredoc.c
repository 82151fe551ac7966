/* See lex.h.  Heredocs: their end words are read where they are met in a line, their texts at the end of that line, in the
 * same order. */
#include "dsl/lex_inside.h"

#include "base/grow.h"
#include "dsl/dsl.h"

#include <string.h>

#define HEREDOCS_MAX (1u << 17)

struct heredoc *lex_heredoc(struct lexer *l, size_t op, const struct word *end, bool dash)
{
    if (!grow(&l->here, &l->here_room, l->at.heredocs, HEREDOCS_MAX, sizeof *l->here)) {
        if (l->at.heredocs == HEREDOCS_MAX)
            text_fail(l->text, op, l->e, NULL, "there are more than %u heredocs", HEREDOCS_MAX);
        else
            lex_no_memory(l);
        return NULL;
    }
    struct heredoc *h = arena_alloc(l->arena, sizeof *h);
    if (!h) {
        lex_no_memory(l);
        return NULL;
    }
    struct buf *run = &l->run;
    run->size = 0;
    for (const struct part *p = end->part; p; p = p->next) {
        h->quoted = h->quoted || p->kind == PART_QUOTED;
        if (p->kind == PART_NAME)
            buf_byte(run, '$');
        buf_add(run, p->text.data, p->text.size);
    }
    h->op = op;
    h->dash = dash;
    h->end.size = run->size;
    h->end.data = arena_bytes(l->arena, run->data ? run->data : "", run->size);
    run->size = 0;
    if (!h->end.data || run->failed) {
        lex_no_memory(l);
        return NULL;
    }
    l->here[l->at.heredocs++] = h;
    return h;
}

static int fail_heredoc(struct lexer *l, const struct heredoc *h)
{
    return text_fail(l->text, h->op, l->e, NULL,
                     "the text after this << has no line `%.*s` to end it", (int)h->end.size,
                     (const char *)h->end.data);
}

/* The body without the last line; tabs dropped for <<-. */
static int heredoc_text(struct lexer *l, struct heredoc *h, size_t last)
{
    const char *s = l->text->data;
    struct buf body = BUF_INIT(DSL_JOB_MAX);
    for (size_t at = h->from; at < last;) {
        while (h->dash && at < last && s[at] == '\t')
            at++;
        const char *end = memchr(s + at, '\n', last - at);
        size_t next = end ? (size_t)(end - s) + 1 : last;
        buf_add(&body, s + at, next - at);
        at = next;
    }
    buf_add(&body, "", 0);
    h->body = arena_alloc(l->arena, sizeof *h->body);
    char *copy = body.failed ? NULL : arena_bytes(l->arena, body.data, body.size);
    size_t size = body.size;
    buf_clear(&body);
    if (!copy || !h->body)
        return lex_no_memory(l);
    struct lex_parts parts = {.last = &parts.first};
    *h->body = (struct word){.start = h->op, .end = h->op};
    int result = 0;
    if (h->quoted) {
        result = lex_add_part(l, &parts, PART_QUOTED, copy, size, h->op);
    } else {
        /* A text whose end word has no quotes may hold expansions.  A lexer of its own reads it, as offsets in it are not
         * offsets in the source. */
        struct text text = *l->text;
        text.data = copy;
        text.size = size;
        struct err inner = {0};
        struct lexer part = {
            .text = &text, .arena = l->arena, .e = &inner, .run = BUF_INIT(DSL_JOB_MAX)};
        struct text flat;
        if (text_init(&flat, l->arena, copy, size, l->text->file, &inner) == 0)
            part.text = &flat;
        result = lex_double(&part, &parts, h->body, 0, 0);
        bool no_memory_left = part.run.no_memory || l->arena->no_memory;
        lex_clear(&part);
        if (result < 0 && no_memory_left)
            return lex_no_memory(l);
        if (result < 0)
            text_fail(l->text, h->op, l->e, NULL,
                      "the text after this << cannot be read: a `$(`, `${` "
                      "or backquote in it is not closed");
    }
    for (struct part *p = parts.first; p; p = p->next)
        p->at = h->op;
    h->body->odd_at = h->op;
    h->body->part = parts.first;
    return result;
}

/* heredoc = { line } END: from the start of the line after the operator. */
static int read_heredoc(struct lexer *l, struct heredoc *h)
{
    const char *s = l->text->data;
    size_t at = l->at.position;
    bool joined = false; /* the line before ended in a backslash */
    h->from = at;
    while (at < l->text->size) {
        size_t line = at;
        while (h->dash && s[line] == '\t')
            line++;
        const char *newline = memchr(s + line, '\n', l->text->size - line);
        size_t end = newline ? (size_t)(newline - s) : l->text->size;
        size_t next = newline ? end + 1 : end;
        if (!joined && slice_equal((struct slice){s + line, end - line}, h->end)) {
            h->to = next;
            l->at.position = next;
            return heredoc_text(l, h, at);
        }
        size_t slashes = 0;
        while (!h->quoted && slashes < end - line && s[end - slashes - 1] == '\\')
            slashes++;
        joined = slashes % 2 == 1;
        at = next;
    }
    return fail_heredoc(l, h);
}

int lex_read_heredocs(struct lexer *l)
{
    while (l->at.waiting < l->at.heredocs) {
        if (read_heredoc(l, l->here[l->at.waiting]) < 0)
            return -1;
        l->at.waiting++;
    }
    return 0;
}

size_t tree_heredoc(const struct tree *t, size_t at)
{
    size_t low = 0, high = t->here_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->here[middle]->from < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
