/* See ending.h. */
#include "base/ending.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CRASHED "error crashed why=\"signal "

static const int in_order[] = {SIGTERM, SIGINT, SIGHUP};
static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGQUIT, SIGXCPU};

static void on_signal(struct loop_signal *w)
{
    const struct ending *e = w->owner;
    char by[64] = "";
    if (w->from)
        snprintf(by, sizeof by, " from process %d", w->from);
    log_warn("ends", "why=\"SIG%s%s\"", sigabbrev_np(w->ev.signum), by);
    e->run(e->owner);
}

/* Nothing of ours can be relied on any more, so it is put together by hand; the signal comes again, with its usual effect. */
static void on_crash(int signo)
{
    char line[] = CRASHED "00\"\n";
    line[sizeof CRASHED - 1] = (char)('0' + signo / 10 % 10);
    line[sizeof CRASHED] = (char)('0' + signo % 10);
    log_write(line, sizeof line - 1);
    raise(signo);
}

static bool is_usual(int signo)
{
    struct sigaction old;
    return sigaction(signo, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL;
}

void ending_start(struct loop *l, struct ending *e, void (*run)(void *owner), void *owner)
{
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    *e = (struct ending){.run = run, .owner = owner};
    log_never_wait();
    for (size_t i = 0; i < sizeof in_order / sizeof *in_order; i++) {
        e->signal[i] = (struct loop_signal){.run = on_signal, .owner = e};
        if (in_order[i] != SIGHUP || is_usual(SIGHUP))
            loop_signal_start(l, &e->signal[i], in_order[i]);
    }
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        if (is_usual(crashes[i])) /* a sanitizer has its own */
            sigaction(crashes[i], &crash, NULL);
}

void ending_stop(struct loop *l, struct ending *e)
{
    for (size_t i = 0; i < sizeof in_order / sizeof *in_order; i++)
        loop_signal_stop(l, &e->signal[i]);
}
