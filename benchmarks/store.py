"""Our store against ASE-LMDB and HDF5: bytes, import and random reads, in one interleaved run.

    python benchmarks/store.py [--structures N] [--rounds N]

Random periodic structures of 10 to 50 atoms with energy, forces and stress are written in three
forms, each as its own library does it best:

    columns   our store
    ase-lmdb  `ase.db` with ase-db-backends: a compressed JSON document for each structure
    hdf5      h5py, the same columns as ours, one dataset each, structures as slices

`read` is random batches of 32 up to the tensors of a graph without its edges; `read, edges` goes on
to the batch that the network takes, with neighbours inside 5 Å by the same code for all, which is
what remains when reading costs nothing. `import` starts from a file in the layout of ANI-1x: ours
is `gfm data import` with its audit and reference energies, the others convert the same records and
write. Every round times all forms one after the other; ratios are taken within a round.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import ase.db
import h5py
import numpy as np
import torch
from ase import Atoms
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.shard import Shard, make_shard
from gfm_pretrain.data.sources.ani1x import SOURCE
from gfm_pretrain.data.sources.source import Record
from gfm_pretrain.data.store.columns import map_shard, write_shard
from gfm_pretrain.data.store.importer import import_source
from gfm_pretrain.data.store.job import ImportOptions
from gfm_pretrain.data.structure import LabelledStructure, to_atoms
from gfm_pretrain.data.structure_set import Columns, StructureSet
from gfm_pretrain.process import World
from gfm_pretrain.table import text_table
from machine import describe_machine

BATCH_SIZE = 32
READS_PER_ROUND = {"columns": 16384, "ase-lmdb": 1024, "hdf5": 1024}
"""Structures; enough for some tenths of a second."""
EDGES_PER_ROUND = 512
CUTOFF = 5.0
CPU = torch.device("cpu")
ALONE = World(rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=CPU)


class Form(Protocol):
    """A way to keep structures on disk."""

    def write(self, structures: Sequence[LabelledStructure]) -> None:
        """Write all of them."""
        ...

    def read(self, places: np.ndarray) -> Columns:
        """Read some of them."""
        ...


class OurColumns:
    """A shard of our store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "columns"
        self.structures: StructureSet | None = None

    def write(self, structures: Sequence[LabelledStructure]) -> None:
        """Write all of them."""
        n = len(structures)
        edges, groups = np.zeros((n, 4), dtype=np.uint32), np.arange(n, dtype=np.uint64)
        facts = write_shard(self.folder, [make_shard(structures, n_edges=edges, groups=groups)])
        shard = map_shard(self.folder, facts, present=Path.exists)
        self.structures = StructureSet(shards=(shard,), radii=(3.0, 4.0, 5.0, 6.0))

    def read(self, places: np.ndarray) -> Columns:
        """Read some of them."""
        assert self.structures is not None
        return self.structures.read(places)


class AseLmdb:
    """One row for each structure."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ase.aselmdb"
        self.rows: Any = None

    def write(self, structures: Sequence[LabelledStructure]) -> None:
        """Write all of them."""
        self.write_atoms([to_atoms(s) for s in structures])

    def write_atoms(self, frames: Sequence[Atoms]) -> None:
        """Write all of them, in one transaction."""
        with cast(Any, ase.db.connect(self.path, type="aselmdb")) as database:
            for atoms in frames:
                database.write(atoms)
        self.rows = ase.db.connect(self.path, type="aselmdb", readonly=True, use_lock_file=False)

    def read(self, places: np.ndarray) -> Columns:
        """Read some of them, by the shortest way that there is."""
        assert self.rows is not None
        frames: list[Any] = [self.rows._get_row(int(place) + 1).toatoms() for place in places]
        return Columns(
            n_atoms=np.array([len(atoms) for atoms in frames]),
            atomic_numbers=np.concatenate([atoms.numbers for atoms in frames]),
            positions=np.concatenate([atoms.positions for atoms in frames]),
            cell=np.stack([atoms.cell.array for atoms in frames]),
            pbc=np.stack([atoms.pbc for atoms in frames]),
            energy=np.array([atoms.calc.results["energy"] for atoms in frames]),
            forces=np.concatenate([atoms.calc.results["forces"] for atoms in frames]),
            stress=np.stack([atoms.get_stress(voigt=False) for atoms in frames]),
        )


class Hdf5:
    """The columns of our store as datasets of one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "columns.h5"
        self.first_atom: np.ndarray = np.zeros(1, dtype=np.int64)
        self.datasets: dict[str, Any] = {}

    def write(self, structures: Sequence[LabelledStructure]) -> None:
        """Write all of them."""
        n = len(structures)
        edges, groups = np.zeros((n, 4), dtype=np.uint32), np.arange(n, dtype=np.uint64)
        self.write_shard(make_shard(structures, n_edges=edges, groups=groups))

    def write_shard(self, shard: Shard) -> None:
        """Write the columns in the same precision as ours."""
        with h5py.File(self.path, "w") as file:
            for name in ("atomic_numbers", "positions", "forces", "cell", "pbc", "energy"):
                column = getattr(shard, name)
                file[name] = column.astype("f4") if name in ("positions", "forces") else column
            for name in ("stress", "labels", "n_edges", "group", "letters"):
                column = getattr(shard, name)
                file[name] = column.astype("f4") if name == "stress" else column
            file["first_atom"], file["first_letter"] = shard.first_atom, shard.first_letter
        self.datasets = dict(h5py.File(self.path))
        self.first_atom = self.datasets["first_atom"][:]

    def read(self, places: np.ndarray) -> Columns:
        """Read some of them: h5py takes one slice at a time."""
        first, data = self.first_atom, self.datasets
        atoms = [slice(first[place], first[place + 1]) for place in places]
        stress = np.stack([data["stress"][place] for place in places])
        return Columns(
            n_atoms=first[places + 1] - first[places],
            atomic_numbers=np.concatenate([data["atomic_numbers"][a] for a in atoms]).astype("i8"),
            positions=np.concatenate([data["positions"][a] for a in atoms]).astype("f8"),
            cell=np.stack([data["cell"][place] for place in places]),
            pbc=np.stack([data["pbc"][place] for place in places]),
            energy=np.array([data["energy"][place] for place in places]),
            forces=np.concatenate([data["forces"][a] for a in atoms]).astype("f8"),
            stress=stress[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]].astype("f8"),
        )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One quantity of one form, for each round."""

    quantity: str
    form: str
    per_second: list[float]


def main() -> None:
    """Write, read, import, and print rates and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--structures", type=int, default=20000, metavar="N", help="(20000)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="at least 1 (7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(), end=f"; {arguments.rounds} rounds\n\n")
    with tempfile.TemporaryDirectory() as folder:
        timings, sizes = run(Path(folder), arguments.structures, max(1, arguments.rounds))
    print(text_table(*size_rows(sizes)), end="\n\n")
    print(text_table(*timing_rows(timings)))


def run(folder: Path, n: int, rounds: int) -> tuple[list[Timing], dict[str, float]]:
    """All timings, and bytes per structure of each form."""
    structures = random_structures(n)
    forms: dict[str, Form] = {
        "columns": OurColumns(folder),
        "ase-lmdb": AseLmdb(folder),
        "hdf5": Hdf5(folder),
    }
    writing = [
        Timing(
            quantity="write", form=name, per_second=[n / seconds(partial(form.write, structures))]
        )
        for name, form in forms.items()
    ]
    check_equal(forms, n)
    sizes = {name: bytes_of(folder, name) / n for name in forms}
    timings = [
        *writing,
        *time_reads(forms, n, rounds),
        *time_imports(folder, max(4000, n // 4), rounds // 3),
    ]
    return timings, sizes


def time_reads(forms: dict[str, Form], n: int, rounds: int) -> list[Timing]:
    """Random reads, with and without edges, one form after the other in every round."""
    generator = np.random.default_rng(1)
    found = {(q, name): [] for q in ("read", "read, edges") for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            places = generator.integers(n, size=READS_PER_ROUND[name])
            spent = seconds(partial(read_all, form, places, to_tensors))
            found["read", name].append(len(places) / spent)
            places = generator.integers(n, size=EDGES_PER_ROUND)
            spent = seconds(partial(read_all, form, places, to_batch))
            found["read, edges", name].append(len(places) / spent)
    return [Timing(quantity=q, form=name, per_second=rates) for (q, name), rates in found.items()]


def time_imports(folder: Path, n: int, rounds: int) -> list[Timing]:
    """From a file in the layout of ANI-1x, one form after the other in every round."""
    path = write_ani1x(folder / "ani1x-release.h5", n)
    asked = ImportOptions(source="ani1x", files=(str(path),))
    found: dict[str, list[float]] = {"columns": [], "ase-lmdb": [], "hdf5": []}
    for number in range(max(1, rounds)):
        out = folder / f"import-{number}"
        out.mkdir()
        ways: dict[str, Callable[[], object]] = {
            "columns": lambda out=out: import_source(asked, out / "store", world=ALONE),
            "ase-lmdb": lambda out=out: AseLmdb(out).write(records_of(path)),
            "hdf5": lambda out=out: Hdf5(out).write(records_of(path)),
        }
        for name, way in ways.items():
            found[name].append(n / seconds(way))
    return [Timing(quantity="import", form=name, per_second=r) for name, r in found.items()]


def read_all(form: Form, places: np.ndarray, use: Callable[[Columns], object]) -> None:
    """Read in batches."""
    for start in range(0, len(places), BATCH_SIZE):
        use(form.read(places[start : start + BATCH_SIZE]))


def to_tensors(columns: Columns) -> list[torch.Tensor]:
    """The tensors of a graph and its labels, without edges."""
    batch = torch.from_numpy(np.repeat(np.arange(len(columns.n_atoms)), columns.n_atoms))
    return [batch, *(torch.from_numpy(column) for column in vars(columns).values())]


def to_batch(columns: Columns) -> object:
    """What the network takes."""
    return build_batch(columns, cutoff=CUTOFF, device=CPU)


def random_structures(n: int) -> list[LabelledStructure]:
    """Structures of 10 to 50 atoms at the density of a solid."""
    generator = np.random.default_rng(0)
    return [random_structure(generator, f"mp-{i}-0-{i % 10}") for i in range(n)]


def random_structure(generator: np.random.Generator, identifier: str) -> LabelledStructure:
    """One of them; atoms lie on a grid and move from it, so that none are too close."""
    n_atoms = int(generator.integers(10, 51))
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)
    stress = generator.normal(0, 0.02, (3, 3))
    return LabelledStructure(
        atomic_numbers=generator.integers(1, 90, n_atoms),
        positions=2.4 * grid[:n_atoms] + generator.uniform(0, 1, (n_atoms, 3)),
        cell=2.4 * side * np.eye(3) + generator.normal(0, 0.1, (3, 3)),
        pbc=np.ones(3, dtype=np.bool_),
        energy=float(generator.normal(-5 * n_atoms, 1)),
        forces=generator.normal(0, 1, (n_atoms, 3)),
        stress=(stress + stress.T) / 2,
        identifier=identifier,
    )


def write_ani1x(path: Path, n: int, *, geometries: int = 100) -> Path:
    """Molecules of 10 to 26 atoms, some geometries of each."""
    generator = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        for number in range(-(-n // geometries)):
            rows = min(geometries, n - geometries * number)
            n_atoms = int(generator.integers(10, 27))
            grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[:n_atoms]
            group = file.create_group(f"molecule-{number}")
            group["atomic_numbers"] = generator.choice([1, 6, 7, 8], n_atoms).astype(np.uint8)
            group["coordinates"] = 1.5 * grid + generator.uniform(0, 0.6, (rows, n_atoms, 3))
            group["wb97x_dz.energy"] = generator.normal(-40 * n_atoms, 1, rows)
            forces = generator.normal(0, 0.05, (rows, n_atoms, 3))
            group["wb97x_dz.forces"] = forces - forces.mean(axis=1, keepdims=True)
    return path


def records_of(path: Path) -> list[LabelledStructure]:
    """The same file through the same reader, without any check."""
    found = []
    for block in SOURCE.blocks(path, {"level": "dz"}):
        for record in block.read():
            assert isinstance(record, Record)
            found.append(
                LabelledStructure(
                    atomic_numbers=record.atomic_numbers.astype(np.int64),
                    positions=record.positions,
                    cell=record.cell,
                    pbc=record.pbc,
                    energy=record.energy,
                    forces=record.forces,
                    identifier=record.identifier,
                )
            )
    return found


def check_equal(forms: dict[str, Form], n: int) -> None:
    """All forms give the same back, to single precision."""
    places = np.random.default_rng(3).integers(n, size=50)
    expected = forms["ase-lmdb"].read(places)
    for form in forms.values():
        for name, column in vars(form.read(places)).items():
            np.testing.assert_allclose(column, getattr(expected, name), rtol=1e-6, atol=1e-6)


def bytes_of(folder: Path, form: str) -> int:
    """Bytes on disk; of a memory-mapped file those that it uses."""
    if form == "columns":
        return sum(path.stat().st_size for path in (folder / form).iterdir())
    [path] = folder.glob({"ase-lmdb": "*.aselmdb", "hdf5": "*.h5"}[form])
    return path.stat().st_size


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def size_rows(sizes: dict[str, float]) -> tuple[list[str], list[list[str]]]:
    """Bytes per structure."""
    base = sizes["ase-lmdb"]
    rows = [[name, f"{size:.0f}", f"{size / base:.3f}"] for name, size in sizes.items()]
    return ["form", "bytes per structure", "of ase-lmdb"], rows


def timing_rows(timings: Sequence[Timing]) -> tuple[list[str], list[list[str]]]:
    """Rates, and how much faster ours is: median, smallest and largest of the rounds."""
    ours = {t.quantity: t.per_second for t in timings if t.form == "columns"}
    rows = []
    for timing in timings:
        pairs = zip(ours[timing.quantity], timing.per_second, strict=True)
        ratios = [our / other for our, other in pairs]
        cells = [f"{r:.2f}" for r in (np.median(ratios), min(ratios), max(ratios))]
        rate = f"{np.median(timing.per_second):,.0f}"
        rows.append([timing.quantity, timing.form, rate, *cells])
    return ["quantity", "form", "structures/s", "columns × (median)", "min", "max"], rows


if __name__ == "__main__":
    main()
