/* Shared by lower.c and lower_*.c; not for other files. */
#pragma once
#include "dsl/lower.h"
#include "proto/graph.h"

/* What flows out of a stage: one or two fds of one node, which write to the same place. */
struct stream {
    uint32_t node; /* GRAPH_NONE: nothing flows */
    int fd[2];
    int fds;
    bool seekable; /* it is one regular file, to be opened as such and not streamed */
};
/* How many statements in a row may each read what the one before makes. */
#define PHASES_MAX 1000

#define NO_STREAM ((struct stream){.node = GRAPH_NONE})

/* What surrounds a stage. */
struct place {
    uint32_t parent;
    bool merge, drain;
    bool piped; /* its stdout goes to another stage, not out of the statement */
    struct graph_settings set;
    const char *shell;   /* from `with shell=`, or NULL */
    const char *out[64]; /* from `with out=` */
    uint32_t out_count;
    int depth;
};

/* A named pipeline and its uses. */
struct shared {
    struct shared *next;
    const struct definition *name;
    struct place at;     /* where it is defined */
    uint32_t uses;       /* how often it is used; for a filter 2 means twice or more */
    bool counts;         /* its status counts in one of its uses */
    bool files;          /* it consists only of files, so each use can have its own source */
    uint32_t node;       /* the BROADCAST that all uses read; GRAPH_NONE: none yet */
    int readers;         /* how many uses read it so far */
    uint32_t last;       /* the node whose status is the named pipeline's */
    uint32_t statement;  /* the first statement that uses it */
};

struct lower {
    struct resolver *r;
    struct graph *g;
    struct err *e;
    bool stdin_made;
    uint32_t last;                     /* the node whose status is that of the pipeline lowered last */
    unsigned renamed;                  /* how many outputs have got a name of ours */
    struct stream late[GRAPH_FDS_MAX]; /* what >( ) prints: it is to come after all that the statement itself prints */
    size_t late_count;
    struct shared *shared;             /* all named pipelines; in the resolver's arena */
    unsigned passed;                   /* how many streams are passed from one phase to another */
    uint32_t phase;                    /* the phase of the statement that is being lowered */
    struct made {
        struct made *next;
        const char *path;
        uint32_t sink; /* the file's sink; GRAPH_NONE: a stage may make the file */
        uint32_t phase;
    } * made; /* the files that statements write or may make, the latest first; in the resolver's arena */
    struct named {
        struct named *next;
        const char *path, *word; /* word: the name with its holes filled, for messages */
        const char *file;        /* the file whose task writes it; NULL */
        uint32_t partition;      /* the partition whose task writes it, from 1; 0: none */
        size_t at;
    } * named; /* the files that tasks of maps write, kept like `made` */
};

#define FAIL(w, at, hint, ...) text_fail((w)->r->text, at, (w)->e, hint, __VA_ARGS__)

int lower_pipeline(struct lower *w, struct pipeline *l, struct stream in, struct place at,
                   struct stream *out);

/* Named pipelines (lower_name.c). */
int lower_names(struct lower *w); /* before all statements */
void lower_define(struct lower *w, const struct definition *d, const struct place *at);
/* The named pipeline that a `check` is about; NULL: it is about an output. */
const struct definition *lower_checked(const struct lower *w, const struct statement *s);
/* Is it computed once, for several uses? */
bool lower_is_shared(const struct lower *w, const struct definition *d, const struct place *at);
int lower_named(struct lower *w, const struct definition *d, struct stream in, struct place at, size_t where,
                struct stream *out);
/* Break edges, from number `first` on, that lead from one phase to a later one. */
int lower_hand_over(struct lower *w, uint32_t first, size_t at);
int lower_late(struct lower *w, size_t at); /* print the streams in `late`, in the phase after this one */

/* Adding to the graph.  All return -1 with a message that has a place in the text. */
int lower_refused(struct lower *w, size_t at); /* w->e holds a message of the graph's (a ceiling): add the place */
const char *lower_keep(struct lower *w, const char *text);
int lower_add_node(struct lower *w, uint32_t kind, size_t at, const struct place *place,
                   uint32_t *out);
int lower_join(struct lower *w, struct stream s, uint32_t to, int fd, size_t at);
struct stream lower_one(uint32_t node, int fd);
int lower_add_sink(struct lower *w, enum graph_sink_kind kind, const char *path, size_t at,
                   const struct place *place, uint32_t *out);
int lower_add_source(struct lower *w, const struct graph_segment *segment, uint32_t count,
                     size_t at, const struct place *place, uint32_t *out);
int lower_add_file(struct lower *w, const char *name, const char *path, size_t at, uint32_t *out);
/* from: the earlier statement's output that this file is; NULL: an existing file. */
int lower_source_file(struct lower *w, const char *word, const struct written *from, size_t at,
                      struct graph_segment *out);
int lower_awaited(struct lower *w, const struct written *from, const char *name, size_t at, uint32_t *out);
int lower_note_made(struct lower *w, const char *path, uint32_t sink);
int lower_note_sink(struct lower *w, const char *word, uint32_t sink);

/* lower_tasks.c: the names of the files that a map's tasks write; no two may be the same. */
int lower_name_outputs(struct lower *w, uint32_t map, size_t at);
int lower_names_differ(struct lower *w);

/* Begin a stream with the job's stdin; end one that nobody reads. */
int lower_stdin(struct lower *w, const struct place *at, size_t where, struct stream *out);
int lower_stop(struct lower *w, struct stream s, size_t at, const struct place *place);

/* What an output fd is connected to: the next stage, the stage's stderr, or a sink. */
enum { TO_OUT = -1, TO_ERR = -2 };

struct table {
    struct stream in;
    int64_t to[3];                  /* for fd 1 and 2: TO_... or the node of a sink */
    uint32_t opened[GRAPH_FDS_MAX]; /* sinks of all files that were opened: each is made, even if it is not used */
    size_t opened_count;
    bool in_given; /* fd 0 was redirected: `in` is not what flowed into the stage */
};
int lower_table(struct lower *w, struct stage *s, struct stream in, const struct place *at,
                struct table *t);
int lower_unused(struct lower *w, const struct table *t, size_t where, const struct place *at);
int lower_apply(struct lower *w, struct table *t, uint32_t node, size_t where,
                const struct place *at, struct stream *out);

/* Fill in a program's node: files, outputs, words. */
int lower_files(struct lower *w, const struct stage *s, uint32_t node);
int lower_outputs(struct lower *w, struct stage *s, uint32_t node, const struct place *at);
int lower_keep_words(struct lower *w, const struct stage *s, uint32_t node);
int lower_label(struct lower *w, const struct stage *s, uint32_t node);
int lower_settings(struct lower *w, uint32_t node, const struct place *at);
int lower_words(struct lower *w, const struct stage *s, uint32_t node, const struct place *at);
