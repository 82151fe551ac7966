/* The caller's side of zpipe-box: starts it, sends it regions, and turns its packets into callbacks.
 *
 * A send waits until there is room.  That ends, as the server never waits for us before it reads, and one that stands still
 * is killed (box_ask).  If the server is gone this is told once, from box_dispatch. */
#include "sandbox/box.h"
#include "base/buf.h"
#include "base/fds.h"
#include "base/grow.h"
#include "base/pack.h"
#include "base/spool.h"
#include "sandbox/box_link.h"
#include "sandbox/result.h"
#include "sandbox/spec.h"
#include "sandbox/wire.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef ZPIPE_LIBEXEC
#define ZPIPE_LIBEXEC "/usr/local/libexec/zpipe"
#endif
#define INSTALLED "../libexec/zpipe/zpipe-box" /* relative to bin/ or lib/, in a tree that may have been moved as a whole */
#define SERVER_FD 3
#define MADE_MAX  8192 /* of one task */
#define STILL_S   60   /* how long a server may stand still, */
#define ASKED_MIN 5    /* and how often it is asked meanwhile: time in which the caller stood still does not count */

extern char **environ;

/* A file that a task made, kept until the task's result comes; results of other tasks may come before it. */
struct waiting_made {
    uint64_t region;
    uint32_t task;
    struct box_made file; /* name and fd owned */
};

struct box_server {
    int fd; /* -1: not started */
    pid_t pid;
    uint32_t asked; /* how often, since it last said anything, */
    uint64_t asked_ns; /* and when for the first time */
};

struct box {
    int epoll; /* of all servers' sockets */
    struct box_server server[1 + BOX_LANES_MAX]; /* [0]; and each lane's */
    bool lost;
    char program[4096];         /* the path of the server, */
    struct box_options options; /* and the options it is started with; `program` in them is not used */
    struct box_events events;
    void *owner;
    uint32_t regions; /* regions that have not ended */
    struct waiting_made *made; /* files of tasks whose results have not come */
    uint32_t made_count, made_room;
    struct wire_packet packet, part; /* part: one message of a packet that holds several */
};

/* The path `where`, relative to the directory of `file`, if that directory ends in `in`: a program in /tmp/x must not find
 * what anybody can put into /tmp/libexec. */
static bool seen_from(const char *file, const char *in, const char *where, char *path, size_t size)
{
    const char *slash = strrchr(file, '/');
    size_t length = slash ? (size_t)(slash - file) : 0, least = strlen(in);
    if (*file != '/' || length < least || memcmp(slash - least, in, least) != 0 ||
        (size_t)snprintf(path, size, "%.*s/%s", (int)length, file, where) >= size)
        return false;
    return access(path, X_OK) == 0;
}

int box_program(char *path, size_t size, struct err *e)
{
    char own[PATH_MAX];
    Dl_info code; /* the file that this code is in, which may be libzpipe.so */
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    own[n > 0 ? n : 0] = '\0';
    if (seen_from(own, "", "zpipe-box", path, size) || seen_from(own, "/bin", INSTALLED, path, size) ||
        (dladdr(ZPIPE_LIBEXEC, &code) && seen_from(code.dli_fname, "/lib", INSTALLED, path, size)))
        return 0;
    snprintf(path, size, "%s/zpipe-box", ZPIPE_LIBEXEC);
    if (access(path, X_OK) == 0)
        return 0;
    return err_sys(e, "cannot find the program 'zpipe-box', neither beside this program nor at '%s': set its path in the options (box)", path);
}

static struct box *new_box(const struct box_events *events, void *owner, struct err *e)
{
    struct box *b = calloc(1, sizeof *b);
    if (!b) {
        err_nomem(e);
        return NULL;
    }
    for (unsigned i = 0; i <= BOX_LANES_MAX; i++)
        b->server[i].fd = -1;
    b->events = *events;
    b->owner = owner;
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll >= 0)
        return b;
    err_sys(e, "cannot wait for zpipe-box");
    free(b);
    return NULL;
}

/* Takes fd. */
static int take_server(struct box *b, unsigned lane, int fd, pid_t pid, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = lane};
    b->server[lane] = (struct box_server){.fd = fd, .pid = pid};
    return epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? err_sys(e, "cannot wait for zpipe-box") : 0;
}

struct box *box_adopt(int fd, pid_t pid, const struct box_events *events, void *owner, struct err *e)
{
    struct box *b = new_box(events, owner, e);
    if (!b) {
        fd_close(&fd);
        return NULL;
    }
    if (take_server(b, 0, fd, pid, e) == 0)
        return b;
    box_close(b);
    return NULL;
}

/* Start the server.  All signals are blocked in it until it has said which ones it ignores.  Ctrl-C is its caller's affair;
 * and posix_spawn shares the caller's memory and makes it wait until exec, so a Ctrl-Z before that would stop both for
 * good. */
static int spawn_server(const char *path, const struct box_options *o, bool lane, int fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    char number[] = "3";
    char store[PATH_MAX + 16], *argv[8] = {"zpipe-box", "--serve", number};
    int words = 3;
    if (o && o->isolation == BOX_ISOLATION_NONE)
        argv[words++] = "--isolation=none";
    if (o && o->no_templates)
        argv[words++] = "--templates=never";
    if (lane)
        argv[words++] = "--lane";
    if (spool_chosen()) {
        snprintf(store, sizeof store, "--store=%s", spool_chosen());
        argv[words++] = store;
    }
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &all);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawn_file_actions_adddup2(&actions, fd, SERVER_FD);
    posix_spawn_file_actions_addclosefrom_np(&actions, SERVER_FD + 1);
    int r = posix_spawn(pid, path, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    errno = r;
    return r ? -1 : 0;
}

static int start(struct box *b, unsigned lane, struct err *e)
{
    pid_t pid;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a socket for zpipe-box");
    /* dup2 onto itself would leave the close-on-exec flag set. */
    int theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, SERVER_FD + 1);
    close(pair[1]);
    if (theirs < 0 || spawn_server(b->program, &b->options, lane != 0, theirs, &pid) < 0) {
        err_sys(e, "cannot start '%s'", b->program);
        close(pair[0]);
        fd_close(&theirs);
        return -1;
    }
    close(theirs);
    struct timeval wait = {.tv_sec = STILL_S};
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0) {
        close(pair[0]);
        return err_sys(e, "cannot limit how long zpipe-box is waited for");
    }
    return take_server(b, lane, pair[0], pid, e);
}

struct box *box_open(const struct box_options *options, const struct box_events *events, void *owner,
                     struct err *e)
{
    struct box *b = new_box(events, owner, e);
    if (!b)
        return NULL;
    if (options)
        b->options = *options;
    const char *given = options ? options->program : NULL;
    if (given)
        snprintf(b->program, sizeof b->program, "%s", given);
    if ((given || box_program(b->program, sizeof b->program, e) == 0) && start(b, 0, e) == 0)
        return b;
    box_close(b);
    return NULL;
}

static void drop_made(struct box *b)
{
    for (uint32_t i = 0; i < b->made_count; i++) {
        free((char *)(uintptr_t)b->made[i].file.name);
        fd_close(&b->made[i].file.fd);
    }
    b->made_count = 0;
}

/* Close the sockets, of lanes from `first` on: the servers see that and kill everything.  Wait for their ends. */
static void part(struct box *b, unsigned first)
{
    for (unsigned i = first; i <= BOX_LANES_MAX; i++)
        fd_close(&b->server[i].fd);
    for (unsigned i = first; i <= BOX_LANES_MAX; i++) {
        if (b->server[i].pid > 0)
            while (waitpid(b->server[i].pid, NULL, 0) < 0 && errno == EINTR)
                ;
        b->server[i].pid = 0;
    }
}

int box_again(struct box *b, struct err *e)
{
    part(b, 0);
    drop_made(b);
    b->regions = 0;
    b->lost = false;
    return start(b, 0, e);
}

void box_close(struct box *b)
{
    if (!b)
        return;
    part(b, 0);
    drop_made(b);
    fd_close(&b->epoll);
    free(b->made);
    free(b);
}

int box_fd(const struct box *b)
{
    return b->epoll;
}

/* All of them, also those that serve: they would be waited for. */
static void end_servers(struct box *b)
{
    for (unsigned i = 0; i <= BOX_LANES_MAX; i++)
        if (b->server[i].pid > 0)
            kill(b->server[i].pid, SIGKILL);
}

void box_ask(struct box *b, uint64_t now_ns)
{
    for (unsigned i = 0; i <= BOX_LANES_MAX && !b->lost; i++) {
        struct box_server *s = &b->server[i];
        if (s->fd < 0)
            continue;
        if (s->asked >= ASKED_MIN && now_ns - s->asked_ns > (uint64_t)STILL_S * 1000000000) {
            end_servers(b);
            return;
        }
        if (!s->asked++)
            s->asked_ns = now_ns;
        wire_send(s->fd, (struct wire){.kind = WIRE_THERE}, NULL, 0, NULL, 0);
    }
}

/* A failed send because the server is gone is no error here: box_dispatch reports it, with the server's last words. */
static int gone(struct box *b, struct err *e)
{
    if (errno == EAGAIN)
        end_servers(b);
    if (errno == EPIPE || errno == ECONNRESET || errno == EAGAIN)
        return 0;
    return err_sys(e, "zpipe-box is gone");
}

static int send_one(struct box *b, struct wire head, const void *data, size_t size, const int *fds, size_t fd_count,
                    struct err *e)
{
    if (b->lost)
        return err_set(e, ERR_GONE, "zpipe-box is gone");
    return wire_send(b->server[box_lane(head.region)].fd, head, data, size, fds, fd_count) < 0 ? gone(b, e) : 0;
}

/* Put the bytes into a sealed memfd, which the server can map and which cannot change any more. */
static int spec_memfd(const struct buf *bytes, struct err *e)
{
    int fd = memfd_create("zpipe-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || fd_write_all(fd, bytes->data, bytes->size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        err_sys(e, "cannot hold a region's description in memory");
        fd_close(&fd);
    }
    return fd;
}

static int send_region(struct box *b, uint64_t region, uint64_t after, const struct buf *bytes, const int *fds,
                       uint32_t fd_count, struct err *e)
{
    int first[WIRE_FDS_MAX], memory = -1;
    uint32_t count = 0;
    bool fits = bytes->size <= WIRE_DATA_MAX;
    if (!fits && (first[count++] = memory = spec_memfd(bytes, e)) < 0)
        return -1;
    uint32_t sent = fd_count < WIRE_FDS_MAX - count ? fd_count : WIRE_FDS_MAX - count;
    if (sent)
        memcpy(first + count, fds, sent * sizeof *fds);
    struct wire head = {.kind = WIRE_RUN, .region = region, .offset = after, .size = bytes->size, .a = fd_count};
    int r = send_one(b, head, fits ? bytes->data : NULL, fits ? bytes->size : 0, first, sent + count, e);
    fd_close(&memory);
    while (r == 0 && sent < fd_count) {
        uint32_t part = fd_count - sent < WIRE_FDS_MAX ? fd_count - sent : WIRE_FDS_MAX;
        head.kind = WIRE_FDS;
        r = send_one(b, head, NULL, 0, fds + sent, part, e);
        sent += part;
    }
    return r;
}

/* Make the socket pair of a channel to the caller: remote[i] goes to the server, channel.caller_fd stays here. */
static int make_remote(struct box_channel *c, int remote[2], struct err *e)
{
    int pair[2];
    remote[0] = remote[1] = c->caller_fd = -1;
    if (c->end != BOX_REMOTE_READER && c->end != BOX_REMOTE_WRITER)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a channel");
    c->caller_fd = pair[0];
    remote[0] = pair[1];
    remote[1] = c->end == BOX_REMOTE_READER ? pair[0] : -1;
    return 0;
}

/* Check the region here, as a user's job may make a wrong one and the server ends if it gets one. */
static int check(const struct buf *bytes, struct err *e)
{
    struct spec s;
    if (spec_decode((struct slice){bytes->data, bytes->size}, &s, e) < 0)
        return -1;
    spec_clear(&s);
    return 0;
}

/* Make relative paths absolute, as the server may be in another directory. */
static int make_whole(const struct box_region *r, struct box_task *task, struct arena *a, struct err *e)
{
    char here[4096] = "";
    for (uint32_t i = 0; i < r->task_count; i++) {
        task[i] = r->task[i];
        bool relative = false;
        for (uint32_t k = 0; k < task[i].file_count; k++)
            relative |= task[i].file[k].path && task[i].file[k].path[0] != '/';
        if (!relative)
            continue;
        if (!*here && !getcwd(here, sizeof here))
            return err_sys(e, "cannot tell the current directory");
        struct box_file *f = arena_array(a, task[i].file_count, sizeof *f);
        if (!f)
            return err_nomem(e);
        memcpy(f, task[i].file, task[i].file_count * sizeof *f);
        task[i].file = f;
        for (uint32_t k = 0; k < task[i].file_count; k++) {
            if (!f[k].path || f[k].path[0] == '/')
                continue;
            size_t size = strlen(here) + strlen(f[k].path) + 2;
            char *whole = arena_alloc(a, size);
            if (!whole)
                return err_nomem(e);
            snprintf(whole, size, "%s/%s", here, f[k].path);
            f[k].path = whole;
        }
    }
    return 0;
}

int box_run(struct box *b, uint64_t region, struct box_region *r, struct err *e)
{
    struct arena arena = ARENA_INIT(SPEC_ARENA_MAX);
    struct buf bytes = BUF_INIT(BOX_SPEC_BYTES_MAX);
    struct box_region whole = *r;
    struct box_task *task = arena_array(&arena, r->task_count + 1u, sizeof *task);
    int(*remote)[2] = arena_array(&arena, r->channel_count + 1u, sizeof *remote);
    int *fds = NULL;
    uint32_t fd_count = 0, made = 0;
    int result = -1;
    if (!task || !remote) {
        err_nomem(e);
    } else if (r->task_count > BOX_TASKS_MAX || r->channel_count > BOX_CHANNELS_MAX) {
        err_set(e, ERR_LIMIT, "a region has at most %d programs and %d channels", BOX_TASKS_MAX,
                BOX_CHANNELS_MAX);
    } else if (b->regions >= BOX_REGIONS_MAX) {
        err_set(e, ERR_AGAIN, "%d regions run already", BOX_REGIONS_MAX);
    } else if (b->lost || b->server[box_lane(region)].fd >= 0 || start(b, box_lane(region), e) == 0) {
        result = 0;
        for (; result == 0 && made < r->channel_count; made++)
            result = make_remote(&r->channel[made], remote[made], e);
        if (result == 0)
            result = make_whole(r, task, &arena, e);
        whole.task = task;
        if (result == 0)
            result = spec_encode(&whole, (const int(*)[2])remote, &bytes, &fds, &fd_count, e);
        if (result == 0)
            result = check(&bytes, e);
        if (result == 0)
            result = send_region(b, region, r->after, &bytes, fds, fd_count, e);
        for (uint32_t i = 0; i < made; i++) {
            fd_close(&remote[i][0]);
            if (result < 0)
                fd_close(&r->channel[i].caller_fd);
        }
    }
    b->regions += result == 0;
    free(fds);
    buf_clear(&bytes);
    arena_clear(&arena);
    return result;
}

int box_stop(struct box *b, uint64_t region, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_STOP, .region = region}, NULL, 0, NULL, 0, e);
}

int box_release(struct box *b, uint64_t region, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_RELEASE, .region = region}, NULL, 0, NULL, 0, e);
}

int box_look(struct box *b, uint64_t region, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_LOOK, .region = region}, NULL, 0, NULL, 0, e);
}

int box_forget(struct box *b, struct err *e)
{
    if (!b->regions)
        part(b, 1);
    return send_one(b, (struct wire){.kind = WIRE_FORGET}, NULL, 0, NULL, 0, e);
}

int box_break(struct box *b, uint64_t region, uint32_t channel, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_BREAK, .region = region, .a = channel}, NULL, 0, NULL, 0, e);
}

int box_feed(struct box *b, uint64_t region, uint32_t channel, const struct box_source *source,
             uint32_t count, struct err *e)
{
    struct buf data = BUF_INIT(WIRE_DATA_MAX);
    int fd[BOX_SOURCES_MAX];
    if (count > BOX_SOURCES_MAX)
        return err_set(e, ERR_LIMIT, "more than %d sources at once", BOX_SOURCES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        fd[i] = source[i].fd;
        pack_u64(&data, source[i].offset);
        pack_u64(&data, source[i].size);
    }
    struct wire head = {.kind = WIRE_FEED, .region = region, .a = channel};
    int r = data.failed ? err_nomem(e) : b->lost ? err_set(e, ERR_GONE, "zpipe-box is gone") : 0;
    if (r == 0 && wire_send(b->server[box_lane(region)].fd, head, data.data, data.size, fd, count) < 0)
        r = gone(b, e);
    buf_clear(&data);
    return r;
}

int box_feed_end(struct box *b, uint64_t region, uint32_t channel, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_FEED_END, .region = region, .a = channel}, NULL, 0, NULL, 0, e);
}

int box_hold(struct box *b, uint64_t region, uint32_t channel, bool hold, struct err *e)
{
    return send_one(b, (struct wire){.kind = WIRE_HOLD, .region = region, .a = channel, .b = hold}, NULL, 0, NULL, 0, e);
}

/* As for every packet: 0; -1 with e->code ERR_NOMEM; or -1 for a packet that makes no sense. */
static int take_made(struct box *b, struct wire_packet *p, struct err *e)
{
    struct unpack u = unpack_of(p->data, p->size);
    size_t next = 0;
    for (uint32_t i = 0; i < p->head.a; i++) {
        const char *name = unpack_string(&u);
        uint32_t mode = unpack_u32(&u), kind = unpack_u32(&u), wanted = unpack_u32(&u);
        if (u.bad || kind >= BOX_MADE_KINDS || b->made_count == MADE_MAX)
            return -1;
        char *copy = NULL;
        if (!grow(&b->made, &b->made_room, b->made_count, MADE_MAX, sizeof *b->made) || !(copy = strdup(name)))
            return err_nomem(e);
        b->made[b->made_count++] = (struct waiting_made){
            p->head.region, p->head.task, {copy, wanted ? wire_take_fd(p, next++) : -1, mode, (enum box_made_kind)kind}};
    }
    return 0;
}

/* Take the files of one task out of those that wait.  Gives an array; NULL: no memory. */
static struct box_made *made_by(struct box *b, const struct wire *head, uint32_t *count)
{
    struct box_made *list = calloc((size_t)b->made_count + 1, sizeof *list);
    uint32_t kept = 0;
    *count = 0;
    for (uint32_t i = 0; list && i < b->made_count; i++) {
        if (b->made[i].region == head->region && b->made[i].task == head->task)
            list[(*count)++] = b->made[i].file;
        else
            b->made[kept++] = b->made[i];
    }
    if (list)
        b->made_count = kept;
    return list;
}

static int take_result(struct box *b, struct wire_packet *p, struct err *e)
{
    struct box_result r;
    if (result_unpack(p->data, p->size, &r) < 0)
        return -1;
    struct box_made *made = made_by(b, &p->head, &r.made_count);
    if (!made)
        return err_nomem(e);
    r.made = made;
    b->events.task_ended(b->owner, p->head.region, p->head.task, &r);
    for (uint32_t i = 0; i < r.made_count; i++)
        free((char *)(uintptr_t)made[i].name); /* the descriptors were given to the callback */
    free(made);
    return 0;
}

static void lose(struct box *b, const struct err *why)
{
    b->lost = true;
    b->events.lost(b->owner, why);
}

static int take_kept(struct box *b, struct wire_packet *p)
{
    const struct wire *h = &p->head;
    struct box_kept k = {.data = p->data, .size = h->size, .fd = wire_take_fd(p, 0), .sys = (int)h->b};
    if (k.fd < 0 && k.size != p->size)
        return -1;
    if (b->events.kept)
        b->events.kept(b->owner, h->region, h->a, &k);
    else
        fd_close(&k.fd);
    return 0;
}

static int take(struct box *b, struct wire_packet *p, struct err *e)
{
    const struct wire *h = &p->head;
    switch (h->kind) {
    case WIRE_MADE:
        return take_made(b, p, e);
    case WIRE_RESULT:
        return take_result(b, p, e);
    case WIRE_PUMP:
        if (p->size == 32 && b->events.digested)
            b->events.digested(b->owner, h->region, h->a, (const uint8_t *)p->data);
        b->events.pump_ended(b->owner, h->region, h->a, h->size, (int)h->b, h->task != 0);
        return 0;
    case WIRE_KEPT:
        return take_kept(b, p);
    case WIRE_MOVED:
        if (b->events.moved)
            b->events.moved(b->owner, h->region, h->a, h->size, h->offset);
        return 0;
    case WIRE_BYTES:
        if (b->events.bytes)
            b->events.bytes(b->owner, h->region, h->task, h->offset, h->size);
        return 0;
    case WIRE_THERE:
        return 0; /* that something came is what counts */
    case WIRE_TRACE:
        if (b->events.traced)
            b->events.traced(b->owner, h->region, h->task, p->data, p->size);
        return 0;
    case WIRE_REGION:
        b->regions--;
        b->events.region_ended(b->owner, h->region);
        return 0;
    case WIRE_LOST:
        err_set(e, (int)h->a, "%s", p->data);
        e->sys = (int)h->b;
        lose(b, e);
        return 0;
    default:
        return -1;
    }
}

static int take_many(struct box *b, const struct wire_packet *p, struct err *e)
{
    size_t at = 0;
    uint32_t size;
    while (at < p->size && !b->lost) {
        size_t head = sizeof b->part.head + sizeof size;
        if (p->size - at < head)
            return -1;
        memcpy(&b->part.head, p->data + at, sizeof b->part.head);
        memcpy(&size, p->data + at + sizeof b->part.head, sizeof size);
        at += head;
        if (size > p->size - at)
            return -1;
        memcpy(b->part.data, p->data + at, size);
        b->part.data[size] = '\0';
        b->part.size = size;
        b->part.fd_count = 0;
        at += size;
        if (take(b, &b->part, e) < 0)
            return -1;
    }
    return 0;
}

static void take_all(struct box *b, int fd)
{
    while (!b->lost) {
        struct err e;
        int r = wire_receive(fd, &b->packet, MSG_DONTWAIT);
        if (r < 0 && errno == EAGAIN)
            return;
        err_set(&e, ERR_PROTO, "zpipe-box sent what makes no sense");
        if (r <= 0)
            err_set(&e, ERR_GONE, "zpipe-box has ended unexpectedly");
        bool many = r > 0 && b->packet.head.kind == WIRE_MANY;
        if (r <= 0 || (many ? take_many(b, &b->packet, &e) : take(b, &b->packet, &e)) < 0)
            lose(b, &e);
        wire_close_fds(&b->packet);
    }
}

void box_dispatch(struct box *b)
{
    struct epoll_event ready[1 + BOX_LANES_MAX];
    int n = b->lost ? 0 : epoll_wait(b->epoll, ready, 1 + BOX_LANES_MAX, 0);
    for (int i = 0; i < n; i++) {
        b->server[ready[i].data.u32].asked = 0;
        take_all(b, b->server[ready[i].data.u32].fd);
    }
}
