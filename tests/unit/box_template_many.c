/* Which templates there are: when one is made, how many, who goes first, and that nothing of them is left. */
#include "lib/census.h"
#include "lib/clones.h"
#include "lib/test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MANY       400 /* a descriptor left by each would be past what templates that are made later may have */
#define DEADLINE_S 30
/* See sandbox/template.h. */
#define STANDING_MAX 64
#define CEILING_KIB  (256 << 10)
#define CLONES_KIB   (8 << 10)   /* pages that clones which wait have made their own */
#define LARGE        22 /* that many are more than the ceiling */
#define LARGE_MIB    16
#define TRIES        20

static unsigned different_count = 80;

static void many(void **state)
{
    static const char *const line[] = {"grep 1", "sort", "cat", "sed s/1/2/", "cut -c 2-", "tr a b", "head -n 1"};
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < 7; i++)
        assert_true(clones_are_same(&(struct boxed_plan){.line = line[i], .in = input, .out = -1}, 3));
    struct census before = census(CENSUS_PROCESSES);
    for (int i = 0; i < MANY; i++) {
        run(&(struct boxed_plan){.line = line[i % 7], .in = input, .out = -1});
        assert_int_equal(b.stage[0].end, BOX_EXITED);
    }
    /* A template more may have been made where one was not ready in time. */
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int most = before.processes + 7 * 2 * (int)cpus;
    struct census after = census(most);
    print_message("after %d tasks: %d processes, %ld descriptors, %ld KiB; before: %d, %ld, %ld\n", MANY, after.processes,
                  after.fds, after.kib, before.processes, before.fds, before.kib);
    assert_true(after.processes <= most);
    assert_true(after.fds <= before.fds + 7 * 16 * cpus);
    boxed_close(&b);
}

static void head_of(unsigned lines, char *line, size_t size)
{
    snprintf(line, size, "/usr/bin/head -n %u", lines);
}

static bool is_clone(unsigned lines)
{
    char line[32];
    head_of(lines, line, sizeof line);
    run(&(struct boxed_plan){.line = line, .in = input, .out = -1});
    return !*b.stage[0].cold;
}

static void until_cloned(unsigned lines)
{
    for (int i = 0; !is_clone(lines) && !refused; i++)
        assert_true(i < RUNS_MAX);
}

/* When there are as many as there may be, the one that was used longest ago goes. */
static void order(void **state)
{
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    bool seen = false;
    for (int tries = 0; tries < TRIES && !seen && !refused; tries++) { /* somebody may change a file of the image meanwhile */
        for (unsigned i = 1; i <= STANDING_MAX; i++)
            until_cloned(i);
        seen = is_clone(1);
        until_cloned(STANDING_MAX + 1);
        seen = seen && is_clone(1) && is_clone(3) && !is_clone(2);
    }
    assert_true(seen || refused);
    boxed_close(&b);
}

static long number_in(pid_t pid, const char *file, const char *name)
{
    char path[64], line[256];
    long value = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            value = strtol(line + strlen(name), NULL, 10);
    if (f)
        fclose(f);
    return value;
}

/* What the programs below the server have of memory that is no file's, each page once. */
static long own_kib(const char *program)
{
    pid_t all[CENSUS_PROCESSES];
    int count = census_family(census_server(), all, 0);
    long sum = 0;
    for (int i = 0; i < count; i++) {
        char name[64], pids[128];
        line_of(all[i], "Name:", name, sizeof name);
        line_of(all[i], "NSpid:", pids, sizeof pids);
        const char *last = strrchr(pids, '\t');
        if (!strcmp(name, program) && last && strcmp(last, "\t1")) /* a clone's first process shares its template's */
            sum += number_in(all[i], "smaps_rollup", "Pss_Anon:");
    }
    return sum;
}

/* Programs of which so many have no room: it is kept, and who came last stands. */
static void ceiling(void **state)
{
    char line[160];
    struct boxed_plan p = {.line = line, .in = input, .out = -1};
    (void)state;
    if (!have("perl"))
        return;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < LARGE && !refused; i++) {
        snprintf(line, sizeof line, "/usr/bin/perl -e '$n = %d << 20; $x = \"%d\" x $n; <>; print length $x'", LARGE_MIB, i % 10);
        snprintf(line + strlen(line), sizeof line - strlen(line), " %d", i);
        assert_true(clones_are_same(&p, 1));
    }
    long kib = LONG_MAX;
    for (int i = 0; i < DEADLINE_S * 100 && (kib = own_kib("perl")) > CEILING_KIB + CLONES_KIB; i++) /* who has to go is on its way */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    print_message("%d programs of %d MiB: %ld KiB stand\n", LARGE, LARGE_MIB, kib);
    assert_true(kib <= CEILING_KIB + CLONES_KIB);
    boxed_close(&b);
}

/* Hundreds of different programs in one job. */
static void different(void **state)
{
    struct census before, after;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (unsigned i = 1; i <= STANDING_MAX; i++)
        until_cloned(i);
    before = census(CENSUS_PROCESSES);
    for (unsigned i = 1; i <= different_count; i++)
        for (int k = 0; k < 3; k++) {
            is_clone(1000 + i);
            assert_int_equal(b.stage[0].end, BOX_EXITED);
        }
    /* Others may be on their way, and take theirs with them. */
    after = census(before.processes);
    print_message("%u programs: %d processes, %ld descriptors; with %d: %d, %ld\n", different_count, after.processes, after.fds,
                  STANDING_MAX, before.processes, before.fds);
    assert_true(after.processes <= before.processes + 4 * 4);
    assert_true(after.fds <= before.fds + 4 * 32);
    boxed_close(&b);
}

/* Those of a job that is over. */
static void forgotten(void **state)
{
    struct err e;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (unsigned i = 1; i <= 3; i++)
        until_cloned(i);
    assert_int_equal(box_forget(b.box, &e), 0);
    assert_int_equal(census(3).processes, 3); /* server, zygote, mounter */
    assert_false(is_clone(1));
    until_cloned(1);
    boxed_close(&b);
}

/* Where many are said to come, the first waits for the template, which is not made where few are. */
static void expected(void **state)
{
    static const struct {
        const char *program, *line;
        bool clone;
    } row[] = {
        {"sort", "sort -k2", true},
        {"sh", "sh -c 'echo $$; read x; echo $x'", true},
        {"sh", "sh -c 'exit 3'", true},
        {"sh", "sh -c 'echo x >f; cat f -'", false},
        {"python3", "python3 -c 'import sys; print(sys.stdin.read(9))'", true},
        {"python3", "python3 -c 'import threading, sys; t = threading.Thread(target=lambda: 0); t.start(); t.join(); print(sys.stdin.read())'", false},
        {"sh", "sh -c 'while [ $((i += 1)) -lt 12000 ] && [ -e / ]; do :; done; read x; echo $x $i'", false},
    };
    static struct seen first;
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct boxed_plan p = {.line = row[i].line, .in = input, .out = -1, .task.expected = BOX_MANY - 1};
        if (!have(row[i].program))
            continue;
        boxed_open(&b, BOX_ISOLATION_FULL);
        for (int k = 0; k < 3; k++) {
            run(&p);
            assert_string_equal(b.stage[0].cold, refused ? b.stage[0].cold : "few of its kind are to come");
        }
        keep(&first);
        boxed_close(&b);
        boxed_open(&b, BOX_ISOLATION_FULL);
        p.task.expected = BOX_MANY;
        for (int k = 0; k < 3; k++) {
            run(&p);
            assert_same(&first, p.line);
            if (!*b.stage[0].cold != row[i].clone && !refused)
                fail_msg("%d, '%s' is%s cloned: %s", k, p.line, row[i].clone ? " not" : "", b.stage[0].cold);
        }
        boxed_close(&b);
    }
}

/* Few at a time, and time after time, as a server's requests are: they are many. */
static void recurring(void **state)
{
    struct boxed_plan p = {.line = "sort -k2", .in = input, .out = -1, .task.expected = 1};
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < BOX_MANY; i++) {
        run(&p);
        assert_true(*b.stage[0].cold);
    }
    assert_true(clones_are_same(&p, 1));
    boxed_close(&b);
}

/* Who waits may be stopped, and the template is another's then. */
static void unbegun(void **state)
{
    struct boxed_plan p = {.line = "python3 -c 'import sys, json; print(sys.stdin.read(9))'", .in = input, .out = -1, .task.expected = BOX_MANY};
    (void)state;
    if (!have("python3"))
        return;
    for (int i = 0; i < TRIES; i++) {
        boxed_open(&b, BOX_ISOLATION_FULL);
        p.stop_after_ns = 1 + (uint64_t)i * 4000000;
        run(&p);
        assert_true(b.stage[0].end == BOX_KILLED || b.stage[0].end == BOX_EXITED);
        p.stop_after_ns = 0;
        run(&p);
        assert_int_equal(b.stage[0].end, BOX_EXITED);
        assert_string_equal(b.output, "line 0 x0\n");
        boxed_close(&b);
    }
}

static void never(void **state)
{
    (void)state;
    boxed_open_as(&b, &(struct box_options){.no_templates = true});
    for (int i = 0; i < 10; i++) {
        run(&(struct boxed_plan){.line = "cat", .in = input, .out = -1});
        assert_string_equal(b.stage[0].cold, "templates are switched off");
    }
    boxed_close(&b);
}

/* argv[1]: a test's name, to run it alone. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many),      cmocka_unit_test(expected),  cmocka_unit_test(recurring),
                                       cmocka_unit_test(unbegun),   cmocka_unit_test(never),     cmocka_unit_test(order),
                                       cmocka_unit_test(ceiling),   cmocka_unit_test(different), cmocka_unit_test(forgotten)};
    const char *asked = getenv("SOAK_TASKS");
    different_count = asked ? (unsigned)atoi(asked) : different_count;
    clones_inputs();
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
