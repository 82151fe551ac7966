/* Decides which templates there are, and which tasks start from one.
 *
 * If the caller says that many tasks of a kind are to come, a template is made for the first one, which waits for it: so all
 * tasks are clones, and no cold start takes CPU time from the making.  If few are to come, none is made until there have
 * been many.  If the caller cannot tell, the first two tasks with a key start cold, and a template is made beside the
 * second.  A template serves one task at a time; when all templates of a key are in use one more is made, up to the number
 * of CPUs.  If making one fails the reason is told once, and tasks with its key start cold from then on.  No task waits for
 * a template longer than a second. */
#include "sandbox/template.h"
#include "base/fds.h"

static uint32_t templates_of(const struct server *s, const struct template_key *k, bool making)
{
    uint32_t count = 0;
    for (const struct template *m = s->template; m; m = m->next)
        count += (!k || m->key == k) && (!making || !m->asked);
    return count;
}

/* Give up the idle template of another key that was used longest ago. */
static bool give_way(struct server *s, const struct template_key *k)
{
    struct template *oldest = NULL;
    for (struct template *m = s->template; m; m = m->next)
        if (m->ready && m->key != k && (!oldest || m->used < oldest->used))
            oldest = m;
    if (oldest)
        template_end(oldest);
    return oldest;
}

/* A template counts from its stop on; those on their way are few, and each has its own ceiling. */
bool template_fits(struct template *m, uint32_t kib)
{
    m->kib = kib;
    for (;;) {
        uint64_t all = 0;
        for (const struct template *o = m->server->template; o; o = o->next)
            all += o->kib;
        if (all <= m->server->templates_kib_max)
            return true;
        if (!give_way(m->server, m->key))
            return false;
    }
}

/* How many templates of one kind are worth making. */
static uint32_t templates_worth(const struct server *s, uint32_t expected)
{
    return expected && expected / BOX_MANY < s->cpus ? expected / BOX_MANY : s->cpus;
}

static bool has_room_for(struct server *s, const struct template_key *k, uint32_t expected, bool waits)
{
    return (waits || templates_of(s, k, true) == 0) && templates_of(s, NULL, true) < TEMPLATES_MAKING &&
           templates_of(s, k, false) < templates_worth(s, expected) &&
           (templates_of(s, NULL, false) < TEMPLATES_MAX || give_way(s, k));
}

/* A template that is being made, and whose task has got another one. */
static struct template *unawaited_one(const struct server *s, const struct template_key *k)
{
    for (struct template *m = s->template; m; m = m->next)
        if (m->key == k && !m->asked && !m->ready && !m->stale && !m->made_for && m->looks < TEMPLATE_WAIT_LOOKS)
            return m;
    return NULL;
}

/* Make a template.  NULL: the task waits for it. */
static const char *make_one(struct task *t, struct template_key *k, uint32_t expected)
{
    struct server *s = t->region->server;
    bool waits = expected >= BOX_MANY && !k->doubtful;
    if (s->users < 0) {
        if (!s->users_asked)
            link_send(&s->mounts, (struct wire){.kind = WIRE_USERS}, NULL, 0, NULL, 0);
        s->users_asked = true;
        link_watch(s, &s->mounts, &s->mounts_watch);
        if (waits)
            return NULL;
    } else {
        struct template *m = waits ? unawaited_one(s, k) : NULL;
        if (!m && has_room_for(s, k, expected, waits))
            m = template_new(t, k);
        if (m && waits && !k->cold) {
            m->made_for = t;
            t->awaits = m;
            return NULL;
        }
    }
    return templates_of(s, k, false) ? "its template is not free" : "it has no template yet";
}

void template_take_users(struct server *s, struct wire_packet *p)
{
    fd_close(&s->users);
    s->users = wire_take_fd(p, 0);
    s->users_refused = s->users < 0;
}

static struct template *ready_one(struct server *s, const struct template_key *k, const struct task *t)
{
    for (struct template *m = s->template; m; m = m->next)
        if (m->key == k && m->ready && (!m->made_for || m->made_for == t))
            return m;
    return NULL;
}

/* Does the task still wait for a template?  *m: one that is ready for it; NULL: it waits on. */
static bool goes_on_waiting(struct task *t, struct template **m)
{
    struct server *s = t->region->server;
    *m = t->awaits ? ready_one(s, t->awaits->key, t) : NULL;
    if (*m && templates_changed(s))
        templates_drop(s);
    if (!t->awaits)
        return false;
    if (*m) {
        (*m)->used = (*m)->key->used = ++s->template_turn;
        template_await_not(t);
    }
    return true;
}

struct template *template_for(struct task *t, const char **why)
{
    struct server *s = t->region->server;
    uint32_t expected = t->region->spec.region.task[t->index].expected;
    uint8_t digest[SHA256_BYTES];
    struct template *m;
    *why = NULL;
    if (goes_on_waiting(t, &m))
        return m;
    *why = s->none           ? "there is no sandbox"
           : s->no_templates ? "templates are switched off"
           : s->users_refused ? "the host refuses a second user namespace"
                              : template_key_of(t, digest);
    if (*why)
        return NULL;
    struct template_key *k = template_key_find(s, digest);
    if (!k) {
        *why = "there was no room for a template";
        return NULL;
    }
    k->used = ++s->template_turn;
    if (templates_changed(s))
        templates_drop(s);
    *why = k->cold;
    if (*why)
        return NULL;
    m = ready_one(s, k, t);
    if (m) {
        m->used = k->used;
        return m;
    }
    if (k->seen < BOX_MANY)
        k->seen++;
    else if (expected < BOX_MANY)
        expected = 0; /* few come at a time, but again and again, like a server's requests */
    if (expected && expected < BOX_MANY)
        *why = templates_of(s, k, false) ? "its template is not free" : "few of its kind are to come";
    else
        *why = k->seen < 2 && (!expected || k->doubtful) ? "it is the first of its kind" : make_one(t, k, expected);
    return NULL;
}
