/* See clones.h. */
#include "lib/clones.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct boxed b;
int input, empty;
bool refused;

static int file_of(int lines)
{
    int fd = memfd_create("in", MFD_CLOEXEC);
    FILE *f = fdopen(dup(fd), "w");
    for (int i = 0; i < lines; i++)
        fprintf(f, "line %d x%d\n", i, i * 7 % 13);
    fclose(f);
    return fd;
}

void clones_inputs(void)
{
    input = file_of(LINES);
    empty = file_of(0);
}

void run(const struct boxed_plan *p)
{
    lseek(p->in, 0, SEEK_SET);
    assert_int_equal(boxed_run(&b, p), 0);
    if (strstr(b.stage[0].cold, "the host refuses"))
        refused = true;
}

void keep(struct seen *s)
{
    s->end = b.stage[0].end;
    s->status = b.stage[0].status;
    s->size = b.output_size;
    memcpy(s->output, b.output, b.output_size);
    snprintf(s->errors, sizeof s->errors, "%.4000s", b.errors);
    snprintf(s->why, sizeof s->why, "%s", b.stage[0].why);
}

void assert_same(const struct seen *s, const char *line)
{
    bool same = s->end == b.stage[0].end && s->status == b.stage[0].status && s->size == b.output_size &&
                !memcmp(s->output, b.output, s->size) && !strncmp(s->errors, b.errors, 4000) &&
                !strcmp(s->why, b.stage[0].why);
    if (!same)
        fprintf(stderr, "'%s': cold: end %d, status %d, %zu bytes, '%s', '%s'\nwarm: end %d, status %d, %zu bytes, '%s', "
                        "'%s'\n",
                line, s->end, s->status, s->size, s->errors, s->why, b.stage[0].end, b.stage[0].status, b.output_size,
                b.errors, b.stage[0].why);
    assert_true(same);
}

bool clones_are_same(const struct boxed_plan *p, int clones)
{
    static struct seen first;
    int warm = 0;
    for (int i = 0; warm < clones && i < RUNS_MAX + clones && !refused; i++) {
        run(p);
        bool cold = *b.stage[0].cold;
        if (i == 0)
            keep(&first);
        else
            assert_same(&first, p->line);
        if (cold && i > 2 && !strstr(b.stage[0].cold, "template"))
            return false;
        warm += !cold;
    }
    return warm == clones || refused;
}

bool have(const char *program)
{
    char path[128];
    snprintf(path, sizeof path, "/usr/bin/%s", program);
    return access(path, X_OK) == 0;
}

void line_of(pid_t pid, const char *name, char *value, size_t size)
{
    char path[64], line[256];
    *value = '\0';
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            snprintf(value, size, "%s", line + strlen(name) + strspn(line + strlen(name), "\t "));
    if (f)
        fclose(f);
    value[strcspn(value, "\n")] = '\0';
}
