/* The compiled programs, for tests that run them apart from the kernel. */
#pragma once
#include <stdbool.h>

#define FILTER_INSNS_MAX 4096 /* BPF_MAXINSNS */

struct sock_filter;

/* Call filter_prepare for the variant first. */
const struct sock_filter *filter_program(unsigned variant, unsigned *count);
