/* The scheduler's decisions, pure: (state, event, now) -> actions.  It sees no clock, socket,
 * random number or file: daemon.c brings events in and carries actions out, and the simulator in
 * tests/sim does the same with a made-up world.  So a failure is a seed.
 *
 * Events are messages from links (numbers that daemon.c hands out), links that ended, and the
 * passing of time.  Actions are messages to links, and links to drop.  Times are nanoseconds of any
 * monotonic clock. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"
#include "proto/msg.h"

#define CORE_PEERS_MAX                  10000
#define CORE_CLIENTS_PER_KEY_MAX        2500 /* of one key, keepers apart */
#define CORE_WORKER_WAIT_S              10
#define CORE_JOBS_MAX                   10000 /* accepted and not yet over */
#define CORE_JOBS_PER_KEY_MAX           2500  /* of these, of one key; a job at a keeper counts for the key that brought it */
#define CORE_JOBS_QUEUED_PER_CLIENT_MAX 1000
#define CORE_SLOTS_MAX                  4096              /* of a worker: more count as this */
#define CORE_GRAPH_BYTES_MAX            ((size_t)1 << 30) /* encoded graphs of all jobs that are not over */
#define CORE_GRAPH_BYTES_PER_CLIENT_MAX ((size_t)256 << 20)

struct core;

struct core_action {
    enum { CORE_SEND, CORE_DROP } kind;
    uint64_t link;  /* DROP: for the core this link has ended; core_lost may follow */
    struct msg msg; /* SEND; borrowed until the next call into the core */
    struct slice bulk; /* also borrowed until then */
};

struct core_options {
    uint64_t seed;   /* for job tokens: daemon.c gives true randomness, the simulator its seed */
    const char *url; /* where it listens, for messages; NULL: not said */
    struct slice owner; /* the scheduler's own public key: a client that has it may drain workers; empty: nobody may */
    uint32_t worker_wait_s; /* how long a job waits for a worker, and a client for a keeper; 0: CORE_WORKER_WAIT_S */
    uint64_t jobs;   /* the first job gets the next number: no two jobs of a cluster may have the same */
};

struct core *core_new(const struct core_options *o, struct err *e);
void core_free(struct core *c);

/* role: the role of the link's key.  `key`: the link's CURVE public key; empty on inproc. */
void core_message(struct core *c, uint64_t now_ns, uint64_t link, enum msg_role role,
                  struct slice key, const struct msg *m, struct slice bulk);
void core_lost(struct core *c, uint64_t now_ns, uint64_t link);
void core_tick(struct core *c, uint64_t now_ns);
/* The list of keys has changed: refuse peers whose key is not on it any more. */
void core_check_keys(struct core *c, uint64_t now_ns, bool (*allowed)(void *owner, enum msg_role role, struct slice key),
                     void *owner);
/* When core_tick wants to be called next; UINT64_MAX: no need. */
uint64_t core_next_tick(const struct core *c);

/* Take the next action; false: none left.  Take them all after each event. */
bool core_next_action(struct core *c, struct core_action *out);

/* There was no memory for an action, so some peer would never learn the truth: the scheduler has to end. */
bool core_broken(const struct core *c);

struct core_stats {
    uint64_t events, jobs_done, workers, clients;
    uint64_t running; /* jobs that were accepted and are not over, waiting ones included */
    uint64_t waiting; /* of those, the ones without a worker yet */
    uint64_t refused; /* messages that came at a wrong moment, twice, or about what is not the sender's */
};
struct core_stats core_stats(const struct core *c);
