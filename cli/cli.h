/* The command's inside.  It includes zpipe.h and nothing else of ours. */
#pragma once
#include "zpipe.h"

#include <sys/types.h>

#define CONF_LINES_MAX 4096 /* in all configuration files together */

/* Subcommands, as bits: the table of options names several of them at once. */
enum {
    CLI_RUN = 1,
    CLI_PLAN = 2,
    CLI_CLASSIFY = 4,
    CLI_SERVE = 8,
    CLI_SUBMIT = 16,
    CLI_ASK = 32, /* attach, logs, status, cancel, drain: about jobs of a cluster */
    CLI_REPLAY = 64,
    CLI_KEYGEN = 128,
    CLI_SCHEDULER = 256,
    CLI_WORKER = 512,
    CLI_KEEPER = 1024
};

/* A parsed command line: the options' values, and the words that belong to no option. */
struct cli {
    unsigned command;   /* one of the bits above */
    const char *called; /* the subcommand's name, for messages */
    bool keyed;         /* --keys was given */
    const char *here;   /* a given option that has no meaning on a cluster, for the message; NULL: none */
    struct zpipe_options open;
    struct zpipe_submission submission;
    const char **parameter, **env, **with, **each, **commands; /* owned lists that `submission` points to */
    char *own_commands; /* ~/.config/zpipe/commands.conf */
    char *conf[2];      /* owned texts of configuration files: option values point into them */
    size_t conf_count;
    const char *config; /* --config */
    bool check;         /* -n: only check the configuration, say whether it is right, and exit */
    const char **word; /* owned list: the pipeline, or a subcommand's operands */
    size_t word_count;
    bool quiet, progress, json;
    /* zpipe serve */
    const char *http;
    bool allow_remote;
    uint64_t body_max; /* bytes; 0: the default */
    const char *joblog; /* --joblog; NULL: none */
    const char *record; /* --record: a directory, or "no"; NULL: the default directory */
    int verbose;
    /* zpipe scheduler, worker, keygen */
    const char *shared;   /* zpipe keeper, worker */
    uint64_t memory;      /* zpipe worker, bytes; 0: the default */
    uint64_t store_max;   /* zpipe keeper, bytes; 0: the default */
    uint32_t worker_wait_s, client_wait_s; /* zpipe scheduler */
    const char *listen, *state, *directory, *name, *data_listen, *advertise, *scheduler, *image;
};

/* Options may stand before and after the words, until `--`; an option that has no effect in this command is refused.  In a
 * command that takes a pipeline, NAME=VALUE after the pipeline is a parameter.  Returns -1 after printing what is wrong. */
int cli_parse(struct cli *c, int argc, char **argv, const char *called, unsigned command);
void cli_clear(struct cli *c);
/* Set one option by its long name without dashes, as in a configuration file; keeps a pointer to `value`.  Returns -1 after
 * saying why. */
int cli_set(struct cli *c, const char *name, const char *value);
/* Apply all lines of a configuration file. */
int conf_read(struct cli *c, const char *path);

/* Print "zpipe: TEXT" on stderr, with control characters replaced; returns `status`. */
int cli_fail(int status, const struct zpipe_error *e);
int cli_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A descriptor to write a job's output to, which reaches `fd`.  When `fd` is a terminal, a child process in between
 * replaces control characters.  Returns -1 after saying why. */
int plain_begin(int fd, pid_t *child);
void plain_end(int fd, pid_t child);
/* The last call of main: returns `status`, but ZPIPE_STATUS_FAILED with a message if that is 0 and stdout did not take all
 * that was printed. */
int cli_end(int status);

/* Each carries out a subcommand and returns its exit status. */
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

/* Shared by several subcommands.  They return NULL or -1 after saying why. */
char *cli_read_file(const char *name); /* reads a job file; gives its text */
/* Read all of `fd`, a text without NULs; gives.  Takes `fd`; -1 means that it could not be opened, with the reason in
 * errno.  Messages begin with "the WHAT 'NAME'". */
char *cli_read(int fd, const char *what, const char *name, size_t bytes_max);
/* If the caller closed one of the descriptors 0 to 2, keep our own files from taking its number: io gets -1, and printing
 * to it fails. */
void cli_hold_descriptors(struct zpipe_io *io);
/* From now on SIGINT, SIGTERM and SIGHUP are only noted (unless the caller ignores them); they wake the loop. */
void cli_catch_signals(void);
int cli_signal(void); /* the last signal that was noted; 0: none */
int cli_die(int signo); /* end by this signal, so that the parent sees that it was one */
int cli_become(const char *program, char **argv); /* exec a program that is installed beside zpipe-box; returns only on failure */
struct zpipe *cli_open_cluster(struct cli *c, const char *command);
int cli_job_number(const char *word, uint64_t *out);

/* The progress line: see progress.c. */
struct progress;
struct progress *progress_new(bool wanted, bool quiet);
void progress_event(struct progress *p, const struct zpipe_event *event);
void progress_tick(struct progress *p);
void progress_free(struct progress *p); /* wipes the line */

/* The log of tasks: see joblog.c.  joblog_open returns NULL after saying why; the other functions do nothing for NULL. */
struct joblog;
struct joblog *joblog_open(const char *name);
void joblog_event(struct joblog *l, const struct zpipe_event *event);
int joblog_close(struct joblog *l); /* -1 after saying why the log is incomplete */
