#!/usr/bin/env bash
# What `make check` runs: everything that can be said about the sources without running them.
# Each step names itself when it fails, all steps run, and the tree must be as it was before;
# in CI (CI=true) it must also be clean.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
modules=(.)
[ -f integration/go.mod ] && modules+=(integration)

# step NAME COMMAND... fails if the command does.
step() {
	local name=$1 out
	shift
	if ! out=$("$@" 2>&1); then
		failed+=("$name")
		printf 'FAIL  %s\n%s\n' "$name" "$out"
		return
	fi
	printf 'ok    %s\n' "$name"
}

formatted() {
	local folders=() out f
	for f in broker cmd gossip integration tiering; do
		[ -d "$f" ] && folders+=("$f")
	done
	out=$(bin/gofumpt -l "${folders[@]}") || return
	[ -z "$out" ] || { printf 'not formatted (run: go tool gofumpt -w FILE):\n%s\n' "$out"; return 1; }
}

lint() {
	local tool=$PWD/bin/staticcheck
	(cd "$1" && "$tool" ./...)
}

scripts_parse() {
	local f
	for f in scripts/*.sh .ci/run; do
		bash -n "$f" || return
	done
}

# tree prints what git sees of the work tree, untracked files with their content.
tree() {
	git status --porcelain
	git diff HEAD 2>/dev/null
	git ls-files --others --exclude-standard | git hash-object --stdin-paths
}

clean() {
	local after
	after=$(tree)
	if [ "$after" != "$before" ]; then
		printf 'the checks changed the tree:\n%s\n' "$(git status --short)"
		return 1
	fi
	if [ "${CI:-}" = true ] && [ -n "$(git status --porcelain)" ]; then
		printf 'the tree is not clean:\n%s\n' "$(git status --short)"
		return 1
	fi
}

before=$(tree)
mkdir -p bin
# The linters are pinned in go.mod and built once, so that the other modules are read by the same ones.
go build -o bin/ mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck || exit 1

step "gofumpt" formatted
step "scripts parse" scripts_parse
for m in "${modules[@]}"; do
	step "go vet ($m)" go -C "$m" vet ./...
	step "staticcheck ($m)" lint "$m"
	step "go mod tidy ($m)" go -C "$m" mod tidy -diff
	step "go generate ($m)" go -C "$m" generate ./...
done
# Only the main module: the clients in integration/ need cgo, which does not cross-compile.
step "builds for darwin" env GOOS=darwin go build ./...
step "clean tree" clean

if [ ${#failed[@]} -gt 0 ]; then
	printf '\n%d failed: %s\n' ${#failed[@]} "$(IFS=,; echo "${failed[*]}" | sed 's/,/, /g')"
	exit 1
fi
