/* Messages to the user.  They may hold text from job files, tasks, workers and schedulers, so bytes that a terminal would
 * obey are printed as '?'. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_say(int status, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    fprintf(stderr, "zpipe: %s\n", size < 0 ? "out of memory" : zpipe_plain(text, true));
    free(size < 0 ? NULL : text);
    return status;
}

/* A syntax error already has its own form: FILE:LINE:COL: error: ... */
int cli_fail(int status, const struct zpipe_error *e)
{
    struct zpipe_error shown = *e;
    fprintf(stderr, strstr(e->text, ": error: ") ? "%s\n" : "zpipe: %s\n", zpipe_plain(shown.text, true));
    return status;
}

int cli_end(int status)
{
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0)
        status = cli_say(ZPIPE_STATUS_FAILED, "cannot write to stdout: %s", errno ? strerror(errno) : "a write failed before");
    return status;
}
