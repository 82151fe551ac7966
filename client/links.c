/* See client.h.  A word of a command may name a symbolic link, or a file that lies behind one.  A program that looks at
 * links (`ls -l`, `readlink`, `test -L`, `tar`) is to find the link there and, where it leads, the file.  So such an input
 * becomes several: each link on the way, as it is, and what the last one leads to, under its own name.
 *
 * If the stage may change what the name leads to, that is an output of the job under its own name.
 *
 * It stays one file under the name that was typed where that would not give the same: the way leads above the working
 * directory (which has another name in the sandbox) or into the image, a later statement may read it, the stage is cut into blocks of it, or a link would
 * stand where something else of the stage is. */
#include "client/client.h"

#include "base/kept.h"
#include "dsl/files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* on one way, as for the kernel */

/* A way from a name to what it leads to. */
struct way {
    const char *base;    /* the client's directory; names without a slash in front are below it */
    char at[PATH_MAX];   /* so far, as the program names it; "": the working directory, "/": the root */
    char rest[PATH_MAX]; /* what is still to be walked */
    char path[PATH_MAX]; /* of `at`, on this host */
    int links;
    char first[PATH_MAX]; /* the first link on the way */
    bool behind;          /* the name goes on behind it */
};

static void client_path(struct way *w)
{
    if (w->at[0] == '/' || !w->base)
        snprintf(w->path, sizeof w->path, "%s", w->at);
    else if (snprintf(w->path, sizeof w->path, "%s/%s", w->base, w->at) >= (int)sizeof w->path)
        w->path[0] = '\0';
}

/* Takes the last part of `at` away; false: there is none. */
static bool go_up(struct way *w)
{
    char *slash = strrchr(w->at, '/');
    if (!w->at[0])
        return false;
    if (!slash)
        w->at[0] = '\0';
    else
        slash[slash == w->at] = '\0';
    return true;
}

/* Takes the next part of the rest.  1: `at` names it; 0: there is none; -1: the way cannot be walked. */
static int next_part(struct way *w)
{
    char *part = w->rest + strspn(w->rest, "/");
    size_t size = strcspn(part, "/"), had = strlen(w->at);
    if (!size)
        return 0;
    bool up = size == 2 && !strncmp(part, "..", 2), stay = size == 1 && part[0] == '.';
    if (up && !go_up(w))
        return -1;
    if (!up && !stay) {
        const char *slash = had && w->at[had - 1] != '/' ? "/" : "";
        if (snprintf(w->at + had, sizeof w->at - had, "%s%.*s", slash, (int)size, part) >= (int)(sizeof w->at - had))
            return -1;
    }
    memmove(w->rest, part + size, strlen(part + size) + 1);
    return 1;
}

/* Goes on where the link leads. */
static int follow(struct way *w, const char *link)
{
    char rest[PATH_MAX];
    if (snprintf(rest, sizeof rest, "%s/%s", link, w->rest) >= (int)sizeof rest)
        return -1;
    memcpy(w->rest, rest, strlen(rest) + 1);
    if (link[0] == '/')
        strcpy(w->at, "/");
    else
        go_up(w);
    return 0;
}

int links_read(const char *path, struct graph_file *f, char link[GRAPH_LINK_MAX + 1])
{
    struct stat s;
    ssize_t n = lstat(path, &s) == 0 && S_ISLNK(s.st_mode) ? readlink(path, link, GRAPH_LINK_MAX) : -1;
    if (n <= 0)
        return -1;
    link[n] = '\0';
    *f = (struct graph_file){.path = path, .inode = s.st_ino, .mode = s.st_mode, .link = link};
    return 0;
}

/* The inputs of one stage while they are changed. */
struct list {
    struct graph *g;
    uint32_t *file, count, room;
    const char **keep; /* what its changeable inputs lead to; in the graph's arena */
    uint32_t keep_count;
    bool phases; /* of a job with several: a later statement looks for what this one makes under the name that was typed */
    char base[PATH_MAX]; /* the directory below which relative names are; "": not known */
};

static int add(struct list *l, const struct graph_file *f, struct err *e)
{
    uint32_t file = graph_add_file(l->g, f, e);
    if (file == GRAPH_NONE)
        return -1;
    if (l->count == l->room) {
        uint32_t room = l->room * 2 + 16, *more = realloc(l->file, room * sizeof *more);
        if (!more)
            return err_nomem(e);
        l->file = more;
        l->room = room;
    }
    l->file[l->count++] = file;
    return 0;
}

static bool is_below(const char *name, const char *directory)
{
    size_t size = strlen(directory);
    return !strncmp(name, directory, size) && name[size] == '/';
}

/* What an input leads to may be changed by the stage. */
static int keep(struct list *l, const char *name, struct err *e)
{
    const char *copy = arena_string(&l->g->arena, name);
    if (!copy)
        return err_nomem(e);
    l->keep[l->keep_count++] = copy;
    return 1;
}

/* Walks to the end of the way, and adds the links on it to the list, if there is one.  1: it is walked; 2: it is a loop;
 * 0: it cannot be walked in the sandbox. */
static int walk(struct way *w, struct list *l, struct err *e)
{
    char link[GRAPH_LINK_MAX + 1];
    struct graph_file one;
    int more;
    while ((more = next_part(w)) > 0) {
        client_path(w);
        if (w->at[0] == '/' && path_of_image(w->at))
            return 0;
        if (links_read(w->path, &one, link) < 0)
            continue;
        one.name = w->at;
        if (!w->links) {
            strcpy(w->first, w->at);
            w->behind = w->rest[strspn(w->rest, "/")];
        }
        if (l && add(l, &one, e) < 0)
            return -1;
        if (++w->links > LINKS_MAX)
            return 2;
        if (follow(w, link) < 0)
            return 0;
    }
    client_path(w);
    return more == 0 && w->at[0] && strcmp(w->at, "/");
}

/* Adds what a name leads over and to.  0: the way cannot be given, or has no links; then the caller drops what was added. */
static int add_way(struct list *l, const struct graph_file *f, bool changes, struct way *w, struct err *e)
{
    struct stat s;
    int walked = walk(w, l, e);
    if (walked != 1 || !w->links)
        return walked == 2 ? 1 : walked < 0 ? -1 : 0; /* in a loop, too, the program is to find the same */
    if (changes && w->at[0] == '/')
        return 0;
    if (graph_is_link(f))
        ; /* what it leads to, if anything, is an input by itself: the job is a task that runs again */
    else if (stat(w->path, &s) == 0) {
        if ((s.st_mode & S_IFMT) != (f->mode & S_IFMT))
            return 0;
        struct graph_file one = *f;
        one.name = w->at;
        one.path = w->path;
        if (add(l, &one, e) < 0)
            return -1;
    } else if (errno != ENOENT && errno != ENOTDIR) {
        return 0;
    } /* else it leads nowhere, which the program is to find */
    return changes ? keep(l, w->at, e) : 1;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is there a name below this one, or the same one? */
static bool is_taken(const char *const *name, size_t count, const char *link)
{
    char below[PATH_MAX];
    size_t low = 0, high = count;
    if (snprintf(below, sizeof below, "%s/", link) >= (int)sizeof below)
        return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(name[middle], below) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return (low < count && is_below(name[low], link)) || bsearch(&link, name, count, sizeof *name, by_text);
}

/* Would a link stand where something else of the stage is? */
static int look_contrary(const struct graph_node *n, const struct list *l, bool *contrary, struct err *e)
{
    size_t count = 0;
    const char **name = calloc((size_t)l->count + n->output_count + 1, sizeof *name);
    *contrary = false;
    if (!name)
        return err_nomem(e);
    for (uint32_t i = 0; i < l->count; i++)
        if (!graph_is_link(&l->g->file[l->file[i]]))
            name[count++] = l->g->file[l->file[i]].name;
    for (uint32_t i = 0; i < n->output_count; i++)
        name[count++] = n->output[i].name;
    qsort(name, count, sizeof *name, by_text);
    for (uint32_t i = 0; i < l->count && !*contrary; i++) {
        const struct graph_file *f = &l->g->file[l->file[i]];
        *contrary = graph_is_link(f) && is_taken(name, count, f->name);
    }
    free(name);
    return 0;
}

/* Notes the directory below which relative names are. */
static void find_base(struct list *l, const struct graph_file *f)
{
    size_t path = strlen(f->path), name = strlen(f->name);
    if (!l->base[0] && f->name[0] != '/' && path > name && path < PATH_MAX && f->path[path - name - 1] == '/' &&
        !strcmp(f->path + path - name, f->name))
        snprintf(l->base, sizeof l->base, "%.*s", (int)(path - name - 1), f->path);
}

/* The way from this name; false: it cannot be walked. */
static bool begin_way(const struct list *l, const char *name, struct way *w)
{
    bool whole = name[0] == '/';
    *w = (struct way){.base = whole ? NULL : l->base};
    snprintf(w->at, sizeof w->at, "%s", whole ? "/" : "");
    return snprintf(w->rest, sizeof w->rest, "%s", name) < (int)sizeof w->rest && (whole || l->base[0]);
}

/* Adds the input, or what it becomes. */
static int add_input(struct list *l, const struct graph_node *n, struct graph_file f, struct err *e)
{
    const struct kept kept = {n->keep, n->keep_count, n->out_glob, n->out_glob_count};
    uint32_t before = l->count, keeps = l->keep_count;
    struct way w;
    find_base(l, &f);
    bool changes = f.name[0] != '/' && kept_fits(&kept, f.name);
    int r = !f.awaited && !f.passed && !(changes && l->phases) && begin_way(l, f.name, &w) ? add_way(l, &f, changes, &w, e) : 0;
    if (r > 0)
        return r;
    l->count = before;
    l->keep_count = keeps;
    return r < 0 ? -1 : graph_is_link(&f) ? 0 : add(l, &f, e);
}

static bool is_given(const struct list *l, const char *link)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (graph_is_link(&l->g->file[l->file[i]]) && !strcmp(l->g->file[l->file[i]].name, link))
            return true;
    return false;
}

/* The name under which the program makes what it calls `name`: behind a link that it is given that is where the link
 * leads.  NULL: nowhere in its directory. */
static const char *made_as(const struct list *l, const char *name, struct way *w)
{
    bool walked = begin_way(l, name, w) && walk(w, NULL, NULL) == 1;
    if (!w->links || !w->behind || !is_given(l, w->first))
        return name;
    return walked && w->at[0] != '/' ? w->at : NULL;
}

/* The names that are kept, and those that the list adds; sorted, each once.  1: one cannot be. */
static int take_kept(struct graph_node *n, const struct list *l, struct err *e)
{
    const char **all = arena_array(&l->g->arena, (size_t)n->keep_count + l->keep_count + 1, sizeof *all);
    uint32_t room = 0, count = 0;
    if (!all)
        return err_nomem(e);
    for (uint32_t i = 0; i < n->keep_count; i++) {
        struct way w;
        const char *name = made_as(l, n->keep[i], &w);
        if (!name)
            return 1;
        all[room] = name == n->keep[i] ? name : arena_string(&l->g->arena, name);
        if (!all[room++])
            return err_nomem(e);
    }
    for (uint32_t i = 0; i < l->keep_count; i++)
        all[room++] = l->keep[i];
    kept_sort(all, room);
    for (uint32_t i = 0; i < room; i++)
        if (!count || strcmp(all[count - 1], all[i]))
            all[count++] = all[i];
    n->keep = all;
    n->keep_count = count;
    return 0;
}

/* Only the files of the node; no links. */
static void drop_links(const struct graph *g, const struct graph_node *n, struct list *l)
{
    l->count = 0;
    for (uint32_t i = 0; i < n->file_count; i++)
        if (!graph_is_link(&g->file[n->file[i]]))
            l->file[l->count++] = n->file[i];
}

static int take(struct graph *g, struct graph_node *n, struct list *l, struct err *e)
{
    bool contrary;
    if (look_contrary(n, l, &contrary, e) < 0)
        return -1;
    int r = contrary ? 1 : take_kept(n, l, e);
    if (r > 0)
        drop_links(g, n, l);
    uint32_t *list = r < 0 ? NULL : arena_array(&g->arena, (size_t)l->count + 1, sizeof *list);
    if (!list)
        return r < 0 ? -1 : err_nomem(e);
    memcpy(list, l->file, l->count * sizeof *list);
    n->file = list;
    n->file_count = l->count;
    return 0;
}

int links_give(struct graph *g, struct graph_node *n, struct err *e)
{
    if (n->split.file_count)
        return 0;
    struct list l = {.g = g, .phases = phases_wanted(g), .keep = arena_array(&g->arena, (size_t)n->file_count + 1, sizeof *l.keep)};
    bool links = false;
    int r = l.keep ? 0 : err_nomem(e);
    for (uint32_t i = 0; i < n->file_count && r >= 0; i++)
        r = add_input(&l, n, g->file[n->file[i]], e);
    for (uint32_t i = 0; i < l.count; i++)
        links |= graph_is_link(&g->file[l.file[i]]);
    r = r < 0 ? -1 : links || l.count < n->file_count ? take(g, n, &l, e) : 0;
    free(l.file);
    return r;
}
