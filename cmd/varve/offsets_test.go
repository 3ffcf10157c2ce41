package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(text string) point {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return point{pointTime, t.UnixMilli()}
}

func TestOffsetGrammar(t *testing.T) {
	open := point{kind: pointNoBound}
	for text, want := range map[string]offsetRange{
		"start":             {point{kind: pointStart}, open},
		"end":               {point{kind: pointEnd}, open},
		"0":                 {point{pointOffset, 0}, open},
		"17":                {point{pointOffset, 17}, open},
		"-17":               {point{pointFromEnd, 17}, open},
		"@0":                {point{pointTime, 0}, open},
		"@1767312000000":    {at("2026-01-02T00:00:00Z"), open},
		"@2026-01-02":       {at("2026-01-02T00:00:00Z"), open},
		"@2026-01-02T00:00": {at("2026-01-02T00:00:00Z"), open},
		// The forms of the manual.
		"@2026-01-02T00:00Z":                     {at("2026-01-02T00:00:00Z"), open},
		"@2026-01-02T03:04:05Z":                  {at("2026-01-02T03:04:05Z"), open},
		"@2026-01-02T03:04:05.678+02:00":         {at("2026-01-02T01:04:05.678Z"), open},
		"@2026-01-02T03:04+02:00":                {at("2026-01-02T01:04:00Z"), open},
		"@-1h":                                   {at("2026-03-01T11:00:00Z"), open},
		"@-1d12h":                                {at("2026-02-28T00:00:00Z"), open},
		"5:10":                                   {point{pointOffset, 5}, point{pointOffset, 10}},
		"start:end":                              {point{kind: pointStart}, point{kind: pointEnd}},
		"-10:-5":                                 {point{pointFromEnd, 10}, point{pointFromEnd, 5}},
		"start:100":                              {point{kind: pointStart}, point{pointOffset, 100}},
		"@-1h:@-30m":                             {at("2026-03-01T11:00:00Z"), at("2026-03-01T11:30:00Z")},
		"@2026-01-02T00:00Z:@2026-01-03T00:00Z":  {at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z")},
		"@2026-01-02T00:00:@2026-01-03T00:00":    {at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z")},
		"@2026-01-02T00:00:00+01:00:@2026-01-03": {at("2026-01-01T23:00:00Z"), at("2026-01-03T00:00:00Z")},
		"@2026-01-02:end":                        {at("2026-01-02T00:00:00Z"), point{kind: pointEnd}},
		"@2026-01-02T10:00:end":                  {at("2026-01-02T10:00:00Z"), point{kind: pointEnd}},
		"@1767312000000:@1767312000001":          {at("2026-01-02T00:00:00Z"), point{pointTime, 1767312000001}},
		"@2026-01-02T10:30:00:@2026-01-02T10:30:01": {at("2026-01-02T10:30:00Z"), at("2026-01-02T10:30:01Z")},
	} {
		got, err := parseOffsets(text, testNow)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestBadOffsetsAreRefused(t *testing.T) {
	for _, text := range []string{
		"", ":", "@", "-", "+5", "0x10", "1e3", " 5", "5 ", "earliest", "@yesterday", "@-1", "@--1h", "@-1y", "@2026-13-01",
		"5:", ":5", "5:3", "5:5", "end:start", "end:5", "3:start", "@-1h:@-2h", "-5:-10", "1:2:3", "99999999999999999999", "-0x1",
	} {
		if got, err := parseOffsets(text, testNow); err == nil {
			t.Errorf("%q: %+v", text, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error of several lines: %v", text, err)
		}
	}
}

func TestPointsStayInsideTheLog(t *testing.T) {
	const start, end = 10, 100
	for _, tc := range []struct {
		p     point
		timed int64
		want  int64
	}{
		{point{kind: pointStart}, 0, 10},
		{point{kind: pointEnd}, 0, 100},
		{point{pointOffset, 50}, 0, 50},
		{point{pointOffset, 5}, 0, 10},
		{point{pointOffset, 500}, 0, 100},
		{point{pointFromEnd, 1}, 0, 99},
		{point{pointFromEnd, 1000}, 0, 10},
		{point{pointFromEnd, math.MaxInt64}, 0, 10},
		{point{pointTime, 7}, 42, 42},
		{point{pointTime, 7}, -1, 100},
		{point{kind: pointNoBound}, 0, math.MaxInt64},
	} {
		if got := tc.p.resolve(start, end, tc.timed); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.p, got, tc.want)
		}
	}
}

func FuzzOffsets(f *testing.F) {
	for _, seed := range []string{"start", "-5:end", "@-1h:@-30m", "@2026-01-02T00:00:@2026-01-03", "5:10", "@", "::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseOffsets(text, testNow)
		if err != nil {
			return
		}
		from, to := r.from.resolve(10, 100, 50), r.to.resolve(10, 100, 50)
		if from < 10 || from > 100 || to < 10 {
			t.Fatalf("%q: from %d to %d", text, from, to)
		}
	})
}
