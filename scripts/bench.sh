#!/usr/bin/env bash
# Runs the benchmark of integration/bench on bin/varve: every row of the README's table, or one.
#   scripts/bench.sh [ROW]
# Prints value, bar, raw limit of the same run, PASS or MISS; writes bench.json; ends with 1 on a MISS.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/minio.sh build
go build -C integration -o ../bin/varve-bench ./bench
exec bin/varve-bench rows --varve bin/varve --minio bin/minio --json bench.json ${1:+--row "$1"}
