/*
 * Defines all kernels of one instruction set and their table. isa_*.c includes this file after a
 * header of simd/, inside the target region that the header opened. System headers that define
 * functions must not be included inside the region, so each header of simd/ includes them before it
 * opens the region.
 */
#include "base/cpu.h"
#include "base/cancel.h"
#include "base/eps.h"
#include "base/stream.h"
#include "kernels/kernels.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

/*
 * Keeps gcc from vectorizing the scalar loops of a function. gcc would gather the elements of a
 * vector one by one, which is slower.
 */
#if defined(__GNUC__) && !defined(__clang__)
#define NO_SLP __attribute__((optimize("no-tree-slp-vectorize")))
#else
#define NO_SLP
#endif

#define INLINE static inline __attribute__((always_inline))

#include "kernels/sums_template.h"
#include "layer_kernels/exp_template.h"

/*
 * An instruction set can reuse a group of kernels of another instruction set if they are at least
 * as fast. ISA_SUMS, ISA_TILES, ISA_BYTES, ISA_SQ8, ISA_ROUGH, ISA_BITS, ISA_LAYERS and ISA_LANES
 * name the other instruction set, each for one group. If the macro of a group is not defined, this
 * file defines the kernels of that group.
 */
#ifdef ISA_SUMS
extern const struct sums_kernels PASTE(sums_kernels_, ISA_SUMS);
#else
/* One block for each element type. Both templates describe their parameters. */
#define ELEMENT f32
#define ELEMENT_TYPE float
#define ELEMENT_LOAD vd_load_f32
#define ELEMENT_LOAD_FIRST vd_load_first_f32
#define ELEMENT_LOAD_FLOATS vf_load
#define ELEMENT_IS_FLOAT
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT f16
#define ELEMENT_TYPE uint16_t
#define ELEMENT_VALUE f16_to_f32
#define ELEMENT_LOAD vd_load_f16
#define ELEMENT_LOAD_PAIR vf_load_pair_f16
#define ELEMENT_LOAD_FLOATS vf_load_f16
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT bf16
#define ELEMENT_TYPE uint16_t
#define ELEMENT_VALUE bf16_to_f32
#define ELEMENT_LOAD vd_load_bf16
#define ELEMENT_LOAD_PAIR vf_load_pair_bf16
#define ELEMENT_LOAD_FLOATS vf_load_bf16
#define ELEMENT_RANGE_CHECKED
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT f64
#define ELEMENT_TYPE double
#define ELEMENT_LOAD vd_load
#define ELEMENT_LOAD_FIRST vd_load_first
#define ELEMENT_LOAD_FLOATS vf_load_f64
#define ELEMENT_KEEP_ERRORS
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT i8
#define ELEMENT_TYPE int8_t
#define ELEMENT_LOAD vd_load_i8
#define ELEMENT_LOAD_INTEGERS vh_load_i8
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT u8
#define ELEMENT_TYPE uint8_t
#define ELEMENT_LOAD vd_load_u8
#define ELEMENT_LOAD_INTEGERS vh_load_u8
#include "kernels/rows_template.h"
#include "kernels/floats_template.h"

#define ELEMENT i16
#define ELEMENT_TYPE int16_t
#define ELEMENT_LOAD_FLOATS vf_load_i16
#include "kernels/floats_template.h"

#define ELEMENT u16
#define ELEMENT_TYPE uint16_t
#include "kernels/floats_template.h"

#define ELEMENT i32
#define ELEMENT_TYPE int32_t
#define ELEMENT_LOAD_FLOATS vf_load_i32
#include "kernels/floats_template.h"

#define ELEMENT u32
#define ELEMENT_TYPE uint32_t
#include "kernels/floats_template.h"

#define ELEMENT i64
#define ELEMENT_TYPE int64_t
#define ELEMENT_LOAD_FLOATS vf_load_i64
#include "kernels/floats_template.h"

#define ELEMENT u64
#define ELEMENT_TYPE uint64_t
#include "kernels/floats_template.h"

#define EACH_ELEMENT(row) \
    [DTYPE_F64] = row(f64), [DTYPE_F32] = row(f32), [DTYPE_F16] = row(f16), \
    [DTYPE_BF16] = row(bf16), [DTYPE_I8] = row(i8), [DTYPE_U8] = row(u8)
#define ROWS(e) {rows_all_##e, rows_dot_##e, rows_square_##e}
#define COLUMNS(e) {columns_all_##e, columns_dot_##e, columns_square_##e}
#define COSINE_ROWS(e) cosine_rows_##e
#define TO_FLOATS(e) to_floats_##e

/*
 * The error bound of coarse dot products (kernels.h). A product passes through n / (2 * VF_LANES) +
 * 7 additions: 2 * VF_LANES running sums each take n / (2 * VF_LANES) products and two more for the
 * last elements, and at most five additions combine these sums. Each addition rounds FMA_ROUNDINGS
 * times by at most 2^-24. The last factor covers the terms of second order for up to 2^16 elements.
 */
static double coarse_error(size_t n)
{
    return ((double)n / (2 * VF_LANES) + 7.0) * FMA_ROUNDINGS * 0x1p-24 * (1.0 + 0x1p-9);
}

const struct sums_kernels PASTE(sums_kernels_, ISA_NAME) = {
    .rows = {EACH_ELEMENT(ROWS)},
    .columns = {EACH_ELEMENT(COLUMNS)},
    .cosine_rows = {EACH_ELEMENT(COSINE_ROWS)},
    .cosine_sums = cosine_sums,
    .to_floats = {EACH_ELEMENT(TO_FLOATS), [DTYPE_I16] = to_floats_i16, [DTYPE_U16] = to_floats_u16,
                  [DTYPE_I32] = to_floats_i32, [DTYPE_U32] = to_floats_u32,
                  [DTYPE_I64] = to_floats_i64, [DTYPE_U64] = to_floats_u64},
    .coarse_dots = {[DTYPE_F32] = coarse_dots_f32,
                    [DTYPE_F16] = coarse_dots_f16,
                    [DTYPE_BF16] = coarse_dots_bf16,
                    [DTYPE_F64] = coarse_dots_f64,
                    [DTYPE_I16] = coarse_dots_i16,
                    [DTYPE_I32] = coarse_dots_i32,
                    [DTYPE_I64] = coarse_dots_i64},
    .coarse_error = coarse_error,
};
#define ISA_SUMS ISA_NAME
#endif

_Static_assert(VD_LANES >= COSINE_STEP && VD_LANES <= COSINE_PADDING && VF_LANES == 2 * VD_LANES,
               "kernels.h relies on these bounds");
#ifdef ISA_TILES
extern const struct tile_kernels PASTE(tile_kernels_, ISA_TILES)[];
extern const struct half_kernels PASTE(half_kernels_, ISA_TILES);
#else
#include "simd/float32.h"
#include "kernels/gemm_template.h"
#include "layer_kernels/xent_template.h"
#include "simd/end_float.h"

#include "simd/float64.h"
#include "kernels/gemm_template.h"
#include "layer_kernels/xent_template.h"
#include "simd/end_float.h"

#define HALF f16
#include "kernels/narrow_template.h"

#define HALF bf16
#include "kernels/narrow_template.h"

/* round_to_odd_kernel of kernels.h. The loop has no branches, so compilers vectorize it. */
static bool round_to_odd(float *out, const double *in, size_t n)
{
    int subnormal = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = f32_rounded_to_odd(in[i]);
        subnormal |= (fabs(in[i]) < 0x1p-126) & (in[i] != 0.0);
    }
    return subnormal != 0;
}

#define XENT_KERNELS(type) \
    {xent_scale_##type, xent_exponents_##type,  xent_sums_##type,   xent_log_sums_##type, \
     xent_weigh_##type, xent_weigh_logs_##type, xent_project_##type}

#define TILE_KERNELS(type, lanes) \
    {TILE_ROWS, \
     TILE_VECTORS * lanes, \
     tile_##type, \
     tile_sum_##type, \
     transpose_rows_##type, \
     cosine_##type, \
     stream_cosines_##type, \
     select_at_least_##type, \
     keep_at_least_##type, \
     count_at_least_##type, \
     maxima_##type, \
     XENT_KERNELS(type)}

const struct tile_kernels PASTE(tile_kernels_, ISA_NAME)[] = {
    [COMPUTE_F32] = TILE_KERNELS(f32, VF_LANES),
    [COMPUTE_F64] = TILE_KERNELS(f64, VD_LANES),
};
const struct half_kernels PASTE(half_kernels_, ISA_NAME) = {
    .narrow = {[DTYPE_F16] = narrow_f16, [DTYPE_BF16] = narrow_bf16},
    .round_to_odd = round_to_odd,
};
#define ISA_TILES ISA_NAME
#endif

/* A set with ISA_BYTES_AS_FLOATS has no kernels for 8-bit integers: its float32 kernels are as
 * fast. */
#ifdef ISA_BYTES
extern const struct byte_kernels PASTE(byte_kernels_, ISA_BYTES)[];
#elif !defined(ISA_BYTES_AS_FLOATS)
#define TILE i8
#define TILE_TYPE int8_t
#define TILE_DOT vi_dot_groups_i8
#define TILE_BIAS RIGHT_BIAS_I8
#include "kernels/gemm_i8_template.h"

#define TILE u8
#define TILE_TYPE uint8_t
#define TILE_DOT vi_dot_groups_u8
#define TILE_BIAS RIGHT_BIAS_U8
#include "kernels/gemm_i8_template.h"

#define BYTE_KERNELS(type) \
    {TILE_ROWS,  TILE_VECTORS * VF_LANES, sizeof(group_element), tile_##type, widen_##type, \
     pack_##type}

const struct byte_kernels PASTE(byte_kernels_, ISA_NAME)[] = {
    BYTE_KERNELS(i8),
    BYTE_KERNELS(u8),
};
#define ISA_BYTES ISA_NAME
#endif

#ifdef ISA_SQ8
extern const struct sq8_kernels PASTE(sq8_kernels_, ISA_SQ8);
#else
#include "kernels/sq8_template.h"
#define ISA_SQ8 ISA_NAME
#endif

/* Sets that multiply 16-bit integers faster than floats have kernels of rough cosines. */
#ifdef ISA_ROUGH
extern const struct rough_kernels PASTE(rough_kernels_, ISA_ROUGH);
#elif defined(ROUGH_PAYS)
#include "kernels/rough_template.h"
const struct rough_kernels PASTE(rough_kernels_, ISA_NAME) = {rough_codes, rough_dots, rough_near};
#define ISA_ROUGH ISA_NAME
#endif

#ifdef ISA_BITS
extern const struct bit_kernels PASTE(bit_kernels_, ISA_BITS);
#else
#include "kernels/hamming_template.h"
#define ISA_BITS ISA_NAME
#endif

#ifdef ISA_LAYERS
extern const struct layer_kernels PASTE(layer_kernels_, ISA_LAYERS)[];
extern const struct winograd_kernels PASTE(winograd_kernels_, ISA_LAYERS);
extern const struct elementwise_kernels PASTE(elementwise_kernels_, ISA_LAYERS)[];
#else
/*
 * A kernel of dot products keeps DOTS_ROWS x DOTS_COLUMNS sums in registers. At least eight
 * independent sums hide the latency of an addition. Sets with a TILE_ROWS of 8 have 32 registers:
 * room for 16 such sums, and for OUTER_MOST_ROWS x TILE_VECTORS or OUTER_WIDE_ROWS x WIDE_VECTORS
 * sums of outer products.
 */
enum { DOTS_ROWS = 4, DOTS_COLUMNS = TILE_ROWS < 8 ? 2 : 4, DOTS_SUMS = DOTS_ROWS * DOTS_COLUMNS };
enum { OUTER_MOST_ROWS = TILE_ROWS < 8 ? TILE_ROWS : 10, WIDE_VECTORS = 3 };
#include "simd/float32.h"
#include "layer_kernels/layers_template.h"
#include "layer_kernels/pixels_template.h"
#define EXP_DEGREE 8
#define TAIL_DEGREE 7
#define TAIL_LIMIT 15.0f
#define TAIL_CENTRE 3.0f
#define TAIL_TERMS 11
#define TAIL_FACTORS \
    {0x1.d17fe40000000p-15f,  0x1.1799c00000000p-13f, -0x1.0098a80000000p-12f, \
     -0x1.0f2e8c0000000p-10f, 0x1.0c7a080000000p-10f, 0x1.c8c7dc0000000p-8f, \
     -0x1.56d40a0000000p-7f,  -0x1.832d320000000p-5f, 0x1.d713820000000p-3f, \
     -0x1.04c72a0000000p-1f,  0x1.754a760000000p-1f}
#include "layer_kernels/elementwise_template.h"
#include "simd/end_float.h"

#include "simd/float64.h"
#include "layer_kernels/layers_template.h"
#include "layer_kernels/pixels_template.h"
#define EXP_DEGREE 13
#define TAIL_DEGREE 13
#define TAIL_LIMIT 39.0
#define TAIL_CENTRE 7.0
#define TAIL_TERMS 23
#define TAIL_FACTORS \
    { \
        0x1.1116f04f9814cp-28,  0x1.4736ccff9977bp-28, -0x1.82cc804a29940p-25, \
        0x1.b90b2dde445c6p-27,  0x1.79d290369bcb4p-22, -0x1.f44ba93bd498ep-21, \
        -0x1.668553ccc2643p-21, 0x1.742d859820ea0p-17, -0x1.0e7bfee8e832ap-15, \
        0x1.404b2c4de25cfp-17,  0x1.5042e35997ab4p-12, -0x1.caf78629f4d3fp-10, \
        0x1.8ff7eba3e2b0ap-8,   -0x1.12fecbead42fep-6, 0x1.40023060a5211p-5, \
        -0x1.45ff387e036b9p-4,  0x1.2876f95254e58p-3,  -0x1.e7670eca96a49p-3, \
        0x1.6d39722d23f04p-2,   -0x1.f5e08fef658d6p-2, 0x1.3d7bcb4d10b71p-1, \
        -0x1.72da1c1f15cb3p-1,  0x1.90a4fcc7f7810p-1}
#include "layer_kernels/elementwise_template.h"
#include "simd/end_float.h"

#include "layer_kernels/winograd_template.h"
#include "layer_kernels/winograd3_template.h"

#define LAYER_KERNELS(type, lane_count) \
    { \
        .rows = OUTER_MOST_ROWS, \
        .lanes = lane_count, \
        .vectors = PIXEL_VECTORS, \
        .outer = outer_##type, \
        .pixels = pixels_##type, \
        .dots = dots_##type, \
        .patches = patches_##type, \
        .add_rows = add_rows_##type, \
        .max_pool2x2 = max_pool2x2_##type, \
        .max_pairs = max_pairs_##type, \
    }

const struct layer_kernels PASTE(layer_kernels_, ISA_NAME)[] = {
    [COMPUTE_F32] = LAYER_KERNELS(f32, VF_LANES),
    [COMPUTE_F64] = LAYER_KERNELS(f64, VD_LANES),
};
const struct winograd_kernels PASTE(winograd_kernels_, ISA_NAME) = {
    .input_transform = winograd_input_transform,
    .filter_transform = winograd_filter_transform,
    .output_transform = winograd_output_transform,
    .input_transform3 = winograd3_input_transform,
    .tile_transform3 = winograd3_tile_transform,
    .filter_transform3 = winograd3_filter_transform,
    .output_transform3 = winograd3_output_transform,
};

#define ELEMENTWISE_KERNELS(type) \
    {leaky_relu_##type,     gelu_##type,           gelu_tanh_##type,     channel_sums_##type, \
     channel_affine_##type, plane_sums_##type,     divide_##type,        first_maximum_##type, \
     max_alternate_##type,  mean_alternate_##type, column_maxima_##type, column_totals_##type, \
     mean_pool2x2_##type}

const struct elementwise_kernels PASTE(elementwise_kernels_, ISA_NAME)[] = {
    [COMPUTE_F32] = ELEMENTWISE_KERNELS(f32),
    [COMPUTE_F64] = ELEMENTWISE_KERNELS(f64),
};
#define ISA_LAYERS ISA_NAME
#endif

#ifdef ISA_LANES
extern const struct lanes_kernels PASTE(lanes_kernels_, ISA_LANES)[];
#else
#include "simd/float32.h"
#include "layer_kernels/lanes_template.h"
#include "simd/end_float.h"

#include "simd/float64.h"
#include "layer_kernels/lanes_template.h"
#include "simd/end_float.h"

#define LANES_KERNELS(type, lanes) \
    {lanes, \
     LANES_ROWS, \
     lanes_conv_##type, \
     lanes_gather_##type, \
     lanes_scatter_##type, \
     lanes_relu_##type, \
     lanes_max_pool_##type, \
     lanes_products_##type, \
     lanes_channels_##type, \
     lanes_patches_##type, \
     lanes_add_sum_##type, \
     lanes_reduce_##type, \
     lanes_relu_gradient_##type, \
     lanes_unpool_##type, \
     lanes_max_unpool_##type, \
     winograd_filters_##type, \
     winograd_input_##type, \
     winograd_output_##type, \
     winograd_output_gradient_##type, \
     winograd_input_gradient_##type}

const struct lanes_kernels PASTE(lanes_kernels_, ISA_NAME)[] = {
    [COMPUTE_F32] = LANES_KERNELS(f32, VF_LANES),
    [COMPUTE_F64] = LANES_KERNELS(f64, VD_LANES),
};
#define ISA_LANES ISA_NAME
#endif

#ifdef ISA_BYTES
#define KERNEL_BYTES PASTE(byte_kernels_, ISA_BYTES)
#else
#define KERNEL_BYTES NULL
#endif
#ifdef ISA_ROUGH
#define KERNEL_ROUGH &PASTE(rough_kernels_, ISA_ROUGH)
#else
#define KERNEL_ROUGH NULL
#endif
#define KERNELS(layer_set, narrow_table, split_table, splits) \
    { \
        .name = TEXT(ISA_NAME), \
        .description = ISA_DESCRIPTION, \
        .needs = ISA_NEEDS, \
        .sums = &PASTE(sums_kernels_, ISA_SUMS), \
        .tiles = PASTE(tile_kernels_, ISA_TILES), \
        .bytes = KERNEL_BYTES, \
        .halves = &PASTE(half_kernels_, ISA_TILES), \
        .sq8 = &PASTE(sq8_kernels_, ISA_SQ8), \
        .rough = KERNEL_ROUGH, \
        .bits = &PASTE(bit_kernels_, ISA_BITS), \
        .layers = PASTE(layer_kernels_, layer_set), \
        .lanes = PASTE(lanes_kernels_, ISA_LANES), \
        .winograd = &PASTE(winograd_kernels_, layer_set), \
        .elementwise = PASTE(elementwise_kernels_, layer_set), \
        .narrow = narrow_table, \
        .split = split_table, \
        .is_split = splits, \
    }

/* ISA_NARROW_LAYERS names the instruction set whose layers have half the vector width. */
#ifdef ISA_NARROW_LAYERS
extern const struct layer_kernels PASTE(layer_kernels_, ISA_NARROW_LAYERS)[];
extern const struct winograd_kernels PASTE(winograd_kernels_, ISA_NARROW_LAYERS);
extern const struct elementwise_kernels PASTE(elementwise_kernels_, ISA_NARROW_LAYERS)[];
static const struct kernels narrow = KERNELS(ISA_NARROW_LAYERS, NULL, NULL, false);
static const struct kernels split = KERNELS(ISA_LAYERS, &narrow, NULL, true);
const struct kernels PASTE(kernels_, ISA_NAME) = KERNELS(ISA_LAYERS, &narrow, &split, false);
#else
const struct kernels PASTE(kernels_, ISA_NAME) = KERNELS(ISA_LAYERS, NULL, NULL, false);
#endif
