/* Notices clients that leave while their job runs. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct server;
struct gone; /* watches the clients of one listener (HTTP or plain) */

/* One connection, while it is watched. */
struct gone_watch {
    int fd; /* -1: not watched */
    const char *question; /* sent to a client that has ended its side, see gone_start; NULL: there is nothing harmless to send */
    void (*left)(void *owner);
    void *owner;
};

struct gone *gone_open(struct server *s);
void gone_close(struct gone *g);
/* Calls `left` when nobody is at the other end any more: the connection is closed or reset.  A client that has only ended
 * its own side of the connection is still there.  With TCP the two look the same until something is sent, so we send
 * `question`, which a client that is there ignores.  A connection that is watched already is left as it is. */
void gone_start(struct gone *g, struct gone_watch *w);
void gone_stop(struct gone *g, struct gone_watch *w);
