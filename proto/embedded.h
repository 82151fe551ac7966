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
    bool no_isolation; /* run programs without a sandbox */
    bool no_templates; /* programs are started anew, none cloned */
    /* Called once, from the loop, when nothing can be run any more, for example because the host refuses sandboxes. */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

/* Starts zpipe-box, so it must be called before the process has threads, that is before net_new. */
struct embedded *embedded_new(struct loop *l, const struct embedded_options *o, struct err *e);
/* Listen at EMBEDDED_URL and connect the worker to it. */
int embedded_start(struct embedded *m, struct net *n, struct err *e);
void embedded_free(struct embedded *m); /* kills what runs */
