/*
 * The loops of layers over single elements, for one compute type: struct layer_loops of loops.h
 * has their contracts. Parameters, undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   POSITION       integer type of the same width
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

static void NAME(gather)(size_t n, const ptrdiff_t *offsets, const void *from_void, void *to_void)
{
    const ELEMENT *from = from_void;
    ELEMENT *to = to_void;
    for (size_t i = 0; i < n; i++) {
        to[i] = from[offsets[i]];
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
        if (stride == 2 && x < end) { /* compilers vectorize a loop with a constant step */
            const size_t n = (end - x + 1) / 2;
            const ELEMENT *restrict from = row + (x - padding);
            ELEMENT *restrict out = to;
            for (size_t i = 0; i < n; i++) {
                out[i] = from[2 * i];
            }
            to += n;
            x += 2 * n;
        }
        for (; x < end; x += stride) {
            *to++ = row[x - padding];
        }
        for (; x < pitch; x += stride) {
            *to++ = 0;
        }
    }
}

static void NAME(repeat_ends)(const void *row_void, size_t n, size_t before, size_t after,
                              int64_t first, void *to_void, void *positions_void)
{
    const ELEMENT *row = row_void;
    ELEMENT *to = to_void;
    POSITION *positions = positions_void;
    for (size_t i = 0; i < before; i++) {
        to[i] = row[0];
    }
    memcpy(to + before, row, n * sizeof *to);
    for (size_t i = 0; i < after; i++) {
        to[before + n + i] = row[n - 1];
    }
    if (positions != NULL) {
        const POSITION start = (POSITION)first;
        for (size_t i = 0; i < before; i++) {
            positions[i] = start;
        }
        for (size_t i = 0; i < n; i++) {
            positions[before + i] = start + (POSITION)i;
        }
        for (size_t i = 0; i < after; i++) {
            positions[before + n + i] = start + (POSITION)(n - 1);
        }
    }
}

static void NAME(every)(size_t n, size_t stride, const void *from_void, void *to_void)
{
    const ELEMENT *restrict from = from_void;
    ELEMENT *restrict to = to_void;
    if (stride == 2) { /* compilers vectorize a loop with a constant step */
        for (size_t i = 0; i < n; i++) {
            to[i] = from[2 * i];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i * stride];
    }
}

static void NAME(widen_positions)(size_t n, const void *positions_void, int64_t *to)
{
    const POSITION *positions = positions_void;
    for (size_t i = 0; i < n; i++) {
        to[i] = positions[i];
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
#undef POSITION
#undef NAME
