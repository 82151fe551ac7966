/* A scheduler and a worker inside this process: what `zpipe` uses when no cluster is configured.
 * Declared here, where the client may see it, and implemented in embed/, which may see both. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"

#define EMBEDDED_URL "inproc://zpipe-scheduler"

struct embedded;

struct embedded_options {
    const char
        *box; /* path of zpipe-box, or NULL: found beside the program or where it is installed */
    uint32_t slots;    /* 0: one per CPU */
    bool no_isolation; /* explicit, uncertified, loud */
    bool no_templates; /* programs are started anew, none cloned */
    /* Called once, from the loop, when nothing can be run any more: the host refuses the sandbox,
     * say. */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

/* Start zpipe-box: before the process has threads, so before net_new. */
struct embedded *embedded_new(struct loop *l, const struct embedded_options *o, struct err *e);
/* Listen at EMBEDDED_URL and connect the worker to it. */
int embedded_start(struct embedded *m, struct net *n, struct err *e);
void embedded_free(struct embedded *m); /* kills what runs */
