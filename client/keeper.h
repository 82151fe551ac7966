/* A keeper: the client of submitted jobs.  It serves those who submit them and fetch their output.
 *
 *   keeper.c         the daemon: its connection, its journal, its limits
 *   keeper_job.c     a submitted job's life: accepted, running, over, taken, discarded
 *   keeper_files.c   its files
 *   keeper_list.c    which jobs there are, and which is started next
 *   keeper_in.c      receives a job that is being submitted
 *   keeper_visits.c  visitors at the data port, and the streams to them
 *
 * DIRECTORY/journal is the database (store/journal.h).  DIRECTORY/jobs/NUMBER holds a job's files:
 *   in/N      the graph's file N, if its bytes came with the job;  stdin
 *   out       what it printed;  was: what it had printed in an earlier life of the keeper, to compare
 *   err       its stderr
 *   files/    its output files: empty until the job is over
 *   records/  its tasks that failed, as in proto/record.h
 * A directory without a row in the journal was never completely received, and is removed. */
#pragma once
#include "client/client.h"
#include "base/list.h"
#include "proto/kept.h"
#include "proto/made.h"
#include "store/journal.h"

#define KEEPER_JOBS_MAX    20000
#define KEEPER_JOBS_PER_KEY_MAX 5000 /* of one key; includes jobs that are over until they are forgotten */
#define KEEPER_RUNNING_MAX 100  /* the others wait their turn */
#define KEEPER_FILES_MIN   256  /* with fewer open files a keeper does not start */
#define KEEPER_OWNERS      256
#define KEEPER_VISITS_MAX  1000
#define KEEPER_VISIT_NS    ((uint64_t)60 * 1000000000) /* a visitor must connect within this time */
#define KEEPER_OVER_MAX    1000                        /* jobs that are over and kept; above this the owner with the most loses one */
#define KEEPER_OVER_MS     ((uint64_t)7 * 24 * 3600 * 1000) /* and for how long they are kept */
#define KEEPER_FORGET_MAX  100                         /* jobs that are forgotten in one second, each of which is written to the journal */
#define KEEPER_AWAY_MS     ((uint64_t)24 * 3600 * 1000)     /* how much of the time between two lives of a keeper counts at most */

/* The owner of jobs, known by its key.  Owners take turns. */
struct keeper_owner {
    struct list at; /* in keeper.owners */
    uint32_t jobs, running, over; /* over: as keeper_list_spare counts them */
    uint64_t held_bytes;          /* its jobs' bytes on disk */
    size_t key_size;
    uint8_t key[MSG_KEY_BYTES];
};

struct keeper_job {
    struct keeper *k;
    struct keeper_owner *owner;
    struct journal_job row;  /* texts and slices owned */
    char *text, *directory;  /* owned: of the record */
    char *path;              /* owned: DIRECTORY/jobs/NUMBER */
    struct zpipe_job *job;   /* NULL: it is not running */
    bool again;              /* an earlier life of the keeper may have begun it */
    bool ended;              /* its last event came; the loop frees it */
    bool unwritten;          /* how it ended is in `row`, but there is no room for that in the journal yet */
    int in, out, was, err;   /* -1: not open */
    uint64_t out_bytes, was_bytes, held_bytes; /* held: bytes on disk, in all */
    struct visitor *taker;   /* who gets the output now */
    struct visitor *next_taker; /* who waits until `taker` has left */
};

struct visitor {
    struct list at;
    struct keeper *k;
    struct keeper_job *job; /* NULL: the visitor submits a job */
    uint64_t number;        /* the job's */
    uint32_t what;          /* enum msg_ask_what */
    uint64_t asked_by, request; /* from VISIT, for the answer VISITED */
    uint8_t key[MSG_KEY_BYTES], token[MSG_TOKEN_BYTES];
    size_t key_size;
    uint64_t link;          /* set once the visitor has connected */
    bool here;
    uint64_t until_ns;      /* if it has not connected by then it is forgotten */
    bool gone;              /* the loop frees it */
    /* TAKE, LOGS, RECORDS */
    struct stream_sender *out, *files;
    bool begun, told, listed, out_ended, files_ended, cut;
    uint64_t sent_bytes;    /* of what the job printed */
    struct buf index;       /* the list of the files */
    uint64_t index_sent, file_sent, log_bytes;
    uint32_t file, file_count;
    int fd;                 /* the file that is being sent, or the log */
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
    uint64_t room_bytes, held_bytes; /* what all jobs may hold on disk, and what they do hold */
    uint64_t booted_ms;      /* when the machine was started, by the keeper's own clock */
    struct keeper_job **job; /* sorted by number; job_count of them, room for KEEPER_JOBS_MAX */
    struct list owners[KEEPER_OWNERS], visitors; /* owners: by a byte of the key */
    uint32_t job_count, running, ended_count, visitor_count, visitors_gone;
    uint32_t running_max;    /* fewer than KEEPER_RUNNING_MAX when there were no descriptors for more */
    bool start_wanted;       /* a job came or ended, so another may start */
    struct loop_timer tick;
    struct loop_hook reaper;
    bool closing;            /* the keeper is stopping: jobs cancelled now are not over and go on later */
    bool failed;
    struct err why;
    void (*ready)(const char *url); /* called once, when the scheduler has accepted the keeper; may be NULL */
};

/* keeper.c */
void keeper_fail(struct keeper *k, const struct err *why); /* ends the keeper: nothing more can be recorded */
/* A change could not be written to the journal.  If the disk is full nothing happens, because it can be tried again; otherwise the
 * keeper ends. */
void keeper_unwritten(struct keeper *k, const struct err *why);
/* `sent` is what sending a message returned.  If there was no memory for the message, somebody would wait for it for ever:
 * then the keeper ends. */
void keeper_sent(struct keeper *k, int sent, const struct err *e);
/* Since 1970, roughly.  Setting the host's clock does not change it. */
uint64_t keeper_now_ms(const struct keeper *k);
void keeper_clock_start(struct keeper *k); /* call it when the jobs are read from the journal */
/* Is there room for `more` bytes of a key whose jobs hold so many already?  -1: no. */
int keeper_room(const struct keeper *k, uint64_t held_bytes, uint64_t more, struct err *e);
/* `what` could not be written to the keeper's directory (errno is set): fills e with that and what to do. */
int keeper_write_failed(const struct keeper *k, const char *what, struct err *e);

/* keeper_list.c */
int keeper_list_add(struct keeper_job *j, struct slice owner, struct err *e); /* -1: failed, it is in no list */
void keeper_list_remove(struct keeper_job *j);
int keeper_list_room(const struct keeper *k, struct slice owner, struct err *e); /* -1: this key has as many jobs as it may */
uint64_t keeper_list_held(const struct keeper *k, struct slice owner); /* bytes that this key's jobs hold */
struct keeper_job *keeper_job_of(struct keeper *k, uint64_t number); /* NULL: there is none */
struct keeper_job *keeper_list_next(const struct keeper *k); /* the job to start next; NULL: none waits */
struct keeper_job *keeper_list_spare(struct keeper *k, uint64_t now_ms); /* the job to forget now; NULL: none */

/* keeper_job.c */
struct keeper_job *keeper_job_new(struct keeper *k, const struct journal_job *row, struct err *e);
void keeper_job_tell(struct keeper_job *j); /* sends HELD: the job's state */
void keeper_jobs_start(struct keeper *k);   /* starts waiting jobs, up to the limit */
void keeper_jobs_tick(struct keeper *k);
void keeper_job_reap(struct keeper *k);
bool keeper_job_reapable(const struct keeper *k);
/* Ends the job, or forgets it if it is over. */
int keeper_job_cancel(struct keeper_job *j, struct err *e);
int keeper_job_taken(struct keeper_job *j, struct err *e); /* fields of `row` from taken_bytes to everything changed: writes them to the journal */
void keeper_job_free(struct keeper_job *j);
/* How many bytes of its output may be given away.  If it differs from what was given before, only the part before the
 * difference. */
uint64_t keeper_job_printed(const struct keeper_job *j);

/* keeper_files.c */
/* The path of one of a job's files; name NULL: the job's directory. */
char *keeper_path(const struct keeper *k, uint64_t number, const char *name, struct err *e);
int keeper_remove_tree(const char *path);
int keeper_jobs_clean(struct keeper *k, struct err *e); /* removes directories that the journal does not know */
void keeper_job_weigh(struct keeper_job *j); /* counts again how many bytes the job's files hold */
bool keeper_job_has(const struct keeper_job *j, const char *part);
int keeper_job_open(struct keeper_job *j, const char *part, int flags, struct err *e);
void keeper_job_remove(struct keeper_job *j, const char *part);
/* Sets the paths of the graph's files to where they are here, and checks them. */
int keeper_job_place(struct keeper_job *j, struct graph *g, const struct kept_job *k, struct err *e);
/* Lists the files below one of the job's directories; the list is in the arena. */
int keeper_job_files(struct keeper_job *j, const char *part, struct arena *a, const struct made_file **list, uint32_t *count, struct err *e);
/* Counts the bytes that the job left: what it printed, and its output files. */
int keeper_job_left(struct keeper_job *j, uint64_t *bytes, struct err *e);
int keeper_job_check(struct keeper_job *j, struct err *e); /* is the output that is to be taken there?  -1: no */
int keeper_job_open_out(struct keeper_job *j, struct err *e);

/* keeper_visits.c */
void keeper_visit(struct keeper *k, const struct msg_visit *m);
void keeper_visits_more(struct keeper_job *j); /* the job has printed more, or is over */
void keeper_visits_tick(struct keeper *k);
void keeper_visits_leave(struct keeper_job *j); /* the job is being discarded */
bool keeper_visits_reapable(const struct keeper *k);
void keeper_visits_reap(struct keeper *k);
void keeper_visits_close(struct keeper *k);
extern const struct peer_events keeper_data_events;
