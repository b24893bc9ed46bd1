#!/bin/sh
# Starts the image's own entrypoint with the password from its volume.
set -eu
POSTGRES_PASSWORD=$(cat /secrets/password)
export POSTGRES_PASSWORD
if command -v docker-entrypoint.sh >/dev/null; then exec docker-entrypoint.sh postgres "$@"; fi
exec entry "$@"
