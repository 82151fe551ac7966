/* The files that a job's statements write, and those that they may write, which the words of later statements may mean.  They are
 * found by where their paths lead. */
#include "dsl/resolve.h"
#include "proto/graph.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* FNV-1a */
static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3;
    return h;
}

/* Where a path leads, also if the last part of it does not exist yet.  NULL: no memory. */
static const char *leads_to(struct resolver *r, const char *path)
{
    char real[PATH_MAX], parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (realpath(path, real))
        return strcmp(real, path) ? arena_string(r->arena, real) : path;
    if (!slash || slash == path || slash - path >= PATH_MAX)
        return path;
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    if (!realpath(parent, real) || strlen(real) + strlen(slash) >= sizeof real || !strcmp(real, parent))
        return path;
    strcat(real, slash);
    return arena_string(r->arena, real);
}

/* The output, or possible output, of an earlier statement that leads to the same place. */
static const struct written *find(const struct resolver *r, struct written *const *alike, const char *to, bool newest)
{
    const struct written *found = NULL;
    uint64_t h = hash(to);
    for (const struct written *w = alike[h % WRITTEN_CHAINS]; w && !(newest && found); w = w->alike)
        if (w->hash == h && w->statement < r->statement && strcmp(w->to, to) == 0)
            found = w;
    return found;
}

/* A new one; repeated: or the one of this statement that leads to the same place.  NULL: no memory. */
static struct written *add(struct resolver *r, struct written **alike, const char *to, bool repeated)
{
    uint64_t h = hash(to);
    struct written **chain = &alike[h % WRITTEN_CHAINS];
    for (struct written *w = repeated ? *chain : NULL; w && w->statement == r->statement; w = w->alike)
        if (w->hash == h && strcmp(w->to, to) == 0)
            return w;
    struct written *w = arena_alloc(r->arena, sizeof *w);
    if (!w)
        return NULL;
    *w = (struct written){.alike = *chain, .to = to, .hash = h, .statement = r->statement};
    return *chain = w;
}

const struct written *written_find(struct resolver *r, const char *word)
{
    const char *path = r->written ? uses_path(r, word) : NULL;
    const char *to = path ? leads_to(r, path) : NULL;
    return to ? find(r, r->written_alike, to, false) : NULL;
}

const struct written *written_awaited(struct resolver *r, const char *word, bool sure)
{
    const char *path = r->written || r->maybe_count ? uses_path(r, word) : NULL;
    const char *to = path ? leads_to(r, path) : NULL;
    const struct written *w = to ? find(r, r->written_alike, to, false) : NULL;
    struct stat st;
    if (w || !to)
        return w;
    w = find(r, r->maybe_alike, to, true);
    return w && (sure || strpbrk(word, "./") || stat(to, &st) == 0) ? w : NULL;
}

static int fail_every_task(struct resolver *r, const struct stage *s, const char *word, size_t at)
{
    bool reduce = strcmp(s->holes_at, "reduce") == 0;
    return text_fail(r->text, at, r->e,
                     reduce ? "put the > after the closing brace, or use a name with {#}"
                            : "put the > after the closing brace, or use `map per file` and a name "
                              "with {}",
                     "every task of this %s would write %.100s",
                     strcmp(s->holes_at, "each") == 0 ? "map" : s->holes_at, word);
}

static bool taken(const struct written *w, const char *path, bool append)
{
    return strcmp(w->path, path) == 0 && !(w->append && append);
}

int written_add(struct resolver *r, struct stage *s, const char *word, size_t at, bool append)
{
    bool hole = strchr(word, GRAPH_HOLE) != NULL;
    if (s->holes_at && !hole)
        return fail_every_task(r, s, word, at);
    const char *path = uses_path(r, word);
    if (!path)
        return -1;
    for (const struct written *w = r->written; w && !hole; w = w->next)
        if (taken(w, path, append)) {
            char hint[40];
            uint32_t line, column;
            text_place(r->text, w->at, &line, &column);
            snprintf(hint, sizeof hint, "first at line %u", line);
            return text_fail(r->text, at, r->e, hint, "%.200s is written twice in this job", word);
        }
    const char *to = leads_to(r, path);
    struct written *w = to ? add(r, r->written_alike, to, false) : NULL;
    if (!w)
        return resolve_no_memory(r);
    if (++r->written_count > WRITTEN_MAX)
        return text_fail(r->text, at, r->e, NULL, "the job writes more than %d files", WRITTEN_MAX);
    w->path = path;
    w->word = word;
    w->at = at;
    w->append = append;
    *r->last_written = w;
    r->last_written = &w->next;
    return 0;
}

int written_maybe(struct resolver *r, const struct use *u)
{
    const char *to = leads_to(r, u->path);
    struct written *w = to ? add(r, r->maybe_alike, to, true) : NULL;
    if (!w)
        return resolve_no_memory(r);
    if (++r->maybe_count > MAYBE_MAX)
        return text_fail(r->text, u->at, r->e, NULL, "more than %d words of the job may name files that it makes",
                         MAYBE_MAX);
    w->path = u->path;
    w->word = u->word;
    w->at = u->at;
    return 0;
}
