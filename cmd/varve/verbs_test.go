package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

var testRecord = &kgo.Record{
	Topic: "clicks", Partition: 3, Offset: 42, Timestamp: time.UnixMilli(1767312000123),
	Key: []byte("k"), Value: []byte("v\x00w"),
	Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}},
}

func TestRecordFormat(t *testing.T) {
	for format, want := range map[string]string{
		`%v\n`:               "v\x00w\n",
		`%t/%p:%o %T %d %k`:  "clicks/3:42 1767312000123 2026-01-02T00:00:00.123Z k",
		`%h`:                 "a=1,b=",
		`100%% %k\t\\\x41\0`: "100% k\t\\A\x00",
		"plain":              "plain",
		"":                   "",
	} {
		pieces, err := parseFormat(format)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := string(appendRecord(nil, pieces, testRecord)); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
}

func TestRecordAsJSON(t *testing.T) {
	got, err := appendRecordJSON(nil, testRecord)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"topic":"clicks","partition":3,"offset":42,"timestamp":1767312000123,"key":"k","value":"v\u0000w","headers":[{"key":"a","value":"1"},{"key":"b","value":null}]}` + "\n"
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	got, err = appendRecordJSON(nil, &kgo.Record{Value: []byte{0xff, 0xfe}})
	if err != nil {
		t.Fatal(err)
	}
	want = `"key":null,"value":null,"value_base64":"//4="}` + "\n"
	if !strings.HasSuffix(string(got), want) {
		t.Errorf("got %s", got)
	}
}

func readAll(t *testing.T, format, input string, oneByte bool) ([]string, error) {
	t.Helper()
	pieces, err := parseInputFormat(format)
	if err != nil {
		t.Fatal(err)
	}
	var in io.Reader = strings.NewReader(input)
	if oneByte {
		in = iotest.OneByteReader(in)
	}
	r := newRecordReader(in, pieces)
	var out []string
	for {
		rec, err := r.next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		line := fmt.Sprintf("%q=%q", rec.Key, rec.Value)
		if rec.Key == nil {
			line = fmt.Sprintf("nil=%q", rec.Value)
		}
		if rec.Partition != 0 || !rec.Timestamp.IsZero() || rec.Headers != nil {
			line += fmt.Sprintf(" p%d t%d h%d", rec.Partition, rec.Timestamp.UnixMilli(), len(rec.Headers))
		}
		out = append(out, line)
	}
}

func TestInputFormat(t *testing.T) {
	for _, tc := range []struct {
		format, input string
		want          []string
	}{
		{`%v\n`, "a\n\nb", []string{`nil="a"`, `nil=""`, `nil="b"`}},
		{`%v\n`, "", nil},
		{`%k\t%v\n`, "a\tb\tc\nd\t\n", []string{`"a"="b\tc"`, `"d"=""`}},
		{`%k::%v;;`, "a:b::c;d;;e::f;;", []string{`"a:b"="c;d"`, `"e"="f"`}},
		{`<%v>`, "<a><b>", []string{`nil="a"`, `nil="b"`}},
		{`%v`, "all\nof it\n", []string{`nil="all\nof it\n"`}},
		{`%p %T %h %v\n`, "2 1767312000000 a=1,b=2 x\n", []string{`nil="x" p2 t1767312000000 h2`}},
		{`%v\r\n`, "a\rb\r\nc\r\n", []string{`nil="a\rb"`, `nil="c"`}},
	} {
		for _, oneByte := range []bool{false, true} {
			got, err := readAll(t, tc.format, tc.input, oneByte)
			if err != nil {
				t.Errorf("%q: %v", tc.format, err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("%q: %s", tc.format, d)
			}
		}
	}
}

func TestBadInputNamesTheRecord(t *testing.T) {
	for _, tc := range []struct{ format, input, want string }{
		{`%k\t%v\n`, "a\tb\nno tab\n", "record 2 of the input: %k"},
		{`<%v>`, "<a>b>", `record 2 of the input begins with "b", not "<"`},
		{`%p %v\n`, "x y\n", `"x" is not a partition`},
		{`%p %v\n`, "-1 y\n", `"-1" is not a partition`},
		{`%T %v\n`, "now y\n", `"now" is not a time in ms`},
		{`%h %v\n`, "a y\n", `"a" is not name=value`},
	} {
		if _, err := readAll(t, tc.format, tc.input, false); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.format, err, tc.want)
		}
	}
}

func FuzzRecordInput(f *testing.F) {
	f.Add(`%k\t%v\n`, []byte("a\tb\nc\td"))
	f.Add(`<%v>`, []byte("<a><b"))
	f.Add(`%p %T %h %v\n`, []byte("2 3 a=1 x\n"))
	f.Fuzz(func(t *testing.T, format string, input []byte) {
		pieces, err := parseInputFormat(format)
		if err != nil {
			return
		}
		r := newRecordReader(bytes.NewReader(input), pieces)
		for range len(input) + 1 {
			if _, err := r.next(); err != nil {
				return
			}
		}
		t.Fatalf("%q reads more records than %d bytes can hold", format, len(input))
	})
}
