/* The names of float32.h, for float64. */
#define NAME(prefix) PASTE(PASTE(prefix, _), FLOAT)
#define FLOAT f64
#define FLOAT_TYPE double
#define FLOAT_INTEGER int64_t
#define FLOAT_VECTOR vd
#define FLOAT_LANES VD_LANES
#define FLOAT_OP(op) vd_##op
#define FLOAT_FMA fma_f64
#define FLOAT_TRANSPOSE transpose_f64
#define FLOAT_TRANSPOSE_SIZE TRANSPOSE_SIZE_F64
#define FLOAT_LOAD vd_load
#define FLOAT_STORE vd_store
#define FLOAT_KEEP_ERRORS
