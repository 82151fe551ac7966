/* See borrow.h.  Carries are freed in borrows_reap, never in their own callbacks. */
#include "worker/borrow.h"

#include "base/log.h"
#include "worker/blocks_inside.h"
#include "proto/lent.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(MERGE_FAN <= MSG_PARTS_MAX, "a merge can be asked for");

struct run_lent {
    struct run_lent *next; /* the borrow's next run; the oldest is first */
    struct borrow *at;
    struct blocks *b;
    struct run *run; /* NULL: it is only compared, or is over */
    uint32_t id;
    uint64_t number, from, bytes; /* about its input */
    struct carry *in, *out;   /* owned */
    int file;                 /* owned: the file that its programs open, which is its source; -1 */
    struct carry *came;       /* owned: the carry that brings its output, before the present one */
    bool in_ended, done, over;
    struct box_source *source; /* owned: its input, end to end; the fds are borrowed until it is over */
    uint32_t source_count;     /* 0: the inlet has it */
    struct msg_ran *ran;      /* owned, one per program; the first's texts are in the run's arena */
    uint32_t programs;
    struct msg_piece *piece;  /* owned: its outputs as the lender described them, */
    int *fd;                  /* and the files for them; owned, and open */
    uint32_t pieces, at_piece; /* at_piece: the next one to come */
    struct outcome with; /* what it is to be compared with, if it is */
};

struct lent_file { /* a file that a lender asked for */
    struct lent_file *next;
    uint32_t index;
    struct carry *out; /* owned; NULL: it has ended */
    bool ended;
};

struct borrow {
    struct borrow *next;
    struct attempt *t;
    uint32_t loan, slots;
    uint8_t token[MSG_TOKEN_BYTES], key[MSG_KEY_BYTES];
    size_t key_bytes;
    char name[128];
    uint64_t link;
    struct run_lent *first;
    uint32_t count, ids;
    struct lent_file *files; /* each once */
    bool attached, leaving, over; /* leaving: it takes no more runs; over: to be freed */
    bool stuck; /* it took too long with a run, and has ended none since */
};

static struct borrow *find(const struct attempt *t, uint32_t loan)
{
    struct borrow *w = t->borrows;
    while (w && w->loan != loan)
        w = w->next;
    return w;
}

/* ---- runs */

static void lent_free(struct run_lent *l)
{
    carry_free(l->in);
    carry_free(l->out);
    carry_free(l->came);
    for (uint32_t i = 0; l->fd && i < l->pieces; i++)
        spool_close(&l->fd[i]);
    fd_close(&l->file);
    free(l->fd);
    free(l->piece);
    free(l->source);
    free(l->ran);
    free(l);
}

static void run_over(struct run_lent *l)
{
    if (l->over)
        return;
    l->over = true;
    if (l->in)
        carry_rest(l->in); /* the files that it reads may be closed now */
    if (l->run)
        l->run->lent = NULL;
    l->run = NULL;
    l->at->count--;
    l->at->t->reapable = true;
}

/* Give the run back, to be run elsewhere; why NULL: it was not the lender's fault. */
static void give_back(struct run_lent *l, const struct err *why)
{
    struct run *r = l->run;
    if (r && why && (l->done || l->at->leaving))
        r->stays = true;
    run_over(l);
    if (r)
        lent_back(r, l->at->name, why);
}

static void leave(struct borrow *w, uint32_t what, uint32_t index, uint32_t node)
{
    struct msg m = {.type = MSG_LEAVE, .leave = {w->t->job, w->t->number, what, index, node, 0}};
    if (w->attached && !w->over)
        agent_send_data(w->t->agent, w->link, &m);
}

/* The lender is lost. */
static void lose(struct borrow *w, const struct err *why)
{
    if (w->over)
        return;
    leave(w, MSG_LOAN, w->loan, GRAPH_NONE);
    w->over = true;
    w->t->reapable = true;
    if (why)
        log_warn("lender_lost", "job=%llu lender=%s runs=%u why=\"%s\"", (unsigned long long)w->t->job, w->name,
                 w->count, why->text);
    for (struct run_lent *l = w->first; l; l = l->next)
        if (!l->over)
            give_back(l, why);
}

static int became_shorter(struct err *e)
{
    return err_set(e, ERR_INPUT, "an input has become shorter");
}

static int read_sources(const struct run_lent *l, uint64_t at, char *to, size_t size, struct err *e)
{
    for (uint32_t i = 0; size && i < l->source_count; i++) {
        const struct box_source *s = &l->source[i];
        if (at >= s->size) {
            at -= s->size;
            continue;
        }
        size_t want = size < s->size - at ? size : (size_t)(s->size - at);
        ssize_t n = pread(s->fd, to, want, (off_t)(s->offset + at));
        if (n < 0)
            return err_sys(e, "cannot read an input");
        if ((size_t)n < want)
            return became_shorter(e);
        to += want;
        size -= want;
        at = 0;
    }
    return size ? became_shorter(e) : 0;
}

static int read_input(void *owner, uint64_t at, void *to, size_t size, struct err *e)
{
    struct run_lent *l = owner;
    if (l->source_count)
        return read_sources(l, at, to, size, e);
    ssize_t n = inlet_read(&l->b->in, l->from + at, to, size, e);
    return n < 0 ? -1 : (size_t)n == size ? 0 : became_shorter(e);
}

/* All of its output is here, or all that is needed to compare it. */
static void has_come(struct run_lent *l)
{
    struct run *r = l->run;
    l->at->stuck = false;
    run_over(l);
    if (r)
        lent_ended(r, l->at->name, l->ran, l->fd);
    else if (l->with.is)
        twice_compare(l->b, l->number, l->fd, &l->ran[l->programs - 1], l->at->name, &l->with);
    agent_step_soon(l->at->t->agent); /* another stage may have nothing but an audit, which waits for this place */
}

static void fetch_next(struct run_lent *l);

static void carry_ended(void *owner, struct carry *c, enum carry_end end, const struct err *why)
{
    struct run_lent *l = owner;
    l->in_ended |= c == l->in;
    l->at->t->reapable = true;
    if (l->over)
        return;
    if (end == CARRY_FAILED)
        lose(l->at, why);
    else if (c == l->out && end == CARRY_DONE)
        fetch_next(l);
}

static const struct carry_events carry_events = {.ended = carry_ended};

static struct stream_name name_of(const struct run_lent *l, uint32_t what)
{
    const struct borrow *w = l->at;
    return (struct stream_name){w->t->job, w->t->number, what, l->id, w->loan};
}

static int send_work(struct run_lent *l, const struct run *r, struct err *e)
{
    struct borrow *w = l->at;
    struct stream_name name = name_of(l, MSG_RUN_INPUT);
    struct carry_bytes bytes = {l->bytes, read_input, l};
    uint32_t part[MERGE_FAN], count = r->merge.count ? l->source_count : 0;
    struct msg_place place[MSG_PLACES_MAX];
    int places = lent_places(r, place, MSG_PLACES_MAX);
    for (uint32_t i = 0; i < count; i++)
        part[i] = (uint32_t)l->source[i].size; /* together at most LENT_INPUT_MAX */
    struct msg m = {.type = MSG_WORK,
                    .work = {.job = w->t->job, .attempt = w->t->number, .loan = w->loan, .run = l->id,
                             .stage = (uint32_t)(l->b->stage - w->t->stages.stage), .file = r->file,
                             .number = r->number, .first = r->first, .last = r->last,
                             .bytes = l->bytes, .part = part, .part_count = count, .place = place,
                             .place_count = places > 0 ? (uint32_t)places : 0}};
    int fd = blocks_dup(l->source_count ? l->source[0].fd : l->b->in.stretch[0].fd, e);
    if (fd < 0)
        return -1;
    l->in = carry_out_bytes(agent_loop(w->t->agent), fd, &bytes, &name, &carry_events, l, e);
    if (!l->in || agent_send_data(w->t->agent, w->link, &m) < 0 ||
        carry_bind(l->in, agent_data(w->t->agent), w->link, e) < 0)
        return -1;
    return 0;
}

static bool is_of_use(const struct borrow *w)
{
    return w->attached && !w->leaving && !w->over && !w->stuck;
}

static bool has_room(const struct borrow *w)
{
    return is_of_use(w) && w->count < LENT_AHEAD * w->slots;
}

bool borrow_has_room(const struct attempt *t)
{
    for (const struct borrow *w = t->borrows; w; w = w->next)
        if (has_room(w))
            return true;
    return false;
}

bool borrow_is_idle(const struct attempt *t)
{
    for (const struct borrow *w = t->borrows; w; w = w->next)
        if (has_room(w) && w->count < w->slots)
            return true;
    return false;
}

uint32_t borrowed_slots(const struct attempt *t)
{
    uint32_t slots = 0;
    for (const struct borrow *w = t->borrows; w; w = w->next)
        slots += is_of_use(w) ? w->slots : 0;
    return slots;
}

uint32_t borrow_stuck_slots(const struct attempt *t)
{
    uint32_t slots = 0;
    for (const struct borrow *w = t->borrows; w; w = w->next)
        slots += w->stuck && !w->over ? w->slots : 0;
    return slots;
}

/* Make the record of a run that a lender is asked to do.  Gives; NULL: no memory. */
static struct run_lent *lent_new(struct borrow *w, struct run *r)
{
    struct box_source source[MERGE_FAN];
    struct run_lent *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    *l = (struct run_lent){.at = w, .b = r->b, .run = r, .number = r->number, .from = r->from, .bytes = run_bytes_in(r),
                           .source_count = lent_input(r, source), .programs = run_program_count(r),
                           .pieces = run_outputs(r->b), .file = -1};
    l->source = calloc(MERGE_FAN, sizeof *l->source);
    l->ran = calloc(l->programs, sizeof *l->ran);
    l->piece = calloc(l->pieces, sizeof *l->piece);
    l->fd = calloc(l->pieces, sizeof *l->fd);
    for (uint32_t i = 0; l->fd && i < l->pieces; i++)
        l->fd[i] = -1;
    if (!l->source || !l->ran || !l->piece || !l->fd) {
        lent_free(l);
        return NULL;
    }
    memcpy(l->source, source, l->source_count * sizeof *source);
    if (r->in >= 0 && l->source_count && source[0].fd == r->in) { /* the run may end before all is sent, by its copy */
        struct err e;
        l->source[0].fd = l->file = blocks_dup(r->in, &e);
    }
    if (l->source_count && l->source[0].fd < 0) {
        lent_free(l);
        return NULL;
    }
    return l;
}

int borrow_run(struct attempt *t, struct run *r, struct err *e)
{
    struct borrow *best = NULL;
    for (struct borrow *w = t->borrows; w; w = w->next)
        if (has_room(w) && (!best || (uint64_t)w->count * best->slots < (uint64_t)best->count * w->slots))
            best = w;
    struct run_lent *l = best ? lent_new(best, r) : NULL;
    if (!l)
        return err_nomem(e);
    l->id = ++best->ids;
    struct run_lent **at = &best->first;
    while (*at)
        at = &(*at)->next;
    *at = l;
    best->count++;
    r->lent = l;
    struct err why;
    if (send_work(l, r, &why) < 0)
        lose(best, &why); /* the run comes back at once */
    return 0;
}

void borrow_compare(struct run *r, const struct outcome *with)
{
    struct run_lent *l = r->lent;
    l->with = *with;
    l->run = NULL;
    r->lent = NULL;
}

void borrow_give_up(struct run *r)
{
    struct run_lent *l = r->lent;
    leave(l->at, MSG_RUN_OUTPUT, l->id, l->at->loan);
    l->at->stuck = true;
    run_over(l);
}

void borrows_drop(struct blocks *b)
{
    for (struct borrow *w = b->t->borrows; w; w = w->next)
        for (struct run_lent *l = w->first; l; l = l->next)
            if (l->b == b && !l->over) {
                leave(w, MSG_RUN_OUTPUT, l->id, w->loan);
                run_over(l);
            }
}

/* ---- files that a lender asks for */

static void file_ended(void *owner, struct carry *c, enum carry_end end, const struct err *why)
{
    struct borrow *w = owner;
    for (struct lent_file *f = w->files; f; f = f->next)
        f->ended |= f->out == c;
    w->t->reapable = true;
    if (end == CARRY_FAILED)
        lose(w, why);
}

static int serve_file(struct borrow *w, uint32_t index, struct err *e)
{
    static const struct carry_events events = {.ended = file_ended};
    struct attempt *t = w->t;
    struct stream_name name = {t->job, t->number, MSG_LOAN_FILE, index, w->loan};
    const struct attempt_route *route =
        lent_file_is(t->graph, &t->stages, index) ? attempt_route_of(t, MSG_FILE, index, GRAPH_NONE) : NULL;
    if (!route || route->spool < 0)
        return err_set(e, ERR_PROTO, "a lender asked for file %u, which no run of its opens", index);
    struct lent_file *f = calloc(1, sizeof *f);
    if (!f)
        return err_nomem(e);
    *f = (struct lent_file){.next = w->files, .index = index};
    w->files = f;
    int fd = spool_reader(route->spool, e);
    f->out = fd < 0 ? NULL : carry_out(agent_loop(t->agent), &fd, 1, &name, &events, w, e);
    return f->out ? carry_bind(f->out, agent_data(t->agent), w->link, e) : -1;
}

static void file_message(struct borrow *w, uint32_t index, const struct msg *m)
{
    struct lent_file *f = w->files;
    struct err e;
    while (f && f->index != index)
        f = f->next;
    if (!f && m->type == MSG_CREDIT) {
        if (serve_file(w, index, &e) < 0) {
            lose(w, &e);
            return;
        }
        f = w->files;
    }
    if (f && f->out && !f->ended)
        carry_message(f->out, m, (struct slice){0});
}

static void files_reap(struct borrow *w)
{
    for (struct lent_file *f = w->files; f; f = f->next) {
        if (!f->ended)
            continue;
        carry_free(f->out);
        f->out = NULL;
    }
}

/* ---- messages from a lender */

static int check_done(const struct run_lent *l, const struct msg_done *m, struct err *e)
{
    const struct graph_stage *s = l->b->stage;
    uint64_t bytes = 0;
    if (!l->in_ended)
        return err_set(e, ERR_PROTO, "a lender ended a run before it had its input");
    if (m->ran_count != l->programs)
        return err_set(e, ERR_PROTO, "a lender ran %u commands of %u", m->ran_count, l->programs);
    bool all = !l->b->way->kept; /* otherwise an output without bytes is not sent */
    if (m->piece_count != l->pieces || (all && !m->piece[0].there))
        return err_set(e, ERR_PROTO, "a lender sends %u pieces of output, not %u", m->piece_count, l->pieces);
    for (uint32_t i = 0; i < l->pieces; i++) {
        const struct msg_piece *p = &m->piece[i];
        if (p->bytes > (p->there ? LENT_OUTPUT_MAX - bytes : 0))
            return err_set(e, ERR_PROTO, "a lender wants to send more than a run may write");
        bytes += p->bytes;
    }
    if (bytes != m->bytes || (s->out_edge == GRAPH_NONE && m->piece[0].bytes))
        return err_set(e, ERR_PROTO, "a lender sends output that there cannot be");
    return 0;
}

/* Keep how its programs ended, with copies of the texts. */
static int keep_results(struct run_lent *l, const struct msg_done *m, struct err *e)
{
    for (uint32_t i = 0; i < m->ran_count; i++) {
        l->ran[i] = m->ran[i];
        l->ran[i].limit = l->ran[i].text = l->ran[i].dropped = l->ran[i].cold = "";
        if (!l->run)
            continue;
        l->ran[i].limit = arena_string(&l->run->arena, m->ran[i].limit);
        l->ran[i].text = arena_string(&l->run->arena, m->ran[i].text);
        l->ran[i].dropped = arena_string(&l->run->arena, m->ran[i].dropped);
        l->ran[i].cold = arena_string(&l->run->arena, m->ran[i].cold);
        if (!l->ran[i].limit || !l->ran[i].text || !l->ran[i].dropped || !l->ran[i].cold)
            return err_nomem(e);
    }
    memcpy(l->piece, m->piece, l->pieces * sizeof *l->piece);
    return 0;
}

/* Fetch one output.  1: it is on its way; 0: it has no bytes. */
static int fetch_piece(struct run_lent *l, const struct msg_piece *p, int *fd, struct err *e)
{
    struct attempt *t = l->at->t;
    struct stream_name name = name_of(l, MSG_RUN_OUTPUT);
    if (!p->there)
        return 0;
    *fd = spool_open(e);
    if (*fd >= 0 && p->mode)
        fchmod(*fd, p->mode);
    if (*fd < 0 || !p->bytes)
        return *fd < 0 ? -1 : 0;
    int to = blocks_dup(*fd, e);
    carry_free(l->came);
    l->came = l->out;
    l->out = to < 0 ? NULL : carry_in(agent_loop(t->agent), to, &name, &carry_events, l, e);
    if (!l->out)
        return -1;
    carry_expect(l->out, p->bytes);
    return carry_bind(l->out, agent_data(t->agent), l->at->link, e) < 0 ? -1 : 1;
}

static void fetch_next(struct run_lent *l)
{
    struct err e;
    int r = 0;
    while (r == 0 && l->at_piece < l->pieces) {
        uint32_t i = l->at_piece++;
        r = fetch_piece(l, &l->piece[i], &l->fd[i], &e);
    }
    if (r < 0)
        lose(l->at, &e);
    else if (r == 0)
        has_come(l);
}

static void on_done(struct borrow *w, struct run_lent *l, const struct msg_done *m)
{
    struct err e;
    if (l->done || l->over)
        return;
    l->done = true;
    if (m->how == MSG_HOW_BACK) {
        w->leaving = true;
        give_back(l, NULL);
    } else if (m->how == MSG_HOW_FAILED) {
        err_set(&e, ERR_IO, "%.300s", m->text);
        give_back(l, &e);
    } else if (check_done(l, m, &e) < 0) {
        lose(w, &e);
    } else if (m->said && l->run) {
        blocks_spoil(l->b, "a block wrote to stderr");
    } else if (keep_results(l, m, &e) < 0) {
        lose(w, &e);
    } else {
        fetch_next(l);
    }
}

static struct run_lent *run_of(struct borrow *w, uint32_t id)
{
    struct run_lent *l = w->first;
    while (l && l->id != id)
        l = l->next;
    return l;
}

void borrow_message(struct attempt *t, uint64_t link, const struct msg *m, struct slice bulk)
{
    struct stream_name name = {0};
    bool done = m->type == MSG_DONE;
    if (!done && !carry_message_name(m, &name))
        return;
    uint32_t loan = done ? m->done.loan : name.what == MSG_LOAN ? name.index : name.node;
    struct borrow *w = find(t, loan);
    if (!w || !w->attached || w->over || w->link != link)
        return;
    if (m->type == MSG_LEAVE && name.what == MSG_LOAN) {
        w->leaving = true;
        t->reapable = true;
        return;
    }
    if (name.what == MSG_LOAN_FILE) {
        file_message(w, name.index, m);
        return;
    }
    struct run_lent *l = run_of(w, done ? m->done.run : name.index);
    struct carry *c = !l ? NULL : name.what == MSG_RUN_INPUT ? l->in : name.what == MSG_RUN_OUTPUT ? l->out : NULL;
    if (l && done)
        on_done(w, l, &m->done);
    else if (c && !l->over)
        carry_message(c, m, bulk);
}

/* ---- loans */

void borrow_begin(struct attempt *t, const struct msg_lent *m)
{
    struct borrow *w = t->borrow_count < BORROWS_MAX && m->slots && m->token.size == MSG_TOKEN_BYTES &&
                               !find(t, m->loan) && t->state == ATTEMPT_RUNNING
                           ? calloc(1, sizeof *w)
                           : NULL;
    if (!w)
        return; /* the lender is not let in, and will give the slots back */
    *w = (struct borrow){.next = t->borrows, .t = t, .loan = m->loan,
                         .slots = m->slots < LENT_SLOTS_MAX ? m->slots : LENT_SLOTS_MAX};
    memcpy(w->token, m->token.data, sizeof w->token);
    snprintf(w->name, sizeof w->name, "%s", m->name);
    if (m->key.size == sizeof w->key) {
        memcpy(w->key, m->key.data, w->key_bytes = sizeof w->key);
        net_admit(agent_net(t->agent), MSG_WORKER, m->key, NULL);
    }
    t->borrows = w;
    t->borrow_count++;
}

bool borrow_attach(struct attempt *t, uint64_t link, const struct msg_attach *m)
{
    struct borrow *w = find(t, m->index);
    struct slice key = peer_link_key(agent_data(t->agent), link);
    if (w && w->key_bytes && (key.size != w->key_bytes || memcmp(key.data, w->key, key.size) != 0))
        return false;
    if (!w || w->attached || w->over || m->token.size != sizeof w->token ||
        memcmp(m->token.data, w->token, sizeof w->token) != 0)
        return false;
    w->attached = true;
    w->link = link;
    attempt_step(t);
    return true;
}

void borrow_recalled(struct attempt *t, const struct msg_recall *m)
{
    struct borrow *w = find(t, m->loan);
    struct err e;
    err_set(&e, ERR_GONE, "%.300s", m->text);
    if (!w)
        return;
    w->leaving |= m->returned; /* the lender may have told us, too, over its slower connection */
    lose(w, w->count ? &e : NULL);
}

void borrows_link_lost(struct attempt *t, uint64_t link, const struct err *why)
{
    for (struct borrow *w = t->borrows; w; w = w->next)
        if (w->attached && w->link == link)
            lose(w, why);
}

void borrows_dismiss(struct attempt *t)
{
    for (struct borrow *w = t->borrows; w; w = w->next)
        if (w->attached && !w->count)
            lose(w, NULL);
}

void borrows_end(struct attempt *t)
{
    for (struct borrow *w = t->borrows; w; w = w->next)
        lose(w, NULL);
}

/* ---- the end */

static void borrow_free(struct borrow *w)
{
    while (w->first) {
        struct run_lent *l = w->first;
        w->first = l->next;
        lent_free(l);
    }
    while (w->files) {
        struct lent_file *f = w->files;
        w->files = f->next;
        carry_free(f->out);
        free(f);
    }
    if (w->key_bytes)
        net_forget(agent_net(w->t->agent), MSG_WORKER, (struct slice){w->key, w->key_bytes});
    w->t->borrow_count--;
    free(w);
}

void borrows_reap(struct attempt *t)
{
    for (struct borrow **at = &t->borrows; *at;) {
        struct borrow *w = *at;
        files_reap(w);
        for (struct run_lent **link = &w->first; *link;) {
            struct run_lent *l = *link;
            if (l->over) {
                *link = l->next;
                lent_free(l);
            } else {
                link = &l->next;
            }
        }
        w->over |= w->leaving && !w->first;
        if (w->over && !w->first) {
            *at = w->next;
            borrow_free(w);
        } else {
            at = &w->next;
        }
    }
}

void borrows_free(struct attempt *t)
{
    while (t->borrows) {
        struct borrow *w = t->borrows;
        t->borrows = w->next;
        leave(w, MSG_LOAN, w->loan, GRAPH_NONE);
        borrow_free(w);
    }
}
