#!/bin/sh
# Make the virtual environment: requirements/venv.sh PYTHON FOLDER. Debian keeps the module that this needs in a package of its
# own, python3-venv, which is installed where we may.
set -eu

if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; $1 is $("$1" --version 2>&1). Choose another one with: make PYTHON=python3.12 run" >&2
    exit 1
fi
if ! "$1" -c 'import ensurepip' 2>/dev/null; then
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Debian's package $package ..."
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$package" >/dev/null
    else
        echo "Python's module venv is missing. Install it with: sudo apt-get install $package" >&2
        exit 1
    fi
fi
exec "$1" -m venv "$2"
