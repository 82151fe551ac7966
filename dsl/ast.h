/* The syntax tree that the parser makes of a text, in an arena.  Lists are linked in the order of the text.  Fields marked
 * "resolved" are filled by resolve.c; print.c needs only those of the parser. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum part_kind {
    PART_BARE,   /* unquoted text: `*`, `?`, `[` are patterns */
    PART_QUOTED, /* literal bytes, however they were quoted */
    PART_NAME,   /* $NAME: text is NAME */
    PART_HOLE,   /* {}, {.}, ...: text holds the braces too; filled in bodies of map and reduce only */
    PART_ODD,    /* $( ) and the like, which only sh can do: text is its source */
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
    const char *odd;   /* what makes its stage opaque, such as "$("; or NULL */
    size_t odd_at;
    size_t assign; /* length of NAME in NAME=..., or 0 */
};

struct heredoc {
    size_t op;         /* where the << is in the text */
    struct slice end;  /* the line that ends it */
    bool quoted, dash; /* 'END'; <<- */
    size_t from, to;   /* its lines in the source, the end line included */
    struct word *body; /* its text as parts */
};

enum redir_kind {
    REDIR_IN,     /* < */
    REDIR_OUT,    /* >, >| */
    REDIR_APPEND, /* >> */
    REDIR_HERE,   /* <<, <<- */
    REDIR_STRING, /* <<< */
    REDIR_DUP,    /* >&1, >&2 */
    REDIR_ODD,    /* only sh can do it: 3>, <>, <&, >&- */
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
    const struct written *from; /* IN: the file is made by an earlier statement */
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

/* A word of a command after globs and parameters were replaced; a hole is the byte GRAPH_HOLE and one more. */
struct value {
    struct value *next;
    const char *text;
    const struct word *word; /* the word that it comes from; NULL: it is in no text */
    struct item *subst;      /* the <( ) or >( ) that the word stands for; text is its name */
    bool hole;
};

struct pipeline;

/* A file that the job writes under a name. */
struct written {
    struct written *next;  /* not of those that words may name */
    struct written *alike; /* the one before it in the same chain */
    const char *path;      /* the client's, normalised */
    const char *to;        /* where that leads, if there are symbolic links on the way */
    uint64_t hash;         /* of `to`: says in which chain it is */
    const char *word;      /* as typed */
    size_t at;
    unsigned statement;    /* counted from 0 */
    bool append;
};

/* A use of a file by a stage. */
struct use {
    struct use *next;
    const char *word;    /* as typed */
    const char *name;    /* inside the sandbox */
    const char *path;    /* the client's path */
    struct value *value; /* the word that names it, or NULL */
    size_t at;
    bool program;               /* the file is the command itself */
    bool prefix;                /* the stage makes files whose names begin with `name` */
    bool pattern;               /* the stage makes files whose names fit `name`, in which `*` stands for anything */
    const struct written *from; /* the file is this output of an earlier statement */
};

enum stdin_kind {
    STDIN_PIPE,  /* reads the stage before it, or the task's stdin */
    STDIN_OWN,   /* needs no stdin: a source, a redirected file, a program that does not read */
    STDIN_JOB,   /* reads the job's stdin */
    STDIN_EMPTY, /* would read the job's stdin, but another stage has it */
};

struct stage {
    struct stage *next;
    enum stage_kind kind;
    size_t start, end; /* in the text; redirections of a SIMPLE included */
    bool join;         /* |& after it */
    struct item *item; /* SIMPLE */
    bool command;      /* SIMPLE: `command` before it */
    const char *odd;   /* the word or sign because of which sh runs the whole stage (SIMPLE, OPAQUE); NULL: none */
    size_t odd_at;
    struct redir *redir;
    struct definition *definition; /* NAME */
    struct setting *setting;       /* WITH */
    struct pipeline *body, *merge; /* WITH, MAP, REDUCE */
    bool braced;                   /* WITH: its body is a block in braces */
    bool per_file, by;             /* MAP: per file; by RECORD */
    enum record_kind record;
    uint64_t count;
    struct word *record_word; /* START, END */
    struct word *key;         /* REDUCE */
    struct word *separator;
    uint64_t into;

    /* resolved */
    struct value *value;        /* SIMPLE: the words */
    struct value *env;          /* SIMPLE: the assignments; otherwise the parameters that its text for sh names */
    const char *shell;          /* "sh" or "bash" if a shell runs its text */
    struct use *input, *output; /* files that it names, and files that it writes */
    struct use *maybe;          /* words that may be names of files that it makes */
    struct use **last_input;    /* the end of `input` while it is being collected */
    bool file_operand;          /* it reads a file instead of stdin */
    bool source;                /* `cat F...`: no process */
    bool builtin;               /* a builtin of sh, run by sh */
    bool prints_names;          /* it prints names of its inputs to stdout */
    bool reads_names;           /* it reads names of files from stdin, and opens them */
    bool changes_names;         /* it reads names of files from stdin, and changes them */
    const struct command *packs; /* the command that changes those files: for `xargs gzip`, gzip; or NULL */
    struct use *scripts;        /* the scripts that were read to find the files that they name */
    const char *reads_program;  /* the name of a shell that runs what comes at its stdin; or NULL */
    bool unknown_words;         /* its text for sh puts names together, so not all are known */
    enum stdin_kind from;
    bool names_stdin;         /* `-` or /dev/stdin */
    bool appends_unseen;      /* it appends to files whose names it puts together, which are too many to be given to it */
    const char *text;         /* for sh */
    bool text_holes;          /* there are holes in it */
    struct slice record_text; /* START, END */
    int separator_byte;       /* REDUCE: or -1 */
    const char *holes_at;     /* the body that the stage is in: NULL, "each", "reduce" or "merge" */
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
    bool source; /* resolved: the pipeline has a source of its own */
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
    struct heredoc *const *here; /* in text order: opaque text leaves out those of others and brings along its own */
    size_t here_count;
};

/* The index of the first heredoc whose body begins at or after `at`; here_count if there is none. */
size_t tree_heredoc(const struct tree *t, size_t at);

bool word_is(const struct word *w, const char *text); /* is it exactly this text, unquoted? */
/* The bytes of a word; NULL if it holds parameters, holes or odd parts, or there is no memory. */
struct arena;
char *word_literal(const struct word *w, struct arena *a);
