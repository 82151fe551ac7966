/* Regions in the server, from the request to the last trace of them. */
#include "base/fds.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct region *region_find(struct server *s, uint64_t id)
{
    struct region *r = s->region;
    while (r && r->id != id)
        r = r->next;
    return r;
}

void region_settle(struct region *r)
{
    if (!r->started || r->tasks_left || r->pumps_left)
        return;
    struct server *s = r->server;
    uint64_t id = r->id;
    region_free(r);
    server_tell(s, (struct wire){.kind = WIRE_REGION, .region = id}, NULL, 0, NULL, 0);
}

void region_free(struct region *r)
{
    struct server *s = r->server;
    struct region **at = &s->region;
    while (*at && *at != r)
        at = &(*at)->next;
    if (*at) {
        *at = r->next;
        s->region_count--;
    }
    if (s->coming == r)
        s->coming = NULL;
    for (uint32_t i = 0; r->task && i < r->spec.region.task_count; i++) {
        freeze_task_gone(s, &r->task[i]);
        task_clear(&r->task[i]);
    }
    for (uint32_t i = 0; r->channel && i < r->spec.region.channel_count; i++)
        channel_clear(&r->channel[i]);
    for (uint32_t i = 0; i < r->fd_count; i++)
        fd_close(&r->fd[i]);
    free(r->fd);
    free(r->stood);
    free(r->task);
    free(r->channel);
    spec_clear(&r->spec);
    if (r->map)
        munmap(r->map, r->map_size);
    fd_close(&r->spec_fd);
    free(r->bytes);
    free(r);
}

static void init_parts(struct region *r)
{
    for (uint32_t i = 0; i < r->spec.region.task_count; i++)
        task_init(&r->task[i], r, i);
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        *c = (struct channel){
            .region = r, .index = i, .write_end = -1, .read_end = -1, .held = -1, .swallow_fd = -1};
        c->hangup_watch = (struct watch){-1, task_hangup_event, c};
        c->fed_watch.fd = c->keep_watch.fd = -1;
    }
}

static int open_parts(struct region *r, struct err *e)
{
    r->opened = true;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        if (channel_open(&r->channel[i], e) < 0)
            return -1;
    return 0;
}

/* The region could not be started as a whole: end what of it has begun. */
static void abandon(struct region *r, const struct err *e)
{
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        pump_kill(&r->channel[i]);
        if (r->spec.region.channel[i].end == BOX_COPY && !r->channel[i].pump)
            server_tell(r->server,
                        (struct wire){.kind = WIRE_PUMP,
                                      .region = r->id,
                                      .a = i,
                                      .b = (uint32_t)(e->sys                 ? e->sys
                                                      : e->code == ERR_NOMEM ? ENOMEM
                                                                             : EIO)},
                        NULL, 0, NULL, 0);
    }
    for (uint32_t i = 0; i < r->spec.region.task_count; i++) {
        struct task *t = &r->task[i];
        task_failed(t, e->text, e->sys);
        if (!t->asked || t->watch.fd < 0)
            task_unasked(t);
    }
    r->next_task = r->spec.region.task_count;
}

bool region_awaited(const struct region *r)
{
    const struct region *other = r->server->region;
    while (other && other->after != r->id)
        other = other->next;
    return other;
}

/* Does the region wait for another region's tasks to end? */
static bool waits(struct region *r)
{
    const struct region *before = r->after ? region_find(r->server, r->after) : NULL;
    for (uint32_t i = 0; before && i < before->spec.region.task_count; i++)
        if (before->task[i].state == TASK_SETUP)
            return true;
    r->after = 0;
    return false;
}

/* The next task waits for its template: have the templates of the tasks after it made at the same time. */
static void want_templates(struct region *r)
{
    const char *cold;
    for (uint32_t i = r->next_task + 1; !r->wants && r->task[r->next_task].awaits && i < r->spec.region.task_count; i++)
        template_for(&r->task[i], &cold);
    r->wants = r->task[r->next_task].awaits;
}

static void start_tasks(struct region *r)
{
    struct server *s = r->server;
    struct err e;
    while (r->next_task < r->spec.region.task_count && s->starting < STARTING_MAX) {
        int started = task_start(&r->task[r->next_task], &e);
        if (started > 0) {
            want_templates(r);
            return;
        }
        r->next_task++;
        if (started < 0)
            abandon(r, &e);
    }
}

/* Start as many tasks as there is room for.  This may free regions. */
void region_start_more(struct server *s)
{
    struct err e;
    for (struct region *r = s->region, *next;
         s->ready && r && s->starting < STARTING_MAX && s->leaving_count < LEAVING_MAX; r = next) {
        next = r->next;
        if (!r->started || r->next_task == r->spec.region.task_count || waits(r))
            continue;
        if (!r->opened && open_parts(r, &e) < 0)
            abandon(r, &e);
        start_tasks(r);
        region_settle(r);
    }
}

/* All descriptors of the region have come. */
static void region_start(struct region *r)
{
    struct err e;
    r->server->coming = NULL;
    r->server->regions_begun++;
    r->started = true;
    r->tasks_left = r->spec.region.task_count;
    if (!(r->tasks_left && waits(r)) && open_parts(r, &e) < 0)
        abandon(r, &e);
    region_settle(r);
}

static int take_fds(struct region *r, struct wire_packet *p, size_t from)
{
    for (size_t i = from; i < p->fd_count; i++) {
        if (r->fd_count == r->fd_total)
            return -1;
        r->fd[r->fd_count++] = wire_take_fd(p, i);
    }
    return 0;
}

/* The caller is our own code: if what it sends is wrong, it cannot be trusted. */
static int not_as_announced(struct err *e)
{
    return err_set(e, ERR_PROTO, "a region's description is not as announced");
}

static int map_spec(struct region *r, uint64_t size, struct err *e)
{
    struct stat s;
    int seals = fcntl(r->spec_fd, F_GET_SEALS);
    int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
    if (r->spec_fd < 0 || seals < 0 || (seals & wanted) != wanted || fstat(r->spec_fd, &s) < 0 ||
        !size || (uint64_t)s.st_size != size || size > BOX_SPEC_BYTES_MAX)
        return not_as_announced(e);
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, r->spec_fd, 0);
    if (map == MAP_FAILED)
        return err_sys(e, "cannot read a region's description");
    r->map = map;
    r->map_size = size;
    return spec_decode((struct slice){map, size}, &r->spec, e);
}

/* Take a spec that came in the packet itself. */
static int copy_spec(struct region *r, const struct wire_packet *p, struct err *e)
{
    r->bytes = malloc(p->size);
    if (!r->bytes)
        return err_nomem(e);
    memcpy(r->bytes, p->data, p->size);
    return spec_decode((struct slice){r->bytes, p->size}, &r->spec, e);
}

int region_new(struct server *s, struct wire_packet *p, struct err *e)
{
    if (s->coming || region_find(s, p->head.region) || s->region_count == BOX_REGIONS_MAX ||
        p->head.a > SPEC_FDS_MAX)
        return not_as_announced(e);
    struct region *r = calloc(1, sizeof *r);
    if (!r)
        return err_nomem(e);
    r->server = s;
    r->id = p->head.region;
    r->spec_fd = p->size ? -1 : wire_take_fd(p, 0);
    r->fd_total = p->head.a;
    r->after = p->head.offset;
    r->spec.arena = ARENA_INIT(SPEC_ARENA_MAX);
    r->next = s->region;
    s->region = r;
    s->region_count++;
    r->fd = calloc(r->fd_total + 1, sizeof *r->fd);
    r->stood = calloc(r->fd_total + 1, sizeof *r->stood);
    if (!r->fd || !r->stood)
        return err_nomem(e);
    if ((p->size ? copy_spec(r, p, e) : map_spec(r, p->head.size, e)) < 0)
        return -1;
    if (r->spec.fd_count != r->fd_total || take_fds(r, p, p->size ? 0 : 1) < 0)
        return not_as_announced(e);
    r->task = calloc(r->spec.region.task_count + 1, sizeof *r->task);
    r->channel = calloc(r->spec.region.channel_count + 1, sizeof *r->channel);
    if (!r->task || !r->channel) {
        free(r->task);
        free(r->channel);
        r->task = NULL;
        r->channel = NULL;
        return err_nomem(e);
    }
    init_parts(r);
    s->coming = r;
    if (r->fd_count == r->fd_total)
        region_start(r);
    return 0;
}

int region_more(struct server *s, struct wire_packet *p, struct err *e)
{
    struct region *r = s->coming;
    if (!r || r->id != p->head.region || take_fds(r, p, 0) < 0)
        return not_as_announced(e);
    if (r->fd_count == r->fd_total)
        region_start(r);
    return 0;
}

int region_feed(struct region *r, const struct wire_packet *p)
{
    return p->head.a < r->spec.region.channel_count ? pump_feed(&r->channel[p->head.a], p) : -1;
}

static void end_tasks(struct region *r)
{
    for (uint32_t i = r->next_task; i < r->spec.region.task_count; i++) {
        task_failed_as(&r->task[i], BOX_KILLED, "", 0);
        task_unasked(&r->task[i]);
    }
    r->next_task = r->spec.region.task_count;
    for (uint32_t i = 0; i < r->spec.region.task_count; i++)
        task_kill(&r->task[i], WIRE_WHY_STOP);
    region_settle(r);
}

void region_stop(struct region *r)
{
    if (!r->started)
        return;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        pump_kill(&r->channel[i]);
    end_tasks(r);
}

void region_end_failed(struct server *s)
{
    bool any = s->failed;
    s->failed = false;
    for (struct region *r = any ? s->region : NULL, *next; r; r = next) {
        next = r->next;
        if (r->failed && r->started) {
            r->failed = false;
            end_tasks(r);
        }
    }
}
