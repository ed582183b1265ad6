#!/usr/bin/env bash
# A rehearsal on a machine with an NVIDIA GPU and Docker: builds the engine, serves it, asks it for
# everything, measures it, restarts it and upgrades it. One command without arguments; it takes about
# an hour, most of it the first download and build. What it found is in one file,
# reports/gpu-rehearsal-TIME.txt, which can be sent back: it has no texts and no keys.
# The exit status is the number of parts that failed; the others are run all the same.
# shellcheck disable=SC2329 # `part` calls the functions by their names.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1
export PATH="$PWD/.tools/bun/bin:$PATH"

url=http://127.0.0.1:${PORT:-8080}
stem=reports/gpu-rehearsal-$(date -u +%Y%m%dT%H%M%SZ)
report=$stem.txt
rows=$stem-rows.json
failed=()
mkdir -p reports

# part NAME COMMAND...: runs a part, shows its output and keeps it in the report.
part() {
  local name=$1 status=0 start=$SECONDS
  shift
  printf '\n== %s\n' "$name" | tee -a "$report"
  "$@" 2>&1 | tee -a "$report" || status=$?
  ((status == 0)) || failed+=("$name")
  printf -- '-- %s: exit status %s, %s s\n' "$name" "$status" "$((SECONDS - start))" | tee -a "$report"
}

machine() {
  date -u
  git log -1 --format='commit %h of %cs' 2>/dev/null
  uname -srm
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,memory.free --format=csv
  docker version --format '{{.Server.Version}}'
}

# What was built: profiles, TensorRT, attention, the figures of the gate. Not the row of the self-check.
record() {
  grep -v '"dense":' models/bge_model/1/model.plan.json && cat models/bge_model/configs/engine.pbtxt
}

# Healthy again within five minutes.
ready() {
  local try
  for ((try = 0; try < 300; try++)); do
    if curl --fail --silent --output /dev/null "$url/ready"; then return 0; fi
    sleep 1
  done
  echo "$url/ready did not answer within 300 s"
  return 1
}

restart() { docker compose restart triton && ready && probe; }
probe() { bun scripts/rehearsal/probe-server.ts "$url" "$rows"; }
upgrade() { ./run.sh --backend triton && ready && probe; }
bench() {
  ./run.sh bench --url "$url" --only url-short-json,url-middle,url-long,url-document,url-mixed
}

part 'machine' machine
part 'plan' ./run.sh export --plan
part 'export' ./run.sh export
part 'record' record
part 'serve' ./run.sh --backend triton
part 'all heads' probe
part 'bench' bench
part 'restart' restart
part 'upgrade' upgrade
part 'memory while it serves' nvidia-smi
part 'last lines of the logs' docker compose logs --tail 60 --no-color

printf '\n%s parts failed%s\nreport: %s\n' "${#failed[@]}" "${failed[*]/#/, }" "$report" | tee -a "$report"
exit "${#failed[@]}"
