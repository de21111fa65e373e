#include "vectors/dtype.h"

#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "base/scratch.h"

/* One row for each dtype: its name, the C type of its bits, the conversion of bits to a number. */
#define SAME(bits) (bits)
#define FOR_EACH_DTYPE(row) \
    row(F64, double, SAME) row(F32, float, SAME) row(F16, uint16_t, f16_to_f32) \
        row(BF16, uint16_t, bf16_to_f32) row(I8, int8_t, SAME) row(U8, uint8_t, SAME) \
            row(I16, int16_t, SAME) row(U16, uint16_t, SAME) row(I32, int32_t, SAME) \
                row(U32, uint32_t, SAME) row(I64, int64_t, SAME) row(U64, uint64_t, SAME)

enum { STORE_BLOCK = 256 }; /* values rounded at a time before they are stored */

size_t dtype_size(enum dtype dtype)
{
#define SIZE(name, type, value) [DTYPE_##name] = sizeof(type),
    static const unsigned char sizes[DTYPES] = {FOR_EACH_DTYPE(SIZE)};
#undef SIZE
    return sizes[dtype];
}

static void swap_bytes(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size / 2; i++) {
        unsigned char byte = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = byte;
    }
}

/*
 * Defines one loader, for example load_F32_COMPUTE_F64(to, from, stride, n, swapped). It reads each
 * element by memcpy, because an element may lie at any address. Contiguous elements in native byte
 * order have a branch of their own, so that the compiler can vectorize it.
 */
#define LOADER(name, type, value, compute, to_type) \
    static void load_##name##_##compute(void *out, const char *from, ptrdiff_t stride, size_t n, \
                                        bool swapped) \
    { \
        to_type *to = out; \
        type element; \
        if (stride == (ptrdiff_t)sizeof(type) && !swapped) { \
            for (size_t i = 0; i < n; i++) { \
                memcpy(&element, from + i * sizeof(type), sizeof element); \
                to[i] = (to_type)value(element); \
            } \
            return; \
        } \
        for (size_t i = 0; i < n; i++, from += stride) { \
            memcpy(&element, from, sizeof element); \
            if (swapped) { \
                swap_bytes((unsigned char *)&element, sizeof element); \
            } \
            to[i] = (to_type)value(element); \
        } \
    }
typedef void loader(void *to, const char *from, ptrdiff_t stride, size_t n, bool swapped);
#define LOADERS(name, type, value) \
    LOADER(name, type, value, COMPUTE_F64, double) \
    LOADER(name, type, value, COMPUTE_F32, float)
FOR_EACH_DTYPE(LOADERS)

void operand_load(const struct operand *operand, const char *from, ptrdiff_t stride, size_t n,
                  enum compute_type compute, void *to)
{
    const bool half = operand->dtype == DTYPE_F16 || operand->dtype == DTYPE_BF16;
    if (compute == COMPUTE_F32 && half && stride == (ptrdiff_t)sizeof(uint16_t) &&
        operand_in_place(operand)) {
        kernels_current()->halves->widen[operand->dtype](to, from, n);
        return;
    }
#define ROW(name, type, value) \
    [DTYPE_##name] = { \
        [COMPUTE_F32] = load_##name##_COMPUTE_F32, [COMPUTE_F64] = load_##name##_COMPUTE_F64},
    static loader *const loaders[DTYPES][2] = {FOR_EACH_DTYPE(ROW)};
#undef ROW
    loaders[operand->dtype][compute](to, from, stride, n, operand->swapped);
}

/* Stores n values of `size` bytes, `stride` bytes apart. */
static inline void store(char *to, ptrdiff_t stride, const void *values, size_t size, size_t n)
{
    if (stride == (ptrdiff_t)size) {
        memcpy(to, values, n * size);
        return;
    }
    for (size_t i = 0; i < n; i++, to += stride) {
        memcpy(to, (const char *)values + i * size, size);
    }
}

/* Rounds floats to 16 bits. The kernel writes a contiguous result directly. */
static void store_half(enum dtype dtype, char *to, ptrdiff_t stride, const float *values, size_t n)
{
    narrow_kernel *narrow = kernels_current()->halves->narrow[dtype];
    if (stride == sizeof(uint16_t)) {
        narrow(to, values, n);
        return;
    }
    uint16_t block[STORE_BLOCK];
    for (size_t done = 0, count; done < n; done += count) {
        count = smaller(n - done, STORE_BLOCK);
        narrow(block, values + done, count);
        store(to + (ptrdiff_t)done * stride, stride, block, sizeof *block, count);
    }
}

/* Rounds doubles to floats such that rounding these to 16 bits equals a single rounding. */
static void round_to_odd_floats(float *to, const double *values, size_t n)
{
    if (kernels_current()->halves->round_to_odd(to, values, n)) { /* some values are subnormal */
        for (size_t i = 0; i < n; i++) {
            to[i] = f32_for_half(values[i]);
        }
    }
}

static void round_to_floats(float *to, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)values[i];
    }
}

void dtype_store(enum dtype dtype, char *to, ptrdiff_t stride, const double *values, size_t n)
{
    if (dtype == DTYPE_F64) {
        store(to, stride, values, sizeof *values, n);
        return;
    }
    float block[STORE_BLOCK];
    for (size_t count; n > 0; n -= count, values += count, to += (ptrdiff_t)count * stride) {
        count = smaller(n, STORE_BLOCK);
        if (dtype == DTYPE_F32) {
            round_to_floats(block, values, count);
            store(to, stride, block, sizeof *block, count);
        } else {
            round_to_odd_floats(block, values, count);
            store_half(dtype, to, stride, block, count);
        }
    }
}

void dtype_store_computed(enum dtype dtype, char *to, ptrdiff_t stride, enum compute_type compute,
                          const void *values, size_t n)
{
    if (compute == COMPUTE_F64) {
        dtype_store(dtype, to, stride, values, n);
    } else if (dtype == DTYPE_F32) {
        store(to, stride, values, sizeof(float), n);
    } else if (dtype == DTYPE_F64) {
        for (size_t i = 0; i < n; i++, to += stride) {
            const double wide = ((const float *)values)[i];
            memcpy(to, &wide, sizeof wide);
        }
    } else {
        store_half(dtype, to, stride, values, n);
    }
}
