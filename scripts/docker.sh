#!/usr/bin/env bash
# Sees to it that a docker daemon answers. Installs docker.io where it is missing, and starts a daemon where none answers.
#   scripts/docker.sh        says which daemon answers, or starts one
#   scripts/docker.sh stop   stops the daemon that this script started, and no other
set -euo pipefail
STATE=${AGENTGYM_DOCKER_STATE:-/run/agentgym-docker}    # pid, log and runtime files
DATA=${AGENTGYM_DOCKER_DATA:-/var/lib/agentgym-docker}  # images and layers
PIDFILE=$STATE/dockerd.pid

answer() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }

# A pid that was kept in a file may since belong to somebody else: it is ours only if its command line names our data.
own_pid() {
  local pid
  pid=$(cat "$PIDFILE" 2>/dev/null) || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "--data-root $DATA " && echo "$pid"
}

stop() {
  local pid
  pid=$(own_pid) || { echo "No docker daemon of ours is running."; return 0; }
  kill "$pid"
  for _ in $(seq 150); do
    [ -e "/proc/$pid" ] || { echo "Stopped the docker daemon with pid $pid."; return 0; }
    sleep 0.2
  done
  echo "The docker daemon with pid $pid has not stopped after 30 s; see $STATE/log." >&2
  return 1
}

install_engine() {
  if command -v dockerd >/dev/null && command -v docker >/dev/null; then return 0; fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "No docker daemon answers, and docker.io is not installed: sudo apt-get install docker.io" >&2
    return 1
  fi
  echo "Installing docker.io …"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends docker.io >/dev/null
}

start() {
  local version
  if version=$(answer); then echo "A docker daemon answers already: version $version."; return 0; fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    echo "DOCKER_HOST is set, and no daemon answers there." >&2
    return 1
  fi
  install_engine
  # The service that the package brings may have started by now.
  if version=$(answer); then echo "The daemon of docker.io answers: version $version."; return 0; fi
  [ "$(id -u)" -eq 0 ] || { echo "No docker daemon answers; only root can start one." >&2; return 1; }
  mkdir -p "$STATE" "$DATA"
  # No bridge and no firewall rule: our boxes have no network, and images are built on the host's.
  # A daemon outlives its starter: it must keep none of the starter's files open, such as a lock of flock(1).
  (
    for open in /proc/self/fd/*; do
      descriptor=${open##*/}
      if [ "$descriptor" -gt 2 ]; then exec {descriptor}>&-; fi
    done
    exec setsid dockerd --data-root "$DATA" --exec-root "$STATE/exec" --pidfile "$PIDFILE" \
      --bridge none --iptables=false --ip6tables=false
  ) </dev/null >"$STATE/log" 2>&1 &
  for _ in $(seq 150); do
    if version=$(answer); then
      echo "Started a docker daemon: version $version, pid $(own_pid), log $STATE/log. Stop it with: scripts/docker.sh stop"
      return 0
    fi
    kill -0 $! 2>/dev/null || break
    sleep 0.2
  done
  echo "The docker daemon did not start; the end of $STATE/log:" >&2
  tail -n 20 "$STATE/log" >&2
  return 1
}

case ${1:-start} in
  start) start ;;
  stop) stop ;;
  *) echo "Usage: scripts/docker.sh [start|stop]" >&2; exit 2 ;;
esac
