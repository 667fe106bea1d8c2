"""Writing that goes on beside the training, one piece at a time, agreed on by all ranks."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from gfm_pretrain.process import World, all_reduce_sum, gather_objects

Notes = Mapping[str, Any]
"""What a rank tells the others of what it has written, such as the SHA-256 of its files."""

SECONDS_BETWEEN_LOOKS = 0.2
"""How long ranks that wait for one another's writing wait between two looks. Each look is a message
of its own, so that no disk is so slow that a collective runs into its time limit."""


class WritingError(OSError):
    """Something could not be written; the same on every rank."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to be written, by all ranks and then by rank 0."""

    name: str
    """What errors call it."""
    write: Callable[[], Notes]
    """What each rank does."""
    commit: Callable[[Notes], None]
    """What rank 0 does when all ranks have done theirs, with the notes of all."""


class Background:
    """One job at a time, in a thread of each rank, without messages from these threads.

    A collective from a second thread could cross one of the training and stop both for ever. So
    ranks only note that their thread has finished (`is_ready`), the training sums these notes along
    with the losses, and when all are ready every rank calls `settle` after the same step.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._job: Job | None = None
        self._work: Future[Notes] | None = None
        self._is_commit = False

    @property
    def is_busy(self) -> bool:
        """Whether there is a job that was not settled; the same on every rank."""
        return self._job is not None

    @property
    def is_ready(self) -> bool:
        """Whether this rank waits for the others to settle what it has done."""
        return self._work is not None and self._work.done()

    def start(self, job: Job) -> None:
        """Begin a job; wait for the one before. Call on every rank.

        Raises:
            WritingError: the one before could not be written.
        """
        self.finish()
        self._job, self._is_commit = job, self._world.size == 1
        both = self._is_commit  # alone there is nothing to agree on
        self._work = self._pool.submit(_write_and_commit if both else _write, job)

    def settle(self) -> None:
        """Go on to the commit, or be done with it. Call on every rank, when all are ready.

        Raises:
            WritingError: some rank could not write; the same on every rank.
        """
        assert self._job is not None
        assert self._work is not None
        job, work = self._job, self._work
        self._job = self._work = None
        notes = _agreed(self._world, job, work)
        if self._is_commit:
            return
        self._job, self._is_commit = job, True
        self._work = self._pool.submit(_commit, job, notes if self._world.rank == 0 else None)

    def finish(self) -> None:
        """Wait until what was begun is done. Call on every rank.

        Raises:
            WritingError: some rank could not write; the same on every rank.
        """
        while self._work is not None:
            self._world.pulse.beat("waiting for what is written", waits=True)
            wait([self._work], timeout=SECONDS_BETWEEN_LOOKS)
            ready = torch.tensor(float(self.is_ready), device=self._world.device)
            if all_reduce_sum(self._world, ready).item() == self._world.size:
                self.settle()

    def close(self) -> None:
        """Begin nothing more; alone, wait for the thread. Others may wait for this rank's error."""
        self._pool.shutdown(wait=self._world.size == 1)


def _write(job: Job) -> Notes:
    return job.write()


def _commit(job: Job, notes: Notes | None) -> Notes:
    if notes is not None:
        job.commit(notes)
    return {}


def _write_and_commit(job: Job) -> Notes:
    return _commit(job, job.write())


def _agreed(world: World, job: Job, work: Future[Notes]) -> Notes:
    """The notes of all ranks together, or the same error on all of them."""
    error = work.exception()
    if error is not None and not isinstance(error, (OSError, ValueError)):
        raise error  # a mistake of ours: the traceback says more than agreement
    told = gather_objects(world, (None, str(error)) if error else (work.result(), ""))
    wrong = [(rank, said) for rank, (notes, said) in enumerate(told) if notes is None]
    if wrong:
        rank, said = wrong[0]
        place = f" on rank {rank} of {world.size}" if world.size > 1 else ""
        raise WritingError(
            f"{job.name} could not be written{place}: {said}; what was written before is as it was"
        ) from error
    return {key: value for notes, _ in told for key, value in notes.items()}
