#!/usr/bin/env bash
# What `make test` runs: every test of every module, fuzz seeds and crash tests included, a line a
# package, the output of what failed, and a total. The counts also go to bin/test-counts.
#
#   VARVE_REQUIRE=all    a test that would skip fails
#   VARVE_CRASH_N=50     kills of the crash test
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p bin
rm -f bin/test-counts bin/test-*.json
runs=0

# summarize reads `go test -json` events of one module, prints a line a package, and appends the
# counts to bin/test-counts. A test is a top-level test, example or fuzz target; a skipped subtest counts as
# a skip, because its parent passes without it; a package that fails without a failed test (it
# does not build, or it ran out of time) is one failure.
summarize() {
	awk '
	function text(line,   s) {
		s = line
		if (!sub(/^.*"Output":"/, "", s)) return ""
		sub(/"}$/, "", s)
		gsub(/\\n/, "\n", s); gsub(/\\t/, "\t", s); gsub(/\\"/, "\"", s)
		gsub(/\\u003c/, "<", s); gsub(/\\u003e/, ">", s); gsub(/\\u0026/, "\\&", s)
		gsub(/\\\\/, "\\", s)
		return s
	}
	function field(line, name,   s) {
		s = line
		if (!sub("^.*\"" name "\":\"", "", s)) return ""
		sub(/".*/, "", s)
		return s
	}
	# What is not an event (a tool that talks past go test) is shown as it is.
	!/^{"(Time|ImportPath|Action)":/ { print; fflush(); next }
	{
		head = $0
		sub(/"Output":.*/, "", head)
		action = field(head, "Action"); pkg = field(head, "Package"); test = field(head, "Test")
		seconds = head; sub(/^.*"Elapsed":/, "", seconds); sub(/[},].*/, "", seconds)
	}
	action == "build-output" { printf "%s", text($0); fflush(); next }
	action == "output" { out[pkg, test] = out[pkg, test] text($0); next }
	test != "" && action == "skip" {
		skipped++
		printf "skip  %s %s\n%s", pkg, test, out[pkg, test]; fflush()
	}
	test != "" && action == "fail" {
		if (test !~ /\//) failed++
		bad[pkg]++
		printf "FAIL  %s %s\n%s", pkg, test, out[pkg, test]; fflush()
	}
	test != "" && test !~ /\// && action == "pass" { passed++; count[pkg]++ }
	# Passed and reported output is dropped; the rest is wanted if the package fails.
	test != "" && action != "run" && action != "start" && action != "pause" && action != "cont" { delete out[pkg, test] }
	test == "" && action == "pass" { printf "ok    %s: %d tests, %.1f s\n", pkg, count[pkg], seconds; fflush() }
	test == "" && action == "fail" {
		printf "FAIL  %s\n", pkg
		if (!bad[pkg]) failed++
		# What is left belongs to tests that never ended (panic, timeout) and to the package.
		for (k in out) if (index(k, pkg SUBSEP) == 1) printf "%s", out[k]
		fflush()
	}
	END { printf "%d %d %d\n", passed, failed, skipped >> "bin/test-counts" }
	'
}

# run MODULE GO-TEST-FLAGS...: one module. A failed test is counted, not fatal: the next module runs too.
run() {
	local module=$1 events
	shift
	[ -f "$module/go.mod" ] || return 0
	events=bin/test-$((++runs)).json
	go -C "$module" test -json "$@" ${packages:-./...} 2>&1 | tee "$events" | summarize
	# go test fails for reasons that leave no event too: a module that does not load, say.
	if [ "${PIPESTATUS[0]}" -ne 0 ] && ! grep -q '"Action":"fail"' "$events"; then
		echo "FAIL  go test in $module ended with an error and no failed test"
		echo "0 1 0" >> bin/test-counts
	fi
}

started=$SECONDS
# Tests without their outside program say so themselves: skip, or fail under VARVE_REQUIRE=all.
scripts/minio.sh build || echo "MinIO does not build here: its tests do not run"

run . -race -timeout 15m
# Claims about allocations do not hold under the race detector, which makes sync.Pool forget.
packages='./broker/wire ./broker/commitlog' run . -run Allocat -timeout 5m
# -p 1: these start brokers and measure time-outs, so one package at a time on the machine.
run integration -race -count=1 -p 1 -timeout 20m

awk -v s=$((SECONDS - started)) '
	{ p += $1; f += $2; k += $3 }
	END { printf "\n%d passed, %d failed, %d skipped in %d min %d s\n", p, f, k, s / 60, s % 60; exit (f > 0 || p == 0) }
' bin/test-counts
