#if defined(__x86_64__)
#define ISA_NEEDS CPU_AVX512
#define ISA_DESCRIPTION "AVX-512 F, BW, DQ and VL"
#include "simd/avx512.h"
#include "kernels/body.h"
#include "simd/end.h"
#endif
