/* See client.h.  What would run: the scheduler's rows, as text or JSON. */
#include "client/client.h"

#include <stdlib.h>

static void json_string(struct buf *b, const char *text)
{
    buf_byte(b, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            buf_printf(b, "\\%c", *p);
        else if (*p == '\n')
            buf_text(b, "\\n");
        else if (*p == '\t')
            buf_text(b, "\\t");
        else if (*p < 0x20)
            buf_printf(b, "\\u%04x", *p);
        else
            buf_byte(b, (char)*p);
    }
    buf_byte(b, '"');
}

static void row_json(struct buf *b, const struct msg_plan_row *r, uint32_t number)
{
    const struct {
        const char *name, *value;
    } fields[] = {{"stage", r->stage},   {"class", r->class}, {"why", r->why},
                  {"detail", r->detail}, {"cut", r->cut},     {"combine", r->combine}};
    buf_printf(b, "%s\n  {\"number\": %u, \"node\": %u", number > 1 ? "," : "", number, r->node);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        buf_printf(b, ", \"%s\": ", fields[i].name);
        json_string(b, fields[i].value);
    }
    buf_text(b, "}");
}

static void row_text(struct buf *b, const struct msg_plan_row *r, uint32_t number)
{
    buf_printf(b, "%2u  %-9s  %s", number, r->class, r->stage);
    if (r->detail[0])
        buf_printf(b, "  (%s)", r->detail);
    if (r->why[0])
        buf_printf(b, "  whole: %s", r->why);
    else if (r->combine[0] && strcmp(r->combine, "concat") != 0)
        buf_printf(b, "  combine: %s", r->combine);
    buf_byte(b, '\n');
}

char *plan_text(const struct msg_plan *p, bool json)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    if (json)
        buf_text(&b, "{\"stages\": [");
    for (uint32_t i = 0; i < p->row_count; i++)
        (json ? row_json : row_text)(&b, &p->row[i], i + 1);
    if (json)
        buf_text(&b, "\n]}\n");
    char *text = buf_take(&b);
    return text ? err_plain(text, true) : NULL; /* a reason may hold words of the text as they are */
}

char *zpipe_plan(struct zpipe *z, const struct zpipe_submission *s, bool json, struct zpipe_error *error)
{
    struct err e = {0};
    char *plan = NULL;
    struct client_text t;
    struct zpipe_job *j = NULL;
    struct graph *g = client_text_open(&t, s, &e) < 0 ? NULL : dsl_graph(&t.in, &e);
    if (g) {
        j = client_job_start(z, g, t.directory, s, MSG_SUBMIT_PLAN_ONLY, &e);
        t.directory = NULL;
    }
    client_text_close(&t);
    if (!j) {
        client_error(error, &e);
        return NULL;
    }
    j->plan_only = true;
    j->plan_json = json;
    struct zpipe_error why;
    if (zpipe_wait(j, &why) == 0 && j->plan) {
        plan = j->plan;
        j->plan = NULL;
    } else if (error) {
        *error = why;
    }
    zpipe_job_free(j);
    return plan;
}

char *zpipe_canonical(const struct zpipe_submission *s, struct zpipe_error *error)
{
    struct err e = {0};
    struct client_text t;
    char *text = client_text_open(&t, s, &e) < 0 ? NULL : dsl_canonical(&t.in, &e);
    client_text_close(&t);
    if (!text)
        client_error(error, &e);
    return text;
}
