"""Extended XYZ of any size, plain or compressed, as users bring it."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from gfm_pretrain.data.extxyz import BROKEN_FILE, open_text, parse_frame, split_frames
from gfm_pretrain.data.sources.source import Block, Options, Record, Refused, Source
from gfm_pretrain.data.sources.user_file import (
    BLOCKS_PER_PART,
    FRAMES_PER_BLOCK,
    LABELS,
    Frame,
    FrameRules,
    describe,
    frame_rules,
    read_frames,
    unknown_facts,
    user_options,
)

MOST_LETTERS = 16_000_000
"""Text that a block holds at most, besides its last frame."""


def _blocks(path: Path, options: Options) -> Iterator[Block]:
    rules = frame_rules(path, options, (_frame(path, i, t) for i, t, _ in _texts(path)))
    texts: list[tuple[int, str]] = []
    n_letters, done = 0, 0.0
    for index, text, done in _texts(path):
        texts.append((index, text))
        n_letters += len(text)
        if len(texts) == FRAMES_PER_BLOCK or n_letters >= MOST_LETTERS:
            yield Block(read=partial(_read_block, rules, texts), done=done)
            texts, n_letters = [], 0
    if texts:
        yield Block(read=partial(_read_block, rules, texts), done=done)


def _read_block(rules: FrameRules, texts: Iterable[tuple[int, str]]) -> Iterator[Record | Refused]:
    return read_frames(rules, (_frame(rules.path, index, text) for index, text in texts))


def _frame(path: Path, index: int, text: str) -> Frame:
    return Frame(place=f"{path.name}:{index}", read=partial(parse_frame, text))


def _texts(path: Path) -> Iterator[tuple[int, str, float]]:
    """Number and text of each frame, and the part of the file that was read so far."""
    size, index = max(1, path.stat().st_size), 0
    try:
        with path.open("rb") as raw, open_text(raw, path) as stream:
            for text in split_frames(stream):
                yield index, text, raw.tell() / size
                index += 1
    except BROKEN_FILE as error:
        raise ValueError(f"{path.name}, frame {index}: {describe(error)}") from error


SOURCE = Source(
    name="extxyz",
    layout="extended XYZ (.xyz, .extxyz, also .gz, .bz2, .xz) with labels in eV and Å",
    keys=LABELS,
    facts=unknown_facts,
    blocks=_blocks,
    blocks_per_part=BLOCKS_PER_PART,
    options=user_options(group_by="formula"),
)
