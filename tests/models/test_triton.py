"""The Triton back end without a GPU: interpreted, compiled for GPUs, and when it is not there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.kernels import backend, triton_module, triton_probe
from gfm_models.kernels.backend import choose_backend
from gfm_models.kernels.compiler import BuildError
from gfm_models.kernels.edge_order import order_by_torch
from gfm_models.kernels.library import order_edges
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.triton_library import OPTIONS
from gfm_models.kernels.triton_source import triton_source
from test_fused import GRAPHS, Problem

TESTS = Path(__file__).parent / "on_triton.py"
TARGETS = [("cuda", 80, 32), ("hip", "gfx942", 64)]
PATHS = natural_paths(l_in=1, l_edge=1, l_out=1)
GPU = torch.device("cuda", 0)


def run_tests(**environment: str) -> None:
    """`on_triton.py` in a process of its own; its report is shown if it fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_interpreted() -> None:
    pytest.importorskip("triton", reason="Triton is for Linux")
    run_tests(TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no GPU")
def test_on_the_gpu() -> None:
    run_tests(TRITON_INTERPRET="0")


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_it_compiles_for_gpus_that_are_not_here(
    target: tuple[Any, Any, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which the interpreter, being lax about types, does not show."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = triton_module.import_source("edge_operation", triton_source(PATHS))
    for name in ("edge_value", "edge_tangent", "edge_gradient", "edge_curvature"):
        for real in ("fp32", "fp64"):
            compiled = compile_for(GPUTarget(*target), getattr(module, name), real)
            assert compiled.metadata.shared == 0, "programs share no memory, and wait for none"
            assert len(compiled.asm[{"cuda": "cubin", "hip": "hsaco"}[target[0]]]) > 1000


def compile_for(target: Any, function: Any, real: str) -> Any:
    """Machine code of a function, with 64 or some such number of channels."""
    import triton
    from triton.compiler import ASTSource

    known = {"BLOCK": "constexpr", "channels": "i32", "n_edges": "i64"}
    known |= dict.fromkeys(("senders", "receivers", "by_sender", "first"), "*i64")
    signature = {name: known.get(name, f"*{real}") for name in function.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, kind in enumerate(signature.values())
        if kind in (f"*{real}", "i32")
    }
    source = ASTSource(fn=function, signature=signature, constexprs={"BLOCK": 64}, attrs=aligned)
    return triton.compile(source, target=target, options=OPTIONS)


def test_constants_keep_all_their_digits_in_float64(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Triton's constants are float32 until they meet a float64 number."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = triton_module.import_source("edge_operation", triton_source(PATHS))
    code = compile_for(GPUTarget("cuda", 80, 32), module.edge_value, "fp64").asm["ptx"]
    assert "0d3FE279A74590331" in code, "1/√3 and not its neighbour in float32"


def test_a_module_is_written_once_and_written_anew_if_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = triton_module.import_source.__wrapped__
    first = fresh("answer", "answer = 42\n")
    assert first.answer == 42
    file = Path(str(first.__file__))
    with monkeypatch.context() as patch:
        patch.setattr(triton_module, "writable", None)
        assert fresh("answer", "answer = 42\n").answer == 42, "from what was kept"
    file.write_text("answer = 4")
    assert fresh("answer", "answer = 42\n").answer == 42
    assert list(file.parent.glob("*.py")) == [file]


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_order_by_torch_is_that_of_c(graph: str) -> None:
    problem = Problem(GRAPHS[graph])
    sizes = {"n_senders": problem.n_nodes, "n_receivers": problem.n_nodes + 2}
    expected = order_edges(problem.edge_index, **sizes)
    assert torch.equal(order_by_torch(problem.edge_index, **sizes), expected)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0, -1], [0, 1]], "senders in `edge_index` must lie in 0 to 4"),
        ([[0, 5], [0, 1]], "senders in `edge_index` must lie in 0 to 4"),
        ([[0, 1], [-1, 1]], "receivers in `edge_index` must lie in 0 to 1"),
        ([[0, 1], [0, 2]], "receivers in `edge_index` must lie in 0 to 1"),
        ([[0, 1], [1, 0]], "must be sorted by receiver"),
    ],
)
def test_the_order_by_torch_refuses_what_c_does(edges: list[list[int]], message: str) -> None:
    for order in (order_by_torch, order_edges):
        with pytest.raises(ValueError, match=message):
            order(torch.tensor(edges), n_senders=5, n_receivers=2)


# Choosing it.


def choose(choice: str, device: torch.device = GPU) -> str:
    return choose_backend(
        choice, path_lists=[PATHS], products=[], dtype=torch.float32, device=device
    )


def test_chosen_on_gpus_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "check_triton", lambda device: None)
    assert choose("auto") == choose("triton") == "triton"
    assert choose("auto", torch.device("xpu", 1)) == "triton"
    assert choose("reference") == "reference"
    with pytest.raises(ValueError, match=r"backend='fused' is for the CPU, .* backend='triton'"):
        choose("fused")


def test_where_it_does_not_work_a_warning_and_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(device: torch.device) -> None:
        raise BuildError("no luck")

    monkeypatch.setattr(backend, "check_triton", fail)
    backend._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="several times slower .* no luck"):
        assert choose("auto") == "reference"
    assert choose("auto") == "reference", "said once"
    with pytest.raises(BuildError, match="no luck"):
        choose("triton")


def test_not_for_the_cpu() -> None:
    model = Backbone(BackboneConfig(channels=2, radial_hidden=(4,)), backend="triton")
    with pytest.raises(ValueError, match=r"is for GPUs \(cuda, xpu\), the model is on 'cpu'"):
        model.backend  # noqa: B018 (asking is what fails)


def test_the_probe_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"Triton fails on 'cpu': \w"):
        triton_probe.check_triton(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_module.import_source.cache_clear()
    with pytest.raises(BuildError, match=r"cannot be imported .* `pip install triton`"):
        triton_probe.check_triton(torch.device("cpu"))
