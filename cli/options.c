/* Options: one table.  `--name VALUE` and `--name=VALUE` are the same; they may stand anywhere before
 * `--`; `:::` ends them too. */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_say(int status, const char *format, ...)
{
    va_list args;
    fputs("zpipe: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

/* A syntax error already has its own form, FILE:LINE:COL: error: ... */
int cli_fail(int status, const struct zpipe_error *e)
{
    fprintf(stderr, strstr(e->text, ": error: ") ? "%s\n" : "zpipe: %s\n", e->text);
    return status;
}

enum kind { FLAG, TEXT, NUMBER, WIDTH, LIST_WITH, LIST_ENV, LIST_COMMANDS, PLACEMENT, ISOLATION, TEMPLATES, SPLIT, PERCENT, SIZE, ROOM, VERBOSE, CONFIG, OPTIONS };

struct option {
    const char *name;
    enum kind kind;
    void *to;
};

static int number(const char *name, const char *value, unsigned long max, uint32_t *out)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (*end || !*value || *value == '-' || n == 0 || n > max)
        return cli_say(-1, "%s wants a number from 1 to %lu, not '%s'", name, max, value);
    *out = (uint32_t)n;
    return 0;
}

/* A number, with K, M, G or T behind it. */
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
    case CONFIG: /* cli_parse has read it */
    case OPTIONS:
        return 0;
    case SIZE:
        return size(o->name, value, o->to);
    case ROOM:
        return amount(value, (uint64_t)1 << 60, o->to)
                   ? 0
                   : cli_say(-1, "%s wants a size with its unit, as in 64G, not '%s'", o->name, value);
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

/* The option of this name, of `size` bytes, dashes and all; kind OPTIONS: there is none. */
static struct option find_option(struct cli *c, const char *name, size_t size)
{
    const struct option options[] = {
        {"--with", LIST_WITH, NULL},
        {"--env", LIST_ENV, NULL},
        {"--commands", LIST_COMMANDS, NULL},
        {"--pipefail", FLAG, &c->submission.pipefail},
        {"--line-reads", FLAG, &c->submission.line_reads},
        {"--cluster", TEXT, &c->open.cluster},
        {"--keys", TEXT, &c->open.keys},
        {"--slots", NUMBER, &c->open.slots},
        {"--store", TEXT, &c->open.store},
        {"--quiet", FLAG, &c->quiet},
        {"-q", FLAG, &c->quiet},
        {"--progress", FLAG, &c->progress},
        {"--joblog", TEXT, &c->joblog},
        {"--record", TEXT, &c->record},
        {"--placement", PLACEMENT, NULL},
        {"--isolation", ISOLATION, NULL},
        {"--templates", TEMPLATES, NULL},
        {"-j", WIDTH, &c->submission.width},
        {"--jobs", WIDTH, &c->submission.width},
        {"--split", SPLIT, NULL},
        {"--audit", PERCENT, &c->submission.audit},
        {"-v", VERBOSE, NULL},
        {"--verbose", VERBOSE, NULL},
        {"--json", FLAG, &c->json},
        {"--box", TEXT, &c->open.box},
        {"--dir", TEXT, &c->directory},
        {"--listen", TEXT, &c->listen},
        {"--http", TEXT, &c->http},
        {"--allow-remote", FLAG, &c->allow_remote},
        {"--body-max", SIZE, &c->body_max},
        {"--state", TEXT, &c->state},
        {"--shared", TEXT, &c->shared},
        {"--store-max", ROOM, &c->store_max},
        {"--scheduler", TEXT, &c->scheduler},
        {"--name", TEXT, &c->name},
        {"--data-listen", TEXT, &c->data_listen},
        {"--advertise", TEXT, &c->advertise},
        {"--config", CONFIG, NULL},
        {"-n", FLAG, &c->check},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strlen(options[i].name) == size && strncmp(options[i].name, name, size) == 0)
            return options[i];
    return (struct option){.kind = OPTIONS};
}

/* -1 wrong, else how many words the option took. */
static int take_option(struct cli *c, int left, char **argv)
{
    size_t size = strcspn(argv[0], "=");
    struct option o = find_option(c, argv[0], size);
    bool alone = o.kind == FLAG || o.kind == VERBOSE;
    if (o.kind == OPTIONS && argv[0][0] == '-' && argv[0][1] != '-' && size > 2) { /* -j4 is -j 4 */
        o = find_option(c, argv[0], 2);
        if (o.kind == WIDTH)
            return apply(c, &o, argv[0] + 2) < 0 ? -1 : 1;
        o.kind = OPTIONS;
    }
    if (o.kind == OPTIONS)
        return cli_say(-1, "there is no option %s; `zpipe --help` lists them", argv[0]);
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

/* Where the user keeps a file of ours; gives, NULL: nowhere. */
static char *own_file(const char *name)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool given = config && config[0] == '/';
    char *path = NULL;
    if ((given || home) && asprintf(&path, "%s%s/zpipe/%s", given ? config : home, given ? "" : "/.config", name) < 0)
        path = NULL;
    return path;
}

/* The user's table, if there is one, behind those of the options. */
static void add_own_commands(struct cli *c)
{
    c->own_commands = own_file("commands.conf");
    if (c->own_commands && access(c->own_commands, F_OK) == 0)
        c->commands[c->submission.commands_count++] = c->own_commands;
}

/* The user's file, then one that is named, then the environment: what comes later wins, and options at last. */
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

int cli_parse(struct cli *c, int argc, char **argv, bool parameters)
{
    *c = (struct cli){.submission = zpipe_submission(NULL)};
    const char ***const lists[] = {&c->parameter, &c->env, &c->with, &c->each, &c->commands, &c->word};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!(*lists[i] = calloc((size_t)argc + 2 + CONF_LINES_MAX, sizeof **lists[i])))
            return cli_say(-1, "out of memory");
    if (configure(c, argc, argv, parameters) < 0)
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
    return 0;
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
