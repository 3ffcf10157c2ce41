package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"varve/broker"
)

func TestHumanNumbers(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 4404019: "4.2 MiB", 1 << 30: "1.0 GiB", 128 << 20: "128 MiB",
		1048575: "1.0 MiB", 1<<63 - 1: "8.0 EiB", -1: "-",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("humanBytes(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 2853110: "2,853,110", -1234: "-1,234"} {
		if got := humanCount(n); got != want {
			t.Errorf("humanCount(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0ms", 90 * time.Second: "1m30s", 49 * time.Hour: "2d1h", 48 * time.Hour: "2d", time.Hour: "1h", -time.Second: "0ms",
	} {
		if got := humanAge(d); got != want {
			t.Errorf("humanAge(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestTableAlignsItsColumns(t *testing.T) {
	out := newTable("NAME", ">SIZE", "STATE")
	out.add("é", "1 KiB", "ok")
	out.add("longer", "12 MiB", "")
	var b bytes.Buffer
	if err := out.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME      SIZE  STATE\né        1 KiB  ok\nlonger  12 MiB\n"
	if b.String() != want {
		t.Fatalf("got\n%s", b.String())
	}
}

func TestConfigValuesAreSentAsKafkaWritesThem(t *testing.T) {
	for _, tc := range []struct{ key, in, sent, shown string }{
		{"segment.bytes", "4MiB", "4194304", "4MiB"},
		{"retention.ms", "365d", "31536000000", "365d"},
		{"retention.ms", "-1", "-1", "-1"},
		{"flush.ms", "9223372036854775807", "9223372036854775807", "9223372036854775807"},
		{"cleanup.policy", "compact,delete", "compact,delete", "compact,delete"},
		{"varve.label.team", "4MiB", "4MiB", "4MiB"},
	} {
		sent, err := kafkaValue(tc.key, tc.in)
		if err != nil || sent != tc.sent || humanValue(tc.key, sent) != tc.shown {
			t.Errorf("%s=%s: sent %q, shown %q, %v", tc.key, tc.in, sent, humanValue(tc.key, sent), err)
		}
	}
}

func TestTierDescribeShowsOffsetsWithTheirDates(t *testing.T) {
	now := time.UnixMilli(1767312000000)
	topic := broker.TierTopic{
		Topic: "clicks", TopicID: "AAAAAAAAAAAAAAAAAAAAAA", Tiered: true, LocalMS: 86400000, LocalBytes: -1, RetentionMS: 31536000000, RetentionMax: 1 << 40,
		Partitions: []broker.TierPartition{{
			LogStart: broker.TierPoint{Offset: 0, Time: now.Add(-72 * time.Hour).UnixMilli()}, LocalStart: broker.TierPoint{Offset: 900, Time: now.Add(-24 * time.Hour).UnixMilli()},
			TieredEnd: broker.TierPoint{Offset: 1000, Time: now.Add(-2 * time.Hour).UnixMilli()}, HighWatermark: broker.TierPoint{Offset: 1100, Time: now.UnixMilli()},
			Bytes: broker.TierBytes{HotOnly: 1 << 20, Both: 2 << 20, ColdOnly: 30 << 20, Stored: 16 << 20}, Objects: 8, State: "waiting",
			Pending: broker.TierPending{UploadBytes: 1 << 20, OldestLocalOnly: now.Add(-90 * time.Minute).UnixMilli()},
		}},
	}
	var b bytes.Buffer
	if err := (&app{stdout: &b}).printTierTopic(topic, now); err != nil {
		t.Fatal(err)
	}
	want := `topic         clicks
id            AAAAAAAAAAAAAAAAAAAAAA
tiered        yes
kept in all   365d or 1.0 TiB a partition, whichever is less
kept on disk  1d

PARTITION  LOG START  DATE                  LOCAL START  DATE                  TIERED END  DATE                  HIGH WATERMARK  DATE
        0          0  2025-12-30T00:00:00Z          900  2026-01-01T00:00:00Z        1000  2026-01-01T22:00:00Z            1100  2026-01-02T00:00:00Z

PARTITION  ONLY DISK     BOTH  ONLY STORE    STORED  OBJECTS  TO UPLOAD  OLDEST ONLY ON DISK  STATE
        0    1.0 MiB  2.0 MiB    30.0 MiB  16.0 MiB        8    1.0 MiB  1h30m ago            waiting
`
	if b.String() != want {
		t.Fatalf("got\n%s", b.String())
	}
}

func TestLogHidesSecretsAndRepeats(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&b, "json", slog.LevelInfo, []string{"hunter2"})
	log.Info("open", "store_password", "x1", "url", "http://u:x2@host/", "err", errors.New("sign with hunter2"), "bucket", "events")
	log.Debug("not shown")
	for i := range 50 {
		log.Warn("again", "i", i)
	}
	text := b.String()
	for _, secret := range []string{"x1", "x2", "hunter2", "not shown"} {
		if strings.Contains(text, secret) {
			t.Errorf("log shows %q: %s", secret, text)
		}
	}
	if !strings.Contains(text, `"bucket":"events"`) || strings.Count(text, "again") != repeatBurst {
		t.Errorf("log is %s", text)
	}
}

func TestLogTellsHowManyRepeatsItDropped(t *testing.T) {
	now := time.UnixMilli(0)
	var b bytes.Buffer
	log := slog.New(&repeatHandler{slog.NewJSONHandler(&b, nil), &repeatLimit{now: func() time.Time { return now }}})
	for range repeatBurst + 5 {
		log.Info("again")
	}
	now = now.Add(repeatWindow)
	log.Info("again")
	var last map[string]any
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if len(lines) != repeatBurst+1 || fmt.Sprint(last["repeats_not_shown"]) != "5" {
		t.Fatalf("lines %d, last %v", len(lines), last)
	}
}
