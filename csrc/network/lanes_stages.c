/* Runs the stages of a network with lanes across images. */
#include "network/lanes_stages.h"

#include <string.h>

#include "base/cancel.h"
#include "network/lanes_winograd.h"

/* A convolution by its definition. */
static void run_direct(const struct lanes_plan *p, const struct lanes_stage *s, const char *input,
                       char *output, char *choices)
{
    const struct layer *l = &s->layer;
    const size_t vector = p->lanes * p->size, chosen = s->out.size.h * s->out.size.w;
    struct lanes_conv c = {
        .filter_step = s->depth,
        .depth_step = 1,
        .pixel_offsets = s->pixels,
        .tap_offsets = s->taps,
        .depth = s->depth,
        .chain = s->chain,
        .relu = s->relu,
        .pool = s->pool,
        .map_step = s->out.plane * p->lanes,
        .output_offsets = s->outputs,
        .choice_step = chosen * p->lanes,
        .choice_offsets = s->choices,
    };
    lanes_clear_border(p, &s->out, output);
    for (size_t group = 0; group < l->groups; group++) {
        const size_t filter = group * s->filters;
        c.weight = (const char *)l->weight + filter * s->depth * p->size;
        c.bias = l->bias == NULL ? NULL : (const char *)l->bias + filter * p->size;
        for (size_t unit = 0, n; unit < s->units && !cancel_poll_here(); unit += n) {
            n = smaller(s->units - unit, s->unit_block);
            const size_t in = group * s->channels * s->in.plane +
                              unit * s->unit * l->stride.h * s->in.pitch,
                         out = filter * s->out.plane + s->out.first + unit * s->out.pitch,
                         chosen_at = filter * chosen + unit * s->out.size.w;
            c.input = input + in * vector;
            c.output = output + out * vector;
            c.choices = choices == NULL ? NULL : choices + chosen_at * vector;
            p->kernels->conv(&c, s->filters, n * s->unit_pixels);
        }
    }
}

/* Winograd's algorithm turns an infinity into NaN for a whole tile. So an image with a result that
 * is not finite is calculated again by the definition. */
static void run_conv2d(const struct lanes_plan *p, const struct lanes_stage *s, const char *input,
                       char *output, char *choices, char *scratch)
{
    _Alignas(SCRATCH_ALIGN) char check[LANES_VECTOR_BYTES] = {0};
    if (s->winograd.tiles == 0) {
        run_direct(p, s, input, output, choices);
        return;
    }
    lanes_clear_border(p, &s->out, output);
    lanes_winograd_conv2d(p, s, input, output, choices, scratch, check);
    if (lanes_all_finite(p, check)) {
        return;
    }
    char *again = scratch, *chosen = again + lanes_bytes(p, &s->out);
    run_direct(p, s, input, again, choices == NULL ? NULL : chosen);
    lanes_replace(p, check, output, again, s->out.total);
    if (choices != NULL) {
        lanes_replace(p, check, choices, chosen, dense_bytes(p, &s->out) / vector_bytes(p));
    }
}

size_t lanes_stage_scratch(const struct lanes_plan *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->winograd.tiles > 0) {
            most = larger(most, larger(lanes_winograd_conv2d_scratch(p, s),
                                       lanes_bytes(p, &s->out) + dense_bytes(p, &s->out)));
        }
    }
    return scratch_round(most);
}

/* The kernel multiplies vectors of images as its pixels. */
static void run_linear(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                       const char *input, char *output)
{
    enum { MOST = 16 };
    ptrdiff_t inputs[MOST], outputs[MOST];
    const size_t vector = p->lanes * p->size;
    fill_steps(inputs, MOST, s->in.total * p->lanes);
    fill_steps(outputs, MOST, s->out.total * p->lanes);
    struct lanes_conv c = {
        .weight = s->layer.weight,
        .filter_step = s->depth,
        .depth_step = 1,
        .pixel_offsets = inputs,
        .tap_offsets = s->taps,
        .depth = s->depth,
        .chain = s->chain,
        .bias = s->layer.bias,
        .relu = s->relu,
        .map_step = p->lanes,
        .output_offsets = outputs,
    };
    for (size_t v = 0; v < vectors && !cancel_poll_here(); v += MOST) {
        c.input = input + v * s->in.total * vector;
        c.output = output + v * s->out.total * vector;
        p->kernels->conv(&c, s->filters, smaller(vectors - v, MOST));
    }
}

/* The taps of window `at` along one axis whose pixels are inside the image are [first_inside,
 * last_inside). */
static size_t first_inside(size_t at, size_t stride, size_t padding, size_t dilation)
{
    const size_t begin = at * stride;
    return begin >= padding ? 0 : size_parts(padding - begin, dilation);
}

static size_t last_inside(size_t at, size_t stride, size_t padding, size_t dilation, size_t kernel,
                          size_t in)
{
    const size_t begin = at * stride, end = in + padding;
    return begin >= end ? 0 : smaller(kernel, size_parts(end - begin, dilation));
}

size_t lanes_pool_window(const struct lanes_plan *p, const struct lanes_stage *s, size_t y,
                         size_t x, struct lanes_window *w)
{
    const struct layer *l = &s->layer;
    const struct extent2 in = s->in.size;
    const size_t top = first_inside(y, l->stride.h, l->before.h, l->dilation.h),
                 bottom =
                     last_inside(y, l->stride.h, l->before.h, l->dilation.h, l->kernel.h, in.h),
                 left = first_inside(x, l->stride.w, l->before.w, l->dilation.w),
                 right = last_inside(x, l->stride.w, l->before.w, l->dilation.w, l->kernel.w, in.w);
    w->rows = bottom > top ? bottom - top : 0;
    w->columns = right > left ? right - left : 0;
    w->row_step = l->dilation.h * s->in.pitch * p->lanes;
    w->column_step = l->dilation.w * p->lanes;
    if (w->rows == 0 || w->columns == 0) {
        w->rows = 0;
        return 0;
    }
    return (y * l->stride.h + top * l->dilation.h - l->before.h) * s->in.pitch + x * l->stride.w +
           left * l->dilation.w - l->before.w;
}

static void run_max_pool2d(const struct lanes_plan *p, const struct lanes_stage *s,
                           const char *input, char *output, char *choices)
{
    const size_t vector = p->lanes * p->size;
    lanes_clear_border(p, &s->out, output);
    for (size_t y = 0; y < s->out.size.h && !cancel_poll_here(); y++) {
        for (size_t x = 0; x < s->out.size.w; x++) {
            struct lanes_window w;
            const size_t at = lanes_pool_window(p, s, y, x, &w);
            for (size_t c = 0; c < s->in.channels; c++) {
                const size_t to = c * s->out.plane + s->out.first + y * s->out.pitch + x,
                             chosen = (c * s->out.size.h + y) * s->out.size.w + x;
                p->kernels->max_pool(output + to * vector,
                                     choices == NULL ? NULL : choices + chosen * vector,
                                     input + (c * s->in.plane + s->in.first + at) * vector, &w);
            }
        }
    }
}

static void run_relu(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                     const char *input, char *output)
{
    const size_t vector = p->lanes * p->size;
    if (is_dense(&s->out)) {
        p->kernels->relu(output, input, vectors * s->out.total);
        return;
    }
    lanes_clear_border(p, &s->out, output);
    for (size_t i = 0; i < s->out.channels * s->out.size.h; i++) {
        const size_t c = i / s->out.size.h, y = i % s->out.size.h;
        p->kernels->relu(output + (c * s->out.plane + s->out.first + y * s->out.pitch) * vector,
                         input + (c * s->in.plane + s->in.first + y * s->in.pitch) * vector,
                         s->out.size.w);
    }
}

void lanes_run_stage(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                     const void *input, void *output, void *choices, void *scratch)
{
    if (s->layer.kind == LAYER_CONV2D) {
        run_conv2d(p, s, input, output, choices, scratch);
    } else if (s->layer.kind == LAYER_LINEAR) {
        run_linear(p, s, vectors, input, output);
    } else if (s->layer.kind == LAYER_MAX_POOL2D) {
        run_max_pool2d(p, s, input, output, choices);
    } else {
        run_relu(p, s, vectors, input, output);
    }
}
