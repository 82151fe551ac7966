/* What the result of a certified task may depend on besides its image and inputs.  For zpipe-box and for workers. */
#pragma once
#include <stddef.h>

#define DOMAIN_CPU_ROOM 128

/* Two machines have the same kind of CPU if programs can tell no difference by CPUID: vendor, family, model, and a digest
 * of the features. */
void domain_cpu(char *out, size_t room);
/* Kernel release, kind of CPU and version of the sandbox's policy, in one line. */
void domain_text(char *out, size_t room);
