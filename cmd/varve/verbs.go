package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A record format is text with verbs, those of kcat:
//
//	%k key    %v value    %o offset    %p partition    %t topic    %T time in ms    %d time as text
//	%h headers as name=value,...       %% a percent sign
//	\n \t \r \\ \0 and \xHH are the characters they are in Go
//
// piece is one part of a parsed format: text to write as it is, or a verb.
type piece struct {
	verb byte // 0 for text
	text []byte
}

const formatVerbs = "kvoptTdh"

const formatHelp = "`FORMAT` of a record: %k key, %v value, %o offset, %p partition, %t topic, %T time in ms, %d time, %h headers, \\n, \\t"

func parseFormat(format string) ([]piece, error) {
	var pieces []piece
	var text []byte
	flush := func() {
		if len(text) > 0 {
			pieces, text = append(pieces, piece{text: text}), nil
		}
	}
	for i := 0; i < len(format); i++ {
		switch c := format[i]; c {
		case '\\':
			b, used, err := unescape(format[i:])
			if err != nil {
				return nil, err
			}
			text = append(text, b)
			i += used - 1
		case '%':
			i++
			if i == len(format) {
				return nil, errors.New("-f ends in a single %; write %% for a percent sign")
			}
			if format[i] == '%' {
				text = append(text, '%')
				continue
			}
			if strings.IndexByte(formatVerbs, format[i]) < 0 {
				r, _ := utf8.DecodeRuneInString(format[i:])
				return nil, fmt.Errorf("-f has no verb %%%c; there are %%k %%v %%o %%p %%t %%T %%d %%h", r)
			}
			flush()
			pieces = append(pieces, piece{verb: format[i]})
		default:
			text = append(text, c)
		}
	}
	flush()
	return pieces, nil
}

// unescape reads one escape at the start of s and tells its length.
func unescape(s string) (b byte, used int, err error) {
	if len(s) < 2 {
		return 0, 0, errors.New(`-f ends in a single \; write \\ for a backslash`)
	}
	switch s[1] {
	case 'n':
		return '\n', 2, nil
	case 't':
		return '\t', 2, nil
	case 'r':
		return '\r', 2, nil
	case '0':
		return 0, 2, nil
	case '\\':
		return '\\', 2, nil
	case 'x':
		if len(s) >= 4 {
			if n, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				return byte(n), 4, nil
			}
		}
		return 0, 0, errors.New(`-f has \x without two hexadecimal digits`)
	}
	r, _ := utf8.DecodeRuneInString(s[1:])
	return 0, 0, fmt.Errorf(`-f has no escape \%c; there are \n \t \r \0 \\ \xHH`, r)
}

// appendRecord writes a record in the format.
func appendRecord(dst []byte, pieces []piece, r *kgo.Record) []byte {
	for _, p := range pieces {
		switch p.verb {
		case 0:
			dst = append(dst, p.text...)
		case 'k':
			dst = append(dst, r.Key...)
		case 'v':
			dst = append(dst, r.Value...)
		case 'o':
			dst = strconv.AppendInt(dst, r.Offset, 10)
		case 'p':
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case 't':
			dst = append(dst, r.Topic...)
		case 'T':
			dst = strconv.AppendInt(dst, r.Timestamp.UnixMilli(), 10)
		case 'd':
			dst = r.Timestamp.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, h.Key...), '='), h.Value...)
			}
		}
	}
	return dst
}

// recordJSON is one line of `consume --format json`. Key and value are text where they are UTF-8,
// else base64 in the field that says so; null is null.
type recordJSON struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   int64        `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

type headerJSON struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

func textOrBase64(b []byte) (*string, string) {
	switch {
	case b == nil:
		return nil, ""
	case utf8.Valid(b):
		s := string(b)
		return &s, ""
	default:
		return nil, base64.StdEncoding.EncodeToString(b)
	}
}

func appendRecordJSON(dst []byte, r *kgo.Record) ([]byte, error) {
	out := recordJSON{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli()}
	out.Key, out.KeyBase64 = textOrBase64(r.Key)
	out.Value, out.ValueBase64 = textOrBase64(r.Value)
	for _, h := range r.Headers {
		header := headerJSON{Key: h.Key}
		header.Value, header.ValueBase64 = textOrBase64(h.Value)
		out.Headers = append(out.Headers, header)
	}
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(out)
	return buf.Bytes(), err
}

// millisTime is the time of a record read from text.
func millisTime(text string) (time.Time, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time in ms", clip(text))
	}
	return time.UnixMilli(ms), nil
}

// clip keeps foreign text from filling a terminal.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
