/* See lent.h. */
#include "proto/lent.h"

#include <sys/stat.h>

static bool is_among(const uint32_t *list, uint32_t count, uint32_t one)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == one)
            return true;
    return false;
}

bool lent_files(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s,
                bool (*each)(void *owner, uint32_t file), void *owner)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct graph_node *n = &g->node[all->node[s->first + i]];
        for (uint32_t k = 0; k < n->file_count; k++) {
            bool comes = i == 0 && s->author == GRAPH_NONE && is_among(n->split.file, n->split.file_count, n->file[k]); /* it comes with the runs */
            if (!comes && !S_ISDIR(g->file[n->file[k]].mode) && !graph_is_link(&g->file[n->file[k]]) && !each(owner, n->file[k]))
                return false;
        }
    }
    /* Files that a body reads by a redirection. */
    for (uint32_t i = 0; s->author != GRAPH_NONE && i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        for (uint32_t k = 0; n->parent == s->author && !n->merge && k < n->segment_count; k++)
            if (n->segment[k].kind == GRAPH_SEGMENT_FILE && !each(owner, n->segment[k].file))
                return false;
    }
    return true;
}

/* Does the body read the output of a pipeline outside of it? */
static bool reads_outside(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s)
{
    for (uint32_t i = 0; s->author != GRAPH_NONE && i < s->count; i++) {
        const struct graph_node *n = &g->node[all->node[s->first + i]];
        for (uint32_t k = 0; k < n->fd_count; k++)
            if (g->node[g->edge[n->fd[k].edge].from].parent == GRAPH_NONE)
                return true;
    }
    return false;
}

struct sum {
    const struct graph *g;
    uint64_t bytes;
    uint32_t count;
};

static bool add(void *owner, uint32_t file)
{
    struct sum *s = owner;
    s->bytes += s->g->file[file].size_bytes;
    return ++s->count <= LENT_FILES_MAX && s->g->file[file].size_bytes <= LENT_FILES_BYTES &&
           s->bytes <= LENT_FILES_BYTES;
}

const char *stage_stays_why(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s)
{
    struct sum sum = {.g = g};
    if (reads_outside(g, all, s))
        return "its body reads what comes from outside of it";
    return lent_files(g, all, s, add, &sum) ? NULL : "its programs open too many files, or too large ones";
}

bool stage_may_be_lent(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s)
{
    return !stage_stays_why(g, all, s);
}

struct search {
    uint32_t file;
};

static bool differs(void *owner, uint32_t file)
{
    const struct search *s = owner;
    return file != s->file;
}

bool lent_file_is(const struct graph *g, const struct graph_stages *all, uint32_t file)
{
    struct search s = {file};
    for (uint32_t i = 0; i < all->count; i++)
        if (stage_may_be_lent(g, all, &all->stage[i]) && !lent_files(g, all, &all->stage[i], differs, &s))
            return true;
    return false;
}
