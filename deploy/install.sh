#!/bin/sh
# Makes the virtual environment $1 with the packages of $2, by Python $PYTHON: with uv, a fifth of pip's time, else with pip.
#
#     PYTHON=python3.12 sh deploy/install.sh .venv requirements.txt
#
# uv reads no configuration of pip's, so that an index or a folder of wheels that pip is told to use is passed on.
set -eu
environment=$1 requirements=$2
if [ -z "${PYTHON:-}" ]; then
    echo "no Python 3.11, 3.12 or 3.13 here; install one (Debian and Ubuntu: apt install python3 python3-venv)" >&2
    exit 1
fi
started=$(date +%s)
if ! "$PYTHON" -m venv --clear "$environment"; then
    echo "$PYTHON can't make a virtual environment; install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2
    exit 1
fi
python=$environment/bin/python
pip_says() { # the value of a pip setting, from the environment or pip's files
    eval "value=\${PIP_$(echo "$1" | tr a-z- A-Z_):-}"
    [ -n "$value" ] || value=$("$python" -m pip config get "global.$1" 2>/dev/null || true)
    echo "$value"
}
by=pip
if "$python" -m pip install --quiet --disable-pip-version-check "uv==0.13.9" 2>/dev/null; then
    index=$(pip_says index-url) links=$(pip_says find-links) certificates=$(pip_says cert)
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
    if [ -n "$links" ]; then export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo "$links" | tr ' ' ',')}"; fi
    if [ -n "$certificates" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"; fi
    if "$environment/bin/uv" pip install --quiet --python "$python" --requirement "$requirements"; then by=uv; fi
fi
if [ $by = pip ]; then
    echo "uv is not available here, so pip installs $requirements; that takes some minutes"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
fi
touch "$environment/.installed"
echo "$environment: $requirements installed by $by ($(($(date +%s) - started)) s)"
