package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func (a *app) printLag(view *groupView, rows []*lagRow, withBytes bool) error {
	var records, bytes int64
	var behind time.Duration
	cold := map[string]bool{}
	items := []map[string]any{}
	for _, r := range rows {
		records, bytes, behind = records+max(0, r.records), bytes+max(0, r.bytes), max(behind, r.behind)
		if r.reads == readsCold && r.member != nil {
			cold[r.member.name()] = true
		}
		items = append(items, r.json(withBytes))
	}
	names := slices.Sorted(maps.Keys(cold))
	if a.format == formatJSON {
		return a.printJSON("group.lag", map[string]any{
			"group": view.name, "state": view.state, "lag_records": records, "members_reading_cold": append([]string{}, names...), "partitions": items,
		})
	}
	cells := []any{"group", view.name, "state", view.state, "lag", humanCount(records) + " records"}
	if withBytes {
		cells = append(cells, "bytes", "about "+humanBytes(bytes))
	}
	cells = append(cells, "behind", humanAge(behind), "reading cold", dash(strings.Join(names, ", ")))
	if err := pairs(a.stdout, cells...); err != nil || len(rows) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	return lagTable(rows, withBytes).write(a.stdout)
}

func lagTable(rows []*lagRow, withBytes bool) *table {
	header := []string{"TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG"}
	if withBytes {
		header = append(header, ">BYTES")
	}
	out := newTable(append(header, ">BEHIND", "READS", "MEMBER", "CLIENT")...)
	for _, r := range rows {
		behind, member, client := "-", "-", "-"
		if r.behind >= 0 {
			behind = humanAge(r.behind)
		}
		if r.member != nil {
			member, client = r.member.name(), dash(r.member.client)
		}
		cells := []any{r.id.topic, r.id.partition, numberOrDash(r.committed), r.end, numberOrDash(r.records)}
		if withBytes {
			cells = append(cells, humanBytes(r.bytes))
		}
		out.add(append(cells, behind, dash(r.reads), member, client)...)
	}
	return out
}

func (r *lagRow) json(withBytes bool) map[string]any {
	item := map[string]any{
		"topic": r.id.topic, "partition": r.id.partition, "committed": r.committed, "end": r.end,
		"lag_records": r.records, "lag_seconds": -1.0, "reads": r.reads, "member": nil,
	}
	if r.behind >= 0 {
		item["lag_seconds"] = float64(r.behind.Milliseconds()) / 1000
	}
	if withBytes {
		item["lag_bytes"] = r.bytes
	}
	if r.member != nil {
		item["member"], item["client"] = r.member.id, r.member.client
	}
	return item
}
