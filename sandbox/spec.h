/* A region as bytes: with these box.c tells zpipe-box, and zpipe-box its zygote, what to run.  Descriptors travel beside
 * the bytes; in a decoded region every descriptor is an index into their list (-1: none).
 *
 * Decoding trusts nothing: in a decoded region all indices are in range, each channel has one reader and one writer as its
 * kind demands, port numbers are distinct and small, and names have no "..". */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "sandbox/box.h"

#define SPEC_VERSION      6u
#define SPEC_PORT_FD_MAX  1023  /* a program's descriptor numbers */
#define SPEC_PORTS_MAX    1024  /* of a task */
#define SPEC_FILES_MAX    65536 /* of a task */
#define SPEC_FDS_MAX      65536 /* that travel beside one region */
#define SPEC_ARENA_MAX    (512u << 20)

/* Is it made by the task's init, so that no descriptor comes for it? */
static inline bool spec_is_made(const struct box_file *f)
{
    return f->link || f->directory;
}

/* Which tasks are at a channel's ends; -1: none (a pump or the caller). */
struct spec_channel {
    int32_t reader, writer;
    /* where its descriptors begin in the list: the sink, then the sources; REMOTE_WRITER: the reading end; REMOTE_READER:
     * the writing end, then the reading end */
    uint32_t fd_first;
};

struct spec {
    struct arena arena;
    struct box_region region; /* in the arena; texts borrow from the bytes */
    struct spec_channel *channel;
    struct slice *task; /* each task's bytes, for spec_decode_task */
    uint32_t fd_count;  /* number of descriptors that must come with it */
};

/* Appends a region to `out` (its limit: BOX_SPEC_BYTES_MAX) and its borrowed descriptors to *fds (malloc'ed, owned by the
 * caller).  remote: two descriptors for each channel, in the order of spec_channel.fd_first, used for REMOTE_* only. */
int spec_encode(const struct box_region *r, const int (*remote)[2], struct buf *out, int **fds,
                uint32_t *fd_count, struct err *e);

/* The bytes are borrowed and must outlive the spec.  On failure nothing is kept. */
int spec_decode(struct slice bytes, struct spec *s, struct err *e);
/* Decodes one task from its own bytes; its channels are not checked against a region. */
int spec_decode_task(struct slice bytes, struct arena *a, struct box_task *t, struct err *e);
void spec_clear(struct spec *s);

/* The PATH in which a task's program is looked up. */
const char *spec_path(const struct box_task *t);
/* May a file of a task have this name, below /job or absolute? */
bool spec_name_good(const char *name);
