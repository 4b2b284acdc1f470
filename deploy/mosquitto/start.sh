#!/bin/sh
# Creates the password and ACL files from the environment, readable by the broker's user only, and executes the broker.
set -eu
umask 077
run=/tmp/mosquitto
mkdir -p "$run/conf.d"

MQTT_HEALTH_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
: >"$run/passwords"
# user NAME VARIABLE: the password goes through a pipe, because everyone can read a command line, and because in a file
# that mosquitto_passwd encrypts it would end at a colon.
user() {
  eval "password=\${$2:-} file=\${$2_FILE:-}"
  if [ -z "$password" ] && [ -n "$file" ]; then password=$(cat "$file"); fi
  [ -n "$password" ] || { echo "broker: $2 is not set: expected the password of user $1, or $2_FILE" >&2; exit 2; }
  case $password in
    ' '*|*' '|*[[:cntrl:]]*)
      echo "broker: $2: expected a password without a blank at its start or end and without a line break" >&2
      exit 2
      ;;
    change-me*) echo "broker: warning: $2 is the public secret of the repository; set your own (make env)" >&2 ;;
  esac
  printf '%s\n%s\n' "$password" "$password" | mosquitto_passwd "$run/passwords" "$1" >/dev/null
}
user kraken-gateway MQTT_GATEWAY_PASSWORD
user aggregator MQTT_AGGREGATOR_PASSWORD
user influx-writer MQTT_WRITER_PASSWORD
user admin-api MQTT_ADMIN_PASSWORD
user viewer MQTT_VIEWER_PASSWORD
user health MQTT_HEALTH_PASSWORD

prefix=${INGRESS_TOPIC_PREFIX:-ingress}
case $prefix in
  *[!A-Za-z0-9_./-]*) echo "broker: INGRESS_TOPIC_PREFIX: expected letters, digits, _ . / and -, got '$prefix'" >&2; exit 2 ;;
esac
sed "s|prefix/|$prefix/|" /mosquitto/config/acl >"$run/acl"

# Options of mosquitto_sub for the health check, found through XDG_CONFIG_HOME. It has a listener of its own, which only
# this container reaches, so that it needs no certificate.
printf '%s\n' '-h 127.0.0.1' '-p 1882' '-u health' "-P $MQTT_HEALTH_PASSWORD" >"$run/mosquitto_sub"
printf 'listener 1882 127.0.0.1\n' >"$run/conf.d/health.conf"

cert=${MQTT_TLS_CERT_FILE:-}
if [ -z "$cert" ]; then
  printf 'listener 1883\n' >"$run/conf.d/listener.conf"
else
  clients=${MQTT_TLS_CLIENTS:-false}
  printf 'listener 8883\ncertfile %s\nkeyfile %s\ntls_version tlsv1.2\n' "$cert" "$MQTT_TLS_KEY_FILE" >"$run/conf.d/listener.conf"
  if [ "$clients" = true ]; then
    printf 'cafile %s\nrequire_certificate true\n' "$MQTT_TLS_CA_FILE" >>"$run/conf.d/listener.conf"
  fi
fi
unset MQTT_HEALTH_PASSWORD password

exec mosquitto -c /mosquitto/config/mosquitto.conf
