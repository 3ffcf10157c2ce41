package object

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// errPageFull ends a walk; it never leaves this file.
var errPageFull = errors.New("page is full")

// List walks the directories that can hold matching keys, in key order.
func (d *Dir) List(ctx context.Context, prefix, after string, limit int) (Page, error) {
	if limit <= 0 {
		limit = MaxListPage
	}
	if ctx.Err() != nil {
		return Page{}, canceled(ctx, OpList, d.name, prefix)
	}
	if err := checkPrefix(d.name, prefix); err != nil {
		return Page{}, err
	}
	start := "" // deepest directory that holds all matches, relative, "" for the root
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
	}
	w := dirWalk{d: d, ctx: ctx, prefix: prefix, after: after, limit: limit}
	err := w.walk(start)
	switch {
	case errors.Is(err, errPageFull):
		w.page.Next = w.page.Objects[limit-1].Key
	case ctx.Err() != nil:
		return Page{}, canceled(ctx, OpList, d.name, prefix)
	case err != nil:
		return Page{}, d.fail(OpList, prefix, err)
	}
	return w.page, nil
}

type dirWalk struct {
	d             *Dir
	ctx           context.Context
	prefix, after string
	limit         int
	page          Page
}

// walk visits one directory. Entries sort by name with a directory's slash
// appended, because keys compare whole: "a-b" comes before "a/b".
func (w *dirWalk) walk(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(w.d.root, filepath.FromSlash(dir)))
	if err != nil {
		if isAbsent(err) {
			return nil
		}
		return err
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, reservedPrefix) {
			continue
		}
		key := path.Join(dir, name)
		if e.IsDir() {
			key += "/"
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if strings.HasSuffix(key, "/") {
			if !strings.HasPrefix(key, w.prefix) && !strings.HasPrefix(w.prefix, key) {
				continue
			}
			// All keys below sort before `after` unless after is at or above them.
			if w.after > key && !strings.HasPrefix(w.after, key) {
				continue
			}
			if err := w.walk(strings.TrimSuffix(key, "/")); err != nil {
				return err
			}
			continue
		}
		if err := w.visit(key); err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWalk) visit(key string) error {
	if !strings.HasPrefix(key, w.prefix) || key <= w.after {
		return nil
	}
	if CheckKey(key) != nil {
		return nil // a file that is not ours and that no key could name
	}
	if len(w.page.Objects) == w.limit {
		return errPageFull
	}
	st, err := os.Stat(w.d.path(key))
	if err != nil {
		if isAbsent(err) {
			return nil // deleted meanwhile
		}
		return err
	}
	if !st.Mode().IsRegular() {
		return nil
	}
	w.page.Objects = append(w.page.Objects, Info{Key: key, Size: st.Size(), ModTime: st.ModTime()})
	return nil
}
