package commitlog

import "time"

// SealedEnd is the end of the last sealed segment, or LocalStart. It takes no lock.
func (l *Log) SealedEnd() int64 {
	list := l.list()
	if len(list) == 0 {
		return l.LocalStart()
	}
	last := list[len(list)-1]
	if last.sealed.Load() {
		return last.meta.next
	}
	return last.base
}

// ActiveSince is when the first record of the active segment was appended; ok is false if there is
// none.
func (l *Log) ActiveSince() (t time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.activeLocked()
	if s == nil || s.meta.size == 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(s.meta.createdMS), true
}
