"""What a run prints: labels that were found, who owns what, how much was seen, errors."""

from collections.abc import Mapping

from gfm_models.loss import LABEL_KINDS

from gfm_pretrain.data.deal import Deal
from gfm_pretrain.data.labels import FoundLabel
from gfm_pretrain.evaluate import Metrics
from gfm_pretrain.process import World
from gfm_pretrain.setup import Setup
from gfm_pretrain.table import text_table

COLUMNS = (
    ("energy MAE meV/atom", "energy_mae_per_atom", 1e3),
    ("forces MAE meV/Å", "forces_mae", 1e3),
    ("forces RMSE meV/Å", "forces_rmse", 1e3),
    ("stress MAE meV/Å³", "stress_mae", 1e3),
)
"""Title, metric, and what turns eV into the unit of the title."""


def label_table(setup: Setup) -> str:
    """Which labels each file has, under which keys, for how many structures."""
    rows = [
        (name, split, table.n_structures, *(_found(getattr(table, kind)) for kind in LABEL_KINDS))
        for name, summary in setup.summaries.items()
        for split, table in summary.tables.items()
    ]
    return text_table(("head", "file", "structures", *LABEL_KINDS), rows)


def placement_table(setup: Setup, world: World) -> str:
    """Elements, reference energies and owners of each head."""
    rows = [
        (
            name,
            summary.config.level_of_theory,
            " ".join(summary.config.elements),
            summary.config.reference_origin,
            f"{_ranks(setup.owners[name])} of {world.size}",
        )
        for name, summary in setup.summaries.items()
    ]
    return text_table(("head", "level of theory", "elements", "E0 from", "ranks"), rows)


def cost_line(setup: Setup) -> str:
    """What a step costs, and what heads are placed by."""
    cost, measured = setup.cost, setup.measured
    dealt = f"structures are dealt by {cost.of_atom:.3g} edges an atom, {cost.of_pass:.3g} a pass"
    if measured is None:
        return f"cost of a step: not measured; {dealt}"
    return (
        f"cost of a step: {1e3 * measured.per_pass:.3g} ms a pass, {1e6 * measured.per_atom:.3g} "
        f"µs an atom, {1e6 * measured.per_edge:.3g} µs an edge ({measured.n_timings} passes timed, "
        f"median residual {100 * measured.residual:.0f} %); {dealt}"
    )


def mixture_table(setup: Setup, deals: Mapping[str, Deal], *, step: int | None = None) -> str:
    """How much of each head the steps before `step`, by default all of the run, have seen."""
    n_steps = setup.total_steps if step is None else step
    rows = []
    for name, summary in setup.summaries.items():
        size, batch = len(summary.indices["train"]), setup.batch_sizes[name]
        seen = deals[name].n_dealt(n_steps)
        rows.append((name, size, f"{float(batch):.6g}", seen, f"{seen / size:.3g}"))
    return text_table(("head", "structures", "per step", "seen", "epochs"), rows)


def error_table(errors: Mapping[str, Mapping[str, Metrics]]) -> str:
    """Errors of each head, one line for each of the named evaluations."""
    heads = list(dict.fromkeys(head for of_heads in errors.values() for head in of_heads))
    rows = [
        (head, when, *(_cell(of_heads[head], key, unit) for _, key, unit in COLUMNS))
        for head in heads
        for when, of_heads in errors.items()
        if of_heads.get(head)
    ]
    return text_table(("head", "", *(title for title, _, _ in COLUMNS)), rows)


def _cell(metrics: Metrics, key: str, unit: float) -> str:
    return f"{metrics[key] * unit:.1f}" if key in metrics else "-"


def _found(label: FoundLabel) -> str:
    """Number of structures that have a label and its key, with the keys that were passed over."""
    if label.key is None:
        return "none"
    passed_over = f", not {' '.join(label.ignored)}" if label.ignored else ""
    return f"{label.n_structures} ({label.key}{passed_over})"


def _ranks(owners: tuple[int, ...]) -> str:
    return ", ".join(map(str, owners))
