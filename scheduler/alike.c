/* Which workers a job may have.  All of a job runs on workers with one image, kernel and kind of CPU: those of the first
 * worker it gets, unless the job names an image.  On other workers its programs could see other files or compute otherwise,
 * so its bytes would depend on chance, and copies of one task could not be compared. */
#include "scheduler/state.h"

#include <stdio.h>
#include <string.h>

#define IMAGES_TOLD_MAX 8

bool workers_alike(const struct peer_state *a, const struct peer_state *b)
{
    return !strcmp(a->image, b->image) && !strcmp(a->domain, b->domain);
}

static const char *wish_of(const struct graph_node *n)
{
    return strcmp(n->set.image, "host") != 0 ? n->set.image : "";
}

int job_wish(const struct graph *g, const char **wish, struct err *e)
{
    *wish = "";
    for (uint32_t i = 0; i < g->node_count; i++) {
        const char *one = wish_of(&g->node[i]);
        if (*one && **wish && strcmp(one, *wish) != 0)
            return err_set(e, ERR_INPUT, "a job runs on one image, and this one wants '%.100s' and '%.100s'", *wish, one);
        *wish = *one ? one : *wish;
    }
    return 0;
}

/* Does the worker have the job's image?  Ids are long, so the beginning of one will do. */
static bool fits(const struct job *j, const struct peer_state *w)
{
    if (j->bound)
        return !strcmp(w->image, j->image) && !strcmp(w->domain, j->domain);
    return strncmp(w->image, j->wish, strlen(j->wish)) == 0;
}

void job_bind(struct job *j, const struct peer_state *w)
{
    memcpy(j->image, w->image, sizeof j->image);
    memcpy(j->domain, w->domain, sizeof j->domain);
    j->bound = true;
}

bool job_may_have(const struct job *j, const struct peer_state *w)
{
    return fits(j, w) && !job_shuns(j, w);
}

bool job_is_choosy(const struct job *j)
{
    return j->shunned_count || j->bound || *j->wish || j->memory_bytes || j->again;
}

static bool told_before(const struct core *c, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (!strcmp(c->fleet.heap[i]->image, c->fleet.heap[at]->image))
            return true;
    return false;
}

/* "ID (2 workers), ID (1 workers)" */
static void list_images(const struct core *c, struct buf *out)
{
    uint32_t told = 0;
    for (size_t i = 0; i < c->fleet.count && told <= IMAGES_TOLD_MAX; i++) {
        const char *image = c->fleet.heap[i]->image;
        uint32_t count = 0;
        if (told_before(c, i))
            continue;
        for (size_t k = i; k < c->fleet.count; k++)
            count += !strcmp(c->fleet.heap[k]->image, image);
        if (told++ == IMAGES_TOLD_MAX)
            buf_text(out, ", and others");
        else
            buf_printf(out, "%s%.12s of %u worker%s", told > 1 ? ", " : "", image[0] ? image : "none", count, count == 1 ? "" : "s");
    }
}

void job_say_nobody(const struct core *c, const struct job *j, struct err *e)
{
    struct buf images = BUF_INIT(4096);
    bool one = false;
    for (size_t i = 0; i < c->fleet.count && !one; i++)
        one = fits(j, c->fleet.heap[i]);
    list_images(c, &images);
    const char *there = images.data ? images.data : "";
    struct err large;
    bool too_large = memory_say_too_much(c, j, &large);
    if (j->bad) /* the worker that was to keep the task never came */
        *e = j->bad_why;
    else if (too_large && j->why.code)
        err_set(e, j->why.code, "%.600s, and of the others none is large enough: %s", j->why.text, large.text);
    else if (too_large)
        *e = large;
    else if (j->why.code && (one || !c->fleet.count)) /* the job ran before */
        err_set(e, j->why.code, "%s, and no other worker is there", j->why.text);
    else if (j->why.code)
        err_set(e, j->why.code, "%.600s, and no other worker has its image, %.12s, on the same kernel and kind of CPU; there are: %s", j->why.text, j->image,
                there);
    else if (c->fleet.count)
        err_set(e, ERR_NOENT, "no worker has the image '%.100s'; there are: %s", *j->wish ? j->wish : j->image, there);
    else
        err_set(e, ERR_AGAIN,
                "no worker is connected to the scheduler%s%s: start one with "
                "`zpipe worker`",
                c->url[0] ? " at " : "", c->url);
    buf_clear(&images);
}
