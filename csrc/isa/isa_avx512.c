#if defined(__x86_64__)
#define ISA_NEEDS CPU_AVX512
/*
 * Row sums are limited by memory or by conversions to double. 256-bit vectors are as fast on rows
 * in memory, and up to 15 % faster on rows in the cache (Zen 4).
 */
#define ISA_SUMS avx2
/*
 * 512-bit vectors do not make layers faster than 256-bit vectors (Zen 4), and they are wider than
 * the rows of small feature maps.
 */
#define ISA_LAYERS avx2
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL"
#include "simd/avx512.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
