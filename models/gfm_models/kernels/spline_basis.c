/* The B-splines of points: in which interval of equal length each lies, and what is not zero there. */

#include <stdint.h>
#include <string.h>

#include "basis.h"

/* Fill places [2 n_points + n_intervals + 1]. One after the other, it holds

   intervals [n_points]         where each point lies
   points [n_points]            the points by interval, those of one interval as they were
   first [n_intervals + 1]      where the points of each interval begin */
void spline_places(
    int64_t n_points, int64_t n_intervals, double scale, const double *lengths, int64_t *places
) {
    int64_t *points = places + n_points, *first = points + n_points;
    memset(first, 0, (n_intervals + 1) * sizeof *first);
    for (int64_t i = 0; i < n_points; i++) {
        places[i] = interval_of(lengths[i] * scale, n_intervals);
        first[places[i] + 1]++;
    }
    for (int64_t k = 0; k < n_intervals; k++) first[k + 1] += first[k];
    for (int64_t i = 0; i < n_points; i++) points[first[places[i]]++] = i;
    for (int64_t k = n_intervals; k > 0; k--) first[k] = first[k - 1];
    first[0] = 0;
}

/* The splines that are not zero at each point, or one of their derivatives by the length. */
void spline_basis(
    int64_t n_points, int64_t n_intervals, double scale, int derivative, const double *lengths, double *weights
) {
    double powers[N_ROWS][BASIS_WIDTH] = {{0}}; /* of the derivative */
    for (int power = derivative; power <= DEGREE; power++) {
        double factor = 1. / BASIS_UNIT;
        for (int d = 0; d < derivative; d++) factor *= scale * (power - d);
        for (int j = 0; j < N_ROWS; j++) powers[power - derivative][j] = factor * BASIS[power][j];
    }
    for (int64_t i = 0; i < n_points; i++) {
        const double x = lengths[i] * scale, t = x - (double)interval_of(x, n_intervals);
        double b[BASIS_WIDTH] = {0};
        for (int power = DEGREE; power >= 0; power--)
            for (int j = 0; j < BASIS_WIDTH; j++) b[j] = b[j] * t + powers[power][j];
        memcpy(weights + i * N_ROWS, b, N_ROWS * sizeof *b);
    }
}
