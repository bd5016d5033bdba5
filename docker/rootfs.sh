#!/usr/bin/env bash
# Writes a minimal Debian, the offline stand-in for the image debian:bookworm-slim, to standard output as a tar.
# It comes from the mirror that apt on this host uses; MIRROR and SECURITY_MIRROR name others. Needs root.
set -euo pipefail
SUITE=bookworm
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${ROOTFS_MOUNTED:-}" ]; then
  # A mount that only this process sees is gone with it, however it ends; in memory, dpkg's many syncs cost nothing.
  ROOTFS_MOUNTED=1 exec unshare --mount --propagation private bash "$here/rootfs.sh"
fi
root=/mnt
mount -t tmpfs -o size=2g,mode=755 rootfs "$root"

mirror_of() {  # the mirror that apt uses for the archive with this label
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
    awk -F'|' -v label="$1" '$1 == "Debian" && $2 == label && !found { print $3; found = 1 }'
}
mirror=${MIRROR:-$(mirror_of Debian)}
security=${SECURITY_MIRROR:-$(mirror_of Debian-Security)}
[ -n "$mirror" ] || { echo "apt on this host knows no mirror of Debian; run apt-get update, or set MIRROR." >&2; exit 1; }

debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >&2
{
  echo "deb $mirror $SUITE main"
  echo "deb $mirror $SUITE-updates main"
  [ -z "$security" ] || echo "deb $security $SUITE-security main"
} >"$root/etc/apt/sources.list"
[ -n "$security" ] || echo "apt on this host knows no mirror of Debian's security updates: this image has none." >&2

# A mirror that is kept at a past state on purpose is out of date for apt; what this host says about that holds here, too.
apt-config dump | grep -E '^Acquire::Check-(Valid-Until|Date) ' >"$root/etc/apt/apt.conf.d/host" || true
# As in Debian's own slim image: no documentation but the licences, no translations, no service that starts, no syncs.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
find "$root/usr/share/doc" -type f,l ! -name copyright -delete
rm -rf "$root"/usr/share/{info,locale,man}/*
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

install -D -m 644 "$here/install.sh" "$root/usr/local/share/agentgym/install.sh"
chroot "$root" sh /usr/local/share/agentgym/install.sh >&2
# This host's name and resolver were copied in for the installation only; the engine mounts its own over them.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
tar --sort=name --numeric-owner -C "$root" --exclude='./dev/*' --exclude='./proc/*' --exclude='./run/*' --exclude='./sys/*' -c .
