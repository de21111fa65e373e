#if defined(__x86_64__)
#define ISA_NEEDS CPU_AVX512
/*
 * Row sums are limited by memory or by conversions to double. 256-bit vectors are as fast on rows
 * in memory, and up to 15 % faster on rows in the cache (Zen 4).
 */
#define ISA_SUMS avx2
/* A second table has layers with 256-bit vectors, for rows of small feature maps. A third one, for
 * processors that split 512-bit instructions (Zen 4), says to use them only for whole vectors. */
#define ISA_NARROW_LAYERS avx2
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL"
#include "simd/avx512.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
