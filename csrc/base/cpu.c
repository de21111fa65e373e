#include "base/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <unistd.h>
#endif
#if defined(__linux__)
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* ---- features ---- */

#if defined(__x86_64__)

/* The register states that the operating system saves on a context switch (XCR0). */
static unsigned saved_states(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* The first four bytes of the vendors' names: "Auth", "Genu". */
enum { AMD = 0x68747541, INTEL = 0x756e6547 };

static unsigned vendor(void)
{
    unsigned a, b = 0, c, d;
    (void)__get_cpuid(0, &a, &b, &c, &d);
    return b;
}

static unsigned detect(void)
{
    /* leaf 1, ecx */
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, F16C = 1 << 29 };
    /* leaf 7, ebx */
    enum { BMI1 = 1 << 3, AVX2 = 1 << 5, BMI2 = 1 << 8, F = 1 << 16, DQ = 1 << 17, BW = 1 << 30 };
    /* leaf 7, ecx */
    enum { VNNI = 1 << 11, VPOPCNTDQ = 1 << 14 };
    const unsigned VL = 1u << 31, ymm_state = 0x06, zmm_state = 0xe6;
    const unsigned leaf1 = FMA | OSXSAVE | F16C, avx2 = BMI1 | AVX2 | BMI2,
                   avx512 = F | DQ | BW | VL;
    unsigned a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1 ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return 0;
    }
    const unsigned states = saved_states();
    if ((b & avx2) == avx2 && (states & ymm_state) == ymm_state) {
        features |= CPU_AVX2;
        if ((b & avx512) == avx512 && (states & zmm_state) == zmm_state) {
            features |= CPU_AVX512 | (c & VNNI ? CPU_VNNI : 0);
            features |= c & VPOPCNTDQ ? CPU_VPOPCNTDQ : 0;
        }
    }
    return features | (vendor() == INTEL ? CPU_INTEL : 0);
}

/* AMD: Zen 4 (family 25) splits 512-bit instructions into halves. Zen 5 (family 26) does not,
 * except for its mobile models. */
static bool amd_is_full_width(unsigned family, unsigned model)
{
    const bool mobile = (model >= 0x20 && model <= 0x2f) || (model >= 0x60 && model <= 0x6f);
    return family >= 26 && !(family == 26 && mobile);
}

/* Intel: processors for servers and workstations have a second 512-bit unit. These models for
 * notebooks and desktops fuse two 256-bit units instead: Cannon Lake, Ice Lake, Tiger Lake, Rocket
 * Lake, and the first Alder Lakes. */
static bool intel_is_full_width(unsigned family, unsigned model)
{
    static const unsigned char joined[] = {0x66, 0x7d, 0x7e, 0x8c, 0x8d, 0xa7, 0x97, 0x9a};
    bool known = false;
    for (size_t i = 0; family == 6 && i < sizeof joined; i++) {
        known |= model == joined[i];
    }
    return !known;
}

bool cpu_has_full_width_avx512(void)
{
    unsigned version, b, c, d;
    if (!(cpu_features() & CPU_AVX512) || !__get_cpuid(1, &version, &b, &c, &d)) {
        return false;
    }
    const unsigned base = version >> 8 & 15, family = base + (base == 15 ? version >> 20 & 255 : 0),
                   model = (version >> 4 & 15) | (version >> 12 & 0xf0);
    switch (vendor()) {
    case AMD:
        return amd_is_full_width(family, model);
    case INTEL:
        return intel_is_full_width(family, model);
    default:
        return false;
    }
}

#else

static unsigned detect(void)
{
#if defined(__aarch64__)
    return CPU_NEON; /* part of the base architecture */
#else
    return 0;
#endif
}

bool cpu_has_full_width_avx512(void)
{
    return false;
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

/* ---- number of CPUs ---- */

#if defined(_WIN32)

static int affinity_count(void)
{
    DWORD_PTR process_mask, system_mask;
    /* A mask of 0 means that the process uses several processor groups. Each has up to 64 CPUs. */
    if (GetProcessAffinityMask(GetCurrentProcess(), &process_mask, &system_mask) &&
        process_mask != 0) {
        return __builtin_popcountll(process_mask);
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

/* Returns the smaller of two CPU limits; 0 means no limit. */
static int tighter(int a, int b)
{
    return b == 0 || (a > 0 && a < b) ? a : b;
}

#if defined(__linux__)

/* Returns the number of CPUs that a quota of CPU time per period allows, rounded up. 0 means no
 * limit. */
static int cpus_of_quota(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    const long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* Reads up to two numbers from the start of the file folder/name. Returns how many it read. */
static int read_numbers(const char *folder, const char *name, long long *first, long long *second)
{
    char path[4096 + 256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    const int count = fscanf(file, "%lld %lld", first, second);
    fclose(file);
    return count < 0 ? 0 : count;
}

/* Returns the CPU limit of one control group; 0 means no limit. cgroup v2 has one file, in which
 * "max 100000" means no limit. cgroup v1 has two files, in which a quota of -1 means no limit. */
static int quota_of_group(const char *folder)
{
    long long quota = 0, period = 0, unused;
    if (read_numbers(folder, "cpu.max", &quota, &period) != 2 &&
        (read_numbers(folder, "cpu.cfs_quota_us", &quota, &unused) < 1 ||
         read_numbers(folder, "cpu.cfs_period_us", &period, &unused) < 1)) {
        return 0;
    }
    return cpus_of_quota(quota, period);
}

/* Returns the tightest limit of a group and of the groups that contain it, up to `root`. In a
 * container some groups of the path may be invisible, so a missing file means no limit. */
static int tightest_quota(const char *root, const char *group)
{
    char folder[4096 + 128];
    const size_t start = strlen(root);
    snprintf(folder, sizeof folder, "%s%s", root, group);
    for (int tightest = 0;;) {
        tightest = tighter(quota_of_group(folder), tightest);
        char *slash = strrchr(folder + start, '/');
        if (slash == NULL) {
            return tightest;
        }
        *slash = '\0';
    }
}

/* Returns the limit of the group that a line of /proc/self/cgroup names; 0 means no limit. A line
 * reads "number:controllers:group". The line of cgroup v2 has an empty list of controllers. */
static int quota_of_line(char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL) {
        return 0;
    }
    *group++ = '\0';
    if (*++controllers == '\0') {
        return tightest_quota("/sys/fs/cgroup", group);
    }
    for (char *name; (name = strsep(&controllers, ",")) != NULL;) {
        if (strcmp(name, "cpu") == 0) {
            return tightest_quota("/sys/fs/cgroup/cpu", group);
        }
    }
    return 0;
}

/* Returns the tightest CPU limit of all control groups of this process; 0 means no limit. */
static int container_quota(void)
{
    char line[4096];
    int quota = tighter(quota_of_group("/sys/fs/cgroup"), quota_of_group("/sys/fs/cgroup/cpu"));
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        quota = tighter(quota_of_line(line), quota);
    }
    if (file != NULL) {
        fclose(file);
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
    const int cpus = tighter(container_quota(), affinity_count());
    return cpus > 0 ? cpus : 1;
}
