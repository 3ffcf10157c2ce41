#!/usr/bin/env bash
# Runs every fuzz target of the main module for a while, one after the other:  scripts/fuzz.sh [TIME]
# A failing input is written to testdata/fuzz beside the test: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

targets=0
while IFS=: read -r file func; do
	func=${func#func }
	echo "== ${file%/*} $func for $time"
	go test -run '^$' -fuzz "^$func\$" -fuzztime "$time" "./${file%/*}"
	targets=$((targets + 1))
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' broker tiering gossip cmd 2>/dev/null | sort)

echo "$targets fuzz targets, no failure"
[ "$targets" -gt 0 ]
