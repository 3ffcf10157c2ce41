package broker

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// slowRaft holds the first proposal until it is released, and refuses commands for partition 3.
type slowRaft struct {
	first, release chan struct{}
	mu             sync.Mutex
	sizes          []int
}

func (r *slowRaft) propose(_ context.Context, commands ...meta.Command) ([]meta.Result, error) {
	r.mu.Lock()
	r.sizes = append(r.sizes, len(commands))
	n := len(r.sizes)
	r.mu.Unlock()
	if n == 1 {
		close(r.first)
		<-r.release
	}
	results := make([]meta.Result, len(commands))
	for i, c := range commands {
		if c.(*meta.SetLogStart).Partition == 3 {
			results[i].Err = meta.ErrStaleEpoch
		}
	}
	return results, nil
}

func TestLogStartsThatArePendingGoAsOneProposal(t *testing.T) {
	raft := &slowRaft{first: make(chan struct{}), release: make(chan struct{})}
	l := newLogStarts(raft.propose)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx) })
	const moves = 500
	errs := make([]error, moves)
	var began, moved sync.WaitGroup
	moved.Go(func() { errs[0] = l.move(t.Context(), &meta.SetLogStart{}) })
	<-raft.first // its proposal is under way
	began.Add(moves - 1)
	for i := 1; i < moves; i++ {
		moved.Go(func() {
			m := logStartMove{&meta.SetLogStart{Partition: int32(i)}, make(chan error, 1)}
			l.queue <- m
			began.Done()
			errs[i] = <-m.done
		})
	}
	began.Wait()
	close(raft.release)
	moved.Wait()
	cancel()
	wg.Wait()
	if len(raft.sizes) != 2 || raft.sizes[0] != 1 || raft.sizes[1] != moves-1 {
		t.Errorf("proposals of %v commands, want 1 and %d", raft.sizes, moves-1)
	}
	for i, err := range errs {
		if refused := errors.Is(err, meta.ErrStaleEpoch); refused != (i == 3) || err != nil && !refused {
			t.Errorf("move %d: %v", i, err)
		}
	}
}

func TestALogStartMoveEndsWithItsContextAndWithTheBroker(t *testing.T) {
	raft := &slowRaft{first: make(chan struct{}), release: make(chan struct{})}
	l := newLogStarts(raft.propose)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx) }()
	short, end := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- l.move(short, &meta.SetLogStart{}) }()
	<-raft.first
	end()
	if err := <-got; !errors.Is(err, meta.ErrUnknownOutcome) {
		t.Errorf("its context ended: %v", err)
	}
	go func() { got <- l.move(t.Context(), &meta.SetLogStart{}) }()
	cancel()
	close(raft.release)
	<-done
	if err := <-got; err != nil && !errors.Is(err, meta.ErrClosed) {
		t.Errorf("the broker ended: %v", err)
	}
	if err := l.move(t.Context(), &meta.SetLogStart{}); !errors.Is(err, meta.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDeleteRecordsOfManyPartitionsAnswersWhenAllAreApplied(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	const partitions = 40
	c.makeTopic("t", partitions, nil)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = "t"
	for p := range int32(partitions) {
		c.mustProduce("t", p, batchOf(t, 3, 10))
		rt.Partitions = append(rt.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: p, Offset: int64(p % 4)})
	}
	rt.Partitions = append(rt.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: partitions, Offset: 1})
	req.Topics = append(req.Topics, rt)
	before := b.node.Image().Index
	resp := ask[*kmsg.DeleteRecordsResponse](c, req)
	image := b.node.Image()
	for i, got := range resp.Topics[0].Partitions {
		if i == partitions {
			if got.ErrorCode == 0 || got.LowWatermark != -1 {
				t.Errorf("a partition that is not there: %+v", got)
			}
			continue
		}
		if want := int64(i % 4); got.Partition != int32(i) || got.ErrorCode != 0 || got.LowWatermark != want ||
			image.Topic("t").Partitions.At(int32(i)).LogStart != want {
			t.Errorf("partition %d: %+v, in raft %d", i, got, image.Topic("t").Partitions.At(int32(i)).LogStart)
		}
	}
	if entries := image.Index - before; entries >= 30 { // 30 partitions move
		t.Errorf("%d raft entries for 30 moves of one request", entries)
	}
}
