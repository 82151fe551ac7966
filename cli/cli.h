/* The command's inside.  It includes zpipe.h and nothing else of ours. */
#pragma once
#include "zpipe.h"

#include <sys/types.h>

#define CONF_LINES_MAX 4096 /* of all configuration files */

/* Which command it is. */
enum { CLI_RUN = 1, CLI_PLAN = 2, CLI_CLASSIFY = 4, CLI_SERVE = 8, CLI_SUBMIT = 16, CLI_ASK = 32 /* about jobs of a cluster */, CLI_REPLAY = 64,
       CLI_KEYGEN = 128, CLI_SCHEDULER = 256, CLI_WORKER = 512, CLI_KEEPER = 1024 };

/* What the options say; words are what was left over. */
struct cli {
    unsigned command;   /* one of those */
    const char *called; /* how it is called */
    bool keyed;         /* --keys was given */
    const char *here;   /* an option that was given and means nothing to a cluster; NULL: none */
    struct zpipe_options open;
    struct zpipe_submission submission;
    const char **parameter, **env, **with, **each, **commands; /* owned lists, behind submission's */
    char *own_commands; /* ~/.config/zpipe/commands.conf */
    char *conf[2];      /* owned: texts of configuration files, whose values are used */
    size_t conf_count;
    const char *config; /* --config */
    bool check;         /* -n: say whether the configuration is right, and end */
    const char **word; /* owned list: the pipeline, or a subcommand's operands */
    size_t word_count;
    bool quiet, progress, json;
    /* zpipe serve */
    const char *http;
    bool allow_remote;
    uint64_t body_max; /* bytes; 0: the default */
    const char *joblog; /* --joblog; NULL: none */
    const char *record; /* --record: a directory, or "no"; NULL: the usual one */
    int verbose;
    /* zpipe scheduler, worker, keygen */
    const char *shared;   /* zpipe keeper, worker */
    uint64_t memory;      /* of a worker, bytes; 0: the default */
    uint64_t store_max;   /* bytes; 0: the default */
    uint32_t worker_wait_s, client_wait_s; /* zpipe scheduler */
    const char *listen, *state, *directory, *name, *data_listen, *advertise, *scheduler, *image;
};

/* Options may stand before and after the words, until `--`; one that has no effect in this command is refused.  In a command that
 * has a text a NAME=VALUE behind it is a parameter.  -1 after printing what is wrong. */
int cli_parse(struct cli *c, int argc, char **argv, const char *called, unsigned command);
void cli_clear(struct cli *c);
/* One option by its long name without the dashes, as a configuration file has it; value is kept.  -1 after saying why. */
int cli_set(struct cli *c, const char *name, const char *value);
/* All lines of a configuration file. */
int conf_read(struct cli *c, const char *path);

/* "zpipe: TEXT" on stderr, without controls; gives the status back. */
int cli_fail(int status, const struct zpipe_error *e);
int cli_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A descriptor for what jobs say, which goes to fd: on a terminal without controls, through a process of ours.  -1 after saying why. */
int plain_begin(int fd, pid_t *child);
void plain_end(int fd, pid_t child);
/* At the end of all: `status`, or, if that is 0 and stdout did not take what was printed, ZPIPE_STATUS_FAILED after saying so. */
int cli_end(int status);

/* Each is a subcommand: its exit status. */
int cmd_pipeline(struct cli *c);
int cmd_run(struct cli *c);
int cmd_plan(struct cli *c);
int cmd_classify(struct cli *c);
int cmd_keygen(struct cli *c);
int cmd_scheduler(struct cli *c);
int cmd_worker(struct cli *c);
int cmd_status(struct cli *c);
int cmd_cancel(struct cli *c);
int cmd_drain(struct cli *c);
int cmd_submit(struct cli *c);
int cmd_attach(struct cli *c);
int cmd_logs(struct cli *c);
int cmd_replay(struct cli *c);

/* For several of them.  NULL, -1: after saying why. */
char *cli_read_file(const char *name); /* a job file's text; gives */
/* All of `fd`, which it takes (-1: it could not be opened, and errno says why): a text without NULs; gives.  "the WHAT 'NAME' ..." is said. */
char *cli_read(int fd, const char *what, const char *name, size_t bytes_max);
/* Descriptors 0 to 2 that the caller closed must not be taken by our own files: -1 in io, and what is printed there fails. */
void cli_hold_descriptors(struct zpipe_io *io);
/* From now on signals that ask for the end are noted, but for those that the caller ignores; they wake the loop. */
void cli_catch_signals(void);
int cli_signal(void); /* 0, or the last one */
int cli_die(int signo); /* end by it, as the parent will want to know it */
int cli_become(const char *program, char **argv); /* one of those beside zpipe-box; returns only if it cannot */
struct zpipe *cli_open_cluster(struct cli *c, const char *command);
int cli_job_number(const char *word, uint64_t *out);

/* The progress line: see progress.c. */
struct progress;
struct progress *progress_new(bool wanted, bool quiet);
void progress_event(struct progress *p, const struct zpipe_event *event);
void progress_tick(struct progress *p);
void progress_free(struct progress *p); /* wipes the line */

/* The log of tasks: see joblog.c.  open: NULL after saying why; the others take NULL for none. */
struct joblog;
struct joblog *joblog_open(const char *name);
void joblog_event(struct joblog *l, const struct zpipe_event *event);
int joblog_close(struct joblog *l); /* -1 after saying why it is not whole */
