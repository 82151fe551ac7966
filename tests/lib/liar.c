/* liar KEYS SCHEDULER lender|owner LIE: a worker that joins a cluster and does not do what it says.  As a lender it lies about
 * the runs that it is lent, as an owner about those that it lends out.  It says "ready" when it has joined, "lied" when it has
 * lied; a lender then is silent, and an owner ends when it is left.  tests/e2e/liars.py has who finds it out, and how. */
#include "base/digest.h"
#include "base/instance.h"
#include "base/loop.h"
#include "proto/graph.h"
#include "proto/peer.h"
#include "proto/stream.h"
#include "sandbox/domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING ((struct slice){"", 0})
#define PING_NS 1000000000u
#define BYTES   10 /* of what is announced */
#define LEFT_RUNS 3 /* one more than a slot has */
#define NO_DIGEST ((struct slice){"no digest at all", 16})

static struct loop *loop;
static struct net *net;
static struct peer *scheduler, *data, *owner; /* data: our port; owner: of what we were lent */
static const char *lie;
static bool lends, lied;
static struct msg_lend lend; /* its texts are copied */
static struct msg_run run;   /* what we own; no list of it */
static uint32_t loan;
static uint64_t lender; /* its link */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "liar: %s\n", what);
    exit(1);
}

static void say(struct peer *p, uint64_t link, struct msg m, struct slice bulk)
{
    struct err e;
    peer_send(p, link, &m, bulk, &e); /* the side that found us out may be gone */
}

static bool is(const char *one)
{
    return !strcmp(lie, one);
}

static void done_lying(void)
{
    if (!lied)
        puts("lied");
    fflush(stdout);
    lied = true;
}

static const char bytes[2 * BYTES + 1] = "01234567890123456789";

/* Some of the bytes of a stream, and its end with this digest. */
static void say_bytes(struct peer *p, uint64_t link, const struct stream_name *n, size_t size, struct slice digest)
{
    struct msg m = {.type = MSG_DATA,
                    .data = {.job = n->job, .attempt = n->attempt, .what = n->what, .index = n->index, .node = n->node, .digest = {"", 0}}};
    say(p, link, m, (struct slice){bytes, size});
    m.data.offset = size;
    m.data.flags = MSG_DATA_END;
    m.data.digest = digest;
    say(p, link, m, NOTHING);
}

/* ---- as a lender */

static void say_done(const struct msg_work *w, uint32_t how, uint32_t programs, uint32_t pieces, uint64_t each, uint64_t all)
{
    static const struct msg_ran ran[2] = {{.certified = true, .limit = "", .text = "", .dropped = "", .cold = ""},
                                          {.certified = true, .limit = "", .text = "", .dropped = "", .cold = ""}};
    struct msg_piece piece[2] = {{true, each, 0}, {true, each, 0}};
    struct msg m = {.type = MSG_DONE, .done = {w->job, w->attempt, w->loan, w->run, how, false, all, ran, programs, "", piece, pieces}};
    say(owner, 0, m, NOTHING);
}

static void lie_about_run(const struct msg_work *w)
{
    struct msg_work none = *w;
    none.run += 1000;
    if (is("programs"))
        say_done(w, MSG_HOW_RAN, 2, 1, BYTES, BYTES);
    else if (is("pieces"))
        say_done(w, MSG_HOW_RAN, 1, 2, BYTES, 2 * BYTES);
    else if (is("large"))
        say_done(w, MSG_HOW_RAN, 1, 1, UINT64_MAX, UINT64_MAX);
    else if (is("sum"))
        say_done(w, MSG_HOW_RAN, 1, 1, BYTES, BYTES + 1);
    else if (is("none"))
        say_done(&none, MSG_HOW_RAN, 1, 1, BYTES, BYTES);
    else
        say_done(w, MSG_HOW_RAN, 1, 1, BYTES, BYTES);
    if (is("twice"))
        say_done(w, MSG_HOW_RAN, 1, 1, BYTES, BYTES);
}

static struct msg credit_of(const struct msg_work *w, uint32_t what, uint32_t index, uint64_t upto)
{
    return (struct msg){.type = MSG_CREDIT, .credit = {w->job, w->attempt, what, index, w->loan, upto}};
}

static void on_peer(void *o, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk);
static void on_lost(void *o, struct peer *p, uint64_t link, const struct err *why);
static const struct peer_events peer_events = {on_peer, on_lost};

static void attach(struct peer *to)
{
    say(to, 0, (struct msg){.type = MSG_ATTACH, .attach = {lend.job, lend.attempt, lend.token, MSG_LOAN, lend.loan, GRAPH_NONE}}, NOTHING);
}

/* The same token over another connection, which then gives the run back. */
static void replay(const struct msg_work *w)
{
    struct err e;
    struct peer *second = peer_connect(net, lend.url, lend.key, MSG_WORKER, MSG_WORKER, &peer_events, NULL, &e);
    if (!second)
        die(e.text);
    attach(second);
    say(second, 0, (struct msg){.type = MSG_DONE, .done = {w->job, w->attempt, w->loan, w->run, MSG_HOW_BACK, .text = ""}}, NOTHING);
}

static void as_lender(const struct msg *m)
{
    static struct msg_work first;
    if (m->type == MSG_WORK && !lied) {
        first = m->work;
        if (is("early"))
            lie_about_run(&first);
        else if (is("replay"))
            replay(&first);
        else if (is("file"))
            say(owner, 0, credit_of(&first, MSG_LOAN_FILE, 77, BYTES), NOTHING);
        else if (is("credit"))
            say(owner, 0, credit_of(&first, MSG_RUN_INPUT, first.run, UINT64_MAX), NOTHING);
        else if (!is("silence"))
            say(owner, 0, credit_of(&first, MSG_RUN_INPUT, first.run, MSG_CREDIT_BYTES), NOTHING);
        if (is("early") || is("replay") || is("file") || is("credit") || is("silence"))
            done_lying();
    } else if (m->type == MSG_DATA && m->data.what == MSG_RUN_INPUT && m->data.index == first.run && m->data.flags & MSG_DATA_END) {
        struct msg all = {.type = MSG_LEAVE, .leave = {first.job, first.attempt, MSG_RUN_INPUT, first.run, first.loan, m->data.offset}};
        say(owner, 0, all, NOTHING);
        lie_about_run(&first);
        done_lying();
    } else if (m->type == MSG_CREDIT && m->credit.what == MSG_RUN_OUTPUT) {
        struct stream_name name = {first.job, first.attempt, MSG_RUN_OUTPUT, m->credit.index, first.loan};
        say_bytes(owner, 0, &name, is("more") ? 2 * BYTES : is("fewer") ? BYTES / 2 : BYTES, NO_DIGEST);
    }
}

/* ---- as an owner */

static void lie_about_work(void)
{
    static const uint32_t part[2] = {BYTES, BYTES};
    static const struct msg_place place = {77, 0, BYTES};
    struct msg m = {.type = MSG_WORK,
                    .work = {.job = run.job, .attempt = run.attempt, .loan = loan, .run = 1, .file = GRAPH_NONE, .bytes = BYTES, .part = part}};
    int times = is("many") ? 3 : is("twice") ? 2 : 1;
    m.work.stage = is("stage") ? 99 : 0;
    m.work.bytes = is("large") ? (uint64_t)1 << 40 : BYTES;
    m.work.file = is("file") ? 77 : GRAPH_NONE;
    m.work.part_count = is("parts") ? 2 : 0;
    m.work.place = &place;
    m.work.place_count = is("places");
    for (int i = 0; i < times; i++) {
        m.work.run += is("many");
        say(data, lender, m, NOTHING);
    }
    done_lying();
}

/* No lie: an owner may leave a run at any time, also when the end of its first output is on its way; and the next run takes its
 * place.  Each run has two outputs. */
static void leave_runs(const struct msg *m)
{
    struct msg work = {.type = MSG_WORK,
                       .work = {.job = run.job, .attempt = run.attempt, .loan = loan, .run = 1, .file = GRAPH_NONE, .bytes = BYTES}};
    struct msg left = {.type = MSG_LEAVE, .leave = {run.job, run.attempt, MSG_RUN_OUTPUT, m->data.index, loan, 0}};
    if (m->type == MSG_CREDIT && m->credit.what == MSG_RUN_INPUT) {
        struct stream_name name = {run.job, run.attempt, MSG_RUN_INPUT, m->credit.index, loan};
        uint8_t digest[16];
        struct running_digest *d = running_digest_new();
        running_digest_add(d, bytes, BYTES);
        running_digest_look(d, digest);
        running_digest_free(d);
        say_bytes(data, lender, &name, BYTES, (struct slice){digest, sizeof digest});
    } else if (m->type == MSG_ATTACH) {
        say(data, lender, work, NOTHING);
    } else if (m->type == MSG_DONE && m->done.run == LEFT_RUNS) {
        done_lying();
        exit(0);
    } else if (m->type == MSG_DONE) {
        if (m->done.piece_count < 2 || !m->done.piece[0].bytes || !m->done.piece[1].bytes)
            die("a run has only one output");
        say(data, lender, (struct msg){.type = MSG_CREDIT, .credit = {run.job, run.attempt, MSG_RUN_OUTPUT, m->done.run, loan, MSG_CREDIT_BYTES}}, NOTHING);
    } else if (m->type == MSG_DATA && m->data.flags & MSG_DATA_END) {
        say(data, lender, left, NOTHING);
        work.work.run = m->data.index + 1;
        say(data, lender, work, NOTHING);
    }
}

static void as_owner(uint64_t link, const struct msg *m)
{
    if (is("leaves") && lender)
        leave_runs(m);
    else if (m->type == MSG_ATTACH && m->attach.what == MSG_LOAN) {
        lender = link;
        loan = m->attach.index;
        if (is("leaves"))
            leave_runs(m);
        else
            lie_about_work();
    } else if (m->type == MSG_CREDIT && m->credit.what == MSG_RUN_INPUT) {
        struct stream_name name = {run.job, run.attempt, MSG_RUN_INPUT, m->credit.index, loan};
        say_bytes(data, link, &name, is("more") ? 2 * BYTES : is("fewer") ? BYTES / 2 : BYTES, NO_DIGEST);
    } else if (m->type == MSG_LEAVE && m->leave.what == MSG_LOAN) {
        exit(0); /* and the job begins anew elsewhere */
    }
}

/* ---- both */

static void on_peer(void *o, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    (void)o, (void)role, (void)bulk;
    if (lends && p == owner)
        as_lender(m);
    else if (!lends && p == data)
        as_owner(link, m);
}

static void on_lost(void *o, struct peer *p, uint64_t link, const struct err *why)
{
    (void)o, (void)link;
    if (p == scheduler)
        die(why->text);
}

static struct slice copy(struct slice s)
{
    char *to = malloc(s.size + 1);
    if (!to)
        die("no memory");
    memcpy(to, s.data, s.size);
    return (struct slice){to, s.size};
}

static void on_scheduler(void *o, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    struct err e;
    (void)o, (void)p, (void)link, (void)role, (void)bulk;
    if (m->type == MSG_WELCOME) {
        puts("ready");
        fflush(stdout);
    } else if (m->type == MSG_RUN && lends) {
        die("it was to lend, and was given a job of its own");
    } else if (m->type == MSG_RUN) {
        run = (struct msg_run){.job = m->run.job, .attempt = m->run.attempt};
        say(scheduler, 0, (struct msg){.type = MSG_STARTED, .started = {run.job, run.attempt}}, NOTHING);
        say(scheduler, 0, (struct msg){.type = MSG_WANT, .want = {run.job, run.attempt, 1}}, NOTHING);
    } else if (m->type == MSG_LENT && m->lent.key.size) {
        net_admit(net, MSG_WORKER, m->lent.key, &e);
    } else if (m->type == MSG_LEND && lends && !owner) {
        lend = m->lend;
        lend.token = copy(m->lend.token);
        lend.key = copy(m->lend.key);
        lend.url = strdup(m->lend.url);
        owner = peer_connect(net, lend.url, lend.key, MSG_WORKER, MSG_WORKER, &peer_events, NULL, &e);
        if (!owner)
            die(e.text);
        attach(owner);
    }
}

static void ping(struct loop_timer *t)
{
    (void)t;
    say(scheduler, 0, (struct msg){.type = MSG_PING, .ping = {1}}, NOTHING);
}

int main(int argc, char **argv)
{
    static const struct peer_events events = {on_scheduler, on_lost};
    static struct loop_timer timer = {.run = ping};
    struct err e;
    if (argc != 5)
        die("usage: liar KEYS SCHEDULER lender|owner LIE");
    lends = !strcmp(argv[3], "lender");
    lie = argv[4];
    struct net_options o = {.keys = argv[1], .role = MSG_WORKER};
    loop = loop_new(&e);
    net = loop ? net_new(loop, &o, &e) : NULL;
    data = net ? peer_listen(net, "tcp://127.0.0.1:*", MSG_WORKER, &peer_events, NULL, &e) : NULL;
    scheduler = data ? peer_connect(net, argv[2], NOTHING, MSG_WORKER, MSG_SCHEDULER, &events, NULL, &e) : NULL;
    if (!scheduler)
        die(e.text);
    char domain[121];
    domain_text(domain, sizeof domain); /* only a worker like the owner is lent */
    struct msg hello = {.type = MSG_HELLO,
                        .hello = {.version = MSG_VERSION, .role = MSG_WORKER, .name = "liar", .instance = process_instance(), .image = "lies", .domain = domain,
                                  .slots = lends ? 1 : 4, .data_url = peer_url(data), .data_key = net_public_key(net), .shared = ""}};
    say(scheduler, 0, hello, NOTHING);
    loop_timer_start(loop, &timer, PING_NS, PING_NS);
    loop_run(loop);
    return 0;
}
