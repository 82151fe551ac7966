/* A keeper: the client of submitted jobs, and the host of those who submit them and come for their output.
 *
 *   keeper.c         the daemon: its connection, its journal, its limits
 *   keeper_job.c     a submitted job's life: taken in, run, over, taken, discarded
 *   keeper_list.c    which there are, and whose turn is next
 *   keeper_in.c      a job that is brought
 *   keeper_visits.c  who comes to the data port, and the streams with them
 *
 * DIRECTORY/journal is the database (store/journal.h).  DIRECTORY/jobs/NUMBER holds a job's files:
 *   in/N      the graph's file N, as it was carried;  stdin
 *   out       what it printed;  was: what it had printed in an earlier life of the keeper, to compare
 *   err       its stderr
 *   files/    its output files: empty until it is over
 *   records/  its tasks that failed, as proto/record.h has them
 * A directory without a row in the journal was never wholly taken in, and is removed. */
#pragma once
#include "client/client.h"
#include "base/list.h"
#include "proto/kept.h"
#include "proto/made.h"
#include "store/journal.h"

#define KEEPER_JOBS_MAX    20000
#define KEEPER_JOBS_PER_KEY_MAX 5000 /* of one key, those that are over and not forgotten, too */
#define KEEPER_RUNNING_MAX 100  /* the others wait their turn */
#define KEEPER_OWNERS      256
#define KEEPER_VISITS_MAX  1000
#define KEEPER_VISIT_NS    ((uint64_t)60 * 1000000000) /* to come after being let in */
#define KEEPER_OVER_MAX    1000                        /* jobs that are over and kept: the oldest goes */
#define KEEPER_OVER_MS     ((uint64_t)7 * 24 * 3600 * 1000) /* and so long */

/* Whose jobs they are: those of one key take turns with those of others. */
struct keeper_owner {
    struct list at; /* in keeper.owners */
    uint32_t jobs, running;
    size_t key_size;
    uint8_t key[MSG_KEY_BYTES];
};

struct keeper_job {
    struct keeper *k;
    struct keeper_owner *owner;
    struct journal_job row;  /* texts and slices owned */
    char *text, *directory;  /* owned: of the record */
    char *path;              /* owned: DIRECTORY/jobs/NUMBER */
    struct zpipe_job *job;   /* while it runs */
    bool again;              /* an earlier life of the keeper may have begun it */
    bool ended;              /* its last event came: to be freed, from the loop */
    int in, out, was, err;   /* -1: not open */
    uint64_t out_bytes, was_bytes, held_bytes; /* held: of the disk, in all */
    struct visitor *taker;   /* who gets the output now */
    struct visitor *next_taker; /* and who waits until that one has left */
};

struct visitor {
    struct list at;
    struct keeper *k;
    struct keeper_job *job; /* NULL: it brings one */
    uint64_t number;        /* the job's */
    uint32_t what;          /* enum msg_ask_what */
    uint64_t asked_by, request; /* of VISIT, for VISITED */
    uint8_t key[MSG_KEY_BYTES], token[MSG_TOKEN_BYTES];
    size_t key_size;
    uint64_t link;          /* once it came */
    bool here;
    uint64_t until_ns;      /* or it is forgotten */
    bool gone;              /* to be freed, from the loop */
    /* TAKE, LOGS, RECORDS */
    struct stream_sender *out, *files;
    bool begun, told, listed, out_ended, files_ended, cut;
    uint64_t sent_bytes;    /* of what was printed */
    struct buf index;       /* of the files */
    uint64_t index_sent, file_sent, log_bytes;
    uint32_t file, file_count;
    int fd;                 /* of that file; or of the log */
    struct arena arena;
    const struct made_file *list;
    /* KEEP */
    struct deposit_in *in;
};

struct keeper {
    struct zpipe *z;
    struct client_keeper as;
    struct peer *data;
    struct journal *journal;
    char *directory, *advertise, *listen, *shared;
    int lock;
    uint64_t room_bytes, held_bytes; /* what all jobs may hold, and do */
    struct keeper_job **job; /* by number; job_count of them, room for KEEPER_JOBS_MAX */
    struct list owners[KEEPER_OWNERS], visitors; /* the former by a byte of the key */
    uint32_t job_count, running, ended_count, visitor_count, visitors_gone;
    bool start_wanted;       /* a job came, or ended */
    struct loop_timer tick;
    struct loop_hook reaper;
    bool closing;            /* jobs that are cancelled now are not over: they go on later */
    bool failed;
    struct err why;
    void (*ready)(const char *url); /* to be told once, when the scheduler knows of us; NULL: nobody is */
};

/* keeper.c */
void keeper_fail(struct keeper *k, const struct err *why); /* it ends: nothing more can be noted */
/* One more message was sent, or not.  Of one for which there was no memory somebody would wait for ever: the keeper ends. */
void keeper_sent(struct keeper *k, int sent, const struct err *e);
uint64_t keeper_now_ms(void);                              /* since 1970; who sets the clock later changes nothing */
/* `more` bytes are to be held; -1: there is no room. */
int keeper_room(struct keeper *k, uint64_t more, struct err *e);
/* `what` could not be written to its directory, with errno: says so, and what to do. */
int keeper_write_failed(const struct keeper *k, const char *what, struct err *e);

/* keeper_list.c */
int keeper_list_add(struct keeper_job *j, struct slice owner, struct err *e); /* -1: it is in no list */
void keeper_list_remove(struct keeper_job *j);
int keeper_list_room(const struct keeper *k, struct slice owner, struct err *e); /* -1: it has as many as it gets */
struct keeper_job *keeper_job_of(struct keeper *k, uint64_t number); /* NULL: there is none */
struct keeper_job *keeper_list_next(const struct keeper *k); /* to be started; NULL: none waits */

/* keeper_job.c */
struct keeper_job *keeper_job_new(struct keeper *k, const struct journal_job *row, struct err *e);
void keeper_job_tell(struct keeper_job *j); /* HELD */
int keeper_jobs_clean(struct keeper *k, struct err *e); /* directories that the journal does not know */
void keeper_jobs_start(struct keeper *k);   /* those that wait and may */
void keeper_jobs_tick(struct keeper *k);
void keeper_job_reap(struct keeper *k);
bool keeper_job_reapable(const struct keeper *k);
/* Ended, or forgotten if it is over. */
int keeper_job_cancel(struct keeper_job *j, struct err *e);
int keeper_job_open_out(struct keeper_job *j, struct err *e);
/* The files below one of its directories, in the arena. */
int keeper_job_files(struct keeper_job *j, const char *part, struct arena *a, const struct made_file **list, uint32_t *count, struct err *e);
int keeper_job_taken(struct keeper_job *j, struct err *e); /* row.taken_bytes to everything are other ones */
void keeper_job_free(struct keeper_job *j);
/* How much of what it printed may be given away: all but what differs from, or is behind, what was given before. */
uint64_t keeper_job_printed(const struct keeper_job *j);
/* The paths of a job's parts; name NULL: the directory. */
char *keeper_path(const struct keeper *k, uint64_t number, const char *name, struct err *e);
int keeper_remove_tree(const char *path);

/* keeper_visits.c */
void keeper_visit(struct keeper *k, const struct msg_visit *m);
void keeper_visits_more(struct keeper_job *j); /* it has printed more, or is over */
void keeper_visits_tick(struct keeper *k);
void keeper_visits_leave(struct keeper_job *j); /* it is going */
bool keeper_visits_reapable(const struct keeper *k);
void keeper_visits_reap(struct keeper *k);
void keeper_visits_close(struct keeper *k);
extern const struct peer_events keeper_data_events;
