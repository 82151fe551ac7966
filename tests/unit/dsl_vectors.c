/* The pages' own examples: every vector gives its canonical text and its graph, and its canonical
 * text gives itself and the same graph; every message stands at its place, word for word. */
#include "lib/test.h"
#include "lib/dsl.h"
#include "proto/graph.h"

static struct dsl_case *vectors, *messages, *more;
static size_t vector_count, message_count, more_count;

static void expect_text(char *got, const char *want, const struct err *e)
{
    if (!got)
        fail_msg("%s", e->text);
    assert_string_equal(got, want);
    free(got);
}

static void vector(void **state)
{
    const struct dsl_case *c = *state;
    struct err e = {0};
    expect_text(dsl_canonical(&c->in, &e), c->text[1], &e);
    expect_text(dsl_notation(&c->in, &e), c->text[2], &e);
}

/* parse(print(parse(x))) == parse(x) */
static void again(void **state)
{
    const struct dsl_case *c = *state;
    struct dsl_input in = c->in;
    struct err e = {0};
    in.text = c->text[1];
    in.size = strlen(in.text);
    in.each_count = 0; /* they stand in the canonical text */
    expect_text(dsl_canonical(&in, &e), c->text[1], &e);
    expect_text(dsl_notation(&in, &e), c->text[2], &e);
}

static void lowered(void **state)
{
    const struct dsl_case *c = *state;
    struct err e = {0};
    struct graph *g = dsl_graph(&c->in, &e);
    /* what the graph cannot say yet is said in one sentence */
    if (!g && strstr(e.text, "which cannot open it by name"))
        return;
    if (!g)
        fail_msg("%s", e.text);
    assert_int_equal(graph_check(g, &e), 0);
    graph_free(g);
}

static void message(void **state)
{
    const struct dsl_case *c = *state;
    struct err e = {0};
    struct graph *g = dsl_graph(&c->in, &e);
    if (g) {
        graph_free(g);
        fail_msg("this was accepted");
    }
    assert_int_equal(e.code, ERR_INPUT);
    /* FILE:LINE:COL: error: SENTENCE */
    const char *sentence = strchr(c->text[1], ' ') + 1;
    unsigned line, column;
    assert_int_equal(sscanf(c->text[1], "%u:%u:", &line, &column), 2);
    char want[2000], blanks[500];
    const char *from = c->in.text;
    for (unsigned i = 1; i < line; i++)
        from = strchr(from, '\n') + 1;
    size_t blank = 0;
    for (unsigned i = 0; i + 1 < column; i++)
        if ((from[i] & 0xC0) != 0x80)
            blanks[blank++] = ' ';
    blanks[blank] = '\0';
    bool hint = strcmp(c->text[2], "-") != 0;
    snprintf(want, sizeof want, "%s:%u:%u: error: %s\n    %.*s\n    %s^%s%s", c->in.file, line,
             column, sentence, (int)strcspn(from, "\n"), from, blanks, hint ? "\n    hint: " : "",
             hint ? c->text[2] : "");
    assert_string_equal(e.text, want);
}

static size_t rows(struct CMUnitTest *t, struct dsl_case *all, size_t count, CMUnitTestFunction f)
{
    for (size_t i = 0; i < count; i++)
        t[i] = (struct CMUnitTest){all[i].text[0], f, NULL, NULL, &all[i]};
    return count;
}

static int run(struct CMUnitTest *t, size_t count, const char *name)
{
    return _cmocka_run_group_tests(name, t, count, NULL, NULL) != 0;
}

int main(void)
{
    case_directory_make();
    vectors = cases_load("tests/dsl/vectors.test", &vector_count);
    messages = cases_load("tests/dsl/messages.test", &message_count);
    more = cases_load("tests/dsl/more.test", &more_count);
    struct CMUnitTest *t = calloc(vector_count + message_count + more_count, sizeof *t);
    int failed = !t;
    if (t) {
        failed |= run(t, rows(t, vectors, vector_count, vector), "vectors");
        failed |= run(t, rows(t, vectors, vector_count, again), "vectors, printed and read again");
        failed |= run(t, rows(t, vectors, vector_count, lowered), "vectors as graphs");
        failed |= run(t, rows(t, more, more_count, vector), "more vectors");
        failed |= run(t, rows(t, more, more_count, again), "more, printed and read again");
        failed |= run(t, rows(t, more, more_count, lowered), "more as graphs");
        failed |= run(t, rows(t, messages, message_count, message), "messages");
    }
    free(t);
    cases_free(vectors, vector_count);
    cases_free(messages, message_count);
    cases_free(more, more_count);
    case_directory_remove();
    return failed;
}
