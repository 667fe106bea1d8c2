"""NequIP: its preset S at the 6 Å of NequIP-OAM, and 32 channels up to l = 2 in four layers at 5 Å.

    Batzner et al., Nat. Commun. 13, 2453 (2022); preset S is `_NEQUIP_GNN_PRESETS` of the package:
    two layers, 128 scalars and 64 vectors. Both are without features of odd parity, as the presets
    are, which its documentation calls as good and faster.

Runs in the environment of `nequip`. As its authors advise, the calculator uses a model compiled
ahead of time (AOTInductor, float32), and training a model compiled by `compile_mode: compile`.
"""
# pyright: reportMissingImports=false

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.integrations.ase import NequIPCalculator
from nequip.model import NequIPGNNModel, PresetNequIPGNNModel
from nequip.scripts._compile_utils import ASE_TARGET
from nequip.train import EnergyForceLoss
from nequip.utils.aot import aot_export_model
from nequip.utils.global_state import set_global_state
from torch import nn

from peers.structures import Statistics, statistics_of, system, universal_statistics

CUTOFFS = {"S": 6.0, "32": 5.0}
COMPILED = Path(sys.prefix) / "compiled"
"""Beside the environment: what is compiled fits this machine and these versions."""


def build_model(
    shape: str,
    statistics: Statistics,
    *,
    cutoff: float | None = None,
    seed: int = 0,
    compile_mode: str = "compile",
) -> nn.Module:
    """A trainable model with random weights, in float32.

    Args:
        shape: "S" or "32".
        statistics: Of the data it will be trained on.
        cutoff: In Å; that of the shape where none is given.
        seed: Of the weights.
        compile_mode: "compile", or "eager".
    """
    set_global_state(allow_tf32=False)
    energies = statistics.reference_energies
    told: dict[str, Any] = {
        "seed": seed,
        "model_dtype": "float32",
        "compile_mode": compile_mode,
        "type_names": list(energies),
        "r_max": cutoff or CUTOFFS[shape],
        "avg_num_neighbors": statistics.mean_neighbors,
        "per_type_energy_scales": statistics.force_rms,
        "per_type_energy_shifts": energies,
    }
    if shape == "S":
        return PresetNequIPGNNModel(preset="S", **told)
    return NequIPGNNModel(num_layers=4, l_max=2, num_features=32, parity=False, **told)


def transforms(
    shape: str, symbols: Sequence[str], *, cutoff: float | None = None
) -> list[Callable[[Any], Any]]:
    """What the package does to a structure before the model sees it."""
    return [
        ChemicalSpeciesToAtomTypeMapper(
            model_type_names=list(symbols),
            chemical_species_to_atom_type_map={symbol: symbol for symbol in symbols},
        ),
        NeighborListTransform(r_max=cutoff or CUTOFFS[shape]),
    ]


def graph_of(atoms: Atoms, prepare: Sequence[Callable[[Any], Any]]) -> Any:
    """The package's dictionary of a structure, with labels where there are any."""
    graph = from_ase(atoms)
    for transform in prepare:
        graph = transform(graph)
    return graph


def calculator(variant: str) -> Calculator:
    """Of 89 elements; "S" or "32", compiled ahead of time, or "S+eager"."""
    shape, _, eager = variant.partition("+")
    symbols = list(universal_statistics().reference_energies)
    if eager:
        model = build_model(shape, universal_statistics(), compile_mode="eager").eval()
        return NequIPCalculator(model, device="cpu", transforms=transforms(shape, symbols))
    return NequIPCalculator.from_compiled_model(
        compiled_model(shape), device="cpu", chemical_species_to_atom_type_map=True
    )


def compiled_model(shape: str) -> Path:
    """The file that `nequip-compile --mode aotinductor --target ase` would write for the model."""
    path = COMPILED / f"{shape}.nequip.pt2"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        model = build_model(shape, universal_statistics(), compile_mode="eager").eval()
        symbols = list(universal_statistics().reference_energies)
        sample = graph_of(system("64 H2O"), transforms(shape, symbols))
        any_size = {
            name: torch.export.Dim(f"num_{name}s", min=2, max=10**9) for name in ("node", "edge")
        }
        told: Any = model.metadata
        partial = path.with_name(f"new-{path.name}")
        aot_export_model(
            model=model,
            device="cpu",
            input_fields=ASE_TARGET["input"],
            output_fields=ASE_TARGET["output"],
            data=ASE_TARGET["data_settings"](sample),
            batch_map=ASE_TARGET["batch_map_settings"](any_size),
            output_path=str(partial),
            inductor_configs={"aot_inductor.metadata": {**told, "allow_tf32": "0"}},
        )
        partial.rename(path)
    return path


def training_step(variant: str, structures: Sequence[Atoms]) -> Callable[[], None]:
    """A step as its lightning module does it: graphs, loss, gradient, Adam.

    Neighbours are searched in every step, as its data sets do.
    """
    shape, _, eager = variant.partition("+")
    statistics = statistics_of(structures, cutoff=CUTOFFS[shape])
    mode = "eager" if eager else "compile"
    model = build_model(shape, statistics, compile_mode=mode).train()
    prepare = transforms(shape, list(statistics.reference_energies))
    loss = EnergyForceLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    def step() -> None:
        batch = AtomicDataDict.batched_from_list([graph_of(a, prepare) for a in structures])
        optimizer.zero_grad()
        terms = loss(model(batch), batch.copy())
        terms["weighted_sum"].backward()
        optimizer.step()

    return step
