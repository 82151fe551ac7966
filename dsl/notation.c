/* See notation.h and zpipe-language(5).  Printed from the tree, before names are copied to their uses.  I is stdin, O
 * stdout, E stderr, F(...) files, T(n) n bytes of text, W(f) a file, A(f) an append, 0 nothing. */
#include "dsl/notation.h"
#include "dsl/print.h"
#include "proto/graph.h"

#include <string.h>

struct sketch {
    const struct resolver *r;
    struct buf out;
};

/* Where an output fd points. */
enum { TO_OUT, TO_ERR, TO_NULL, TO_FILE };
struct target {
    int kind;
    const struct redir *redir;
};

static void chain(struct sketch *k, const struct pipeline *l, bool end, bool filter);

static bool named(const struct redir *d, const char *name)
{
    return d->target && strcmp(d->target, name) == 0;
}

/* Prints a name with its holes as they are typed. */
static void put_name(struct sketch *k, const char *name)
{
    static const struct {
        char code;
        const char *hole;
    } holes[] = {{'{', "{}"},   {'.', "{.}"},  {'/', "{/}"},
                 {'d', "{//}"}, {'b', "{/.}"}, {'#', "{#}"}};
    for (; *name; name++) {
        if (*name != GRAPH_HOLE) {
            buf_byte(&k->out, *name);
            continue;
        }
        name++;
        for (size_t i = 0; i < sizeof holes / sizeof *holes; i++)
            if (holes[i].code == *name)
                buf_text(&k->out, holes[i].hole);
    }
}

static void put_target(struct sketch *k, struct target t)
{
    switch (t.kind) {
    case TO_OUT:
        buf_byte(&k->out, 'O');
        break;
    case TO_ERR:
        buf_byte(&k->out, 'E');
        break;
    case TO_NULL:
        buf_byte(&k->out, '0');
        break;
    default:
        buf_text(&k->out, t.redir->kind == REDIR_APPEND ? "A(" : "W(");
        put_name(k, t.redir->target);
        buf_byte(&k->out, ')');
    }
}

static void read_targets(const struct stage *s, struct target to[3])
{
    to[1] = (struct target){TO_OUT, NULL};
    to[2] = (struct target){TO_ERR, NULL};
    for (const struct redir *d = s->redir; d; d = d->next) {
        if (d->fd == 0)
            continue;
        if (d->kind == REDIR_DUP)
            to[d->fd] = to[d->dup];
        else if (named(d, "/dev/null"))
            to[d->fd] = (struct target){TO_NULL, d};
        else if (named(d, "/dev/stdout") || named(d, "/dev/fd/1"))
            to[d->fd] = to[1];
        else if (named(d, "/dev/stderr") || named(d, "/dev/fd/2"))
            to[d->fd] = to[2];
        else
            to[d->fd] = (struct target){TO_FILE, d};
    }
    if (s->join)
        to[2] = to[1];
}

static const struct redir *last_input(const struct stage *s)
{
    const struct redir *found = NULL;
    for (const struct redir *d = s->redir; d; d = d->next)
        if (d->fd == 0 && !named(d, "/dev/stdin") && !named(d, "/dev/fd/0"))
            found = d;
    return found;
}

static void put_input(struct sketch *k, const struct redir *d)
{
    if (d->kind == REDIR_HERE || d->kind == REDIR_STRING) {
        buf_printf(&k->out, "T(%zu)", d->bytes.size);
    } else if (named(d, "/dev/null")) {
        buf_byte(&k->out, '0');
    } else {
        buf_text(&k->out, "F(");
        put_name(k, d->target);
        buf_byte(&k->out, ')');
    }
}

/* ---- stages ------------------------------------------------------------------------------ */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* Prints the files, edges and outputs of a command, in the order of its words. */
static void put_words(struct sketch *k, const struct stage *s)
{
    const char *before = "(";
    for (const struct value *v = s->value; v; v = v->next) {
        if (v->subst) {
            buf_printf(&k->out, "%s%s", before, v->subst->out ? ">" : "");
            chain(k, v->subst->pipeline, false, v->subst->out);
            before = ", ";
        }
        const struct use *lists[] = {s->input, s->output};
        for (int l = 0; l < 2; l++)
            for (const struct use *u = lists[l]; u; u = u->next)
                if (u->value == v && !u->program) {
                    buf_printf(&k->out, l ? "%sW(" : "%s", before);
                    put_name(k, u->word);
                    buf_text(&k->out, l ? ")" : "");
                    before = ", ";
                }
    }
    if (*before == ',')
        buf_byte(&k->out, ')');
}

static void put_opaque(struct sketch *k, const struct stage *s)
{
    const char *before = "[";
    buf_text(&k->out, "sh");
    for (const struct use *u = s->input; u; u = u->next) {
        buf_printf(&k->out, "%s%s", before, u->word);
        before = " ";
    }
    for (const struct use *u = s->output; u; u = u->next) {
        buf_printf(&k->out, "%s>", before);
        put_name(k, u->word);
        before = " ";
    }
    if (*before == ' ')
        buf_byte(&k->out, ']');
}

static void put_command(struct sketch *k, const struct stage *s)
{
    if (s->builtin) {
        buf_printf(&k->out, "sh(%s", s->value ? s->value->text : ":");
        put_words(k, s);
        buf_byte(&k->out, ')');
        return;
    }
    for (const struct value *v = s->env; v; v = v->next)
        buf_printf(&k->out, "%s ", v->text);
    put_name(k, s->value ? base_name(s->value->text) : ":");
    put_words(k, s);
}

static void put_record(struct sketch *k, const struct stage *s)
{
    static const char *const names[] = {"lines", "bytes", "paragraph"};
    if (!s->by)
        return;
    buf_byte(&k->out, '[');
    if (s->record == RECORD_LINES || s->record == RECORD_BYTES)
        buf_printf(&k->out, "%llu ", (unsigned long long)s->count);
    if (s->record <= RECORD_PARAGRAPH) {
        buf_text(&k->out, names[s->record]);
    } else {
        if (s->record == RECORD_START)
            buf_text(&k->out, "start ");
        print_word(s->record_word, &k->out);
    }
    buf_byte(&k->out, ']');
}

static void put_stage(struct sketch *k, const struct stage *s, bool first)
{
    switch (s->kind) {
    case STAGE_SIMPLE:
        if (s->odd)
            put_opaque(k, s);
        else
            put_command(k, s);
        break;
    case STAGE_OPAQUE:
        put_opaque(k, s);
        break;
    case STAGE_NAME:
        buf_printf(&k->out, s->definition->source ? "%s" : "%s()", s->definition->name);
        break;
    case STAGE_WITH:
        buf_text(&k->out, "with[");
        for (const struct setting *i = s->setting; i; i = i->next) {
            print_word(i->word, &k->out);
            buf_text(&k->out, i->next ? " " : "](");
        }
        chain(k, s->body, false, !first);
        buf_byte(&k->out, ')');
        break;
    case STAGE_MAP:
        buf_text(&k->out, s->per_file ? "each" : "map");
        put_record(k, s);
        buf_byte(&k->out, '(');
        chain(k, s->body, false, true);
        buf_byte(&k->out, ')');
        if (s->merge) {
            buf_text(&k->out, "+merge(");
            chain(k, s->merge, false, true);
            buf_byte(&k->out, ')');
        }
        break;
    case STAGE_REDUCE:
        buf_text(&k->out, "reduce[");
        print_word(s->key, &k->out);
        if (s->separator) {
            buf_byte(&k->out, ' ');
            print_word(s->separator, &k->out);
        }
        buf_printf(&k->out, " /%llu](", (unsigned long long)s->into);
        chain(k, s->body, false, true);
        buf_byte(&k->out, ')');
        break;
    }
}

/* Prints, in place of `cat F...`, what it reads. */
static void put_source(struct sketch *k, const struct stage *s)
{
    const struct value *v = s->value->next;
    const struct redir *in = last_input(s);
    if (!v) {
        if (in)
            put_input(k, in);
        else
            buf_byte(&k->out, s->from == STDIN_JOB ? 'I' : '0');
        return;
    }
    for (const char *before = "F("; v; v = v->next, before = " ")
        buf_printf(&k->out, "%s%s", before, v->text);
    buf_byte(&k->out, ')');
}

/* After a stage: prints where its fds go if not into the pipe.  Returns where the chain goes on. */
static struct target put_targets(struct sketch *k, const struct stage *s)
{
    struct target to[3];
    read_targets(s, to);
    bool last = !s->next;
    if (to[2].kind == TO_OUT)
        buf_text(&k->out, "+2");
    else if (to[2].kind != TO_ERR && !(to[2].kind == TO_FILE && to[2].redir == to[1].redir)) {
        buf_text(&k->out, " 2:");
        put_target(k, to[2]);
    } else if (to[2].kind == TO_FILE) {
        buf_text(&k->out, "+2");
    }
    if (to[1].kind != TO_OUT && (!last || to[2].kind == TO_OUT)) {
        buf_text(&k->out, " 1:");
        put_target(k, to[1]);
        return (struct target){TO_OUT, NULL};
    }
    return to[1];
}

/* end: `-> O` follows; filter: the first stage reads what comes. */
static void chain(struct sketch *k, const struct pipeline *l, bool end, bool filter)
{
    struct target to = {TO_OUT, NULL};
    if (l->negate)
        buf_text(&k->out, "! ");
    for (const struct stage *s = l->stage; s; s = s->next) {
        const struct redir *in = last_input(s);
        if (s->source) {
            put_source(k, s);
        } else {
            if (in && s != l->stage)
                buf_text(&k->out, "0 ; ");
            if (in) {
                put_input(k, in);
                buf_text(&k->out, " -> ");
            } else if (s->from == STDIN_JOB && s->kind != STAGE_WITH) {
                buf_text(&k->out, "I -> ");
            } else if (s->from == STDIN_EMPTY && s->kind != STAGE_WITH && !filter) {
                buf_text(&k->out, "0 -> ");
            }
            put_stage(k, s, s == l->stage && !filter);
        }
        to = put_targets(k, s);
        if (s->next)
            buf_text(&k->out, " -> ");
    }
    if (end || to.kind != TO_OUT) {
        buf_text(&k->out, " -> ");
        put_target(k, to);
    }
}

char *notation_tree(const struct resolver *r)
{
    struct sketch k = {.r = r, .out = BUF_INIT(8u * DSL_JOB_MAX)};
    const char *between = "";
    for (const struct statement *s = r->tree->statement; s; s = s->next) {
        if (s->kind == STATEMENT_ASSIGN || s->kind == STATEMENT_WITH)
            continue;
        buf_text(&k.out, between);
        between = " ; ";
        if (s->kind == STATEMENT_CHECK) {
            print_word(s->name, &k.out);
            buf_text(&k.out, " == sha256");
            continue;
        }
        if (s->kind == STATEMENT_DEFINE)
            buf_printf(&k.out, "%s: ", s->definition->name);
        chain(&k, s->pipeline, s->kind == STATEMENT_PIPELINE, s->kind == STATEMENT_DEFINE);
    }
    return buf_take(&k.out);
}
