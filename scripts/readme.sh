#!/usr/bin/env bash
# Checks that the output pasted into README.md is what a command prints, but for numbers and times.
#
#   scripts/readme.sh COMMAND FILE    FILE holds what COMMAND printed
#
# In README.md the block of COMMAND is the fenced block after the line <!-- output: COMMAND -->. Its
# lines must come, in order, in FILE; FILE may have more.
set -euo pipefail
cd "$(dirname "$0")/.."
command=$1 file=$2

# shape turns numbers, sizes, bars and blanks into marks, so that two runs can be compared.
shape() {
	sed -E '
		s/\x1b\[[0-9;]*m//g
		s/[░▒█]+/BAR/g
		s/[0-9]+([.,:][0-9]+)*/N/g
		s/N ?([KMGT]i?B|B)(\/s)?/SIZE\2/g
		s/N ?(ms|µs|s|min)\b/TIME/g
		s/(TIME )+/TIME /g
		s/SIZE( \+ SIZE)*/SIZE/g
		s/[[:space:]]+/ /g
		s/^ //; s/ $//' "$1" | grep -v '^$' || true
}

pasted=$(mktemp)
trap 'rm -f "$pasted"' EXIT
awk -v mark="<!-- output: $command -->" '
	$0 == mark { found = 1; next }
	found && /^```/ { if (inside) exit; inside = 1; next }
	inside { print }
' README.md > "$pasted"
if [ ! -s "$pasted" ]; then
	echo "README.md has no pasted output of '$command'"
	exit 1
fi

# Every pasted line, in order, must be among the printed ones.
awk '
	NR == FNR { printed[++n] = $0; next }
	{
		while (at < n && printed[++at] != $0) { }
		if (at >= n && printed[at] != $0) { print "README.md shows, and the command does not print:\n  " $0; exit 1 }
	}
' <(shape "$file") <(shape "$pasted")
echo "README.md shows what '$command' prints"
