/* See err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* strerror, with the setting for a limit that a user may raise. */
static const char *reason(int sys)
{
    switch (sys) {
    case EFBIG:
        return "File too large (the limit is `ulimit -f`)";
    case EMFILE:
        return "Too many open files (the limit is `ulimit -n`)";
    default:
        return strerror(sys);
    }
}

__attribute__((format(printf, 4, 0))) static int fill(struct err *e, int code, int sys,
                                                      const char *format, va_list args)
{
    int saved = errno;
    if (e) {
        e->code = code;
        e->sys = sys;
        const char *why = sys ? reason(sys) : NULL;
        vsnprintf(e->text, sizeof e->text - (why ? strlen(why) + 2 : 0), format, args); /* leaves room for the reason, even after a long name */
        size_t used = strlen(e->text);
        if (why)
            snprintf(e->text + used, sizeof e->text - used, ": %s", why);
    }
    errno = saved;
    return -1;
}

int err_set(struct err *e, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(e, code, 0, format, args);
    va_end(args);
    return -1;
}

static int code_of_errno(int sys)
{
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOENT;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ENOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

int err_sys(struct err *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(e, code_of_errno(errno), errno, format, args);
    va_end(args);
    return -1;
}

int err_wrap(struct err *e, const char *format, ...)
{
    if (!e)
        return -1;
    char context[ERR_TEXT_MAX], whole[2 * ERR_TEXT_MAX + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%s: %s", context, e->text);
    memcpy(e->text, whole, sizeof e->text - 1);
    e->text[sizeof e->text - 1] = '\0';
    return -1;
}

int err_nomem(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

/* How many bytes of a Unicode control character begin here: U+0080 to U+009F, which terminals treat as escapes; characters
 * that change the direction of writing, so that a text is shown in another order (U+061C, U+200E and F, U+202A to E, U+2066
 * to 9); and line separators (U+2028 and 9). */
static size_t wide_control(const unsigned char *p)
{
    if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
        return 2;
    if (p[0] == 0xd8 && p[1] == 0x9c)
        return 2;
    if (p[0] != 0xe2)
        return 0;
    bool marks = p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae));
    return marks || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9) ? 3 : 0;
}

char *err_plain(char *text, bool lines)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        size_t wide = wide_control(p);
        for (size_t i = 0; i < wide; i++)
            p[i] = '?';
        if (*p == 0x7f || (*p < ' ' && !(lines && (*p == '\n' || *p == '\t'))))
            *p = '?';
    }
    return text;
}

const char *err_name(const char *name, char shown[ERR_NAME_MAX])
{
    size_t size = strnlen(name, ERR_NAME_MAX - 1);
    memcpy(shown, name, size);
    shown[size] = '\0';
    return err_plain(shown, false);
}
