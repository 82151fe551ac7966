/* See places.h. */
#include "cli/serve/places.h"

#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

#define FDS_KEPT  256 /* for the rest of the program */
#define FDS_EACH  8   /* its connection, two files, a pipe, and what its job has open here */
#define AT_A_TIME 4   /* of so many one may go in a second */

static uint64_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

/* As many as there may be descriptors for; the limit of those is raised as far as it goes. */
void places_init(struct places *s, uint32_t max)
{
    struct rlimit l;
    *s = (struct places){.max = max};
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    rlim_t room = l.rlim_max > FDS_KEPT ? (l.rlim_max - FDS_KEPT) / FDS_EACH / 2 : 1; /* there may be two of us */
    if (room < max)
        s->max = room ? (uint32_t)room : 1;
}

static void unlist(struct place *p)
{
    if (!p->link)
        return;
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    p->link = NULL;
}

void places_enter(struct places *s, struct place *p, void (*give_way)(void *owner), void *owner)
{
    *p = (struct place){.give_way = give_way, .owner = owner};
    s->count++;
    places_wait(s, p, PLACES_PATIENCE_S);
}

void places_wait(struct places *s, struct place *p, uint32_t patience_s)
{
    unlist(p);
    p->until_s = now_s() + patience_s;
    p->next = s->first;
    p->link = &s->first;
    if (s->first)
        s->first->link = &p->next;
    s->first = p;
}

void places_work(struct place *p)
{
    unlist(p);
}

void places_leave(struct places *s, struct place *p)
{
    unlist(p);
    s->count--;
}

bool places_full(const struct places *s)
{
    return s->count >= s->max;
}

void places_tick(struct places *s)
{
    const uint64_t now = now_s();
    uint32_t left = 1 + s->max / AT_A_TIME;
    if (!places_full(s))
        return;
    for (struct place *p = s->first, *next; p && left; p = next) {
        next = p->next;
        if (p->until_s > now)
            continue;
        left--;
        p->give_way(p->owner);
    }
}
