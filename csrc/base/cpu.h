#ifndef COSSIM_BASE_CPU_H
#define COSSIM_BASE_CPU_H

/* What this processor, and the operating system on it, can run. */
enum cpu_feature {
    CPU_AVX2 = 1u << 0,   /* AVX2 + FMA + F16C, and the system saves ymm registers */
    CPU_AVX512 = 1u << 1, /* AVX-512 F, BW, DQ, VL, and the system saves zmm registers */
    CPU_NEON = 1u << 2,   /* AArch64 Advanced SIMD */
    CPU_VNNI = 1u << 3,   /* AVX-512 VNNI: sums of products of 8-bit integers */
};

/* A set of enum cpu_feature bits; read once, then cached. */
unsigned cpu_features(void);

/* The CPUs this process may use, at least 1: those of its affinity mask, at most as many as the
   quotas of its control groups (cgroup v1 and v2) allow. */
int cpu_count_available(void);

#endif
