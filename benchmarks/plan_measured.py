"""Predictions of `gfm plan` beside what ranks of real runs count.

    python benchmarks/plan_measured.py [--steps K]

Trains a model of the default size, heads of 512 hidden units, on the samples in data/ (their
validation files, one head for each, again and again where there are more heads) with mpiexec on 2,
3 and 4 ranks, and compares for the rank that has most, or in the mean over ranks:

    parameters   of the potential
    state        bytes of weights, gradients, moments and averages that the trainer holds
    MB sent      for gradients in a step: predicted by the ring formula; as the engine's reducer
                 counts its messages; and as Linux counts bytes on the loopback interface of a
                 network namespace of the run's own, headers and the message of losses included
    balance      mean over maximal cost of a step
    step         with --times, on a machine that does nothing else, where each rank has a core:
                 simulated from the cost that the engine measured at its start and from two sums
                 that were timed; and the median step

Then the memory of one pass: predicted from a made-up crystal, and the peak that torch's profiler
sees with real structures.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.potential import build_potential
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.cost import StepCost
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.failure import run_main
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.plan.dealing import deal_steps
from gfm_pretrain.plan.held import held_bytes, held_parameters
from gfm_pretrain.plan.machine import Hardware
from gfm_pretrain.plan.memory import parameters_held, state_bytes
from gfm_pretrain.plan.network import Link, Network
from gfm_pretrain.plan.pass_profile import measure_pass, one_thread
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.timeline import Simulator
from gfm_pretrain.plan.traffic import bytes_sent
from gfm_pretrain.plan.workload import read_workload
from gfm_pretrain.process import World, all_reduce_sum, barrier, gather_objects
from gfm_pretrain.setup import set_up
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer
from machine import describe_machine
from torch.profiler import ProfilerActivity, profile

DATA = Path(__file__).parents[1] / "data"
SAMPLES = ("wb97x", "rmd17", "ccsdt_ethanol", "mlearn", "monbtaw")
BATCHES = (16, 16, 16, 4, 8)
CASES = ((2, 2), (2, 5), (3, 5), (4, 5), (4, 16))
"""Ranks and heads."""
WIDTH = 512
SHARD_RANKS = 2
WAYS: dict[str, dict[str, object]] = {
    "wrap-around": {"placement": "wrap-around"},
    "whole-ranks": {"placement": "whole-ranks"},
    "ddp": {"placement": "everywhere", "reduction": "ddp"},
    "sharded": {"placement": "wrap-around", "reduction": "sharded", "shard_ranks": SHARD_RANKS},
}
"""What the configuration says, by the names of strategies."""
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "GLOO_SOCKET_IFNAME": "lo",
    "OMP_NUM_THREADS": "1",
}
SMALL, LARGE = 2**8, 2**22
"""Bytes of the two sums whose times give latency and bandwidth."""


def main() -> int:
    """Run all cases and print both tables; with `--rank`, be one rank of a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, metavar="K", help="steps of a run (8)")
    parser.add_argument("--out", type=Path, default=Path("build/plan_measured"), metavar="FOLDER")
    parser.add_argument("--times", action="store_true", help="compare times, too")
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        config = read_configuration(RunConfig, arguments.rank)
        return run_main(
            lambda world: count(config, world, arguments.steps),
            program="plan_measured",
            device="cpu",
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{describe_machine()}; {arguments.steps} steps\n")
    rows = [
        row
        for n_ranks, n_heads in CASES
        for way in WAYS
        if way != "sharded" or n_ranks % SHARD_RANKS == 0
        for row in compare(arguments, n_ranks, n_heads, way)
    ]
    header = ("ranks", "heads", "way", "quantity", "predicted", "counted", "off by %")
    print(text_table(header, rows), end="\n\n", flush=True)
    header = ("batch", "atoms", "edges", "MiB predicted", "MiB peak", "off by %")
    print(text_table(header, list(passes())))
    return 0


def compare(
    arguments: argparse.Namespace, n_ranks: int, n_heads: int, way: str
) -> Iterator[tuple[object, ...]]:
    """Rows of one case: quantity, predicted, counted."""
    path = write_run(arguments.out, n_heads, way)
    counted = launch(path, n_ranks, arguments.steps)
    case = (n_ranks, n_heads, way)
    of_all = quantities(path, counted, n_ranks, way, n_steps=arguments.steps)
    if not arguments.times:
        of_all.pop("step ms", None)
    for name, (predicted, found) in of_all.items():
        off = f"{100 * (predicted / found - 1):+.2f}" if found else "-"
        yield (*case, name, f"{predicted:.6g}", f"{found:.6g}", off)


def quantities(
    path: Path, counted: Mapping[str, Any], n_ranks: int, way: str, *, n_steps: int
) -> dict[str, tuple[float, float]]:
    """What was predicted and what was counted."""
    ranks, cost = counted["ranks"], StepCost(**counted["cost"])
    workload = read_workload(read_configuration(RunConfig, path), cost)
    n_shards = STRATEGIES[way].n_shards(n_ranks, SHARD_RANKS)
    owners = STRATEGIES[way].owners(workload, n_ranks)
    steps = deal_steps(workload, owners, n_ranks=n_ranks, n_steps=n_steps)
    held = {"n_ranks": n_ranks, "n_shards": n_shards}
    sent = float(bytes_sent(workload, owners, **held).mean()) / 1e6
    found = {
        "parameters, most": (
            float(parameters_held(workload, owners, **held).max()),
            max(rank["parameters"] for rank in ranks),
        ),
        "state MiB, most": (
            float(state_bytes(workload, owners, **held, in_step=False).max()) / 2**20,
            max(sum(rank["bytes"].values()) for rank in ranks) / 2**20,
        ),
        "MB sent, by the reducer": (sent, np.mean([rank["sent"] for rank in ranks]) / 1e6),
        "balance": (
            float(np.mean([step.efficiency for step in steps])),
            float(np.mean(ranks[0]["balance"])),
        ),
    }
    if counted["kernel"] is not None:
        found["MB sent, by the kernel"] = (sent, counted["kernel"] / n_ranks / 1e6)
    if n_ranks <= len(os.sched_getaffinity(0)):
        found["step ms"] = (
            1e3 * simulated_seconds(path, workload, owners, steps, cost, counted["sums"], way),
            1e3 * float(np.median([s for rank in ranks for s in rank["seconds"]])),
        )
    return found


def simulated_seconds(path, workload, owners, steps, cost, sums, way: str) -> float:
    """Mean step by the simulation, with the cost and the sums that were timed."""
    config, n_ranks = read_configuration(RunConfig, path), steps[0].load.size
    link = Link(
        latency=sums["small"] / 2 / (n_ranks - 1),
        bandwidth=2 * (n_ranks - 1) / n_ranks * LARGE / (sums["large"] - sums["small"]),
    )
    network = Network(
        ranks_per_node=n_ranks, inside=link, between=link, call=0.0, algorithms=("ring",)
    )
    simulator = Simulator(
        workload=workload,
        strategy=STRATEGIES[way],
        owners=owners,
        n_ranks=n_ranks,
        cost=cost,
        hardware=Hardware(network=network, rate=1.0, pass_rate=1.0, memory_bandwidth=5e9),
        profile=measure_pass(
            config.architecture,
            width=WIDTH,
            dtype=torch.float32,
            bytes_per_bucket=round(config.training.bucket_megabytes * 1e6),
        ),
    )
    return float(np.mean([simulator.run(step).seconds for step in steps]))


def write_run(out: Path, n_heads: int, way: str) -> Path:
    """The configuration of a case."""
    heads = {}
    for number in range(n_heads):
        name = SAMPLES[number % len(SAMPLES)]
        heads[f"{name}_{number}"] = {
            "train": str(DATA / name / "valid.extxyz.gz"),
            "level_of_theory": "of the sample",
            "batch_size": BATCHES[number % len(SAMPLES)],
            "width": WIDTH,
        }
    mapping = {
        "run": str(out / f"run-{n_heads}-{way}"),
        "device": "cpu",
        "heads": heads,
        "training": {"steps": 1000, **WAYS[way]},
    }
    path = out / f"{n_heads}-{way}.yaml"
    path.write_text(yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")
    return path


def launch(path: Path, n_ranks: int, n_steps: int) -> dict[str, Any]:
    """Run a case; in a network of its own where the system allows it."""
    words = [str(BIN / "mpiexec"), "-n", str(n_ranks), sys.executable, __file__]
    words += ["--rank", str(path), "--steps", str(n_steps)]
    if can_isolate():
        words = ["unshare", "-n", "-r", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *words]
    environment = {**os.environ, **ENVIRONMENT, "PLAN_MEASURED_ALONE": str(int(can_isolate()))}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def can_isolate() -> bool:
    """Whether this system makes a network namespace for us."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    words = ["unshare", "-n", "-r", "ip", "link", "set", "lo", "up"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def count(config: RunConfig, world: World, n_steps: int) -> None:
    """Train some steps on this rank, and tell what was held, sent and waited for."""
    setup = set_up(config, world)
    assert setup.measured is not None
    trainer = Trainer(config, setup, world)
    with trainer.weights.average.average_parameters():
        pass  # as the evaluation before the first step does
    trainer.train_step()  # moments come with the first step, caches warm up
    trainer.step = 0
    sent, kernel = trainer.reduction.bytes_sent, loopback_bytes(world)
    balance, seconds = [], []
    for _ in range(n_steps):
        start = time.perf_counter()
        balance.append(trainer.train_step().balance)
        seconds.append(time.perf_counter() - start)
    kernel = loopback_bytes(world) - kernel
    mine = {
        "parameters": held_parameters(trainer),
        "bytes": held_bytes(trainer),
        "sent": (trainer.reduction.bytes_sent - sent) / n_steps,
        "balance": balance,
        "seconds": seconds,
    }
    facts = {
        "ranks": gather_objects(world, mine),
        "cost": vars(setup.measured),
        "kernel": kernel / n_steps if os.environ.get("PLAN_MEASURED_ALONE") == "1" else None,
        "sums": {"small": time_sum(world, SMALL), "large": time_sum(world, LARGE)},
    }
    if world.rank == 0:
        print(json.dumps(facts))


def loopback_bytes(world: World) -> int:
    """Bytes sent on the loopback interface so far, once all ranks are here."""
    barrier(world)
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.strip().startswith("lo:")]
    found = int(line.split(":")[1].split()[8])
    barrier(world)
    return found


def time_sum(world: World, n_bytes: int) -> float:
    """Shortest seconds of a sum over all ranks."""
    tensor, times = torch.zeros(n_bytes // 4), []
    for _ in range(20):
        barrier(world)
        start = time.perf_counter()
        all_reduce_sum(world, tensor)
        times.append(time.perf_counter() - start)
    return min(times)


def passes() -> Iterator[tuple[object, ...]]:
    """Predicted and real memory of a pass with real structures."""
    model = BackboneConfig()
    profile_of_pass = measure_pass(
        model, width=WIDTH, dtype=torch.float32, bytes_per_bucket=4_000_000
    )
    for name in SAMPLES:
        options = HeadOptions(
            train=str(DATA / name / "valid.extxyz.gz"), level_of_theory="x", width=WIDTH
        )
        summary, sets = read_head(name, options, cutoff=model.cutoff)
        index = summary.indices["train"]
        ends = np.cumsum(index.edges(np.arange(len(index))))
        places = np.arange(max(1, int(np.searchsorted(ends, 5000))))
        columns = sets["train"].read(places)
        graph, _ = build_batch(columns, cutoff=model.cutoff, device=torch.device("cpu"))
        predicted = profile_of_pass.activation_bytes(np.array([[graph.n_nodes, graph.n_edges]]))[0]
        potential = build_potential(model, {name: summary.config})
        with one_thread():
            found = profiled_peak(lambda p=potential, g=graph, n=name: loss(p, g, n).backward())
        yield (
            *(f"{len(places)} of {name}", graph.n_nodes, graph.n_edges),
            *(f"{predicted / 2**20:.1f}", f"{found / 2**20:.1f}"),
            f"{100 * (predicted / found - 1):+.1f}",
        )


def loss(potential, graph, head: str) -> torch.Tensor:
    """A loss of energies, forces and virials."""
    prediction = predict(potential, graph, head, create_graph=True)
    terms = (prediction.energy, prediction.forces, prediction.virial)
    return torch.stack([term.square().sum() for term in terms]).sum()


def profiled_peak(work) -> int:
    """Largest memory that torch's allocator gave out meanwhile."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    results: Any = prof.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


if __name__ == "__main__":
    sys.exit(main())
