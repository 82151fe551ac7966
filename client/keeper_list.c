/* See keeper.h.  Which jobs a keeper has, by number, and whose they are. */
#include "client/keeper.h"

#include <inttypes.h>
#include <stdlib.h>

/* The place of this number in the list, or where it would be inserted.  Numbers grow, so a new one mostly goes last. */
static uint32_t place_of(const struct keeper *k, uint64_t number)
{
    uint32_t from = 0, to = k->job_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (k->job[middle]->row.number < number)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct keeper_job *keeper_job_of(struct keeper *k, uint64_t number)
{
    uint32_t at = place_of(k, number);
    return at < k->job_count && k->job[at]->row.number == number ? k->job[at] : NULL;
}

static struct keeper_owner *find_owner(const struct keeper *k, struct slice key)
{
    const struct list *bucket = &k->owners[key.size ? *(const uint8_t *)key.data : 0];
    for (struct list *l = bucket->next; l != bucket; l = l->next) {
        struct keeper_owner *o = LIST_OF(l, keeper_owner, at);
        if (slice_equal(key, (struct slice){o->key, o->key_size}))
            return o;
    }
    return NULL;
}

/* The owner with this key, made if there is none.  Counts one more job of it. */
static struct keeper_owner *owner_of(struct keeper *k, struct slice key)
{
    struct list *bucket = &k->owners[key.size ? *(const uint8_t *)key.data : 0];
    struct keeper_owner *o = find_owner(k, key);
    if (o)
        return o->jobs++, o;
    if (key.size > sizeof o->key || !(o = calloc(1, sizeof *o)))
        return NULL;
    o->jobs = 1;
    if (key.size)
        memcpy(o->key, key.data, o->key_size = key.size);
    list_init(&o->at);
    list_add(bucket, &o->at);
    return o;
}

static void owner_leave(struct keeper_owner *o)
{
    if (!o || --o->jobs)
        return;
    list_remove(&o->at);
    free(o);
}

int keeper_list_room(const struct keeper *k, struct slice owner, struct err *e)
{
    const struct keeper_owner *o = find_owner(k, owner);
    if (k->job_count >= KEEPER_JOBS_MAX)
        return err_set(e, ERR_LIMIT, "the keeper has as many jobs as it takes, %d (KEEPER_JOBS_MAX)", KEEPER_JOBS_MAX);
    if (o && o->jobs >= KEEPER_JOBS_PER_KEY_MAX)
        return err_set(e, ERR_LIMIT,
                       "the keeper has %u jobs of this key, those that are over too, and takes no more (KEEPER_JOBS_PER_KEY_MAX): "
                       "`zpipe cancel JOB` forgets one that is over",
                       o->jobs);
    return 0;
}

uint64_t keeper_list_held(const struct keeper *k, struct slice owner)
{
    const struct keeper_owner *o = find_owner(k, owner);
    return o ? o->held_bytes : 0;
}

int keeper_list_add(struct keeper_job *j, struct slice owner, struct err *e)
{
    struct keeper *k = j->k;
    uint32_t at = place_of(k, j->row.number);
    if (k->job_count == KEEPER_JOBS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d jobs (KEEPER_JOBS_MAX)", KEEPER_JOBS_MAX);
    if (at < k->job_count && k->job[at]->row.number == j->row.number)
        return err_set(e, ERR_PROTO, "there are two jobs %" PRIu64, j->row.number);
    if (!(j->owner = owner_of(k, owner)))
        return err_nomem(e);
    memmove(&k->job[at + 1], &k->job[at], (k->job_count++ - at) * sizeof *k->job);
    k->job[at] = j;
    return 0;
}

void keeper_list_remove(struct keeper_job *j)
{
    struct keeper *k = j->k;
    uint32_t at = place_of(k, j->row.number);
    if (at < k->job_count && k->job[at] == j)
        memmove(&k->job[at], &k->job[at + 1], (--k->job_count - at) * sizeof *k->job);
    owner_leave(j->owner);
    j->owner = NULL;
}

/* Which job goes first when there are too many?  One of the owner with the most jobs; of these, one whose output was taken;
 * of these, the oldest. */
static bool goes_before(const struct keeper_job *a, const struct keeper_job *b)
{
    if (a->owner->over != b->owner->over)
        return a->owner->over > b->owner->over;
    if (a->row.everything != b->row.everything)
        return a->row.everything;
    return a->row.over_ms < b->row.over_ms;
}

struct keeper_job *keeper_list_spare(struct keeper *k, uint64_t now_ms)
{
    struct keeper_job *oldest = NULL, *first = NULL;
    uint32_t over_count = 0;
    for (uint32_t i = 0; i < k->job_count; i++)
        k->job[i]->owner->over = 0;
    for (uint32_t i = 0; i < k->job_count; i++) {
        bool counts = k->job[i]->row.over && !k->job[i]->taker;
        k->job[i]->owner->over += counts;
        over_count += counts;
    }
    for (uint32_t i = 0; i < k->job_count; i++) {
        struct keeper_job *j = k->job[i];
        if (!j->row.over || j->taker)
            continue;
        if (!oldest || j->row.over_ms < oldest->row.over_ms)
            oldest = j;
        if (!first || goes_before(j, first))
            first = j;
    }
    if (oldest && now_ms > oldest->row.over_ms + KEEPER_OVER_MS)
        return oldest;
    return over_count > KEEPER_OVER_MAX ? first : NULL;
}

/* The first waiting job of the owner with the fewest running jobs, so that somebody who submits a thousand jobs delays
 * others by one job only. */
struct keeper_job *keeper_list_next(const struct keeper *k)
{
    struct keeper_job *next = NULL;
    for (uint32_t i = 0; i < k->job_count; i++) {
        struct keeper_job *j = k->job[i];
        if (!j->row.over && !j->unwritten && !j->job && (!next || j->owner->running < next->owner->running))
            next = j;
    }
    return next;
}
