#!/bin/sh
# Runs inside an image. Installs the packages of the list NAME.packages beside this file (none without NAME), then
# removes what a second build from the same state of the mirror would make differently.
set -eu
here=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get upgrade -qy
if [ $# -gt 0 ]; then
  sed 's/#.*//' "$here/$1.packages" | xargs apt-get install -qy --no-install-recommends
fi

# The mirror's state has a date, in seconds since 1970: the newest of its signed indices.
sed -n 's/^Date: //p' /var/lib/apt/lists/*Release |
  while read -r line; do date -d "$line" +%s; done | sort -n | tail -n 1 >"$here/mirror_epoch_s"
test -s "$here/mirror_epoch_s"

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
rm -f /var/lib/dpkg/*-old /var/lib/dbus/machine-id /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
[ ! -e /etc/machine-id ] || : >/etc/machine-id
find /var/log -type f -delete
# The day on which an account was made stands beside its password.
sed -i -E "s/^([^:]*:[^:]*):[0-9]+:/\1:$(($(cat "$here/mirror_epoch_s") / 86400)):/" /etc/shadow

# Nobody in a box becomes anybody else.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
