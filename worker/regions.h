/* The regions of this worker's box.  Each has an owner, who is told what happens to it. */
#pragma once
#include "sandbox/box.h"

struct agent;

struct region_events { /* as in sandbox/box.h; NULL where the owner does not care */
    void (*task_ended)(void *owner, uint32_t task, const struct box_result *r);
    void (*pump_ended)(void *owner, uint32_t channel, int sys, bool reading);
    void (*kept)(void *owner, uint32_t channel, const struct box_kept *k); /* takes k->fd */
    void (*moved)(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources);
    void (*bytes)(void *owner, uint32_t task, uint64_t in, uint64_t out);
    void (*ended)(void *owner); /* last call; also made when the box is lost */
};

struct region_watch {
    uint64_t id; /* 0: not running */
    const struct region_events *events;
    void *owner;
    bool brief; /* one of many regions of very short tasks, of which no more run at once than there are lanes: it runs in one */
    struct region_watch *next;
};

uint32_t agent_lanes(const struct agent *a); /* one for each CPU */
int agent_run_region(struct agent *a, struct region_watch *w, struct box_region *r, struct err *e);
/* Kill the region's tasks; `ended` still comes. */
void agent_stop_region(struct agent *a, const struct region_watch *w);
/* Has zpipe-box ended, though we may not have been told yet?  Its programs may outlive it by a moment, and what they write
 * then cannot be trusted. */
bool agent_box_gone(const struct agent *a);
