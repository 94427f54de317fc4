#!/usr/bin/env bash
# Fetches a real bitcoind for `npm run test:bitcoind`, without touching the
# system: packages of Debian (bitcoin-knots and the libraries it needs) are
# unpacked into a folder of this checkout and started through their own
# loader. Needs apt and dpkg with one working Debian source; run it again at
# will, it does nothing when the binary works.
#
#   FULMEN_PEERS_DIR  where it goes       (default: .fulmen/peers of this checkout)
#   DEBIAN_SUITE      Debian's suite      (default: sid)
#   DEBIAN_MIRROR     a mirror's address  (default: that of the system's source)
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
target=${FULMEN_PEERS_DIR:-$checkout/.fulmen/peers}/bitcoind
suite=${DEBIAN_SUITE:-sid}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

works() { [ -x "$target/bin/bitcoind" ] && "$target/bin/bitcoind" -version >/dev/null 2>&1; }
if works; then
  "$target/bin/bitcoind" -version | head -n 1
  exit 0
fi
for tool in apt-get dpkg-deb tar; do
  command -v "$tool" >/dev/null || { echo "needs $tool; or install bitcoind yourself and set FULMEN_BITCOIND" >&2; exit 1; }
done

# First "URIs:" of a deb822 source, else the address in a one-line source.
system_mirror() {
  sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 | grep . ||
    sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | head -n 1
}
mirror=${DEBIAN_MIRROR:-$(system_mirror)}
[ -n "$mirror" ] || { echo "no Debian mirror known; set DEBIAN_MIRROR" >&2; exit 1; }
for candidate in $(sed -n 's/^Signed-By:[[:space:]]*\(\/[^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null) "$keyring"; do
  [ -r "$candidate" ] && { keyring=$candidate; break; }
done

# A private apt: its own lists, cache and (empty) package database, so that
# the simulated install names every library.
mkdir -p "$target"/apt/lists/partial "$target"/apt/cache/archives/partial "$target"/apt/log "$target"/debs "$target"/bin
: > "$target/apt/status"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$target/apt/sources.list"
apt() {
  apt-get -qq \
    -o Dir::Etc::sourcelist="$target/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State::lists="$target/apt/lists" -o Dir::State::status="$target/apt/status" \
    -o Dir::State::extended_states="$target/apt/extended" -o Dir::Cache="$target/apt/cache" -o Dir::Log="$target/apt/log" \
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=0 -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false "$@"
}
apt update
mapfile -t packages < <(apt -s -y install bitcoin-knots | awk '$1 == "Inst" && $2 ~ /^(bitcoin|lib|gcc-[0-9]+-base)/ { print $2 }' | sort -u)
[ "${#packages[@]}" -gt 0 ] || { echo "nothing found for bitcoin-knots in $suite" >&2; exit 1; }
(cd "$target/debs" && apt download "${packages[@]}")

# Debian merged / into /usr: make the links before packages unpack through them.
rm -rf "$target/root"
mkdir -p "$target/root/usr/lib" "$target/root/usr/lib64" "$target/root/usr/bin"
for link in lib lib64 bin; do ln -s "usr/$link" "$target/root/$link"; done
for package in "$target"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$target/root" --keep-directory-symlink
done

# Wrappers find everything relative to themselves, so the folder may move.
for program in bitcoind bitcoin-cli; do
  cat > "$target/bin/$program" <<WRAPPER
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/../root" && pwd)
libraries=\$(ls -d "\$root"/usr/lib/*-linux-gnu | head -n 1)
exec "\$(ls "\$libraries"/ld-linux*.so.* | head -n 1)" --library-path "\$libraries" --argv0 "\$0" "\$root/usr/bin/$program" "\$@"
WRAPPER
  chmod +x "$target/bin/$program"
done
works || { echo "the unpacked bitcoind does not start" >&2; exit 1; }
"$target/bin/bitcoind" -version | head -n 1
