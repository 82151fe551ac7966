/* A region survives the way into bytes and back, and bytes that are no region are refused: cut short at
 * every place, with every byte changed, and with each rule about sides, numbers and names broken.  And the fuzz target's
 * regions are of today's form: `test_box_spec write`, in the sources' directory, makes them anew. */
#include "base/fds.h"
#include "lib/test.h"
#include "sandbox/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"prog", "a b", "", NULL};
static const char *const env[] = {"A=1", "PATH=/bin", NULL};
static const struct box_file files[] = {{"in.txt", "/data/in.txt", -1, false, 0, 0, NULL, false}, {"/etc/x", NULL, 77, true, 3, 5, NULL, false},
                                        {"l", NULL, -1, false, 0, 0, "../../etc", false}};
static const struct box_port ports0[] = {
    {0, false, 0, -1, NULL, 0, false}, {1, true, 1, -1, NULL, 0, false}, {2, true, -1, 42, NULL, 0, false}};
static const struct box_port ports1[] = {
    {0, false, 1, -1, NULL, 0, false}, {1, true, 2, -1, NULL, 0, true}, {63, true, 3, -1, NULL, 0, false}};
static const char *const outs[] = {"o/1", "o2"};
static const struct box_source sources[] = {{10, BOX_ALL, 0}, {11, 0, 5}, {12, 7, 9}};

struct sample {
    struct box_task task[2];
    struct box_channel channel[4];
    struct box_region region;
};

static void fill(struct sample *s)
{
    memset(s, 0, sizeof *s);
    s->task[0] = (struct box_task){.argv = words, .env = env, .file = files, .file_count = 3,
                                   .port = ports0, .port_count = 3, .output = outs, .output_count = 2,
                                   .limit = {1, 2, 3, 4, 5, 6, 7}, .seed = 8, .stream = 9, .epoch_s = -10, .expected = 11};
    s->task[1] = (struct box_task){.argv = words + 1, .env = env, .port = ports1, .port_count = 3,
                                   .out_glob = outs, .out_glob_count = 1};
    s->channel[0] = (struct box_channel){.end = BOX_FEED, .source = sources, .source_count = 3, .sink = -1,
                                         .more = true};
    s->channel[1] = (struct box_channel){.end = BOX_INSIDE, .lines = true};
    s->channel[2] = (struct box_channel){.end = BOX_DRAIN, .sink = 13, .tell = true};
    s->channel[3] = (struct box_channel){.end = BOX_REMOTE_READER};
    s->region = (struct box_region){.task = s->task, .task_count = 2, .channel = s->channel, .channel_count = 4};
}

static int encode(const struct sample *s, struct buf *b, int **fds, uint32_t *count)
{
    static const int remote[4][2] = {{0, 0}, {0, 0}, {0, 0}, {20, 21}};
    struct err e;
    *b = BUF_INIT(BOX_SPEC_BYTES_MAX);
    return spec_encode(&s->region, remote, b, fds, count, &e);
}

static const char *const corpus[] = {"tests/fuzz/corpus/box_spec/pipeline", "tests/fuzz/corpus/box_spec/one"};

/* The i-th file of the corpus. */
static void encode_corpus(int i, struct buf *b)
{
    struct sample s;
    int *fds;
    uint32_t count;
    fill(&s);
    if (i) {
        s.task[0] = (struct box_task){.argv = words, .env = env};
        s.region.task_count = 1;
        s.region.channel_count = 0;
    }
    assert_int_equal(encode(&s, b, &fds, &count), 0);
    free(fds);
}

static void test_corpus(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        char there[4096];
        struct buf b;
        encode_corpus(i, &b);
        FILE *f = fopen(corpus[i], "re");
        if (!f)
            fail_msg("cannot open '%s'", corpus[i]);
        size_t size = fread(there, 1, sizeof there, f);
        fclose(f);
        if (size != b.size || memcmp(there, b.data, size))
            fail_msg("'%s' is of another form: `test_box_spec write` makes it anew", corpus[i]);
        buf_clear(&b);
    }
}

static int write_corpus(void)
{
    int result = 0;
    for (int i = 0; i < 2; i++) {
        struct buf b;
        encode_corpus(i, &b);
        FILE *f = fopen(corpus[i], "we");
        result |= !f || fwrite(b.data, 1, b.size, f) != b.size;
        result |= f && fclose(f) != 0;
        buf_clear(&b);
    }
    return result;
}

static void test_round_trip(void **state)
{
    static const int expected[] = {10, 11, 12, 13, 20, 21, 77, 42};
    struct sample s;
    struct buf b;
    struct spec spec;
    struct err e;
    int *fds;
    uint32_t count;
    (void)state;
    fill(&s);
    assert_int_equal(encode(&s, &b, &fds, &count), 0);
    assert_int_equal(count, 8);
    assert_memory_equal(fds, expected, sizeof expected);
    assert_int_equal(spec_decode((struct slice){b.data, b.size}, &spec, &e), 0);
    assert_int_equal(spec.fd_count, 8);
    const struct box_task *t = &spec.region.task[0];
    assert_string_equal(t->argv[1], "a b");
    assert_string_equal(t->argv[2], "");
    assert_null(t->argv[3]);
    assert_string_equal(t->env[1], "PATH=/bin");
    assert_string_equal(t->file[0].path, "/data/in.txt");
    assert_int_equal(t->file[1].fd, 6);
    assert_true(t->file[1].copy);
    assert_int_equal(t->file[1].offset, 3);
    assert_int_equal(t->file[1].size, 5);
    assert_string_equal(t->file[2].link, "../../etc");
    assert_null(t->file[1].link);
    assert_int_equal(t->port[2].file, 7);
    assert_int_equal(t->limit.files, 7);
    assert_int_equal(t->limit.output_bytes, 5);
    assert_int_equal(t->epoch_s, -10);
    assert_int_equal(t->expected, 11);
    assert_string_equal(spec.region.task[1].out_glob[0], "o/1");
    assert_int_equal(spec.channel[1].writer, 0);
    assert_int_equal(spec.channel[1].reader, 1);
    assert_int_equal(spec.channel[3].fd_first, 4);
    assert_true(spec.region.channel[1].lines);
    assert_true(spec.region.task[1].port[1].null && !spec.region.task[1].port[2].null);
    assert_true(spec.region.channel[0].more);
    assert_true(spec.region.channel[2].tell);
    assert_int_equal(spec.region.channel[0].source[2].offset, 7);
    assert_int_equal(spec.region.channel[0].source[2].size, 9);
    assert_int_equal(spec.region.channel[2].sink, 3);
    struct arena a = ARENA_INIT(1 << 20);
    struct box_task alone;
    assert_int_equal(spec_decode_task(spec.task[1], &a, &alone, &e), 0);
    assert_int_equal(alone.port[2].fd, 63);
    arena_clear(&a);
    spec_clear(&spec);
    buf_clear(&b);
    free(fds);
}

/* Nothing but refusal or a region may come of damaged bytes; the sanitizers see the rest. */
static void test_damage(void **state)
{
    struct sample s;
    struct buf b;
    struct spec spec;
    struct err e;
    int *fds;
    uint32_t count;
    (void)state;
    fill(&s);
    assert_int_equal(encode(&s, &b, &fds, &count), 0);
    for (size_t n = 0; n < b.size; n++) {
        char *cut = malloc(n ? n : 1); /* exactly as long, so that a read past the end is seen */
        memcpy(cut, b.data, n);
        assert_int_equal(spec_decode((struct slice){cut, n}, &spec, &e), -1);
        free(cut);
    }
    for (size_t n = 0; n < b.size; n++) {
        static const unsigned char change[] = {0x01, 0x80, 0xff};
        for (size_t k = 0; k < sizeof change; k++) {
            b.data[n] = (char)(b.data[n] ^ change[k]);
            if (spec_decode((struct slice){b.data, b.size}, &spec, &e) == 0)
                spec_clear(&spec);
            b.data[n] = (char)(b.data[n] ^ change[k]);
        }
    }
    buf_clear(&b);
    free(fds);
}

struct wrong {
    const char *name;
    void (*change)(struct sample *s);
};

static struct box_port bad_ports[3];
static struct box_file bad_file;

static void use_ports(struct sample *s, struct box_port a)
{
    memcpy(bad_ports, ports0, sizeof bad_ports);
    bad_ports[2] = a;
    s->task[0].port = bad_ports;
}

static void use_name(struct sample *s, const char *name)
{
    bad_file = (struct box_file){.name = name, .path = "/x", .fd = -1};
    s->task[0].file = &bad_file;
    s->task[0].file_count = 1;
}

static void use_part(struct sample *s, const char *path, uint64_t offset, uint64_t size)
{
    bad_file = (struct box_file){"x", path, path ? -1 : 77, false, offset, size, NULL, false};
    s->task[0].file = &bad_file;
    s->task[0].file_count = 1;
}

static void use_link(struct sample *s, const char *path, int fd, const char *link)
{
    bad_file = (struct box_file){.name = "x", .path = path, .fd = fd, .link = link};
    s->task[0].file = &bad_file;
    s->task[0].file_count = 1;
}

static void link_with_path(struct sample *s)
{
    use_link(s, "/x", -1, "y");
}
static void link_copied(struct sample *s)
{
    use_link(s, NULL, -1, "y");
    bad_file.copy = true;
}
static void link_too_long(struct sample *s)
{
    static char text[4097];
    memset(text, 'x', sizeof text - 1);
    use_link(s, NULL, -1, text);
}
static void directory_with_path(struct sample *s)
{
    use_link(s, "/x", -1, NULL);
    bad_file.directory = true;
}
static void directory_linked(struct sample *s)
{
    use_link(s, NULL, -1, "y");
    bad_file.directory = true;
}
static void link_silent(struct sample *s)
{
    use_link(s, NULL, -1, "");
}
static void part_of_path(struct sample *s)
{
    use_part(s, "/x", 0, 1);
}
static void part_beyond(struct sample *s)
{
    use_part(s, NULL, 2, INT64_MAX);
}
static void part_of_nothing(struct sample *s)
{
    use_part(s, NULL, 2, 0);
}
static void no_words(struct sample *s)
{
    s->task[0].argv = words + 3;
}
static void no_tasks(struct sample *s)
{
    s->region.task_count = 0;
}
static void inside_more(struct sample *s)
{
    s->channel[1].more = true;
}
static void feed_tells(struct sample *s)
{
    s->channel[0].tell = true;
}
static void source_beyond(struct sample *s)
{
    static const struct box_source beyond[] = {{10, 2, INT64_MAX}};
    s->channel[0].source = beyond;
    s->channel[0].source_count = 1;
}
static void high_port(struct sample *s)
{
    use_ports(s, (struct box_port){1024, true, -1, -1, NULL, 0, false});
}
static void port_twice(struct sample *s)
{
    use_ports(s, (struct box_port){1, true, -1, -1, NULL, 0, false});
}
static void no_channel(struct sample *s)
{
    use_ports(s, (struct box_port){2, true, 4, -1, NULL, 0, false});
}
static void name_elsewhere(struct sample *s)
{
    use_ports(s, (struct box_port){-1, true, -1, 42, "out/../null", 0, false});
}
static void name_in_wrong_folder(struct sample *s)
{
    use_ports(s, (struct box_port){-1, true, -1, 42, "in/x", 0, false});
}
static void name_of_nothing(struct sample *s)
{
    use_ports(s, (struct box_port){-1, true, -1, -1, "out/x", 0, false});
}
static void quota_of_a_stream(struct sample *s)
{
    use_ports(s, (struct box_port){-1, true, 2, -1, "out/x", 5, false});
}
static void quota_without_name(struct sample *s)
{
    use_ports(s, (struct box_port){2, true, -1, 42, NULL, 5, false});
}
static void null_for_nobody(struct sample *s)
{
    use_ports(s, (struct box_port){2, true, -1, 42, NULL, 0, true});
}
static void two_writers(struct sample *s)
{
    use_ports(s, (struct box_port){2, true, 2, -1, NULL, 0, false});
}
static void reads_drain(struct sample *s)
{
    use_ports(s, (struct box_port){2, false, 2, -1, NULL, 0, false});
}
static void side_missing(struct sample *s)
{
    s->task[1].port_count = 2;
}
static void name_up(struct sample *s)
{
    use_name(s, "a/../b");
}
static void name_empty(struct sample *s)
{
    use_name(s, "");
}
static void name_slash(struct sample *s)
{
    use_name(s, "a//b");
}
static void name_dot(struct sample *s)
{
    use_name(s, "/.");
}
static void output_up(struct sample *s)
{
    static const char *const up[] = {"../x"};
    s->task[0].output = up;
    s->task[0].output_count = 1;
}

static const struct wrong wrongs[] = {
    {"inside more", inside_more},   {"feed tells", feed_tells},   {"source beyond", source_beyond},
    {"no words", no_words},         {"no tasks", no_tasks},       {"high port", high_port},
    {"name elsewhere", name_elsewhere},
    {"name in the wrong folder", name_in_wrong_folder},
    {"name of nothing", name_of_nothing},
    {"quota of a stream", quota_of_a_stream},
    {"quota without a name", quota_without_name},
    {"port twice", port_twice},     {"null for nobody", null_for_nobody}, {"no channel", no_channel},   {"two writers", two_writers},
    {"reads drain", reads_drain},   {"side missing", side_missing}, {"name up", name_up},
    {"name empty", name_empty},     {"name slash", name_slash},   {"name dot", name_dot},
    {"output up", output_up},
    {"a link with a path", link_with_path}, {"a link that is copied", link_copied}, {"a long link", link_too_long}, {"a silent link", link_silent},
    {"a directory with a path", directory_with_path}, {"a directory that is a link", directory_linked},
    {"part of a path", part_of_path}, {"part beyond", part_beyond}, {"part of nothing", part_of_nothing},
};

static void test_wrong(void **state)
{
    struct sample s;
    struct buf b;
    struct spec spec;
    struct err e;
    int *fds;
    uint32_t count;
    (void)state;
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        fill(&s);
        wrongs[i].change(&s);
        assert_int_equal(encode(&s, &b, &fds, &count), 0);
        if (spec_decode((struct slice){b.data, b.size}, &spec, &e) == 0)
            fail_msg("accepted: %s", wrongs[i].name);
        assert_int_equal(e.code, ERR_PROTO);
        buf_clear(&b);
        free(fds);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "write"))
        return write_corpus();
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
