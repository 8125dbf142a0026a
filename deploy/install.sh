#!/bin/sh
# Create the virtual environment $1 with Python $PYTHON and install the packages of $2 with uv (five times as fast as pip), or with pip if
# uv is not available.
#
#     PYTHON=python3.12 sh deploy/install.sh .venv requirements.txt
#
# uv does not read pip's configuration, so the package index, wheel folders and certificate that pip uses are passed on to it.
set -eu
environment=$1 requirements=$2
if [ -z "${PYTHON:-}" ]; then
    echo "no Python 3.11, 3.12 or 3.13 found; install one (Debian and Ubuntu: apt install python3 python3-venv)" >&2
    exit 1
fi
started=$(date +%s)
if ! "$PYTHON" -m venv --clear "$environment"; then
    echo "$PYTHON cannot create a virtual environment; install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2
    exit 1
fi
python=$environment/bin/python
pip_setting() { # print a setting of pip, from the environment or its configuration files
    eval "value=\${PIP_$(echo "$1" | tr a-z- A-Z_):-}"
    [ -n "$value" ] || value=$("$python" -m pip config get "global.$1" 2>/dev/null || true)
    echo "$value"
}
installer=pip
if "$python" -m pip install --quiet --disable-pip-version-check "uv==0.13.9" 2>/dev/null; then
    index=$(pip_setting index-url) links=$(pip_setting find-links) certificates=$(pip_setting cert)
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
    if [ -n "$links" ]; then export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo "$links" | tr ' ' ',')}"; fi
    if [ -n "$certificates" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"; fi
    if "$environment/bin/uv" pip install --quiet --python "$python" --requirement "$requirements"; then installer=uv; fi
fi
if [ $installer = pip ]; then
    echo "uv is not available; installing $requirements with pip, which takes a few minutes"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
fi
touch "$environment/.installed"
echo "$environment: $requirements installed with $installer ($(($(date +%s) - started)) s)"
