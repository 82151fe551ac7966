/* What went wrong, on the caller's stack: what the caller may do about it (code), the errno behind it
 * (sys), and one sentence for a person (text).  No heap, so out of memory can be reported too.
 *
 * Functions return 0, or -1 with the error filled in; a NULL error is allowed where the caller does
 * not care.  Text: lower case, no full stop, the subject in quotes. */
#pragma once
#include <stdbool.h>

#define ERR_TEXT_MAX 1024

/* Each code says what the caller may do.  X(name, word in logs and messages) */
#define ERR_CODES(X)                                                                               \
    X(ERR_NONE, "none")                                                                            \
    X(ERR_INPUT, "input")             /* the user's text, file or option is wrong: say so */       \
    X(ERR_NOENT, "missing")           /* a named thing is not there */                             \
    X(ERR_DENIED, "denied")           /* not allowed: by the host, by a key, by state */           \
    X(ERR_LIMIT, "limit")             /* a named ceiling was reached */                            \
    X(ERR_AGAIN, "again")             /* not now; later may work */                                \
    X(ERR_GONE, "gone")               /* the other side left */                                    \
    X(ERR_IO, "io")                   /* the system refused: errno in sys */                       \
    X(ERR_NOMEM, "memory")            /* no memory */                                              \
    X(ERR_PROTO, "protocol")          /* the other side broke the protocol: close the link */      \
    X(ERR_CANCELLED, "cancelled")     /* somebody asked for the end */                             \
    X(ERR_UNSUPPORTED, "unsupported") /* understood, and not available here */                     \
    X(ERR_BUG, "bug")                 /* cannot happen */

enum err_code {
#define X(name, word) name,
    ERR_CODES(X)
#undef X
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

/* A text that others chose, as it may be shown on a terminal: each byte of a control is '?', in place, but newlines and
 * tabs where there may be `lines`.  Returns `text`. */
char *err_plain(char *text, bool lines);

/* A name that others chose, as it may be shown on a terminal: control characters are '?', and it ends
 * after ERR_NAME_MAX - 1 bytes.  Returns `shown`. */
#define ERR_NAME_MAX 256
const char *err_name(const char *name, char shown[ERR_NAME_MAX]);

/* The word of a code, "bug" for a number that is none. */
const char *err_word(int code);
