#!/bin/sh
# Makes .venv from the pins in requirements/, with the project itself editable in it.
# Needs only a Python 3.10 or newer: no uv, no root, no HOME, and not both of ensurepip and pip.
# Run it as often as you like: when nothing has changed it only compares a stamp.
set -eu
cd -P "$(dirname "$0")"

say() { echo "bootstrap: $*" >&2; }
die() { say "$*"; exit 1; }

# The place belongs to the stamp, because scripts in .venv hold absolute paths and a copied clone needs its own.
wanted=$(pwd; cat requirements/dev.txt requirements/uv.txt pyproject.toml bootstrap.sh | cksum)
up_to_date() { [ "$(cat .venv/stamp 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; }
up_to_date && exit 0

# An environment made for another interpreter, or one that forbids bytecode, must not reach in:
# without compiled bytecode each Airflow process takes twice as long to start.
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV
# A user's pip settings may ask for what contradicts --target.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore PIP_USER=0
# Never fetch an interpreter; trust the certificates that the machine trusts (older releases know the second name).
export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1
mkdir -p .tools
[ -n "${HOME:-}" ] && [ -w "$HOME" ] || export UV_CACHE_DIR="${UV_CACHE_DIR:-$PWD/.tools/cache}"

find_python() {
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        "$name" -c 'import sys; sys.version_info >= (3, 10) or sys.exit(1); print(sys.executable)' 2>/dev/null && return
    done
    die "no Python 3.10 or newer on PATH. On Debian or Ubuntu: apt-get install python3 python3-venv"
}

# Prints the path of a uv that runs.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    # Only a finished copy made from today's pin counts.
    if ! cmp -s requirements/uv.txt .tools/uv/pin; then
        rm -rf .tools/uv
        fetch_uv "$python" || {
            say "pip of $python did not fetch uv; trying a throw-away virtual environment"
            rm -rf .tools/pip
            "$python" -m venv .tools/pip >/dev/null 2>&1 && fetch_uv .tools/pip/bin/python
        } || die "no uv on PATH and no way to fetch it: $python has neither pip nor venv, or pip failed (see above)." \
            "On Debian or Ubuntu: apt-get install python3-venv"
        rm -rf .tools/pip
        cp requirements/uv.txt .tools/uv/pin
    fi
    echo "$PWD/.tools/uv/bin/uv"
}

fetch_uv() {
    "$1" -c 'import pip' 2>/dev/null || return 1
    "$1" -m pip install --quiet --require-hashes --target .tools/uv -r requirements/uv.txt >&2
}

python=$(find_python)
# One at a time in one clone. The lock is on the open file, so it goes when this script does, however it ends.
exec 9>.tools/lock
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
up_to_date && exit 0

uv=$(find_uv)
rm -f .venv/stamp
say "making .venv with $("$python" --version) and $("$uv" --version)"
if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 10) or sys.prefix != sys.argv[1])' "$PWD/.venv" 2>/dev/null; then
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv
fi
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes --compile-bytecode requirements/dev.txt
# Its build tools are pinned and already there, so nothing more is fetched.
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Last, so that whatever broke off before is done again.
echo "$wanted" > .venv/stamp
