/* See split.h.  A stage's words are read by the options of its table entry.  The first form whose conditions hold says how
 * the stage may be cut.  The stage runs whole if the entry does not know an option or operand, if a variable may change
 * what the command does, or if there is a second stream in or out; `why` then names the reason. */
#include "dsl/split.h"
#include "dsl/files.h"
#include "dsl/split_inside.h"
#include "proto/combine.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SMALL_FILE    (1u << 20)  /* for the condition `small`: on average, */
#define SMALL_LARGEST (16u << 20) /* and each */

int split_whole(struct split_case *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return SPLIT_WHOLE;
}

static int no_memory(struct split_case *c)
{
    err_nomem(c->e);
    return SPLIT_FAILED;
}

const char *split_value(const struct split_case *c, const char *option)
{
    const char *value = NULL;
    for (uint32_t i = 0; i < c->option_count; i++)
        if (strcmp(c->option[i].option->name[0], option) == 0)
            value = c->option[i].value ? c->option[i].value : "";
    return value;
}

bool split_has(const struct split_case *c, const char *option)
{
    return split_value(c, option) != NULL;
}

/* ---- the clauses of a form --------------------------------------------------------------- */

static int native_text(struct split_case *c, struct buf *b)
{
    struct err e;
    buf_add(b, "", 0);
    struct combine *known = b->failed ? NULL : combine_new(b->data, &e);
    c->s->combine = GRAPH_COMBINE_NATIVE;
    c->s->combine_text = b->failed ? NULL : arena_string(&c->g->arena, b->data);
    int r = b->failed || !c->s->combine_text ? no_memory(c)
            : known                          ? SPLIT_OK
                                             : split_whole(c, "its options are out of the usual");
    combine_free(known);
    buf_clear(b);
    return r;
}

int split_native(struct split_case *c, const char *format, ...)
{
    char text[COMBINE_TEXT_MAX];
    struct buf b = BUF_INIT(sizeof text);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_text(&b, text);
    return native_text(c, &b);
}

static int clause_native(struct split_case *c, const char *const *word, uint32_t count)
{
    struct buf b = BUF_INIT(COMBINE_TEXT_MAX);
    bool unnamed;
    const char *const *filled = split_filled(c, word, count, &count, &unnamed);
    for (uint32_t i = 0; filled && i < count; i++)
        buf_printf(&b, "%s%s", i ? " " : "", filled[i]);
    if (!filled)
        return SPLIT_FAILED;
    return native_text(c, &b);
}

static int clause_words(struct split_case *c, const char *const *word, uint32_t count,
                        const char *const **argv, uint32_t *argc)
{
    bool unnamed;
    *argv = split_filled(c, word, count, argc, &unnamed);
    if (unnamed)
        return split_whole(c, "it prints names of files, which are longer than need be");
    return *argv ? SPLIT_OK : SPLIT_FAILED;
}

/* A number from the table or from an option, with or without a `+`. */
static int clause_number(struct split_case *c, const char *word, uint64_t *out)
{
    bool unnamed;
    uint32_t count;
    const char *const *filled = split_filled(c, &word, 1, &count, &unnamed);
    if (!filled)
        return SPLIT_FAILED;
    const char *text = count ? filled[0] : "";
    text += *text == '+';
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 18 || text[n])
        return split_whole(c, "`%.60s` is no plain number", text);
    *out = strtoull(text, NULL, 10);
    return SPLIT_OK;
}

static int clause_ask(struct split_case *c, const char *name)
{
    static const struct {
        const char *name;
        int (*ask)(struct split_case *c);
    } known[] = {{"sed", split_sed},     {"awk", split_awk},     {"perl", split_perl},
                 {"jq", split_jq},       {"tr", split_tr},       {"wc", split_wc},
                 {"paste", split_paste}, {"iconv", split_iconv}, {"xargs", split_xargs},
                 {"plain", split_plain}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].ask(c);
    return split_whole(c, "its entry asks for `%.20s`, which is not known", name);
}

int split_without(struct split_case *c, const char *bytes, size_t size)
{
    c->s->spoils.data = arena_bytes(&c->g->arena, bytes, size);
    c->s->spoils.size = size;
    return c->s->spoils.data ? SPLIT_OK : no_memory(c);
}

int split_seam(struct split_case *c, const char *bytes, size_t size)
{
    c->s->seam.data = arena_bytes(&c->g->arena, bytes, size);
    c->s->seam.size = size;
    return c->s->seam.data ? SPLIT_OK : no_memory(c);
}

/* Bytes that the table writes as numbers. */
static int clause_bytes(struct split_case *c, const char *const *word, uint32_t count,
                        int (*use)(struct split_case *c, const char *bytes, size_t size))
{
    char bytes[COMMAND_WORDS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t byte;
        int r = clause_number(c, word[i], &byte);
        if (r != SPLIT_OK)
            return r;
        bytes[i] = (char)byte;
    }
    return use(c, bytes, count);
}

static int clause_cut(struct split_case *c, uint32_t cut, const char *const *word, uint32_t count)
{
    c->s->cut = cut;
    c->s->cut_step = 1;
    if (count > 2)
        return split_whole(c, "its entry has a bad `%.20s`", word[0]);
    return count == 2 ? clause_number(c, word[1], &c->s->cut_step) : SPLIT_OK;
}

static int clause(struct split_case *c, const char *const *word, uint32_t count)
{
    struct graph_split *s = c->s;
    const char *w = word[0];
    if (strcmp(w, "bytes") == 0)
        return clause_cut(c, GRAPH_CUT_BYTES, word, count);
    if (strcmp(w, "lines") == 0)
        return clause_cut(c, GRAPH_CUT_LINES, word, count);
    if (strcmp(w, "nuls") == 0 || (strcmp(w, "records") == 0 && split_has(c, "-z")))
        return s->ends_lines = false, clause_cut(c, GRAPH_CUT_NULS, word, count);
    if (strcmp(w, "records") == 0)
        return clause_cut(c, GRAPH_CUT_LINES, word, count);
    if (strcmp(w, "files") == 0)
        return clause_cut(c, GRAPH_CUT_FILES, word, 1);
    if (strcmp(w, "block") == 0)
        return clause_words(c, word + 1, count - 1, &s->block_argv, &s->block_argc);
    if (strcmp(w, "rest") == 0)
        return clause_words(c, word + 1, count - 1, &s->rest_argv, &s->rest_argc);
    if (strcmp(w, "first") == 0 && count == 2)
        return s->run = GRAPH_RUN_FIRST, clause_number(c, word[1], &s->first_units);
    if (strcmp(w, "rerun") == 0 && count == 1) {
        s->combine = GRAPH_COMBINE_RERUN;
        s->combine_argv = c->n->argv;
        s->combine_argc = c->n->argc;
        return SPLIT_OK;
    }
    if (strcmp(w, "rerun") == 0 || strcmp(w, "merge") == 0) {
        s->combine = *w == 'r' ? GRAPH_COMBINE_RERUN : GRAPH_COMBINE_MERGE;
        return clause_words(c, word + 1, count - 1, &s->combine_argv, &s->combine_argc);
    }
    if (strcmp(w, "order") == 0)
        return clause_words(c, word + 1, count - 1, &s->order_argv, &s->order_argc);
    if (strcmp(w, "native") == 0)
        return clause_native(c, word + 1, count - 1);
    if (strcmp(w, "without") == 0)
        return clause_bytes(c, word + 1, count - 1, split_without);
    if (strcmp(w, "seam") == 0)
        return clause_bytes(c, word + 1, count - 1, split_seam);
    if (strcmp(w, "groups") == 0) {
        s->groups = true;
        for (uint32_t i = 1; i < count; i++)
            s->groups &= !split_has(c, word[i]);
        return SPLIT_OK;
    }
    if (strcmp(w, "ask") == 0 && count == 2)
        return clause_ask(c, word[1]);
    if (strcmp(w, "last") == 0)
        s->run = GRAPH_RUN_LAST;
    else if (strcmp(w, "reverse") == 0)
        s->combine = GRAPH_COMBINE_REVERSE;
    else if (strcmp(w, "joined") == 0)
        s->ends_lines = false;
    else if (strcmp(w, "stops") == 0)
        s->stops_early = true;
    else if (strcmp(w, "filled") == 0)
        s->empty_ok = false;
    else if (strcmp(w, "light") == 0)
        s->light = true;
    else if (strcmp(w, "picks") == 0)
        s->picks = true;
    else if (strcmp(w, "apart") == 0)
        c->apart = true;
    else
        return split_whole(c, "its entry says `%.20s`, which is not understood", w);
    return SPLIT_OK;
}

static int clauses(struct split_case *c, const struct command_form *f)
{
    for (uint32_t i = 0, end; i < f->words; i = end + 1) {
        for (end = i; end < f->words && strcmp(f->word[end], "|") != 0;)
            end++;
        int r = end > i ? clause(c, f->word + i, end - i) : SPLIT_OK;
        if (r != SPLIT_OK)
            return r;
    }
    if (c->file_count > 1 && !c->apart && c->s->cut != GRAPH_CUT_FILES)
        return split_whole(c, "it reads %u files as one", c->file_count);
    return SPLIT_OK;
}

/* ---- which form -------------------------------------------------------------------------- */

/* Are its files such that most would be a block each, as no block spans two, and a small one?  With blocks of a given size
 * (`--split always`) none are. */
static bool are_small(const struct split_case *c)
{
    uint64_t bytes = 0, largest = 0;
    for (uint32_t i = 0; i < c->file_count; i++) {
        uint64_t size = c->g->file[c->file[i]].size_bytes;
        bytes += size;
        largest = size > largest ? size : largest;
    }
    return !c->g->split_bytes && c->file_count && bytes / c->file_count < SMALL_FILE && largest <= SMALL_LARGEST;
}

static bool condition_holds(const struct split_case *c, const char *condition)
{
    size_t name = strcspn(condition, "=");
    if (strcmp(condition, "small") == 0)
        return are_small(c);
    if (strncmp(condition, "files>", 6) == 0)
        return c->file_count > strtoul(condition + 6, NULL, 10);
    if (strncmp(condition, "files=", 6) == 0)
        return c->file_count == strtoul(condition + 6, NULL, 10);
    for (uint32_t i = 0; i < c->option_count; i++) {
        const char *is = c->option[i].option->name[0];
        if (strlen(is) == name && strncmp(is, condition, name) == 0 &&
            (!condition[name] ||
             (c->option[i].value && fnmatch(condition + name + 1, c->option[i].value, 0) == 0)))
            return true;
    }
    return false;
}

static bool form_holds(const struct split_case *c, const struct command_form *f)
{
    for (uint32_t i = 0; i < f->conditions; i++)
        if (!condition_holds(c, f->condition[i]))
            return false;
    if (!f->given)
        return true;
    if (f->operands != c->operand_count)
        return false;
    for (uint32_t i = 0; i < f->operands; i++)
        if (strcmp(f->operand[i], "*") != 0 && strcmp(f->operand[i], c->operand[i]) != 0)
            return false;
    return true;
}

/* The node's input with that name; the search begins after the input that was found last. */
static uint32_t file_named(const struct split_case *c, const char *word, uint32_t *last)
{
    char *name = malloc(strlen(word) + 2);
    uint32_t found = GRAPH_NONE;
    if (name)
        path_normal(word, name);
    for (uint32_t i = 0; name && i < c->n->file_count && found == GRAPH_NONE; i++) {
        uint32_t at = (*last + i) % c->n->file_count, file = c->n->file[at];
        if (strcmp(c->g->file[file].name, name) == 0) {
            found = file;
            *last = at;
        }
    }
    free(name);
    return found;
}

/* The operands after the skipped ones must be regular files, or one `-`, or none; else says why not. */
static int find_files(struct split_case *c)
{
    uint32_t count = c->operand_count > c->skip ? c->operand_count - c->skip : 0, last = 0;
    uint32_t *list = arena_array(&c->g->arena, count + 1, sizeof *list);
    if (!list)
        return no_memory(c);
    c->stdin_alone = count == 0 || (count == 1 && strcmp(c->operand[c->skip], "-") == 0);
    for (uint32_t i = 0; i < count && !c->stdin_alone && c->k->files; i++) {
        const char *word = c->operand[c->skip + i];
        uint32_t file = file_named(c, word, &last);
        bool regular = file != GRAPH_NONE && S_ISREG(c->g->file[file].mode) && word[strlen(word) - 1] != '/';
        if (!regular) {
            split_whole(c, "`%.60s` is %s", word,
                        file == GRAPH_NONE || graph_is_link(&c->g->file[file]) ? "no file that is cut" : "a directory");
            c->file_count = 0;
            return SPLIT_OK;
        }
        c->renamed = c->renamed || strcmp(word, c->g->file[file].name) != 0;
        list[c->file_count++] = file;
    }
    c->file = list;
    return SPLIT_OK;
}

/* Splits the words into options and operands. */
static int read_words(struct split_case *c)
{
    const struct graph_node *n = c->n;
    struct command_walk walk = command_walk(c->k, n->argv + 1, n->argc - 1);
    struct command_item i;
    size_t letters = 0;
    for (uint32_t k = 1; k < n->argc; k++)
        letters += n->argv[k][0] == '-' && n->argv[k][1] != '-' ? strlen(n->argv[k]) : 1;
    if (letters > GRAPH_WORDS_MAX)
        return split_whole(c, "it has more than %d words and options", GRAPH_WORDS_MAX);
    c->option = arena_array(&c->g->arena, letters + 1, sizeof *c->option);
    c->operand = arena_array(&c->g->arena, (size_t)n->argc + 1, sizeof *c->operand);
    if (!c->option || !c->operand)
        return no_memory(c);
    while ((i = command_next(&walk)).kind != ITEM_END) {
        if (i.kind == ITEM_UNKNOWN)
            return split_whole(c, "`%s%.40s` of %.40s is not in the command table",
                               i.value[0] == '-' ? "" : "-", i.value, n->argv[0]);
        if (i.missing)
            return split_whole(c, "`%.40s` lacks its argument", i.option->name[0]);
        if (i.kind == ITEM_OPTION && !i.option->many && i.value && split_has(c, i.option->name[0]))
            return split_whole(c, "`%.40s` is given twice", i.option->name[0]);
        if (i.kind == ITEM_OPTION)
            c->option[c->option_count++] = (struct split_option){i.option, i.value};
        else
            c->operand[c->operand_count++] = i.value;
    }
    c->skip = c->k->skip;
    for (uint32_t k = 0; k < c->k->unless_count; k++)
        if (split_has(c, c->k->unless[k]))
            c->skip = 0;
    return find_files(c);
}

/* ---- what keeps a stage whole whatever it is --------------------------------------------- */

/* May this variable change what a command does? */
static bool variable_matters(const char *variable)
{
    static const char *const prefix[] = {"LC_",  "LANG",     "POSIX",  "_POSIX", "GREP_", "AWK",
                                         "GAWK", "MAWK",     "LD_",    "PERL",   "JQ_",   "PATH=",
                                         "TZ=",  "COLUMNS=", "GZIP",   "XZ_",    "ZSTD_", "BZIP",
                                         "NLS",  "GCONV",    "TABSIZE"};
    const char *value = strchr(variable, '=');
    if ((strncmp(variable, "LC_", 3) == 0 || strncmp(variable, "LANG", 4) == 0) && value &&
        (strcmp(value, "=C") == 0 || strcmp(value, "=POSIX") == 0))
        return false;
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++)
        if (strncmp(variable, prefix[i], strlen(prefix[i])) == 0)
            return true;
    return false;
}

static const char *variable_of(const char *const *env, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (variable_matters(env[i]))
            return env[i];
    return NULL;
}

static int look_outside(struct split_case *c)
{
    const struct graph_node *n = c->n;
    const char *variable = variable_of(n->env, n->envc);
    if (!variable)
        variable = variable_of(c->g->env, c->g->envc);
    if (variable)
        return split_whole(c, "the variable %.*s may change what it does",
                           (int)strcspn(variable, "="), variable);
    if (n->output_count || n->out_glob_count > n->word_globs)
        return split_whole(c, "it writes files");
    if (graph_fd_of(n, 2))
        return split_whole(c, "stderr is data");
    if (n->holes)
        return split_whole(c, "its words hold {}");
    for (uint32_t i = 0; i < n->fd_count; i++)
        if (n->fd[i].fd > 2)
            return split_whole(c, "`<( )` and `>( )` are whole");
    if (c->g->line_reads)
        return split_whole(c, "--line-reads");
    return SPLIT_OK;
}

static const char *base_name(const char *word)
{
    static const char *const places[] = {"/bin/", "/usr/bin/"};
    for (size_t i = 0; i < 2; i++)
        if (strncmp(word, places[i], strlen(places[i])) == 0)
            return word + strlen(places[i]);
    return word;
}

/* May it write a zero byte when it reads none?  A command that only passes on what it reads does not.  Others may only if
 * one of their words can stand for a zero byte. */
static bool may_make_zeros(const struct graph_node *n)
{
    static const char *const decode[] = {"base32", "base64", "basenc", "iconv", "jq", "perl", "xxd"};
    static const char says[] = "0xodcuU"; /* after a backslash these may stand for a zero byte */
    for (size_t i = 0; i < sizeof decode / sizeof *decode; i++)
        if (strcmp(base_name(n->argv[0]), decode[i]) == 0)
            return true;
    for (uint32_t i = 1; i < n->argc; i++) {
        if (strstr(n->argv[i], "%c"))
            return true;
        for (const char *at = n->argv[i]; (at = strchr(at, '\\')); at += at[1] ? 2 : 1)
            if (at[1] && strchr(says, at[1]))
                return true;
    }
    return false;
}

/* ---- a stage ----------------------------------------------------------------------------- */

static int with_form(struct split_case *c)
{
    const struct command_form *f = NULL;
    for (uint32_t i = 0; i < c->k->form_count && !f; i++)
        if (form_holds(c, &c->k->form[i]))
            f = &c->k->form[i];
    if (!f)
        return split_whole(c, "this use of %.40s is not in the command table", c->n->argv[0]);
    if (f->reason)
        return split_whole(c, "%s", f->reason);
    if (!f->given && !c->file_count && !c->stdin_alone)
        return c->why[0] ? SPLIT_WHOLE
                         : split_whole(c, "`%.60s` is an operand too many", c->operand[c->skip]);
    int r = clauses(c, f);
    if (r != SPLIT_OK)
        return r;
    struct graph_split *s = c->s;
    if (c->file_count && graph_fd_of(c->n, 0))
        return split_whole(c, "it reads files, and leaves its stdin unread");
    if (c->file_count && !s->block_argc && !(s->block_argv = split_self(c, NULL, &s->block_argc)))
        return SPLIT_FAILED;
    s->file = c->file;
    s->file_count = c->file_count;
    return s->cut == GRAPH_CUT_NONE ? split_whole(c, "its entry does not say where to cut")
                                    : SPLIT_OK;
}

static int look(struct split_case *c)
{
    struct err e = {0};
    const char *name = base_name(c->n->argv[0]);
    const struct command *exactly = c->n->envc ? NULL : commands_exactly(c->commands, c->n->argv, c->n->argc);
    c->k = exactly ? exactly : commands_find(c->commands, name, &e);
    if (e.code) {
        *c->e = e;
        return SPLIT_FAILED;
    }
    if (!c->k)
        return split_whole(c, "not in the command table");
    int r = look_outside(c);
    c->stdin_alone = exactly; /* the user's entry is for exactly these words, so their meaning does not matter */
    if (r == SPLIT_OK && !exactly)
        r = read_words(c);
    if (r == SPLIT_OK)
        r = with_form(c);
    return r;
}

static int split_node(struct graph *g, uint32_t i, struct commands *commands, struct err *e)
{
    struct graph_split s = {.ends_lines = true, .empty_ok = true, .combine_text = "", .spoils = {"", 0}, .seam = {"", 0}};
    struct split_case c = {.g = g, .n = &g->node[i], .commands = commands, .s = &s, .e = e};
    struct graph_node *n = &g->node[i], as_cut = *n;
    struct err bad;
    int r = look(&c);
    if (r == SPLIT_FAILED)
        return -1;
    /* A command that is cut is known to make no files, whatever its words look like. */
    s.ok_status = c.k ? c.k->ok_status : 0;
    s.makes_zeros = !c.k || !c.k->own || may_make_zeros(n); /* a command of the user's may do so by itself */
    as_cut.split = s;
    as_cut.keep_count = 0;
    as_cut.out_glob_count -= n->word_globs;
    as_cut.word_globs = 0;
    if (r == SPLIT_OK && graph_check_split(g, &as_cut, &bad) < 0)
        r = split_whole(&c, "its entry in the command table makes no sense");
    if (r == SPLIT_OK) {
        *n = as_cut;
        return 0;
    }
    n->why = arena_string(&g->arena, c.why);
    return n->why ? 0 : err_nomem(e);
}

/* Bodies are cut as their author says.  But a `grep` that found nothing in a block has not failed, and if it is the map's
 * last command neither has the map. */
static int body_node(struct graph *g, struct graph_node *n, struct commands *commands, struct err *e)
{
    struct err bad = {0};
    const struct command *k = commands_find(commands, base_name(n->argv[0]), &bad);
    n->split.ok_status = k ? k->ok_status : 0;
    g->node[n->parent].split.ok_status = n->split.ok_status;
    if (!bad.code)
        return 0;
    *e = bad;
    return -1;
}

int split_graph(struct graph *g, struct commands *c, struct err *e)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        struct graph_node *n = &g->node[i];
        if (n->kind == GRAPH_SHELL && n->parent != GRAPH_NONE)
            g->node[n->parent].split.ok_status = 0;
        if (n->kind == GRAPH_COMMAND && n->argc &&
            (n->parent == GRAPH_NONE ? split_node(g, i, c, e) : body_node(g, n, c, e)) < 0)
            return -1;
    }
    return 0;
}
