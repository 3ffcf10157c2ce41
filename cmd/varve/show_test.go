package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"varve/broker"
)

func testSource(t *testing.T, files map[string]string) *sourceTree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openSource(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lines(t *testing.T, s *sourceTree, file string) []*kgo.Record {
	t.Helper()
	text, err := s.read(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []*kgo.Record
	for {
		line, rest, ok := nextLine(text)
		if !ok {
			return out
		}
		out = append(out, &kgo.Record{Key: []byte(file), Value: line})
		text = rest
	}
}

func TestEveryLineOfEveryFileIsChecked(t *testing.T) {
	s := testSource(t, map[string]string{"a.go": "one\n\ntwo\n", "sub/b.go": "x\r\ny", "empty.go": "", "note.txt": "no"})
	if got := strings.Join(s.files, " "); got != "a.go empty.go sub/b.go" {
		t.Fatalf("files %s", got)
	}
	check := newLineCheck(s)
	a, b := lines(t, s, "a.go"), lines(t, s, "sub/b.go")
	if len(a) != 3 || len(b) != 2 || string(b[0].Value) != "x\r" {
		t.Fatalf("lines %d %d", len(a), len(b))
	}
	for _, r := range []*kgo.Record{a[0], b[0], a[1], b[1], a[2]} {
		if err := check.record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := check.finish(5); err != nil {
		t.Fatal(err)
	}
	if err := check.finish(6); err == nil {
		t.Fatal("a record that was acknowledged and not read is no difference")
	}
	if err := check.record(a[0]); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Fatalf("duplicate: %v", err)
	}
}

func TestFirstDifferenceIsNamed(t *testing.T) {
	s := testSource(t, map[string]string{"a.go": "one\ntwo\nthree\n"})
	for _, tc := range []struct {
		name   string
		values []string
		want   string
	}{
		{"changed", []string{"one", "tw0"}, `line 2 of a.go is "two", the record is "tw0"`},
		{"skipped", []string{"one", "three"}, `line 2 of a.go is "two", the record is "three"`},
		{"twice", []string{"one", "one"}, `line 2 of a.go is "two", the record is "one"`},
		{"cut", []string{"one", "two"}, "a.go ends after line 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := newLineCheck(s)
			var err error
			for _, v := range tc.values {
				if err == nil {
					err = check.record(&kgo.Record{Key: []byte("a.go"), Value: []byte(v)})
				}
			}
			if err == nil {
				err = check.finish(int64(len(tc.values)))
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
	if err := newLineCheck(s).record(&kgo.Record{Key: []byte("../../etc/passwd")}); err == nil || !strings.Contains(err.Error(), "no file of the source") {
		t.Fatalf("foreign key: %v", err)
	}
}

func TestStrataShowWhatIsThereAtAll(t *testing.T) {
	for _, tc := range []struct {
		b    broker.TierBytes
		want string
	}{
		{broker.TierBytes{ColdOnly: 50, Both: 30, HotOnly: 20}, "░░░░░▒▒▒██"},
		{broker.TierBytes{ColdOnly: 1000000, HotOnly: 1}, "░░░░░░░░░░█"},
		{broker.TierBytes{HotOnly: 50}, "█████     "},
		{broker.TierBytes{}, "          "},
	} {
		longest := tc.b.ColdOnly + tc.b.Both + tc.b.HotOnly
		if tc.b.HotOnly == 50 {
			longest = 100
		}
		if got := strata(tc.b, longest, 10); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.b, got, tc.want)
		}
	}
}

func TestShowEmptiesOnlyWhatAShowMade(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &show{dir: dir}
	if err := s.emptyDir(); err == nil || !strings.Contains(err.Error(), "not from a show") {
		t.Fatalf("error %v", err)
	}
	s.dir = filepath.Join(dir, "run")
	if err := s.emptyDir(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "old"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := &show{dir: s.dir}
	if err := second.emptyDir(); err == nil || !strings.Contains(err.Error(), "another show runs") {
		t.Fatalf("error %v", err)
	}
	s.lock.Close()
	if err := second.emptyDir(); err != nil {
		t.Fatal(err)
	}
	defer second.lock.Close()
	if _, err := os.Stat(filepath.Join(s.dir, "old")); !os.IsNotExist(err) {
		t.Fatalf("old file: %v", err)
	}
}

func TestTakenPortMovesToTheNextFreeOneAndSaysSo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	port, err := freePort(taken, false, map[int]bool{})
	if err != nil || port <= taken {
		t.Fatalf("port %d after %d, %v", port, taken, err)
	}
	used := map[int]bool{port: true}
	if again, err := freePort(taken, true, used); err != nil || again <= port {
		t.Fatalf("port %d after %d, %v", again, port, err)
	}
}

func TestPlainProgressIsOneLine(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b, "pour", 100, true)
	for i := range int64(100) {
		p.set(i)
	}
	p.finish("%d records", 5)
	p.clear()
	if want := fmt.Sprintf("%-8s 5 records\n", "pour"); b.String() != want {
		t.Fatalf("got %q", b.String())
	}
}

func TestMemTotalReadsProcMeminfo(t *testing.T) {
	if got := memTotal([]byte("MemFree: 1 kB\nMemTotal:       24689152 kB\n")); got != 24689152*1024 {
		t.Fatalf("got %d", got)
	}
	if got := memTotal([]byte("MemTotal: lots kB\n")); got != 0 {
		t.Fatalf("got %d", got)
	}
}
