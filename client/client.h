/* The library's inside: a connection, its jobs, and a job's ends in this process.
 *
 *   client.c   zpipe_open: the loop, the net, the link to the scheduler; messages to jobs
 *   job.c      a job's life: submit, events, result, commit
 *   ports.c    which descriptor each source and sink of the graph is
 *   outputs.c  files that appear whole or not at all
 *   phases.c   statements that wait for each other
 *   record.c   a task that failed, kept to be run again alone;  replay.c  that
 *   fetch.c    those of a submitted job
 *   made.c     those that a stage left in /job, or the tasks of a map made
 *   tasks.c    what those are called
 *   serve.c    in a cluster: the streams to and from workers
 *   hints.c    what to do about a program or file that the sandbox did not have
 *   trees.c    in a cluster: directories as the files in them
 *   ask.c      zpipe_status, zpipe_cancel_number
 *   visit.c    at a keeper: where jobs are submitted to, and their output is
 *   deposit.c  zpipe_deposit
 *   attach.c   zpipe_attach, zpipe_logs
 *   keeper.c   a keeper itself: a program of its own (keeper.h)
 *   plan.c     zpipe_plan, zpipe_canonical
 *   builder.c  zpipe_graph_* */
#pragma once
#include "base/err.h"
#include "base/lines.h"
#include "base/arena.h"
#include "base/loop.h"
#include "dsl/dsl.h"
#include "proto/carry.h"
#include "proto/embedded.h"
#include "proto/graph.h"
#include "proto/made.h"
#include "zpipe.h"

#define CLIENT_JOBS_MAX  1000
#define CLIENT_DROPS     (1u << 31) /* with a submission's flags, and not sent: what the job makes is dropped */
#define CLIENT_LINKS_MAX 4096 /* to workers' data ports */
#define CLIENT_WAIT_NS   ((uint64_t)60 * 1000000000) /* a cluster's scheduler that is gone may be back by then */

struct client_link {
    char *url;
    struct peer *peer;
    bool lost;
};

/* What a keeper's connection has more: it listens for visitors, hears of them, and waits for its scheduler as long as it
 * takes. */
struct client_keeper {
    int (*ready)(void *owner, struct zpipe *z, struct err *e); /* z->net is there: listen, set data_url */
    void (*close)(void *owner); /* z goes: nothing of its net may be open; z is not there any more */
    void (*welcome)(void *owner);
    void (*visit)(void *owner, const struct msg_visit *m);
    void *owner;
    const char *data_url, *shared; /* for HELLO */
};

struct zpipe {
    struct client_keeper *keeper; /* borrowed; NULL: it is none */
    struct loop *loop;
    struct net *net;
    struct embedded *embedded; /* NULL with a cluster */
    struct peer *scheduler;
    struct loop_timer heartbeat;
    struct loop_hook reaper;
    uint64_t pings, requests;
    struct zpipe_job *jobs;
    struct question *question; /* that is waited for; see ask.c */
    struct client_link *link;
    uint32_t link_count;
    bool lost;
    struct err why; /* when lost, or away */
    char cluster[300]; /* its URL; "" when embedded */
    bool no_isolation;
    bool welcomed;
    bool away;         /* the scheduler is gone, and may come back: */
    uint64_t away_ns;  /* since then */
    struct loop_timer again; /* connects anew, from the loop */
};

/* ---- ports.c, outputs.c */

/* A file that the job makes: written to `fd`, which nobody else sees, put in place at commit. */
struct output {
    uint32_t node;   /* the sink; GRAPH_NONE: found, when its stage had ended */
    char *path;      /* the target, absolute, symlinks resolved; NULL: `fd` is the target itself */
    int fd;          /* -1 until opened */
    bool append;
    bool made_in_job;/* a file that a stage may leave in /job: only if it did */
    bool made;
    uint32_t mode;   /* of the target, if it was there; 0 */
    uint32_t chosen; /* by the program that left it in /job; 0 */
    uint32_t directories; /* of its path that were made for it, to be removed if it does not come to be */
    uint32_t phase;  /* in which it is made */
    bool replaced;   /* a later phase made the same file again */
    char *hidden;    /* its path while it has a name that is not yet its own; owned, NULL: none */
};

/* The files of one stage, as they come (proto/made.h): the job writes to `write`, the loop reads `read`. */
struct made_reader {
    uint32_t node;
    int read, write;
    struct loop_fd watch;
    struct zpipe_job *job;
    struct buf index;
    struct arena arena;
    const struct made_file *file; /* NULL: the index is not here yet */
    uint32_t count, at;
    int fd;             /* borrowed: where the bytes of file[at] go */
    uint64_t left_bytes; /* of it */
    struct record_in *record; /* what comes is one; NULL */
    uint64_t task_next;  /* of a map: the next file is of this task, to this sink, or of a later one */
    uint32_t sink_next;
};

/* A descriptor pair towards a callback: the job writes to `write`, the loop reads `read`. */
struct sink_pipe {
    int read, write;
    struct loop_fd watch;
    void (*give)(void *owner, const void *data, size_t size);
    struct zpipe_job *job;
    bool open;
};

struct port {
    uint32_t node; /* GRAPH_NONE: the stages' stderr */
    int fd;        /* borrowed from io, an output or a pipe; -1: none */
};

struct client_stream {
    struct stream_name name;
    struct carry *carry;
    const struct peer *peer; /* over which it goes; NULL: the link is gone */
    size_t live;     /* which of its descriptors is stdin itself, of which a copy is kept */
    struct lines *lines; /* STDERR: what carry writes to, whole lines to: */
    int lines_to;        /* a descriptor of its own for the port, which may be released before all has come; owned */
    bool in;         /* towards us: the job is not over before it ended */
    bool ended, reap;
};

/* What was read of stdin, so that it can be sent again: a file can be read again itself, of all else a copy is
 * kept.  See serve.c. */
struct stdin_copy {
    bool begun, file;
    uint32_t node; /* the source that reads it */
    off_t from;    /* file: where it stood */
    int copy;      /* owned; -1: there is none, and why */
    bool ended;    /* all of it is in the copy */
    struct err why;
};

struct zpipe_job {
    struct zpipe *z;
    uint64_t held; /* at a keeper: its number, and no file of it is outside of `directory`; else 0 */
    struct zpipe_job *next;
    struct graph *whole; /* owned */
    struct graph *graph; /* of the phase that runs: the whole one where there is only one, else owned */
    uint32_t phase, phases;
    uint32_t flags;
    char text[4096]; /* what the scheduler is told, for status and logs */
    char *directory;     /* owned, absolute */
    struct zpipe_io io;
    uint64_t request, number; /* number: the last that a scheduler gave it; 0 */
    bool accepted;            /* by the scheduler there is now */
    uint8_t token[MSG_TOKEN_BYTES]; /* of its streams, */
    bool has_token;                 /* once there are some */
    int in_fd, out_fd, err_fd; /* borrowed, or the ends of our pipes */
    struct port *port;
    uint32_t port_count;
    struct output *output;
    uint32_t output_count, output_room;
    struct made_reader *made;
    uint32_t made_count;
    struct graph_end *end; /* owned, per node */
    bool *said;            /* owned, per node: what there was to say of its end */
    bool network_told;     /* that there is none in a sandbox */
    uint32_t *told;        /* owned, per node: the attempt of which we heard its end, under this number; 0 */
    struct check {
        uint32_t node;
        int fd; /* owned: what a named pipeline printed; -1: an output's bytes are its own */
    } * check; /* owned, one per graph->expect */
    struct passed {
        uint32_t node;
        int fd; /* owned: what goes from one phase to a later one */
    } * passed; /* owned, passed_count of them */
    uint32_t passed_count;
    struct sink_pipe out, err;
    int feed_read, feed_write; /* -1 */
    struct client_stream *stream;
    uint32_t stream_count, stream_room;
    struct stdin_copy kept;
    struct err stream_why; /* the first stream that failed */
    char again_why[512];   /* why streams began anew, the last time; "" */
    bool cancelled;
    bool result_here; /* RESULT arrived: status, commit and why are set */
    bool over;
    int status;
    uint64_t began_ns, cpu_user_us, cpu_sys_us; /* for `time` */
    bool commit;
    bool ended; /* by itself: what is for us still comes, also when it failed */
    bool plan_only, plan_json;
    bool no_outputs; /* it may make no file */
    bool drops;      /* what it makes is dropped */
    char *records;   /* owned: the directory for tasks that fail; NULL: they are not kept */
    struct buf recorded; /* what is said of them when the job ends */
    bool failed_recorded, asked_recorded;
    char *plan; /* owned: the answer to plan_only */
    struct err why; /* code ERR_NONE when zpipe itself has nothing to say */
};

int ports_open(struct zpipe_job *j, struct err *e);
int ports_begin(struct zpipe_job *j, struct err *e); /* for the phase that begins */
int port_of(const struct zpipe_job *j, uint32_t node);
int ports_passed(const struct zpipe_job *j, uint32_t node); /* what it keeps for a later phase; -1 */
/* The job has no more use for its ends: our copies are closed, so that readers see the end. */
void ports_release(struct zpipe_job *j);
bool ports_drained(const struct zpipe_job *j);
void ports_close(struct zpipe_job *j);

/* One more output for `path`, opened.  Borrowed, until the next one. */
struct output *output_add(struct zpipe_job *j, uint32_t node, const char *path, struct err *e);
/* The output that is, so far, for this path; or NULL. */
struct output *output_at(struct zpipe_job *j, const char *path);
/* Give it a hidden name. */
int output_publish(struct output *o, struct err *e);
/* `check NAME sha256 HEX`: all of them. */
int outputs_check(struct zpipe_job *j, struct err *e);
/* All outputs in place, or none. */
int outputs_commit(struct zpipe_job *j, struct err *e);
void outputs_close(struct zpipe_job *j);

/* ---- phases.c */
uint32_t phases_count(const struct graph *g);
bool phases_wanted(const struct graph *g); /* must the first begin as one? */
int phases_begin(struct zpipe_job *j, uint32_t phase, struct err *e);

/* ---- tasks.c */
/* What a task's file is called that goes to this sink of a map's body; gives. */
char *tasks_output_name(const struct graph *g, uint32_t map, uint32_t sink, uint64_t task, struct err *e);
int tasks_check_outputs(struct zpipe_job *j, uint32_t sink, struct err *e); /* could they all be written? */

/* ---- record.c */
struct record_in {   /* one that comes */
    char *path;      /* owned: where it is until it is whole */
    int fd;          /* of the file that comes; -1 */
    uint32_t inputs; /* in.N, so far */
    uint64_t bytes;
    bool task;       /* that file has come */
    bool broken;     /* it is not to be kept */
};
struct record_in *record_begin(const char *records); /* gives; NULL: no memory */
int record_add(struct record_in *r, const char *name, uint64_t size, struct err *e); /* one more file: r->fd, or it is broken */
/* It is there from now on, in `records`, as JOB-STAGE-BLOCK; gives its path.  -1: it is not. */
int record_end(struct record_in *r, const char *records, const char *name, char **path);
void record_free(struct record_in *r); /* with what was not ended */
#define CLIENT_RECORDS_MAX 16 /* in a directory: the oldest goes */
#define CLIENT_TOLD_MAX    MSG_TEXT_MAX /* of what is said of them */
_Static_assert(CLIENT_RECORDS_MAX >= GRAPH_RECORDED_MAX, "what was asked for stays");
_Static_assert(ZPIPE_RECORDED_MAX == GRAPH_RECORDED_MAX, "what may be asked for is taken");
/* One more file of a record: m->fd is where its bytes go.  What cannot be kept is dropped: the job does not depend on it. */
int record_file(struct made_reader *m, const struct made_file *f, struct err *e);
void record_broke(struct made_reader *m); /* bytes of it could not be written */
void record_whole(struct made_reader *m); /* all of its files have come */
void record_drop(struct made_reader *m);
void record_tell(struct zpipe_job *j); /* how those that were kept are run again */
/* Of a directory with this name, or of one in `records`; gives. */
char *record_find(const char *name, const char *records, struct err *e);
char *record_place(const char *given, struct err *e); /* "": zpipe's own; gives */

/* ---- made.c */
int made_open(struct zpipe_job *j, struct err *e);
/* The index of a keeper's files, from where the descriptor stands; the list is in the arena. */
int made_read(int from, struct arena *a, const struct made_file **file, uint32_t *count, struct err *e);
bool made_drained(const struct zpipe_job *j);
void made_release(struct zpipe_job *j); /* as ports_release */
void made_close(struct zpipe_job *j);

/* ---- serve.c */
int serve_routes(struct zpipe_job *j, const struct msg_route_list *m, struct err *e);
void serve_message(struct zpipe_job *j, const struct stream_name *name, const struct msg *m, struct slice bulk);
/* The scheduler that takes the job over did not hear of those that have. */
void serve_tell_lost(struct zpipe_job *j);
bool serve_attached(const struct zpipe_job *j);
bool serve_done(const struct zpipe_job *j);
const char *serve_said(const struct zpipe_job *j, uint32_t node); /* on stderr, at its end; "": not here, or not yet */
void serve_reap(struct zpipe_job *j);
bool serve_reapable(const struct zpipe_job *j);
void serve_close(struct zpipe_job *j);
void serve_link_lost(struct zpipe_job *j, const struct peer *p, const char *why);
struct peer *client_link_to(struct zpipe *z, const char *url, struct slice key, struct err *e);

/* ---- trees.c */
int trees_expand(struct graph *g, bool deep, struct err *e);

/* ---- hints.c */
void hints_task(struct zpipe_job *j, const struct msg_task *t);
void hints_said(struct zpipe_job *j, uint32_t node, const char *tail);

/* ---- ask.c */
/* Where to go with a submitted job. */
struct client_place {
    uint64_t job;
    char url[257], shared[MSG_SHARED_MAX + 1], receipt[MSG_RECEIPT_MAX + 1];
    uint8_t key[MSG_KEY_BYTES], token[MSG_TOKEN_BYTES];
    size_t key_size;
    uint64_t taken_bytes, receipt_from;
};
int client_ask_place(struct zpipe *z, uint32_t what, uint64_t job, struct client_place *out, struct err *e);
void client_answer(struct zpipe *z, const struct msg_answer *m);

/* ---- plan.c */
char *plan_text(const struct msg_plan *p, bool json); /* gives; NULL: no memory */

/* ---- job.c */
struct zpipe *client_open(const struct zpipe_options *options, struct client_keeper *k, struct err *e);
/* What is done to a graph before anybody else sees it. */
int client_job_prepare(const struct zpipe *z, struct graph *g, const struct zpipe_submission *s, struct err *e);
/* As client_job_start, of a graph that was prepared by the client that submitted it. */
struct zpipe_job *client_job_keep(struct zpipe *z, struct graph *g, char *directory, const struct zpipe_submission *s,
                                  uint32_t flags, uint64_t held, struct err *e);
/* Takes the graph and the directory, also when it fails. */
struct zpipe_job *client_job_start(struct zpipe *z, struct graph *g, char *directory,
                            const struct zpipe_submission *s, uint32_t flags, struct err *e);
void client_job_message(struct zpipe_job *j, const struct msg *m);
void client_job_settle(struct zpipe_job *j);
/* Another scheduler, or the same one after its death, knows nothing of the job: submit it once more. */
void client_job_again(struct zpipe_job *j);
/* Also when its result is here already and only the commit is to come. */
void client_job_fail(struct zpipe_job *j, const struct err *why);
/* A line on the job's stderr. */
void client_job_say(struct zpipe_job *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
int client_send(struct zpipe *z, const struct msg *m, struct slice bulk, struct err *e);
struct dsl_input client_dsl_input(const struct zpipe_submission *s, const char *directory);
char *client_directory(const char *given, struct err *e); /* absolute; gives */

/* ---- tables.c */
/* What the parser needs, from a submission: `in` lives as long as the rest.  Close it also when it
 * could not be opened; who takes the directory sets it to NULL. */
struct client_text {
    char *directory;
    struct commands_text table[COMMANDS_TEXTS_MAX];
    size_t tables;
    struct dsl_input in;
};
int client_text_open(struct client_text *t, const struct zpipe_submission *s, struct err *e);
void client_text_close(struct client_text *t);

int client_error(struct zpipe_error *to, const struct err *from); /* returns -1 */
