/*
 * to_floats_kernel and coarse_dots_kernel of kernels.h, for one element type. coarse_dots computes
 * its approximate dot products as fast as memory delivers the rows. Parameters, undefined at the
 * end with those of rows_template.h:
 *   ELEMENT              suffix of the names
 *   ELEMENT_TYPE         C type of an element
 *   ELEMENT_VALUE        optional: converts an element to a number
 *   ELEMENT_LOAD_FLOATS  loads VF_LANES elements as floats; without it, there is no coarse_dots
 *   ELEMENT_IS_FLOAT     optional: the elements are floats
 */
#ifndef ELEMENT_VALUE
#define ELEMENT_VALUE(element) (element)
#endif

static void PASTE(to_floats_, ELEMENT)(float *to, const void *from, size_t n, double scale)
{
    const ELEMENT_TYPE *elements = from;
    size_t i = 0;
    if (scale == 1.0) {
#ifdef ELEMENT_LOAD_FLOATS
        for (; n - i >= VF_LANES; i += VF_LANES) {
            vf_store(to + i, ELEMENT_LOAD_FLOATS(elements + i));
        }
#endif
        for (; i < n; i++) {
            to[i] = (float)ELEMENT_VALUE(elements[i]);
        }
        return;
    }
#ifdef ELEMENT_IS_FLOAT
    const float factor = (float)scale; /* equal to scale if a float holds all its digits */
    if (factor == scale && factor >= 0x1p-126f) {
        for (; i < n; i++) {
            to[i] = elements[i] * factor;
        }
        return;
    }
#endif
    for (; i < n; i++) {
        to[i] = (float)((double)ELEMENT_VALUE(elements[i]) * scale);
    }
}

#ifdef ELEMENT_LOAD_FLOATS
/*
 * Computes the dot products of one row with `count` vectors, and its squared norm. count is a
 * compile-time constant, so that the sums stay in registers.
 */
INLINE void PASTE(coarse_dots_of_, ELEMENT)(float *dots, float *square, const ELEMENT_TYPE *x,
                                            const float *const *vectors, size_t count, size_t n)
{
    enum { CHAINS = 2 };
    vf sums[COARSE_QUERIES][CHAINS], squares[CHAINS];
    float lanes[VF_LANES];
    size_t k = 0;
    for (int c = 0; c < CHAINS; c++) {
        squares[c] = vf_set1(0.0f);
        for (size_t q = 0; q < count; q++) {
            sums[q][c] = vf_set1(0.0f);
        }
    }
    for (; n - k >= CHAINS * VF_LANES; k += CHAINS * VF_LANES) {
        for (size_t line = 0; line < CHAINS * VF_LANES * sizeof *x; line += 64) {
            __builtin_prefetch((const char *)(x + k) + COARSE_PREFETCH + line);
        }
        _Pragma("GCC unroll 2") for (int c = 0; c < CHAINS; c++)
        {
            const vf a = ELEMENT_LOAD_FLOATS(x + k + c * VF_LANES);
            squares[c] = vf_fma(a, a, squares[c]);
            _Pragma("GCC unroll 4") for (size_t q = 0; q < count; q++)
            {
                sums[q][c] = vf_fma(a, vf_load(vectors[q] + k + c * VF_LANES), sums[q][c]);
            }
        }
    }
    for (; k < n; k += VF_LANES) {
        ELEMENT_TYPE row[VF_LANES] = {0};
        float vector[VF_LANES] = {0};
        const size_t some = n - k < VF_LANES ? n - k : VF_LANES;
        memcpy(row, x + k, some * sizeof *x);
        const vf a = ELEMENT_LOAD_FLOATS(row);
        squares[0] = vf_fma(a, a, squares[0]);
        for (size_t q = 0; q < count; q++) {
            memcpy(vector, vectors[q] + k, some * sizeof *vector);
            sums[q][0] = vf_fma(a, vf_load(vector), sums[q][0]);
        }
    }
    for (size_t q = 0; q < count; q++) {
        vf_store(lanes, vf_add(sums[q][0], sums[q][1]));
        dots[q * COARSE_STEP] = horizontal_sum(lanes);
    }
    vf_store(lanes, vf_add(squares[0], squares[1]));
    *square = horizontal_sum(lanes);
}

static void PASTE(coarse_dots_, ELEMENT)(float *dots, float *squares, const void *x,
                                         ptrdiff_t x_step, size_t rows, const float *const *vectors,
                                         size_t count, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        const ELEMENT_TYPE *row = (const void *)((const char *)x + (ptrdiff_t)r * x_step);
        switch (count) {
        case 1:
            PASTE(coarse_dots_of_, ELEMENT)(dots + r, squares + r, row, vectors, 1, n);
            break;
        case 2:
            PASTE(coarse_dots_of_, ELEMENT)(dots + r, squares + r, row, vectors, 2, n);
            break;
        case 3:
            PASTE(coarse_dots_of_, ELEMENT)(dots + r, squares + r, row, vectors, 3, n);
            break;
        default:
            PASTE(coarse_dots_of_, ELEMENT)(dots + r, squares + r, row, vectors, COARSE_QUERIES, n);
        }
    }
}
#endif

#undef ELEMENT
#undef ELEMENT_TYPE
#undef ELEMENT_VALUE
#undef ELEMENT_IS_FLOAT
#undef ELEMENT_LOAD
#undef ELEMENT_LOAD_FIRST
#undef ELEMENT_LOAD_PAIR
#undef ELEMENT_LOAD_INTEGERS
#undef ELEMENT_LOAD_FLOATS
#undef ELEMENT_KEEP_ERRORS
#undef ELEMENT_RANGE_CHECKED
