/* The scheduler's world: sockets, the clock, randomness.  It brings events to the core and carries
 * its actions out; it decides nothing. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"

struct daemon;

struct daemon_options {
    const char *url;   /* to listen on: inproc://... or tcp://... */
    /* Directory, made if missing, held by one scheduler at a time, which counts its lives in it; or NULL. */
    const char *state;
    uint32_t worker_wait_s; /* as in core_options */
    uint32_t client_wait_s; /* a client may be without a connection for so long; 0: as long as any peer (peer.h) */
    /* It can do nothing more; called once, from the loop. */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

struct daemon *daemon_new(struct loop *l, struct net *n, const struct daemon_options *o,
                          struct err *e);
/* Could one be, as far as can be told without listening and without making anything? */
int daemon_check(const struct net *n, const struct daemon_options *o, struct err *e);
const char *daemon_url(const struct daemon *d); /* with the real port */
void daemon_free(struct daemon *d);
