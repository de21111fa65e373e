/* Ends the section that float32.h or float64.h began. */
#undef NAME
#undef FLOAT
#undef FLOAT_TYPE
#undef FLOAT_INTEGER
#undef FLOAT_VECTOR
#undef FLOAT_LANES
#undef FLOAT_OP
#undef FLOAT_FMA
#undef FLOAT_TRANSPOSE
#undef FLOAT_TRANSPOSE_SIZE
#undef FLOAT_LOAD
#undef FLOAT_STORE
#undef FLOAT_KEEP_ERRORS
