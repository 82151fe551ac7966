/* A pipeline of three programs built node by node through the library: the same as
 *
 *     zpipe 'tr A-Z a-z | sort | uniq -c' < TEXT
 *
 * with the text fed by this program and the result taken by it.  Built and run as a test. */
#include <stdio.h>
#include <string.h>
#include <zpipe.h>

static const char text[] = "pear\nApple\nfig\napple\nPEAR\npear\n";

static void take(void *owner, const void *data, size_t size)
{
    (void)owner;
    fwrite(data, 1, size, stdout);
}

static int fail(const char *what, const struct zpipe_error *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    return 1;
}

int main(void)
{
    struct zpipe_error e;
    struct zpipe *z = zpipe_open(NULL, &e); /* embedded: nothing to set up */
    if (!z)
        return fail("open", &e);

    struct zpipe_graph *g = zpipe_graph_new(NULL, &e);
    if (!g)
        return fail("graph", &e);
    zpipe_node in = zpipe_graph_stdin(g, &e);
    zpipe_node lower = zpipe_graph_command(g, (const char *[]){"tr", "A-Z", "a-z", NULL}, &e);
    zpipe_node sort = zpipe_graph_command(g, (const char *[]){"sort", NULL}, &e);
    zpipe_node count = zpipe_graph_command(g, (const char *[]){"uniq", "-c", NULL}, &e);
    zpipe_node out = zpipe_graph_stdout(g, &e);
    if (zpipe_graph_join(g, in, 1, lower, 0, &e) < 0 || zpipe_graph_join(g, lower, 1, sort, 0, &e) < 0 ||
        zpipe_graph_join(g, sort, 1, count, 0, &e) < 0 || zpipe_graph_join(g, count, 1, out, 0, &e) < 0)
        return fail("join", &e);

    struct zpipe_submission s = zpipe_submission(NULL);
    s.io = (struct zpipe_io){.stdin_fd = -1, .feed = true, .stdout_fd = -1, .on_stdout = take, .stderr_fd = 2};
    struct zpipe_job *job = zpipe_submit_graph(z, g, &s, &e);
    if (!job)
        return fail("submit", &e);

    size_t fed = 0;
    while (fed < strlen(text) && !zpipe_over(job)) {
        ptrdiff_t n = zpipe_feed(job, text + fed, strlen(text) - fed, &e);
        if (n < 0)
            break; /* it wants no more: not a failure */
        fed += (size_t)n;
        if (n == 0)
            zpipe_turn(z, true);
    }
    zpipe_feed_end(job);

    int status = zpipe_wait(job, &e);
    if (e.code)
        fail("job", &e);
    zpipe_job_free(job);
    zpipe_graph_free(g);
    zpipe_close(z);
    return status;
}
