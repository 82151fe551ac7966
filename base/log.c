/* See log.h. */
#include "base/log.h"
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static enum log_level limit = LOG_WARN;

void log_set_level(enum log_level level)
{
    limit = level;
}

enum log_level log_get_level(void)
{
    return limit;
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    if (level > limit)
        return;
    int saved = errno;
    char line[2048];
    int used = snprintf(line, sizeof line, "%s %s", words[level], event);
    if (format[0] && used > 0 && (size_t)used < sizeof line - 2) {
        line[used++] = ' ';
        va_list args;
        va_start(args, format);
        int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
        va_end(args);
        used += more < 0 ? 0 : more;
    }
    if ((size_t)used > sizeof line - 2)
        used = sizeof line - 2;
    err_plain(line, false); /* a line is an event, whatever names are in it */
    line[used++] = '\n';
    /* One write, so that lines of several processes do not mix. */
    ssize_t ignored = write(2, line, (size_t)used);
    (void)ignored;
    errno = saved;
}
