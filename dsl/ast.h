/* The tree: what the parser makes of a text, in an arena.  Lists are linked in text order.
 * resolve.c fills the parts so marked; print.c needs only the parser's. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum part_kind {
    PART_BARE,   /* text as it stands: `*`, `?`, `[` are live */
    PART_QUOTED, /* literal bytes, however they were quoted */
    PART_NAME,   /* $NAME: text is NAME */
    PART_HOLE,   /* {}, {.}, ...: text is all of it; live in bodies only */
    PART_ODD,    /* $( ) and its like: text is the source */
};

struct part {
    struct part *next;
    enum part_kind kind;
    struct slice text;
    size_t at; /* in the source */
};

struct word {
    struct part *part;
    size_t start, end; /* in the source */
    const char *odd;   /* what makes its stage opaque, "$(": or NULL */
    size_t odd_at;
    size_t assign; /* length of NAME in NAME=..., or 0 */
};

struct heredoc {
    size_t op;         /* where << stands */
    struct slice end;  /* the line that ends it */
    bool quoted, dash; /* 'END'; <<- */
    size_t from, to;   /* its lines, the last one too, in the source */
    struct word *body; /* parts of the text */
};

enum redir_kind {
    REDIR_IN,     /* < */
    REDIR_OUT,    /* >, >| */
    REDIR_APPEND, /* >> */
    REDIR_HERE,   /* <<, <<- */
    REDIR_STRING, /* <<< */
    REDIR_DUP,    /* >&1, >&2 */
    REDIR_ODD,    /* for sh alone: 3>, <>, <&, >&- */
};

struct redir {
    struct redir *next;
    enum redir_kind kind;
    int fd;
    bool clobber;               /* >| */
    size_t at;                  /* of the operator, or of the number before it */
    size_t end;                 /* one past its word */
    struct word *word;          /* the target */
    struct heredoc *here;       /* HERE */
    int dup;                    /* DUP */
    const char *target;         /* resolved: IN, OUT, APPEND: the name, holes as in struct value */
    struct slice bytes;         /* resolved: HERE, STRING */
    const struct written *from; /* IN: an output of a statement above */
};

enum item_kind { ITEM_ASSIGN, ITEM_WORD, ITEM_SUBST };

struct item {
    struct item *next;
    enum item_kind kind;
    struct word *word;
    struct pipeline *pipeline; /* SUBST */
    bool out;                  /* SUBST: >( ) */
    size_t end;                /* SUBST: behind its `)` */
    int fd;                    /* SUBST, resolved: /dev/fd/N */
    size_t at;
};

enum stage_kind {
    STAGE_SIMPLE,
    STAGE_OPAQUE, /* a compound or a list: text [start, end) for sh */
    STAGE_NAME,   /* a named pipeline */
    STAGE_WITH,
    STAGE_MAP,
    STAGE_REDUCE,
};

struct setting {
    struct setting *next;
    struct word *word;                  /* NAME=VALUE */
    const char *value;                  /* resolved */
    const struct setting_kind_of *kind; /* resolved */
};

enum record_kind {
    RECORD_LINES,
    RECORD_BYTES,
    RECORD_PARAGRAPH,
    RECORD_START,
    RECORD_END,
};

/* A word of the command after globs and parameters; holes are GRAPH_HOLE and a byte. */
struct value {
    struct value *next;
    const char *text;
    const struct word *word; /* NULL: made up */
    struct item *subst;      /* or the edge that stands here; text is its name */
    bool hole;
};

struct pipeline;

/* A file that the job writes under a name. */
struct written {
    struct written *next;
    const char *path; /* the client's, normal */
    uint64_t hash;    /* of path: most words are none of these */
    const char *word; /* as typed */
    size_t at;
    unsigned statement; /* counted from 0 */
    bool append;
};

/* A file that a stage names. */
struct use {
    struct use *next;
    const char *word;    /* as typed */
    const char *name;    /* inside the sandbox */
    const char *path;    /* the client's */
    struct value *value; /* where it stands, or NULL */
    size_t at;
    bool program;               /* it is the command itself */
    bool prefix;                /* what is made has names that begin so */
    bool pattern;               /* ... names that fit this: a `*` in it stands for anything */
    const struct written *from; /* it is this output of a statement above */
};

enum stdin_kind {
    STDIN_PIPE,  /* the stage before it, or a task's */
    STDIN_OWN,   /* needs none: a source, a file, a program that does not read */
    STDIN_JOB,   /* the job's */
    STDIN_EMPTY, /* would read, and another stage has it */
};

struct stage {
    struct stage *next;
    enum stage_kind kind;
    size_t start, end; /* of the text, redirections of a SIMPLE included */
    bool join;         /* |& after it */
    struct item *item; /* SIMPLE */
    bool command;      /* SIMPLE: `command` before it */
    const char *odd;   /* SIMPLE given to sh whole; OPAQUE: the word or sign that made it so */
    size_t odd_at;
    struct redir *redir;
    struct definition *definition; /* NAME */
    struct setting *setting;       /* WITH */
    struct pipeline *body, *merge; /* WITH, MAP, REDUCE */
    bool braced;                   /* WITH: a block was written */
    bool per_file, by;             /* MAP: per file; by RECORD */
    enum record_kind record;
    uint64_t count;
    struct word *record_word; /* START, END */
    struct word *key;         /* REDUCE */
    struct word *separator;
    uint64_t into;

    /* resolved */
    struct value *value;        /* SIMPLE: the words */
    struct value *env;          /* SIMPLE: the assignments; else the parameters its text names */
    const char *shell;          /* "sh" or "bash" when it has a text */
    struct use *input, *output; /* files it names and files it writes */
    struct use *maybe;          /* words: files that it may make under that name */
    struct use **last_input;    /* while they are collected */
    bool file_operand;          /* it reads a file instead of stdin */
    bool source;                /* `cat F...`: no process */
    bool builtin;               /* run by sh, alone */
    bool prints_names;          /* of its inputs, to stdout */
    bool reads_names;           /* ... and opens them */
    bool changes_names;         /* ... and changes them */
    const struct command *packs; /* ... which is this one's work: `xargs gzip`; or NULL */
    struct use *scripts;        /* files that were read for what they name: those that hold a program */
    const char *reads_program;  /* a shell, whose stdin is what it runs; or NULL */
    bool unknown_words;         /* a text for sh that puts words together */
    enum stdin_kind from;
    bool names_stdin;         /* `-` or /dev/stdin */
    bool appends_unseen;      /* to files whose names it puts together, and that are too many to be shown */
    const char *text;         /* for sh */
    bool text_holes;          /* there are holes in it */
    struct slice record_text; /* START, END */
    int separator_byte;       /* REDUCE: or -1 */
    const char *holes_at;     /* the body it stands in: NULL, "each", "reduce" or "merge" */
};

struct pipeline {
    struct stage *stage;
    bool negate, timed, timed_posix;
    size_t start, end;
};

struct definition {
    struct definition *next;
    const char *name;
    size_t at, line;
    struct pipeline *pipeline;
    bool source; /* resolved: it has one of its own */
};

enum statement_kind {
    STATEMENT_PIPELINE,
    STATEMENT_DEFINE,
    STATEMENT_ASSIGN,
    STATEMENT_WITH,
    STATEMENT_CHECK,
};

struct statement {
    struct statement *next;
    enum statement_kind kind;
    size_t start, end;
    struct pipeline *pipeline;     /* PIPELINE, DEFINE */
    struct definition *definition; /* DEFINE */
    struct item *assign;           /* ASSIGN */
    struct setting *setting;       /* WITH */
    struct word *name;             /* CHECK */
    const char *sha256;            /* CHECK: 64 small hex digits */
};

struct tree {
    struct statement *statement;
    struct definition *definition; /* in text order */
    struct heredoc *const *here; /* in text order: what opaque text must leave out or bring along */
    size_t here_count;
};

/* The first heredoc whose body begins at `at` or behind it: an index, here_count if none. */
size_t tree_heredoc(const struct tree *t, size_t at);

bool word_is(const struct word *w, const char *text); /* bare, and just that */
/* The bytes of a word without parameters, holes and odd parts; NULL if it has some, or no memory.
 */
struct arena;
char *word_literal(const struct word *w, struct arena *a);
