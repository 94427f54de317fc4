#!/usr/bin/env bash
# Builds lnd from its Go module for `npm run interop`, without touching the system. Needs Go 1.25 or newer; takes
# some minutes the first time, and does nothing when the binary is there.
#
#   FULMEN_PEERS_DIR  where it goes    (default: .fulmen/peers of this checkout)
#   LND_VERSION       module version   (default: v0.21.2-beta)
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
target=${FULMEN_PEERS_DIR:-$checkout/.fulmen/peers}/lnd
version=${LND_VERSION:-v0.21.2-beta}
# lowscrypt: keys are stretched less, of which a start of lnd is else two to five seconds of a core.
tags="autopilotrpc signrpc walletrpc chainrpc invoicesrpc peersrpc watchtowerrpc wtclientrpc monitoring kvdb_postgres dev lowscrypt"

if [ -x "$target/bin/lnd" ] && "$target/bin/lnd" --version | grep -qF "${version#v}"; then
  "$target/bin/lnd" --version
  exit 0
fi
command -v go >/dev/null || { echo "needs Go 1.25 or newer; or set FULMEN_LND to an lnd that was built with the dev tag" >&2; exit 1; }

mkdir -p "$target/bin" "$target/src"
cd "$target/src"
cat >tools.go <<'GO'
//go:build tools

package lndbuild

import (
	_ "github.com/lightningnetwork/lnd/cmd/lncli"
	_ "github.com/lightningnetwork/lnd/cmd/lnd"
)
GO
# The replace lines of a dependency's go.mod do not count: lnd's own three are repeated.
cat >go.mod <<MOD
module lndbuild

go 1.25.10

require github.com/lightningnetwork/lnd $version

replace github.com/ulikunitz/xz => github.com/ulikunitz/xz v0.5.11

replace github.com/gogo/protobuf => github.com/gogo/protobuf v1.3.2

replace google.golang.org/protobuf => github.com/lightninglabs/protobuf-go-hex-display v1.33.0-hex-display
MOD
go build -mod=mod -trimpath -tags "$tags" -ldflags "-s -w -buildid=" -o "$target/bin/" \
  github.com/lightningnetwork/lnd/cmd/lnd
"$target/bin/lnd" --version
