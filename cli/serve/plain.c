/* Plain bytes over a socket: the input until the client ends its side, then the pipeline's output.  If a job fails its
 * connection is reset, so that nobody takes an empty answer for a good one. */
#include "cli/serve/gone.h"
#include "cli/serve/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64u << 10)

struct line { /* one client's connection */
    struct line *next, **link;
    struct plain *plain;
    int fd;
    struct zpipe_watch *watch;
    struct place place;
    struct gone_watch gone;
    struct request *request;
    unsigned idle_s; /* seconds since bytes moved; not counted while its job runs */
    off_t sent;
};

struct plain {
    struct server *server;
    struct places places;
    struct gone *gone;
    int listener; /* -1: closed */
    struct zpipe_watch *clients; /* NULL: no client is accepted now */
    struct line *first;
};

static void on_client(void *owner, int events);

static void let_in(struct plain *p)
{
    struct zpipe_error e;
    if (!p->clients && p->listener >= 0)
        p->clients = zpipe_watch(server_zpipe(p->server), p->listener, ZPIPE_READABLE, on_client, p, &e);
}

static void hang_up(struct line *l, bool well)
{
    struct linger reset = {1, 0};
    if (!well)
        setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    zpipe_unwatch(l->watch);
    gone_stop(l->plain->gone, &l->gone);
    places_leave(&l->place);
    request_free(l->request);
    close(l->fd);
    let_in(l->plain);
    *l->link = l->next;
    if (l->next)
        l->next->link = l->link;
    free(l);
}

static void give_way(void *owner)
{
    hang_up(owner, false);
}

static void on_writable(void *owner, int events)
{
    struct line *l = owner;
    (void)events;
    ssize_t n = body_send(&l->request->out, l->fd, &l->sent);
    if (n > 0)
        l->idle_s = 0;
    else if (n == 0)
        hang_up(l, true);
    else if (errno != EAGAIN && errno != EINTR)
        hang_up(l, false);
}

static void job_over(struct request *q)
{
    struct line *l = q->owner;
    struct zpipe_error e;
    gone_stop(l->plain->gone, &l->gone);
    if (q->error.code) {
        cli_say(0, "%s", q->error.text);
        hang_up(l, false);
        return;
    }
    l->idle_s = 0;
    places_wait(&l->place, PLACE_TAKES);
    l->watch = zpipe_watch(server_zpipe(l->plain->server), l->fd, ZPIPE_WRITABLE, on_writable, l, &e);
    if (!l->watch)
        hang_up(l, false);
}

static void on_readable(void *owner, int events)
{
    static char bytes[READ_BYTES];
    struct line *l = owner;
    (void)events;
    ssize_t n = recv(l->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0 || (n > 0 && request_add(l->request, bytes, (size_t)n) < 0)) {
        hang_up(l, false);
        return;
    }
    l->idle_s = 0;
    if (n > 0)
        return;
    zpipe_unwatch(l->watch);
    l->watch = NULL;
    places_work(&l->place);
    request_run(l->request);
    l->gone = (struct gone_watch){l->fd, NULL, give_way, l};
    gone_start(l->plain->gone, &l->gone);
}

static void on_client(void *owner, int events)
{
    struct plain *p = owner;
    struct zpipe_error e;
    (void)events;
    bool room = places_room(&p->places);
    int fd = room ? accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
    struct line *l = fd < 0 ? NULL : calloc(1, sizeof *l);
    if (!l) {
        if (fd >= 0)
            close(fd);
        if (!room || errno == EMFILE || errno == ENFILE) { /* new clients wait until somebody leaves, or for the next second */
            zpipe_unwatch(p->clients);
            p->clients = NULL;
        }
        return;
    }
    *l = (struct line){.next = p->first, .link = &p->first, .plain = p, .fd = fd, .gone.fd = -1};
    if (p->first)
        p->first->link = &l->next;
    p->first = l;
    places_enter(&p->places, &l->place, give_way, l);
    l->request = request_new(p->server, job_over, l);
    if (l->request)
        l->watch = zpipe_watch(server_zpipe(p->server), fd, ZPIPE_READABLE, on_readable, l, &e);
    if (!l->watch)
        hang_up(l, false);
}

void plain_tick(struct plain *p)
{
    if (!p)
        return;
    for (struct line *l = p->first, *next; l; l = next) {
        next = l->next;
        if (l->watch && ++l->idle_s > SERVE_IDLE_S)
            hang_up(l, false);
    }
    let_in(p);
}

uint32_t plain_rest(struct plain *p)
{
    uint32_t count = 0;
    if (!p)
        return 0;
    zpipe_unwatch(p->clients);
    p->clients = NULL;
    if (p->listener >= 0)
        close(p->listener);
    p->listener = -1;
    for (struct line *l = p->first, *next; l; l = next) {
        next = l->next;
        if (l->request->ready)
            count++;
        else
            hang_up(l, false);
    }
    return count;
}

struct plain *plain_open(struct server *s, int listener)
{
    struct zpipe_error e = {0};
    struct plain *p = calloc(1, sizeof *p);
    if (!p) {
        cli_say(0, "out of memory");
        return NULL;
    }
    *p = (struct plain){.server = s, .listener = listener};
    places_init(&p->places, SERVE_REQUESTS_MAX);
    p->gone = gone_open(s);
    p->clients = p->gone ? zpipe_watch(server_zpipe(s), listener, ZPIPE_READABLE, on_client, p, &e) : NULL;
    if (p->clients)
        return p;
    cli_say(0, "cannot listen: %s", e.code ? e.text : strerror(errno));
    plain_close(p);
    return NULL;
}

void plain_close(struct plain *p)
{
    if (!p)
        return;
    zpipe_unwatch(p->clients);
    p->clients = NULL;
    if (p->listener >= 0)
        close(p->listener);
    p->listener = -1;
    while (p->first)
        hang_up(p->first, false);
    gone_close(p->gone);
    free(p);
}
