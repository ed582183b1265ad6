#!/usr/bin/env bash
# Installs the chart into a real Kubernetes API server, with each set of values of the chart's ci/:
# kube-apiserver, kube-controller-manager and etcd, built from their Go modules into
# .tools/kubernetes (once, about ten minutes of a core), on the loopback. Namespaces enforce the
# Pod Security Standard "restricted", and the controllers make the pods; there are no nodes, so none
# runs. Needs Go 1.26, openssl, and `bun scripts/deploy/chart-programs.ts`. Not part of CI.
set -euo pipefail
cd -- "$(dirname -- "$0")/../.."

readonly KUBERNETES=v1.37.2 STAGING=v0.37.2 ETCD=v3.7.3
readonly BIN=$PWD/.tools/kubernetes/$KUBERNETES CHART=$PWD/scripts/deploy/helm/bge-m3-encoder
export PATH=$PWD/.tools/chart-programs/bin:$PATH CGO_ENABLED=0 GOTOOLCHAIN=local

build() {
  local work module folder version=k8s.io/component-base/version
  work=$(mktemp -d)
  mkdir -p "$BIN" "$work/kubernetes" "$work/etcd"
  (
    cd "$work/kubernetes"
    folder=$(go mod download -json "k8s.io/kubernetes@$KUBERNETES" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    # The parts that Kubernetes keeps in its own tree are published beside it.
    {
      printf 'module fleet\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n\n' "$KUBERNETES"
      sed -n "s#^\t\(k8s.io/[a-z-]*\) => ./staging.*#replace \1 => \1 $STAGING#p" "$folder/go.mod"
    } >go.mod
    printf '//go:build tools\n\npackage tools\n\nimport (\n' >tools.go
    for module in kube-apiserver kube-controller-manager; do
      printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "$module" >>tools.go
    done
    echo ')' >>tools.go
    go mod tidy
    for module in kube-apiserver kube-controller-manager; do
      go build -trimpath -o "$BIN/$module" \
        -ldflags "-X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=37" \
        "k8s.io/kubernetes/cmd/$module"
    done
  )
  (
    cd "$work/etcd"
    printf 'module fleet\n\ngo 1.26.0\n\nrequire go.etcd.io/etcd/server/v3 %s\n' "$ETCD" >go.mod
    printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\n' >main.go
    printf 'func main() { etcdmain.Main(os.Args) }\n' >>main.go
    go mod tidy
    go build -trimpath -o "$BIN/etcd" .
  )
  rm -rf "$work"
}

if [[ ! -x $BIN/etcd ]]; then build; fi

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

# A port that is free now.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

store=http://127.0.0.1:$(port) peers=http://127.0.0.1:$(port) api=$(port)
"$BIN/etcd" --data-dir "$work/etcd" --unsafe-no-fsync --log-level error \
  --listen-client-urls "$store" --advertise-client-urls "$store" --listen-peer-urls "$peers" \
  --initial-advertise-peer-urls "$peers" --initial-cluster "default=$peers" >"$work/etcd.log" 2>&1 &
pids+=($!)
openssl genrsa -out "$work/accounts.key" 2048 2>/dev/null
echo 'local,admin,admin,"system:masters"' >"$work/tokens.csv"
"$BIN/kube-apiserver" --etcd-servers "$store" --bind-address 127.0.0.1 --secure-port "$api" \
  --advertise-address 127.0.0.1 --endpoint-reconciler-type none --cert-dir "$work/certs" \
  --service-account-issuer https://local --service-account-key-file "$work/accounts.key" \
  --service-account-signing-key-file "$work/accounts.key" --token-auth-file "$work/tokens.csv" \
  --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/16 >"$work/api.log" 2>&1 &
pids+=($!)
export KUBECONFIG=$work/kubeconfig
kubectl config set-cluster local --server "https://127.0.0.1:$api" --insecure-skip-tls-verify >/dev/null
kubectl config set-credentials admin --token local >/dev/null
kubectl config set-context local --cluster local --user admin >/dev/null
kubectl config use-context local >/dev/null
for attempt in {1..300}; do
  if kubectl get --raw /readyz >/dev/null 2>&1; then break; fi
  if ((attempt == 300)); then tail -3 "$work/api.log" "$work/etcd.log" && exit 1; fi
  sleep 0.5
done
"$BIN/kube-controller-manager" --kubeconfig "$KUBECONFIG" --leader-elect=false --secure-port 0 \
  --service-account-private-key-file "$work/accounts.key" >"$work/controllers.log" 2>&1 &
pids+=($!)
kubectl version | tail -1
kubectl apply --server-side -f .tools/chart-programs/crds >/dev/null
kubectl wait --for condition=Established crd --all >/dev/null

failed=0
for file in "$CHART"/ci/*.yaml; do
  name=$(basename "$file" .yaml)
  kubectl create namespace "n$name" >/dev/null
  kubectl label namespace "n$name" pod-security.kubernetes.io/enforce=restricted >/dev/null
  kubectl -n "n$name" create serviceaccount encoder >/dev/null
  if ! helm -n "n$name" install fleet "$CHART" --values "$file" >"$work/said" 2>&1; then
    failed=1
    tail -2 "$work/said"
  fi
  wanted=$(kubectl -n "n$name" get deployments -o jsonpath='{.items[*].spec.replicas}' | tr ' ' '+')
  for _ in {1..60}; do
    pods=$(kubectl -n "n$name" get pods -o name | wc -l)
    if ((pods == wanted)); then break; fi
    sleep 0.5
  done
  helm -n "n$name" upgrade fleet "$CHART" --values "$file" --set settings.LOG_LEVEL=error \
    >"$work/said" 2>&1 || { failed=1 && tail -2 "$work/said"; }
  helm -n "n$name" uninstall fleet >"$work/said" 2>&1 || { failed=1 && tail -2 "$work/said"; }
  echo "$name: installed, $pods of $((wanted)) pods made, upgraded, removed"
  if ((pods != wanted)); then failed=1; fi
done

# The README's own commands, as written, in a folder that has its fleet.yaml.
block() { sed -n '/^## A fleet/,/^## Quick starts/p' README.md | sed -n "/^\`\`\`$1/,/^\`\`\`$/p" | sed '/^```/d'; }
block yaml >"$work/fleet.yaml"
block sh >"$work/commands.sh"
ln -s "$PWD/scripts" "$work/scripts"
if (cd "$work" && bash -e commands.sh >said 2>&1); then
  echo "README: its commands work"
else
  failed=1
  tail -3 "$work/said"
fi
exit "$failed"
