/* See domain.h. */
#include "sandbox/domain.h"

#include "sandbox/filter.h"
#include "sandbox/sha256.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* The value of the first line with that name in /proc/cpuinfo. */
static void cpu_field(const char *name, char *value, size_t size)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    *value = '\0';
    while (f && !*value && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, name, strlen(name)) || !colon || line[strlen(name)] != '\t')
            continue;
        snprintf(value, size, "%s", colon + 1 + (colon[1] == ' '));
        value[strcspn(value, "\n")] = '\0';
    }
    if (f)
        fclose(f);
}

void domain_cpu(char *out, size_t room)
{
    char vendor[64], family[16], model[16], flags[8192], digest[65];
    uint8_t bytes[32];
    struct sha256 hash;
    cpu_field("vendor_id", vendor, sizeof vendor);
    cpu_field("cpu family", family, sizeof family);
    cpu_field("model", model, sizeof model);
    cpu_field("flags", flags, sizeof flags);
    sha256_begin(&hash);
    sha256_add(&hash, flags, strlen(flags));
    sha256_end(&hash, bytes);
    sha256_text(bytes, digest);
    snprintf(out, room, "%s-%s-%s-%.16s", vendor, family, model, digest);
}

void domain_text(char *out, size_t room)
{
    char cpu[DOMAIN_CPU_ROOM];
    struct utsname u;
    uname(&u);
    domain_cpu(cpu, sizeof cpu);
    snprintf(out, room, "%.40s %s policy %d", u.release, cpu, FILTER_POLICY_VERSION);
}
