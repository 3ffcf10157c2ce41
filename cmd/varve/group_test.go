package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"varve/broker"
)

// testClient is a client of the broker that env names.
func testClient(t *testing.T, env []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	a := &app{env: env}
	a.brokers = a.getenv("VARVE_BROKERS", "")
	cl, err := a.connect(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestGroupGoesOnWhereItsCommitsEnd(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1")
	c.run(0, "a\nb\nc\nd\n", "produce t")
	if out, _ := c.run(0, "", "consume t --group g -o start -n 2 -f %v"); out != "ab" {
		t.Fatalf("first run: %q", out)
	}
	if out, _ := c.run(0, "", "consume t --group g -o start -n 1 -f %v"); out != "c" {
		t.Fatalf("second run: %q", out)
	}
	c.prints("group list", "g      classic  Empty  consumer")
	c.prints("group list --state Empty --format json", `"group": "g"`)
	c.prints("group describe g", "state     Empty", "members   0")
	c.prints("group lag g", "t              0          3    4    1", "hot")
	c.fails("consume none --group g", `topic "none"`)
	c.prints("__complete group lag ''", "g\n")
	if _, errs := c.run(0, "", "group list --state Stable"); !strings.Contains(errs, "no groups") {
		t.Errorf("list: %q", errs)
	}
}

func TestSeekMovesTheOffsetsOfAnIdleGroup(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 2")
	c.prints("topic create u -p 1")
	c.run(0, strings.Repeat("0\tx\n1\tx\n", 10), `produce t -f '%p\t%v\n'`)
	c.fails("group seek g -o end", "no committed offsets")
	c.prints("group seek g t -o 4 --dry-run", "t              0     -   4  would move")
	c.fails("group describe g", "no such group") // dry
	c.prints("group seek g t -o 4", "t              0     -   4  moved", "t              1     -   4  moved")
	c.prints("group seek g t -p 1 -o -1", "t              1     4   9  moved")
	c.prints("group seek g -o start --dry-run", "t              0     4   0", "t              1     9   0")
	c.prints("group seek g t -p 0 -o @-1h", "t              0     4   0  moved")
	c.prints("group seek g t -p 0 -o 99 --format json", `"kind": "group.seek"`, `"to": 10`)
	c.prints("group lag g", "lag           1 records", "t              0         10   10    0    0 B     0ms  end", "t              1          9   10    1")
	c.fails("group seek g none -o end", `"none"`)
	c.fails("group seek g t -p 7 -o end", "no partition 7")

	c.prints("group seek g u -o end", "u              0     -   0  moved")
	c.prints("group offset-delete g t/1 u", "t              1       9  deleted", "u              0       0  deleted")
	c.fails("group offset-delete g u", "no committed offset there")
	if out, _ := c.run(0, "", "group lag g"); strings.Contains(out, "u ") || strings.Contains(out, "t              1") {
		t.Errorf("deleted offsets are there:\n%s", out)
	}
	out, errs := c.run(1, "", "group delete g nobody")
	if !strings.Contains(out, "g      deleted") || !strings.Contains(errs, `delete group "nobody": GROUP_ID_NOT_FOUND`) {
		t.Errorf("delete: %s%s", out, errs)
	}
	c.fails("group lag g", "no such group")
}

func TestGroupInUseCannotBeMovedOrDeleted(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 2")
	c.run(0, "0\tx\n1\tx\n", `produce t -f '%p\t%v\n'`)
	member := testClient(t, env, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.InstanceID("one"), kgo.DisableAutoCommit())
	for read := 0; read < 2; {
		fetches := member.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		read += fetches.NumRecords()
	}
	c.prints("group describe g", "members   1", "one", "varve-cli", "t:0,1")
	c.prints("group describe g --format json", `"instance": "one"`, `"topic": "t"`)
	c.fails("group seek g t -o start", `group "g" has a member; stop it first`)
	c.fails("group seek g t -o start --dry-run", `group "g" has a member`)
	c.fails("group delete g", "NON_EMPTY_GROUP")
	// A member that joined after the check is found by the broker.
	var errs strings.Builder
	id := partitionID{"t", 0}
	failed := &failures{a: &app{stderr: &errs}}
	moved, err := commitAsAdmin(t.Context(), testClient(t, env), "g", []partitionID{id}, map[partitionID]*span{id: {}}, failed)
	if want := "varve: seek t/0: group \"g\" has members now; stop them first\n"; err != nil || len(moved) != 0 || errs.String() != want {
		t.Errorf("commit beside a member: %v %v %q", moved, err, errs.String())
	}
	c.prints("group lag g", "t              0          -    1    -", "one") // assigned and nothing committed
}

func TestLagCountsRecordsBytesAndTimeAndNamesColdReaders(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1 --tiered -c segment.bytes=1MiB -c local.retention.bytes=1")
	written := time.Now().Add(-time.Hour)
	var input strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&input, "%d %s\n", written.Add(time.Duration(i)*time.Second).UnixMilli(), strings.Repeat("x", 1000))
	}
	c.run(0, input.String(), `produce t -f '%T %v\n'`)
	c.run(0, "", "tier flush t")
	cl := testClient(t, env)
	id := partitionID{"t", 0}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for local := int64(0); local == 0; { // until the first segment has left the disk
		at, err := listOffsetsAt(ctx, cl, []partitionID{id}, askEarliestLocal)
		if err != nil {
			t.Fatal(err)
		}
		local = at[id].offset
	}
	c.prints("group seek g t -o 600")
	out, _ := c.run(0, "", "group lag g --format json")
	var got struct {
		Records    int64 `json:"lag_records"`
		Partitions []struct {
			Bytes   int64   `json:"lag_bytes"`
			Seconds float64 `json:"lag_seconds"`
			Reads   string  `json:"reads"`
		} `json:"partitions"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Partitions) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	p := got.Partitions[0]
	if got.Records != 2400 || p.Bytes < 2_300_000 || p.Bytes > 2_600_000 || p.Seconds < 3000 || p.Seconds > 3100 || p.Reads != readsCold {
		t.Errorf("lag: %+v", got)
	}

	// The member owns the partition and commits nothing, so its committed offset stays cold.
	member := testClient(t, env, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.InstanceID("slow"), kgo.DisableAutoCommit())
	if fetches := member.PollRecords(t.Context(), 1); fetches.Err() != nil {
		t.Fatal(fetches.Err())
	}
	c.prints("group lag g", "reading cold  slow", "lag           2,400 records", "bytes         about 2.3 MiB", "cold   slow")
	c.prints("group lag g --format json", `"slow"`)
}

func TestBytesOfARangeCountOnceInEachTier(t *testing.T) {
	segments := []broker.TierSegment{{First: 50, Next: 100, Bytes: 500}, {First: 0, Next: 60, Bytes: 600}, {First: 100, Next: 100}, {First: 100, Next: 110, Bytes: 1000}}
	for _, tc := range []struct{ from, end, want int64 }{{0, 110, 2000}, {0, 60, 600}, {55, 65, 100}, {105, 110, 500}, {110, 110, 0}, {200, 300, 0}, {-5, 10, 100}} {
		if got := bytesBetween(segments, tc.from, tc.end); got != tc.want {
			t.Errorf("[%d, %d): %d bytes, want %d", tc.from, tc.end, got, tc.want)
		}
	}
}

func TestWhereTheNextRecordIs(t *testing.T) {
	for offset, want := range map[int64]string{5: readsDeleted, 10: readsCold, 19: readsCold, 20: readsHot, 29: readsHot, 30: readsNothing, 31: readsNothing} {
		if got := whereNext(offset, 10, 20, 30); got != want {
			t.Errorf("offset %d: %s, want %s", offset, got, want)
		}
	}
}
