#!/usr/bin/env bash
# Sees to it that the browser sandbox has what it needs: Chromium, bubblewrap and fonts, from Debian. Downloads nothing else.
#   scripts/chromium.sh          installs what is missing
#   scripts/chromium.sh probe    tries, by running it, what a browser on this host holds
set -euo pipefail
# The shell is Chromium without windows: its pages open about four times as fast.
PACKAGES="chromium-headless-shell bubblewrap fonts-dejavu-core fonts-liberation"

missing() {
  for package in $PACKAGES; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

install() {
  local wanted
  wanted=$(missing)
  if [ -z "$wanted" ]; then echo "All is installed already: $PACKAGES."; return 0; fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "Not installed: sudo apt-get install" $wanted >&2
    return 1
  fi
  echo "Installing" $wanted "…"
  apt-get update -q >/dev/null
  # shellcheck disable=SC2086  # one word for each package
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qqy --no-install-recommends $wanted >/dev/null
}

probe() {
  "${PYTHON:-python3}" - <<'EOF'
import asyncio

from agentgym_sandboxes.browser import ChromiumBrowser

probes = asyncio.run(ChromiumBrowser.probe())
for probe in probes:
    print(f"{'held    ' if probe.held else 'NOT HELD'}  {probe.promise}: {probe.detail}")
raise SystemExit(not all(probe.held for probe in probes))
EOF
}

case ${1:-install} in
  install) install ;;
  probe) probe ;;
  *) echo "Usage: scripts/chromium.sh [install|probe]" >&2; exit 2 ;;
esac
