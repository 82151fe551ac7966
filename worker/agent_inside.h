/* Shared by agent.c, agent_data.c and agent_box.c; not for other files. */
#pragma once
#include "worker/agent.h"
#include "worker/attempt.h"
#include "worker/early.h"
#include "worker/image.h"
#include "worker/lend.h"
#include "worker/local.h"
#include "worker/past.h"

#define AGENT_KEPT_MAX  64 /* jobs that may begin again at the same time */

struct data_link { /* a link to another worker's data port */
    char *url;
    struct peer *peer;
    bool lost;
};

struct agent {
    struct loop *loop;
    struct net *net;
    char name[128], data_listen[256], advertise[256];
    uint32_t slots, cpus; /* cpus: that this process may use */
    uint64_t memory_bytes, memory_used; /* memory_bytes: for tasks; memory_used: what runs here needs of it */
    const char *image_name; /* borrowed from the options; NULL: none was given */
    const char *shared;     /* borrowed from the options; "": none */
    bool bare;              /* tasks run without a sandbox */
    struct image image;     /* for a daemon: what its programs see */
    struct image_look *look; /* a look at the image, while it takes place */
    struct box *box;
    struct loop_fd box_watch;
    bool box_lost;
    uint32_t boxes_lost; /* how many boxes were lost since a task ended */
    struct peer *scheduler;
    char scheduler_url[300]; /* a longer text is refused as an address */
    bool welcomed;           /* the scheduler has accepted us at least once */
    bool away;               /* the scheduler is gone: */
    uint64_t away_ns;        /* gone since then; 0: we were accepted again */
    struct loop_timer rejoin;/* joins a scheduler again, when attempts that cannot go on have stopped */
    struct peer *data; /* our data port, NULL in embedded mode */
    struct loop_timer heartbeat;
    struct loop_hook reaper;
    uint64_t pings, region_ids;
    struct region_watch *regions; /* the regions that run, */
    uint32_t in_lane[1 + BOX_LANES_MAX]; /* and how many of them are in each lane of the box */
    uint32_t runs;                /* runs of blocks that are under way, in all attempts */
    bool runs_freed;
    struct attempt *attempts;
    uint32_t attempt_count;
    struct local *kept[AGENT_KEPT_MAX]; /* state of attempts that begin again; NULL: none */
    uint32_t kept_next;
    struct past *past;    /* results of submitted jobs; NULL in embedded mode */
    struct lender lender; /* lends our slots to attempts on other workers */
    bool others_first;    /* the next free slot goes to a lent run */
    struct early_list early;
    struct data_link links[AGENT_LINKS_MAX];
    uint32_t link_count;
    void (*ready)(void *owner); /* NULL once it was called */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
    bool gone;
};

/* agent.c */
void agent_lose(struct agent *a, const struct err *why); /* nothing can be run here any more: tells `lost`, once */
struct attempt *agent_attempt(struct agent *a, uint64_t job, uint32_t number); /* NULL: there is none */

/* agent_data.c: messages over our data port, and over links to others' ports */
extern const struct peer_events agent_data_events;

/* agent_box.c */
extern const struct box_events agent_box_events;
void agent_box_ready(struct loop_fd *w, int events);
