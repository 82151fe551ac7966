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

/* Ceilings: a graph over one of them is refused with its name. */
#define GRAPH_NODES_MAX 4096
#define GRAPH_EDGES_MAX 8192
#define GRAPH_FILES_MAX 100000
#define GRAPH_WORDS_MAX 200000      /* argv, env and outputs of one node */
#define GRAPH_FDS_MAX   64          /* of one node */
#define GRAPH_BYTES_MAX (32u << 20) /* encoded */
#define GRAPH_WIDTH_MAX 1024
#define GRAPH_AUDIT_ALL 1000000
#define GRAPH_INTO_MAX  65536 /* partitions of a reduce */
#define GRAPH_SPLIT_NEVER UINT64_MAX
#define GRAPH_SPLIT_MIN  (256u << 10) /* an input known to be smaller is not worth cutting */
#define GRAPH_NONE      UINT32_MAX
#define GRAPH_FAN_DEFAULT 16 /* of a merge */
#define GRAPH_RECORD_TEXT_MAX 4096 /* of `map by start TEXT` and `map by TEXT` */

enum graph_kind {
    GRAPH_COMMAND, /* argv, run directly */
    GRAPH_SHELL,   /* opaque: argv[0] is the text for the shell in `shell` */
    GRAPH_SOURCE,  /* no process: segments end to end */
    GRAPH_SINK,    /* no process: where bytes leave the job */
    GRAPH_MAP,     /* its body are the nodes whose parent it is */
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
    uint64_t cpu_ns;       /* none */
    uint64_t wall_ns;      /* timeout=; none */
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
    uint32_t descriptors; /* of each process; none */
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
 * What the table of commands (zpipe.commands(5)) knows: where the input of a stage may be cut, what
 * runs on each block, and how the blocks' outputs become the stage's.  Filled by dsl at lowering;
 * all zero: the stage runs once, on everything, and the node's `why` says which word made it so.
 * Running it so is always right: an executor does that for whatever here it does not carry out.
 *
 * Of every stage that is cut: no block is empty, unless the whole input is (then argv runs once, on
 * nothing); a block that ends with a status outside `ok_status`, or says anything on stderr, spoils
 * the whole: the stage runs again, uncut.   Its status is the smallest of its blocks'. */

/* Where a boundary between two blocks may be. */
enum graph_cut {
    GRAPH_CUT_NONE,
    GRAPH_CUT_BYTES, /* anywhere */
    GRAPH_CUT_LINES, /* behind a newline */
    GRAPH_CUT_NULS,  /* behind a zero byte */
    GRAPH_CUT_FILES, /* nothing is cut: a block is one of `file`, given as a word of block_argv */
    GRAPH_CUTS,
    /* Of maps only, see enum graph_record_kind: */
    GRAPH_CUT_PARAGRAPHS = GRAPH_CUTS,
    GRAPH_CUT_STARTS,
    GRAPH_CUT_ENDS
};

/* What a block runs: block_argv, or argv when there is none; and where not all run the same: */
enum graph_run {
    GRAPH_RUN_EACH,  /* all do */
    GRAPH_RUN_FIRST, /* the first does, the others rest_argv; the first holds at least `first_units`
                        bytes, lines or zero bytes, as `cut` says, or the whole input */
    GRAPH_RUN_LAST,  /* the last does, the others rest_argv */
    GRAPH_RUNS
};

/* How the stage's output is made of the blocks', taken in input order. */
enum graph_combine {
    GRAPH_COMBINE_CONCAT,  /* end to end */
    GRAPH_COMBINE_REVERSE, /* end to end, the last one first */
    GRAPH_COMBINE_RERUN,   /* combine_argv, once, with all of them end to end as its stdin */
    GRAPH_COMBINE_MERGE,   /* combine_argv, with them as file operands behind its words; of some
                              neighbours first and of what comes out then is the same */
    GRAPH_COMBINE_NATIVE,  /* proto/combine.h, by combine_text */
    GRAPH_COMBINES
};

struct graph_split {
    uint32_t cut;      /* enum graph_cut */
    uint64_t cut_step; /* boundaries only at multiples of so many bytes, lines or zero bytes from
                          the start (of the file, with `file`); at least 1 where there is a cut */
    uint32_t run;      /* enum graph_run */
    uint64_t first_units;
    /* The stage's input is not fd 0 but these, one after the other; no block spans two of them. In
     * block_argv the hole {} (GRAPH_HOLE, `{`) is the name of the file that the block is of. */
    const uint32_t *file; /* into graph.file */
    uint32_t file_count;
    const char *const *block_argv; /* what a block runs, by `run`; none: argv */
    uint32_t block_argc;
    const char *const *rest_argv; /* FIRST, LAST */
    uint32_t rest_argc;
    uint32_t combine;                /* enum graph_combine */
    const char *const *combine_argv; /* RERUN, MERGE; its status is 0 or the whole is spoilt */
    uint32_t combine_argc;
    const char *combine_text; /* NATIVE */
    uint32_t ok_status;       /* bit N: a block may end with status N (0 to 31); also in the body of a map, and of the map what its last command may */
    bool ends_lines; /* the output of a block that ends behind a newline does so too: it can be a
                        block of the next stage's input as it stands */
    struct slice spoils; /* one of these bytes anywhere in a block spoils the whole: what comes
                            after depends on it (for grep a zero byte makes the input binary) */
    bool stops_early;    /* it may end before its input does: work ahead of it may be in vain */
    bool makes_zeros;    /* it may write zero bytes where it read none */
    bool empty_ok;       /* on empty input it ends with one of ok_status and writes what adds nothing to
                            the combined output: so it may follow, block by block, a stage that drops
                            everything of a block */
    const char *const *order_argv; /* MERGE: a merge of files likewise, by which ranges of keys are found:
                                      all lines are kept, equal ones in the order of their files; files
                                      in which these follow each other are merged as they stand */
    uint32_t order_argc;           /* 0: there is none */
    struct slice seam; /* LINES: a boundary is between one of these bytes and one that is none of them,
                          where what is squeezed cannot reach over it; none: behind a newline */
    bool light; /* it takes little more than passing its bytes on: alone it is not worth cutting */
    bool groups; /* what it makes of equal lines side by side depends on nothing else: behind a sort each range of keys may
                    have a run of its argv, and the outputs stand end to end */
    bool picks;  /* RERUN: what it writes are the first or the last of the records that it reads, as they are: of what a merge
                    makes of files it takes none that it would not take of one of them */
};

struct graph_node {
    uint32_t kind;         /* enum graph_kind */
    uint32_t parent;       /* the MAP or REDUCE whose body this is, or GRAPH_NONE */
    bool merge;            /* with a parent: of its merge body */
    bool negate;           /* `!`: 0 becomes 1, the rest 0 */
    bool ends;             /* its status counts: the last stage of a statement */
    uint32_t phase;        /* the client's own: it runs when all before have ended */
    bool drain;            /* `<( )`, `>( )` inner stage: its status is ignored */
    const char *label;     /* as typed, for messages and plans: canonical text of the stage */
    uint32_t line, column; /* of the stage's first byte, from 1; 0: built by a program */

    const char *const *argv; /* COMMAND: words.  SHELL: one, the text */
    uint32_t argc;
    const char *const *env; /* NAME=VALUE, of this node only */
    uint32_t envc;
    const char *shell; /* SHELL: "sh" or "bash" */
    const char *why;   /* why it is opaque or whole, as `zpipe plan` says it; "" */
    bool holes; /* words hold {} and the like, to be filled in per task.  A hole stands in the
                 * words as the byte GRAPH_HOLE followed by one of . / d b # {, where d is {//},
                 * b is {/.} and { is {}; a literal GRAPH_HOLE byte is refused by the parser */

    const struct graph_fd *fd;
    uint32_t fd_count;
    const uint32_t *file; /* into graph.file: what it may open */
    uint32_t file_count;
    const struct graph_output *output;
    uint32_t output_count;
    const char *const *out_glob; /* with out=GLOB */
    uint32_t out_glob_count;
    /* Words of the stage, sorted: a file that it creates in /job under one of them, or below one, is an
     * output of the job under that name.  Their directories are there. */
    const char *const *keep;
    uint32_t keep_count;
    uint32_t word_globs; /* so many of out_glob, the last ones, are of words: nobody has said that it makes any */

    const struct graph_segment *segment; /* SOURCE */
    uint32_t segment_count;

    uint32_t sink;    /* SINK: enum graph_sink_kind */
    const char *path; /* SINK FILE, APPEND: as typed */

    bool per_file;   /* MAP */
    uint32_t record; /* MAP: enum graph_record_kind */
    uint64_t record_count;
    struct slice record_text;
    /* MAP, REDUCE: tasks, from 1, that are sent as those that fail are (graph's `records`), however they end; 0: none. */
    uint64_t recorded_first, recorded_last;
    const char *key;       /* REDUCE: as typed, "1,3n" or "line": proto/key.h */
    int32_t key_separator; /* REDUCE: -t's byte, or -1 */
    uint32_t into;         /* REDUCE: partitions */

    struct graph_settings set;
    struct graph_split split; /* COMMAND */
    /* 1 more than the random stream of its program, where it is to be that of another place: a task that runs alone as
     * it did in its stage; 0: its own. */
    uint64_t stream;
};

#define GRAPH_RECORDED_MAX 16 /* tasks */

#define GRAPH_HOLE '\x01'

/* `check NAME sha256 HEX`: the bytes that reach the sink of this node must have this digest. */
struct graph_expect {
    uint32_t node; /* a SINK */
    const char *sha256;
    const char *name; /* for messages; the client's own, like the line */
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
    const char *const *env; /* NAME=VALUE of --env: every node's */
    uint32_t envc;
    bool pipefail;    /* --pipefail: the status is the last that is not 0 */
    bool line_reads;  /* --line-reads: streams pass what there is, at once; uncertified */
    uint64_t split_bytes; /* nominal size of every block, for tests; 0: the table; GRAPH_SPLIT_NEVER */
    uint32_t width;   /* blocks at once; 0: the worker's slots */
    bool tell_blocks; /* each run of blocks is told of when it has ended: BLOCK */
    uint32_t audit;   /* of GRAPH_AUDIT_ALL tasks of stages in blocks so many are run twice and compared */
    bool records;     /* what fails of a map or reduce is sent to the client, to be run again alone: proto/record.h */
    bool timed;       /* `time` */
    bool timed_posix; /* `time -p` */

    /* Room in the arrays above, and an index of the files: graph.c's own. */
    uint32_t node_room, edge_room, file_room, file_slots;
    uint32_t *file_slot;
};

struct graph *graph_new(struct err *e); /* gives; empty */
void graph_free(struct graph *g);

/* Growing a graph: used by dsl/lower and by the library's builder.  The new item is zeroed (parent
 * GRAPH_NONE, key_separator -1, strings "") and its index returned, or GRAPH_NONE with e filled. */
uint32_t graph_add_node(struct graph *g, uint32_t kind, struct err *e);
uint32_t graph_add_edge(struct graph *g, uint32_t from, uint32_t to, struct err *e);
uint32_t graph_add_file(struct graph *g, const struct graph_file *f,
                        struct err *e); /* copies; same name+path is found again */
/* Add {fd, edge} to a node's table; replaces an entry for the same fd. */
int graph_set_fd(struct graph *g, uint32_t node, int fd, uint32_t edge, struct err *e);
/* The node's entry for fd, or NULL. */
const struct graph_fd *graph_fd_of(const struct graph_node *n, int fd);

/* How a node ended, and what the job's status is then.  As in sh: a statement's status is its last stage's;
 * with pipefail that of the last stage that failed, where one that was ended because its reader had left
 * counts as 0; `!` turns it around.  The job's is that of its first statement, in order, whose status is
 * not 0. */
struct graph_end {
    uint32_t status;
    bool early_stop;
};
uint32_t graph_status(const struct graph *g, struct graph_end (*end)(const void *owner, uint32_t node),
                      const void *owner);

/* One of the things whose end is told: a program, or a map or reduce with all of its body. */
bool graph_is_stage(const struct graph_node *n);
/* What a failure of it does: of a map, a reduce and their bodies it ends the job, unless they say otherwise. */
enum graph_fail graph_fail_of(const struct graph_node *n);

/* May it make files that the job keeps?  Then they are a stream, as proto/made.h says. */
bool graph_makes(const struct graph_node *n);
/* What an edge leads to could not be written to, with errno: says so, with the file's name if it is one.  GRAPH_NONE: no edge. */
int graph_write_failed(const struct graph *g, uint32_t edge, struct err *e);
/* Does a stage have such a stream?  A map has one for the named outputs of all of its tasks, and for a record. */
bool graph_sends_files(const struct graph *g, uint32_t node);
/* Is it the sink of a body, of which each task has one? */
bool graph_is_task_sink(const struct graph_node *n);

/* How a COMMAND is cut and made one again, in a word for plans: stateless, files, reduce, merge,
 * boundary, rerun, first, last, offset, aligned, reverse or whole. */
const char *graph_class(const struct graph_node *n);
/* Where blocks begin, if a record does: the first such offset at or behind `at`.  split_bytes: as in struct graph. */
uint64_t graph_nominal(uint64_t split_bytes, uint64_t at);
uint64_t graph_nominal_count(uint64_t bytes); /* how many blocks these are, by the table */

/* Everything that must hold: indices in range, edges joined at both ends by exactly the fds that
 * name them, no cycle, kinds with their fields, ceilings, no NUL trouble, names inside /job without
 * `..`. */
int graph_check(const struct graph *g, struct err *e);

/* ... of one node's split alone. */
int graph_check_split(const struct graph *g, const struct graph_node *n, struct err *e);

/* The wire form: one msgpack value.  Decoding checks sizes before it allocates, then graph_check.
 */
int graph_encode(const struct graph *g, struct buf *out, struct err *e);
struct graph *graph_decode(const void *data, size_t size, struct err *e); /* gives */
