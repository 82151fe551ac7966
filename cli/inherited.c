/* What a process inherits: descriptors 0 to 2, and the treatment of signals. */
#include "cli.h"

#include <fcntl.h>
#include <signal.h>

/* A closed descriptor is replaced by /dev/null opened the wrong way round, so that whatever is printed there fails as it
 * should. */
void cli_hold_descriptors(struct zpipe_io *io)
{
    int *const is[] = {&io->stdin_fd, &io->stdout_fd, &io->stderr_fd};
    for (int fd = 0; fd < 3; fd++) {
        *is[fd] = fcntl(fd, F_GETFD) < 0 ? -1 : fd;
        if (*is[fd] < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
            return;
    }
}

static volatile sig_atomic_t interrupted; /* the handler only notes it, the loop does the rest */

static void on_signal(int signo)
{
    interrupted = signo;
}

void cli_catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal}; /* no SA_RESTART: it wakes the loop */
    const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &a, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* we report a file size limit in words; the programs in sandboxes still end by the signal */
}

int cli_signal(void)
{
    return interrupted;
}

int cli_die(int signo)
{
    signal(signo, SIG_DFL);
    raise(signo);
    return 128 + signo;
}
