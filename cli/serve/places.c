/* See places.h. */
#include "cli/serve/places.h"

#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

#define FDS_KEPT  256 /* descriptors for the rest of the program */
#define FDS_EACH  10  /* descriptors per client: its connection, two pipes, two files, and what its job has open here */

static uint64_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

/* As many places as there are descriptors for.  Raises the limit of descriptors as far as possible. */
void places_init(struct places *s, uint32_t max)
{
    struct rlimit l;
    *s = (struct places){.max = max};
    for (int i = 0; i < PLACE_WAITS; i++)
        s->last[i] = &s->first[i];
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    rlim_t room = l.rlim_max > FDS_KEPT ? (l.rlim_max - FDS_KEPT) / FDS_EACH / 2 : 1; /* / 2: HTTP and plain may both be served */
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
    else
        p->places->last[p->what] = p->link;
    p->link = NULL;
}

void places_enter(struct places *s, struct place *p, void (*give_way)(void *owner), void *owner)
{
    *p = (struct place){.places = s, .give_way = give_way, .owner = owner};
    s->count++;
    places_wait(p, PLACE_ASKS);
}

void places_wait(struct place *p, enum place_waits what)
{
    struct places *s = p->places;
    unlist(p);
    p->what = what;
    p->since_s = now_s();
    p->next = NULL;
    p->link = s->last[what];
    *p->link = p;
    s->last[what] = &p->next;
}

void places_work(struct place *p)
{
    unlist(p);
}

void places_leave(struct place *p)
{
    unlist(p);
    p->places->count--;
}

bool places_room(struct places *s)
{
    struct place *p = s->first[PLACE_ASKS];
    if (s->count < s->max)
        return true;
    if (!p && (p = s->first[PLACE_TAKES]) && now_s() < p->since_s + PLACES_SENDING_S)
        p = NULL;
    if (!p)
        return false;
    unlist(p);
    p->give_way(p->owner);
    return true;
}
