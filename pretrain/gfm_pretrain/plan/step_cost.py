"""Where the cost of passes, atoms and edges comes from, that times are predicted with."""

from pathlib import Path

from gfm_models.checkpoint import backbone_config, read_config
from gfm_models.potential import build_potential

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import StepCost
from gfm_pretrain.cost_measurement import Candidate, measure_cost
from gfm_pretrain.cost_record import COST_FILE, read_cost
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.plan.pass_profile import one_thread
from gfm_pretrain.process import open_world
from gfm_pretrain.setup import DTYPES


def choose_cost(
    config: RunConfig, *, given: str | None, measure: bool
) -> tuple[StepCost | None, str]:
    """The cost that is given, or is measured now, or was measured by the run; and its origin.

    Raises:
        ValueError: what is given is not three numbers, or nothing can be measured.
    """
    if given is not None:
        return parse_cost(given), "as given"
    if measure:
        return measure_here(config)
    run = Path(config.run)
    return read_cost(run), f"measured by the run, {run / COST_FILE}"


def measure_here(config: RunConfig) -> tuple[StepCost, str]:
    """Time passes of the run's data on the device of this process; one thread, if it is a CPU.

    Raises:
        ValueError: no structure has an edge.
    """
    base = None if config.init_from is None else read_config(Path(config.init_from))
    architecture = config.architecture if base is None else backbone_config(base)
    heads, candidates = {}, []
    for name, options in config.heads.items():
        store = None if options.store is None else open_store(options.store, verify=False)
        summary, sets = read_head(name, options, cutoff=architecture.cutoff, store=store)
        heads[name] = summary.config
        candidates.append(Candidate(name=name, structures=sets["train"], unit=summary.unit))
    with one_thread(), open_world(device=config.device) as world:
        potential = build_potential(architecture, heads, dtype=DTYPES[config.dtype])
        if config.training.checkpoint_activations:
            potential.backbone.recompute_in_blocks(config.training.checkpoint_edges)
        cost = measure_cost(
            potential.to(world.device),
            candidates,
            loss=config.loss,
            micro_batch_edges=config.training.micro_batch_edges,
            world=world,
        )
    if cost is None:
        raise ValueError("no structure has an edge, so there is nothing to measure")
    where = "one thread of a CPU" if world.device.type == "cpu" else f"one {world.device.type}"
    return cost, f"measured now on {where}, off by {100 * cost.residual:.0f} % in the median"


def parse_cost(text: str) -> StepCost:
    """`20,84,35`: milliseconds of a pass, microseconds of an atom and of an edge.

    Raises:
        ValueError: not three numbers that are not negative, or nothing but zeros.
    """
    try:
        a, b, c = (float(number) for number in text.split(","))
    except ValueError:
        a = b = c = -1.0
    if not (min(a, b, c) >= 0 and max(a, b, c) < float("inf") and b + c > 0):
        raise ValueError(
            f"--cost must be three numbers such as 20,84,35 (ms a pass, µs an atom, µs an edge), "
            f"got '{text}'"
        )
    return StepCost(
        per_pass=1e-3 * a, per_atom=1e-6 * b, per_edge=1e-6 * c, residual=0.0, n_timings=0
    )


def describe_cost(cost: StepCost) -> str:
    """In words, for people."""
    return (
        f"{1e3 * cost.per_pass:.3g} ms a pass, {1e6 * cost.per_atom:.3g} µs an atom, "
        f"{1e6 * cost.per_edge:.3g} µs an edge"
    )
