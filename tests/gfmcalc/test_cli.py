"""The command `gfm`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gfm_models.checkpoint import BACKBONE_FILE, head_file, verify
from loopback_hub import LoopbackHub

from gfmcalc.cli import main, with_dashes


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a user's error prints."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_publish_the_best_of_a_head(checkpoint: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(checkpoint, tmp_path / "run" / "best" / "rmd17")
    shutil.copytree(checkpoint, tmp_path / "run" / "best" / "wb97x.unfinished")
    command = ["publish", str(tmp_path / "run"), "--to", str(tmp_path / "shared"), "--best"]
    assert main([*command, "rmd17"]) == 0
    verify(tmp_path / "shared")
    capsys.readouterr()
    assert main([*command, "wb97x"]) == 2
    said = "keeps no best weights of a head 'wb97x'; it keeps rmd17"
    assert said in capsys.readouterr().err


def test_publish_pull_and_info(checkpoint: Path, tmp_path: Path, capsys) -> None:
    assert main(["publish", str(checkpoint.parent), "--to", str(tmp_path / "shared")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'shared'}\n"
    assert main(["pull", str(tmp_path / "shared"), "--to", str(tmp_path / "mine")]) == 0
    verify(tmp_path / "mine")
    assert main(["info", str(tmp_path / "mine")]) == 0


def test_info_shows_what_there_is(checkpoint: Path, capsys) -> None:
    assert main(["info", str(checkpoint)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["verified", "yes,", "by", "SHA-256"] in lines
    assert ["channels", "4"] in lines
    assert [head_file("rmd17"), "36"] in lines
    assert ["rmd17", "forces", "meV/Å", "150", "34.5", "50.0", "1234", "1800", "-"] in lines
    assert any({"mptrj", "PBE+U", "crystals", "fitted"} <= set(line) for line in lines)


def test_info_of_one_downloaded_head(checkpoint: Path, tmp_path: Path, capsys) -> None:
    to = ["--to", str(tmp_path / "mine")]
    assert main(["pull", str(checkpoint), *to, "--head", "mptrj"]) == 0
    assert main(["info", str(tmp_path / "mine")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [head_file("rmd17"), "not", "here"] in lines
    assert ["verified", "yes,", "by", "SHA-256"] in lines


def test_info_of_damage_says_so_and_fails(checkpoint: Path, capsys) -> None:
    data = (checkpoint / BACKBONE_FILE).read_bytes()
    (checkpoint / BACKBONE_FILE).write_bytes(bytes(8) + data[8:])
    assert main(["info", str(checkpoint)]) == 1
    out = capsys.readouterr().out
    assert f"NO: {checkpoint / BACKBONE_FILE} is damaged" in out
    assert "unreadable" in out


@pytest.mark.parametrize("words", [["--head", "rmd17", "mptrj"], ["--head=rmd17", "--head=mptrj"]])
def test_several_heads(words: list[str], checkpoint: Path, tmp_path: Path) -> None:
    assert main(["pull", str(checkpoint), "--to", str(tmp_path / "mine"), *words]) == 0
    verify(tmp_path / "mine")


def test_missing_model_is_one_line(capsys) -> None:
    assert main(["info", "gfm-large"]) == 2
    assert error_of(capsys).startswith("gfm: error: no checkpoint at 'gfm-large': give ")


def test_unknown_head_is_one_line(checkpoint: Path, capsys) -> None:
    assert main(["pull", str(checkpoint), "--head", "oc20"]) == 2
    assert "the heads are: rmd17" in error_of(capsys)


def test_damage_is_one_line(checkpoint: Path, capsys) -> None:
    (checkpoint / BACKBONE_FILE).write_bytes(b"")
    assert main(["pull", str(checkpoint)]) == 2
    assert f"{BACKBONE_FILE} is damaged" in error_of(capsys)


@pytest.mark.hub
@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # see test_hub.py
def test_hub_through_the_command(hub: LoopbackHub, checkpoint: Path, capsys) -> None:
    assert main(["publish", str(checkpoint), "--to", "org/name", "--tag", "v1"]) == 0
    published = capsys.readouterr().out.strip()
    assert main(["pull", "org/name@v1", "--head", "rmd17"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == published.split("@")[1]


@pytest.mark.hub
def test_no_token_is_one_line(hub: LoopbackHub, checkpoint: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert main(["publish", str(checkpoint), "--to", "org/name"]) == 2
    assert "hf auth login" in error_of(capsys)


@pytest.mark.hub
def test_refusal_of_the_hub_is_one_line(hub: LoopbackHub, capsys) -> None:
    assert main(["pull", "org/missing"]) == 2
    assert error_of(capsys).startswith("gfm: error: org/missing: no such model at http://127")


def test_underscores_in_options_only() -> None:
    words = ["pull", "a_b", "--some_option=c_d", "--other_one", "-x_y"]
    assert with_dashes(words) == ["pull", "a_b", "--some-option=c_d", "--other-one", "-x_y"]


def test_missing_command_is_an_error_of_usage(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_help_needs_no_slow_imports() -> None:
    code = (
        "import sys\n"
        "from gfmcalc.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'numpy', 'ase', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "publish" in done.stdout
