/* See inlet.h. */
#include "worker/inlet.h"

#include "base/fds.h"
#include "base/grow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCAN_BYTES 65536
#define SCAN_FIRST 4096 /* first look at few bytes, as most boundaries are near */

static int add(struct inlet *in, struct stretch s, struct err *e)
{
    if (in->count == INLET_STRETCHES_MAX)
        return err_set(e, ERR_LIMIT, "the input of a stage is in more than %d pieces", INLET_STRETCHES_MAX);
    if (!grow(&in->stretch, &in->room, in->count, INLET_STRETCHES_MAX, sizeof *in->stretch))
        return err_nomem(e);
    s.at = in->bytes;
    s.place = GRAPH_NONE;
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

void inlet_join(struct inlet *in)
{
    struct stretch *s = &in->stretch[in->count - 1];
    char last = '\n';
    s->joins = !s->size || (pread(s->fd, &last, 1, (off_t)(s->offset + s->size - 1)) == 1 && last == '\n');
}

void inlet_in_place(struct inlet *in, uint32_t file)
{
    in->stretch[in->count - 1].place = file;
}

void inlet_grow(struct inlet *in, uint64_t size)
{
    struct stretch *last = &in->stretch[in->count - 1];
    if (size <= last->size)
        return;
    in->bytes += size - last->size;
    last->size = size;
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

uint32_t inlet_left(const struct inlet *in, uint64_t at)
{
    return at < in->bytes ? in->count - stretch_of(in, at) : 0;
}

/* How much of [from, to) lies in the stretch, in which `from` is a byte or the end. */
static uint64_t part_of(const struct stretch *s, uint64_t from, uint64_t to, uint64_t *offset)
{
    uint64_t skip = from - s->at, size = s->size - skip;
    *offset = s->offset + skip;
    return size < to - from ? size : to - from;
}

int inlet_sources(const struct inlet *in, uint64_t from, uint64_t to, struct box_source *out, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = stretch_of(in, from); from < to; i++) {
        const struct stretch *s = &in->stretch[i];
        uint64_t offset, size = part_of(s, from, to, &offset);
        if (size && count == max)
            return -1;
        if (size)
            out[count++] = (struct box_source){s->fd, offset, size};
        from += size;
    }
    return (int)count;
}

int inlet_places(const struct inlet *in, uint64_t from, uint64_t to, struct msg_place *out, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = stretch_of(in, from); from < to; i++) {
        const struct stretch *s = &in->stretch[i];
        uint64_t offset, size = part_of(s, from, to, &offset);
        if (size && (count == max || s->place == GRAPH_NONE))
            return -1;
        if (size)
            out[count++] = (struct msg_place){s->place, offset, size};
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

/* A walk over the input's bytes, in pieces of a buffer. */
struct scan {
    const struct inlet *in;
    uint64_t at; /* offset of the next byte */
    char byte[SCAN_BYTES];
    size_t size, want; /* want: how many bytes to read next */
};

/* Read the next bytes; 0: there are none (yet); -1: e. */
static int scan_more(struct scan *s, struct err *e)
{
    ssize_t n = inlet_read(s->in, s->at, s->byte, s->want, e);
    if (n <= 0)
        return (int)n;
    s->want = SCAN_BYTES;
    s->at += (uint64_t)n;
    s->size = (size_t)n;
    return 1;
}

/* How often the byte occurs.  Lines are short, so a memchr for each would take several times as long; a compiler makes of the
 * inner loop one that compares many bytes at a time, as its length is known and its sum fits. */
static uint64_t count_byte(char byte, const char *p, size_t size)
{
    enum { PART = 4096 };
    uint64_t all = 0;
    for (; size >= PART; size -= PART, p += PART) {
        uint16_t count = 0;
        for (size_t i = 0; i < PART; i++)
            count = (uint16_t)(count + (p[i] == byte));
        all += count;
    }
    for (size_t i = 0; i < size; i++)
        all += p[i] == byte;
    return all;
}

int inlet_lines(const struct inlet *in, uint64_t from, uint64_t to, uint64_t *lines, struct err *e)
{
    static struct scan s;
    int r = 1;
    s.in = in;
    s.at = from;
    s.want = SCAN_BYTES;
    *lines = 0;
    while (s.at < to && (r = scan_more(&s, e)) > 0) {
        uint64_t base = s.at - s.size;
        *lines += count_byte('\n', s.byte, s.at > to ? (size_t)(to - base) : s.size);
    }
    return r < 0 ? -1 : 0;
}

int inlet_holds(const struct inlet *in, uint64_t from, uint64_t to, struct slice bytes, struct err *e)
{
    static struct scan s;
    int r = 1;
    s.in = in;
    s.at = from;
    s.want = SCAN_BYTES;
    while (s.at < to && (r = scan_more(&s, e)) > 0) {
        size_t size = s.at > to ? s.size - (size_t)(s.at - to) : s.size;
        for (size_t i = 0; i < bytes.size; i++)
            if (memchr(s.byte, ((const char *)bytes.data)[i], size))
                return 1;
    }
    return r < 0 ? -1 : 0;
}

/* Where boundaries are: after the byte `one`, or (`ends`) between a byte of the set and one that is not in it. */
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

/* The first boundary in [p, end): the address of the byte after it.  `before`: the byte before p; -1: none. */
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

/* A search for a boundary at or after `want`; `seen` counts marks from the start. */
struct search {
    const struct inlet_rule *rule;
    uint64_t at, want, first, min_units;
    uint64_t seen;
    uint32_t state; /* how much of a mark was recognised at the end of the last piece */
    uint64_t found; /* UINT64_MAX: not yet */
};

/* Count marks until one is a multiple of `step`, and at least min_units.  state: 1 + the byte before, or 0. */
static void look_for_marks(struct search *q, const struct scan *s)
{
    const struct marks m = marks_of(q->rule);
    const char *p = s->byte, *end = s->byte + s->size;
    uint64_t base = s->at - s->size;
    int before = (int)q->state - 1;
    q->state = (unsigned char)end[-1] + 1u;
    if (m.alone && q->want > base + 1) { /* of boundaries before `want` it only matters how many there are */
        size_t size = q->want - 1 - base < s->size ? (size_t)(q->want - 1 - base) : s->size;
        q->seen += count_byte(m.one, p, size);
        p += size;
    }
    while ((p = next_boundary(&m, before, p, end))) {
        uint64_t here = base + (uint64_t)(p - s->byte);
        before = -1;
        q->seen++;
        if (here >= q->want && q->seen % q->rule->step == 0 && q->seen - q->first >= q->min_units) {
            q->found = here;
            return;
        }
        before = (unsigned char)end[-1];
    }
}

/* A paragraph ends after all blank lines that follow it; blank lines at the very start end nothing.  state: how many
 * newlines in a row, 2 for two and more; LEADING until something else has come. */
enum { LEADING = 4 };

static void look_for_paragraph(struct search *q, const struct scan *s)
{
    uint64_t base = s->at - s->size;
    if (base == 0)
        q->state = LEADING;
    for (size_t i = 0; i < s->size; i++) {
        if (s->byte[i] == '\n') {
            q->state += (q->state & 3) < 2;
            continue;
        }
        if (q->state == 2 && base + i >= q->want) {
            q->found = base + i;
            return;
        }
        q->state = 0;
    }
}

/* A record begins with a line that starts with the text.  state: how much of the text this line has so far; NO_LINE: it
 * starts with something else. */
enum { NO_LINE = GRAPH_RECORD_TEXT_MAX + 1 };

static void look_for_start(struct search *q, const struct scan *s)
{
    const char *text = q->rule->text.data;
    uint64_t base = s->at - s->size;
    if (base == q->at)
        q->state = NO_LINE; /* the line at `from` begins this record itself */
    for (size_t i = 0; i < s->size; i++) {
        if (q->state == NO_LINE) {
            const char *line = memchr(s->byte + i, '\n', s->size - i);
            if (!line)
                return;
            i = (size_t)(line - s->byte);
            q->state = 0;
            continue;
        }
        q->state = s->byte[i] == text[q->state] ? q->state + 1 : s->byte[i] == '\n' ? 0 : NO_LINE;
        if (q->state == q->rule->text.size) {
            uint64_t begin = base + i + 1 - q->state;
            if (begin >= q->want) {
                q->found = begin;
                return;
            }
            q->state = text[q->state - 1] == '\n' ? 0 : NO_LINE;
        }
    }
}

/* For each prefix of the text: with how much of it to go on when the next byte does not match (Knuth, Morris and Pratt). */
static const uint16_t *falls_of(struct slice text)
{
    static uint16_t fall[GRAPH_RECORD_TEXT_MAX + 1];
    const char *t = text.data;
    uint16_t k = 0;
    fall[0] = fall[1] = 0;
    for (size_t i = 1; i < text.size; i++) {
        while (k && t[i] != t[k])
            k = fall[k];
        k = (uint16_t)(k + (t[i] == t[k]));
        fall[i + 1] = k;
    }
    return fall;
}

/* A record ends with the text.  state: how much of the text the last bytes are. */
static void look_for_end(struct search *q, const struct scan *s)
{
    const char *text = q->rule->text.data;
    const uint16_t *fall = falls_of(q->rule->text);
    uint64_t base = s->at - s->size;
    for (size_t i = 0; i < s->size; i++) {
        if (q->state == 0) {
            const char *next = memchr(s->byte + i, text[0], s->size - i);
            if (!next)
                return;
            i = (size_t)(next - s->byte);
        }
        while (q->state && s->byte[i] != text[q->state])
            q->state = fall[q->state];
        q->state += s->byte[i] == text[q->state];
        if (q->state < q->rule->text.size)
            continue;
        q->state = 0; /* the end of one record cannot be part of the next one's end */
        if (base + i + 1 >= q->want) {
            q->found = base + i + 1;
            return;
        }
    }
}

/* Search from q->at on.  1: found, *to; 0: more bytes must come first. */
static int find_boundary(struct inlet *in, struct search *q, uint64_t *units, uint64_t *to, struct err *e)
{
    static void (*const look[])(struct search *, const struct scan *) = {
        [GRAPH_CUT_LINES] = look_for_marks,   [GRAPH_CUT_NULS] = look_for_marks,
        [GRAPH_CUT_PARAGRAPHS] = look_for_paragraph, [GRAPH_CUT_STARTS] = look_for_start,
        [GRAPH_CUT_ENDS] = look_for_end};
    static struct scan s; /* static as it is large; nothing in here can call this function again */
    bool again = in->search.at && in->search.begin == q->at && in->search.want == q->want;
    int r = 1;
    s.in = in;
    s.at = again ? in->search.at : q->at;
    s.want = SCAN_FIRST;
    q->first = q->seen = *units;
    q->seen = again ? in->search.seen : q->seen;
    q->state = again ? in->search.state : 0;
    q->found = UINT64_MAX;
    while (q->found == UINT64_MAX && (r = scan_more(&s, e)) > 0)
        look[q->rule->cut](q, &s);
    if (r < 0)
        return -1;
    if (q->found == UINT64_MAX && !in->ended) {
        in->search.begin = q->at;
        in->search.want = q->want;
        in->search.at = s.at;
        in->search.seen = q->seen;
        in->search.state = q->state;
        return 0;
    }
    *to = q->found == UINT64_MAX ? in->bytes : q->found;
    *units = q->seen;
    return 1;
}

/* The end of the piece that holds byte `from`, where runs must end with their piece. */
static uint64_t ceiling(const struct inlet *in, uint64_t from)
{
    if (!in->apart)
        return UINT64_MAX;
    uint32_t i = stretch_of(in, from), first = i;
    while (in->stretch[i].at + in->stretch[i].size <= from ||
           (i + 1 < in->count && (in->stretch[i + 1].goes_on || (in->stretch[i].joins && i - first < INLET_JOINED_MAX))))
        i++;
    return in->stretch[i].at + in->stretch[i].size;
}

int inlet_cut(struct inlet *in, const struct inlet_rule *rule, uint64_t from, uint64_t size,
              uint64_t min_units, uint64_t *units, uint64_t *to, struct err *e)
{
    if (from >= in->bytes)
        return 0;
    uint64_t top = ceiling(in, from), begin = from + (size ? size - 1 : 0);
    uint64_t want = graph_nominal(rule->split_bytes, begin > from ? begin : from + 1);
    int r = 1;
    if (rule->block_bytes)
        want = from > UINT64_MAX - rule->block_bytes ? UINT64_MAX : from + rule->block_bytes;
    if (rule->cut == GRAPH_CUT_FILES || in->pieces) {
        *to = top;
        return !in->pieces || in->ended || top <= in->whole;
    }
    if (rule->cut == GRAPH_CUT_BYTES) {
        uint64_t least = from + min_units > want ? from + min_units : want;
        uint64_t start = in->apart ? from - *units : 0; /* steps are counted from the beginning of the file */
        *to = start + (least - start + rule->step - 1) / rule->step * rule->step;
        if (*to > in->bytes) {
            *to = in->bytes;
            r = in->ended || in->apart;
        }
    } else if (want >= in->bytes && in->ended && !in->apart) {
        *to = in->bytes;
    } else {
        /* Whether a line begins at the nominal offset is known by the byte before it.  If nothing has to be
         * counted, the search begins at that byte. */
        bool counts = rule->step > 1 || min_units || rule->cut >= GRAPH_CUTS;
        uint64_t at = counts || want - 1 < from ? from : want - 1;
        struct search q = {.rule = rule, .at = at, .want = want, .min_units = min_units};
        *to = in->bytes;
        r = at >= in->bytes ? in->ended : find_boundary(in, &q, units, to, e);
    }
    if (r > 0 && *to > top) {
        *to = top;
        *units = 0; /* they are counted from 0 in the next file */
    } else if (r > 0 && rule->cut == GRAPH_CUT_BYTES) {
        *units += *to - from;
    }
    return r;
}
