package partition

import (
	"context"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/broker/internal/vfs"
	"varve/tiering"
	"varve/tiering/object"
)

// TestABucketThatHangsDoesNotHoldUpRetentionOfOtherTopics has every worker that may wait for the bucket wait
// for it, and a topic beside that has nothing there.
func TestABucketThatHangsDoesNotHoldUpRetentionOfOtherTopics(t *testing.T) {
	fault := object.NewFault(object.NewMem())
	hang := &object.Rule{Op: object.OpPut, Do: object.Hang()}
	fault.Add(hang)
	w := &world{t: t, fs: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	env, err := commitlog.NewEnv(commitlog.EnvConfig{FS: w.fs, Dir: "data", Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	tier, err := tiering.New(tiering.Config{
		Store: fault, Cluster: "c", SpoolDir: t.TempDir(), Log: quiet(),
		Split:      func([]byte) (int, int64, int64, error) { return 0, 0, 0, nil },
		Timestamps: func([]byte, int64, int64) (int64, int64, bool, error) { return 0, 0, false, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	retired := make(chan int64, 1)
	s := NewSet(SetConfig{
		NodeID: 1, Dir: "data/topics", Env: env, Tier: tier, Workers: 1, RetentionEvery: time.Hour, Log: quiet(),
		Propose: func(_ context.Context, id ID, c Change) error {
			if id.Topic == "plain" && c.LogStart != nil {
				select {
				case retired <- *c.LogStart:
				default:
				}
			}
			return nil
		},
	})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var updates []Update
	for i, name := range []string{"tiered", "plain"} {
		conf := &TopicConfig{
			Log: commitlog.Config{SegmentBytes: 4096}, RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1,
			MinISR: 1, MaxBatchBytes: 1 << 20, Tiered: name == "tiered",
		}
		if name == "plain" {
			conf.RetentionBytes = 4096
		}
		a := Assignment{Leader: 1, LeaderEpoch: 5, Replicas: 1, ISR: 1, Partitions: 1, Config: conf}
		updates = append(updates, Update{
			Name: name, ID: [16]byte{byte(i + 1)}, IDText: name, Partitions: 3, Assign: func(int32) (Assignment, bool) { return a, true },
		})
	}
	s.Apply(updates, nil)
	s.Start()
	write := func(topic string, p int32) {
		r := s.ByName(topic).Partition(p)
		for range 60 {
			c := newCollector()
			_, parked, err := r.Append(batchAt(1, 3, 100), &Ack{Owner: c})
			if err != nil {
				t.Fatal(err)
			}
			if parked {
				<-c.got
			}
		}
		s.Kick(r)
	}
	for p := range int32(3) { // more than there are workers
		write("tiered", p)
	}
	<-hang.Entered()
	write("plain", 0)
	select {
	case at := <-retired:
		if at <= 0 {
			t.Errorf("log start %d", at)
		}
	case <-time.After(30 * time.Second):
		t.Error("retention of a topic without tiering waits for the bucket")
	}
}

// TestASegmentBegunByAClockFarAheadIsRolledWhenTheClockIsRight bounds the data at risk on local disk whatever
// the clock was.
func TestASegmentBegunByAClockFarAheadIsRolledWhenTheClockIsRight(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.TierMaxDelay, c.CopyLagAge = time.Hour, time.Minute })
	right := w.now
	w.now = right.Add(365 * 24 * time.Hour)
	w.append(3, 3, 100)
	w.now = right
	w.mustWork()
	if end := w.r.TieredEnd(); end != 9 {
		t.Errorf("tiered to %d of 9: what was written while the clock was a year ahead waits for a year", end)
	}
}
