/* Who comes first: threads and processes that race. */
#include "golden/golden.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define RACERS 4
#define TURNS  2000

static pthread_barrier_t begin;
static atomic_int turn;
static char order[RACERS * TURNS + 1];

static void *race(void *number)
{
    pthread_barrier_wait(&begin);
    for (int i = 0; i < TURNS; i++) {
        order[atomic_fetch_add(&turn, 1)] = (char)('0' + (int)(intptr_t)number);
        for (volatile int k = 0; k < 300; k++)
            ;
    }
    return NULL;
}

static void show_threads(void)
{
    pthread_t thread[RACERS];
    pthread_barrier_init(&begin, NULL, RACERS);
    for (intptr_t i = 0; i < RACERS; i++)
        pthread_create(&thread[i], NULL, race, (void *)i);
    for (int i = 0; i < RACERS; i++)
        pthread_join(thread[i], NULL);
    say("%s\n", order);
}

static void show_processes(void)
{
    int fd[2];
    char byte;
    if (pipe(fd) < 0)
        return;
    for (int i = 0; i < RACERS; i++)
        if (fork() == 0) {
            for (int k = 0; k < TURNS; k++)
                if (write(fd[1], &(char){(char)('0' + i)}, 1) != 1)
                    _exit(1);
            _exit(0);
        }
    close(fd[1]);
    while (read(fd[0], &byte, 1) == 1)
        say("%c", byte);
    while (wait(NULL) > 0)
        ;
    say("\n");
}

static void show_inner_pipe(void)
{
    int fd[2];
    char room[5000];
    ssize_t n;
    if (pipe(fd) < 0)
        return;
    if (fork() == 0) {
        close(fd[0]);
        for (int i = 0; i < 20000; i++) /* more than a pipe holds: the reader has to come in between */
            if (write(fd[1], room, 7) != 7)
                _exit(1);
        _exit(0);
    }
    close(fd[1]);
    while ((n = read(fd[0], room, sizeof room)) > 0)
        say("%zd ", n);
    say("\n");
}

static volatile sig_atomic_t ended;

static void on_child(int signal)
{
    (void)signal;
    ended++;
}

static void show_child_signal(void)
{
    long turns = 0;
    signal(SIGCHLD, on_child);
    if (fork() == 0)
        _exit(0);
    while (!ended && turns < 1000000000)
        turns++;
    say("%ld\n", turns);
}

const struct golden golden_parallel[] = {
    {"threads", show_threads, NULL, NULL},
    {"processes", show_processes, NULL, NULL},
    {"inner-pipe", show_inner_pipe, NULL, NULL},
    {"child-signal", show_child_signal, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
