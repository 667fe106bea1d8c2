#!/bin/sh
# Slurm, munge and PMIx of Debian or Ubuntu, if they are not there; shellcheck for the job scripts.
set -eu
for package in slurm-wlm munge libpmix-dev shellcheck; do
    dpkg -s "$package" > /dev/null 2>&1 || missing="${missing:-} $package"
done
[ -z "${missing:-}" ] || {
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}
