"""Choose the samples in this folder from a larger collection of labelled structures.

    python data/select_samples.py COLLECTION [--output data]

COLLECTION holds one folder per published set (see `SAMPLES`), each with `metadata.json` and
`train|valid|test.extxyz.gz`. Frames are copied word for word; nothing is converted or rounded. Two
components of the stress change places where the collection has them exchanged.

The choice is reproducible to the byte: frames are ordered by a hash of the seed and of their place
in the source, taken evenly over the strata (kind of configuration, elements), and written in the
order of the source into gzip files without a time stamp. (Another version of zlib may compress
differently: then the text inside is the same and the SHA-256 of the files is not.)
"""

import argparse
import gzip
import hashlib
import io
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SEED = 20240607
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One folder of samples and how many structures of each split it takes."""

    folder: str
    source: str
    """Folder of the collection."""
    sizes: tuple[int | None, int | None, int | None]
    """Structures of train, valid, test; None takes all."""
    exchanged: tuple[str, ...] = ()
    """Elements whose crystals have the stresses yz and xz exchanged in the collection: cells that
    are sheared in the one plane have their shear stress in the other."""


# The order matters where sets share structures: the earlier sample decides on the split.
SAMPLES = (
    Sample(folder="wb97x", source="wb97x_631gd", sizes=(None, None, None)),
    Sample(folder="rmd17", source="rmd17", sizes=(1200, 100, 300)),
    Sample(folder="ccsdt_ethanol", source="md17_ccsdt_ethanol", sizes=(None, None, None)),
    Sample(folder="mlearn", source="mlearn", sizes=(None, None, None), exchanged=("Mo", "Ni")),
    Sample(folder="monbtaw", source="monbtaw_snap", sizes=(1500, 100, None)),
    Sample(folder="qm22_formic_dimer", source="qm22_formic_dimer", sizes=(300, 50, 50)),
)


@dataclass(frozen=True)
class Frame:
    """One structure as text: the number of atoms, the comment line, a line per atom."""

    lines: tuple[str, ...]

    @property
    def header(self) -> str:
        """The comment line with the key=value pairs."""
        return self.lines[1]

    @property
    def atoms(self) -> list[list[str]]:
        """Symbol, position (Å) and, where labelled, force (eV/Å) of each atom."""
        return [line.split() for line in self.lines[2:]]

    @property
    def elements(self) -> frozenset[str]:
        """Chemical symbols."""
        return frozenset(atom[0] for atom in self.atoms)

    @property
    def stratum(self) -> tuple[str, ...]:
        """Kind of configuration and elements: each is to be represented."""
        kind = re.search(r"config_type=(\S+)", self.header)
        return (kind[1] if kind else "", *sorted(self.elements))

    @property
    def geometry(self) -> tuple:
        """Cell, symbols and positions rounded to 1e-3 Å: equal for a structure in two sets."""
        lattice = re.search(r'Lattice="([^"]*)"', self.header)
        cell = _rounded(lattice[1].split()) if lattice else ()
        return cell, tuple((atom[0], *_rounded(atom[1:4])) for atom in self.atoms)

    @property
    def has_forces(self) -> bool:
        """Whether the atom lines hold forces behind the positions."""
        return "Properties=species:S:1:pos:R:3:forces:R:3 " in self.header

    @property
    def has_stress(self) -> bool:
        """Whether the comment line holds a stress."""
        return " stress=" in self.header

    def with_yz_and_xz_exchanged(self) -> "Frame":
        """The same structure with these two components of the stress in each other's place."""

        def exchange(stress: re.Match[str]) -> str:
            xx, xy, xz, yx, yy, yz, zx, zy, zz = stress[1].split()
            return f'stress="{" ".join((xx, xy, yz, yx, yy, xz, zy, zx, zz))}"'

        header = re.sub(r'stress="([^"]*)"', exchange, self.header)
        return Frame((self.lines[0], header, *self.lines[2:]))

    @property
    def forces(self) -> list[float]:
        """All force components (eV/Å), an empty list without labels."""
        return [float(f) for atom in self.atoms for f in atom[4:7]] if self.has_forces else []


def _rounded(values: Sequence[str]) -> tuple[float, ...]:
    return tuple(round(float(value), 3) + 0.0 for value in values)


def read_frames(path: Path) -> list[Frame]:
    """Split a compressed extended XYZ file into its frames."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return list(_split(lines))


def _split(lines: Sequence[str]) -> Iterator[Frame]:
    start = 0
    while start < len(lines):
        end = start + 2 + int(lines[start])
        yield Frame(tuple(lines[start:end]))
        start = end


def allocate(available: dict[tuple[str, ...], int], n_wanted: int) -> dict[tuple[str, ...], int]:
    """Share `n_wanted` structures over strata: proportionally, but with a floor for rare ones.

    Every stratum first gets half of an equal share; the rest goes, one by one, to the stratum of
    which the smallest fraction is taken.
    """
    floor = n_wanted // (2 * len(available))
    taken = {stratum: min(n, floor) for stratum, n in available.items()}
    for _ in range(n_wanted - sum(taken.values())):
        rarest = min(available, key=lambda s: (taken[s] / available[s], s))
        taken[rarest] += 1
    return taken


def choose(frames: Sequence[Frame], n_wanted: int | None, salt: str) -> list[Frame]:
    """Take `n_wanted` frames evenly over the strata, in the order of the source."""
    if n_wanted is None or n_wanted >= len(frames):
        return list(frames)
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in sorted(range(len(frames)), key=lambda i: _draw(salt, i)):
        members[frames[index].stratum].append(index)
    shares = allocate({stratum: len(m) for stratum, m in members.items()}, n_wanted)
    chosen = [i for stratum, share in shares.items() for i in members[stratum][:share]]
    return [frames[i] for i in sorted(chosen)]


def _draw(salt: str, index: int) -> bytes:
    return hashlib.sha256(f"{SEED}:{salt}:{index}".encode()).digest()


def keep_in_one_split(
    frames: Sequence[Frame], split: str, split_of: dict[tuple, str]
) -> list[Frame]:
    """Drop frames that an earlier sample has in another split: no test structure is trained on."""
    return [frame for frame in frames if split_of.get(frame.geometry, split) == split]


def compress(frames: Sequence[Frame]) -> bytes:
    """Join frames to a gzip file without name and time stamp."""
    text = "".join(line + "\n" for frame in frames for line in frame.lines)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    return buffer.getvalue()


def describe_file(frames: Sequence[Frame], content: bytes) -> dict:
    """Describe one file of samples for `metadata.json`."""
    n_atoms = [len(frame.atoms) for frame in frames]
    return {
        "n_structures": len(frames),
        "n_atoms": sum(n_atoms),
        "atoms_min": min(n_atoms),
        "atoms_max": max(n_atoms),
        "elements": sorted(frozenset().union(*(frame.elements for frame in frames))),
        "forces": all(frame.has_forces for frame in frames),
        "stress": all(frame.has_stress for frame in frames),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def zero_force_baseline(frames: Sequence[Frame]) -> dict[str, float] | None:
    """Errors (eV/Å) of predicting zero for every force component; None without forces."""
    forces = [component for frame in frames for component in frame.forces]
    if not forces:
        return None
    mae = math.fsum(abs(f) for f in forces) / len(forces)
    rmse = math.sqrt(math.fsum(f * f for f in forces) / len(forces))
    return {"mae_eV_per_A": round(mae, 6), "rmse_eV_per_A": round(rmse, 6)}


def describe_choice(sample: Sample, available: dict[str, int], n_dropped: int) -> str:
    """Say in one sentence how a sample was chosen."""
    parts = [
        f"{split} {'all' if n is None else n} of {available[split]}"
        for split, n in zip(SPLITS, sample.sizes, strict=True)
    ]
    dropped = f"; {n_dropped} structures that another sample has in another split left out first"
    exchanged = f", but for the stresses yz and xz of {' and '.join(sample.exchanged)}, exchanged"
    return (
        f"made by select_samples.py (seed {SEED}): {', '.join(parts)}; evenly over the kinds of "
        f"configuration and elements, frames copied unchanged"
        f"{exchanged if sample.exchanged else ''}{dropped if n_dropped else ''}"
    )


def write_sample(
    sample: Sample, collection: Path, output: Path, split_of: dict[tuple, str]
) -> dict:
    """Choose, write and describe one sample; returns its metadata and adds to `split_of`."""
    folder = output / sample.folder
    folder.mkdir(parents=True, exist_ok=True)
    metadata = json.loads((collection / sample.source / "metadata.json").read_text("utf-8"))
    metadata |= {"name": sample.folder, "source_set": sample.source, "files": {}}
    available, n_dropped = {}, 0
    for split, size in zip(SPLITS, sample.sizes, strict=True):
        source = [
            frame.with_yz_and_xz_exchanged() if frame.elements <= {*sample.exchanged} else frame
            for frame in read_frames(collection / sample.source / f"{split}.extxyz.gz")
        ]
        allowed = keep_in_one_split(source, split, split_of)
        available[split] = len(source)
        n_dropped += len(source) - len(allowed)
        frames = choose(allowed, size, f"{sample.folder}:{split}")
        split_of.update((frame.geometry, split) for frame in frames)
        content = compress(frames)
        (folder / f"{split}.extxyz.gz").write_bytes(content)
        metadata["files"][f"{split}.extxyz.gz"] = describe_file(frames, content)
        if split == "test":
            metadata["zero_force_baseline_on_test"] = zero_force_baseline(frames)
    metadata["subset"] = describe_choice(sample, available, n_dropped)
    text = json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"
    (folder / "metadata.json").write_text(text, "utf-8")
    return metadata


def table_row(metadata: dict) -> str:
    """One line of the table in README.md."""
    files = metadata["files"].values()
    counts = " / ".join(str(file["n_structures"]) for file in files)
    elements = " ".join(sorted({e for file in files for e in file["elements"]}))
    labels = ["energy"]
    labels += [name for name in ("forces", "stress") if all(file[name] for file in files)]
    size = sum(file["bytes"] for file in files) / 1e6
    zero = metadata["zero_force_baseline_on_test"]
    errors = [f"{1000 * error:.0f}" for error in zero.values()] if zero else ["–", "–"]
    cells = [f"`{metadata['name']}`", metadata["level_of_theory"], counts, elements]
    cells += [", ".join(labels), f"{size:.2f}", *errors]
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    """Write all samples and print the rows of the table in README.md."""
    parser = argparse.ArgumentParser(description="Choose the samples from a larger collection.")
    parser.add_argument("collection", type=Path, help="folder with one folder per published set")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="where to write")
    options = parser.parse_args()
    split_of: dict[tuple, str] = {}
    for sample in SAMPLES:
        metadata = write_sample(sample, options.collection, options.output, split_of)
        sys.stdout.write(table_row(metadata))


if __name__ == "__main__":
    main()
