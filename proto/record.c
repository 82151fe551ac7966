/* See record.h. */
#include "proto/record.h"

#include "base/digest.h"
#include "base/fds.h"
#include "proto/codec.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PROGRAM_BYTES_MAX (256 << 20)

static const struct field end_fields[] = {
    FIELD(record_end, status, FIELD_U32, 255),
    FIELD(record_end, program, FIELD_TEXT, 64),
};
static const struct field_table end_table = FIELD_TABLE(record_end, end_fields);

#define RECORD(member, kind, max) FIELD(record, member, kind, max)
static const struct field fields[] = {
    RECORD(graph, FIELD_BYTES, GRAPH_BYTES_MAX),
    RECORD(node, FIELD_U32, GRAPH_NODES_MAX),
    RECORD(number, FIELD_U64, UINT64_MAX),
    RECORD(what, FIELD_TEXT, 65536),
    RECORD(host, FIELD_TEXT, 1024),
    RECORD(lost, FIELD_BOOL, 0),
    FIELD_MANY(record, end, end_count, FIELD_LIST, GRAPH_NODES_MAX, &end_table),
};
static const struct field_table table = FIELD_TABLE(record, fields);

static const struct field_table *table_of(uint32_t version)
{
    return version == RECORD_VERSION ? &table : NULL;
}

int record_encode(const struct record *r, struct buf *out, struct err *e)
{
    return codec_encode(&table, RECORD_VERSION, r, out, e);
}

int record_decode(struct slice bytes, struct arena *a, struct record *out, struct err *e)
{
    uint32_t version;
    *out = (struct record){0};
    return codec_decode(bytes.data, bytes.size, a, &version, table_of, out, e);
}

bool record_file_name(const char *name, uint32_t *input)
{
    char *end;
    *input = UINT32_MAX;
    if (!strcmp(name, "task") || !strcmp(name, "out") || !strcmp(name, "err"))
        return true;
    if (strncmp(name, "in.", 3) || !isdigit((unsigned char)name[3]) || (name[3] == '0' && name[4]))
        return false;
    unsigned long n = strtoul(name + 3, &end, 10);
    *input = (uint32_t)n;
    return !*end && n < RECORD_INPUTS_MAX;
}

/* The kernel's name for the processor; "": it says none. */
static void processor(char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    *out = '\0';
    while (f && !*out && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':'))
            snprintf(out, size, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"), strchr(line, ':') + 2);
    if (f)
        fclose(f);
}

void record_host(char *out, size_t size)
{
    struct utsname u;
    char cpu[200];
    processor(cpu, sizeof cpu);
    if (uname(&u) < 0)
        u.release[0] = '\0';
    snprintf(out, size, "kernel %s, processor %s, zpipe %s", u.release, *cpu ? cpu : "not known", ZPIPE_VERSION);
}

void record_program(const char *word, char out[65])
{
    static const char *const path[] = {"/usr/local/bin/", "/usr/bin/", "/bin/"}; /* as in the sandbox */
    size_t places = word[0] == '/' ? 1 : strchr(word, '/') ? 0 : sizeof path / sizeof *path;
    out[0] = '\0';
    for (size_t i = 0; i < places; i++) {
        char name[4096];
        struct stat s;
        if (snprintf(name, sizeof name, "%s%s", word[0] == '/' ? "" : path[i], word) >= (int)sizeof name)
            continue;
        int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        bool found = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
        struct digest d;
        if (found && s.st_size <= PROGRAM_BYTES_MAX && digest_of_file(fd, &d, NULL) == 0)
            digest_print(&d, out);
        fd_close(&fd);
        if (found)
            return;
    }
}
