/* The report of one run, as JSON: how the program ended, what it used, what passed through its channels, what held its
 * limits, and in which domain the same will happen again. */
#include "sandbox/alone.h"
#include "sandbox/domain.h"
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(f, "\\%c", *c);
        else if (*c < ' ' || *c >= 0x7f)
            fprintf(f, "\\u%04x", *c); /* a byte becomes one character, whatever the encoding */
        else
            fputc(*c, f);
    }
    fputc('"', f);
}

static void put_seconds(FILE *f, const char *name, uint64_t ns)
{
    fprintf(f, "  \"%s\": %" PRIu64 ".%09" PRIu64 ",\n", name, ns / 1000000000, ns % 1000000000);
}

static void put_text(FILE *f, const char *text)
{
    if (text && *text)
        put_string(f, text);
    else
        fputs("null", f);
}

static void put_domain(FILE *f, const struct alone *a)
{
    struct utsname u;
    char cpu[DOMAIN_CPU_ROOM];
    uname(&u);
    domain_cpu(cpu, sizeof cpu);
    fputs("  \"domain\": {\"kernel\": ", f);
    put_text(f, u.release);
    fputs(", \"cpu\": ", f);
    put_text(f, cpu);
    fprintf(f, ", \"image\": null, \"policy\": %d, \"seed\": %" PRIu64 "},\n", FILTER_POLICY_VERSION, a->task.seed);
}

static void put_end(FILE *f, const struct box_result *r)
{
    static const char *const word[] = {"exited",  "signalled", "limit", "not-found",
                                       "not-run", "failed",    "killed"};
    fprintf(f, "  \"end\": \"%s\",\n", word[r->end]);
    if (r->end == BOX_EXITED)
        fprintf(f, "  \"status\": %d,\n", r->status);
    if (r->end == BOX_SIGNALLED) {
        const char *name = sigabbrev_np(r->signal);
        fprintf(f, "  \"signal\": {\"number\": %d, \"name\": ", r->signal);
        put_text(f, name);
        fputs("},\n", f);
    }
    if (r->end == BOX_LIMIT) {
        fputs("  \"limit\": ", f);
        put_text(f, r->limit);
        fputs(",\n", f);
    }
    if (*r->text) {
        fputs("  \"message\": ", f);
        put_text(f, r->text);
        fputs(",\n", f);
    }
    fprintf(f, "  \"certified\": %s,\n  \"uncertified_why\": ", r->certified ? "true" : "false");
    put_text(f, r->uncertified_why);
    fprintf(f, ",\n  \"clone\": %s,\n  \"cold_why\": ", *r->cold_why ? "false" : "true");
    put_text(f, r->cold_why);
    fputs(",\n", f);
}

static void put_digest(FILE *f, const uint8_t sha256[32])
{
    char text[65];
    sha256_text(sha256, text);
    fprintf(f, ", \"sha256\": \"%s\"", text);
}

static void put_streams(FILE *f, const struct run *r)
{
    fputs("  \"channels\": {", f);
    for (uint32_t i = 0; i < r->stream_count; i++) {
        const struct alone_stream *s = &r->stream[i];
        fputs(i ? ",\n    " : "\n    ", f);
        put_string(f, s->name);
        fprintf(f, ": {\"bytes\": %" PRIu64, s->bytes);
        if (i >= 3 && r->alone->named[i - 3].quota)
            fprintf(f, ", \"quota\": %" PRIu64, r->alone->named[i - 3].quota);
        if (s->digested)
            put_digest(f, s->sha256);
        fputc('}', f);
    }
    fputs("\n  },\n", f);
}

static void put_outputs(FILE *f, const struct run *r)
{
    bool first = true;
    fputs("  \"outputs\": [", f);
    for (uint32_t i = 0; i < r->made_count; i++) {
        const struct alone_made *m = &r->made[i];
        struct stat s;
        if (m->fd < 0 || fstat(m->fd, &s) < 0)
            continue;
        fprintf(f, "%s\n    {\"name\": ", first ? "" : ",");
        put_text(f, m->name);
        fprintf(f, ", \"bytes\": %" PRIu64, (uint64_t)s.st_size);
        if (r->alone->digest) {
            char buffer[65536];
            uint8_t sha256[32];
            struct sha256 hash;
            off_t at = 0;
            sha256_begin(&hash);
            for (ssize_t n; (n = pread(m->fd, buffer, sizeof buffer, at)) > 0; at += n)
                sha256_add(&hash, buffer, (size_t)n);
            sha256_end(&hash, sha256);
            put_digest(f, sha256);
        }
        fputc('}', f);
        first = false;
    }
    fprintf(f, "%s],\n", first ? "" : "\n  ");
}

/* The cgroup that the task was in. */
static void put_cgroup(FILE *f, const struct box_result *r)
{
    if (!*r->cgroup) {
        fputs("  \"cgroup\": null,\n  \"cgroup_why\": ", f);
        put_text(f, r->cgroup_why);
        fputc('\n', f);
        return;
    }
    fputs("  \"cgroup\": {\"path\": ", f);
    put_text(f, r->cgroup);
    if (r->tree_peak_bytes)
        fprintf(f, ", \"memory_peak_bytes\": %" PRIu64, r->tree_peak_bytes);
    fputs("}\n", f);
}

/* For each limit that was set, what enforces it. */
static void put_limits(FILE *f, const struct run *r)
{
    const struct alone *a = r->alone;
    const struct box_limits *l = &a->task.limit;
    const uint32_t held = r->result.cgroup_holds;
    const struct {
        const char *name, *by;
        uint64_t value;
        bool time;
        const char *besides; /* what else enforces it, for the most part its cgroup */
    } row[] = {
        {"memory", "RLIMIT_DATA of each process", l->memory_bytes, false,
         held & BOX_HOLDS_MEMORY ? "; of all together, memory.max of the cgroup" : ""},
        {"cpu", held & BOX_HOLDS_CPU ? "cpu.stat of the cgroup" : "the sum over its processes", l->cpu_ns, true,
         ", looked at as it grows; RLIMIT_CPU of each"},
        {"timeout", "a timer", l->wall_ns, true, ""},
        {"procs", "a count at each start of one", l->procs, false, held & BOX_HOLDS_PROCS ? "; pids.max of the cgroup" : ""},
        {"files", "RLIMIT_NOFILE of each process", l->files, false, ""},
        {"output", "a count of each stream; RLIMIT_FSIZE of each file", l->output_bytes, false, ""},
        {"scratch", "the size of its tmpfs", l->scratch_bytes, false, ""},
    };
    bool first = true;
    fputs("  \"limits\": {", f);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (!row[i].value)
            continue;
        fprintf(f, "%s\n    \"%s\": {", first ? "" : ",", row[i].name);
        if (row[i].time)
            fprintf(f, "\"seconds\": %" PRIu64 ".%09" PRIu64, row[i].value / 1000000000, row[i].value % 1000000000);
        else
            fprintf(f, "\"value\": %" PRIu64, row[i].value);
        fprintf(f, ", \"by\": \"%s%s\"}", a->none && !row[i].time ? "rlimits only" : row[i].by, row[i].besides);
        first = false;
    }
    fprintf(f, "%s},\n", first ? "" : "\n  ");
}

int report_write(const struct run *r, struct err *e)
{
    const struct box_result *x = &r->result;
    FILE *f = fopen(r->alone->report, "we");
    if (!f)
        return err_sys(e, "cannot write the report '%s'", r->alone->report);
    fputs("{\n  \"program\": [", f);
    for (size_t i = 0; r->alone->task.argv[i]; i++) {
        fputs(i ? ", " : "", f);
        put_string(f, r->alone->task.argv[i]);
    }
    fputs("],\n", f);
    put_end(f, x);
    put_domain(f, r->alone);
    put_seconds(f, "logical_seconds", x->clock_ns);
    put_seconds(f, "wall_seconds", x->wall_ns);
    put_seconds(f, "cpu_user_seconds", x->cpu_user_ns);
    put_seconds(f, "cpu_sys_seconds", x->cpu_sys_ns);
    fprintf(f, "  \"memory_peak_bytes\": %" PRIu64 ",\n  \"calls_answered\": %" PRIu64 ",\n",
            x->memory_peak_bytes, x->calls);
    fprintf(f, "  \"unknown_calls\": [%s],\n", x->unknown_calls);
    put_streams(f, r);
    put_outputs(f, r);
    put_limits(f, r);
    put_cgroup(f, x);
    fputs("}\n", f);
    if (ferror(f) | (fclose(f) != 0))
        return err_sys(e, "cannot write the report '%s'", r->alone->report);
    return 0;
}
