#!/bin/bash
# Train on two nodes of four GPUs each, for as many days as it takes. Two minutes before its time is up, SLURM signals the job;
# it writes a checkpoint, ends, is queued again, and resumes.
#
#   sbatch examples/slurm.sh photos/ runs/photos

#SBATCH --job-name=sfumato
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

source=$1
run=$2

if ls "$run"/checkpoints/*/manifest.json > /dev/null 2>&1; then
    what=(--resume "$run")
else
    what=("$source" --out "$run" --steps 400000)
fi

# The settings that torchrun would make. SLURM starts the processes itself, so that its signal reaches each of them once.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT
srun bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS exec python -m sfumato train "$@"' \
    train "${what[@]}" --timeout 10m
status=$?

# metrics.jsonl has the reason for the end: the goal, or the signal.
if [ $status -eq 0 ] && grep '"kind": "stop"' "$run/metrics.jsonl" | tail -n 1 | grep -q '"asked"'; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
