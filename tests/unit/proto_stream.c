/* Streams and what carries them: every byte once and in order whatever the credit, nothing beyond
 * it, an end that is an end, and a receiver that may leave.  Rows say what a receiver gets and how
 * that ends. */
#include "tests/lib/net.h"

#include "base/digest.h"
#include "proto/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct stream_name name = {7, 1, MSG_EDGE, 2, 3};

struct talk {
    struct bench b;
    struct net *n;
    struct end server, client; /* the server sends, the client receives */
    struct stream_sender *sender;
    struct stream_receiver *receiver;
    uint8_t bytes[4096], got[4096];
    size_t size, arrived;
    size_t frame; /* bytes per stream_send */
    bool ended, failed, left, end_sent, all_there;
    bool leave_at_once;
    struct err refused;
};

static void pump(void *owner)
{
    struct talk *t = owner;
    struct err e;
    while (!t->end_sent && stream_sender_window(t->sender)) {
        size_t at = (size_t)stream_sender_bytes(t->sender), left = t->size - at;
        uint64_t window = stream_sender_window(t->sender);
        size_t size = left < t->frame ? left : t->frame;
        size = size < window ? size : (size_t)window;
        assert_int_equal(stream_send(t->sender, t->bytes + at, (size_t)window + 1, &e), -1);
        assert_int_equal(stream_send(t->sender, t->bytes + at, size, &e), 0);
        if (stream_sender_bytes(t->sender) == t->size) {
            t->end_sent = true;
            assert_int_equal(stream_send_end(t->sender, false, &e), 0);
            assert_int_equal(stream_sender_window(t->sender), 0);
        }
    }
}

static void left(void *owner)
{
    struct talk *t = owner;
    t->left = true;
}

static void data(void *owner, struct slice bytes)
{
    struct talk *t = owner;
    struct err e;
    assert_true(t->arrived + bytes.size <= sizeof t->got);
    memcpy(t->got + t->arrived, bytes.data, bytes.size);
    t->arrived += bytes.size;
    if (t->leave_at_once)
        assert_int_equal(stream_leave(t->receiver, &e), 0);
    else
        assert_int_equal(stream_consumed(t->receiver, bytes.size, &e), 0);
}

static void end(void *owner, bool failed)
{
    struct talk *t = owner;
    assert_false(t->ended);
    t->ended = true;
    t->failed = failed;
}

static void arrived(void *owner)
{
    struct talk *t = owner;
    assert_true(t->end_sent && !t->left && !t->all_there);
    t->all_there = true;
}

static const struct stream_sender_events sender_events = {pump, left, arrived};
static const struct stream_receiver_events receiver_events = {data, end};

static void to_sender(struct end *s, const struct msg *m, struct slice bulk)
{
    (void)bulk;
    struct talk *t = s->more;
    struct err e;
    if (m->type == MSG_CREDIT || m->type == MSG_LEAVE)
        assert_int_equal(stream_sender_message(t->sender, m, &e), 0);
}

static void to_receiver(struct end *s, const struct msg *m, struct slice bulk)
{
    struct talk *t = s->more;
    if (m->type == MSG_DATA && stream_receiver_message(t->receiver, m, bulk, &t->refused) < 0)
        t->ended = t->failed = true;
}

static void talk_open(struct talk *t)
{
    struct err e;
    *t = (struct talk){.server = {.then = to_sender, .more = t},
                       .client = {.then = to_receiver, .more = t}};
    bench_open(&t->b);
    t->n = net_make(&t->b, NULL, MSG_WORKER, false);
    listen_at(t->n, "inproc://data", MSG_WORKER, &t->server);
    connect_to(t->n, "inproc://data", NO_BULK, MSG_CLIENT, MSG_WORKER, &t->client);
    say(&t->client, 0,
        (struct msg){.type = MSG_ATTACH,
                     .attach = {7, 1, {"0123456789abcdef", 16}, MSG_EDGE, 2, 3}});
    UNTIL(&t->b, 10, t->server.got == 1);
    for (size_t i = 0; i < sizeof t->bytes; i++)
        t->bytes[i] = (uint8_t)(i * 7 + i / 256);
    t->sender = stream_sender_new(t->server.peer, t->server.link, &name, &sender_events, t, &e);
    t->receiver = stream_receiver_new(t->client.peer, 0, &name, &receiver_events, t, &e);
    assert_non_null(t->sender);
    assert_non_null(t->receiver);
}

static void talk_close(struct talk *t)
{
    stream_sender_free(t->sender);
    stream_receiver_free(t->receiver);
    peer_close(t->client.peer);
    peer_close(t->server.peer);
    net_free(t->n);
    bench_close(&t->b);
}

/* Credit of one byte, of a few, of all; frames smaller and larger than it. */
static void small_credit(void **state)
{
    (void)state;
    static const struct {
        uint32_t ahead;
        size_t size, frame;
    } row[] = {{1, 300, 1},     {1, 300, 100},           {3, 1000, 2}, {7, 4096, 4096},
               {4096, 4096, 1}, {UINT32_MAX, 4096, 999}, {0, 5, 5}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        static struct talk t;
        struct err e;
        talk_open(&t);
        t.size = row[i].size;
        t.frame = row[i].frame;
        stream_receiver_ahead(t.receiver, row[i].ahead);
        assert_int_equal(stream_sender_window(t.sender), 0); /* nothing before the first credit */
        assert_int_equal(stream_receiver_start(t.receiver, &e), 0);
        UNTIL(&t.b, 20, t.ended);
        assert_false(t.failed);
        assert_int_equal(t.arrived, t.size);
        assert_memory_equal(t.got, t.bytes, t.size);
        assert_int_equal(stream_receiver_bytes(t.receiver), t.size);
        UNTIL(&t.b, 10, t.all_there);
        talk_close(&t);
    }
}

static void leaving(void **state)
{
    (void)state;
    static struct talk t;
    struct err e;
    talk_open(&t);
    t.size = 1000;
    t.frame = 10;
    t.leave_at_once = true;
    stream_receiver_ahead(t.receiver, 20);
    assert_int_equal(stream_receiver_start(t.receiver, &e), 0);
    UNTIL(&t.b, 10, t.left);
    assert_int_equal(t.arrived, 10); /* what was on its way is not heard */
    assert_int_equal(stream_sender_window(t.sender), 0);
    assert_int_equal(stream_sender_bytes(t.sender), 20);
    assert_false(t.ended);
    struct msg m = {.type = MSG_CREDIT, .credit = {7, 1, MSG_EDGE, 2, 3, 500}};
    assert_int_equal(stream_sender_message(t.sender, &m, &e), 0); /* late: changes nothing */
    assert_int_equal(stream_sender_window(t.sender), 0);
    talk_close(&t);
}

/* The end and the leave in one message. */
static void left_at_the_end(void **state)
{
    (void)state;
    static struct talk t;
    struct err e;
    talk_open(&t);
    t.leave_at_once = true;
    assert_int_equal(stream_receiver_start(t.receiver, &e), 0);
    struct msg m = {.type = MSG_DATA,
                    .data = {7, 1, MSG_EDGE, 2, 3, 0, MSG_DATA_END, {"0123456789abcdef", 16}}};
    assert_int_equal(stream_receiver_message(t.receiver, &m, (struct slice){"x", 1}, &e), 0);
    assert_false(t.ended);
    talk_close(&t);
}

static void greedy_credit(void **state)
{
    (void)state;
    static struct talk t;
    struct err e;
    talk_open(&t);
    t.end_sent = true; /* nothing is sent here */
    static const struct {
        uint64_t upto;
        int result;
        uint64_t window;
    } row[] = {{10, 0, 10},
               {5, 0, 10},
               {10, 0, 10},
               {MSG_CREDIT_BYTES, 0, MSG_CREDIT_BYTES},
               {MSG_CREDIT_BYTES + 1, -1, MSG_CREDIT_BYTES},
               {UINT64_MAX, -1, MSG_CREDIT_BYTES}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct msg m = {.type = MSG_CREDIT, .credit = {7, 1, MSG_EDGE, 2, 3, row[i].upto}};
        assert_int_equal(stream_sender_message(t.sender, &m, &e), row[i].result);
        assert_int_equal(stream_sender_window(t.sender), row[i].window);
    }
    struct msg m = {.type = MSG_DATA, .data = {7, 1, MSG_EDGE, 2, 3, 0, 0, {"", 0}}};
    assert_int_equal(stream_sender_message(t.sender, &m, &e), -1);
    m.type = MSG_CREDIT;
    assert_int_equal(stream_receiver_message(t.receiver, &m, NO_BULK, &e), -1);
    talk_close(&t);
}

/* What a receiver with 10 bytes of credit makes of a list of pieces of "abcdefghijkl". */
struct piece {
    uint64_t offset;
    int size;
    uint32_t flags;
    int digest_of; /* of the first so many bytes; -1: none */
    int result;
};

static void pieces(void **state)
{
    (void)state;
    static const char text[] = "abcdefghijkl";
    static const struct {
        const char *what;
        struct piece piece[4];
        const char *got;
        bool ended, failed;
    } row[] = {
        {"whole",
         {{0, 4, 0, -1, 0}, {4, 4, 0, -1, 0}, {8, 0, MSG_DATA_END, 8, 0}},
         "abcdefgh",
         true,
         false},
        {"end with bytes", {{0, 4, 0, -1, 0}, {4, 2, MSG_DATA_END, 6, 0}}, "abcdef", true, false},
        {"empty", {{0, 0, MSG_DATA_END, 0, 0}}, "", true, false},
        {"twice",
         {{0, 4, 0, -1, 0}, {0, 4, 0, -1, 0}, {2, 4, 0, -1, 0}, {6, 0, MSG_DATA_END, 6, 0}},
         "abcdef",
         true,
         false},
        {"gap", {{0, 4, 0, -1, 0}, {5, 1, 0, -1, -1}}, "abcd", false, false},
        {"out of order", {{4, 4, 0, -1, -1}}, "", false, false},
        {"over credit",
         {{0, 10, 0, -1, 0}, {10, 1, 0, -1, 0}},
         "abcdefghijk",
         false,
         false}, /* consumed: granted again */
        {"far over credit", {{0, 12, 0, -1, -1}}, "", false, false},
        {"far away", {{UINT64_MAX, 4, 0, -1, -1}}, "", false, false},
        {"short end", {{0, 4, 0, -1, 0}, {2, 0, MSG_DATA_END, 2, -1}}, "abcd", false, false},
        {"long end", {{0, 4, 0, -1, 0}, {8, 0, MSG_DATA_END, 8, -1}}, "abcd", false, false},
        {"wrong digest", {{0, 4, 0, -1, 0}, {4, 0, MSG_DATA_END, 3, -1}}, "abcd", false, false},
        {"no digest", {{0, 4, 0, -1, 0}, {4, 0, MSG_DATA_END, -1, -1}}, "abcd", false, false},
        {"failed", {{0, 4, 0, -1, 0}, {4, 0, MSG_DATA_FAILED, -1, 0}}, "abcd", true, true},
        {"after the end", {{0, 0, MSG_DATA_END, 0, 0}, {0, 4, 0, -1, 0}}, "", true, false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        static struct talk t;
        struct err e;
        talk_open(&t);
        stream_receiver_ahead(t.receiver, 10);
        assert_int_equal(stream_receiver_start(t.receiver, &e), 0);
        for (size_t k = 0; k < 4; k++) {
            const struct piece *p = &row[i].piece[k];
            uint8_t digest[16];
            struct running_digest *d = running_digest_new();
            running_digest_add(d, text, p->digest_of > 0 ? (size_t)p->digest_of : 0);
            running_digest_look(d, digest);
            running_digest_free(d);
            if (!p->size && !p->flags)
                break;
            struct msg m = {.type = MSG_DATA,
                            .data = {7,
                                     1,
                                     MSG_EDGE,
                                     2,
                                     3,
                                     p->offset,
                                     p->flags,
                                     {digest, p->digest_of < 0 ? 0 : sizeof digest}}};
            const char *from = p->offset < sizeof text ? text + p->offset : text;
            if (stream_receiver_message(t.receiver, &m, (struct slice){from, (size_t)p->size},
                                        &e) != p->result)
                fail_msg("%s: piece %zu", row[i].what, k);
        }
        if (t.arrived != strlen(row[i].got) || memcmp(t.got, row[i].got, t.arrived) ||
            t.ended != row[i].ended || t.failed != row[i].failed)
            fail_msg("%s: %zu bytes, ended %d, failed %d", row[i].what, t.arrived, t.ended,
                     t.failed);
        talk_close(&t);
    }
}

static int give(struct talk *t, uint32_t attempt, const char *text, size_t at, size_t size, bool end, struct err *e)
{
    uint8_t digest[16];
    struct running_digest *d = running_digest_new();
    running_digest_add(d, text, at + size);
    running_digest_look(d, digest);
    running_digest_free(d);
    struct msg m = {.type = MSG_DATA,
                    .data = {7, attempt, MSG_EDGE, 2, 3, at, end ? MSG_DATA_END : 0, {digest, sizeof digest}}};
    return stream_receiver_message(t->receiver, &m, (struct slice){text + at, size}, e);
}

/* A sender that begins anew, after `before` bytes of "abcdefghijkl" and perhaps the end or a leave: what its
 * text adds to them. */
static void began_anew(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int before;
        enum { GOES_ON, ENDED, LEFT } then;
        const char *text;
        int piece; /* bytes at once */
        const char *got;
        int result;
        bool ended;
    } row[] = {
        {"goes on", 5, GOES_ON, "abcdefghijkl", 3, "abcdefghijkl", 0, true},
        {"byte by byte", 7, GOES_ON, "abcdefghijkl", 1, "abcdefghijkl", 0, true},
        {"at the seam", 6, GOES_ON, "abcdefghijkl", 6, "abcdefghijkl", 0, true},
        {"from nothing", 0, GOES_ON, "abc", 3, "abc", 0, true},
        {"nothing more", 4, GOES_ON, "abcd", 2, "abcd", 0, true},
        {"another byte", 5, GOES_ON, "abXdefghijkl", 3, "abcde", -1, false},
        {"another byte behind them", 5, GOES_ON, "abcdeXghijkl", 5, "abcdeXghijkl", 0, true},
        {"fewer bytes", 5, GOES_ON, "abcd", 2, "abcde", -1, false},
        {"none at all", 5, GOES_ON, "", 1, "abcde", -1, false},
        {"ended, and the same", 5, ENDED, "abcde", 2, "abcde", 0, true},
        {"ended, and other ones", 5, ENDED, "abcXe", 2, "abcde", -1, true},
        {"ended, and more", 5, ENDED, "abcdef", 5, "abcde", -1, true},
        {"ended, and fewer", 5, ENDED, "abcd", 4, "abcde", -1, true},
        {"left, and the same", 5, LEFT, "abcdefghijkl", 3, "abcde", 0, false},
        {"left, and other ones", 5, LEFT, "Xbcdefghijkl", 3, "abcde", -1, false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        static struct talk t;
        struct err e;
        int r = 0;
        talk_open(&t);
        stream_receiver_ahead(t.receiver, 10);
        assert_int_equal(stream_receiver_start(t.receiver, &e), 0);
        t.leave_at_once = row[i].then == LEFT;
        give(&t, 1, "abcdefghijkl", 0, (size_t)row[i].before, row[i].then == ENDED, &e);
        uint64_t sent = peer_stats(t.client.peer).sent;
        struct stream_name anew = name;
        anew.attempt = 2;
        assert_int_equal(stream_receiver_again(t.receiver, t.client.peer, 0, &anew, &e), 0);
        size_t size = strlen(row[i].text), piece = (size_t)row[i].piece;
        for (size_t at = 0; r == 0 && at < size; at += piece)
            r = give(&t, 2, row[i].text, at, at + piece < size ? piece : size - at, at + piece >= size, &e);
        if (r == 0 && !size)
            r = give(&t, 2, "", 0, 0, true, &e);
        if (r != row[i].result || t.arrived != strlen(row[i].got) || t.ended != row[i].ended ||
            memcmp(t.got, row[i].got, t.arrived))
            fail_msg("%s: %d, %zu bytes, ended %d", row[i].what, r, t.arrived, t.ended);
        /* A credit at least, and the last word: that all is there, or that it leaves. */
        assert_true(r < 0 || peer_stats(t.client.peer).sent >= sent + 2);
        talk_close(&t);
    }
}

/* ---- descriptors */

struct haul {
    struct bench b;
    struct net *n;
    struct end server, client;
    struct carry *out, *in;
    enum carry_end out_end, in_end;
    bool out_over, in_over;
    struct err out_why, in_why;
};

static void haul_ended(void *owner, struct carry *c, enum carry_end how, const struct err *why)
{
    struct haul *h = owner;
    bool out = c == h->out;
    *(out ? &h->out_over : &h->in_over) = true;
    *(out ? &h->out_end : &h->in_end) = how;
    if (why)
        *(out ? &h->out_why : &h->in_why) = *why;
}

static const struct carry_events haul_events = {haul_ended, NULL};

static void to_out(struct end *s, const struct msg *m, struct slice bulk)
{
    struct haul *h = s->more;
    if (m->type != MSG_ATTACH && h->out)
        carry_message(h->out, m, bulk);
}

static void to_in(struct end *s, const struct msg *m, struct slice bulk)
{
    struct haul *h = s->more;
    carry_message(h->in, m, bulk);
}

static void haul_open(struct haul *h, const int *fds, size_t count, int to)
{
    struct err e = {0};
    *h = (struct haul){.server = {.then = to_out, .more = h}, .client = {.then = to_in, .more = h}};
    bench_open(&h->b);
    h->n = net_make(&h->b, NULL, MSG_WORKER, false);
    listen_at(h->n, "inproc://data", MSG_WORKER, &h->server);
    connect_to(h->n, "inproc://data", NO_BULK, MSG_CLIENT, MSG_WORKER, &h->client);
    say(&h->client, 0,
        (struct msg){.type = MSG_ATTACH,
                     .attach = {7, 1, {"0123456789abcdef", 16}, MSG_EDGE, 2, 3}});
    UNTIL(&h->b, 10, h->server.got == 1);
    h->out = carry_out(h->b.loop, fds, count, &name, &haul_events, h, &e);
    h->in = carry_in(h->b.loop, to, &name, &haul_events, h, &e);
    assert_non_null(h->out);
    assert_non_null(h->in);
    assert_int_equal(carry_bind(h->out, h->server.peer, h->server.link, &e), 0);
    assert_int_equal(carry_bind(h->in, h->client.peer, 0, &e), 0);
    assert_int_equal(carry_bind(h->in, h->client.peer, 0, &e), -1);
    assert_int_equal(e.code, ERR_PROTO);
}

static void haul_close(struct haul *h)
{
    carry_free(h->out);
    carry_free(h->in);
    peer_close(h->client.peer);
    peer_close(h->server.peer);
    net_free(h->n);
    bench_close(&h->b);
}

static int file_of(const char *bytes, size_t size)
{
    char path[] = "/tmp/zpipe-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

#define HAUL_BYTES ((3u << 20) + 17)

/* Three files, one of them empty, end to end through a slow pipe, whose reader counts. */
static void files_to_a_pipe(void **state)
{
    (void)state;
    static struct haul h;
    char *bytes = malloc(HAUL_BYTES), *got = malloc(HAUL_BYTES + 1);
    int to[2];
    size_t arrived = 0;
    assert_true(bytes && got);
    for (size_t i = 0; i < HAUL_BYTES; i++)
        bytes[i] = (char)(i * 31 + i / 4096);
    int fds[] = {file_of(bytes, 2u << 20), file_of("", 0),
                 file_of(bytes + (2u << 20), HAUL_BYTES - (2u << 20))};
    assert_int_equal(pipe2(to, O_CLOEXEC | O_NONBLOCK), 0);
    haul_open(&h, fds, 3, to[1]);
    while (arrived < HAUL_BYTES) {
        loop_turn(h.b.loop, true);
        ssize_t n = read(to[0], got + arrived, HAUL_BYTES + 1 - arrived);
        assert_false(n < 0 && errno != EAGAIN);
        arrived += n > 0 ? (size_t)n : 0;
    }
    UNTIL(&h.b, 10, h.out_over && h.in_over);
    assert_int_equal(h.out_end, CARRY_DONE);
    assert_int_equal(h.in_end, CARRY_DONE);
    assert_memory_equal(got, bytes, HAUL_BYTES);
    assert_int_equal(carry_bytes(h.in), HAUL_BYTES);
    haul_close(&h);
    assert_int_equal(read(to[0], got, 1), 0); /* and it was closed */
    close(to[0]);
    free(bytes);
    free(got);
}

/* The reader behind the receiving side leaves: so does the receiving side, and the sender hears of
 * it. */
static void reader_leaves(void **state)
{
    (void)state;
    static struct haul h;
    int from[2], to[2];
    assert_int_equal(pipe2(from, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, to), 0);
    haul_open(&h, from, 1, to[0]);
    close(to[1]);
    assert_int_equal(write(from[1], "x", 1), 1);
    UNTIL(&h.b, 10, h.out_over && h.in_over);
    assert_int_equal(h.in_end, CARRY_LEFT);
    assert_int_equal(h.out_end, CARRY_LEFT);
    haul_close(&h);
    assert_int_equal(write(from[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(from[1]);
}

/* That nobody reads is no leaving before it is allowed: the reader may have been killed. */
static void reader_is_gone(void **state)
{
    (void)state;
    static struct haul h;
    struct err e;
    int from[2], to[2];
    assert_int_equal(pipe2(from, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, to), 0);
    haul_open(&h, from, 1, to[0]);
    carry_hold_end(h.in);
    close(to[1]);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(write(from[1], "x", 1), 1);
        UNTIL(&h.b, 10, h.client.got == (uint64_t)i);
        for (int turn = 0; turn < 20; turn++)
            loop_turn(h.b.loop, false);
        assert_false(h.in_over || h.out_over);
    }
    assert_int_equal(carry_allow_end(h.in, &e), 0);
    UNTIL(&h.b, 10, h.out_over && h.in_over);
    assert_int_equal(h.in_end, CARRY_LEFT);
    assert_int_equal(h.out_end, CARRY_LEFT);
    haul_close(&h);
    close(from[1]);
}

static size_t drain(struct haul *h, int from, size_t size)
{
    static char bytes[1 << 16];
    loop_turn(h->b.loop, true);
    ssize_t n = read(from, bytes, size < sizeof bytes ? size : sizeof bytes);
    assert_false(n < 0 && errno != EAGAIN);
    return n > 0 ? (size_t)n : 0;
}

#define ANEW_BYTES (MSG_CREDIT_BYTES + MSG_CREDIT_BYTES / 2)

/* All has come, and not all was written, when it begins anew: it is over when it has come once more. */
static void anew_while_it_is_written(void **state)
{
    (void)state;
    static struct haul h;
    struct err e;
    char *bytes = calloc(1, ANEW_BYTES);
    int to[2], fd;
    size_t arrived = 0;
    assert_non_null(bytes);
    assert_int_equal(pipe2(to, O_CLOEXEC | O_NONBLOCK), 0);
    fd = file_of(bytes, ANEW_BYTES);
    haul_open(&h, &fd, 1, to[1]);
    while (arrived < ANEW_BYTES - (1u << 20))
        arrived += drain(&h, to[0], ANEW_BYTES - (1u << 20) - arrived);
    UNTIL(&h.b, 10, h.out_over);
    assert_false(h.in_over);
    carry_free(h.out);
    h.out_over = false;
    fd = file_of(bytes, ANEW_BYTES);
    h.out = carry_out(h.b.loop, &fd, 1, &name, &haul_events, &h, &e);
    assert_int_equal(carry_bind(h.out, h.server.peer, h.server.link, &e), 0);
    assert_int_equal(carry_again(h.in, h.client.peer, 0, &name, &e), 0);
    while (arrived < ANEW_BYTES)
        arrived += drain(&h, to[0], ANEW_BYTES - arrived);
    UNTIL(&h.b, 10, h.out_over && h.in_over);
    assert_int_equal(h.out_end, CARRY_DONE);
    assert_int_equal(h.in_end, CARRY_DONE);
    haul_close(&h);
    close(to[0]);
    free(bytes);
}

/* A descriptor that cannot be read (a directory) is a failure, never a short stream that ends well.
 */
static void unreadable(void **state)
{
    (void)state;
    static struct haul h;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    haul_open(&h, &fd, 1, -1);
    UNTIL(&h.b, 10, h.out_over && h.client.got == 1);
    assert_int_equal(h.out_end, CARRY_FAILED);
    assert_non_null(strstr(h.out_why.text, "Is a directory"));
    assert_false(h.in_over); /* another may take its place */
    haul_close(&h);
    struct err e;
    assert_null(carry_out(h.b.loop, NULL, 0, &name, &haul_events, &h, &e));
}

/* A full disk on the receiving side. */
static void unwritable(void **state)
{
    (void)state;
    static struct haul h;
    int fd = file_of("0123456789", 10);
    haul_open(&h, &fd, 1, open("/dev/full", O_WRONLY | O_CLOEXEC));
    UNTIL(&h.b, 10, h.in_over);
    assert_int_equal(h.in_end, CARRY_FAILED);
    assert_non_null(strstr(h.in_why.text, "No space left"));
    UNTIL(&h.b, 10, h.out_over);
    haul_close(&h);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_credit),    cmocka_unit_test(leaving),
        cmocka_unit_test(left_at_the_end), cmocka_unit_test(greedy_credit),
        cmocka_unit_test(pieces),          cmocka_unit_test(files_to_a_pipe),
        cmocka_unit_test(began_anew),      cmocka_unit_test(anew_while_it_is_written),
        cmocka_unit_test(reader_leaves),   cmocka_unit_test(reader_is_gone),
        cmocka_unit_test(unreadable),
        cmocka_unit_test(unwritable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
