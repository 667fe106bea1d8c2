"""A small checkpoint of two heads, and a hub on the loopback interface for the real client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import save
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from loopback_hub import TOKEN, LoopbackHub

TRAINING = {
    "code_version": "0.1.0",
    "n_ranks": 2,
    "seed": 7,
    "steps": 1200,
    "wall_seconds": 283.1,
    "config": {},
    "heads": {
        "rmd17": {
            "n_train": 1000,
            "n_valid": 50,
            "n_test": 150,
            "data": {"train": {"path": "/home/anna/data/rmd17.extxyz", "sha256": "ab" * 32}},
            "test": {
                "energy_mae_per_atom": 0.0012345,
                "energy_rmse_per_atom": 0.002,
                "forces_mae": 0.0345,
                "forces_rmse": 0.05,
            },
            "baseline": {
                "energy_mae_per_atom": 0.2,
                "energy_rmse_per_atom": 0.3,
                "forces_mae": 1.234,
                "forces_rmse": 1.8,
            },
        }
    },
}


def head_config(elements: str, **facts) -> HeadConfig:
    symbols = elements.split()
    zeros, ones = dict.fromkeys(symbols, -13.6), dict.fromkeys(symbols, 1.0)
    return HeadConfig(reference_energies=zeros, scales=ones, width=4, **facts)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint folder with heads `rmd17` (H C O) and `mptrj` (H C N O Si)."""
    heads = {
        "rmd17": head_config(
            "H C O",
            level_of_theory="PBE/def2-SVP",
            description="small molecules",
            licence="CC0 1.0",
            labels=("energy", "forces"),
        ),
        "mptrj": head_config(
            "H C N O Si",
            level_of_theory="PBE+U",
            description="inorganic crystals",
            reference_origin="fitted",
            licence="MIT",
            labels=("energy", "forces", "stress"),
        ),
    }
    backbone = BackboneConfig(channels=4, radial_hidden=(4,), element_channels=4)
    save(build_potential(backbone, heads), tmp_path / "run" / "checkpoint", training=TRAINING)
    return tmp_path / "run" / "checkpoint"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running hub; the client talks to it with a valid token and an empty cache."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the loopback hub has no xet
    with LoopbackHub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running
