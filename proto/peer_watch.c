/* A peer's connections, as reported by the monitor of its socket. */
#include "proto/peer_inside.h"

#include "base/grow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void peer_lose(struct peer *p, int code, const char *why)
{
    if (p->lost || p->closed)
        return;
    bool was = p->running;
    p->running = true;
    while (!p->closed && peer_receive(p)) /* handle first what arrived before the end */
        ;
    if (!p->closed && !p->lost) {
        struct err e;
        p->lost = true;
        loop_timer_stop(p->net->loop, &p->connect);
        loop_timer_stop(p->net->loop, &p->look);
        zmq_disconnect(p->socket, p->url); /* the library is not to try again */
        err_set(&e, code, "%s: %s", p->url, why);
        p->ev->on_lost(p->owner, p, 0, &e);
    }
    peer_leave(p, was);
}

/* Try again later; for links that do not outlive their connection the library does that. */
static void try_later(struct peer *p)
{
    if (p->lasting_link && !p->lost && !p->closed)
        loop_timer_start(p->net->loop, &p->look, AGAIN_NS, 0);
}

/* A client's connection is lost and will be made again: tell the owner that it takes a while. */
static void client_away(struct peer *p)
{
    struct link *l = &p->links[0];
    while (!p->closed && peer_receive(p)) /* handle first what arrived before the end */
        ;
    if (p->closed || p->lost)
        return;
    bool first = !l->away_ns;
    try_later(p);
    if (!first)
        return;
    l->away_ns = loop_clock_ns();
    loop_timer_start(p->net->loop, &p->connect, p->patience_ns, 0);
    struct err e;
    err_set(&e, ERR_GONE, "%s: " LOST_TEXT, p->url);
    if (p->away)
        p->away(p->owner, p, true, &e);
}

void peer_connect_late(struct loop_timer *w)
{
    struct peer *p = w->owner;
    char why[200];
    if (p->links[0].away_ns)
        snprintf(why, sizeof why, LOST_TEXT ", and could not be made again for %llu s",
                 (unsigned long long)(p->patience_ns / 1000000000));
    else if (p->reached)
        snprintf(why, sizeof why, "what answers there does not end the key exchange (waited %d s)",
                 PEER_CONNECT_MS / 1000);
    else
        snprintf(why, sizeof why,
                 "nobody answers there (tried for %d s): is it running, is the address right?",
                 PEER_CONNECT_MS / 1000);
    peer_lose(p, ERR_GONE, why);
}

bool peer_through(const struct peer *p)
{
    return p->through;
}

static void client_event(struct peer *p, unsigned event)
{
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        p->reached = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        p->through = true;
        if (!p->links[0].away_ns)
            loop_timer_stop(p->net->loop, &p->connect);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        peer_lose(p, ERR_DENIED, "our key is not allowed there");
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        peer_lose(p, ERR_DENIED, "the other side does not speak CURVE with these keys");
        break;
    case ZMQ_EVENT_CLOSED:
        try_later(p);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (p->through && p->known)
            client_away(p);
        else if (p->through)
            peer_lose(p, ERR_GONE, LOST_TEXT);
        else if (!p->links[0].away_ns && ++p->tries == PEER_TRIES_MAX)
            peer_lose(p, ERR_DENIED,
                 "it cuts off the key exchange: its key is another one than we have for it, or it "
                 "is no zpipe");
        else
            try_later(p);
        break;
    default:
        break;
    }
}

static void server_event(struct peer *p, unsigned event, uint32_t fd)
{
    if (event != ZMQ_EVENT_DISCONNECTED || fd >= p->fd_room || !p->by_fd[fd])
        return;
    if (!grow(&p->gone, &p->gone_room, p->gone_count, PEER_FDS_MAX, sizeof *p->gone))
        return; /* for the reason in note_fd */
    p->gone[p->gone_count++] = p->by_fd[fd];
    p->by_fd[fd] = 0;
}

/* Read an event: a frame with its number and value, and a frame with an address.  false: there is none. */
static bool next_event(struct peer *p, unsigned *event, uint32_t *value)
{
    uint8_t head[6];
    char address[256];
    uint16_t number;
    if (zmq_recv(p->monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head)
        return false;
    zmq_recv(p->monitor, address, sizeof address, ZMQ_DONTWAIT);
    memcpy(&number, head, sizeof number);
    memcpy(value, head + sizeof number, sizeof *value);
    *event = number;
    return true;
}

void peer_read_monitor(struct peer *p)
{
    unsigned event;
    uint32_t value;
    while (!p->closed && next_event(p, &event, &value))
        if (p->server)
            server_event(p, event, value);
        else
            client_event(p, event);
}

static bool monitor_pending(struct loop_hook *w)
{
    struct peer *p = w->owner;
    return net_readable(p->monitor);
}

static void monitor_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    bool was = p->running;
    p->running = true;
    peer_read_monitor(p);
    peer_leave(p, was);
}

void peer_set_number(void *socket, int option, int value)
{
    zmq_setsockopt(socket, option, &value, sizeof value);
}

int peer_watch(struct peer *p, struct err *e)
{
    char url[64];
    int events = ZMQ_EVENT_DISCONNECTED;
    if (!p->server)
        events |= ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
    snprintf(url, sizeof url, "inproc://zpipe-monitor-%llu",
             (unsigned long long)++p->net->monitors);
    p->monitor = zmq_socket(p->net->context, ZMQ_PAIR);
    if (p->monitor) /* without this, the library's own thread would wait for us at the high-water mark */
        peer_set_number(p->monitor, ZMQ_RCVHWM, 0);
    if (!p->monitor || net_monitor(p->socket, url, events) < 0 ||
        net_connect(p->monitor, url) < 0)
        return err_set(e, ERR_IO, "cannot watch connections: %s", zmq_strerror(errno));
    p->monitor_hook =
        (struct loop_hook){.pending = monitor_pending, .run = monitor_run, .owner = p};
    loop_hook_start(p->net->loop, &p->monitor_hook, net_fd(p->monitor));
    return 0;
}
