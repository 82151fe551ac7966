/* Running programs in sandboxes: the interface for a worker.  A `struct box` is one zpipe-box server process, and one more
 * for each lane that is in use, and the sockets to them.  It runs *regions*: sets of programs that stream into each other and
 * are started together.  The bytes between programs of a region pass through no process of ours.  All calls return at once;
 * what happens is told by callbacks from box_dispatch. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOX_TASKS_MAX    4096  /* of a region */
#define BOX_CHANNELS_MAX 8192  /* of a region */
#define BOX_SPEC_BYTES_MAX (64u << 20) /* one region's encoded spec */
#define BOX_REGIONS_MAX  1024  /* at once in one box */
#define BOX_LANES_MAX    64
#define BOX_SOURCES_MAX  64   /* in one box_feed */
#define BOX_MANY         8    /* with so many tasks of a kind to come, a template is worth making, and worth waiting for */
#define BOX_KEEP_BYTES_MAX (32u << 10) /* of one KEEP channel in memory; if there is more, all of it goes into a file */
#define BOX_KEEP_TOTAL_MAX (64u << 20) /* of all KEEP channels of a box in memory */

enum box_isolation { BOX_ISOLATION_FULL, BOX_ISOLATION_NONE /* explicit, uncertified, loud */ };

struct box_options {
    const char *program; /* the path of zpipe-box; NULL: as box_program finds it */
    enum box_isolation isolation;
    bool no_templates; /* start every program anew; otherwise programs that come again may be cloned, with the same bytes */
};

/* A file or directory that the program may open.  `name` is relative to /job or absolute; the file is `path` on this host
 * or, if that is NULL, `fd`.  The program can only read it; with `copy` it gets a private writable copy instead (an input
 * that may also be an output: it is one if the program changed it).  With `fd` it may be a part of that file: `size` bytes
 * from `offset`. */
struct box_file {
    const char *name;
    const char *path;
    int fd; /* -1 when path is given; borrowed */
    bool copy;
    uint64_t offset, size; /* size 0: the whole file */
    /* NULL: it is a file or directory.  Otherwise it is a symbolic link that says this, path is NULL and fd -1; the program
     * alone follows it.  Where another input or the directory of an output stands there is no link. */
    const char *link;
    bool directory; /* it is an empty directory, which the program may fill; path is NULL and fd -1 */
};

/* One descriptor of the program, or one that it may open by name.  It is either one end of a channel of the region, or a
 * descriptor of the caller's that the program gets as it is (a regular file, opened in one direction only: `< f`, `> f`). */
struct box_port {
    int fd;           /* in the program: 0, 1, 2, 63, ... */
    bool write;       /* the program writes */
    int32_t channel;  /* index, or -1 */
    int file;         /* with channel -1: borrowed until box_run returns.  -1: /dev/null */
    const char *name; /* NULL; or "in/NAME" or "out/NAME": the program has no such descriptor, but opens it under this name below /dev */
    uint64_t quota;   /* of a named file that is written: after so many bytes writes fail with EDQUOT; 0: no quota */
    bool null;        /* to the program its channel is /dev/null: what it writes there is counted, then dropped */
};

/* Limits of a task; 0: none.  memory and files are for each process.  output is for each file, and for each channel to a
 * DRAIN or KEEP.  The others are for all processes of the task together. */
struct box_limits {
    uint64_t memory_bytes, cpu_ns, wall_ns, scratch_bytes, output_bytes;
    uint32_t procs, files;
};

struct box_task {
    const char *const *argv; /* NULL-terminated; argv[0] is searched in PATH of env */
    const char *const *env;  /* NULL-terminated: the whole environment */
    const struct box_file *file;
    uint32_t file_count;
    const struct box_port *port;
    uint32_t port_count;
    /* Names in /job whose files are handed back, or, where one is a directory, the files below it.  The directories that
     * these names are in exist when the program starts. */
    const char *const *output;
    uint32_t output_count;
    const char *const *out_glob; /* patterns of such names, as in kept.h */
    uint32_t out_glob_count;
    struct box_limits limit;
    uint64_t seed;
    uint64_t stream; /* with `seed`: which random stream is used after the first use of a channel */
    int64_t epoch_s; /* the start of the logical clock */
    uint32_t expected; /* how many tasks of its kind are to come at least, this one included; 0: not known */
    bool trace;      /* trace its phases and its notified and refused calls (slower, the same bytes) */
};

enum box_channel_end {
    BOX_INSIDE,  /* both ends are tasks of the region */
    BOX_FEED,    /* the writer is a pump inside zpipe-box, which copies the sources into it, one after the other */
    BOX_DRAIN,   /* the reader is a pump inside zpipe-box, which copies it to `sink` */
    BOX_COPY,    /* no program: a pump copies the sources to `sink` */
    BOX_REMOTE_WRITER, /* the writer is the caller: box_run gives it its end in *caller_fd */
    BOX_REMOTE_READER, /* the reader is the caller */
    BOX_KEEP,          /* the reader is zpipe-box itself; when the writer has ended, `kept` gets the bytes */
};

/* A source of bytes for a pump. */
#define BOX_ALL UINT64_MAX
struct box_source {
    int fd;          /* borrowed until the call returns */
    uint64_t offset; /* BOX_ALL: from its present offset to its end; otherwise fd must be seekable */
    uint64_t size;   /* with an offset: so many bytes; it is an error if there are fewer */
};

/* A stream with exactly one reading and one writing side.  To a writing task it looks like a pipe: it gets SIGPIPE when the
 * reading side is gone, even while it is blocked.  A reading task's reads are full until the end. */
struct box_channel {
    enum box_channel_end end;
    bool lines;           /* reads return what there is, without waiting to be full */
    bool more;            /* FEED, COPY: box_feed will bring more sources, until box_feed_end */
    bool exact;           /* INSIDE: its writer, or a program before that, shows elsewhere how far it came.  So after the
                           * reader has left exactly 1 MiB more can be written, and SIGPIPE comes at the same byte each time */
    bool if_files;        /* exact only if such a program then has a file open for writing */
    bool tell;            /* DRAIN, COPY: call `moved` as bytes are copied */
    bool digest;          /* FEED, DRAIN, COPY: call `digested` with the SHA-256 of the bytes (slower) */
    const struct box_source *source; /* FEED, COPY */
    uint32_t source_count;
    int sink;             /* DRAIN, COPY: borrowed until box_run returns; never set non-blocking */
    int caller_fd;        /* out, REMOTE_*: the caller's end, a unix stream socket; given */
};

struct box_region {
    const struct box_task *task; /* may be none: then all channels are COPY */
    uint32_t task_count;
    struct box_channel *channel;
    uint32_t channel_count;
    uint64_t after; /* its tasks begin when all tasks of that region have ended, or at box_release; 0: at once */
};

enum box_end {
    BOX_EXITED,     /* status */
    BOX_SIGNALLED,  /* signal */
    BOX_LIMIT,      /* a limit of ours ended it: `limit` says which */
    BOX_NOT_FOUND,  /* no such program in the sandbox: 127 */
    BOX_NOT_RUN,    /* found, but not executable: 126; `sys` is exec's errno */
    BOX_FAILED,     /* the sandbox could not be made, through no fault of the program: `text` says why */
    BOX_KILLED,     /* ended by box_stop */
};

/* The limits that a task's cgroup enforces for all its processes together, besides those that are enforced everywhere. */
enum { BOX_HOLDS_MEMORY = 1, BOX_HOLDS_PROCS = 2, BOX_HOLDS_CPU = 4 };

/* What a program left in /job, or removed from it. */
enum box_made_kind {
    BOX_MADE_FILE,
    BOX_MADE_LINK,      /* a symbolic link to a file, or a file with a second name; as an output it becomes a file of its own */
    BOX_MADE_NOWHERE,   /* a symbolic link that leads to no file of the task */
    BOX_MADE_DIRECTORY, /* an empty directory */
    BOX_MADE_SPECIAL,   /* a fifo, a socket */
    BOX_MADE_GONE,      /* an input, or an input's directory, that was removed or renamed */
    BOX_MADE_KINDS
};

struct box_made {
    const char *name;
    int fd;       /* an output: open for reading, at offset 0, given; -1: not wanted, only to be mentioned */
    uint32_t mode;
    enum box_made_kind kind;
};

struct box_result {
    enum box_end end;
    int status, signal, sys;
    const char *limit;   /* "memory", "cpu", ...; "" */
    const char *text;    /* BOX_FAILED, NOT_FOUND, NOT_RUN: one sentence */
    uint64_t cpu_user_ns, cpu_sys_ns, wall_ns, memory_peak_bytes; /* the peak: of its largest process */
    uint64_t clock_ns; /* logical time that passed */
    uint64_t calls;    /* system calls that zpipe-box answered */
    const char *unknown_calls; /* numbers of system calls that zpipe-box does not know, each once: "451, 999"; or "" */
    bool certified;
    const char *uncertified_why; /* "" when certified */
    const char *cold_why;        /* why it was started anew; "": it was cloned from a template */
    const char *cgroup, *cgroup_why; /* the cgroup that it was in; or "", and why it was in none */
    uint32_t cgroup_holds;           /* BOX_HOLDS_* */
    uint64_t tree_peak_bytes;        /* the most memory that its cgroup used, files included; 0: not known */
    const struct box_made *made; /* borrowed for the call; the fds are given */
    uint32_t made_count;
};

struct box_kept {
    const void *data;
    uint64_t size;
    int fd, sys;
};

struct box_events {
    void (*task_ended)(void *owner, uint64_t region, uint32_t task, const struct box_result *r);
    /* A pump (FEED, DRAIN, COPY) ended after `bytes`; sys is the errno that ended it, or 0.  `reading`: the error was on
     * the reading side; ESTALE: a source was shorter than announced. */
    void (*pump_ended)(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading);
    /* Called before the end of a pump with `digest`, unless the pump was killed: the digest of all that it moved.  May be
     * NULL. */
    void (*digested)(void *owner, uint64_t region, uint32_t channel, const uint8_t sha256[32]);
    /* All that was written to a KEEP channel; not called if nothing was.  Called before region_ended and, if the bytes are
     * in memory, before the task's end.  `size` bytes at `data`, borrowed; or in `fd`, given, if that is not -1.  sys: they
     * could not be kept, and there are none.  May be NULL if no region has such a channel. */
    void (*kept)(void *owner, uint64_t region, uint32_t channel, const struct box_kept *k);
    /* A pump with `more` or `tell` has moved `bytes` so far, and is done with `sources` of its sources.  May be NULL. */
    void (*moved)(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, uint64_t sources);
    /* Some whole lines of a task's trace, each "SECONDS WHAT": the real time since the task was asked for, then text that
     * is the same in every run.  May be NULL. */
    void (*traced)(void *owner, uint64_t region, uint32_t task, const char *text, size_t size);
    /* Everything of the region is gone: processes, channels, mounts.  It is the last call for the region. */
    void (*region_ended)(void *owner, uint64_t region);
    /* The answer to box_look: what a task's processes have read and written so far.  May be NULL. */
    void (*bytes)(void *owner, uint64_t region, uint32_t task, uint64_t in, uint64_t out);
    /* zpipe-box itself is gone, or a lane of it; no more callbacks will come. */
    void (*lost)(void *owner, const struct err *why);
};

struct box;

/* A lane is a server of its own that stays on one CPU together with its tasks, as long as these are short: then what a task
 * costs besides its own time is half of what it is when each step wakes another CPU.  A region's id says in which lane it
 * runs, in its upper 8 bits: 1 to BOX_LANES_MAX.  0 there: in the server that there always is, on all CPUs. */
#define BOX_LANE_SHIFT 56
static inline unsigned box_lane(uint64_t region)
{
    return (unsigned)(region >> BOX_LANE_SHIFT);
}

/* Find the program zpipe-box: beside this program, or in the installed tree that this program or libzpipe.so is in, or
 * where it was configured to be installed.  -1: it is at none of them. */
int box_program(char *path, size_t size, struct err *e);

/* Start zpipe-box.  Returns at once: if the host refuses something (user namespaces, ...), `lost` is called later, with a
 * sentence and its remedy. */
struct box *box_open(const struct box_options *options, const struct box_events *events, void *owner,
                     struct err *e);
/* After `lost`, but not from within it: start another zpipe-box, with a new descriptor.  What ran in the old one is lost. */
int box_again(struct box *b, struct err *e);
void box_close(struct box *b); /* kills what runs; waits until zpipe-box is gone */

/* A descriptor to wait on for reading; then call box_dispatch, which reads what has come and makes the callbacks. */
int box_fd(const struct box *b);
void box_dispatch(struct box *b);

/* Start a region, under an id that the caller chooses.  A lane's server starts with its first region.  `after` is a region of
 * the same lane. */
int box_run(struct box *b, uint64_t region, struct box_region *r, struct err *e);
int box_release(struct box *b, uint64_t region, struct err *e); /* the region no longer waits for another one */
/* Ask how much the region's tasks have read and written; `bytes` gets the answers. */
int box_look(struct box *b, uint64_t region, struct err *e);
/* Call it once a second: a server that stands still, stopped or hung, for a minute in which it was asked again and again is killed, and `lost`
 * follows.  What runs in it would never end otherwise, and nobody else would do it. */
void box_ask(struct box *b, uint64_t now_ns);
/* Kill every task of the region; results still arrive, as BOX_KILLED. */
int box_stop(struct box *b, uint64_t region, struct err *e);
/* The reader of a REMOTE_READER or DRAIN channel wants no more: its writers get SIGPIPE.  The caller of a REMOTE_READER
 * closes its end after this call, not before. */
int box_break(struct box *b, uint64_t region, uint32_t channel, struct err *e);
/* box_feed: more sources for a channel with `more`, at most BOX_SOURCES_MAX a call.  The caller bounds how many are not
 * done yet, by what `moved` tells.  box_feed_end: that was all. */
int box_feed(struct box *b, uint64_t region, uint32_t channel, const struct box_source *source,
             uint32_t count, struct err *e);
int box_feed_end(struct box *b, uint64_t region, uint32_t channel, struct err *e);
/* Templates may be given up, and lanes ended: no more tasks of their kinds will come.  If there are regions, lanes stay as they are. */
int box_forget(struct box *b, struct err *e);
/* Stop a channel's pump, or let it go on. */
int box_hold(struct box *b, uint64_t region, uint32_t channel, bool hold, struct err *e);
