#pragma once

#include <stdbool.h>

/* Instruction sets that both the processor and the operating system support, and the vendor. */
enum cpu_feature {
    CPU_AVX2 = 1u << 0,      /* AVX2, BMI1, BMI2, FMA, F16C; the system saves ymm registers */
    CPU_AVX512 = 1u << 1,    /* CPU_AVX2; AVX-512 F, BW, DQ, VL; the system saves zmm registers */
    CPU_NEON = 1u << 2,      /* AArch64 Advanced SIMD */
    CPU_VNNI = 1u << 3,      /* AVX-512 VNNI: dot products of 8-bit integers */
    CPU_VPOPCNTDQ = 1u << 4, /* AVX-512 VPOPCNTDQ: counts set bits */
    CPU_INTEL = 1u << 5,     /* made by Intel: reads several pages side by side faster than one */
};

/* The supported features, as a set of enum cpu_feature bits. Detected once, then cached. */
unsigned cpu_features(void);

/*
 * True if a core finishes as many 512-bit as 256-bit multiply-adds per cycle. The answer comes from
 * a table of processor families and models, not from a measurement. It decides which layers have
 * 256-bit vectors. Their results depend on that, so the answer must be the same in every process.
 */
bool cpu_has_full_width_avx512(void);

/* The number of CPUs this process may use, at least 1: the size of its affinity mask, limited by
 * the quotas of its control groups (cgroup v1 and v2). */
int cpu_count_available(void);
