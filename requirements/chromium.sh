#!/bin/sh
# See that there is a Chromium for the browser tests: the one on PATH, else Debian's package where it may be installed.
set -eu

command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Debian's package chromium ..."
    if apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium >/dev/null; then
        exit 0
    fi
fi
echo "Browser tests are skipped: there is no chromium here (sudo apt-get install chromium)."
