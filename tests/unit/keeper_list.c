/* A journal with as many jobs as a keeper takes: when it has started the keeper has them all, finds each, and gives every
 * user who waits a turn.  And how it counts the age of jobs. */
#include "tests/lib/test.h"

#include "client/keeper.h"
#include "tests/lib/chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define OWNERS 7 /* owners of most jobs; owner number 7 has one job */

static char directory[64], key[MSG_KEY_BYTES];
static struct keeper k; /* new in each test, as is all of the rest */
static struct buf record;
static struct err e;

static struct buf record_bytes(void)
{
    struct buf graph = chain_bytes(&(struct chain){.stages = 1}), out = BUF_INIT(KEPT_BYTES_MAX);
    struct kept_job job = {.text = "stage", .directory = "/somewhere", .graph = {graph.data, graph.size}};
    assert_int_equal(kept_encode(&job, &out, &e), 0);
    buf_clear(&graph);
    return out;
}

static int keeper_begin(void **state)
{
    (void)state;
    k = (struct keeper){.directory = directory, .job = calloc(KEEPER_JOBS_MAX, sizeof(struct keeper_job *))};
    for (int i = 0; i < KEEPER_OWNERS; i++)
        list_init(&k.owners[i]);
    record = record_bytes();
    return k.job ? 0 : -1;
}

static int keeper_end(void **state)
{
    (void)state;
    while (k.job_count)
        keeper_job_free(k.job[k.job_count - 1]);
    for (int i = 0; i < KEEPER_OWNERS; i++)
        assert_true(list_empty(&k.owners[i]));
    assert_int_equal(k.held_bytes, 0);
    free(k.job);
    buf_clear(&record);
    return 0;
}

/* The owner's key stays as it is until the next row. */
static struct journal_job row_of(uint64_t number, uint32_t owner)
{
    memset(key, (int)owner + 1, MSG_KEY_BYTES);
    return (struct journal_job){.number = number, .came_ms = 1, .owner = {key, MSG_KEY_BYTES}, .record = {record.data, record.size}};
}

static int take_row(void *owner, const struct journal_job *row, struct err *why)
{
    return keeper_job_new(owner, row, why) ? 0 : -1;
}

/* The numbers are not in order; the last one is 3 times their count. */
static uint64_t number_of(uint32_t i)
{
    return 3 * ((uint64_t)i * 7919 % KEEPER_JOBS_MAX) + 3;
}

static void all_of_a_journal(void **state)
{
    (void)state;
    struct journal *j = journal_open(directory, &e);
    assert_non_null(j);
    for (uint32_t i = 0; i < KEEPER_JOBS_MAX; i++) {
        struct journal_job row = row_of(number_of(i), i % OWNERS);
        assert_int_equal(journal_add(j, &row, &e), 0);
    }
    assert_int_equal(journal_read(j, take_row, &k, &e), 0);
    journal_close(j);
    assert_int_equal(k.job_count, KEEPER_JOBS_MAX);
    for (uint32_t i = 0; i < KEEPER_JOBS_MAX; i++) {
        struct keeper_job *one = keeper_job_of(&k, number_of(i));
        assert_non_null(one);
        assert_int_equal(one->row.number, number_of(i));
        assert_true(!i || k.job[i - 1]->row.number < k.job[i]->row.number);
    }
    assert_null(keeper_job_of(&k, 4));
    assert_null(keeper_job_of(&k, 3 * (uint64_t)KEEPER_JOBS_MAX + 1));
    struct journal_job more = row_of(5, 0);
    assert_null(keeper_job_new(&k, &more, &e)); /* one job too many */
    assert_int_equal(e.code, ERR_LIMIT);
    keeper_job_free(keeper_job_of(&k, number_of(0)));
    assert_null(keeper_job_of(&k, number_of(0)));
    more.number = number_of(1);
    assert_null(keeper_job_new(&k, &more, &e)); /* a job with this number exists */
    assert_int_equal(k.job_count, KEEPER_JOBS_MAX - 1);
}

/* An owner who has brought as many jobs as a key may have is told so; jobs of another owner are accepted. */
static void a_key_has_a_share(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= KEEPER_JOBS_PER_KEY_MAX; i++) {
        struct journal_job row = row_of(i, 0);
        assert_int_equal(keeper_list_room(&k, row.owner, &e), 0);
        assert_non_null(keeper_job_new(&k, &row, &e));
    }
    struct journal_job theirs = row_of(1 << 20, 0);
    assert_int_equal(keeper_list_room(&k, theirs.owner, &e), -1);
    assert_non_null(strstr(e.text, "KEEPER_JOBS_PER_KEY_MAX"));
    theirs = row_of(1 << 20, 1);
    assert_int_equal(keeper_list_room(&k, theirs.owner, &e), 0);
    keeper_job_free(keeper_job_of(&k, 7));
    theirs = row_of(1 << 20, 0);
    assert_int_equal(keeper_list_room(&k, theirs.owner, &e), 0);
}

/* A thousand jobs of one owner, then one of another, which is started as the second. */
static void who_comes_last_does_not_wait_for_all(void **state)
{
    static struct zpipe_job at_work;
    (void)state;
    for (uint32_t i = 1; i <= 1001; i++) {
        struct journal_job row = row_of(i, i == 1001);
        assert_non_null(keeper_job_new(&k, &row, &e));
    }
    const uint64_t want[] = {1, 1001, 2, 3};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct keeper_job *one = keeper_list_next(&k);
        assert_non_null(one);
        assert_int_equal(one->row.number, want[i]);
        one->job = &at_work;
        one->owner->running++;
    }
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        keeper_job_of(&k, want[i])->job = NULL;
}

/* As many jobs are over as are kept.  The first one, whose output was not taken, has another owner than the thousand
 * others. */
static void who_has_the_most_loses_one(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= KEEPER_OVER_MAX + 1; i++) {
        struct journal_job row = row_of(i, i > 1);
        row.over = true;
        row.over_ms = i;
        row.everything = i == 100 || i == 101;
        assert_null(keeper_list_spare(&k, 1));
        assert_non_null(keeper_job_new(&k, &row, &e));
    }
    const uint64_t want[] = {100, 101, 2, 3}; /* jobs whose output was taken go first */
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct journal_job row = row_of(KEEPER_OVER_MAX + 2 + i, 1);
        struct keeper_job *spare = keeper_list_spare(&k, 1);
        assert_non_null(spare);
        assert_int_equal(spare->row.number, want[i]);
        keeper_job_free(spare);
        assert_null(keeper_list_spare(&k, 1));
        row.over = true;
        row.over_ms = row.number;
        assert_non_null(keeper_job_new(&k, &row, &e));
    }
    struct keeper_job *old = keeper_list_spare(&k, KEEPER_OVER_MS + 2);
    assert_true(old && old->row.number == 1); /* its time is over, so it goes whichever owner has the most */
}

#define OLD 250

/* Jobs whose time is over, all at once: KEEPER_FORGET_MAX of them go in a tick, from the journal and from the disk, and nobody else does. */
static void many_are_forgotten_in_a_second(void **state)
{
    struct zpipe away = {.lost = true}; /* nobody is there to be told */
    (void)state;
    struct journal *j = journal_open(directory, &e);
    assert_non_null(j);
    char *jobs = keeper_path(&k, 0, NULL, &e);
    *strrchr(jobs, '/') = '\0';
    assert_int_equal(mkdir(jobs, 0700), 0);
    free(jobs);
    k.z = &away;
    k.journal = j;
    list_init(&k.visitors);
    keeper_clock_start(&k);
    uint64_t now = keeper_now_ms(&k), first = 4 * (uint64_t)KEEPER_JOBS_MAX;
    for (uint32_t i = 0; i < OLD + 2; i++) {
        struct journal_job row = row_of(first + i, i % OWNERS);
        row.over = i != OLD; /* one still runs, and one has just ended */
        row.over_ms = i < OLD ? now - KEEPER_OVER_MS - 1000 - i : row.over ? now : 0;
        row.why = "";
        assert_non_null(keeper_job_new(&k, &row, &e));
        assert_true(journal_add(j, &row, &e) == 0 && (!row.over || journal_end(j, &row, &e) == 0));
        char *path = keeper_path(&k, row.number, NULL, &e);
        assert_int_equal(mkdir(path, 0700), 0);
        free(path);
    }
    for (uint32_t gone = 0; gone < OLD;) {
        keeper_jobs_tick(&k);
        gone = gone + KEEPER_FORGET_MAX < OLD ? gone + KEEPER_FORGET_MAX : OLD;
        assert_int_equal(k.job_count, OLD + 2 - gone);
        assert_true(gone == OLD || (!keeper_job_of(&k, first + OLD - gone) && keeper_job_of(&k, first + OLD - gone - 1))); /* the oldest ones */
    }
    keeper_jobs_tick(&k);
    assert_int_equal(k.job_count, 2);
    assert_int_equal(keeper_job_of(&k, first + OLD + 1)->row.over_ms, now);
    char *left = keeper_path(&k, first, NULL, &e);
    assert_int_equal(access(left, F_OK), -1);
    free(left);
    journal_close(j);
}

static time_t set_s; /* the host's clock was set forward so far */

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, clock, t);
    t->tv_sec += clock == CLOCK_REALTIME ? set_s : 0;
    return r;
}

#define DAY_MS ((int64_t)24 * 3600 * 1000)

/* A keeper begins a new life while the host's clock is so many days off.  Returns how many days its own clock has gone on
 * since that of `was`. */
static int days_in_a_new_life(struct keeper *was, int days)
{
    uint64_t before = keeper_now_ms(was);
    set_s = days * DAY_MS / 1000;
    struct keeper next = *was;
    keeper_clock_start(&next);
    int64_t passed = (int64_t)(keeper_now_ms(&next) - before);
    set_s = 0;
    return (int)((passed + (passed < 0 ? -DAY_MS : DAY_MS) / 2) / DAY_MS);
}

/* A job is forgotten seven days after its end, but not because somebody set the clock, while its keeper ran or did not. */
static void a_clock_that_is_set_makes_no_job_older(void **state)
{
    (void)state;
    keeper_clock_start(&k);
    uint64_t before = keeper_now_ms(&k);
    assert_true(before / 1000 >= (uint64_t)time(NULL) - 60);
    set_s = 8 * DAY_MS / 1000;
    assert_true(keeper_now_ms(&k) < before + 60000);
    set_s = -8 * DAY_MS / 1000;
    assert_true(keeper_now_ms(&k) >= before);
    set_s = 0;
    struct journal_job row = row_of(1, 0);
    row.came_ms = before - DAY_MS;
    row.over = true;
    row.over_ms = before;
    assert_non_null(keeper_job_new(&k, &row, &e));
    assert_int_equal(days_in_a_new_life(&k, 0), 0);
    assert_int_equal(days_in_a_new_life(&k, -3650), 0);
    assert_int_equal(days_in_a_new_life(&k, 3650), 1);
}

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/zpipe-list-XXXXXX" : "/tmp/zpipe-list-XXXXXX"); /* it is filled row by row */
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return keeper_remove_tree(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_of_a_journal, keeper_begin, keeper_end),
        cmocka_unit_test_setup_teardown(a_key_has_a_share, keeper_begin, keeper_end),
        cmocka_unit_test_setup_teardown(who_comes_last_does_not_wait_for_all, keeper_begin, keeper_end),
        cmocka_unit_test_setup_teardown(who_has_the_most_loses_one, keeper_begin, keeper_end),
        cmocka_unit_test_setup_teardown(many_are_forgotten_in_a_second, keeper_begin, keeper_end),
        cmocka_unit_test_setup_teardown(a_clock_that_is_set_makes_no_job_older, keeper_begin, keeper_end),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
