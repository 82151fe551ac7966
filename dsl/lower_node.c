/* Fills in the node of a program: its words, files, outputs and settings. */
#include "dsl/lower_inside.h"
#include "dsl/print.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <stdlib.h>
#include <string.h>

/* ---- nodes of programs ------------------------------------------------------------------- */

static int keep_strings(struct lower *w, const struct value *v, const char *const **out,
                        uint32_t *count)
{
    size_t n = 0;
    for (const struct value *i = v; i; i = i->next)
        n++;
    const char **list = arena_array(&w->g->arena, n + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    n = 0;
    for (; v; v = v->next)
        if (!(list[n++] = lower_keep(w, v->text)))
            return resolve_no_memory(w->r);
    *out = list;
    *count = (uint32_t)n;
    return 0;
}

static bool refers(const struct value *v, const struct use *u)
{
    for (; v; v = v->next)
        if (v == u->value)
            return true;
    return false;
}

int lower_files(struct lower *w, const struct stage *s, uint32_t node)
{
    uint32_t count = 0;
    for (const struct use *u = s->input; u; u = u->next)
        count++;
    for (const struct use *u = w->r->with_file; u; u = u->next)
        count++;
    uint32_t *list = arena_array(&w->g->arena, count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    count = 0;
    const struct use *lists[] = {s->input, w->r->with_file};
    for (size_t l = 0; l < 2; l++)
        for (const struct use *u = lists[l]; u; u = u->next) {
            uint32_t file;
            bool known = false;
            if ((u->from ? lower_awaited(w, u->from, u->name, u->at, &file)
                         : lower_add_file(w, u->name, u->path, u->at, &file)) < 0)
                return -1;
            for (uint32_t i = count > 64 ? count - 64 : 0; i < count; i++)
                known = known || list[i] == file;
            if (!known)
                list[count++] = file;
        }
    w->g->node[node].file = list;
    w->g->node[node].file_count = count;
    return 0;
}

/* An output whose name leads out of the working directory gets a name of ours inside it, in the command's word too. */
static int rename_output(struct lower *w, struct use *u)
{
    char name[40];
    snprintf(name, sizeof name, ".zpipe-out-%u", ++w->renamed);
    size_t keep_size = u->value ? strlen(u->value->text) - strlen(u->word) : 0;
    char *text = arena_alloc(w->r->arena, keep_size + sizeof name);
    u->name = arena_string(w->r->arena, name);
    if (!text || !u->name)
        return resolve_no_memory(w->r);
    if (u->value) {
        memcpy(text, u->value->text, keep_size);
        strcpy(text + keep_size, name);
        u->value->text = text;
    }
    return 0;
}

static bool inside(const char *name)
{
    return name[0] != '/' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 &&
           !strstr(name, "/../") &&
           !(strlen(name) > 3 && strcmp(name + strlen(name) - 3, "/..") == 0);
}

/* A file that is written and exists already (`tee -a f`, `sort -o f f`) is an input too: the program gets a writable copy
 * of it. */
static int keep_contents(struct lower *w, uint32_t node, const char *name, const struct use *u)
{
    struct stat st;
    const char *path = uses_path(w->r, u->word);
    uint32_t file;
    if (!path)
        return -1;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    if (lower_add_file(w, name, path, u->at, &file) < 0)
        return -1;
    struct graph_node *n = &w->g->node[node];
    for (uint32_t i = 0; i < n->file_count; i++)
        if (n->file[i] == file)
            return 0;
    uint32_t *list = arena_array(&w->g->arena, (size_t)n->file_count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    if (n->file_count)
        memcpy(list, n->file, n->file_count * sizeof *list);
    list[n->file_count++] = file;
    n->file = list;
    return 0;
}

int lower_outputs(struct lower *w, struct stage *s, uint32_t node, const struct place *at)
{
    uint32_t count = 0;
    for (struct use *u = s->output; u; u = u->next)
        count++;
    struct graph_output *list = arena_array(&w->g->arena, count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    count = 0;
    for (struct use *u = s->output; u; u = u->next) {
        uint32_t sink;
        if (!inside(u->name)) {
            if (!u->value || !refers(s->value, u))
                continue; /* a text for sh, in which the name cannot be replaced: the program will find that it cannot write there */
            if (rename_output(w, u) < 0)
                return -1;
        }
        if (lower_add_sink(w, GRAPH_SINK_FILE, u->word, u->at, at, &sink) < 0 ||
            lower_note_sink(w, u->word, sink) < 0)
            return -1;
        list[count++] = (struct graph_output){lower_keep(w, u->name), sink};
        if (!list[count - 1].name)
            return resolve_no_memory(w->r);
        if (keep_contents(w, node, list[count - 1].name, u) < 0)
            return -1;
    }
    w->g->node[node].output = list;
    w->g->node[node].output_count = count;
    return 0;
}

/* Does the directory of this name exist?  Then the sandbox has it too. */
static bool has_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char directory[PATH_MAX];
    struct stat st;
    if (!slash || (size_t)(slash - path) >= sizeof directory)
        return false;
    snprintf(directory, sizeof directory, "%.*s/", (int)(slash - path), path);
    return stat(directory, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A glob pattern that matches just this name, or, as the use says, all names with this prefix or of this pattern. */
static const char *pattern_of(struct lower *w, const struct use *u)
{
    const char *name = u->name;
    if (u->pattern)
        return lower_keep(w, name);
    char *out = arena_alloc(&w->g->arena, 2 * strlen(name) + 2), *to = out;
    for (; out && *name; *to++ = *name++)
        if (strchr("*?[\\", *name))
            *to++ = '\\';
    if (out && u->prefix)
        *to++ = '*';
    if (out)
        *to = '\0';
    return out;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is it a directory into which the stage may put files: an empty one, or one that is among its inputs? */
static bool is_target(const struct stage *s, const struct use *u)
{
    struct stat st;
    if (u->pattern || stat(u->path, &st) < 0 || !S_ISDIR(st.st_mode))
        return false;
    for (const struct use *i = s->input; i; i = i->next)
        if (!strcmp(i->path, u->path))
            return true;
    DIR *d = opendir(u->path);
    bool empty = d;
    for (const struct dirent *e; empty && (e = readdir(d));)
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    if (d)
        closedir(d);
    return empty;
}

/* Record the words that name files which the stage may make.  If the directory of such a name does not exist, the stage
 * itself would have to make it, so the name is recorded as a pattern instead. */
int lower_keep_words(struct lower *w, const struct stage *s, uint32_t node)
{
    struct graph_node *n = &w->g->node[node];
    uint32_t count = 0, keeps = 0, globs = n->out_glob_count;
    for (const struct use *u = s->maybe; u; u = u->next)
        count++;
    if (!count)
        return 0;
    const char **keep = arena_array(&w->g->arena, 2 * (size_t)count, sizeof *keep);
    const char **glob = arena_array(&w->g->arena, (size_t)globs + count, sizeof *glob);
    if (!keep || !glob)
        return resolve_no_memory(w->r);
    if (globs)
        memcpy(glob, n->out_glob, globs * sizeof *glob);
    for (const struct use *u = s->maybe; u; u = u->next) {
        if (u->pattern && s->appends_unseen)
            continue;
        bool there = has_directory(u->path), pattern = !there || u->prefix || u->pattern;
        const char *name = lower_keep(w, u->name);
        if (!name || (pattern && !(glob[globs++] = pattern_of(w, u))))
            return resolve_no_memory(w->r);
        if (w->r->in->jobfile && lower_note_made(w, u->path, GRAPH_NONE) < 0)
            return -1;
        if (there)
            keep[keeps++] = name;
        if (there && is_target(s, u)) { /* with this name, the sandbox has the directory */
            char *directory = arena_alloc(&w->g->arena, strlen(name) + 3);
            if (!directory)
                return resolve_no_memory(w->r);
            strcpy(stpcpy(directory, name), "/*");
            keep[keeps++] = directory;
        }
    }
    qsort(keep, keeps, sizeof *keep, by_text);
    for (uint32_t i = 0; i < keeps; i++)
        if (!n->keep_count || strcmp(keep[n->keep_count - 1], keep[i]) != 0)
            keep[n->keep_count++] = keep[i];
    n->keep = keep;
    n->out_glob = glob;
    n->word_globs = globs - n->out_glob_count;
    n->out_glob_count = globs;
    return 0;
}

static int node_why(struct lower *w, const struct stage *s, uint32_t node)
{
    char text[120];
    uint32_t line, column;
    text_place(w->r->text, s->odd_at, &line, &column);
    if (s->builtin && s->value && !*s->value->text)
        snprintf(text, sizeof text, "the name of the command is empty");
    else if (s->builtin)
        snprintf(text, sizeof text, "`%.40s` is a builtin of sh", s->value ? s->value->text : ":");
    else
        snprintf(text, sizeof text, "`%.40s` at %u:%u", s->odd, line, column);
    w->g->node[node].why = lower_keep(w, text);
    return w->g->node[node].why ? 0 : resolve_no_memory(w->r);
}

int lower_label(struct lower *w, const struct stage *s, uint32_t node)
{
    char *text = print_stage(w->r->text, w->r->tree, s);
    w->g->node[node].label = lower_keep(w, text);
    free(text);
    return w->g->node[node].label ? 0 : resolve_no_memory(w->r);
}

int lower_settings(struct lower *w, uint32_t node, const struct place *at)
{
    struct graph_node *n = &w->g->node[node];
    n->set = at->set;
    const char **list = arena_array(&w->g->arena, at->out_count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    for (uint32_t i = 0; i < at->out_count; i++)
        if (!(list[i] = lower_keep(w, at->out[i])))
            return resolve_no_memory(w->r);
    n->out_glob = list;
    n->out_glob_count = at->out_count;
    return 0;
}

/* Fill in the words, or the text for sh. */
int lower_words(struct lower *w, const struct stage *s, uint32_t node, const struct place *at)
{
    struct graph_node *n = &w->g->node[node];
    const struct value text = {.text = s->text};
    bool holes = s->text && s->text_holes;
    for (const struct value *v = s->text ? NULL : s->value; v; v = v->next)
        holes = holes || v->hole;
    if (keep_strings(w, s->text ? &text : s->value, &n->argv, &n->argc) < 0 ||
        keep_strings(w, s->env, &n->env, &n->envc) < 0)
        return -1;
    for (const struct value *v = s->env; v; v = v->next)
        holes = holes || v->hole;
    n->holes = holes;
    if (!s->text)
        return 0;
    n->shell = at->shell ? lower_keep(w, at->shell) : s->shell;
    return n->shell ? node_why(w, s, node) : resolve_no_memory(w->r);
}
