/* Counts what a zpipe-box server and the processes below it hold, for tests that look whether something is left. */
#pragma once
#include <sys/types.h>

#define CENSUS_PROCESSES 256

/* The counts leave out the places that stand ready for tasks, with the server's two descriptors of each, and the guard. */
struct census {
    int processes;
    long fds, mounts, kib;
    int places;
};

pid_t census_server(void); /* our first child; 0: there is none */
/* Writes pid and all processes below it to `all`; returns how many they are. */
int census_family(pid_t pid, pid_t all[CENSUS_PROCESSES], int count);
/* Counts for the server and all below it.  The last init may still be on its way out, so this waits until there are no more
 * than so many processes, for at most half a minute.  Two descriptors for each CPU are added, for places that are being
 * made. */
struct census census(int expected);
/* Writes the inits of the places that stand ready; returns how many they are. */
int census_places(pid_t init[CENSUS_PROCESSES]);
/* Counts again, when there is no more than `than` counted; or after half a minute. */
struct census census_again(const struct census *than);
