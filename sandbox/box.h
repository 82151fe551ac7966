/* Running programs in sandboxes: the side that a worker sees.  A `struct box` is one zpipe-box server
 * process and the socket to it; it runs *regions*: sets of programs that stream into each other,
 * started together.  Channels between programs of a region are joined inside; their bytes pass through
 * nobody.  All calls return at once; what happens is told by callbacks from box_dispatch. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOX_TASKS_MAX    4096  /* of a region */
#define BOX_CHANNELS_MAX 8192  /* of a region */
#define BOX_SPEC_BYTES_MAX (64u << 20) /* one region's encoded spec */
#define BOX_REGIONS_MAX  1024  /* at once in one box */
#define BOX_SOURCES_MAX  64   /* of one box_feed */
#define BOX_MANY         8    /* tasks of a kind that are worth a template, and waiting until it is made */
#define BOX_KEEP_BYTES_MAX (32u << 10) /* of one KEEP channel in memory; more: all of it in a file */
#define BOX_KEEP_TOTAL_MAX (64u << 20) /* of all of a box's, likewise */

enum box_isolation { BOX_ISOLATION_FULL, BOX_ISOLATION_NONE /* explicit, uncertified, loud */ };

struct box_options {
    const char *program; /* zpipe-box; NULL: as box_program says */
    enum box_isolation isolation;
    bool no_templates; /* every program is started anew; else those that come again may be cloned, with the same bytes */
};

/* A file or directory that the program may open.  `name` relative to /job or absolute; `path` on this
 * host, or NULL and `fd`.  Read-only, unless `copy`: then the program gets a private writable copy
 * (an input that may also be an output: it is one if the program changed it).  With `fd` it may be a part of
 * that file: `size` bytes from `offset`. */
struct box_file {
    const char *name;
    const char *path;
    int fd; /* -1 when path is given; borrowed */
    bool copy;
    uint64_t offset, size; /* size 0: all of it */
};

/* One descriptor of the program, or one that it may open by name.  Either one end of a channel of the region, or a descriptor of the
 * caller's that the program gets as it is (a regular file opened for one direction only: `< f`,
 * `> f`). */
struct box_port {
    int fd;           /* in the program: 0, 1, 2, 63, ... */
    bool write;       /* the program writes */
    int32_t channel;  /* index, or -1 */
    int file;         /* with channel -1: borrowed until box_run returns.  -1: /dev/null */
    const char *name; /* NULL, or "in/NAME", "out/NAME": then it has no number, and is opened below /dev */
    uint64_t quota;   /* of a named file that is written: bytes, then EDQUOT; 0: any number */
};

/* 0: none.  memory, files: of each process; output: of each file, and of each channel to a DRAIN; the
 * others of all the task's processes together.  As to a DRAIN, so to a KEEP. */
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
    /* Names in /job whose files are handed back, or the files below them where they are directories; the
     * directories that a name lies in are there when the program starts. */
    const char *const *output;
    uint32_t output_count;
    const char *const *out_glob; /* patterns likewise, as in kept.h */
    uint32_t out_glob_count;
    struct box_limits limit;
    uint64_t seed;
    uint64_t stream; /* with seed: which random stream after the first use of a channel */
    int64_t epoch_s; /* logical clock's start */
    uint32_t expected; /* so many tasks of its kind, itself among them, are to come, or more; 0: the caller cannot tell */
    bool trace;      /* tell its phases and its notified and refused calls (slower, the same bytes) */
};

enum box_channel_end {
    BOX_INSIDE,  /* both ends are tasks of the region */
    BOX_FEED,    /* the writer is a pump inside zpipe-box, which copies the sources into it, end to end */
    BOX_DRAIN,   /* the reader is a pump inside zpipe-box, which copies it to `sink` */
    BOX_COPY,    /* no program at all: a pump copies the sources to `sink` */
    BOX_REMOTE_WRITER, /* the writer is the caller: box_run gives it its end in *caller_fd */
    BOX_REMOTE_READER, /* the reader is the caller */
    BOX_KEEP,          /* the reader is zpipe-box, until the writer has ended: `kept` then has the bytes */
};

/* Bytes that a pump copies. */
#define BOX_ALL UINT64_MAX
struct box_source {
    int fd;          /* borrowed until the call returns */
    uint64_t offset; /* BOX_ALL: from where it stands, to its end; else of a file that can be sought in */
    uint64_t size;   /* with an offset: so many bytes, and it is an error if they are not there */
};

/* A stream with exactly one reading and one writing side.  A writing task sees a pipe: when the reading
 * side is gone it gets SIGPIPE, also while blocked; the reading side reads full until the end. */
struct box_channel {
    enum box_channel_end end;
    bool lines;           /* pass what there is at once (no full reads) */
    bool more;            /* FEED, COPY: box_feed will bring more sources, and box_feed_end the end */
    bool exact;           /* INSIDE: its writer, or one before it, shows elsewhere how far it came.  When the reader has left,
                           * exactly 1 MiB more can be written, and SIGPIPE comes at the same byte each time */
    bool if_files;        /* exact only if such a program has a file open for writing by then */
    bool tell;            /* DRAIN, COPY: `moved` is called as bytes come along */
    bool digest;          /* FEED, DRAIN, COPY: `digested` tells the SHA-256 of the bytes (slower) */
    const struct box_source *source; /* FEED, COPY */
    uint32_t source_count;
    int sink;             /* DRAIN, COPY: borrowed until box_run returns; never set non-blocking */
    int caller_fd;        /* out, REMOTE_*: a unix stream socket, given to the caller */
};

struct box_region {
    const struct box_task *task; /* none: only with COPY channels */
    uint32_t task_count;
    struct box_channel *channel;
    uint32_t channel_count;
    uint64_t after; /* with tasks: they begin when all of that region have ended, or at box_release; 0: at once */
};

enum box_end {
    BOX_EXITED,     /* status */
    BOX_SIGNALLED,  /* signal */
    BOX_LIMIT,      /* a limit of ours ended it: `limit` names it */
    BOX_NOT_FOUND,  /* no such program in the sandbox: 127 */
    BOX_NOT_RUN,    /* found, not executable: 126; `sys` is exec's errno */
    BOX_FAILED,     /* the sandbox could not be made: infrastructure, `text` says why */
    BOX_KILLED,     /* by box_stop */
};

/* Limits of all of a task's processes together that its cgroup holds, besides those that hold everywhere. */
enum { BOX_HOLDS_MEMORY = 1, BOX_HOLDS_PROCS = 2, BOX_HOLDS_CPU = 4 };

/* What is in /job behind a program, or was and is no more. */
enum box_made_kind {
    BOX_MADE_FILE,
    BOX_MADE_LINK,      /* a symbolic link to a file, or a file with another name, too: wanted, it is a file of its own */
    BOX_MADE_NOWHERE,   /* a symbolic link that leads to no file of the task's */
    BOX_MADE_DIRECTORY, /* an empty one */
    BOX_MADE_SPECIAL,   /* a fifo, a socket */
    BOX_MADE_GONE,      /* an input or its directory: removed, or renamed */
    BOX_MADE_KINDS
};

struct box_made {
    const char *name;
    int fd;       /* wanted as an output: open for reading, at 0, given; else -1 (to warn) */
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
    uint64_t calls;    /* that were answered by zpipe-box */
    const char *unknown_calls; /* "", or numbers of calls that do not exist here, each once: "451, 999" */
    bool certified;
    const char *uncertified_why; /* "" when certified */
    const char *cold_why;        /* "" when it was cloned from a template, else why not */
    const char *cgroup, *cgroup_why; /* the cgroup that held it too, or "" and why it had none */
    uint32_t cgroup_holds;           /* BOX_HOLDS_* */
    uint64_t tree_peak_bytes;        /* memory of all in its cgroup, with their files, at most; 0: unknown */
    const struct box_made *made; /* borrowed for the call, but for the fds */
    uint32_t made_count;
};

struct box_kept {
    const void *data;
    uint64_t size;
    int fd, sys;
};

struct box_events {
    void (*task_ended)(void *owner, uint64_t region, uint32_t task, const struct box_result *r);
    /* A pump (FEED, DRAIN, COPY) ended after `bytes`; sys is the errno that ended it, or 0.  `reading`
     * tells on which side the error was; ESTALE there: a source was shorter than announced. */
    void (*pump_ended)(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading);
    /* Before the end of a pump with `digest`, unless it was killed: of all that it moved.  May be NULL. */
    void (*digested)(void *owner, uint64_t region, uint32_t channel, const uint8_t sha256[32]);
    /* All that was written to a KEEP channel, if it was anything: before region_ended, and when it is in memory before
     * its task's end.  `size` bytes at `data`, borrowed; or in `fd`, given, when that is not -1.  sys: it could not be
     * kept, and nothing of it is here.  May be NULL where no region has one. */
    void (*kept)(void *owner, uint64_t region, uint32_t channel, const struct box_kept *k);
    /* So far a pump with `more` or `tell` has moved `bytes`, and is done with `sources`.  May be NULL. */
    void (*moved)(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, uint64_t sources);
    /* Some whole lines of a task's trace, each "SECONDS WHAT": real time since the task was asked for, then what
     * is the same every time.  May be NULL. */
    void (*traced)(void *owner, uint64_t region, uint32_t task, const char *text, size_t size);
    /* Everything of the region is gone: processes, channels, mounts.  Last call for it. */
    void (*region_ended)(void *owner, uint64_t region);
    /* The answer to box_look: what a task's processes have read and written so far.  May be NULL. */
    void (*bytes)(void *owner, uint64_t region, uint32_t task, uint64_t in, uint64_t out);
    /* zpipe-box itself is gone; no more calls. */
    void (*lost)(void *owner, const struct err *why);
};

struct box;

/* Where the program zpipe-box is: beside this program, in the installed tree that it or libzpipe.so lies in, or where it was to be
 * installed.  -1: at none of them. */
int box_program(char *path, size_t size, struct err *e);

/* Start zpipe-box.  Returns at once: what the host refuses (user namespaces, ...) arrives as `lost` with the sentence and its
 * remedy. */
struct box *box_open(const struct box_options *options, const struct box_events *events, void *owner,
                     struct err *e);
/* After `lost`, and not from within it: start another; its descriptor is a new one.  What ran in the old one was lost with it. */
int box_again(struct box *b, struct err *e);
void box_close(struct box *b); /* kills what runs; waits for zpipe-box to be gone */

/* Descriptor to wait on for reading, then call box_dispatch (reads what is there, calls back). */
int box_fd(const struct box *b);
void box_dispatch(struct box *b);

/* Start a region under an id of the caller's. */
int box_run(struct box *b, uint64_t region, struct box_region *r, struct err *e);
int box_release(struct box *b, uint64_t region, struct err *e); /* it waits for no other any more */
/* Ask how far the region's tasks are. */
int box_look(struct box *b, uint64_t region, struct err *e);
/* Kill every task of the region; results still arrive, as BOX_KILLED. */
int box_stop(struct box *b, uint64_t region, struct err *e);
/* Whoever takes the bytes of a REMOTE_READER or DRAIN channel wants no more: the writers get SIGPIPE.
 * Of a REMOTE_READER the caller closes its end after this call, not before. */
int box_break(struct box *b, uint64_t region, uint32_t channel, struct err *e);
/* More sources for a channel with `more`, at most BOX_SOURCES_MAX a call (how many are not done yet is the
 * caller's to bound, by `moved`); and: that was all. */
int box_feed(struct box *b, uint64_t region, uint32_t channel, const struct box_source *source,
             uint32_t count, struct err *e);
int box_feed_end(struct box *b, uint64_t region, uint32_t channel, struct err *e);
/* What was made for tasks that would come again may go: none will. */
int box_forget(struct box *b, struct err *e);
/* Let a channel's pump wait, or go on. */
int box_hold(struct box *b, uint64_t region, uint32_t channel, bool hold, struct err *e);
