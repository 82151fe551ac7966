/* What went wrong, in a struct on the caller's stack: what the caller may do about it (code), the errno (sys), and one
 * sentence for a person (text).  It uses no heap, so out of memory can be reported too.
 *
 * Functions return 0, or -1 with the error filled in; a NULL error is allowed where the caller does not care.  Text: lower
 * case, no full stop, the subject in quotes. */
#pragma once
#include <stdbool.h>

#define ERR_TEXT_MAX 1024

enum err_code { /* each says what the caller may do */
    ERR_NONE,
    ERR_INPUT,       /* the user's text, file or option is wrong: say so */
    ERR_NOENT,       /* a named thing is not there */
    ERR_DENIED,      /* not allowed: by the host, by a key, by state */
    ERR_LIMIT,       /* a named ceiling was reached */
    ERR_AGAIN,       /* not now; later may work */
    ERR_GONE,        /* the other side left */
    ERR_IO,          /* the system refused: errno in sys */
    ERR_NOMEM,       /* no memory */
    ERR_PROTO,       /* the other side broke the protocol: close the link */
    ERR_CANCELLED,   /* somebody asked for the end */
    ERR_UNSUPPORTED, /* understood, and not available here */
    ERR_BUG,         /* cannot happen */
    ERR_COUNT
};

struct err {
    int code; /* enum err_code */
    int sys;  /* errno, or 0 */
    char text[ERR_TEXT_MAX];
};

/* Fill e and return -1, so that `return err_set(e, ...)` is a whole error path.  errno is kept.
 * err_sys appends ": " and what errno means, and records errno. */
int err_set(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int err_sys(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Put "context: " before the text of e.  Returns -1. */
int err_wrap(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

int err_nomem(struct err *e);

/* Makes a text from outside safe to show on a terminal: each byte of a control character becomes '?', in place, except
 * newlines and tabs if `lines`.  Returns `text`. */
char *err_plain(char *text, bool lines);

/* Makes a name from outside safe to show on a terminal: control characters become '?', and it ends after ERR_NAME_MAX - 1
 * bytes.  Returns `shown`. */
#define ERR_NAME_MAX 256
const char *err_name(const char *name, char shown[ERR_NAME_MAX]);
