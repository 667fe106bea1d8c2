"""What this package can do only with packages that are not installed with it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def packages_for(work: str, *, extra: str) -> Iterator[None]:
    """Say how to install what an optional part imports, if it is missing.

    Args:
        work: Such as "training".
        extra: Of this package, that brings it.

    Raises:
        ValueError: naming the package and the way to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{work} needs the package {error.name}: pip install 'gfmcalc[{extra}]'"
        ) from error
