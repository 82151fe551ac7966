/* Options: one table.  `--name VALUE` and `--name=VALUE` are the same; they may stand anywhere before
 * `--`; `:::` ends them too. */
#include "cli.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind {
    FLAG, TEXT, NUMBER, WIDTH, LIST_WITH, LIST_ENV, LIST_COMMANDS, PLACEMENT, ISOLATION, TEMPLATES, SPLIT, PERCENT, SIZE, ROOM, TIME, TASKS,
    VERBOSE, CONFIG, OPTIONS
};

/* The commands in which an option has an effect; in all others it is refused. */
#define OF_JOBS   (CLI_RUN | CLI_PLAN | CLI_SERVE | CLI_SUBMIT) /* take a pipeline or job file */
#define OF_HERE   (CLI_RUN | CLI_PLAN | CLI_SERVE | CLI_CLASSIFY | CLI_REPLAY) /* may run programs in this process */
#define OF_PLACES (OF_JOBS | CLI_CLASSIFY | CLI_REPLAY | CLI_ASK) /* may talk to a cluster */
#define OF_DAEMON (CLI_SCHEDULER | CLI_WORKER | CLI_KEEPER)
#define OF_ALL    (~0u)

#define TIME_MAX_S (24 * 3600)

struct option {
    const char *name;
    enum kind kind;
    void *to;
    unsigned of;
    bool here; /* has a meaning only where programs run: in this process, or in a worker */
};

/* STAGE/BLOCK or STAGE/BLOCK-BLOCK. */
static int tasks(const char *name, const char *value, struct zpipe_submission *s)
{
    int end = 0;
    bool good = sscanf(value, "%9" SCNu32 "/%18" SCNu64 "%n", &s->record_stage, &s->record_first, &end) == 2 && isdigit((unsigned char)*value);
    s->record_last = s->record_first;
    const char *rest = good ? value + end : value;
    if (good && *rest == '-') {
        good = isdigit((unsigned char)rest[1]) && sscanf(rest + 1, "%18" SCNu64 "%n", &s->record_last, &end) == 1;
        rest += good ? 1 + end : 0;
    }
    if (good && !*rest && s->record_stage && s->record_first && s->record_last >= s->record_first && s->record_last - s->record_first < ZPIPE_RECORDED_MAX)
        return 0;
    return cli_say(-1, "%s wants STAGE/BLOCK or STAGE/BLOCK-BLOCK, from 1 on and at most %d of them, not '%s'", name, ZPIPE_RECORDED_MAX, value);
}

static int number(const char *name, const char *value, unsigned long max, uint32_t *out)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (*end || !*value || *value == '-' || n == 0 || n > max)
        return cli_say(-1, "%s wants a number from 1 to %lu, not '%s'", name, max, value);
    *out = (uint32_t)n;
    return 0;
}

/* A number of bytes, optionally with the unit K, M, G or T. */
static bool amount(const char *value, uint64_t max, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    if (*value < '1' || *value > '9')
        return false;
    *bytes = strtoull(value, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (*bytes > max >> shift)
        return false;
    *bytes <<= shift;
    return (!*end || (unit && !end[1]));
}

static int size(const char *name, const char *value, uint64_t *bytes)
{
    return amount(value, 1u << 30, bytes) ? 0 : cli_say(-1, "%s wants a size to 1024M, as in 64K, not '%s'", name, value);
}

/* A time with its unit: 10s, 5m, 1h. */
static int seconds(const char *name, const char *value, uint32_t *out)
{
    static const struct {
        char unit;
        unsigned long s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
    char *end;
    unsigned long n = isdigit((unsigned char)*value) ? strtoul(value, &end, 10) : 0;
    for (size_t i = 0; n && i < sizeof units / sizeof *units; i++)
        if (*end == units[i].unit && !end[1] && n <= TIME_MAX_S / units[i].s) {
            *out = (uint32_t)(n * units[i].s);
            return 0;
        }
    return cli_say(-1, "%s wants a time from 1s to %dh with its unit, as in 10s or 5m, not '%s'", name, TIME_MAX_S / 3600, value);
}

/* auto, never, or always,SIZE. */
static int split(const char *value, uint64_t *bytes)
{
    if (!strcmp(value, "auto") || !strcmp(value, "never")) {
        *bytes = value[0] == 'n' ? ZPIPE_SPLIT_NEVER : 0;
        return 0;
    }
    if (!strncmp(value, "always,", 7) && amount(value + 7, 1u << 30, bytes))
        return 0;
    return cli_say(-1, "--split is auto, never or always,SIZE, as in always,64K, not '%s'", value);
}

/* 0.0001% to 100%, as parts of a million. */
static int percent(const char *name, const char *value, uint32_t *out)
{
    char *end;
    double part = *value >= '0' && *value <= '9' ? strtod(value, &end) : -1;
    if (!(part > 0 && part <= 100) || strcmp(end, "%"))
        return cli_say(-1, "%s wants a share of the tasks from 0.0001%% to 100%%, as in 1%%, not '%s'", name, value);
    *out = (uint32_t)(part * 10000 + 0.5);
    *out += !*out;
    return 0;
}

static int add_env(struct cli *c, const char *value)
{
    const char *whole = value;
    if (!strchr(value, '=')) {
        const char *have = getenv(value);
        char *made = NULL;
        if (!have)
            return cli_say(-1, "--env %s: there is no such variable here; give --env %s=VALUE", value, value);
        if (asprintf(&made, "%s=%s", value, have) < 0)
            return cli_say(-1, "out of memory");
        whole = made; /* lives as long as the process */
    }
    c->env[c->submission.env_count++] = whole;
    return 0;
}

static int apply(struct cli *c, const struct option *o, const char *value)
{
    switch (o->kind) {
    case FLAG:
        *(bool *)o->to = true;
        return 0;
    case VERBOSE:
        zpipe_set_log_level(1 + ++c->verbose);
        return 0;
    case TEXT:
        *(const char **)o->to = value;
        return 0;
    case NUMBER:
        return number(o->name, value, 100000, o->to);
    case WIDTH:
        return number(o->name, value, 1024, o->to);
    case LIST_WITH:
        c->with[c->submission.with_count++] = value;
        return 0;
    case LIST_ENV:
        return add_env(c, value);
    case LIST_COMMANDS:
        c->commands[c->submission.commands_count++] = value;
        return 0;
    case PLACEMENT:
        c->submission.spread = !strcmp(value, "spread");
        return c->submission.spread || !strcmp(value, "pack")
                   ? 0
                   : cli_say(-1, "--placement is pack or spread, not '%s'", value);
    case CONFIG: /* `configure` has read the file already */
    case OPTIONS:
        return 0;
    case SIZE:
        return size(o->name, value, o->to);
    case TIME:
        return seconds(o->name, value, o->to);
    case ROOM:
        return amount(value, (uint64_t)1 << 60, o->to) && strpbrk(value, "KMGT")
                   ? 0
                   : cli_say(-1, "%s wants a size with its unit, as in 64G, not '%s'", o->name, value);
    case TASKS:
        return tasks(o->name, value, &c->submission);
    case PERCENT:
        return percent(o->name, value, o->to);
    case SPLIT:
        return split(value, &c->submission.split_bytes);
    case ISOLATION:
        c->open.no_isolation = !strcmp(value, "none");
        return c->open.no_isolation || !strcmp(value, "full")
                   ? 0
                   : cli_say(-1, "--isolation is full or none, not '%s'", value);
    case TEMPLATES:
        c->open.no_templates = !strcmp(value, "never");
        return c->open.no_templates || !strcmp(value, "auto")
                   ? 0
                   : cli_say(-1, "--templates is auto or never, not '%s'", value);
    }
    return -1;
}

/* Find an option by its name of `size` bytes, dashes included.  Kind OPTIONS: there is no such option. */
static struct option find_option(struct cli *c, const char *name, size_t size)
{
    const struct option options[] = {
        {"--with", LIST_WITH, NULL, OF_JOBS | CLI_CLASSIFY, false},
        {"--env", LIST_ENV, NULL, OF_JOBS | CLI_CLASSIFY, false},
        {"--commands", LIST_COMMANDS, NULL, OF_JOBS | CLI_CLASSIFY, false},
        {"--pipefail", FLAG, &c->submission.pipefail, OF_JOBS, false},
        {"--line-reads", FLAG, &c->submission.line_reads, OF_JOBS, false},
        {"--cluster", TEXT, &c->open.cluster, OF_PLACES, false},
        {"--keys", TEXT, &c->open.keys, OF_PLACES | OF_DAEMON | CLI_KEYGEN, false},
        {"--slots", NUMBER, &c->open.slots, OF_HERE | CLI_WORKER, true},
        {"--store", TEXT, &c->open.store, OF_HERE | CLI_SUBMIT | CLI_WORKER, false},
        {"--quiet", FLAG, &c->quiet, CLI_RUN, false},
        {"-q", FLAG, &c->quiet, CLI_RUN, false},
        {"--progress", FLAG, &c->progress, CLI_RUN, false},
        {"--joblog", TEXT, &c->joblog, CLI_RUN, false},
        {"--record", TEXT, &c->record, CLI_RUN | CLI_REPLAY, false},
        {"--record-tasks", TASKS, NULL, CLI_RUN | CLI_SUBMIT, false},
        {"--placement", PLACEMENT, NULL, OF_JOBS, false},
        {"--isolation", ISOLATION, NULL, OF_HERE | CLI_WORKER, true},
        {"--templates", TEMPLATES, NULL, OF_HERE | CLI_WORKER, true},
        {"-j", WIDTH, &c->submission.width, OF_JOBS, false},
        {"--jobs", WIDTH, &c->submission.width, OF_JOBS, false},
        {"--split", SPLIT, NULL, OF_JOBS, false},
        {"--audit", PERCENT, &c->submission.audit, OF_JOBS, false},
        {"-v", VERBOSE, NULL, OF_ALL, false},
        {"--verbose", VERBOSE, NULL, OF_ALL, false},
        {"--json", FLAG, &c->json, CLI_PLAN, false},
        {"--box", TEXT, &c->open.box, OF_HERE | CLI_WORKER, true},
        {"--dir", TEXT, &c->directory, CLI_KEYGEN, false},
        {"--listen", TEXT, &c->listen, CLI_SERVE | CLI_SCHEDULER, false},
        {"--http", TEXT, &c->http, CLI_SERVE, false},
        {"--allow-remote", FLAG, &c->allow_remote, CLI_SERVE, false},
        {"--body-max", SIZE, &c->body_max, CLI_SERVE, false},
        {"--state", TEXT, &c->state, CLI_SCHEDULER | CLI_KEEPER, false},
        {"--worker-wait", TIME, &c->worker_wait_s, CLI_SCHEDULER, false},
        {"--client-wait", TIME, &c->client_wait_s, CLI_SCHEDULER, false},
        {"--shared", TEXT, &c->shared, CLI_KEEPER | CLI_WORKER, false},
        {"--store-max", ROOM, &c->store_max, CLI_KEEPER, false},
        {"--scheduler", TEXT, &c->scheduler, CLI_WORKER | CLI_KEEPER, false},
        {"--memory", ROOM, &c->memory, CLI_WORKER, false},
        {"--name", TEXT, &c->name, CLI_WORKER, false},
        {"--data-listen", TEXT, &c->data_listen, CLI_WORKER | CLI_KEEPER, false},
        {"--advertise", TEXT, &c->advertise, CLI_WORKER | CLI_KEEPER, false},
        {"--image", TEXT, &c->image, CLI_WORKER, false},
        {"--config", CONFIG, NULL, OF_ALL, false},
        {"-n", FLAG, &c->check, OF_DAEMON, false},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strlen(options[i].name) == size && strncmp(options[i].name, name, size) == 0)
            return options[i];
    return (struct option){.kind = OPTIONS};
}

/* Returns how many words the option took, or -1 after saying what is wrong. */
static int take_option(struct cli *c, int left, char **argv)
{
    size_t size = strcspn(argv[0], "=");
    struct option o = find_option(c, argv[0], size);
    bool alone = o.kind == FLAG || o.kind == VERBOSE;
    if (o.kind == OPTIONS && argv[0][0] == '-' && argv[0][1] != '-' && size > 2) { /* -j4 is -j 4 */
        o = find_option(c, argv[0], 2);
        if (o.kind == WIDTH && (o.of & c->command))
            return apply(c, &o, argv[0] + 2) < 0 ? -1 : 1;
        o.kind = o.kind == WIDTH ? WIDTH : OPTIONS;
    }
    if (o.kind == OPTIONS)
        return cli_say(-1, "there is no option %s; `zpipe --help` lists them", argv[0]);
    if (!(o.of & c->command))
        return cli_say(-1, "%s is no option of `zpipe %s`: it would have no effect there", o.name, c->called);
    if (o.here)
        c->here = o.name;
    c->keyed |= o.to == &c->open.keys;
    if (alone && argv[0][size])
        return cli_say(-1, "%s takes no value", o.name);
    if (alone)
        return apply(c, &o, NULL) < 0 ? -1 : 1;
    if (argv[0][size])
        return apply(c, &o, argv[0] + size + 1) < 0 ? -1 : 1;
    if (left < 2)
        return cli_say(-1, "%s wants a value", o.name);
    return apply(c, &o, argv[1]) < 0 ? -1 : 2;
}

int cli_set(struct cli *c, const char *name, const char *value)
{
    char dashed[64];
    int size = snprintf(dashed, sizeof dashed, "--%s", name);
    const struct option o = find_option(c, dashed, size < (int)sizeof dashed ? (size_t)size : 0);
    bool yes = !strcmp(value, "yes"), no = !strcmp(value, "no");
    if (o.kind == OPTIONS || o.kind == CONFIG)
        return cli_say(-1, "there is no `%s`", name);
    if (!*value)
        return cli_say(-1, "`%s` has no value", name);
    if (o.kind != FLAG && o.kind != VERBOSE)
        return apply(c, &o, value);
    if (!yes && !no)
        return cli_say(-1, "`%s` is yes or no, not '%s'", name, value);
    return yes ? apply(c, &o, NULL) : 0;
}

static bool is_parameter(const char *word)
{
    size_t size = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return size && word[size] == '=' && !(word[0] >= '0' && word[0] <= '9');
}

/* The path of a file in the user's configuration directory; gives.  NULL: the user has none. */
static char *own_file(const char *name)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool given = config && config[0] == '/';
    char *path = NULL;
    if ((given || home) && asprintf(&path, "%s%s/zpipe/%s", given ? config : home, given ? "" : "/.config", name) < 0)
        path = NULL;
    return path;
}

/* Add the user's own table of commands, if there is one, after those given by options. */
static void add_own_commands(struct cli *c)
{
    c->own_commands = own_file("commands.conf");
    if (c->own_commands && access(c->own_commands, F_OK) == 0)
        c->commands[c->submission.commands_count++] = c->own_commands;
}

/* Read the user's configuration file, then one named by --config, then the environment.  What comes later wins, and options
 * on the command line win over all of them. */
static int configure(struct cli *c, int argc, char **argv, bool client)
{
    char *own = client ? own_file("zpipe.conf") : NULL;
    int r = own && access(own, F_OK) == 0 ? conf_read(c, own) : 0;
    free(own);
    for (int i = 0; r == 0 && i < argc && strcmp(argv[i], "--"); i++) {
        if (!strncmp(argv[i], "--config=", 9))
            r = conf_read(c, argv[i] + 9);
        else if (!strcmp(argv[i], "--config") && i + 1 < argc)
            r = conf_read(c, argv[++i]);
    }
    const char *cluster = getenv("ZPIPE_CLUSTER"), *keys = getenv("ZPIPE_KEYS");
    c->open.cluster = cluster ? cluster : c->open.cluster;
    c->open.keys = keys ? keys : c->open.keys;
    return r;
}

/* Refuse combinations of options that are valid one by one. */
static int check_together(const struct cli *c)
{
    bool cluster = c->open.cluster && c->open.cluster[0];
    if (cluster && c->here && !(c->command & (CLI_REPLAY | CLI_WORKER)))
        return cli_say(-1, "%s is about this process, and the programs run on the workers of %s: leave it out, or say --cluster ''", c->here,
                       c->open.cluster);
    if (!cluster && c->keyed && c->command & OF_PLACES && c->command != CLI_ASK)
        return cli_say(-1, "--keys is for a cluster: say which one, with --cluster URL");
    if (c->submission.record_stage && c->record && !strcmp(c->record, "no"))
        return cli_say(-1, "--record-tasks keeps tasks, and --record no keeps none: leave one out");
    if (c->submission.each_count && !(c->command & (OF_JOBS | CLI_CLASSIFY)))
        return cli_say(-1, "`:::` is for the files of a pipeline, not for `zpipe %s`", c->called);
    return 0;
}

int cli_parse(struct cli *c, int argc, char **argv, const char *called, unsigned command)
{
    bool parameters = command & OF_JOBS;
    *c = (struct cli){.submission = zpipe_submission(NULL), .called = called, .command = command};
    const char ***const lists[] = {&c->parameter, &c->env, &c->with, &c->each, &c->commands, &c->word};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!(*lists[i] = calloc((size_t)argc + 2 + CONF_LINES_MAX, sizeof **lists[i])))
            return cli_say(-1, "out of memory");
    if (configure(c, argc, argv, !(command & (OF_DAEMON | CLI_KEYGEN))) < 0)
        return -1;
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && !strcmp(argv[i], ":::")) {
            while (++i < argc)
                c->each[c->submission.each_count++] = argv[i];
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            int took = take_option(c, argc - i, argv + i);
            if (took < 0)
                return -1;
            i += took - 1;
        } else if (parameters && c->word_count && is_parameter(argv[i])) {
            c->parameter[c->submission.parameter_count++] = argv[i];
        } else {
            c->word[c->word_count++] = argv[i];
        }
    }
    add_own_commands(c);
    c->submission.commands = c->commands;
    c->submission.parameter = c->parameter;
    c->submission.env = c->env;
    c->submission.with = c->with;
    c->submission.each = c->each;
    return check_together(c);
}

void cli_clear(struct cli *c)
{
    free(c->parameter);
    free(c->env);
    free(c->with);
    free(c->each);
    free(c->commands);
    free(c->own_commands);
    free(c->word);
    for (size_t i = 0; i < c->conf_count; i++)
        free(c->conf[i]);
}
