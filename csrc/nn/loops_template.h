/*
 * The loops of layers over single elements, for one compute type: struct layer_loops of loops.h
 * has their contracts. Parameters, undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */

/* The comparisons of relu and relu_gradient are false for NaN, so NaN stays NaN. Compilers
 * vectorize both. */
static void NAME(relu)(size_t n, const void *input_void, void *output_void)
{
    const ELEMENT *restrict input = input_void;
    ELEMENT *restrict output = output_void;
    for (size_t i = 0; i < n; i++) {
        output[i] = 0 > input[i] ? 0 : input[i];
    }
}

static void NAME(relu_gradient)(size_t n, const void *input_void, const void *gradient_void,
                                void *output_void)
{
    const ELEMENT *restrict input = input_void, *restrict gradient = gradient_void;
    ELEMENT *restrict output = output_void;
    for (size_t i = 0; i < n; i++) {
        const ELEMENT g = gradient[i];
        output[i] = input[i] <= 0 ? 0 : g;
    }
}

/* 0 times an element is 0 if the element is finite, else NaN. So the sum of these products is 0 if
 * all elements are finite, else NaN. */
static bool NAME(all_finite)(size_t n, const void *elements_void)
{
    const ELEMENT *elements = elements_void;
    ELEMENT checks[16] = {0}, check = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            checks[j] += 0 * elements[i + j];
        }
    }
    for (; i < n; i++) {
        check += 0 * elements[i];
    }
    for (size_t j = 0; j < 16; j++) {
        check += checks[j];
    }
    return check == 0;
}

static void NAME(add_sum)(size_t n, const void *elements_void, void *to_void)
{
    const ELEMENT *elements = elements_void;
    ELEMENT eight[8] = {0}, *to = to_void;
    for (size_t i = 0; i < n; i++) {
        eight[i % 8] += elements[i];
    }
    for (size_t i = 0; i < 8; i++) {
        *to += eight[i];
    }
}

static void NAME(scatter)(size_t n, const int64_t *indices, const void *from_void, void *to_void)
{
    const ELEMENT *from = from_void;
    ELEMENT *to = to_void;
    for (size_t i = 0; i < n; i++) {
        to[indices[i]] += from[i];
    }
}

static size_t NAME(gather_nonzero)(size_t n, const int64_t *indices, const void *from_void,
                                   const ptrdiff_t *offsets, ptrdiff_t first, ptrdiff_t *offsets_to,
                                   void *to_void)
{
    const ELEMENT *from = from_void;
    ELEMENT *to = to_void;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        offsets_to[count] = first + offsets[indices[i]];
        to[count] = from[i];
        count += from[i] != 0;
    }
    return count;
}

static void NAME(copy_grouped)(const void *row_void, size_t width, size_t padding, size_t stride,
                               size_t phase, void *to_void)
{
    const ELEMENT *row = row_void;
    ELEMENT *to = to_void;
    const size_t pitch = stride * phase, start = smaller(padding, pitch),
                 end = smaller(padding + width, pitch);
    for (size_t r = 0; r < stride; r++) {
        size_t x = r;
        for (; x < start; x += stride) {
            *to++ = 0;
        }
        for (; x < end; x += stride) {
            *to++ = row[x - padding];
        }
        for (; x < pitch; x += stride) {
            *to++ = 0;
        }
    }
}

static void NAME(max_pool)(const struct max_pool2d *p, const void *in_void, void *out_void,
                           int64_t *indices)
{
    const ELEMENT *in = in_void;
    ELEMENT *out = out_void;
    size_t windows_left = windows_between_polls(p);
    for (size_t y = 0; y < p->out.h; y++) {
        const struct span rows =
            window(y, p->stride.h, p->padding.h, p->kernel.h, p->dilation.h, p->in.h);
        for (size_t x = 0; x < p->out.w; x++, out++) {
            if (--windows_left == 0) {
                if (cancel_poll_here()) {
                    return;
                }
                windows_left = windows_between_polls(p);
            }
            const struct span columns =
                window(x, p->stride.w, p->padding.w, p->kernel.w, p->dilation.w, p->in.w);
            ELEMENT maximum = -(ELEMENT)INFINITY;
            size_t maximum_at = rows.first * p->in.w + columns.first;
            for (size_t r = rows.first; r < rows.end; r += p->dilation.h) {
                for (size_t c = columns.first; c < columns.end; c += p->dilation.w) {
                    const ELEMENT value = in[r * p->in.w + c];
                    if (value > maximum || isnan(value)) {
                        maximum = value;
                        maximum_at = r * p->in.w + c;
                    }
                }
            }
            *out = maximum;
            if (indices != NULL) {
                *indices++ = (int64_t)maximum_at;
            }
        }
    }
}

#undef ELEMENT
#undef NAME
