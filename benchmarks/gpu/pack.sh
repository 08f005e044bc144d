#!/usr/bin/env bash
# Packs the agent and its dependencies for a GPU host without network (Python 3.12, x86_64), in pieces of at most 56 MiB.
# There: cat part.* | tar -x -C DIR; python3.12 -m venv V; V/bin/pip install --no-index --find-links DIR pareta-agent
set -euo pipefail
out=${1:-.gpu-agent}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
platforms=(); for tag in 2_34 2_31 2_28 2_27 2_24 2_17 2014; do
  [ "$tag" = 2014 ] && name=manylinux2014_x86_64 || name=manylinux_${tag}_x86_64
  platforms+=(--platform "$name")
done
python=${PYTHON:-python3}
"$python" -m pip wheel -q --no-deps -w "$work" "$root"
"$python" -m pip download -q --python-version 3.12 --implementation cp --only-binary=:all: "${platforms[@]}" \
  -d "$work" "$work"/pareta_agent-*.whl
mkdir -p "$out"; rm -f "$out"/part.*
tar -C "$work" -cf - . | split -b 56M -d - "$out/part."
ls -l "$out"
