/* What clients and keepers do, and how they take the messages that they get. */
#include "tests/sim/world.h"

static void send_job(struct world *w, struct actor *a, const struct tracked *t, uint64_t held, uint64_t was)
{
    struct buf *g = &w->graph[t->stages][t->pipefail + 2 * t->negate + 4 * t->needy];
    struct msg m = {.type = MSG_SUBMIT,
                    .submit = {.request = t->request,
                               .flags = t->spread ? MSG_SUBMIT_SPREAD : 0,
                               .text = "sim",
                               .held = held,
                               .was = was,
                               .token = {(const char *)t->token, was ? sizeof t->token : 0}}};
    if (!g->size)
        *g = chain_bytes(&(struct chain){.stages = t->stages, .pipefail = t->pipefail, .negate = t->negate, .blocks = t->needy,
                                            .memory_bytes = t->needy ? STAGE_MEMORY : 0});
    /* sent only once: if it came again after the first was answered, it would be another job */
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){g->data, g->size});
}

/* Submits a job again that an earlier scheduler had: by its number and token it may go on. */
static bool bring_again(struct world *w, struct actor *a, struct tracked *t, uint64_t held)
{
    if (w->owner[t->client] != a || t->accepted || !t->number || t->results || t->cancelled || !t->has_token || t->sink.broken || !t->source ||
        t->client == a->link)
        return false;
    t->client = a->link;
    t->request = ++a->requests;
    t->pull_ns = w->now;
    send_job(w, a, t, held, t->number);
    return true;
}

void submit_again(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->jobs; i++)
        bring_again(w, a, &w->job[i], 0);
}

/* held: the job's number at a keeper; 0: it is not submitted to one. */
void submit(struct world *w, struct actor *a, uint64_t held)
{
    if (w->jobs == JOBS_MAX)
        return;
    struct tracked *t = &w->job[w->jobs++];
    *t = (struct tracked){.client = a->link,
                          .request = ++a->requests,
                          .stages = 1 + (uint32_t)draw(w, 5),
                          .held = held != 0,
                          .spread = one_in(w, 2),
                          .needy = one_in(w, 2),
                          .units = (uint32_t)draw(w, UNITS_MAX + 1),
                          .endless = one_in(w, 8),
                          .cursed = one_in(w, 30),
                          .pull_ns = NEVER,
                          .pipefail = one_in(w, 2),
                          .negate = one_in(w, 2)};
    for (uint32_t n = 1; n <= t->stages; n++) {
        t->status[n] = (uint32_t)draw(w, 3);
        t->early[n] = one_in(w, 4);
    }
    send_job(w, a, t, held, 0);
    if (!held && one_in(w, 6)) {
        struct msg cancel = {.type = MSG_CANCEL, .cancel = {0, a->requests, "cancelled"}};
        t->cancelled = true;
        say(w, a, &cancel);
    }
}

static void tell_held(struct world *w, struct actor *a, const struct submitted *s, bool gone)
{
    static const char keys[2][MSG_KEY_BYTES] = {"one", "two"};
    uint64_t whose = s->number % 3; /* the job belongs to nobody, or to one of two keys */
    struct msg m = {.type = MSG_HELD,
                    .held = {.job = s->number,
                             .key = {whose ? keys[whose - 1] : "", whose ? MSG_KEY_BYTES : 0},
                             .state = s->over ? "over" : "waits",
                             .text = "sim",
                             .gone = gone}};
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){"", 0});
}

/* A keeper has a scheduler again: it names the jobs that it holds, and submits those that are not over once more. */
void keeper_joins(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->submitted_count; i++) {
        struct submitted *s = &w->submitted[i];
        if (s->keeper != a)
            continue;
        tell_held(w, a, s, false);
        struct tracked *t = NULL;
        for (uint32_t k = 0; k < w->jobs && !t; k++)
            if (w->job[k].held && w->owner[w->job[k].client] == a && w->job[k].request == s->request)
                t = &w->job[k];
        if (s->over)
            continue;
        if (!a->goes_on || !t || !bring_again(w, a, t, s->number))
            submit(w, a, s->number);
        s->request = a->requests;
    }
}

void keeper_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RESULT) {
        for (uint32_t i = 0; i < w->submitted_count; i++) {
            struct submitted *s = &w->submitted[i];
            if (s->keeper != a || s->over || s->request != m->result.request)
                continue;
            s->over = true;
            tell_held(w, a, s, false);
        }
    } else if (m->type == MSG_VISIT) {
        struct msg yes = {.type = MSG_VISITED,
                          .visited = {.link = m->visit.link, .request = m->visit.request, .job = m->visit.job, .text = "", .receipt = ""}};
        bool known = false;
        for (uint32_t i = 0; i < w->submitted_count; i++)
            known |= w->submitted[i].number == m->visit.job; /* VISIT has come twice */
        if (m->visit.what == MSG_ASK_KEEP && !known && w->submitted_count < HELDS_MAX) {
            struct submitted *s = &w->submitted[w->submitted_count++];
            *s = (struct submitted){.number = m->visit.job, .keeper = a};
            tell_held(w, a, s, false);
            submit(w, a, s->number);
            s->request = a->requests;
        }
        put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &yes, (struct slice){"", 0});
    }
}

/* Asks where to submit a job, or asks about somebody's job. */
void ask(struct world *w, struct actor *a)
{
    const uint32_t what[] = {MSG_ASK_KEEP, MSG_ASK_KEEP, MSG_ASK_TAKE, MSG_ASK_LOGS, MSG_ASK_STATUS, MSG_ASK_CANCEL};
    uint64_t job = w->submitted_count ? w->submitted[draw(w, w->submitted_count)].number : 1000000;
    struct msg m = {.type = MSG_ASK, .ask = {++a->requests, what[draw(w, 6)], one_in(w, 8) ? 1000000 : job, ""}};
    a->asked++;
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){"", 0});
}

const struct slice owner_key = {"the scheduler's own public key  ", MSG_KEY_BYTES};

/* One client is on the scheduler's machine. */
bool is_owner(const struct world *w, const struct actor *a)
{
    return !a->worker && !a->keeper && a == &w->actor[w->actor[0].keeper];
}

/* Asks that some worker be drained.  Clients that are not the owner ask this, too. */
void ask_drain(struct world *w, struct actor *a)
{
    const struct actor *who = &w->actor[draw(w, w->actors)];
    char name[32];
    if (!who->worker || who->local || who->mood != PRESENT)
        return;
    snprintf(name, sizeof name, "w%" PRIu64, who->link);
    struct msg m = {.type = MSG_ASK, .ask = {++a->requests, MSG_ASK_DRAIN, 0, name}};
    a->drain = a->requests;
    a->drain_of = who->link;
    a->asked++;
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){"", 0});
}

void client_hears(struct world *w, struct actor *a, const struct msg *m)
{
    struct tracked *t = m->type == MSG_ROUTE ? tracked(w, m->route.job) : m->type == MSG_ACCEPT ? tracked(w, m->accept.job) : NULL;
    if (!t || t->client != a->link)
        return;
    if (m->type == MSG_ACCEPT) { /* the scheduler has not heard what broke meanwhile */
        struct msg lost = {.type = MSG_LOST, .lost = {t->number, t->source_lost, MSG_EDGE, 0, GRAPH_NONE, "broken"}};
        if (t->source_lost)
            say(w, a, &lost);
        lost.lost.attempt = t->sink.attempt;
        lost.lost.index = t->stages;
        if (t->sink.broken)
            say(w, a, &lost);
        return;
    }
    memcpy(t->token, m->route.token.data, sizeof t->token);
    t->has_token = true;
    for (uint32_t i = 0; i < m->route.route_count; i++) {
        const struct msg_route *r = &m->route.route[i];
        if (r->what == MSG_EDGE && r->index == 0 && (t->source >= m->route.attempt || t->source_lost >= m->route.attempt)) {
            continue; /* another scheduler has told us of this attempt, or of a newer one */
        } else if (r->what == MSG_EDGE && r->index == 0) {
            t->source = m->route.attempt;
            t->source_lost = 0;
        } else if (r->what == MSG_EDGE && t->sink.attempt < m->route.attempt) {
            follow(&t->sink, r, m->route.attempt);
        }
    }
    t->pull_ns = earlier(t->pull_ns, w->now);
}

static void lose_source(struct world *w, struct actor *a, struct tracked *t)
{
    struct msg m = {.type = MSG_LOST, .lost = {t->number, t->source, MSG_EDGE, 0, GRAPH_NONE, "broken"}};
    t->source_lost = t->source;
    t->source = 0;
    say(w, a, &m);
}

void client_pulls(struct world *w, struct actor *a, struct tracked *t)
{
    t->pull_ns = w->now + (1 + draw(w, 200)) * MS;
    if (t->results || t->sink.ended)
        t->pull_ns = w->now + 1000 * MS; /* leaves time for a writer that runs again */
    if (t->results)
        t->pull_ns = NEVER;
    else if (t->source && mishap(w, 400))
        lose_source(w, a, t);
    else
        pull_over(w, a, &t->sink, t->number, t->stages);
}
