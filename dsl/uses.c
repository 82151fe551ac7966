/* Which words are inputs and which are outputs (zpipe-language(5), 4.3).  A word, or its part after `=`, is an input if it
 * names a regular file.  It may name a directory only if it is written with a `/`, or is the operand of a command that is
 * known to take one.  The sandbox shows an input under the same name.  For texts inside words see uses_text.c. */
#include "dsl/commands.h"
#include "dsl/files.h"
#include "dsl/glob.h"
#include "dsl/uses_inside.h"
#include "proto/graph.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *uses_path(struct resolver *r, const char *word)
{
    size_t n = strlen(r->in->directory);
    char *path = arena_alloc(r->arena, n + strlen(word) + 3);
    char *normal = arena_alloc(r->arena, n + strlen(word) + 3);
    if (!path || !normal) {
        resolve_no_memory(r);
        return NULL;
    }
    if (word[0] != '/') {
        memcpy(path, r->in->directory, n);
        path[n++] = '/';
    } else {
        n = 0;
    }
    strcpy(path + n, word);
    /* If `..` may follow a symbolic link only the system can resolve it. */
    return path_normal(path, normal) ? normal : path;
}

/* May this directory be an input?  Never all of /, and a directory directly below / only if the caller works in / and the
 * command is known to take directories. */
static bool directory_ok(const char *word, const char *path, bool known)
{
    bool dots = word[strspn(word, "./")] == '\0';
    if (!strchr(path + 1, '/'))
        return known && word[0] != '/' && path[1] && !path_of_image(path);
    return known || (strchr(word, '/') && !dots);
}

static struct use *make_use(struct resolver *r, const char *word, struct value *v, size_t at)
{
    struct use *u = arena_alloc(r->arena, sizeof *u);
    char *copy = arena_string(r->arena, word);
    char *name = arena_alloc(r->arena, strlen(word) + 2);
    if (!u || !copy || !name) {
        resolve_no_memory(r);
        return NULL;
    }
    path_normal(word, name);
    *u = (struct use){.word = copy, .name = name, .path = uses_path(r, word), .value = v, .at = at};
    return u->path ? u : NULL;
}

/* An input above the working directory is shown under its absolute path.  The word that names it is changed to that path. */
static int make_absolute(struct resolver *r, struct use *u)
{
    char real[PATH_MAX];
    if (!realpath(u->path, real))
        return 0;
    u->name = u->path = arena_string(r->arena, real);
    if (!u->name)
        return resolve_no_memory(r);
    if (!u->value)
        return 0;
    const char *text = u->value->text;
    size_t keep = strlen(text) - strlen(u->word);
    char *changed = arena_alloc(r->arena, keep + strlen(real) + 1);
    if (!changed)
        return resolve_no_memory(r);
    memcpy(changed, text, keep);
    strcpy(changed + keep, real);
    u->value->text = changed;
    return 0;
}

static void append_input(struct stage *s, struct use *u)
{
    struct use **last = s->last_input ? s->last_input : &s->input;
    while (*last)
        last = &(*last)->next;
    *last = u;
    s->last_input = &u->next;
}

/* The name with the suffix added, or removed if it is there already; in the arena. */
static char *with_suffix(struct resolver *r, const char *name, const char *suffix)
{
    size_t size = strlen(name), more = strlen(suffix);
    char *out = arena_alloc(r->arena, size + more + 1);
    if (!out) {
        resolve_no_memory(r);
        return NULL;
    }
    bool has = size > more && strcmp(name + size - more, suffix) == 0;
    strcpy(stpcpy(out, name), has ? "" : suffix);
    if (has)
        out[size - more] = '\0';
    return out;
}

int uses_changed(struct resolver *r, struct stage *s, const char *name)
{
    struct use *before = s->maybe;
    bool here = !name[strspn(name, "./")] && !strstr(name, "..") && name[0] == '.'; /* `find . | xargs sed -i ...`: any file below */
    if (uses_maybe(r, s, here ? "*" : name, s->start) < 0)
        return -1;
    if (here && s->maybe != before)
        s->maybe->pattern = true;
    for (uint32_t i = 0; s->packs && i < s->packs->suffix_count; i++) {
        const char *made = with_suffix(r, name, s->packs->suffix[i]);
        if (!made || uses_maybe(r, s, made, s->start) < 0)
            return -1;
    }
    return 0;
}

int uses_share(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto)
{
    for (const struct stage *p = first; p != upto; p = p->next) {
        if (p->body && uses_share(r, s, p->body->stage, NULL) < 0)
            return -1;
        for (const struct use *u = p->prints_names ? p->input : NULL; u; u = u->next) {
            struct use *copy = arena_alloc(r->arena, sizeof *copy);
            if (!copy)
                return resolve_no_memory(r);
            *copy = (struct use){.word = u->word, .name = u->name, .path = u->path, .at = u->at, .from = u->from};
            append_input(s, copy);
            if (s->changes_names && uses_changed(r, s, u->word) < 0)
                return -1;
        }
    }
    return 0;
}

int uses_input(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at, bool directories, bool sure)
{
    struct stat st;
    char normal[PATH_MAX];
    size_t n = strlen(word);
    if (!n || n + 2 >= PATH_MAX)
        return 0;
    bool clean = path_normal(word, normal);
    if (path_of_image(normal) || (!clean && !v) || (r->only_open && !uses_is_open(normal)))
        return 0;
    const struct written *from = written_awaited(r, word, sure);
    const char *path = uses_path(r, word);
    if (!path)
        return -1;
    if (!from) {
        if (stat(path, &st) < 0 && (!clean || lstat(path, &st) < 0 || !S_ISLNK(st.st_mode)))
            return 0;
        if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && !(S_ISDIR(st.st_mode) && directory_ok(word, path, directories)))
            return 0;
    }
    struct use *u = make_use(r, word, v, at);
    if (!u || (!clean && !from && make_absolute(r, u) < 0))
        return -1;
    u->from = from;
    append_input(s, u);
    return 1;
}

/* ---- outputs ----------------------------------------------------------------------------- */

int uses_output(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at)
{
    if (!*word || strncmp(word, "/dev/", 5) == 0 || strcmp(word, "-") == 0)
        return 0;
    const char *path = uses_path(r, word);
    if (!path)
        return -1;
    for (const struct use *o = s->output; o; o = o->next)
        if (strcmp(o->path, path) == 0) /* `echo 1 > f; echo 2 >> f`: it is one output, however often the stage opens it */
            return 0;
    if (written_add(r, s, word, at, false) < 0)
        return -1;
    struct use *u = make_use(r, word, v, at);
    if (!u)
        return -1;
    struct use **last = &s->output;
    while (*last)
        last = &(*last)->next;
    *last = u;
    return 0;
}

/* The stage may make a file of this name, and it is an output if the stage does.  Only names inside /job; not in a body,
 * where every task would make the same file. */
int uses_maybe(struct resolver *r, struct stage *s, const char *word, size_t at)
{
    char normal[PATH_MAX];
    size_t n = strlen(word);
    if (!n || n + 2 >= PATH_MAX || word[0] == '/' || s->holes_at || strchr(word, GRAPH_HOLE) ||
        !path_normal(word, normal) || strcmp(normal, ".") == 0 || (r->only_open && !uses_is_open(normal)))
        return 0;
    for (const char *part = normal; *part; part += strcspn(part, "/"), part += *part == '/')
        if (strcspn(part, "/") > NAME_MAX)
            return 0;
    struct use *u = make_use(r, word, NULL, at);
    if (!u)
        return -1;
    u->next = s->maybe;
    s->maybe = u;
    return r->in->jobfile ? written_maybe(r, u) : 0;
}

/* The same for a word that names a file in one of the usual ways: FILE, NAME=FILE, -oFILE. */
int uses_maybe_word(struct resolver *r, struct stage *s, const char *word, size_t at)
{
    const char *equals = strchr(word, '=');
    if (equals && uses_maybe(r, s, equals + 1, at) < 0)
        return -1;
    if (word[0] != '-')
        return uses_maybe(r, s, word, at);
    return word[1] && word[1] != '-' && word[2] ? uses_maybe(r, s, word + 2, at) : 0;
}

/* For commands like `split`: the outputs noted since `first` are only the beginnings of names.  `k`: the command, or NULL. */
int uses_prefixes(struct resolver *r, struct stage *s, const struct use *first, const struct command *k, size_t at)
{
    if (!k || !k->prefix)
        return 0;
    int result = uses_maybe(r, s, k->prefix, at);
    for (struct use *u = s->maybe; u != first; u = u->next)
        u->prefix = true;
    return result;
}

/* ---- the words of a command -------------------------------------------------------------- */

/* What the walk over a command's words has seen. */
struct words {
    struct resolver *r;
    struct stage *s;
    const struct command *known; /* its table entry, or NULL */
    enum command_makes makes;    /* if it is known */
    unsigned operands, skip;
    bool in_place; /* `sed -i` */
    const char *backup; /* the suffix of `sed -i.bak`, or NULL */
    const char *inner; /* the sed or awk that the command is or runs (xargs sed ...); NULL: none was seen yet */
};

static size_t place_of(const struct stage *s, const struct value *v)
{
    return v->word ? v->word->start : s->start;
}

/* Makes a word an input if it names a file.  operand: it stands where the command takes a file. */
static int try_input(struct words *w, struct value *v, const char *text, bool operand)
{
    const struct command *k = w->known;
    /* the directory must be in the sandbox, so that `cat dir` says that it is a directory and not that it is missing */
    bool directories = k ? operand && (k->directories || k->files)
                         : command_takes_directories(w->s->value->text);
    if (v->hole)
        return 0;
    int got = uses_input(w->r, w->s, text, v, place_of(w->s, v), directories, k && operand && k->files);
    const char *equals = got == 0 ? strchr(text, '=') : NULL;
    if (equals)
        got = uses_input(w->r, w->s, equals + 1, v, place_of(w->s, v), false, false);
    if (got > 0 && operand && k && k->files)
        w->s->file_operand = true;
    return got < 0 ? -1 : 0;
}

/* Is the file outside of /job?  A file inside /job needs only its name; a file outside is written under a name that we
 * choose. */
static bool is_outside(const char *word)
{
    return word[0] == '/' || strncmp(word, "../", 3) == 0 || strstr(word, "/../");
}

static int may_make(struct words *w, const struct value *v, const char *text)
{
    return v->hole || v->subst ? 0 : uses_maybe_word(w->r, w->s, text, place_of(w->s, v));
}

/* Files that a command makes beside its operand: `gzip f` makes f.gz, `gunzip f.gz` makes f, `sed -i.bak` makes f.bak. */
static int may_make_with(struct words *w, const struct value *v)
{
    const struct command *k = w->known;
    size_t size = strlen(v->text);
    for (uint32_t i = 0; k && i < k->suffix_count; i++) {
        const char *name = with_suffix(w->r, v->text, k->suffix[i]);
        if (!name || may_make(w, v, name) < 0)
            return -1;
    }
    char *kept = w->backup ? arena_alloc(w->r->arena, size + strlen(w->backup) + 1) : NULL;
    if (!kept)
        return w->backup ? resolve_no_memory(w->r) : 0;
    strcpy(stpcpy(kept, v->text), w->backup);
    return may_make(w, v, kept);
}

static int script(struct words *w, const struct value *v, const char *text)
{
    return v->hole || v->subst ? 0 : uses_script(w->r, w->s, place_of(w->s, v), w->inner ? w->inner : "", text);
}

static int script_file(struct words *w, const struct value *v, const char *name)
{
    return v->hole || v->subst ? 0 : uses_script_file(w->r, w->s, place_of(w->s, v), w->inner ? w->inner : "", name);
}

static bool is_link(struct resolver *r, const char *word)
{
    struct stat st;
    const char *path = uses_path(r, word);
    return path && lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static int operand(struct words *w, struct value *v)
{
    if (script(w, v, v->text) < 0)
        return -1;
    if (uses_has_scripts(v->text))
        w->inner = v->text;
    bool file = w->known && w->known->files && w->operands >= w->skip;
    w->operands++;
    if (strcmp(v->text, "-") == 0 || strcmp(v->text, "/dev/stdin") == 0) {
        w->s->names_stdin = true;
        return 0;
    }
    enum command_makes makes = w->known ? w->makes : COMMAND_MAKES_WORDS;
    bool output = w->known && ((w->known->then_output && w->operands == 2) || w->known->outputs ||
                               (w->in_place && file && !v->subst));
    if (output && w->in_place && !is_outside(v->text) && !w->s->holes_at && is_link(w->r, v->text))
        makes = COMMAND_MAKES_WORDS; /* a file takes the place of the link, which an output would be written through */
    if (output && makes == COMMAND_MAKES_WORDS && !is_outside(v->text))
        output = false; /* uses_maybe is enough for it */
    if (strcmp(w->s->value->text, "dd") == 0 && strncmp(v->text, "of=", 3) == 0 && !v->hole && is_outside(v->text + 3))
        return uses_output(w->r, w->s, v->text + 3, v, place_of(w->s, v));
    if (output && w->backup && may_make_with(w, v) < 0)
        return -1;
    if (output)
        return uses_output(w->r, w->s, v->text, v, place_of(w->s, v));
    if (v->subst) {
        w->s->file_operand = w->s->file_operand || file;
        return 0;
    }
    bool program =
        w->operands == 1 && command_interprets(w->s->value->text) && !(w->known && w->skip == 0);
    if (makes == COMMAND_MAKES_WORDS && !program && (may_make(w, v, v->text) < 0 || may_make_with(w, v) < 0))
        return -1;
    return try_input(w, v, v->text, file);
}

/* An option from the table.  Its argument is a file if the table says so, and if it stands in a word of its own and names
 * one. */
static int option(struct words *w, const struct command_item *i, struct value *v)
{
    for (uint32_t k = 0; k < w->known->unless_count; k++)
        if (strcmp(i->option->name[0], w->known->unless[k]) == 0)
            w->skip = 0; /* with grep -e and sed -f the first operand is no pattern */
    for (uint32_t k = 0; k < w->known->names_count; k++)
        w->s->reads_names |= strcmp(i->option->name[0], w->known->names_with[k]) == 0;
    if (!i->value || v->subst)
        return 0;
    if (strcmp(i->option->name[0], "-e") == 0 && script(w, v, i->value) < 0)
        return -1;
    if (strcmp(i->option->name[0], "-f") == 0 && script_file(w, v, i->value) < 0)
        return -1;
    if (i->option->output)
        return uses_output(w->r, w->s, i->value, v, place_of(w->s, v));
    if (i->option->file && strcmp(i->value, "-") == 0)
        w->s->names_stdin = true;
    if (w->makes != COMMAND_MAKES_NONE && may_make(w, v, i->value) < 0)
        return -1;
    if (i->option->file || i->value_word != i->word)
        return try_input(w, v, i->value, false);
    return v->text[1] == '-' ? try_input(w, v, v->text, false) : 0;
}

/* `ls`, `find -name x` and `grep -r x` read the working directory, though no word names it. */
static int add_here(struct words *w, const char *const *text, size_t count)
{
    if (!command_reads_here(w->known, text, count, false))
        return 0;
    return uses_input(w->r, w->s, ".", NULL, w->s->start, true, false) < 0 ? -1 : 0;
}

static int known_words(struct words *w, const char *const *text, struct value *const *value,
                       size_t count)
{
    struct command_walk walk = command_walk(w->known, text, count);
    struct command_item i;
    bool unsure = false;
    w->makes = command_makes(w->known, text, count);
    for (struct command_walk ahead = walk; (i = command_next(&ahead)).kind != ITEM_END;)
        if (i.kind == ITEM_OPTION && i.option->in_place) { /* looked for first, as it may stand behind the operands */
            w->in_place = true;
            w->backup = i.value ? i.value : w->backup;
        }
    while ((i = command_next(&walk)).kind != ITEM_END) {
        struct value *v = value[i.value_word];
        bool first = i.value == v->text || i.value == v->text + 1; /* the first of the letters in -abc */
        int r = i.kind == ITEM_OPERAND  ? operand(w, v)
                : i.kind == ITEM_OPTION ? option(w, &i, v)
                : first                 ? try_input(w, v, v->text, false)
                                        : 0;
        if (r < 0)
            return -1;
        unsure = unsure || (i.kind == ITEM_UNKNOWN && !strchr(v->text, '='));
    }
    /* an operand that looks like a file may really be the argument of an unknown option */
    w->s->file_operand = w->s->file_operand && !unsure && !(w->known && w->known->pairs && w->operands == 1);
    return add_here(w, text, count);
}

/* A command that is not in the table: the word after `-o` is an output, each other word is an input if it names a file. */
static int unknown_words(struct words *w, struct value *const *value, size_t count)
{
    bool plain = false;
    for (size_t i = 0; i < count; i++) {
        struct value *v = value[i];
        bool dash = v->text[0] == '-' && v->text[1] && !plain && !v->subst;
        plain = plain || (dash && strcmp(v->text, "--") == 0);
        int r = 0;
        if (dash && strcmp(v->text, "-o") == 0 && i + 1 < count) {
            v = value[++i];
            r = v->subst ? 0 : uses_output(w->r, w->s, v->text, v, place_of(w->s, v));
        } else {
            r = !dash ? operand(w, v) : may_make(w, v, v->text) < 0 ? -1 : try_input(w, v, v->text, false);
        }
        if (r < 0)
            return -1;
    }
    return 0;
}

const char *uses_hole(const char *command, const char *const *text, size_t count)
{
    if (strcmp(command, "find") == 0)
        return "{}";
    for (size_t i = 0; i < count && strcmp(command, "xargs") == 0; i++) {
        const char *t = text[i];
        if (strcmp(t, "-I") == 0)
            return i + 1 < count ? text[i + 1] : NULL;
        if (t[0] == '-' && (t[1] == 'I' || t[1] == 'i'))
            return t[2] ? t + 2 : "{}";
        if (strncmp(t, "--replace", 9) == 0)
            return t[9] ? t + 10 : "{}";
    }
    return NULL;
}

int uses_hole_word(struct resolver *r, struct stage *s, size_t at, const char *text, const char *hole)
{
    const char *found = *hole ? strstr(text, hole) : NULL;
    char *pattern = found ? arena_alloc(r->arena, strlen(text) + 1) : NULL, *to = pattern;
    if (!found || strcmp(text, hole) == 0 || strpbrk(text, " \t\n*?[\\") || text[0] == '-' || text[0] == '/')
        return 0;
    if (!pattern)
        return resolve_no_memory(r);
    for (; (found = strstr(text, hole)); text = found + strlen(hole)) {
        memcpy(to, text, (size_t)(found - text));
        to += found - text;
        if (to == pattern || to[-1] != '*')
            *to++ = '*';
    }
    strcpy(to, text);
    return uses_pattern(r, s, at, pattern);
}

/* Programs in words, and in files that words name: `perl -e TEXT`, `sh FILE`, `python3 FILE`, and FILE as the command. */
static int programs(struct words *w, struct value *const *value, size_t count)
{
    const char *command = w->s->value->text;
    const char *by = strcmp(command, ".") == 0 ? "sh" : command_interprets(command) ? command : NULL;
    bool seen = false, read = false;
    int r = 0;
    if (strchr(w->s->value->text, '/') && !w->s->value->hole)
        r = uses_program_file(w->r, w->s, w->s->start, w->s->value->text, NULL);
    for (size_t i = 0; i < count && r == 0; i++) {
        const char *t = value[i]->text;
        if (by && !seen && !value[i]->hole && !value[i]->subst && t[0] != '-' && !command_is_shell(by))
            r = uses_program(w->r, w->s, place_of(w->s, value[i]), t, strlen(t));
        if (by && !seen && t[0] != '-' && !value[i]->hole && !value[i]->subst) {
            bool text = i && (strcmp(value[i - 1]->text, "-c") == 0 || strcmp(value[i - 1]->text, "-e") == 0 || uses_is_dash_c(value[i - 1]->text));
            if (!text && r == 0)
                r = uses_program_file(w->r, w->s, place_of(w->s, value[i]), t, by);
            seen = true;
        }
        if (r == 0 && !value[i]->hole && !value[i]->subst)
            r = uses_program_word(w->r, w->s, place_of(w->s, value[i]), t);
        if (!by && command_interprets(t))
            by = t;
    }
    for (size_t i = 0; i < count && by && command_is_shell(by); i++)
        seen = seen && strcmp(value[i]->text, "-s") != 0;
    read = by && !seen;
    for (const struct redir *d = w->s->redir; d && read && r == 0; d = d->next) {
        if (d->bytes.data)
            r = uses_program_text(w->r, w->s, d->at, d->bytes, by);
        else if (d->kind == REDIR_IN && d->target && !d->from)
            r = uses_program_file(w->r, w->s, d->at, d->target, by);
        read = read && !d->bytes.data && d->kind != REDIR_IN;
    }
    if (read && command_is_shell(by)) {
        w->s->reads_program = by;
        w->s->reads_names = true; /* the program that it reads names the files it opens */
    }
    return r;
}

/* Files named in the text of `sh -c TEXT`, also after xargs, env and the like. */
static int shell_texts(struct words *w, const char *hole, struct value *const *value, size_t count)
{
    bool shell = command_is_shell(w->s->value->text), text_next = strcmp(w->s->value->text, "eval") == 0;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        if (text_next && !value[i]->hole && !value[i]->subst)
            r = uses_shell_text(w->r, w->s, place_of(w->s, value[i]), value[i]->text, hole);
        text_next = shell && uses_is_dash_c(value[i]->text);
        shell |= command_is_shell(value[i]->text);
    }
    return r;
}

/* What the command makes of files below directories, which neither a word nor a list names: `find logs | xargs gzip`. */
static int packs(struct resolver *r, struct stage *s, size_t at, const struct command *k)
{
    for (uint32_t i = 0; i < k->suffix_count; i++) {
        char *pattern = arena_alloc(r->arena, strlen(k->suffix[i]) + 2);
        if (!pattern)
            return resolve_no_memory(r);
        strcpy(stpcpy(pattern, "*"), k->suffix[i]);
        if (uses_pattern(r, s, at, pattern) < 0)
            return -1;
    }
    return 0;
}

static bool among(const char *word, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(word, list[i]))
            return true;
    return false;
}

bool uses_runs_words(const char *command)
{
    static const char *const all[] = {"xargs", "find", "command", "env", "exec", "ionice", "nice", "nohup", "setsid", "stdbuf", "taskset", "time", "timeout"};
    return among(command, all, sizeof all / sizeof *all);
}

int uses_run_word(struct resolver *r, struct stage *s, size_t at, const char *word, bool named, bool *edits)
{
    struct err quiet;
    const struct command *k = commands_find(r->commands, word, &quiet);
    bool in_place = *edits && word[0] == '-' && word[strspn(word + 1, "Ernspl") + 1] == 'i';
    static const char *const change[] = {"mv", "rm", "-delete", "chmod", "dos2unix", "touch", "truncate", "unix2dos"};
    s->changes_names |= in_place || (k && k->suffix_count) || among(word, change, sizeof change / sizeof *change);
    *edits |= strcmp(word, "sed") == 0 || strcmp(word, "perl") == 0;
    if (!k || !k->suffix_count || s->packs)
        return 0;
    s->packs = k;
    return named ? 0 : packs(r, s, at, k);
}

/* Commands that change files named elsewhere: `patch < f.patch`, `xargs sed -i s/a/b/ < list`, `ls *.txt | xargs -I{} mv {}
 * old/`, `find . -exec gzip {} +`. */
static int changes_names(struct words *w, struct value *const *value, size_t count)
{
    const char *command = w->s->value->text;
    bool edits = false, runs = uses_runs_words(command), named = strcmp(command, "xargs") != 0 && strcmp(command, "find") != 0;
    w->s->changes_names = strcmp(command, "patch") == 0;
    for (size_t i = 0; i < count && runs; i++)
        if (uses_run_word(w->r, w->s, place_of(w->s, value[i]), value[i]->text, named, &edits) < 0)
            return -1;
    for (const struct use *u = runs && w->s->changes_names ? w->s->input : NULL; u; u = u->next)
        if (uses_changed(w->r, w->s, u->word) < 0)
            return -1;
    return 0;
}

int uses_find(struct resolver *r, struct stage *s, const struct command *known)
{
    struct words w = {.r = r, .s = s, .known = known, .skip = known ? known->skip : 0};
    if (!s->value)
        return 0;
    w.inner = uses_has_scripts(s->value->text) ? s->value->text : NULL;
    if (strchr(s->value->text, '/') && !s->value->hole) {
        struct use **before = s->last_input ? s->last_input : &s->input;
        int got = uses_input(r, s, s->value->text, s->value, s->start, false, true);
        if (got < 0)
            return -1;
        if (got && *before)
            (*before)->program = true;
    }
    size_t count = 0;
    for (const struct value *v = s->value->next; v; v = v->next)
        count++;
    struct value **value = arena_array(r->arena, count + 1, sizeof *value);
    const char **text = arena_array(r->arena, count + 1, sizeof *text);
    if (!value || !text)
        return resolve_no_memory(r);
    count = 0;
    for (struct value *v = s->value->next; v; v = v->next) {
        text[count] = v->text;
        value[count++] = v;
    }
    for (const struct value *v = s->env; v; v = v->next)
        if (!v->hole && uses_input(r, s, strchr(v->text, '=') ? strchr(v->text, '=') + 1 : "", NULL, s->start, false, false) < 0)
            return -1;
    const struct use *first = s->maybe;
    int result = known ? known_words(&w, text, value, count) : unknown_words(&w, value, count);
    if (result < 0 || uses_prefixes(r, s, first, known, s->start) < 0)
        return -1;
    if (changes_names(&w, value, count) < 0)
        return -1;
    const char *hole = uses_hole(s->value->text, text, count);
    for (size_t i = 0; hole && i < count; i++)
        if (uses_hole_word(r, s, place_of(s, value[i]), value[i]->text, hole) < 0)
            return -1;
    return shell_texts(&w, hole, value, count) < 0 || programs(&w, value, count) < 0 ? -1 : 0;
}

/* ---- with files=, --with PATH ------------------------------------------------------------ */

static int add_with(struct resolver *r, const char *name, size_t at)
{
    struct stat st;
    struct use *u = make_use(r, name, NULL, at);
    if (!u)
        return -1;
    if (stat(u->path, &st) < 0)
        return text_fail(r->text, at, r->e, NULL, "no file `%.200s` for `--with`", name);
    char normal[PATH_MAX];
    if (strlen(name) + 2 < PATH_MAX && !path_normal(name, normal) && make_absolute(r, u) < 0)
        return -1;
    *r->last_with = u;
    r->last_with = &u->next;
    return 0;
}

int uses_with(struct resolver *r, const char *word, size_t at)
{
    struct glob_names names;
    struct err inner = {0};
    if (glob_expand(r->arena, r->in->directory, word, false, &names, &inner) < 0)
        return text_fail(r->text, at, r->e, NULL, "%s", inner.text);
    if (!names.count)
        return add_with(r, word, at);
    for (size_t i = 0; i < names.count; i++)
        if (add_with(r, names.name[i], at) < 0)
            return -1;
    return 0;
}
