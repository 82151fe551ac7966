/* zpipe: runs Unix pipelines in parallel, every piece in a deterministic sandbox.
 *
 * A pipeline's way: this file -> cmd_run.c -> client/job.c -> dsl/ -> scheduler/ -> worker/ -> sandbox/. */
#include "cli.h"

#include <malloc.h>
#include <nss.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

struct command {
    const char *name;
    int (*run)(struct cli *c);
    unsigned command;
    const char *program; /* not NULL: the command is a program of its own, which this process execs */
    const char *words, *does, *page;
};

static const struct command commands[] = {
    {"run", cmd_run, CLI_RUN, NULL, "[OPTION]... FILE [NAME=VALUE]...",
     "Run a job file: several statements, named pipelines, parameters.", "zpipe-language(5)"},
    {"plan", cmd_plan, CLI_PLAN, NULL, "[--json] 'PIPELINE' | FILE.zp", "Print what would run, a line per stage, and why a stage runs whole.",
     "zpipe(1)"},
    {"classify", cmd_classify, CLI_CLASSIFY, NULL, "'COMMAND'",
     "Find by trying how the input of a command may be cut, and print an entry for a table of commands.", "zpipe.commands(5)"},
    {"box", NULL, 0, "zpipe-box", "[OPTION]... -- COMMAND [ARGUMENT]...", "Run one program in one sandbox.", "zpipe-box(1)"},
    {"serve", NULL, 0, "zpipe-serve", "'PIPELINE' --http HOST:PORT [--listen URL] [--allow-remote] [--body-max SIZE]",
     "Run a pipeline for each request.", "zpipe-serve(1)"},
    {"keygen", cmd_keygen, CLI_KEYGEN, NULL, "--dir DIRECTORY [NAME]",
     "Make the keys of a cluster, or with NAME the pair of one machine or user.", "zpipe-scheduler(8)"},
    {"scheduler", cmd_scheduler, CLI_SCHEDULER, NULL,
     "--keys DIRECTORY --listen URL [--state DIRECTORY] [--worker-wait TIME] [--client-wait TIME]\n"
     "       zpipe scheduler allow worker|client|keeper KEY [NAME] --keys DIRECTORY\n"
     "       zpipe scheduler deny KEY --keys DIRECTORY",
     "Place a cluster's jobs on its workers; or say whom it lets in.", "zpipe-scheduler(8)"},
    {"worker", cmd_worker, CLI_WORKER, NULL,
     "--keys DIRECTORY --scheduler URL [--slots N] [--memory SIZE] [--name NAME] [--data-listen URL] [--advertise URL] [--image NAME] "
     "[--shared PATH[:PATH...]]",
     "Run what the scheduler places here.", "zpipe-worker(8)"},
    {"keeper", NULL, 0, "zpipe-keeper", "--keys DIRECTORY --scheduler URL --state DIRECTORY [--shared DIRECTORIES] [--store-max SIZE]",
     "Hold submitted jobs.", "zpipe-keeper(8)"},
    {"submit", cmd_submit, CLI_SUBMIT, NULL, "[OPTION]... 'PIPELINE' | FILE.zp [NAME=VALUE]...",
     "Give a job to a cluster's keeper and print its number: it goes on by itself.", "zpipe(1)"},
    {"attach", cmd_attach, CLI_ASK, NULL, "JOB", "Take what a submitted job has printed, its output files and its status.", "zpipe(1)"},
    {"logs", cmd_logs, CLI_ASK, NULL, "JOB", "Print what a submitted job has said on stderr so far.", "zpipe(1)"},
    {"status", cmd_status, CLI_ASK, NULL, "[JOB]", "List your jobs in the cluster, and its workers.", "zpipe(1)"},
    {"cancel", cmd_cancel, CLI_ASK, NULL, "JOB", "End a job of the cluster.", "zpipe(1)"},
    {"drain", cmd_drain, CLI_ASK, NULL, "WORKER --keys DIRECTORY", "Take a worker out of the cluster when what it runs has ended.", "zpipe(1)"},
    {"replay", cmd_replay, CLI_REPLAY, NULL, "JOB/STAGE/BLOCK | DIRECTORY", "Run a task that failed again, here and alone, and compare.", "zpipe(1)"},
};
#define COMMANDS (sizeof commands / sizeof *commands)
static const struct command pipeline = {.name = "'PIPELINE'", .run = cmd_pipeline, .command = CLI_RUN};

static const char about[] =
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
    "  --record-tasks S/B-B keep these tasks of stage S, too, however they end\n"
    "  --quiet, --progress  never, or always, a progress line\n"
    "  --templates never    start every program anew, none as a clone; the same bytes\n"
    "  --placement spread   every stage on another worker than its neighbours\n"
    "  --isolation none     no sandbox at all: for first contact, results are not certified\n"
    "  -v                   say more; twice: every message\n"
    "  --version, --help    `zpipe COMMAND --help`: of one of those above\n"
    "\n"
    "Exit status: the pipeline's, as in sh; 124 a limit was reached; 125 zpipe failed; 126, 127 as in sh.\n";

static void print_help(FILE *to)
{
    fputs("usage: zpipe [OPTION]... 'PIPELINE' [NAME=VALUE]... [::: FILE...]\n", to);
    for (const struct command *c = commands; c < commands + COMMANDS; c++)
        fprintf(to, "       zpipe %s %s\n", c->name, c->words);
    fputs(about, to);
}

/* Is help asked for: `--help` anywhere among the command's own options, or `-h` as its first word?  `zpipe box` parses its
 * own options. */
static bool wants_help(const struct command *c, char **word)
{
    if (!*word || !strcmp(c->name, "box"))
        return false;
    bool wants = !strcmp(*word, "-h");
    for (; !wants && *word && strcmp(*word, "--") && strcmp(*word, ":::"); word++)
        wants = !strcmp(*word, "--help");
    return wants;
}

/* Every block, channel and input is a descriptor here, so take as many as this user may have. */
static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* A stream's bytes travel in frames of 256 KiB.  By default the C library returns each frame's memory to the kernel and
 * asks for it again, which was half of what a stream costs. */
static void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

/* ZeroMQ's first step is to ask for the number of a protocol (OpenPGM's).  Where /etc/nsswitch.conf has the usual `db files`
 * the C library then looks in a hundred directories for a library that hardly anybody has installed. */
static void find_protocols_at_once(void)
{
    __nss_configure_lookup("protocols", "files");
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct cli c;
    raise_files();
    keep_memory();
    find_protocols_at_once();
    int status = cli_parse(&c, argc, argv, command->name, command->command) < 0 ? ZPIPE_STATUS_FAILED : 0;
    cli_hold_descriptors(&c.submission.io);
    if (status == 0 && command->run == cmd_pipeline && !c.word_count) {
        print_help(stderr);
        status = ZPIPE_STATUS_FAILED;
    } else if (status == 0) {
        status = command->run(&c);
    }
    cli_clear(&c);
    return status;
}

int main(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    for (const struct command *c = commands; c < commands + COMMANDS; c++) {
        if (strcmp(first, c->name))
            continue;
        if (wants_help(c, argv + 2)) {
            printf("usage: zpipe %s %s\n\n%s\n`zpipe --help` lists the options; %s says more.\n", c->name, c->words, c->does, c->page);
            return cli_end(0);
        }
        return c->program ? cli_become(c->program, argv + 1) : cli_end(run_command(c, argc - 2, argv + 2));
    }
    if (!strcmp(first, "--help") || !strcmp(first, "-h"))
        print_help(stdout);
    else if (!strcmp(first, "--version"))
        printf("zpipe %s\n", zpipe_version());
    else
        return cli_end(run_command(&pipeline, argc - 1, argv + 1));
    return cli_end(0);
}
