#define ISA_NEEDS 0
#define ISA_DESCRIPTION "plain C"
#include "simd/generic.h"
#include "kernels/isa_template.h"
#include "simd/end.h"
