#if defined(__aarch64__)
#define ISA_NEEDS CPU_NEON
#define ISA_BYTES_AS_FLOATS
#define ISA_DESCRIPTION "AArch64 Advanced SIMD"
#include "simd/neon.h"
#include "isa/isa_template.h"
#include "simd/end.h"
#endif
