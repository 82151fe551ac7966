/* Peers and streams: no message is lost whatever else happens on the loop; over TCP only keys that
 * are allowed come through; a stream arrives whole, in credit, or is refused. */
#include "tests/lib/test.h"

#include "proto/peer.h"
#include "proto/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BURST 1000

struct side {
    struct peer *peer;
    uint64_t got, link;
    enum msg_role role;
    bool lost;
    struct err why;
    struct stream_sender *sender;
    const struct stream_sender_events *sending;
    struct stream_receiver *receiver;
    uint64_t bytes;
    bool ended, left, echo;
    struct err refused;
};

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                       const struct msg *m, struct slice bulk)
{
    struct side *s = owner;
    struct err e;
    s->got++;
    s->link = link;
    s->role = role;
    if (m->type == MSG_HELLO) {
        struct msg w = {.type = MSG_WELCOME, .welcome = {1, 1, 1, 1}};
        assert_int_equal(peer_send(p, link, &w, (struct slice){"", 0}, &e), 0);
    }
    if (s->echo && m->type == MSG_PING)
        assert_int_equal(peer_send(p, link, m, (struct slice){"", 0}, &e), 0);
    if (m->type == MSG_ATTACH && !s->sender) {
        s->sender = stream_sender_new(p, link, &(struct stream_name){1, 1, MSG_EDGE, 2, 3},
                                      s->sending, s, &e);
        assert_non_null(s->sender);
        return;
    }
    if (s->sender)
        assert_int_equal(stream_sender_message(s->sender, m, &e), 0);
    if (s->receiver && m->type == MSG_DATA &&
        stream_receiver_message(s->receiver, m, bulk, &s->refused) < 0)
        s->ended = true;
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p, (void)link;
    struct side *s = owner;
    s->lost = true;
    s->why = *why;
}

static const struct peer_events events = {on_message, on_lost};

static struct msg hello(void)
{
    return (struct msg){
        .type = MSG_HELLO,
        .hello = {1, MSG_CLIENT, "t", {"0123456789abcdef", 16}, "", 0, 0, "", {"", 0}, "", "", 0}};
}

#define TURN_UNTIL(loop, condition)                                                                \
    for (int turn_ = 0; !(condition) && turn_ < 100000; turn_++)                                   \
    loop_turn(loop, true)

static void stay_awake(struct loop_timer *w)
{
    (void)w; /* the turns above must not wait for ever */
}

/* 1,000 messages at once, then 1,000 in lockstep with work done in between. */
static void talk(struct loop *loop, struct side *server, struct side *client)
{
    struct err e;
    struct msg m = hello();
    assert_int_equal(peer_send(client->peer, 0, &m, (struct slice){"", 0}, &e), 0);
    TURN_UNTIL(loop, client->got == 1);
    assert_int_equal(client->got, 1);
    assert_int_equal(server->role, MSG_CLIENT);
    server->echo = true;
    for (uint64_t i = 0; i < BURST; i++) {
        m = (struct msg){.type = MSG_PING, .ping = {i}};
        assert_int_equal(peer_send(client->peer, 0, &m, (struct slice){"", 0}, &e), 0);
    }
    TURN_UNTIL(loop, client->got == 1 + BURST);
    assert_int_equal(client->got, 1 + BURST);
    for (uint64_t i = 0; i < BURST; i++) {
        assert_int_equal(peer_send(client->peer, 0, &m, (struct slice){"", 0}, &e), 0);
        TURN_UNTIL(loop, client->got == 2 + BURST + i);
    }
    assert_int_equal(client->got, 1 + 2 * BURST);
}

static void embedded(void **state)
{
    (void)state;
    struct err e;
    struct loop *loop = loop_new(&e);
    struct net_options o = {0};
    struct net *n = net_new(loop, &o, &e);
    struct side server = {0}, client = {0};
    struct loop_timer timer = {.run = stay_awake};
    loop_timer_start(loop, &timer, 10000000, 10000000);
    server.peer = peer_listen(n, "inproc://x", MSG_SCHEDULER, &events, &server, &e);
    client.peer = peer_connect(n, "inproc://x", (struct slice){0}, MSG_CLIENT, MSG_SCHEDULER,
                               &events, &client, &e);
    assert_non_null(server.peer);
    assert_non_null(client.peer);
    assert_null(peer_listen(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &events, &server, &e));
    assert_non_null(strstr(e.text, "needs keys"));
    talk(loop, &server, &client);
    struct msg run = {.type = MSG_RUN, .run = {.token = {"", 0}}}; /* no client may send RUN */
    assert_int_equal(peer_send(client.peer, 0, &run, (struct slice){"x", 1}, &e), 0);
    TURN_UNTIL(loop, server.lost);
    assert_int_equal(peer_stats(server.peer).refused, 1);
    loop_timer_stop(loop, &timer);
    peer_close(client.peer);
    peer_close(server.peer);
    net_free(n);
    loop_free(loop);
}

static void remove_directory(const char *path)
{
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", path);
    assert_int_equal(system(command), 0);
}

static void curve(void **state)
{
    (void)state;
    struct err e;
    char good[] = "/tmp/zpipe-test-XXXXXX", ours[64], other[64];
    assert_non_null(mkdtemp(good));
    snprintf(ours, sizeof ours, "%s/ours", good);
    snprintf(other, sizeof other, "%s/other", good);
    assert_int_equal(keys_generate(ours, &e), 0);
    assert_int_equal(keys_generate(other, &e), 0);
    assert_int_equal(keys_generate(other, &e), -1); /* never overwritten */
    struct loop *loop = loop_new(&e);
    struct loop_timer timer = {.run = stay_awake};
    loop_timer_start(loop, &timer, 10000000, 10000000);
    struct net_options so = {.keys = ours, .role = MSG_SCHEDULER},
                       co = {.keys = ours, .role = MSG_CLIENT},
                       xo = {.keys = other, .role = MSG_CLIENT};
    struct net *sn = net_new(loop, &so, &e), *cn = net_new(loop, &co, &e),
               *xn = net_new(loop, &xo, &e);
    assert_non_null(sn);
    assert_non_null(cn);
    struct side server = {0}, client = {0}, stranger = {0};
    server.peer = peer_listen(sn, "tcp://127.0.0.1:*", MSG_SCHEDULER, &events, &server, &e);
    assert_non_null(server.peer);
    const char *url = peer_url(server.peer);
    client.peer =
        peer_connect(cn, url, (struct slice){0}, MSG_CLIENT, MSG_SCHEDULER, &events, &client, &e);
    talk(loop, &server, &client);
    assert_int_equal(peer_link_key(server.peer, server.link).size, MSG_KEY_BYTES);
    /* A key that is not on the list, with the right server key. */
    uint64_t before = server.got;
    stranger.peer = peer_connect(xn, url, net_public_key(sn), MSG_CLIENT, MSG_SCHEDULER, &events,
                                 &stranger, &e);
    struct msg m = hello();
    assert_int_equal(peer_send(stranger.peer, 0, &m, (struct slice){"", 0}, &e), 0);
    TURN_UNTIL(loop, stranger.lost);
    assert_true(stranger.lost);
    assert_non_null(strstr(stranger.why.text, "not allowed"));
    assert_int_equal(server.got, before);
    loop_timer_stop(loop, &timer);
    peer_close(stranger.peer);
    peer_close(client.peer);
    peer_close(server.peer);
    net_free(xn);
    net_free(cn);
    net_free(sn);
    loop_free(loop);
    remove_directory(good);
}

/* ---- streams */

#define STREAM_BYTES (20u << 20)

static void fill_window(void *owner)
{
    static char bytes[MSG_DATA_BYTES];
    struct side *s = owner;
    struct err e;
    while (!s->ended && stream_sender_window(s->sender)) {
        uint64_t left = STREAM_BYTES - stream_sender_bytes(s->sender),
                 window = stream_sender_window(s->sender);
        size_t size = left < window ? (size_t)left : (size_t)window;
        size = size < sizeof bytes ? size : sizeof bytes;
        if (!left) {
            s->ended = true;
            assert_int_equal(stream_send_end(s->sender, false, &e), 0);
            return;
        }
        assert_int_equal(stream_send(s->sender, bytes, size, &e), 0);
    }
}

static void sender_left(void *owner)
{
    struct side *s = owner;
    s->left = true;
}

static void take(void *owner, struct slice bytes)
{
    struct side *s = owner;
    struct err e;
    s->bytes += bytes.size;
    assert_int_equal(stream_consumed(s->receiver, bytes.size, &e), 0);
}

static void whole(void *owner, bool failed)
{
    struct side *s = owner;
    assert_false(failed);
    s->ended = true;
}

static const struct stream_sender_events sender_events = {fill_window, sender_left, NULL};
static const struct stream_receiver_events receiver_events = {take, whole};
static const struct stream_name name = {1, 1, MSG_EDGE, 2, 3};

struct pair {
    struct loop *loop;
    struct net *n;
    struct side a, b; /* a listens and sends */
    struct loop_timer timer;
};

static void pair_open(struct pair *p)
{
    struct err e;
    struct net_options o = {0};
    *p = (struct pair){.loop = loop_new(&e), .timer = {.run = stay_awake}};
    p->n = net_new(p->loop, &o, &e);
    loop_timer_start(p->loop, &p->timer, 10000000, 10000000);
    p->a.peer = peer_listen(p->n, "inproc://s", MSG_SCHEDULER, &events, &p->a, &e);
    p->b.peer = peer_connect(p->n, "inproc://s", (struct slice){0}, MSG_CLIENT, MSG_SCHEDULER,
                             &events, &p->b, &e);
    struct msg m = hello();
    assert_int_equal(peer_send(p->b.peer, 0, &m, (struct slice){"", 0}, &e), 0);
    TURN_UNTIL(p->loop, p->b.got == 1);
}

static void pair_close(struct pair *p)
{
    stream_sender_free(p->a.sender);
    stream_receiver_free(p->b.receiver);
    loop_timer_stop(p->loop, &p->timer);
    peer_close(p->b.peer);
    peer_close(p->a.peer);
    net_free(p->n);
    loop_free(p->loop);
}

static void credit_rules(void **state)
{
    (void)state;
    struct pair p;
    struct err e;
    pair_open(&p);
    p.b.receiver = stream_receiver_new(p.b.peer, 0, &name, &receiver_events, &p.b, &e);
    struct msg m = {.type = MSG_DATA, .data = {1, 1, MSG_EDGE, 2, 3, 0, 0, {"", 0}}};
    char bytes[8] = "abcdefg";
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes, 4}, &e),
                     -1); /* no credit yet */
    assert_int_equal(stream_receiver_start(p.b.receiver, &e), 0);
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes, 4}, &e), 0);
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes, 4}, &e),
                     0); /* replayed */
    assert_int_equal(p.b.bytes, 4);
    m.data.offset = 2;
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes + 2, 4}, &e),
                     0);
    assert_int_equal(p.b.bytes, 6);
    m.data.offset = 7;
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes, 1}, &e),
                     -1); /* a gap */
    m.data.offset = 6;
    m.data.flags = MSG_DATA_END;
    m.data.digest = (struct slice){"0123456789abcdef", 16};
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){"", 0}, &e),
                     -1); /* wrong digest */
    assert_false(p.b.ended);
    m.data.offset = UINT64_MAX;
    m.data.flags = 0;
    assert_int_equal(stream_receiver_message(p.b.receiver, &m, (struct slice){bytes, 4}, &e), -1);
    pair_close(&p);
}

/* 20 MiB from a worker's data port to a client, over TCP with CURVE; then one that the client
 * leaves. */
static void over_tcp(void **state)
{
    (void)state;
    struct err e;
    char place[] = "/tmp/zpipe-test-XXXXXX", keys[64];
    assert_non_null(mkdtemp(place));
    snprintf(keys, sizeof keys, "%s/keys", place);
    assert_int_equal(keys_generate(keys, &e), 0);
    struct loop *loop = loop_new(&e);
    struct loop_timer timer = {.run = stay_awake};
    loop_timer_start(loop, &timer, 10000000, 10000000);
    struct net_options wo = {.keys = keys, .role = MSG_WORKER},
                       co = {.keys = keys, .role = MSG_CLIENT};
    struct net *wn = net_new(loop, &wo, &e), *cn = net_new(loop, &co, &e);
    struct side worker = {.sending = &sender_events};
    worker.peer = peer_listen(wn, "tcp://127.0.0.1:*", MSG_WORKER, &events, &worker, &e);
    assert_int_equal(net_admit(wn, MSG_CLIENT, net_public_key(cn), &e), 0);
    for (int leave = 0; leave < 2; leave++) {
        struct side client = {0};
        worker.ended = worker.left = false;
        client.peer = peer_connect(cn, peer_url(worker.peer), net_public_key(wn), MSG_CLIENT,
                                   MSG_WORKER, &events, &client, &e);
        struct msg m = {.type = MSG_ATTACH,
                        .attach = {1, 1, {"0123456789abcdef", 16}, MSG_EDGE, 2, 3}};
        assert_int_equal(peer_send(client.peer, 0, &m, (struct slice){"", 0}, &e), 0);
        client.receiver = stream_receiver_new(client.peer, 0, &name, &receiver_events, &client, &e);
        assert_int_equal(stream_receiver_start(client.receiver, &e), 0);
        TURN_UNTIL(loop, client.ended || (leave && client.bytes));
        if (leave) {
            assert_int_equal(stream_leave(client.receiver, &e), 0);
            TURN_UNTIL(loop, worker.left);
            assert_true(worker.left);
        } else {
            assert_int_equal(client.bytes, STREAM_BYTES);
            assert_true(client.ended);
        }
        stream_receiver_free(client.receiver);
        stream_sender_free(worker.sender);
        worker.sender = NULL;
        peer_close(client.peer);
    }
    loop_timer_stop(loop, &timer);
    peer_close(worker.peer);
    net_free(cn);
    net_free(wn);
    loop_free(loop);
    remove_directory(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedded),
        cmocka_unit_test(curve),
        cmocka_unit_test(credit_rules),
        cmocka_unit_test(over_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
