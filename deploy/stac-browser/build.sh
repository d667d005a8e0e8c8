#!/bin/sh
# Builds STAC Browser from npm into ./stac-browser, or the folder named: `cloudmask serve` finds it there,
# and `cloudmask serve --build-browser` runs this.
# Options of its own (SB_catalogUrl=…, SB_pathPrefix=…) are taken from the environment. Needs npm.
set -eu
target=${1:-stac-browser}
here=$(cd "$(dirname "$0")" && pwd)
if [ -e "$target" ]; then
  echo "$target is there already: remove it first" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
(
  cd "$work"
  npm pack --silent @radiantearth/stac-browser@4.0.1
  tar -xzf ./*.tgz
  cd package
  # 4.0.1 asks for any ol-stac from 1.1.0 on, and the newest no longer fits it. 1.2.0 is the first that
  # draws a mask in the colours of its classes; it must share the browser's own stac-js to know its items.
  # shellcheck disable=SC2016
  npm pkg set dependencies.ol-stac=1.2.0 'overrides.ol-stac.stac-js=$stac-js'
  cat "$here/options.js" >> config.js
  cat "$here/fields.js" >> fields.config.js
  npm install --no-audit --no-fund
  npm run build:minimal
)
mv "$work/package/dist" "$target"
