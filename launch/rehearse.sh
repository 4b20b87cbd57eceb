#!/usr/bin/env bash
# A pod played on this computer: machines x replicas, asked for, set up, taken away in the midst of a run, replaced, and
# done, by the commands that do it on Google Cloud, with launch/stand_in/gcloud in the place of gcloud.
#
#   launch/rehearse.sh [2x4] [FOLDER]
#
# The run is made twice: undisturbed, and with machine 1 killed. Exit code 0 if their weights are equal to the last bit.
# Needs the extra jax, by which processes of CPUs are joined; takes two minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

shape=${1:-2x4}
[[ $shape =~ ^([1-9][0-9]*)x([1-9][0-9]*)$ ]] || { echo "launch/rehearse.sh: '$shape' is not as in 2x4" >&2; exit 2; }
machines=${BASH_REMATCH[1]} replicas=$((BASH_REMATCH[1] * BASH_REMATCH[2]))
folder=$(mkdir -p "${2:-runs/rehearsal-$$}" && cd "${2:-runs/rehearsal-$$}" && pwd)
python=${PYTHON:-python}
[[ -z ${PYTHON:-} && -x .venv/bin/python ]] && python=.venv/bin/python
python=$("$python" -c 'import sys; print(sys.executable)')
here=$PWD
# A run of 90 steps has no use for programs that XLA has worked at for long.
export XLA_FLAGS="${XLA_FLAGS:---xla_backend_optimization_level=0}"
# A small network: what is rehearsed is the machines, not what they compile.
model=(model._target_=examples.small_net.SmallNet)
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# rehearse NAME SCRIPT: a run of that name from nothing to its end, on machines to which SCRIPT happens.
rehearse() {
  export XLATRAIN_STAND_IN="$folder/cloud-$1"
  mkdir -p "$XLATRAIN_STAND_IN"
  echo "$2" > "$XLATRAIN_STAND_IN/script.json"
  cd "$folder"
  "$python" -m xlatrain launch --until-done \
    launch.stand_in=true "launch.name=$1" launch.zone=nowhere-west1-a launch.capacity=spot launch.max_usd=5 \
    "launch.python=$python" "launch.folder=$folder/kept" launch.poll=1.5 launch.retry=1 \
    cluster=cpu "cluster.hosts=$machines" "cluster.replicas=$replicas" engine.runtime=jax \
    "cluster.coordinator=127.0.0.1:$(free_port)" "${model[@]}" \
    train.global_batch=32 train.duration=90step train.eval_every=90step checkpoint.every=8step
}

free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

echo "$machines machines of $((replicas / machines)) replicas, played by $here/launch/stand_in; all of it is in $folder"
echo
echo 'undisturbed:'
rehearse undisturbed '[{"states": ["CREATING", "ACTIVE"]}]'
echo
echo "machine $((machines - 1)) killed in step 10:"
rehearse killed "[{\"states\": [\"CREATING\", \"WAITING_FOR_RESOURCES\", \"PROVISIONING\", \"ACTIVE\"],
  \"kill\": {\"worker\": $((machines - 1)), \"at_step\": 10}}, {\"states\": [\"CREATING\", \"ACTIVE\"]}]"
echo
grep -q 'goes on from' "$folder"/kept/killed/logs/*.log || { echo 'it went on from no checkpoint' >&2; exit 1; }
if cmp "$folder"/kept/{undisturbed,killed}/weights.safetensors; then
  echo 'weights: equal to the last bit'
else
  echo 'weights: not equal' >&2
  exit 1
fi
