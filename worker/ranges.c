/* See ranges.h. */
#include "worker/ranges.h"

#include "base/grow.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLES  16           /* samples of a file for each range */
#define CLOSER   12           /* samples of what a round leaves open, in the next round */
#define SPARSE   16           /* the first round asks about one byte in so many at most */
#define FINE     (1u << 20)   /* parts of this size are looked at line by line */
#define PAGE     4096
#define WINDOW   65536

/* Lines of a file, in order. */
struct line {
    uint64_t at;   /* offset in the file */
    uint32_t text; /* offset in the list's text */
    uint32_t size;
};

struct list {
    struct buf text;
    struct line *line; /* owned */
    uint32_t count, room;
    uint32_t head; /* while the output is read: the list's lines before it have been written */
};

/* A splitter's place in a file: the lines before it end somewhere in [low, high], at the beginning of a line. */
struct place {
    uint64_t low, high;
};

struct file {
    int fd;
    uint64_t size;
};

/* Bytes of a file that are in memory. */
struct window {
    const struct file *of;
    uint64_t at;
    size_t size, want;
    char byte[WINDOW];
};

struct ranges {
    struct file *file; /* owned */
    struct window window;
    uint32_t files, wanted, round;
    uint64_t bytes, gap; /* gap: bytes from one sample to the next; 0: every line */
    char end;
    struct list *list; /* the splitters, each file's lines, the splitters again */
    uint32_t splitters;
    struct place *place; /* for each splitter: before the lines equal to it, and after them; for each file */
    uint64_t *cut;       /* for each cut and file */
    bool *equals;        /* for each range */
    uint32_t count;
};

/* ---- lines */

/* Reads from `at` to the end of a line and adds it to `keep`; *next: the byte after it.  0: the file ends before that. */
static int read_line(struct ranges *g, const struct file *f, uint64_t at, struct buf *keep, uint64_t *next,
                     struct err *e)
{
    struct window *w = &g->window;
    for (;;) {
        if (w->of != f || at < w->at || at >= w->at + w->size) {
            ssize_t n = at < f->size ? pread(f->fd, w->byte, w->want, (off_t)at) : 0;
            if (n < 0)
                return err_sys(e, "cannot read a temporary file");
            if (n == 0)
                return 0;
            w->of = f;
            w->at = at;
            w->size = (size_t)n;
        }
        const char *from = w->byte + (at - w->at);
        size_t size = w->size - (size_t)(at - w->at);
        const char *found = memchr(from, g->end, size);
        if (found)
            size = (size_t)(found + 1 - from);
        if (keep)
            buf_add(keep, from, size);
        at += size;
        if (found) {
            *next = at;
            return 1;
        }
    }
}

/* 0: the list would be too large. */
static int list_add(struct list *l, uint64_t at, uint32_t text, struct err *e)
{
    if (l->text.failed)
        return l->text.no_memory ? err_nomem(e) : 0;
    if (!grow(&l->line, &l->room, l->count, RANGES_BYTES_MAX, sizeof *l->line))
        return err_nomem(e);
    l->line[l->count++] = (struct line){at, text, (uint32_t)l->text.size - text};
    return 1;
}

/* Takes the lines that begin in [from, to), or samples of them. */
static int take_lines(struct ranges *g, uint32_t i, uint64_t from, uint64_t to, struct err *e)
{
    const struct file *f = &g->file[i];
    struct list *l = &g->list[1 + i];
    g->window.want = g->gap >= PAGE ? PAGE : WINDOW;
    while (from < to) {
        uint64_t next, step = g->gap;
        uint32_t text = (uint32_t)l->text.size;
        int r = read_line(g, f, from, &l->text, &next, e);
        if (r > 0)
            r = list_add(l, from, text, e);
        if (r <= 0)
            return r;
        if (g->round == 0 && g->gap && SPARSE * (next - from) > step)
            step = SPARSE * (next - from);
        if (from + step > next) {
            if (from + step >= to)
                return 1;
            r = read_line(g, f, from + step - 1, NULL, &next, e);
            if (r <= 0)
                return r;
        }
        from = next;
    }
    return 1;
}

static int by_low(const void *a, const void *b)
{
    const struct place *p = a, *q = b;
    return p->low < q->low ? -1 : p->low > q->low;
}

/* Where the round must still look in a file: the places that are not known yet, sorted and without overlaps. */
static uint32_t open_places(const struct ranges *g, uint32_t i, struct place *out)
{
    uint32_t count = 0, kept = 0;
    for (uint32_t p = 0; p < 2 * g->splitters; p++) {
        struct place one = g->place[(size_t)p * g->files + i];
        if (one.low < one.high)
            out[count++] = one;
    }
    qsort(out, count, sizeof *out, by_low);
    for (uint32_t p = 0; p < count; p++) {
        if (kept && out[p].low <= out[kept - 1].high) {
            if (out[p].high > out[kept - 1].high)
                out[kept - 1].high = out[p].high;
        } else {
            out[kept++] = out[p];
        }
    }
    return kept;
}

static void list_empty(struct list *l)
{
    buf_drop(&l->text, l->text.size);
    l->count = l->head = 0;
}

/* Makes the lists of a later round. */
static int look_closer(struct ranges *g, struct err *e)
{
    struct place *open = calloc(2 * (size_t)g->splitters + 1, sizeof *open);
    uint64_t left = 0, taken = 0;
    int r = 1;
    if (!open)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->files; i++) {
        uint32_t count = open_places(g, i, open);
        for (uint32_t p = 0; p < count; p++)
            left += open[p].high - open[p].low;
    }
    g->gap = left <= FINE ? 0 : g->gap / CLOSER;
    for (uint32_t i = 0; r > 0 && i < g->files; i++) {
        uint32_t count = open_places(g, i, open);
        list_empty(&g->list[1 + i]);
        for (uint32_t p = 0; r > 0 && p < count; p++)
            r = take_lines(g, i, open[p].low, open[p].high, e);
        taken += g->list[1 + i].text.size;
        if (taken > RANGES_BYTES_MAX)
            r = r < 0 ? r : 0;
    }
    free(open);
    return r;
}

int ranges_ask(struct ranges *g, struct err *e)
{
    int r = g->round < RANGES_ROUNDS_MAX;
    uint64_t taken = 0;
    if (g->round > 1 && r > 0)
        r = look_closer(g, e);
    for (uint32_t i = 0; g->round == 0 && r > 0 && i < g->files; i++) {
        r = take_lines(g, i, 0, g->file[i].size, e);
        taken += g->list[1 + i].text.size;
        if (taken > RANGES_BYTES_MAX)
            r = r < 0 ? r : 0;
    }
    for (uint32_t i = 0; i < ranges_lists(g); i++)
        g->list[i].head = 0;
    return r;
}

uint32_t ranges_lists(const struct ranges *g)
{
    return g->files + 2;
}

struct slice ranges_list(const struct ranges *g, uint32_t i)
{
    return (struct slice){g->list[i].text.data, g->list[i].text.size};
}

/* ---- what the command says */

/* Adds a splitter, unless it is equal to the last one. */
static int choose(struct ranges *g, const char *text, size_t size)
{
    struct list *first = &g->list[0], *last = &g->list[g->files + 1];
    const struct line *before = first->count ? &first->line[first->count - 1] : NULL;
    struct err e;
    if (before && before->size == size && memcmp(first->text.data + before->text, text, size) == 0)
        return 0;
    for (struct list *l = first; l; l = l == first ? last : NULL) {
        uint32_t at = (uint32_t)l->text.size;
        buf_add(&l->text, text, size);
        if (list_add(l, 0, at, &e) <= 0)
            return -1;
    }
    g->splitters++;
    return 0;
}

/* Narrows a place: lines before the heads come before it, the others after it. */
static int narrow(struct ranges *g, uint32_t p)
{
    for (uint32_t i = 0; i < g->files; i++) {
        struct place *at = &g->place[(size_t)p * g->files + i];
        const struct list *l = &g->list[1 + i];
        const struct line *before = l->head ? &l->line[l->head - 1] : NULL;
        const struct line *behind = l->head < l->count ? &l->line[l->head] : NULL;
        if ((before && before->at >= at->high) || (behind && behind->at < at->low))
            return -1;
        if (before && before->at >= at->low)
            at->low = before->at + before->size;
        if (behind && behind->at < at->high)
            at->high = behind->at;
        if (at->low > at->high)
            return -1;
    }
    return 0;
}

/* Is list i asked about?  The splitters are not while they are chosen. */
static bool is_asked(const struct ranges *g, uint32_t i)
{
    return g->round > 0 || (i > 0 && i <= g->files);
}

/* The list that a line came from: the first one whose next line it is. */
static uint32_t list_of(const struct ranges *g, const char *text, size_t size)
{
    uint32_t i = 0;
    for (; i < ranges_lists(g); i++) {
        if (!is_asked(g, i))
            continue;
        const struct list *l = &g->list[i];
        const struct line *next = l->head < l->count ? &l->line[l->head] : NULL;
        if (next && next->size == size && memcmp(l->text.data + next->text, text, size) == 0)
            break;
    }
    return i;
}

static int walk(struct ranges *g, struct slice merged)
{
    const char *text = merged.data, *stop = text + merged.size;
    uint64_t samples = 0, seen = 0;
    uint32_t chosen = 1;
    for (uint32_t i = 0; i < g->files; i++)
        samples += g->list[1 + i].count;
    while (text < stop) {
        const char *end = memchr(text, g->end, (size_t)(stop - text));
        size_t size = end ? (size_t)(end + 1 - text) : 0;
        uint32_t i = end ? list_of(g, text, size) : ranges_lists(g);
        int r = 0;
        if (i == ranges_lists(g))
            return -1;
        if (g->round == 0) {
            for (seen++; r == 0 && chosen < g->wanted && seen * g->wanted > samples * chosen; chosen++)
                r = choose(g, text, size);
        } else if (i == 0 || i == g->files + 1) {
            r = narrow(g, 2 * g->list[i].head + (i > 0));
        }
        if (r < 0)
            return -1;
        g->list[i].head++;
        text += size;
    }
    for (uint32_t i = 0; i < ranges_lists(g); i++)
        if (is_asked(g, i) && g->list[i].head != g->list[i].count)
            return -1;
    return 0;
}

static int make_places(struct ranges *g)
{
    g->place = calloc(2 * (size_t)g->splitters * g->files + 1, sizeof *g->place);
    g->cut = calloc((2 * (size_t)g->splitters + 2) * g->files, sizeof *g->cut);
    g->equals = calloc(2 * (size_t)g->splitters + 1, sizeof *g->equals);
    if (!g->place || !g->cut || !g->equals)
        return -1;
    for (uint32_t p = 0; p < 2 * g->splitters; p++)
        for (uint32_t i = 0; i < g->files; i++)
            g->place[(size_t)p * g->files + i].high = g->file[i].size;
    return 0;
}

/* Adds a cut at a place.  -1: it is before the last one. */
static int add_cut(struct ranges *g, uint32_t p)
{
    uint64_t *cut = g->cut + (size_t)(g->count + 1) * g->files, *last = cut - g->files;
    bool same = true;
    for (uint32_t i = 0; i < g->files; i++) {
        cut[i] = p == 2 * g->splitters ? g->file[i].size : g->place[(size_t)p * g->files + i].low;
        if (cut[i] < last[i])
            return -1;
        same = same && cut[i] == last[i];
    }
    g->count += !same;
    return 0;
}

/* Are so many lines equal to a splitter that they are a range of their own?  The command must keep all equal lines, which
 * is known if some file holds two. */
static bool is_range(struct ranges *g, uint32_t splitter)
{
    const struct place *before = g->place + 2 * (size_t)splitter * g->files, *behind = before + g->files;
    uint64_t bytes = 0, next;
    bool two = false;
    struct err e;
    for (uint32_t i = 0; i < g->files; i++) {
        uint64_t size = behind[i].low > before[i].low ? behind[i].low - before[i].low : 0;
        bytes += size;
        two = two || (size && read_line(g, &g->file[i], before[i].low, NULL, &next, &e) > 0 && next < behind[i].low);
    }
    return two && bytes >= g->bytes / g->wanted / 2;
}

static int make_cuts(struct ranges *g)
{
    for (uint32_t s = 0; s < g->splitters; s++) {
        const struct place *now = g->place + 2 * (size_t)s * g->files;
        bool again = s > 0;
        for (uint32_t i = 0; i < g->files && again; i++)
            again = now[i].low == now[(ptrdiff_t)i - 2 * (ptrdiff_t)g->files].low;
        if (again)
            continue; /* another line, equal to the last splitter */
        if (add_cut(g, 2 * s) < 0)
            return -1;
        if (!is_range(g, s))
            continue;
        uint32_t range = g->count;
        if (add_cut(g, 2 * s + 1) < 0)
            return -1;
        g->equals[range] = g->count > range;
    }
    return add_cut(g, 2 * g->splitters);
}

static bool all_known(const struct ranges *g)
{
    for (size_t p = 0; p < 2 * (size_t)g->splitters * g->files; p++)
        if (g->place[p].low != g->place[p].high)
            return false;
    return true;
}

enum ranges_state ranges_answer(struct ranges *g, struct slice merged)
{
    if (walk(g, merged) < 0 || (g->round == 0 && make_places(g) < 0))
        return RANGES_LOST;
    if (g->round++ == 0 || !all_known(g))
        return RANGES_MORE;
    return make_cuts(g) < 0 ? RANGES_LOST : RANGES_KNOWN;
}

/* ---- life */

uint32_t ranges_count(const struct ranges *g)
{
    return g->count;
}

uint64_t ranges_cut(const struct ranges *g, uint32_t cut, uint32_t file)
{
    return g->cut[(size_t)cut * g->files + file];
}

bool ranges_equals(const struct ranges *g, uint32_t i)
{
    return g->equals[i];
}

struct ranges *ranges_new(const int *fd, const uint64_t *size, uint32_t count, char end, uint32_t wanted,
                          struct err *e)
{
    struct ranges *g = calloc(1, sizeof *g);
    if (g)
        *g = (struct ranges){.file = calloc(count, sizeof *g->file), .files = count, .wanted = wanted, .end = end,
                             .list = calloc((size_t)count + 2, sizeof *g->list)};
    if (!g || !g->file || !g->list) {
        ranges_free(g);
        err_nomem(e);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        g->file[i].fd = fd[i];
        g->file[i].size = size[i];
        g->bytes += size[i];
    }
    for (uint32_t i = 0; i < count + 2; i++)
        g->list[i].text = BUF_INIT(RANGES_BYTES_MAX);
    g->gap = g->bytes / ((uint64_t)SAMPLES * wanted * count);
    return g;
}

void ranges_free(struct ranges *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; g->list && i < g->files + 2; i++) {
        buf_clear(&g->list[i].text);
        free(g->list[i].line);
    }
    free(g->list);
    free(g->file);
    free(g->place);
    free(g->cut);
    free(g->equals);
    free(g);
}
