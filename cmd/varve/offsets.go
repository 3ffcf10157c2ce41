package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"varve/broker"
)

// pointKind is how one end of an offset range is named.
type pointKind int

const (
	pointStart   pointKind = iota // first offset that retention still allows
	pointEnd                      // high watermark when the command began
	pointOffset                   // the offset value
	pointFromEnd                  // value records before the end
	pointTime                     // first record at or after value (ms since 1970)
	pointNoBound                  // to: no end at all
)

// point is one end of a range.
type point struct {
	kind  pointKind
	value int64
}

// offsetRange is what -o names: from inclusive, to exclusive.
type offsetRange struct{ from, to point }

// parseOffsets reads the grammar of -o:
//
//	range = point | point ":" point
//	point = "start" | "end" | N | "-" N | "@" time
//	time  = 2026-01-02[T15:04[:05[.999]][Z|+02:00]] | milliseconds since 1970 | "-" duration (1h, 7d, 1d12h)
//
// A single point has no end: `-o end` waits for what comes. Times without a zone are UTC. A time
// itself holds colons, so a range is split at the colon that leaves two valid points.
func parseOffsets(text string, now time.Time) (offsetRange, error) {
	if from, err := parsePoint(text, now); err == nil {
		return offsetRange{from, point{kind: pointNoBound}}, nil
	}
	for i := range len(text) {
		if text[i] != ':' {
			continue
		}
		from, errFrom := parsePoint(text[:i], now)
		to, errTo := parsePoint(text[i+1:], now)
		if errFrom == nil && errTo == nil {
			r := offsetRange{from, to}
			return r, r.check()
		}
	}
	return offsetRange{}, fmt.Errorf("-o %q is not an offset: write start, end, N, -N, @2026-01-02T00:00Z, @-1h, or FROM:TO", text)
}

// check refuses ranges that are empty whatever the log holds.
func (r offsetRange) check() error {
	switch {
	case r.from.kind == r.to.kind && (r.from.kind == pointOffset || r.from.kind == pointTime) && r.from.value >= r.to.value,
		r.from.kind == r.to.kind && r.from.kind == pointFromEnd && r.from.value <= r.to.value,
		r.from.kind == pointEnd && r.to.kind != pointEnd,
		r.to.kind == pointStart:
		return errors.New("-o names an empty range: its end is not after its start")
	}
	return nil
}

func parsePoint(text string, now time.Time) (point, error) {
	switch {
	case text == "start":
		return point{kind: pointStart}, nil
	case text == "end":
		return point{kind: pointEnd}, nil
	case strings.HasPrefix(text, "@"):
		ms, err := parseTime(text[1:], now)
		return point{pointTime, ms}, err
	case strings.HasPrefix(text, "-"):
		n, err := parseDigits(text[1:])
		return point{pointFromEnd, n}, err
	default:
		n, err := parseDigits(text)
		return point{pointOffset, n}, err
	}
}

// parseDigits takes digits only, so that "+5" and "0x5" are not offsets.
func parseDigits(text string) (int64, error) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return strconv.ParseInt(text, 10, 64)
}

// timeLayouts from the most to the least exact; those without a zone are read as UTC.
var timeLayouts = []string{
	"2006-01-02T15:04:05.999999999Z07:00",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02T15:04",
	"2006-01-02",
}

func parseTime(text string, now time.Time) (int64, error) {
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		if strings.Trim(ago, "0123456789") == "" {
			return 0, fmt.Errorf("%q has no unit", text)
		}
		d, err := broker.ParseMillis(ago)
		if err != nil {
			return 0, err
		}
		return now.Add(-d).UnixMilli(), nil
	}
	if ms, err := parseDigits(text); err == nil {
		return ms, nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, fmt.Errorf("%q is not a time", text)
}
