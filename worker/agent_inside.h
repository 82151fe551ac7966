/* Shared by agent.c and what it consists of besides: agent_data.c, agent_box.c; for nobody else. */
#pragma once
#include "worker/agent.h"
#include "worker/attempt.h"
#include "worker/early.h"
#include "worker/image.h"
#include "worker/lend.h"
#include "worker/local.h"
#include "worker/past.h"

#define AGENT_KEPT_MAX  64 /* jobs that begin anew at once */

struct data_link { /* to another worker's data port */
    char *url;
    struct peer *peer;
    bool lost;
};

struct agent {
    struct loop *loop;
    struct net *net;
    char name[128], data_listen[256], advertise[256];
    uint32_t slots;
    uint64_t memory_bytes, memory_used; /* that is for tasks; that what runs here needs */
    const char *image_name; /* borrowed from the options; NULL: none was given */
    const char *shared;     /* likewise; "" */
    bool bare;              /* tasks run behind no wall */
    struct image image;     /* of a daemon */
    struct image_look *look; /* at it, while one is on */
    struct box *box;
    struct loop_fd box_watch;
    bool box_lost;
    uint32_t boxes_lost; /* since a task has ended */
    struct peer *scheduler;
    char scheduler_url[300]; /* what is too long for an address is refused as that */
    bool welcomed;           /* it was, once */
    bool away;               /* the scheduler is gone: */
    uint64_t away_ns;        /* since then; 0: it has welcomed us since */
    struct loop_timer rejoin;/* when what cannot go on has stopped, we try again */
    struct peer *data; /* our data port, NULL in embedded mode */
    struct loop_timer heartbeat;
    struct loop_hook reaper;
    uint64_t pings, region_ids;
    struct region_watch *regions; /* that run */
    uint32_t runs;                /* of blocks, of all attempts */
    bool runs_freed;
    struct attempt *attempts;
    uint32_t attempt_count;
    struct local *kept[AGENT_KEPT_MAX]; /* of attempts that begin anew; NULL: none */
    uint32_t kept_next;
    struct past *past;    /* of submitted jobs; NULL in embedded mode */
    struct lender lender; /* of our slots to others' attempts */
    bool others_first;    /* when a slot is free next */
    struct early_list early;
    struct data_link links[AGENT_LINKS_MAX];
    uint32_t link_count;
    void (*ready)(void *owner); /* NULL: it was called */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
    bool gone;
};

/* agent.c */
void agent_lose(struct agent *a, const struct err *why); /* nothing more can be run here: told once */
struct attempt *agent_attempt(struct agent *a, uint64_t job, uint32_t number); /* NULL: it is not here */

/* agent_data.c: over the data port, and over links to others' */
extern const struct peer_events agent_data_events;

/* agent_box.c */
extern const struct box_events agent_box_events;
void agent_box_ready(struct loop_fd *w, int events);
