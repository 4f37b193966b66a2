#!/bin/sh
# What a Dockerfile of EngineMatrix runs while an image is built. Its arguments come from an exec-form RUN, so nothing is
# ever quoted twice.
#
#   environment.sh check INTERPRETER VERSION ARGUMENT...      asks the base image what it holds (check.py)
#   environment.sh create INTERPRETER VERSION SITE FILE       makes the environment and installs what FILE pins
#   environment.sh add FILE                                   installs what FILE pins into it
#
# INTERPRETER is looked for first, then pythonVERSION, then python3: an image may have the right Python under another name,
# and the check says whether it is the right one. With VERSION '' nothing else will do: jobs are run by INTERPRETER itself, where
# no environment is made. SITE: own or system (sees the image's own packages).
#
# /run, /tmp and /mnt are temporary file systems while this runs: what is mounted and written there leaves no trace in the
# layer. Variables: SOURCE_DATE_EPOCH.
set -eu

mounted=/mnt/enginematrix
target=/opt/enginematrix/env

find_python() {
    for name in "$1" ${2:+"python$2" python3}; do
        if command -v "$name"; then return; fi
    done
    echo "no Python in the image: none of $1${2:+, python$2, python3} on its PATH ($PATH)" >&2
    exit 1
}

# Everything that this RUN changed and that is newer than the epoch gets the epoch, so that two builds give the same layer.
# By change time, since a base may be newer than the epoch, and touching its files would copy them all. The folders at the
# top are among them without that: the builder itself changes them (/etc for hosts and resolv.conf), before we come.
settle() {
    # -xdev still names the places where other file systems are mounted; those of the kernel take no times.
    find / -xdev -maxdepth 1 -type d ! -path /proc ! -path /sys ! -path /dev \
        -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    find / -xdev -cnewer /run/started ! -path /proc ! -path /sys ! -path /dev \
        -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

uv() {
    "$mounted/uv" "$@"
}

install() {
    file=$1
    if [ ! -s "$file" ]; then return; fi
    set -- pip install --require-hashes --no-deps --no-build --python "$target/bin/python" --find-links "$mounted/wheels" \
        --requirement "$file"
    # PyTorch's CPU build: from the wheels at hand, otherwise from PyTorch's own CPU index; never the gigabytes with CUDA.
    torch=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$file")
    if [ -n "$torch" ] && ! ls "$mounted/wheels/torch-$torch"*.whl >/dev/null 2>&1; then set -- "$@" --torch-backend cpu; fi
    uv "$@"
}

: >/run/started
sleep 0.05 # a change in the same tick of the clock would not be newer
# What an image's own variables tell uv (UV_INDEX_URL, UV_EXCLUDE_NEWER, UV_OFFLINE...) is meant for who works in it.
for name in $(env | sed -n 's/^\(UV_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
export HOME=/tmp PYTHONDONTWRITEBYTECODE=1
export UV_CACHE_DIR="$mounted/cache" UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
if [ -e /run/secrets/certificates ]; then export SSL_CERT_FILE=/run/secrets/certificates; fi
if [ -e /run/secrets/netrc ]; then export NETRC=/run/secrets/netrc; fi
if [ -e /run/secrets/uv-config ]; then export UV_CONFIG_FILE=/run/secrets/uv-config; fi

case "$1" in
check)
    python=$(find_python "$2" "$3")
    shift 3
    "$python" -B "$mounted/check.py" "$@"
    ;;
create)
    python=$(find_python "$2" "$3")
    if [ "$4" = system ]; then
        uv venv --no-project --python "$python" --system-site-packages "$target"
    else
        uv venv --no-project --python "$python" "$target"
    fi
    install "$5"
    ;;
add)
    install "$2"
    ;;
*)
    echo "environment.sh: check, create or add, not $1" >&2
    exit 2
    ;;
esac
settle
