/* See shuffle.h. */
#include "worker/shuffle.h"

#include "base/fds.h"
#include "base/grow.h"
#include "base/spool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECES_MAX (1u << 20) /* pieces of a partition; most are SHUFFLE_PIECE_MAX long */

struct piece {
    uint64_t offset, room, used; /* offset in the spool */
};

struct part {
    struct piece *piece; /* owned; all but the last are full */
    uint32_t count, room;
    uint32_t held_bytes;
    char *held; /* owned; bytes that are not written yet */
};

struct shuffle {
    struct key key;
    struct part *part;
    uint32_t count;
    uint32_t held_max; /* for each partition */
    int fd;
    uint64_t end; /* end of the spool */
    uint64_t at;  /* offset in the inlet: everything before it is dealt out */
    /* A line that is longer than one read: first its key is read, then it is copied. */
    enum { LINES, LONG_KEY, LONG_COPY } state;
    struct key_hash hash;
    uint64_t line, line_end;
    uint32_t line_part;
    bool line_open; /* the last line has no newline */
};

struct shuffle *shuffle_new(const struct key *k, uint32_t count, struct err *e)
{
    struct shuffle *s = calloc(1, sizeof *s);
    struct part *part = calloc(count, sizeof *part);
    int fd = s && part ? spool_open(e) : err_nomem(e);
    if (fd < 0) {
        free(s);
        free(part);
        return NULL;
    }
    *s = (struct shuffle){
        .key = *k, .part = part, .count = count, .fd = fd, .held_max = SHUFFLE_PIECE_MIN};
    while ((uint64_t)s->held_max * count > SHUFFLE_HELD_MAX)
        s->held_max /= 2;
    return s;
}

void shuffle_free(struct shuffle *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->count; i++) {
        free(s->part[i].piece);
        free(s->part[i].held);
    }
    fd_close(&s->fd);
    free(s->part);
    free(s);
}

uint64_t shuffle_at(const struct shuffle *s)
{
    return s->at;
}

uint64_t shuffle_spent(const struct shuffle *s)
{
    return s->state == LINES ? s->at : s->line;
}

/* ---- partitions */

/* The piece for the partition's next bytes.  Pieces are sparse until they are filled, so a large one costs nothing. */
static struct piece *piece_of(struct shuffle *s, struct part *p, struct err *e)
{
    struct piece *last = p->count ? &p->piece[p->count - 1] : NULL;
    if (last && last->used < last->room)
        return last;
    uint64_t room = !last                            ? SHUFFLE_PIECE_MIN
                    : last->room < SHUFFLE_PIECE_MAX ? 4 * last->room
                                                     : last->room;
    if (!grow(&p->piece, &p->room, p->count, PIECES_MAX, sizeof *p->piece)) {
        err_nomem(e);
        return NULL;
    }
    p->piece[p->count] = (struct piece){.offset = s->end, .room = room};
    s->end += room;
    return &p->piece[p->count++];
}

static int write_held(struct shuffle *s, struct part *p, struct err *e)
{
    for (uint32_t at = 0; at < p->held_bytes;) {
        struct piece *to = piece_of(s, p, e);
        if (!to)
            return -1;
        uint64_t size = p->held_bytes - at, left = to->room - to->used;
        ssize_t n =
            pwrite(s->fd, p->held + at, size < left ? size : left, (off_t)(to->offset + to->used));
        if (n <= 0)
            return spool_write_failed(e);
        to->used += (uint64_t)n;
        at += (uint32_t)n;
    }
    p->held_bytes = 0;
    return 0;
}

static int add(struct shuffle *s, uint32_t part, const char *bytes, size_t size, struct err *e)
{
    struct part *p = &s->part[part];
    if (!p->held && !(p->held = malloc(s->held_max)))
        return err_nomem(e);
    while (size) {
        uint32_t room = s->held_max - p->held_bytes, n = size < room ? (uint32_t)size : room;
        memcpy(p->held + p->held_bytes, bytes, n);
        p->held_bytes += n;
        bytes += n;
        size -= n;
        if (p->held_bytes == s->held_max && write_held(s, p, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- lines */

static uint32_t part_of(struct shuffle *s)
{
    return key_partition(key_end(&s->hash), s->count) - 1;
}

/* The partition of a line, without its newline. */
static uint32_t part_of_line(struct shuffle *s, const char *line, size_t size)
{
    key_begin(&s->hash, &s->key);
    key_add(&s->hash, line, size);
    return part_of(s);
}

/* Deals out the lines in `size` bytes from s->at on; `last`: the input ends there. */
static int deal_lines(struct shuffle *s, const char *bytes, size_t size, bool last, struct err *e)
{
    const char *line = bytes, *end = bytes + size, *stop;
    for (; (stop = memchr(line, '\n', (size_t)(end - line))); line = stop + 1)
        if (add(s, part_of_line(s, line, (size_t)(stop - line)), line, (size_t)(stop + 1 - line),
                e) < 0)
            return -1;
    size_t open = (size_t)(end - line);
    s->at += size - open;
    if (last && open) {
        uint32_t part = part_of_line(s, line, open);
        s->at += open;
        return add(s, part, line, open, e) < 0 || add(s, part, "\n", 1, e) < 0 ? -1 : 1;
    }
    if (open < SHUFFLE_READ_BYTES)
        return open < size; /* the rest of the line has not come, or will be read again */
    s->state = LONG_KEY;
    s->line = s->at;
    key_begin(&s->hash, &s->key);
    return 1;
}

static int read_key(struct shuffle *s, const char *bytes, size_t size, bool last)
{
    const char *stop = memchr(bytes, '\n', size);
    size_t more = stop ? (size_t)(stop - bytes) : size;
    key_add(&s->hash, bytes, more);
    s->at += more;
    if (!stop && !last)
        return size > 0;
    s->line_part = part_of(s);
    s->line_open = !stop;
    s->line_end = s->at + (stop != NULL);
    s->at = s->line;
    s->state = LONG_COPY;
    return 1;
}

static int copy_line(struct shuffle *s, const char *bytes, size_t size, struct err *e)
{
    uint64_t left = s->line_end - s->at;
    size_t n = size < left ? size : (size_t)left;
    s->at += n;
    if (add(s, s->line_part, bytes, n, e) < 0)
        return -1;
    if (s->at < s->line_end)
        return 1;
    s->state = LINES;
    return s->line_open && add(s, s->line_part, "\n", 1, e) < 0 ? -1 : 1;
}

int shuffle_turn(struct shuffle *s, struct inlet *in, struct err *e)
{
    static char buffer[SHUFFLE_READ_BYTES]; /* static because it is large; nothing in here calls back */
    int r = 1;
    for (uint32_t done = 0; r > 0 && done < SHUFFLE_TURN_BYTES; done += sizeof buffer) {
        ssize_t n = inlet_read(in, s->at, buffer, sizeof buffer, e);
        if (n < 0)
            return -1;
        bool last = in->ended && s->at + (uint64_t)n == in->bytes;
        r = s->state == LINES      ? deal_lines(s, buffer, (size_t)n, last, e)
            : s->state == LONG_KEY ? read_key(s, buffer, (size_t)n, last)
                                   : copy_line(s, buffer, (size_t)n, e);
    }
    return r;
}

/* ---- the end */

int shuffle_give(struct shuffle *s, struct inlet *to, struct err *e)
{
    int given = 0;
    to->apart = true;
    for (uint32_t i = 0; i < s->count; i++) {
        struct part *p = &s->part[i];
        if (write_held(s, p, e) < 0)
            return -1;
        free(p->held);
        p->held = NULL;
        given += p->count > 0;
        for (uint32_t k = 0; k < p->count; k++) {
            const struct piece *x = &p->piece[k];
            int fd = to->count ? -1 : fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
            if (!to->count && fd < 0)
                return err_sys(e, "cannot duplicate a descriptor");
            if ((fd >= 0 ? inlet_add(to, fd, x->offset, x->used, i, e)
                         : inlet_add_more(to, x->offset, x->used, i, k > 0, e)) < 0)
                return -1;
        }
    }
    to->ended = true;
    return given;
}
