#pragma once

#include "network/lanes_plan.h"

/* The pixels of the window of output pixel (y, x) of a pool. Returns the offset of the first one,
 * in vectors from the first pixel of the input. */
size_t lanes_pool_window(const struct lanes_plan *plan, const struct lanes_stage *stage, size_t y,
                         size_t x, struct lanes_window *window);

/*
 * Runs a stage on the calling thread. input and output hold `vectors` maps one after another;
 * vectors is 1 for stages that read images. Writes the border of the output. choices may be NULL.
 * Otherwise the stage pools, and choices gets the number of the chosen pixel in its window for each
 * element of the output (without its border), as an integer of the size of an element.
 */
void lanes_run_stage(const struct lanes_plan *plan, const struct lanes_stage *stage, size_t vectors,
                     const void *input, void *output, void *choices, void *scratch);

/* Bytes of `scratch`, enough for every stage; a multiple of SCRATCH_ALIGN. */
size_t lanes_stage_scratch(const struct lanes_plan *plan);
