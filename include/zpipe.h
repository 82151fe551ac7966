/* libzpipe: run pipelines of ordinary programs, each in a deterministic sandbox, on this machine ("embedded": no
 * daemon, nothing to set up) or on a cluster.  The command `zpipe` uses nothing else.
 *
 *     struct zpipe_error e;
 *     struct zpipe *z = zpipe_open(NULL, &e);                     // embedded; or a cluster's URL
 *     struct zpipe_submission s = zpipe_submission("sort | uniq -c");
 *     struct zpipe_job *j = zpipe_submit(z, &s, &e);
 *     int status = zpipe_wait(j, &e);                             // as sh's $?; 124, 125: see below
 *     zpipe_job_free(j);
 *     zpipe_close(z);
 *
 * Ownership.  Functions borrow their arguments for the call only, unless they say "takes".  What they
 * return belongs to the caller ("gives", with the function that frees it), unless they say "borrowed".
 * Descriptors are borrowed until the job is over, are never set non-blocking and never closed.
 *
 * Threads.  A `struct zpipe` and everything made from it belong to one thread.  zpipe_open starts a
 * helper program and, through libzmq, threads; SIGCHLD and other signals' dispositions are left alone.
 *
 * Errors.  Functions return NULL or -1 with *e filled (e may be NULL): a code that says what the caller
 * may do, and one sentence for a person (several lines for a syntax error, with the caret).
 *
 * Units are in the names: _bytes, _ns (nanoseconds), _us (microseconds). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZPIPE_API __attribute__((visibility("default")))

enum zpipe_code {
    ZPIPE_OK = 0,
    ZPIPE_INPUT,       /* the text, a file or an option is wrong */
    ZPIPE_MISSING,     /* a named thing is not there */
    ZPIPE_DENIED,      /* refused by the host, by a key, by state */
    ZPIPE_LIMIT,       /* a named ceiling was reached */
    ZPIPE_AGAIN,       /* not now; later may work */
    ZPIPE_GONE,        /* the other side left */
    ZPIPE_IO,          /* the system refused */
    ZPIPE_MEMORY,      /* no memory */
    ZPIPE_PROTOCOL,    /* the other side broke the protocol */
    ZPIPE_CANCELLED,   /* somebody asked for the end */
    ZPIPE_UNSUPPORTED, /* understood, and not available */
    ZPIPE_BUG
};

struct zpipe_error {
    int code; /* enum zpipe_code */
    int sys;  /* errno, or 0 */
    char text[1024];
};

#define ZPIPE_STATUS_LIMIT  124 /* a limit of zpipe's ended the job: the message says which */
#define ZPIPE_STATUS_FAILED 125 /* zpipe itself failed, a syntax error too */

/* ---- connecting */

struct zpipe;

struct zpipe_options {
    const char *cluster; /* tcp://HOST:PORT of a scheduler; NULL or "": embedded */
    const char *keys;    /* directory with the keys; needed with a cluster */
    const char *box;     /* path of zpipe-box; NULL: beside the program, else where it is installed */
    uint32_t slots;      /* embedded: stages or blocks at once, over all jobs; 0: one per CPU */
    bool no_isolation;   /* embedded: run programs without any sandbox; nothing is certified, and a warning says so */
    bool no_templates;   /* embedded: start every program anew and clone none; the bytes are the same */
    const char *store;   /* directory for what does not fit in memory, in unlinked files; NULL: in the user's cache.  The
                          * setting is the whole process's */
    bool owner;          /* with a cluster: `keys` is the scheduler's own directory; needed for zpipe_drain */
};

/* options NULL: embedded with the defaults.  Gives; zpipe_close. */
ZPIPE_API struct zpipe *zpipe_open(const struct zpipe_options *options, struct zpipe_error *e);
/* Cancels what runs, waits until nothing of it is left, frees. */
ZPIPE_API void zpipe_close(struct zpipe *z);
ZPIPE_API const char *zpipe_version(void); /* borrowed, static */
/* Make a text safe to print: errors, states and names may hold bytes that others chose.  Each byte that a terminal would obey
 * becomes '?', in place; newlines and tabs stay if `lines`.  Returns `text`. */
ZPIPE_API char *zpipe_plain(char *text, bool lines);

/* ---- submitting a text */

enum zpipe_event_kind {
    ZPIPE_ACCEPTED,  /* the scheduler took the job: job is its number */
    ZPIPE_TASK,      /* a stage ended */
    ZPIPE_PROGRESS,  /* bytes so far */
    ZPIPE_BLOCK,     /* with tell_blocks: a task of a stage in blocks ended */
    ZPIPE_OVER,      /* last: status and error are final */
};

struct zpipe_event {
    enum zpipe_event_kind kind;
    uint64_t job;
    const char *stage;   /* TASK, PROGRESS, BLOCK: the stage's text; borrowed */
    uint32_t node;       /* TASK, PROGRESS, BLOCK: the stage's number, from 0, in text order */
    uint32_t last_node;  /* BLOCK: the last node of its chain of commands, which begins with `node` */
    uint64_t block;      /* BLOCK: the block's number, from 0, in input order */
    const char *worker;  /* BLOCK: the name of the worker that ran it; borrowed */
    int status;          /* TASK, BLOCK, OVER: as sh's $? */
    int signal;          /* TASK, BLOCK: 0, or what killed it */
    bool not_found;      /* TASK: no such program in the sandbox */
    bool certified;      /* TASK, BLOCK */
    uint64_t compared;   /* TASK: how many tasks of the stage were run twice, and were the same */
    const char *text;    /* TASK: a sentence, or ""; borrowed */
    const char *cold;    /* TASK, BLOCK: why the program was started anew; "": it was a clone of a template, or the
                            TASK has BLOCKs; borrowed */
    uint64_t cpu_user_us, cpu_sys_us, wall_us, memory_peak_bytes; /* TASK, BLOCK */
    uint64_t bytes_in, bytes_out;                                 /* PROGRESS, BLOCK */
    uint64_t bytes_total; /* PROGRESS: of all that the stage will read, if that is known; else 0 */
    bool typed;           /* PROGRESS: the job reads its stdin, which is a terminal */
};

/* Where a job's bytes come from and go to.  Each of the three is a descriptor; or it is -1, and the bytes come by
 * zpipe_feed and go to the callbacks.  Without these stdin is empty, and the others are dropped. */
struct zpipe_io {
    int stdin_fd, stdout_fd, stderr_fd;
    bool feed;                       /* with stdin_fd -1: zpipe_feed will be called */
    void (*on_stdout)(void *owner, const void *data, size_t size_bytes);
    void (*on_stderr)(void *owner, const void *data, size_t size_bytes);
    void (*on_event)(void *owner, const struct zpipe_event *event);
    void *owner;
};

#define ZPIPE_SPLIT_NEVER UINT64_MAX

#define ZPIPE_RECORDED_MAX 16

struct zpipe_submission {
    const char *text;      /* a pipeline, or a job file's contents */
    const char *job_file;  /* name of the job file, if `text` is one; NULL: `text` is a one-liner */
    const char *directory; /* where relative names start; NULL: the working directory */
    const char *const *parameter; size_t parameter_count; /* NAME=VALUE */
    const char *const *env; size_t env_count;             /* NAME=VALUE: also every program's */
    const char *const *with; size_t with_count;           /* a path, or a setting NAME=VALUE */
    const char *const *each; size_t each_count;           /* files after ::: */
    const char *const *commands; size_t commands_count;   /* tables of commands, zpipe.commands(5): files,
                                                             looked up before zpipe's own */
    bool pipefail, line_reads;
    uint32_t width;       /* blocks at once, 1 to 1024; 0: the worker's slots.  The bytes are the same */
    uint64_t split_bytes; /* 0: input is cut into blocks where that pays; ZPIPE_SPLIT_NEVER; else
                             always, blocks of about so many bytes (for tests) */
    bool tell_blocks; /* send BLOCK events */
    uint32_t audit;   /* how many of a million tasks of stages in blocks run twice, in a cluster on two workers, and are
                         compared; a difference fails the job */
    bool spread; /* put every stage on another worker than its neighbours (for tests) */
    /* Directory, made if it is missing, where a task of a map or reduce that makes the job fail is kept with what it read, for
     * zpipe_replay; the newest 16 stay.  "": zpipe's own, in the user's cache; NULL: nothing is kept. */
    const char *records;
    /* Also keep these tasks of one map or reduce, however they end: the stage's number in the plan, from 1 (0: none), and
     * the first and last task, at most ZPIPE_RECORDED_MAX.  Those of a submitted job are kept by its keeper. */
    uint32_t record_stage;
    uint64_t record_first, record_last;
    bool no_outputs; /* fail with ZPIPE_DENIED if the job would make a file: for trials */
    struct zpipe_io io;
};

/* A submission of text with the process's own descriptors 0, 1, 2 and nothing else set. */
ZPIPE_API struct zpipe_submission zpipe_submission(const char *text);

struct zpipe_job;

/* Gives; zpipe_job_free.  Returns when the text was understood and sent; what happens then is told by
 * events while zpipe_wait or zpipe_turn runs. */
ZPIPE_API struct zpipe_job *zpipe_submit(struct zpipe *z, const struct zpipe_submission *s,
                                         struct zpipe_error *e);

/* Run until the job is over.  The job's status, 0 to 255, as sh's $?; with 124 and 125 *e says why.
 * Outputs are in place when it returns, all or none. */
ZPIPE_API int zpipe_wait(struct zpipe_job *job, struct zpipe_error *e);
ZPIPE_API bool zpipe_over(const struct zpipe_job *job);
/* Ask for the end; the job is over soon, with status 125 and ZPIPE_CANCELLED. */
ZPIPE_API void zpipe_cancel(struct zpipe_job *job);
ZPIPE_API void zpipe_job_free(struct zpipe_job *job); /* cancels it first, if need be */

/* Give bytes to a job with io.feed.  Takes what fits now: the count, 0 when the job does not read (then
 * call zpipe_turn), or -1: it wants no more.  zpipe_feed_end: that was all. */
ZPIPE_API ptrdiff_t zpipe_feed(struct zpipe_job *job, const void *data, size_t size_bytes,
                               struct zpipe_error *e);
ZPIPE_API void zpipe_feed_end(struct zpipe_job *job);

/* One turn of work: handle what is there; with wait, sleep until there is something. */
ZPIPE_API void zpipe_turn(struct zpipe *z, bool wait);

/* ---- a task that failed, again */

#define ZPIPE_VERDICT_BYTES 1024
/* Run a recorded task again by itself, embedded.  record: a directory, or JOB/STAGE/BLOCK as the job's message named it, to be
 * found in `records` ("" and NULL: zpipe's own).  The task's stdout and stderr go to the two descriptors (-1: nowhere); `verdict`
 * gets a sentence that compares them, and its status, with what was recorded.  Returns 1: all is the same; 0: it is not, or
 * the record has nothing to compare with; -1: the task could not be run. */
ZPIPE_API int zpipe_replay(struct zpipe *z, const char *record, const char *records, int stdout_fd, int stderr_fd,
                           char verdict[ZPIPE_VERDICT_BYTES], struct zpipe_error *e);

/* ---- other descriptors of the program's, on the same loop */

enum { ZPIPE_READABLE = 1, ZPIPE_WRITABLE = 2 };
struct zpipe_watch;
/* `run` is called by zpipe_turn while fd is readable or writable, as `events` asks; it must not block, nor submit or
 * free jobs: do that when zpipe_turn has returned.  fd stays the caller's, open until zpipe_unwatch.  Gives. */
ZPIPE_API struct zpipe_watch *zpipe_watch(struct zpipe *z, int fd, int events, void (*run)(void *owner, int events),
                                          void *owner, struct zpipe_error *e);
ZPIPE_API void zpipe_unwatch(struct zpipe_watch *w); /* also from within `run`; NULL is allowed */

/* A file where the options' `store` says, without a name: gone with its descriptor.  Gives the descriptor; -1. */
ZPIPE_API int zpipe_file(struct zpipe_error *e);

/* ---- plans, and texts */

/* What would run, as text or JSON (one object).  Gives; free(). */
ZPIPE_API char *zpipe_plan(struct zpipe *z, const struct zpipe_submission *s, bool json,
                           struct zpipe_error *e);
/* The text in canonical form.  Needs no connection.  Gives; free(). */
ZPIPE_API char *zpipe_canonical(const struct zpipe_submission *s, struct zpipe_error *e);

/* ---- graphs, node by node */

struct zpipe_graph;
typedef uint32_t zpipe_node;
#define ZPIPE_NONE UINT32_MAX

/* directory: where relative names of files start; NULL: the working directory.  Gives. */
ZPIPE_API struct zpipe_graph *zpipe_graph_new(const char *directory, struct zpipe_error *e);
ZPIPE_API void zpipe_graph_free(struct zpipe_graph *g);

/* Nodes: each gives its number, or ZPIPE_NONE with *e filled.  argv is NULL-terminated. */
ZPIPE_API zpipe_node zpipe_graph_command(struct zpipe_graph *g, const char *const *argv, struct zpipe_error *e);
ZPIPE_API zpipe_node zpipe_graph_stdin(struct zpipe_graph *g, struct zpipe_error *e);
ZPIPE_API zpipe_node zpipe_graph_file(struct zpipe_graph *g, const char *path, struct zpipe_error *e);
ZPIPE_API zpipe_node zpipe_graph_bytes(struct zpipe_graph *g, const void *data, size_t size_bytes, struct zpipe_error *e);
ZPIPE_API zpipe_node zpipe_graph_stdout(struct zpipe_graph *g, struct zpipe_error *e);
ZPIPE_API zpipe_node zpipe_graph_output(struct zpipe_graph *g, const char *path, struct zpipe_error *e);

/* The bytes that `from` writes to from_fd are what `to` reads from to_fd.  Sources and sinks have one
 * end: 1 and 0. */
ZPIPE_API int zpipe_graph_join(struct zpipe_graph *g, zpipe_node from, int from_fd, zpipe_node to, int to_fd,
                               struct zpipe_error *e);
/* The command may open this file or directory, under the same name. */
ZPIPE_API int zpipe_graph_input(struct zpipe_graph *g, zpipe_node command, const char *path, struct zpipe_error *e);

/* As zpipe_submit; of the submission only io, pipefail, line_reads, width, split_bytes, tell_blocks, audit, spread, no_outputs and env count
 * (s->text may be NULL).  The graph is borrowed for the call. */
ZPIPE_API struct zpipe_job *zpipe_submit_graph(struct zpipe *z, struct zpipe_graph *g,
                                               const struct zpipe_submission *s, struct zpipe_error *e);

/* ---- jobs of a cluster that other connections submitted with the same key */

struct zpipe_status_job {
    uint64_t job;
    const char *state; /* "waits", "starts", "runs", "runs again", "stops" */
    const char *text;  /* the pipeline, cut off */
    const char *workers; /* names of the workers that have stages of the job, with blanks between; "" */
    uint32_t attempt;  /* more than 1: a worker was lost, or could not run the job */
    uint32_t stages, stages_ended;
    uint64_t age_ms;   /* since it was submitted */
};
struct zpipe_status_worker {
    const char *name;
    uint32_t slots, used;
    bool draining;
    const char *image, *domain; /* a job runs on workers that are alike in both */
    uint64_t memory_bytes, memory_used_bytes; /* what it gives to tasks, 0: no bound; what the tasks there have declared */
};
struct zpipe_status {
    const struct zpipe_status_job *job;
    size_t job_count;
    const struct zpipe_status_worker *worker;
    size_t worker_count;
};
/* The jobs of this key that are not over (job 0), or the one with this number; and the workers.  Waits for the answer.  Gives;
 * zpipe_status_free.  NULL with ZPIPE_MISSING: no job of this key has the number. */
ZPIPE_API struct zpipe_status *zpipe_status(struct zpipe *z, uint64_t job, struct zpipe_error *e);
ZPIPE_API void zpipe_status_free(struct zpipe_status *s); /* NULL is allowed */
/* Ask for a job's end; a call that waits for the job gets status 125.  0, or -1 with ZPIPE_MISSING as above. */
ZPIPE_API int zpipe_cancel_number(struct zpipe *z, uint64_t job, struct zpipe_error *e);

/* Give the workers of this name no new work; they finish what they run and then end with status 0.  Returns at once; zpipe_status
 * shows them until they have ended.  Needs a connection that was opened with `owner`. */
ZPIPE_API int zpipe_drain(struct zpipe *z, const char *worker, struct zpipe_error *e);

/* ---- submitted jobs: they go on when those who submitted them have left

 * A keeper holds such a job, its inputs, and what it prints and makes until somebody takes it. */

/* Bring the job to a keeper of the cluster, with its stdin (read to its end) and its input files, except those below
 * directories that the keeper shares.  Of s->io only stdin_fd counts.  0: the job is on the keeper's disk, and *job is its number. */
ZPIPE_API int zpipe_deposit(struct zpipe *z, const struct zpipe_submission *s, uint64_t *job, struct zpipe_error *e);
/* Write to stdout_fd what the job printed and nobody has taken yet, as it comes; when the job is over, put its output files in
 * place in the directory where it was submitted.  Returns the job's status, with *e as from zpipe_wait; or -1: what was not
 * written is kept, so call it again.  `stop` (NULL: never) is asked now and then, and after a signal; when it returns true, zpipe_attach
 * returns -1 with ZPIPE_CANCELLED. */
ZPIPE_API int zpipe_attach(struct zpipe *z, uint64_t job, int stdout_fd, bool (*stop)(void *owner), void *owner,
                           struct zpipe_error *e);
/* Fetch the job's recorded tasks from its keeper into `records`, where zpipe_replay finds them. */
ZPIPE_API int zpipe_fetch(struct zpipe *z, uint64_t job, const char *records, struct zpipe_error *e);
/* Write to fd what the job's commands have said on stderr so far. */
ZPIPE_API int zpipe_logs(struct zpipe *z, uint64_t job, int fd, struct zpipe_error *e);

/* ---- running a cluster's parts */

struct zpipe_scheduler_options {
    const char *keys;       /* directory that zpipe_keygen made */
    const char *listen;     /* tcp://ADDRESS:PORT; port *: any */
    const char *state;      /* directory, made if it is missing, for one scheduler at a time; NULL: none */
    uint32_t worker_wait_s; /* how long a job waits for a worker that could run it before it fails; 0: 10 */
    uint32_t client_wait_s; /* how long a client may be without a connection before its jobs are cancelled; 0: 60 */
};
struct zpipe_worker_options {
    const char *keys, *scheduler; /* directory with our pair and scheduler.pub; the scheduler's URL */
    const char *name;             /* for people; NULL: the host's name */
    const char *data_listen;      /* URL where others fetch and deliver bytes; NULL: any port of 127.0.0.1 */
    const char *advertise;        /* URL under which the others reach it; NULL: that of data_listen */
    const char *box;              /* as in zpipe_options */
    uint32_t slots;               /* stages or blocks at once; 0: one per CPU */
    bool no_isolation, no_templates; /* as in zpipe_options */
    const char *store;               /* likewise */
    const char *image;     /* a name for what programs see of this host; NULL: computed by looking at the host */
    const char *shared;    /* directories with the same files here as at clients, colons between; NULL: none */
    uint64_t memory_bytes; /* memory that tasks may declare together (`with memory=`); 0: 80 % of what the machine, or our cgroup, has */
};
#define ZPIPE_KEEPER_STORE_BYTES ((uint64_t)16 << 30)
struct zpipe_keeper_options {
    const char *keys, *scheduler;        /* as in zpipe_worker_options */
    const char *directory;               /* where everything is kept, for one keeper at a time */
    const char *data_listen, *advertise; /* as in zpipe_worker_options */
    const char *shared;       /* directories with the same files here as at clients, colons between; NULL: none */
    uint64_t store_max_bytes; /* for all jobs; 0: ZPIPE_KEEPER_STORE_BYTES */
};
/* Make a directory with the keys of a scheduler, its workers, its clients and its keepers. */
ZPIPE_API int zpipe_keygen(const char *directory, struct zpipe_error *e);
/* Make a pair of keys for one machine or user: own.key and own.pub in the directory, which is made if need be.  The
 * scheduler's scheduler.pub must be put beside them.  public_key: 40 characters and NUL. */
ZPIPE_API int zpipe_keypair(const char *directory, char public_key[41], struct zpipe_error *e);
/* zpipe_allow lets a key in, with the role "worker", "client" or "keeper"; zpipe_deny keeps it out from now on.  directory:
 * the scheduler's.  A scheduler that runs sees the change within a second or so, and drops peers whose key was denied. */
ZPIPE_API int zpipe_allow(const char *directory, const char *role, const char *public_key, const char *name, struct zpipe_error *e);
ZPIPE_API int zpipe_deny(const char *directory, const char *public_key, struct zpipe_error *e);
/* Run until SIGTERM or SIGINT (0) or failure (-1).  `ready`, if not NULL, is called once with the URL
 * that is listened on. */
ZPIPE_API int zpipe_run_scheduler(const struct zpipe_scheduler_options *o,
                                  void (*ready)(const char *url), struct zpipe_error *e);
ZPIPE_API int zpipe_run_worker(const struct zpipe_worker_options *o, void (*ready)(const char *url),
                               struct zpipe_error *e);
/* Could a daemon run with these options?  -1: no; its keys, an address or a directory cannot be used.  Nothing is made, and
 * no address is listened at. */
ZPIPE_API int zpipe_check_scheduler(const struct zpipe_scheduler_options *o, struct zpipe_error *e);
ZPIPE_API int zpipe_check_worker(const struct zpipe_worker_options *o, struct zpipe_error *e);
/* In a library of its own, with the program zpipe-keeper: it needs SQLite.  `ready`: when it has joined its scheduler. */
ZPIPE_API int zpipe_run_keeper(const struct zpipe_keeper_options *o, void (*ready)(const char *url), struct zpipe_error *e);
ZPIPE_API int zpipe_check_keeper(const struct zpipe_keeper_options *o, struct zpipe_error *e);
/* The path of zpipe-box that would be used.  Borrowed, static; NULL when there is none. */
ZPIPE_API const char *zpipe_box_path(void);
/* 0 errors, 1 warnings (default), 2 events, 3 every message; on stderr. */
ZPIPE_API void zpipe_set_log_level(int level);

#ifdef __cplusplus
}
#endif
