/* The files that programs of lent runs open: scripts, lists of patterns.  A loan's attempt has a route and a spool for each,
 * like an attempt that fetches its files from the client; here they come from the owner, which begins to send a file when
 * it gets credit for it.
 *
 * A file is fetched once for all loans of a job here: a loan that needs a file which another loan has, or is fetching, waits
 * for that. */
#include "worker/lend_inside.h"

#include "proto/lent.h"
#include "worker/shared.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- which there are */

struct found {
    struct attempt *t;
    uint32_t room;
    bool *known; /* per file of the graph */
};

static bool count_one(void *owner, uint32_t file)
{
    struct found *f = owner;
    f->room += !f->known[file];
    f->known[file] = true;
    return true;
}

static bool add_route(void *owner, uint32_t file)
{
    struct found *f = owner;
    struct attempt *t = f->t;
    if (f->known[file])
        return true;
    f->known[file] = true;
    t->route[t->route_count++] = (struct attempt_route){
        .r = {.what = MSG_FILE, .index = file, .node = GRAPH_NONE, .via = MSG_VIA_LISTEN, .fd = -1, .url = ""},
        .attempt = t->number, .spool = -1, .channel = GRAPH_NONE};
    return true;
}

static void walk(struct found *f, bool (*each)(void *owner, uint32_t file))
{
    const struct attempt *t = f->t;
    memset(f->known, 0, t->graph->file_count * sizeof *f->known);
    for (uint32_t i = 0; i < t->stages.count; i++)
        if (stage_may_be_lent(t->graph, &t->stages, &t->stages.stage[i]))
            lent_files(t->graph, &t->stages, &t->stages.stage[i], each, f);
}

int loan_files_find(struct loan *l, struct err *e)
{
    struct attempt *t = l->t;
    struct found f = {.t = t, .known = arena_array(&t->arena, (size_t)t->graph->file_count + 1, sizeof *f.known)};
    l->has_files = arena_array(&t->arena, (size_t)t->stages.count + 1, sizeof *l->has_files);
    if (!f.known || !l->has_files)
        return err_nomem(e);
    walk(&f, count_one);
    t->route = arena_array(&t->arena, (size_t)f.room + 1, sizeof *t->route);
    if (!t->route)
        return err_nomem(e);
    walk(&f, add_route);
    return 0;
}

/* ---- fetching */

static bool is_here(const struct attempt_route *r)
{
    return r->spool >= 0 && !r->carry;
}

static void ended(void *owner, struct carry *c, enum carry_end how, const struct err *why)
{
    struct loan *l = owner;
    l->reapable = true;
    for (uint32_t i = 0; i < l->t->route_count; i++) {
        struct attempt_route *r = &l->t->route[i];
        if (r->carry != c)
            continue;
        r->carry_ended = true;
        if (how != CARRY_DONE)
            fd_close(&r->spool); /* it is incomplete */
    }
    if (how == CARRY_FAILED && !l->ended)
        loan_fail(l, why);
}

static int fetch(struct loan *l, struct attempt_route *r, struct err *e)
{
    static const struct carry_events events = {.ended = ended};
    const struct graph_file *f = &l->t->graph->file[r->r.index];
    struct stream_name name = {l->t->job, l->t->number, MSG_LOAN_FILE, r->r.index, l->number};
    r->spool = shared_open(agent_shared(l->agent), f);
    if (r->spool >= 0)
        return 0;
    bool small;
    r->spool = attempt_spool(l->t, f, &small, e);
    int to = r->spool < 0 ? -1 : blocks_dup(r->spool, e);
    r->carry = to < 0 ? NULL : carry_in(agent_loop(l->agent), to, &name, &events, l, e);
    if (!r->carry)
        return -1;
    carry_expect(r->carry, f->size_bytes);
    return carry_bind(r->carry, l->owner, 0, e);
}

/* The route of another loan of the job that has the file, or will have it. */
static struct attempt_route *elsewhere(const struct loan *l, uint32_t file)
{
    struct attempt_route *found = NULL;
    for (struct loan *o = l->lender->loans; o; o = o->next) {
        struct attempt_route *r = o != l && o->t->job == l->t->job
                                      ? attempt_route_of(o->t, MSG_FILE, file, GRAPH_NONE)
                                      : NULL;
        if (r && is_here(r))
            return r;
        if (r && r->spool >= 0 && !o->ended)
            found = r;
    }
    return found;
}

struct want {
    struct loan *l;
    struct err *e;
    bool missing, failed;
};

static bool want_file(void *owner, uint32_t file)
{
    struct want *w = owner;
    struct attempt_route *r = attempt_route_of(w->l->t, MSG_FILE, file, GRAPH_NONE);
    const struct attempt_route *other = r->spool >= 0 ? NULL : elsewhere(w->l, file);
    if (other && is_here(other))
        w->failed |= (r->spool = blocks_dup(other->spool, w->e)) < 0;
    else if (r->spool < 0 && !other)
        w->failed |= fetch(w->l, r, w->e) < 0;
    w->missing |= !is_here(r);
    return !w->failed;
}

int loan_files_here(struct loan *l, uint32_t stage, struct err *e)
{
    struct want w = {.l = l, .e = e};
    if (l->has_files[stage])
        return 1;
    lent_files(l->t->graph, &l->t->stages, &l->t->stages.stage[stage], want_file, &w);
    l->has_files[stage] = !w.failed && !w.missing;
    return w.failed ? -1 : l->has_files[stage];
}

bool loan_files_message(struct loan *l, const struct stream_name *name, const struct msg *m, struct slice bulk)
{
    if (name->what != MSG_LOAN_FILE)
        return false;
    struct attempt_route *r = attempt_route_of(l->t, MSG_FILE, name->index, GRAPH_NONE);
    if (r && r->carry && !r->carry_ended && !l->ended)
        carry_message(r->carry, m, bulk);
    return true;
}

void loan_files_reap(struct loan *l)
{
    for (uint32_t i = 0; i < l->t->route_count; i++) {
        struct attempt_route *r = &l->t->route[i];
        if (!r->carry || !r->carry_ended)
            continue;
        carry_free(r->carry);
        r->carry = NULL;
        agent_step_soon(l->agent); /* for those that wait for it, in other loans too */
    }
}
