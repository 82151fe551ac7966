/* See lend.h.  The owner's graph becomes an attempt in which nothing runs by itself, so that a run is started by the same
 * code as at the owner (blocks_runs.c). */
#include "worker/lend_inside.h"

#include "base/log.h"
#include "proto/lent.h"
#include "worker/shared.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct stream_name name_of(const struct work *w, uint32_t what)
{
    const struct attempt *t = w->loan->t;
    return (struct stream_name){t->job, t->number, what, w->id, w->loan->number};
}

static void work_over(struct work *w)
{
    if (w->state == OVER)
        return;
    w->state = OVER;
    w->loan->count -= !w->unwanted;
    w->loan->reapable = true;
}

/* The run is not wanted any more: if it does not run it is over; otherwise it is killed first.  It no longer counts among
 * the runs that the owner may have here, as the owner does not wait for its end; but no other run begins in its slot before
 * that. */
static void drop(struct work *w)
{
    if (w->unwanted || w->state == OVER)
        return;
    w->loan->count--;
    w->unwanted = true;
    if (w->state == RUNNING)
        agent_stop_region(w->loan->agent, &w->run->watch);
    else
        work_over(w);
}

/* End the loan at once. */
static void end(struct loan *l)
{
    if (l->ended)
        return;
    l->ended = l->leaving = l->reapable = true;
    agent_step_soon(l->agent); /* other loans may wait for a file that will not come now */
    for (struct work *w = l->work; w; w = w->next)
        drop(w);
}

static void send_owner(struct loan *l, const struct msg *m)
{
    struct err e;
    if (!l->ended && peer_send(l->owner, 0, m, (struct slice){0}, &e) < 0) {
        log_warn("owner_lost", "loan=%u why=\"%s\"", l->number, e.text);
        end(l);
    }
}

void loan_fail(struct loan *l, const struct err *why)
{
    spool_note(why->sys);
    log_warn("loan_failed", "loan=%u why=\"%s\"", l->number, why->text);
    struct msg m = {.type = MSG_LEAVE, .leave = {l->t->job, l->t->number, MSG_LOAN, l->number, GRAPH_NONE, 0}};
    send_owner(l, &m);
    end(l);
}

static void say_done(struct work *w, uint32_t how, const char *text)
{
    const struct attempt *t = w->loan->t;
    struct msg m = {.type = MSG_DONE, .done = {t->job, t->number, w->loan->number, w->id, how, .text = text}};
    send_owner(w->loan, &m);
    work_over(w);
}

/* ---- a run's way */

static void send_next(struct work *w);

static void carry_ended(void *owner, struct carry *c, enum carry_end how, const struct err *why)
{
    struct work *w = owner;
    struct loan *l = w->loan;
    l->reapable = true;
    if (w->state == OVER || l->ended)
        return;
    if (how == CARRY_FAILED) {
        loan_fail(l, why);
    } else if (c == w->in && w->state == COMING) {
        w->state = READY;
        agent_step_soon(l->agent);
    } else if (c == w->out && how == CARRY_LEFT) {
        work_over(w);
    } else if (c == w->out) {
        send_next(w);
    }
}

static const struct carry_events carry_events = {.ended = carry_ended};

static const char *keep(struct work *w, const char *text)
{
    const char *copy = arena_string(&w->run->arena, text);
    return copy ? copy : "";
}

static void on_task_ended(void *owner, uint32_t task, const struct box_result *end)
{
    struct work *w = owner;
    const struct blocks *b = w->run->b;
    struct box_result *r = run_result(w->run, task);
    struct err e;
    if (b->way->take_left && !w->unwanted && b->way->take_left(w->run, task, end, &e) < 0)
        w->broken = keep(w, e.text);
    for (uint32_t i = 0; i < end->made_count; i++)
        if (end->made[i].fd >= 0)
            close(end->made[i].fd);
    if (run_check_room(w->run, &e) < 0)
        w->broken = keep(w, e.text);
    *r = *end;
    r->limit = keep(w, end->limit);
    r->text = keep(w, end->text);
    r->cold_why = keep(w, end->cold_why);
    if (end->end == BOX_FAILED || end->end == BOX_KILLED)
        w->broken = r->text[0] ? r->text : "its sandbox failed";
}

static void on_kept(void *owner, uint32_t channel, const struct box_kept *k)
{
    struct work *w = owner;
    struct err e;
    if (w->run->b->way->kept(w->run, channel, k, &e) < 0)
        w->broken = keep(w, e.text);
}

static void on_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    struct work *w = owner;
    (void)channel;
    if (reading && pump_broke(sys, reading))
        w->broken = "its input could not be read"; /* it is in a file of ours */
}

static const struct msg_ran *list_results(struct work *w)
{
    uint32_t count = run_program_count(w->run);
    struct msg_ran *ran = arena_array(&w->run->arena, count, sizeof *ran);
    for (uint32_t i = 0; ran && i < count; i++) {
        const struct box_result *r = run_result(w->run, i);
        const struct blocks_way *way = w->run->b->way;
        const char *dropped = way->dropped ? *way->dropped(w->run, i) : NULL;
        ran[i] = (struct msg_ran){(uint32_t)r->end,     (uint32_t)r->status & 255, (uint32_t)r->signal & 127,
                                  r->cpu_user_ns,       r->cpu_sys_ns,             r->wall_ns,
                                  r->memory_peak_bytes, r->certified,              r->limit,
                                  r->text,              dropped ? dropped : "", r->cold_why};
    }
    return ran;
}

static const struct msg_piece *list_pieces(struct work *w, uint64_t *bytes, struct err *e)
{
    uint32_t count = run_outputs(w->run->b);
    struct msg_piece *piece = arena_array(&w->run->arena, count, sizeof *piece);
    struct stat s;
    if (!piece)
        err_nomem(e);
    for (uint32_t i = 0; piece && i < count; i++) {
        int fd = *run_output(w->run, i);
        if (fd < 0)
            continue;
        if (fstat(fd, &s) < 0) {
            err_sys(e, "cannot look at a temporary file");
            return NULL;
        }
        piece[i] = (struct msg_piece){true, (uint64_t)s.st_size, s.st_mode & 0777};
        *bytes += piece[i].bytes;
    }
    return piece;
}

/* Send one output.  1: it is on its way; 0: it has no bytes. */
static int send_piece(struct work *w, int piece, struct err *e)
{
    struct loan *l = w->loan;
    struct stream_name name = name_of(w, MSG_RUN_OUTPUT);
    uint64_t size = 0;
    if (piece >= 0 && blocks_size_of(piece, &size, e) < 0)
        return -1;
    if (!size)
        return 0;
    int fd = spool_reader(piece, e);
    carry_free(w->sent);
    w->sent = w->out;
    w->out = fd < 0 ? NULL : carry_out(agent_loop(l->agent), &fd, 1, &name, &carry_events, w, e);
    return w->out && carry_bind(w->out, l->owner, 0, e) == 0 ? 1 : -1;
}

static void send_next(struct work *w)
{
    struct err e;
    int r = 0;
    while (r == 0 && w->piece < run_outputs(w->run->b))
        r = send_piece(w, *run_output(w->run, w->piece++), &e);
    if (r < 0)
        loan_fail(w->loan, &e);
    else if (r == 0)
        work_over(w);
}

static int send_output(struct work *w, struct err *e)
{
    struct loan *l = w->loan;
    const struct blocks *b = w->run->b;
    struct stat said = {0};
    struct msg m = {.type = MSG_DONE, .done = {l->t->job, l->t->number, l->number, w->id, MSG_HOW_RAN, .text = ""}};
    m.done.ran_count = run_program_count(w->run);
    m.done.piece_count = run_outputs(b);
    if (!(m.done.ran = list_results(w)))
        return err_nomem(e);
    if (!(m.done.piece = list_pieces(w, &m.done.bytes, e)))
        return -1;
    if (m.done.bytes > LENT_OUTPUT_MAX)
        return err_set(e, ERR_LIMIT, "a run wrote more than a lender sends back");
    if (b->errors >= 0 && fstat(b->errors, &said) < 0)
        return err_sys(e, "cannot look at a memory file");
    m.done.said = said.st_size > 0;
    w->state = SENDING;
    send_owner(l, &m);
    send_next(w);
    return 0;
}

static void on_ended(void *owner)
{
    struct work *w = owner;
    struct loan *l = w->loan;
    struct err e;
    l->running--;
    agent_end_run(l->agent, w->run->b->run_memory);
    if (w->unwanted)
        work_over(w);
    else if (w->broken)
        say_done(w, MSG_HOW_FAILED, w->broken);
    else if (send_output(w, &e) < 0)
        say_done(w, MSG_HOW_FAILED, e.text);
}

/* The number of the run's stage in the attempt. */
static uint32_t stage_number(const struct work *w)
{
    return (uint32_t)(w->run->b->stage - w->loan->t->stages.stage);
}

static void step(struct loan *l)
{
    struct err e;
    for (struct work *w = l->work; w && l->running < l->slots; w = w->next) {
        if (w->state != READY || l->ended)
            continue;
        int here = loan_files_here(l, stage_number(w), &e);
        if (here < 0)
            loan_fail(l, &e);
        if (here <= 0)
            continue;
        if (!agent_begin_run(l->agent, 0, 0, w->run->b->run_memory))
            return;
        const struct blocks_way *way = w->run->b->way;
        w->run->began_ns = loop_clock_ns();
        if ((way->prepare && way->prepare(w->run, &e) < 0) || way->start(w->run->b, w->run, &e) < 0) {
            agent_end_run(l->agent, w->run->b->run_memory);
            say_done(w, MSG_HOW_FAILED, e.text);
            continue;
        }
        w->state = RUNNING;
        l->running++;
    }
}

/* ---- messages from the owner */

static struct blocks *stage_of(struct loan *l, uint32_t stage, struct err *e)
{
    struct attempt *t = l->t;
    if (stage >= t->stages.count || !stage_may_be_lent(t->graph, &t->stages, &t->stages.stage[stage])) {
        err_set(e, ERR_PROTO, "a run of a stage that is none, or cannot be lent");
        return NULL;
    }
    if (!t->blocks[stage])
        t->blocks[stage] = blocks_new(t, &t->stages.stage[stage], e);
    return t->blocks[stage];
}

/* For a merge: its parts are pieces of its input. */
static int take_parts(struct run *r, const struct msg_work *m, struct err *e)
{
    const struct graph_split *s = r->b->tail;
    struct box_source source[MERGE_FAN];
    uint64_t at = 0;
    uint32_t count = 0;
    if (r->b->stage->author != GRAPH_NONE || s->combine != GRAPH_COMBINE_MERGE || m->part_count > MERGE_FAN)
        return err_set(e, ERR_PROTO, "a merge of %u parts, or of a stage that merges nothing", m->part_count);
    for (uint32_t i = 0; i < m->part_count; i++) {
        if (!m->part[i] || m->part[i] > m->bytes - at)
            break;
        source[i] = (struct box_source){r->in, at, m->part[i]};
        at += m->part[i];
        count++;
    }
    if (at != m->bytes || count != m->part_count)
        return err_set(e, ERR_PROTO, "a merge of parts that are not its %llu bytes", (unsigned long long)m->bytes);
    return run_merges(r, (struct region_words){s->combine_argv, s->combine_argc}, source, count, e);
}

/* Check the file that the bytes are of. */
static int check_file(struct loan *l, const struct msg_work *m, const struct blocks *b, struct err *e)
{
    const struct graph *g = l->t->graph;
    bool is = run_is_file(b) && !m->part_count;
    bool of = b->stage->author == GRAPH_NONE && b->head->file_count && !m->part_count;
    if ((is || of) ? m->file >= g->file_count : m->file != GRAPH_NONE)
        return err_set(e, ERR_PROTO, "a run of a file that is none, or of none that is one");
    if (is && m->bytes != g->file[m->file].size_bytes)
        return err_set(e, ERR_PROTO, "a run of %llu bytes of a file that has %llu", (unsigned long long)m->bytes,
                       (unsigned long long)g->file[m->file].size_bytes);
    return 0;
}

/* Open a file that this host has, too; -1: it has not. */
static int open_place(const struct loan *l, const struct msg_place *p)
{
    const struct graph *g = l->t->graph;
    bool good = p->file < g->file_count && p->bytes <= g->file[p->file].size_bytes &&
                p->offset <= g->file[p->file].size_bytes - p->bytes;
    return good ? shared_open(agent_shared(l->agent), &g->file[p->file]) : -1;
}

/* Read its input in place; false: not all of it is on this host, and it must be sent. */
static bool take_places(const struct loan *l, const struct msg_work *m, struct run *r)
{
    uint64_t left = m->bytes;
    uint32_t fit = 0;
    bool whole = run_is_file(r->b);
    for (; fit < m->place_count && m->place[fit].bytes <= left; fit++)
        left -= m->place[fit].bytes;
    if (!fit || fit < m->place_count || left || m->part_count || (whole && (fit > 1 || m->place[0].file != m->file)))
        return false;
    r->placed = arena_array(&r->arena, m->place_count, sizeof *r->placed);
    if (!r->placed)
        return false;
    for (uint32_t i = 0; i < m->place_count; i++) {
        int fd = open_place(l, &m->place[i]);
        if (fd < 0)
            break;
        r->placed[r->placed_count++] = (struct box_source){fd, m->place[i].offset, m->place[i].bytes};
    }
    if (r->placed_count == m->place_count && whole) { /* a whole file, which its programs open */
        r->in = r->placed[0].fd;
        r->placed_count = 0;
        return true;
    }
    if (r->placed_count == m->place_count)
        return true;
    while (r->placed_count)
        close(r->placed[--r->placed_count].fd);
    return false;
}

static struct run *new_run(struct loan *l, const struct msg_work *m, struct work *w, struct err *e)
{
    static const struct region_events events = {
        .task_ended = on_task_ended, .pump_ended = on_pump_ended, .kept = on_kept, .ended = on_ended};
    struct blocks *b = stage_of(l, m->stage, e);
    struct run *r = b && check_file(l, m, b, e) == 0 ? run_new(b, e) : NULL;
    if (!r)
        return NULL;
    r->watch.events = &events;
    r->watch.owner = w;
    r->number = m->number;
    r->to = m->bytes;
    r->file = m->file;
    r->first = m->first;
    r->last = m->last;
    if ((w->in_place = take_places(l, m, r)))
        return r;
    if ((r->in = spool_open(e)) < 0 || (m->part_count && take_parts(r, m, e) < 0)) {
        run_free(r);
        return NULL;
    }
    if (run_is_file(b) && !m->part_count)
        fchmod(r->in, (l->t->graph->file[m->file].mode & 0777) | 0400);
    return r;
}

static int check_work(const struct loan *l, const struct msg_work *m, struct err *e)
{
    if (l->count >= LENT_AHEAD * l->slots)
        return err_set(e, ERR_PROTO, "more runs than %d for each of %u slots", LENT_AHEAD, l->slots);
    if (m->bytes > LENT_INPUT_MAX)
        return err_set(e, ERR_PROTO, "a run of %llu bytes", (unsigned long long)m->bytes);
    for (const struct work *w = l->work; w; w = w->next)
        if (w->id == m->run)
            return err_set(e, ERR_PROTO, "run %u twice", m->run);
    return 0;
}

/* Take the run, which is put into the list in any case; -1: the loan must end. */
static int take(struct loan *l, const struct msg_work *m, struct err *e)
{
    struct work **last = &l->work, *w = calloc(1, sizeof *w);
    if (!w)
        return err_nomem(e);
    *w = (struct work){.loan = l, .id = m->run};
    while (*last)
        last = &(*last)->next;
    *last = w;
    l->count++;
    l->worked = true;
    w->run = new_run(l, m, w, e);
    if (!w->run)
        return -1;
    int to = w->in_place ? -1 : blocks_dup(w->run->in, e);
    struct stream_name name = name_of(w, MSG_RUN_INPUT);
    w->in = to < 0 && !w->in_place ? NULL : carry_in(agent_loop(l->agent), to, &name, &carry_events, w, e);
    if (!w->in)
        return -1;
    if (w->in_place)
        carry_decline(w->in);
    carry_expect(w->in, m->bytes);
    return carry_bind(w->in, l->owner, 0, e);
}

static void on_work(struct loan *l, const struct msg_work *m)
{
    struct err e;
    if (l->leaving) {
        struct msg back = {.type = MSG_DONE,
                           .done = {m->job, m->attempt, m->loan, m->run, MSG_HOW_BACK, .text = ""}};
        send_owner(l, &back);
    } else if (check_work(l, m, &e) < 0 || take(l, m, &e) < 0) {
        loan_fail(l, &e);
    }
}

/* Is the message about this loan?  Then handle it. */
static bool hears(struct loan *l, const struct msg *m, struct slice bulk)
{
    struct stream_name name = {0};
    if (m->type == MSG_WORK) {
        if (m->work.loan != l->number || m->work.job != l->t->job)
            return false;
        if (!l->ended)
            on_work(l, &m->work);
        return true;
    }
    if (!carry_message_name(m, &name) || name.job != l->t->job || name.what < MSG_LOAN ||
        (name.what == MSG_LOAN ? name.index : name.node) != l->number)
        return false;
    if (loan_files_message(l, &name, m, bulk))
        return true;
    struct work *w = l->work;
    while (w && w->id != name.index)
        w = w->next;
    if (name.what == MSG_LOAN && m->type == MSG_LEAVE)
        end(l);
    if (name.what == MSG_LOAN || !w || w->state == OVER || l->ended)
        return true;
    if (name.what == MSG_RUN_INPUT)
        carry_message(w->in, m, bulk);
    else if (m->type == MSG_LEAVE && (!w->out || m->leave.read_bytes < carry_bytes(w->out)))
        drop(w); /* the owner leaves the run, and not only this output, of which it may have the end */
    else if (w->out)
        carry_message(w->out, m, bulk);
    return true;
}

bool lender_message(struct lender *s, const struct peer *p, const struct msg *m, struct slice bulk)
{
    for (struct loan *l = s->loans; l; l = l->next)
        if (l->owner == p && hears(l, m, bulk))
            return true;
    return false;
}

/* ---- life */

/* End the loan: runs that have begun may end; others go back. */
static void leave(struct loan *l)
{
    if (l->leaving)
        return;
    l->leaving = l->reapable = true;
    struct msg m = {.type = MSG_LEAVE, .leave = {l->t->job, l->t->number, MSG_LOAN, l->number, GRAPH_NONE, 0}};
    send_owner(l, &m);
    for (struct work *w = l->work; w; w = w->next)
        if (w->state == COMING || w->state == READY)
            say_done(w, MSG_HOW_BACK, "");
}

bool lender_recall(struct lender *s, const struct msg_recall *m)
{
    struct loan *l = s->loans;
    while (l && (l->number != m->loan || l->t->job != m->job))
        l = l->next;
    if (l && m->now)
        end(l);
    else if (l)
        leave(l);
    return l;
}

void lender_end_all(struct lender *s)
{
    s->last = 0;
    for (struct loan *l = s->loans; l; l = l->next)
        end(l);
}

void lender_box_lost(struct lender *s)
{
    for (struct loan *l = s->loans; l; l = l->next)
        for (struct work *w = l->work; w; w = w->next)
            if (w->state == RUNNING && !w->broken)
                w->broken = "zpipe-box was lost";
}

void lender_link_lost(struct lender *s, const struct peer *p)
{
    for (struct loan *l = s->loans; l; l = l->next) {
        if (l->owner != p)
            continue;
        l->failed = !l->worked;
        end(l);
    }
}

static int attach(struct loan *l, const struct msg_lend *m, struct err *e)
{
    struct msg a = {.type = MSG_ATTACH, .attach = {m->job, m->attempt, m->token, MSG_LOAN, m->loan, GRAPH_NONE}};
    l->owner = agent_data_peer(l->agent, m->url, m->key, e);
    return l->owner ? peer_send(l->owner, 0, &a, (struct slice){0}, e) : -1;
}

/* Take the graph, with all commands of its stages, as a run may be of any of them. */
static int open_graph(struct loan *l, const struct msg_lend *m, struct slice graph, struct err *e)
{
    struct msg_run none = {.job = m->job, .attempt = m->attempt, .token = m->token};
    struct attempt *t = l->t = attempt_new(l->agent, &none, graph, e);
    if (!t || attempt_find_stages(t, e) < 0)
        return -1;
    t->elsewhere = true;
    t->blocks_count = t->stages.count;
    for (uint32_t i = 0; i < t->graph->node_count; i++)
        t->here[i] = t->stages.of_node[i] != GRAPH_NONE;
    return loan_files_find(l, e);
}

static void say_returned(struct agent *a, uint64_t job, uint32_t attempt, uint32_t loan, bool failed)
{
    struct msg m = {.type = MSG_RETURNED, .returned = {job, attempt, loan, failed}};
    agent_send(a, &m);
}

static void work_free(struct work *w)
{
    carry_free(w->in);
    carry_free(w->out);
    carry_free(w->sent);
    if (w->run)
        run_free(w->run);
    free(w);
}

static void loan_free(struct loan *l)
{
    while (l->work) {
        struct work *w = l->work;
        l->work = w->next;
        work_free(w);
    }
    if (l->t)
        attempt_free(l->t);
    free(l);
}

void lender_lend(struct lender *s, const struct msg_lend *m, struct slice graph)
{
    struct err e;
    if (m->loan <= s->last)
        return;
    s->last = m->loan;
    struct loan *l = s->count < LOANS_MAX ? calloc(1, sizeof *l) : NULL;
    if (l) {
        *l = (struct loan){.lender = s, .agent = s->agent, .number = m->loan,
                           .slots = m->slots < LENT_SLOTS_MAX ? m->slots : LENT_SLOTS_MAX};
        if (open_graph(l, m, graph, &e) == 0 && attach(l, m, &e) == 0) {
            l->next = s->loans;
            s->loans = l;
            s->count++;
            return;
        }
        log_warn("loan_failed", "loan=%u why=\"%s\"", m->loan, e.text);
        loan_free(l);
    }
    say_returned(s->agent, m->job, m->attempt, m->loan, true);
}

void lender_step(struct lender *s)
{
    for (struct loan *l = s->loans; l; l = l->next)
        step(l);
}

bool lender_reapable(const struct lender *s)
{
    const struct loan *l = s->loans;
    while (l && !l->reapable)
        l = l->next;
    return l;
}

static void reap_work(struct loan *l)
{
    l->reapable = false;
    loan_files_reap(l);
    for (struct work **at = &l->work; *at;) {
        struct work *w = *at;
        if (w->state == OVER) {
            *at = w->next;
            work_free(w);
        } else {
            at = &w->next;
        }
    }
}

void lender_reap(struct lender *s)
{
    for (struct loan **at = &s->loans; *at;) {
        struct loan *l = *at;
        reap_work(l);
        if (l->work || !l->leaving) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        s->count--;
        say_returned(l->agent, l->t->job, l->t->number, l->number, l->failed);
        loan_free(l);
    }
}

void lender_clear(struct lender *s)
{
    while (s->loans) {
        struct loan *l = s->loans;
        s->loans = l->next;
        loan_free(l);
    }
}
