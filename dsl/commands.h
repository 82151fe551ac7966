/* What is known of commands by name: which words are files, and how input may be cut.  The table is
 * text, zpipe.commands(5); share/zpipe/commands.conf is part of the program, a user's own texts are
 * looked up before it.  Only the entries of commands that occur are read, each once. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "dsl/dsl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ceilings. */
#define COMMAND_LINE_MAX      4096
#define COMMAND_OPTIONS_MAX   200
#define COMMAND_SPELLINGS_MAX 6
#define COMMAND_FORMS_MAX     200
#define COMMAND_WORDS_MAX     64 /* of a line */

enum command_argument { ARGUMENT_NONE, ARGUMENT_NEXT, ARGUMENT_ATTACHED };

struct command_option {
    const char *name[COMMAND_SPELLINGS_MAX]; /* the first is how it is called in forms */
    uint32_t names;
    uint32_t argument; /* enum command_argument */
    bool file, output; /* what the argument is */
    bool in_place;     /* the operands are outputs */
    bool drop;         /* not for blocks */
    bool many;         /* each counts; of others the last one would, so twice is not understood */
};

struct command_form {
    const char *const *condition;
    uint32_t conditions;
    bool given; /* `given`: the operands must be these */
    const char *const *operand;
    uint32_t operands;
    const char *const *word; /* the clauses, with `|` between them */
    uint32_t words;
    const char *reason; /* of `whole`, or NULL */
};

/* Which words may name a file that the command makes, besides its outputs. */
enum command_makes {
    COMMAND_MAKES_NONE,    /* it only reads */
    COMMAND_MAKES_OPTIONS, /* arguments of options (awk -v out=x) */
    COMMAND_MAKES_WORDS,   /* any; so a command that is not in the table */
};

/* When does a command that is given no file read the working directory? */
enum command_here {
    COMMAND_HERE_NEVER,
    COMMAND_HERE_ALONE, /* without an operand */
    COMMAND_HERE_FIRST, /* without one as its first word */
    COMMAND_HERE_WITH,  /* without an operand, with one of the options */
};

struct command {
    const char *name;
    const struct command_option *option;
    uint32_t option_count;
    uint32_t skip;                             /* operands before the first file */
    const char *unless[COMMAND_SPELLINGS_MAX]; /* none to skip with one of these */
    uint32_t unless_count;
    bool files;       /* the operands behind are files */
    bool outputs;     /* ... or outputs */
    bool then_output; /* one file, then an output */
    bool silent;      /* never reads stdin */
    bool reads_names; /* ... or reads names of files there */
    const char *names_with[COMMAND_SPELLINGS_MAX]; /* ... with one of these options */
    uint32_t names_count;
    bool directories; /* operands may be directories, `.` too */
    enum command_here here;
    const char *here_with[COMMAND_SPELLINGS_MAX];
    uint32_t here_count;
    enum command_makes makes;
    const char *prefix; /* its words are how names begin that it makes, and so is this; or NULL */
    const char *suffix[COMMAND_SPELLINGS_MAX]; /* what the names of files that it makes have more than its operands, or less */
    uint32_t suffix_count;
    bool own;         /* its entry is zpipe's */
    bool ordered;     /* options end at the first operand */
    uint32_t ok_status;
    const struct command_form *form;
    uint32_t form_count;
};

struct commands;

/* texts: NAME for messages and bytes each, first looked up first; borrowed as long as the table
 * lives.  They are read through here: NULL with `FILE:LINE:1: error: ...`. */
struct commands *commands_new(struct arena *a, const struct commands_text *texts, size_t count,
                              struct err *e);
/* NULL: not known, or no memory (e filled then). */
const struct command *commands_find(struct commands *c, const char *name, struct err *e);
/* The user's entry for these words and no others, or NULL. */
const struct command *commands_exactly(const struct commands *c, const char *const *word, size_t count);
/* May it make a file in any way, by a word or an option? */
bool command_may_make(const struct command *k);
/* The text that is part of the program. */
struct commands_text commands_own(void);

/* A walk over the words behind a command's name, as getopt_long would do it. */
enum command_item_kind { ITEM_OPERAND, ITEM_OPTION, ITEM_UNKNOWN, ITEM_END };
struct command_item {
    enum command_item_kind kind;
    const struct command_option *option;
    const char *value; /* of an option, or the operand; UNKNOWN: what is not known */
    size_t word;       /* it begins in */
    size_t value_word; /* value is in; word + 1 or word */
    bool missing;      /* an argument should follow and does not */
};
struct command_walk {
    const struct command *command;
    const char *const *word;
    size_t count, at;
    const char *cluster; /* rest of -abc */
    bool plain;
};
struct command_walk command_walk(const struct command *k, const char *const *word, size_t count);
struct command_item command_next(struct command_walk *w); /* ITEM_END: no more */
