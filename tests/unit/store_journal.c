/* The journal: what was written is read again, in another life too; what was changed behind its back is refused. */
#include "tests/lib/test.h"

#include "store/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/zpipe-journal-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    static const char *const names[] = {"journal", "journal-wal", "journal-shm", "journal-commits"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

static struct journal *open_good(void)
{
    struct err e;
    struct journal *j = journal_open(directory, &e);
    if (!j)
        fail_msg("%s", e.text);
    return j;
}

#define RECORD "record\0with a zero"
static const struct journal_job rows[] = {
    {.number = 1, .came_ms = 5, .owner = {"", 0}, .record = {RECORD, sizeof RECORD}},
    {.number = UINT64_C(1000000000000000001), .came_ms = UINT64_C(1) << 40, .owner = {"01234567890123456789012345678901", 32},
     .record = {"r", 1}, .over = true, .over_ms = 9, .status = 125, .code = 10, .why = "cancelled"},
    {.number = 7, .came_ms = 6, .owner = {"k", 1}, .record = {"rr", 2}, .over = true, .over_ms = 10, .committed = true, .why = "",
     .taken_bytes = UINT64_C(1) << 60, .receipt_from = 12, .receipt = "head 1 2 3 /a b/c", .everything = true},
    {.number = 8, .came_ms = 6, .owner = {"k", 1}, .record = {"", 0}, .taken_bytes = 3, .receipt = "x"},
};
#define ROWS (sizeof rows / sizeof *rows)

static void write_rows(struct journal *j)
{
    struct err e;
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(journal_add(j, &rows[i], &e), 0);
        if (rows[i].over)
            assert_int_equal(journal_end(j, &rows[i], &e), 0);
        if (rows[i].receipt)
            assert_int_equal(journal_take(j, &rows[i], &e), 0);
    }
}

static bool same_bytes(struct slice a, struct slice b)
{
    return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

static int compare_row(void *owner, const struct journal_job *r, struct err *e)
{
    unsigned *seen = owner;
    (void)e;
    for (size_t i = 0; i < ROWS; i++) {
        const struct journal_job *w = &rows[i];
        if (w->number != r->number)
            continue;
        *seen |= 1u << i;
        assert_true(w->came_ms == r->came_ms && same_bytes(w->owner, r->owner) && same_bytes(w->record, r->record));
        assert_true(w->over == r->over && w->over_ms == r->over_ms && w->status == r->status && w->code == r->code);
        assert_true(w->committed == r->committed && w->taken_bytes == r->taken_bytes && w->receipt_from == r->receipt_from);
        assert_true(w->everything == r->everything);
        assert_string_equal(w->why ? w->why : "", r->why);
        assert_string_equal(w->receipt ? w->receipt : "", r->receipt);
        return 0;
    }
    fail_msg("job %llu came from nowhere", (unsigned long long)r->number);
    return -1;
}

static unsigned read_rows(struct journal *j)
{
    struct err e;
    unsigned seen = 0;
    if (journal_read(j, compare_row, &seen, &e) < 0)
        fail_msg("%s", e.text);
    return seen;
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    struct err e;
    struct journal *j = open_good();
    write_rows(j);
    assert_int_equal(read_rows(j), (1u << ROWS) - 1);
    journal_close(j);
    j = open_good();
    assert_int_equal(read_rows(j), (1u << ROWS) - 1);
    assert_int_equal(journal_remove(j, 7, &e), 0);
    assert_int_equal(read_rows(j), ((1u << ROWS) - 1) & ~4u);
    assert_int_equal(journal_add(j, &rows[0], &e), -1); /* it is there */
    assert_int_equal(read_rows(j), ((1u << ROWS) - 1) & ~4u);
    journal_close(j);
}

static void one_process_has_it(void **state)
{
    (void)state;
    struct err e;
    struct journal *j = open_good();
    assert_null(journal_open(directory, &e));
    assert_int_equal(e.code, ERR_AGAIN);
    journal_close(j);
}

/* Killed, without a close: the log is not yet in the database. */
static void kill_a_writer(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct err e;
        struct journal *j = journal_open(directory, &e);
        for (size_t i = 0; j && i < ROWS; i++) {
            journal_add(j, &rows[i], &e);
            if (rows[i].over)
                journal_end(j, &rows[i], &e);
            if (rows[i].receipt)
                journal_take(j, &rows[i], &e);
        }
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void a_killed_writer_lost_nothing(void **state)
{
    (void)state;
    kill_a_writer();
    struct journal *j = open_good();
    assert_int_equal(read_rows(j), (1u << ROWS) - 1);
    journal_close(j);
}

static size_t load(const char *name, uint8_t *bytes, size_t room)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, bytes, room);
    close(fd);
    return n > 0 ? (size_t)n : 0;
}

static void store(const char *name, const uint8_t *bytes, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static int count_row(void *owner, const struct journal_job *r, struct err *e)
{
    (void)r, (void)e;
    ++*(int *)owner;
    return 0;
}

/* A bit of every 131st byte in turn: refused with its name, or all is as it was. */
static void damage_is_seen(const char *name)
{
    static uint8_t main_file[1 << 20], log_file[1 << 20], commits[64], whole[1 << 20];
    size_t main_size = load("journal", main_file, sizeof main_file), log_size = load("journal-wal", log_file, sizeof log_file);
    size_t commits_size = load("journal-commits", commits, sizeof commits), size = load(name, whole, sizeof whole);
    int refused = 0;
    assert_true(size > 0);
    for (size_t at = 0; at < size; at += 131) {
        struct err e = {0};
        store("journal", main_file, main_size);
        store("journal-wal", log_file, log_size);
        store("journal-commits", commits, commits_size);
        whole[at] ^= (uint8_t)(1u << at % 8);
        store(name, whole, size);
        whole[at] ^= (uint8_t)(1u << at % 8);
        struct journal *j = journal_open(directory, &e);
        unsigned seen = 0;
        int count = 0;
        if (j && journal_read(j, count_row, &count, &e) == 0) {
            assert_int_equal(journal_read(j, compare_row, &seen, &e), 0);
            assert_int_equal(seen, (1u << ROWS) - 1);
        } else {
            assert_non_null(strstr(e.text, "journal"));
            refused++;
        }
        journal_close(j);
    }
    assert_true(refused > 0);
}

static void damage_in_the_database_is_seen(void **state)
{
    (void)state;
    struct journal *j = open_good();
    write_rows(j);
    journal_close(j);
    damage_is_seen("journal");
}

static void damage_in_the_log_is_seen(void **state)
{
    (void)state;
    kill_a_writer();
    damage_is_seen("journal-wal");
}

/* Each file may grow to so much: at some point a change is refused, and those before it are there. */
static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    static char record[30000];
    struct rlimit was, small = {200000, RLIM_INFINITY};
    struct err e = {0};
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct journal *j = open_good();
    setrlimit(RLIMIT_FSIZE, &small);
    int written = 0, count = 0;
    for (uint64_t i = 1; i < 100; i++) {
        struct journal_job row = {.number = i, .owner = {"", 0}, .record = {record, sizeof record}};
        if (journal_add(j, &row, &e) < 0)
            break;
        written++;
    }
    assert_true(written > 0 && written < 99);
    assert_non_null(strstr(e.text, "no room on the disk for the journal"));
    assert_int_equal(journal_read(j, count_row, &count, &e), 0);
    assert_int_equal(count, written);
    setrlimit(RLIMIT_FSIZE, &was);
    journal_close(j);
    j = open_good();
    count = 0;
    assert_int_equal(journal_read(j, count_row, &count, &e), 0);
    assert_int_equal(count, written);
    journal_close(j);
}

#define JOURNAL_TEST(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(what_was_written_is_read),       JOURNAL_TEST(one_process_has_it),
        JOURNAL_TEST(a_killed_writer_lost_nothing),   JOURNAL_TEST(damage_in_the_database_is_seen),
        JOURNAL_TEST(damage_in_the_log_is_seen),      JOURNAL_TEST(a_full_disk_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
