/* Threads of one task that wait for each other, and take turns inside: all of these must be certified. */
#include "golden/golden.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RACERS    8
#define ROUNDS    200
#define ORDER_MAX (RACERS * ROUNDS * 4)

static char order[ORDER_MAX + 1];
static atomic_int at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t shelf = PTHREAD_RWLOCK_INITIALIZER;
static sem_t seats;

static void note(intptr_t who)
{
    int i = atomic_fetch_add(&at, 1);
    if (i < ORDER_MAX)
        order[i] = (char)('0' + who);
}

static void race(void *(*run)(void *))
{
    pthread_t thread[RACERS];
    pthread_barrier_init(&barrier, NULL, RACERS);
    sem_init(&seats, 0, 2);
    for (intptr_t i = 0; i < RACERS; i++)
        pthread_create(&thread[i], NULL, run, (void *)i);
    for (int i = 0; i < RACERS; i++)
        pthread_join(thread[i], NULL);
    say("%s\n", order);
}

/* Who seldom comes in another order shows how long it took. */
static void say_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    say("%lld.%09ld\n", (long long)t.tv_sec, t.tv_nsec);
}

static void spend(int steps)
{
    for (volatile int i = 0; i < steps; i++)
        ;
}

/* Whoever has a lock gives way while it has it. */
static void *with_mutex(void *who)
{
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        note((intptr_t)who);
        if (i % 8 == 0)
            sched_yield();
        pthread_mutex_unlock(&lock);
        spend(50);
    }
    return NULL;
}

static void *with_rwlock(void *who)
{
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 7 == (intptr_t)who % 7)
            pthread_rwlock_wrlock(&shelf);
        else
            pthread_rwlock_rdlock(&shelf);
        note((intptr_t)who);
        if (i % 5 == 0)
            sched_yield();
        pthread_rwlock_unlock(&shelf);
    }
    return NULL;
}

static void *with_semaphore(void *who)
{
    for (int i = 0; i < ROUNDS; i++) {
        sem_wait(&seats);
        note((intptr_t)who);
        if (i % 3 == 0)
            sched_yield();
        sem_post(&seats);
    }
    return NULL;
}

static void *with_barrier(void *who)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&barrier);
        note((intptr_t)who);
    }
    return NULL;
}

/* Half of them make, half of them take. */
static void *with_condition(void *who)
{
    static int there;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        if ((intptr_t)who % 2) {
            there++;
            pthread_cond_signal(&changed);
        } else {
            while (!there)
                pthread_cond_wait(&changed, &lock);
            there--;
            note((intptr_t)who);
        }
        pthread_mutex_unlock(&lock);
        if (i % 16 == 0)
            sched_yield();
    }
    return NULL;
}

/* Some are not woken before their time. */
static void *with_limits(void *who)
{
    for (int i = 0; i < ROUNDS / 4; i++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000 * (long)(1 + (intptr_t)who * 7 % 5);
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&lock);
        if (pthread_cond_timedwait(&changed, &lock, &until) == 0)
            note((intptr_t)who);
        else if (i % 2)
            pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Every wait with a sleep of its own. */
static void *with_sleep(void *who)
{
    for (int i = 0; i < ROUNDS / 8; i++) {
        usleep((useconds_t)((intptr_t)who * 13 % 5 + 1) * 10);
        note((intptr_t)who);
    }
    return NULL;
}

static void *with_clock(void *who)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        if (t.tv_nsec % 3 == 0)
            sched_yield();
        note((intptr_t)who);
    }
    return NULL;
}

static void show_mutex(void)
{
    race(with_mutex);
}

static void show_rwlock(void)
{
    race(with_rwlock);
}

static void show_semaphore(void)
{
    race(with_semaphore);
}

static void show_barrier(void)
{
    race(with_barrier);
}

static void show_condition(void)
{
    race(with_condition);
}

static void show_limits(void)
{
    race(with_limits);
}

static void show_sleep(void)
{
    race(with_sleep);
}

static void show_clock(void)
{
    race(with_clock);
}

static void *ends_in_its_time(void *who)
{
    spend(20000 + 1000 * (int)(intptr_t)who);
    note((intptr_t)who);
    return NULL;
}

/* Threads that nobody waits for, some of which outlive the first. */
static void show_detached(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (intptr_t i = 0; i < RACERS; i++)
        pthread_create(&thread, &attributes, ends_in_its_time, (void *)i);
    while (atomic_load(&at) < RACERS / 2)
        sched_yield();
    say("%s\n", order); /* and the rest end with the process */
    say_time();
}

static void *goes_on_alone(void *who)
{
    (void)who;
    for (int i = 0; i < RACERS; i++)
        sched_yield();
    say("the last one\n");
    say_time();
    exit(3);
}

static void show_first_leaves(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, goes_on_alone, NULL);
    pthread_exit(NULL);
}

static void *starts_processes(void *who)
{
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char byte = (char)('a' + (intptr_t)who);
            _exit(write(1, &byte, 1) != 1);
        }
        waitpid(pid, NULL, 0);
    }
    return NULL;
}

static void show_processes_of_threads(void)
{
    fflush(stdout);
    race(starts_processes);
}

/* Between processes, in memory that they share at different addresses. */
static void show_shared_mutex(void)
{
    struct shared {
        pthread_mutex_t lock;
        atomic_int at;
        char order[RACERS * ROUNDS + 1];
    } *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->lock, &attributes);
    for (int i = 0; i < RACERS; i++)
        if (fork() == 0) {
            s = mremap(s, sizeof *s, sizeof *s, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)s - (i + 1) * (1 << 20));
            for (int k = 0; k < ROUNDS; k++) {
                pthread_mutex_lock(&s->lock);
                if (k % 8 == 0)
                    usleep(10);
                s->order[atomic_fetch_add(&s->at, 1)] = (char)('0' + i);
                pthread_mutex_unlock(&s->lock);
            }
            _exit(0);
        }
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    say("%s\n", s->order);
}

static pthread_mutex_t robust;

static void *dies_with_it(void *who)
{
    int error = pthread_mutex_lock(&robust);
    if (error == EOWNERDEAD)
        pthread_mutex_consistent(&robust);
    note((intptr_t)who);
    sched_yield();
    return NULL; /* and it is still locked */
}

static void show_robust(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    race(dies_with_it);
    say_time();
}

static uint32_t word[2];

static void *waits_for_word(void *who)
{
    syscall(SYS_futex, &word[0], FUTEX_WAIT_BITSET, 0, NULL, NULL, 1u << (intptr_t)who);
    note((intptr_t)who);
    return NULL;
}

/* The rarer operations, by themselves. */
static void show_operations(void)
{
    pthread_t thread[RACERS];
    for (intptr_t i = 0; i < RACERS; i++) {
        pthread_create(&thread[i], NULL, waits_for_word, (void *)i);
        usleep(1000);
    }
    long n[6];
    n[0] = syscall(SYS_futex, &word[0], FUTEX_WAKE_BITSET, RACERS, NULL, NULL, 1u << 5 | 1u << 2);
    n[1] = syscall(SYS_futex, &word[0], FUTEX_CMP_REQUEUE, 1, (void *)3l, &word[1], 0);
    n[2] = syscall(SYS_futex, &word[0], FUTEX_CMP_REQUEUE, 1, (void *)3l, &word[1], 7);
    n[3] = syscall(SYS_futex, &word[1], FUTEX_WAKE, 1, NULL, NULL, 0);
    n[4] = syscall(SYS_futex, &word[0], FUTEX_WAKE_OP, 1, (void *)9l, &word[1], FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0));
    __atomic_store_n(&word[0], 1, __ATOMIC_SEQ_CST); /* who comes late, bare, does not wait */
    n[5] = syscall(SYS_futex, &word[0], FUTEX_WAKE, RACERS, NULL, NULL, 0);
    for (int i = 0; i < RACERS; i++)
        pthread_join(thread[i], NULL);
    say("%s %ld %ld %ld %ld %ld %ld, %u\n", order, n[0], n[1], n[2], n[3], n[4], n[5], word[1]);
    say_time();
}

static void run(const char *text)
{
    fflush(stdout);
    execl("/bin/sh", "sh", "-c", text, (char *)NULL);
}

static int ends[2];

/* It works for long while nobody waits for a turn, wakes the other, and waits for that one. */
static void *wakes_late(void *unused)
{
    char byte;
    (void)unused;
    spend(100000000);
    sem_post(&seats);
    if (read(ends[0], &byte, 1) == 1)
        say("%c\n", byte);
    return NULL;
}

static void show_woken_late(void)
{
    pthread_t thread;
    sem_init(&seats, 0, 0);
    if (pipe(ends) < 0)
        return;
    pthread_create(&thread, NULL, wakes_late, NULL);
    sem_wait(&seats);
    if (write(ends[1], "x", 1) == 1)
        pthread_join(thread, NULL);
    say_time();
}

static void show_python_queue(void)
{
    run("/usr/bin/python3 -c '\n"
        "import threading, queue, time\n"
        "q, out = queue.Queue(3), []\n"
        "def make(i):\n"
        "    for k in range(15): q.put((i, k)); sum(range(2000))\n"
        "def take(i):\n"
        "    while (x := q.get()) is not None: out.append((i, x)); time.sleep(0.0001 * (x[1] % 3))\n"
        "makers = [threading.Thread(target=make, args=(i,)) for i in range(3)]\n"
        "takers = [threading.Thread(target=take, args=(i,)) for i in range(3)]\n"
        "[t.start() for t in makers + takers]\n"
        "[t.join() for t in makers]\n"
        "[q.put(None) for t in takers]\n"
        "[t.join() for t in takers]\n"
        "print(out, time.time())'");
}

static void show_python_pool(void)
{
    run("/usr/bin/python3 -c '\n"
        "import concurrent.futures as c, time\n"
        "def work(x): time.sleep(0.001 * (x * 7 % 5)); return x\n"
        "with c.ThreadPoolExecutor(4) as e:\n"
        "    print([f.result() for f in c.as_completed([e.submit(work, x) for x in range(20)])], time.time())'");
}

static void show_compressors(void)
{
    run("seq 300000 > n; xz -0 -T4 --block-size=100000 -c n > x; cksum < x;"
        "if command -v zstd > z; then zstd -q -1 -T4 -f -o z n; fi; cksum < z; date +%N; rm -f n x z");
}

static void show_sort(void)
{
    run("seq 200000 > n; sort -S 1M --parallel=4 -o o n; cksum < o; date +%N; rm n o");
}

const struct golden golden_threads[] = {
    {"thread-mutex", show_mutex, NULL, NULL},
    {"thread-rwlock", show_rwlock, NULL, NULL},
    {"thread-semaphore", show_semaphore, NULL, NULL},
    {"thread-barrier", show_barrier, NULL, NULL},
    {"thread-condition", show_condition, NULL, NULL},
    {"thread-limits", show_limits, NULL, NULL},
    {"thread-sleep", show_sleep, NULL, NULL},
    {"thread-clock", show_clock, NULL, NULL},
    {"thread-detached", show_detached, NULL, NULL},
    {"thread-first-leaves", show_first_leaves, NULL, NULL},
    {"thread-forks", show_processes_of_threads, NULL, NULL},
    {"thread-shared-mutex", show_shared_mutex, NULL, NULL},
    {"thread-robust", show_robust, NULL, NULL},
    {"thread-operations", show_operations, NULL, NULL},
    {"thread-woken-late", show_woken_late, NULL, NULL},
    {"python-queue", show_python_queue, NULL, NULL},
    {"python-pool", show_python_pool, NULL, NULL},
    {"compressors", show_compressors, NULL, NULL},
    {"sort-threads", show_sort, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
