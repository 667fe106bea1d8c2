"""What steps of a run would take on a number of ranks of some machine, by each strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gfm_pretrain.cost import StepCost
from gfm_pretrain.plan.dealing import Dealt, deal_steps
from gfm_pretrain.plan.machine import CASES, Case, Machine
from gfm_pretrain.plan.memory import activation_bytes, parameters_held, state_bytes
from gfm_pretrain.plan.pass_profile import PassProfile
from gfm_pretrain.plan.strategy import STRATEGIES, Strategy
from gfm_pretrain.plan.timeline import Simulator, StepTimes
from gfm_pretrain.plan.traffic import bytes_sent
from gfm_pretrain.plan.workload import Owners, Workload

MOST_STRUCTURES = 50_000
"""That are drawn and dealt for one prediction, unless one step has more."""


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Random slowness of devices, in addition to what their work differs by."""

    spread: float = 0.0
    """Standard deviation of the logarithm of compute times, from rank to rank and step to step."""
    seed: int = 0
    """Of the random numbers."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, whatever the number of ranks."""

    machine: Machine
    """Where it would run."""
    cost: StepCost
    """Of passes, atoms and edges."""
    profile: PassProfile
    """What a pass is like inside."""
    n_steps: int = 20
    """Steps to play, or fewer where they are large."""
    jitter: Jitter = Jitter()
    """Random slowness."""

    @property
    def likely_cost(self) -> StepCost:
        """The cost on a device of the machine."""
        likely = self.machine.hardware("likely")
        return replace(
            self.cost,
            per_pass=self.cost.per_pass / likely.pass_rate,
            per_atom=self.cost.per_atom / likely.rate,
            per_edge=self.cost.per_edge / likely.rate,
        )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A run by one strategy on one number of ranks."""

    strategy: str
    """Its name."""
    n_ranks: int
    """Number of ranks."""
    batch_size: float
    """Structures in a step, over all ranks, on average."""
    steps: Mapping[Case, tuple[StepTimes, ...]]
    """Each step that was played, in each case of the machine."""
    parameters_per_rank: int
    """Of the rank that holds most, its shard counted."""
    state_bytes: int
    """Weights, gradients, moments and averages of that rank."""
    activation_bytes: int
    """Of the largest pass of all ranks and steps."""
    bytes_sent: float
    """For gradients and gathered weights, mean over ranks."""

    @property
    def memory_bytes(self) -> int:
        """Of the rank that needs most, at most."""
        return self.state_bytes + self.activation_bytes

    def mean(self, case: Case, name: str) -> float:
        """Mean over steps of a figure of `StepTimes`."""
        return float(np.mean([getattr(times, name) for times in self.steps[case]]))

    def rate(self, case: Case) -> float:
        """Structures per second and rank."""
        return self.batch_size / self.mean(case, "seconds") / self.n_ranks


def predict_all(workload: Workload, question: Question, n_ranks: int) -> list[Prediction]:
    """Predictions of all strategies, in their order.

    Heads are placed and structures dealt by the cost that the engine would measure there.
    """
    workload = replace(workload, cost=question.likely_cost.relative)
    n_steps = int(np.clip(MOST_STRUCTURES // workload.batch_size, 1, question.n_steps))
    found, dealt = [], {}
    for name, strategy in STRATEGIES.items():
        if strategy.placement not in dealt:
            owners = strategy.owners(workload, n_ranks)
            mixed = strategy.placement == "everywhere"  # heads share passes, none costs one more
            of_pass = 0.0 if mixed else workload.cost.of_pass
            asked = replace(workload, cost=replace(workload.cost, of_pass=of_pass))
            steps = deal_steps(asked, owners, n_ranks=n_ranks, n_steps=n_steps)
            dealt[strategy.placement] = owners, steps
        owners, steps = dealt[strategy.placement]
        found.append(_predict(name, workload, question, owners, steps))
    return found


def _predict(
    name: str, workload: Workload, question: Question, owners: Owners, steps: Sequence[Dealt]
) -> Prediction:
    strategy, n_ranks = STRATEGIES[name], steps[0].load.size
    n_shards = strategy.n_shards(n_ranks, question.machine.ranks_per_node)
    parameters = parameters_held(workload, owners, n_ranks=n_ranks, n_shards=n_shards)
    held = state_bytes(workload, owners, n_ranks=n_ranks, n_shards=n_shards)
    activations = [
        activation_bytes(
            step,
            question.profile,
            everywhere=strategy.placement == "everywhere",
            micro_batch_edges=workload.micro_batch_edges,
        ).max()
        for step in steps
    ]
    sent = bytes_sent(workload, owners, n_ranks=n_ranks, n_shards=n_shards)
    return Prediction(
        strategy=name,
        n_ranks=n_ranks,
        batch_size=float(workload.batch_size),
        steps={c: _play(strategy, workload, question, owners, steps, case=c) for c in CASES},
        parameters_per_rank=int(parameters.max()),
        state_bytes=int(held.max()),
        activation_bytes=int(max(activations)),
        bytes_sent=float(sent.mean()),
    )


def _play(
    strategy: Strategy,
    workload: Workload,
    question: Question,
    owners: Owners,
    steps: Sequence[Dealt],
    *,
    case: Case,
) -> tuple[StepTimes, ...]:
    """Play steps; the random slowness is the same in every case and for every strategy."""
    n_ranks, jitter = steps[0].load.size, question.jitter
    simulator = Simulator(
        workload=workload,
        strategy=strategy,
        owners=owners,
        n_ranks=n_ranks,
        cost=question.cost,
        hardware=question.machine.hardware(case),
        profile=question.profile,
    )
    generator = np.random.default_rng(jitter.seed)
    noise = (np.exp(jitter.spread * generator.standard_normal(n_ranks)) for _ in steps)
    return tuple(simulator.run(step, n) for step, n in zip(steps, noise, strict=True))
