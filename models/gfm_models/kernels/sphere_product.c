/* Products at the nodes on a CPU, with their first and second derivatives.

   With u the features, w the weights and G a cotangent, of every node and channel,

   f(s) = Σ_m Y_m(s) u_m,   out_m = <Y_m(s) P(f(s))>,   P(f) = Σ_k w_k f^k,   F = Σ G · out.

   The functions at the end of this file are

   product_value       out;
   product_gradient    the gradients of F by u and w;
   product_tangent     the change of out when (u, w) change by (du, dw);
   product_curvature   the change of these gradients when they do.

   `product.h` is generated (product_generate.py): the numbers N_IN, N_OUT and CORRELATION, and what each of the four
   does with LANES channels of a node. Nodes and channels do not see each other. */

#include "threads.h"
#include "vectors.h"

#include "product.h"

typedef struct {
    int64_t n_nodes, channels; /* channels: a multiple of LANES */
} Shape;

typedef struct {
    const real *features, *weights;
} Arguments;

typedef struct {
    int64_t channels;
    Arguments at, change;
    const real *cotangent;
    real *value, *features, *weights;
} Task;

/* For every node and LANES channels of it. */
#define FOR_BLOCKS(node, c)                                                                                      \
    for (int64_t node = begin; node < end; node++)                                                               \
        for (int64_t c = 0; c < task->channels; c += LANES)

#define FEATURES(array) (ROW(array, node, N_IN * task->channels) + c)
#define WEIGHTS(array) (ROW(array, node, CORRELATION * task->channels) + c)
#define VALUE(array) (ROW(array, node, N_OUT * task->channels) + c)

static void value_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    FOR_BLOCKS(node, c)
        value_block(FEATURES(task->at.features), WEIGHTS(task->at.weights), VALUE(task->value), task->channels);
}

static void tangent_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    FOR_BLOCKS(node, c)
        tangent_block(
            FEATURES(task->at.features), WEIGHTS(task->at.weights),
            FEATURES(task->change.features), WEIGHTS(task->change.weights),
            VALUE(task->value), task->channels
        );
}

static void gradient_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    FOR_BLOCKS(node, c)
        gradient_block(
            VALUE(task->cotangent), FEATURES(task->at.features), WEIGHTS(task->at.weights),
            FEATURES(task->features), WEIGHTS(task->weights), task->channels
        );
}

static void curvature_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    FOR_BLOCKS(node, c)
        curvature_block(
            VALUE(task->cotangent), FEATURES(task->at.features), WEIGHTS(task->at.weights),
            FEATURES(task->change.features), WEIGHTS(task->change.weights),
            FEATURES(task->features), WEIGHTS(task->weights), task->channels
        );
}

/* ---- what is called from outside ---- */

int product_lanes(void) { return LANES; }

void product_value(const Shape *shape, const Arguments *at, real *value, int n_threads) {
    const Task task = {.channels = shape->channels, .at = *at, .value = value};
    share_equally(value_nodes, &task, shape->n_nodes, n_threads);
}

void product_tangent(
    const Shape *shape, const Arguments *at, const Arguments *change, real *value, int n_threads
) {
    const Task task = {.channels = shape->channels, .at = *at, .change = *change, .value = value};
    share_equally(tangent_nodes, &task, shape->n_nodes, n_threads);
}

void product_gradient(
    const Shape *shape, const Arguments *at, const real *cotangent, real *features, real *weights, int n_threads
) {
    const Task task = {
        .channels = shape->channels, .at = *at, .cotangent = cotangent, .features = features, .weights = weights
    };
    share_equally(gradient_nodes, &task, shape->n_nodes, n_threads);
}

void product_curvature(
    const Shape *shape, const Arguments *at, const Arguments *change, const real *cotangent, real *features,
    real *weights, int n_threads
) {
    const Task task = {
        .channels = shape->channels, .at = *at, .change = *change, .cotangent = cotangent,
        .features = features, .weights = weights
    };
    share_equally(curvature_nodes, &task, shape->n_nodes, n_threads);
}
