/* Which files are read where they lie: the very file of the client's, that everybody may read, and nothing else. */
#include "lib/test.h"
#include "proto/kept.h"
#include "proto/msg.h"
#include "worker/shared.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char root[] = "/tmp/zpipe-shared-XXXXXX";

static char *under(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s%s", root, name);
    return path;
}

static void make_file(const char *name, mode_t mode)
{
    int fd = open(under(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, name, strlen(name)), (ssize_t)strlen(name));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void make_directory(const char *name, mode_t mode)
{
    assert_int_equal(mkdir(under(name), 0700), 0);
    assert_int_equal(chmod(under(name), mode), 0);
}

static void make_link(const char *to, const char *name)
{
    char target[4096];
    snprintf(target, sizeof target, "%s", under(to));
    assert_int_equal(symlink(target, under(name)), 0);
}

static int make_tree(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    make_directory("/data", 0755);
    make_directory("/data/in", 0711);
    make_directory("/data/own", 0700);
    make_directory("/database", 0755);
    make_directory("/tight", 0700);
    make_file("/data/a", 0644);
    make_file("/data/in/b", 0604);
    make_file("/data/own/c", 0644);
    make_file("/data/secret", 0640);
    make_file("/database/d", 0644);
    make_file("/outside", 0644);
    make_file("/tight/e", 0644);
    make_link("/outside", "/data/link");
    make_link("/data/in", "/data/there");
    make_link("/data", "/alias");
    assert_int_equal(mkfifo(under("/data/fifo"), 0644), 0);
    return 0;
}

static int remove_tree(void **state)
{
    char line[128];
    (void)state;
    snprintf(line, sizeof line, "rm -rf %s", root);
    return system(line);
}

/* What the client says of the file at this path. */
static struct graph_file said_of(const char *path)
{
    struct stat s = {0};
    stat(path, &s);
    return (struct graph_file){.name = "x", .path = path, .size_bytes = (uint64_t)s.st_size, .inode = s.st_ino, .mode = s.st_mode,
                               .mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec};
}

static void names(void **state)
{
    static const struct {
        const char *shared, *path; /* below root; in `shared` % is root */
        bool good;
    } rows[] = {
        {"%/data", "/data/a", true},
        {"%/data/", "/data/a", true},
        {"/none:%/data", "/data/in/b", true},
        {"%/data/in", "/data/in/b", true},
        {"%/alias", "/alias/a", true}, /* whoever names the directory may name a link to it */
        {"", "/data/a", false},
        {"%/data", "/outside", false},
        {"%/data", "/database/d", false},
        {"%/data", "/data", false},
        {"%/data", "/data/in", false},
        {"%/data", "/data/none", false},
        {"%/data", "/data/secret", false},
        {"%/data", "/data/own/c", false},
        {"%/data", "/data/link", false},
        {"%/data", "/data/there/b", false},
        {"%/data", "/data/../outside", false},
        {"%/data", "/data/./a", false},
        {"%/data", "/data//a", false},
        {"%/data", "/data/a/", false},
        {"%/data", "/data/fifo", false},
        {"%/tight", "/tight/e", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char shared[4096] = "", path[4096], bytes[64] = "";
        const char *hole = strchr(rows[i].shared, '%');
        if (hole)
            snprintf(shared, sizeof shared, "%.*s%s%s", (int)(hole - rows[i].shared), rows[i].shared, root, hole + 1);
        snprintf(path, sizeof path, "%s", under(rows[i].path));
        struct graph_file f = said_of(path);
        int fd = shared_open(shared, &f);
        if ((fd >= 0) != rows[i].good)
            fail_msg("row %zu: '%s' of '%s' is %sopened", i, rows[i].path, rows[i].shared, fd >= 0 ? "" : "not ");
        if (fd < 0)
            continue;
        assert_int_equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_PATH), O_RDONLY);
        assert_true(read(fd, bytes, sizeof bytes - 1) > 0);
        assert_string_equal(strrchr(bytes, '/'), strrchr(path, '/'));
        close(fd);
    }
}

static void facts(void **state)
{
    char path[4096], shared[4096];
    (void)state;
    snprintf(path, sizeof path, "%s", under("/data/a"));
    snprintf(shared, sizeof shared, "%s", under("/data"));
    struct graph_file row[] = {said_of(path), said_of(path), said_of(path), said_of(path), said_of(path), said_of(path)};
    row[0].size_bytes++;
    row[1].inode++;
    row[2].inode = 0;
    row[3].mtime_ns++;
    row[4].awaited = true;
    row[5].passed = 1;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(shared_open(shared, &row[i]), -1);
}

static void lists(void **state)
{
    static const struct {
        const char *list, *bad; /* NULL: none is */
    } row[] = {{"", NULL}, {"/", NULL}, {"/a:/b/", NULL}, {":/a::/b:", NULL}, {"a", "'a'"}, {"/a:b", "'b'"}, {"./a", "'./a'"}, {"/a:~/b:c", "'~/b'"}};
    struct err e;
    char *many = calloc(1, MSG_SHARED_MAX + 2);
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if ((kept_shared_check(row[i].list, &e) < 0) != (row[i].bad != NULL) || (row[i].bad && !strstr(e.text, row[i].bad)))
            fail_msg("'%s'", row[i].list);
    memset(many, '/', MSG_SHARED_MAX);
    assert_int_equal(kept_shared_check(many, &e), 0);
    many[MSG_SHARED_MAX] = '/';
    assert_int_equal(kept_shared_check(many, &e), -1);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(facts), cmocka_unit_test(lists)};
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
