#!/bin/sh
# Installs the programs that some tests run, where this user may; otherwise says what will be skipped.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need promtool prometheus
need systemd-analyze systemd
need docker-registry docker-registry
need htpasswd apache2-utils
need node nodejs
need npm npm
need java default-jre-headless
need curl curl
need nginx nginx-light
need haproxy haproxy
need chromium chromium
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    apt-get update -qq >/dev/null
    # A package's own service must not start: the tests run these programs themselves.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; trap 'rm -f $policy' EXIT; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  else
    echo "not installed (their tests will be skipped):$missing"
  fi
fi
cd "$(dirname "$0")/clients"
if command -v npm >/dev/null 2>&1 && ! cmp -s package-lock.json node_modules/installed; then
  if npm ci --silent --no-audit --no-fund; then cp package-lock.json node_modules/installed
  else echo "npm ci failed (the tests of the clients in Node, of a browser and of az:// will be skipped)"; fi
fi
