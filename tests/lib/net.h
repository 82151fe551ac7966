/* Two ends on one loop, for tests of peers and streams. */
#pragma once
#include "tests/lib/test.h"

#include "proto/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_BULK ((struct slice){"", 0})

struct end {
    struct peer *peer;
    uint64_t got, link, lost, lost_link;
    enum msg_role role;
    uint32_t last; /* type of the last message */
    struct err why;
    bool welcome;    /* answer HELLO */
    bool close_self; /* close the peer in the next callback */
    void (*then)(struct end *t, const struct msg *m, struct slice bulk);
    void *more;
};

static inline void end_message(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                               const struct msg *m, struct slice bulk)
{
    struct end *t = owner;
    struct err e;
    assert_false(t->lost && t->lost_link == link); /* nothing after the end */
    t->got++;
    t->link = link;
    t->role = role;
    t->last = m->type;
    if (t->welcome && m->type == MSG_HELLO) {
        struct msg w = {.type = MSG_WELCOME, .welcome = {1, 1, 1, 1}};
        assert_int_equal(peer_send(p, link, &w, NO_BULK, &e), 0);
    }
    if (t->then)
        t->then(t, m, bulk);
    if (t->close_self) {
        t->peer = NULL;
        peer_close(p);
    }
}

static inline void end_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    struct end *t = owner;
    t->lost++;
    t->lost_link = link;
    t->why = *why;
    if (t->close_self) {
        t->peer = NULL;
        peer_close(p);
    }
}

static const struct peer_events end_events = {end_message, end_lost};

struct bench {
    struct loop *loop;
    struct loop_timer timer; /* so that a turn never waits for ever */
};

static inline void bench_tick(struct loop_timer *w)
{
    (void)w;
}

static inline void bench_open(struct bench *b)
{
    struct err e;
    *b = (struct bench){.loop = loop_new(&e), .timer = {.run = bench_tick}};
    assert_non_null(b->loop);
    loop_timer_start(b->loop, &b->timer, 5000000, 5000000);
}

static inline void bench_close(struct bench *b)
{
    loop_timer_stop(b->loop, &b->timer);
    loop_free(b->loop);
}

/* Waits for at most `seconds`; if the condition is not true by then the test fails. */
#define UNTIL(bench, seconds, condition)                                                           \
    do {                                                                                           \
        uint64_t end_ = loop_clock_ns() + (uint64_t)(seconds)*1000000000u;                         \
        while (!(condition) && loop_clock_ns() < end_)                                             \
            loop_turn((bench)->loop, true);                                                        \
        if (!(condition))                                                                          \
            fail_msg("not within %d s: %s", (int)(seconds), #condition);                           \
    } while (0)

/* Lets the loop turn for a while, to see that nothing happens. */
static inline void bench_idle(struct bench *b, unsigned ms)
{
    uint64_t end = loop_clock_ns() + ms * (uint64_t)1000000;
    while (loop_clock_ns() < end)
        loop_turn(b->loop, true);
}

static inline struct net *net_make(struct bench *b, const char *keys, enum msg_role role,
                                   bool loopback)
{
    struct err e = {0};
    struct net_options o = {.keys = keys, .role = role, .insecure_loopback = loopback};
    struct net *n = net_new(b->loop, &o, &e);
    if (!n)
        fail_msg("%s", e.text);
    return n;
}

static inline struct peer *listen_at(struct net *n, const char *url, enum msg_role as,
                                     struct end *t)
{
    struct err e = {0};
    t->peer = peer_listen(n, url, as, &end_events, t, &e);
    if (!t->peer)
        fail_msg("%s", e.text);
    return t->peer;
}

static inline struct peer *connect_to(struct net *n, const char *url, struct slice key,
                                      enum msg_role as, enum msg_role to, struct end *t)
{
    struct err e = {0};
    t->peer = peer_connect(n, url, key, as, to, &end_events, t, &e);
    if (!t->peer)
        fail_msg("%s", e.text);
    return t->peer;
}

static inline void say(struct end *t, uint64_t link, struct msg m)
{
    struct err e = {0};
    if (peer_send(t->peer, link, &m, NO_BULK, &e) < 0)
        fail_msg("%s", e.text);
}

static inline struct msg say_hello(enum msg_role role)
{
    return (struct msg){.type = MSG_HELLO,
                        .hello = {1, role, "t", {"0123456789abcdef", 16}, "", 0, 0, "", {"", 0}, "", "", 0}};
}

static inline struct msg say_ping(uint64_t n)
{
    return (struct msg){.type = MSG_PING, .ping = {n}};
}

/* A directory for keys, removed with all that is in it. */
static inline void place_make(char place[64])
{
    strcpy(place, "/tmp/zpipe-test-XXXXXX");
    assert_non_null(mkdtemp(place));
}

static inline void place_remove(const char *place)
{
    char command[100];
    snprintf(command, sizeof command, "rm -r '%s'", place);
    assert_int_equal(system(command), 0);
}

static inline char *keys_make(const char *place, const char *name, char out[128])
{
    struct err e = {0};
    snprintf(out, 128, "%s/%s", place, name);
    if (keys_generate(out, &e) < 0)
        fail_msg("%s", e.text);
    return out;
}
