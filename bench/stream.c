/* bench/stream [RUNS]: one stream between two processes over TCP on this host, by proto/carry and by libzmq alone, in
 * the clear and with CURVE; alternating.
 *
 * Both senders read the same file, in frames of MSG_DATA_BYTES; both receivers drop what comes.  What a stream has beside
 * the frames is what is measured: names and offsets, credit, a running digest on both sides, an end that is answered.
 * libzmq may have as many bytes under way as a stream has credit.
 *
 * Prints a table and writes build/bench/stream.json.  Figures are medians, and so is the ratio of the pairs; CPU is that of
 * both processes with all their threads.  A goal that is missed is said, and is no failure: this is no test. */
#include "base/fds.h"
#include "proto/carry.h"
#include "proto/keys.h"
#include "proto/net.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define RUNS_MAX   1000
#define FILE_BYTES ((size_t)64 << 20)
#define FILE_TIMES 8 /* the stream is so many of them, end to end */
#define GOAL       0.9

struct address { /* where the receiver listens, for the sender */
    char url[256];
    uint8_t key[MSG_KEY_BYTES];
};

struct way {
    const char *name;
    bool curve;
    void (*receive)(bool curve, int address, int result);
    void (*send)(bool curve, const struct address *to);
};

struct result {
    double seconds; /* from the sender's first word to the last byte */
    uint64_t bytes;
};

struct figure {
    double rate, cpu; /* MB/s; seconds per GB */
};

static int file; /* FILE_BYTES, in memory */
static char directory[] = "/tmp/zpipe-bench-XXXXXX", keys[sizeof directory + 8];
static const struct stream_name name = {1, 1, MSG_EDGE, 0, 0};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bench/stream: %s: %s\n", what, why);
    _exit(1);
}

static double now(void)
{
    return (double)loop_clock_ns() / 1e9;
}

static void put(int fd, const void *data, size_t size)
{
    if (write(fd, data, size) != (ssize_t)size)
        die("pipe", strerror(errno));
}

static void get(int fd, void *data, size_t size)
{
    if (read(fd, data, size) != (ssize_t)size)
        die("the other process", "ended early");
}

/* --- by proto/carry --- */

struct side {
    struct loop *loop;
    struct net *net;
    struct peer *peer;
    struct carry *carry;
    double begun, ended;
};

static void carry_is_over(void *owner, struct carry *c, enum carry_end end, const struct err *why)
{
    struct side *s = owner;
    (void)c;
    if (end != CARRY_DONE)
        die("the stream", why ? why->text : "was left");
    s->ended = now();
    loop_stop(s->loop);
}

static const struct carry_events carry_events = {.ended = carry_is_over};

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    struct side *s = owner;
    struct err e;
    (void)role;
    if (m->type != MSG_ATTACH) {
        carry_message(s->carry, m, bulk);
        return;
    }
    s->begun = now();
    s->carry = carry_in(s->loop, -1, &name, &carry_events, s, &e);
    if (!s->carry || carry_bind(s->carry, p, link, &e) < 0)
        die("the receiver", e.text);
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    struct side *s = owner;
    (void)p, (void)link;
    if (!s->ended)
        die("the other side", why->text);
}

static const struct peer_events peer_events = {on_message, on_lost};

static void open_side(struct side *s, bool curve, enum msg_role role)
{
    struct net_options o = {.keys = curve ? keys : NULL, .role = role, .insecure_loopback = !curve};
    struct err e;
    s->loop = loop_new(&e);
    s->net = s->loop ? net_new(s->loop, &o, &e) : NULL;
    if (!s->net)
        die("a process", e.text);
}

static void close_side(struct side *s)
{
    carry_free(s->carry);
    peer_close(s->peer);
    net_free(s->net);
    loop_free(s->loop);
}

static void receive_stream(bool curve, int address, int result)
{
    struct side s = {0};
    struct address here = {0};
    struct key_pair client = {0};
    uint8_t scheduler[MSG_KEY_BYTES];
    struct err e;
    open_side(&s, curve, MSG_WORKER);
    if (curve && (keys_load(keys, MSG_CLIENT, &client, scheduler, &e) < 0 ||
                  net_admit(s.net, MSG_CLIENT, (struct slice){client.public_key, MSG_KEY_BYTES}, &e) < 0))
        die("keys", e.text);
    s.peer = peer_listen(s.net, "tcp://127.0.0.1:*", MSG_WORKER, &peer_events, &s, &e);
    if (!s.peer)
        die("the receiver", e.text);
    snprintf(here.url, sizeof here.url, "%s", peer_url(s.peer));
    if (curve)
        memcpy(here.key, net_public_key(s.net).data, MSG_KEY_BYTES);
    put(address, &here, sizeof here);
    loop_run(s.loop);
    struct result r = {s.ended - s.begun, carry_bytes(s.carry)};
    put(result, &r, sizeof r);
    close_side(&s);
}

static void send_stream(bool curve, const struct address *to)
{
    struct side s = {0};
    struct msg attach = {.type = MSG_ATTACH, .attach = {1, 1, {"0123456789abcdef", 16}, MSG_EDGE, 0, 0}};
    struct err e;
    int fd[FILE_TIMES];
    for (int i = 0; i < FILE_TIMES; i++)
        if ((fd[i] = fd_reopen(file, O_RDONLY)) < 0)
            die("the file", strerror(errno));
    open_side(&s, curve, MSG_CLIENT);
    s.peer = peer_connect(s.net, to->url, (struct slice){to->key, MSG_KEY_BYTES}, MSG_CLIENT, MSG_WORKER, &peer_events, &s, &e);
    s.carry = s.peer ? carry_out(s.loop, fd, FILE_TIMES, &name, &carry_events, &s, &e) : NULL;
    if (!s.carry || peer_send(s.peer, 0, &attach, (struct slice){"", 0}, &e) < 0 || carry_bind(s.carry, s.peer, 0, &e) < 0)
        die("the sender", e.text);
    loop_run(s.loop);
    close_side(&s);
}

/* --- by libzmq alone --- */

static void *raw_socket(void *context, int type)
{
    void *s = zmq_socket(context, type);
    int frames = MSG_CREDIT_BYTES / MSG_DATA_BYTES;
    if (!s)
        die("libzmq", zmq_strerror(errno));
    zmq_setsockopt(s, ZMQ_SNDHWM, &frames, sizeof frames);
    zmq_setsockopt(s, ZMQ_RCVHWM, &frames, sizeof frames);
    return s;
}

static void raw_close(void *socket, void *context)
{
    zmq_close(socket);
    zmq_ctx_term(context);
}

static void receive_raw(bool curve, int address, int result)
{
    void *context = zmq_ctx_new(), *s = raw_socket(context, ZMQ_PULL);
    char public[41], secret[41];
    struct address here = {0};
    struct result r = {0};
    size_t size = sizeof here.url;
    int one = 1;
    zmq_msg_t frame;
    if (curve) {
        zmq_curve_keypair(public, secret);
        zmq_z85_decode(here.key, public);
        zmq_setsockopt(s, ZMQ_CURVE_SERVER, &one, sizeof one);
        zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, secret, sizeof secret);
    }
    if (zmq_bind(s, "tcp://127.0.0.1:*") < 0 || zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, here.url, &size) < 0)
        die("libzmq", zmq_strerror(errno));
    put(address, &here, sizeof here);
    do { /* what is empty is its first word, and its last */
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, s, 0) < 0)
            die("libzmq", zmq_strerror(errno));
        size = zmq_msg_size(&frame);
        r.bytes += size;
        r.seconds = r.bytes ? r.seconds : now();
        zmq_msg_close(&frame);
    } while (size || !r.bytes);
    r.seconds = now() - r.seconds;
    put(result, &r, sizeof r);
    raw_close(s, context);
}

static void send_raw(bool curve, const struct address *to)
{
    void *context = zmq_ctx_new(), *s = raw_socket(context, ZMQ_PUSH);
    char public[41], secret[41];
    zmq_msg_t frame;
    if (curve) {
        zmq_curve_keypair(public, secret);
        zmq_setsockopt(s, ZMQ_CURVE_SERVERKEY, to->key, sizeof to->key);
        zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, public, sizeof public);
        zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, secret, sizeof secret);
    }
    if (zmq_connect(s, to->url) < 0 || zmq_send(s, "", 0, 0) < 0)
        die("libzmq", zmq_strerror(errno));
    for (size_t at = 0; at < FILE_TIMES * FILE_BYTES; at += MSG_DATA_BYTES) {
        zmq_msg_init_size(&frame, MSG_DATA_BYTES);
        if (pread(file, zmq_msg_data(&frame), MSG_DATA_BYTES, (off_t)(at % FILE_BYTES)) != MSG_DATA_BYTES ||
            zmq_msg_send(&frame, s, 0) < 0)
            die("libzmq", zmq_strerror(errno));
    }
    zmq_send(s, "", 0, 0);
    raw_close(s, context);
}

/* --- the runs --- */

static double cpu_of(pid_t pid)
{
    struct rusage u;
    int status;
    if (wait4(pid, &status, 0, &u) < 0 || status)
        die("a process", "did not end well");
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct figure once(const struct way *w)
{
    int address[2], result[2];
    struct address to;
    struct result r;
    pid_t pid[2];
    if (pipe2(address, O_CLOEXEC) < 0 || pipe2(result, O_CLOEXEC) < 0)
        die("pipe", strerror(errno));
    for (int i = 0; i < 2; i++) {
        if ((pid[i] = fork()) < 0)
            die("fork", strerror(errno));
        if (pid[i])
            continue;
        close(result[0]);
        close(address[i ? 1 : 0]);
        if (i) {
            get(address[0], &to, sizeof to);
            w->send(w->curve, &to);
        } else {
            w->receive(w->curve, address[1], result[1]);
        }
        _exit(0);
    }
    close(address[0]);
    close(address[1]);
    close(result[1]);
    get(result[0], &r, sizeof r);
    close(result[0]);
    double cpu = cpu_of(pid[0]) + cpu_of(pid[1]);
    if (r.bytes != FILE_TIMES * FILE_BYTES)
        die(w->name, "bytes are missing");
    return (struct figure){(double)r.bytes / 1e6 / r.seconds, cpu / ((double)r.bytes / 1e9)};
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *of, int count)
{
    qsort(of, (size_t)count, sizeof *of, by_size);
    return of[count / 2];
}

static void compare(const struct way *ours, const struct way *raw, int runs, bool first, FILE *json)
{
    double rate[2][RUNS_MAX], cpu[2][RUNS_MAX], ratio[RUNS_MAX];
    for (int i = 0; i < runs; i++) {
        struct figure a = once(i % 2 ? ours : raw), b = once(i % 2 ? raw : ours);
        struct figure o = i % 2 ? a : b, r = i % 2 ? b : a;
        rate[0][i] = o.rate;
        rate[1][i] = r.rate;
        cpu[0][i] = o.cpu;
        cpu[1][i] = r.cpu;
        ratio[i] = o.rate / r.rate;
    }
    double of = median(ratio, runs), mb[2] = {median(rate[0], runs), median(rate[1], runs)};
    double s[2] = {median(cpu[0], runs), median(cpu[1], runs)};
    printf("%-6s a stream %6.0f MB/s (%4.2f s of CPU per GB)   libzmq %6.0f MB/s (%4.2f s)   %4.2fx   goal >= %.2fx: %s\n", ours->name,
           mb[0], s[0], mb[1], s[1], of, GOAL, of >= GOAL ? "met" : "MISSED");
    fprintf(json, "%s\n  {\"name\": \"%s\", \"stream_mb_s\": %.1f, \"libzmq_mb_s\": %.1f, \"stream_cpu_s_gb\": %.3f, \"libzmq_cpu_s_gb\": %.3f, "
            "\"ratio\": %.3f}", first ? "" : ",", ours->name, mb[0], mb[1], s[0], s[1], of);
    fflush(stdout);
}

static void make_file(void)
{
    uint64_t x = 88172645463325252u;
    file = memfd_create("zpipe-bench", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)FILE_BYTES) < 0)
        die("a file in memory", strerror(errno));
    uint64_t *word = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (word == MAP_FAILED)
        die("a file in memory", strerror(errno));
    for (size_t i = 0; i < FILE_BYTES / sizeof *word; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        word[i] = x;
    }
    munmap(word, FILE_BYTES);
}

static void remove_keys(void)
{
    char command[sizeof directory + 16];
    snprintf(command, sizeof command, "rm -r '%s'", directory);
    if (system(command) != 0)
        fprintf(stderr, "bench/stream: %s is left\n", directory);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {{"plain", false, receive_stream, send_stream}, {"plain", false, receive_raw, send_raw},
                                      {"CURVE", true, receive_stream, send_stream}, {"CURVE", true, receive_raw, send_raw}};
    int runs = argc > 1 ? atoi(argv[1]) : 9;
    struct err e;
    if (runs < 1 || runs > RUNS_MAX)
        die(argv[1], "is no number of runs");
    mallopt(M_MMAP_THRESHOLD, 8 << 20); /* as the program zpipe, for both */
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
    make_file();
    if (!mkdtemp(directory))
        die(directory, strerror(errno));
    snprintf(keys, sizeof keys, "%s/keys", directory);
    if (keys_generate(keys, &e) < 0)
        die(keys, e.text);
    if ((mkdir("build", 0755) < 0 && errno != EEXIST) || (mkdir("build/bench", 0755) < 0 && errno != EEXIST))
        die("build/bench", strerror(errno));
    FILE *json = fopen("build/bench/stream.json", "we");
    if (!json)
        die("build/bench/stream.json", strerror(errno));
    double load[1] = {0};
    getloadavg(load, 1);
    printf("load %.1f, %d runs of %zu MB in frames of %u KiB\n", load[0], runs, FILE_TIMES * FILE_BYTES / 1000000, MSG_DATA_BYTES >> 10);
    fprintf(json, "{\"load\": %.2f, \"runs\": %d, \"rows\": [", load[0], runs);
    compare(&ways[0], &ways[1], runs, true, json);
    compare(&ways[2], &ways[3], runs, false, json);
    fprintf(json, "\n]}\n");
    fclose(json);
    remove_keys();
    return 0;
}
