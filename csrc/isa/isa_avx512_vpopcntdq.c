#if defined(__x86_64__)
#define ISA_NEEDS (CPU_AVX512 | CPU_VNNI | CPU_VPOPCNTDQ)
#define ISA_SUMS avx2
#define ISA_TILES avx512
#define ISA_BYTES avx512_vnni
#define ISA_SQ8 avx512_vnni
#define ISA_ROUGH avx512_vnni
#define ISA_LAYERS avx512
#define ISA_NARROW_LAYERS avx2
#define ISA_LANES avx512
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL, VNNI, and VPOPCNTDQ"
#define SIMD_VPOPCNTDQ
#include "simd/avx512.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
