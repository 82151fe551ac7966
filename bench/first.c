/* When a clone begins: a write of nothing is its first use of a channel, where its template stands; what comes next is the processor's
 * counter, which start.c knows, too. */
#include <x86intrin.h>

#include <unistd.h>

int main(void)
{
    if (write(1, "", 0) < 0)
        return 1;
    unsigned long long now = __rdtsc();
    return write(1, &now, sizeof now) != sizeof now;
}
