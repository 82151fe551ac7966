/* Reading of the .test files in tests/dsl: three lines each, between empty lines; `#` lines are
 * comments.  The first is the input: "J " before it for a job file, U+2424 for a newline, " @@ X=v"
 * and " ::: words" behind it. */
#pragma once
#include "dsl/dsl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CASE_WORDS_MAX 16

struct dsl_case {
    char *text[3];  /* owned: the input, and what it becomes */
    char *pipeline; /* owned: the input without "J ", " @@ ..." and " ::: ..." */
    const char *parameter[CASE_WORDS_MAX], *each[CASE_WORDS_MAX];
    struct dsl_input in;
};

static char case_directory[] = "/tmp/zpipe-dsl-XXXXXX";

static void newlines(char *text)
{
    char *to = text;
    for (char *from = text; *from;) {
        if (strncmp(from, "\xe2\x90\xa4", 3) == 0) {
            *to++ = '\n';
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static size_t split(char *text, const char **out)
{
    size_t n = 0;
    for (char *word = strtok(text, " "); word && n < CASE_WORDS_MAX; word = strtok(NULL, " "))
        out[n++] = word;
    return n;
}

static void case_read(struct dsl_case *c)
{
    bool job = strncmp(c->text[0], "J ", 2) == 0;
    c->pipeline = strdup(c->text[0] + (job ? 2 : 0));
    char *each = strstr(c->pipeline, " ::: "), *parameters = strstr(c->pipeline, " @@ ");
    c->in = (struct dsl_input){.file = job ? "job" : "pipeline",
                               .jobfile = job,
                               .directory = case_directory,
                               .home = "/home/u",
                               .parameter = c->parameter,
                               .each = c->each};
    if (parameters) {
        *parameters = '\0';
        c->in.parameter_count = split(parameters + 4, c->parameter);
    }
    if (each) {
        *each = '\0';
        c->in.each_count = split(each + 5, c->each);
    }
    newlines(c->pipeline);
    c->in.text = c->pipeline;
    c->in.size = strlen(c->pipeline);
}

/* All cases of a file, the count in *count.  Ends the program when the file is not as it should be.
 */
static inline struct dsl_case *cases_load(const char *path, size_t *count)
{
    struct dsl_case *all = calloc(1000, sizeof *all);
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0, at = 0;
    ssize_t size;
    *count = 0;
    if (!f || !all) {
        perror(path);
        exit(2);
    }
    while ((size = getline(&line, &room, f)) > 0) {
        line[size - 1] = '\0';
        if (at == 0 && (line[0] == '\0' || line[0] == '#'))
            continue;
        all[*count].text[at++] = strdup(line);
        if (at == 3) {
            at = 0;
            newlines(all[*count].text[1]);
            newlines(all[*count].text[2]);
            case_read(&all[(*count)++]);
        }
    }
    free(line);
    fclose(f);
    if (at || !*count) {
        fprintf(stderr, "%s: a case has not three lines\n", path);
        exit(2);
    }
    return all;
}

static inline void cases_free(struct dsl_case *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (int k = 0; k < 3; k++)
            free(all[i].text[k]);
        free(all[i].pipeline);
    }
    free(all);
}

static const char *const case_files[] = {"B.log",    "a.log",    "b.log",   "c.gz",
                                         "d.gz",     "a.tsv",    "b.tsv",   "dict.txt",
                                         "reads.fq", "score.py", "src/x.c", "src/y.c", "src/.z.c"};

static inline void case_directory_make(void)
{
    char path[200];
    if (!mkdtemp(case_directory)) {
        perror(case_directory);
        exit(2);
    }
    snprintf(path, sizeof path, "%s/src", case_directory);
    mkdir(path, 0755);
    for (size_t i = 0; i < sizeof case_files / sizeof *case_files; i++) {
        snprintf(path, sizeof path, "%s/%s", case_directory, case_files[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        if (fd < 0 || write(fd, case_files[i], strlen(case_files[i])) < 0)
            exit(2);
        close(fd);
    }
}

static inline void case_directory_remove(void)
{
    char path[200];
    for (size_t i = 0; i < sizeof case_files / sizeof *case_files; i++) {
        snprintf(path, sizeof path, "%s/%s", case_directory, case_files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/src", case_directory);
    rmdir(path);
    rmdir(case_directory);
}
