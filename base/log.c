/* See log.h. */
#include "base/log.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static enum log_level limit = LOG_WARN;
static int to = 2;
static bool waits = true;
static unsigned long long left_out; /* lines, since the last one that was written */

void log_set_level(enum log_level level)
{
    limit = level;
}

enum log_level log_get_level(void)
{
    return limit;
}

void log_never_wait(void)
{
    /* A terminal can take a part of a line and wait with the rest, whatever it said before.  This opening of it is our own, so nobody else sees the flag. */
    int own = isatty(2) ? open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    to = own >= 0 ? own : 2;
    waits = false;
}

bool log_write(const char *line, size_t size)
{
    struct pollfd p = {.fd = to, .events = POLLOUT}; /* a pipe that says so has room for a line: one page at least */
    return (waits || (poll(&p, 1, 0) > 0 && (p.revents & POLLOUT))) && write(to, line, size) == (ssize_t)size;
}

static void tell_left_out(void)
{
    char line[64];
    int size = snprintf(line, sizeof line, "warn lines_left_out count=%llu\n", left_out);
    if (log_write(line, (size_t)size))
        left_out = 0;
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
    if (left_out)
        tell_left_out();
    left_out += left_out || !log_write(line, (size_t)used);
    errno = saved;
}
