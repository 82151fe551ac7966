/* A progress line on stderr when a job takes longer than a second: the time so far, how far the job is and how long it may
 * still take (where that is known), and the bytes into and out of each stage.  Nothing is shown when stderr is no terminal,
 * or when somebody types the job's stdin there, unless --progress asks for it. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define STAGES_MAX   16 /* stages shown: the first ones */
#define FIRST_NS     1000000000ull
#define EVERY_NS     200000000ull
#define LINE_MAX_BYTES 512
#define TYPED_MAX    (1u << 20) /* nobody types more */

struct stage {
    char name[24];
    uint64_t in, out, total;
    bool ended;
};

struct progress {
    bool on, shown;
    bool typed; /* what a stage reads may be typed on this terminal */
    uint64_t start_ns, drawn_ns;
    uint64_t begun_ns; /* when the stages that are shown began */
    struct stage stage[STAGES_MAX];
    uint32_t node[STAGES_MAX];
    int count;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct progress *progress_new(bool wanted, bool quiet)
{
    struct progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL; /* a job without a progress line */
    p->on = !quiet && (wanted || isatty(2));
    p->typed = !wanted && isatty(0); /* until the job says that it does not read it */
    p->start_ns = p->begun_ns = now_ns();
    return p;
}

static struct stage *stage_of(struct progress *p, const struct zpipe_event *e)
{
    for (int i = 0; i < p->count; i++)
        if (p->node[i] == e->node)
            return &p->stage[i];
    if (p->count == STAGES_MAX)
        return NULL;
    struct stage *s = &p->stage[p->count];
    p->node[p->count++] = e->node;
    snprintf(s->name, sizeof s->name, "%.*s", (int)strcspn(e->stage, " "), e->stage);
    zpipe_plain(s->name, false);
    return s;
}

static void amount(char out[16], uint64_t bytes)
{
    static const char units[] = "BKMGTP";
    double v = (double)bytes;
    int u = 0;
    while (v >= 1000 && units[u + 1]) {
        v /= 1024;
        u++;
    }
    snprintf(out, 16, u ? "%.1f%c" : "%.0f%c", v, units[u]);
}

/* "hh:mm:ss", without hours where there are none. */
static void duration(char out[32], uint64_t seconds)
{
    unsigned h = (unsigned)(seconds / 3600), m = (unsigned)(seconds / 60 % 60), s = (unsigned)(seconds % 60);
    if (h)
        snprintf(out, 32, "%u:%02u:%02u", h, m, s);
    else
        snprintf(out, 32, "%u:%02u", m, s);
}

/* Progress of the stage with the largest known input, since that stage sets the pace.  "" if no input's size is known. */
static void estimate(const struct progress *p, uint64_t now, char out[64])
{
    const struct stage *s = NULL;
    char left[32];
    for (int i = 0; i < p->count; i++)
        if (!p->stage[i].ended && p->stage[i].total && p->stage[i].in && (!s || p->stage[i].total > s->total))
            s = &p->stage[i];
    out[0] = '\0';
    if (!s)
        return;
    double part = s->in < s->total ? (double)s->in / (double)s->total : 1;
    double seconds = (double)(now - p->begun_ns) / 1e9 * (1 - part) / part;
    duration(left, seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 1000000000u);
    snprintf(out, 64, " %.0f%% eta %s", part * 100, left);
}

static int width(void)
{
    struct winsize w;
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void draw(struct progress *p, uint64_t now)
{
    char line[LINE_MAX_BYTES], ahead[64];
    estimate(p, now, ahead);
    int used = snprintf(line, sizeof line, "zpipe %.1fs%s", (double)(now - p->start_ns) / 1e9, ahead);
    for (int i = 0; i < p->count && used < (int)sizeof line - 64; i++) {
        char in[16], out[16];
        amount(in, p->stage[i].in);
        amount(out, p->stage[i].out);
        used += snprintf(line + used, sizeof line - (size_t)used, " | %s %s>%s%s", p->stage[i].name, in, out,
                         p->stage[i].ended ? " done" : "");
    }
    int columns = width() - 1;
    fprintf(stderr, "\r\033[K%.*s", columns, line);
    fflush(stderr);
    p->shown = true;
    p->drawn_ns = now;
}

static void wipe(struct progress *p)
{
    if (!p->shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->shown = false;
}

/* The line would wipe out what the user types. */
static bool is_typed(const struct progress *p)
{
    bool much = false;
    for (int i = 0; i < p->count; i++)
        much |= p->stage[i].in > TYPED_MAX;
    return p->typed && !much;
}

void progress_tick(struct progress *p)
{
    if (!p || !p->on || is_typed(p))
        return;
    uint64_t now = now_ns();
    if (now - p->start_ns >= FIRST_NS && now - p->drawn_ns >= EVERY_NS)
        draw(p, now);
}

void progress_event(struct progress *p, const struct zpipe_event *event)
{
    if (!p || !p->on)
        return;
    if (event->kind == ZPIPE_PROGRESS) {
        p->typed = p->typed && event->typed;
        struct stage *s = stage_of(p, event);
        if (s) {
            s->in = event->bytes_in;
            s->out = event->bytes_out;
            s->total = event->bytes_total;
        }
    } else if (event->kind == ZPIPE_ACCEPTED) {
        p->begun_ns = now_ns(); /* the time of statements that waited for others counts too */
        p->count = 0;
    } else if (event->kind == ZPIPE_TASK) {
        struct stage *s = stage_of(p, event);
        if (s)
            s->ended = true;
        wipe(p);
    }
}

void progress_free(struct progress *p)
{
    if (p)
        wipe(p);
    free(p);
}
