/* The init of a template.  The template's program is stopped before its first use of a channel, with our forker in it
 * (forker.c), and is cloned for one task after the other.  Only one clone is at work at a time: the tasks use the template's
 * writable directories, which must be as they were before the next task comes.  A clone that leaves them changed is the
 * template's last; the next one may have been made by then, and ends with it.
 *
 * A clone has a pid namespace below ours, in which nothing is left of other clones.  Its first process runs the forker's
 * code, is our child, and may stay to serve a later clone. */
#include "base/fds.h"
#include "sandbox/forker.h"
#include "sandbox/init.h"
#include "sandbox/leftover.h"
#include "sandbox/spec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLACES_MAX 256 /* directories and files in the template's writable directories */
#define PLACE_PATH 512
#define TICK_LOOKS   50 /* looks until a tick has passed: a tick is at most ten looks, unless the host's clock is set back */
#define TICK_LOOK_NS 1000000

_Static_assert(FORKER_SHOWN_MAX <= PLACES_MAX && FORKER_SHOWN_MAX <= WIRE_FDS_MAX, "a packet has room for them");

/* What is in /tmp and /job, and when it was last changed. */
struct places {
    struct place {
        char path[PLACE_PATH];
        struct timespec changed;
    } place[PLACES_MAX];
    uint32_t count;
    bool failed;
};

struct clone {
    pid_t init; /* the clone's first process; 0: not known yet */
    bool last; /* the first process has no children left to wait for */
    bool stays, gone;
    struct rusage use; /* what the clone used; if its first process is gone: what all clones of that used */
};

/* What is kept from one clone to the next. */
struct stand {
    int signals; /* a signalfd for the ends of children */
    struct places places;
    struct clone clone[FORKER_DOORS]; /* clone N is at [N mod 2]: the one at work, and the next */
};

static void note(struct places *p, const char *path, dev_t device)
{
    struct stat s;
    if (lstat(path, &s) < 0 || s.st_dev != device)
        return; /* an input need not be watched, as it cannot be changed */
    if (p->count == PLACES_MAX || strlen(path) >= PLACE_PATH) {
        p->failed = true;
        return;
    }
    struct place *one = &p->place[p->count++];
    snprintf(one->path, sizeof one->path, "%s", path);
    one->changed = s.st_ctim;
    DIR *d = S_ISDIR(s.st_mode) ? opendir(path) : NULL;
    p->failed |= S_ISDIR(s.st_mode) && !d;
    for (struct dirent *entry; d && !p->failed && (entry = readdir(d));) {
        char below[PLACE_PATH + sizeof entry->d_name + 1];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        note(p, below, device);
    }
    if (d)
        closedir(d);
}

/* Before Linux 6.13 changes within one tick of the kernel's clock have the same time: what a clone makes and removes must
 * come later than the time that we noted. */
static bool is_past(const struct places *p)
{
    struct timespec tick;
    clock_gettime(CLOCK_REALTIME_COARSE, &tick);
    for (uint32_t i = 0; i < p->count; i++) {
        const struct timespec *t = &p->place[i].changed;
        if (t->tv_sec > tick.tv_sec || (t->tv_sec == tick.tv_sec && t->tv_nsec >= tick.tv_nsec))
            return false;
    }
    return true;
}

static int note_places(struct places *p)
{
    struct stat s;
    if (stat("/tmp", &s) < 0)
        return -1;
    note(p, "/tmp", s.st_dev);
    note(p, "/job", s.st_dev);
    for (int i = 0; i < TICK_LOOKS && !is_past(p); i++)
        nanosleep(&(struct timespec){.tv_nsec = TICK_LOOK_NS}, NULL);
    p->failed |= !is_past(p);
    return p->failed ? -1 : 0;
}

/* Whatever is made, removed, written or renamed changes the time of something that was there. */
static bool places_unchanged(const struct places *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct stat s;
        if (lstat(p->place[i].path, &s) < 0 || s.st_ctim.tv_sec != p->place[i].changed.tv_sec ||
            s.st_ctim.tv_nsec != p->place[i].changed.tv_nsec)
            return false;
    }
    return true;
}

/* Show the directories to the server, which looks at them itself when a clone has ended and no process of it is left.  All
 * of them, or none if they are many. */
static int show_places(const struct places *p, int link)
{
    int fd[FORKER_SHOWN_MAX];
    uint32_t count = 0;
    while (p->count <= FORKER_SHOWN_MAX && count < p->count &&
           (fd[count] = open(p->place[count].path, O_PATH | O_NOFOLLOW | O_CLOEXEC)) >= 0)
        count++;
    int result = wire_send(link, (struct wire){.kind = WIRE_READY}, NULL, 0, fd, count == p->count ? count : 0);
    for (uint32_t i = 0; i < count; i++)
        close(fd[i]);
    return result;
}

static struct clone *clone_of(struct stand *s, uint32_t serial)
{
    return &s->clone[serial % FORKER_DOORS];
}

/* A clone's program has ended, as its first process says.  Clones before it that we were not told of have left nothing, and
 * the server has handled their ends. */
static struct clone *main_ended(struct init *in, struct stand *s)
{
    const struct wire *h = &in->packet.head;
    struct clone *c = clone_of(s, in->serial = (uint32_t)h->offset);
    in->main_ended = true;
    in->status = (int)h->b;
    c->last = h->a != WIRE_OTHERS;
    c->stays = h->a == WIRE_NOBODY_STAYS;
    if (in->packet.size == sizeof c->use)
        memcpy(&c->use, in->packet.data, sizeof c->use);
    return c;
}

/* Take one message of the forker or of a clone's first process; false: there is none. */
static bool take_forker(struct init *in, struct stand *s)
{
    int n = wire_receive(in->forker, &in->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        _exit(1);
    const struct wire *h = &in->packet.head;
    switch (h->kind) {
    case WIRE_BORN:
        clone_of(s, h->a)->init = in->packet.from;
        break;
    case WIRE_MAIN:
        if (h->offset >= in->serial && in->packet.from == clone_of(s, (uint32_t)h->offset)->init && !main_ended(in, s)->last)
            wire_send(in->link, (struct wire){.kind = WIRE_MAIN}, NULL, 0, NULL, 0);
        break;
    case WIRE_REAPED:
        if (in->main_ended)
            wire_send(in->link, (struct wire){.kind = WIRE_MAIN}, NULL, 0, NULL, 0);
        break;
    default:
        break;
    }
    wire_close_fds(&in->packet);
    return true;
}

static void is_gone(struct clone *c, const struct rusage *use)
{
    c->gone = true;
    c->stays = false;
    c->use = *use;
}

/* Reap children.  If the template's program or the server is gone, so are we, and all below us.  What a clone's first
 * process has said before its end is there when its end is seen. */
static void reap(struct init *in, struct stand *s)
{
    struct rusage use;
    int status;
    while (in->forker >= 0 && take_forker(in, s))
        ;
    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG | __WALL, &use)) > 0;) {
        if (pid == in->main)
            _exit(0);
        if (clone_of(s, in->serial)->init != pid || !(in->main_ended || in->killed))
            _exit(1); /* nobody told it to end: its clone is lost, at work or not */
        is_gone(clone_of(s, in->serial), &use);
    }
}

/* Serve a clone until no process of it is left whose end the server does not know. */
static void serve_clone(struct init *in, struct stand *s)
{
    struct clone *c;
    struct rusage use;
    bool told = false;
    while (c = clone_of(s, in->serial), !c->gone && (told || !c->stays)) {
        struct pollfd p[3] = {{in->forker, POLLIN, 0}, {s->signals, POLLIN, 0}, {in->link, POLLIN, 0}};
        struct signalfd_siginfo info;
        if (poll(p, 3, -1) < 0)
            continue;
        if (p[0].revents) {
            take_forker(in, s);
            c = clone_of(s, in->serial);
            if (c->last && (told || !c->stays) && c->init && wait4(c->init, NULL, __WALL, &use) == c->init)
                is_gone(c, &use);
        } else if (p[1].revents && read(s->signals, &info, sizeof info) > 0)
            reap(in, s);
        else if (p[2].revents) {
            init_take_next(in);
            if (in->packet.head.kind == WIRE_MAIN)
                main_ended(in, s);
        }
        c = clone_of(s, in->serial);
        if ((in->killed || in->finish) && c->init && !told) {
            told = true;
            kill(c->init, SIGKILL);
        }
    }
    while (!c->last && take_forker(in, s))
        ;
}

/* Take a task's message that its clone did not read before it was ended: the readers of what that task would have written
 * wait for its end.  false: there is none. */
static bool drop_task(struct init *in)
{
    bool there = false;
    while (wire_receive(in->door[in->serial % FORKER_DOORS], &in->packet, MSG_DONTWAIT) > 0) {
        there |= in->packet.head.kind == WIRE_BEGIN;
        wire_close_fds(&in->packet);
    }
    return there;
}

/* Send the clone's result, which also tells whether there can be another clone. */
static void conclude(struct init *in, struct outcome *o, const struct clone *c, bool same)
{
    in->stays = !same ? WIRE_STAYS_CHANGED : c->stays ? WIRE_STAYS_BOTH : WIRE_STAYS;
    init_tell(in, o, &c->use);
    if (!same)
        _exit(0);
}

/* Serve one clone after the other.  The server asks the forker for them, and gives them their tasks. */
static void run_clone(struct init *in, struct stand *stand)
{
    struct outcome o = {0};
    const char *ceiling = NULL;
    in->serial++;
    in->killed = in->finish = in->main_ended = false;
    in->status = 0;
    serve_clone(in, stand);
    struct clone c = *clone_of(stand, in->serial);
    *clone_of(stand, in->serial) = (struct clone){0}; /* its slot is used for the clone after the next */
    if (c.stays)
        clone_of(stand, in->serial)->init = c.init;
    bool same = places_unchanged(&stand->places);
    in->unread = !c.stays && drop_task(in) && !in->killed;
    if (in->killed) {
        init_judge_killed(in, &o);
    } else {
        init_judge(in, &o);
        ceiling = same ? NULL : leftover_send(&in->task, &in->files, in->link);
    }
    if (ceiling && !o.limit) {
        o.end = BOX_LIMIT;
        o.limit = ceiling;
    }
    conclude(in, &o, &c, same);
}

/* Wait for the forker's first message; until then the server may end us. */
static void await_forker(struct init *in, struct stand *s)
{
    int on = 1;
    while (in->forker < 0) {
        struct pollfd p[2] = {{s->signals, POLLIN, 0}, {in->link, POLLIN, 0}};
        struct signalfd_siginfo info;
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents && read(s->signals, &info, sizeof info) > 0)
            reap(in, s);
        if (p[1].revents)
            init_take_next(in);
        if (in->killed)
            _exit(0);
    }
    setsockopt(in->forker, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    if (wire_receive(in->forker, &in->packet, 0) <= 0 || in->packet.head.kind != WIRE_READY)
        _exit(1);
}

_Noreturn void template_serve(struct init *in, int signals)
{
    static struct stand stand;
    stand.signals = signals;
    await_forker(in, &stand);
    if (note_places(&stand.places) < 0 || show_places(&stand.places, in->link) < 0)
        _exit(1);
    for (;;)
        run_clone(in, &stand);
}
