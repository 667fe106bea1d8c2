"""An ASE calculator that uses one head of a checkpoint."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from gfm_models import checkpoint
from gfm_models.allocator import keep_freed_memory, reusing_memory
from gfm_models.derivatives import Prediction, hessian, predict, stress
from gfm_models.graph import AtomicGraph, edge_vectors, graph_from_atoms
from gfm_models.heads import check_elements
from gfm_models.kernels.backend import Backend
from jaxtyping import Float

from gfmcalc.hub import resolve_model

DTYPES = {"float32": torch.float32, "float64": torch.float64}
DEVICES = ("cuda", "xpu")


class GFMCalculator(Calculator):
    """Energies, forces and stress of one head of a checkpoint, for any ASE structure.

    Args:
        model: A checkpoint folder, a run folder, or `org/name[@revision]` on the Hugging Face hub.
        head: Which head; it may be left out where there is only one.
        device: "cpu", "cuda", "xpu", …; by default the accelerator that torch sees, or the CPU.
        default_dtype: Precision of the network. Geometry, energies and sums are float64 always, so
            that "float32" moves phonons by 1e-4 THz and drifts no more in dynamics
            (benchmarks/RESULTS.md); take "float64" for very tight relaxations.

    On a CPU the process keeps up to 2 GiB of freed memory for the next call, unless the environment
    variable GFM_ALLOCATOR is "system" (see `gfm_models.allocator`).

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: no such head, or several and none was named; a damaged checkpoint; an unknown
            device or precision. Elements that the head does not know are refused when a structure
            is calculated.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 (ASE declares it so)
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        model: str | Path = "gfm-small",
        head: str | None = None,
        *,
        device: str | None = None,
        default_dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        if default_dtype not in DTYPES:
            raise ValueError(f"default_dtype must be float32 or float64, got '{default_dtype}'")
        self.device = _device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        folder = resolve_model(model, head=head)
        config = checkpoint.read_config(folder)
        self.head = choose_head(config, head)
        self.potential = checkpoint.load(
            folder, heads=[self.head], dtype=DTYPES[default_dtype], device=self.device
        ).requires_grad_(False)
        self.head_config = self.potential.head(self.head).config
        if self.head_config.stale:
            warnings.warn(
                f"head '{self.head}' was not trained along when the backbone was fine-tuned; "
                "its errors have grown, see `gfm info`",
                stacklevel=2,
            )

    @property
    def backend(self) -> Backend:
        """What sums over neighbours are computed with: `fused`, `triton` or `reference`."""
        return self.potential.backbone.backend

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; stress only for structures with three cell vectors.

        Raises:
            ValueError: an element that the head does not know, or a structure that cannot be.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        self.results = {}  # a structure that is refused must not keep those of the last one
        with reusing_memory() if self.device.type == "cpu" else nullcontext():
            graph = self._graph(self.atoms)
            self.results = _results(predict(self.potential, graph, self.head), graph)

    def get_descriptors(
        self, atoms: Atoms, invariants_only: bool = True, num_layers: int = -1
    ) -> Float[np.ndarray, "atoms features"]:
        """What the shared network knows of each atom, whatever the head.

        Args:
            atoms: The structure.
            invariants_only: Scalars alone; else all components, degree by degree, of each layer.
            num_layers: Only the first so many interactions; all for -1.

        Raises:
            ValueError: there are not so many, or as for `calculate`.
        """
        n_layers = self.potential.backbone.config.n_interactions
        if num_layers != -1 and not 1 <= num_layers <= n_layers:
            raise ValueError(f"num_layers must be -1 or 1 to {n_layers}, got {num_layers}")
        graph = self._graph(atoms)
        layers = self.potential.backbone.equivariant_features(graph, edge_vectors(graph))
        layers = layers if num_layers == -1 else layers[:num_layers]
        kept = [layer[:, :1] if invariants_only else layer for layer in layers]
        return torch.cat([layer.flatten(1) for layer in kept], dim=1).cpu().numpy()

    def get_hessian(self, atoms: Atoms) -> Float[np.ndarray, "components components"]:
        """Second derivatives of the energy by the positions in eV/Å², three rows for each atom."""
        size = 3 * len(atoms)
        found = hessian(self.potential, self._graph(atoms), self.head)
        return found.reshape(size, size).cpu().numpy()

    def _graph(self, atoms: Any) -> AtomicGraph:
        assert isinstance(atoms, Atoms)
        check_elements(self.head_config, np.unique(atoms.numbers), head=self.head)
        return graph_from_atoms(atoms, cutoff=self.potential.cutoff).to(self.device)


def choose_head(config: dict[str, Any], head: str | None) -> str:
    """The named head of a checkpoint, or its only one.

    Raises:
        ValueError: no such head, or several and none was named; lists them.
    """
    names = list(config["heads"])
    if head is None and len(names) == 1:
        return names[0]
    if head is None:
        raise ValueError(f"choose a head with head=…; {checkpoint.describe_heads(config)}")
    return checkpoint.select(config, [head])[0]


def _device(name: str | None) -> torch.device:
    if name is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator and accelerator.type in DEVICES else torch.device("cpu")
    try:
        probe = torch.zeros((), dtype=torch.float64, device=name)
        probe.item()  # "meta" holds no values, others no float64
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use device '{name}' ({reason}); try device='cpu'") from None
    return probe.device


def _results(prediction: Prediction, graph: AtomicGraph) -> dict[str, Any]:
    energy = prediction.energy.item()
    results = {
        "energy": energy,
        "free_energy": energy,
        "energies": prediction.atomic_energies.cpu().numpy(),
        "forces": prediction.forces.cpu().numpy(),
    }
    if graph.has_cell.item():
        tensor = stress(prediction.virial, graph)[0].cpu().numpy()
        results["stress"] = full_3x3_to_voigt_6_stress(tensor)
    return results
