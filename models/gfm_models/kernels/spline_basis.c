/* The B-splines of points: in which interval of equal length each lies, and what is not zero there. */

#include <stdint.h>
#include <string.h>

#define DEGREE 5
#define N_ROWS (DEGREE + 1)

/* Points that are worked on at once. */
#define BLOCK 8

static inline int64_t interval_of(double x, int64_t n_intervals) {
    const double last = (double)(n_intervals - 1);
    return x >= 0 ? (int64_t)(x < last ? x : last) : 0; /* 0 for NaN, too */
}

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

/* Uniform B-splines by de Boor's recursion; a derivative is a difference of splines of one degree less. */
void spline_basis(
    int64_t n_points, int64_t n_intervals, double scale, int derivative, const double *lengths, double *weights
) {
    for (int64_t start = 0; start < n_points; start += BLOCK) {
        const int n = (int)(n_points - start < BLOCK ? n_points - start : BLOCK);
        double t[BLOCK] = {0}, b[N_ROWS + 1][BLOCK] = {{0}};
        for (int i = 0; i < n; i++) {
            const double x = lengths[start + i] * scale;
            t[i] = x - (double)interval_of(x, n_intervals);
        }
        for (int i = 0; i < BLOCK; i++) b[1][i] = 1; /* b[j + 1] is the j-th spline, b[0] none */
        for (int degree = 1; degree <= DEGREE; degree++)
            for (int j = degree; j >= 0; j--)
                for (int i = 0; i < BLOCK; i++) {
                    const double lower = b[j][i], upper = b[j + 1][i];
                    b[j + 1][i] = degree > DEGREE - derivative
                                      ? scale * (lower - upper)
                                      : ((t[i] + degree - j) * lower + (j + 1 - t[i]) * upper) / degree;
                }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < N_ROWS; j++)
                weights[(start + i) * N_ROWS + j] = derivative > DEGREE ? 0 * t[i] : b[j + 1][i];
    }
}
