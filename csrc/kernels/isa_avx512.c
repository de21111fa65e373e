#if defined(__x86_64__)
#define ISA_NEEDS CPU_AVX512
/* Sums of rows wait for memory or for conversions to double: 256 bits are as fast, and up to 15 %
 * faster in the cache (Zen 4). */
#define ISA_SUMS avx2
/* Layers read vectors of 256 bits where they lie in images: 512 are no faster (Zen 4), and wider
 * than the rows of small maps. */
#define ISA_LAYERS avx2
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL"
#include "simd/avx512.h"
#include "kernels/isa_template.h"
#include "simd/end.h"
#endif
