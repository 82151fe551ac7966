/* Limits the connections of one kind.  When all places are taken and one more client comes, one connection must give way:
 * the one whose request has been arriving for longest, or one that has not taken its answer for too long.  So clients that
 * stall or send slowly keep nobody out, however many they are, and nobody is hurried while there is room.  A request that
 * arrives at once is complete at once, so it does not have to give way. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PLACES_SENDING_S 30 /* how long an answer may wait for its client when all places are taken */

enum place_waits { PLACE_ASKS, PLACE_TAKES, PLACE_WAITS }; /* what the place waits for: a request, the answer to be taken; the number of both */

struct place {
    struct place *next, **link; /* list of the places that wait for the same; link NULL: this one does not wait */
    struct places *places;
    enum place_waits what;
    uint64_t since_s;
    void (*give_way)(void *owner);
    void *owner;
};

struct places {
    struct place *first[PLACE_WAITS], **last[PLACE_WAITS]; /* the one that has waited longest is first */
    uint32_t count, max;
};

void places_init(struct places *s, uint32_t max);
/* Adds a connection, which waits for its client's request.  give_way ends the connection, now or soon; it may call
 * places_leave, and is called once only. */
void places_enter(struct places *s, struct place *p, void (*give_way)(void *owner), void *owner);
void places_wait(struct place *p, enum place_waits what);
void places_work(struct place *p); /* its job runs: it waits for nothing */
void places_leave(struct place *p);
/* May one more come?  Yes if there is room, or if somebody gives way. */
bool places_room(struct places *s);
