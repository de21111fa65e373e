#pragma once

#include "vectors/reduce.h"

/* Runs the driver that the plan names. Returns 0, or -1 when memory runs out. */
int contract(const struct reduction *call);
