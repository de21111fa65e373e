#if defined(__x86_64__)
#define ISA_NEEDS CPU_AVX2
#define ISA_DESCRIPTION "AVX2, FMA and F16C"
#include "simd/avx2.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
