/* For tests/e2e/many.py: runs pipelines one after the other through the library, so that thousands fit into
 * a minute.  Requests on stdin: WIDTH SPLIT_BYTES SIZE\n TEXT.  Each job reads the file `in` of the folder above
 * the working directory and writes `out` and `err` there; the answer is its status, as a line. */
#include "zpipe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_MAX 65536

static int open_file(const char *name, int flags)
{
    int fd = open(name, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        perror(name);
    return fd;
}

static int run(struct zpipe *z, struct zpipe_submission *s)
{
    struct zpipe_error e = {0};
    s->io.stdin_fd = open_file("../in", O_RDONLY);
    s->io.stdout_fd = open_file("../out", O_WRONLY | O_CREAT | O_TRUNC);
    s->io.stderr_fd = open_file("../err", O_WRONLY | O_CREAT | O_TRUNC);
    struct zpipe_job *j = zpipe_submit(z, s, &e);
    int status = j ? zpipe_wait(j, &e) : ZPIPE_STATUS_FAILED;
    if (e.code)
        dprintf(s->io.stderr_fd, "zpipe: %s\n", e.text);
    zpipe_job_free(j);
    close(s->io.stdin_fd);
    close(s->io.stdout_fd);
    close(s->io.stderr_fd);
    return status;
}

int main(void)
{
    static char text[TEXT_MAX + 1];
    struct zpipe_error e = {0};
    struct zpipe *z = zpipe_open(NULL, &e);
    struct zpipe_submission s = zpipe_submission(text);
    size_t size;
    if (!z)
        return fprintf(stderr, "%s\n", e.text), 1;
    while (scanf("%" SCNu32 " %" SCNu64 " %zu", &s.width, &s.split_bytes, &size) == 3 && getchar() == '\n' &&
           size <= TEXT_MAX && fread(text, 1, size, stdin) == size) {
        text[size] = '\0';
        printf("%d\n", run(z, &s));
        fflush(stdout);
    }
    zpipe_close(z);
    return 0;
}
