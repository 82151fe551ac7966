/* zpipe_fetch: gets the tasks of a submitted job that failed from its keeper, as an index and files (proto/made.h).  From
 * then on they are records on this host (record.c). */
#include "client/visit.h"

#include "base/fds.h"
#include "base/spool.h"
#include "proto/made.h"
#include "proto/stream.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fetch {
    struct visit visit;
    struct stream_receiver *files;
    int spool; /* what has come of the files */
};

static void files_data(void *owner, struct slice bytes)
{
    struct fetch *f = owner;
    visit_keep(&f->visit, f->files, f->spool, bytes);
}

static void files_end(void *owner, bool failed)
{
    struct fetch *f = owner;
    struct err e;
    err_set(&e, ERR_GONE, "the keeper stopped sending the tasks that failed");
    visit_end(&f->visit, failed ? &e : NULL);
}

static void on_kept(struct visit *v, const struct msg_kept *m)
{
    (void)v, (void)m;
}

static void on_stream(struct visit *v, const struct msg *m, struct slice bulk)
{
    struct fetch *f = v->owner;
    struct err e;
    if (stream_receiver_message(f->files, m, bulk, &e) < 0)
        visit_end(v, &e);
}

static int receive(struct fetch *f, struct zpipe *z, uint64_t job, struct err *e)
{
    static const struct visit_events events = {on_kept, on_stream};
    static const struct stream_receiver_events files = {files_data, files_end};
    f->visit.ev = &events;
    f->visit.owner = f;
    if (visit_open(&f->visit, z, MSG_ASK_RECORDS, job, e) < 0 || (f->spool = spool_open(e)) < 0)
        return -1;
    struct stream_name name = visit_stream(&f->visit, MSG_KEPT_FILES);
    f->files = stream_receiver_new(f->visit.peer, 0, &name, &files, f, e);
    if (!f->files || visit_attach(&f->visit, MSG_KEPT_FILES, e) < 0 || stream_receiver_start(f->files, e) < 0)
        return -1;
    return visit_run(&f->visit, NULL, NULL, e);
}

/* The part JOB-STAGE-BLOCK of a file's name; "": it has none. */
static void record_of(const char *name, char out[128])
{
    size_t size = strcspn(name, "/");
    snprintf(out, 128, "%.*s", name[size] && size < 128 ? (int)size : 0, name);
}

static int take_file(int from, struct record_in *r, const struct made_file *file, struct err *e)
{
    static char bytes[1 << 16];
    if (record_add(r, strchr(file->name, '/') + 1, file->size_bytes, e) < 0)
        return -1;
    for (uint64_t left = file->size_bytes; left;) {
        size_t part = left < sizeof bytes ? (size_t)left : sizeof bytes;
        if (fd_read_all(from, bytes, part) != (ssize_t)part)
            return err_set(e, ERR_PROTO, "the keeper did not send all of '%.200s'", file->name);
        if (fd_write_all(r->fd, bytes, part) < 0)
            return err_sys(e, "cannot keep '%.200s'", file->name);
        left -= part;
    }
    return 0;
}

/* Takes the files of one record's directory, from `file` on.  Returns how many. */
static int take_record(const struct fetch *f, const struct made_file *file, uint32_t count, const char *records, struct err *e)
{
    struct record_in *r = record_begin(records);
    char name[128], next[128], *path = NULL;
    uint32_t i = 0;
    int result = r ? 0 : err_nomem(e);
    record_of(file[0].name, name);
    if (result == 0 && !name[0])
        result = err_set(e, ERR_PROTO, "the keeper sent a file that is of no task");
    for (; result == 0 && i < count && (record_of(file[i].name, next), !strcmp(name, next)); i++)
        result = take_file(f->spool, r, &file[i], e);
    if (result == 0 && record_end(r, records, name, &path) < 0)
        result = err_set(e, ERR_IO, "cannot keep the task in '%s'", records);
    free(path);
    record_free(r);
    return result < 0 ? -1 : (int)i;
}

static int take_all(struct fetch *f, const char *records, struct err *e)
{
    struct arena arena = ARENA_INIT(4 * MADE_INDEX_MAX);
    const struct made_file *file = NULL;
    uint32_t count = 0;
    int r = lseek(f->spool, 0, SEEK_SET) < 0 ? err_sys(e, "cannot read what the keeper sent") : made_read(f->spool, &arena, &file, &count, e);
    for (uint32_t at = 0; r >= 0 && at < count; at += (uint32_t)r)
        r = take_record(f, &file[at], count - at, records, e);
    arena_clear(&arena);
    return r < 0 ? -1 : 0;
}

int zpipe_fetch(struct zpipe *z, uint64_t job, const char *records, struct zpipe_error *error)
{
    struct err e = {0};
    struct fetch f = {.spool = -1};
    char *place = record_place(records ? records : "", &e);
    int r = !place || receive(&f, z, job, &e) < 0 || take_all(&f, place, &e) < 0 ? -1 : 0;
    visit_close(&f.visit);
    stream_receiver_free(f.files);
    fd_close(&f.spool);
    free(place);
    return r < 0 ? client_error(error, &e) : 0;
}
