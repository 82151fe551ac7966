/* See settings.h. */
#include "dsl/settings.h"
#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MOST 1000000

static const struct setting_kind_of settings[] = {
    {.name = "memory", SETTING_SIZE},
    {.name = "cpu", SETTING_TIME},
    {.name = "timeout", SETTING_TIME},
    {.name = "scratch", SETTING_SIZE},
    {.name = "output", SETTING_SIZE},
    {.name = "procs", SETTING_COUNT, 1, COUNT_MOST},
    {.name = "block", SETTING_SIZE},
    {.name = "fan", SETTING_COUNT, 2, COUNT_MOST},
    {.name = "fail", SETTING_FAIL},
    {.name = "retries", SETTING_COUNT, 0, COUNT_MOST},
    {.name = "seed", SETTING_NUMBER},
    {.name = "epoch", SETTING_EPOCH},
    {.name = "image", SETTING_WORD},
    {.name = "shell", SETTING_SHELL},
    {.name = "files", SETTING_WORD},
    {.name = "out", SETTING_WORD},
    {.name = "descriptors", SETTING_COUNT, 4, 1024, "a number from 4 to 1024",
     "a program has three when it starts, and needs one to open a file: descriptors=4 is the least"},
};
#define SETTINGS (sizeof settings / sizeof *settings)

const struct setting_kind_of *setting_find(const char *name, size_t size)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strlen(settings[i].name) == size && memcmp(settings[i].name, name, size) == 0)
            return &settings[i];
    return NULL;
}

/* Levenshtein's distance of two short words. */
static unsigned distance(const char *a, size_t n, const char *b)
{
    unsigned row[32];
    size_t m = strlen(b);
    if (n >= 32 || m >= 32)
        return 99;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            unsigned other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < other ? change : other;
        }
    }
    return row[m];
}

const char *setting_nearest(const char *name, size_t size)
{
    const char *best = NULL;
    unsigned least = 3;
    for (size_t i = 0; i < SETTINGS; i++) {
        unsigned d = distance(name, size, settings[i].name);
        if (d < least && d < size) {
            least = d;
            best = settings[i].name;
        }
    }
    return best;
}

void setting_names(char *text, size_t room)
{
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < SETTINGS && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? ", " : "", settings[i].name);
}

static const char *const fails[] = {"", "sh", "stop", "go"};

static bool read_fail(const char *value, uint64_t *out)
{
    for (*out = GRAPH_FAIL_SH; *out < GRAPH_FAILS; ++*out)
        if (strcmp(fails[*out], value) == 0)
            return true;
    return false;
}

/* Days from the civil date, after Hinnant; years 1970 to 9999. */
static bool read_date(const char *v, uint64_t *out)
{
    unsigned n[6] = {0, 1, 1, 0, 0, 0};
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    size_t size = strlen(v);
    if (size != 10 && size != 20)
        return false;
    for (size_t i = 0, field = 0; i < size; i++) {
        if (form[i] == 'd') {
            if (v[i] < '0' || v[i] > '9')
                return false;
            n[field] = (i == 0 || form[i - 1] != 'd' ? 0 : n[field]) * 10 + (unsigned)(v[i] - '0');
        } else if (v[i] != form[i]) {
            return false;
        } else {
            field++;
        }
    }
    if (n[0] < 1970 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 || n[4] > 59 ||
        n[5] > 59)
        return false;
    static const unsigned char most[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = n[0] % 4 == 0 && (n[0] % 100 || n[0] % 400 == 0);
    if (n[2] > most[n[1] - 1] || (n[1] == 2 && n[2] == 29 && !leap))
        return false;
    unsigned y = n[0] - (n[1] <= 2), era = y / 400, year = y % 400;
    unsigned day = (153 * (n[1] > 2 ? n[1] - 3 : n[1] + 9) + 2) / 5 + n[2] - 1;
    uint64_t days = (uint64_t)era * 146097 + year * 365 + year / 4 - year / 100 + day - 719468;
    *out = days * 86400 + n[3] * 3600 + n[4] * 60 + n[5];
    return true;
}

bool setting_read(const struct setting_kind_of *s, const char *value, uint64_t *number)
{
    *number = 0;
    switch (s->kind) {
    case SETTING_SIZE:
        return units_size(value, number) && *number > 0;
    case SETTING_TIME:
        return units_time(value, number) && *number > 0;
    case SETTING_NUMBER:
        return units_count(value, number);
    case SETTING_COUNT:
        return units_count(value, number) && *number >= s->least && *number <= s->most;
    case SETTING_EPOCH:
        return units_count(value, number) || read_date(value, number);
    case SETTING_FAIL:
        return read_fail(value, number);
    case SETTING_SHELL:
        return strcmp(value, "sh") == 0 || strcmp(value, "bash") == 0;
    case SETTING_WORD:
        return *value != '\0';
    }
    return false;
}

const char *setting_wanted(const struct setting_kind_of *s)
{
    static const char *const names[] = {"a size",          "a time", "a number", "a number",
                                        "a point in time", "a rule", "a shell",  "a value"};
    return s->wanted ? s->wanted : names[s->kind];
}

const char *setting_hint(const struct setting_kind_of *s)
{
    static const char *const hints[] = {
        "a number and B, KiB, MiB, GiB or TiB, as in memory=2GiB",
        "a number and ms, s, m, h or d, as in timeout=30s",
        "as in seed=7",
        "as in procs=64; fan is 2 or more",
        "seconds since 1970, or a date as 2000-01-01 or 2000-01-01T00:00:00Z",
        "fail=sh, fail=stop or fail=go",
        "shell=sh or shell=bash",
        NULL,
    };
    return s->hint ? s->hint : hints[s->kind];
}

void setting_apply(struct graph_settings *set, const struct setting_kind_of *s, const char *value)
{
    const struct {
        const char *name;
        uint64_t *wide;
        uint32_t *narrow;
    } places[] = {
        {"memory", &set->memory_bytes, NULL},
        {"cpu", &set->cpu_ns, NULL},
        {"timeout", &set->wall_ns, NULL},
        {"scratch", &set->scratch_bytes, NULL},
        {"output", &set->output_bytes, NULL},
        {"block", &set->block_bytes, NULL},
        {"seed", &set->seed, NULL},
        {"procs", NULL, &set->procs},
        {"descriptors", NULL, &set->descriptors},
        {"fan", NULL, &set->fan},
        {"retries", NULL, &set->retries},
        {"fail", NULL, &set->fail},
    };
    uint64_t number;
    if (!setting_read(s, value, &number))
        return;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (strcmp(places[i].name, s->name) != 0)
            continue;
        if (places[i].wide)
            *places[i].wide = number;
        else
            *places[i].narrow = (uint32_t)number;
    }
    if (strcmp(s->name, "retries") == 0)
        set->retries_set = true;
    if (strcmp(s->name, "image") == 0)
        set->image = value;
    if (s->kind == SETTING_EPOCH) {
        set->epoch_s = (int64_t)number;
        set->epoch_set = true;
    }
}
