/* See inlet.h. */
#include "worker/inlet.h"

#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCAN_BYTES 65536

static int add(struct inlet *in, struct stretch s, struct err *e)
{
    if (in->count == in->room) {
        uint32_t room = in->room ? 2 * in->room : 16;
        struct stretch *grown =
            room > INLET_STRETCHES_MAX ? NULL : realloc(in->stretch, room * sizeof *grown);
        if (!grown)
            return room > INLET_STRETCHES_MAX
                       ? err_set(e, ERR_LIMIT, "the input of a stage is in more than %d pieces",
                                 INLET_STRETCHES_MAX)
                       : err_nomem(e);
        in->stretch = grown;
        in->room = room;
    }
    s.at = in->bytes;
    in->stretch[in->count++] = s;
    in->bytes += s.size;
    return 0;
}

int inlet_add(struct inlet *in, int fd, uint64_t offset, uint64_t size, uint32_t file, struct err *e)
{
    int r = add(in, (struct stretch){.fd = fd, .offset = offset, .size = size, .file = file}, e);
    if (r < 0)
        fd_close(&fd);
    return r;
}

int inlet_add_more(struct inlet *in, uint64_t offset, uint64_t size, uint32_t file, bool goes_on, struct err *e)
{
    int fd = in->stretch[in->count - 1].fd;
    return add(in, (struct stretch){.fd = fd, .offset = offset, .size = size, .file = file, .same_fd = true,
                                    .goes_on = goes_on}, e);
}

void inlet_grow(struct inlet *in, uint64_t size)
{
    struct stretch *last = &in->stretch[in->count - 1];
    if (size <= last->size)
        return;
    in->bytes += size - last->size;
    last->size = size;
}

/* Steps of 64 KiB up to 4 MiB, of 1 MiB up to 256 MiB, then of 4 MiB. */
uint64_t inlet_nominal(uint64_t split_bytes, uint64_t at)
{
    uint64_t step = split_bytes             ? split_bytes
                    : at <= 4u << 20        ? 64u << 10
                    : at <= 256u << 20      ? 1u << 20
                                            : 4u << 20;
    return at > UINT64_MAX - step ? UINT64_MAX : (at + step - 1) / step * step;
}

/* The last stretch that begins at or before `at`. */
static uint32_t stretch_of(const struct inlet *in, uint64_t at)
{
    uint32_t low = 0, high = in->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (in->stretch[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint32_t inlet_file(const struct inlet *in, uint64_t at)
{
    return in->stretch[stretch_of(in, at)].file;
}

int inlet_sources(const struct inlet *in, uint64_t from, uint64_t to, struct box_source *out, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = stretch_of(in, from); from < to; i++) {
        const struct stretch *s = &in->stretch[i];
        uint64_t skip = from - s->at, size = s->size - skip;
        if (size > to - from)
            size = to - from;
        if (!size)
            continue;
        if (count == max)
            return -1;
        out[count++] = (struct box_source){s->fd, s->offset + skip, size};
        from += size;
    }
    return (int)count;
}

struct box_source inlet_piece(const struct inlet *in, uint64_t from, uint64_t max)
{
    uint32_t i = stretch_of(in, from);
    while (from - in->stretch[i].at >= in->stretch[i].size)
        i++;
    const struct stretch *s = &in->stretch[i];
    uint64_t skip = from - s->at, size = s->size - skip;
    return (struct box_source){s->fd, s->offset + skip, size < max ? size : max};
}

int inlet_follow(struct inlet *to, const struct inlet *in, struct err *e)
{
    if (to->count)
        inlet_grow(to, in->stretch[to->count - 1].size);
    while (to->count < in->count) {
        const struct stretch *s = &in->stretch[to->count];
        int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            return err_sys(e, "cannot duplicate a descriptor");
        if (inlet_add(to, fd, s->offset, s->size, s->file, e) < 0)
            return -1;
    }
    return 0;
}

void inlet_clear(struct inlet *in)
{
    for (uint32_t i = 0; i < in->count; i++)
        if (!in->stretch[i].same_fd)
            fd_close(&in->stretch[i].fd);
    free(in->stretch);
    *in = (struct inlet){0};
}

ssize_t inlet_read(const struct inlet *in, uint64_t at, void *out, size_t size, struct err *e)
{
    size_t done = 0;
    for (uint32_t i = stretch_of(in, at); done < size && at < in->bytes;) {
        const struct stretch *t = &in->stretch[i];
        uint64_t skip = at - t->at, left = t->size - skip;
        if (!left) {
            i++;
            continue;
        }
        ssize_t n = pread(t->fd, (char *)out + done, size - done < left ? size - done : (size_t)left,
                          (off_t)(t->offset + skip));
        if (n <= 0) {
            errno = n ? errno : ESTALE;
            return err_sys(e, "cannot read an input again");
        }
        done += (size_t)n;
        at += (uint64_t)n;
    }
    return (ssize_t)done;
}

void inlet_drop(struct inlet *in, uint64_t upto)
{
    for (; in->dropped < in->count; in->dropped++) {
        struct stretch *s = &in->stretch[in->dropped];
        bool last = in->dropped + 1 == in->count;
        if (s->at + s->size > upto || (last && !in->ended))
            return;
        if (!s->same_fd && (last || !s[1].same_fd))
            fd_close(&s->fd);
    }
}

/* A walk over the bytes, in pieces. */
struct scan {
    const struct inlet *in;
    uint64_t at; /* of the next byte */
    char byte[SCAN_BYTES];
    size_t size;
};

/* The next bytes; 0: there are none (yet), -1: e. */
static int scan_more(struct scan *s, struct err *e)
{
    ssize_t n = inlet_read(s->in, s->at, s->byte, SCAN_BYTES, e);
    if (n <= 0)
        return (int)n;
    s->at += (uint64_t)n;
    s->size = (size_t)n;
    return 1;
}

int inlet_lines(const struct inlet *in, uint64_t from, uint64_t to, uint64_t *lines, struct err *e)
{
    static struct scan s;
    int r = 1;
    s.in = in;
    s.at = from;
    *lines = 0;
    while (s.at < to && (r = scan_more(&s, e)) > 0) {
        uint64_t base = s.at - s.size;
        const char *p = s.byte, *end = s.byte + (s.at > to ? (size_t)(to - base) : s.size);
        while ((p = memchr(p, '\n', (size_t)(end - p)))) {
            ++*lines;
            p++;
        }
    }
    return r < 0 ? -1 : 0;
}

int inlet_holds(const struct inlet *in, uint64_t from, uint64_t to, struct slice bytes, struct err *e)
{
    static struct scan s;
    int r = 1;
    s.in = in;
    s.at = from;
    while (s.at < to && (r = scan_more(&s, e)) > 0) {
        size_t size = s.at > to ? s.size - (size_t)(s.at - to) : s.size;
        for (size_t i = 0; i < bytes.size; i++)
            if (memchr(s.byte, ((const char *)bytes.data)[i], size))
                return 1;
    }
    return r < 0 ? -1 : 0;
}

/* A boundary is behind `one`, or between a byte that ends something and one that does not. */
struct marks {
    bool ends[256], alone;
    char one;
};

static struct marks marks_of(const struct inlet_rule *rule)
{
    struct marks m = {.one = rule->cut == GRAPH_CUT_NULS ? '\0' : '\n', .alone = rule->seam.size == 0};
    for (size_t i = 0; i < rule->seam.size; i++)
        m.ends[((const unsigned char *)rule->seam.data)[i]] = true;
    return m;
}

/* The first boundary from p on, in bytes up to end: what comes behind it.  `before`: the byte before p, -1: none. */
static const char *next_boundary(const struct marks *m, int before, const char *p, const char *end)
{
    if (m->alone) {
        p = memchr(p, m->one, (size_t)(end - p));
        return p ? p + 1 : NULL;
    }
    for (; p < end; before = (unsigned char)*p++)
        if (before >= 0 && m->ends[before] && !m->ends[(unsigned char)*p])
            return p;
    return NULL;
}

/* Count boundaries behind `at` until one is at or behind `want` and a multiple of step, min_units on. */
static int find_boundary(struct inlet *in, const struct marks *m, uint64_t at, uint64_t want, uint64_t step,
                         uint64_t min_units, uint64_t *units, uint64_t *to, struct err *e)
{
    static struct scan s; /* large, and nobody is called back in here */
    uint64_t seen = *units, first = seen;
    bool again = in->search.at && in->search.begin == at && in->search.want == want;
    int r, before = -1;
    s.in = in;
    s.at = again ? in->search.at : at;
    seen = again ? in->search.seen : seen;
    while ((r = scan_more(&s, e)) > 0) {
        const char *p = s.byte, *end = s.byte + s.size;
        uint64_t base = s.at - s.size;
        while ((p = next_boundary(m, before, p, end))) {
            uint64_t here = base + (uint64_t)(p - s.byte);
            seen++;
            if (here >= want && seen % step == 0 && seen - first >= min_units) {
                *to = here;
                *units = seen;
                return 1;
            }
            before = -1;
        }
        before = (unsigned char)end[-1];
    }
    if (r < 0)
        return -1;
    if (!in->ended) {
        in->search.begin = at;
        in->search.want = want;
        in->search.at = before < 0 || m->alone ? s.at : s.at - 1;
        in->search.seen = seen;
        return 0;
    }
    *to = in->bytes;
    *units = seen;
    return 1;
}

/* The end of the piece that holds byte `from`, where runs must end with it. */
static uint64_t ceiling(const struct inlet *in, uint64_t from)
{
    if (!in->apart)
        return UINT64_MAX;
    uint32_t i = stretch_of(in, from);
    while (in->stretch[i].at + in->stretch[i].size <= from || (i + 1 < in->count && in->stretch[i + 1].goes_on))
        i++;
    return in->stretch[i].at + in->stretch[i].size;
}

int inlet_cut(struct inlet *in, const struct inlet_rule *rule, uint64_t from, uint64_t size,
              uint64_t min_units, uint64_t *units, uint64_t *to, struct err *e)
{
    if (from >= in->bytes)
        return 0;
    uint64_t top = ceiling(in, from), begin = from + (size ? size - 1 : 0);
    uint64_t want = inlet_nominal(rule->split_bytes, begin > from ? begin : from + 1);
    int r = 1;
    if (rule->cut == GRAPH_CUT_FILES) {
        *to = top;
        return 1;
    }
    if (rule->cut == GRAPH_CUT_BYTES) {
        uint64_t least = from + min_units > want ? from + min_units : want;
        uint64_t start = in->apart ? from - *units : 0; /* steps count from the file's beginning */
        *to = start + (least - start + rule->step - 1) / rule->step * rule->step;
        if (*to > in->bytes) {
            *to = in->bytes;
            r = in->ended || in->apart;
        }
    } else if (want >= in->bytes && in->ended && !in->apart) {
        *to = in->bytes;
    } else {
        /* A line that begins at the nominal offset is told by the byte before it.  Where nothing is
         * counted the walk begins there. */
        bool counts = rule->step > 1 || min_units;
        struct marks marks = marks_of(rule);
        uint64_t at = counts || want - 1 < from ? from : want - 1;
        *to = in->bytes;
        r = at >= in->bytes ? in->ended
                            : find_boundary(in, &marks, at, want, rule->step, min_units, units, to, e);
    }
    if (r > 0 && *to > top) {
        *to = top;
        *units = 0; /* counted anew in the next file */
    } else if (r > 0 && rule->cut == GRAPH_CUT_BYTES) {
        *units += *to - from;
    }
    return r;
}
