/* The queue of actions that the core wants done, until daemon.c has done them.
 *
 * An action owns what its message borrows, so what the message is about may be gone when it is carried out.  Graphs are
 * shared, not copied: a job spread over a hundred workers has one graph.  The length of the queue is bounded by what one
 * event can cause, as daemon.c empties it after each. */
#include "scheduler/state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ACTION_BYTES_MAX ((size_t)64 << 20)
#define SPARES_MAX       256  /* actions kept for the next event */
#define SURE_ITEMS       8192 /* with fewer routes and nodes than this a message fits into any frame */

struct shared_bytes *bytes_new(struct slice s)
{
    struct shared_bytes *b = malloc(sizeof *b + s.size);
    if (!b)
        return NULL;
    b->users = 1;
    b->size = s.size;
    if (s.size)
        memcpy(b->data, s.data, s.size);
    return b;
}

struct shared_bytes *bytes_share(struct shared_bytes *b)
{
    b->users++;
    return b;
}

void bytes_drop(struct shared_bytes *b)
{
    if (b && --b->users == 0)
        free(b);
}

struct action *action_new(struct core *c, uint64_t link, struct err *e)
{
    struct action *a = c->spare;
    if (a) {
        c->spare = a->next;
        c->spares--;
    } else if (!(a = malloc(sizeof *a))) {
        err_nomem(e);
        return NULL;
    }
    a->next = NULL;
    a->out.kind = CORE_SEND;
    a->out.link = link;
    a->out.bulk = (struct slice){"", 0};
    a->arena = ARENA_INIT(ACTION_BYTES_MAX);
    a->bulk = NULL;
    return a;
}

void action_forget(struct core *c, struct action *a)
{
    arena_clear(&a->arena);
    bytes_drop(a->bulk);
    if (c->spares == SPARES_MAX) {
        free(a);
        return;
    }
    a->next = c->spare;
    c->spare = a;
    c->spares++;
}

static void queue(struct core *c, struct action *a)
{
    if (c->first)
        c->last->next = a;
    else
        c->first = a;
    c->last = a;
}

/* Most messages are far from any ceiling.  The others are encoded here to see whether they fit, so that the failure reaches
 * whoever caused it and not the peer that would get the frame. */
int action_check(const struct msg *m, struct err *e)
{
    struct buf frame = BUF_INIT(MSG_BYTES_MAX);
    if (m->type == MSG_ROUTE && m->route.route_count < SURE_ITEMS)
        return 0;
    if (m->type == MSG_RUN && m->run.route_count + m->run.admit_count < SURE_ITEMS)
        return 0;
    int r = msg_encode(m, &frame, e);
    buf_clear(&frame);
    return r;
}

void action_queue(struct core *c, struct action *a)
{
    if (a->bulk)
        a->out.bulk = (struct slice){a->bulk->data, a->bulk->size};
    queue(c, a);
}

static bool keep_text(struct action *a, const char **text)
{
    *text = (*text)[0] ? arena_string(&a->arena, *text) : "";
    return *text;
}

static bool keep_bytes(struct action *a, struct slice *bytes)
{
    const char *copy = bytes->size ? arena_bytes(&a->arena, bytes->data, bytes->size) : "";
    *bytes = (struct slice){copy, bytes->size};
    return copy;
}

static bool keep_place(struct action *a, struct msg_answer *m)
{
    return keep_text(a, &m->url) && keep_text(a, &m->shared) && keep_text(a, &m->receipt) &&
           keep_bytes(a, &m->key) && keep_bytes(a, &m->token);
}

static bool keep(struct action *a, struct msg *copy)
{
    switch (copy->type) {
    case MSG_REFUSE:
        return keep_text(a, &copy->refuse.text);
    case MSG_STOP:
        return keep_text(a, &copy->stop.text);
    case MSG_DRAINED:
        return keep_text(a, &copy->drained.text);
    case MSG_RECALL:
        return keep_text(a, &copy->recall.text);
    case MSG_RESULT:
        return keep_text(a, &copy->result.text);
    case MSG_ANSWER: /* an answer without rows */
        return keep_text(a, &copy->answer.text) && (!copy->answer.held || keep_place(a, &copy->answer));
    case MSG_VISIT:
        return keep_bytes(a, &copy->visit.key) && keep_bytes(a, &copy->visit.token);
    case MSG_TASK:
        return keep_text(a, &copy->task.text) && keep_text(a, &copy->task.stderr_tail) &&
               keep_text(a, &copy->task.cold);
    case MSG_BLOCK:
        return keep_text(a, &copy->block.worker) && keep_text(a, &copy->block.cold);
    default:
        assert(copy->type == MSG_WELCOME || copy->type == MSG_PING || copy->type == MSG_ACCEPT ||
               copy->type == MSG_PROGRESS || copy->type == MSG_GO_ON); /* these messages borrow nothing */
        return true;
    }
}

/* If there is no memory for an action a peer would be left with something untrue: then the core is broken. */
void core_send(struct core *c, uint64_t link, const struct msg *m)
{
    struct action *a = action_new(c, link, NULL);
    c->broken |= !a;
    if (!a)
        return;
    a->out.msg = *m;
    if (keep(a, &a->out.msg)) {
        queue(c, a);
    } else {
        c->broken = true;
        action_forget(c, a);
    }
}

void core_drop(struct core *c, uint64_t link)
{
    struct action *a = action_new(c, link, NULL);
    c->broken |= !a;
    if (!a)
        return;
    a->out.kind = CORE_DROP;
    queue(c, a);
}

bool core_broken(const struct core *c)
{
    return c->broken;
}

bool core_next_action(struct core *c, struct core_action *out)
{
    if (c->taken)
        action_forget(c, c->taken);
    struct action *a = c->taken = c->first;
    if (!a)
        return false;
    c->first = a->next;
    *out = a->out;
    return true;
}

void actions_free(struct core *c)
{
    if (c->taken)
        action_forget(c, c->taken);
    while (c->first) {
        struct action *a = c->first;
        c->first = a->next;
        action_forget(c, a);
    }
    while (c->spare) {
        struct action *a = c->spare;
        c->spare = a->next;
        free(a);
    }
}
