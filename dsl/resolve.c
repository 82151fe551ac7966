/* See resolve.h.  Walks the tree once, in text order.  The order is part of the language: the job's stdin goes to the first
 * stage that names it, otherwise to the first that could read it. */
#include "dsl/resolve.h"
#include "dsl/commands.h"
#include "dsl/files.h"
#include "dsl/settings.h"
#include "proto/graph.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The stages whose output flows into a nested pipeline: [first, upto) of the pipeline around it, and `before` for what
 * flows into that. */
struct upstream {
    const struct stage *first, *upto;
    const struct upstream *before;
};

/* What surrounds a pipeline. */
struct place {
    const char *body;       /* as stage.holes_at; or "map", in which holes are not filled */
    bool first;             /* nothing flows in, so its first stage may read the job's stdin */
    struct pipeline *whole; /* at top level: the statement's pipeline */
    const struct upstream *before; /* of a body: the stages before it */
};

static int resolve_pipeline(struct resolver *r, struct pipeline *l, struct place at);

#define FAIL(r, at, hint, ...) text_fail((r)->text, at, (r)->e, hint, __VA_ARGS__)

/* ---- stdin ------------------------------------------------------------------------------- */

/* The stage would read stdin and nothing flows into it; `names`: it names stdin, as `-` or /dev/stdin. */
static void wants_stdin(struct resolver *r, struct stage *s, bool names)
{
    s->from = STDIN_EMPTY;
    if (r->defining && !names)
        return; /* a named pipeline that is a filter: each use decides */
    if (names && !r->names_stdin)
        r->names_stdin = s;
    if (!r->reads_stdin)
        r->reads_stdin = s;
}

/* ---- redirections ------------------------------------------------------------------------ */

static bool standard(const char *name)
{
    static const char *const names[] = {"/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr",
                                        "/dev/fd/0", "/dev/fd/1",  "/dev/fd/2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int check_in(struct resolver *r, struct redir *d)
{
    struct stat st;
    const char *path = uses_path(r, d->target);
    if (!path)
        return -1;
    d->from = written_awaited(r, d->target, true);
    if (d->from || strchr(d->target, GRAPH_HOLE))
        return 0;
    if (stat(path, &st) < 0)
        return FAIL(r, d->word->start, NULL, "%.200s: %s", d->target,
                    errno == ENOENT ? "no such file" : strerror(errno));
    if (S_ISDIR(st.st_mode))
        return FAIL(r, d->word->start, NULL, "%.200s: this is a directory", d->target);
    if (d->target[strlen(d->target) - 1] == '/')
        return FAIL(r, d->word->start, NULL, "%.200s: %s", d->target, strerror(ENOTDIR));
    if (!S_ISREG(st.st_mode))
        return FAIL(r, d->word->start, "give it as the stdin of zpipe",
                    "%.200s: this is not a regular file", d->target);
    if (access(path, R_OK) < 0)
        return FAIL(r, d->word->start, NULL, "%.200s: %s", d->target, strerror(errno));
    return 0;
}

static int resolve_redir(struct resolver *r, struct stage *s, struct redir *d, struct place at)
{
    struct value *v;
    if (d->kind == REDIR_DUP)
        return 0;
    const struct word *w = d->here ? d->here->body : d->word;
    bool file = d->kind == REDIR_IN || d->kind == REDIR_OUT || d->kind == REDIR_APPEND;
    if (file && words_pattern(w))
        return FAIL(r, w->start,
                    d->kind == REDIR_IN ? "for several files: cat *.log | …; or quote the name"
                                        : "quote the name",
                    "a redirection names one file, and this is a pattern");
    if (words_one(r, w, at.body, &v) < 0)
        return -1;
    d->target = v->text;
    if (d->kind == REDIR_HERE || d->kind == REDIR_STRING) {
        struct buf b = BUF_INIT(DSL_JOB_MAX);
        buf_text(&b, v->text);
        if (d->kind == REDIR_STRING)
            buf_byte(&b, '\n');
        buf_add(&b, "", 0);
        d->bytes = (struct slice){b.failed ? NULL : arena_bytes(r->arena, b.data, b.size), b.size};
        buf_clear(&b);
        return d->bytes.data ? 0 : resolve_no_memory(r);
    }
    if (!*d->target)
        return FAIL(r, w->start, NULL, "the name of this file is empty");
    if (standard(d->target))
        return 0;
    if (d->kind == REDIR_IN)
        return check_in(r, d);
    if (r->defining && at.whole && !s->next && d->fd == 1) {
        char hint[200];
        snprintf(hint, sizeof hint, "write `%.60s > %.80s` on a line of its own", r->defining->name,
                 d->target);
        return FAIL(r, d->at, hint,
                    "the output of %.100s goes to a file, so nothing is left to name",
                    r->defining->name);
    }
    struct stage marked = *s;
    marked.holes_at = at.body;
    return written_add(r, &marked, d->target, w->start, d->kind == REDIR_APPEND);
}

static int resolve_redirs(struct resolver *r, struct stage *s, struct place at)
{
    for (struct redir *d = s->redir; d; d = d->next)
        if (resolve_redir(r, s, d, at) < 0)
            return -1;
    return 0;
}

/* What fd 0 is after the redirections: 0 not redirected, 1 redirected, 2 redirected to /dev/stdin. */
static int stdin_after(const struct stage *s)
{
    int got = 0;
    for (const struct redir *d = s->redir; d; d = d->next)
        if (d->fd == 0 && d->target)
            got = strcmp(d->target, "/dev/stdin") == 0 || strcmp(d->target, "/dev/fd/0") == 0
                      ? (got == 1 ? 1 : 2)
                      : 1;
    return got;
}

/* ---- settings ---------------------------------------------------------------------------- */

static int fail_setting(struct resolver *r, const struct word *w, const char *name)
{
    bool upper = name[0] >= 'A' && name[0] <= 'Z';
    const char *near = setting_nearest(name, w->assign);
    char hint[256], names[200];
    setting_names(names, sizeof names);
    if (upper)
        snprintf(hint, sizeof hint, "for a variable of the program write `with … { %.60s … }`",
                 name);
    else if (near)
        snprintf(hint, sizeof hint, "did you mean `%s`?", near);
    else
        snprintf(hint, sizeof hint, "they are %s", names);
    return FAIL(r, w->start, hint, "`%.*s` is not a setting", (int)w->assign, name);
}

static int resolve_settings(struct resolver *r, struct setting *s)
{
    for (; s; s = s->next) {
        struct value *v;
        if (words_one(r, s->word, NULL, &v) < 0)
            return -1;
        size_t n = s->word->assign;
        s->value = v->text + n + 1;
        s->kind = setting_find(v->text, n);
        if (!s->kind)
            return fail_setting(r, s->word, v->text);
        uint64_t number;
        if (!setting_read(s->kind, s->value, &number))
            return FAIL(r, s->word->start + n + 1, setting_hint(s->kind),
                        "`%.100s` is not %s", s->value, setting_wanted(s->kind));
        if (strcmp(s->kind->name, "files") == 0 &&
            uses_with(r, s->value, s->word->start + n + 1) < 0)
            return -1;
    }
    return 0;
}

/* ---- simple commands --------------------------------------------------------------------- */

/* Is this command's name that of a pipeline defined further down?  The user most likely meant that one. */
static int check_later(struct resolver *r, const struct item *i)
{
    const struct word *w = i->word;
    if (i->next && i->next->word && word_is(i->next->word, "="))
        return 0; /* `w < f = x` is no use of a named pipeline */
    for (const struct definition *d = r->tree->definition; d; d = d->next)
        if (d->at > w->start && word_is(w, d->name))
            return FAIL(r, w->start, "move its definition above its use",
                        "%.100s is defined below, on line %zu", d->name, d->line);
    return 0;
}

static int resolve_items(struct resolver *r, struct stage *s, struct place at)
{
    struct value **word = &s->value, **env = &s->env;
    int fd = 63;
    bool hit = false;
    for (struct item *i = s->item; i; i = i->next) {
        if (i->kind == ITEM_SUBST) {
            struct value *v = arena_alloc(r->arena, sizeof *v);
            char name[32];
            if (fd < 10)
                return FAIL(r, i->at, NULL, "one command has too many <( ) and >( )");
            snprintf(name, sizeof name, "/dev/fd/%d", fd);
            i->fd = fd--;
            char *text = arena_string(r->arena, name);
            if (!v || !text)
                return resolve_no_memory(r);
            *v = (struct value){.text = text, .subst = i};
            *word = v;
            word = &v->next;
            continue;
        }
        if (i->kind == ITEM_WORD && !hit && !s->command && i->at == s->start &&
            check_later(r, i) < 0)
            return -1;
        hit = hit || i->kind == ITEM_WORD;
        struct value ***last = i->kind == ITEM_ASSIGN ? &env : &word;
        if (words_expand(r, i->word, at.body, i->kind == ITEM_WORD, last) < 0)
            return -1;
    }
    return 0;
}

/* Can `cat F...` be a source without a process: are its operands readable regular files and `-` only? */
static bool cat_files(struct resolver *r, const struct stage *s)
{
    for (const struct value *v = s->value->next; v; v = v->next) {
        struct stat st;
        r->no_file = v->text;
        if (strcmp(v->text, "-") == 0)
            continue;
        if (v->text[0] == '-' || v->subst || v->hole || !*v->text || v->text[strlen(v->text) - 1] == '/')
            return false;
        const char *path = uses_path(r, v->text);
        if (!path || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0)
            return false;
        if (written_awaited(r, v->text, true))
            continue;
        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, R_OK) < 0)
            return false;
    }
    r->no_file = NULL;
    return true;
}

/* Has this cat no redirection that only a running cat could honour, such as one of its stderr? */
static bool cat_plain(const struct stage *s)
{
    if (s->join || s->env)
        return false;
    for (const struct redir *d = s->redir; d; d = d->next)
        if (d->fd == 2 || d->kind == REDIR_DUP ||
            (d->fd == 1 && standard(d->target) && strcmp(d->target, "/dev/null") != 0))
            return false;
    int outs = 0;
    for (const struct redir *d = s->redir; d; d = d->next)
        outs += d->fd == 1;
    return outs <= 1;
}

/* Make `cat` at the start of a pipeline a source, without a process, where that is the same. */
static bool try_source(struct resolver *r, struct stage *s, struct place at)
{
    if (!at.first || strcmp(s->value->text, "cat") != 0 || !cat_plain(s) || !cat_files(r, s))
        return false;
    bool dash = false;
    for (const struct value *v = s->value->next; v; v = v->next)
        dash = dash || strcmp(v->text, "-") == 0;
    int redirected = stdin_after(s);
    if (s->value->next && redirected == 1 && dash)
        return false; /* `cat - f < g`: stdin is another file */
    if (r->defining && !s->value->next && !redirected)
        return false; /* a named filter that does nothing */
    s->source = true;
    s->from = STDIN_OWN;
    if (dash || (!s->value->next && redirected != 1)) {
        s->names_stdin = dash || redirected == 2;
        wants_stdin(r, s, s->names_stdin);
    }
    return true;
}

static int resolve_substs(struct resolver *r, struct stage *s, struct place at)
{
    for (struct item *i = s->item; i; i = i->next)
        if (i->kind == ITEM_SUBST) {
            struct place inner = {.body = at.body, .first = !i->out};
            if (resolve_pipeline(r, i->pipeline, inner) < 0)
                return -1;
        }
    return 0;
}

static int resolve_text(struct resolver *r, struct stage *s, struct place at)
{
    if (words_text(r, s) < 0 || uses_scan(r, s) < 0)
        return -1;
    int redirected = stdin_after(s);
    if (at.first && redirected != 1)
        wants_stdin(r, s, redirected == 2);
    else if (redirected == 1)
        s->from = STDIN_OWN;
    s->prints_names = s->reads_names = true;
    return 0;
}

static int resolve_simple(struct resolver *r, struct stage *s, struct place at)
{
    if (s->odd) {
        s->redir = NULL; /* sh carries out the redirections */
        return resolve_text(r, s, at);
    }
    if (resolve_items(r, s, at) < 0 || resolve_redirs(r, s, at) < 0)
        return -1;
    if (s->value && try_source(r, s, at))
        return 0;
    const char *name = s->value ? s->value->text : ":";
    struct err e = {0};
    const struct command *known = commands_find(r->commands, name, &e);
    if (e.code)
        return text_fail(r->text, s->start, r->e, NULL, "%s", e.text);
    s->builtin = (command_builtin(name) || !*name) && !(s->value && s->value->hole);
    s->prints_names = s->builtin || (known && known->here != COMMAND_HERE_NEVER);
    s->reads_names = known && known->reads_names;
    if (uses_find(r, s, known) < 0)
        return -1;
    if (s->builtin)
        for (const struct item *i = s->item; i; i = i->next)
            if (i->kind == ITEM_SUBST)
                s->shell = "sh"; /* sh gets its descriptors and passes them on to the builtin's place */
    if (s->builtin && words_command_text(r, s) < 0)
        return -1;
    int redirected = stdin_after(s);
    bool reads = s->builtin ? command_builtin_reads(name) : !(known && known->silent);
    s->names_stdin = s->names_stdin || redirected == 2;
    if (redirected == 1)
        s->from = STDIN_OWN;
    else if (at.first && (s->names_stdin || (reads && !s->file_operand)))
        wants_stdin(r, s, s->names_stdin);
    else if (at.first)
        s->from = STDIN_OWN;
    return resolve_substs(r, s, at);
}

/* ---- stages ------------------------------------------------------------------------------ */

static int resolve_opaque(struct resolver *r, struct stage *s, struct place at)
{
    if (resolve_redirs(r, s, at) < 0)
        return -1;
    return resolve_text(r, s, at);
}

static int resolve_name(struct resolver *r, struct stage *s, struct place at)
{
    if (resolve_redirs(r, s, at) < 0)
        return -1;
    int redirected = stdin_after(s);
    const struct definition *d = s->definition;
    if (d->source && (!at.first || redirected)) {
        char hint[200];
        snprintf(hint, sizeof hint, "put `%.60s` first, or give its file as <(%.60s)", d->name,
                 d->name);
        return FAIL(r, s->start, hint,
                    "%.100s has a source of its own, so nothing would read this pipe", d->name);
    }
    s->from = redirected == 1 || d->source ? STDIN_OWN : STDIN_PIPE;
    if (s->from == STDIN_PIPE && at.first)
        wants_stdin(r, s, redirected == 2);
    return 0;
}

static int resolve_with(struct resolver *r, struct stage *s, struct place at)
{
    if (resolve_settings(r, s->setting) < 0 || resolve_redirs(r, s, at) < 0)
        return -1;
    int redirected = stdin_after(s);
    struct place inner = {.body = at.body, .first = at.first && redirected != 1, .before = at.before};
    if (resolve_pipeline(r, s->body, inner) < 0)
        return -1;
    s->from = redirected == 1 ? STDIN_OWN : s->body->stage->from;
    return 0;
}

/* `\0 \n \t \\` and \xHH in a record's text */
static int record_text(struct resolver *r, struct stage *s)
{
    char *text = s->record_word ? word_literal(s->record_word, r->arena) : NULL;
    if (!text)
        return 0;
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        static const char from[] = "0nt\\", to[] = "\0\n\t\\";
        const char *found = c[0] == '\\' && c[1] ? strchr(from, c[1]) : NULL;
        if (found && s->record == RECORD_END) {
            text[n++] = to[found - from];
            c++;
        } else {
            text[n++] = *c;
        }
    }
    s->record_text = (struct slice){text, n};
    return 0;
}

static int resolve_map(struct resolver *r, struct stage *s, struct place at)
{
    struct place body = {.body = s->kind == STAGE_REDUCE ? "reduce" : s->per_file ? "each" : "map", .before = at.before};
    struct place merge = {.body = "merge", .before = at.before};
    if (resolve_redirs(r, s, at) < 0 || record_text(r, s) < 0)
        return -1;
    int redirected = stdin_after(s);
    s->from = redirected == 1 ? STDIN_OWN : STDIN_PIPE;
    if (at.first && redirected != 1)
        wants_stdin(r, s, redirected == 2);
    if (s->separator) {
        const char *byte = word_literal(s->separator, r->arena);
        s->separator_byte = byte ? (unsigned char)byte[0] : -1;
    }
    if (resolve_pipeline(r, s->body, body) < 0)
        return -1;
    return s->merge ? resolve_pipeline(r, s->merge, merge) : 0;
}

typedef int resolve_stage(struct resolver *r, struct stage *s, struct place at);

static resolve_stage *const by_kind[] = {
    [STAGE_SIMPLE] = resolve_simple, [STAGE_OPAQUE] = resolve_opaque, [STAGE_NAME] = resolve_name,
    [STAGE_WITH] = resolve_with,     [STAGE_MAP] = resolve_map,       [STAGE_REDUCE] = resolve_map,
};

static int resolve_pipeline(struct resolver *r, struct pipeline *l, struct place at)
{
    for (struct stage *s = l->stage; s; s = s->next) {
        const struct upstream here = {l->stage, s, at.before};
        struct place p = at;
        p.first = at.first && s == l->stage;
        p.before = &here;
        s->holes_at = at.body;
        s->from = STDIN_PIPE;
        if (by_kind[s->kind](r, s, p) < 0)
            return -1;
        if (s->reads_program && uses_piped_program(r, s, here.first, here.upto) < 0)
            return -1;
        bool lists = s->unknown_words || (s->reads_names && !s->text);
        for (const struct upstream *u = s->reads_names || lists ? &here : NULL; u; u = u->before)
            if ((s->reads_names && uses_share(r, s, u->first, u->upto) < 0) || (lists && uses_lists(r, s, u->first, u->upto) < 0))
                return -1;
    }
    return 0;
}

/* ---- statements -------------------------------------------------------------------------- */

/* Has the first stage of a definition a source of its own?  Otherwise the definition is a filter, and reads what its use
 * gives it. */
static bool has_source(const struct stage *s)
{
    return s->from == STDIN_OWN || s->names_stdin;
}

static int resolve_check(struct resolver *r, const struct statement *s)
{
    const char *name = word_literal(s->name, r->arena);
    for (const struct definition *d = r->tree->definition; name && d; d = d->next)
        if (d->at < s->start && strcmp(d->name, name) == 0) {
            if (!d->source)
                return FAIL(r, s->name->start, NULL,
                            "%.100s has no source, so it has no bytes to check", name);
            return 0;
        }
    if (name && written_find(r, name))
        return 0;
    return FAIL(r, s->name->start, NULL, "%.100s is neither a name nor an output above this line",
                name ? name : "this");
}

static int resolve_statement(struct resolver *r, struct statement *s)
{
    int result = 0;
    switch (s->kind) {
    case STATEMENT_ASSIGN:
        return words_assign(r, s->assign);
    case STATEMENT_WITH:
        return resolve_settings(r, s->setting);
    case STATEMENT_CHECK:
        return resolve_check(r, s);
    case STATEMENT_DEFINE:
        r->defining = s->definition;
        result =
            resolve_pipeline(r, s->pipeline, (struct place){.first = true, .whole = s->pipeline});
        r->defining = NULL;
        s->definition->source = has_source(s->pipeline->stage);
        return result;
    case STATEMENT_PIPELINE:
        return resolve_pipeline(r, s->pipeline,
                                (struct place){.first = true, .whole = s->pipeline});
    }
    return 0;
}

static int check_outputs(struct resolver *r)
{
    const struct statement *last = NULL;
    const struct definition *name = NULL;
    for (const struct statement *s = r->tree->statement; s; s = s->next) {
        last = s;
        if (s->kind == STATEMENT_PIPELINE || s->kind == STATEMENT_CHECK)
            return 0;
        if (s->kind == STATEMENT_DEFINE)
            name = s->definition;
    }
    char hint[200] = "add a pipeline";
    if (name)
        snprintf(hint, sizeof hint, "add a line `%.60s`, or `%.60s > FILE`", name->name,
                 name->name);
    return FAIL(r, last && last->end ? last->end - 1 : 0, hint,
                name ? "this job defines pipelines but prints none" : "there is nothing to run");
}

static int check_counts(struct resolver *r)
{
    size_t parameters = r->in->parameter_count + r->in->env_count;
    for (const struct statement *s = r->tree->statement; s; s = s->next) {
        for (const struct item *i = s->assign; i; i = i->next)
            parameters++;
        if (parameters > PARAMETERS_MAX)
            return FAIL(r, s->start, NULL, "the job has more than %d parameters", PARAMETERS_MAX);
    }
    return 0;
}

static int resolve_with_words(struct resolver *r)
{
    for (size_t i = 0; i < r->in->with_count; i++) {
        const char *word = r->in->with[i], *equals = strchr(word, '=');
        const struct setting_kind_of *k =
            equals ? setting_find(word, (size_t)(equals - word)) : NULL;
        uint64_t number;
        if (k && !setting_read(k, equals + 1, &number))
            return FAIL(r, 0, setting_hint(k), "`%.100s` is not %s", equals + 1,
                        setting_wanted(k));
        const char *path = !k ? word : strcmp(k->name, "files") == 0 ? equals + 1 : NULL;
        if (path && uses_with(r, path, 0) < 0)
            return -1;
    }
    return 0;
}

int resolve_tree(struct resolver *r, const struct dsl_input *in, const struct text *text,
                 struct tree *tree, struct arena *a, struct err *e)
{
    *r = (struct resolver){.in = in, .text = text, .arena = a, .e = e, .tree = tree};
    r->last_written = &r->written;
    r->last_with = &r->with_file;
    r->commands = commands_new(a, in->commands, in->commands_count, e);
    if (!r->commands)
        return -1;
    if (check_counts(r) < 0 || words_parameters(r) < 0 || resolve_with_words(r) < 0)
        return -1;
    for (struct statement *s = tree->statement; s; s = s->next) {
        if (resolve_statement(r, s) < 0)
            return -1;
        r->statement++;
    }
    struct stage *reader = r->names_stdin ? r->names_stdin : r->reads_stdin;
    if (reader)
        reader->from = STDIN_JOB;
    if (check_outputs(r) < 0)
        return -1;
    for (size_t i = 0; i < r->parameter_count; i++)
        if (r->parameter[i].given && !r->parameter[i].used)
            return FAIL(r, 0, NULL, "`%.100s` is used nowhere", r->parameter[i].name);
    return 0;
}
