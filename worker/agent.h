/* A worker: the link to its scheduler, its zpipe-box, its data port, and the attempts it runs.
 * The same in the `zpipe` process (embedded mode, no data port) and as the daemon `zpipe worker`. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"

#define AGENT_ATTEMPTS_MAX 256  /* at once */
#define AGENT_LINKS_MAX    4096 /* to other workers' data ports, at once */

struct agent;

struct agent_options {
    const char *name;        /* for people; NULL: the host's name */
    uint32_t slots;          /* 0: one per CPU */
    uint64_t memory_bytes;   /* for tasks; 0: MEMORY_SHARE_PERCENT of what there is */
    const char *data_listen; /* NULL: embedded, no data port.  tcp://ADDRESS:PORT, PORT may be * */
    const char *advertise;   /* what others connect to; NULL: as listening */
    const char *image;       /* a name for what programs see of this host; NULL: it is looked at.  Embedded: nobody asks */
    const char *shared;      /* directories with the same files here as at clients, colons between; NULL: none.  Borrowed */
    const char *box;         /* path of zpipe-box, or NULL */
    bool no_isolation, no_templates;
};

/* Starts zpipe-box: before the process has threads, so before net_new. */
struct agent *agent_new(struct loop *l, const struct agent_options *o, struct err *e);
/* Connect to the scheduler and offer the slots.  `ready` (or NULL) is called once, when it has taken us.  `lost` is called once,
 * when nothing more can be run: zpipe-box is gone, or the scheduler will not have us.  A daemon whose scheduler is gone stops what
 * it runs, and joins again when there is one. */
int agent_start(struct agent *a, struct net *n, const char *scheduler_url, void (*ready)(void *owner),
                void (*lost)(void *owner, const struct err *why), void *owner, struct err *e);
/* Kills what runs and says goodbye. */
void agent_free(struct agent *a);
