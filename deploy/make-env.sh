#!/bin/sh
# Writes .env from .env.example, with a random secret in place of each public one. An existing .env is kept, because the
# volumes have its secrets.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
  echo "There is an .env already; it is kept. Remove it first to make a new one (and the volumes with the old secrets)." >&2
  exit 1
fi
umask 077
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    [A-Z]*=change-me*) printf '%s=%s\n' "${line%%=*}" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <.env.example >.env.new
mv .env.new .env
echo "Wrote .env, readable by you alone, with secrets of its own."
