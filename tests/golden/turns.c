/* Processes of one task that race, and take turns inside: all of these must be certified. */
#include "golden/golden.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RACERS 4
#define TURNS  500

extern char **environ;

static void leave(int signal)
{
    (void)signal;
    _exit(7);
}

static void run_sh(const char *text)
{
    fflush(stdout);
    execl("/bin/sh", "sh", "-c", text, (char *)NULL);
}

static void wait_for_all(void)
{
    int status;
    while (wait(&status) > 0 || errno == EINTR)
        ;
}

/* Each writes single bytes to what all have. */
static void race_for(int fd)
{
    for (int i = 0; i < RACERS; i++)
        if (fork() == 0) {
            for (int k = 0; k < TURNS; k++)
                if (write(fd, &(char){(char)('0' + i)}, 1) != 1)
                    _exit(1);
            _exit(0);
        }
}

/* A pipe's end is seen at once when whoever could write to it was ended, however. */
static void show_ended(void)
{
    static const int by[] = {SIGKILL, SIGTERM, SIGVTALRM, 34, 64};
    signal(SIGTERM, SIG_DFL); /* whoever started us may have it ignored */
    for (int way = 0; way < 4; way++)
        for (size_t i = 0; i < sizeof by / sizeof *by; i++) {
            int fd[2], status = 0;
            char byte;
            if (pipe(fd) < 0)
                _exit(1);
            pid_t child = fork();
            setpgid(child, child);
            while (child == 0)
                sleep(1000);
            close(fd[1]);
            usleep(5);
            if (way == 0)
                kill(child, by[i]);
            else if (way == 1)
                kill(-child, by[i]);
            else if (way == 2)
                sigqueue(child, by[i], (union sigval){0});
            else
                syscall(SYS_tgkill, child, child, by[i]);
            fcntl(fd[0], F_SETFL, O_NONBLOCK);
            ssize_t n = read(fd[0], &byte, 1);
            pid_t gone = waitpid(child, &status, WNOHANG);
            say("%d %d: %zd, %d %x\n", way, by[i], n, gone == child, status);
            if (!gone)
                waitpid(child, NULL, 0);
            close(fd[0]);
        }
}

/* Of a group all end before its killer goes on; one that takes the signal takes it then. */
static void show_ended_group(void)
{
    signal(SIGTERM, SIG_DFL); /* whoever started us may have it ignored, and so would a child until it says otherwise */
    for (int round = 0; round < 10; round++) {
        pid_t group = 0, ended;
        int vain = 0;
        for (int i = 0; i < RACERS; i++) {
            pid_t child = fork();
            if (child == 0) {
                signal(SIGTERM, i == 2 ? leave : SIG_DFL);
                for (;;)
                    sleep(1000);
            }
            setpgid(child, group ? group : child);
            group = group ? group : child;
        }
        usleep(10);
        kill(-group, SIGTERM);
        for (int status; (ended = waitpid(-1, &status, WNOHANG)) >= 0 && vain < 50;) {
            vain += !ended;
            if (ended)
                say("%d %x ", ended, status);
        }
        say("%d\n", vain);
    }
}

/* Who has ended, and is waited for by nobody, has no number any more. */
static void show_orphans(void)
{
    for (int i = 0; i < 20; i++) {
        int fd[2], tries = 0;
        pid_t orphan = 0, child;
        if (pipe(fd) < 0)
            _exit(1);
        if ((child = fork()) == 0) {
            if ((orphan = fork()) == 0) {
                usleep(50);
                while (i % 2 && usleep(1000000) <= 0)
                    ;
                _exit(0);
            }
            _exit(write(fd[1], &orphan, sizeof orphan) < 0);
        }
        if (read(fd[0], &orphan, sizeof orphan) < 0)
            _exit(1);
        waitpid(child, NULL, 0);
        usleep(100);
        if (i % 2)
            kill(orphan, SIGKILL);
        int asked = i % 3 ? kill(orphan, 0) : getpgid(orphan);
        while (kill(orphan, 0) == 0 && tries < 1000)
            tries++;
        say("%d %d\n", asked, tries);
        close(fd[0]);
        close(fd[1]);
    }
}

/* The first process is ended by another. */
static void show_ended_first(void)
{
    pid_t first = getpid();
    if (fork() == 0) {
        usleep(10);
        int sent = kill(first, SIGKILL), asked = kill(first, 0);
        say("%d %d %d\n", sent, asked, getppid() == first);
        fflush(stdout);
        _exit(0);
    }
    for (;;)
        sleep(1000);
}

static void show_writers(void)
{
    race_for(1);
    wait_for_all();
}

static void show_writers_waiting_for_none(void)
{
    race_for(1); /* they are waited for by nobody; who reads what they write waits for them */
}

static void show_readers(void)
{
    int fd[2];
    char room[300];
    ssize_t n;
    if (pipe(fd) < 0)
        return;
    race_for(fd[1]);
    close(fd[1]);
    while ((n = read(fd[0], room, sizeof room)) > 0) {
        say("%zd:", n);
        say_bytes(room, (size_t)n);
    }
    wait_for_all();
}

/* What they are told of a clock and of random bytes depends on who asks first. */
static void show_askers(void)
{
    fflush(stdout);
    for (int i = 0; i < RACERS; i++)
        if (fork() == 0) {
            for (int k = 0; k < 50; k++) {
                struct timespec t;
                unsigned char byte;
                clock_gettime(CLOCK_MONOTONIC, &t);
                getentropy(&byte, 1);
                dprintf(1, "%d %d %ld\n", i, byte, t.tv_nsec);
            }
            _exit(0);
        }
    wait_for_all();
}

static void show_grandchildren(void)
{
    for (int i = 0; i < RACERS; i++)
        if (fork() == 0) {
            race_for(1);
            _exit(0);
        }
    wait_for_all();
}

static void show_spawned(void)
{
    pid_t pid[RACERS];
    char text[RACERS][64];
    fflush(stdout);
    for (int i = 0; i < RACERS; i++) {
        snprintf(text[i], sizeof text[i], "for i in 1 2 3 4 5 6 7 8; do echo %d; done", i);
        char *argv[] = {"sh", "-c", text[i], NULL};
        posix_spawn(&pid[i], "/bin/sh", NULL, NULL, argv, environ);
    }
    wait_for_all();
}

static void show_jobs(void)
{
    run_sh("i=0; while [ $i -lt 30 ]; do (echo $i; echo $i) & i=$((i+1)); done; wait; echo end");
}

static void show_substitution(void)
{
    run_sh("for i in 1 2 3 4 5 6; do (echo $i >> log; echo $i >> log) & done\n"
           "echo $(for i in 1 2 3 4; do (echo $i; echo $i) & done; wait); wait; cat log; rm log");
}

static void show_small_pipes(void)
{
    run_sh("(for i in 1 2 3 4 5 6 7 8 9; do (echo $i; echo $i) & done; wait) | tee copy | sed s,^,x,; cat copy; rm copy");
}

static void show_killed(void)
{
    run_sh("for i in 1 2 3 4 5; do (echo begun $i; kill -TERM $$; echo $i) & kill -KILL $!; wait $!; echo $?; done");
}

static void show_xargs(void)
{
    run_sh("seq 40 > n; xargs -P 4 -n 1 sh -c 'echo $0; echo $0' < n; rm n");
}

static void show_make(void)
{
    run_sh("printf 'all: 1 2 3 4 5 6 7 8\\n1 2 3 4 5 6 7 8:\\n\\t@echo $@; echo $@\\n' > rules;"
           "make -s -j4 -f rules; rm rules");
}

static void show_compiler(void)
{
    run_sh("echo 'int f(int x) { return x * 3; }' > f.c; cc -pipe -O1 -c f.c -o f.o && od -An -tx1 f.o; rm -f f.c f.o");
}

static void show_python(void)
{
    run_sh("python3 -c 'import subprocess as s\n"
           "p = [s.Popen([\"sh\", \"-c\", \"echo %d; echo %d\" % (i, i)]) for i in range(8)]\n"
           "[x.wait() for x in p]\n"
           "print(s.run([\"sh\", \"-c\", \"echo a; echo b >&2\"], capture_output=True))'");
}

static const char same_each_time[] = "its output is the same in any order";
static const char seldom[] = "they are not often in another order";

const struct golden golden_turns[] = {
    {"writers", show_writers, NULL, NULL},
    {"ended", show_ended, NULL, NULL},
    {"ended-group", show_ended_group, NULL, NULL},
    {"ended-first", show_ended_first, seldom, NULL},
    {"orphans", show_orphans, seldom, NULL},
    {"writers-left", show_writers_waiting_for_none, NULL, NULL},
    {"readers", show_readers, NULL, NULL},
    {"askers", show_askers, NULL, NULL},
    {"grandchildren", show_grandchildren, NULL, NULL},
    {"spawned", show_spawned, NULL, NULL},
    {"sh-jobs", show_jobs, NULL, NULL},
    {"sh-substitution", show_substitution, NULL, NULL},
    {"sh-pipes", show_small_pipes, NULL, NULL},
    {"sh-killed", show_killed, NULL, NULL},
    {"xargs", show_xargs, NULL, NULL},
    {"make", show_make, NULL, NULL},
    {"compiler", show_compiler, same_each_time, NULL},
    {"python-processes", show_python, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
