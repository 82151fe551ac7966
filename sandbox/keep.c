/* KEEP channels: zpipe-box keeps what a program writes until the program has ended, as outputs of blocks are committed
 * whole.
 *
 * A small output is read into memory as it comes, and goes to the caller in one message: no file is made for it, and the
 * program gets no descriptor that another task ever holds.  An output that exceeds a channel's share, or what all KEEP
 * channels may have together, goes as a whole into an unlinked file, by a pump.  A limit of the writer's output holds
 * either way. */
#include "base/fds.h"
#include "base/spool.h"
#include "sandbox/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct keep {
    struct buf bytes; /* the first bytes */
    int file;         /* owned: a file with all bytes; -1: `bytes` has all */
    int sys;          /* the errno because of which they could not be kept */
};

static void stop_watching(struct channel *c)
{
    watch_stop(c->region->server, &c->keep_watch);
}

static void drop_bytes(struct channel *c)
{
    c->region->server->kept_bytes -= c->keep->bytes.size;
    buf_clear(&c->keep->bytes);
}

void keep_clear(struct channel *c)
{
    stop_watching(c);
    if (!c->keep)
        return;
    drop_bytes(c);
    fd_close(&c->keep->file);
    free(c->keep);
    c->keep = NULL;
}

static struct task *writer_of(const struct channel *c)
{
    return &c->region->task[c->region->spec.channel[c->index].writer];
}

static uint64_t limit_of(const struct channel *c)
{
    const struct region *r = c->region;
    return r->spec.region.task[r->spec.channel[c->index].writer].limit.output_bytes;
}

uint64_t keep_limit(const struct channel *c, uint64_t limit)
{
    return limit ? limit - c->keep->bytes.size : 0;
}

int keep_file(const struct channel *c)
{
    return c->keep->file;
}

/* The writer has written more than it may. */
static void past(struct channel *c)
{
    struct task *t = writer_of(c);
    stop_watching(c);
    t->past_output = true;
    if (!t->result.size)
        task_kill(t, WIRE_WHY_OUTPUT);
}

static void fail(struct channel *c, int sys)
{
    stop_watching(c);
    c->keep->sys = sys ? sys : EIO;
    task_kill(writer_of(c), WIRE_WHY_STOP);
}

/* Let a pump copy everything to a file from here on. */
static void spill(struct channel *c)
{
    struct keep *k = c->keep;
    struct err e = {0};
    stop_watching(c);
    k->file = spool_open(&e);
    if (k->file >= 0 && fd_write_all(k->file, k->bytes.data, k->bytes.size) < 0)
        err_sys(&e, "cannot write to a temporary file");
    if (e.code == ERR_NONE && pump_start(c, &e) == 0)
        drop_bytes(c);
    else
        fail(c, e.sys);
}

/* Read once; false: there is nothing now, or a pump goes on. */
static bool take(struct channel *c)
{
    static char part[BOX_KEEP_BYTES_MAX];
    struct server *s = c->region->server;
    struct keep *k = c->keep;
    uint64_t limit = limit_of(c);
    size_t room = BOX_KEEP_BYTES_MAX - k->bytes.size;
    int there = 0;
    if (!room || s->kept_bytes + room > BOX_KEEP_TOTAL_MAX) {
        if (ioctl(c->read_end, FIONREAD, &there) < 0 || !there)
            return false;
        if (limit && limit <= k->bytes.size)
            past(c);
        else
            spill(c);
        return false;
    }
    ssize_t n = recv(c->read_end, part, room, MSG_DONTWAIT);
    if (n == 0)
        stop_watching(c); /* nobody can write any more; its task's end tells that */
    if (n <= 0)
        return false;
    buf_add(&k->bytes, part, (size_t)n);
    if (k->bytes.failed) {
        fail(c, ENOMEM);
        return false;
    }
    s->kept_bytes += (size_t)n;
    if (limit && k->bytes.size > limit) { /* as with a pump, not a byte more is passed on */
        s->kept_bytes -= k->bytes.size - limit;
        k->bytes.size = (size_t)limit;
        past(c);
    }
    return true;
}

static void take_all(struct channel *c)
{
    while (!c->keep->sys && take(c))
        ;
}

static void readable(struct watch *w, uint32_t events)
{
    (void)events;
    take_all(w->owner);
}

int keep_start(struct channel *c, struct err *e)
{
    c->keep_watch = (struct watch){-1, readable, c};
    c->keep = calloc(1, sizeof *c->keep);
    if (!c->keep)
        return err_nomem(e);
    *c->keep = (struct keep){.bytes = BUF_INIT(BOX_KEEP_BYTES_MAX), .file = -1};
    if (watch_start(c->region->server, &c->keep_watch, c->read_end, EPOLLIN) < 0)
        return err_sys(e, "cannot wait for what a program writes");
    return 0;
}

/* The size of a file is what is in it. */
static void tell(struct channel *c)
{
    struct keep *k = c->keep;
    struct wire head = {.kind = WIRE_KEPT, .region = c->region->id, .a = c->index, .b = (uint32_t)k->sys};
    struct stat s;
    bool in_file = k->file >= 0 && !k->sys && fstat(k->file, &s) == 0;
    size_t size = in_file || k->sys ? 0 : k->bytes.size;
    head.size = in_file ? (uint64_t)s.st_size : size;
    server_tell(c->region->server, head, k->bytes.data, size, &k->file, in_file);
}

void keep_end(struct channel *c, int sys)
{
    struct keep *k = c->keep;
    if (!k)
        return;
    if (k->file < 0 && !k->sys)
        take_all(c);
    if (c->pump)
        return; /* there was more than expected; this is called again when all is copied */
    if (sys)
        k->sys = sys;
    if (k->bytes.size || k->file >= 0 || k->sys)
        tell(c);
    keep_clear(c);
    fd_close(&c->read_end);
}
