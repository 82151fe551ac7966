/* Memory that runs out on purpose.  tests/fault.cmake links it into second copies of the programs with --wrap, so that the
 * product knows nothing of it and sanitizers work as ever.  Only our own calls are counted, and those of libc's functions
 * that give memory: libev and libzmq end the process when they get none, and say so.
 *
 *     FAULT_ENV=N        this program's allocation number N fails (processes forked from it count on from where it was)
 *     FAULT_ENV=N-       and all after it
 *     ZPIPE_FAULT_NOTE   a file that then says where: what hit nothing proves nothing */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The names that --wrap gives. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
int __real_vasprintf(char **out, const char *format, va_list args);
char *__real_realpath(const char *path, char *out);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_vasprintf(char **out, const char *format, va_list args);
int __wrap_asprintf(char **out, const char *format, ...);
char *__wrap_realpath(const char *path, char *out);

static atomic_long left; /* until it fails; 0: not asked for */
static bool and_after;

__attribute__((constructor)) static void read_wish(void)
{
    const char *wish = getenv(FAULT_ENV);
    char *end = NULL;
    if (!wish)
        return;
    left = strtol(wish, &end, 10);
    and_after = *end == '-';
}

static bool fails(void)
{
    long before = left;
    if (before == 0)
        return false;
    if (before > 1) {
        left = before - 1;
        return false;
    }
    if (!and_after)
        left = 0;
    const char *note = getenv("ZPIPE_FAULT_NOTE");
    int fd = note ? open(note, O_CREAT | O_WRONLY | O_CLOEXEC, 0666) : -1;
    if (fd >= 0) {
        void *frame[24];
        backtrace_symbols_fd(frame, backtrace(frame, 24), fd);
        close(fd);
    }
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

int __wrap_vasprintf(char **out, const char *format, va_list args)
{
    return fails() ? -1 : __real_vasprintf(out, format, args);
}

int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = __wrap_vasprintf(out, format, args);
    va_end(args);
    return r;
}

char *__wrap_realpath(const char *path, char *out)
{
    return !out && fails() ? NULL : __real_realpath(path, out);
}
