#!/usr/bin/env bash
# Proves by running it, hardened as a sandbox hardens it, that an image is what README.md says.
#   docker/check.sh base|swe|browser
set -euo pipefail
name=${1:?Usage: docker/check.sh base|swe|browser}

in_box() {  # runs a script in the image as its own user
  docker run --rm --interactive --pull never --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
    --pids-limit 256 --memory 1g --memory-swap 1g --shm-size 64m --tmpfs /tmp:rw,nosuid,nodev,size=256m \
    --tmpfs /workspace:rw,exec,nosuid,nodev,size=256m,uid=10001,gid=10001 "agentgym/$name" bash -eu
}

in_box <<'EOS'
expect() { [ "$2" = "$3" ] || { echo "$1: expected '$3', found '$2'" >&2; exit 1; }; }
expect "user" "$(id -u):$(id -g):$(id -un)" 10001:10001:agent
expect "grader" "$(id -u grader)" 10002
expect "process 1" "$(cat /proc/1/comm)" tini
expect "network devices" "$(awk 'NR > 2 && $1 != "lo:" {print $1}' /proc/net/dev)" ""
expect "routes" "$(tail -n +2 /proc/net/route)" ""
expect "capabilities" "$(awk '$1 == "CapEff:" || $1 == "CapBnd:" {print $2}' /proc/self/status | sort -u)" 0000000000000000
expect "set-uid programs" "$(find / -xdev -type f -perm /6000 2>/dev/null)" ""
expect "root file system" "$(awk '$2 == "/" {print substr($4, 1, 3)}' /proc/mounts)" ro,
touch /workspace/file "$HOME/file"
# An orphan becomes a child of tini, ends, and is reaped.
orphan=$(bash -c 'sleep 0.1 >/dev/null & echo $!')
sleep 0.5
[ ! -e "/proc/$orphan" ] || { echo "tini has left a zombie." >&2; exit 1; }
EOS

case $name in
  swe) in_box <<'EOS'
cd /workspace
printf '#include <stdio.h>\nint main(void) { return puts("built") < 0; }\n' >built.c
gcc -Wall -Werror built.c -o built && ./built | grep -qx built
printf 'import subprocess\n\n\ndef test_built():\n    assert subprocess.check_output("./built") == b"built\\n"\n' >test_built.py
git init -q . && git add . && git -c user.name=a -c user.email=a@localhost commit -qm "Start"
python -m pytest -q | grep -q '1 passed'
pip --version >/dev/null
EOS
    ;;
  browser) in_box <<'EOS'
# The page can't run in Chromium's own sandbox: that needs a user namespace, which Docker's seccomp profile refuses.
chromium --headless --no-sandbox --disable-gpu --user-data-dir=/tmp/profile --dump-dom \
  'data:text/html,<p id=p></p><script>p.textContent = 6 * 7</script>' 2>/tmp/log | grep -q '<p id="p">42</p>' || { cat /tmp/log >&2; exit 1; }
EOS
    ;;
esac
echo "agentgym/$name passes its checks."
