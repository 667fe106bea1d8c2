/* The edges of a graph by receiver and by sender. */

#include <stdint.h>
#include <string.h>

enum { OK, NO_SENDER, NO_RECEIVER, NOT_SORTED };

/* Fill `order` from edge_index [2, n_edges]. One after the other, it holds

   n_senders, n_receivers [1]       what it was made for
   senders, receivers [n_edges]     edge_index
   by_sender [n_edges]              the edges by sender, those of one sender as they were
   first_in [n_receivers + 1]          where the edges of each receiver begin
   first_out [n_senders + 1]         where the edges of each sender begin in by_sender */
int edge_order(
    int64_t n_senders, int64_t n_receivers, int64_t n_edges, const int64_t *edge_index, int64_t *order
) {
    const int64_t *senders = edge_index, *receivers = edge_index + n_edges;
    int64_t *by_sender = order + 2 + 2 * n_edges, *first_in = by_sender + n_edges, *first_out = first_in + n_receivers + 1;
    memset(first_in, 0, (n_receivers + 1 + n_senders + 1) * sizeof *order);
    order[0] = n_senders;
    order[1] = n_receivers;
    memcpy(order + 2, edge_index, 2 * n_edges * sizeof *order);
    for (int64_t edge = 0; edge < n_edges; edge++) {
        const int64_t sender = senders[edge], receiver = receivers[edge];
        if (sender < 0 || sender >= n_senders) return NO_SENDER;
        if (receiver < 0 || receiver >= n_receivers) return NO_RECEIVER;
        if (edge > 0 && receiver < receivers[edge - 1]) return NOT_SORTED;
        first_in[receiver + 1]++;
        first_out[sender + 1]++;
    }
    for (int64_t node = 0; node < n_receivers; node++) first_in[node + 1] += first_in[node];
    for (int64_t node = 0; node < n_senders; node++) first_out[node + 1] += first_out[node];
    for (int64_t edge = 0; edge < n_edges; edge++) by_sender[first_out[senders[edge]]++] = edge;
    for (int64_t node = n_senders; node > 0; node--) first_out[node] = first_out[node - 1];
    first_out[0] = 0;
    return OK;
}
