#define ISA_NEEDS 0
#define ISA_BYTES_AS_FLOATS
#define ISA_DESCRIPTION "plain C"
#include "simd/generic.h"
#include "isa/isa_template.h"
#include "simd/end.h"
