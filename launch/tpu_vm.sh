#!/usr/bin/env bash
# The life of a TPU slice on Google Cloud: each verb is the gcloud commands that it takes, and no more.
#
#   launch/tpu_vm.sh VERB --name=NAME --zone=ZONE [flags] [--dry-run] [-- words for the machines]
#
# `xlatrain launch VERB` fills in the flags from the options of a run, and decides what comes after what. --dry-run
# prints the commands, quoted so that they can be copied, and does nothing. Flags of gcloud are generally available
# ones; launch/gcloud_flags.json lists them with their source. Works with the bash 3.2 of a Mac.
set -euo pipefail

# What the flags below set; those that stay empty are left out of the commands.
name='' zone='' project='' accelerator_type='' type='' topology='' runtime_version='' capacity='on_demand'
network='' subnetwork='' service_account='' internal_ips='' valid_for='' wheel='' extra='tpu' pip=''
python='.venv/bin/python' worker='all' output='' follow='' dry_run='' words=()

main() {
  local verb=${1:-}
  case $verb in
    create | state | setup | check | start | run | look | status | logs | ssh | stop | delete | list) ;;
    *) fail "there is no verb '$verb': create state setup check run look status logs ssh stop delete list" ;;
  esac
  shift
  read_flags "$@"
  if [[ $verb == run ]]; then verb=start; fi
  "$verb"
}

read_flags() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --follow) follow=yes ;;
      --internal-ips) internal_ips=yes ;;
      --) shift && words=("$@") && break ;;
      --name=* | --zone=* | --project=* | --accelerator-type=* | --type=* | --topology=* | --runtime-version=* | \
        --capacity=* | --network=* | --subnetwork=* | --service-account=* | --valid-for=* | --wheel=* | --extra=* | \
        --pip=* | --python=* | --worker=* | --output=*)
        local key=${1%%=*}
        key=${key#--}
        printf -v "${key//-/_}" '%s' "${1#*=}"
        ;;
      *) fail "there is no flag '$1'" ;;
    esac
    shift
  done
  [[ $zone ]] || fail '--zone= is missing'
  where=("--zone=$zone")
  if [[ $project ]]; then where+=("--project=$project"); fi
}

# A queued resource, which waits for its machines; they have its name.
create() {
  needs name runtime_version
  local flags=("--node-id=$name" "--runtime-version=$runtime_version")
  if [[ $topology ]]; then
    flags+=("--type=$type" "--topology=$topology")
  else
    flags+=("--accelerator-type=$accelerator_type")
  fi
  case $capacity in
    spot) flags+=(--spot) ;;
    reserved) flags+=(--reserved) ;;
    on_demand) ;;
    *) fail "--capacity=$capacity is none of on_demand, spot, reserved" ;;
  esac
  if [[ $network ]]; then flags+=("--network=$network"); fi
  if [[ $subnetwork ]]; then flags+=("--subnetwork=$subnetwork"); fi
  if [[ $service_account ]]; then flags+=("--service-account=$service_account"); fi
  if [[ $internal_ips ]]; then flags+=(--internal-ips); fi
  if [[ $valid_for ]]; then flags+=("--valid-until-duration=$valid_for"); fi
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${flags[@]}" --async --quiet
}

# What has become of it, as JSON.
state() {
  needs name
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" '--format=json(state)' --quiet
}

list() {
  run gcloud compute tpus queued-resources list "${where[@]}" '--format=json(name,state)' --quiet
}

# The wheel into an environment of its own on every machine, unless they have an interpreter with xlatrain.
setup() {
  needs name
  if [[ $wheel ]]; then
    local file=${wheel##*/}
    on_machines "mkdir -p $home"
    run gcloud compute tpus tpu-vm scp "$wheel" "$name:$home/$file" "${where[@]}" "--worker=$worker" "${ip[@]}"
    on_machines "cd $home && python3 -m venv .venv && .venv/bin/python -m pip install --quiet${pip:+ $pip} './${file}[$extra]'"
  else
    on_machines "mkdir -p $home"
  fi
}

# Versions, what the doctor finds, and access to folders, as each machine sees it.
check() { on_worker check; }

# run: the run, in a session of its own, which outlives the connection. gcloud tries again where a connection breaks, so a
# second start of the same try does nothing.
start() { on_worker start; }

# How it is: running or ended, its exit code, its step.
look() { on_worker look; }

# Of the slice, and of the run on it.
status() {
  state
  look
}

# Asks it to save itself and to end with 75.
stop() { on_worker stop; }

logs() {
  needs name
  on_machines "tail -n 100 ${follow:+-F }$home/run.log"
}

ssh() {
  needs name
  if [[ $worker == all ]]; then worker=0; fi
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" "--worker=$worker" "${ip[@]}"
}

# With its machines, whatever they do. SUSPENDED and FAILED are states that nothing but this ends.
delete() {
  needs name
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

on_worker() {
  needs name
  local word command
  command="cd $home && $(quoted "$python") -m xlatrain.launching.on_worker $1"
  for word in ${words[@]+"${words[@]}"}; do command+=" $(quoted "$word")"; done
  on_machines "$command"
}

on_machines() {
  local flags=("--worker=$worker" "--command=$1")
  if [[ $output ]]; then flags+=("--output-directory=$output"); fi
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" "${flags[@]}" "${ip[@]}"
}

needs() {
  local key
  for key in "$@"; do
    [[ ${!key} ]] || fail "--${key//_/-}= is missing"
  done
  home="xlatrain-$name" ip=(--quiet)
  if [[ $internal_ips ]]; then ip+=(--internal-ip); fi
}

run() {
  if [[ $dry_run ]]; then
    local word line=''
    for word in "$@"; do line+="$(quoted "$word") "; done
    printf '%s\n' "${line% }"
  else
    "$@"
  fi
}

# A word as a shell reads it back; bash 3.2 cannot do so by itself without backslashes everywhere.
quoted() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=@,+%-]+$ ]]; then
    printf '%s' "$1"
  else
    local mark="'"
    printf "'%s'" "${1//$mark/$mark\\$mark$mark}"
  fi
}

fail() {
  printf 'launch/tpu_vm.sh: %s\n' "$1" >&2
  exit 2
}

main "$@"
