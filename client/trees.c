/* See client.h.  In a cluster a directory travels as the files in it: each becomes an input of the stages that named the
 * directory.  In this process the stage gets the directory itself, read-only, with two exceptions.  The working directory
 * is the sandbox's own, so the stage gets its entries instead.  And of a directory that the stage may write into it gets
 * the files, if it holds nothing else and not too many of them.  Symbolic links travel as what they say, and empty directories as
 * their names. */
#include "client/client.h"

#include "base/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_FILES_MAX 10000 /* of one job in a cluster; more need a shared path */
#define TREE_DEPTH_MAX 64
#define TREE_WRITABLE_MAX 1000 /* files of a directory that a stage may write into */

struct tree {
    struct graph *g;
    struct err *e;
    bool deep; /* for a cluster: descend to single files */
    const struct graph_node *node; /* the node that gets the files */
    bool sends;     /* to a cluster */
    uint32_t sent;
    uint32_t count;
    uint32_t *file; /* of GRAPH_FILES_MAX: the files found below the node's directories */
};

static int add_found(struct tree *t, const struct graph_file *f)
{
    uint32_t before = t->g->file_count, file = graph_add_file(t->g, f, t->e);
    if (file == GRAPH_NONE)
        return -1;
    t->sent += t->g->file_count - before; /* two stages may have the same files */
    if (t->sends && t->sent > TREE_FILES_MAX)
        return err_set(t->e, ERR_LIMIT, "the directories of this job hold more than %d files, too many to send",
                       TREE_FILES_MAX);
    if (t->count == GRAPH_FILES_MAX)
        return err_set(t->e, ERR_LIMIT, "the directories of a stage hold more than %d files", GRAPH_FILES_MAX);
    t->file[t->count++] = file;
    return 0;
}

static int add_file(struct tree *t, const char *name, const char *path, const struct stat *s)
{
    struct graph_file f = {.name = name,
                           .path = path,
                           .size_bytes = (uint64_t)s->st_size,
                           .inode = s->st_ino,
                           .mtime_ns = (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec,
                           .mode = s->st_mode};
    return add_found(t, &f);
}

/* A link is given as it is, unless the node gets a file under this name. */
static int add_link(struct tree *t, const char *name, const char *path)
{
    struct graph_file f;
    char link[GRAPH_LINK_MAX + 1];
    for (uint32_t i = 0; i < t->node->file_count; i++)
        if (!strcmp(t->g->file[t->node->file[i]].name, name) && !graph_is_link(&t->g->file[t->node->file[i]]))
            return 0;
    if (links_read(path, &f, link) < 0)
        return 0; /* it has gone meanwhile */
    f.name = name;
    return add_found(t, &f);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *d)
{
    return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

static bool is_here(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "./");
}

/* The length of a name without trailing slashes. */
static size_t name_size(const char *name)
{
    size_t size = strlen(name);
    while (size > 1 && name[size - 1] == '/')
        size--;
    return size;
}

static bool is_writable(const struct graph_node *n, const char *name, const char *path);

static int walk(struct tree *t, const char *name, const char *path, int depth)
{
    struct dirent **list;
    int n = scandir(path, &list, not_dots, by_name), r = 0;
    if (n < 0)
        return err_sys(t->e, "cannot read the directory '%s'", path);
    if (depth > TREE_DEPTH_MAX)
        r = err_set(t->e, ERR_LIMIT, "'%s' is nested more than %d deep", path, TREE_DEPTH_MAX);
    for (int i = 0; i < n; i++) {
        char inner_name[4096], inner[4096];
        struct stat s;
        bool here = is_here(name);
        int a = snprintf(inner_name, sizeof inner_name, "%s%s%s", here ? "" : name, here ? "" : "/", list[i]->d_name);
        int b = snprintf(inner, sizeof inner, "%s/%s", path, list[i]->d_name);
        free(list[i]);
        if (r < 0 || a >= (int)sizeof inner_name || b >= (int)sizeof inner || lstat(inner, &s) < 0)
            continue;
        bool written = S_ISDIR(s.st_mode) && !t->deep && is_writable(t->node, inner_name, inner);
        if (S_ISDIR(s.st_mode) && (t->deep || written)) {
            t->deep = true;
            uint32_t before = t->count;
            r = walk(t, inner_name, inner, depth + 1);
            if (r == 0 && t->count == before) /* nothing in it would make it */
                r = add_file(t, inner_name, inner, &s);
            t->deep = !written;
        } else if (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)) {
            r = add_file(t, inner_name, inner, &s);
        } else if (S_ISLNK(s.st_mode)) {
            r = add_link(t, inner_name, inner);
        }
    }
    free(list);
    return r;
}

/* Does it hold only files, links and non-empty directories, and at most *room of them? */
static bool is_plain(const char *path, uint32_t *room, int depth)
{
    struct dirent **list;
    int n = depth > TREE_DEPTH_MAX ? -1 : scandir(path, &list, not_dots, NULL);
    bool plain = n > 0 || (n == 0 && depth == 0);
    for (int i = 0; i < n; i++) {
        char inner[4096];
        struct stat s;
        plain = plain && snprintf(inner, sizeof inner, "%s/%s", path, list[i]->d_name) < (int)sizeof inner &&
                lstat(inner, &s) == 0 && (*room)-- > 0 &&
                (S_ISREG(s.st_mode) || S_ISLNK(s.st_mode) || (S_ISDIR(s.st_mode) && is_plain(inner, room, depth + 1)));
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return plain;
}

/* Could a name that fits the pattern lie below the directory? */
static bool leads_into(const char *pattern, const char *name)
{
    size_t size = 0;
    for (const char *n = name;; n++) {
        size_t part = strcspn(pattern + size, "/");
        size += part;
        if (!pattern[size])
            return false;
        if (!(n = strchr(n, '/')))
            break;
        size++;
    }
    char leading[4096];
    return snprintf(leading, sizeof leading, "%.*s", (int)size, pattern) < (int)sizeof leading &&
           fnmatch(leading, name, FNM_PATHNAME | FNM_PERIOD) == 0;
}

static bool is_writable(const struct graph_node *n, const char *name, const char *path)
{
    const struct kept kept = {n->keep, n->keep_count, n->out_glob, n->out_glob_count};
    uint32_t room = TREE_WRITABLE_MAX;
    bool below = kept_fits(&kept, name);
    for (uint32_t i = 0; i < n->out_glob_count && !below; i++)
        below = leads_into(n->out_glob[i], name);
    return name[0] != '/' && below && is_plain(path, &room, 0);
}

/* Is the file below one of these directories, so that it is in the sandbox already? */
static bool is_inside(const struct graph *g, const uint32_t *dir, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t size = name_size(g->file[dir[i]].name);
        if (strncmp(name, g->file[dir[i]].name, size) == 0 && name[size] == '/' && name[size + 1])
            return true;
    }
    return false;
}

/* Give each file once: it may be named both by itself and by its directory. */
static int give_once(struct tree *t, struct graph_node *n)
{
    const struct graph *g = t->g;
    bool *seen = arena_array(&t->g->arena, g->file_count, sizeof *seen);
    uint32_t *list = arena_array(&t->g->arena, n->file_count, sizeof *list), count = 0;
    uint32_t *dir = arena_array(&t->g->arena, n->file_count, sizeof *dir), dirs = 0;
    if (!seen || !list || !dir)
        return err_nomem(t->e);
    memset(seen, 0, g->file_count * sizeof *seen);
    for (uint32_t i = 0; i < n->file_count && !t->deep; i++)
        if (S_ISDIR(g->file[n->file[i]].mode))
            dir[dirs++] = n->file[i];
    for (uint32_t i = 0; i < n->file_count; i++) {
        uint32_t file = n->file[i];
        if (!seen[file] && !is_inside(g, dir, dirs, g->file[file].name))
            list[count++] = file;
        seen[file] = true;
    }
    n->file = list;
    n->file_count = count;
    return 0;
}

static int expand(struct tree *t, struct graph_node *n)
{
    struct graph *g = t->g;
    t->node = n;
    t->count = 0;
    uint32_t named = n->file_count, kept = 0;
    uint32_t *keep = arena_array(&g->arena, named, sizeof *keep);
    if (!keep)
        return err_nomem(t->e);
    for (uint32_t i = 0; i < named; i++) {
        struct graph_file f = g->file[n->file[i]];
        char name[4096];
        snprintf(name, sizeof name, "%.*s", (int)name_size(f.name), f.name);
        bool cluster = t->deep, written = S_ISDIR(f.mode) && !cluster && is_writable(n, name, f.path);
        if (!is_here(f.name) && !written)
            keep[kept++] = n->file[i];
        t->deep |= written;
        int r = S_ISDIR(f.mode) && (t->deep || is_here(f.name)) ? walk(t, name, f.path, 0) : 0;
        t->deep = cluster;
        if (r < 0)
            return -1;
    }
    uint32_t more = t->count;
    uint32_t *list = arena_array(&g->arena, (size_t)kept + more, sizeof *list);
    if (!list)
        return err_nomem(t->e);
    if (kept)
        memcpy(list, keep, kept * sizeof *list);
    if (more)
        memcpy(list + kept, t->file, more * sizeof *list);
    n->file = list;
    n->file_count = kept + more;
    return give_once(t, n);
}

int trees_expand(struct graph *g, bool deep, struct err *e)
{
    struct tree t = {.g = g, .e = e, .deep = deep, .sends = deep, .file = malloc(GRAPH_FILES_MAX * sizeof *t.file)};
    int r = t.file ? 0 : err_nomem(e);
    for (uint32_t i = 0; i < g->node_count && r == 0; i++)
        if (g->node[i].file_count && (links_give(g, &g->node[i], e) < 0 || expand(&t, &g->node[i]) < 0))
            r = -1;
    free(t.file);
    return r;
}
