#!/bin/bash
# Prints what an overlay is built to.
# usage: build.sh FOLDER
set -euo pipefail
. "$(dirname "$0")/../servers/lib.sh"
[ $# = 1 ] || usage
tools=$("$(dirname "$0")/get.sh")
export PATH=$PATH:$tools/bin
if command -v kustomize > /dev/null; then exec kustomize build "$1"; else exec kubectl kustomize "$1"; fi
