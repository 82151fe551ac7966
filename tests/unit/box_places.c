/* Places: sandboxes that stand ready for a task, and that are used again.  Needs a host that allows user namespaces. */
#include "lib/boxed.h"
#include "lib/census.h"
#include "lib/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct boxed b;

/* Without templates: clones use no places. */
static int open_box(void **state)
{
    (void)state;
    boxed_open_as(&b, &(struct box_options){.no_templates = true});
    return 0;
}

static int close_box(void **state)
{
    (void)state;
    boxed_close(&b);
    return 0;
}

static void run(const char *line)
{
    struct boxed_plan p = {.line = line, .in = -1, .out = -1};
    assert_int_equal(boxed_run(&b, &p), 0);
}

/* More than 0 if this init of a place had a task, and more with each: the faults of processes for which it has waited. */
static unsigned long faults_of_tasks(pid_t init)
{
    char path[64], line[512] = "";
    unsigned long faults = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)init);
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof line, f))
        sscanf(line, "%*d (zpipe-init) %*c %*d %*d %*d %*d %*d %*u %*u %lu", &faults);
    if (f)
        fclose(f);
    return faults;
}

/* Wait for places that are ready and, if `used`, that had a task; nothing tells of them but /proc.  Returns how many there are. */
static int await_places(pid_t place[CENSUS_PROCESSES], bool used)
{
    int found = 0;
    for (int looks = 0; looks < 100 && !found; looks++) {
        int ready = census_places(place);
        for (int i = 0; i < ready; i++)
            if (!used || faults_of_tasks(place[i]))
                place[found++] = place[i];
        if (!found)
            usleep(1000);
    }
    return found;
}

/* Places that had a task, and how many faults its processes had. */
struct used {
    pid_t place[CENSUS_PROCESSES];
    unsigned long faults[CENSUS_PROCESSES];
    int count;
};

static void await_used(struct used *u)
{
    u->count = await_places(u->place, true);
    for (int i = 0; i < u->count; i++)
        u->faults[i] = faults_of_tasks(u->place[i]);
}

static bool was_used_again(const struct used *u)
{
    for (int i = 0; i < u->count; i++)
        if (faults_of_tasks(u->place[i]) > u->faults[i])
            return true;
    return false;
}

/* Is a place used again, by tasks of this line? */
static bool a_place_stays(const char *line)
{
    struct used u;
    bool again = false;
    for (int tries = 0; tries < 500 && !again; tries++) {
        run(line);
        await_used(&u);
        run(line);
        again = was_used_again(&u);
    }
    return again;
}

/* Whoever reads /job or /tmp leaves no time of reading there: it changes nothing by which the place would be made anew, and the next task
 * could ask for it. */
static bool no_look_is_noted(pid_t init)
{
    char path[64], line[1024];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)init);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        found += (strstr(line, " /job rw,") || strstr(line, " /tmp rw,")) && strstr(line, "nodiratime");
    if (f)
        fclose(f);
    return found >= 2;
}

/* A place is given to the next task, which finds nothing of what others had made there, nor their inputs; also if some of those that
 * stood ready have died. */
static void test_places(void **state)
{
    struct box_file file[] = {{.name = "d/in", .path = "/etc/hostname", .fd = -1}, {.name = "/tmp/e", .path = "/etc", .fd = -1},
                              {.name = "f", .path = "/etc/hostname", .fd = -1, .copy = true}};
    struct boxed_plan p = {.line = "sh -c 'echo >/tmp/y; echo >>f; mkdir d/z 2>/dev/null; chmod 700 /tmp; exec 3>/tmp/y; cat d/in >o'", .in = -1,
                           .out = -1, .task = {.file = file, .file_count = 3, .limit.scratch_bytes = 1 << 20}};
    static const char same[] = "sh -c 'ls -liaR /tmp /job; stat -c %i /tmp; echo > /tmp/x; echo >x; stat -c %i /tmp/x; rm /tmp/x; echo $$; "
                               "df /tmp; perl -e \"opendir D, q(.); print telldir(D), q( ) while readdir D\"'";
    char first[2048];
    pid_t place[CENSUS_PROCESSES];
    (void)state;
    run(same);
    snprintf(first, sizeof first, "%.2000s", b.output);
    assert_true(strstr(first, "/tmp\n") && strlen(first) < 2000);
    for (int i = 0; i < 24; i++) {
        if (i % 3 == 0) {
            run(same);
            assert_string_equal(b.output, first);
        } else if (i % 3 == 1) {
            run("cat /etc/hostname");
        } else {
            assert_int_equal(boxed_run(&b, &p), 0);
            assert_int_equal(b.stage[0].end, BOX_EXITED);
        }
    }
    if (access("/proc/sys/kernel/ns_last_pid", W_OK) < 0) {
        print_message("skipped: no place stays, /proc/sys/kernel/ns_last_pid cannot be written\n");
        skip();
    }
    assert_true(a_place_stays("cat /etc/hostname"));
    assert_true(a_place_stays(same));
    assert_true(await_places(place, false) > 0 && no_look_is_noted(place[0]));
    for (int i = census_places(place); i > 0; i--)
        kill(place[i - 1], SIGKILL);
    assert_true(a_place_stays(same));
}

/* Where no place can be used again (this is run on a host that refuses it, too) at most one task is lost by trying. */
static void test_never_again(void **state)
{
    int lost = 0;
    (void)state;
    for (int i = 0; i < 100; i++) {
        run("sh -c 'echo >/tmp/x; echo $$'");
        lost += b.stage[0].end != BOX_EXITED;
    }
    assert_in_range(lost, 0, 1);
}

/* A place that is used again has the same opening of /dev/null, which must not show who had it before. */
static void test_places_null(void **state)
{
    static const char line[] = "python3 -c 'from fcntl import *; print(fcntl(0, F_GETFL), fcntl(0, F_SETFL, 0o2000), fcntl(0, F_SETFL, 0o6000))'";
    char first[64];
    (void)state;
    run(line);
    snprintf(first, sizeof first, "%.60s", b.output);
    assert_true(strlen(first) > 4);
    for (int i = 0; i < 12; i++) {
        run(line);
        assert_string_equal(b.output, first);
    }
}

/* Run plain programs until the shells' places that are ready now are older than the kernel's tick: before that, no change in them could be
 * seen. */
static void pass_tick(void)
{
    struct timespec first, now;
    clock_gettime(CLOCK_REALTIME_COARSE, &first);
    do {
        run("cat /etc/hostname");
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (now.tv_sec == first.tv_sec && now.tv_nsec == first.tv_nsec);
}

/* The wall's questions (docs/SECURITY.md), asked in a place that another task had before.  A file given would be in the way of that, so
 * the asker comes as its standard input. */
static void ask_the_wall(int probe)
{
    char line[128];
    snprintf(line, sizeof line, "sh -c 'cat >probe; chmod 755 probe; exec ./probe full none %d <&2'", (int)getpid());
    struct boxed_plan p = {.line = line, .in = probe, .out = -1};
    assert_true(lseek(probe, 0, SEEK_SET) == 0);
    assert_int_equal(boxed_run(&b, &p), 0);
    const char *wrong = strstr(b.output, "WRONG");
    if (wrong || b.stage[0].status || !strstr(b.output, "trace-parent"))
        fail_msg("status %d: %.300s", b.stage[0].status, wrong ? wrong : b.errors);
}

static void test_places_wall(void **state)
{
    struct used u;
    bool asked = false;
    int probe = open(getenv("WALL_PROBE"), O_RDONLY | O_CLOEXEC);
    (void)state;
    assert_true(probe >= 0);
    run("true");
    if (access("/proc/sys/kernel/ns_last_pid", W_OK) < 0) {
        print_message("skipped: no place stays, /proc/sys/kernel/ns_last_pid cannot be written\n");
        skip();
    }
    for (int tries = 0; tries < 50 && !asked; tries++) {
        await_places(u.place, false);
        pass_tick();
        run("sh -c 'cat /etc/hostname'"); /* as the asker, a shell: plain programs have places of their own */
        await_used(&u);
        ask_the_wall(probe);
        asked = was_used_again(&u);
    }
    assert_true(asked);
    close(probe);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_places, open_box, close_box), cmocka_unit_test_setup_teardown(test_never_again, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_places_null, open_box, close_box), cmocka_unit_test_setup_teardown(test_places_wall, open_box, close_box),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
