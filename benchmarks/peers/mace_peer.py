"""MACE in the shapes of MACE-MP-0: 128x0e (small) and 128x0e+128x1o (medium).

    Batatia et al., arXiv 2401.00096: two layers, l up to 3, correlation 3, 6 Å, 10 Bessels.

Runs in the environment of `mace-torch`. Its calculator is in float32, as its authors advise for
molecular dynamics; a training step is its own `take_step`.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers
from mace.calculators import MACECalculator  # before e3nn, whose tables torch then loads

# isort: split
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric
from mace.tools.train import take_step
from torch import nn

from peers.structures import Statistics, statistics_of, universal_statistics

IRREPS = {"small": "128x0e", "medium": "128x0e + 128x1o"}
CUTOFF = 6.0
INTERACTION = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]


def build_model(
    shape: str, statistics: Statistics, *, cutoff: float = CUTOFF, seed: int = 0
) -> nn.Module:
    """A trainable model with random weights, in float32.

    Args:
        shape: "small" or "medium".
        statistics: Of the data it will be trained on.
        cutoff: In Å.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    table = elements(statistics)
    energies = {atomic_numbers[s]: e for s, e in statistics.reference_energies.items()}
    return modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=10,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=INTERACTION,
        interaction_cls_first=INTERACTION,
        num_interactions=2,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(IRREPS[shape]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.array([energies[z] for z in table.zs]),
        avg_num_neighbors=statistics.mean_neighbors,
        atomic_numbers=table.zs,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=statistics.force_rms,
        atomic_inter_shift=0.0,
    )


def elements(statistics: Statistics) -> AtomicNumberTable:
    """The elements of a model, ascending."""
    symbols = statistics.reference_energies
    return AtomicNumberTable(sorted(atomic_numbers[s] for s in symbols))


def calculator(variant: str) -> Calculator:
    """Of 89 elements; "small", "medium", or either with "+compile" for torch.compile."""
    shape, _, compiled = variant.partition("+")
    return MACECalculator(
        models=build_model(shape, universal_statistics()),
        device="cpu",
        default_dtype="float32",
        compile_mode="default" if compiled else None,
    )


def training_step(shape: str, structures: Sequence[Atoms]) -> Callable[[], None]:
    """A step on a batch: graphs collated, loss of energy and forces, gradient, Adam.

    Graphs of single structures are made beforehand, as its trainer keeps them in memory.
    """
    statistics = statistics_of(structures, cutoff=CUTOFF)
    model = build_model(shape, statistics)
    graphs = [graph_of(atoms, elements(statistics)) for atoms in structures]
    loss = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, amsgrad=True)
    wanted = {"forces": True, "virials": False, "stress": False}

    def step() -> None:
        batch = torch_geometric.Batch.from_data_list(graphs)
        cpu = torch.device("cpu")
        take_step(model, loss, batch, optimizer, None, wanted, 10.0, cpu)

    return step


def graph_of(atoms: Atoms, table: AtomicNumberTable, *, cutoff: float = CUTOFF) -> data.AtomicData:
    """A labelled graph."""
    labelled = atoms.copy()
    labelled.info["REF_energy"] = atoms.get_potential_energy()
    labelled.arrays["REF_forces"] = atoms.get_forces()
    keys = data.KeySpecification(
        info_keys={"energy": "REF_energy"}, arrays_keys={"forces": "REF_forces"}
    )
    configuration = data.config_from_atoms(labelled, key_specification=keys)
    return data.AtomicData.from_config(configuration, z_table=table, cutoff=cutoff)
