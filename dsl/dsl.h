/* The pipeline language (zpipe-language(5)): reads a text, and makes of it a graph, its canonical text, or a sketch for
 * tests.  Other layers include only this header; all others in this folder are internal. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct graph;

/* Ceilings: a text over one of them is refused with its name. */
#define DSL_TEXT_MAX  (1u << 20)  /* bytes of a one-liner */
#define DSL_JOB_MAX   (16u << 20) /* bytes of a job file */
#define DSL_DEPTH_MAX 100         /* brackets, blocks and groups inside each other */
#define DSL_WORDS_MAX 400000      /* words read; a word that is read twice counts twice */

/* A table of commands, zpipe.commands(5), and its name for messages. */
#define COMMANDS_FILE_MAX  (1u << 20) /* bytes of a table */
#define COMMANDS_TEXTS_MAX 8          /* tables, zpipe's own among them */
struct commands_text {
    const char *file;
    const char *text;
    size_t size;
};

struct dsl_input {
    const char *text; /* pipeline text or job file contents, NUL-terminated, size bytes */
    size_t size;
    const char *file; /* name for messages: "pipeline" for a one-liner, else the job file's name */
    bool jobfile;
    const char
        *directory; /* absolute path of the caller's working directory; relative names start here */
    const char *home;             /* for ~ ; NULL: error */
    const char *const *parameter; /* NAME=VALUE..., given after the pipeline */
    size_t parameter_count;
    const char *const *env; /* --env NAME=VALUE: parameter and environment of every program */
    size_t env_count;
    const char *const *with; /* --with WORD: setting or path */
    size_t with_count;
    const char *const *each; /* words after ::: */
    size_t each_count;
    bool pipefail, line_reads;
    uint64_t split_bytes; /* as in struct graph */
    const struct commands_text *commands; /* tables of commands before zpipe's own */
    size_t commands_count;
};

/* Parse, resolve (globs, parameters, input files: the file system is only read) and lower.  Gives a
 * graph that passes graph_check (free with graph_free).  On failure NULL with e: code ERR_INPUT and
 * e->text the whole message of zpipe-language(5):
 * "FILE:LINE:COL: error: SENTENCE\n    source line\n    ^\n    hint: ..." (no newline at the end).
 *
 * How the language maps to a graph, beyond what graph.h says:
 * - A body (MAP, REDUCE) is fed by a SOURCE with one STDIN segment and ends in a SINK STDOUT, both
 * with `parent` set: there they mean the task's own stdin and stdout.  A merge body likewise
 * (`merge`).
 * - A broadcast `<( )` in a body has parent GRAPH_NONE: it runs once, outside.
 * - A use of a named pipeline is a copy of its nodes.
 * - A file that is named through `..` is given by its absolute path, in the words too.  A written
 * file whose name is absolute or goes through `..` is written as `.zpipe-out-N` and put where it
 * was meant.
 * - SHELL text with holes: a hole stands outside any quotes, so that a quoted word may replace it.
 */
struct graph *dsl_graph(const struct dsl_input *in, struct err *e);

/* Canonical text.  Gives a string. */
char *dsl_canonical(const struct dsl_input *in, struct err *e);

/* The sketch of the graph that the tests and `zpipe check` print.  Gives a string. */
char *dsl_notation(const struct dsl_input *in, struct err *e);
