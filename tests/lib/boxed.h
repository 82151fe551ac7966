/* Pipelines in sandboxes, for tests: a box, and regions run to their end. */
#pragma once
#include "sandbox/box.h"

#define BOXED_STAGES_MAX 8
#define BOXED_OUTPUT_MAX 65536

struct boxed_stage {
    enum box_end end;
    int status; /* as a shell's: 128 + n for signal n */
    char text[512], limit[32], why[256], cold[256];
    uint64_t memory_peak, cpu_ns;
    uint32_t made_count;
    struct {
        char name[256];
        char bytes[64]; /* of a file that is an output; "-": the file was left behind */
        enum box_made_kind kind;
    } made[128];
};

struct boxed {
    struct box *box;
    struct box_event_log {
        bool region_ended, lost;
        char lost_why[1024];
        uint64_t pump_bytes[4];
        int pump_sys[4];
        uint32_t pumps;
    } log;
    uint64_t region; /* id of the last region */
    struct boxed_stage stage[BOXED_STAGES_MAX];
    uint32_t results;
    int writer_status; /* with remote_in: errno of the child's last write */
    char output[BOXED_OUTPUT_MAX], errors[BOXED_OUTPUT_MAX];
    size_t output_size;
};

/* What to run.  `line`: words separated by blanks, stages by "|"; text in '' is one word. */
struct boxed_plan {
    const char *line;
    int in;        /* fed to the first stage; -1: /dev/null */
    int out;       /* the last stage's stdout is drained to it; -1: gathered in `output` */
    bool in_itself; /* `in` is stdin, as of `< file` */
    bool lines;
    bool remote_in; /* a child writes endlessly into the first stage; writer_status: what stopped it */
    struct box_task task; /* its files, outputs, limits and seed are those of the first stage */
    uint64_t stop_after_ns; /* box_stop is called after so long; 0: never */
    size_t break_after;     /* box_break is called when so many bytes of output have come; 0: never */
};

/* Opens a box whose events go to the test itself.  With boxed_lost as its `lost` event, the test fails if the box is lost. */
struct box *boxed_bare(const struct box_events *events);
void boxed_lost(void *owner, const struct err *why);

void boxed_open(struct boxed *b, enum box_isolation isolation);
void boxed_open_as(struct boxed *b, const struct box_options *options); /* fills in the options' `program` */
void boxed_close(struct boxed *b);
/* Runs the plan and waits until its region is gone, for at most a minute; -1, with the reason on stderr. */
int boxed_run(struct boxed *b, const struct boxed_plan *plan);
