/* The edge operation T(R, Y, h) on a CPU, with its first and second derivatives.

   F(G, R, Y, h) = Σ_{edges e} Σ_{paths p} Σ_{m1, m3, c} K_p[m1, m3] R[e, p, c] h[sender, m1, c] G[receiver, m3, c],
   K_p[m1, m3] = Σ_{m2} C_p[m1, m2, m3] Y[e, m2]

   is linear in each of its four arguments. The functions at the end of this file are

   edge_value       T, the gradient of F by G;
   edge_gradient    the gradients of F by R, Y and h;
   edge_tangent     the change of T     when (R, Y, h) change by (uR, uY, uh);
   edge_curvature   the change of these gradients when they do.

   Two files are generated (generate.py): `paths.h` has the numbers N_PATHS, N_IN, N_HARMONICS, N_OUT, N_COUPLINGS
   and K as couple() and couple_adjoint(), `blocks.h` what each of the four does with LANES channels of an edge.

   A sum over neighbours is taken by one thread in the order of the edges, so that a result does not depend on
   the number of threads. Sums by receiver follow the edges as they are, sums by sender follow `by_sender`. */

#include "edges.h"
#include "vectors.h"

#include "paths.h"

#include "blocks.h"

typedef struct {
    const real *radial, *harmonics, *features;
} Arguments;

typedef struct {
    Edges edges;
    Arguments at, change;
    const real *cotangent;
    real *value, *radial, *harmonics, *features;
} Task;

/* Ask for LANES channels of every path of an edge that is worked on later. */
#define PREFETCH(row, c, write)                                                                                  \
    for (int path = 0; path < N_PATHS; path++) __builtin_prefetch((row) + path * channels + (c), write)

/* ---- sums by receiver ---- */

INLINE void value_channels(
    const Task *task, real couplings[TILE][N_COUPLINGS], int64_t edge, int n, real *value, int64_t c
) {
    const int64_t channels = task->edges.channels;
    vec a[N_OUT];
    for (int m = 0; m < N_OUT; m++) a[m] = load(value + m * channels + c);
    for (int i = 0; i < n; i++)
        value_block(
            couplings[i],
            ROW(task->at.radial, edge + i, N_PATHS * channels) + c,
            ROW(task->at.features, task->edges.senders[edge + i], N_IN * channels) + c,
            a, channels
        );
    for (int m = 0; m < N_OUT; m++) store(value + m * channels + c, a[m]);
}

static void value_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[TILE][N_COUPLINGS];
    for (int64_t node = begin; node < end; node++) {
        real *value = ROW(task->value, node, N_OUT * channels);
        memset(value, 0, N_OUT * channels * sizeof(real));
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge += TILE) {
            const int n = (int)MIN(TILE, edges->first_in[node + 1] - edge);
            for (int i = 0; i < n; i++)
                couple(ROW(task->at.harmonics, edge + i, N_HARMONICS), couplings[i]);
            for (int64_t c = 0; c < channels; c += LANES)
                value_channels(task, couplings, edge, n, value, c);
        }
    }
}

INLINE void tangent_channels(
    const Task *task, real couplings[TILE][N_COUPLINGS], real changes[TILE][N_COUPLINGS], int64_t edge, int n,
    real *value, int64_t c
) {
    const int64_t channels = task->edges.channels;
    vec a[N_OUT];
    for (int m = 0; m < N_OUT; m++) a[m] = load(value + m * channels + c);
    for (int i = 0; i < n; i++) {
        const int64_t radial = (edge + i) * N_PATHS * channels + c;
        const int64_t features = task->edges.senders[edge + i] * N_IN * channels + c;
        const int64_t ahead = MIN(edge + i + TILE, task->edges.n_edges - 1) * N_PATHS * channels;
        PREFETCH(task->at.radial + ahead, c, 0);
        PREFETCH(task->change.radial + ahead, c, 0);
        tangent_block(
            couplings[i], changes[i], task->at.radial + radial, task->change.radial + radial,
            task->at.features + features, task->change.features + features, a, channels
        );
    }
    for (int m = 0; m < N_OUT; m++) store(value + m * channels + c, a[m]);
}

static void tangent_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[TILE][N_COUPLINGS], changes[TILE][N_COUPLINGS];
    for (int64_t node = begin; node < end; node++) {
        real *value = ROW(task->value, node, N_OUT * channels);
        memset(value, 0, N_OUT * channels * sizeof(real));
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge += TILE) {
            const int n = (int)MIN(TILE, edges->first_in[node + 1] - edge);
            for (int i = 0; i < n; i++) {
                couple(ROW(task->at.harmonics, edge + i, N_HARMONICS), couplings[i]);
                couple(ROW(task->change.harmonics, edge + i, N_HARMONICS), changes[i]);
            }
            for (int64_t c = 0; c < channels; c += LANES)
                tangent_channels(task, couplings, changes, edge, n, value, c);
        }
    }
}

/* ---- sums by sender ---- */

#define AHEAD 3

INLINE int64_t edge_ahead(const Edges *edges, int64_t place) {
    return edges->by_sender[MIN(place + AHEAD, edges->n_edges - 1)];
}

static void gradient_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[N_COUPLINGS];
    vec sums[N_COUPLINGS];
    for (int64_t node = begin; node < end; node++) {
        const real *h = ROW(task->at.features, node, N_IN * channels);
        real *to_h = ROW(task->features, node, N_IN * channels);
        memset(to_h, 0, N_IN * channels * sizeof(real));
        for (int64_t place = edges->first_out[node]; place < edges->first_out[node + 1]; place++) {
            const int64_t edge = edges->by_sender[place];
            const real *r = ROW(task->at.radial, edge, N_PATHS * channels);
            const real *g = ROW(task->cotangent, edges->receivers[edge], N_OUT * channels);
            real *to_r = ROW(task->radial, edge, N_PATHS * channels);
            const int64_t ahead = edge_ahead(edges, place) * N_PATHS * channels;
            couple(ROW(task->at.harmonics, edge, N_HARMONICS), couplings);
            memset(sums, 0, sizeof sums);
            for (int64_t c = 0; c < channels; c += LANES) {
                PREFETCH(task->at.radial + ahead, c, 0);
                PREFETCH(task->radial + ahead, c, 1);
                gradient_block(couplings, r + c, h + c, g + c, to_r + c, sums, to_h + c, channels);
            }
            couple_adjoint(sums, ROW(task->harmonics, edge, N_HARMONICS));
        }
    }
}

static void curvature_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[N_COUPLINGS], changes[N_COUPLINGS];
    vec sums[N_COUPLINGS];
    for (int64_t node = begin; node < end; node++) {
        const real *h = ROW(task->at.features, node, N_IN * channels);
        const real *uh = ROW(task->change.features, node, N_IN * channels);
        real *to_h = ROW(task->features, node, N_IN * channels);
        memset(to_h, 0, N_IN * channels * sizeof(real));
        for (int64_t place = edges->first_out[node]; place < edges->first_out[node + 1]; place++) {
            const int64_t edge = edges->by_sender[place];
            const real *r = ROW(task->at.radial, edge, N_PATHS * channels);
            const real *ur = ROW(task->change.radial, edge, N_PATHS * channels);
            const real *g = ROW(task->cotangent, edges->receivers[edge], N_OUT * channels);
            real *to_r = ROW(task->radial, edge, N_PATHS * channels);
            const int64_t ahead = edge_ahead(edges, place) * N_PATHS * channels;
            couple(ROW(task->at.harmonics, edge, N_HARMONICS), couplings);
            couple(ROW(task->change.harmonics, edge, N_HARMONICS), changes);
            memset(sums, 0, sizeof sums);
            for (int64_t c = 0; c < channels; c += LANES) {
                PREFETCH(task->at.radial + ahead, c, 0);
                PREFETCH(task->change.radial + ahead, c, 0);
                PREFETCH(task->radial + ahead, c, 1);
                curvature_block(
                    couplings, changes, r + c, ur + c, h + c, uh + c, g + c, to_r + c, sums, to_h + c, channels
                );
            }
            couple_adjoint(sums, ROW(task->harmonics, edge, N_HARMONICS));
        }
    }
}

/* ---- what is called from outside ---- */

int edge_lanes(void) { return LANES; }

int edge_value(const Shape *shape, const Arguments *at, real *value, int n_threads) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {.edges = edges_of(shape), .at = *at, .value = value};
    share_out(value_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}

int edge_tangent(
    const Shape *shape, const Arguments *at, const Arguments *change, real *value, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {.edges = edges_of(shape), .at = *at, .change = *change, .value = value};
    share_out(tangent_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}

int edge_gradient(
    const Shape *shape, const Arguments *at, const real *cotangent, real *radial, real *harmonics,
    real *features, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .at = *at, .cotangent = cotangent,
        .radial = radial, .harmonics = harmonics, .features = features
    };
    share_out(gradient_nodes, &task, task.edges.first_out, shape->n_senders, n_threads);
    return OK;
}

int edge_curvature(
    const Shape *shape, const Arguments *at, const Arguments *change, const real *cotangent, real *radial,
    real *harmonics, real *features, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .at = *at, .change = *change, .cotangent = cotangent,
        .radial = radial, .harmonics = harmonics, .features = features
    };
    share_out(curvature_nodes, &task, task.edges.first_out, shape->n_senders, n_threads);
    return OK;
}
