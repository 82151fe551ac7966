/* All input and output of the scheduler: sockets, the clock, randomness.  It brings events to the core and carries out its
 * actions; it decides nothing. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"

struct daemon;

struct daemon_options {
    const char *url;   /* to listen on: inproc://... or tcp://... */
    /* A directory, made if it is missing, used by one scheduler at a time, which counts its starts in it; or NULL. */
    const char *state;
    uint32_t worker_wait_s; /* as in core_options */
    uint32_t client_wait_s; /* how long a client may be without a connection; 0: as long as any peer (peer.h) */
    /* The scheduler cannot go on; called once, from the loop. */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

struct daemon *daemon_new(struct loop *l, struct net *n, const struct daemon_options *o,
                          struct err *e);
/* Could a daemon run with these options, as far as can be told without listening and without making anything? */
int daemon_check(const struct net *n, const struct daemon_options *o, struct err *e);
const char *daemon_url(const struct daemon *d); /* with the real port */
void daemon_free(struct daemon *d);
