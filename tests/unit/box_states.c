/* States that a program may be in when a template of it is made (lib/states.c): each is run cold, then until clones of
 * it ran, and all say the same.  What a clone cannot have starts cold by itself, and says why. */
#include "lib/boxed.h"
#include "lib/test.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLONES   3
#define CLONES_MANY 100 /* where a moment decides */
#define RUNS_MAX 400 /* until a template must be there; a busy machine is slow to make one */

static struct boxed b;

static const struct row {
    const char *name;
    const char *cold; /* a word of why it is not cloned; NULL: it must be */
} rows[] = {
    {"offsets", NULL},       {"shared_offsets", NULL},      {"flags_of_files", NULL},    {"mapped", NULL},
    {"shared_memory", "shares memory"}, {"shared_zero", "calls"}, {"directory", "descriptor"}, {"places", "writes files"},
    {"locks", "flock"},      {"record_locks", "fcntl"},     {"high_number", NULL},       {"other_numbers", NULL},
    {"closed", NULL},        {"looked_at", NULL},           {"by_poll", NULL},           {"by_select", NULL},
    {"by_count", NULL},      {"by_vector", NULL},           {"by_nothing", NULL},        {"by_copy", NULL},
    {"by_wait", NULL},       {"waits_for", "epoll"},        {"pipes", "pipe"},           {"counters", "eventfd"},
    {"sockets", "socketpair"}, {"memory_files", "memfd"},   {"heap", NULL},              {"lowest", NULL},              {"stack", NULL},
    {"registers", NULL},     {"floats", NULL},              {"bases", NULL},             {"buffers", NULL},
    {"words_of_libc", NULL}, {"signals", NULL},             {"no_altstack", NULL},       {"pending", "kill"},
    {"alarms", "alarm"},     {"intervals", "setitimer"},    {"clocks", NULL},            {"draws", NULL},
    {"random_file", "random"}, {"who", NULL},               {"rights", NULL},            {"named", NULL},
    {"limits", NULL},        {"reaper", "prctl"},           {"threads", "clone"},        {"later_threads", NULL},
    {"children", "vfork"},   {"own_filter", NULL},          {"goes_on", NULL},
    {"unwaited", NULL},      {"looked_around", NULL},
};

#define AGAIN_MAX 20 /* as another task, where a template took more CPU time than one may have: on machines that are programs */

static uint64_t seed = 7;
static struct box_file file[] = {{.name = "states", .fd = -1}, {.name = "data", .fd = -1}};
static int input;

static void run(const struct row *row)
{
    char line[64];
    snprintf(line, sizeof line, "./states %s", row->name);
    struct boxed_plan p = {.line = line, .in = input, .out = -1, .task = {.file = file, .file_count = 2, .seed = seed}};
    lseek(input, 0, SEEK_SET);
    assert_int_equal(boxed_run(&b, &p), 0);
}

static bool try_row(const struct row *row)
{
    static char output[BOXED_OUTPUT_MAX];
    size_t size = 0;
    int status = 0, clones = 0, again = 0;
    const int wanted = !strcmp(row->name, "unwaited") ? CLONES_MANY : CLONES;
    for (int i = 0; clones < wanted && i < RUNS_MAX; i++) {
        run(row);
        const char *cold = b.stage[0].cold;
        if (strstr(cold, "the host refuses"))
            return true;
        if (strstr(cold, "works too long") && ++again <= AGAIN_MAX) {
            seed++; /* a template of its own */
            i = -1;
            clones = 0;
            continue;
        }
        if (i == 0) {
            size = b.output_size;
            memcpy(output, b.output, size);
            output[size] = '\0';
            status = b.stage[0].status;
        } else if (b.output_size != size || memcmp(output, b.output, size) || b.stage[0].status != status || b.stage[0].end != BOX_EXITED) {
            printf("%s, %s:\n%s--- but the first time, status %d:\n%s---\n%s%s\n", row->name, *cold ? cold : "a clone", b.output, status, output, b.errors,
                   b.stage[0].text);
            return false;
        }
        if (*cold && i > 2 && !strstr(cold, "template")) {
            bool expected = row->cold && strstr(cold, row->cold);
            if (!expected)
                printf("%s starts cold: %s\n", row->name, cold);
            return expected;
        }
        clones += !*cold;
    }
    if (row->cold || clones < wanted)
        printf("%s: %d clones, '%s'\n", row->name, clones, b.stage[0].cold);
    return !row->cold && clones == wanted;
}

static void states(void **state)
{
    int failed = 0;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        failed += !try_row(&rows[i]);
    boxed_close(&b);
    assert_int_equal(failed, 0);
}

/* In a directory that everybody may read, which a build's need not be. */
static const char *copy_of(const char *directory, const char *variable)
{
    static char path[2][128];
    char *to = path[!strcmp(variable, "STATES")], bytes[65536];
    const char *from = getenv(variable);
    snprintf(to, sizeof *path, "%s/%s", directory, variable);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    ssize_t n = in < 0 || out < 0 ? -1 : 0;
    while (n >= 0 && (n = read(in, bytes, sizeof bytes)) > 0)
        if (write(out, bytes, (size_t)n) != n)
            n = -1;
    close(in);
    close(out);
    if (n < 0) {
        perror(to);
        exit(1);
    }
    setenv(variable, to, 1);
    return to;
}

/* argv[1]: the number of the user to be. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(states)};
    char place[] = "/tmp/zpipe-states-XXXXXX", data[64];
    const uid_t user = argc > 1 ? (uid_t)atoi(argv[1]) : 0;
    if (user && geteuid() != 0)
        return 77;
    if (!mkdtemp(place) || chmod(place, 0755) < 0)
        return 1;
    snprintf(data, sizeof data, "%s/data", place);
    const char *made[] = {copy_of(place, "ZPIPE_BOX"), copy_of(place, "STATES"), data};
    FILE *f = fopen(data, "we");
    for (int i = 0; f && i < 200; i++)
        fprintf(f, "line %d of the data\n", i);
    if (!f || fclose(f) || (user && (chown(place, user, user) < 0 || setgroups(0, NULL) < 0 || setgid(user) < 0 || setuid(user) < 0)))
        return 1;
    file[0].path = made[1];
    file[1].path = data;
    input = memfd_create("in", MFD_CLOEXEC);
    dprintf(input, "some words\nto read\n");
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        unlink(made[i]);
    if (rmdir(place) < 0)
        perror(place);
    return r;
}
