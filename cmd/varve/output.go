package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// The output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// envelopeVersion is the version of every JSON answer of the command line; fields are only added.
const envelopeVersion = 1

// printJSON writes one versioned envelope: kind names the command, data its own fields.
func (a *app) printJSON(kind string, data map[string]any) error {
	data["kind"], data["version"] = kind, envelopeVersion
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(data)
}

// table is rows of cells under a header, printed with aligned columns.
type table struct {
	header []string
	right  map[int]bool // columns aligned to the right
	rows   [][]string
}

// newTable makes a table; a header that starts with ">" is aligned to the right.
func newTable(header ...string) *table {
	t := &table{header: make([]string, len(header)), right: map[int]bool{}}
	for i, h := range header {
		var isRight bool
		t.header[i], isRight = strings.CutPrefix(h, ">")
		t.right[i] = isRight
	}
	return t
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], runeLen(cell))
		}
	}
	for _, row := range append([][]string{t.header}, t.rows...) {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-runeLen(cell))
			if t.right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
			b.WriteString("  ")
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func runeLen(s string) int { return len([]rune(s)) }

// pairs writes name and value lines with aligned values.
func pairs(w io.Writer, cells ...any) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(cells); i += 2 {
		fmt.Fprintf(tw, "%v\t%v\n", cells[i], cells[i+1])
	}
	return tw.Flush()
}

// humanBytes is a size with three digits at most: 4.2 MiB.
func humanBytes(n int64) string {
	if n < 0 {
		return "-"
	}
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n)/1024, 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	digits := 1
	if f >= 99.95 {
		digits = 0
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + units[i:i+1] + "iB"
}

// humanCount groups the digits of a count: 2,853,110.
func humanCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// humanTime is a UTC time of a record with seconds; there is none below zero.
func humanTime(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")
}

// humanAge is a duration in its two largest units: 3d4h, 5m12s.
func humanAge(d time.Duration) string {
	d = max(d, 0)
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.unit {
			continue
		}
		text := strconv.FormatInt(int64(d/u.unit), 10) + u.name
		if i+1 < len(units) {
			if rest := (d % u.unit) / units[i+1].unit; rest > 0 {
				text += strconv.FormatInt(int64(rest), 10) + units[i+1].name
			}
		}
		return text
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// humanLatency is a short duration with three digits at most: 64.2 ms, 1.26 s.
func humanLatency(d time.Duration) string {
	if d >= time.Second {
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s"
	}
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}
