/* One line per event on stderr: `level event key=value...`.  No files, no rotation: a supervisor does
 * that.  The library prints nothing below LOG_WARN unless asked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* What is printed: messages of this level and above it in importance.  Default LOG_WARN. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* From now on no line waits for whoever reads stderr: one for which there is no room is left out, and the next that is written says how many were.
 * For daemons, for which others wait. */
void log_never_wait(void);

/* Writes a whole line, by the same rule; false: it was left out.  A signal handler may call it. */
bool log_write(const char *line, size_t size);

/* `event` is one word; the format makes the key=value part and may be "".  Controls are shown as '?'. */
void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_get_level() >= LOG_DEBUG)                                                          \
            log_line(LOG_DEBUG, __VA_ARGS__);                                                      \
    } while (0)
