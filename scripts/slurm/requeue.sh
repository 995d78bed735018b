# Run a stage, and queue this task again if it was stopped: exit codes 3 and 143 mean that its work is kept.
run_or_requeue() {
  trap 'kill -TERM $!' TERM
  TQDM_DISABLE=1 "$@" &
  child=$!
  wait "$child"
  code=$?
  # A signal ends the first wait, before the stage has saved.
  while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
  done
  if [ "$code" = 3 ] || [ "$code" = 143 ]; then
    scontrol requeue "$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"
  fi
  return "$code"
}
