package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"varve/broker"
)

// strataWidth is the length of the longest strata line: it fits beside its sizes into 80 columns.
const strataWidth = 40

// report draws where the bytes are, tells the numbers, and says what to try next.
func (s *show) report(ctx context.Context) error {
	topic, err := s.tierTopic(ctx)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	after, err := s.requests(ctx)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	s.printf("\nwhere the bytes are: ░ bucket  ▒ both  █ disk")
	var longest int64
	for _, p := range topic.Partitions {
		longest = max(longest, p.Bytes.ColdOnly+p.Bytes.Both+p.Bytes.HotOnly)
	}
	for _, p := range topic.Partitions {
		s.printf("  %s/%d %s  %s + %s + %s", showTopic, p.Partition, strata(p.Bytes, longest, strataWidth),
			humanBytes(p.Bytes.ColdOnly), humanBytes(p.Bytes.Both), humanBytes(p.Bytes.HotOnly))
	}
	sum := sumPartitions(topic)
	numbers := newTable(">RECORDS", ">BYTES", ">HOT", ">COLD", ">OBJECTS", ">PUTS", ">GETS", ">WRITE", ">READ", ">ACK P99")
	numbers.add(humanCount(s.poured.records), humanBytes(sum.Bytes.ColdOnly+sum.Bytes.Both+sum.Bytes.HotOnly),
		humanBytes(sum.Bytes.HotOnly+sum.Bytes.Both), humanBytes(sum.Bytes.ColdOnly), humanCount(sum.Objects),
		humanCount(s.killed.put+after.put), humanCount(s.killed.get+after.get),
		megabytes(s.poured.bytes, s.poured.took), megabytes(s.poured.bytes, s.readTook), humanLatency(s.poured.ackP99))
	s.printf("")
	if err := numbers.write(s.a.stdout); err != nil {
		return err
	}
	s.tryNext()
	return nil
}

func megabytes(n int64, d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(perSecond(n, d))/1e6)
}

// strata draws the bytes of a partition, oldest left, on a scale where longest is width. What is
// there at all gets at least one mark.
func strata(b broker.TierBytes, longest int64, width int) string {
	var line strings.Builder
	drawn := 0
	for _, layer := range []struct {
		mark  string
		bytes int64
	}{{"░", b.ColdOnly}, {"▒", b.Both}, {"█", b.HotOnly}} {
		if layer.bytes <= 0 || longest <= 0 {
			continue
		}
		n := max(1, int((layer.bytes*int64(width)+longest/2)/longest))
		line.WriteString(strings.Repeat(layer.mark, n))
		drawn += n
	}
	return line.String() + strings.Repeat(" ", max(0, width-drawn))
}

func (s *show) tryNext() {
	binary := os.Args[0]
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, binary); err == nil && filepath.IsAbs(binary) && !strings.HasPrefix(rel, "..") {
			binary = rel
		}
	}
	brokers := ""
	if s.child.kafka != "127.0.0.1:9092" {
		brokers = " -b " + s.child.kafka
	}
	s.printf("\ntry next:")
	s.printf(`  %s consume %s%s -o start -n 5 -f '%%d %%k: %%v\n'`, binary, showTopic, brokers)
	s.printf("  %s tier describe %s%s", binary, showTopic, brokers)
	s.printf("  scripts/coldcat.py %s %s | head", filepath.Join(s.dir, "bucket"), showTopic)
}
