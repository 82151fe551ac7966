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
    uint64_t memory_bytes;   /* memory that tasks may have; 0: MEMORY_SHARE_PERCENT of the machine's */
    const char *data_listen; /* NULL: embedded, no data port.  tcp://ADDRESS:PORT, PORT may be * */
    const char *advertise;   /* the URL that others connect to; NULL: the one that is listened at */
    const char *image;       /* a name for what programs see of this host; NULL: computed by looking at the host.  Not used when embedded */
    const char *shared;      /* directories with the same files here as at clients, colons between; NULL: none.  Borrowed */
    const char *box;         /* path of zpipe-box, or NULL */
    bool no_isolation, no_templates;
};

/* Starts zpipe-box, so it must be called before the process has threads, that is before net_new. */
struct agent *agent_new(struct loop *l, const struct agent_options *o, struct err *e);
/* Connect to the scheduler and offer our slots.  `ready` (or NULL) is called once, when the scheduler has accepted us.
 * `lost` is called once, when this worker can run nothing any more: zpipe-box is gone, or the scheduler refuses us.  A
 * daemon whose scheduler is gone lets go on what can, for up to a minute, and joins the next scheduler. */
int agent_start(struct agent *a, struct net *n, const char *scheduler_url, void (*ready)(void *owner),
                void (*lost)(void *owner, const struct err *why), void *owner, struct err *e);
/* Kills what runs and says goodbye. */
void agent_free(struct agent *a);
