#!/usr/bin/env bash
# kubectl and helm where there is no cluster: the real programs read the whole command line, and
# stop short of the server. Called as either of the two; FAKE_BIN has the real ones. What is made is
# written to FAKE_STATE: objects.jsonl, and NAMESPACE-RELEASE.yaml for a release that stands.
set -euo pipefail
program=${0##*/} line=" $* "

refuse() {
  echo "fake $program: $*" >&2
  exit 1
}

if [[ $program == kubectl ]]; then
  "$FAKE_BIN/kubectl" "$@" --dry-run=client -o json | tr -d '\n' >>"$FAKE_STATE/objects.jsonl"
  echo >>"$FAKE_STATE/objects.jsonl"
  exit
fi

[[ $line =~ ^\ -n\ ([a-z-]+)\ (install|upgrade|uninstall)\ ([a-z-]+)\  ]] || refuse "what is$line?"
namespace=${BASH_REMATCH[1]} verb=${BASH_REMATCH[2]} release=$FAKE_STATE/${BASH_REMATCH[1]}-${BASH_REMATCH[3]}.yaml
grep -q "\"kind\": \"Namespace\".*\"name\": \"$namespace\"" "$FAKE_STATE/objects.jsonl" ||
  refuse "namespaces \"$namespace\" not found"
if [[ $verb == install ]]; then
  [[ ! -e $release ]] || refuse 'cannot reuse a name that is still in use'
else
  [[ -e $release ]] || refuse 'release: not found'
fi
if [[ $verb == uninstall ]]; then
  (($# == 4)) || refuse "unknown words:$line"
  rm "$release"
else
  # An upgrade asks the server for the release before; the rest is that of a template.
  "$FAKE_BIN/helm" "${@/#$verb/template}" >"$release.made"
  mv "$release.made" "$release"
  cp "$release" "$FAKE_STATE/last.yaml"
fi
