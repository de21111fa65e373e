#pragma once

#include <stddef.h>
#include <stdint.h>

/* Sorts n numbers in ascending order. buffer has room for n more. */
void sort_numbers(uint64_t *numbers, uint64_t *buffer, size_t n);
