/* POST / by libmicrohttpd: the body in, the pipeline's output back.  See serve.h.
 *
 * A connection is suspended while its job runs; libmicrohttpd's epoll descriptor is watched by our loop. */
#include "cli/serve/gone.h"
#include "cli/serve/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define CONNECTION_BYTES (32u << 10) /* for the headers of a request */
#define GO_ON "HTTP/1.1 100 Continue\r\n\r\n" /* may come any number of times before an answer, and is no answer */
#define ON_THEIR_WAY     64          /* more connections than places, as one that must give way is closed a moment later */

/* One connection. */
struct guest {
    struct http *http;
    struct place place;
    int fd; /* owned by libmicrohttpd */
};

/* One request's state in libmicrohttpd's hands. */
struct exchange {
    struct exchange *next, **link;
    struct http *http;
    struct MHD_Connection *connection;
    struct request *request;
    struct gone_watch gone;
    unsigned refused; /* the HTTP status to refuse the request with, when its body has been read; 0: none */
    bool seen_whole, suspended;
};

struct http {
    struct server *server;
    struct places places;
    struct gone *gone;
    int listener; /* -1: closed */
    struct MHD_Daemon *daemon;
    struct zpipe_watch *events, *times;
    int timer;
    struct exchange *first;
    bool again; /* run libmicrohttpd once more: a request is complete but not suspended yet */
};

/* ---- answers */

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    char line[1200];
    int size = snprintf(line, sizeof line, "%s\n", text);
    struct MHD_Response *r = MHD_create_response_from_buffer(
        size < (int)sizeof line ? (size_t)size : sizeof line - 1, line, MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "POST");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    enum MHD_Result done = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const struct http *h)
{
    char text[128];
    switch (status) {
    case MHD_HTTP_BAD_REQUEST:
        return answer_text(c, status, "Say the length of the body once: by one Content-Length, or by Transfer-Encoding: chunked.");
    case MHD_HTTP_NOT_IMPLEMENTED:
        return answer_text(c, status, "Of transfer encodings there is only chunked.");
    case MHD_HTTP_NOT_FOUND:
        return answer_text(c, status, "There is one thing here: POST /");
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        return answer_text(c, status, "Send the input as the body of a POST.");
    case MHD_HTTP_CONTENT_TOO_LARGE:
        snprintf(text, sizeof text, "The body is larger than %" PRIu64 " bytes.", server_body_max(h->server));
        return answer_text(c, status, text);
    case MHD_HTTP_INSUFFICIENT_STORAGE:
        return answer_text(c, status, "The body cannot be kept: the server's disk is full.");
    default:
        return answer_text(c, status, "Too many requests at once; try again.");
    }
}

static enum MHD_Result answer_output(struct exchange *x)
{
    struct request *q = x->request;
    struct body *b = &q->out;
    char status[8];
    struct MHD_Response *r = b->file >= 0 ? MHD_create_response_from_fd64(b->size_bytes, b->file)
                                          : MHD_create_response_from_buffer(b->bytes.size, b->bytes.data, MHD_RESPMEM_PERSISTENT);
    if (!r)
        return MHD_NO;
    b->file = -1; /* the response closes it; the bytes stay until on_completed */
    snprintf(status, sizeof status, "%d", q->status);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    MHD_add_response_header(r, "Zpipe-Status", status);
    MHD_add_response_header(r, "Zpipe-Certified", q->certified ? "yes" : "no");
    enum MHD_Result done = MHD_queue_response(x->connection, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer(struct exchange *x)
{
    const struct request *q = x->request;
    if (!q->error.code)
        return answer_output(x);
    unsigned status = q->status == ZPIPE_STATUS_LIMIT     ? MHD_HTTP_GATEWAY_TIMEOUT
                      : q->error.code == ZPIPE_CANCELLED ? MHD_HTTP_SERVICE_UNAVAILABLE
                                                         : MHD_HTTP_INTERNAL_SERVER_ERROR;
    return answer_text(x->connection, status, q->error.text);
}

/* ---- connections */

static struct guest *guest_of(struct MHD_Connection *c)
{
    return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void give_way(void *owner)
{
    struct guest *g = owner;
    shutdown(g->fd, SHUT_RDWR);
}

static void on_connection(void *owner, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http *h = owner;
    struct guest *g = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = g = calloc(1, sizeof *g);
        if (!g)
            return;
        g->http = h;
        g->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        places_room(&h->places);
        places_enter(&h->places, &g->place, give_way, g);
    } else if (g) {
        places_leave(&g->place);
        free(g);
    }
}

/* ---- requests */

static void run_after(const struct http *h, unsigned long long ms)
{
    /* plus 1 ns, as a time of 0 would stop the timer */
    struct itimerspec at = {{0, 0}, {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000 + 1}};
    timerfd_settime(h->timer, 0, &at, NULL);
}

static void job_over(struct request *q)
{
    struct exchange *x = q->owner;
    gone_stop(x->http->gone, &x->gone);
    places_wait(&guest_of(x->connection)->place, PLACE_TAKES);
    x->suspended = false;
    MHD_resume_connection(x->connection);
    run_after(x->http, 0);
}

static void client_left(void *owner)
{
    struct exchange *x = owner;
    request_cancel(x->request);
}

/* What the headers say about the body's length. */
struct framing {
    unsigned lengths, encodings;
    bool odd, unknown; /* odd: a header name that another program may read differently; unknown: an encoding other than chunked */
};

static enum MHD_Result on_header(void *owner, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct framing *f = owner;
    bool encoding = !strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    (void)kind;
    f->lengths += !strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH);
    f->encodings += encoding;
    f->odd |= strpbrk(name, " \t") != NULL;
    f->unknown |= encoding && (!value || strcasecmp(value, "chunked"));
    return MHD_YES;
}

/* A proxy in front of us must not see another end of the body than we do: headers that can be read in two ways are refused. */
static unsigned body_is_unclear(struct MHD_Connection *c)
{
    struct framing f = {0};
    MHD_get_connection_values(c, MHD_HEADER_KIND, on_header, &f);
    if (f.odd || f.lengths + f.encodings > 1)
        return MHD_HTTP_BAD_REQUEST;
    return f.unknown ? MHD_HTTP_NOT_IMPLEMENTED : 0;
}

static unsigned looks_wrong(const struct http *h, struct MHD_Connection *c, const char *url, const char *method)
{
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned unclear = body_is_unclear(c);
    if (unclear)
        return unclear;
    if (strcmp(url, "/"))
        return MHD_HTTP_NOT_FOUND;
    if (strcmp(method, MHD_HTTP_METHOD_POST))
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    return length && strtoull(length, NULL, 10) > server_body_max(h->server) ? MHD_HTTP_CONTENT_TOO_LARGE : 0;
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *c, const char *url, const char *method, void **state)
{
    unsigned wrong = looks_wrong(h, c, url, method);
    struct exchange *x = wrong || !guest_of(c) || server_ends(h->server) ? NULL : calloc(1, sizeof *x);
    if (x && !(x->request = request_new(h->server, job_over, x))) {
        free(x);
        x = NULL;
    }
    if (!x)
        return refuse(c, wrong ? wrong : MHD_HTTP_SERVICE_UNAVAILABLE, h);
    x->http = h;
    x->connection = c;
    x->gone.fd = -1;
    x->next = h->first;
    x->link = &h->first;
    if (h->first)
        h->first->link = &x->next;
    h->first = x;
    *state = x;
    return MHD_YES;
}

static enum MHD_Result on_request(void *owner, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    struct http *h = owner;
    struct exchange *x = *state;
    if (!x)
        return begin(h, c, url, method, state);
    if (*size) {
        if (!x->refused && request_add(x->request, data, *size) < 0)
            x->refused = errno == EFBIG                       ? MHD_HTTP_CONTENT_TOO_LARGE
                         : errno == EMFILE || errno == ENFILE || errno == ENOMEM ? MHD_HTTP_SERVICE_UNAVAILABLE
                                                              : MHD_HTTP_INSUFFICIENT_STORAGE;
        *size = 0;
        return MHD_YES;
    }
    if (x->refused)
        return refuse(c, x->refused, h);
    if (x->request->over)
        return answer(x);
    /* If a connection is suspended while libmicrohttpd waits for more of the request, libmicrohttpd reads from it when it
     * is resumed, before it answers.  A client that has ended its side by then would look as if it had left.  From its
     * second call for a complete request on libmicrohttpd waits for nothing. */
    if (!x->seen_whole) {
        x->seen_whole = h->again = true;
        return MHD_YES;
    }
    request_run(x->request);
    x->suspended = true;
    places_work(&guest_of(c)->place);
    x->gone = (struct gone_watch){guest_of(c)->fd, strcmp(version, MHD_HTTP_VERSION_1_1) ? NULL : GO_ON, client_left, x};
    gone_start(h->gone, &x->gone);
    MHD_suspend_connection(c);
    return MHD_YES;
}

static void on_completed(void *owner, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code)
{
    struct exchange *x = *state;
    (void)owner, (void)code;
    if (!x)
        return;
    gone_stop(x->http->gone, &x->gone);
    places_wait(&guest_of(c)->place, PLACE_ASKS);
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    request_free(x->request);
    free(x);
    *state = NULL;
}

/* ---- life */

/* Runs libmicrohttpd: when its descriptor is ready, and after the time it asks for (0 if it has read data that it has not
 * looked at). */
static void on_events(void *owner, int events)
{
    struct http *h = owner;
    MHD_UNSIGNED_LONG_LONG ms = 0;
    (void)events;
    do {
        h->again = false;
        MHD_run(h->daemon);
    } while (h->again);
    run_after(h, MHD_get_timeout(h->daemon, &ms) == MHD_YES ? ms : 1000 * SERVE_IDLE_S);
}

static void on_time(void *owner, int events)
{
    struct http *h = owner;
    uint64_t ticks;
    if (read(h->timer, &ticks, sizeof ticks) > 0)
        on_events(h, events);
}

struct http *http_open(struct server *s, int listener)
{
    struct zpipe_error e = {0};
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        cli_say(0, "out of memory");
        return NULL;
    }
    h->server = s;
    h->listener = listener;
    places_init(&h->places, SERVE_REQUESTS_MAX);
    h->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    h->gone = gone_open(s);
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
                                 MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SERVE_IDLE_S,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->places.max + ON_THEIR_WAY, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED,
                                 on_completed, h, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info && h->timer >= 0 && h->gone &&
        (h->events = zpipe_watch(server_zpipe(s), info->epoll_fd, ZPIPE_READABLE, on_events, h, &e)) &&
        (h->times = zpipe_watch(server_zpipe(s), h->timer, ZPIPE_READABLE, on_time, h, &e)))
        return h;
    cli_say(0, "cannot start an HTTP server: %s", e.code ? e.text : strerror(errno));
    http_close(h);
    return NULL;
}

void http_tick(struct http *h)
{
    if (!h)
        return;
    run_after(h, 0);
}

uint32_t http_rest(struct http *h)
{
    uint32_t count = 0;
    if (!h)
        return 0;
    if (h->listener >= 0 && MHD_quiesce_daemon(h->daemon) != MHD_INVALID_SOCKET)
        close(h->listener);
    h->listener = -1;
    for (const struct exchange *x = h->first; x; x = x->next)
        count += x->request->ready;
    return count;
}

void http_close(struct http *h)
{
    if (!h)
        return;
    zpipe_unwatch(h->events);
    zpipe_unwatch(h->times);
    for (struct exchange *x = h->first; x; x = x->next)
        if (x->suspended)
            MHD_resume_connection(x->connection);
    if (h->daemon)
        MHD_stop_daemon(h->daemon); /* completes all requests */
    gone_close(h->gone);
    if (h->timer >= 0)
        close(h->timer);
    free(h);
}
