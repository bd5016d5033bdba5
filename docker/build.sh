#!/usr/bin/env bash
# Builds agentgym's images without a registry, from the mirror that apt on this host uses, and writes images.lock.
#   docker/build.sh [--fresh] [base|swe|browser|all]
# An image that its recipe still describes stays as it is; --fresh builds it anew from the mirror's present packages.
# Needs root, and a docker daemon on this host: see scripts/docker.sh.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
usage() { echo "Usage: docker/build.sh [--fresh] [base|swe|browser|all]" >&2; exit 2; }

fresh=
if [ "${1:-}" = --fresh ]; then fresh=yes; shift; fi
[ $# -le 1 ] || usage
case ${1:-all} in
  base) wanted=(base) ;;
  swe | browser) wanted=(base "$1") ;;
  all) wanted=(base swe browser) ;;
  *) usage ;;
esac

[ "$(id -u)" -eq 0 ] || { echo "Only root can unpack Debian: sudo docker/build.sh" >&2; exit 1; }
../scripts/docker.sh
if ! command -v debootstrap >/dev/null; then
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends debootstrap >/dev/null
fi
# Through a proxy where apt goes through one. Docker passes these arguments on, and keeps them out of the image.
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[ "${apt_proxy:-DIRECT}" = DIRECT ] || export http_proxy=${http_proxy:-$apt_proxy}
proxies=()
for name in http_proxy https_proxy no_proxy; do [ -z "${!name:-}" ] || proxies+=(--build-arg "$name"); done

work=$(mktemp -d)
trap 'rm -rf "$work"; docker image rm agentgym/unstamped >/dev/null 2>&1 || true' EXIT

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }
in_image() { docker run --rm --pull never --network none --entrypoint "$2" "$1" "${@:3}"; }

quietly() {  # says what a command printed only if it fails
  "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; return 1; }
}

is_current() {  # TAG RECIPE
  [ -z "$fresh" ] && [ "$(docker image inspect --format '{{index .Config.Labels "agentgym.recipe"}}' "$1" 2>/dev/null)" = "$2" ]
}

stamp() {  # TAG: agentgym/unstamped becomes TAG, with an id that depends on its contents alone
  local epoch_s former
  former=$(image_id "$1" || true)
  epoch_s=$(in_image agentgym/unstamped cat /usr/local/share/agentgym/mirror_epoch_s)
  docker save --output "$work/saved.tar" agentgym/unstamped
  "$PYTHON" stamp.py "$work/saved.tar" "$1" "$epoch_s" 2>"$work/id" | docker load --quiet >/dev/null
  rm "$work/saved.tar"
  docker image rm agentgym/unstamped >/dev/null
  if [ -n "$former" ] && [ "$former" != "$(image_id "$1")" ]; then
    docker image rm "$former" >/dev/null || echo "The former $1, $former, is in use and stays."
  fi
}

build_debian() {  # the root file system that debian:bookworm-slim is where there is a registry
  local recipe
  recipe=$(cat rootfs.sh install.sh stamp.py | sha256sum | cut -d' ' -f1)
  if is_current agentgym/debian:bookworm "$recipe"; then return 0; fi
  echo "Building agentgym/debian:bookworm …"
  quietly bash -o pipefail -c './rootfs.sh | docker import --change "LABEL agentgym.recipe=$0" - agentgym/unstamped' "$recipe"
  stamp agentgym/debian:bookworm
}

build_image() {  # NAME ARGUMENT PARENT: the Dockerfile of NAME, with ARGUMENT naming the image that it begins with
  local recipe
  recipe=$({ image_id "$3"; cat "$1.Dockerfile" "$1.packages" install.sh stamp.py; } | sha256sum | cut -d' ' -f1)
  if is_current "agentgym/$1:latest" "$recipe"; then echo "agentgym/$1 is up to date."; return 0; fi
  echo "Building agentgym/$1 …"
  # A cached layer would hold packages of a former state of the mirror. The host's network, since a daemon of ours has no bridge.
  tar --sort=name --owner=0 --group=0 --mode=u=rw,go=r -c "$1.Dockerfile" "$1.packages" install.sh >"$work/context.tar"
  quietly docker build --no-cache --force-rm --network host "${proxies[@]}" --build-arg "$2=$3" \
    --label "agentgym.recipe=$recipe" --file "$1.Dockerfile" --tag agentgym/unstamped - <"$work/context.tar"
  stamp "agentgym/$1:latest"
  ./check.sh "$1"
  lock "$1"
}

lock() {  # NAME: puts the image's line into images.lock
  local id mirror
  id=$(image_id "agentgym/$1")
  mirror=$(docker image inspect --format '{{.Created}}' "agentgym/$1")
  touch images.lock
  {
    echo "# Written by docker/build.sh: image, id, date of the mirror's state that its packages are from."
    { grep -v -e '^#' -e "^agentgym/$1 " images.lock || true; echo "agentgym/$1 $id $mirror"; } | sort
  } >"$work/images.lock"
  cat "$work/images.lock" >images.lock
}

build_debian
for name in "${wanted[@]}"; do
  if [ "$name" = base ]; then build_image base DEBIAN agentgym/debian:bookworm; else build_image "$name" BASE agentgym/base; fi
done
