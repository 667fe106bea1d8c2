"""Checkpoints: what is written is what is read, and damage of any kind is named."""

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gfm_models
import pytest
import torch
from ase.build import bulk, molecule
from gfm_models import checkpoint
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.checkpoint import CheckpointError, load, read_config, read_training, save, verify
from gfm_models.derivatives import predict
from gfm_models.graph import graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from safetensors.torch import load_file, save_file

FILES = {
    "config.json",
    "backbone.safetensors",
    "training.json",
    "heads/organic.safetensors",
    "heads/metals.safetensors",
}
TRAINING = {"code_version": "0.1.0", "seeds": [1, 2], "note": "Å"}


@pytest.fixture
def folder(potential: MultiHeadPotential, tmp_path: Path) -> Path:
    save(potential, tmp_path / "model", training=TRAINING)
    return tmp_path / "model"


def rewrite_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration as a careful forger would, all its checksums made good."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    for name in config["files"]:
        config["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    del config["sha256"]
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    config["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(config), encoding="utf-8")


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(
        x[k].dtype == y[k].dtype and torch.equal(x[k], y[k]) for k in x
    )


# What is written is read.


def test_round_trip_is_bitwise(potential: MultiHeadPotential, folder: Path) -> None:
    loaded = load(folder, dtype=torch.float64)
    assert same_weights(loaded, potential)
    assert loaded.head_names == potential.head_names
    assert loaded.backbone.config == potential.backbone.config
    for name in potential.head_names:
        assert loaded.head(name).config == potential.head(name).config
    for head, atoms in (("organic", molecule("CH4")), ("metals", bulk("Cu"))):
        graph = graph_from_atoms(atoms, cutoff=potential.cutoff)
        a, b = (predict(p, graph, head) for p in (loaded, potential))
        assert torch.equal(a.energy, b.energy)
        assert torch.equal(a.forces, b.forces)
        assert torch.equal(a.virial, b.virial)


def test_saving_again_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save(load(folder, dtype=torch.float64), tmp_path / "again", training=TRAINING)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_exactly_these_files_are_written(folder: Path) -> None:
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == FILES
    config = read_config(folder)
    assert set(config["files"]) == FILES - {"config.json"}
    assert config["elements"] == ["C", "Cu", "H", "Ni", "O"]
    assert list(config["heads"]) == ["organic", "metals"]


def test_training_record_is_read(folder: Path) -> None:
    assert read_training(folder) == TRAINING


def test_every_field_of_a_head_survives(backbone_config: BackboneConfig, tmp_path: Path) -> None:
    head = HeadConfig(
        level_of_theory="r²SCAN",
        reference_energies={"H": -13.6},
        scales={"H": 0.5},
        reference_origin="free atoms",
        description="for tests",
        source="made up",
        licence="CC-BY-4.0",
        citation='A. "B" C, 2024',
        labels=("energy", "forces"),
        width=7,
        stale=True,
    )
    potential = build_potential(backbone_config, {"h": head})
    save(potential, tmp_path, training={})
    assert load(tmp_path).head("h").config == head


@pytest.mark.parametrize(
    ("written", "read"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_another_precision_is_the_rounded_one(
    backbone_config: BackboneConfig,
    head_configs: Mapping[str, HeadConfig],
    tmp_path: Path,
    written: torch.dtype,
    read: torch.dtype,
) -> None:
    potential = build_potential(backbone_config, head_configs, dtype=written)
    save(potential, tmp_path, training={})
    loaded = load(tmp_path, dtype=read)
    assert loaded.backbone.dtype == read
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, potential.state_dict()[name].to(read)), name
    for name, head in potential.heads.items():
        table = loaded.head(name).get_buffer("reference_energies")
        assert torch.equal(table, head.get_buffer("reference_energies"))
    buffers = dict(Backbone(backbone_config, dtype=read).named_buffers())
    assert len(buffers) > 0
    for name, buffer in loaded.backbone.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_one_head_needs_no_other_heads_file(potential: MultiHeadPotential, folder: Path) -> None:
    (folder / "heads/organic.safetensors").unlink()
    loaded = load(folder, heads=["metals"], dtype=torch.float64)
    assert loaded.head_names == ("metals",)
    assert same_weights(loaded.head("metals"), potential.head("metals"))
    with pytest.raises(CheckpointError, match=r"heads/organic\.safetensors is missing"):
        load(folder)


def test_an_unknown_head_lists_those_there_are(folder: Path) -> None:
    message = "no head 'pbe'; the heads are: organic (PBE/def2-SVP), metals (PBE, plane waves)"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(folder, heads=["pbe"])


# Damage is named.


def positions(size: int) -> list[int]:
    return sorted({0, 1, 7, 8, 9, size // 3, size // 2, size - 2, size - 1})


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_flipped_byte_is_found(folder: Path, name: str) -> None:
    path = folder / name
    original = path.read_bytes()
    for position in positions(len(original)):
        damaged = bytearray(original)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            load(folder)
    path.write_bytes(original)
    verify(folder)


def test_every_single_byte_of_the_configuration_counts(folder: Path) -> None:
    """But for white space, which no flipped bit makes of white space."""
    path = folder / "config.json"
    original = path.read_bytes()
    for position in range(len(original)):
        damaged = bytearray(original)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_config(folder)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("kept", [0, 5, 0.5, -1], ids=str)
def test_a_truncated_file_is_found(folder: Path, name: str, kept: float) -> None:
    path = folder / name
    content = path.read_bytes()
    end = int(kept * len(content)) if 0 < kept < 1 else int(kept)
    # The last byte of config.json is a line break, without which it is whole.
    path.write_bytes(content.rstrip()[:end])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(folder)


@pytest.mark.parametrize("name", sorted(FILES - {"config.json"}))
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{re.escape(name)} is missing; download"):
        load(folder)


def test_a_folder_without_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    for place in (folder, tmp_path / "nowhere"):
        with pytest.raises(
            FileNotFoundError, match=r"holds no checkpoint: config\.json is missing"
        ):
            load(place)


def test_the_files_of_two_heads_may_not_change_places(folder: Path) -> None:
    a, b = (folder / f"heads/{name}.safetensors" for name in ("organic", "metals"))
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "null", "3", '{"format": "other"}', "{}"])
def test_another_kind_of_json_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="does not describe a gfm-checkpoint"):
        load(folder)


# A configuration that is whole, and wrong.


def test_a_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    rewrite_config(folder, lambda config: config.update(format_version=2))
    with pytest.raises(CheckpointError, match="format version 2, this gfmcalc reads 1; upgrade"):
        load(folder)


@pytest.mark.parametrize(
    ("option", "value", "tensor"),
    [
        ("channels", 4096, "carry.0.weight"),
        ("n_interactions", 3, "carry.0.weight"),
        ("n_interactions", 1, "carry.0.weight"),
        ("radial_hidden", [9], "interactions.0.radial.mlp.0.bias"),
    ],
)
def test_other_shapes_are_refused_before_memory_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: Any, tensor: str
) -> None:
    rewrite_config(folder, lambda config: config["architecture"].update({option: value}))
    refuse_memory(monkeypatch)
    with pytest.raises(CheckpointError, match=rf"backbone\.safetensors does not fit .*{tensor}"):
        load(folder)


def test_a_head_of_other_width_is_refused_before_memory_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_config(folder, lambda config: config["heads"]["organic"].update(width=65))
    refuse_memory(monkeypatch)
    with pytest.raises(
        CheckpointError,
        match=r"organic\.safetensors does not fit .* should have shape \[65, 8\], has \[64, 8\]",
    ):
        load(folder)


def refuse_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a potential be built without memory (on the meta device) and no other way."""

    def only_without_memory(*args: Any, **kwargs: Any) -> MultiHeadPotential:
        potential = build_potential(*args, **kwargs)
        assert all(p.is_meta for p in potential.parameters()), "memory was taken"
        return potential

    monkeypatch.setattr(checkpoint, "build_potential", only_without_memory)


@pytest.mark.parametrize("value", [10**9, 0, -4])
def test_absurd_sizes_are_refused(folder: Path, value: int) -> None:
    rewrite_config(folder, lambda config: config["architecture"].update(channels=value))
    with pytest.raises(ValueError, match=r"model\.channels must lie in 1 to 4096"):
        load(folder)


@pytest.mark.parametrize("extra", [True, False])
def test_extra_or_missing_tensors_are_refused(folder: Path, extra: bool) -> None:
    path = folder / "backbone.safetensors"
    tensors = load_file(path)
    if extra:
        tensors["surplus"] = torch.zeros(1)
    else:
        del tensors["senders.bias"]
    save_file(tensors, path)
    rewrite_config(folder, lambda config: None)
    name = "surplus" if extra else "senders.bias"
    with pytest.raises(CheckpointError, match=f"does not fit the architecture .*: {name} should"):
        load(folder)


def test_weights_that_are_no_safetensors_are_damaged(folder: Path) -> None:
    (folder / "backbone.safetensors").write_bytes(b"\x80\x04" + b"pickle" * 99)
    rewrite_config(folder, lambda config: None)
    with pytest.raises(CheckpointError, match=r"backbone\.safetensors is damaged"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "a\\b", "", ".a", "a.b", "/a", "a b", "ä", "x" * 65, "a\n", "-x", "train"],
)
def test_names_that_are_no_file_names_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a head"):
        checkpoint.check_head_name(name)

    def rename(config: dict[str, Any]) -> None:
        config["heads"][name] = config["heads"].pop("metals")

    rewrite_config(folder, rename)
    with pytest.raises(ValueError, match="is no name for a head"):
        load(folder)


@pytest.mark.parametrize("name", ["mptrj", "PBE0_def2-TZVP", "wB97M-D3BJ", "r2scan+d4", "3ob"])
def test_usual_names_can_be_built_saved_and_loaded(
    backbone_config: BackboneConfig,
    head_configs: Mapping[str, HeadConfig],
    tmp_path: Path,
    name: str,
) -> None:
    potential = build_potential(backbone_config, {name: head_configs["organic"]})
    save(potential, tmp_path, training={})
    assert (tmp_path / "heads" / f"{name}.safetensors").is_file()
    assert load(tmp_path, heads=[name]).head_names == (name,)


def test_nothing_that_can_run_code_is_read() -> None:
    """No pickle: neither torch.load nor any module that unpickles, anywhere in the package."""
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in Path(gfm_models.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                names = {module or ""} | {alias.name for alias in node.names}
                assert not {n.split(".")[0] for n in names} & forbidden, path
                assert not (module == "torch" and "load" in names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path


def test_a_file_that_is_not_listed_is_not_read(folder: Path) -> None:
    rewrite_config(folder, lambda config: config["files"].pop("backbone.safetensors"))
    with pytest.raises(CheckpointError, match=r"heads and files do not agree on .*backbone"):
        load(folder)


@pytest.mark.parametrize("value", ["4", 4.5, None])
def test_an_architecture_of_other_types_is_refused(folder: Path, value: object) -> None:
    rewrite_config(folder, lambda config: config["architecture"].update(l_max=value))
    with pytest.raises(CheckpointError):
        load(folder)


def test_a_full_folder_is_not_saved_into(potential: MultiHeadPotential, folder: Path) -> None:
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        save(potential, folder, training={})
