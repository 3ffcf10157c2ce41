package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// formatRecordJSON as -f means one JSON object a line, in and out in the same form.
const formatRecordJSON = "json"

// maxLine bounds one line of JSON: base64 makes four bytes of three, escapes up to six of one.
const maxLine = 2 * maxField

// recordInput is recordJSON as it is read. Topic, partition and offset are where the record came
// from and are not looked at; a key or value that is no string is kept as its JSON.
type recordInput struct {
	Topic       json.RawMessage `json:"topic"`
	Partition   json.RawMessage `json:"partition"`
	Offset      json.RawMessage `json:"offset"`
	Timestamp   *int64          `json:"timestamp"`
	Key         json.RawMessage `json:"key"`
	KeyBase64   *string         `json:"key_base64"`
	Value       json.RawMessage `json:"value"`
	ValueBase64 *string         `json:"value_base64"`
	Headers     []headerJSON    `json:"headers"`
}

// jsonReader reads records from JSON lines; empty lines are skipped.
type jsonReader struct {
	in   *bufio.Reader
	line int64
}

func newJSONReader(in io.Reader) *jsonReader {
	return &jsonReader{in: bufio.NewReaderSize(in, 64<<10)}
}

// next gives one record, or io.EOF at the end of the input.
func (r *jsonReader) next() (*kgo.Record, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		rec, err := decodeRecord(line)
		if err != nil {
			return nil, fmt.Errorf("line %d of the input: %w", r.line, err)
		}
		return rec, nil
	}
}

func (r *jsonReader) readLine() ([]byte, error) {
	var line []byte
	r.line++
	for {
		chunk, err := r.in.ReadSlice('\n')
		line = append(line, chunk...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("line %d of the input is longer than %d bytes", r.line, maxLine)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read input: %w", err)
		}
	}
}

func decodeRecord(line []byte) (*kgo.Record, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // a misspelt field would be a record without it
	var in recordInput
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("not a record in JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value; write one record a line")
	}
	rec := &kgo.Record{}
	var err error
	if rec.Key, err = fieldOf("key", in.Key, in.KeyBase64); err != nil {
		return nil, err
	}
	if rec.Value, err = fieldOf("value", in.Value, in.ValueBase64); err != nil {
		return nil, err
	}
	if in.Timestamp != nil {
		rec.Timestamp = time.UnixMilli(*in.Timestamp)
	}
	for _, h := range in.Headers {
		header := kgo.RecordHeader{Key: h.Key}
		if h.Value != nil {
			header.Value = []byte(*h.Value)
		}
		if h.ValueBase64 != "" {
			if header.Value, err = base64.StdEncoding.DecodeString(h.ValueBase64); err != nil {
				return nil, fmt.Errorf("value_base64 of header %q: %w", clip(h.Key), err)
			}
		}
		rec.Headers = append(rec.Headers, header)
	}
	return rec, nil
}

// fieldOf is a key or value: null, text, other JSON as it stands, or base64.
func fieldOf(name string, raw json.RawMessage, encoded *string) ([]byte, error) {
	if encoded != nil {
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		return b, nil
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '"' {
		return raw, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return []byte(text), nil
}
