/* Where zpipe-serve listens.  Each function returns the socket, or -1 after saying why. */
#pragma once
#include <stdbool.h>

int listen_http(const char *address, bool remote);  /* HOST:PORT; port 0 or *: any */
int listen_plain(const char *address, bool remote); /* tcp://HOST:PORT, unix://PATH */
void listen_forget(const char *address);            /* removes the name of a unix socket if it is still the one made here */
void listen_say(const char *what, int fd);          /* "ready WHAT ADDRESS" on stdout */
