/* Links that come and go, and those who should not be there: who left is noticed once and
 * forgotten, a wrong key gets a clear sentence, and what is no message of ours costs its sender the
 * link and nobody else. */
#include "tests/lib/net.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

/* ---- coming and going */

static void those_who_left(void **state)
{
    (void)state;
    struct bench b;
    struct end server = {.welcome = true};
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    struct end stays = {0};
    connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &stays);
    say(&stays, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, stays.got == 1);
    uint64_t link = server.link;
    for (int i = 0; i < 40; i++) {
        struct end c = {0};
        uint64_t got = server.got, lost = server.lost;
        connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &c);
        say(&c, 0, say_hello(MSG_CLIENT));
        UNTIL(&b, 10, c.got == 1);
        assert_int_equal(peer_stats(server.peer).links, 2);
        say(&c, 0,
            (struct msg){.type = MSG_BYE, .bye = {"bye"}}); /* is heard before the end is noticed */
        peer_close(c.peer);
        UNTIL(&b, 10, server.lost == lost + 1);
        assert_int_equal(server.got, got + 2);
        assert_int_equal(server.last, MSG_BYE);
        assert_int_equal(peer_stats(server.peer).links, 1);
        struct err e;
        struct msg m = say_ping(1);
        assert_int_equal(peer_send(server.peer, server.link, &m, NO_BULK, &e), -1);
        assert_int_equal(e.code, ERR_GONE);
    }
    say(&server, link, say_ping(2));
    UNTIL(&b, 10, stays.got == 2);
    peer_close(server.peer);
    UNTIL(&b, 10, stays.lost == 1);
    assert_non_null(strstr(stays.why.text, "closed by the other side"));
    peer_close(stays.peer);
    net_free(n);
    bench_close(&b);
}

/* Far more than one turn handles, and then the end: all of it is heard first.  The server's loop
 * stands still until the client is gone, so that everything waits at once. */
static void last_words(void **state)
{
    (void)state;
    struct bench b, theirs;
    struct end server = {.welcome = true}, client = {0};
    const uint64_t words = 20 * PEER_TURN_MAX;
    bench_open(&b);
    bench_open(&theirs);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    struct net *other = net_make(&theirs, NULL, MSG_CLIENT, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    connect_to(other, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
    say(&client, 0, say_hello(MSG_CLIENT));
    for (int i = 0; i < 2000 && client.got == 0; i++) {
        loop_turn(b.loop, true);
        loop_turn(theirs.loop, true);
    }
    assert_int_equal(client.got, 1);
    for (uint64_t i = 0; i < words; i++)
        say(&client, 0, say_ping(i));
    peer_close(client.peer);
    net_free(other);
    UNTIL(&b, 10, server.lost == 1);
    assert_int_equal(server.got, 1 + words);
    bench_idle(&b, 50); /* end_message looks that none comes after the end */
    assert_int_equal(server.got, 1 + words);
    peer_close(server.peer);
    net_free(n);
    bench_close(&theirs);
    bench_close(&b);
}

/* HELLO alone opens nothing: its answer does. */
static void unwelcome(void **state)
{
    (void)state;
    struct bench b;
    struct msg submit = {.type = MSG_SUBMIT, .submit = {.request = 1, .text = "cat"}};
    bench_open(&b);
    for (int welcome = 0; welcome < 2; welcome++) {
        struct end server = {.welcome = welcome}, client = {0};
        struct net *n = net_make(&b, NULL, MSG_SCHEDULER, false);
        listen_at(n, "inproc://x", MSG_SCHEDULER, &server);
        connect_to(n, "inproc://x", NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
        say(&client, 0, say_hello(MSG_CLIENT));
        say(&client, 0, submit);
        UNTIL(&b, 10, server.lost == 1 || server.got == 2);
        assert_int_equal(server.got, 1 + welcome);
        assert_int_equal(server.lost, !welcome);
        peer_close(client.peer);
        peer_close(server.peer);
        net_free(n);
    }
    bench_close(&b);
}

/* ---- links that outlive their connection */

/* Whoever has a connection to that port in this process has none any more, in the midst of whatever was on its way. */
static void cut_all(const char *url)
{
    uint16_t port = (uint16_t)atoi(strrchr(url, ':') + 1);
    for (int fd = 3; fd < 200; fd++) {
        struct sockaddr_in a = {0};
        socklen_t size = sizeof a;
        if (getpeername(fd, (struct sockaddr *)&a, &size) == 0 && a.sin_family == AF_INET && ntohs(a.sin_port) == port)
            shutdown(fd, SHUT_RDWR);
    }
}

struct counter {
    uint64_t next; /* of the pings that come */
    bool gives_back, away;
    int times; /* that it was */
};

static void in_order(struct end *t, const struct msg *m, struct slice bulk)
{
    (void)bulk;
    struct counter *c = t->more;
    if (m->type != MSG_PING)
        return;
    assert_int_equal(m->ping.count, c->next++);
    if (c->gives_back)
        say(t, t->link, *m);
}

static void told_away(void *owner, struct peer *p, bool away, const struct err *why)
{
    (void)p;
    struct counter *c = ((struct end *)owner)->more;
    assert_true(away != c->away && (!away || why->code == ERR_GONE));
    c->away = away;
    c->times += away;
}

#define CUTS  6
#define PINGS 3000 /* for each */

/* Each message comes once and in order, both ways, wherever the connection breaks, and neither owner hears of an end; but of
 * one on purpose at once, and of one that lasts. */
static void broken_connections(void **state)
{
    (void)state;
    struct bench b, apart;
    struct counter theirs = {.gives_back = true}, ours = {0};
    struct end server = {.welcome = true, .then = in_order, .more = &theirs}, client = {.then = in_order, .more = &ours}, other = {0};
    struct err e;
    char place[64], keys[128];
    bench_open(&b);
    bench_open(&apart);
    place_make(place);
    struct net *n = net_make(&b, keys_make(place, "keys", keys), MSG_SCHEDULER, false), *near = net_make(&b, keys, MSG_CLIENT, false),
               *far = net_make(&apart, keys, MSG_CLIENT, false);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    client.peer = peer_connect_lasting(near, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &end_events, told_away, &client, &e);
    say(&client, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, client.got == 1);
    uint64_t sent = 0;
    for (int cut = 0; cut < CUTS; cut++) {
        for (int i = 0; i < PINGS; i++)
            say(&client, 0, say_ping(sent++));
        UNTIL(&b, 10, theirs.next > sent - PINGS / 2); /* the rest is on its way, and so are answers */
        cut_all(peer_url(server.peer));
        UNTIL(&b, 10, ours.times == cut + 1);
        say(&client, 0, say_ping(sent++)); /* while there is none */
        UNTIL(&b, 10, !ours.away);
    }
    UNTIL(&b, 10, ours.next == sent);
    assert_int_equal(server.got, 1 + sent);
    assert_int_equal(client.got, 1 + sent);
    assert_int_equal(server.lost + client.lost, 0);
    uint64_t link = server.link;
    peer_close(client.peer);
    UNTIL(&b, 5, server.lost == 1 && server.lost_link == link && peer_stats(server.peer).links == 0);

    other.peer = peer_connect_lasting(far, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &end_events, NULL, &other, &e);
    say(&other, 0, say_hello(MSG_CLIENT));
    for (int i = 0; i < 2000 && other.got == 0; i++) {
        loop_turn(b.loop, true);
        loop_turn(apart.loop, true);
    }
    bench_idle(&apart, 20);
    peer_patience(server.peer, 300000000);
    cut_all(peer_url(server.peer));
    int kept = 0;
    struct msg m = say_ping(0);
    while (peer_send(server.peer, server.link, &m, NO_BULK, &e) == 0)
        kept++;
    assert_true(e.code == ERR_AGAIN && kept > 10000);
    UNTIL(&b, 10, server.lost == 2 && peer_stats(server.peer).links == 0);
    for (int i = 0; i < 2000 && other.lost == 0; i++) {
        loop_turn(b.loop, true);
        loop_turn(apart.loop, true);
    }
    assert_int_equal(other.lost, 1);
    assert_non_null(strstr(other.why.text, "knows nothing of it any more"));
    peer_close(other.peer);
    peer_close(server.peer);
    net_free(far);
    net_free(near);
    net_free(n);
    place_remove(place);
    bench_close(&apart);
    bench_close(&b);
}

#define CROWD 60

/* Many at once, of whom every third leaves: the rest are all still there. */
static void a_crowd(void **state)
{
    (void)state;
    struct bench b;
    struct end server = {.welcome = true};
    static struct end c[CROWD];
    uint64_t link[CROWD];
    memset(c, 0, sizeof c);
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    for (int i = 0; i < CROWD; i++) {
        connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &c[i]);
        say(&c[i], 0, say_hello(MSG_CLIENT));
        UNTIL(&b, 10, c[i].got == 1);
        link[i] = server.link;
    }
    for (int i = 0; i < CROWD; i += 3)
        peer_close(c[i].peer);
    UNTIL(&b, 10, server.lost == CROWD / 3);
    assert_int_equal(peer_stats(server.peer).links, CROWD - CROWD / 3);
    for (int i = 0; i < CROWD; i++) {
        if (i % 3 == 0)
            continue;
        say(&server, link[i], say_ping(1));
        UNTIL(&b, 10, c[i].got == 2);
        peer_close(c[i].peer);
    }
    UNTIL(&b, 10, server.lost == CROWD);
    assert_int_equal(peer_stats(server.peer).links, 0);
    peer_close(server.peer);
    net_free(n);
    bench_close(&b);
}

static void closed_in_a_callback(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    for (int which = 0; which < 3; which++) {
        struct end server = {.welcome = which != 0, .close_self = which == 0},
                   client = {.close_self = which == 1};
        struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
        listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
        connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
        say(&client, 0, say_hello(MSG_CLIENT));
        if (which == 0) { /* the server, in on_message */
            UNTIL(&b, 10, !server.peer);
            UNTIL(&b, 10, client.lost == 1);
        } else { /* the client: in on_message; in on_lost */
            UNTIL(&b, 10, client.got == 1);
            client.close_self = true;
            if (which == 2) {
                peer_close(server.peer);
                server.peer = NULL;
            }
            UNTIL(&b, 10, !client.peer);
        }
        peer_close(client.peer);
        peer_close(server.peer);
        net_free(n);
    }
    bench_close(&b);
}

/* Nothing waits without a bound, and what was taken arrives. */
static void full_queue(void **state)
{
    (void)state;
    struct bench b;
    struct err e = {0};
    struct end server = {.welcome = true}, client = {0};
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, false);
    listen_at(n, "inproc://x", MSG_SCHEDULER, &server);
    connect_to(n, "inproc://x", NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
    say(&client, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, client.got == 1);
    uint64_t sent = 0;
    struct msg m = say_ping(1);
    while (sent < 4 * PEER_QUEUE_MAX && peer_send(client.peer, 0, &m, NO_BULK, &e) == 0)
        sent++;
    assert_int_equal(e.code, ERR_AGAIN);
    assert_true(sent >= PEER_QUEUE_MAX && sent <= 2 * PEER_QUEUE_MAX);
    UNTIL(&b, 60, server.got == 1 + sent);
    say(&client, 0, m);
    UNTIL(&b, 10, server.got == 2 + sent);
    peer_close(client.peer);
    peer_close(server.peer);
    net_free(n);
    bench_close(&b);
}

/* Who asks and does not read what it is sent is given no more at some time, by bytes; others are served as before. */
static void who_does_not_read(void **state)
{
    (void)state;
    enum { LARGE = 1 << 20, IN_THE_KERNEL = 32 /* and in both libraries */, MANY = 200 };
    static const char large[LARGE];
    struct bench b;
    struct err e = {0};
    struct end server = {.welcome = true}, other = {0};
    struct buf hello = BUF_INIT(1000);
    struct msg m = say_hello(MSG_CLIENT);
    int one = 1, sent = 0;
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    void *context = zmq_ctx_new(), *lazy = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(lazy, ZMQ_RCVHWM, &one, sizeof one);
    zmq_connect(lazy, peer_url(server.peer));
    assert_int_equal(msg_encode(&m, &hello, &e), 0);
    zmq_send(lazy, hello.data, hello.size, 0);
    UNTIL(&b, 10, server.got == 1);
    m = (struct msg){.type = MSG_RUN};
    while (sent < MANY && peer_send(server.peer, server.link, &m, (struct slice){large, sizeof large}, &e) == 0)
        sent++;
    assert_int_equal(e.code, ERR_AGAIN);
    assert_non_null(strstr(e.text, "does not read"));
    assert_true(sent <= (int)(PEER_UNREAD_MAX / LARGE) + IN_THE_KERNEL);
    connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &other);
    say(&other, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, other.got == 1);
    zmq_close(lazy);
    UNTIL(&b, 10, server.lost == 1);
    zmq_ctx_term(context);
    buf_clear(&hello);
    peer_close(other.peer);
    peer_close(server.peer);
    net_free(n);
    bench_close(&b);
}

static void *raw_socket(void *context, const char *url, const void *id, size_t id_size)
{
    int zero = 0;
    void *s = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof zero);
    if (id_size)
        zmq_setsockopt(s, ZMQ_ROUTING_ID, id, id_size);
    assert_int_equal(zmq_connect(s, url), 0);
    return s;
}

/* Many who do not read, each with less than makes one a nuisance, are given no more when they hold what all may hold together; who has
 * little waiting, and who reads, are. */
static void many_do_not_read(void **state)
{
    (void)state;
    enum { LARGE = 1 << 20, EACH = 50, LINKS = PEER_UNREAD_ALL_MAX / LARGE / EACH + 4, IN_THE_KERNEL = 32 };
    static const char large[LARGE];
    struct bench b;
    struct err e = {0};
    struct end server = {.welcome = true};
    struct buf hello = BUF_INIT(1000);
    struct msg m = say_hello(MSG_CLIENT), run = {.type = MSG_RUN};
    void *context = zmq_ctx_new(), *lazy[LINKS];
    uint64_t link[LINKS];
    int one = 1, zero = 0, sent = 0, refused = 0;
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    assert_int_equal(msg_encode(&m, &hello, &e), 0);
    for (int i = 0; i < LINKS; i++) {
        lazy[i] = zmq_socket(context, ZMQ_DEALER);
        zmq_setsockopt(lazy[i], ZMQ_RCVHWM, &one, sizeof one);
        zmq_setsockopt(lazy[i], ZMQ_LINGER, &zero, sizeof zero);
        zmq_connect(lazy[i], peer_url(server.peer));
        zmq_send(lazy[i], hello.data, hello.size, 0);
        UNTIL(&b, 10, server.got == (uint64_t)i + 1);
        link[i] = server.link;
    }
    for (int i = 0; i + 1 < LINKS; i++)
        for (int k = 0; k < EACH; k++) {
            if (peer_send(server.peer, link[i], &run, (struct slice){large, LARGE}, &e) == 0) {
                sent++;
                continue;
            }
            assert_int_equal(e.code, ERR_AGAIN);
            refused++;
            break;
        }
    assert_true(refused > 0);
    assert_in_range(sent, PEER_UNREAD_ALL_MAX / LARGE - LINKS, PEER_UNREAD_ALL_MAX / LARGE + LINKS * IN_THE_KERNEL);
    say(&server, link[LINKS - 1], say_ping(1)); /* nothing waits for this one */
    struct end other = {0};
    connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &other);
    say(&other, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, other.got == 1);
    for (int i = 0; i < LINKS; i++)
        zmq_close(lazy[i]);
    zmq_ctx_term(context);
    UNTIL(&b, 30, server.lost == LINKS);
    peer_close(other.peer);
    peer_close(server.peer);
    net_free(n);
    buf_clear(&hello);
    bench_close(&b);
}

/* What comes faster than it is looked at stays with its sender, but for so many frames. */
static void frames_wait_at_their_sender(void **state)
{
    (void)state;
    static const struct {
        enum msg_role as;
        int frames, size;
    } rows[] = {{MSG_SCHEDULER, PEER_IN_MAX, 1 << 20}, {MSG_WORKER, PEER_DATA_IN_MAX, 1 << 16}};
    enum { IN_THE_KERNEL = 24 << 20 }; /* and in the sender's library */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bench b;
        struct end server = {.welcome = true};
        int one = 1, wait_ms = 1000, sent = 0, most = rows[i].frames + IN_THE_KERNEL / rows[i].size;
        void *bytes = calloc(1, (size_t)rows[i].size);
        bench_open(&b);
        struct net *n = net_make(&b, NULL, rows[i].as, true);
        listen_at(n, "tcp://127.0.0.1:*", rows[i].as, &server);
        void *context = zmq_ctx_new(), *s = raw_socket(context, peer_url(server.peer), NULL, 0);
        zmq_setsockopt(s, ZMQ_SNDHWM, &one, sizeof one);
        zmq_setsockopt(s, ZMQ_SNDTIMEO, &wait_ms, sizeof wait_ms);
        zmq_disconnect(s, peer_url(server.peer));
        zmq_connect(s, peer_url(server.peer)); /* the options are of those that come after them */
        while (sent <= 2 * most && zmq_send(s, bytes, (size_t)rows[i].size, 0) >= 0) /* the loop does not turn */
            sent++;
        assert_in_range(sent, rows[i].frames, most);
        zmq_close(s);
        zmq_ctx_term(context);
        peer_close(server.peer);
        net_free(n);
        bench_close(&b);
        free(bytes);
    }
}

static void take_long(struct end *t, const struct msg *m, struct slice bulk)
{
    (void)t, (void)bulk;
    for (uint64_t until = loop_clock_ns() + 2000000; m->type == MSG_PING && loop_clock_ns() < until;)
        ;
}

/* Messages that take long are not all handled in one turn of the loop: others have theirs. */
static void a_turn_ends(void **state)
{
    (void)state;
    struct bench b;
    struct end server = {.welcome = true, .then = take_long}, client = {0};
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, false);
    listen_at(n, "inproc://x", MSG_SCHEDULER, &server);
    connect_to(n, "inproc://x", NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
    say(&client, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, client.got == 1);
    for (int i = 0; i < PEER_TURN_MAX / 2; i++)
        say(&client, 0, say_ping(1));
    for (uint64_t before = server.got; server.got < 1 + PEER_TURN_MAX / 2; before = server.got) {
        loop_turn(b.loop, true);
        assert_in_range(server.got - before, 0, PEER_TURN_NS / 2000000 + 1);
    }
    peer_close(client.peer);
    peer_close(server.peer);
    net_free(n);
    bench_close(&b);
}

/* ---- the wrong address, the wrong key */

/* Nobody there; somebody there who says nothing: both within PEER_CONNECT_MS. */
static void no_answer(void **state)
{
    (void)state;
    struct bench b;
    struct end closed = {0}, silent = {0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    char url[2][40];
    int fd[2];
    for (int i = 0; i < 2; i++) {
        a.sin_port = 0;
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd[i], (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(getsockname(fd[i], (struct sockaddr *)&a, &size), 0);
        snprintf(url[i], sizeof url[i], "tcp://127.0.0.1:%u", ntohs(a.sin_port));
    }
    assert_int_equal(listen(fd[1], 5), 0);
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_CLIENT, true);
    connect_to(n, url[0], NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &closed);
    connect_to(n, url[1], NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &silent);
    UNTIL(&b, PEER_CONNECT_MS / 1000 + 5, closed.lost && silent.lost);
    assert_non_null(strstr(closed.why.text, url[0]));
    assert_non_null(strstr(closed.why.text, "nobody answers there"));
    assert_non_null(strstr(silent.why.text, "does not end the key exchange"));
    struct err e;
    struct msg m = say_ping(1);
    assert_int_equal(peer_send(closed.peer, 0, &m, NO_BULK, &e), -1);
    assert_int_equal(e.code, ERR_GONE);
    peer_close(closed.peer);
    peer_close(silent.peer);
    net_free(n);
    close(fd[0]);
    close(fd[1]);
    bench_close(&b);
}

struct cluster {
    struct bench b;
    char place[64], ours[128], other[128];
    struct net *sn;
    struct end server;
};

static void cluster_open(struct cluster *c)
{
    *c = (struct cluster){.server = {.welcome = true}};
    place_make(c->place);
    keys_make(c->place, "ours", c->ours);
    keys_make(c->place, "other", c->other);
    bench_open(&c->b);
    c->sn = net_make(&c->b, c->ours, MSG_SCHEDULER, false);
    listen_at(c->sn, "tcp://127.0.0.1:*", MSG_SCHEDULER, &c->server);
}

static void cluster_close(struct cluster *c)
{
    peer_close(c->server.peer);
    net_free(c->sn);
    bench_close(&c->b);
    place_remove(c->place);
}

static void wrong_keys(void **state)
{
    (void)state;
    struct cluster c;
    struct end wrong_server = {0}, wrong_client = {0}, good = {0};
    cluster_open(&c);
    const char *url = peer_url(c.server.peer);
    struct net *ours = net_make(&c.b, c.ours, MSG_CLIENT, false),
               *other = net_make(&c.b, c.other, MSG_CLIENT, false);
    connect_to(other, url, NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &wrong_server);
    connect_to(other, url, net_public_key(c.sn), MSG_CLIENT, MSG_SCHEDULER, &wrong_client);
    UNTIL(&c.b, 5, wrong_server.lost && wrong_client.lost);
    assert_int_equal(wrong_server.why.code, ERR_DENIED);
    assert_non_null(strstr(wrong_server.why.text, "its key is another one"));
    assert_int_equal(wrong_client.why.code, ERR_DENIED);
    assert_non_null(strstr(wrong_client.why.text, "our key is not allowed there"));
    /* A worker's key is no client's. */
    struct net *worker = net_make(&c.b, c.ours, MSG_WORKER, false);
    struct end liar = {0};
    connect_to(worker, url, NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &liar);
    say(&liar, 0, say_hello(MSG_CLIENT));
    UNTIL(&c.b, 5, c.server.lost == 1);
    assert_int_equal(c.server.got, 0);
    connect_to(ours, url, NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &good);
    say(&good, 0, say_hello(MSG_CLIENT));
    UNTIL(&c.b, 5, good.got == 1);
    assert_true(slice_equal(peer_link_key(c.server.peer, c.server.link), net_public_key(ours)));
    bench_idle(&c.b, 300);
    assert_int_equal(wrong_server.lost, 1); /* once */
    assert_int_equal(wrong_client.lost, 1);
    peer_close(good.peer);
    peer_close(liar.peer);
    peer_close(wrong_server.peer);
    peer_close(wrong_client.peer);
    net_free(worker);
    net_free(other);
    net_free(ours);
    cluster_close(&c);
}

/* A socket without CURVE gets nothing through, nor one with CURVE and a key that nobody admitted.
 */
static void plain_socket(void **state)
{
    (void)state;
    struct cluster c;
    struct buf hello = BUF_INIT(1000);
    struct err e;
    struct msg m = say_hello(MSG_CLIENT);
    int zero = 0;
    cluster_open(&c);
    assert_int_equal(msg_encode(&m, &hello, &e), 0);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_connect(socket, peer_url(c.server.peer)), 0);
    assert_int_equal(zmq_send(socket, hello.data, hello.size, 0), hello.size);
    bench_idle(&c.b, 500);
    assert_int_equal(c.server.got, 0);
    assert_int_equal(peer_stats(c.server.peer).links, 0);
    zmq_close(socket);
    zmq_ctx_term(context);
    buf_clear(&hello);
    cluster_close(&c);
}

/* A worker admits a job's peers by key, and counts. */
static void admitted(void **state)
{
    (void)state;
    struct cluster c;
    struct err e;
    struct end port = {0};
    cluster_open(&c);
    struct net *worker = net_make(&c.b, c.ours, MSG_WORKER, false),
               *client = net_make(&c.b, c.ours, MSG_CLIENT, false);
    struct slice key = net_public_key(client);
    listen_at(worker, "tcp://127.0.0.1:*", MSG_WORKER, &port);
    assert_int_equal(net_admit(worker, MSG_CLIENT, (struct slice){"short", 5}, &e), -1);
    for (int step = 0; step < 4; step++) {
        struct end t = {0};
        bool may = step == 1 || step == 2;
        uint64_t got = port.got;
        if (step >= 2)
            net_forget(worker, MSG_CLIENT, key);
        connect_to(client, peer_url(port.peer), net_public_key(worker), MSG_CLIENT, MSG_WORKER, &t);
        say(&t, 0,
            (struct msg){.type = MSG_ATTACH,
                         .attach = {1, 1, {"0123456789abcdef", 16}, MSG_EDGE, 2, 3}});
        if (step != 2) { /* who is not admitted waits; what it said is heard once it is */
            bench_idle(&c.b, 400);
            assert_int_equal(port.got, got);
            assert_int_equal(t.lost, 0);
        }
        if (step == 1) {
            assert_int_equal(net_admit(worker, MSG_CLIENT, key, &e), 0);
            assert_int_equal(net_admit(worker, MSG_CLIENT, key, &e), 0);
        }
        if (may)
            UNTIL(&c.b, 5, port.got == got + 1);
        if (step == 3)
            UNTIL(&c.b, NET_HOLD_MS / 1000 + 3, t.lost == 1);
        assert_int_equal(t.lost, step == 3);
        assert_true(step != 3 || strstr(t.why.text, "our key is not allowed there"));
        peer_close(t.peer);
    }
    assert_int_equal(port.got, 2);
    peer_close(port.peer);
    net_free(client);
    net_free(worker);
    cluster_close(&c);
}

static void write_allow(const char *keys, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/allow", keys);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void key_files(void **state)
{
    (void)state;
#define KEY "0123456789012345678901234567890123456789"
    static const struct {
        const char *allow, *says;
    } row[] = {
        {"# nobody\n\n", NULL},
        {"worker " KEY " a host\nworker " KEY " again\n", NULL},
        {"client " KEY, NULL},
        {"worker " KEY " x\nclient " KEY " x\n", "allow:2: this key is already a worker's"},
        {"wrecker " KEY " x\n", "allow:1: want"},
        {"#\nworker 0123 x\n", "allow:2: want"},
        {"worker " KEY "0 x\n", "allow:1: want"},
    };
    struct bench b;
    char place[64], keys[128], file[200];
    struct stat s;
    place_make(place);
    keys_make(place, "keys/", keys);
    bench_open(&b);
    snprintf(file, sizeof file, "%s/worker.key", keys);
    assert_int_equal(stat(file, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = {0};
        write_allow(keys, row[i].allow);
        struct net_options o = {.keys = keys, .role = MSG_SCHEDULER};
        struct net *n = net_new(b.loop, &o, &e);
        if (row[i].says ? n || !strstr(e.text, row[i].says) : !n)
            fail_msg("row %zu: %s", i, e.text);
        net_free(n);
    }
    struct err e;
    struct net_options o = {.keys = place, .role = MSG_CLIENT};
    assert_null(net_new(b.loop, &o, &e));
    assert_non_null(strstr(e.text, "client.key"));
    bench_close(&b);
    place_remove(place);
}

/* ---- addresses */

static void addresses(void **state)
{
    (void)state;
    static const struct {
        bool loopback;
        const char *url, *says;
    } row[] = {
        {false, "tcp://127.0.0.1:1", "needs keys"},
        {false, "ipc:///tmp/x", "is no address"},
        {false, "localhost:7117", "is no address"},
        {true, "tcp://0.0.0.0:7117", "there must be keys"},
        {true, "tcp://127.0.0.1.example:1", "there must be keys"},
        {true, "tcp://*:7117", "there must be keys"},
        {true, "tcp://127.0.0.1:notaport", "is no address"},
        {true, "tcp://127.0.0.1", "is no address"},
        {true, "tcp://127.0.0.1:", "is no address"},
        {true, "tcp://::1:7117", "stands in brackets"},
        {false, "tcp://fe80::7117", "stands in brackets"},
        {true, "tcp://127.0.0.1:80x", "is no address"}, /* the library would take 80, */
        {true, "tcp://127.0.0.1:99999", "is no address"}, /* and 34463 */
    };
    struct bench b;
    struct end t = {0};
    bench_open(&b);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct net *n = net_make(&b, NULL, MSG_CLIENT, row[i].loopback);
        for (int listens = 0; listens < 2; listens++) {
            struct err e = {0};
            struct peer *p = listens
                                 ? peer_listen(n, row[i].url, MSG_SCHEDULER, &end_events, &t, &e)
                                 : peer_connect(n, row[i].url, NO_BULK, MSG_CLIENT, MSG_SCHEDULER,
                                                &end_events, &t, &e);
            if (p || !strstr(e.text, row[i].says))
                fail_msg("row %zu: %s", i, e.text);
        }
        net_free(n);
    }
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    struct end first = {0};
    struct err e;
    listen_at(n, "tcp://[::1]:*", MSG_SCHEDULER, &first);
    assert_null(peer_listen(n, peer_url(first.peer), MSG_SCHEDULER, &end_events, &t, &e));
    assert_int_equal(e.code, ERR_AGAIN);
    peer_close(first.peer);
    net_free(n);
    bench_close(&b);
}

/* ---- frames that are no message of ours */

static void hostile_frames(void **state)
{
    (void)state;
    static const char *const frame[][5] = {
        {""},
        {"x"},
        {"\xdd\x7f\xff\xff\xff"},
        {"\x92\x04\x91"},
        {"a", "b"},
        {"a", "b", "c"},
        {"a", "b", "c", "d"},
        {"\x92\x04\x91\x01", "bulk that PING may not have"},
        {"\x92\x04\x91\x01", "", "third"},
        {"\x92\x63\x90"},
        {"\x92\x06\x94\x01\x01\xa0\x90"}, /* SUBMIT, unwelcome */
    };
    struct bench b;
    struct end server = {.welcome = true}, good = {0};
    bench_open(&b);
    struct net *n = net_make(&b, NULL, MSG_SCHEDULER, true);
    listen_at(n, "tcp://127.0.0.1:*", MSG_SCHEDULER, &server);
    connect_to(n, peer_url(server.peer), NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &good);
    say(&good, 0, say_hello(MSG_CLIENT));
    UNTIL(&b, 10, good.got == 1);
    void *context = zmq_ctx_new();
    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++) {
        void *s = raw_socket(context, peer_url(server.peer), NULL, 0);
        for (int k = 0; k < 5 && frame[i][k]; k++)
            zmq_send(s, frame[i][k], strlen(frame[i][k]),
                     k < 4 && frame[i][k + 1] ? ZMQ_SNDMORE : 0);
        zmq_send(s, "after", 5, 0); /* not heard any more */
        UNTIL(&b, 10, server.lost == 2 * i + 1 || server.lost == i + 1);
        bench_idle(&b, 20);
        assert_int_equal(peer_stats(server.peer).refused, i + 1);
        zmq_close(s);
        UNTIL(&b, 10, peer_stats(server.peer).links == 1);
        assert_int_equal(server.lost, i + 1); /* once: the refusal, not the end too */
    }
    /* A routing id of its own choosing. */
    uint64_t refused = peer_stats(server.peer).refused;
    void *s = raw_socket(context, peer_url(server.peer), "abcde", 5);
    zmq_send(s, "x", 1, 0);
    UNTIL(&b, 10, peer_stats(server.peer).refused == refused + 1);
    zmq_close(s);
    zmq_ctx_term(context);
    assert_int_equal(server.got, 1);
    say(&good, 0, say_ping(1));
    UNTIL(&b, 10, server.got == 2);
    peer_close(good.peer);
    peer_close(server.peer);
    net_free(n);
    bench_close(&b);
}

/* What a server may send back is as narrow. */
static void hostile_server(void **state)
{
    (void)state;
    struct bench b;
    struct end client = {0};
    char url[64], id[16], bytes[1000];
    size_t size = sizeof url;
    int zero = 0;
    bench_open(&b);
    void *context = zmq_ctx_new(), *s = zmq_socket(context, ZMQ_ROUTER);
    zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_bind(s, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, url, &size);
    struct net *n = net_make(&b, NULL, MSG_CLIENT, true);
    connect_to(n, url, NO_BULK, MSG_CLIENT, MSG_SCHEDULER, &client);
    say(&client, 0, say_hello(MSG_CLIENT));
    int id_size = zmq_recv(s, id, sizeof id, 0);
    assert_true(id_size > 0 && zmq_recv(s, bytes, sizeof bytes, 0) > 0);
    struct msg run = {.type = MSG_RUN, .run = {.token = {"", 0}}};
    struct buf out = BUF_INIT(1000);
    struct err e;
    assert_int_equal(msg_encode(&run, &out, &e), 0);
    for (int i = 0; i < 2; i++) {
        zmq_send(s, id, (size_t)id_size, ZMQ_SNDMORE);
        zmq_send(s, out.data, out.size, 0);
    }
    UNTIL(&b, 10, client.lost == 1);
    assert_int_equal(client.why.code, ERR_PROTO);
    zmq_close(s);
    zmq_ctx_term(context);
    bench_idle(&b, 50);
    assert_int_equal(client.lost, 1);
    assert_int_equal(client.got, 0);
    buf_clear(&out);
    peer_close(client.peer);
    net_free(n);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_who_left),
        cmocka_unit_test(last_words),
        cmocka_unit_test(unwelcome),
        cmocka_unit_test(broken_connections),
        cmocka_unit_test(a_crowd),
        cmocka_unit_test(closed_in_a_callback),
        cmocka_unit_test(full_queue),
        cmocka_unit_test(who_does_not_read),
        cmocka_unit_test(many_do_not_read),
        cmocka_unit_test(frames_wait_at_their_sender),
        cmocka_unit_test(a_turn_ends),
        cmocka_unit_test(no_answer),
        cmocka_unit_test(wrong_keys),
        cmocka_unit_test(plain_socket),
        cmocka_unit_test(admitted),
        cmocka_unit_test(key_files),
        cmocka_unit_test(addresses),
        cmocka_unit_test(hostile_frames),
        cmocka_unit_test(hostile_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
