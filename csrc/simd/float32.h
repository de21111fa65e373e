/*
 * Names that templates use for a float type and its vectors, here those of float32. A template that
 * is included between this file and end_float.h defines kernels for float32; between float64.h and
 * end_float.h, for float64. FLOAT_LOAD and FLOAT_STORE load and store elements as vectors of
 * doubles. FLOAT_KEEP_ERRORS is defined if blocks of products are added with their rounding errors.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), FLOAT)
#define FLOAT f32
#define FLOAT_TYPE float
#define FLOAT_INTEGER int32_t /* of the same width */
#define FLOAT_VECTOR vf
#define FLOAT_LANES VF_LANES
#define FLOAT_OP(op) vf_##op
#define FLOAT_FMA fma_f32 /* a * b + c of scalars, rounded as FLOAT_OP(fma) rounds */
#define FLOAT_TRANSPOSE transpose_f32
#define FLOAT_TRANSPOSE_SIZE TRANSPOSE_SIZE_F32
#define FLOAT_LOAD vd_load_f32
#define FLOAT_STORE vd_store_f32
