/* --joblog: a line for each task, in the columns of GNU parallel's log and some more.  A stage that runs in blocks has a
 * line for each of them; any other stage has one line. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct joblog {
    FILE *file;
    const char *name;
    unsigned long rows;
    bool *cut; /* owned, per stage: it runs in blocks, so it has a line per task */
    size_t cut_count;
};

struct joblog *joblog_open(const char *name)
{
    struct joblog *l = calloc(1, sizeof *l);
    if (l && (l->file = fopen(name, "we"))) {
        l->name = name;
        fputs("Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tTask\tCPU\tMemory\tCertified\tStart\n",
              l->file);
        return l;
    }
    cli_say(0, "cannot write the job log '%s': %s", name, strerror(l ? errno : ENOMEM));
    free(l);
    return NULL;
}

/* Tabs and newlines in the command are replaced, as they would break the table. */
static void put_command(FILE *to, const char *text)
{
    for (; *text; text++)
        if (*text == '\t' || *text == '\n' || *text == '\\')
            fprintf(to, "\\%c", *text == '\t' ? 't' : *text == '\n' ? 'n' : '\\');
        else
            fputc(*text, to);
}

static bool is_cut(const struct joblog *l, uint32_t node)
{
    return node < l->cut_count && l->cut[node];
}

static void note_cut(struct joblog *l, uint32_t first, uint32_t last)
{
    if (last >= l->cut_count) {
        bool *more = realloc(l->cut, last + (size_t)1);
        if (!more)
            return;
        memset(more + l->cut_count, 0, last + (size_t)1 - l->cut_count);
        l->cut = more;
        l->cut_count = last + (size_t)1;
    }
    for (uint32_t i = first; i <= last; i++)
        l->cut[i] = true;
}

void joblog_event(struct joblog *l, const struct zpipe_event *e)
{
    struct timespec now;
    bool block = e->kind == ZPIPE_BLOCK;
    if (!l || (!block && (e->kind != ZPIPE_TASK || is_cut(l, e->node))))
        return;
    if (block)
        note_cut(l, e->node, e->last_node);
    clock_gettime(CLOCK_REALTIME, &now);
    double wall = (double)e->wall_us / 1e6, cpu = (double)(e->cpu_user_us + e->cpu_sys_us) / 1e6;
    fprintf(l->file, "%lu\t%s\t%.3f\t%10.3f\t%llu\t%llu\t%d\t%d\t", ++l->rows, block && e->worker[0] ? e->worker : ":",
            (double)now.tv_sec + (double)now.tv_nsec / 1e9 - wall, wall, (unsigned long long)e->bytes_in,
            (unsigned long long)e->bytes_out, e->signal ? 0 : e->status, e->signal);
    put_command(l->file, e->stage);
    fprintf(l->file, "\t%u", e->node + 1);
    if (block)
        fprintf(l->file, "/%llu", (unsigned long long)e->block + 1);
    fprintf(l->file, "\t%.3f\t%llu\t%s\t%s%s\n", cpu, (unsigned long long)e->memory_peak_bytes, e->certified ? "yes" : "no",
            *e->cold ? "cold: " : "clone", e->cold);
}

int joblog_close(struct joblog *l)
{
    if (!l)
        return 0;
    errno = 0;
    bool failed = fflush(l->file) != 0 || ferror(l->file);
    failed |= fclose(l->file) != 0;
    if (failed)
        cli_say(0, "cannot write the job log '%s': %s", l->name, errno ? strerror(errno) : "a write failed before");
    free(l->cut);
    free(l);
    return failed ? -1 : 0;
}
