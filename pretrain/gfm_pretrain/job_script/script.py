"""The job script of a run."""

from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.pbs_script import pbs_script
from gfm_pretrain.job_script.slurm_script import slurm_script


def job_script(job: Job) -> str:
    """The whole text, for `sbatch` or `qsub`.

    The run is warned before its time is over, saves and ends; then the job goes back into the
    queue (Slurm) or says that it is to be submitted again (PBS). The same script continues it.
    """
    writer = {"slurm": slurm_script, "pbs": pbs_script}[job.where.scheduler]
    return "\n".join([*writer(job), ""])
