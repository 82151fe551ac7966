/* zpipe: runs Unix pipelines in parallel, every piece in a deterministic sandbox.
 *
 * A pipeline's way: this file -> cmd_run.c -> client/job.c -> dsl/ -> scheduler/ -> worker/ -> sandbox/. */
#include "cli.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const char help[] =
    "usage: zpipe [OPTION]... 'PIPELINE' [NAME=VALUE]... [::: FILE...]\n"
    "       zpipe run [OPTION]... FILE [NAME=VALUE]...\n"
    "       zpipe plan [--json] 'PIPELINE'\n"
    "       zpipe classify COMMAND\n"
    "       zpipe box [OPTION]... -- COMMAND [ARGUMENT]...\n"
    "       zpipe keygen --dir DIRECTORY\n"
    "       zpipe scheduler --keys DIRECTORY --listen URL [--state DIRECTORY]\n"
    "       zpipe worker --keys DIRECTORY --scheduler URL [--slots N]\n"
    "       zpipe keeper --keys DIRECTORY --scheduler URL --state DIRECTORY\n"
    "       zpipe submit 'PIPELINE' | FILE.zp\n"
    "       zpipe attach JOB\n"
    "       zpipe logs JOB\n"
    "       zpipe status [JOB]\n"
    "       zpipe cancel JOB\n"
    "       zpipe drain WORKER\n"
    "       zpipe replay JOB/STAGE/BLOCK\n"
    "\n"
    "Run a Unix pipeline, every command in its own deterministic sandbox; output and status are sh's.\n"
    "With ZPIPE_CLUSTER (and ZPIPE_KEYS) set it runs on a cluster, otherwise in this process.\n"
    "\n"
    "  --with PATH          a file or directory that programs may open; --with NAME=VALUE: a setting\n"
    "  --env NAME[=VALUE]   a variable for the text and for every program\n"
    "  --commands FILE      a table of commands, as in zpipe.commands(5); ~/.config/zpipe/commands.conf is one too\n"
    "  --pipefail           the status of the last stage that failed\n"
    "  --line-reads         pass bytes on as they come (tail -f | zpipe 'grep x')\n"
    "  --cluster URL        --keys DIRECTORY: a cluster, instead of ZPIPE_CLUSTER and ZPIPE_KEYS\n"
    "  -j N                 blocks at once (default: as many as slots); the bytes are the same\n"
    "  --split HOW          auto, never, or always,SIZE: cut inputs into blocks\n"
    "  --audit P%           run this share of the tasks twice and compare\n"
    "  --slots N            how many jobs' stages at once (default: one per CPU)\n"
    "  --store DIRECTORY    for what does not fit in memory (default: in ~/.cache)\n"
    "  --config FILE        options from a file, as in zpipe.conf(5)\n"
    "  --joblog FILE        a line for each task, in the columns of GNU parallel's and more\n"
    "  --record DIRECTORY   where tasks of a map that fail are kept for zpipe replay (default: in ~/.cache); no: nowhere\n"
    "  --quiet, --progress  never, or always, a progress line\n"
    "  --placement spread   every stage on another worker than its neighbours\n"
    "  --isolation none     no sandbox at all: for first contact, results are not certified\n"
    "  -v                   say more; twice: every message\n"
    "  --version, --help\n"
    "\n"
    "Exit status: the pipeline's, as in sh; 124 a limit was reached; 125 zpipe failed; 126, 127 as in sh.\n";

static const struct {
    const char *name;
    int (*run)(struct cli *c);
} commands[] = {
    {"run", cmd_run},           {"plan", cmd_plan},     {"classify", cmd_classify},     {"keygen", cmd_keygen},
    {"scheduler", cmd_scheduler}, {"worker", cmd_worker}, {"status", cmd_status},         {"cancel", cmd_cancel},
    {"drain", cmd_drain},
    {"submit", cmd_submit},       {"attach", cmd_attach}, {"logs", cmd_logs},
    {"replay", cmd_replay},
};

/* Blocks, channels and inputs are descriptors: as many as this user may have. */
static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* The bytes of streams come and go in frames of 256 KiB.  The C library would give each one's memory back to the kernel and
 * ask for it again, which is half of what a stream costs. */
static void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "box"))
        return cmd_box(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "serve"))
        return cmd_serve(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "keeper"))
        return cmd_keeper(argc - 1, argv + 1);
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--version")) {
        printf("zpipe %s\n", zpipe_version());
        return 0;
    }
    int (*run)(struct cli *) = cmd_pipeline;
    int skip = 1;
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(argv[1], commands[i].name)) {
            run = commands[i].run;
            skip = 2;
        }
    }
    raise_files();
    keep_memory();
    struct cli c;
    int status = cli_parse(&c, argc - skip, argv + skip, run != cmd_scheduler && run != cmd_worker && run != cmd_keygen);
    if (status < 0)
        status = ZPIPE_STATUS_FAILED;
    else if (run == cmd_pipeline && !c.word_count) {
        fputs(help, stderr);
        status = ZPIPE_STATUS_FAILED;
    } else
        status = run(&c);
    cli_clear(&c);
    return status;
}
