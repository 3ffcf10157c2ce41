package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxField bounds one key or value read from the input; no topic takes more than 1 GiB a batch,
// and a delimiter that never comes must not eat the machine.
const maxField = 100 << 20

// parseInputFormat is parseFormat for reading: every verb but the last needs text after it, and
// only what a producer decides can be read.
func parseInputFormat(format string) ([]piece, error) {
	pieces, err := parseFormat(format)
	if err != nil {
		return nil, err
	}
	verbs := 0
	for i, p := range pieces {
		if p.verb == 0 {
			continue
		}
		verbs++
		if strings.IndexByte("kvpTh", p.verb) < 0 {
			return nil, fmt.Errorf("-f %%%c cannot be read; only %%k %%v %%p %%T %%h can", p.verb)
		}
		if i+1 < len(pieces) && pieces[i+1].verb != 0 {
			return nil, fmt.Errorf("-f needs text between %%%c and %%%c to tell them apart", p.verb, pieces[i+1].verb)
		}
	}
	if verbs == 0 {
		return nil, errors.New("-f names no part of a record")
	}
	return pieces, nil
}

// recordReader reads records in a format from a stream.
type recordReader struct {
	in     *bufio.Reader
	pieces []piece
	count  int64 // records read
}

func newRecordReader(in io.Reader, pieces []piece) *recordReader {
	return &recordReader{in: bufio.NewReaderSize(in, 64<<10), pieces: pieces}
}

// next gives one record, or io.EOF where the input ends between two.
func (r *recordReader) next() (*kgo.Record, error) {
	if _, err := r.in.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read input: %w", err)
	}
	r.count++
	rec := &kgo.Record{}
	for i := 0; i < len(r.pieces); i++ {
		p := r.pieces[i]
		if p.verb == 0 { // only at the start: text after a verb is read with it
			if err := r.expect(p.text); err != nil {
				return nil, err
			}
			continue
		}
		var delimiter []byte
		if i+1 < len(r.pieces) {
			delimiter = r.pieces[i+1].text
		}
		last := i+2 >= len(r.pieces)
		field, err := r.field(delimiter, last)
		if err == nil {
			err = setField(rec, p.verb, field)
		}
		if err != nil {
			return nil, fmt.Errorf("record %d of the input: %%%c: %w", r.count, p.verb, err)
		}
		i++ // the delimiter
	}
	return rec, nil
}

func (r *recordReader) expect(text []byte) error {
	got := make([]byte, len(text))
	if n, err := io.ReadFull(r.in, got); err != nil || !bytes.Equal(got, text) {
		return fmt.Errorf("record %d of the input begins with %q, not %q", r.count, clip(string(got[:n])), clip(string(text)))
	}
	return nil
}

// field reads up to the delimiter, or to the end of the input if there is none. The last field of
// a record may also end with the input: the newline of a last line is often missing.
func (r *recordReader) field(delimiter []byte, last bool) ([]byte, error) {
	field := []byte{} // empty and not null
	if len(delimiter) == 0 {
		all, err := io.ReadAll(io.LimitReader(r.in, maxField+1))
		if len(all) > maxField {
			return nil, fmt.Errorf("longer than %d bytes", maxField)
		}
		return append(field, all...), err
	}
	end := delimiter[len(delimiter)-1]
	for {
		chunk, err := r.in.ReadSlice(end)
		field = append(field, chunk...)
		if len(field) > maxField {
			return nil, fmt.Errorf("longer than %d bytes", maxField)
		}
		switch {
		case bytes.HasSuffix(field, delimiter) && err == nil:
			return field[:len(field)-len(delimiter)], nil
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && last:
			return field, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the input ends before %q", clip(string(delimiter)))
		default:
			return nil, fmt.Errorf("read: %w", err)
		}
	}
}

func setField(rec *kgo.Record, verb byte, field []byte) error {
	switch verb {
	case 'k':
		rec.Key = field
	case 'v':
		rec.Value = field
	case 'p':
		n, err := strconv.ParseInt(string(field), 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a partition", clip(string(field)))
		}
		rec.Partition = int32(n)
	case 'T':
		t, err := millisTime(string(field))
		if err != nil {
			return err
		}
		rec.Timestamp = t
	case 'h':
		for _, h := range bytes.Split(field, []byte{','}) {
			if len(h) == 0 {
				continue
			}
			name, value, ok := bytes.Cut(h, []byte{'='})
			if !ok {
				return fmt.Errorf("%q is not name=value", clip(string(h)))
			}
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(name), Value: bytes.Clone(value)})
		}
	}
	return nil
}
