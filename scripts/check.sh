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

# lint MODULE NAME COMMAND... runs a linter over a module. A finding is silenced by //nolint:NAME in its
# line (staticcheck has its own //lint:ignore); a comment that silences nothing is a finding too.
lint() {
	local module=$1 name=$2 out status=0 line file number rest used="" left=""
	shift 2
	cd "$module" || return
	out=$("$@" ./... 2>&1) || status=$?
	while IFS= read -r line; do
		IFS=: read -r file number rest <<<"$line"
		file=${file#"$PWD"/}
		if [[ $number =~ ^[0-9]+$ && -f $file ]] && sed -n "${number}p" "$file" | grep -q "//nolint:$name "; then
			used+="$file:$number "
		elif [ -n "$line" ]; then
			left+="$line"$'\n'
		fi
	done <<<"$out"
	while IFS=: read -r file number rest; do
		case " $used" in *" ${file#./}:$number "*) continue ;; esac
		left+="$file:$number: nolint:$name silences nothing"$'\n'
	done < <(sources | xargs grep -n "//nolint:$name ")
	[ -z "$left" ] || { printf '%s' "$left"; return 1; }
	[ "$status" = 0 ] || [ -n "$out" ]
}

# sources lists the Go files of the module in the current folder: not those of modules inside it.
sources() {
	local inner=() m
	while IFS= read -r m; do inner+=(-not -path "${m%/go.mod}/*"); done < <(find . -mindepth 2 -name go.mod)
	find . -name '*.go' "${inner[@]}"
}

# silenced_with_reason: a nolint comment names one linter that runs here, and says why.
silenced_with_reason() {
	local out
	out=$(grep -rnE --include='*.go' '//[[:space:]]*nolint' . | grep -vE '//nolint:(errorlint|exhaustive|unparam) // [^[:space:]]')
	[ -z "$out" ] || { printf 'write //nolint:LINTER // reason:\n%s\n' "$out"; return 1; }
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
go build -o bin/ mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck github.com/polyfloyd/go-errorlint \
	github.com/nishanths/exhaustive/cmd/exhaustive mvdan.cc/unparam || exit 1
tools=$PWD/bin

step "gofumpt" formatted
step "scripts parse" scripts_parse
step "nolint with reasons" silenced_with_reason
for m in "${modules[@]}"; do
	step "go vet ($m)" go -C "$m" vet ./...
	step "staticcheck ($m)" lint "$m" staticcheck "$tools/staticcheck"
	step "errorlint ($m)" lint "$m" errorlint "$tools/go-errorlint"
	step "exhaustive ($m)" lint "$m" exhaustive "$tools/exhaustive" -d # a default case is an answer
	step "unparam ($m)" lint "$m" unparam "$tools/unparam"
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
