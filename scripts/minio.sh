#!/bin/sh
# A real S3 server for development and tests: MinIO, built from its own Go module
# (integration/minio), whose dependencies therefore touch nothing else.
#
#   scripts/minio.sh build            build bin/minio unless it is there
#   scripts/minio.sh run PORT DIR     build, then serve DIR on 127.0.0.1:PORT until stopped
#
# Credentials: MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, by default minioadmin / minioadmin.
# Point Varve at it:
#   AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin bin/varve serve \
#     --store 's3://varve/dev?endpoint=http://127.0.0.1:PORT&create_bucket=true'
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$root/bin/minio

usage() {
	sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

build() {
	[ -x "$bin" ] && return
	echo "building bin/minio from integration/minio (once; some minutes with empty caches)" >&2
	mkdir -p "$root/bin"
	# A temporary name: an interrupted build must not look like a finished one.
	trap 'rm -f "$bin.new.$$"' EXIT
	go build -C "$root/integration/minio" -o "$bin.new.$$" github.com/minio/minio
	mv "$bin.new.$$" "$bin"
	trap - EXIT
}

case "${1-}" in
build)
	[ $# -eq 1 ] || usage
	build
	;;
run)
	[ $# -eq 3 ] || usage
	build
	mkdir -p "$3"
	export MINIO_ROOT_USER="${MINIO_ROOT_USER-minioadmin}"
	export MINIO_ROOT_PASSWORD="${MINIO_ROOT_PASSWORD-minioadmin}"
	export MINIO_BROWSER=off MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off
	exec "$bin" server --quiet --address "127.0.0.1:$2" "$3"
	;;
*)
	usage
	;;
esac
