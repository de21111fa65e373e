/*
 * Prints, as JSON, the limits of one core with one instruction set: float32 and float64 operations
 * a second in registers (a multiply-add counts as two), and bytes read from memory a second. It is
 * compiled once for each header of csrc/simd: -DSIMD_HEADER='"simd/avx2.h"'.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include SIMD_HEADER

/* 12 independent sums hide the latency of a multiply-add on current cores, and fit 16 registers. */
#define EACH_SUM(do) \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
enum { SUMS = 12, TRIES = 7, FMA_STEPS = 1 << 20, READ_BYTES = 256 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile double keep_alive;

#define FMA_LOOP(name, vector, lanes, set1, fma, store, type) \
    static double name(void) \
    { \
        vector factor = set1((type)0.9999), term = set1((type)1e-4), s[SUMS]; \
        type out[lanes]; \
        for (int i = 0; i < SUMS; i++) { \
            s[i] = set1((type)i); \
        } \
        const double start = now(); \
        for (int step = 0; step < FMA_STEPS; step++) { \
            EACH_SUM(name##_ADD) \
        } \
        const double seconds = now() - start; \
        for (int i = 0; i < SUMS; i++) { \
            store(out, s[i]); \
            keep_alive += (double)out[0]; \
        } \
        return 2.0 * SUMS * lanes * FMA_STEPS / seconds; \
    }
#define peak_f32_ADD(i) s[i] = vf_fma(factor, s[i], term);
#define peak_f64_ADD(i) s[i] = vd_fma(factor, s[i], term);
FMA_LOOP(peak_f32, vf, VF_LANES, vf_set1, vf_fma, vf_store, float)
FMA_LOOP(peak_f64, vd, VD_LANES, vd_set1, vd_fma, vd_store, double)

/* Reads two streams at once, as functions of two arrays do. */
static double read_memory(const float *memory)
{
    const size_t half = READ_BYTES / sizeof *memory / 2;
    vf s[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    float out[VF_LANES];
    const double start = now();
    for (size_t i = 0; i < half; i += 2 * VF_LANES) {
        s[0] = vf_add(s[0], vf_load(memory + i));
        s[1] = vf_add(s[1], vf_load(memory + i + VF_LANES));
        s[2] = vf_add(s[2], vf_load(memory + half + i));
        s[3] = vf_add(s[3], vf_load(memory + half + i + VF_LANES));
    }
    const double seconds = now() - start;
    vf_store(out, vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
    keep_alive += (double)out[0];
    return READ_BYTES / seconds;
}
#include "simd/end.h"

int main(void)
{
    float *memory = malloc(READ_BYTES);
    double f32 = 0, f64 = 0, bytes = 0;
    if (memory == NULL) {
        return 1;
    }
    memset(memory, 1, READ_BYTES); /* not 0: the system may map all pages of zeros to one page */
    for (int i = 0; i < TRIES; i++) {
        const double a = peak_f32(), b = peak_f64(), c = read_memory(memory);
        f32 = a > f32 ? a : f32;
        f64 = b > f64 ? b : f64;
        bytes = c > bytes ? c : bytes;
    }
    free(memory);
    printf("{\"float32\": %.4g, \"float64\": %.4g, \"read\": %.4g}\n", f32, f64, bytes);
    return 0;
}
