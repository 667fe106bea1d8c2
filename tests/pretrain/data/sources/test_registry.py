import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.units import Bohr, Hartree
from gfm_pretrain.data.sources.registry import SOURCES, source_named, source_names
from gfm_pretrain.data.sources.source import (
    Block,
    Facts,
    Options,
    Record,
    Refused,
    Source,
    resolve_options,
)

NAMES = (
    *("ani1x", "qm7x", "transition1x", "mptrj", "alexandria"),
    *("aselmdb", "ase-db", "ase-traj", "extxyz"),
)


def test_names_of_the_sources():
    assert source_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_there_and_described(name):
    source = source_named(name)
    assert source.name == name
    assert "\n" not in source.layout
    assert {"energy", "forces"} <= source.keys.keys()
    assert 1 <= source.blocks_per_part <= 1000
    options = resolve_options(source, {})
    assert isinstance(source.facts(options), Facts)
    assert all(option.help and "\n" not in option.help for option in source.options.values())


def test_an_unknown_name_lists_the_valid_ones():
    message = "no source is named 'mp-trj'; there are ani1x, .*, extxyz; did you mean 'mptrj'?"
    with pytest.raises(ValueError, match=message):
        source_named("mp-trj")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "gfm_pretrain.data.sources.aselmdb", raising=False)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    message = r"source aselmdb needs lmdb; pip install 'gfmcalc\[data\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        source_named("aselmdb")
    assert source_named("extxyz").name == "extxyz"


# A source from its published layout: SPICE, HDF5, a group per molecule, Hartree and Bohr.
def spice_blocks(path: Path, _options: Options) -> Iterator[Block]:
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path.name} is not an HDF5 file")
    with h5py.File(path) as file:
        names = list(file)
    for place, name in enumerate(names):
        yield Block(read=partial(read_molecule, path, name), done=(place + 1) / len(names))


def read_molecule(path: Path, name: str) -> Iterator[Record | Refused]:
    with h5py.File(path) as file:
        molecule = file[name]
        assert isinstance(molecule, h5py.Group)
        try:
            arrays = {key: np.asarray(value) for key, value in molecule.items()}
            yield from records_of_molecule(name, arrays)
        except (OSError, KeyError) as error:
            yield Refused(identifier=name, kind="unreadable", reason=str(error))


def records_of_molecule(name: str, arrays: dict[str, np.ndarray]) -> Iterator[Record]:
    for i, positions in enumerate(arrays["conformations"]):
        yield Record(
            identifier=f"{name}:{i}",
            group=name,
            atomic_numbers=arrays["atomic_numbers"],
            positions=positions * Bohr,
            energy=float(arrays["dft_total_energy"][i]) * Hartree,
            forces=-arrays["dft_total_gradient"][i] * Hartree / Bohr,
        )


def spice_facts(_options: Options) -> Facts:
    return Facts(level_of_theory="ωB97M-D3(BJ)/def2-TZVPPD", licence="MIT")


SPICE = Source(
    name="spice",
    layout="SPICE-*.hdf5; Hartree and Bohr",
    keys={
        "energy": "dft_total_energy, Hartree",
        "forces": "minus dft_total_gradient, Hartree/Bohr",
    },
    facts=spice_facts,
    blocks=spice_blocks,
    blocks_per_part=50,
)


def test_another_source_is_a_function_and_an_entry(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "spice", lambda: SPICE)
    path = tmp_path / "SPICE.hdf5"
    with h5py.File(path, "w") as file:
        molecule = file.create_group("[H][H]")
        molecule["atomic_numbers"] = [1, 1]
        molecule["conformations"] = np.array([[[0.0, 0, 0], [0, 0, 1.4]]] * 2)
        molecule["dft_total_energy"] = [-1.0, -2.0]
        molecule["dft_total_gradient"] = np.array([[[0.0, 0, 0.1], [0, 0, -0.1]]] * 2)
        file.create_group("broken")
    source = source_named("spice")
    blocks = list(source.blocks(path, resolve_options(source, {})))
    assert [block.done for block in blocks] == [0.5, 1.0]
    first, second = blocks[0].read()
    [broken] = blocks[1].read()
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert isinstance(broken, Refused)
    assert second.identifier == "[H][H]:1"
    assert second.energy == pytest.approx(-2 * 27.211386)
    assert first.positions[1, 2] == pytest.approx(1.4 * 0.529177)
    assert first.forces is not None
    assert first.forces[0, 2] == pytest.approx(-0.1 * 27.211386 / 0.529177)
