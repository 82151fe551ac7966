/* Random graphs, built through the library, in which programs part and meet again and read what reaches them one
 * after the other, so that with pipes alone they would wait for each other for ever.  What each graph must print
 * is worked out here.  `graphs FIRST COUNT`: the graphs of so many seeds. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zpipe.h>

#define NODES_MAX 9
#define ENDS_MAX  3
#define SOURCE_BYTES 900000      /* more than any pipe or socket holds */
#define NODE_BYTES_MAX 12000000
#define IN_FD 10                 /* the first that a program reads */
#define OUT_FD 20

struct node {
    uint32_t in[ENDS_MAX], in_count, out_count;
    size_t bytes;
    zpipe_node node;
};

static uint64_t state;

static uint32_t any(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static void must(int good, const char *what, const struct zpipe_error *e)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(1);
}

/* Reads its inputs in some order, one after the other; writes to all outputs at once, or to one after the other. */
static void script_of(const struct node *n, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "cat");
    uint32_t first = any(n->in_count);
    for (uint32_t i = 0; i < n->in_count; i++)
        at += (size_t)snprintf(text + at, size - at, " /dev/fd/%u", IN_FD + (first + i) % n->in_count);
    if (any(2)) {
        at += (size_t)snprintf(text + at, size - at, " | tee");
        for (uint32_t i = 1; i < n->out_count; i++)
            at += (size_t)snprintf(text + at, size - at, " /dev/fd/%u", OUT_FD + i);
        snprintf(text + at, size - at, " > /dev/fd/%u", OUT_FD);
        return;
    }
    at += (size_t)snprintf(text + at, size - at, " > /tmp/all");
    for (uint32_t i = n->out_count; i-- > 0;)
        at += (size_t)snprintf(text + at, size - at, "; cat /tmp/all > /dev/fd/%u", OUT_FD + i);
}

/* Node 0 is the source; every other reads some of those before it. */
static uint32_t make(struct node *node)
{
    uint32_t count = 3 + any(NODES_MAX - 3);
    node[0].bytes = SOURCE_BYTES;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t wanted = i + 1 == count ? ENDS_MAX : 1 + any(ENDS_MAX);
        for (uint32_t k = 0; k < wanted; k++) {
            uint32_t from = i == 1 ? 0 : 1 + any(i - 1); /* the source has one reader */
            bool room = node[from].out_count < ENDS_MAX && node[i].bytes + node[from].bytes <= NODE_BYTES_MAX;
            if (!room || (i == 1 && k))
                continue;
            node[i].in[node[i].in_count++] = from;
            node[from].out_count++;
            node[i].bytes += node[from].bytes;
        }
        if (!node[i].in_count)
            return i;
    }
    return count;
}

static void run(struct zpipe *z, uint64_t seed, const char *directory)
{
    static char text[SOURCE_BYTES];
    struct node node[NODES_MAX] = {0};
    struct zpipe_error e;
    uint32_t used[NODES_MAX] = {0}; /* descriptors for its outputs */
    bool ends[NODES_MAX] = {false};
    state = seed * 2 + 1;
    uint32_t count = make(node);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 80 == 79 ? '\n' : (char)('a' + i * seed % 23);
    struct zpipe_graph *g = zpipe_graph_new(directory, &e);
    must(g != NULL, "graph", &e);
    node[0].node = zpipe_graph_bytes(g, text, sizeof text, &e);
    for (uint32_t i = 1; i < count; i++) {
        char script[400], name[40];
        ends[i] = node[i].out_count == 0;
        node[i].out_count += ends[i];
        script_of(&node[i], script, sizeof script);
        node[i].node = zpipe_graph_command(g, (const char *[]){"sh", "-c", script, NULL}, &e);
        for (uint32_t k = 0; k < node[i].in_count; k++) {
            uint32_t from = node[i].in[k];
            int fd = from ? OUT_FD + (int)used[from]++ : 1;
            must(zpipe_graph_join(g, node[from].node, fd, node[i].node, IN_FD + (int)k, &e) == 0, "join", &e);
        }
        if (!ends[i])
            continue;
        snprintf(name, sizeof name, "out%u", i);
        zpipe_node sink = zpipe_graph_output(g, name, &e);
        must(zpipe_graph_join(g, node[i].node, OUT_FD, sink, 0, &e) == 0, "join to an output", &e);
    }
    struct zpipe_submission s = zpipe_submission(NULL);
    s.io = (struct zpipe_io){.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = 2};
    struct zpipe_job *job = zpipe_submit_graph(z, g, &s, &e);
    must(job != NULL, "submit", &e);
    int status = zpipe_wait(job, &e);
    must(status == 0 && e.code == 0, "job", &e);
    zpipe_job_free(job);
    zpipe_graph_free(g);
    /* All bytes are the source's, over and over. */
    for (uint32_t i = 1; i < count; i++) {
        char name[400];
        static char got[SOURCE_BYTES];
        size_t size, bytes = 0;
        snprintf(name, sizeof name, "%s/out%u", directory, i);
        if (!ends[i])
            continue;
        FILE *f = fopen(name, "r");
        must(f != NULL, "an output that is not there", &e);
        while ((size = fread(got, 1, sizeof got, f)) > 0) {
            if (memcmp(got, text, size) != 0 || size != sizeof text)
                break;
            bytes += size;
        }
        fclose(f);
        unlink(name);
        if (bytes != node[i].bytes) {
            fprintf(stderr, "seed %llu: out%u has %zu right bytes of %zu\n", (unsigned long long)seed, i, bytes,
                    node[i].bytes);
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 20;
    char directory[] = "/tmp/zpipe-graphs-XXXXXX";
    struct zpipe_error e;
    if (!mkdtemp(directory)) {
        perror("mkdtemp");
        return 1;
    }
    struct zpipe *z = zpipe_open(NULL, &e); /* before anything has threads */
    must(z != NULL, "open", &e);
    for (uint64_t i = first; i < first + count; i++) {
        printf("seed %llu\n", (unsigned long long)i);
        fflush(stdout);
        run(z, i, directory);
    }
    zpipe_close(z);
    rmdir(directory);
    printf("%llu graphs\n", (unsigned long long)count);
    return 0;
}
