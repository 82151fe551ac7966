/* Redirections are read one by one, and told apart by operator and number.  One that only sh can carry out is marked as
 * odd. */
#include "dsl/parse.h"

#include <stdio.h>
#include <string.h>

int parse_heredoc_end(struct parser *p, size_t op, bool dash, struct heredoc **out)
{
    *out = lex_heredoc(&p->lex, op, p->t.word, dash);
    return *out ? parse_advance(p) : -1;
}

bool parse_at_redir(const struct parser *p)
{
    return p->t.kind == TOKEN_NUMBER || (p->t.kind == TOKEN_OPERATOR && !parse_op(p, "<(") &&
                                         !parse_op(p, ">(") && strpbrk(p->t.op, "<>") != NULL);
}

static const char *const dup_words[] = {"0", "1", "2"};

/* The kind of a redirection whose number and operator were read, and whose word is the next token. */
static enum redir_kind redir_kind(const struct parser *p, const char *op, int fd, int *dup)
{
    static const struct {
        const char *op;
        enum redir_kind kind;
    } kinds[] = {
        {"<", REDIR_IN},    {">", REDIR_OUT},    {">|", REDIR_OUT},     {">>", REDIR_APPEND},
        {"<<", REDIR_HERE}, {"<<-", REDIR_HERE}, {"<<<", REDIR_STRING},
    };
    if (strcmp(op, ">&") == 0)
        for (int i = 1; i <= 2; i++)
            if ((fd == 1 || fd == 2) && word_is(p->t.word, dup_words[i])) {
                *dup = i;
                return REDIR_DUP;
            }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(op, kinds[i].op) == 0)
            return (op[0] == '<' ? fd == 0 : fd == 1 || fd == 2) ? kinds[i].kind : REDIR_ODD;
    return REDIR_ODD;
}

static int redir_number(struct parser *p, const char **odd)
{
    const char *s = p->text->data;
    size_t n = p->t.end - p->t.start;
    int fd = n == 1 ? s[p->t.start] - '0' : 10;
    if (fd > 2) /* named in `zpipe plan` with its operator */
        *odd = arena_bytes(p->arena, s + p->t.start, n < 20 ? n + 1 : 20);
    return fd;
}

/* redir = [ IO ] ( "<" | ">" | ">>" | ">|" | "<<" | "<<-" | "<<<" | ">&" | "<&" | "<>" ) ( WORD | "<(" list ")" )
 * *odd is set when only sh can do it. */
int parse_redir(struct parser *p, struct redir **out, const char **odd)
{
    struct redir *r = parse_make(p, sizeof *r);
    const char *sign = NULL;
    if (!r)
        return -1;
    *out = r;
    r->at = p->t.start;
    int fd = -1;
    if (p->t.kind == TOKEN_NUMBER) {
        fd = redir_number(p, &sign);
        if (parse_advance(p) < 0)
            return -1;
    }
    const char *op = p->t.op;
    size_t op_at = p->t.start;
    if (op[0] == '&')
        return FAIL(p, op_at, "write `> FILE 2>&1`", "sh and bash read `%s` differently", op);
    r->fd = fd >= 0 ? fd : op[0] == '<' ? 0 : 1;
    r->clobber = strcmp(op, ">|") == 0;
    if (parse_advance(p) < 0)
        return -1;
    if (parse_op(p, "(") && (strcmp(op, "<") == 0 || strcmp(op, ">") == 0)) {
        char hint[80];
        snprintf(hint, sizeof hint, "write %s( … ) without it for the output of a pipeline", op);
        return FAIL(p, p->t.start,
                    op[0] == '<' ? hint : "write >( … ) without it for a pipeline's input",
                    "there is a blank between `%s` and `(`", op);
    }
    if (parse_op(p, "<(") || parse_op(p, ">(")) { /* only bash can do this */
        r->kind = REDIR_ODD;
        if (!*odd)
            *odd = arena_bytes(p->arena, p->text->data + op_at, p->t.end - op_at);
        if (shape_subst(p, 1) < 0)
            return -1;
        r->end = p->last;
        return 0;
    }
    if (p->t.kind != TOKEN_WORD)
        return FAIL(p, op_at, NULL, "there is no name after this `%s`", op);
    r->word = p->t.word;
    r->end = p->t.end;
    r->kind = redir_kind(p, op, r->fd, &r->dup);
    if (strcmp(op, "<<") == 0 || strcmp(op, "<<-") == 0) {
        if (parse_heredoc_end(p, op_at, op[2] == '-', &r->here) < 0)
            return -1;
    } else if (parse_advance(p) < 0) {
        return -1;
    }
    if (r->kind == REDIR_ODD && !*odd)
        *odd = sign ? sign : op;
    return 0;
}

/* { redir } behind a block, a body or a compound.  *odd is set for one that only sh can carry out, *odd_at to its place. */
int parse_redirs(struct parser *p, struct redir **last, const char **odd, size_t *odd_at,
                 size_t *end)
{
    while (parse_at_redir(p)) {
        const char *before = *odd;
        size_t at = p->t.start;
        if (parse_redir(p, last, odd) < 0)
            return -1;
        if (!before && *odd)
            *odd_at = at;
        *end = (*last)->end;
        last = &(*last)->next;
    }
    return 0;
}

/* { redir } behind a body or block.  No sh runs these, so an odd redirection is refused. */
int parse_outer_redirs(struct parser *p, struct stage *s)
{
    const char *odd = NULL;
    size_t odd_at = 0;
    struct redir **last = &s->redir;
    while (*last)
        last = &(*last)->next;
    if (parse_redirs(p, last, &odd, &odd_at, &s->end) < 0)
        return -1;
    return odd ? FAIL(p, odd_at, NULL,
                      "`%s` needs sh, and here is none: only 0, 1 and 2 can be redirected, to and from files", odd)
               : 0;
}
