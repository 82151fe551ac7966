/* The library's internals: a connection, its jobs, and a job's inputs and outputs in this process.
 *
 *   client.c   zpipe_open: the loop, the net, the link to the scheduler; passes messages to jobs
 *   job.c      a job's life: submit, events, result, commit
 *   ports.c    gives each source and sink of the graph its descriptor
 *   outputs.c  output files that appear whole or not at all
 *   phases.c   statements that wait for each other
 *   record.c   keeps a task that failed, to be run again alone; replay.c runs it
 *   fetch.c    fetches the failed tasks of a submitted job
 *   made.c     receives the files that a stage left in /job, or that a map's tasks made
 *   tasks.c    the names of the files of a map's tasks
 *   serve.c    in a cluster: the streams to and from workers
 *   hints.c    what to do about a program or file that the sandbox did not have
 *   trees.c    in a cluster: directories, sent as the files in them
 *   ask.c      zpipe_status, zpipe_cancel_number, zpipe_drain
 *   visit.c    a connection to a keeper, which takes submitted jobs and holds their output
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
#define CLIENT_DROPS     (1u << 31) /* beside MSG_SUBMIT_*, and never sent: the files that the job makes are dropped */
#define CLIENT_LINKS_MAX 4096 /* to workers' data ports */
#define HINT_NAME_MAX    1024 /* bytes of a name that a hint may have, with its 0 */
#define CLIENT_WAIT_NS   ((uint64_t)60 * 1000000000) /* how long to wait for a cluster's scheduler that is gone to come back */

struct client_link {
    char *url;
    struct peer *peer;
    bool lost;
};

/* What a keeper's connection has in addition: it listens for visitors, is told of them by the scheduler, and waits for its
 * scheduler as long as it takes. */
struct client_keeper {
    int (*ready)(void *owner, struct zpipe *z, struct err *e); /* called when z->net exists: listen, and set data_url */
    void (*close)(void *owner); /* called when z is being closed: close all that uses its net, and forget z */
    void (*welcome)(void *owner);
    void (*visit)(void *owner, const struct msg_visit *m);
    void *owner;
    const char *data_url, *shared; /* for HELLO */
};

struct zpipe {
    struct client_keeper *keeper; /* borrowed; NULL: this connection is no keeper's */
    struct loop *loop;
    struct net *net;
    struct embedded *embedded; /* NULL with a cluster */
    struct peer *scheduler;
    struct loop_timer heartbeat;
    struct loop_hook reaper;
    uint64_t pings, requests;
    struct zpipe_job *jobs;
    struct question *question; /* the question whose answer is being waited for; see ask.c */
    struct client_link *link;
    uint32_t link_count;
    bool lost;
    struct err why; /* valid when `lost` or `away` */
    char cluster[300]; /* its scheduler's URL; "" when embedded */
    bool no_isolation;
    bool welcomed;
    bool away;         /* the scheduler is gone and may come back, */
    uint64_t away_ns;  /* gone since then */
    struct loop_timer again; /* connects again, from the loop: the old link cannot be closed in its own callback */
};

/* ---- ports.c, outputs.c */

/* A file that the job makes: written to `fd`, which has no name yet, and put in place at commit. */
struct output {
    uint32_t node;   /* the sink; GRAPH_NONE: a file that was found in /job when its stage had ended */
    char *path;      /* the target, absolute, symlinks resolved; NULL: `fd` is the target itself */
    bool in_link;    /* the target stands where a symlink is: its stage replaced that, as `sed -i` and `ln -sf` do */
    int fd;          /* -1 until opened */
    bool append;
    bool made_in_job;/* a file that a stage may leave in /job: it counts only if the stage did */
    bool made;
    uint32_t mode;   /* of the target, with its kind, if it existed before; else 0 */
    uint32_t chosen; /* the mode chosen by the program that left it in /job; 0: none */
    uint32_t directories; /* how many directories of its path were made for it: they are removed again if the job does not commit */
    uint32_t phase;  /* the phase in which it is made */
    bool replaced;   /* a later phase made the same file again, so this one is dropped */
    char *hidden;    /* owned: its temporary path, until it is renamed; NULL: it has none */
};

/* Reads the files that one stage made, in the form of proto/made.h: the job writes to `write`, the loop reads `read`. */
struct made_reader {
    uint32_t node;
    int read, write;
    struct loop_fd watch;
    struct zpipe_job *job;
    struct buf index;
    struct arena arena;
    const struct made_file *file; /* the index of the files, once it has been read; NULL until then */
    uint32_t count, at;
    int fd;             /* borrowed: the output that the bytes of file[at] go to */
    uint64_t left_bytes; /* still to come of file[at] */
    struct record_in *record; /* the record of a failed task that is being received; NULL: an ordinary file */
    uint64_t task_next;  /* of a map: its files come in order of task and sink; the next must be of these or later ones */
    uint32_t sink_next;
};

/* A pipe to one of the user's callbacks: the job writes to `write`, the loop reads `read` and calls `give`. */
struct sink_pipe {
    int read, write;
    struct loop_fd watch;
    void (*give)(void *owner, const void *data, size_t size);
    struct zpipe_job *job;
    bool open;
};

struct port {
    uint32_t node; /* a source or sink; GRAPH_NONE: the stages' stderr */
    int fd;        /* borrowed from io, an output or a pipe; -1: none */
};

struct client_stream {
    struct stream_name name;
    struct carry *carry;
    const struct peer *peer; /* the link that carries the stream; NULL: the link is lost */
    size_t live;     /* the index of the descriptor that is stdin itself: what is read from it is copied */
    struct lines *lines; /* for a stage's stderr: `carry` writes to this, and it passes on whole lines */
    int lines_to;        /* owned: a duplicate of the port's descriptor, as the port may be released before all lines have come */
    bool in;         /* bytes come to us: the job is not over before this stream has ended */
    bool ended, reap;
};

/* What was read of stdin, so that it can be sent again when a worker was lost.  A regular file is simply read again; of
 * anything else a copy is kept.  See serve.c. */
struct stdin_copy {
    bool begun, file;
    uint32_t node; /* the source node that reads stdin */
    off_t from;    /* for a file: the offset at which we began */
    int copy;      /* owned; -1: no copy, for the reason in `why` */
    bool ended;    /* the copy is complete */
    struct err why;
};

struct zpipe_job {
    struct zpipe *z;
    uint64_t held; /* at a keeper: the job's number there; its files must stay inside `directory`.  Elsewhere 0 */
    struct zpipe_job *next;
    struct graph *whole; /* owned */
    struct graph *graph; /* the graph of the phase that runs: `whole` itself if there is only one phase, else owned */
    uint32_t phase, phases;
    uint32_t flags;
    char text[4096]; /* the pipeline's text as the scheduler shows it in status and logs */
    char *directory;     /* owned, absolute */
    struct zpipe_io io;
    uint64_t request, number; /* number: the latest that a scheduler gave the job; 0: none yet */
    bool accepted;            /* by the present scheduler */
    uint8_t token[MSG_TOKEN_BYTES]; /* the secret that admits a peer to this job's streams */
    bool has_token;                 /* `token` is set */
    int in_fd, out_fd, err_fd; /* borrowed, or the ends of our pipes */
    struct port *port;
    uint32_t port_count;
    struct output *output;
    uint32_t output_count, output_room;
    struct made_reader *made;
    uint32_t made_count;
    struct graph_end *end; /* owned, per node */
    bool *said;            /* owned, per node: the message about its end has been printed */
    char missing_told[HINT_NAME_MAX]; /* the file that a hint named last */
    bool network_told;     /* the hint that a sandbox has no network has been printed */
    uint32_t *told;        /* owned, per node: the attempt whose end we were told under this job number; 0: none */
    struct check {
        uint32_t node;
        int fd; /* owned: what a named pipeline printed; -1: the node's output file itself is checked */
    } * check; /* owned, one per graph->expect */
    struct passed {
        uint32_t node;
        int fd; /* owned: a file with the bytes that go from one phase to a later one */
    } * passed; /* owned; passed_count entries */
    uint32_t passed_count;
    struct sink_pipe out, err;
    int feed_read, feed_write; /* -1 */
    struct client_stream *stream;
    uint32_t stream_count, stream_room;
    struct stdin_copy kept;
    struct err stream_why; /* why the first stream failed */
    char again_why[512];   /* why streams were started again, most recently; "": they were not */
    bool cancelled;
    uint64_t cancelled_ns;
    bool result_here; /* RESULT arrived: status, commit and why are set */
    bool over;
    int status;
    uint64_t began_ns, cpu_user_us, cpu_sys_us; /* for `time` */
    bool commit;
    bool ended; /* the stages ended by themselves, so the bytes that are for us still come, even if the job failed */
    bool plan_only, plan_json;
    bool no_outputs; /* the job is refused if it would make a file */
    bool drops;      /* the files that it makes are dropped */
    char *records;   /* owned: the directory in which failed tasks are kept; NULL: they are not kept */
    struct buf recorded; /* what is printed about the kept tasks when the job ends */
    bool failed_recorded, asked_recorded;
    char *plan; /* owned: the answer, when plan_only */
    struct err why; /* why zpipe itself failed; code ERR_NONE: it did not */
};

bool ports_read_stdin(const struct graph_node *n); /* is it the source that is the job's stdin? */
int ports_open(struct zpipe_job *j, struct err *e);
int ports_begin(struct zpipe_job *j, struct err *e); /* called as each phase begins */
int port_of(const struct zpipe_job *j, uint32_t node);
int ports_passed(const struct zpipe_job *j, uint32_t node); /* the descriptor of what this node passes to a later phase; -1: nothing */
/* The job no longer needs its descriptors: close our copies of their write ends, so that readers see the end. */
void ports_release(struct zpipe_job *j);
bool ports_drained(const struct zpipe_job *j);
void ports_close(struct zpipe_job *j);

/* Add an output for `path` and open it.  Borrowed, until the next call. */
struct output *output_add(struct zpipe_job *j, uint32_t node, const char *path, struct err *e);
/* Opens the output again: it takes the place of the symlink of this name. */
int output_in_link(struct zpipe_job *j, struct output *o, const char *path, struct err *e);
/* The output that an earlier phase made for this path; or NULL. */
struct output *output_at(struct zpipe_job *j, const char *path);
/* Give the file a temporary name, under which a later phase can read it. */
int output_publish(struct output *o, struct err *e);
/* Carry out all `check NAME sha256 HEX` statements. */
int outputs_check(struct zpipe_job *j, struct err *e);
/* Put all outputs in place, or none. */
int outputs_commit(struct zpipe_job *j, struct err *e);
void outputs_close(struct zpipe_job *j);

/* ---- phases.c */
uint32_t phases_count(const struct graph *g);
bool phases_wanted(const struct graph *g); /* do graphs have to be made for single phases? */
int phases_begin(struct zpipe_job *j, uint32_t phase, struct err *e);

/* ---- tasks.c */
/* The name of the file that this task writes to this sink of a map's body; gives. */
char *tasks_output_name(const struct graph *g, uint32_t map, uint32_t sink, uint64_t task, struct err *e);
int tasks_check_outputs(struct zpipe_job *j, uint32_t sink, struct err *e); /* check that every task's file could be written */

/* ---- record.c */
struct record_in {   /* a record that is being received */
    char *path;      /* owned: its temporary directory, until it is complete */
    int fd;          /* the file that is being received; -1: none */
    uint32_t inputs; /* in.N, so far */
    uint64_t bytes;
    bool task;       /* the file `task` has come */
    bool broken;     /* something could not be written: the record is dropped at the end */
};
struct record_in *record_begin(const char *records); /* gives; NULL: no memory */
int record_add(struct record_in *r, const char *name, uint64_t size, struct err *e); /* begin one more file: r->fd is open, or the record is broken */
/* The record is complete: rename it to JOB-STAGE-BLOCK in `records`; gives its path.  -1: it could not be kept. */
int record_end(struct record_in *r, const char *records, const char *name, char **path);
void record_free(struct record_in *r); /* removes an incomplete record */
#define CLIENT_RECORDS_MAX 16 /* kept in one directory: the oldest is removed */
#define CLIENT_TOLD_MAX    MSG_TEXT_MAX /* bytes of what is printed about them */
_Static_assert(CLIENT_RECORDS_MAX >= GRAPH_RECORDED_MAX, "what was asked for stays");
_Static_assert(ZPIPE_RECORDED_MAX == GRAPH_RECORDED_MAX, "what may be asked for is taken");
/* Begin one more file of a record: its bytes go to m->fd.  A record that cannot be written is dropped without an error, as
 * the job's result does not depend on it. */
int record_file(struct made_reader *m, const struct made_file *f, struct err *e);
void record_broke(struct made_reader *m); /* its bytes could not be written */
void record_whole(struct made_reader *m); /* all of its files have come */
void record_drop(struct made_reader *m);
void record_tell(struct zpipe_job *j); /* print how the kept tasks are run again */
/* Find a record: a directory of this name, or one in `records`; gives its path. */
char *record_find(const char *name, const char *records, struct err *e);
char *record_place(const char *given, struct err *e); /* the directory for records; "": zpipe's default one; gives */

/* ---- made.c */
int made_open(struct zpipe_job *j, struct err *e);
/* Read the index of a keeper's files from the descriptor's present offset; the list is in the arena. */
int made_read(int from, struct arena *a, const struct made_file **file, uint32_t *count, struct err *e);
bool made_drained(const struct zpipe_job *j);
void made_release(struct zpipe_job *j); /* like ports_release */
void made_close(struct zpipe_job *j);

/* ---- serve.c */
int serve_routes(struct zpipe_job *j, const struct msg_route_list *m, struct err *e);
void serve_message(struct zpipe_job *j, const struct stream_name *name, const struct msg *m, struct slice bulk);
/* Tell a scheduler that has taken over the job which streams have lost their other side, since only its predecessor was
 * told. */
void serve_tell_lost(struct zpipe_job *j);
bool serve_attached(const struct zpipe_job *j);
bool serve_done(const struct zpipe_job *j);
const char *serve_said(const struct zpipe_job *j, uint32_t node); /* the end of what the node said on stderr; "": it went elsewhere, or is not complete yet */
void serve_reap(struct zpipe_job *j);
bool serve_reapable(const struct zpipe_job *j);
void serve_close(struct zpipe_job *j);
void serve_link_lost(struct zpipe_job *j, const struct peer *p, const char *why);
struct peer *client_link_to(struct zpipe *z, const char *url, struct slice key, struct err *e);

/* ---- trees.c */
int trees_expand(struct graph *g, bool deep, struct err *e);

/* ---- links.c */
/* Gives the node the symbolic links that its inputs lie behind. */
int links_give(struct graph *g, struct graph_node *n, struct err *e);
/* Fills f for the link at path, but for its name; its text is in link.  -1: no link is there. */
int links_read(const char *path, struct graph_file *f, char link[GRAPH_LINK_MAX + 1]);

/* ---- hints.c */
/* told: what is to be said before the job runs. */
void hints_first(const struct graph *g, struct buf *told);
void hints_task(struct zpipe_job *j, const struct msg_task *t);
void hints_said(struct zpipe_job *j, uint32_t node, const char *tail);

/* ---- ask.c */
/* The keeper to connect to for a submitted job. */
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
/* What the client does to every graph before it sends it.  told: what its user should know of the inputs, in whole lines. */
int client_job_prepare(const struct zpipe *z, struct graph *g, const struct zpipe_submission *s, struct buf *told, struct err *e);
/* Like client_job_start, for a graph that another client has already prepared (a keeper's). */
struct zpipe_job *client_job_keep(struct zpipe *z, struct graph *g, char *directory, const struct zpipe_submission *s,
                                  uint32_t flags, uint64_t held, struct err *e);
/* Takes the graph and the directory, even when it fails. */
struct zpipe_job *client_job_start(struct zpipe *z, struct graph *g, char *directory,
                            const struct zpipe_submission *s, uint32_t flags, struct err *e);
void client_job_message(struct zpipe_job *j, const struct msg *m);
void client_job_settle(struct zpipe_job *j);
/* A scheduler that was started again, or another in its place, does not know the job: submit it once more. */
void client_job_again(struct zpipe_job *j);
/* Also allowed when the result has arrived and only the commit remains. */
void client_job_fail(struct zpipe_job *j, const struct err *why);
/* Fails a job that was cancelled and has not ended within a time. */
void client_job_expire(struct zpipe_job *j);
/* Print a line on the job's stderr. */
void client_job_say(struct zpipe_job *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
int client_send(struct zpipe *z, const struct msg *m, struct slice bulk, struct err *e);
struct dsl_input client_dsl_input(const struct zpipe_submission *s, const char *directory);
char *client_directory(const char *given, struct err *e); /* absolute; gives */

/* ---- tables.c */
/* What the parser needs of a submission; `in` points into the rest.  Close it even if opening failed.  Whoever takes
 * `directory` sets it to NULL. */
struct client_text {
    char *directory;
    struct commands_text table[COMMANDS_TEXTS_MAX];
    size_t tables;
    struct dsl_input in;
};
int client_text_open(struct client_text *t, const struct zpipe_submission *s, struct err *e);
void client_text_close(struct client_text *t);

int client_error(struct zpipe_error *to, const struct err *from); /* returns -1 */
