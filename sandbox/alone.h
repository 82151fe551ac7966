/* `zpipe-box -- PROGRAM`: one program in a sandbox of its own; what was asked for, and what happened.  Shared by box_main.c
 * (options), alone.c (the run), report.c and verify.c. */
#pragma once
#include "base/buf.h"
#include "sandbox/box.h"
#include "sandbox/cgroup.h"
#include "sandbox/sha256.h"

#include <stdio.h>
#include <sys/types.h>

#define ALONE_WITH_MAX  1024
#define ALONE_ENV_MAX   1024
#define ALONE_OUT_MAX   256
#define ALONE_NAMED_MAX 64
#define ALONE_PORTS_MAX (3 + ALONE_NAMED_MAX)

enum { STATUS_LIMIT = 124, STATUS_FAILED = 125, STATUS_NOT_RUN = 126, STATUS_NOT_FOUND = 127 };

struct alone_named { /* a channel below /dev */
    char name[160];   /* "in/NAME", "out/NAME" */
    const char *path; /* the caller's file */
    bool write;
    uint64_t quota; /* 0: none */
};

struct alone { /* what was asked for */
    struct box_file with[ALONE_WITH_MAX];
    const char *env[ALONE_ENV_MAX + 1], *out[ALONE_OUT_MAX];
    struct box_task task; /* without ports */
    struct alone_named named[ALONE_NAMED_MAX];
    uint32_t named_count;
    const char *report, *trace;
    bool digest, verify, none, cold, lane;
};

/* One of its standard streams or named channels, in one run. */
struct alone_stream {
    const char *name;
    int fd;           /* borrowed from the caller; for a named channel it is ours */
    int32_t channel;  /* its number, or -1: passed to the program as it is */
    bool none;        /* /dev/null, or closed */
    int64_t from;     /* the file's offset at the start; -1: it is not a file */
    uint64_t bytes;   /* bytes that passed */
    bool digested;
    uint8_t sha256[32];
};

struct alone_made { /* one file that the program left */
    char *name; /* owned */
    int fd;     /* owned, at 0; -1: not asked for */
    enum box_made_kind kind;
};

struct run {
    const struct alone *alone;
    struct alone_stream stream[ALONE_PORTS_MAX];
    struct box_port port[ALONE_PORTS_MAX];
    struct box_channel channel[ALONE_PORTS_MAX];
    struct box_source source[ALONE_PORTS_MAX];
    uint32_t stream_count;
    struct box_region region;
    bool captured; /* streams are files of ours: none is passed as it is */
    FILE *trace;   /* NULL: not asked for; borrowed */
    bool over;
    int status;    /* our own exit status */
    struct box_result result; /* its texts are copied below; without the files it made */
    char limit[32], why[256], cold[256], text[ERR_TEXT_MAX], cgroup[CGROUP_TEXT_MAX], cgroup_why[128], unknown[128];
    struct alone_made made[ALONE_OUT_MAX + 1024];
    uint32_t made_count;
};

/* Runs the program once in `b`; fd: stdin, stdout, stderr.  The caller sets r->alone, trace and captured; the rest is
 * filled with what happened.  Messages for the person go to stderr, unless captured. */
int run_once(struct run *r, struct box *b, const int fd[3]);
void run_clear(struct run *r);
/* Forks a sandbox server.  `r`: receives its events. */
struct box *run_box(struct run *r, struct err *e);
/* Copies what the program made to the current directory. */
void run_save(struct run *r);
/* After the run: how far each stream got, and its digest if that was asked for. */
void run_measure(struct run *r);

/* Writes the run as JSON to the file that was asked for. */
int report_write(const struct run *r, struct err *e);

/* Runs the program twice under different conditions.  The first run's outputs are passed on if the second's are the same. */
int verify(const struct alone *a);
