from pathlib import Path

import pytest
from gfm_pretrain.data.store.importer import import_source
from gfm_pretrain.data.store.job import ImportOptions
from small_files import write_crystals
from worlds import ALONE


@pytest.fixture(scope="session")
def imported(tmp_path_factory) -> Path:
    """A store of 60 periodic structures with all labels, beside the file it was made from."""
    folder = tmp_path_factory.mktemp("stores")
    path = write_crystals(folder / "all.extxyz", n_frames=15)
    asked = ImportOptions(
        source="extxyz",
        files=(str(path),),
        options={"group_by": "frame"},
        level_of_theory="PBE/test",
    )
    import_source(asked, folder / "store", world=ALONE)
    return folder / "store"
