#!/bin/sh
# Creates the password and ACL files from the environment, readable by the broker's user only, and executes the broker.
set -eu
umask 077
run=/tmp/mosquitto
mkdir -p "$run/conf.d"

MQTT_HEALTH_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
: >"$run/passwords"
# user VARIABLE: through a file, because everyone can read a command line.
user() {
  eval "password=\${$2:-} file=\${$2_FILE:-}"
  if [ -z "$password" ] && [ -n "$file" ]; then password=$(cat "$file"); fi
  [ -n "$password" ] || { echo "broker: $2 is not set: expected the password of user $1, or $2_FILE" >&2; exit 2; }
  case $password in
    change-me*) echo "broker: warning: $2 is the public secret of the repository; set your own (make env)" >&2 ;;
  esac
  printf '%s:%s\n' "$1" "$password" >>"$run/passwords"
}
user kraken-gateway MQTT_GATEWAY_PASSWORD
user aggregator MQTT_AGGREGATOR_PASSWORD
user influx-writer MQTT_WRITER_PASSWORD
user admin-api MQTT_ADMIN_PASSWORD
user viewer MQTT_VIEWER_PASSWORD
user health MQTT_HEALTH_PASSWORD
mosquitto_passwd -U "$run/passwords"

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
