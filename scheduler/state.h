/* The core's state, and the functions of its files; for these files (and tests) only.
 *
 *   core.c      events in: peers, their leases, who may say what
 *   action.c    actions out
 *   submit.c    a SUBMIT becomes a job, or is refused with a reason
 *   job.c       a job's life: states x events
 *   remains.c   jobs that go on when the scheduler was started again
 *   again.c     what of a job must run again when a worker was lost
 *   verdict.c   what its stages' ends add up to
 *   status.c    what clients ask about
 *   held.c      submitted jobs, which keepers hold
 *   drain.c     workers that are to leave
 *   alike.c     which workers a job may have
 *   quota.c     how many places one key may have
 *   wait.c      jobs that wait for a slot, fairly
 *   fleet.c     workers by free slots
 *   memory.c    the memory of workers, and what jobs need of it
 *   lend.c      slots of one worker for a part on another
 *   place.c     which worker gets which stages
 *   route.c     how the bytes then travel
 *   plan.c      what would run
 */
#pragma once
#include "scheduler/core.h"
#include "base/list.h"
#include "scheduler/table.h"

#define SECOND_NS        ((uint64_t)1000000000)
#define LEASE_NS         ((uint64_t)MSG_LEASE_MS * 1000000)
#define KEEPER_SILENT_NS (60 * SECOND_NS) /* a keeper that is silent for so long is gone */
#define CLAIM_NS         (3 * SECOND_NS)  /* how long a job waits for the parts that workers still run of it, from an earlier scheduler */
#define PATIENCE_NS      (60 * SECOND_NS) /* how long jobs that need less memory may start before one that needs more */
#define REMNANT_NS       (5 * SECOND_NS)  /* how long such a part waits for its job */
#define HOLDER_NS        (10 * SECOND_NS) /* how long a submitted job that begins again waits for the worker that has results of it */
#define STOP_NS          (60 * SECOND_NS) /* how long a worker may take to end what it was told to stop */
#define LOOK_NS          (SECOND_NS / 2)  /* how often a tick is wanted while any peer is there */
#define LATE_NS          (SECOND_NS / 10) /* a tick that is so late means that we ourselves were not running */

#define PART_LOANS_MAX    256 /* lenders of one part, at once */
#define LOAN_FAILURES_MAX 3   /* after so many lenders that could not reach a part's worker no more are tried */

#define JOB_TEXT_MAX 200
#define HELD_MAX     20000 /* submitted jobs of one keeper */
#define HOLDS_MAX    1000  /* submitted jobs of which one worker has results */
#define ASKED_MAX    2000  /* questions that one keeper has not answered */
#define KILLS_MAX   3 /* a stage with which so many workers were lost is not tried again */
#define UNHEARD_MAX 256 /* how many attempts an earlier scheduler may have begun of which we do not know: a worker that claims more is lying */
#define SHUNNED_MAX 16 /* workers at which a job failed: the last ones are remembered */

/* How many clients and jobs one key has; exists while there are any. */
struct quota {
    uint64_t name;
    uint32_t clients, jobs;
};

/* A process with two roles, client and worker: their HELLOs name the same instance.  Since they live and die together
 * neither has a lease, and the client's jobs run on the worker. */
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
    struct home *home; /* NULL: its HELLO had no instance */
    struct quota *quota; /* for a client with a key; else NULL */
    uint8_t key[MSG_KEY_BYTES];
    bool has_key;

    /* A worker. */
    char name[128], data_url[257];
    uint8_t data_key[MSG_KEY_BYTES];
    bool has_data_key;
    uint32_t slots, used;
    uint64_t memory_bytes, memory_used; /* memory_bytes: what it gives to tasks, 0: no bound; memory_used: what its parts and loans need */
    bool draining;     /* it gets no new work, and ends when it has none left */
    bool settled;      /* it has said PING, and before that it has named all that it still runs of an earlier scheduler's jobs */
    size_t rank;       /* its index in fleet.heap */
    struct list parts; /* the parts of jobs that it runs */
    struct list loans; /* the loans of its slots to others */
    struct list remnants; /* parts of jobs that an earlier scheduler gave it */
    uint32_t untold;      /* how many more of these it has that it has not named yet: each holds a slot */
    char image[129], domain[129];
    uint64_t *holds;      /* owned: the submitted jobs of which it has results */
    uint32_t holds_count;

    /* A client. */
    struct list jobs;      /* its jobs that are not over */
    struct list waiting;   /* its jobs in JOB_QUEUED, in order of their rounds */
    uint64_t round;        /* the round of the job that was started last */
    struct list turn;      /* in core.turns, while it has jobs that wait */
    struct table requests; /* request -> job */
    uint32_t queued;
    size_t graph_bytes;

    struct list bringing; /* in core.bringing, while it wants to submit a job and waits for a keeper, or asks about a job whose keeper may come: */
    uint64_t bring_request, bring_ns, bring_job;
    uint32_t bring_what;

    char *shared; /* owned: directories of a worker or keeper that have the same files as at clients; NULL: none */

    /* A keeper: in all other things it is a client. */
    bool keeps;
    struct list held; /* the jobs that it holds, as it says */
    struct list asked; /* questions that it has not answered */
    uint32_t held_count, asked_count;
};

/* A question that was passed on to a keeper, and the peer that asked it. */
struct asked {
    struct list at; /* in keeper->asked, oldest first */
    uint64_t link, request, job;
    uint32_t what;
};

/* A submitted job, as described by its keeper. */
struct held {
    uint64_t number;
    struct peer_state *keeper;
    struct list at, of_keeper; /* in core.helds, in keeper->held */
    uint8_t key[MSG_KEY_BYTES]; /* whose it is */
    bool has_key;
    char state[JOB_TEXT_MAX], text[JOB_TEXT_MAX];
    uint64_t since_ns; /* when it was submitted */
    uint64_t shown;    /* in the answer to this event, so that it is shown once */
};

/* A job's life; job.c has the table. */
enum job_state {
    JOB_QUEUED,   /* it waits for a free slot */
    JOB_CLAIMED,  /* it waits for workers to name the parts that they still run of it, from an earlier scheduler */
    JOB_SENT,     /* RUN was sent to its workers */
    JOB_RUNNING,  /* one of its workers has said STARTED */
    JOB_AGAIN,    /* STOP was sent for parts that must run again; the others go on */
    JOB_STOPPING, /* it failed or was cancelled: STOP was sent for all parts that are left */
    JOB_OVER,     /* RESULT was sent; freed at the end of the event */
    JOB_STATES
};

enum job_event {
    JOB_PLACED,    /* RUN was sent; or all of it already runs */
    JOB_STARTED,   /* a worker began */
    JOB_TASK,      /* a stage ended */
    JOB_MOVED,     /* bytes moved: PROGRESS */
    JOB_LOST,      /* a part was lost by no fault of the job: it and others were marked to run again */
    JOB_UNPLACED,  /* nothing of it runs, and there are no slots to run it */
    JOB_FAILED,    /* for the reason in job.why: a limit, a part that was tried too often, no worker */
    JOB_CANCELLED, /* cancelled by its client */
    JOB_ORPHANED,  /* its client is gone */
    JOB_STOPPED,   /* nothing of it is left anywhere */
    JOB_OVERDUE,   /* STOP was sent STOP_NS ago */
    JOB_EVENTS
};

/* A part of a job that an earlier scheduler gave to a worker, and that the worker still has. */
struct remnant {
    struct list at, of_worker; /* at: in core.remnants or core.leaving; of_worker: in worker->remnants */
    struct peer_state *worker;
    uint64_t job;
    uint32_t attempt, node_count;
    uint32_t *node; /* owned: the nodes that run there */
    uint8_t token[MSG_TOKEN_BYTES];
    uint64_t since_ns; /* when it came into the list of `at` */
    bool told;         /* STOP was sent */
};

/* A part of a job: the stages that one worker runs. */
struct part {
    struct job *job;
    struct peer_state *worker; /* NULL: it has STOPPED, or the worker was lost */
    struct list at;            /* in worker->parts */
    uint32_t slots;
    uint64_t memory_bytes; /* what it takes of its worker's memory */
    uint64_t run_bytes;    /* what one run of its largest stage in blocks needs */
    uint32_t wants, lent; /* slots of other workers: wants: how many it asked for; lent: how many it has and were not recalled */
    struct list wanting;  /* in core.wanting while it wants more */
    struct list loans;
    uint32_t loan_count, loans_failed;
    uint32_t attempt; /* the job's attempt number when it was placed */
    bool again;       /* it must STOP, and its stages must run again */
    bool told;        /* STOP was sent for that */
    bool blamed;      /* it runs again because of its own failure, not because parts that it reads from or writes to do */
    bool fell;        /* its worker was lost in this event */
    bool late;        /* it should have stopped long ago */
};

/* Slots of `lender` that a part on another worker uses, from LEND until RETURNED. */
struct loan {
    uint32_t number, attempt, slots;
    uint64_t job, memory_bytes;
    struct part *owner; /* NULL: the part is over */
    struct peer_state *lender;
    struct list of_part, at; /* in owner->loans, in lender->loans */
    struct list lent;        /* in core.lent, until it is recalled */
    struct list timed;       /* in core.returning, once its slots were recalled at once */
    uint64_t since_ns;       /* when that was */
    bool recalled;
};

#define AT_CLIENT UINT32_MAX
#define NOWHERE   (UINT32_MAX - 1)
struct job_node {
    uint32_t part; /* the part that runs it; AT_CLIENT; or NOWHERE: it has to be placed */
    uint32_t end, status;
    uint32_t tries, kills; /* tries: how often its part was lost; kills: how often together with its worker */
    uint64_t memory_bytes, run_bytes; /* for the node that leads a stage: what the stage needs; and what one run needs, if it is in blocks */
    bool ended, early_stop;
    /* For the node that leads a stage in blocks with which workers were lost: the block that began last, from 1, and the
     * one that had begun when a worker was lost before. */
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
    uint64_t was;  /* its number under an earlier scheduler; 0: none */
    uint64_t held; /* for a submitted job: the number by which it is known */
    bool again;    /* for a submitted job: it may have run before, on a worker that has results of it */
    enum job_state state;
    struct peer_state *client; /* NULL: gone */
    struct quota *quota;       /* of the key that brought it; NULL: there are no keys */
    struct list at;            /* in core.jobs, or core.over */
    struct list of_client;     /* in client->jobs */
    struct list wait;          /* in client->waiting */
    uint64_t round;            /* for a keeper's job: each job of one key is in another round, so that keys take turns */
    struct list timed;         /* in core.queued, core.claims or core.stopping, earliest first */
    uint64_t since_ns;         /* when it came into the list of `timed` */
    struct graph *graph;       /* owned */
    struct shared_bytes *bytes;
    struct msg_port *port; /* owned */
    uint32_t port_count;
    struct job_node *node; /* owned, one per node of the graph */
    struct part *part;     /* owned: when it is placed, with room for one part per stage */
    uint32_t part_count, parts_left;
    uint32_t again_left; /* how many parts must STOP before it goes on */
    uint32_t attempt;    /* the number of the parts that were placed last */
    uint32_t earlier;    /* attempts up to this number were begun by an earlier scheduler; 0: none */
    uint64_t memory_bytes; /* what its stages need together; 0: it declares nothing */
    const char *wish;              /* in the graph: the image that it wants; "": any */
    char image[129], domain[129];  /* when `bound`: those of all its workers */
    bool bound;
    bool begun; /* some worker has said that it runs a part */
    bool choosy; /* while it waits: whether there was a worker that it may not have when it began to wait */
    uint64_t shunned[SHUNNED_MAX]; /* links of workers that it is not given again */
    uint32_t shunned_count;
    uint8_t token[MSG_TOKEN_BYTES];
    char text[JOB_TEXT_MAX]; /* as typed, cut off */
    uint64_t submitted_ns;
    bool spread;
    bool local;  /* it runs in its client's process */
    bool failed; /* it failed, and RESULT will say this: */
    uint32_t status;
    struct err why; /* why it failed; if it did not, why it runs again */
    uint32_t bad;   /* 1 + the MAP or REDUCE with one of whose tasks KILLS_MAX workers were lost: the task is not run again; 0: none */
    uint64_t bad_number;
    struct err bad_why;
    uint32_t limit_node; /* the first stage, in the graph's order, that reached a limit and said which; GRAPH_NONE: none */
    struct err limit;
};

struct action {
    struct action *next;
    struct core_action out;
    struct arena arena;        /* what the message borrows */
    struct shared_bytes *bulk; /* NULL: none */
};

struct core {
    uint64_t worker_wait_ns; /* how long a job waits for a worker that may run it, or a client for a keeper */
    char url[257];
    uint64_t random, job_numbers;
    uint8_t owner[MSG_KEY_BYTES];
    bool has_owner;
    uint32_t draining; /* how many workers are draining */
    uint64_t began_ns, event_ns; /* the times of the first and of the last event */
    uint64_t anybody_ns;         /* when anybody was heard last: if that is long ago, our own host may be cut off */
    uint64_t joined_ns;          /* when somebody was heard again after such a time; 0: there was none */
    struct table peers, homes, quotas, jobs_by_number;
    struct list workers, clients; /* peers by role, the longest silent first */
    struct table held;            /* struct held */
    struct list helds;
    struct list bringing; /* clients that wait for a keeper, the longest waiting first */
    uint64_t keeper_lost_ns; /* when one was lost last; 0: none was */
    struct list jobs;             /* all jobs that are not over */
    struct list over;             /* freed at the end of the event */
    struct list turns;            /* clients with jobs that wait, in the order of their turns */
    struct list queued, stopping, claims; /* jobs in these states, the earliest first */
    struct list remnants, leaving; /* remnants, the oldest first: those that wait for their job; those that were told to stop */
    uint64_t first_number; /* numbers that an earlier scheduler gave out are not greater */
    struct list wanting;          /* parts that could use slots of other workers */
    struct list lent, returning;  /* loans, oldest first */
    struct table loans;
    uint32_t loan_numbers, wanting_count;
    uint64_t coming; /* how many recalled slots have not come back */
    bool lend_again; /* something has changed that matters to lend.c */
    uint32_t job_count;
    uint32_t shunners; /* how many queued jobs may not have every worker */
    uint32_t needy;    /* how many queued jobs need memory */
    uint32_t repeated; /* how many queued jobs may have been run before */
    size_t graph_bytes;
    struct {
        struct peer_state **heap; /* workers that others can reach, as a heap: most free slots first */
        uint32_t count, room;
        uint64_t empty_ns; /* since when there has been no worker */
        size_t sharing; /* how many of them share directories with clients */
    } fleet;
    uint32_t homes_at_work; /* how many homes have a worker */
    bool slots_freed;       /* slots were freed, or something else happened that may let a job start */
    bool broken;            /* see core_broken */
    struct action *first, *last, *taken, *spare;
    uint32_t spares;
    struct core_stats stats;
};

/* core.c */
uint64_t core_random(struct core *c);
/* A peer sent something that it should not send, or not now: it is counted, and changes nothing. */
void core_refuse_message(struct core *c);
/* The peer has left: what it ran is lost, and its link is not listened to any more. */
void core_forget(struct core *c, uint64_t now, struct peer_state *p, const char *why);
/* Send REFUSE, drop the link, forget the peer. */
void core_evict(struct core *c, uint64_t now, struct peer_state *p, const char *why);

/* action.c.  Queue a message to a link, copying what it borrows; or drop a link. */
void core_send(struct core *c, uint64_t link, const struct msg *m);
void core_drop(struct core *c, uint64_t link);
/* For long messages: get an action, fill in out.msg with data in the action's arena, check it, then queue the action or
 * forget it.  NULL and e: no memory. */
struct action *action_new(struct core *c, uint64_t link, struct err *e);
int action_check(const struct msg *m, struct err *e); /* ERR_LIMIT: the message is too large for a frame */
void action_queue(struct core *c, struct action *a);
void action_forget(struct core *c, struct action *a);
struct shared_bytes *bytes_new(struct slice s);
struct shared_bytes *bytes_share(struct shared_bytes *b);
void bytes_drop(struct shared_bytes *b);
void actions_free(struct core *c);

/* submit.c */
void job_submit(struct core *c, uint64_t now, struct peer_state *client, const struct msg_submit *m,
                struct slice graph);

/* job.c.  job_step applies the table of states; false: the event cannot happen in this state, and nothing was done. */
bool job_step(struct core *c, uint64_t now, struct job *j, enum job_event event,
              const struct msg *m);
/* Note the reason, if it is the first one, and let JOB_FAILED happen. */
void job_fail(struct core *c, uint64_t now, struct job *j, uint32_t status, const struct err *why);
void job_cancel(struct core *c, uint64_t now, struct peer_state *client,
                const struct msg_cancel *m);
void job_worker_message(struct core *c, uint64_t now, struct peer_state *worker,
                        const struct msg *m);
/* Call after an event that changed the job: looks whether it is over, or can go on. */
void job_settle(struct core *c, uint64_t now, struct job *j);
void jobs_lose_client(struct core *c, uint64_t now, struct peer_state *client);
void jobs_lose_worker(struct core *c, uint64_t now, struct peer_state *worker, const char *why);
void jobs_overdue(struct core *c, uint64_t now);
void jobs_sweep(struct core *c); /* free the jobs that are over */
void job_free(struct job *j);

bool job_has_part(const struct core *c, const struct peer_state *worker, uint64_t job, uint32_t attempt);
/* A peer that reads from this part, or runs it too, names this attempt of it.  true: both attempts were begun by an earlier
 * scheduler, so the part must run again. */
bool part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt);

/* remains.c */
/* So many of the parts that the worker announced have been named, or will not be named any more. */
void remains_told(struct core *c, struct peer_state *worker, uint32_t parts);
void remains_hear(struct core *c, uint64_t now, struct peer_state *worker, const struct msg_remains *m);
/* A SUBMIT of a job that was there before: it goes on at once, or waits (JOB_CLAIMED).  false: it is a job like any other. */
bool remains_claim(struct core *c, uint64_t now, struct job *j, const struct msg_submit *m);
/* The job does not go on from what remains of it. */
void remains_give_up(struct core *c, uint64_t now, struct job *j);
/* STOPPED came: true if it was about a remnant. */
bool remains_stopped(struct core *c, struct peer_state *worker, uint64_t job, uint32_t attempt);
/* Does the worker run remnants whose job is not known yet?  How much memory those need is not known, either. */
bool remains_any(const struct peer_state *worker);
void remains_lose_worker(struct peer_state *worker);
void remains_expire(struct core *c, uint64_t now);
uint64_t remains_deadline(const struct core *c);

/* status.c */
void status_answer(struct core *c, uint64_t now, struct peer_state *client, const struct msg_ask *m);
void status_answer_now(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m); /* without waiting */

/* held.c */
void held_tell(struct core *c, uint64_t now, struct peer_state *keeper, const struct msg_held *m);
void held_visited(struct core *c, struct peer_state *keeper, const struct msg_visited *m);
/* Ask the keeper of a submitted job (KEEP, TAKE, LOGS, CANCEL); its answer comes later.  -1: the answer is e. */
int held_ask(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m, struct err *e);
void held_keeper_came(struct core *c);
/* It asks about a submitted job that nobody has told of yet, though its keeper may only be on its way here.  true: it waits, and is
 * answered by status_answer_now. */
bool held_wait(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m);
void held_expire(struct core *c, uint64_t now);
uint64_t held_deadline(const struct core *c);
void held_lose_keeper(struct core *c, struct peer_state *keeper);
void held_forget_asked(struct peer_state *keeper); /* drop the questions that it has not answered, without telling the askers */
void held_remove(struct core *c, struct held *h);
struct held *held_of(const struct core *c, uint64_t number); /* NULL: no keeper has it */
bool held_is_theirs(const struct held *h, const struct peer_state *p);

/* quota.c */
struct quota *quota_get(struct core *c, const uint8_t *key); /* NULL: no memory */
void quota_settle(struct core *c, struct quota *q);          /* free it if the key has nothing left */
/* Find the key's quota.  ERR_LIMIT: it has no place left.  The caller counts up *out, or settles it. */
int quota_of_job(struct core *c, const struct peer_state *client, uint64_t held, struct quota **out, struct err *e);
int quota_of_client(struct core *c, struct peer_state *p, struct err *e);

/* drain.c */
int drain_ask(struct core *c, const struct peer_state *p, const struct msg_ask *m, struct err *e);
void drain_step(struct core *c, uint64_t now); /* tell draining workers that have nothing left to end */

/* again.c */
/* The part failed through no fault of its programs: it runs again elsewhere, or the job fails.  killed: its worker was
 * lost; otherwise the worker is there, but is not given the part again. */
void part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why);
/* BEGINS: note the block, in case the worker is lost with it.  false: the message makes no sense. */
bool part_begins(const struct part *p, const struct msg_begins *m);
/* The largest number of workers that were lost with one stage of the part. */
uint32_t part_deaths(const struct job *j, uint32_t part);
/* Is the part over without having been told that a part which writes to it began again?  Then it runs again, too, without
 * blame. */
bool part_missed(const struct part *p, uint32_t heard);
void part_repeat(struct core *c, uint64_t now, struct part *p);
/* All that had to stop has: place it again. */
void job_resume(struct core *c, uint64_t now, struct job *j);
bool job_shuns(const struct job *j, const struct peer_state *worker);
/* A stream with one end at this peer broke. */
void job_lost_stream(struct core *c, uint64_t now, struct peer_state *p, const struct msg_lost *m);

/* alike.c */
bool workers_alike(const struct peer_state *a, const struct peer_state *b); /* may both run parts of one job? */
/* The image that the job names, borrowed from the graph; "": none.  -1: it names two. */
int job_wish(const struct graph *g, const char **wish, struct err *e);
void job_bind(struct job *j, const struct peer_state *worker); /* from now on the job may only have workers like this one */
bool job_may_have(const struct job *j, const struct peer_state *worker);
bool job_is_choosy(const struct job *j); /* are there workers that it may not have? */
/* Say why there is no worker for the job. */
void job_say_nobody(const struct core *c, const struct job *j, struct err *e);

/* verdict.c */
/* The status of a job that has not failed so far; or it has failed for a limit, and j->failed and why are set. */
uint32_t verdict(struct job *j);

/* wait.c */
void wait_add(struct core *c, uint64_t now, struct job *j);
void wait_add_first(struct core *c, uint64_t now, struct job *j); /* before other jobs of its client */
void wait_remove(struct core *c, struct job *j);
/* Has the job waited for long for memory that some worker could have?  Then other jobs that need memory are not started
 * before it any more. */
bool wait_for_memory(const struct core *c, const struct job *j);
void wait_start(struct core *c, uint64_t now); /* start jobs that wait and now can start */
void wait_expire(struct core *c, uint64_t now);
uint64_t wait_deadline(const struct core *c);
/* Has nobody been heard for longer than a lease? */
bool wait_is_alone(const struct core *c);

/* fleet.c */
int fleet_join(struct core *c, struct peer_state *worker, struct err *e);
void fleet_leave(struct core *c, uint64_t now, struct peer_state *worker);
void fleet_take(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void fleet_release(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void fleet_drain(struct core *c, struct peer_state *worker); /* none of its slots counts as free any more */
/* The worker has results of a submitted job, or has none of it any more. */
void fleet_holds(struct core *c, struct peer_state *w, const struct msg_holds *m);
/* The worker for a job, among those with a free slot and enough memory: the one with results of the job; else with most of
 * its input in place; else with most free slots.  NULL: none has a free slot, or the job waits for the worker with its
 * results. */
struct peer_state *fleet_most_free(const struct core *c, const struct job *j);
bool fleet_serves(const struct core *c, const struct job *j); /* is there a worker that the job may have? */
uint32_t fleet_free_slots(const struct peer_state *worker);
bool fleet_has_free(const struct core *c); /* has any worker a free slot? */
/* Another worker like `owner`, with a free slot and memory for a run; NULL: none. */
struct peer_state *fleet_lender(const struct core *c, const struct peer_state *owner, uint64_t run_bytes);
/* The workers with a free slot and memory for the whole job, in a fixed order, at most max; gives. */
struct peer_state **fleet_list(const struct core *c, const struct job *j, size_t max, size_t *count);

/* memory.c */
int memory_measure(struct job *j, struct err *e); /* computes what its stages need */
/* What the part's stages need, and in *run_bytes what a run needs that is lent. */
uint64_t memory_of_part(const struct job *j, uint32_t part, uint64_t *run_bytes);
bool memory_fits(const struct job *j, const struct peer_state *worker); /* is there room for what is to be placed, beside what runs there? */
bool memory_could_fit(const struct job *j, const struct peer_state *worker); /* would there be room for all of it if nothing else ran there? */
uint32_t memory_runs(const struct peer_state *worker, uint64_t run_bytes, uint32_t slots); /* for how many of these slots is there memory? */
/* true, with the reason: none of the workers that the job may have is large enough. */
bool memory_say_too_much(const struct core *c, const struct job *j, struct err *e);

/* lend.c */
void lend_init(struct part *p);
void lend_want(struct core *c, struct part *p, uint32_t slots);
void lend_part_over(struct core *c, struct part *p); /* its worker has stopped it, or was lost */
void lend_lose_worker(struct core *c, struct peer_state *lender);
void lend_recall_all(struct core *c, struct peer_state *lender, const char *why); /* runs that have begun may end */
/* false: the loan is not this worker's. */
bool lend_returned(struct core *c, struct peer_state *lender, const struct msg_returned *m);
void lend_overdue(struct core *c, uint64_t now);
uint64_t lend_deadline(const struct core *c);
void lend_step(struct core *c); /* recall loans, or make new ones */

/* place.c */
struct peer_state *place_local(const struct peer_state *client); /* the worker in the client's own process; NULL */
bool place_possible(const struct core *c, const struct job *j);
/* Choose workers for the stages that are NOWHERE; send RUN to them, and ROUTE to those that exchange bytes with them.  -1:
 * this job can never be run; nothing was sent. */
int job_place(struct core *c, struct job *j, struct err *e);
/* Make these remnants the job's parts.  false: they are not all of it, and nothing was done. */
bool place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count);
/* Send ROUTE once more for all its parts, in order of their attempts: what a scheduler that is gone sent may not have
 * arrived. */
int place_tell_again(struct core *c, struct job *j, struct err *e);

/* route.c */
#define ROUTES_MAX MSG_LIST_MAX
uint64_t routes_count_max(const struct graph *g);
/* The routes of one side (a part, or AT_CLIENT), in the arena: those of the streams that began with this attempt. */
int routes_make(const struct job *j, uint32_t attempt, uint32_t side, bool local, struct arena *a,
                const struct msg_route **list, uint32_t *count, struct err *e);

/* plan.c */
int plan_send(struct core *c, uint64_t link, uint64_t request, const struct graph *g,
              struct err *e);
/* Why this version cannot run the graph, as a sentence; NULL: it can. */
const char *plan_refusal(const struct graph *g);
