/* What is known about commands by name: which words are files, and how their input may be cut.  The table is text, see
 * zpipe.commands(5).  share/zpipe/commands.conf is built into the program; a user's own texts are searched before it.  Only
 * the entries of commands that occur are read, each once. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "dsl/dsl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits. */
#define COMMAND_LINE_MAX      4096
#define COMMAND_OPTIONS_MAX   200
#define COMMAND_SPELLINGS_MAX 6
#define COMMAND_FORMS_MAX     200
#define COMMAND_WORDS_MAX     64 /* words of a line */

enum command_argument { ARGUMENT_NONE, ARGUMENT_NEXT, ARGUMENT_ATTACHED };

struct command_option {
    const char *name[COMMAND_SPELLINGS_MAX]; /* forms use the first spelling */
    uint32_t names;
    uint32_t argument; /* enum command_argument */
    bool file, output; /* the argument is an input, or an output */
    bool in_place;     /* with this option the operands are outputs */
    bool drop;         /* blocks run without this option */
    bool many;         /* may be given several times; any other option given twice is not understood */
};

struct command_form {
    const char *const *condition;
    uint32_t conditions;
    bool given; /* the operands must be exactly these */
    const char *const *operand;
    uint32_t operands;
    const char *const *word; /* the clauses, with `|` between them */
    uint32_t words;
    const char *reason; /* the reason given with `whole`, or NULL */
};

/* Which words may name a file that the command makes, besides its outputs. */
enum command_makes {
    COMMAND_MAKES_NONE,    /* none */
    COMMAND_MAKES_OPTIONS, /* arguments of options (awk -v out=x) */
    COMMAND_MAKES_WORDS,   /* any word; also for commands that are not in the table */
};

/* When does a command that is given no file read the working directory? */
enum command_here {
    COMMAND_HERE_NEVER,
    COMMAND_HERE_ALONE, /* if it has no operand */
    COMMAND_HERE_FIRST, /* if its first word is not an operand */
    COMMAND_HERE_WITH,  /* if it has no operand but one of the options */
};

struct command {
    const char *name;
    const struct command_option *option;
    uint32_t option_count;
    uint32_t skip;                             /* operands before the first file */
    const char *unless[COMMAND_SPELLINGS_MAX]; /* with one of these options none is skipped */
    uint32_t unless_count;
    bool files;       /* the other operands are inputs */
    bool outputs;     /* the other operands are outputs */
    bool then_output; /* the operands are one input, then one output */
    bool silent;      /* it never reads stdin */
    bool pairs;       /* with one file it reads stdin, too */
    bool reads_names; /* it always reads names of files from stdin */
    const char *names_with[COMMAND_SPELLINGS_MAX]; /* with one of these options it reads names of files */
    uint32_t names_count;
    bool directories; /* operands may be directories, even `.` */
    enum command_here here;
    const char *here_with[COMMAND_SPELLINGS_MAX];
    uint32_t here_count;
    enum command_makes makes;
    const char *makes_with[COMMAND_SPELLINGS_MAX]; /* only if one of its words is of one of these patterns */
    uint32_t makes_count;                          /* 0: always */
    const char *prefix; /* its words, and this text, are the beginnings of names that it makes; or NULL */
    const char *suffix[COMMAND_SPELLINGS_MAX]; /* suffixes that it adds to its operands, or removes, to name the files it makes */
    uint32_t suffix_count;
    bool own;         /* the entry is from zpipe's own table */
    bool ordered;     /* options end at the first operand */
    uint32_t ok_status;
    const struct command_form *form;
    uint32_t form_count;
};

struct commands;

/* texts: each has a name for messages; the first is searched first; borrowed as long as the table lives.  All of each text
 * is checked here: NULL with `FILE:LINE:1: error: ...`. */
struct commands *commands_new(struct arena *a, const struct commands_text *texts, size_t count,
                              struct err *e);
/* NULL: not known, or no memory (then e is filled). */
const struct command *commands_find(struct commands *c, const char *name, struct err *e);
/* The user's entry for exactly these words, or NULL. */
const struct command *commands_exactly(const struct commands *c, const char *const *word, size_t count);
/* Which of these words after its name may name a file that it makes? */
enum command_makes command_makes(const struct command *k, const char *const *word, size_t count);
/* May it make a file in any way, by a word or an option? */
bool command_may_make(const struct command *k);
/* The table that is built into the program. */
struct commands_text commands_own(void);

/* Does it read the working directory, with these words after its name?  dot: an operand is the working directory itself. */
bool command_reads_here(const struct command *k, const char *const *word, size_t count, bool dot);

/* Walks over the words after a command's name, as getopt_long would. */
enum command_item_kind { ITEM_OPERAND, ITEM_OPTION, ITEM_UNKNOWN, ITEM_END };
struct command_item {
    enum command_item_kind kind;
    const struct command_option *option;
    const char *value; /* the option's argument, or the operand; UNKNOWN: what is not known */
    size_t word;       /* where the item begins */
    size_t value_word; /* where the value is: word or word + 1 */
    bool missing;      /* the option needs an argument and has none */
};
struct command_walk {
    const struct command *command;
    const char *const *word;
    size_t count, at;
    const char *cluster; /* the rest of -abc */
    bool plain;
};
struct command_walk command_walk(const struct command *k, const char *const *word, size_t count);
struct command_item command_next(struct command_walk *w); /* kind ITEM_END: there are no more */
