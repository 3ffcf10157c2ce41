package object

import (
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Action is what a Rule does to a call.
type Action struct {
	kind  actionKind
	err   error
	delay time.Duration
	n     int64
}

type actionKind int

const (
	actFail actionKind = iota
	actFailAfter
	actDelay
	actHang
	actTruncate
	actFlip
	actMissing
)

// Fail makes the call return err without reaching the store. A sentinel of this
// package comes wrapped in an *Error, as a store would return it.
func Fail(err error) Action { return Action{kind: actFail, err: err} }

// FailAfter lets the store do the call and then returns err: the answer was lost.
func FailAfter(err error) Action { return Action{kind: actFailAfter, err: err} }

// Delay waits before the call, or until its context ends.
func Delay(d time.Duration) Action { return Action{kind: actDelay, delay: d} }

// Hang holds the call until the rule is released, or its context ends.
func Hang() Action { return Action{kind: actHang} }

// Truncate cuts objects to n bytes: a Put stores only so much and says that all is
// well, a GetRange finds the object ending there, a Head says so.
func Truncate(n int64) Action { return Action{kind: actTruncate, n: n} }

// FlipBit inverts bit n (of byte n/8) of the object: on its way in with a Put, in
// what a GetRange returns if its range covers the byte.
func FlipBit(n int64) Action { return Action{kind: actFlip, n: n} }

// Missing answers as if the key did not exist: GetRange and Head say ErrNotFound,
// List leaves it out.
func Missing() Action { return Action{kind: actMissing} }

// Rule says which calls of a Fault meet which Action. A Rule belongs to one Fault;
// its fields are not changed after Add.
type Rule struct {
	Op    Op             // empty: every operation
	Key   string         // substring of the key (of the prefix for List); empty: every key
	Match *regexp.Regexp // nil: every key
	Nth   int            // first matching call to act on, from 1; 0 means 1
	Count int            // how many calls to act on; 0 means all from Nth on
	Do    Action

	seen, fired int // guarded by Fault.mu
	entered     chan struct{}
	released    chan struct{}
}

// Fault breaks calls of the decorated store by rules. Rules are tried in the
// order in which they were added, and every one that matches acts.
type Fault struct {
	inner Store

	mu struct {
		sync.Mutex
		rules []*Rule
		calls map[Op]int
	}
}

// NewFault decorates inner.
func NewFault(inner Store, rules ...*Rule) *Fault {
	f := &Fault{inner: inner}
	f.mu.calls = make(map[Op]int)
	f.Add(rules...)
	return f
}

// Add appends rules.
func (f *Fault) Add(rules ...*Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rules {
		r.entered, r.released = make(chan struct{}), make(chan struct{})
		f.mu.rules = append(f.mu.rules, r)
	}
}

// Clear removes all rules and releases the calls that hang in them: the store heals.
func (f *Fault) Clear() {
	f.mu.Lock()
	rules := f.mu.rules
	f.mu.rules = nil
	f.mu.Unlock()
	for _, r := range rules {
		r.Release()
	}
}

// Release lets every call go that hangs in r, now and later. It may be called
// once for each rule, and not for a rule that Clear has released.
func (r *Rule) Release() { close(r.released) }

// Entered is closed when r acts for the first time.
func (r *Rule) Entered() <-chan struct{} { return r.entered }

// Fired is how often r has acted.
func (f *Fault) Fired(r *Rule) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.fired
}

// Calls is how many calls of op came, whatever became of them.
func (f *Fault) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.calls[op]
}

// Unwrap is the decorated store.
func (f *Fault) Unwrap() Store { return f.inner }

// Name is the decorated store's.
func (f *Fault) Name() string { return f.inner.Name() }

// Close closes the decorated store.
func (f *Fault) Close() error { return f.inner.Close() }

// acting returns the rules that act on this call, and counts it.
func (f *Fault) acting(op Op, key string) []*Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.calls[op]++
	var act []*Rule
	for _, r := range f.mu.rules {
		if r.Op != "" && r.Op != op || !strings.Contains(key, r.Key) || r.Match != nil && !r.Match.MatchString(key) {
			continue
		}
		r.seen++
		first := max(r.Nth, 1)
		if r.seen < first || r.Count > 0 && r.seen >= first+r.Count {
			continue
		}
		if r.fired++; r.fired == 1 {
			close(r.entered)
		}
		act = append(act, r)
	}
	return act
}

// effects is what the acting rules leave to be done around the call itself.
type effects struct {
	after    error
	truncate int64 // -1: not
	flips    []int64
	missing  bool
}

func (f *Fault) before(ctx context.Context, op Op, key string) (effects, error) {
	e := effects{truncate: -1}
	for _, r := range f.acting(op, key) {
		switch r.Do.kind {
		case actFail:
			return e, f.injected(op, key, r.Do.err)
		case actFailAfter:
			e.after = f.injected(op, key, r.Do.err)
		case actDelay:
			if !pause(ctx, r.Do.delay) {
				return e, canceled(ctx, op, f.Name(), key)
			}
		case actHang:
			select {
			case <-r.released:
			case <-ctx.Done():
				return e, canceled(ctx, op, f.Name(), key)
			}
		case actTruncate:
			e.truncate = r.Do.n
		case actFlip:
			e.flips = append(e.flips, r.Do.n)
		case actMissing:
			e.missing = true
		}
	}
	return e, nil
}

var sentinels = []error{
	ErrNotFound, ErrExists, ErrBadRange, ErrInvalidKey, ErrTooLarge, ErrChecksum, ErrDenied, ErrThrottled,
	ErrUnavailable, ErrNoBucket, ErrMisconfigured, ErrNotSupported, ErrForeign, ErrExpires, ErrArchived, ErrClosed,
}

func (f *Fault) injected(op Op, key string, err error) error {
	if slices.Contains(sentinels, err) {
		return &Error{Op: op, Store: f.Name(), Key: key, Kind: err, Detail: "injected"}
	}
	return err
}

// Put stores body as the rules left it.
func (f *Fault) Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	e, err := f.before(ctx, OpPut, key)
	if err != nil {
		return Info{}, err
	}
	stored := body
	if e.truncate >= 0 && e.truncate < body.Size {
		stored.Size, opt.CRC32C = e.truncate, Checksum{}
	}
	if len(e.flips) > 0 {
		stored.Reader, opt.CRC32C = flipReader{body.Reader, e.flips}, Checksum{}
	}
	info, err := f.inner.Put(ctx, key, stored, opt)
	if err == nil {
		err = e.after
		if stored.Size != body.Size || len(e.flips) > 0 { // the store lies about what it holds
			info.Size, info.CRC32C = body.Size, Checksum{}
		}
	}
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

// GetRange returns the bytes as the rules left them.
func (f *Fault) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	e, err := f.before(ctx, OpGet, key)
	if err != nil {
		return 0, err
	}
	if e.missing {
		return 0, &Error{Op: OpGet, Store: f.Name(), Key: key, Kind: ErrNotFound}
	}
	n, err := f.inner.GetRange(ctx, key, off, dst)
	if err == nil {
		err = e.after
	}
	flip(e.flips, off, dst[:n])
	if err == nil && e.truncate >= 0 && off+int64(n) > e.truncate {
		if off >= e.truncate {
			return 0, badRange(f.Name(), key, off, e.truncate)
		}
		n = int(e.truncate - off)
		err = shortRead(f.Name(), key, off, n, len(dst))
	}
	return n, err
}

// Head describes the object as the rules left it.
func (f *Fault) Head(ctx context.Context, key string) (Info, error) {
	e, err := f.before(ctx, OpHead, key)
	if err != nil {
		return Info{}, err
	}
	if e.missing {
		return Info{}, &Error{Op: OpHead, Store: f.Name(), Key: key, Kind: ErrNotFound}
	}
	info, err := f.inner.Head(ctx, key)
	if err == nil {
		err = e.after
	}
	if e.truncate >= 0 {
		info.Size = min(info.Size, e.truncate)
	}
	return info, err
}

// Delete deletes unless a rule says otherwise.
func (f *Fault) Delete(ctx context.Context, key string) error {
	e, err := f.before(ctx, OpDelete, key)
	if err != nil {
		return err
	}
	if err := f.inner.Delete(ctx, key); err != nil {
		return err
	}
	return e.after
}

// List leaves out the keys for which a Missing rule of Op "list" or "" matches;
// such a rule acts on each key and on no prefix.
func (f *Fault) List(ctx context.Context, prefix, after string, limit int) (Page, error) {
	e, err := f.before(ctx, OpList, prefix)
	if err != nil {
		return Page{}, err
	}
	page, err := f.inner.List(ctx, prefix, after, limit)
	if err == nil {
		err = e.after
	}
	if err != nil {
		return Page{}, err
	}
	page.Objects = slices.DeleteFunc(page.Objects, func(i Info) bool { return f.hides(i.Key) })
	return page, nil
}

func (f *Fault) hides(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.mu.rules, func(r *Rule) bool {
		return r.Do.kind == actMissing && (r.Op == "" || r.Op == OpList) && strings.Contains(key, r.Key) &&
			(r.Match == nil || r.Match.MatchString(key))
	})
}

type flipReader struct {
	io.ReaderAt
	flips []int64
}

func (r flipReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	flip(r.flips, off, p[:n])
	return n, err
}

func flip(flips []int64, off int64, p []byte) {
	for _, bit := range flips {
		if i := bit/8 - off; i >= 0 && i < int64(len(p)) {
			p[i] ^= 1 << (bit % 8)
		}
	}
}
