/* Many tasks of all kinds through one server: no descriptor, mount, process or memory is left behind.  And the server killed
 * at any moment of a task's life: nothing goes on.  SOAK_TASKS=10000 is the long form (make soak). */
#include "lib/boxed.h"
#include "lib/census.h"
#include "lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TASKS_SHORT   300
#define MOMENTS_SHORT 20
#define MOMENT_NS     1500000
#define KILLS_SHORT   10
#define STAND_CLONES  6 /* until the kill is due */
#define STAND_NS      20000 /* it comes up to a thousand of these later */
#define CLONE_KILLS   12
#define LOOKS         300 /* of 10 ms, for what is made when nobody waits */
#define CLONE_TASKS   1000 /* until so many were killed */
#define GROWTH_KIB    1024 /* of one process over all tasks: allocators keep a little */
#define DEADLINE_S    30
#define PLACE_KILLS   10

static struct boxed b;

static void run_one(unsigned i)
{
    static const struct box_file file = {.name = "in", .path = "/etc/passwd", .fd = -1};
    static const struct {
        const char *line;
        struct box_limits limit;
        bool with, stop;
    } kind[] = {
        {"true", {0}, false, false},
        {"cat in | cat | wc -c", {0}, true, false},
        {"sh -c 'sleep 1 & exec echo x'", {0}, false, false},
        {"sh -c 'seq 1000 >/tmp/a; mkdir b; seq 1000 >b/c; kill -9 $$'", {0}, false, false},
        {"no-such-program", {0}, false, false},
        {"yes | head -1", {0}, false, false},
        {"sh -c 'while :; do :; done'", {.wall_ns = 1000000}, false, false},
        {"sh -c 'true & true & true & wait'", {.procs = 2, .memory_bytes = 1 << 30, .files = 30}, false, false},
        {"sh -c 'while :; do :; done' | cat", {0}, false, true},
    };
    size_t k = i % (sizeof kind / sizeof *kind);
    struct boxed_plan p = {.line = kind[k].line, .in = -1, .out = -1, .task.limit = kind[k].limit,
                           .stop_after_ns = kind[k].stop ? 1000000 : 0};
    if (kind[k].with)
        p.task.file = &file, p.task.file_count = 1;
    p.task.trace = i % 5 == 0;
    assert_int_equal(boxed_run(&b, &p), 0);
}

static unsigned number_of(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text ? (unsigned)atoi(text) : otherwise;
}

static void nothing_is_left(void **state)
{
    unsigned tasks = number_of("SOAK_TASKS", TASKS_SHORT);
    (void)state;
    boxed_open_as(&b, &(struct box_options){.no_templates = true}); /* they stay; box_template.c counts them */
    run_one(0);
    struct census before = census(3);
    assert_int_equal(before.processes, 3); /* server, zygote, mounter */
    for (unsigned i = 0; i < 100; i++) /* until everything has been used once, and more */
        run_one(i);
    before.kib = census_again(&before).kib;
    for (unsigned i = 0; i < tasks; i++)
        run_one(i);
    struct census after = census_again(&before);
    print_message("after %u tasks: %d processes, %ld descriptors, %ld mounts, %ld KiB; before: %d, %ld, %ld, %ld; %d places\n",
                  tasks, after.processes, after.fds, after.mounts, after.kib, before.processes, before.fds, before.mounts,
                  before.kib, after.places);
    assert_true(after.places > 0 && after.places <= 2 * sysconf(_SC_NPROCESSORS_ONLN));
    assert_int_equal(after.processes, before.processes);
    assert_true(after.fds <= before.fds);
    assert_true(after.mounts <= before.mounts);
#if !defined __SANITIZE_ADDRESS__ /* which keeps what is freed, to find its use */
    assert_true(after.kib <= before.kib + 3 * GROWTH_KIB);
#endif
    boxed_close(&b);
}

static void kill_and_wait(pid_t pid)
{
    struct pollfd gone = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    assert_true(gone.fd >= 0);
    kill(pid, SIGKILL);
    assert_int_equal(poll(&gone, 1, DEADLINE_S * 1000), 1);
    close(gone.fd);
}

/* The places that stand ready: made behind the tasks of a server that has had some before, when nobody waits. */
static int places_that_stand(pid_t init[CENSUS_PROCESSES])
{
    int places = 0;
    for (int k = 0; k < 2 && !census_places(init); k++)
        assert_int_equal(boxed_run(&b, &(struct boxed_plan){.line = "true", .in = -1, .out = -1}), 0);
    for (int k = 0; k < LOOKS && !(places = census_places(init)); k++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(places > 0);
    return places;
}

/* One that dies while it stands ready costs nobody a task. */
static void places_that_die(void **state)
{
    (void)state;
    boxed_open_as(&b, &(struct box_options){.no_templates = true});
    for (unsigned i = 0; i < PLACE_KILLS; i++) {
        pid_t init[CENSUS_PROCESSES];
        struct boxed_plan p = {.line = "echo a | cat", .in = -1, .out = -1};
        int places = places_that_stand(init);
        for (int k = 0; k < places; k++)
            kill_and_wait(init[k]); /* its socket is closed before */
        assert_int_equal(boxed_run(&b, &p), 0);
        assert_string_equal(b.output, "a\n");
        if (i > 1)
            census_again(&(struct census){.processes = 3, .fds = LONG_MAX, .mounts = LONG_MAX});
    }
    boxed_close(&b);
}

/* It was to become a program, and is killed before it has: the task ends as lost, never as if the program had been killed. */
static unsigned assert_lost_or_whole(const char *output)
{
    unsigned lost = 0;
    for (uint32_t i = 0; i < b.results; i++)
        if (b.stage[i].end == BOX_FAILED) {
            if (!strstr(b.stage[i].text, "was killed"))
                fail_msg("stage %u: '%s'", i, b.stage[i].text);
            lost++;
        }
    for (uint32_t i = 0; i < b.results; i++) {
        assert_true(b.stage[i].end == BOX_FAILED || (lost && b.stage[i].end == BOX_KILLED) || b.stage[i].end == BOX_EXITED);
        assert_true(b.stage[i].end != BOX_EXITED || b.stage[i].status == 0);
    }
    if (!lost)
        assert_string_equal(b.output, output);
    return lost;
}

static void programs_to_be_that_die(void **state)
{
    unsigned lost = 0;
    (void)state;
    boxed_open_as(&b, &(struct box_options){.no_templates = true});
    for (unsigned i = 0; i < PLACE_KILLS; i++) {
        pid_t init[CENSUS_PROCESSES], own[CENSUS_PROCESSES];
        struct boxed_plan p = {.line = "echo a | cat", .in = -1, .out = -1};
        int places = places_that_stand(init);
        for (int k = 0; k < places; k++)
            if (census_family(init[k], own, 0) == 2)
                kill_and_wait(own[1]);
        assert_int_equal(boxed_run(&b, &p), 0);
        lost += assert_lost_or_whole("a\n");
        assert_int_equal(boxed_run(&b, &p), 0); /* these are gone */
    }
    print_message("%u tasks lost\n", lost);
    assert_true(lost);
    census_again(&(struct census){.processes = 3, .fds = LONG_MAX, .mounts = LONG_MAX});
    boxed_close(&b);
}

/* Clones' processes of that number in their own pid namespace, which lies in a template's, and that in the zygote's. */
static int clone_processes(int number, pid_t *found)
{
    pid_t all[CENSUS_PROCESSES];
    int count = census_family(census_server(), all, 0), clones = 0;
    for (int i = 0; i < count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/status", (int)all[i]);
        FILE *f = fopen(path, "re");
        int ours = 0;
        while (f && fgets(line, sizeof line, f)) {
            char *last = strncmp(line, "NSpid:", 6) ? NULL : strrchr(line, '\t');
            for (char *at = line; last && *at; at++)
                ours += *at == '\t';
            if (last && ours >= 4 && atoi(last) == number)
                found[clones++] = all[i];
        }
        if (f)
            fclose(f);
    }
    return clones;
}

/* A clone that waits for its task, and its first process: killed, they cost a task at most. */
static void clones_that_die(void **state)
{
    unsigned killed = 0, lost = 0;
    int fd = memfd_create("in", MFD_CLOEXEC);
    (void)state;
    assert_int_equal(write(fd, "1\n", 2), 2);
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (unsigned i = 0; i < CLONE_TASKS && killed < CLONE_KILLS; i++) {
        if (i && b.stage[0].end == BOX_EXITED && !*b.stage[0].cold) { /* the next one is made when nobody waits */
            pid_t clone[CENSUS_PROCESSES];
            int clones = 0, number = 1 + (int)(killed % 2);
            for (int k = 0; k < LOOKS && !(clones = clone_processes(number, clone)); k++)
                nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            if (clones)
                kill_and_wait(clone[0]);
            killed += clones > 0; /* a template whose other first process was killed may have served once more before its init heard of that */
        }
        lseek(fd, 0, SEEK_SET);
        assert_int_equal(boxed_run(&b, &(struct boxed_plan){.line = "cat", .in = fd, .out = -1}), 0);
        lost += assert_lost_or_whole("1\n");
    }
    print_message("%u clones killed, %u tasks lost\n", killed, lost);
    assert_int_equal(killed, CLONE_KILLS);
    close(fd);
    boxed_close(&b);
}

/* Processes whose words or environment hold the mark. */
static int marked(const char *mark)
{
    static const char *const names[] = {"cmdline", "environ"};
    int found = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        bool has = false;
        if (*e->d_name < '0' || *e->d_name > '9' || atoi(e->d_name) == getpid())
            continue;
        for (int i = 0; i < 2 && !has; i++) {
            char path[64], text[65536];
            snprintf(path, sizeof path, "/proc/%.20s/%s", e->d_name, names[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
            if (fd >= 0)
                close(fd);
            has = n > 0 && memmem(text, (size_t)n, mark, strlen(mark));
        }
        found += has;
    }
    if (d)
        closedir(d);
    return found;
}

/* The parent of the program with these words; 0: there is none (yet). */
static pid_t init_of(const char *words)
{
    pid_t found = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        char path[64], text[4096];
        snprintf(path, sizeof path, "/proc/%.20s/cmdline", e->d_name);
        int fd = *e->d_name < '0' || *e->d_name > '9' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
        if (fd >= 0)
            close(fd);
        if (n <= 0 || !memmem(text, (size_t)n, words, strlen(words)))
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        FILE *f = fopen(path, "re");
        if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &found) != 1)
            found = 0;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return found;
}

/* A sandbox that is killed is no end of what its program wrote: nobody counts, sorts or passes on half of it.  Nor has a reader left that
 * is killed: nobody says that his pipe broke. */
static void killed_is_no_end(void **state)
{
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (unsigned i = 0; i < 10; i++) {
        char line[256], mark[64];
        unsigned dies = i % 2 * 2, lives = 2 - dies;
        snprintf(mark, sizeof mark, "soak-%d-%u", (int)getpid(), i);
        snprintf(line, sizeof line,
                 dies ? "yes | sh -c 'trap \"\" PIPE; while echo y; do :; done; echo left >&2' | sh -c 'while read x; do :; done; : %s'"
                      : "sh -c 'while :; do echo %s; done' | cat | sh -c 'wc -l >/dev/null; echo counted'",
                 mark);
        pid_t killer = fork();
        if (killer == 0) {
            pid_t init;
            alarm(DEADLINE_S);
            while (!(init = init_of(mark)))
                ;
            kill(init, SIGKILL);
            _exit(0);
        }
        struct boxed_plan p = {.line = line, .in = -1, .out = -1};
        assert_int_equal(boxed_run(&b, &p), 0);
        assert_int_equal(waitpid(killer, NULL, 0), killer);
        assert_string_equal(b.output, "");
        assert_string_equal(b.errors, "");
        assert_int_equal(b.stage[dies].end, BOX_FAILED);
        assert_int_equal(b.stage[1].end, BOX_KILLED);
        assert_int_equal(b.stage[lives].end, BOX_KILLED);
    }
    boxed_close(&b);
}

/* Nothing is left that bears the mark. */
static void assert_gone(const char *mark)
{
    int left = 1;
    for (int k = 0; k < DEADLINE_S * 100 && (left = marked(mark)); k++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(left, 0);
}

static void killed_at_any_moment(void **state)
{
    unsigned moments = number_of("SOAK_TASKS", TASKS_SHORT) / (TASKS_SHORT / MOMENTS_SHORT);
    char mark[64];
    (void)state;
    snprintf(mark, sizeof mark, "zpipe-soak-%d", (int)getpid());
    setenv("ZPIPE_SOAK", mark, 1); /* the server and what it forks have it in their environment */
    for (unsigned i = 0; i < moments; i++) {
        char line[256];
        snprintf(line, sizeof line, "sh -c 'sh -c \"while :; do :; done\" %s & while :; do :; done' %s", mark, mark);
        boxed_open(&b, BOX_ISOLATION_FULL);
        pid_t pid = census_server();
        assert_true(pid > 0);
        pid_t killer = fork();
        if (killer == 0) { /* a moment between the start and long after it */
            unsetenv("ZPIPE_SOAK");
            nanosleep(&(struct timespec){.tv_nsec = (long)(i % MOMENTS_SHORT) * MOMENT_NS}, NULL);
            kill(pid, SIGKILL);
            _exit(0);
        }
        struct boxed_plan p = {.line = line, .in = -1, .out = -1};
        assert_int_equal(boxed_run(&b, &p), -1); /* the caller is told */
        assert_true(b.log.lost);
        assert_int_equal(waitpid(killer, NULL, 0), killer);
        boxed_close(&b);
        assert_gone(mark);
    }
    unsetenv("ZPIPE_SOAK");
}

/* Runs programs that come again, until the server is gone; who kills it is told over `killer` when templates stand. */
static int run_until_lost(int killer)
{
    static const char *const line[] = {"cat", "sh -c 'read x; sleep 0.01 & echo $x'", "sed s/1/2/"};
    int fd = memfd_create("in", MFD_CLOEXEC), clones = 0;
    assert_int_equal(write(fd, "1\n", 2), 2);
    for (unsigned i = 0; !b.log.lost; i++) {
        lseek(fd, 0, SEEK_SET);
        if (boxed_run(&b, &(struct boxed_plan){.line = line[i % 3], .in = fd, .out = -1}) < 0)
            break;
        bool clone = !*b.stage[0].cold;
        clones += clone;
        if (clone && clones == STAND_CLONES)
            assert_int_equal(write(killer, "", 1), 1);
    }
    assert_true(b.log.lost);
    close(fd);
    return clones;
}

static int lines_of(const char *path)
{
    int lines = 0;
    FILE *f = fopen(path, "re");
    for (int c; f && (c = getc(f)) != EOF;)
        lines += c == '\n';
    if (f)
        fclose(f);
    return lines;
}

/* Templates stand, their clones wait or run: the kill takes them along. */
static void killed_with_templates(void **state)
{
    unsigned moments = number_of("SOAK_TASKS", TASKS_SHORT) / (TASKS_SHORT / KILLS_SHORT);
    char mark[64];
    int clones = 0;
    (void)state;
    snprintf(mark, sizeof mark, "zpipe-stand-%d", (int)getpid());
    setenv("ZPIPE_SOAK", mark, 1);
    for (unsigned i = 0; i < moments; i++) {
        boxed_open(&b, BOX_ISOLATION_FULL);
        pid_t pid = census_server();
        int mounts = lines_of("/proc/self/mountinfo");
        int tell[2];
        char told;
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        pid_t killer = fork();
        if (killer == 0) {
            unsetenv("ZPIPE_SOAK");
            close(tell[1]);
            if (read(tell[0], &told, 1) == 1)
                nanosleep(&(struct timespec){.tv_nsec = (long)(i * 7919 % 1000) * STAND_NS}, NULL);
            kill(pid, SIGKILL);
            _exit(0);
        }
        close(tell[0]);
        int ran = run_until_lost(tell[1]);
        close(tell[1]);
        assert_true(ran >= STAND_CLONES);
        clones += ran;
        assert_int_equal(waitpid(killer, NULL, 0), killer);
        boxed_close(&b);
        assert_gone(mark);
        assert_true(lines_of("/proc/self/mountinfo") <= mounts);
    }
    print_message("killed %u times, after %d clones\n", moments, clones);
    unsetenv("ZPIPE_SOAK");
}

/* A test that fails leaves its server, which the next one would meet. */
static int ends_server(void **state)
{
    (void)state;
    if (b.box)
        boxed_close(&b);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(nothing_is_left, ends_server), cmocka_unit_test_teardown(places_that_die, ends_server),
                                       cmocka_unit_test_teardown(programs_to_be_that_die, ends_server), cmocka_unit_test_teardown(clones_that_die, ends_server),
                                       cmocka_unit_test_teardown(killed_is_no_end, ends_server), cmocka_unit_test_teardown(killed_at_any_moment, ends_server),
                                       cmocka_unit_test_teardown(killed_with_templates, ends_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
