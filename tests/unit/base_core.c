/* The everyday things: errors keep errno, buffers keep their ceiling, arenas and packing refuse what
 * cannot be. */
#include "tests/lib/test.h"

#include "base/kept.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/fds.h"
#include "base/grow.h"
#include "base/lines.h"
#include "base/loop.h"
#include "base/pack.h"
#include "base/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void errors(void **state)
{
    (void)state;
    struct err e = {0};
    errno = EACCES;
    assert_int_equal(err_sys(&e, "cannot open '%s'", "x"), -1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(e.code, ERR_DENIED);
    assert_string_equal(e.text, "cannot open 'x': Permission denied");
    err_wrap(&e, "stage %d", 3);
    assert_string_equal(e.text, "stage 3: cannot open 'x': Permission denied");
    assert_int_equal(err_set(NULL, ERR_BUG, "nobody listens"), -1);
    char big[4 * ERR_TEXT_MAX];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&e, ERR_INPUT, "%s", big);
    err_wrap(&e, "%s", big);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    char shown[ERR_NAME_MAX];
    assert_string_equal(err_name("a\x1b[2Jb\n\x7f c\xc3\xa9", shown), "a?[2Jb?? c\xc3\xa9");
    char lines[] = "a\tb\n\r\xc2\x9b" "2J\xc2\xa0\xc2";
    assert_string_equal(err_plain(lines, true), "a\tb\n???2J\xc2\xa0\xc2");
    assert_string_equal(err_plain(lines, false), "a?b????2J\xc2\xa0\xc2");
    char turned[] = "a\xe2\x80\xae" "b\xd8\x9c" "c\xe2\x81\xa6\xe2\x80\xa8\xe2\x82\xac\xd8\x9b\xe2\x80\x93\xe2\x80";
    assert_string_equal(err_plain(turned, false), "a???b??c??????\xe2\x82\xac\xd8\x9b\xe2\x80\x93\xe2\x80");
    memset(big, 'x', sizeof big - 1);
    assert_int_equal(strlen(err_name(big, shown)), ERR_NAME_MAX - 1);
}

static void buffers(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10);
    buf_text(&b, "12345");
    buf_printf(&b, "%d", 678);
    assert_string_equal(b.data, "12345678");
    buf_text(&b, "9ab");
    assert_true(b.failed);
    assert_int_equal(b.size, 8);
    buf_drop(&b, 3);
    assert_string_equal(b.data, "45678");
    buf_drop(&b, 100);
    assert_int_equal(b.size, 0);
    buf_clear(&b);
    char *empty = buf_take(&b);
    assert_string_equal(empty, "");
    free(empty);
}

static void arenas(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(100000);
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&a, SIZE_MAX - 3));
    assert_non_null(arena_alloc(&a, 50000));
    assert_null(arena_alloc(&a, 60000));
    assert_string_equal(arena_string(&a, "x"), "x");
    arena_clear(&a);
    assert_non_null(arena_alloc(&a, 60000));
    arena_clear(&a);
}

static void arrays(void **state)
{
    (void)state;
    static const uint32_t ceilings[] = {1, 3, GROW_FIRST, 100};
    for (size_t c = 0; c < sizeof ceilings / sizeof *ceilings; c++) {
        uint64_t *item = NULL;
        uint32_t room = 0, count = 0;
        for (; grow(&item, &room, count, ceilings[c], sizeof *item); count++) {
            assert_in_range(room, count + 1, ceilings[c]);
            item[count] = count * 7;
        }
        assert_int_equal(count, ceilings[c]);
        assert_int_equal(room, ceilings[c]);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(item[i], i * 7);
        free(item);
    }
}

static void packing(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    pack_u32(&b, 7);
    pack_u64(&b, UINT64_MAX - 1);
    pack_string(&b, "text");
    pack_bytes(&b, "a\0b", 3);
    struct unpack u = unpack_of(b.data, b.size);
    assert_int_equal(unpack_u32(&u), 7);
    assert_true(unpack_u64(&u) == UINT64_MAX - 1);
    assert_string_equal(unpack_string(&u), "text");
    assert_int_equal(unpack_bytes(&u).size, 3);
    assert_true(unpack_end(&u));
    for (size_t cut = 0; cut < b.size; cut++) { /* every truncation is noticed */
        u = unpack_of(b.data, cut);
        unpack_u32(&u), unpack_u64(&u), unpack_string(&u), unpack_bytes(&u);
        assert_true(u.bad);
    }
    u = unpack_of("\xff\xff\xff\x00", 4);
    assert_int_equal(unpack_count(&u, 4, 1000), 0);
    assert_true(u.bad);
    u = unpack_of("\x03\x00\x00\x00"
                  "a\0b\0",
                  8);
    assert_string_equal(unpack_string(&u), "");
    assert_true(u.bad);
    buf_clear(&b);
}

static void spools(void **state)
{
    (void)state;
    struct err e;
    char text[8];
    int fd = spool_open(&e);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, "hello", 5), 0);
    int reader = spool_reader(fd, &e);
    assert_int_equal(fd_read_all(reader, text, sizeof text), 5);
    assert_int_equal(write(reader, "x", 1), -1);
    close(reader);
    close(fd);
    fd = spool_of(slice_of("abc"), &e);
    assert_int_equal(fd_read_all(fd, text, sizeof text), 3);
    close(fd);
}

/* ---- the loop */

struct seen {
    struct loop *loop;
    int fd_events, timer_events, hook_runs;
    struct loop_hook hook;
};

static void on_fd(struct loop_fd *w, int events)
{
    (void)events;
    char byte;
    struct seen *s = w->owner;
    assert_int_equal(read(w->ev.fd, &byte, 1), 1);
    s->fd_events++;
    loop_stop(s->loop);
}

static void on_timer(struct loop_timer *w)
{
    struct seen *s = w->owner;
    if (++s->timer_events == 3)
        loop_stop(s->loop);
}

static bool hook_pending(struct loop_hook *w)
{
    struct seen *s = w->owner;
    return s->hook_runs < 5;
}

static void hook_run(struct loop_hook *w)
{
    struct seen *s = w->owner;
    if (++s->hook_runs == 5)
        loop_hook_stop(w); /* stopping itself from inside */
}

static void looping(void **state)
{
    (void)state;
    struct err e;
    int ends[2];
    struct seen s = {.loop = loop_new(&e)};
    assert_non_null(s.loop);
    assert_int_equal(pipe(ends), 0);
    struct loop_fd fd = {.run = on_fd, .owner = &s};
    loop_fd_start(s.loop, &fd, ends[0], LOOP_READ);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_run(s.loop);
    assert_int_equal(s.fd_events, 1);
    struct loop_timer timer = {.run = on_timer, .owner = &s};
    loop_timer_start(s.loop, &timer, 1000000, 1000000);
    loop_run(s.loop);
    assert_int_equal(s.timer_events, 3);
    loop_timer_stop(s.loop, &timer);
    s.hook = (struct loop_hook){.pending = hook_pending, .run = hook_run, .owner = &s};
    loop_hook_start(s.loop, &s.hook, -1);
    for (int turn = 0; turn < 20 && s.hook_runs < 5; turn++)
        loop_turn(s.loop, true); /* a pending hook keeps it from sleeping */
    assert_int_equal(s.hook_runs, 5);
    loop_fd_stop(s.loop, &fd);
    loop_free(s.loop);
    close(ends[0]);
    close(ends[1]);
}

static void lines_over(struct lines *l)
{
    loop_stop(l->owner);
}

static void whole_lines(void **state)
{
    (void)state;
    struct err e;
    struct loop *loop = loop_new(&e);
    int in[2], out[2];
    char text[256];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, in), 0);
    assert_int_equal(pipe2(out, O_NONBLOCK), 0);
    struct lines l;
    lines_start(&l, loop, in[0], out[1], lines_over, loop);
    assert_int_equal(write(in[1], "one\ntw", 6), 6);
    loop_turn(loop, true);
    assert_int_equal(read(out[0], text, sizeof text), 4);
    assert_int_equal(write(in[1], "o\nend", 5), 5);
    close(in[1]);
    loop_run(loop);
    ssize_t n = read(out[0], text, sizeof text);
    assert_int_equal(n, 7);
    assert_memory_equal(text, "two\nend", 7);
    assert_string_equal(l.tail.data, "one\ntwo\nend");
    lines_clear(&l);
    close(out[0]);
    close(out[1]);
    loop_free(loop);
}

/* Where they go is a pipe that the same loop reads, and it holds less than they are. */
struct reader {
    struct loop_fd watch;
    struct loop *loop;
    size_t size;
    bool over;
};

static void read_some(struct loop_fd *w, int events)
{
    (void)events;
    struct reader *r = w->owner;
    char bytes[1000];
    ssize_t n = read(w->ev.fd, bytes, sizeof bytes);
    assert_true(n >= 0);
    r->size += (size_t)n;
    if (n == 0) {
        loop_fd_stop(r->loop, w);
        loop_stop(r->loop);
    }
}

static void reader_over(struct lines *l)
{
    struct reader *r = l->owner;
    r->over = true;
    close(l->to); /* and so it is the end */
}

static void lines_into_a_full_pipe(void **state)
{
    (void)state;
    static const size_t lengths[] = {200000, 100};
    for (size_t k = 0; k < 2; k++) {
        struct err e;
        struct loop *loop = loop_new(&e);
        int in[2], out[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, in), 0);
        assert_int_equal(pipe(out), 0);
        struct lines l;
        struct reader r = {.watch = {.run = read_some}, .loop = loop};
        r.watch.owner = &r;
        lines_start(&l, loop, in[0], out[1], reader_over, &r);
        size_t size = 0;
        for (int turn = 0; turn < 1000 && size < 200000; turn++) { /* nobody reads */
            char bytes[1000];
            memset(bytes, 'x', sizeof bytes);
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (size + i + 1) % lengths[k] ? 'x' : '\n';
            ssize_t n = write(in[1], bytes, sizeof bytes);
            size += n > 0 ? (size_t)n : 0;
            loop_turn(loop, false);
        }
        close(in[1]);
        assert_in_range(size, 100000, 200000);
        assert_false(r.over);
        loop_fd_start(loop, &r.watch, out[0], LOOP_READ);
        loop_run(loop);
        assert_true(r.over);
        assert_int_equal(r.size, size);
        lines_clear(&l);
        close(out[0]);
        loop_free(loop);
    }
}

static void kept_files(void **state)
{
    const char *names[] = {"out.txt", "d/e", "b", "a"};
    static const char *const patterns[] = {"part_*", "x/*.c", "\\*", "dir"};
    static const struct {
        const char *name;
        bool kept;
    } rows[] = {{"a", true},        {"b/c/d", true},     {"bc", false},    {"d", false},     {"d/e", true},
                {"d/e/f", true},    {"d/ef", false},     {"out.tx", false}, {"out.txt", true}, {"out.txt2", false},
                {"part_1", true},   {"part_1/x", true},  {"my/part_1", false}, {"x/y.c", true}, {"x/y/z.c", false},
                {"*", true},        {"**", false},       {"dir/deep/x", true}, {".a", false}, {"x/.c.c", false}};
    (void)state;
    kept_sort(names, 4);
    const struct kept k = {names, 4, patterns, 4};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (kept_fits(&k, rows[i].name) != rows[i].kept)
            fail_msg("%s", rows[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),  cmocka_unit_test(buffers), cmocka_unit_test(arenas),
        cmocka_unit_test(arrays), cmocka_unit_test(packing), cmocka_unit_test(spools),
        cmocka_unit_test(looping), cmocka_unit_test(whole_lines), cmocka_unit_test(lines_into_a_full_pipe), cmocka_unit_test(kept_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
