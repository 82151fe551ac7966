/* zpipe-serve's inside: each request is a job, and so a sandbox, of its own.
 *
 * What comes on a connection is kept, and the job runs when all of it is there; what the job writes is kept, too,
 * and is sent when the job is over.  So a client that stalls holds a
 * descriptor and no sandbox, and nothing is sent of a job that failed.
 *
 *   serve.c    options, the loop, requests
 *   body.c     what is kept
 *   places.c who gives way when there are too many
 *   gone.c   who has left before the answer
 *   http.c     POST, by libmicrohttpd
 *   plain.c    bytes in until the client's end, bytes out */
#pragma once
#include "cli/cli.h"
#include "cli/serve/body.h"
#include "cli/serve/places.h"

#include <sys/types.h>

#define SERVE_REQUESTS_MAX  1024          /* connections of each of the two kinds, at once */
#define SERVE_JOBS_MAX      256           /* at once; more requests wait for their turn */
#define SERVE_BODY_MAX      (64u << 20)   /* bytes of a request; --body-max */
#define SERVE_ANSWER_MAX    (256u << 20)  /* bytes of an answer, unless --with output= says otherwise */
#define SERVE_TIMEOUT       "timeout=30s" /* of a job, in the same way */
#define SERVE_IDLE_S        30            /* a connection that says nothing, or takes nothing, so long is closed */

struct server;

struct request {
    struct request *next, **link; /* the server's list of those that wait or run; not in it: link NULL */
    struct server *server;
    void (*done)(struct request *r); /* the job is over; status and error are there */
    void *owner;
    struct body in, out;
    int stdin_fd, feed;          /* the pipe that takes the body to the job; -1: not yet, or no more */
    off_t fed;
    struct zpipe_watch *feeding; /* NULL: nothing waits for room */
    int stdout_fd, drain;        /* the pipe that takes what it writes; -1 likewise */
    struct zpipe_watch *draining;
    struct zpipe_job *job; /* NULL: not submitted yet, or over */
    bool ready, over, certified;
    int status;
    struct zpipe_error error; /* code 0: the program ended by itself */
};

/* NULL: there is no room. */
struct request *request_new(struct server *s, void (*done)(struct request *r), void *owner);
/* More of its body.  -1: it is too large (errno EFBIG), or the disk has no room. */
int request_add(struct request *r, const void *data, size_t size_bytes);
void request_run(struct request *r);  /* that was all: `done` will be called, from the loop */
void request_cancel(struct request *r); /* nobody wants it any more; `done` is called soon */
void request_free(struct request *r); /* a job that runs is cancelled */

struct zpipe *server_zpipe(struct server *s);
uint64_t server_body_max(const struct server *s);

bool server_ends(const struct server *s); /* no more requests are taken; those that run are answered */

/* The two ways in.  `address`: HOST:PORT, [HOST]:PORT; for plain also unix:PATH after its scheme.  open: NULL after
 * saying why.  tick: each second.  rest: no more of
 * them; how many are still to be answered.  close: what runs is cancelled. */
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
