/* What a stage's runs wrote becomes the stage's output, in the order of its input. */
#include "worker/blocks_inside.h"

#include <sys/stat.h>
#include <unistd.h>

int blocks_digest(struct running_digest *d, int fd, uint64_t from, uint64_t size, struct err *e)
{
    static char buffer[1 << 16];
    while (size) {
        size_t want = size < sizeof buffer ? (size_t)size : sizeof buffer;
        ssize_t n = pread(fd, buffer, want, (off_t)from);
        if (n <= 0)
            return err_sys(e, "cannot read a block's output again");
        running_digest_add(d, buffer, (size_t)n);
        from += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

int blocks_size_of(int fd, uint64_t *size, struct err *e)
{
    struct stat s;
    if (fstat(fd, &s) < 0)
        return err_sys(e, "cannot look at a temporary file");
    *size = (uint64_t)s.st_size;
    return 0;
}

/* Would the command, run as one, end here by its limit of output?  In a block it can only be seen that the block's is not too much.  A
 * program that puts outputs together has the limit itself. */
static bool past_limit(const struct blocks *b, uint64_t size)
{
    uint64_t limit = b->way->spoils && !blocks_rerun(b).count ? b->t->graph->node[blocks_last_node(b)].set.output_bytes : 0;
    return limit && size > limit - b->out.bytes;
}

/* Put a piece of a file into the outlet; takes fd.  While the stage may still have to run whole, keep a digest of what was
 * put. */
static int put(struct blocks *b, int fd, uint64_t from, uint64_t size, struct err *e)
{
    bool remember = b->way->spoils && (!blocks_wait_for_all(b) || b->keys);
    if (past_limit(b, size)) {
        close(fd);
        blocks_spoil(b, "its blocks wrote more than its limit of output");
        return 0;
    }
    if (remember && blocks_digest(b->given, fd, from, size, e) < 0) {
        close(fd);
        return -1;
    }
    b->given_bytes += remember ? size : 0;
    return outlet_put(&b->out, fd, from, size, e);
}

int blocks_put(struct blocks *b, int fd, struct err *e)
{
    uint64_t size = 0;
    if (blocks_size_of(fd, &size, e) < 0) {
        close(fd);
        return -1;
    }
    return put(b, fd, 0, size, e);
}

/* Let combine.c make the run's output part of the whole.  1: it cannot be. */
static int join_part(struct blocks *b, const struct run *r, int to, struct err *e)
{
    static char buffer[1 << 16];
    struct buf out = BUF_INIT(COMBINE_LINE_MAX + sizeof buffer);
    uint64_t lines = 0, at = 0;
    ssize_t n;
    if (combine_counts_lines(b->native) && inlet_lines(&b->in, r->from, r->to, &lines, e) < 0)
        return -1;
    int bad = combine_part(b->native, lines, r->to - r->from, &out, e);
    while (bad == 0 && (n = pread(r->out, buffer, sizeof buffer, (off_t)at)) > 0) {
        at += (uint64_t)n;
        bad = combine_add(b->native, buffer, (size_t)n, &out, e);
        if (out.failed || fd_write_all(to, out.data, out.size) < 0)
            break;
        buf_drop(&out, out.size);
    }
    bool wrote = bad == 0 && !out.failed && fd_write_all(to, out.data, out.size) == 0;
    buf_clear(&out);
    return bad ? 1 : wrote ? 0 : spool_write_failed(e);
}

int blocks_give(struct blocks *b, struct run *r, struct err *e)
{
    int fd = r->out;
    uint32_t pieces = r->piece_count;
    for (uint32_t i = 0; i < pieces && b->state != WHOLE; i++) {
        fd = blocks_dup(r->piece[i].fd, e);
        if (fd < 0 || put(b, fd, r->piece[i].offset, r->piece[i].size, e) < 0)
            return -1;
    }
    if (pieces)
        return 0;
    if (!b->native) {
        /* The command, run as one, would end here: a `grep -q` that found something. */
        bool enough = b->tail->stops_early && b->tail->combine == GRAPH_COMBINE_CONCAT && r->status == 0;
        r->out = -1;
        return blocks_put(b, fd, e) < 0 ? -1 : enough;
    }
    fd = spool_open(e);
    int joined = fd < 0 ? -1 : join_part(b, r, fd, e);
    if (joined == 0)
        return blocks_put(b, fd, e);
    fd_close(&fd);
    if (joined < 0)
        return -1;
    blocks_spoil(b, "what blocks wrote cannot be put together");
    return 0;
}

int blocks_give_end(struct blocks *b, struct err *e)
{
    struct buf out = BUF_INIT(COMBINE_LINE_MAX + COMBINE_PART_MAX);
    int r = 0;
    if (!b->native)
        return 0;
    if (combine_end(b->native, &out, e) < 0) {
        blocks_spoil(b, "what blocks wrote cannot be put together");
    } else {
        int fd = spool_of((struct slice){out.data ? out.data : "", out.size}, e);
        r = fd < 0 ? -1 : blocks_put(b, fd, e);
    }
    buf_clear(&out);
    return r;
}

int blocks_give_all(struct blocks *b, struct err *e)
{
    while (b->run && b->run->ended) {
        enum blocks_state state = b->state;
        int enough = b->way->give(b, b->run, e);
        if (enough < 0)
            return -1;
        if (b->state != state) /* the reader left, or the stage was spoilt: the list was dropped */
            return 0;
        runs_pop(b);
        if (b->keys)
            outlet_piece_ended(&b->out);
        if (b->state != state)
            return 0;
        if (b->unread && b->out.bytes && !blocks_make_files(b)) {
            blocks_leave(b);
            attempt_settle(b->t);
            return 0;
        }
        if (enough) {
            runs_drop(b);
            blocks_end(b);
            intake_stop(&b->intake);
            return 0;
        }
    }
    return 0;
}
