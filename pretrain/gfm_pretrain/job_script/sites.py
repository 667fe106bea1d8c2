"""What is particular to the machines that job scripts are written for, each with its reason.

Source: public job scripts and guides of 2026 (OLCF "PyTorch on Frontier", ALCF "PyTorch on Aurora"
and "oneCCL", NERSC job examples). None of it could be tried there: check it on site.
"""

from dataclasses import dataclass
from typing import Literal

Scheduler = Literal["slurm", "pbs"]


@dataclass(frozen=True)
class Line:
    """A line of a script and why it is there."""

    text: str
    why: str
    several_nodes: bool = False
    """Only for jobs of more than one node."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """How jobs are run on a machine."""

    title: str
    scheduler: Scheduler
    account_needed: bool = True
    ranks_per_node: int | None = None
    """As many as devices that a rank computes on; None where only the user knows."""
    cpus_per_rank: int = 1
    """Logical CPUs of each rank."""
    queue: str | None = None
    queue_option: str = "--partition"
    directives: tuple[Line, ...] = ()
    setup: tuple[Line, ...] = ()
    """Commands before anything else, such as modules."""
    settings: tuple[Line, ...] = ()
    """Exported variables: NAME=VALUE."""
    launch: tuple[Line, ...] = ()
    """Options of srun or mpiexec besides numbers of ranks."""
    node_folder: str = "/tmp/$SLURM_JOB_USER"
    """Disk or memory of the node itself, where an environment is unpacked."""
    storage: str = ""
    """Where runs and stores belong."""
    network: str = ""
    """What to choose if nodes have several."""


MANY_NETWORKS = """if nodes have several, MASTER_ADDR (an address of the first node), \
NCCL_SOCKET_IFNAME for GPUs and GLOO_SOCKET_IFNAME for CPUs choose one"""

FRONTIER = Site(
    title="Frontier (OLCF), 8 GCDs per node",
    scheduler="slurm",
    ranks_per_node=8,
    cpus_per_rank=7,
    queue="batch",
    directives=(
        Line("--constraint=nvme", "the nodes' own disks, for the Python environment"),
        Line(
            "--network=disable_rdzv_get",
            "belongs to FI_CXI_RDZV_PROTO below: large messages of RCCL at scale",
        ),
    ),
    setup=(
        Line(
            "module load rocm", "the version that torch was built for; add it, such as rocm/7.1.1"
        ),
        Line("module load craype-accel-amd-gfx90a", "MI250X"),
        Line("module load rccl-net-plugin", "RCCL over Slingshot; without it RCCL uses TCP"),
    ),
    settings=(
        Line("FI_MR_CACHE_MONITOR=kdreg2", "the monitor memhooks can deadlock with RCCL"),
        Line("FI_CXI_DEFAULT_CQ_SIZE=131072", "completion queues overflow with many ranks"),
        Line(
            "FI_CXI_RX_MATCH_MODE=hybrid",
            "go on in software when the network card has no room for more messages",
        ),
        Line(
            "FI_CXI_RDZV_PROTO=alt_read",
            "the protocol for large messages that suits RCCL; many scripts write FI_CXI_RDV_PROTO, "
            "which libfabric does not know",
        ),
        Line("NCCL_CROSS_NIC=1", "rings may go over all four network cards of a node"),
        Line("NCCL_NET_GDR_LEVEL=PHB", "network cards read GPU memory of their own NUMA domain"),
        Line("NCCL_SOCKET_IFNAME=hsn0", "the first contact, over Slingshot as well"),
        Line('MASTER_ADDR="$(hostname -i)"', "the ranks meet over Slingshot"),
        Line(
            "NCCL_NET=OFI",
            "an error instead of TCP if the plugin of that module is missing (one that you built "
            "may be called 'AWS Libfabric')",
            several_nodes=True,
        ),
        Line(
            'MIOPEN_USER_DB_PATH="/tmp/miopen-$SLURM_JOB_ID"',
            "a cache in a shared home breaks when many ranks write it",
        ),
        Line('MIOPEN_CUSTOM_CACHE_DIR="$MIOPEN_USER_DB_PATH"', "the same, for its kernels"),
    ),
    launch=(
        Line("--mpi=none", "the ranks meet by Slurm's own variables; no MPI to be built"),
        Line(
            "--gpus-per-task=1 --gpu-bind=closest",
            "each rank sees the one GCD that is next to its cores",
        ),
    ),
    node_folder="/mnt/bb/$SLURM_JOB_USER",
    storage="runs and stores on Orion (/lustre/orion/PROJECT/…), environments on the nodes' disks; "
    "home is NFS and slow at scale",
)

PERLMUTTER = Site(
    title="Perlmutter (NERSC), 4 A100 per node",
    scheduler="slurm",
    ranks_per_node=4,
    cpus_per_rank=32,
    queue="regular",
    queue_option="--qos",
    directives=(
        Line("--constraint=gpu", "nodes with GPUs"),
        Line("--gpus-per-node=4", "all of a node's"),
    ),
    setup=(Line("module load nccl", "with the libfabric plugin; the version that fits torch"),),
    settings=(
        Line(
            'NCCL_NET="AWS Libfabric"',
            "an error instead of TCP if the plugin is missing",
            several_nodes=True,
        ),
        Line("NCCL_CROSS_NIC=1", "rings may go over all four network cards of a node"),
        Line("NCCL_NET_GDR_LEVEL=PHB", "network cards read GPU memory of their own NUMA domain"),
        Line("NCCL_SOCKET_IFNAME=hsn", "the first contact, over Slingshot as well"),
        Line("FI_MR_CACHE_MONITOR=userfaultfd", "the monitor memhooks can deadlock with NCCL"),
        Line("FI_CXI_DEFAULT_CQ_SIZE=131072", "completion queues overflow with many ranks"),
    ),
    launch=(
        Line("--mpi=none", "the ranks meet by Slurm's own variables; no MPI to be built"),
        Line("--cpu-bind=cores", "32 logical CPUs are 16 cores, next to one GPU"),
        Line(
            "--gpus-per-node=4 --gpu-bind=none",
            "every rank sees all four and takes the one of its local rank, so that NCCL reaches "
            "the others over NVLink",
        ),
    ),
    storage="runs and stores on $SCRATCH, environments on /global/common/software or in containers",
)

AURORA = Site(
    title="Aurora (ALCF), 12 tiles per node",
    scheduler="pbs",
    ranks_per_node=12,
    cpus_per_rank=8,
    queue="prod",
    directives=(
        Line("-l place=scatter", "whole nodes"),
        Line("-l filesystems=home:flare", "jobs wait until these are there; name all you use"),
        Line("-k doe", "write the output where it belongs while the job runs"),
    ),
    setup=(Line("module load frameworks", "torch with XPU, mpi4py for the site's MPICH, oneCCL"),),
    settings=(
        Line("ZE_FLAT_DEVICE_HIERARCHY=FLAT", "torch counts 12 tiles, not 6 cards"),
        Line("CCL_PROCESS_LAUNCHER=pmix", "oneCCL asks PMIx for the ranks of a node"),
        Line("CCL_ATL_TRANSPORT=mpi", "oneCCL sends through MPICH, which knows the network"),
        Line(
            "CCL_KVS_MODE=mpi CCL_KVS_USE_MPI_RANKS=1",
            "oneCCL exchanges addresses through MPI, which it needs beyond some 1000 nodes",
        ),
        Line("CCL_KVS_CONNECTION_TIMEOUT=900", "seconds; reading Python at scale takes minutes"),
        Line("FI_MR_CACHE_MONITOR=userfaultfd", "sees memory that torch gives back"),
        Line("FI_CXI_DEFAULT_CQ_SIZE=131072", "completion queues overflow with many ranks"),
        Line("FI_CXI_RX_MATCH_MODE=hybrid", "go on in software when the network card is full"),
        Line("PALS_PING_PERIOD=240 PALS_RPC_TIMEOUT=240", "seconds; slow starts are no failures"),
    ),
    launch=(
        Line("--pmi=pmix", "what CCL_PROCESS_LAUNCHER needs"),
        Line(
            "--cpu-bind=list:1-8:9-16:17-24:25-32:33-40:41-48:53-60:61-68:69-76:77-84:85-92:93-100",
            "8 cores next to each tile; cores 0 and 52 belong to the system",
        ),
    ),
    storage="runs and stores on Flare (/flare/PROJECT/…), in the file systems named above",
)

SLURM = Site(
    title="any cluster with Slurm",
    scheduler="slurm",
    account_needed=False,
    launch=(Line("--mpi=none", "the ranks meet by Slurm's own variables; no MPI to be built"),),
    storage="a file system that all nodes share",
    network=MANY_NETWORKS,
)

PBS = Site(
    title="any cluster with PBS Pro or OpenPBS",
    scheduler="pbs",
    account_needed=False,
    launch=(
        Line('--hostfile "$PBS_NODEFILE"', "the nodes of this job, each as often as it has ranks"),
    ),
    storage="a file system that all nodes share",
    network=MANY_NETWORKS,
)

SITES: dict[str, Site] = {
    "frontier": FRONTIER,
    "perlmutter": PERLMUTTER,
    "aurora": AURORA,
    "slurm": SLURM,
    "pbs": PBS,
}
