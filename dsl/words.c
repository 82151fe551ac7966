/* Turns words into values: replaces parameters, holes, `~` and patterns.  Also makes the text that sh gets. */
#include "dsl/files.h"
#include "dsl/glob.h"
#include "dsl/resolve.h"
#include "proto/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX (8u << 20) /* bytes of one word */

int resolve_no_memory(struct resolver *r)
{
    return text_fail(r->text, 0, r->e, NULL, "there is no memory for this job");
}

/* ---- parameters -------------------------------------------------------------------------- */

struct parameter *words_parameter(const struct resolver *r, const char *name, size_t size)
{
    for (size_t i = 0; i < r->parameter_count; i++)
        if (r->parameter[i].size == size && memcmp(r->parameter[i].name, name, size) == 0)
            return &r->parameter[i];
    return NULL;
}

static int add_given(struct resolver *r, const char *word, bool given)
{
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : 0;
    bool ok = size > 0 && (word[0] < '0' || word[0] > '9');
    for (size_t i = 0; i < size; i++)
        ok = ok && (word[i] == '_' || (word[i] >= '0' && word[i] <= '9') ||
                    ((word[i] | 32) >= 'a' && (word[i] | 32) <= 'z'));
    if (!ok)
        return text_fail(r->text, 0, r->e, "put the whole pipeline in one pair of quotes",
                         "`%.100s` is neither NAME=VALUE nor `:::`", word);
    struct parameter *p = words_parameter(r, word, size);
    if (!p)
        p = &r->parameter[r->parameter_count++];
    *p = (struct parameter){
        .name = word, .size = size, .value = equals + 1, .given = given, .set = true};
    return 0;
}

int words_parameters(struct resolver *r)
{
    size_t room = r->in->parameter_count + r->in->env_count;
    for (const struct statement *s = r->tree->statement; s; s = s->next)
        for (const struct item *i = s->assign; i; i = i->next)
            room++;
    r->parameter = arena_array(r->arena, room + 1, sizeof *r->parameter);
    if (!r->parameter)
        return resolve_no_memory(r);
    for (size_t i = 0; i < r->in->env_count; i++)
        if (add_given(r, r->in->env[i], false) < 0)
            return -1;
    for (size_t i = 0; i < r->in->parameter_count; i++)
        if (add_given(r, r->in->parameter[i], true) < 0)
            return -1;
    return 0;
}

int words_assign(struct resolver *r, const struct item *assign)
{
    for (; assign; assign = assign->next) {
        const struct word *w = assign->word;
        struct value *v;
        if (words_one(r, w, NULL, &v) < 0)
            return -1;
        struct parameter *p = words_parameter(r, v->text, w->assign);
        if (p) {
            p->used = true;
            if (p->given)
                continue;
        } else {
            p = &r->parameter[r->parameter_count++];
        }
        *p = (struct parameter){
            .name = v->text, .size = w->assign, .value = v->text + w->assign + 1, .set = true};
    }
    return 0;
}

static int need_parameter(struct resolver *r, const struct part *part, struct parameter **out)
{
    const char *name = part->text.data;
    *out = words_parameter(r, name, part->text.size);
    if (*out) {
        (*out)->used = true;
        return 0;
    }
    char hint[200];
    for (const struct definition *d = r->tree->definition; d; d = d->next)
        if (strcmp(d->name, name) == 0) {
            snprintf(
                hint, sizeof hint,
                "write <(%.50s) for a file with its output, or `%.50s` at the start of a stage",
                name, name);
            return text_fail(r->text, part->at, r->e, hint, "%.100s is a pipeline, not a parameter",
                             name);
        }
    snprintf(hint, sizeof hint, "add %.50s=VALUE after the pipeline, or --env %.50s", name, name);
    return text_fail(r->text, part->at, r->e, hint, "$%.100s has no value", name);
}

/* ---- values ------------------------------------------------------------------------------ */

static const struct {
    const char *hole;
    char code;
} codes[] = {{"{}", '{'}, {"{.}", '.'}, {"{/}", '/'}, {"{//}", 'd'}, {"{/.}", 'b'}, {"{#}", '#'}};

static char hole_code(struct slice hole)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (slice_equal(hole, slice_of(codes[i].hole)))
            return codes[i].code;
    return 0;
}

static bool hole_live(const char *body, char code)
{
    if (!body)
        return false;
    return strcmp(body, "each") == 0 || (strcmp(body, "reduce") == 0 && code == '#') ||
           (strcmp(body, "merge") == 0 && code == '{');
}

bool words_pattern(const struct word *w)
{
    bool open = false;
    for (const struct part *p = w->part; p; p = p->next) {
        if (p->kind != PART_BARE)
            continue;
        const char *s = p->text.data;
        if (memchr(s, '*', p->text.size) || memchr(s, '?', p->text.size))
            return true;
        const char *bracket = memchr(s, '[', p->text.size);
        open = open || bracket;
        const char *from = bracket ? bracket : s;
        if (open && memchr(from, ']', p->text.size - (size_t)(from - s)))
            return true;
    }
    return false;
}

struct expansion {
    struct buf text, pattern; /* text: the word's bytes; pattern: the same with `\` before every byte that is no pattern */
    bool hole, assigned;
};

static void add_plain(struct expansion *x, const char *s, size_t size)
{
    buf_add(&x->text, s, size);
    for (size_t i = 0; i < size; i++) {
        if (strchr("*?[]\\!^-", s[i]) && s[i])
            buf_byte(&x->pattern, '\\');
        buf_byte(&x->pattern, s[i]);
    }
}

/* Adds a run without quotes.  A `~` or `~/` at its start, or behind the = of an assignment, is replaced; in `dd if=~/x` it
 * is not, as in sh. */
static int add_bare(struct resolver *r, struct expansion *x, const struct word *w,
                    const struct part *part)
{
    const char *s = part->text.data;
    size_t size = part->text.size, skip = 0;
    if (x->assigned && part == w->part && size > w->assign + 1 && s[w->assign + 1] == '~')
        skip = w->assign + 1;
    bool tilde = part == w->part && s[skip] == '~' &&
                 (s[skip + 1] == '/' || (size == skip + 1 && !part->next));
    if (tilde) {
        if (!r->in->home)
            return text_fail(r->text, part->at + skip, r->e, "set HOME, or write the directory",
                             "`~` stands for the home directory, and HOME is not set");
        buf_add(&x->text, s, skip);
        buf_add(&x->pattern, s, skip);
        add_plain(x, r->in->home, strlen(r->in->home));
        skip++;
    } else {
        skip = 0;
    }
    buf_add(&x->text, s + skip, size - skip);
    buf_add(&x->pattern, s + skip, size - skip);
    return 0;
}

static int expand_parts(struct resolver *r, const struct word *w, const char *body,
                        struct expansion *x)
{
    for (const struct part *part = w->part; part; part = part->next) {
        struct parameter *p;
        char code;
        switch (part->kind) {
        case PART_BARE:
            if (add_bare(r, x, w, part) < 0)
                return -1;
            break;
        case PART_NAME:
            if (need_parameter(r, part, &p) < 0)
                return -1;
            if (body && strchr(p->value, GRAPH_HOLE))
                return text_fail(r->text, part->at, r->e, NULL, "the value of $%s holds a byte 1",
                                 (const char *)part->text.data);
            add_plain(x, p->value, strlen(p->value));
            break;
        case PART_HOLE:
            code = hole_code(part->text);
            if (hole_live(body, code)) {
                char hole[2] = {GRAPH_HOLE, code};
                x->hole = true;
                buf_add(&x->text, hole, 2);
                break;
            } /* fallthrough: plain text */
            add_plain(x, part->text.data, part->text.size);
            break;
        case PART_QUOTED:
            if (body && memchr(part->text.data, GRAPH_HOLE, part->text.size))
                return text_fail(r->text, part->at, r->e, NULL,
                                 "a word in a body cannot hold a byte 1");
            add_plain(x, part->text.data, part->text.size);
            break;
        case PART_ODD:
            return text_fail(r->text, part->at, r->e, NULL, "`%.20s` needs sh, and here is none",
                             (const char *)part->text.data);
        }
    }
    return x->text.failed || x->pattern.failed ? resolve_no_memory(r) : 0;
}

static struct value *make_value(struct resolver *r, const struct word *w, const char *text)
{
    struct value *v = arena_alloc(r->arena, sizeof *v);
    char *copy = arena_string(r->arena, text ? text : "");
    if (!v || !copy) {
        resolve_no_memory(r);
        return NULL;
    }
    *v = (struct value){.text = copy, .word = w};
    return v;
}

static bool same_names(const struct glob_names *a, const struct glob_names *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->name[i], b->name[i]) != 0)
            return false;
    return true;
}

/* A value as the user wrote it, for a message. */
static const char *with_holes(struct resolver *r, const char *value)
{
    struct buf b = BUF_INIT(VALUE_MAX);
    for (const char *at = value; *at; at++) {
        size_t i = 0;
        while (*at == GRAPH_HOLE && i < sizeof codes / sizeof *codes && codes[i].code != at[1])
            i++;
        bool hole = *at == GRAPH_HOLE && i < sizeof codes / sizeof *codes;
        if (hole)
            buf_text(&b, codes[i].hole);
        else
            buf_add(&b, at, 1);
        at += hole;
    }
    const char *text = b.data && !b.failed ? arena_bytes(r->arena, b.data, b.size) : value;
    buf_clear(&b);
    return text ? text : value;
}

/* Refuse a pattern that matches an output of the job itself: whether that file is there would depend on earlier runs. */
static int check_written(struct resolver *r, const struct word *w, const char *pattern)
{
    size_t size = strlen(r->in->directory);
    char *normal = arena_alloc(r->arena, strlen(pattern) + 2);
    if (!normal)
        return resolve_no_memory(r);
    path_normal(pattern, normal);
    for (const struct written *o = r->written; o; o = o->next) {
        bool here = strncmp(o->path, r->in->directory, size) == 0 && o->path[size] == '/';
        const char *path = *normal == '/' || !here ? o->path : o->path + size + 1;
        uint32_t line, column;
        if (o->statement >= r->statement || !glob_fits(normal, path))
            continue;
        text_place(r->text, o->at, &line, &column);
        return text_fail(r->text, w->start, r->e, "name the files, or write this one into another directory",
                         "the glob `%.200s` also fits `%.200s`, which line %u writes", pattern, with_holes(r, o->word), line);
    }
    return 0;
}

static int expand_pattern(struct resolver *r, const struct word *w, const char *pattern,
                          struct glob_names *names)
{
    struct err inner = {0};
    if (check_written(r, w, pattern) < 0)
        return -1;
    if (glob_expand(r->arena, r->in->directory, pattern, false, names, &inner) < 0)
        return text_fail(r->text, w->start, r->e, NULL, "%s", inner.text);
    if (!strstr(pattern, "[^"))
        return 0;
    struct glob_names other;
    if (glob_expand(r->arena, r->in->directory, pattern, true, &other, &inner) < 0)
        return text_fail(r->text, w->start, r->e, NULL, "%s", inner.text);
    if (same_names(names, &other))
        return 0;
    return text_fail(r->text, w->start, r->e, "write [!…] for all but these bytes",
                     "sh and bash read `[^…]` differently, and files fit");
}

int words_expand(struct resolver *r, const struct word *w, const char *body, bool glob,
                 struct value ***last)
{
    struct expansion x = {.text = BUF_INIT(VALUE_MAX), .pattern = BUF_INIT(VALUE_MAX), .assigned = w->assign && !glob};
    struct glob_names names = {0};
    int result = expand_parts(r, w, body, &x);
    if (result == 0 && glob && !x.hole && words_pattern(w))
        result = expand_pattern(r, w, x.pattern.data, &names);
    for (size_t i = 0; result == 0 && i < (names.count ? names.count : 1); i++) {
        struct value *v = make_value(r, w, names.count ? names.name[i] : x.text.data);
        if (!v) {
            result = -1;
            break;
        }
        v->hole = x.hole;
        **last = v;
        *last = &v->next;
    }
    buf_clear(&x.text);
    buf_clear(&x.pattern);
    return result;
}

int words_one(struct resolver *r, const struct word *w, const char *body, struct value **out)
{
    *out = NULL;
    struct value **last = out;
    return words_expand(r, w, body, false, &last);
}

/* ---- text for sh ------------------------------------------------------------------------- */

/* Copy the stage's source, without the bodies of other stages' heredocs and with the bodies of its own, which lie after it. */
static void copy_source(const struct resolver *r, const struct stage *s, struct buf *out)
{
    size_t at = s->start;
    size_t first = tree_heredoc(r->tree, s->start);
    for (size_t i = first; i < r->tree->here_count && r->tree->here[i]->from < s->end; i++) {
        const struct heredoc *h = r->tree->here[i];
        if (h->op >= s->start)
            continue;
        buf_add(out, r->text->data + at, h->from - at);
        at = h->to < s->end ? h->to : s->end;
    }
    buf_add(out, r->text->data + at, s->end - at);
    bool line = false;
    for (size_t i = first; i < r->tree->here_count && r->tree->here[i]->op < s->end; i++) {
        const struct heredoc *h = r->tree->here[i];
        if (h->op < s->start || h->from < s->end)
            continue;
        if (!line)
            buf_byte(out, '\n');
        line = true;
        buf_add(out, r->text->data + h->from, h->to - h->from);
        if (h->to > 0 && r->text->data[h->to - 1] != '\n')
            buf_byte(out, '\n');
    }
}

static size_t hole_at(const char *s, const char *body, char *code)
{
    for (size_t n = 2; n <= 4; n++) {
        if (strnlen(s, n) < n)
            return 0;
        *code = hole_code((struct slice){s, n});
        if (*code)
            return hole_live(body, *code) ? n : 0;
    }
    return 0;
}

/* Replace holes by GRAPH_HOLE and a byte, outside of quotes: "a {}" becomes "a "HOLE"". */
static void make_holes(const char *s, const char *body, struct buf *out, bool *any)
{
    char quote = 0, code;
    while (*s) {
        size_t n = *s == '{' && quote != '\'' ? hole_at(s, body, &code) : 0;
        if (n) {
            char hole[2] = {GRAPH_HOLE, code};
            *any = true;
            if (quote)
                buf_byte(out, quote);
            buf_add(out, hole, 2);
            if (quote)
                buf_byte(out, quote);
            s += n;
            continue;
        }
        if (*s == '\\' && quote != '\'' && s[1])
            buf_byte(out, *s++);
        else if ((*s == '\'' || *s == '"') && (!quote || quote == *s))
            quote = quote ? 0 : *s;
        buf_byte(out, *s++);
    }
}

/* Set `named` for every parameter that occurs in the text as $NAME or ${NAME. */
static void find_parameters(const struct resolver *r, const char *text, bool *named)
{
    for (const char *c = text; (c = strchr(c, '$')); c++) {
        const char *n = c[1] == '{' ? c + 2 : c + 1;
        n += c[1] == '{' && *n == '#';
        size_t size = 0;
        while (n[size] == '_' || (n[size] >= '0' && n[size] <= '9') ||
               ((n[size] | 32) >= 'a' && (n[size] | 32) <= 'z'))
            size++;
        const struct parameter *p = size ? words_parameter(r, n, size) : NULL;
        if (p)
            named[p - r->parameter] = true;
    }
}

/* Put the parameters that a text for sh names into its environment. */
static int text_parameters(struct resolver *r, struct stage *s, const char *text)
{
    struct value **last = &s->env;
    bool named[PARAMETERS_MAX + 1] = {false};
    find_parameters(r, text, named);
    for (size_t i = 0; i < r->parameter_count; i++) {
        struct parameter *p = &r->parameter[i];
        if (!named[i])
            continue;
        p->used = true;
        struct buf pair = BUF_INIT(VALUE_MAX);
        buf_add(&pair, p->name, p->size);
        buf_byte(&pair, '=');
        buf_text(&pair, p->value);
        *last = pair.failed ? NULL : make_value(r, NULL, pair.data);
        buf_clear(&pair);
        if (!*last)
            return resolve_no_memory(r);
        last = &(*last)->next;
    }
    return 0;
}

#define BODY '\1' /* what closes the body of a heredoc: no text holds this byte */

/* Where we are in a text for sh: what closes each thing that is open there, the innermost last. */
struct place {
    char close[2 * DSL_DEPTH_MAX];
    size_t depth;
};

static void enter(struct place *in, char close)
{
    if (in->depth < sizeof in->close)
        in->close[in->depth++] = close;
}

/* Does the text hold a sign that only bash understands?  Signs in quotes do not count: `grep 'x$' f && echo '\t'` is for
 * sh, which reads that `\t` in its own way. */
static bool only_bash(struct place *in, const char *s, size_t size)
{
    static const char *const signs[] = {"<(", ">(", "<<<", "|&", "$'"};
    const char *end = s + size, *from = s;
    for (; s < end; s++) {
        char close = in->depth ? in->close[in->depth - 1] : 0;
        bool quoted = close == '"' || close == BODY, substituted = *s == '`' || (*s == '$' && s[1] == '(');
        if (*s == '\\' || (*s == '$' && s[1] == '$')) {
            s++;
        } else if (close && *s == close) {
            in->depth--;
        } else if (substituted) {
            enter(in, *s == '`' ? '`' : ')');
            s += *s == '$';
        } else if (!quoted) {
            for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
                if (strncmp(s, signs[i], strlen(signs[i])) == 0)
                    return true;
            if (*s == '"' || *s == '(')
                enter(in, *s == '(' ? ')' : '"');
            else if (*s == '\'' || (*s == '#' && (s == from || strchr(" \t\n;|&()", s[-1]))))
                s += strcspn(s + 1, *s == '#' ? "\n" : "'") + 1;
        }
    }
    return false;
}

static const char *shell_for(const struct resolver *r, const struct stage *s)
{
    struct place in = {0};
    const char *text = r->text->data;
    size_t at = s->start;
    bool bash = false;
    for (size_t i = tree_heredoc(r->tree, s->start); i < r->tree->here_count && !bash; i++) {
        const struct heredoc *h = r->tree->here[i];
        struct place body = {.close = {BODY}, .depth = 1};
        if (h->op >= s->start && h->op < s->end && !h->quoted)
            bash = only_bash(&body, text + h->from, h->to - h->from);
        if (h->from >= s->end || bash)
            continue;
        bash = only_bash(&in, text + at, h->from - at);
        at = h->to < s->end ? h->to : s->end;
    }
    return bash || only_bash(&in, text + at, s->end - at) ? "bash" : "sh";
}

int words_text(struct resolver *r, struct stage *s)
{
    struct buf source = BUF_INIT(DSL_JOB_MAX), text = BUF_INIT(2 * DSL_JOB_MAX);
    bool any = false;
    copy_source(r, s, &source);
    buf_add(&source, "", 0);
    int result = source.failed ? resolve_no_memory(r) : text_parameters(r, s, source.data);
    if (result == 0) {
        s->shell = shell_for(r, s);
        if (s->holes_at)
            make_holes(source.data, s->holes_at, &text, &any);
        else
            buf_add(&text, source.data, source.size);
        s->text = text.failed ? NULL : arena_bytes(r->arena, text.data, text.size);
        s->text_holes = any;
        result = s->text ? 0 : resolve_no_memory(r);
    }
    buf_clear(&source);
    buf_clear(&text);
    return result;
}

/* Quote a word for sh; holes are left outside of the quotes. */
static void quote(const char *s, struct buf *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:+@%-";
    if (*s && s[strspn(s, plain)] == '\0') {
        buf_text(out, s);
        return;
    }
    buf_byte(out, '\'');
    for (; *s; s++) {
        if (*s == '\'')
            buf_text(out, "'\\''");
        else if (*s == GRAPH_HOLE) {
            buf_byte(out, '\'');
            buf_add(out, s++, 2);
            buf_byte(out, '\'');
        } else
            buf_byte(out, *s);
    }
    buf_byte(out, '\'');
}

int words_command_text(struct resolver *r, struct stage *s)
{
    struct buf out = BUF_INIT(2 * DSL_JOB_MAX);
    if (s->command)
        buf_text(&out, "command ");
    for (const struct value *v = s->value; v; v = v->next) {
        if (v != s->value)
            buf_byte(&out, ' ');
        /* `[` and `:` and `.` are commands as they stand */
        if (v == s->value && strlen(v->text) == 1)
            buf_text(&out, v->text);
        else
            quote(v->text, &out);
        s->text_holes = s->text_holes || v->hole;
    }
    if (!s->value)
        buf_byte(&out, ':'); /* only redirections or assignments, no command */
    s->text = out.failed ? NULL : arena_bytes(r->arena, out.data, out.size);
    s->shell = "sh";
    buf_clear(&out);
    return s->text ? 0 : resolve_no_memory(r);
}
