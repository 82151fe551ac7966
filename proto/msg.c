/* See msg.h: one table of fields per message, and one row per message that says who may send it. */
#include "proto/msg.h"

#include "proto/codec.h"
#include "proto/graph.h"

#define U32(type, member)        FIELD(type, member, FIELD_U32, UINT32_MAX)
#define U64(type, member)        FIELD(type, member, FIELD_U64, UINT64_MAX)
#define I32(type, member)        FIELD(type, member, FIELD_I32, 0)
#define YES(type, member)        FIELD(type, member, FIELD_BOOL, 0)
#define TEXT(type, member)       FIELD(type, member, FIELD_TEXT, MSG_TEXT_MAX)
#define BYTES(type, member, max) FIELD(type, member, FIELD_BYTES, max)
#define LIST(type, member, sub)                                                                    \
    FIELD_MANY(type, member, member##_count, FIELD_LIST, MSG_LIST_MAX, sub)

static const struct field hello_fields[] = {U32(msg_hello, version),
                                            U32(msg_hello, role),
                                            FIELD(msg_hello, name, FIELD_TEXT, 256),
                                            BYTES(msg_hello, instance, 16),
                                            FIELD(msg_hello, image, FIELD_TEXT, 128),
                                            U32(msg_hello, slots),
                                            U64(msg_hello, memory_bytes),
                                            FIELD(msg_hello, data_url, FIELD_TEXT, 256),
                                            BYTES(msg_hello, data_key, MSG_KEY_BYTES),
                                            FIELD(msg_hello, shared, FIELD_TEXT, MSG_SHARED_MAX),
                                            FIELD(msg_hello, domain, FIELD_TEXT, 128),
                                            U32(msg_hello, remains)};
static const struct field welcome_fields[] = {U32(msg_welcome, version), U64(msg_welcome, peer),
                                              U32(msg_welcome, heartbeat_ms),
                                              U32(msg_welcome, lease_ms)};
static const struct field refuse_fields[] = {U32(msg_refuse, code), TEXT(msg_refuse, text)};
static const struct field ping_fields[] = {U64(msg_ping, count)};
static const struct field bye_fields[] = {TEXT(msg_bye, text)};
static const struct field port_fields[] = {U32(msg_port, node), I32(msg_port, fd)};
static const struct field_table port_table = FIELD_TABLE(msg_port, port_fields);
static const struct field submit_fields[] = {U64(msg_submit, request), U32(msg_submit, flags),
                                             TEXT(msg_submit, text),
                                             LIST(msg_submit, port, &port_table), U64(msg_submit, held),
                                             U64(msg_submit, was), BYTES(msg_submit, token, MSG_TOKEN_BYTES)};
static const struct field accept_fields[] = {U64(msg_accept, request), U64(msg_accept, job)};
static const struct field row_fields[] = {
    U32(msg_plan_row, node), FIELD(msg_plan_row, stage, FIELD_TEXT, MSG_BYTES_MAX),
    TEXT(msg_plan_row, class), TEXT(msg_plan_row, why), TEXT(msg_plan_row, detail),
    TEXT(msg_plan_row, cut), TEXT(msg_plan_row, combine)};
static const struct field_table row_table = FIELD_TABLE(msg_plan_row, row_fields);
static const struct field plan_fields[] = {U64(msg_plan, request), LIST(msg_plan, row, &row_table)};
static const struct field route_fields[] = {FIELD(msg_route, what, FIELD_U32, MSG_WHATS - 1),
                                            U32(msg_route, index),
                                            U32(msg_route, node),
                                            FIELD(msg_route, via, FIELD_U32, MSG_VIAS - 1),
                                            I32(msg_route, fd),
                                            FIELD(msg_route, url, FIELD_TEXT, 256),
                                            BYTES(msg_route, key, MSG_KEY_BYTES)};
static const struct field_table route_table = FIELD_TABLE(msg_route, route_fields);
static const struct field route_list_fields[] = {
    U64(msg_route_list, job), U32(msg_route_list, attempt),
    BYTES(msg_route_list, token, MSG_TOKEN_BYTES), LIST(msg_route_list, route, &route_table),
    U32(msg_route_list, reader), TEXT(msg_route_list, why)};
static const struct field cancel_fields[] = {U64(msg_cancel, job), U64(msg_cancel, request),
                                             TEXT(msg_cancel, text)};
static const struct field run_fields[] = {
    U64(msg_run, job),
    U32(msg_run, attempt),
    BYTES(msg_run, token, MSG_TOKEN_BYTES),
    FIELD_MANY(msg_run, node, node_count, FIELD_U32_LIST, MSG_LIST_MAX, NULL),
    LIST(msg_run, route, &route_table),
    FIELD_MANY(msg_run, admit, admit_count, FIELD_BYTES_LIST, MSG_LIST_MAX, NULL),
    BYTES(msg_run, client, MSG_KEY_BYTES),
    U64(msg_run, held),
    U32(msg_run, deaths),
    U32(msg_run, bad),
    U64(msg_run, bad_number),
    FIELD(msg_run, bad_why, FIELD_TEXT, ERR_TEXT_MAX)};
static const struct field stop_fields[] = {U64(msg_stop, job), U32(msg_stop, attempt),
                                           TEXT(msg_stop, text)};
static const struct field started_fields[] = {U64(msg_started, job), U32(msg_started, attempt)};
static const struct field task_fields[] = {
    U64(msg_task, job),
    U32(msg_task, attempt),
    U32(msg_task, node),
    FIELD(msg_task, end, FIELD_U32, MSG_ENDS - 1),
    FIELD(msg_task, status, FIELD_U32, 255),
    U32(msg_task, signal),
    U64(msg_task, cpu_user_us),
    U64(msg_task, cpu_sys_us),
    U64(msg_task, wall_us),
    U64(msg_task, memory_peak_bytes),
    YES(msg_task, early_stop),
    YES(msg_task, certified),
    TEXT(msg_task, text),
    TEXT(msg_task, stderr_tail),
    TEXT(msg_task, cold),
    U64(msg_task, compared)};
static const struct field progress_fields[] = {
    U64(msg_progress, job), U32(msg_progress, node), U64(msg_progress, bytes_in),
    U64(msg_progress, bytes_out), YES(msg_progress, running)};
static const struct field block_fields[] = {
    U64(msg_block, job),
    U32(msg_block, attempt),
    U32(msg_block, node),
    U32(msg_block, last),
    U64(msg_block, number),
    FIELD(msg_block, status, FIELD_U32, 255),
    U32(msg_block, signal),
    U64(msg_block, bytes_in),
    U64(msg_block, bytes_out),
    U64(msg_block, cpu_user_us),
    U64(msg_block, cpu_sys_us),
    U64(msg_block, wall_us),
    U64(msg_block, memory_peak_bytes),
    YES(msg_block, certified),
    TEXT(msg_block, worker),
    TEXT(msg_block, cold)};
static const struct field fail_fields[] = {U64(msg_fail, job), U32(msg_fail, attempt),
                                           FIELD(msg_fail, code, FIELD_U32, ERR_COUNT - 1),
                                           TEXT(msg_fail, text), YES(msg_fail, last)};
static const struct field stopped_fields[] = {U64(msg_stopped, job), U32(msg_stopped, attempt),
                                              U32(msg_stopped, heard)};
static const struct field result_fields[] = {U64(msg_result, request),
                                             U64(msg_result, job),
                                             FIELD(msg_result, status, FIELD_U32, 255),
                                             YES(msg_result, commit),
                                             FIELD(msg_result, code, FIELD_U32, ERR_COUNT - 1),
                                             TEXT(msg_result, text),
                                             YES(msg_result, ended)};
#define STREAM(type)                                                                               \
    U64(type, job), U32(type, attempt), FIELD(type, what, FIELD_U32, MSG_WHATS - 1),               \
        U32(type, index), U32(type, node)
static const struct field attach_fields[] = {U64(msg_attach, job),
                                             U32(msg_attach, attempt),
                                             BYTES(msg_attach, token, MSG_TOKEN_BYTES),
                                             FIELD(msg_attach, what, FIELD_U32, MSG_WHATS - 1),
                                             U32(msg_attach, index),
                                             U32(msg_attach, node)};
static const struct field credit_fields[] = {STREAM(msg_credit), U64(msg_credit, upto_bytes)};
static const struct field data_fields[] = {STREAM(msg_data), U64(msg_data, offset),
                                           U32(msg_data, flags), BYTES(msg_data, digest, 16)};
static const struct field leave_fields[] = {STREAM(msg_leave), U64(msg_leave, read_bytes)};
static const struct field ask_fields[] = {U64(msg_ask, request),
                                          FIELD(msg_ask, what, FIELD_U32, MSG_ASKS - 1),
                                          U64(msg_ask, job), FIELD(msg_ask, name, FIELD_TEXT, 256)};
static const struct field job_row_fields[] = {
    U64(msg_job_row, job),     TEXT(msg_job_row, state),   TEXT(msg_job_row, text),
    TEXT(msg_job_row, workers), U32(msg_job_row, attempt), U32(msg_job_row, stages),
    U32(msg_job_row, ended),   U64(msg_job_row, age_ms)};
static const struct field_table job_row_table = FIELD_TABLE(msg_job_row, job_row_fields);
static const struct field worker_row_fields[] = {FIELD(msg_worker_row, name, FIELD_TEXT, 256),
                                                 U32(msg_worker_row, slots),
                                                 U32(msg_worker_row, used),
                                                 YES(msg_worker_row, draining), FIELD(msg_worker_row, image, FIELD_TEXT, 128),
                                                 FIELD(msg_worker_row, domain, FIELD_TEXT, 128),
                                                 U64(msg_worker_row, memory_bytes), U64(msg_worker_row, memory_used_bytes)};
static const struct field_table worker_row_table = FIELD_TABLE(msg_worker_row, worker_row_fields);
static const struct field answer_fields[] = {
    U64(msg_answer, request), FIELD(msg_answer, code, FIELD_U32, ERR_COUNT - 1),
    TEXT(msg_answer, text), LIST(msg_answer, job, &job_row_table),
    LIST(msg_answer, worker, &worker_row_table),
    U64(msg_answer, held),
    FIELD(msg_answer, url, FIELD_TEXT, 256),
    BYTES(msg_answer, key, MSG_KEY_BYTES),
    BYTES(msg_answer, token, MSG_TOKEN_BYTES),
    FIELD(msg_answer, shared, FIELD_TEXT, MSG_SHARED_MAX),
    U64(msg_answer, taken_bytes),
    FIELD(msg_answer, receipt, FIELD_TEXT, MSG_RECEIPT_MAX),
    U64(msg_answer, receipt_from)};
static const struct field visit_fields[] = {
    U64(msg_visit, link), U64(msg_visit, request), FIELD(msg_visit, what, FIELD_U32, MSG_ASKS - 1),
    U64(msg_visit, job),  BYTES(msg_visit, key, MSG_KEY_BYTES), BYTES(msg_visit, token, MSG_TOKEN_BYTES)};
static const struct field visited_fields[] = {
    U64(msg_visited, link), U64(msg_visited, request), U64(msg_visited, job),
    FIELD(msg_visited, code, FIELD_U32, ERR_COUNT - 1), TEXT(msg_visited, text),
    BYTES(msg_visited, token, MSG_TOKEN_BYTES), U64(msg_visited, taken_bytes),
    FIELD(msg_visited, receipt, FIELD_TEXT, MSG_RECEIPT_MAX), U64(msg_visited, receipt_from)};
static const struct field drained_fields[] = {TEXT(msg_drained, text)};
static const struct field remains_fields[] = {
    U64(msg_remains, job), U32(msg_remains, attempt), BYTES(msg_remains, token, MSG_TOKEN_BYTES),
    FIELD_MANY(msg_remains, node, node_count, FIELD_U32_LIST, MSG_LIST_MAX, NULL)};
static const struct field go_on_fields[] = {U64(msg_go_on, job), U32(msg_go_on, attempt)};
static const struct field holds_fields[] = {U64(msg_holds, held), U32(msg_holds, runs)};
static const struct field held_fields[] = {
    U64(msg_held, job), BYTES(msg_held, key, MSG_KEY_BYTES), TEXT(msg_held, state),
    TEXT(msg_held, text), U64(msg_held, age_ms), YES(msg_held, gone)};
static const struct field kept_fields[] = {
    U64(msg_kept, job),
    YES(msg_kept, begins),
    U64(msg_kept, taken_bytes),
    FIELD(msg_kept, receipt, FIELD_TEXT, MSG_RECEIPT_MAX),
    YES(msg_kept, all),
    FIELD(msg_kept, status, FIELD_U32, 255),
    FIELD(msg_kept, code, FIELD_U32, ERR_COUNT - 1),
    TEXT(msg_kept, text),
    FIELD(msg_kept, directory, FIELD_TEXT, 4096)};
static const struct field lost_fields[] = {STREAM(msg_lost), TEXT(msg_lost, text)};

#define LOAN_OF(type) U64(type, job), U32(type, attempt), U32(type, loan)
static const struct field want_fields[] = {U64(msg_want, job), U32(msg_want, attempt),
                                           U32(msg_want, slots)};
static const struct field lend_fields[] = {LOAN_OF(msg_lend),
                                           BYTES(msg_lend, token, MSG_TOKEN_BYTES),
                                           U32(msg_lend, slots),
                                           FIELD(msg_lend, url, FIELD_TEXT, 256),
                                           BYTES(msg_lend, key, MSG_KEY_BYTES)};
static const struct field lent_fields[] = {LOAN_OF(msg_lent),
                                           BYTES(msg_lent, token, MSG_TOKEN_BYTES),
                                           U32(msg_lent, slots),
                                           FIELD(msg_lent, name, FIELD_TEXT, 256),
                                           BYTES(msg_lent, key, MSG_KEY_BYTES)};
static const struct field recall_fields[] = {LOAN_OF(msg_recall), YES(msg_recall, now),
                                             TEXT(msg_recall, text), YES(msg_recall, returned)};
static const struct field returned_fields[] = {LOAN_OF(msg_returned), YES(msg_returned, failed)};
static const struct field place_fields[] = {U32(msg_place, file), U64(msg_place, offset), U64(msg_place, bytes)};
static const struct field_table place_table = FIELD_TABLE(msg_place, place_fields);
static const struct field work_fields[] = {LOAN_OF(msg_work),     U32(msg_work, run),
                                           U32(msg_work, stage),  U32(msg_work, file),
                                           U64(msg_work, number), YES(msg_work, first),
                                           YES(msg_work, last),   U64(msg_work, bytes),
                                           FIELD_MANY(msg_work, part, part_count, FIELD_U32_LIST, MSG_PARTS_MAX, NULL),
                                           FIELD_MANY(msg_work, place, place_count, FIELD_LIST, MSG_PLACES_MAX, &place_table)};
static const struct field ran_fields[] = {FIELD(msg_ran, end, FIELD_U32, MSG_ENDS - 1),
                                          FIELD(msg_ran, status, FIELD_U32, 255),
                                          FIELD(msg_ran, signal, FIELD_U32, 127),
                                          U64(msg_ran, cpu_user_ns),
                                          U64(msg_ran, cpu_sys_ns),
                                          U64(msg_ran, wall_ns),
                                          U64(msg_ran, memory_peak_bytes),
                                          YES(msg_ran, certified),
                                          TEXT(msg_ran, limit),
                                          TEXT(msg_ran, text),
                                          TEXT(msg_ran, dropped),
                                          TEXT(msg_ran, cold)};
static const struct field_table ran_table = FIELD_TABLE(msg_ran, ran_fields);
static const struct field piece_fields[] = {YES(msg_piece, there), U64(msg_piece, bytes),
                                            FIELD(msg_piece, mode, FIELD_U32, 0777)};
static const struct field_table piece_table = FIELD_TABLE(msg_piece, piece_fields);
static const struct field done_fields[] = {LOAN_OF(msg_done),
                                           U32(msg_done, run),
                                           FIELD(msg_done, how, FIELD_U32, MSG_HOWS - 1),
                                           YES(msg_done, said),
                                           U64(msg_done, bytes),
                                           FIELD_MANY(msg_done, ran, ran_count, FIELD_LIST, GRAPH_NODES_MAX, &ran_table),
                                           TEXT(msg_done, text),
                                           FIELD_MANY(msg_done, piece, piece_count, FIELD_LIST, 2 * GRAPH_NODES_MAX,
                                                      &piece_table)};

static const struct field session_fields[] = {BYTES(msg_session, token, MSG_TOKEN_BYTES), U64(msg_session, link),
                                              U64(msg_session, got), YES(msg_session, known), YES(msg_session, ends)};
static const struct field got_fields[] = {U64(msg_got, got)};
static const struct field begins_fields[] = {U64(msg_begins, job), U32(msg_begins, attempt), U32(msg_begins, node),
                                             U64(msg_begins, number), FIELD(msg_begins, text, FIELD_TEXT, ERR_TEXT_MAX)};

#define TABLE(name) FIELD_TABLE(msg_##name, name##_fields)
#define CLIENT      (MSG_CLIENT | MSG_KEEPER)
#define ANY         (CLIENT | MSG_WORKER)

/* Who may send it, to whom, whether before HELLO was answered, and whether bulk may follow. */
static const struct row {
    const char *name;
    unsigned from, to;
    bool early, bulk;
    struct field_table table;
} rows[MSG_TYPES] = {
    [MSG_HELLO] = {"HELLO", ANY, MSG_SCHEDULER, true, false, TABLE(hello)},
    [MSG_WELCOME] = {"WELCOME", MSG_SCHEDULER, ANY, true, false, TABLE(welcome)},
    [MSG_REFUSE] = {"REFUSE", MSG_SCHEDULER, ANY, true, false, TABLE(refuse)},
    [MSG_PING] = {"PING", ANY | MSG_SCHEDULER, ANY | MSG_SCHEDULER, true, false, TABLE(ping)},
    [MSG_BYE] = {"BYE", ANY | MSG_SCHEDULER, ANY | MSG_SCHEDULER, true, false, TABLE(bye)},
    [MSG_SUBMIT] = {"SUBMIT", CLIENT, MSG_SCHEDULER, false, true, TABLE(submit)},
    [MSG_ACCEPT] = {"ACCEPT", MSG_SCHEDULER, CLIENT, false, false, TABLE(accept)},
    [MSG_PLAN] = {"PLAN", MSG_SCHEDULER, CLIENT, false, false, TABLE(plan)},
    [MSG_ROUTE] = {"ROUTE", MSG_SCHEDULER, ANY, false, false, TABLE(route_list)},
    [MSG_CANCEL] = {"CANCEL", CLIENT, MSG_SCHEDULER, false, false, TABLE(cancel)},
    [MSG_RUN] = {"RUN", MSG_SCHEDULER, MSG_WORKER, false, true, TABLE(run)},
    [MSG_STOP] = {"STOP", MSG_SCHEDULER, MSG_WORKER, false, false, TABLE(stop)},
    [MSG_STARTED] = {"STARTED", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(started)},
    [MSG_TASK] = {"TASK", MSG_WORKER | MSG_SCHEDULER, MSG_SCHEDULER | CLIENT, false, false,
                  TABLE(task)},
    [MSG_PROGRESS] = {"PROGRESS", MSG_WORKER | MSG_SCHEDULER, MSG_SCHEDULER | CLIENT, false,
                      false, TABLE(progress)},
    [MSG_FAIL] = {"FAIL", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(fail)},
    [MSG_STOPPED] = {"STOPPED", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(stopped)},
    [MSG_RESULT] = {"RESULT", MSG_SCHEDULER, CLIENT, false, false, TABLE(result)},
    [MSG_ATTACH] = {"ATTACH", ANY, MSG_WORKER, true, false, TABLE(attach)},
    [MSG_CREDIT] = {"CREDIT", ANY, ANY, true, false, TABLE(credit)},
    [MSG_DATA] = {"DATA", ANY, ANY, true, true, TABLE(data)},
    [MSG_LEAVE] = {"LEAVE", ANY, ANY, true, false, TABLE(leave)},
    [MSG_WANT] = {"WANT", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(want)},
    [MSG_LEND] = {"LEND", MSG_SCHEDULER, MSG_WORKER, false, true, TABLE(lend)},
    [MSG_LENT] = {"LENT", MSG_SCHEDULER, MSG_WORKER, false, false, TABLE(lent)},
    [MSG_RECALL] = {"RECALL", MSG_SCHEDULER, MSG_WORKER, false, false, TABLE(recall)},
    [MSG_RETURNED] = {"RETURNED", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(returned)},
    [MSG_WORK] = {"WORK", MSG_WORKER, MSG_WORKER, true, false, TABLE(work)},
    [MSG_DONE] = {"DONE", MSG_WORKER, MSG_WORKER, true, false, TABLE(done)},
    [MSG_BLOCK] = {"BLOCK", MSG_WORKER | MSG_SCHEDULER, MSG_SCHEDULER | CLIENT, false, false,
                   TABLE(block)},
    [MSG_LOST] = {"LOST", ANY, MSG_SCHEDULER, false, false, TABLE(lost)},
    [MSG_ASK] = {"ASK", CLIENT, MSG_SCHEDULER, false, false, TABLE(ask)},
    [MSG_VISIT] = {"VISIT", MSG_SCHEDULER, MSG_KEEPER, false, false, TABLE(visit)},
    [MSG_VISITED] = {"VISITED", MSG_KEEPER, MSG_SCHEDULER, false, false, TABLE(visited)},
    [MSG_HELD] = {"HELD", MSG_KEEPER, MSG_SCHEDULER, false, false, TABLE(held)},
    [MSG_DRAINED] = {"DRAINED", MSG_SCHEDULER, MSG_WORKER, false, false, TABLE(drained)},
    [MSG_REMAINS] = {"REMAINS", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(remains)},
    [MSG_GO_ON] = {"GO_ON", MSG_SCHEDULER, MSG_WORKER, false, false, TABLE(go_on)},
    [MSG_HOLDS] = {"HOLDS", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(holds)},
    [MSG_SESSION] = {"SESSION", MSG_CLIENT | MSG_WORKER | MSG_SCHEDULER, MSG_CLIENT | MSG_WORKER | MSG_SCHEDULER, true, false, TABLE(session)},
    [MSG_GOT] = {"GOT", MSG_CLIENT | MSG_WORKER | MSG_SCHEDULER, MSG_CLIENT | MSG_WORKER | MSG_SCHEDULER, true, false, TABLE(got)},
    [MSG_BEGINS] = {"BEGINS", MSG_WORKER, MSG_SCHEDULER, false, false, TABLE(begins)},
    [MSG_KEPT] = {"KEPT", MSG_CLIENT | MSG_WORKER, MSG_CLIENT | MSG_WORKER, true, false, TABLE(kept)},
    [MSG_ANSWER] = {"ANSWER", MSG_SCHEDULER, CLIENT, false, false, TABLE(answer)},
};

const struct field_table *msg_table(uint32_t type)
{
    return type < MSG_TYPES && rows[type].name ? &rows[type].table : NULL;
}

/* The union's members all begin where the union does. */
int msg_encode(const struct msg *m, struct buf *out, struct err *e)
{
    const struct field_table *t = msg_table(m->type);
    if (!t)
        return err_set(e, ERR_BUG, "no message has the number %u", m->type);
    return codec_encode(t, m->type, &m->hello, out, e);
}

int msg_decode(const void *data, size_t size, struct arena *a, struct msg *out, struct err *e)
{
    *out = (struct msg){0};
    if (size > MSG_BYTES_MAX)
        return err_set(e, ERR_PROTO, "a frame was refused: it is larger than MSG_BYTES_MAX");
    return codec_decode(data, size, a, &out->type, msg_table, &out->hello, e);
}

void msg_print(const struct msg *m, struct buf *out)
{
    const struct field_table *t = msg_table(m->type);
    buf_printf(out, "%s ", msg_name(m->type));
    if (t)
        codec_print(t, &m->hello, out);
}

const char *msg_name(uint32_t type)
{
    return msg_table(type) ? rows[type].name : "?";
}

bool msg_allowed(uint32_t type, enum msg_role from, enum msg_role to, bool welcomed)
{
    if (!msg_table(type))
        return false;
    const struct row *r = &rows[type];
    if (r->from == (MSG_WORKER | MSG_SCHEDULER) && from == MSG_SCHEDULER && !(to & CLIENT))
        return false; /* forwarded reports go to clients only */
    if (r->from == (MSG_WORKER | MSG_SCHEDULER) && from == MSG_WORKER && to != MSG_SCHEDULER)
        return false;
    return (r->from & from) && (r->to & to) && (welcomed || r->early);
}

bool msg_has_bulk(uint32_t type)
{
    return msg_table(type) && rows[type].bulk;
}
