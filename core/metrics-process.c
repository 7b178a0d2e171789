/* SPDX-License-Identifier: Apache-2.0 */
/* metrics-process.c - see metrics-process.h. */
#include "build-config.h"

#include "core/metrics-process.h"

#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void write_one(FILE *out, const char *name, const char *kind, const char *help, double value)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, kind, name, value);
}

/* Fields of /proc/self/stat behind the command's name, which may hold blanks and brackets; the first
 * of them is field 3 (proc(5)). */
static int read_stat(unsigned long long *fields, int count)
{
    char text[1024];
    FILE *in = fopen("/proc/self/stat", "re");
    if (in == NULL)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    text[length] = '\0';
    char *p = strrchr(text, ')');
    int found = 0;
    if (p == NULL || p[1] == '\0' || p[2] == '\0')
        return 0;
    for (p += 3; found < count && *p != '\0'; found++) {
        char *end;
        fields[found] = strtoull(p, &end, 10);
        if (end == p)
            break;
        p = end;
    }
    return found;
}

static double boot_time(void)
{
    char line[256];
    unsigned long long seconds = 0;
    FILE *in = fopen("/proc/stat", "re");
    if (in == NULL)
        return 0;
    while (fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, "btime ", 6) == 0) {
            seconds = strtoull(line + 6, NULL, 10);
            break;
        }
    fclose(in);
    return (double)seconds;
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return -1;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count - 1; /* the folder's own */
}

void metrics_process_write(FILE *out)
{
    /* Indexes from field 4 on: utime 14, stime 15, threads 20, starttime 22, vsize 23, rss 24. */
    enum { FIRST = 4, UTIME = 14, STIME = 15, THREADS = 20, START = 22, VSIZE = 23, RSS = 24 };
    unsigned long long fields[RSS - FIRST + 1];
    long hertz = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    struct rlimit limit;
    if (read_stat(fields, RSS - FIRST + 1) == RSS - FIRST + 1 && hertz > 0 && page > 0) {
        double ticks = (double)hertz, boot = boot_time();
        write_one(out, "process_cpu_seconds_total", "counter", "user and system CPU time",
                  (double)(fields[UTIME - FIRST] + fields[STIME - FIRST]) / ticks);
        write_one(out, "process_resident_memory_bytes", "gauge", "resident memory",
                  (double)fields[RSS - FIRST] * (double)page);
        write_one(out, "process_virtual_memory_bytes", "gauge", "address space",
                  (double)fields[VSIZE - FIRST]);
        write_one(out, "process_threads", "gauge", "threads", (double)fields[THREADS - FIRST]);
        if (boot > 0)
            write_one(out, "process_start_time_seconds", "gauge", "start, seconds since 1970",
                      boot + (double)fields[START - FIRST] / ticks);
    }
    int count = count_descriptors();
    if (count >= 0)
        write_one(out, "process_open_fds", "gauge", "open descriptors", count);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        write_one(out, "process_max_fds", "gauge", "descriptors that may be open",
                  (double)limit.rlim_cur);
}
