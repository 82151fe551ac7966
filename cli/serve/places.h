/* Connections of one kind, at most so many.  When all places are taken and one more comes, the one gives way whose request
 * has been on its way for longest, or an answer that is not taken for too long: so clients that stall, or dribble, keep nobody
 * out, however many they are, and nobody is hurried while there is room.  A request that comes at once is whole, and
 * so gives way to nobody, before so many others have come. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PLACES_SENDING_S 30 /* for an answer to be taken; when all places are taken no longer */

enum place_waits { PLACE_ASKS, PLACE_TAKES, PLACE_WAITS }; /* for its client: to ask, to take the answer */

struct place {
    struct place *next, **link; /* of those that wait for the same; link NULL: it does not */
    struct places *places;
    enum place_waits what;
    uint64_t since_s;
    void (*give_way)(void *owner);
    void *owner;
};

struct places {
    struct place *first[PLACE_WAITS], **last[PLACE_WAITS]; /* the longest first */
    uint32_t count, max;
};

void places_init(struct places *s, uint32_t max);
/* A new connection, which waits for its client.  give_way: to end it, now or soon; it may leave in that call, and is not asked
 * twice. */
void places_enter(struct places *s, struct place *p, void (*give_way)(void *owner), void *owner);
void places_wait(struct place *p, enum place_waits what);
void places_work(struct place *p); /* its job runs */
void places_leave(struct place *p);
/* One more may come: there is room, or somebody gives way. */
bool places_room(struct places *s);
