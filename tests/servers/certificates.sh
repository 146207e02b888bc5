#!/bin/bash
# Makes a test CA and a server certificate for localhost and 127.0.0.1 in DIR: ca.pem, ca.key, server.pem, server.key.
# usage: certificates.sh DIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
mkdir -p "$1"
cd "$1"
umask 077   # PostgreSQL refuses a key that others can read
new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
new_key server.key
openssl req -new -key server.key -subj /CN=localhost -out server.csr
new_key ca.key
openssl req -x509 -new -key ca.key -days 3650 -subj '/CN=pg2os test CA' -out ca.pem
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out server.pem 2>/dev/null -extfile - <<'END'
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
END
rm server.csr ca.srl
chmod 755 .
chmod 644 ca.pem server.pem
