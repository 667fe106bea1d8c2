/* The edge operation straight from the edge vectors, for inference: value and first derivatives.

   As in edge_operation.c, but Y[e] = envelope(length) · harmonics(direction), and R[e, p, c] is a spline of degree
   DEGREE with equally long intervals from 0 on,

   R(x / scale) = Σ_{j = 0 … DEGREE} B_j(x - k) rows[k + j, p, c],   k = floor(x).

   Neither is ever written to memory, and derivatives are those of these very functions. Vectors and gradients by
   them are double. `gradient_block` and its like are generated (generate.py). */

#include "basis.h"
#include "edges.h"
#include "vectors.h"

#include "paths.h"

#include "direction.h"

typedef struct {
    const real *rows; /* [n_intervals + DEGREE, N_PATHS, channels] */
    int64_t n_intervals;
    double scale;  /* intervals per Å */
    double cutoff; /* Å, of the envelope */
} Radial;

typedef struct {
    Edges edges;
    Radial radial;
    const double *vectors;
    const real *features, *cotangent;
    real *value, *to_features;
    double *to_vectors;
} Task;

/* What an edge takes of the spline: rows from `first` on, their weights, and the derivatives of these by the length. */
typedef struct {
    const real *first;
    real weights[N_ROWS], slopes[N_ROWS];
} Reading;

INLINE Reading read_radial(const Radial *radial, double length, int64_t channels) {
    const double x = length * radial->scale;
    const int64_t k = interval_of(x, radial->n_intervals);
    const double t = x - (double)k;
    Reading reading = {.first = radial->rows + k * N_PATHS * channels};
    double b[BASIS_WIDTH] = {0}, db[BASIS_WIDTH] = {0};
    for (int power = DEGREE; power >= 0; power--)
        for (int j = 0; j < BASIS_WIDTH; j++) {
            db[j] = db[j] * t + b[j];
            b[j] = b[j] * t + BASIS[power][j];
        }
    for (int j = 0; j < N_ROWS; j++) {
        reading.weights[j] = (real)(b[j] / BASIS_UNIT);
        reading.slopes[j] = (real)(db[j] * (radial->scale / BASIS_UNIT));
    }
    return reading;
}

/* The weight of a path, and in the same reading of the rows its derivative. */
INLINE vec spline(const Reading *reading, int64_t at, int64_t channels) {
    vec sum = reading->weights[0] * load(reading->first + at);
    for (int j = 1; j < N_ROWS; j++)
        sum += reading->weights[j] * load(reading->first + at + j * N_PATHS * channels);
    return sum;
}

INLINE vec spline_and_slope(const Reading *reading, int64_t at, int64_t channels, vec *slope) {
    vec sum = {0}, change = {0};
    for (int j = 0; j < N_ROWS; j++) {
        const vec row = load(reading->first + at + j * N_PATHS * channels);
        sum += reading->weights[j] * row;
        change += reading->slopes[j] * row;
    }
    *slope = change;
    return sum;
}

#include "from_vectors_blocks.h"

INLINE void couple_direction(const Direction *direction, real *couplings) {
    real y[N_HARMONICS];
    for (int m = 0; m < N_HARMONICS; m++) y[m] = (real)(direction->envelope * direction->harmonics[m]);
    couple(y, couplings);
}

/* ---- sums by receiver ---- */

INLINE void value_channels(
    const Task *task, real couplings[TILE][N_COUPLINGS], const Reading *readings, int64_t edge, int n, real *value,
    int64_t c
) {
    const int64_t channels = task->edges.channels;
    vec a[N_OUT];
    for (int m = 0; m < N_OUT; m++) a[m] = load(value + m * channels + c);
    for (int i = 0; i < n; i++) {
        const real *h = ROW(task->features, task->edges.senders[edge + i], N_IN * channels) + c;
        value_block(couplings[i], &readings[i], h, a, c, channels);
    }
    for (int m = 0; m < N_OUT; m++) store(value + m * channels + c, a[m]);
}

static void value_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[TILE][N_COUPLINGS];
    Reading readings[TILE];
    for (int64_t node = begin; node < end; node++) {
        real *value = ROW(task->value, node, N_OUT * channels);
        memset(value, 0, N_OUT * channels * sizeof(real));
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge += TILE) {
            const int n = (int)MIN(TILE, edges->first_in[node + 1] - edge);
            for (int i = 0; i < n; i++) {
                const Direction direction = direction_of(task->vectors + 3 * (edge + i), task->radial.cutoff);
                couple_direction(&direction, couplings[i]);
                readings[i] = read_radial(&task->radial, direction.length, channels);
            }
            for (int64_t c = 0; c < channels; c += LANES)
                value_channels(task, couplings, readings, edge, n, value, c);
        }
    }
}

/* ---- sums by sender; without `to_features` every edge by itself ---- */

INLINE void gradient_edge(const Task *task, int64_t edge, const real *h, const real *g, real *to_h) {
    const int64_t channels = task->edges.channels;
    const Direction direction = direction_of(task->vectors + 3 * edge, task->radial.cutoff);
    const Reading reading = read_radial(&task->radial, direction.length, channels);
    real couplings[N_COUPLINGS], to_harmonics[N_HARMONICS];
    vec sums[N_COUPLINGS] = {0}, slope = {0};
    couple_direction(&direction, couplings);
    for (int64_t c = 0; c < channels; c += LANES)
        if (to_h) gradient_block(couplings, &reading, h + c, g + c, &slope, sums, to_h + c, c, channels);
        else direction_block(couplings, &reading, h + c, g + c, &slope, sums, c, channels);
    couple_adjoint(sums, to_harmonics);
    direction_adjoint(&direction, sum_lanes(slope), to_harmonics, task->to_vectors + 3 * edge);
}

static void gradient_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t n_h = N_IN * edges->channels, n_g = N_OUT * edges->channels;
    for (int64_t node = begin; node < end; node++) {
        real *to_h = ROW(task->to_features, node, n_h);
        memset(to_h, 0, n_h * sizeof(real));
        for (int64_t place = edges->first_out[node]; place < edges->first_out[node + 1]; place++) {
            const int64_t edge = edges->by_sender[place];
            const real *g = ROW(task->cotangent, edges->receivers[edge], n_g);
            gradient_edge(task, edge, ROW(task->features, node, n_h), g, to_h);
        }
    }
}

static void direction_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t n_h = N_IN * edges->channels, n_g = N_OUT * edges->channels;
    for (int64_t node = begin; node < end; node++)
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge++) {
            const real *h = ROW(task->features, edges->senders[edge], n_h);
            gradient_edge(task, edge, h, ROW(task->cotangent, node, n_g), 0);
        }
}

/* ---- what is called from outside ---- */

int edge_lanes(void) { return LANES; }

int value_from_vectors(
    const Shape *shape, const Radial *radial, const double *vectors, const real *features, real *value, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .radial = *radial, .vectors = vectors, .features = features, .value = value
    };
    share_out(value_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}

/* Adds to `to_vectors`; sets `to_features` unless it is null. */
int gradient_from_vectors(
    const Shape *shape, const Radial *radial, const double *vectors, const real *features, const real *cotangent,
    double *to_vectors, real *to_features, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .radial = *radial, .vectors = vectors, .features = features,
        .cotangent = cotangent, .to_vectors = to_vectors, .to_features = to_features
    };
    if (to_features) share_out(gradient_nodes, &task, task.edges.first_out, shape->n_senders, n_threads);
    else share_out(direction_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}
