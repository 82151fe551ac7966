/* The command's inside.  It includes zpipe.h and nothing else of ours. */
#pragma once
#include "zpipe.h"

#define CLI_WORDS_MAX  100000
#define CONF_LINES_MAX 4096 /* of all configuration files */

/* What the options say; words are what was left over. */
struct cli {
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
    const char *shared;   /* zpipe keeper */
    uint64_t store_max;   /* bytes; 0: the default */
    const char *listen, *state, *directory, *name, *data_listen, *advertise, *scheduler;
};

/* Options may stand before and after the words, until `--`.  parameters: a NAME=VALUE behind the first word is one, and no
 * word.  -1 after printing what is wrong. */
int cli_parse(struct cli *c, int argc, char **argv, bool parameters);
void cli_clear(struct cli *c);
/* One option by its long name without the dashes, as a configuration file has it; value is kept.  -1 after saying why. */
int cli_set(struct cli *c, const char *name, const char *value);
/* All lines of a configuration file. */
int conf_read(struct cli *c, const char *path);

/* "zpipe: TEXT" on stderr; gives the status back. */
int cli_fail(int status, const struct zpipe_error *e);
int cli_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each is a subcommand: its exit status. */
int cmd_pipeline(struct cli *c);
int cmd_run(struct cli *c);
int cmd_plan(struct cli *c);
int cmd_classify(struct cli *c);
int cmd_box(int argc, char **argv);
int cmd_serve(int argc, char **argv);
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
int cmd_keeper(int argc, char **argv);

/* For several of them.  NULL, -1: after saying why. */
char *cli_read_file(const char *name); /* a job file's text; gives */
/* Descriptors 0 to 2 that the caller closed must not be taken by our own files. */
void cli_hold_descriptors(struct zpipe_io *io);
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
