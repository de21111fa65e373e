/*
 * to_floats_kernel of kernels.h, for one element type. Compilers vectorize the loops. Parameters:
 *   ELEMENT          suffix of the name
 *   ELEMENT_TYPE     C type of an element
 *   ELEMENT_VALUE    optional: converts an element to a number
 *   ELEMENT_LOAD     optional: loads VF_LANES elements as floats
 *   ELEMENT_IS_FLOAT optional: the elements are floats
 */
#ifndef ELEMENT_VALUE
#define ELEMENT_VALUE(element) (element)
#endif

static void PASTE(to_floats_, ELEMENT)(float *to, const void *from, size_t n, double scale)
{
    const ELEMENT_TYPE *elements = from;
    size_t i = 0;
    if (scale == 1.0) {
#ifdef ELEMENT_LOAD
        for (; n - i >= VF_LANES; i += VF_LANES) {
            vf_store(to + i, ELEMENT_LOAD(elements + i));
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

#undef ELEMENT
#undef ELEMENT_TYPE
#undef ELEMENT_VALUE
#undef ELEMENT_LOAD
#undef ELEMENT_IS_FLOAT
