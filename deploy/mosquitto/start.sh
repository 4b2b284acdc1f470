#!/bin/sh
# Makes the password and ACL files from the environment, readable by the broker's user only, and becomes the broker.
set -eu
umask 077
run=/tmp/mosquitto
mkdir -p "$run"

MQTT_HEALTH_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
: >"$run/passwords"
# user VARIABLE: by way of a file, because everyone can read a command line.
user() {
  eval "password=\${$2:-}"
  [ -n "$password" ] || { echo "broker: $2 is not set: expected the password of user $1" >&2; exit 2; }
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

# Options of mosquitto_sub for the health check, found through XDG_CONFIG_HOME.
printf '%s\n' '-u health' "-P $MQTT_HEALTH_PASSWORD" >"$run/mosquitto_sub"
unset MQTT_HEALTH_PASSWORD password

exec mosquitto -c /mosquitto/config/mosquitto.conf
