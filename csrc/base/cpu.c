#include "base/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <stdio.h>
#include <string.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* ---- features ---- */

#if defined(__x86_64__)

/* Which register states the operating system saves (XCR0). */
static unsigned saved_states(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static unsigned detect(void)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, F16C = 1 << 29 };                                               /* leaf 1, ecx */
    enum { BMI1 = 1 << 3, AVX2 = 1 << 5, BMI2 = 1 << 8, F = 1 << 16, DQ = 1 << 17, BW = 1 << 30 };            /* leaf 7, ebx */
    enum { VNNI = 1 << 11 };                                                                                  /* leaf 7, ecx */
    const unsigned VL = 1u << 31, ymm_state = 0x06, zmm_state = 0xe6;
    const unsigned leaf1 = FMA | OSXSAVE | F16C, avx2 = BMI1 | AVX2 | BMI2, avx512 = F | DQ | BW | VL;
    unsigned a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return 0;
    }
    const unsigned states = saved_states();
    if ((b & avx2) == avx2 && (states & ymm_state) == ymm_state) {
        features |= CPU_AVX2;
        if ((b & avx512) == avx512 && (states & zmm_state) == zmm_state) {
            features |= CPU_AVX512 | (c & VNNI ? CPU_VNNI : 0);
        }
    }
    return features;
}

#elif defined(__aarch64__)

static unsigned detect(void)
{
    return CPU_NEON; /* part of the base architecture */
}

#else

static unsigned detect(void)
{
    return 0;
}

#endif

unsigned cpu_features(void)
{
    enum { KNOWN = 1u << 31 };
    static _Atomic unsigned cached;
    unsigned features = atomic_load_explicit(&cached, memory_order_relaxed);
    if (features == 0) {
        features = detect() | KNOWN;
        atomic_store_explicit(&cached, features, memory_order_relaxed);
    }
    return features & ~KNOWN;
}

/* ---- how many CPUs ---- */

#if defined(_WIN32)

static int affinity_count(void)
{
    DWORD_PTR mine, all;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all) && mine != 0) { /* 0: of several groups of 64 */
        return __builtin_popcountll(mine);
    }
    return (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
}

#else

static int affinity_count(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return CPU_COUNT(&set);
    }
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

#endif

#if defined(__linux__)

/* CPUs that quota of period allows, rounded up; 0 where there is no limit. */
static int cpus_of_quota(long long quota, long long period)
{
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* The two numbers of cgroup v2's cpu.max ("max 100000" means no limit). */
static int quota_v2(const char *folder)
{
    char path[4096 + 64];
    long long quota = 0, period = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    int fields = fscanf(file, "%lld %lld", &quota, &period);
    fclose(file);
    return fields == 2 ? cpus_of_quota(quota, period) : 0;
}

/* The tightest limit of a group and of those it lies in; cuts folder off level by level. */
static int tightest_quota(char *folder)
{
    int tightest = 0;
    for (;;) {
        int cpus = quota_v2(folder);
        if (cpus > 0 && (tightest == 0 || cpus < tightest)) {
            tightest = cpus;
        }
        char *slash = strrchr(folder, '/');
        if (slash == NULL) {
            return tightest;
        }
        *slash = '\0';
    }
}

static long long read_number(const char *path)
{
    long long number = 0;
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%lld", &number) != 1) {
            number = 0;
        }
        fclose(file);
    }
    return number;
}

/* What the container allows; 0 where there is no limit. */
static int container_quota(void)
{
    char line[4096];
    int quota = 0;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::/", 4) == 0) { /* the line of cgroup v2 */
            line[strcspn(line, "\n")] = '\0';
            quota = tightest_quota(line + 3);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    if (quota == 0) {
        quota = cpus_of_quota(read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
    }
    return quota;
}

#else

static int container_quota(void)
{
    return 0;
}

#endif

int cpu_count_available(void)
{
    int cpus = affinity_count(), quota = container_quota();
    return quota > 0 && quota < cpus ? quota : cpus > 0 ? cpus : 1;
}
