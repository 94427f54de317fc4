#!/usr/bin/env bash
# Builds the peer of LDK's newest release (crate ldk-node, behind the program in ldk-node/) for `npm run interop`,
# without touching the system. Needs cargo; takes some minutes the first time, at the lowest priority, and does nothing
# when the binary was built of these very files.
#
#   FULMEN_PEERS_DIR  where it goes    (default: .fulmen/peers of this checkout)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../../.." && pwd)
target=${FULMEN_PEERS_DIR:-$checkout/.fulmen/peers}/ldk-node
source=$here/ldk-node

sum=$(cat "$source/Cargo.toml" "$source/Cargo.lock" "$source/src/main.rs" | sha256sum | cut -d' ' -f1)
if [ -x "$target/bin/ldk-node-peer" ] && [ "$(cat "$target/built-of" 2>/dev/null)" = "$sum" ]; then
  echo "ldk-node-peer is there"
  exit 0
fi
command -v cargo >/dev/null || { echo "needs cargo; or set FULMEN_LDK_NODE to a built ldk-node-peer" >&2; exit 1; }

mkdir -p "$target/bin"
nice -n 19 cargo build --quiet --release --locked --manifest-path "$source/Cargo.toml" --target-dir "$target/target"
cp "$target/target/release/ldk-node-peer" "$target/bin/"
rm -rf "$target/target"
echo "$sum" >"$target/built-of"
echo "ldk-node-peer is built"
