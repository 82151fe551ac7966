/* What the world is made of: chance, and messages that are on their way. */
#include "tests/sim/world.h"

uint64_t befell[BEFELL];

uint64_t draw(struct world *w, uint64_t below)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % below;
}

bool one_in(struct world *w, uint64_t n)
{
    return draw(w, n) == 0;
}

/* Does something go wrong?  Not for ever, or it would free jobs that are stuck. */
bool mishap(struct world *w, uint64_t n)
{
    return w->now < CALM_NS && one_in(w, n);
}

/* Each stage is tried four times; a scheduler that was started again knows nothing of earlier tries. */
uint32_t most_attempts(const struct world *w, const struct tracked *t)
{
    return 1 + 4 * t->stages * (1 + (uint32_t)w->lives);
}

void must(struct world *w, bool holds, const char *what)
{
    if (!holds && !w->wrong)
        w->wrong = what;
}

uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void note_free(struct note *n)
{
    free(n->first);
    free(n->bulk);
    free(n);
}

void cut(struct wire *x)
{
    while (x->first) {
        struct note *n = x->first;
        x->first = n->next;
        note_free(n);
        befell[NEVER_CAME]++;
    }
    x->end_ns = NEVER;
}

void put_once(struct world *w, struct actor *a, struct wire *x, uint64_t delay_ns,
                     const struct msg *m, struct slice bulk)
{
    struct note *n = calloc(1, sizeof *n), **last = &x->first;
    struct buf bytes = BUF_INIT(MSG_BYTES_MAX);
    struct err e;
    if (x->end_ns != NEVER)
        goto nowhere;
    if (!n || msg_encode(m, &bytes, &e) < 0)
        abort();
    n->first_size = bytes.size;
    n->first = buf_take(&bytes);
    n->bulk = malloc(bulk.size + 1);
    if (bulk.size)
        memcpy(n->bulk, bulk.data, bulk.size);
    n->bulk_size = bulk.size;
    n->at_ns = w->now + delay_ns > a->cut_ns ? w->now + delay_ns : a->cut_ns;
    for (; *last; last = &(*last)->next)
        n->at_ns = n->at_ns > (*last)->at_ns ? n->at_ns : (*last)->at_ns;
    *last = n;
    return;
nowhere:
    free(n);
}

void put(struct world *w, struct actor *a, struct wire *x, const struct msg *m,
                struct slice bulk)
{
    bool late = one_in(w, 50), again;
    uint64_t delay = (1 + draw(w, late ? 1000 : 40)) * MS;
    put_once(w, a, x, delay, m, bulk);
    if ((again = one_in(w, 12)))
        put_once(w, a, x, delay, m, bulk);
    befell[LATE] += late;
    befell[REPEATED] += again;
}

void say(struct world *w, struct actor *a, const struct msg *m)
{
    put(w, a, &a->from, m, (struct slice){"", 0});
}

/* The connection breaks: messages that are on their way may still arrive, and after them the end of the link. */
void hang_up(struct world *w, struct actor *a)
{
    if (one_in(w, 2))
        cut(&a->from);
    a->from.end_ns = w->now + draw(w, 200) * MS;
    for (const struct note *n = a->from.first; n; n = n->next)
        a->from.end_ns = a->from.end_ns > n->at_ns ? a->from.end_ns : n->at_ns;
    cut(&a->to);
}

void tell(const struct world *w, const char *arrow, uint64_t link, const struct msg *m)
{
    struct buf text = BUF_INIT(MSG_BYTES_MAX);
    msg_print(m, &text);
    printf("%8.3f  %s %" PRIu64 " %.*s\n", (double)w->now / 1e9, arrow, link, (int)text.size, text.data);
    buf_clear(&text);
}

struct note *take_note(struct world *w, struct actor *a, struct wire *x, const char *arrow,
                              struct arena *arena, struct msg *m)
{
    struct note *n = x->first;
    struct err e;
    x->first = n->next;
    if (msg_decode(n->first, n->first_size, arena, m, &e) < 0)
        abort();
    if (w->talk && arrow)
        tell(w, arrow, a->link, m);
    return n;
}
