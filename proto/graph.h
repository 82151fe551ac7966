/* A job as a graph.  The client's parser makes it of a text, or a program builds it node by node through the library; the
 * scheduler checks and plans it, and a worker carries it out.  It is flat: nodes and edges are two arrays, in the order of
 * the text.  The body of a map or reduce consists of nodes whose `parent` is that map or reduce.
 *
 * Everything lives in the graph's own arena.  Strings end with NUL and may hold any other byte.  A graph that came from
 * another process must pass graph_check before anything is done with it. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Limits: a graph that exceeds one is refused, with the limit's name. */
#define GRAPH_NODES_MAX 4096
#define GRAPH_EDGES_MAX 8192
#define GRAPH_FILES_MAX 100000
#define GRAPH_WORDS_MAX 200000      /* argv, env and outputs of one node */
#define GRAPH_FDS_MAX   64          /* for one node */
#define GRAPH_BYTES_MAX (32u << 20) /* encoded */
#define GRAPH_WIDTH_MAX 1024
#define GRAPH_AUDIT_ALL 1000000
#define GRAPH_INTO_MAX  65536 /* partitions of a reduce */
#define GRAPH_SPLIT_NEVER UINT64_MAX
#define GRAPH_SPLIT_MIN  (256u << 10) /* an input known to be smaller is not worth cutting; */
#define GRAPH_FILE_MIN   (64u << 10)  /* nor, mostly, are files that are smaller on average, which one program reads sooner than many begin, */
#define GRAPH_FILES_RUN  1024         /* unless they are more, and runs may read several: so many files are of one run, */
#define GRAPH_FILES_ONCE 16384        /* or they are more than this: a sandbox holds each of its files open */
#define GRAPH_NONE      UINT32_MAX
#define GRAPH_FAN_DEFAULT 16 /* runs that one merge reads */
#define GRAPH_LINK_MAX 4095 /* bytes that a symbolic link says */
#define GRAPH_RECORD_TEXT_MAX 4096 /* bytes of TEXT in `map by start TEXT` and `map by TEXT` */

enum graph_kind {
    GRAPH_COMMAND, /* argv, run directly */
    GRAPH_SHELL,   /* opaque: argv[0] is the text for the shell in `shell` */
    GRAPH_SOURCE,  /* no process: segments end to end */
    GRAPH_SINK,    /* no process: where bytes leave the job */
    GRAPH_MAP,     /* its body consists of the nodes whose `parent` it is */
    GRAPH_REDUCE,
    GRAPH_BROADCAST, /* no process: copies all that it reads at fd 0 to each of its other fds */
    GRAPH_KINDS
};

enum graph_segment_kind {
    GRAPH_SEGMENT_STDIN, /* the job's stdin, from its present offset */
    GRAPH_SEGMENT_FILE,  /* file: index into graph.file */
    GRAPH_SEGMENT_TEXT,  /* literal bytes: heredoc, <<< */
    GRAPH_SEGMENTS
};

struct graph_segment {
    uint32_t kind;
    uint32_t file;     /* FILE */
    struct slice text; /* TEXT */
};

enum graph_sink_kind {
    GRAPH_SINK_STDOUT,
    GRAPH_SINK_STDERR, /* for an explicit >&2 or 1>&2 */
    GRAPH_SINK_FILE,   /* path: put in place, complete, when the job commits */
    GRAPH_SINK_APPEND, /* path: appended in one piece when the job commits */
    GRAPH_SINK_NULL,   /* /dev/null: the bytes are dropped */
    GRAPH_SINKS
};

/* One end of an edge at a node.  The edge gives the direction: the node is its `from` or its `to`.  A COMMAND or SHELL
 * without an entry for fd 0 reads an empty stream.  Without one for fd 1 it writes to the job's stdout (the parser never
 * leaves it out), and without one for fd 2 to the stage's stderr.  Two fds may name one edge (2>&1).  A SOURCE's end has fd
 * 1, a SINK's fd 0. */
struct graph_fd {
    int32_t fd;
    uint32_t edge;
};

struct graph_edge {
    uint32_t from, to; /* nodes */
    /* The consumer wants a file and not a stream (`cmd < f`): it gets the SOURCE's one regular file itself, seekable and
     * read-only. */
    bool seekable;
};

/* A file or directory of the client's that nodes may open.  `name` is what the program sees, relative to /job or absolute;
 * `path` is the client's absolute path.  Size, time, inode and mode are as the client found them at submission. */
struct graph_file {
    const char *name;
    const char *path;
    uint64_t size_bytes;
    uint64_t inode;
    int64_t mtime_ns;
    uint32_t mode; /* st_mode: type and permission bits */
    /* Used only in the client (or keeper): the file is what an earlier phase leaves at `path`, or else what exists there.
     * The path begins with two slashes, so that it is not taken for the file that exists now. */
    bool awaited;
    /* Used only in the client: the bytes that an earlier phase sent to this SINK, as its number plus 1; 0: an ordinary
     * file. */
    uint32_t passed;
    /* Of a symbolic link: what it says.  The program gets the link itself, and no bytes travel for it.  "": a file or
     * directory. */
    const char *link;
};

/* A file that a node may create in /job under `name`; if it does, its bytes go to `sink` (a SINK of
 * kind FILE without an edge). */
struct graph_output {
    const char *name;
    uint32_t sink;
};

/* Inputs that a stage might change are given to it as writable copies, up to this many bytes together.  Beyond that only
 * inputs that are named as outputs are copied. */
#define GRAPH_COPY_BYTES_MAX (16u << 20)

/* `with NAME=VALUE`; 0 means the default of the language page, unless said otherwise. */
struct graph_settings {
    uint64_t memory_bytes; /* default 1 GiB */
    uint64_t cpu_ns;       /* 0: none */
    uint64_t wall_ns;      /* timeout=; 0: none */
    uint64_t scratch_bytes;
    uint64_t output_bytes;
    uint64_t block_bytes;
    uint64_t seed;
    int64_t epoch_s; /* 946684800 = 2000-01-01 when epoch_set is false */
    bool epoch_set;
    uint32_t procs; /* default 256 */
    uint32_t fan;
    uint32_t retries; /* default 3 when retries_set is false */
    bool retries_set;
    uint32_t fail;     /* enum graph_fail */
    const char *image; /* "" = host */
    uint32_t descriptors; /* for each process; 0: none */
};

enum graph_fail { GRAPH_FAIL_DEFAULT, GRAPH_FAIL_SH, GRAPH_FAIL_STOP, GRAPH_FAIL_GO, GRAPH_FAILS };

enum graph_record_kind {
    GRAPH_RECORD_LINES, /* count lines, default 1 */
    GRAPH_RECORD_BYTES, /* count bytes */
    GRAPH_RECORD_PARAGRAPH,
    GRAPH_RECORD_START, /* begins with a line that starts with text */
    GRAPH_RECORD_END,   /* ends with text */
    GRAPH_RECORDS
};

/* ---- running a COMMAND in blocks -----------------------------------------------------------
 *
 * What the table of commands (zpipe.commands(5)) knows: where the input of a stage may be cut, what runs on each block, and
 * how the stage's output is made from the blocks' outputs.  Filled by dsl/split.  All zero: the stage runs once, on its
 * whole input, and the node's `why` names the reason.  To run a stage whole is always correct, so an executor does that if
 * it does not support what is written here.
 *
 * For every stage that is cut: no block is empty unless the whole input is (then argv runs once, on nothing).  A block that
 * ends with a status outside `ok_status`, or writes anything to stderr, spoils the stage, which then runs again, uncut.
 * The stage's status is the smallest of its blocks' statuses. */

/* Where a boundary between two blocks may be. */
enum graph_cut {
    GRAPH_CUT_NONE,
    GRAPH_CUT_BYTES, /* anywhere */
    GRAPH_CUT_LINES, /* after a newline */
    GRAPH_CUT_NULS,  /* after a zero byte */
    GRAPH_CUT_FILES, /* between files: a block is one of `file`, given as a word of block_argv */
    GRAPH_CUTS,
    /* Of maps only, see enum graph_record_kind: */
    GRAPH_CUT_PARAGRAPHS = GRAPH_CUTS,
    GRAPH_CUT_STARTS,
    GRAPH_CUT_ENDS
};

/* What a block runs: block_argv, or argv if there is none.  Where not all blocks run the same: */
enum graph_run {
    GRAPH_RUN_EACH,  /* all blocks run it */
    /* the first block runs it, the others run rest_argv; the first holds at least `first_units` bytes, lines or zero bytes,
     * as `cut` says, or the whole input */
    GRAPH_RUN_FIRST,
    GRAPH_RUN_LAST,  /* the last block runs it, the others run rest_argv */
    GRAPH_RUNS
};

/* How the stage's output is made from the blocks' outputs, in input order. */
enum graph_combine {
    GRAPH_COMBINE_CONCAT,  /* one after another */
    GRAPH_COMBINE_REVERSE, /* one after another, the last one first */
    GRAPH_COMBINE_RERUN,   /* combine_argv reads all of them, one after another, as its stdin */
    /* combine_argv gets them as file operands after its words; neighbours may be merged first, with the same result */
    GRAPH_COMBINE_MERGE,
    GRAPH_COMBINE_NATIVE,  /* proto/combine.h does it, as combine_text says */
    GRAPH_COMBINES
};

struct graph_split {
    uint32_t cut;      /* enum graph_cut */
    /* boundaries are only at multiples of so many bytes, lines or zero bytes from the start (of the file, if there is
     * `file`); at least 1 if the stage is cut */
    uint64_t cut_step;
    uint32_t run;      /* enum graph_run */
    uint64_t first_units;
    /* If there are files: the stage reads these, one after another, instead of fd 0, and no block spans two of them.  In
     * block_argv the hole {} (GRAPH_HOLE, `{`) stands for the name of the block's file. */
    const uint32_t *file; /* into graph.file */
    uint32_t file_count;
    const char *const *block_argv; /* what a block runs, see `run`; none: argv */
    uint32_t block_argc;
    const char *const *rest_argv; /* for FIRST and LAST */
    uint32_t rest_argc;
    uint32_t combine;                /* enum graph_combine */
    const char *const *combine_argv; /* for RERUN and MERGE; it must end with 0, or the stage is spoilt */
    uint32_t combine_argc;
    const char *combine_text; /* for NATIVE */
    /* bit N: a block may end with status N (0 to 31); also for a command in the body of a map; for a map: what its last
     * command may */
    uint32_t ok_status;
    bool ends_lines; /* if a block ends with a newline, so does its output, which can then be a block of the next stage's input */
    /* any of these bytes in a block spoils the stage, because the output after it depends on it (for grep a zero byte makes
     * the input binary) */
    struct slice spoils;
    bool stops_early;    /* it may end before its input does, so work ahead of it may be wasted */
    bool makes_zeros;    /* it may write zero bytes though it reads none */
    /* on empty input it ends with one of ok_status, and its output adds nothing to the combined output; so it may follow,
     * block by block, a stage that drops everything in a block */
    bool empty_ok;
    /* for MERGE: a merge of files with which ranges of keys are found: it keeps all lines, and equal ones in the order of
     * their files; files whose lines already follow each other come out unchanged */
    const char *const *order_argv;
    uint32_t order_argc;           /* 0: none */
    /* for LINES: a boundary is between one of these bytes and a byte that is not one of them, because what is squeezed
     * cannot cross it; empty: after a newline */
    struct slice seam;
    bool light; /* it costs little more than passing its bytes on, so it is not worth cutting by itself */
    /* its output for adjacent equal lines depends on nothing else: after a sort it may run once for each range of keys, and
     * the outputs are put one after another */
    bool groups;
    /* for RERUN: it writes the first or the last records that it reads, unchanged; from a merge of files it takes no record
     * that it would not take from that file alone */
    bool picks;
};

struct graph_node {
    uint32_t kind;         /* enum graph_kind */
    uint32_t parent;       /* the MAP or REDUCE whose body this is, or GRAPH_NONE */
    bool merge;            /* it belongs to the parent's merge body */
    bool negate;           /* `!`: 0 becomes 1, the rest 0 */
    bool ends;             /* its status counts: it is the last stage of a statement */
    uint32_t phase;        /* used only in the client: it runs when all earlier phases have ended */
    bool drain;            /* a stage inside `<( )` or `>( )`: its status is ignored */
    const char *label;     /* for messages and plans: canonical text of the stage */
    uint32_t line, column; /* of the stage's first byte, counted from 1; 0: the graph was built by a program */

    const char *const *argv; /* COMMAND: its words.  SHELL: one word, the text */
    uint32_t argc;
    const char *const *env; /* NAME=VALUE, for this node only */
    uint32_t envc;
    const char *shell; /* SHELL: "sh" or "bash" */
    const char *why;   /* why it is opaque or runs whole, as `zpipe plan` shows it; or "" */
    /* its words contain {} and the like, which are filled in for each task.  In the words a hole is the byte GRAPH_HOLE
     * followed by one of . / d b # {, where d is {//}, b is {/.} and { is {}; the parser refuses a literal GRAPH_HOLE byte */
    bool holes;

    const struct graph_fd *fd;
    uint32_t fd_count;
    const uint32_t *file; /* the files it may open, as indices into graph.file */
    uint32_t file_count;
    const struct graph_output *output;
    uint32_t output_count;
    const char *const *out_glob; /* from out=GLOB and from words, see word_globs */
    uint32_t out_glob_count;
    /* Words of the stage, sorted.  If it creates a file in /job under one of them, or below one, the file is an output of
     * the job under that name.  Their directories exist. */
    const char *const *keep;
    uint32_t keep_count;
    uint32_t word_globs; /* so many of out_glob, at its end, come from words: the stage need not make files that match these */

    const struct graph_segment *segment; /* SOURCE */
    uint32_t segment_count;

    uint32_t sink;    /* SINK: enum graph_sink_kind */
    const char *path; /* SINK FILE, APPEND: as typed */

    bool per_file;   /* MAP */
    uint32_t record; /* MAP: enum graph_record_kind */
    uint64_t record_count;
    struct slice record_text;
    /* MAP, REDUCE: tasks, counted from 1, that are recorded like failed ones (see `records` in struct graph), however they
     * end; 0: none. */
    uint64_t recorded_first, recorded_last;
    const char *key;       /* REDUCE: as typed, "1,3n" or "line"; see proto/key.h */
    int32_t key_separator; /* REDUCE: -t's byte, or -1 */
    uint32_t into;         /* REDUCE: partitions */

    struct graph_settings set;
    struct graph_split split; /* COMMAND */
    /* Set if its program must have the random stream of another place, as for a task that runs alone as it did in its
     * stage: 1 more than that stream; 0: its own. */
    uint64_t stream;
};

#define GRAPH_RECORDED_MAX 16 /* tasks of one node */

#define GRAPH_HOLE '\x01'

/* `check NAME sha256 HEX`: the bytes that reach the sink of this node must have this digest. */
struct graph_expect {
    uint32_t node; /* a SINK */
    const char *sha256;
    const char *name; /* for messages; used only in the client, like `line` */
    uint32_t line;
};

struct graph {
    struct arena arena; /* owns everything below */
    struct graph_node *node;
    uint32_t node_count;
    struct graph_edge *edge;
    uint32_t edge_count;
    struct graph_file *file;
    uint32_t file_count;
    struct graph_expect *expect;
    uint32_t expect_count;
    const char *const *env; /* NAME=VALUE of --env, for every node */
    uint32_t envc;
    bool pipefail;    /* --pipefail: a statement's status is the last that is not 0 */
    bool line_reads;  /* --line-reads: streams pass on at once what there is; results are not certified */
    uint64_t split_bytes; /* size of every block, for tests; 0: by the table; or GRAPH_SPLIT_NEVER */
    uint32_t width;   /* blocks at once; 0: the worker's slots */
    bool tell_blocks; /* report each run of blocks when it has ended: BLOCK */
    uint32_t audit;   /* of GRAPH_AUDIT_ALL tasks, so many are run twice and compared (stages in blocks) */
    bool records;     /* failed tasks of a map or reduce are sent to the client, so that they can be run again alone: proto/record.h */
    bool timed;       /* `time` */
    bool timed_posix; /* `time -p` */

    /* Used only in graph.c: room in the arrays above, and an index of the files. */
    uint32_t node_room, edge_room, file_room, file_slots;
    uint32_t *file_slot;
};

struct graph *graph_new(struct err *e); /* an empty graph, owned by the caller */
void graph_free(struct graph *g);

/* Functions to build a graph, for dsl/lower and the library's builder.  The new item is zeroed (parent GRAPH_NONE,
 * key_separator -1, strings "").  Returns its index, or GRAPH_NONE with e filled. */
uint32_t graph_add_node(struct graph *g, uint32_t kind, struct err *e);
uint32_t graph_add_edge(struct graph *g, uint32_t from, uint32_t to, struct err *e);
uint32_t graph_add_file(struct graph *g, const struct graph_file *f,
                        struct err *e); /* copies the texts; the same name and path give the same file */
/* Adds {fd, edge} to a node's table; replaces an entry for the same fd. */
int graph_set_fd(struct graph *g, uint32_t node, int fd, uint32_t edge, struct err *e);
/* The node's entry for fd, or NULL. */
const struct graph_fd *graph_fd_of(const struct graph_node *n, int fd);

/* How a node ended, and the job's status that follows.  As in sh, a statement's status is that of its last stage.  With
 * pipefail it is that of the last stage that failed, where a stage that ended because its reader had left counts as 0.  `!`
 * inverts it.  The job's status is that of its first statement whose status is not 0. */
struct graph_end {
    uint32_t status;
    bool early_stop;
};
uint32_t graph_status(const struct graph *g, struct graph_end (*end)(const void *owner, uint32_t node),
                      const void *owner);

/* Is it one of the nodes whose end is reported: a program, or a map or reduce with its whole body? */
bool graph_is_stage(const struct graph_node *n);
/* What a failure of this node does.  In a map, a reduce and their bodies it ends the job, unless they say otherwise. */
enum graph_fail graph_fail_of(const struct graph_node *n);

bool graph_is_link(const struct graph_file *f);
/* May it make files that the job keeps?  Then they travel as a stream, see proto/made.h. */
bool graph_makes(const struct graph_node *n);
/* Fills e: what the edge leads to could not be written to (errno is set); names the file if it is one.  GRAPH_NONE: no
 * edge. */
int graph_write_failed(const struct graph *g, uint32_t edge, struct err *e);
/* Does this stage send files as a stream?  A map does so for the named outputs of all its tasks, and for records. */
bool graph_sends_files(const struct graph *g, uint32_t node);
/* Is it a sink in a body?  Each task has one of its own. */
bool graph_is_task_sink(const struct graph_node *n);

/* One word for plans that says how a COMMAND is cut and combined: stateless, files, reduce, merge, boundary, rerun, first,
 * last, offset, aligned, reverse or whole. */
const char *graph_class(const struct graph_node *n);
/* The first offset at or after `at` where a block is to begin; it begins at the next record.  split_bytes: as in struct
 * graph. */
uint64_t graph_nominal(uint64_t split_bytes, uint64_t at);
uint64_t graph_nominal_count(uint64_t bytes); /* how many blocks the table gives for so many bytes */

/* Checks everything that must hold: indices are in range, each edge is named by exactly the fds at its two ends, there is
 * no cycle, kinds have their fields, limits hold, no string has a NUL where it must not, names are inside /job without
 * `..`. */
int graph_check(const struct graph *g, struct err *e);

/* The same for one node's split. */
int graph_check_split(const struct graph *g, const struct graph_node *n, struct err *e);

/* The wire form: one msgpack value.  Decoding checks sizes before it allocates, then graph_check.
 */
int graph_encode(const struct graph *g, struct buf *out, struct err *e);
struct graph *graph_decode(const void *data, size_t size, struct err *e); /* owned by the caller */
