"""The back end is chosen openly: what each choice gives, and what is said when it cannot be had."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.graph import edge_vectors, graph_from_atoms
from gfm_models.kernels import backend, edge_library, library, product_library
from gfm_models.kernels.compiler import BuildError
from gfm_models.potential import MultiHeadPotential

TINY = BackboneConfig(channels=2, n_radial=2, radial_hidden=(4,), element_channels=2)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As on a machine without one, in a process that has built nothing yet."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caches = (
        edge_library.edge_library,
        library.order_library,
        product_library.product_library,
        backend._warn_once,
    )
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def features(backbone: Backbone) -> torch.Tensor:
    graph = graph_from_atoms(molecule("H2O"), cutoff=5.0)
    return backbone(graph, edge_vectors(graph))


def test_fused_where_it_can_be_built(potential: MultiHeadPotential) -> None:
    assert potential.backbone.backend == "fused"


def test_the_choice_can_be_changed() -> None:
    backbone = Backbone(TINY, dtype=torch.float64)
    fused = features(backbone)
    backbone.backend = "reference"
    assert backbone.backend == "reference"
    torch.testing.assert_close(features(backbone), fused, atol=1e-12, rtol=0)
    assert Backbone(TINY, backend="reference").backend == "reference"


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(
        ValueError, match="no back end 'cuda'; they are: auto, fused, triton, reference"
    ):
        Backbone(TINY, backend="cuda")  # pyright: ignore[reportArgumentType] (that is the point)
    backbone = Backbone(TINY)
    with pytest.raises(ValueError, match="no back end 'Fused'"):
        backbone.backend = "Fused"  # pyright: ignore[reportAttributeAccessIssue] (the same)


def test_elsewhere_than_on_the_cpu() -> None:
    backbone = Backbone(TINY)
    assert backbone.backend == "fused"
    assert backbone.to("meta").backend == "reference"
    backbone.backend = "fused"
    with pytest.raises(ValueError, match="backend='fused' is for the CPU, the model is on 'meta'"):
        backbone.backend  # noqa: B018 (asking is what fails)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_a_warning_and_the_reference() -> None:
    backbone = Backbone(TINY)
    with pytest.warns(
        RuntimeWarning, match=r"several times slower .*found no C compiler .*install"
    ):
        assert backbone.backend == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Backbone(TINY).backend == "reference", "said once"
        features(backbone)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_an_error_for_those_who_insist() -> None:
    backbone = Backbone(TINY, backend="fused")
    with pytest.raises(BuildError, match="found no C compiler"):
        features(backbone)


@pytest.mark.usefixtures("no_compiler")
def test_nothing_is_built_before_it_is_needed() -> None:
    Backbone(TINY, backend="fused").to(torch.float64)
    assert Backbone(TINY, backend="reference").backend == "reference"


def test_copies_keep_the_choice() -> None:
    assert copy.deepcopy(Backbone(TINY, backend="reference")).backend == "reference"


def test_the_choice_is_no_weight() -> None:
    assert (
        Backbone(TINY).state_dict().keys()
        == Backbone(TINY, backend="reference").state_dict().keys()
    )
