/* See past.h.
 *
 * Each statement of a job has a file without a name, to which records are only added:
 *
 *   struct head, a struct ended for each program, a struct output for each output, the bytes of small outputs
 *
 * and, in memory, the place of each run's record.  Larger outputs stay in their files. */
#include "worker/past.h"

#include "base/list.h"
#include "base/log.h"
#include "worker/blocks_inside.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BUCKETS_MIN 64
#define PROGRAMS_MAX 64 /* programs of a run */
#define OUTPUTS_MAX 256
#define NONE UINT32_MAX

struct head {
    uint64_t from, to, number;
    uint8_t digest[16]; /* digest of what it read */
    uint32_t programs, outputs;
    bool last;
};

struct ended {
    int status;
    bool certified;
    uint64_t cpu_user_ns, cpu_sys_ns, wall_ns, memory_peak_bytes;
};

struct output {
    uint64_t bytes; /* UINT64_MAX: there is no such output */
    uint32_t file;  /* index in past_job.file; NONE: the bytes follow */
};

struct noted {
    uint64_t from, at; /* offset in the stage's input; offset in the job's file */
    uint32_t node;     /* the stage's first node */
    uint32_t next;     /* the next one in its bucket, or NONE */
    bool dropped;
};

struct past_job {
    struct list at;
    struct past *p;
    uint64_t number;
    uint8_t graph[16];
    uint32_t users; /* attempts that are at work */
    uint64_t until_ns; /* if there are none: when the results are dropped */
    int records;
    uint64_t record_bytes, output_bytes;
    struct noted *run;
    uint32_t count, room, taken;
    uint32_t *bucket, bucket_count; /* a power of two */
    int *file;
    uint32_t file_count;
    bool full, told;
};

struct past {
    struct agent *agent;
    struct list jobs; /* longest unused first */
    uint32_t job_count, run_count, file_count;
    uint64_t bytes;
};

struct past *past_new(struct agent *a, struct err *e)
{
    struct past *p = calloc(1, sizeof *p);
    if (!p) {
        err_nomem(e);
        return NULL;
    }
    p->agent = a;
    list_init(&p->jobs);
    return p;
}

/* ---- which jobs */

static void tell(const struct past *p, const struct past_job *j, uint32_t runs)
{
    struct msg m = {.type = MSG_HOLDS, .holds = {j->number, runs}};
    agent_send(p->agent, &m);
}

static bool others(const struct past *p, const struct past_job *than)
{
    for (const struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        if (LIST_OF(l, past_job, at) != than && LIST_OF(l, past_job, at)->number == than->number && LIST_OF(l, past_job, at)->told)
            return true;
    return false;
}

static void job_free(struct past_job *j)
{
    struct past *p = j->p;
    list_remove(&j->at);
    p->job_count--;
    p->run_count -= j->count;
    p->file_count -= j->file_count;
    p->bytes -= j->record_bytes + j->output_bytes;
    for (uint32_t i = 0; i < j->file_count; i++)
        close(j->file[i]);
    fd_close(&j->records);
    free(j->file);
    free(j->run);
    free(j->bucket);
    free(j);
}

static void job_forget(struct past_job *j)
{
    if (j->told && !others(j->p, j))
        tell(j->p, j, 0);
    job_free(j);
}

void past_free(struct past *p)
{
    while (p && !list_empty(&p->jobs))
        job_free(LIST_OF(p->jobs.next, past_job, at));
    free(p);
}

void past_tick(struct past *p)
{
    struct list *next;
    for (struct list *l = p->jobs.next; l != &p->jobs; l = next) {
        struct past_job *j = LIST_OF(l, past_job, at);
        next = l->next;
        if (!j->users && (loop_clock_ns() >= j->until_ns || (j->records >= 0 && spool_is_full(j->records))))
            job_forget(j);
    }
}

void past_tell(struct past *p)
{
    for (struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        if (LIST_OF(l, past_job, at)->told)
            tell(p, LIST_OF(l, past_job, at), LIST_OF(l, past_job, at)->count);
}

void past_forget(struct past *p)
{
    struct list *next;
    for (struct list *l = p->jobs.next; l != &p->jobs; l = next) {
        struct past_job *j = LIST_OF(l, past_job, at);
        next = l->next;
        if (!j->users) {
            job_forget(j);
            continue;
        }
        j->full = true; /* its attempts are being stopped; */
        memset(j->graph, 0, sizeof j->graph); /* so that no other attempt finds it */
    }
}

/* Does a program read this file under its own name? */
static bool is_named(const struct graph *g, uint32_t file)
{
    for (uint32_t i = 0; i < g->node_count; i++)
        for (uint32_t k = 0; k < g->node[i].file_count; k++)
            if (g->node[i].file[k] == file)
                return true;
    return false;
}

/* The digest of the graph.  A file that is only streamed may be in another place the second time, like one that an earlier
 * statement made: its bytes are compared. */
static int digest_graph(struct graph *g, uint8_t out[16], struct err *e)
{
    struct running_digest *d = running_digest_new();
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    struct graph_file *file = g->file, *copy = calloc((size_t)g->file_count + 1, sizeof *copy);
    int r = d && copy ? 0 : err_nomem(e);
    for (uint32_t i = 0; r == 0 && i < g->file_count; i++) {
        copy[i] = file[i];
        if (!is_named(g, i)) {
            copy[i].path = "/";
            copy[i].inode = 0;
            copy[i].mtime_ns = 0;
        }
    }
    g->file = r == 0 ? copy : file;
    r = r == 0 ? graph_encode(g, &b, e) : -1;
    g->file = file;
    if (r == 0) {
        running_digest_add(d, b.data, b.size);
        running_digest_look(d, out);
    }
    running_digest_free(d);
    buf_clear(&b);
    free(copy);
    return r;
}

static struct past_job *find(const struct past *p, uint64_t number, const uint8_t graph[16])
{
    for (struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        if (LIST_OF(l, past_job, at)->number == number && !memcmp(LIST_OF(l, past_job, at)->graph, graph, 16))
            return LIST_OF(l, past_job, at);
    return NULL;
}

/* Drops the oldest job that nobody uses. */
static bool make_room(struct past *p)
{
    for (struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        if (!LIST_OF(l, past_job, at)->users) {
            job_forget(LIST_OF(l, past_job, at));
            return true;
        }
    return false;
}

struct past_job *past_join(struct past *p, uint64_t number, struct graph *g)
{
    uint8_t graph[16];
    struct err e;
    if (!p || !number || g->audit || digest_graph(g, graph, &e) < 0)
        return NULL;
    struct past_job *j = find(p, number, graph);
    if (!j && p->job_count == PAST_JOBS_MAX && !make_room(p))
        return NULL;
    if (!j) {
        j = calloc(1, sizeof *j);
        if (!j)
            return NULL;
        *j = (struct past_job){.p = p, .number = number, .records = -1};
        memcpy(j->graph, graph, sizeof graph);
        list_add(&p->jobs, &j->at);
        p->job_count++;
    }
    list_to_end(&p->jobs, &j->at);
    j->users++;
    return j;
}

void past_leave(struct past_job *j, bool ended)
{
    if (!j)
        return;
    if (j->taken)
        log_info("runs_taken", "job=%llu runs=%u", (unsigned long long)j->number, j->taken);
    j->taken = 0;
    j->until_ns = loop_clock_ns() + (ended ? PAST_ENDED_NS : PAST_NS);
    if (--j->users == 0 && !j->count)
        job_forget(j);
}

/* ---- which runs */

static uint32_t bucket_of(const struct past_job *j, uint32_t node, uint64_t from)
{
    uint64_t h = (from ^ ((uint64_t)node << 40)) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) & (j->bucket_count - 1);
}

static void link_run(struct past_job *j, uint32_t i)
{
    uint32_t b = bucket_of(j, j->run[i].node, j->run[i].from);
    j->run[i].next = j->bucket[b];
    j->bucket[b] = i;
}

static bool grow(struct past_job *j)
{
    uint32_t room = j->room ? 2 * j->room : BUCKETS_MIN;
    struct noted *run = realloc(j->run, room * sizeof *run);
    if (!run)
        return false;
    j->run = run;
    uint32_t *bucket = realloc(j->bucket, room * sizeof *bucket);
    if (!bucket)
        return false;
    j->bucket = bucket;
    j->room = j->bucket_count = room;
    memset(bucket, 0xff, room * sizeof *bucket);
    for (uint32_t i = 0; i < j->count; i++)
        link_run(j, i);
    return true;
}

/* The newest record of this run. */
static struct noted *run_at(const struct blocks *b)
{
    const struct past_job *j = b->t->past;
    for (uint32_t i = j && j->count ? j->bucket[bucket_of(j, b->node[0], b->from)] : NONE; i != NONE; i = j->run[i].next)
        if (j->run[i].node == b->node[0] && j->run[i].from == b->from)
            return j->run[i].dropped ? NULL : &j->run[i];
    return NULL;
}

/* ---- what a run reads */

/* Do its programs read only the block, and files that their words name? */
static bool reads_block_only(const struct blocks *b)
{
    const struct graph *g = b->t->graph;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        const struct graph_node *n = blocks_node(b, i);
        for (uint32_t k = 0; k < n->fd_count; k++) {
            const struct graph_edge *edge = &g->edge[n->fd[k].edge];
            bool inside = n->fd[k].edge == b->stage->in_edge || edge->from == b->node[i] || g->node[edge->from].parent != GRAPH_NONE;
            for (uint32_t m = 0; m < b->stage->count && !inside; m++)
                inside = edge->from == b->node[m];
            if (!inside)
                return false;
        }
    }
    return true;
}

/* The digest of what the run read; 0: it cannot be known. */
static int digest_input(const struct run *r, uint8_t out[16], struct err *e)
{
    static struct box_source source[SOURCES_MAX];
    bool file = run_is_file(r->b);
    if (r->to <= r->from || (file && r->file == GRAPH_NONE) || run_has_files(r) || run_bytes_in(r) > PAST_INPUT_MAX)
        return 0;
    int count = file ? (int)lent_input(r, source) : run_sources(r, source, SOURCES_MAX);
    struct running_digest *d = count > 0 ? running_digest_new() : NULL;
    int good = d != NULL;
    for (int i = 0; good > 0 && i < count; i++)
        good = blocks_digest(d, source[i].fd, source[i].offset, source[i].size, e) < 0 ? -1 : 1;
    if (good > 0)
        running_digest_look(d, out);
    running_digest_free(d);
    return good;
}

/* ---- noting */

static bool is_usual(struct run *r)
{
    const struct blocks *b = r->b;
    if (r->merge.count || r->part_count || b->state != CUTTING || b->stage->count > PROGRAMS_MAX || run_outputs(b) > OUTPUTS_MAX ||
        !reads_block_only(b))
        return false;
    for (uint32_t i = 0; i < b->stage->count; i++)
        if (r->result[i].end != BOX_EXITED || (b->way->dropped && *b->way->dropped(r, i)))
            return false;
    return true;
}

static bool has_room(const struct past_job *j, uint64_t more)
{
    struct statvfs s;
    uint64_t free_bytes = fstatvfs(j->records, &s) == 0 ? s.f_bavail * s.f_frsize : 0;
    return j->p->run_count < PAST_RUNS_MAX && j->p->bytes + more <= PAST_BYTES_MAX && more <= free_bytes / 4;
}

static int keep_file(struct past_job *j, int fd, struct output *to, struct err *e)
{
    if (j->p->file_count == PAST_FILES_MAX)
        return err_set(e, ERR_LIMIT, "more than %d outputs (PAST_FILES_MAX)", PAST_FILES_MAX);
    int *file = realloc(j->file, ((size_t)j->file_count + 1) * sizeof *file);
    if (!file)
        return err_nomem(e);
    j->file = file;
    if ((file[j->file_count] = spool_reader(fd, e)) < 0)
        return -1;
    to->file = j->file_count++;
    j->p->file_count++;
    return 0;
}

static int add_bytes(struct buf *b, int fd, uint64_t bytes, struct err *e)
{
    static char bytes_of[PAST_SMALL_MAX];
    if (pread(fd, bytes_of, bytes, 0) != (ssize_t)bytes)
        return err_sys(e, "cannot read a block's output again");
    buf_add(b, bytes_of, bytes);
    return 0;
}

/* Makes the record; *files: how many bytes of outputs stay in files. */
static int record(struct past_job *j, struct run *r, const struct head *h, struct buf *out, uint64_t *files, struct err *e)
{
    struct output o[OUTPUTS_MAX];
    buf_add(out, h, sizeof *h);
    for (uint32_t i = 0; i < h->programs; i++) {
        const struct box_result *from = &r->result[i];
        struct ended one;
        memset(&one, 0, sizeof one);
        one.status = from->status;
        one.certified = from->certified;
        one.cpu_user_ns = from->cpu_user_ns;
        one.cpu_sys_ns = from->cpu_sys_ns;
        one.wall_ns = from->wall_ns;
        one.memory_peak_bytes = from->memory_peak_bytes;
        buf_add(out, &one, sizeof one);
    }
    memset(o, 0, sizeof o);
    for (uint32_t i = 0; i < h->outputs; i++) {
        int fd = *run_output(r, i);
        o[i].file = NONE;
        o[i].bytes = UINT64_MAX;
        if (fd >= 0 && blocks_size_of(fd, &o[i].bytes, e) < 0)
            return -1;
        if (fd >= 0 && o[i].bytes > PAST_SMALL_MAX) {
            *files += o[i].bytes;
            if (!has_room(j, *files))
                return err_set(e, ERR_LIMIT, "there is no room for more");
            if (keep_file(j, fd, &o[i], e) < 0)
                return -1;
        }
    }
    buf_add(out, o, h->outputs * sizeof *o);
    for (uint32_t i = 0; i < h->outputs; i++)
        if (o[i].bytes != UINT64_MAX && o[i].file == NONE && add_bytes(out, *run_output(r, i), o[i].bytes, e) < 0)
            return -1;
    return out->failed ? err_nomem(e) : 0;
}

static int note(struct past_job *j, struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    struct head h;
    struct buf out = BUF_INIT(sizeof h + PROGRAMS_MAX * sizeof(struct ended) + OUTPUTS_MAX * (sizeof(struct output) + PAST_SMALL_MAX));
    uint64_t files = 0;
    memset(&h, 0, sizeof h);
    h.from = r->from;
    h.to = r->to;
    h.number = r->number;
    h.programs = b->stage->count;
    h.outputs = run_outputs(b);
    h.last = r->last;
    int known = digest_input(r, h.digest, e);
    if (known <= 0)
        return known;
    if (j->records < 0 && (j->records = spool_open(e)) < 0)
        return -1;
    uint32_t had = j->file_count;
    int result = record(j, r, &h, &out, &files, e);
    if (result == 0 && !has_room(j, out.size + files))
        result = err_set(e, ERR_LIMIT, "there is no room for more");
    if (result == 0 && j->count == j->room && !grow(j))
        result = err_nomem(e);
    if (result == 0 && pwrite(j->records, out.data, out.size, (off_t)j->record_bytes) != (ssize_t)out.size)
        result = spool_write_failed(e);
    if (result == 0) {
        j->run[j->count] = (struct noted){.from = r->from, .at = j->record_bytes, .node = b->node[0]};
        link_run(j, j->count++);
        j->p->run_count++;
        j->record_bytes += out.size;
        j->output_bytes += files;
        j->p->bytes += out.size + files;
    }
    while (result < 0 && j->file_count > had) {
        close(j->file[--j->file_count]);
        j->p->file_count--;
    }
    buf_clear(&out);
    return result;
}

void past_note(struct run *r)
{
    struct past_job *j = r->b->t->past;
    struct err e = {0};
    if (!j || j->full || !is_usual(r))
        return;
    if (note(j, r, &e) < 0) {
        log_info("runs_not_kept", "job=%llu runs=%u why=\"%s\"", (unsigned long long)j->number, j->count, e.text);
        j->full = true;
    } else if (!j->told && j->count) {
        j->told = true;
        tell(j->p, j, j->count);
    }
}

/* ---- taking */

static int read_at(const struct past_job *j, void *to, size_t size, uint64_t *at, struct err *e)
{
    if (pread(j->records, to, size, (off_t)*at) != (ssize_t)size)
        return err_sys(e, "cannot read what runs came to");
    *at += size;
    return 0;
}

uint64_t past_size(const struct blocks *b)
{
    const struct noted *n = run_at(b);
    struct head h;
    struct err e;
    uint64_t at = n ? n->at : 0;
    return n && read_at(b->t->past, &h, sizeof h, &at, &e) == 0 ? h.to - h.from : 0;
}

void past_drop(const struct blocks *b)
{
    struct noted *n = run_at(b);
    if (n)
        n->dropped = true;
}

static int take_output(const struct past_job *j, const struct output *o, int *fd, uint64_t *at, struct err *e)
{
    static char bytes[PAST_SMALL_MAX];
    if (o->bytes == UINT64_MAX)
        return 0;
    if (o->file == NONE && read_at(j, bytes, o->bytes, at, e) < 0)
        return -1;
    *fd = o->file == NONE ? spool_of((struct slice){bytes, o->bytes}, e) : spool_reader(j->file[o->file], e);
    return *fd < 0 ? -1 : 0;
}

int past_take(struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    struct past_job *j = b->t->past;
    const struct noted *n = run_at(b);
    struct head h;
    struct ended one;
    struct output o[OUTPUTS_MAX];
    uint8_t digest[16];
    uint64_t at = n ? n->at : 0;
    if (!n || read_at(j, &h, sizeof h, &at, e) < 0)
        return n ? -1 : 0;
    bool same = h.to == r->to && h.last == r->last && (b->way->joins || h.number == r->number) && h.programs == b->stage->count &&
                h.outputs == run_outputs(b);
    int known = same ? digest_input(r, digest, e) : 0;
    if (known <= 0 || memcmp(digest, h.digest, sizeof digest) != 0)
        return known < 0 ? -1 : 0;
    for (uint32_t i = 0; i < h.programs; i++) {
        if (read_at(j, &one, sizeof one, &at, e) < 0)
            return -1;
        r->result[i] = (struct box_result){.end = BOX_EXITED, .status = one.status, .limit = "", .text = "", .certified = one.certified,
                                           .uncertified_why = "", .cold_why = "", .cpu_user_ns = one.cpu_user_ns, .cpu_sys_ns = one.cpu_sys_ns,
                                           .wall_ns = one.wall_ns, .memory_peak_bytes = one.memory_peak_bytes};
    }
    if (read_at(j, o, h.outputs * sizeof *o, &at, e) < 0)
        return -1;
    for (uint32_t i = 0; i < h.outputs; i++)
        if (take_output(j, &o[i], run_output(r, i), &at, e) < 0)
            return -1;
    j->taken++;
    return 1;
}
