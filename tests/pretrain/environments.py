"""What launchers set, as their processes saw it: rank 1 of 3, or the one that a test is about."""

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "GROUP_WORLD_SIZE": "1",
}
BY_HAND = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
# Open MPI 5.0.11
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
    "PMIX_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "3",
}
# MPICH 5.0.2, Intel MPI 2021.18
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "3", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "3"}
MVAPICH = {
    "MV2_COMM_WORLD_RANK": "1",
    "MV2_COMM_WORLD_SIZE": "3",
    "MV2_COMM_WORLD_LOCAL_RANK": "1",
    "MV2_COMM_WORLD_LOCAL_SIZE": "3",
}
# mpiexec of PBS Pro on Cray systems, from public job scripts: with PMIx, and with Cray's PMI
PALS_PMIX = {
    "PALS_RANKID": "13",
    "PALS_LOCAL_RANKID": "1",
    "PALS_LOCAL_SIZE": "12",
    "PALS_NODEID": "1",
    "PMIX_RANK": "13",
    "PBS_NODEFILE": "/var/spool/pbs/aux/1",
}
PALS_CRAY = {**PALS_PMIX, "PMI_RANK": "13", "PMI_SIZE": "24"}
del PALS_CRAY["PMIX_RANK"]
# srun -N2 -n3 of Slurm 22.05
SRUN = {
    "SLURM_JOB_ID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}
SRUN_PMI2 = {**SRUN, "PMI_RANK": "1", "PMI_SIZE": "3", "PMI_JOBID": "2.0"}
SRUN_PMIX = {**SRUN, "PMIX_RANK": "1", "PMIX_NAMESPACE": "slurm.pmix.2.0"}
# srun with --mpi=cray_shasta, from the source of Slurm
SRUN_CRAY = {**SRUN_PMI2, "PALS_RANKID": "1", "PALS_NODEID": "0", "PALS_LOCAL_RANKID": "1"}
# The script of `sbatch -N2 -n6`
BATCH = {"SLURM_JOB_ID": "3", "SLURM_NTASKS": "6", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
# `srun --pty`, one task
SHELL = {**SRUN_PMIX, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMIX_RANK": "0"}
# Ranks on the second of two nodes: mpiexec started a daemon there with srun.
BEHIND_DAEMONS = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
