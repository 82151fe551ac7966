/* Clients that leave while their job runs. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct server;
struct gone; /* watches those of one way in */

/* One connection, while it is watched. */
struct gone_watch {
    int fd; /* -1: not */
    const char *question; /* for one that has ended its side: as below; NULL: nothing can be said */
    void (*left)(void *owner);
    void *owner;
};

struct gone *gone_open(struct server *s);
void gone_close(struct gone *g);
/* Tell when nobody is at its other end any more: it is closed, or reset.  Who has only ended its side is there.  By TCP both look the
 * same until something is sent: `question` is what a client that is there takes for nothing.  One that is watched already is not watched anew. */
void gone_start(struct gone *g, struct gone_watch *w);
void gone_stop(struct gone *g, struct gone_watch *w);
