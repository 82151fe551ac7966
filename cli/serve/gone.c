/* See gone.h.  It has an epoll of its own, edge-triggered: a socket whose other side has ended stays readable for ever, and
 * we want to be told once.  The loop watches this epoll. */
#include "cli/serve/gone.h"
#include "cli/serve/serve.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct gone {
    int epoll;
    struct zpipe_watch *watch;
};

/* Sends the question.  If the client is not there its host answers with a reset, which ends up here as an error. */
static void ask(const struct gone_watch *w)
{
    if (w->question)
        (void)!send(w->fd, w->question, strlen(w->question), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void on_change(void *owner, int events)
{
    struct gone *g = owner;
    struct epoll_event ev;
    (void)events;
    /* One event a time: handling one may end other watches. */
    if (epoll_wait(g->epoll, &ev, 1, 0) != 1)
        return;
    struct gone_watch *w = ev.data.ptr;
    if (ev.events & (EPOLLHUP | EPOLLERR)) {
        gone_stop(g, w);
        w->left(w->owner);
    } else {
        ask(w);
    }
}

struct gone *gone_open(struct server *s)
{
    struct zpipe_error e = {0};
    struct gone *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->epoll = epoll_create1(EPOLL_CLOEXEC);
    g->watch = g->epoll < 0 ? NULL : zpipe_watch(server_zpipe(s), g->epoll, ZPIPE_READABLE, on_change, g, &e);
    if (g->watch)
        return g;
    gone_close(g);
    return NULL;
}

void gone_close(struct gone *g)
{
    if (!g)
        return;
    zpipe_unwatch(g->watch);
    if (g->epoll >= 0)
        close(g->epoll);
    free(g);
}

void gone_start(struct gone *g, struct gone_watch *w)
{
    static const int on = 1, idle_s = 10, each_s = 10, times = 3;
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = w};
    int fd = w->fd;
    w->fd = -1;
    /* A host that has gone down says nothing, so the kernel must probe the connection (TCP only). */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &each_s, sizeof each_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    if (epoll_ctl(g->epoll, EPOLL_CTL_ADD, fd, &ev) == 0) /* if this fails, the job's own limits end it */
        w->fd = fd;
}

void gone_stop(struct gone *g, struct gone_watch *w)
{
    if (w->fd >= 0)
        epoll_ctl(g->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}
