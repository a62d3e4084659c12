#!/usr/bin/env bash
# nvidia-cuda-nvcc 13.0.88 installs a compiler of two releases, which cannot compile an empty kernel.
#
# The wheel's metadata asks for nvidia-nvvm, nvidia-cuda-crt and nvidia-cuda-runtime without a bound. pip takes the newest. The
# front half, cicc of nvidia-nvvm 13.5.37, writes PTX of version 9.5; the back half, ptxas of the wheel itself, reads up to 9.0.
# So pinning nvcc pins half of it. `pip check` finds nothing wrong. The remedy is to pin the parts together.
#
# Seen with nvidia-cuda-nvcc 13.0.88, nvidia-nvvm, nvidia-cuda-crt and nvidia-cuda-runtime 13.5.37, Linux x86_64, without a GPU:
#   nvcc -arch=sm_90 -cubin kernel.cu    ends with 255: "Unsupported .version 9.5; current version is '9.0'"
# and with nvidia-nvvm, nvidia-cuda-crt and nvidia-cuda-runtime 13.0.88, 13.0.88 and 13.0.96: ends with 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip() { "$work/venv/bin/pip" "$@" --quiet --disable-pip-version-check; }
nvcc() { "$work"/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc "$@"; }
echo 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2.0f; }' > "$work/kernel.cu"

pip install nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-cuda-runtime==13.5.37
"$work/venv/bin/pip" check
"$work/venv/bin/python" -c 'import importlib.metadata as m; print(m.requires("nvidia-cuda-nvcc"))'
if said=$(nvcc -arch=sm_90 -cubin "$work/kernel.cu" -o "$work/kernel.cubin" 2>&1); then
  echo "it compiles now" >&2
  exit 1
fi
echo "$said" | sed "s|$work/||; s|/tmp/[^,]*|kernel.ptx|"
grep -q "Unsupported .version 9.5; current version is '9.0'" <<< "$said"

pip install nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
nvcc -arch=sm_90 -cubin "$work/kernel.cu" -o "$work/kernel.cubin"
test -s "$work/kernel.cubin"
echo "parts of one release compile it"
echo "as recorded"
