package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sourceTree is the files that are poured, by their path relative to root, in walking order.
type sourceTree struct {
	root  string
	files []string
	known map[string]bool
	bytes int64
}

// openSource lists the .go files of a tree, GOROOT/src if root is "".
func openSource(ctx context.Context, root string) (*sourceTree, error) {
	if root == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		goroot := strings.TrimSpace(string(out))
		if err != nil || goroot == "" {
			return nil, errors.New("find Go's source with `go env GOROOT`: is Go installed? --source names another tree of .go files")
		}
		root = filepath.Join(goroot, "src")
	}
	// GOROOT may be a link, which a walk would not follow.
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	t := &sourceTree{root: resolved, known: map[string]bool{}}
	err = filepath.WalkDir(resolved, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() || !strings.HasSuffix(path, ".go") {
			return ctx.Err()
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(resolved, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		t.files, t.known[rel] = append(t.files, rel), true
		t.bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list source: %w", err)
	}
	if len(t.files) == 0 {
		return nil, fmt.Errorf("%s holds no .go files", root)
	}
	return t, nil
}

// read gives the text of one file.
func (t *sourceTree) read(file string) ([]byte, error) {
	return os.ReadFile(filepath.Join(t.root, filepath.FromSlash(file)))
}

// nextLine cuts the first line off text, without its newline. The part after the last newline is
// a line only if it is not empty.
func nextLine(text []byte) (line, rest []byte, ok bool) {
	if len(text) == 0 {
		return nil, nil, false
	}
	line, rest, _ = bytes.Cut(text, []byte{'\n'})
	return line, rest, true
}
