/* The inside of zpipe-serve: each request is a job of its own, and so runs in a sandbox of its own.
 *
 * What arrives on a connection is kept, and the job is started when the whole request is there.  What the job writes is
 * kept too, and is sent when the job is over.  So a client that stalls holds a descriptor but no sandbox, and nothing is
 * sent of a job that failed.
 *
 *   serve.c    options, the loop, requests
 *   body.c     keeps bytes of requests and answers
 *   places.c   who gives way when there are too many connections
 *   gone.c     notices clients that leave before the answer
 *   http.c     requests by POST, with libmicrohttpd
 *   plain.c    requests as plain bytes until the client's end, then the answer */
#pragma once
#include "cli/cli.h"
#include "cli/serve/body.h"
#include "cli/serve/places.h"

#include <sys/types.h>

#define SERVE_REQUESTS_MAX  1024          /* connections of each of the two kinds, at once */
#define SERVE_JOBS_MAX      256           /* jobs at once; more requests wait for their turn */
#define SERVE_BODY_MAX      (64u << 20)   /* bytes of a request; --body-max */
#define SERVE_ANSWER_MAX    (256u << 20)  /* bytes of an answer, unless --with output= says otherwise */
#define SERVE_TIMEOUT       "timeout=30s" /* for a job, unless --with says otherwise */
#define SERVE_IDLE_S        30            /* a connection that sends nothing, or takes nothing, for so long is closed */

struct server;

struct request {
    struct request *next, **link; /* the server's list of requests that wait or run; link NULL: not in it */
    struct server *server;
    void (*done)(struct request *r); /* the job is over; status and error are set */
    void *owner;
    struct body in, out;
    int stdin_fd, feed;          /* the pipe that brings the body to the job; -1: not open */
    off_t fed;
    struct zpipe_watch *feeding; /* NULL: nothing waits for room in the pipe */
    int stdout_fd, drain;        /* the pipe that takes the job's output; -1: not open */
    struct zpipe_watch *draining;
    struct zpipe_job *job; /* NULL: not submitted yet, or over */
    bool ready, over, certified;
    int status;
    struct zpipe_error error; /* code 0: the program ended by itself */
};

/* NULL: there is no memory. */
struct request *request_new(struct server *s, void (*done)(struct request *r), void *owner);
/* Adds bytes to the body.  -1: it is too large (errno EFBIG), or the disk has no room. */
int request_add(struct request *r, const void *data, size_t size_bytes);
void request_run(struct request *r);  /* the body is complete: `done` will be called from the loop */
void request_cancel(struct request *r); /* the answer is not wanted any more; `done` is called soon */
void request_free(struct request *r); /* cancels a running job */

struct zpipe *server_zpipe(struct server *s);
uint64_t server_body_max(const struct server *s);

bool server_ends(const struct server *s); /* true: no more requests are accepted, those that run are answered */

/* HTTP and plain clients.  `address`: HOST:PORT, [HOST]:PORT; for plain also unix:PATH after its scheme.  open: NULL after
 * saying why.  tick: called each second.  rest: accepts no more; returns how many are still to be answered.  close: cancels
 * what runs. */
struct http;
struct http *http_open(struct server *s, int listener);
void http_tick(struct http *h);
uint32_t http_rest(struct http *h);
void http_close(struct http *h);
struct plain;
struct plain *plain_open(struct server *s, int listener);
void plain_tick(struct plain *p);
uint32_t plain_rest(struct plain *p);
void plain_close(struct plain *p);
