package commitlog

import (
	"errors"
	"sync"
	"time"
)

// janitor is the one background goroutine for what nobody waits for: index files of sealed
// segments, zeroing of recycled files, the free-space check, lazy flushes. Its queue is bounded
// by the number of logs.
type janitor struct {
	env    *Env
	signal chan struct{}
	mu     struct {
		sync.Mutex
		seal map[*Log]struct{} // logs with sealed segments that need an index file
	}
}

func (j *janitor) init(e *Env) {
	j.env = e
	j.signal = make(chan struct{}, 1)
	j.mu.seal = make(map[*Log]struct{})
}

// pushSeal queues a log whose sealed segments have become durable.
func (j *janitor) pushSeal(l *Log) {
	j.mu.Lock()
	j.mu.seal[l] = struct{}{}
	j.mu.Unlock()
	j.wake()
}

func (j *janitor) wake() {
	select {
	case j.signal <- struct{}{}:
	default: // it is awake already
	}
}

func (j *janitor) run() {
	ticker := time.NewTicker(janitorEvery)
	defer ticker.Stop()
	for {
		select {
		case <-j.env.stop:
			return
		case <-ticker.C:
			j.env.checkSpace()
			j.env.queue.pushDue(j.env.cfg.Now())
		case <-j.signal:
		}
		j.sealAll()
		j.env.pool.zeroOne()
	}
}

// sealAll writes the index files that are due. A log without space for one stays queued.
func (j *janitor) sealAll() {
	j.mu.Lock()
	due := j.mu.seal
	j.mu.seal = make(map[*Log]struct{})
	j.mu.Unlock()
	for l := range due {
		if j.env.closing.Load() || j.env.Failed() != nil {
			return
		}
		if err := l.sealDue(); errors.Is(err, ErrFull) {
			j.mu.Lock()
			j.mu.seal[l] = struct{}{}
			j.mu.Unlock()
		} else if err != nil && !errors.Is(err, ErrFailed) {
			j.env.cfg.Log.Warn("cannot seal segment", "log", l.dir, "err", err)
		}
	}
}

// sealDue is persistSealed for a log that may have been closed meanwhile.
func (l *Log) sealDue() error {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	l.mu.Lock()
	closed := l.mu.closed
	l.mu.Unlock()
	if closed {
		return nil
	}
	return l.persistSealed()
}
