#if defined(__x86_64__)
#define ISA_NEEDS (CPU_AVX512 | CPU_VNNI)
#define ISA_SUMS avx2
#define ISA_TILES avx512
#define ISA_BITS avx512
#define ISA_LAYERS avx512
#define ISA_NARROW_LAYERS avx2
#define ISA_LANES avx512
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL, and VNNI"
#define SIMD_VNNI
#include "simd/avx512.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
