#!/bin/sh
# Creates certificates for trials: an authority, and one certificate for each server and client. In production use those
# of your own authority. Usage: make-certs.sh FOLDER [DAYS]; existing files are kept.
set -eu
folder=$1
days=${2:-365}
umask 077
mkdir -p "$folder"
cd "$folder"

if [ ! -f ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj "/CN=Crypto Ingress trials" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca-key.pem -out ca.pem 2>/dev/null
fi

# certificate NAME USAGE ALTERNATIVE-NAMES
certificate() {
  [ ! -f "$1.pem" ] || return 0
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1-key.pem" -out "$1.csr" 2>/dev/null
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$2" "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days "$days" -extfile "$1.ext" \
    -out "$1.pem" 2>/dev/null
  rm "$1.csr" "$1.ext"
}
local_names="DNS:localhost,IP:127.0.0.1,IP:::1"
certificate broker serverAuth "DNS:broker,$local_names"
certificate influxdb serverAuth "DNS:influxdb,$local_names"
certificate admin-api serverAuth "DNS:admin-api,$local_names"
certificate client clientAuth "DNS:client"
# The containers' users read them; the authority's key stays with its owner.
chmod 0755 .
chmod 0644 ./*.pem
chmod 0600 ca-key.pem
