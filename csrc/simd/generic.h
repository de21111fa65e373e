/*
 * The vector vocabulary in plain C: the contract that every instruction set's header keeps.
 *
 * Two vector types: vf holds VF_LANES floats, vd holds VD_LANES = VF_LANES / 2 doubles. Kernels use nothing but these
 * names, so a new instruction set is one header like this one. Loads and stores need no alignment beyond the element's
 * own. *_fma(a, b, c) is a * b + c; it rounds once where the hardware does, twice here.
 *
 * Register budget, for kernels that hold a block of sums in registers:
 *   TILE_ROWS x TILE_VECTORS accumulators, plus TILE_VECTORS + 1 more, must fit the register file;
 *   SUM_CHAINS independent chains hide the latency of an addition in the row kernels.
 */
#ifndef COSSIM_SIMD_GENERIC_H
#define COSSIM_SIMD_GENERIC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define ISA_NAME generic
#define VF_LANES 4
#define VD_LANES 2
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define SUM_CHAINS 2

typedef struct { float lane[VF_LANES]; } vf;
typedef struct { double lane[VD_LANES]; } vd;

#define EACH_F(expression) vf r; for (int i = 0; i < VF_LANES; i++) r.lane[i] = (expression); return r
#define EACH_D(expression) vd r; for (int i = 0; i < VD_LANES; i++) r.lane[i] = (expression); return r

static inline vf vf_set1(float s) { EACH_F(s); }
static inline vf vf_load(const float *p) { EACH_F(p[i]); }
static inline void vf_store(float *p, vf a) { memcpy(p, a.lane, sizeof a.lane); }
static inline vf vf_add(vf a, vf b) { EACH_F(a.lane[i] + b.lane[i]); }
static inline vf vf_mul(vf a, vf b) { EACH_F(a.lane[i] * b.lane[i]); }
static inline vf vf_fma(vf a, vf b, vf c) { EACH_F(a.lane[i] * b.lane[i] + c.lane[i]); }
static inline vf vf_load_f16(const uint16_t *p) { EACH_F(f16_to_f32(p[i])); }
static inline vf vf_load_bf16(const uint16_t *p) { EACH_F(bf16_to_f32(p[i])); }

static inline vd vd_set1(double s) { EACH_D(s); }
static inline vd vd_load(const double *p) { EACH_D(p[i]); }
static inline void vd_store(double *p, vd a) { memcpy(p, a.lane, sizeof a.lane); }
static inline vd vd_add(vd a, vd b) { EACH_D(a.lane[i] + b.lane[i]); }
static inline vd vd_sub(vd a, vd b) { EACH_D(a.lane[i] - b.lane[i]); }
static inline vd vd_mul(vd a, vd b) { EACH_D(a.lane[i] * b.lane[i]); }
static inline vd vd_fma(vd a, vd b, vd c) { EACH_D(a.lane[i] * b.lane[i] + c.lane[i]); }

/* VD_LANES elements of a narrower type, widened (exactly) to double. */
static inline vd vd_load_f32(const float *p) { EACH_D((double)p[i]); }
static inline vd vd_load_f16(const uint16_t *p) { EACH_D((double)f16_to_f32(p[i])); }
static inline vd vd_load_bf16(const uint16_t *p) { EACH_D((double)bf16_to_f32(p[i])); }

/*
 * A square of 4 rows of floats, or 2 of doubles, turned: to[i * step + r] = rows[r][at + i].
 */
static inline void transpose_f32(float *to, size_t step, const void *const *rows, size_t at)
{
    for (int r = 0; r < 4; r++) {
        for (int i = 0; i < 4; i++) {
            to[i * step + r] = ((const float *)rows[r])[at + i];
        }
    }
}

static inline void transpose_f64(double *to, size_t step, const void *const *rows, size_t at)
{
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < 2; i++) {
            to[i * step + r] = ((const double *)rows[r])[at + i];
        }
    }
}

#undef EACH_F
#undef EACH_D
#endif
