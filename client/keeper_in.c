/* See keeper_in.h.  First comes the record, which says what will follow, then the inputs, into files of the job's
 * directory.  When all has arrived and the stream's digest is right, the files are synced, the job is written to the
 * journal, and only then the client is told. */
#include "client/keeper_in.h"

#include "base/fds.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNC_BYTES ((uint64_t)64 << 20) /* sync after so many bytes, so that the last sync is short */

struct deposit_in {
    struct visitor *v;
    struct stream_receiver *receiver;
    struct buf record;   /* including its prefix */
    struct arena arena;
    struct kept_job kept;
    struct graph *graph; /* owned; NULL until the record has arrived */
    uint32_t at;         /* which of the carried files is arriving; after them stdin */
    int fd;
    uint64_t left_bytes, unsynced_bytes, held_bytes;
    bool made;           /* the job's directory exists */
    bool kept_now;       /* the job is in the journal */
    struct err why;
};

static int make_part(struct deposit_in *in, const char *name, bool directory, int *fd, struct err *e)
{
    char *path = keeper_path(in->v->k, in->v->number, name, e);
    int r = !path ? -1 : directory ? mkdir(path, 0700) : (*fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (path && r < 0)
        err_sys(e, "the keeper cannot make '%s'", path);
    free(path);
    return r < 0 ? -1 : 0;
}

/* A client is not trusted: each input must be carried, made by the job itself, a directory, or shared. */
static int check_files(const struct deposit_in *in, uint64_t *bytes, struct err *e)
{
    const struct kept_job *k = &in->kept;
    const struct graph *g = in->graph;
    *bytes = k->has_stdin ? k->stdin_bytes : 0;
    if (k->directory[0] != '/' || *bytes > INT64_MAX)
        return err_set(e, ERR_PROTO, "a job that cannot be");
    for (uint32_t i = 0; i < k->carried_count; i++) {
        uint32_t file = k->carried[i];
        if (file >= g->file_count || (i && file <= k->carried[i - 1]) || !S_ISREG(g->file[file].mode) || g->file[file].awaited ||
            g->file[file].size_bytes > INT64_MAX - *bytes)
            return err_set(e, ERR_PROTO, "a job whose inputs cannot be");
        *bytes += g->file[file].size_bytes;
    }
    for (uint32_t i = 0; i < g->file_count; i++)
        if (g->file[i].passed > g->node_count)
            return err_set(e, ERR_PROTO, "a job whose phases cannot be");
    return 0;
}

/* Bytes that wait to come from this visitor's key. */
static uint64_t coming(const struct visitor *v)
{
    uint64_t bytes = 0;
    for (const struct list *l = v->k->visitors.next; l != &v->k->visitors; l = l->next) {
        const struct visitor *other = LIST_OF(l, visitor, at);
        bool same = other->in && slice_equal((struct slice){other->key, other->key_size}, (struct slice){v->key, v->key_size});
        bytes += same ? other->in->held_bytes : 0;
    }
    return bytes;
}

static int take_record(struct deposit_in *in, struct err *e)
{
    uint64_t bytes;
    struct slice record = {in->record.data + KEPT_PREFIX, in->record.size - KEPT_PREFIX};
    if (kept_decode(record, &in->arena, &in->kept, e) < 0 ||
        !(in->graph = graph_decode(in->kept.graph.data, in->kept.graph.size, e)) || check_files(in, &bytes, e) < 0 ||
        keeper_room(in->v->k, keeper_list_held(in->v->k, (struct slice){in->v->key, in->v->key_size}) + coming(in->v), bytes, e) < 0)
        return -1;
    in->held_bytes = bytes;
    in->v->k->held_bytes += bytes; /* reserved; once the job exists it counts its own bytes */
    if (make_part(in, NULL, true, NULL, e) < 0)
        return -1;
    in->made = true;
    return make_part(in, "in", true, NULL, e);
}

/* Moves on to the next file with bytes to come, and makes the empty ones before it. */
static int next_file(struct deposit_in *in, struct err *e)
{
    char name[32];
    fd_close(&in->fd);
    while (in->at < in->kept.carried_count) {
        uint32_t file = in->kept.carried[in->at++];
        snprintf(name, sizeof name, "in/%u", file);
        if (make_part(in, name, false, &in->fd, e) < 0)
            return -1;
        if ((in->left_bytes = in->graph->file[file].size_bytes))
            return 0;
        fd_close(&in->fd);
    }
    if (in->at++ == in->kept.carried_count && in->kept.has_stdin) {
        if (make_part(in, "stdin", false, &in->fd, e) < 0)
            return -1;
        in->left_bytes = in->kept.stdin_bytes;
    }
    return 0;
}

static int write_file(struct deposit_in *in, const char *data, size_t size, struct err *e)
{
    if (fd_write_all(in->fd, data, size) < 0)
        return keeper_write_failed(in->v->k, "the input", e);
    in->unsynced_bytes += size;
    if (in->unsynced_bytes >= SYNC_BYTES) {
        in->unsynced_bytes = 0;
        if (fdatasync(in->fd) < 0)
            return keeper_write_failed(in->v->k, "the input", e);
    }
    return 0;
}

/* Takes bytes of the record or of an input; *used: how many. */
static int take(struct deposit_in *in, const char *data, size_t size, size_t *used, struct err *e)
{
    uint32_t rest = 0;
    if (in->graph) {
        *used = in->left_bytes < size ? (size_t)in->left_bytes : size;
        if (!*used)
            return err_set(e, ERR_PROTO, "more inputs came than were announced");
        if (write_file(in, data, *used, e) < 0)
            return -1;
        in->left_bytes -= *used;
        return in->left_bytes ? 0 : next_file(in, e);
    }
    size_t want = KEPT_PREFIX;
    if (in->record.size >= KEPT_PREFIX && kept_size(in->record.data, &rest, e) < 0)
        return -1;
    want += rest;
    *used = want - in->record.size < size ? want - in->record.size : size;
    buf_add(&in->record, data, *used);
    if (in->record.failed)
        return err_nomem(e);
    if (!rest || in->record.size < want)
        return 0;
    return take_record(in, e) < 0 ? -1 : next_file(in, e);
}

static void on_data(void *owner, struct slice bytes)
{
    struct deposit_in *in = owner;
    const char *data = bytes.data;
    for (size_t left = bytes.size, used = 0; left && !in->why.code; data += used, left -= used)
        if (take(in, data, left, &used, &in->why) < 0)
            return;
    if (!in->why.code)
        stream_consumed(in->receiver, bytes.size, NULL);
}

/* All inputs are synced to disk; then the job is written to the journal. */
static int keep(struct deposit_in *in, struct err *e)
{
    struct visitor *v = in->v;
    struct keeper *k = v->k;
    struct journal_job row = {.number = v->number,
                              .came_ms = keeper_now_ms(k),
                              .owner = {v->key, v->key_size},
                              .record = {in->record.data + KEPT_PREFIX, in->record.size - KEPT_PREFIX},
                              .why = "",
                              .receipt = ""};
    if (!in->graph || in->left_bytes || in->at <= in->kept.carried_count)
        return err_set(e, ERR_PROTO, "not all of the job's inputs came");
    fd_close(&in->fd);
    if (syncfs(k->lock) < 0)
        return err_sys(e, "the job cannot be written to the keeper's disk");
    struct keeper_job *j = keeper_job_new(k, &row, e);
    if (!j)
        return -1;
    if (journal_add(k->journal, &row, e) < 0) {
        keeper_job_free(j);
        return -1;
    }
    k->held_bytes -= in->held_bytes;
    in->held_bytes = 0;
    in->kept_now = true;
    k->start_wanted = true;
    log_info("job_kept", "job=%" PRIu64, v->number);
    keeper_job_tell(j);
    return 0;
}

static void on_end(void *owner, bool failed)
{
    struct deposit_in *in = owner;
    if (failed)
        err_set(&in->why, ERR_GONE, "the client broke off");
    if (in->why.code || keep(in, &in->why) < 0)
        return;
    struct msg m = {.type = MSG_KEPT, .kept = {.job = in->v->number, .text = "", .directory = ""}};
    struct err e = {0};
    keeper_sent(in->v->k, peer_send(in->v->k->data, in->v->link, &m, (struct slice){0}, &e), &e);
}

struct deposit_in *keeper_in_new(struct visitor *v, struct err *e)
{
    static const struct stream_receiver_events events = {on_data, on_end};
    struct stream_name name = {.job = v->number, .what = MSG_KEPT_IN};
    struct deposit_in *in = calloc(1, sizeof *in);
    if (!in) {
        err_nomem(e);
        return NULL;
    }
    *in = (struct deposit_in){.v = v, .fd = -1, .record = BUF_INIT(KEPT_PREFIX + (size_t)KEPT_BYTES_MAX),
                              .arena = ARENA_INIT(2 * (size_t)KEPT_BYTES_MAX)};
    in->receiver = stream_receiver_new(v->k->data, v->link, &name, &events, in, e);
    if (in->receiver && stream_receiver_start(in->receiver, e) == 0)
        return in;
    keeper_in_free(in);
    return NULL;
}

int keeper_in_message(struct deposit_in *in, const struct msg *m, struct slice bulk, struct err *e)
{
    if (in->why.code || in->kept_now)
        return 0; /* the client was told already */
    if (stream_receiver_message(in->receiver, m, bulk, e) < 0) {
        in->why = *e;
        return -1;
    }
    if (in->why.code)
        *e = in->why;
    return in->why.code ? -1 : 0;
}

void keeper_in_free(struct deposit_in *in)
{
    if (!in)
        return;
    char *path = in->made && !in->kept_now ? keeper_path(in->v->k, in->v->number, NULL, NULL) : NULL;
    if (path)
        keeper_remove_tree(path);
    free(path);
    in->v->k->held_bytes -= in->held_bytes;
    stream_receiver_free(in->receiver);
    graph_free(in->graph);
    arena_clear(&in->arena);
    buf_clear(&in->record);
    fd_close(&in->fd);
    free(in);
}
