/* Every message, a plain struct each.  msg.c holds one field table per message, from which
 * encoding, decoding, printing and zpipe-proto(7) come, with the column that says who may send it
 * and when.
 *
 * On the wire a message is a msgpack array [type, field...] in one ZeroMQ frame, and at most one
 * more frame with bulk bytes (`bulk`).  Fields are only ever added at the end: decoders ignore what
 * they do not know and refuse what is missing.  Strings and byte fields of a decoded message are
 * borrowed from its frame; arrays live in the decoder's arena.
 *
 * Control messages go between clients or workers and the scheduler; data messages between whoever
 * makes bytes and whoever wants them (clients and workers).  In embedded mode all three are in one
 * process and talk over inproc. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define MSG_VERSION      1
#define MSG_BYTES_MAX    (8u << 20)  /* first frame */
#define MSG_BULK_MAX     (33u << 20) /* second frame: an encoded graph is the largest */
#define MSG_PARTS_MAX    64          /* parts of one merge that is lent */
#define MSG_LIST_MAX     200000      /* items of a list */
#define MSG_TEXT_MAX     65536       /* a sentence or a plan */
#define MSG_NAMES_MAX    4096        /* bytes of the workers' names in a job's row */
#define MSG_PLACES_MAX   64          /* pieces of files that a run's input may be read from in place */
#define MSG_SHARED_MAX   4096        /* bytes of the list of shared directories */
#define MSG_RECEIPT_MAX  8192
#define MSG_KEY_BYTES    32          /* a CURVE public key */
#define MSG_TOKEN_BYTES  16
#define MSG_HEARTBEAT_MS 1000
#define MSG_LEASE_MS     2800 /* a worker that is silent for so long is lost: so within 3 s all know */
#define MSG_DATA_BYTES   (256u << 10) /* bulk bytes of one DATA message */
#define MSG_CREDIT_BYTES (4u << 20)   /* what a receiver grants ahead, per edge */

/* A keeper is the client of submitted jobs: it stays when the user who submitted them goes. */
enum msg_role { MSG_CLIENT = 1, MSG_WORKER = 2, MSG_SCHEDULER = 4, MSG_KEEPER = 8 };

enum msg_type {
    MSG_NONE,
    /* control */
    MSG_HELLO,    /* client, worker, keeper -> scheduler: first on a link */
    MSG_WELCOME,  /* scheduler -> */
    MSG_REFUSE,   /* scheduler -> : the link ends, and why */
    MSG_PING,     /* from every side, every MSG_HEARTBEAT_MS */
    MSG_BYE,      /* from any side: it leaves on purpose */
    MSG_SUBMIT,   /* client -> scheduler; bulk: the graph */
    MSG_ACCEPT,   /* scheduler -> client */
    MSG_PLAN,     /* scheduler -> client: answer to a SUBMIT that only asks for the plan */
    MSG_ROUTE,    /* scheduler -> client, worker: where its streams are; sent again if parts run again */
    MSG_CANCEL,   /* client -> scheduler */
    MSG_RUN,      /* scheduler -> worker; bulk: the graph */
    MSG_STOP,     /* scheduler -> worker: end an attempt */
    MSG_STARTED,  /* worker -> scheduler: the attempt's sandboxes run */
    MSG_TASK,     /* worker -> scheduler -> client: a stage ended */
    MSG_PROGRESS, /* worker -> scheduler -> client */
    MSG_FAIL,     /* worker -> scheduler: the attempt failed, through no fault of a program */
    MSG_STOPPED,  /* worker -> scheduler: nothing of the attempt is left here */
    MSG_RESULT,   /* scheduler -> client: the job is over */
    /* data */
    MSG_ATTACH, /* connecting side -> listening side: which stream it wants */
    MSG_CREDIT, /* receiver -> sender */
    MSG_DATA,   /* sender -> receiver; bulk: bytes */
    MSG_LEAVE,  /* receiver -> sender: it has the end; or it wants no more, and the writer gets SIGPIPE */
    /* control: slots lent to a job's part on another worker, its *owner* */
    MSG_WANT,     /* worker (owner) -> scheduler: so many more slots could be used */
    MSG_LEND,     /* scheduler -> worker (lender): run what the owner gives; bulk: the graph */
    MSG_LENT,     /* scheduler -> worker (owner): who will ATTACH for work */
    MSG_RECALL,   /* scheduler -> lender: give the slots back; -> owner: the loan is over */
    MSG_RETURNED, /* worker (lender) -> scheduler: nothing of the loan is left here */
    /* data */
    MSG_WORK, /* owner -> lender: do this run of blocks; its bytes follow as MSG_RUN_INPUT */
    MSG_DONE, /* lender -> owner: how the run ended; its output follows as MSG_RUN_OUTPUT */
    /* control */
    MSG_BLOCK, /* worker -> scheduler -> client, if the job asks for it: a task of a stage in blocks ended */
    MSG_LOST, /* client, worker -> scheduler: a stream that the sender had attached broke */
    MSG_ASK,    /* client -> scheduler: about jobs of its key */
    MSG_ANSWER, /* scheduler -> client */
    MSG_VISIT,   /* scheduler -> keeper: a client with this key and token will come to its data port */
    MSG_VISITED, /* keeper -> scheduler: the client may come, or why not */
    MSG_HELD,    /* keeper -> scheduler: a submitted job and its state */
    /* data */
    MSG_KEPT,    /* keeper <-> client: how a submitted job ended; how much of its output was taken */
    /* control */
    MSG_DRAINED, /* scheduler -> worker: it has nothing left and gets nothing more: it is to end */
    MSG_REMAINS, /* worker -> scheduler: a part that it still runs, of a job from an earlier scheduler */
    MSG_GO_ON,   /* scheduler -> worker: the job is known again; the worker repeats what it said of it meanwhile */
    MSG_HOLDS,   /* worker -> scheduler: it has results of a submitted job, in case that begins again */
    /* between the two ends of a client's link that outlives its connection (session.h) */
    MSG_SESSION, /* from the client, first on a connection; and the answer */
    MSG_GOT,     /* how many messages have come: the sender may drop its copies of them */
    /* control */
    MSG_BEGINS,  /* worker -> scheduler: a block of a stage with which workers were lost is about to run */
    MSG_TYPES
};

struct msg_hello {
    uint32_t version;
    uint32_t role;         /* enum msg_role */
    const char *name;      /* host or user, for people */
    struct slice instance; /* 16 random bytes of the process: equal for two roles in one process */
    const char *image;     /* worker: the id of what its programs see of the host; "" in embedded mode */
    uint32_t slots;        /* worker */
    uint64_t memory_bytes; /* worker: memory that it gives to tasks; 0: no bound */
    const char *data_url;  /* worker: where others connect for bytes; "" in embedded mode */
    struct slice data_key; /* worker: CURVE public key of data_url; empty on inproc */
    const char *shared;    /* keeper: directories with the same files there as at clients, colons between */
    const char *domain;    /* worker: its kernel, kind of CPU and sandbox: what else, besides the image, a result may depend on */
    uint32_t remains;      /* worker: how many parts it still runs of an earlier scheduler's jobs, which it names next (REMAINS) */
};
struct msg_welcome {
    uint32_t version;
    uint64_t peer; /* the number of this link in logs */
    uint32_t heartbeat_ms, lease_ms;
};
struct msg_refuse {
    uint32_t code; /* enum err_code */
    const char *text;
};
struct msg_ping {
    uint64_t count;
};
struct msg_bye {
    const char *text;
};

/* A descriptor of the client's process, for a SOURCE's stdin segment, a SINK, a stage that makes files, or (node
 * GRAPH_NONE) the stages' stderr.  Only a worker in the same process can use it. */
struct msg_port {
    uint32_t node;
    int32_t fd;
};
enum msg_submit_flag {
    MSG_SUBMIT_PLAN_ONLY = 1,
    MSG_SUBMIT_SPREAD = 2, /* every stage on another worker than its neighbours, for tests */
    MSG_SUBMIT_AGAIN = 4,  /* keeper: it may have run before, and a worker may have results of it */
};
struct msg_submit {
    uint64_t request; /* the client's number for it */
    uint32_t flags;
    const char *text; /* the pipeline as typed, for status and logs */
    const struct msg_port *port;
    uint32_t port_count;
    uint64_t held; /* keeper: the number that the submitted job is known by; else 0 */
    uint64_t was;  /* the job's number under an earlier scheduler, whose workers may still run it; else 0 */
    struct slice token; /* and the token of its streams, which only this client knows */
};
struct msg_accept {
    uint64_t request, job;
};
struct msg_plan_row {
    uint32_t node;
    const char *stage; /* the node's label */
    const char *class; /* "source", "stream", "map", "output", ..., or graph_class */
    const char *why;   /* why the stage runs whole; "" */
    const char *detail;
    const char *cut;     /* where its input may be cut: "none", "bytes", "lines 4", ... */
    const char *combine; /* how the outputs of blocks are combined: "concat", a command; "" */
};
struct msg_plan {
    uint64_t request;
    const struct msg_plan_row *row;
    uint32_t row_count;
};

enum msg_what {
    MSG_EDGE,   /* index: edge of the graph */
    MSG_FILE,   /* index: in graph.file: the client sends all of it */
    MSG_STDERR, /* index: node: its stderr, to the client */
    MSG_OUTPUT, /* index: node: the files that it made in /job, as in made.h, to the client */
    MSG_LOAN,   /* index: loan: it has no bytes; the loan's WORK and DONE go over this link; LEAVE: no more of them */
    MSG_RUN_INPUT,  /* index: run, node: its loan: from the owner to the lender */
    MSG_RUN_OUTPUT, /* likewise, back */
    MSG_LOAN_FILE,  /* index: graph.file, node: loan: from the owner, when the lender grants credit for it */
    MSG_KEPT_IN,    /* client to keeper: a job and its inputs, as in kept.h */
    MSG_KEPT_OUT,   /* keeper to client: what the job printed, from where it was taken last */
    MSG_KEPT_FILES, /* likewise: its output files, as in made.h; or its tasks that failed, as in record.h */
    MSG_KEPT_LOG,   /* likewise: its stderr so far */
    MSG_WHATS
};
enum msg_via {
    MSG_VIA_FD,      /* `fd` of this very process */
    MSG_VIA_PATH,    /* FILE: graph.file[index].path is readable here */
    MSG_VIA_CONNECT, /* connect to url (key) and ATTACH */
    MSG_VIA_LISTEN,  /* the other side will ATTACH here */
    MSG_VIAS
};
struct msg_route {
    uint32_t what, index;
    uint32_t node; /* FILE: the node that wants it; else GRAPH_NONE */
    uint32_t via;
    int32_t fd;
    const char *url;
    struct slice key;
};
struct msg_route_list {
    uint64_t job;
    uint32_t attempt;
    struct slice token; /* goes into ATTACH */
    const struct msg_route *route;
    uint32_t route_count;
    uint32_t reader; /* to a worker: the attempt of its part that reads, which is older; to a client 0 */
    const char *why; /* why these streams are started again; "": they are not */
};
struct msg_cancel {
    uint64_t job; /* 0: by request */
    uint64_t request;
    const char *text;
};
struct msg_run {
    uint64_t job;
    uint32_t attempt;
    struct slice token;
    const uint32_t *node; /* what to run here: indices, SOURCE and SINK nodes too */
    uint32_t node_count;
    const struct msg_route
        *route; /* every edge with only one end here, every file, stderr, output */
    uint32_t route_count;
    const struct slice *admit; /* CURVE keys of workers that may connect for this job */
    uint32_t admit_count;
    struct slice client; /* the key of its client; empty without keys */
    uint64_t held;       /* of a submitted job: the number that it is known by; else 0 */
    uint32_t deaths;     /* how many workers were lost with a stage of it: the worker then tells what begins (BEGINS) */
    uint32_t bad;        /* 1 + the MAP or REDUCE with one task that is not to be run, but kept as a failed one; 0: none */
    uint64_t bad_number; /* the number of that task, from 0 */
    const char *bad_why;
};
struct msg_stop {
    uint64_t job;
    uint32_t attempt;
    const char *text;
};
struct msg_started {
    uint64_t job;
    uint32_t attempt;
};
enum msg_end { /* how a stage ended; as enum box_end */
               MSG_END_EXITED,
               MSG_END_SIGNALLED,
               MSG_END_LIMIT,
               MSG_END_NOT_FOUND,
               MSG_END_NOT_RUN,
               MSG_END_FAILED,
               MSG_END_KILLED,
               MSG_ENDS
};
struct msg_task {
    uint64_t job;
    uint32_t attempt;
    uint32_t node;
    uint32_t end;    /* enum msg_end */
    uint32_t status; /* as sh's $? would be: 0-255 */
    uint32_t signal;
    uint64_t cpu_user_us, cpu_sys_us, wall_us, memory_peak_bytes;
    bool early_stop; /* it was ended by SIGPIPE because its reader had left */
    bool certified;
    const char *text; /* one sentence for a person; "" */
    const char *stderr_tail;
    const char *cold; /* why it was not cloned from a template; "": it was, or it is a stage in blocks */
    uint64_t compared; /* how many of its tasks were run twice, with the same result */
};
struct msg_progress {
    uint64_t job;
    uint32_t node;
    uint64_t bytes_in, bytes_out;
    bool running;
};
struct msg_block {
    uint64_t job;
    uint32_t attempt;
    uint32_t node, last; /* its programs: the chain from `node` to `last`; or both are the MAP or REDUCE */
    uint64_t number;     /* the task's number in the stage, from 0, in input order */
    uint32_t status, signal; /* the last program's */
    uint64_t bytes_in, bytes_out;
    uint64_t cpu_user_us, cpu_sys_us, wall_us, memory_peak_bytes;
    bool certified;
    const char *worker; /* its name */
    const char *cold;   /* why one of its programs was not cloned from a template; "": all were */
};
struct msg_fail {
    uint64_t job;
    uint32_t attempt;
    uint32_t code; /* enum err_code */
    const char *text;
    bool last; /* it is not to be tried elsewhere: too many workers or sandboxes were lost with it */
};
struct msg_stopped {
    uint64_t job;
    uint32_t attempt;
    uint32_t heard; /* the newest attempt number that it knew: its own, or that of the last ROUTE */
};
struct msg_result {
    uint64_t request, job;
    uint32_t status; /* the job's exit status */
    bool commit;     /* outputs are to be put in place */
    uint32_t code;   /* enum err_code: 0 unless zpipe itself failed (status 125) or a limit (124) */
    const char *text; /* for a person; "" */
    bool ended; /* all of it ended by itself: streams to the client come to their ends, whether it commits or not */
};

struct msg_attach {
    uint64_t job;
    uint32_t attempt;
    struct slice token;
    uint32_t what, index, node;
};
struct msg_credit {
    uint64_t job;
    uint32_t attempt, what, index, node;
    uint64_t upto_bytes; /* may send bytes [0, upto_bytes) */
};
enum msg_data_flag { MSG_DATA_END = 1, MSG_DATA_FAILED = 2 };
struct msg_data {
    uint64_t job;
    uint32_t attempt, what, index, node;
    uint64_t offset;
    uint32_t flags; /* END: offset + bulk is the whole; FAILED: the producer broke, not the end */
    struct slice digest; /* with END: XXH3-128 of the whole stream */
};
struct msg_leave {
    uint64_t job;
    uint32_t attempt, what, index, node;
    uint64_t read_bytes;
};

struct msg_want {
    uint64_t job;
    uint32_t attempt;
    uint32_t slots; /* in addition to its own; 0: none any more */
};
struct msg_lend {
    uint64_t job;
    uint32_t attempt;
    uint32_t loan;      /* the scheduler's number for it */
    struct slice token; /* goes into ATTACH; no client knows it */
    uint32_t slots;
    const char *url; /* the owner's data port */
    struct slice key;
};
struct msg_lent {
    uint64_t job;
    uint32_t attempt, loan;
    struct slice token;
    uint32_t slots;
    const char *name; /* of the lender, for people */
    struct slice key; /* the CURVE key that may connect */
};
struct msg_recall {
    uint64_t job;
    uint32_t attempt, loan;
    bool now; /* false: what runs may end first */
    const char *text;
    bool returned; /* to the owner: the lender lives, and gave the slots back */
};
struct msg_returned {
    uint64_t job;
    uint32_t attempt, loan;
    bool failed; /* the owner could not be reached */
};

struct msg_place { /* bytes of a file of the graph */
    uint32_t file;
    uint64_t offset, bytes;
};
struct msg_work {
    uint64_t job;
    uint32_t attempt, loan;
    uint32_t run;   /* the owner's number for it, within the loan */
    uint32_t stage; /* of graph_stages */
    uint32_t file;  /* of the graph, whose bytes they are; or GRAPH_NONE */
    uint64_t number; /* the number of the run in its stage */
    bool first, last;
    uint64_t bytes; /* bytes of its input */
    const uint32_t *part; /* the sizes of the parts that it merges, end to end; none: it is a run of blocks */
    uint32_t part_count;
    const struct msg_place *place; /* its input, end to end, as parts of files, so that it need not be sent to a lender that
                                    * has these files in place; none: it is sent */
    uint32_t place_count;
};
enum msg_how {
    MSG_HOW_RAN,    /* `ran` says how its programs ended */
    MSG_HOW_BACK,   /* it was not run, and is to run elsewhere */
    MSG_HOW_FAILED, /* infrastructure: `text` says what */
    MSG_HOWS
};
struct msg_ran { /* a node of the stage's chain; the units of sandbox/box.h */
    uint32_t end;
    uint32_t status, signal;
    uint64_t cpu_user_ns, cpu_sys_ns, wall_ns, memory_peak_bytes;
    bool certified;
    const char *limit, *text; /* as there; "" */
    const char *dropped;      /* a sentence about files that it left and nobody keeps; "" */
    const char *cold;         /* as in box_result */
};
struct msg_piece {
    bool there;
    uint64_t bytes;
    uint32_t mode; /* permissions, where a program made the file */
};
struct msg_done {
    uint64_t job;
    uint32_t attempt, loan, run;
    uint32_t how; /* enum msg_how */
    bool said;    /* something came on stderr */
    uint64_t bytes; /* bytes of its output, all pieces together */
    const struct msg_ran *ran;
    uint32_t ran_count;
    const char *text;
    const struct msg_piece *piece; /* stdout; then, of a task, stderr per program and the files it makes.  Those that
                                      have bytes come one after the other, each as a stream of this run's name */
    uint32_t piece_count;
};

struct msg_remains {
    uint64_t job;
    uint32_t attempt;
    struct slice token;
    const uint32_t *node; /* the nodes that run here, as in RUN */
    uint32_t node_count;
};
struct msg_go_on {
    uint64_t job;
    uint32_t attempt;
};
struct msg_holds {
    uint64_t held; /* the number that the submitted job is known by */
    uint32_t runs; /* how many of its blocks, at least; 0: none any more */
};

struct msg_lost {
    uint64_t job;
    uint32_t attempt, what, index, node; /* the stream's name */
    const char *text;
};

enum msg_ask_what {
    MSG_ASK_STATUS, /* all jobs, or `job`; and the workers */
    MSG_ASK_CANCEL, /* `job` */
    MSG_ASK_KEEP,   /* where can a job be submitted? */
    MSG_ASK_TAKE,   /* the output of `job`, which was submitted */
    MSG_ASK_LOGS,   /* its stderr */
    MSG_ASK_DRAIN,  /* give the worker `name` nothing more, and let it end */
    MSG_ASK_RECORDS, /* tasks of `job`, which was submitted, that failed and were kept */
    MSG_ASKS
};
struct msg_ask {
    uint64_t request; /* the client's number for it */
    uint32_t what;
    uint64_t job; /* 0: all */
    const char *name;
};
struct msg_job_row {
    uint64_t job;
    const char *state, *text; /* for people; the text is cut off */
    const char *workers;      /* names */
    uint32_t attempt, stages, ended;
    uint64_t age_ms; /* since SUBMIT */
};
struct msg_worker_row {
    const char *name;
    uint32_t slots, used;
    bool draining;
    const char *image, *domain; /* as in HELLO */
    uint64_t memory_bytes, memory_used_bytes; /* that it gives to tasks, 0: no bound; that what runs there needs */
};
struct msg_answer {
    uint64_t request;
    uint32_t code; /* enum err_code, 0: done */
    const char *text;
    const struct msg_job_row *job;
    uint32_t job_count;
    const struct msg_worker_row *worker;
    uint32_t worker_count;
    /* To KEEP, TAKE and LOGS: the job, and where to ATTACH for it. */
    uint64_t held;
    const char *url;
    struct slice key, token;
    const char *shared;    /* KEEP: as in HELLO */
    uint64_t taken_bytes;  /* TAKE: how much of what the job printed was taken */
    const char *receipt;   /* TAKE: where the last taker put it, in that taker's own words */
    uint64_t receipt_from; /* how much had been taken before the last taker came */
};

struct msg_visit {
    uint64_t link, request; /* the client's, to be named in the answer */
    uint32_t what;          /* enum msg_ask_what */
    uint64_t job;
    struct slice key, token;
};
struct msg_visited {
    uint64_t link, request, job;
    uint32_t code; /* enum err_code, 0: it may come */
    const char *text;
    struct slice token;
    uint64_t taken_bytes;
    const char *receipt;
    uint64_t receipt_from;
};
struct msg_drained {
    const char *text;
};
struct msg_held {
    uint64_t job;
    struct slice key;  /* the key whose job it is */
    const char *state; /* for people */
    const char *text;
    uint64_t age_ms;
    bool gone; /* the keeper does not have it any more */
};
struct msg_session {
    struct slice token; /* from the client: MSG_TOKEN_BYTES that nobody else knows */
    uint64_t link;      /* how the other side knows the link */
    uint64_t got;       /* how many messages came over it */
    bool known;         /* from the client: the link existed before; in the answer: it did, and goes on */
    bool ends;          /* from the client: it will not come back */
};
struct msg_got {
    uint64_t got;
};
struct msg_begins {
    uint64_t job;
    uint32_t attempt;
    uint32_t node;   /* the MAP or REDUCE, or the first of a stage of the planner's */
    uint64_t number; /* of the stage's tasks or runs, from 0 */
    const char *text; /* for a planner's stage: how the block is run alone; for a map: the file that the task is of; "" */
};
struct msg_kept {
    uint64_t job;
    /* From the client. */
    bool begins;          /* nothing was written yet: `receipt` says where it will be; the keeper answers with the same when
                           * it has noted that */
    uint64_t taken_bytes; /* everything up to here, of what the job printed, is written */
    const char *receipt;
    bool all;             /* and its files are in place; the keeper answers with the same when it has noted it */
    /* From the keeper: the job is over, or was taken in; or why not. */
    uint32_t status, code;
    const char *text, *directory; /* directory: where its files belong */
};

struct msg {
    uint32_t type; /* enum msg_type */
    union {
        struct msg_hello hello;
        struct msg_welcome welcome;
        struct msg_refuse refuse;
        struct msg_ping ping;
        struct msg_bye bye;
        struct msg_submit submit;
        struct msg_accept accept;
        struct msg_plan plan;
        struct msg_route_list route;
        struct msg_cancel cancel;
        struct msg_run run;
        struct msg_stop stop;
        struct msg_started started;
        struct msg_task task;
        struct msg_progress progress;
        struct msg_fail fail;
        struct msg_stopped stopped;
        struct msg_result result;
        struct msg_attach attach;
        struct msg_credit credit;
        struct msg_data data;
        struct msg_leave leave;
        struct msg_want want;
        struct msg_lend lend;
        struct msg_lent lent;
        struct msg_recall recall;
        struct msg_returned returned;
        struct msg_work work;
        struct msg_done done;
        struct msg_block block;
        struct msg_lost lost;
        struct msg_visit visit;
        struct msg_visited visited;
        struct msg_held held;
        struct msg_kept kept;
        struct msg_drained drained;
        struct msg_remains remains;
        struct msg_go_on go_on;
        struct msg_holds holds;
        struct msg_session session;
        struct msg_got got;
        struct msg_begins begins;
        struct msg_ask ask;
        struct msg_answer answer;
    };
};

/* Encode the first frame.  Fails with ERR_LIMIT when a field is over its ceiling. */
int msg_encode(const struct msg *m, struct buf *out, struct err *e);
/* Decode and check one; sizes and counts are checked against the bytes there before anything is
 * allocated in `a`.  ERR_PROTO otherwise. */
int msg_decode(const void *data, size_t size, struct arena *a, struct msg *out, struct err *e);
/* One line: NAME key=value..., for logs. */
void msg_print(const struct msg *m, struct buf *out);
const char *msg_name(uint32_t type);
/* May somebody of `role` send this to somebody of role `to`, and may it before HELLO was answered?
 */
bool msg_allowed(uint32_t type, enum msg_role from, enum msg_role to, bool welcomed);
/* May it carry a second frame? */
bool msg_has_bulk(uint32_t type);
