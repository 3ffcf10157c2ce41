package broker

import (
	"context"
	"fmt"

	"varve/broker/meta"
)

// logStarts gathers moves of log starts: what is waiting when the proposal before has been applied
// goes into the next one, as one raft entry. Ten thousand partitions whose oldest segment expires in
// the same minute then cost a few fsyncs of the raft log, and a single move waits for nobody.
type logStarts struct {
	propose func(context.Context, ...meta.Command) ([]meta.Result, error)
	queue   chan logStartMove // full: who comes waits
	ended   chan struct{}     // closed when run returns
}

// logStartMove is one command and where its outcome goes; done holds one value.
type logStartMove struct {
	cmd  *meta.SetLogStart
	done chan error
}

// maxLogStarts is one batch: some 150 bytes each, a sixth of the largest proposal.
const maxLogStarts = meta.MaxCommands

func newLogStarts(propose func(context.Context, ...meta.Command) ([]meta.Result, error)) *logStarts {
	return &logStarts{propose: propose, queue: make(chan logStartMove, maxLogStarts), ended: make(chan struct{})}
}

// move returns when the command is applied or refused. If ctx ends first it may be applied later.
func (l *logStarts) move(ctx context.Context, cmd *meta.SetLogStart) error {
	m := logStartMove{cmd, make(chan error, 1)}
	select {
	case l.queue <- m:
	case <-ctx.Done():
		return fmt.Errorf("wait for a place among %d moves of log starts: %w", maxLogStarts, ctx.Err())
	case <-l.ended:
		return meta.ErrClosed
	}
	select {
	case err := <-m.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", meta.ErrUnknownOutcome, ctx.Err())
	case <-l.ended:
		return fmt.Errorf("%w: %w", meta.ErrUnknownOutcome, meta.ErrClosed)
	}
}

// run proposes until ctx ends.
func (l *logStarts) run(ctx context.Context) {
	defer close(l.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-l.queue:
			l.proposeBatch(ctx, l.take(m))
		}
	}
}

// take adds to m what else is waiting.
func (l *logStarts) take(m logStartMove) []logStartMove {
	batch := []logStartMove{m}
	for len(batch) < maxLogStarts {
		select {
		case m := <-l.queue:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// proposeBatch tells each its own outcome: one that is refused, because it no longer leads, does not
// hold up the others.
func (l *logStarts) proposeBatch(ctx context.Context, batch []logStartMove) {
	commands := make([]meta.Command, len(batch))
	for i := range batch {
		commands[i] = batch[i].cmd
	}
	results, err := l.propose(ctx, commands...)
	for i := range batch {
		if err == nil {
			batch[i].done <- results[i].Err
		} else {
			batch[i].done <- err
		}
	}
}
