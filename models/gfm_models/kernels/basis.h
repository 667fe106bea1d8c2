/* Uniform B-splines on an interval, as polynomials of 0 <= t < 1: for training and inference. */

#ifndef BASIS_H
#define BASIS_H

#include <stdint.h>

#define DEGREE 5
#define N_ROWS (DEGREE + 1)

/* 120 times the j-th spline that is not zero on the interval: BASIS[power][j] t^power. Filled up to whole vectors. */
#define BASIS_WIDTH 8
#define BASIS_UNIT 120
static const double BASIS[N_ROWS][BASIS_WIDTH] = {
    {1, 26, 66, 26, 1, 0},
    {-5, -50, 0, 50, 5, 0},
    {10, 20, -60, 20, 10, 0},
    {-10, 20, 0, -20, 10, 0},
    {5, -20, 30, -20, 5, 0},
    {-1, 5, -10, 10, -5, 1},
};

/* In which of `n_intervals` intervals of length 1 from 0 on; the last one goes on. */
static inline int64_t interval_of(double x, int64_t n_intervals) {
    const double last = (double)(n_intervals - 1);
    return x >= 0 ? (int64_t)(x < last ? x : last) : 0; /* 0 for NaN, too */
}

#endif
