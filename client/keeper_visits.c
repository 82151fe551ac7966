/* See keeper.h.  Visitors.  The scheduler announces each visitor with what it wants, its key and a token; a peer that
 * attaches at the data port with the same key and token is that visitor.  Only one visitor at a time takes a job's output.
 * When another one comes, the first is told to leave, and the new one waits until it has left, so that it is known how much
 * the first has written. */
#include "client/keeper.h"

#include "base/fds.h"
#include "base/log.h"
#include "client/keeper_in.h"
#include "proto/made.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- coming and going */

static uint32_t stream_of(uint32_t what)
{
    switch (what) {
    case MSG_ASK_KEEP:
        return MSG_KEPT_IN;
    case MSG_ASK_TAKE:
        return MSG_KEPT_OUT;
    case MSG_ASK_RECORDS:
        return MSG_KEPT_FILES;
    default:
        return MSG_KEPT_LOG;
    }
}

/* Tells the scheduler whether the visitor may come; why->code 0: it may. */
static void visited(struct keeper *k, const struct visitor *v, uint64_t link, uint64_t request, uint64_t job, const struct err *why)
{
    const struct journal_job *row = v && v->job ? &v->job->row : NULL;
    struct msg m = {.type = MSG_VISITED,
                    .visited = {.link = link,
                                .request = request,
                                .job = job,
                                .code = why ? (uint32_t)why->code : 0,
                                .text = why ? why->text : "",
                                .token = {v ? (const void *)v->token : "", v ? sizeof v->token : 0},
                                .taken_bytes = row ? row->taken_bytes : 0,
                                .receipt = row ? row->receipt : "",
                                .receipt_from = row ? row->receipt_from : 0}};
    struct err e = {0};
    keeper_sent(k, client_send(k->z, &m, (struct slice){0}, &e), &e);
}

static void let_in(struct visitor *v)
{
    v->until_ns = loop_clock_ns() + KEEPER_VISIT_NS;
    visited(v->k, v, v->asked_by, v->request, v->number, NULL);
}

/* The visitor has left.  The loop frees it later. */
static void leave(struct visitor *v)
{
    struct keeper_job *j = v->job;
    if (v->gone)
        return;
    v->gone = true;
    v->k->visitors_gone++;
    if (j && j->next_taker == v)
        j->next_taker = NULL;
    if (j && j->taker == v) {
        j->taker = j->next_taker;
        j->next_taker = NULL;
        if (j->taker)
            let_in(j->taker);
    }
    v->job = NULL;
}

/* Ends the streams to this visitor as failed.  Both, because a visitor that takes files has seen the end of the first
 * stream already. */
static void cut_off(struct visitor *v)
{
    struct err e = {0};
    if (v->here && !v->cut && v->out && !v->out_ended)
        keeper_sent(v->k, stream_send_end(v->out, true, &e), &e);
    if (v->here && !v->cut && v->files && !v->files_ended)
        keeper_sent(v->k, stream_send_end(v->files, true, &e), &e);
    v->cut = true;
}

static struct visitor *visitor_new(struct keeper *k, const struct msg_visit *m, struct keeper_job *j, struct err *e)
{
    struct visitor *v = NULL;
    if (k->visitor_count == KEEPER_VISITS_MAX)
        err_set(e, ERR_AGAIN, "the keeper has %d visitors at once already (KEEPER_VISITS_MAX)", KEEPER_VISITS_MAX);
    else if (!(v = calloc(1, sizeof *v)))
        err_nomem(e);
    else if (net_admit(k->z->net, MSG_CLIENT, m->key, e) == 0 || !m->key.size) {
        *v = (struct visitor){.k = k, .job = j, .number = m->job, .what = m->what, .asked_by = m->link, .request = m->request,
                              .fd = -1, .until_ns = UINT64_MAX, .index = BUF_INIT(MADE_PREFIX + MADE_INDEX_MAX)};
        memcpy(v->key, m->key.data, v->key_size = m->key.size <= sizeof v->key ? m->key.size : 0);
        memcpy(v->token, m->token.data, m->token.size <= sizeof v->token ? m->token.size : 0);
        list_init(&v->at);
        list_add(&k->visitors, &v->at);
        k->visitor_count++;
        return v;
    }
    free(v);
    return NULL;
}

static void visitor_free(struct visitor *v)
{
    struct keeper *k = v->k;
    if (v->here)
        peer_drop(k->data, v->link);
    net_forget(k->z->net, MSG_CLIENT, (struct slice){v->key, v->key_size});
    list_remove(&v->at);
    k->visitor_count--;
    stream_sender_free(v->out);
    stream_sender_free(v->files);
    keeper_in_free(v->in);
    buf_clear(&v->index);
    arena_clear(&v->arena);
    fd_close(&v->fd);
    free(v);
}

/* Makes `v` the one who takes the output.  If there is one already, that one must leave, and `v` waits for it. */
static int come_to_take(struct keeper_job *j, struct visitor *v, struct err *e)
{
    if (!j->taker) {
        j->taker = v;
        let_in(v);
        return 0;
    }
    if (j->next_taker)
        return err_set(e, ERR_AGAIN, "somebody else waits already to take the output of job %" PRIu64, j->row.number);
    j->next_taker = v;
    if (!j->taker->here)
        leave(j->taker); /* it has not connected yet */
    else
        cut_off(j->taker);
    return 0;
}

static int visit(struct keeper *k, const struct msg_visit *m, struct err *e)
{
    struct keeper_job *j = m->what == MSG_ASK_KEEP ? NULL : keeper_job_of(k, m->job);
    bool theirs = j && j->row.owner.size == m->key.size && !memcmp(j->row.owner.data, m->key.data, m->key.size);
    if (m->what != MSG_ASK_KEEP && !theirs)
        return err_set(e, ERR_NOENT, "the keeper has no job %" PRIu64 " of yours", m->job);
    if (m->what == MSG_ASK_CANCEL) {
        if (keeper_job_cancel(j, e) < 0)
            return -1;
        visited(k, NULL, m->link, m->request, m->job, NULL);
        return 0;
    }
    if ((m->what == MSG_ASK_KEEP && keeper_list_room(k, m->key, e) < 0) || (m->what == MSG_ASK_TAKE && keeper_job_check(j, e) < 0))
        return -1;
    struct visitor *v = visitor_new(k, m, j, e);
    if (!v)
        return -1;
    if (m->what != MSG_ASK_TAKE) {
        let_in(v);
        return 0;
    }
    if (come_to_take(j, v, e) == 0)
        return 0;
    leave(v);
    return -1;
}

void keeper_visit(struct keeper *k, const struct msg_visit *m)
{
    struct err e;
    if (visit(k, m, &e) < 0)
        visited(k, NULL, m->link, m->request, m->job, &e);
}

/* ---- giving */

static void fail(struct visitor *v, const struct err *why)
{
    log_info("visit_failed", "job=%" PRIu64 " why=\"%s\"", v->number, why->text);
    struct msg m = {.type = MSG_KEPT, .kept = {.job = v->number, .code = (uint32_t)why->code, .text = why->text}};
    struct err e = {0};
    if (v->here && v->what == MSG_ASK_KEEP)
        keeper_sent(v->k, peer_send(v->k->data, v->link, &m, (struct slice){0}, &e), &e);
    cut_off(v);
    if (v->what != MSG_ASK_KEEP)
        leave(v);
}

static int send_piece(struct stream_sender *s, int fd, uint64_t at, uint64_t left, uint64_t *sent, struct err *e)
{
    static char bytes[MSG_DATA_BYTES];
    uint64_t window = stream_sender_window(s);
    size_t size = left < sizeof bytes ? (size_t)left : sizeof bytes;
    size = window < size ? (size_t)window : size;
    ssize_t n = pread(fd, bytes, size, (off_t)at);
    if (n <= 0)
        return err_sys(e, "the keeper cannot read what it holds");
    if (stream_send(s, bytes, (size_t)n, e) < 0)
        return -1;
    *sent = (uint64_t)n;
    return 0;
}

/* Sends what the job has printed.  1: the job is over and all is sent. */
static int send_printed(struct visitor *v, struct err *e)
{
    struct keeper_job *j = v->job;
    uint64_t end = keeper_job_printed(j), sent;
    if (v->sent_bytes < end && j->out < 0 && keeper_job_open_out(j, e) < 0)
        return -1;
    while (v->sent_bytes < end && stream_sender_window(v->out)) {
        if (send_piece(v->out, j->out, v->sent_bytes, end - v->sent_bytes, &sent, e) < 0)
            return -1;
        v->sent_bytes += sent;
    }
    return j->row.over && v->sent_bytes >= end;
}

/* The job's directory from which this visitor gets files. */
static const char *given(const struct visitor *v)
{
    return v->what == MSG_ASK_RECORDS ? "records" : "files";
}

static int open_file(struct visitor *v, struct err *e)
{
    char *directory = keeper_path(v->k, v->number, given(v), e), *path = NULL;
    int r = directory && asprintf(&path, "%s/%s", directory, v->list[v->file].name) < 0 ? err_nomem(e) : directory ? 0 : -1;
    fd_close(&v->fd);
    if (r == 0 && (v->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        r = err_sys(e, "the keeper cannot open '%s'", path);
    free(directory);
    free(path);
    v->file_sent = 0;
    return r;
}

static int send_index(struct visitor *v, struct err *e)
{
    while (v->index_sent < v->index.size) {
        uint64_t window = stream_sender_window(v->files), left = v->index.size - v->index_sent;
        size_t size = left < MSG_DATA_BYTES ? (size_t)left : MSG_DATA_BYTES;
        size = window < size ? (size_t)window : size;
        if (!size)
            return 0;
        if (stream_send(v->files, v->index.data + v->index_sent, size, e) < 0)
            return -1;
        v->index_sent += size;
    }
    return 1;
}

/* Sends files.  1: all are sent. */
static int send_files(struct visitor *v, struct err *e)
{
    uint64_t sent;
    if (!v->listed) {
        bool any = v->what == MSG_ASK_RECORDS || (v->job->row.committed && !v->job->row.everything);
        v->listed = true;
        if (any &&
            (keeper_job_files(v->job, given(v), &v->arena, &v->list, &v->file_count, e) < 0 ||
             (v->file_count && made_pack(v->list, v->file_count, &v->index, e) < 0)))
            return -1;
    }
    int r = send_index(v, e);
    while (r > 0 && v->file < v->file_count) {
        const struct made_file *f = &v->list[v->file];
        if (v->fd < 0 && open_file(v, e) < 0)
            return -1;
        if (v->file_sent == f->size_bytes) {
            fd_close(&v->fd);
            v->file++;
        } else if (!stream_sender_window(v->files)) {
            return 0;
        } else if (send_piece(v->files, v->fd, v->file_sent, f->size_bytes - v->file_sent, &sent, e) < 0) {
            return -1;
        } else {
            v->file_sent += sent;
        }
    }
    return r;
}

static int tell_end(struct visitor *v, struct err *e)
{
    const struct journal_job *row = &v->job->row;
    struct msg m = {.type = MSG_KEPT,
                    .kept = {.job = v->number,
                             .status = row->status,
                             .code = row->code,
                             .text = row->why,
                             .directory = v->job->directory}};
    v->told = true;
    return peer_send(v->k->data, v->link, &m, (struct slice){0}, e);
}

/* Sends the rest of the files, then the end of their stream. */
static int go_on_recording(struct visitor *v, struct err *e)
{
    int r = v->files_ended ? 0 : send_files(v, e);
    if (r <= 0)
        return r;
    if (stream_send_end(v->files, false, e) < 0)
        return -1;
    v->files_ended = true;
    return 0;
}

static int go_on_taking(struct visitor *v, struct err *e)
{
    int r = v->out_ended ? 1 : send_printed(v, e);
    if (r <= 0)
        return r;
    if (!v->told && tell_end(v, e) < 0)
        return -1;
    if (!v->out_ended && stream_send_end(v->out, false, e) < 0)
        return -1;
    v->out_ended = true;
    return go_on_recording(v, e);
}

/* Sends the job's stderr up to its size when the visitor connected. */
static int go_on_reading(struct visitor *v, struct err *e)
{
    uint64_t sent;
    while (v->file_sent < v->log_bytes && stream_sender_window(v->out)) {
        if (send_piece(v->out, v->fd, v->file_sent, v->log_bytes - v->file_sent, &sent, e) < 0)
            return -1;
        v->file_sent += sent;
    }
    if (v->file_sent < v->log_bytes || v->out_ended)
        return 0;
    if (stream_send_end(v->out, false, e) < 0)
        return -1;
    v->out_ended = true;
    return 0;
}

static void writable(void *owner)
{
    struct visitor *v = owner;
    struct err e;
    if (v->gone || v->cut || !v->job)
        return;
    int r = v->what == MSG_ASK_TAKE      ? go_on_taking(v, &e)
            : v->what == MSG_ASK_RECORDS ? go_on_recording(v, &e)
                                         : go_on_reading(v, &e);
    if (r < 0)
        fail(v, &e);
}

static void left(void *owner)
{
    (void)owner; /* the end of its link follows, and is handled there */
}

static const struct stream_sender_events giving = {writable, left, NULL};

void keeper_visits_more(struct keeper_job *j)
{
    if (j->taker && j->taker->here)
        writable(j->taker);
}

static int open_log(struct visitor *v, struct err *e)
{
    struct stat s = {0};
    char *path = keeper_path(v->k, v->number, "err", e);
    v->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    int r = !path || (v->fd < 0 && errno != ENOENT) || (v->fd >= 0 && fstat(v->fd, &s) < 0) ? -1 : 0;
    if (r < 0 && path)
        err_sys(e, "the keeper cannot read the log");
    free(path);
    v->log_bytes = (uint64_t)s.st_size;
    return r;
}

static int sender(struct visitor *v, uint32_t what, struct stream_sender **out, struct err *e)
{
    struct stream_name name = {.job = v->number, .what = what};
    *out = stream_sender_new(v->k->data, v->link, &name, &giving, v, e);
    return *out ? 0 : -1;
}

static int start(struct visitor *v, struct err *e)
{
    if (v->what == MSG_ASK_KEEP)
        return (v->in = keeper_in_new(v, e)) ? 0 : -1;
    if (v->what == MSG_ASK_LOGS)
        return sender(v, MSG_KEPT_LOG, &v->out, e) < 0 ? -1 : open_log(v, e); /* the sender first: a failure to open the log is reported through it */
    v->arena = ARENA_INIT(4 * MADE_INDEX_MAX);
    if (v->what == MSG_ASK_RECORDS)
        return sender(v, MSG_KEPT_FILES, &v->files, e);
    v->sent_bytes = v->job->row.taken_bytes;
    return sender(v, MSG_KEPT_OUT, &v->out, e) < 0 ? -1 : sender(v, MSG_KEPT_FILES, &v->files, e);
}

/* ---- what they say */

static void acknowledge(struct visitor *v, bool all)
{
    struct msg m = {.type = MSG_KEPT, .kept = {.job = v->number, .begins = !all, .all = all, .text = "", .directory = ""}};
    struct err e = {0};
    keeper_sent(v->k, peer_send(v->k->data, v->link, &m, (struct slice){0}, &e), &e);
}

/* Nothing has changed if the journal could not be written. */
static int begins(struct visitor *v, const struct msg_kept *m, struct err *e)
{
    struct journal_job *row = &v->job->row, was = *row;
    char *receipt = strdup(m->receipt);
    if (!receipt)
        return err_nomem(e);
    row->receipt = receipt;
    row->taken_bytes = row->receipt_from = m->taken_bytes;
    if (keeper_job_taken(v->job, e) < 0) {
        *row = was;
        free(receipt);
        return -1;
    }
    free((void *)(uintptr_t)was.receipt);
    v->begun = true;
    acknowledge(v, false);
    return 0;
}

/* What the visitor has written stays so, also if it could not be recorded: that comes with the next change, and until then
 * the receipt tells it. */
static int took_more(struct visitor *v, const struct msg_kept *m, struct err *e)
{
    struct journal_job *row = &v->job->row;
    bool before = row->everything;
    row->taken_bytes = m->taken_bytes;
    row->everything |= m->all;
    if (keeper_job_taken(v->job, e) < 0) {
        row->everything = before;
        return -1;
    }
    if (m->all)
        acknowledge(v, true);
    return 0;
}

/* The visitor says how many bytes it has taken.  Only possible numbers are accepted: not less than before, no more than was
 * sent. */
static void took(struct visitor *v, const struct msg_kept *m)
{
    const struct journal_job *row = v->job ? &v->job->row : NULL;
    struct err e;
    if (v->what != MSG_ASK_TAKE || !row || !v->here || m->taken_bytes < row->taken_bytes || m->taken_bytes > v->sent_bytes ||
        (!m->begins && !v->begun) || (m->begins && v->begun) || (m->all && !v->files_ended))
        return;
    if ((m->begins ? begins(v, m, &e) : took_more(v, m, &e)) == 0)
        return;
    keeper_unwritten(v->k, &e);
    fail(v, &e);
}

static struct visitor *visitor_of(struct keeper *k, uint64_t link)
{
    for (struct list *l = k->visitors.next; l != &k->visitors; l = l->next) {
        struct visitor *v = LIST_OF(l, visitor, at);
        if (v->here && !v->gone && v->link == link)
            return v;
    }
    return NULL;
}

static void attached(struct keeper *k, uint64_t link, const struct msg_attach *m)
{
    for (struct list *l = k->visitors.next; l != &k->visitors; l = l->next) {
        struct visitor *v = LIST_OF(l, visitor, at);
        struct err e;
        if (v->here || v->gone || v->until_ns == UINT64_MAX || v->number != m->job || stream_of(v->what) != m->what ||
            m->token.size != sizeof v->token || memcmp(v->token, m->token.data, sizeof v->token))
            continue;
        v->here = true;
        v->link = link;
        if (start(v, &e) < 0) {
            keeper_sent(k, -1, &e); /* there may be no stream on which to report this */
            fail(v, &e);
        } else if (v->what == MSG_ASK_LOGS || v->what == MSG_ASK_RECORDS)
            writable(v);
        return;
    }
    log_info("visit_unknown", "link=%" PRIu64, link);
    peer_drop(k->data, link);
}

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    (void)p, (void)role;
    struct keeper *k = owner;
    struct visitor *v = visitor_of(k, link);
    struct stream_name name;
    struct err e;
    if (m->type == MSG_ATTACH && !v) {
        attached(k, link, &m->attach);
    } else if (m->type == MSG_KEPT && v) {
        took(v, &m->kept);
    } else if (v && carry_message_name(m, &name) && name.job == v->number) {
        struct stream_sender *s = name.what == MSG_KEPT_FILES ? v->files : v->out;
        int r = v->in ? keeper_in_message(v->in, m, bulk, &e) : s ? stream_sender_message(s, m, &e) : 0;
        if (r < 0)
            fail(v, &e);
    }
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p;
    struct visitor *v = visitor_of(owner, link);
    keeper_sent(owner, -1, why); /* a message that was lost for lack of memory is not sent again */
    if (!v)
        return;
    v->here = false; /* the link is gone, so visitor_free must not drop it */
    leave(v);
}

const struct peer_events keeper_data_events = {on_message, on_lost};

/* ---- time, and the end */

void keeper_visits_tick(struct keeper *k)
{
    uint64_t now = loop_clock_ns();
    for (struct list *l = k->visitors.next; l != &k->visitors; l = l->next) {
        struct visitor *v = LIST_OF(l, visitor, at);
        if (!v->here && now >= v->until_ns)
            leave(v);
    }
}

void keeper_visits_leave(struct keeper_job *j)
{
    struct err e;
    err_set(&e, ERR_CANCELLED, "the job was discarded");
    for (struct list *l = j->k->visitors.next; l != &j->k->visitors; l = l->next) {
        struct visitor *v = LIST_OF(l, visitor, at);
        if (v->job != j || v == j->next_taker)
            continue;
        cut_off(v);
        leave(v);
    }
    if (j->next_taker) {
        visited(j->k, NULL, j->next_taker->asked_by, j->next_taker->request, j->row.number, &e);
        leave(j->next_taker);
    }
}

bool keeper_visits_reapable(const struct keeper *k)
{
    return k->visitors_gone > 0;
}

void keeper_visits_reap(struct keeper *k)
{
    struct list *next;
    for (struct list *l = k->visitors.next; l != &k->visitors; l = next) {
        next = l->next;
        if (LIST_OF(l, visitor, at)->gone)
            visitor_free(LIST_OF(l, visitor, at));
    }
    k->visitors_gone = 0;
}

void keeper_visits_close(struct keeper *k)
{
    while (!list_empty(&k->visitors))
        visitor_free(LIST_OF(k->visitors.next, visitor, at));
}
