package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite", false, "write expected output instead of comparing it")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// invocation runs one command line in this process.
func invocation(t *testing.T, env []string, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, env: env}
	code = a.run(args)
	return code, out.String(), errs.String()
}

// TestCommandLines runs the scripts in testdata/*.txt: after a line "$ varve ..." comes what the
// command prints, stderr lines after "! ", and its exit code if that is not 0. FILE is a file
// with the lines after "-- FILE --" at the top of the script. -rewrite updates them.
func TestCommandLines(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: %v %v", scripts, err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			text, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "FILE")
			got := runScript(t, string(text), file)
			if *rewrite {
				if err := os.WriteFile(script, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(text), got); d != "" {
				t.Fatalf("%s; run go test -rewrite and read the diff\n%s", script, d)
			}
		})
	}
}

func runScript(t *testing.T, text, file string) string {
	t.Helper()
	var out strings.Builder
	body := text
	if rest, ok := strings.CutPrefix(text, "-- FILE --\n"); ok {
		content, after, _ := strings.Cut(rest, "-- end --\n")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out.WriteString("-- FILE --\n" + content + "-- end --\n")
		body = after
	}
	for line := range strings.SplitSeq(body, "\n") {
		if strings.HasPrefix(line, "#") {
			out.WriteString(line + "\n")
			continue
		}
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		out.WriteString(line + "\n")
		words := splitWords(strings.ReplaceAll(command, "FILE", file))
		var env []string
		for words[0] != "varve" {
			env, words = append(env, words[0]), words[1:]
		}
		code, stdout, stderr := invocation(t, env, "", words[1:]...)
		out.WriteString(strings.ReplaceAll(stdout, file, "FILE"))
		for l := range strings.Lines(strings.ReplaceAll(stderr, file, "FILE")) {
			out.WriteString("! " + l)
		}
		if code != 0 {
			out.WriteString("exit " + string(rune('0'+code)) + "\n")
		}
		out.WriteString("\n")
	}
	return out.String()
}

// splitWords is a shell's word splitting with single quotes only.
func splitWords(s string) []string {
	var words []string
	var word strings.Builder
	quoted, any := false, false
	for _, r := range s {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	if any {
		words = append(words, word.String())
	}
	return words
}
