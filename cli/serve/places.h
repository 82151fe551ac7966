/* Connections of one kind, at most so many.  When all places are taken, those whose client has kept us waiting for long give
 * way: so clients that stall, or dribble, keep others out for seconds only, and nobody is hurried while there is
 * room. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PLACES_PATIENCE_S 2  /* for a request to be whole */
#define PLACES_SENDING_S  30 /* for an answer to be taken */

struct place {
    struct place *next, **link; /* of those that wait for their client; link NULL: it does not */
    uint64_t until_s;           /* so long it may when all places are taken */
    void (*give_way)(void *owner);
    void *owner;
};

struct places {
    struct place *first;
    uint32_t count, max;
};

void places_init(struct places *s, uint32_t max);
/* A new connection, which waits for its client.  give_way: to end it, now or soon; it may leave in that call. */
void places_enter(struct places *s, struct place *p, void (*give_way)(void *owner), void *owner);
void places_wait(struct places *s, struct place *p, uint32_t patience_s); /* for its client */
void places_work(struct place *p);                                        /* its job runs */
void places_leave(struct places *s, struct place *p);
bool places_full(const struct places *s);
void places_tick(struct places *s); /* each second */
