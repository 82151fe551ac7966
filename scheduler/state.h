/* The core's state and the verbs of its files, for them alone (and for the tests, which look
 * inside).
 *
 *   core.c      events in: peers, their leases, who may say what
 *   action.c    actions out
 *   submit.c    a SUBMIT becomes a job, or a sentence why not
 *   job.c       a job's life: states x events
 *   remains.c   what goes on when a scheduler was started again
 *   again.c     what of it must run again when a worker was lost
 *   verdict.c   what its stages' ends add up to
 *   status.c    what clients ask about
 *   held.c      submitted jobs, which keepers hold
 *   drain.c     workers that shall leave
 *   alike.c     which workers one may have
 *   quota.c     what one key may have of all places
 *   wait.c      jobs that wait for a slot, fairly
 *   fleet.c     workers by free slots
 *   memory.c    their memory, and what jobs need of it
 *   lend.c      slots of one worker for a part on another
 *   place.c     which worker gets what
 *   route.c     how the bytes travel then
 *   plan.c      what would run
 */
#pragma once
#include "scheduler/core.h"
#include "base/list.h"
#include "scheduler/table.h"

#define SECOND_NS        ((uint64_t)1000000000)
#define LEASE_NS         ((uint64_t)MSG_LEASE_MS * 1000000)
#define KEEPER_SILENT_NS (60 * SECOND_NS) /* a keeper is gone after this */
#define CLAIM_NS         (3 * SECOND_NS)  /* a job waits so long for what an earlier scheduler's workers still run of it */
#define PATIENCE_NS      (60 * SECOND_NS) /* others that need memory may be begun before a job that needs more of it, so long */
#define REMNANT_NS       (5 * SECOND_NS)  /* and that for its job */
#define HOLDER_NS        (10 * SECOND_NS) /* a submitted job that begins anew waits so long for who has results of it */
#define STOP_NS          (60 * SECOND_NS) /* a worker may take so long to end what it was told to */
#define LOOK_NS          (SECOND_NS / 2)  /* a tick is wanted so often while anybody is there */
#define LATE_NS          (SECOND_NS / 10) /* and one this late says that we ourselves stood still */

#define PART_LOANS_MAX    256 /* lenders of one part, at once */
#define LOAN_FAILURES_MAX 3   /* lenders that could not reach a part's worker: then no more */

#define JOB_TEXT_MAX 200
#define HELD_MAX     20000 /* submitted jobs of one keeper */
#define HOLDS_MAX    1000  /* submitted jobs of which one worker has results */
#define ASKED_MAX    2000  /* questions that one keeper has not answered */
#define KILLS_MAX   3 /* a stage that took so many workers with it is not tried again */
#define UNHEARD_MAX 256 /* attempts of a job that an earlier scheduler began, and of which no worker told: more are a lie */
#define SHUNNED_MAX 16 /* workers that failed a job: of more, the last so many are remembered */

/* What there is of one key; it exists while there is any. */
struct quota {
    uint64_t name;
    uint32_t clients, jobs;
};

/* Two roles in one process: the instance of their HELLOs is the same.  They share its fate, so
 * neither has a lease to lose, and its client's jobs run on its worker. */
struct home {
    uint8_t instance[16];
    struct peer_state *worker; /* NULL: none yet */
    uint32_t peers;
};

struct peer_state {
    uint64_t link;
    enum msg_role role;
    struct list at; /* in core.workers or core.clients, longest silent first */
    uint64_t heard_ns;
    struct home *home; /* NULL: it gave no instance */
    struct quota *quota; /* of a client with a key; else NULL */
    uint8_t key[MSG_KEY_BYTES];
    bool has_key;

    /* A worker. */
    char name[128], data_url[257];
    uint8_t data_key[MSG_KEY_BYTES];
    bool has_data_key;
    uint32_t slots, used;
    uint64_t memory_bytes, memory_used; /* that it gives to tasks, 0: no bound; that its parts and loans need */
    bool draining;     /* it is given nothing more, and ends when it has nothing */
    bool settled;      /* it has said PING, so before that all that it still runs of an earlier scheduler's jobs */
    size_t rank;       /* its place in fleet.heap */
    struct list parts; /* of jobs */
    struct list loans; /* what it lends */
    struct list remnants; /* of jobs that an earlier scheduler gave it */
    uint32_t untold;      /* more of these, of which it has yet to say what they are: they hold a slot each */
    char image[129], domain[129];
    uint64_t *holds;      /* owned: submitted jobs of which it has results */
    uint32_t holds_count;

    /* A client. */
    struct list jobs;      /* all that are not over */
    struct list waiting;   /* those of them in JOB_QUEUED, in order: by round */
    uint64_t round;        /* of the one that was started last */
    struct list turn;      /* in core.turns, while some wait */
    struct table requests; /* request -> job */
    uint32_t queued;
    size_t graph_bytes;

    struct list bringing; /* in core.bringing, while it waits for a keeper: */
    uint64_t bring_request, bring_ns;

    char *shared; /* a worker's or keeper's directories with the same files as at clients: owned; NULL: none */

    /* A keeper: a client to all else. */
    bool keeps;
    struct list held; /* what it says that it holds */
    struct list asked; /* what it was asked and has not answered */
    uint32_t held_count, asked_count;
};

/* A question that was passed on to a keeper: whose. */
struct asked {
    struct list at; /* in keeper->asked, oldest first */
    uint64_t link, request;
};

/* A submitted job, as its keeper says. */
struct held {
    uint64_t number;
    struct peer_state *keeper;
    struct list at, of_keeper; /* in core.helds, in keeper->held */
    uint8_t key[MSG_KEY_BYTES]; /* whose it is */
    bool has_key;
    char state[JOB_TEXT_MAX], text[JOB_TEXT_MAX];
    uint64_t since_ns; /* when it was submitted */
    uint64_t shown;    /* in the answer to this event */
};

/* A job's life; job.c has the table. */
enum job_state {
    JOB_QUEUED,   /* it waits for a free slot */
    JOB_CLAIMED,  /* it waits for what its workers still run of it, from an earlier scheduler */
    JOB_SENT,     /* its workers were told to RUN it */
    JOB_RUNNING,  /* one of them STARTED */
    JOB_AGAIN,    /* parts that must run again were told to STOP; the others go on */
    JOB_STOPPING, /* it failed or was cancelled: STOP was sent to those that still have it */
    JOB_OVER,     /* RESULT was sent; freed at the end of the event */
    JOB_STATES
};

enum job_event {
    JOB_PLACED,    /* RUN was sent; or all of it is there */
    JOB_STARTED,   /* a worker began */
    JOB_TASK,      /* a stage ended */
    JOB_MOVED,     /* bytes moved: PROGRESS */
    JOB_LOST,      /* a part by no fault of the job's: it and others were marked to run again */
    JOB_UNPLACED,  /* nothing of it runs, and there is no slot to run it again */
    JOB_FAILED,    /* job.why says it: a limit, a part that was tried too often, no worker */
    JOB_CANCELLED, /* by its client */
    JOB_ORPHANED,  /* its client is gone */
    JOB_STOPPED,   /* nothing of it is left anywhere */
    JOB_OVERDUE,   /* it was told to stop STOP_NS ago */
    JOB_EVENTS
};

/* An attempt that an earlier scheduler gave to a worker, which still has it. */
struct remnant {
    struct list at, of_worker; /* in core.remnants, or core.leaving; in worker->remnants */
    struct peer_state *worker;
    uint64_t job;
    uint32_t attempt, node_count;
    uint32_t *node; /* owned: what of the job runs there */
    uint8_t token[MSG_TOKEN_BYTES];
    uint64_t since_ns; /* that it is in this list */
    bool told;         /* to STOP */
};

/* A worker's part of a job. */
struct part {
    struct job *job;
    struct peer_state *worker; /* NULL: STOPPED, or the worker was lost */
    struct list at;            /* in worker->parts */
    uint32_t slots;
    uint64_t memory_bytes, run_bytes; /* of its worker's memory; that one run of the largest stage in blocks needs */
    uint32_t wants, lent; /* slots of others: asked for, and given and not recalled */
    struct list wanting;  /* in core.wanting while it wants more */
    struct list loans;
    uint32_t loan_count, loans_failed;
    uint32_t attempt; /* the job's, when it was placed: newer ones have greater numbers */
    bool again;       /* it has to STOP, and what it ran shall run anew */
    bool told;        /* that it has to */
    bool blamed;      /* because of itself, not of those that read what it wrote */
    bool fell;        /* its worker was lost just now */
    bool late;        /* it should have stopped long ago */
};

/* Slots of `lender` for a part on another worker, from LEND until RETURNED. */
struct loan {
    uint32_t number, attempt, slots;
    uint64_t job, memory_bytes;
    struct part *owner; /* NULL: its part is over */
    struct peer_state *lender;
    struct list of_part, at; /* in owner->loans, in lender->loans */
    struct list lent;        /* in core.lent, until it is recalled */
    struct list timed;       /* in core.returning, when it was told to come back at once */
    uint64_t since_ns;       /* since then */
    bool recalled;
};

#define AT_CLIENT UINT32_MAX
#define NOWHERE   (UINT32_MAX - 1)
struct job_node {
    uint32_t part; /* where it runs, AT_CLIENT, or NOWHERE: it has to be placed */
    uint32_t end, status;
    uint32_t tries, kills; /* how often its part was lost; with its worker */
    uint64_t memory_bytes, run_bytes; /* of who leads a stage: what it needs; likewise, of a stage in blocks */
    bool ended, early_stop;
    /* Of who leads a stage in blocks with which workers were lost: what began there last, from 1, and what had when one was lost. */
    uint64_t begun, begun_before;
    char *begun_text; /* owned: as in BEGINS; NULL */
};

/* An encoded graph, shared by a job and the RUNs on their way. */
struct shared_bytes {
    uint32_t users;
    size_t size;
    char data[];
};

struct job {
    uint64_t number, request;
    uint64_t was;  /* number under an earlier scheduler; 0 */
    uint64_t held; /* of a submitted job: the number that it is known by */
    bool again;    /* likewise: it may have been run before, by a worker that has results of it */
    enum job_state state;
    struct peer_state *client; /* NULL: gone */
    struct quota *quota;       /* of who brought it; NULL: there are no keys */
    struct list at;            /* in core.jobs, or core.over */
    struct list of_client;     /* in client->jobs */
    struct list wait;          /* in client->waiting */
    uint64_t round;            /* a keeper's: those of one key are each of another round, so that keys take turns */
    struct list timed;         /* in core.queued, core.claims or core.stopping, earliest first */
    uint64_t since_ns;         /* when it came into that list */
    struct graph *graph;       /* owned */
    struct shared_bytes *bytes;
    struct msg_port *port; /* owned */
    uint32_t port_count;
    struct job_node *node; /* owned, one per node of the graph */
    struct part *part;     /* owned: once it is placed, room for one per stage */
    uint32_t part_count, parts_left;
    uint32_t again_left; /* parts that have to STOP before it goes on */
    uint32_t attempt;    /* of the parts that were placed last */
    uint32_t earlier;    /* attempts up to this one were begun by an earlier scheduler; 0: none */
    uint64_t memory_bytes; /* that its stages need together; 0: it declares none */
    const char *wish;              /* of the graph: the image that it wants; "": any */
    char image[129], domain[129];  /* once it is bound: those of all its workers */
    bool bound;
    bool begun; /* some worker has said that it runs something of it */
    bool choosy; /* while it waits: it was when it began to */
    uint64_t shunned[SHUNNED_MAX]; /* links of workers that it will not have again */
    uint32_t shunned_count;
    uint8_t token[MSG_TOKEN_BYTES];
    char text[JOB_TEXT_MAX]; /* as typed, cut off */
    uint64_t submitted_ns;
    bool spread;
    bool local;  /* it ran in its client's process */
    bool failed; /* with what RESULT says then: */
    uint32_t status;
    struct err why; /* or, not failed: why it runs again */
    uint32_t bad;   /* the MAP or REDUCE of which one task took KILLS_MAX workers with it: it is not run any more; from 1, 0: none */
    uint64_t bad_number;
    struct err bad_why;
    uint32_t limit_node; /* of the stages that reached a limit, the first in the graph's order that said which; GRAPH_NONE: none */
    struct err limit;
};

struct action {
    struct action *next;
    struct core_action out;
    struct arena arena;        /* what the message borrows */
    struct shared_bytes *bulk; /* NULL: none */
};

struct core {
    uint64_t worker_wait_ns; /* a job waits this long for any worker at all, or keeper */
    char url[257];
    uint64_t random, job_numbers;
    uint8_t owner[MSG_KEY_BYTES];
    bool has_owner;
    uint32_t draining; /* workers */
    uint64_t began_ns, event_ns; /* when the first event was; the last one */
    struct table peers, homes, quotas, jobs_by_number;
    struct list workers, clients; /* peers with a role, longest silent first */
    struct table held;            /* struct held */
    struct list helds;
    struct list bringing; /* clients with a job to submit, and no keeper is there: longest first */
    struct list jobs;             /* all that are not over */
    struct list over;             /* freed at the end of the event */
    struct list turns;            /* clients with jobs that wait: whose turn is next */
    struct list queued, stopping, claims; /* jobs, earliest first */
    struct list remnants, leaving; /* oldest first: they wait for their job; were told to stop */
    uint64_t first_number; /* what an earlier scheduler gave out has no greater */
    struct list wanting;          /* parts that could use slots of others */
    struct list lent, returning;  /* loans, oldest first */
    struct table loans;
    uint32_t loan_numbers, wanting_count;
    uint64_t coming; /* slots recalled that have not come back */
    bool lend_again; /* something has changed for lend.c */
    uint32_t job_count;
    uint32_t shunners; /* of those queued, the ones that may not have every worker */
    uint32_t needy;    /* and those that need memory */
    uint32_t repeated; /* and those that may have been run before */
    size_t graph_bytes;
    struct {
        struct peer_state **heap; /* workers that others can reach: most free slots first */
        uint32_t count, room;
        uint64_t empty_ns; /* since when there has been none */
        size_t sharing; /* of those with directories that they share with clients */
    } fleet;
    uint32_t homes_at_work; /* homes with a worker */
    bool slots_freed;       /* or something else that may let a job start */
    bool broken;            /* see core_broken */
    struct action *first, *last, *taken, *spare;
    uint32_t spares;
    struct core_stats stats;
};

/* core.c */
uint64_t core_random(struct core *c);
/* Something came that this peer should not say, or not now: counted, and nothing has changed. */
void core_refuse_message(struct core *c);
/* It has left: what it had is lost, and its link is not listened to. */
void core_forget(struct core *c, uint64_t now, struct peer_state *p, const char *why);
/* REFUSE, drop the link, forget the peer. */
void core_evict(struct core *c, uint64_t now, struct peer_state *p, const char *why);

/* action.c: what the message borrows is copied.  The short ones. */
void core_send(struct core *c, uint64_t link, const struct msg *m);
void core_drop(struct core *c, uint64_t link);
/* The long ones: fill in out.msg, with what it borrows from the action's arena, check it, and queue
 * the action; or forget it.  NULL and e: no memory. */
struct action *action_new(struct core *c, uint64_t link, struct err *e);
int action_check(const struct msg *m, struct err *e); /* ERR_LIMIT: no frame holds it */
void action_queue(struct core *c, struct action *a);
void action_forget(struct core *c, struct action *a);
struct shared_bytes *bytes_new(struct slice s);
struct shared_bytes *bytes_share(struct shared_bytes *b);
void bytes_drop(struct shared_bytes *b);
void actions_free(struct core *c);

/* submit.c */
void job_submit(struct core *c, uint64_t now, struct peer_state *client, const struct msg_submit *m,
                struct slice graph);

/* job.c.  job_step is the table: false if the event cannot happen in this state, and then nothing
 * did. */
bool job_step(struct core *c, uint64_t now, struct job *j, enum job_event event,
              const struct msg *m);
/* Remember why, if it is the first reason, and JOB_FAILED. */
void job_fail(struct core *c, uint64_t now, struct job *j, uint32_t status, const struct err *why);
void job_cancel(struct core *c, uint64_t now, struct peer_state *client,
                const struct msg_cancel *m);
void job_worker_message(struct core *c, uint64_t now, struct peer_state *worker,
                        const struct msg *m);
/* Once an event did something to it: is it over, or can it go on? */
void job_settle(struct core *c, uint64_t now, struct job *j);
void jobs_lose_client(struct core *c, uint64_t now, struct peer_state *client);
void jobs_lose_worker(struct core *c, uint64_t now, struct peer_state *worker, const char *why);
void jobs_overdue(struct core *c, uint64_t now);
void jobs_sweep(struct core *c); /* free those that are over */
void job_free(struct job *j);

bool job_has_part(const struct core *c, const struct peer_state *worker, uint64_t job, uint32_t attempt);
/* Somebody who reads it, or has it too, names this attempt.  true: an earlier scheduler began both, and so it runs again. */
bool part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt);

/* remains.c */
/* REMAINS */
/* So many of those that it said it has; or of which it says nothing any more. */
void remains_told(struct core *c, struct peer_state *worker, uint32_t parts);
void remains_hear(struct core *c, uint64_t now, struct peer_state *worker, const struct msg_remains *m);
/* A job that was there before: it goes on, or waits (JOB_CLAIMED).  false: it is as any other. */
bool remains_claim(struct core *c, uint64_t now, struct job *j, const struct msg_submit *m);
/* It does not go on from what remains. */
void remains_give_up(struct core *c, uint64_t now, struct job *j);
/* STOPPED: true, if it was one of these. */
bool remains_stopped(struct core *c, struct peer_state *worker, uint64_t job, uint32_t attempt);
/* Does it run what has not been found a job for, so that nobody knows how much memory it needs? */
bool remains_any(const struct peer_state *worker);
void remains_lose_worker(struct peer_state *worker);
void remains_expire(struct core *c, uint64_t now);
uint64_t remains_deadline(const struct core *c);

/* status.c */
void status_answer(struct core *c, uint64_t now, struct peer_state *client, const struct msg_ask *m);

/* held.c */
void held_tell(struct core *c, uint64_t now, struct peer_state *keeper, const struct msg_held *m);
void held_visited(struct core *c, struct peer_state *keeper, const struct msg_visited *m);
/* KEEP, TAKE, LOGS, or to CANCEL a submitted job: asks its keeper, whose answer comes later.  -1: this is the answer. */
int held_ask(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m, struct err *e);
void held_keeper_came(struct core *c);
void held_expire(struct core *c, uint64_t now);
uint64_t held_deadline(const struct core *c);
void held_lose_keeper(struct core *c, struct peer_state *keeper);
void held_forget_asked(struct peer_state *keeper); /* what it was asked; nobody is told */
void held_remove(struct core *c, struct held *h);
struct held *held_of(const struct core *c, uint64_t number); /* NULL: no keeper says so */
bool held_is_theirs(const struct held *h, const struct peer_state *p);

/* quota.c */
struct quota *quota_get(struct core *c, const uint8_t *key); /* NULL: no memory */
void quota_settle(struct core *c, struct quota *q);          /* it is gone, if nothing is left of it */
/* ERR_LIMIT: there is no place for one more.  *out is to be counted in, or settled. */
int quota_of_job(struct core *c, const struct peer_state *client, uint64_t held, struct quota **out, struct err *e);
int quota_of_client(struct core *c, struct peer_state *p, struct err *e);

/* drain.c */
int drain_ask(struct core *c, const struct peer_state *p, const struct msg_ask *m, struct err *e);
void drain_step(struct core *c, uint64_t now); /* those that have nothing left are told to end */

/* again.c */
/* The part did not do its work, and it is not the programs' fault: it runs again elsewhere, or the job fails.
 * killed: its worker was lost; else it is still there, and is not asked again. */
void part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why);
/* BEGINS: it is noted, should it take its worker with it.  false: it cannot be. */
bool part_begins(const struct part *p, const struct msg_begins *m);
/* So many workers at most were lost with a stage of it. */
uint32_t part_deaths(const struct job *j, uint32_t part);
/* Is it over without having heard of one that writes to it anew?  Then it runs again too, without blame. */
bool part_missed(const struct part *p, uint32_t heard);
void part_repeat(struct core *c, uint64_t now, struct part *p);
/* All that had to stop has: place it anew. */
void job_resume(struct core *c, uint64_t now, struct job *j);
bool job_shuns(const struct job *j, const struct peer_state *worker);
/* A stream with an end at this peer broke off. */
void job_lost_stream(struct core *c, uint64_t now, struct peer_state *p, const struct msg_lost *m);

/* alike.c */
bool workers_alike(const struct peer_state *a, const struct peer_state *b); /* may both have tasks of one job? */
/* The image that it names, of the graph; "": none.  -1: it names two. */
int job_wish(const struct graph *g, const char **wish, struct err *e);
void job_bind(struct job *j, const struct peer_state *worker); /* from now on only workers like this one */
bool job_may_have(const struct job *j, const struct peer_state *worker);
bool job_is_choosy(const struct job *j); /* are there workers that it might not have? */
/* Why there is none for it. */
void job_say_nobody(const struct core *c, const struct job *j, struct err *e);

/* verdict.c */
/* Of a job that nothing made fail: its status, or job_failed with why. */
uint32_t verdict(struct job *j);

/* wait.c */
void wait_add(struct core *c, uint64_t now, struct job *j);
void wait_add_first(struct core *c, uint64_t now, struct job *j); /* before its client's others */
void wait_remove(struct core *c, struct job *j);
/* Does it wait for memory that some worker will have, and has for long?  Then others that need some do not overtake it any more. */
bool wait_for_memory(const struct core *c, const struct job *j);
void wait_start(struct core *c, uint64_t now); /* those that wait and now can */
void wait_expire(struct core *c, uint64_t now);
uint64_t wait_deadline(const struct core *c);

/* fleet.c */
int fleet_join(struct core *c, struct peer_state *worker, struct err *e);
void fleet_leave(struct core *c, uint64_t now, struct peer_state *worker);
void fleet_take(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void fleet_release(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void fleet_drain(struct core *c, struct peer_state *worker); /* none of its slots are free any more */
/* It has results of a submitted job, or none any more. */
void fleet_holds(struct core *c, struct peer_state *w, const struct msg_holds *m);
/* Of those with a free slot and the memory for it whoever has results of it, or most of its input in place, then most free ones; NULL: no slot is free, or it waits for
 * whoever has results. */
struct peer_state *fleet_most_free(const struct core *c, const struct job *j);
bool fleet_serves(const struct core *c, const struct job *j); /* is there a worker that it may have? */
uint32_t fleet_free_slots(const struct peer_state *worker);
bool fleet_has_free(const struct core *c); /* of any worker */
/* Somebody else with a free slot, and memory for a run, who is like it; NULL: nobody. */
struct peer_state *fleet_lender(const struct core *c, const struct peer_state *owner, uint64_t run_bytes);
/* Those with a free slot and the memory for all of it, in a fixed order, max at most; gives. */
struct peer_state **fleet_list(const struct core *c, const struct job *j, size_t max, size_t *count);

/* memory.c */
int memory_measure(struct job *j, struct err *e); /* what its stages need */
/* What its stages take there, and *run_bytes what a run needs that is lent. */
uint64_t memory_of_part(const struct job *j, uint32_t part, uint64_t *run_bytes);
bool memory_fits(const struct job *j, const struct peer_state *worker); /* what of it is to be placed, beside what is there */
bool memory_could_fit(const struct job *j, const struct peer_state *worker); /* all of it, if nothing else were there */
uint32_t memory_runs(const struct peer_state *worker, uint64_t run_bytes, uint32_t slots); /* so many of these slots have memory */
/* true, and why: of those that it may have, no worker is large enough. */
bool memory_say_too_much(const struct core *c, const struct job *j, struct err *e);

/* lend.c */
void lend_init(struct part *p);
void lend_want(struct core *c, struct part *p, uint32_t slots);
void lend_part_over(struct core *c, struct part *p); /* its worker has nothing of it, or is lost */
void lend_lose_worker(struct core *c, struct peer_state *lender);
void lend_recall_all(struct core *c, struct peer_state *lender, const char *why); /* what runs may end */
/* false: it was not theirs. */
bool lend_returned(struct core *c, struct peer_state *lender, const struct msg_returned *m);
void lend_overdue(struct core *c, uint64_t now);
uint64_t lend_deadline(const struct core *c);
void lend_step(struct core *c); /* recall, or hand out */

/* place.c */
struct peer_state *place_local(const struct peer_state *client); /* its own process's worker */
bool place_possible(const struct core *c, const struct job *j);
/* Choose workers for the stages that are NOWHERE; send RUN, and ROUTE to those who meet them.  -1: this job
 * can never be run; nothing was sent. */
int job_place(struct core *c, struct job *j, struct err *e);
/* Its parts are these, where they are.  false: they are not all of it, and nothing was done. */
bool place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count);
/* ROUTE once more of all its parts, each attempt's in order: who was told by a scheduler that is gone may not have heard it. */
int place_tell_again(struct core *c, struct job *j, struct err *e);

/* route.c */
#define ROUTES_MAX MSG_LIST_MAX
uint64_t routes_count_max(const struct graph *g);
/* The routes of one part (or AT_CLIENT), in the arena: of those streams that this attempt began. */
int routes_make(const struct job *j, uint32_t attempt, uint32_t side, bool local, struct arena *a,
                const struct msg_route **list, uint32_t *count, struct err *e);

/* plan.c */
int plan_send(struct core *c, uint64_t link, uint64_t request, const struct graph *g,
              struct err *e);
/* What this version cannot run yet: NULL if it can, else a sentence. */
const char *plan_refusal(const struct graph *g);
