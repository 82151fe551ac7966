/* What every actor does: it comes and goes, sends messages that it should not send, and meets with misfortune. */
#include "tests/sim/world.h"

/* Sends a message that is not the sender's to send, or that makes no sense.  A worker never claims that a run of its own
 * has stopped: nobody could see through that lie. */
static void babble(struct world *w, struct actor *a)
{
    uint64_t job = 1 + draw(w, 20);
    const struct tracked *t = tracked(w, job);
    if (a->worker && (!t || !t->ran))
        job += 1000; /* otherwise the answer, STOP, could meet the RUN on its way, which would be the same lie */
    uint32_t node = (uint32_t)draw(w, 9), other = one_in(w, 2) ? 1000 : 1;
    struct msg worker[] = {
        {.type = MSG_STARTED, .started = {job, other}},
        {.type = MSG_TASK,
         .task =
             {.job = job + 1000, .attempt = other, .node = node, .text = "", .stderr_tail = ""}},
        {.type = MSG_TASK,
         .task = {.job = job, .attempt = 1, .node = 100, .text = "", .stderr_tail = ""}},
        {.type = MSG_PROGRESS, .progress = {.job = job, .node = node}},
        {.type = MSG_FAIL, .fail = {job + 1000, other, ERR_NONE, "no", false}},
        {.type = MSG_STOPPED, .stopped = {job, 1000, 1000}},
        {.type = MSG_LOST, .lost = {job, other, MSG_EDGE, node, GRAPH_NONE, "no"}},
        {.type = MSG_WANT, .want = {job, other, UINT32_MAX}},
        {.type = MSG_RETURNED, .returned = {job, 1, node + 10000, false}},
        {.type = MSG_CANCEL, .cancel = {job, 0, "I am a worker"}},
        {.type = MSG_REMAINS, .remains = {job, 1000, {"0123456789abcdef", 16}, &node, 1}},
    };
    struct msg client[] = {
        {.type = MSG_CANCEL, .cancel = {job, 0, "not mine"}},
        {.type = MSG_CANCEL, .cancel = {0, job + 1000, "never submitted"}},
        {.type = MSG_SUBMIT, .submit = {.request = 5000, .text = ""}}, /* without a graph */
        {.type = MSG_STOPPED, .stopped = {job, 1, 1}},
        {.type = MSG_HELD, .held = {.job = job + 1000, .state = "", .text = "", .gone = true}},
        {.type = MSG_VISITED, .visited = {.link = job, .request = 1, .text = "", .receipt = ""}},
        {.type = MSG_LOST, .lost = {job + 1000, 1, MSG_EDGE, node, GRAPH_NONE, "not mine"}},
    };
    size_t i = draw(w, a->worker ? sizeof worker / sizeof *worker : sizeof client / sizeof *client);
    if (!a->worker && i == 0 && (!t || t->client == a->link))
        return; /* the job might be the sender's by the time the message arrives */
    befell[BABBLED]++;
    say(w, a, a->worker ? &worker[i] : &client[i]);
}

/* A client that has waited long enough ends the input of an endless job, or cancels the job.  All other jobs must come to
 * an end by themselves. */
static void give_up(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != a->link || !t->endless || !t->ran || t->results || t->cancelled || !one_in(w, 12))
            continue;
        t->endless = false; /* its input ends */
        if (one_in(w, 2))
            continue;
        struct msg m = {.type = MSG_CANCEL, .cancel = {t->number, 0, "it took too long"}};
        t->cancelled = true;
        say(w, a, &m);
    }
}

static void forget_work(struct actor *a)
{
    a->loan = 0;
    memset(a->run, 0, sizeof a->run);
    memset(a->lent, 0, sizeof a->lent);
}

/* The third kind differs from the second only in its kernel */
static const char *const images[IMAGES] = {"one", "two", "two"}, *const domains[IMAGES] = {"a kernel", "a kernel", "another"};

static void join(struct world *w, struct actor *a)
{
    must(w, ++w->links < LINKS_MAX, "far too many links");
    if (w->wrong)
        return;
    a->link = w->links;
    w->owner[a->link] = a;
    a->mood = PRESENT;
    a->stalled = false;
    a->cut_ns = 0;
    cut(&a->to);
    cut(&a->from);
    if (!a->goes_on) {
        forget_work(a);
        if (!a->local) /* a new process */
            memcpy(a->instance, &a->link, sizeof a->link);
        a->slots = (uint32_t)draw(w, w->roomy ? 9 : 5);
        a->memory = a->worker && !a->local && one_in(w, 2) ? (1 + draw(w, 8)) * STAGE_MEMORY : 0;
        a->address = a->link;
    }
    char url[64], name[32];
    snprintf(name, sizeof name, "w%" PRIu64, a->link);
    snprintf(url, sizeof url, "tcp://sim:%" PRIu64, a->address);
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = a->worker ? MSG_WORKER : a->keeper ? MSG_KEEPER : MSG_CLIENT,
                              .name = name,
                              .instance = {a->instance, 16},
                              .image = images[w->images ? a->image : 0],
                              .domain = domains[w->images ? a->image : 0],
                              .slots = a->slots,
                              .memory_bytes = a->memory,
                              .data_url = (a->worker && !a->local) || a->keeper ? url : "",
                              .data_key = {"", 0}}};
    for (int i = 0; a->worker && i < RUNS_MAX; i++)
        m.hello.remains += a->run[i].used;
    a->ping_ns = w->now + 1000 * MS;
    a->asked = a->answered = 0;
    a->drain = 0;
    say(w, a, &m);
    if (a->worker && a->goes_on)
        tell_remains(w, a);
    else if (a->goes_on && !a->keeper)
        submit_again(w, a);
    if (a->keeper)
        keeper_joins(w, a);
    a->goes_on = false;
}

void leave(struct world *w, struct actor *a, bool comes_back)
{
    struct msg bye = {.type = MSG_BYE, .bye = {"bye"}};
    if (one_in(w, 3))
        say(w, a, &bye);
    hang_up(w, a);
    a->mood = comes_back ? LOST : DEAD;
    a->join_ns = comes_back ? w->now + (1000 + draw(w, 8000)) * MS : NEVER;
    a->goes_on = false;
    forget_work(a);
}

/* One of three things happens to the actor.  It dies: then only its silence tells, and as a client's silence says nothing,
 * its link ends late.  Or its connection breaks.  Or it is cut off for a while: a client also for much longer than any
 * other actor may be silent, as if it were stopped. */
static void misfortune(struct world *w, struct actor *a)
{
    a->die_ns = w->now + draw(w, 60000) * MS;
    if (w->now > CALM_NS) {
        a->die_ns = NEVER;
        return;
    }
    bool client = !a->worker && !a->keeper;
    uint64_t until;
    switch (draw(w, a->local ? 1 : 4)) {
    case 0:
        until = w->now + draw(w, client && one_in(w, 2) ? 90000 : 8000) * MS;
        a->cut_ns = a->cut_ns > until ? a->cut_ns : until;
        a->stalled = !client;
        befell[HELD_UP]++;
        break;
    case 1:
        cut(&a->from);
        cut(&a->to);
        a->from.end_ns = client ? w->now + draw(w, 90000) * MS : NEVER;
        a->mood = DEAD;
        forget_work(a);
        befell[DIED]++;
        break;
    default:
        befell[BROKE]++;
        leave(w, a, one_in(w, 2));
    }
}

uint64_t actor_wakes(const struct world *w, const struct actor *a)
{
    uint64_t at = NEVER;
    if (a->mood == ABSENT || a->mood == LOST)
        return a->join_ns;
    if (a->mood != PRESENT)
        return NEVER;
    at = earlier(earlier(a->ping_ns, a->die_ns), a->submits ? a->submit_ns : NEVER);
    for (int i = 0; a->worker && i < RUNS_MAX; i++)
        if (a->run[i].used)
            at = earlier(at, a->run[i].at_ns);
    for (int i = 0; a->worker && i < LOANS_MAX; i++)
        if (a->lent[i].used)
            at = earlier(at, a->lent[i].at_ns);
    for (uint32_t i = 0; !a->worker && i < w->jobs; i++)
        if (w->job[i].client == a->link)
            at = earlier(at, w->job[i].pull_ns);
    return at;
}

void actor_acts(struct world *w, struct actor *a)
{
    if (a->mood != PRESENT) {
        if (a->from.end_ns == NEVER && !a->from.first)
            join(w, a);
        else
            a->join_ns = w->now + 100 * MS; /* after the end of the old link */
        return;
    }
    for (int i = 0; i < RUNS_MAX; i++) {
        if (a->run[i].used && w->now >= a->run[i].at_ns) {
            run_step(w, a, &a->run[i]);
            return;
        }
    }
    for (int i = 0; i < LOANS_MAX; i++) {
        if (a->lent[i].used && w->now >= a->lent[i].at_ns) {
            give_back(w, a, &a->lent[i]);
            return;
        }
    }
    for (uint32_t i = 0; !a->worker && i < w->jobs; i++) {
        if (w->job[i].client == a->link && w->now >= w->job[i].pull_ns) {
            client_pulls(w, a, &w->job[i]);
            return;
        }
    }
    if (w->now >= a->ping_ns) {
        struct msg m = {.type = MSG_PING, .ping = {1}};
        a->ping_ns = w->now + 1000 * MS;
        say(w, a, &m);
        if (!a->worker)
            give_up(w, a);
        if (!w->closing && one_in(w, 30))
            babble(w, a);
        if (!w->closing && !a->worker && !a->keeper && one_in(w, 40))
            ask_drain(w, a);
    } else if (a->submits && w->now >= a->submit_ns) {
        a->submits--;
        a->submit_ns = w->now + draw(w, one_in(w, 5) ? 20000 : 800) * MS;
        if (w->actor[0].keeper && !a->keeper && one_in(w, 2))
            ask(w, a);
        else
            submit(w, a, 0);
    } else if (w->now >= a->die_ns) {
        misfortune(w, a);
    }
}

void actor_hears(struct world *w, struct actor *a)
{
    struct arena arena = ARENA_INIT(1 << 24);
    struct msg m;
    struct note *n = take_note(w, a, &a->to, NULL, &arena, &m);
    if (m.type == MSG_REFUSE || m.type == MSG_DRAINED) /* as in agent.c: it ends, and is started again */
        leave(w, a, true);
    else if (m.type == MSG_VISIT || (a->keeper && m.type == MSG_RESULT))
        keeper_hears(w, a, &m);
    else if (a->worker)
        worker_hears(w, a, &m);
    else
        client_hears(w, a, &m);
    note_free(n);
    arena_clear(&arena);
}
