"""The command `gfm`: import data, plan and watch runs, publish, get and look into checkpoints."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gfm_pretrain.command_line import parse_once

from gfmcalc.command_line import with_dashes
from gfmcalc.data_cli import add_data
from gfmcalc.plan_cli import add_plan
from gfmcalc.watch_cli import add_watch

FORMS = "a run folder, a checkpoint folder, or org/name[@revision] on the Hugging Face hub"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the words after `gfm`; None takes those of this process.

    Returns:
        The exit status: 0, 1 if `info` found damage, 2 after an error of the user, which is told
        in one line.
    """
    words = with_dashes(sys.argv[1:] if argv is None else argv)
    arguments = parse_once(lambda: _parse(words), program="gfm")
    try:
        return arguments.command(arguments)
    except (ValueError, TypeError, OSError) as error:
        sys.stderr.write(f"gfm: error: {' '.join(str(error).split())}\n")
        return 2


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """What was asked for; settings such as `training.steps=10` may also come after options."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and not ("overrides" in arguments and all(map(_is_override, rest))):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gfm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_data(commands)
    add_plan(commands)
    add_watch(commands)
    _add_publish(commands)
    _add_pull(commands)
    _add_info(commands)
    return parser


# argparse has no public name for the type of what `add_subparsers` returns.
def _add_command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def _add_publish(commands) -> None:
    text = "verify a checkpoint, write its model card, and put it into a folder or on the hub"
    parser = _add_command(commands, "publish", _publish, text)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder or a checkpoint folder")
    parser.add_argument("--to", required=True, metavar="FOLDER|org/name", help="where to")
    parser.add_argument(
        "--best", metavar="HEAD", help="of a run, this head as it was at its best on validation"
    )
    parser.add_argument("--tag", help="name for this version on the hub")
    parser.add_argument("--private", action="store_true", help="for the owner of the hub repo only")


def _add_pull(commands) -> None:
    text = "download a checkpoint, or some of its heads, and verify every file"
    parser = _add_command(commands, "pull", _pull, text)
    parser.add_argument("source", metavar="SOURCE", help=FORMS)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="copy it there")
    parser.add_argument("--head", nargs="+", action="extend", metavar="H", help="only these heads")


def _add_info(commands) -> None:
    text = "show architecture, heads, reference energies and test errors of a checkpoint"
    parser = _add_command(commands, "info", _info, text)
    parser.add_argument("model", metavar="MODEL", help=FORMS)


def _publish(arguments: argparse.Namespace) -> int:
    from gfmcalc.checkpoint_folder import best_folder
    from gfmcalc.hub import publish

    source = arguments.run if arguments.best is None else best_folder(arguments.run, arguments.best)
    tag, private = arguments.tag, arguments.private
    _write(publish(source, arguments.to, revision_tag=tag, private=private))
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    from gfmcalc.hub import pull

    _write(str(pull(arguments.source, to=arguments.to, heads=arguments.head)))
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from gfmcalc.hub import resolve_model
    from gfmcalc.info import describe, find_damage

    folder = resolve_model(arguments.model)
    damage = find_damage(folder)
    _write(describe(folder, damage))
    return 0 if damage is None else 1


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
