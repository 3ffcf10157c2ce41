package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// instant is a policy that waits for nothing and notes the delays.
func instant(delays *[]time.Duration) RetryPolicy {
	return RetryPolicy{
		Rand: func() float64 { return 1 },
		Wait: func(_ context.Context, d time.Duration) bool { *delays = append(*delays, d); return true },
	}
}

func TestRetryRepeatsWhatIsRetriable(t *testing.T) {
	f := NewFault(NewMem(), &Rule{Op: OpPut, Count: 3, Do: Fail(ErrThrottled)})
	var delays []time.Duration
	s := NewRetry(f, instant(&delays))
	if _, err := s.Put(t.Context(), "k", Bytes([]byte("x")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}
	if fmt.Sprint(delays) != fmt.Sprint(want) || f.Calls(OpPut) != 4 || s.Retries() != 3 {
		t.Errorf("delays %v, %d calls, %d retries", delays, f.Calls(OpPut), s.Retries())
	}
}

func TestRetryGivesUpAndSaysHowOften(t *testing.T) {
	f := NewFault(NewMem(), &Rule{Do: Fail(ErrUnavailable)})
	var delays []time.Duration
	s := NewRetry(f, instant(&delays))
	_, err := s.Head(t.Context(), "k")
	if !errors.Is(err, ErrUnavailable) || !IsRetriable(err) || !strings.Contains(err.Error(), "tries: 5") {
		t.Error(err)
	}
}

func TestRetryLeavesFinalErrorsAlone(t *testing.T) {
	for _, kind := range []error{ErrNotFound, ErrDenied, ErrExists, ErrChecksum, ErrNoBucket, io.ErrUnexpectedEOF} {
		f := NewFault(NewMem(), &Rule{Do: Fail(kind)})
		var delays []time.Duration
		s := NewRetry(f, instant(&delays))
		if _, err := s.GetRange(t.Context(), "k", 0, make([]byte, 1)); !errors.Is(err, kind) || f.Calls(OpGet) != 1 {
			t.Errorf("%v: %v after %d calls", kind, err, f.Calls(OpGet))
		}
	}
}

func TestRetryNeverRepeatsOnceOrIfAbsent(t *testing.T) {
	for _, opt := range []PutOptions{{Once: true}, {IfAbsent: true}} {
		f := NewFault(NewMem(), &Rule{Op: OpPut, Do: FailAfter(ErrUnavailable)})
		var delays []time.Duration
		s := NewRetry(f, instant(&delays))
		_, err := s.Put(t.Context(), "k", Bytes([]byte("x")), opt)
		if !errors.Is(err, ErrUnavailable) || f.Calls(OpPut) != 1 {
			t.Errorf("%+v: %v after %d calls", opt, err, f.Calls(OpPut))
		}
	}
}

func TestRetryBudgetEndsTheStorm(t *testing.T) {
	f := NewFault(NewMem(), &Rule{Do: Fail(ErrUnavailable)})
	var delays []time.Duration
	p := instant(&delays)
	p.Budget = 6
	s := NewRetry(f, p)
	for range 100 {
		_, _ = s.Head(t.Context(), "k")
	}
	if f.Calls(OpHead) != 106 {
		t.Errorf("%d requests for 100 calls with 6 retries to spend", f.Calls(OpHead))
	}
	f.Clear()
	for range 20 { // ten successes earn one
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	f.Add(&Rule{Op: OpHead, Do: Fail(ErrUnavailable)})
	before := f.Calls(OpHead)
	_, _ = s.Head(t.Context(), "k")
	if n := f.Calls(OpHead) - before; n < 2 || n > 3 {
		t.Errorf("%d requests after 20 successes", n)
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	f := NewFault(NewMem(), &Rule{Do: Fail(ErrUnavailable)})
	ctx, cancel := context.WithCancel(t.Context())
	s := NewRetry(f, RetryPolicy{BaseDelay: time.Hour, MaxDelay: time.Hour, Wait: func(ctx context.Context, d time.Duration) bool {
		cancel()
		return pause(ctx, d)
	}})
	_, err := s.Head(ctx, "k")
	if !errors.Is(err, context.Canceled) || IsRetriable(err) || !strings.Contains(err.Error(), "unavailable") {
		t.Error(err)
	}
	// A deadline that leaves no time for another try is not waited for.
	dctx, dcancel := context.WithTimeout(t.Context(), time.Minute)
	defer dcancel()
	_, err = s.Head(dctx, "k")
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no time left") {
		t.Error(err)
	}
}

func TestMeterCountsByLabels(t *testing.T) {
	f := NewFault(NewMem(), &Rule{Op: OpGet, Nth: 2, Count: 1, Do: Fail(ErrThrottled)})
	m := NewMeter(f)
	var seen []Sample
	m.SetObserver(func(s Sample) { seen = append(seen, s) })
	var delays []time.Duration
	s := NewRetry(m, instant(&delays))
	ctx := WithTopic(WithPurpose(t.Context(), PurposeUpload), "t1")
	if _, err := s.Put(ctx, "k", Bytes(make([]byte, 100)), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	cold := WithPurpose(WithTopic(t.Context(), "t1"), PurposeColdRead)
	for range 2 {
		if _, err := s.GetRange(cold, "k", 10, make([]byte, 30)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GetRange(cold, "k", 90, make([]byte, 30)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	got := ""
	for _, c := range m.Snapshot() {
		got += fmt.Sprintf("%s %s %s %s calls=%d sent=%d received=%d\n", c.Op, c.Topic, c.Purpose, c.Outcome, c.Calls, c.BytesSent, c.BytesReceived)
	}
	want := "get t1 cold_read ok calls=3 sent=0 received=70\n" +
		"get t1 cold_read throttled calls=1 sent=0 received=0\n" +
		"put t1 upload ok calls=1 sent=100 received=0\n"
	if got != want || len(seen) != 5 {
		t.Errorf("got\n%swant\n%s%d samples", got, want, len(seen))
	}
	if total := m.Total(func(k CountKey) bool { return k.Op == OpGet }); total.Requests != 4 {
		t.Errorf("total: %+v", total)
	}
}

func TestMeterMemoryIsBounded(t *testing.T) {
	m := NewMeter(NewMem())
	for i := range maxCountKeys + 100 {
		_, _ = m.Head(WithTopic(t.Context(), fmt.Sprint(i)), "k")
	}
	if rows := m.Snapshot(); len(rows) != maxCountKeys+1 {
		t.Errorf("%d rows", len(rows))
	}
	if c := m.Total(func(k CountKey) bool { return k.Topic == OtherTopics }); c.Calls != 100 {
		t.Errorf("%+v", c)
	}
}

func TestFaultActions(t *testing.T) {
	ctx := t.Context()
	data := []byte("0123456789")
	mem := NewMem()
	f := NewFault(mem)
	put := func(key string) error { _, err := f.Put(ctx, key, Bytes(data), PutOptions{}); return err }
	if err := put("a/k"); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 10)

	f.Add(&Rule{Op: OpPut, Key: "lost", Do: FailAfter(ErrUnavailable)})
	if err := put("lost"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if _, err := f.Head(ctx, "lost"); err != nil {
		t.Errorf("the answer was lost, not the object: %v", err)
	}

	f.Clear()
	f.Add(&Rule{Op: OpGet, Do: FlipBit(3*8 + 1)}) // '3' ^ 2 = '1'
	if n, err := f.GetRange(ctx, "a/k", 0, dst); string(dst) != "0121456789" {
		t.Errorf("%q, %d, %v", dst, n, err)
	}
	if n, err := f.GetRange(ctx, "a/k", 5, dst[:5]); string(dst[:n]) != "56789" {
		t.Errorf("%q, %v", dst[:n], err)
	}

	f.Clear()
	f.Add(&Rule{Op: OpGet, Do: Truncate(7)})
	if n, err := f.GetRange(ctx, "a/k", 0, dst); n != 7 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.GetRange(ctx, "a/k", 8, dst[:1]); n != 0 || !errors.Is(err, ErrBadRange) {
		t.Errorf("%d, %v", n, err)
	}

	f.Clear()
	f.Add(&Rule{Op: OpPut, Key: "cut", Do: Truncate(4)}, &Rule{Op: OpPut, Key: "rot", Do: FlipBit(0)})
	if err := errors.Join(put("cut"), put("rot")); err != nil {
		t.Fatal(err)
	}
	cut, _ := ReadAll(ctx, mem, "cut", 100)
	rot, _ := ReadAll(ctx, mem, "rot", 100)
	if string(cut) != "0123" || string(rot) != "1123456789" {
		t.Errorf("stored %q and %q", cut, rot)
	}

	f.Clear()
	f.Add(&Rule{Match: regexp.MustCompile(`^a/`), Do: Missing()})
	_, herr := f.Head(ctx, "a/k")
	_, gerr := f.GetRange(ctx, "a/k", 0, dst)
	page, lerr := f.List(ctx, "", "", 0)
	if !errors.Is(herr, ErrNotFound) || !errors.Is(gerr, ErrNotFound) || lerr != nil || len(page.Objects) != 3 {
		t.Errorf("%v, %v, %v, %+v", herr, gerr, lerr, page.Objects)
	}

	f.Clear()
	nth := &Rule{Op: OpHead, Nth: 2, Count: 2, Do: Fail(ErrThrottled)}
	f.Add(nth)
	got := ""
	for range 5 {
		_, err := f.Head(ctx, "a/k")
		got += string(OutcomeOf(err)) + " "
	}
	if got != "ok throttled throttled ok ok " || f.Fired(nth) != 2 {
		t.Errorf("%s, fired %d", got, f.Fired(nth))
	}
}

func TestFaultHangEndsByReleaseClearOrContext(t *testing.T) {
	f := NewFault(NewMem())
	hang := &Rule{Op: OpPut, Do: Hang()}
	f.Add(hang)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	results := make(chan error, 2)
	for _, c := range []context.Context{ctx, t.Context()} {
		wg.Go(func() {
			_, err := f.Put(c, "k", Bytes([]byte("x")), PutOptions{})
			results <- err
		})
	}
	<-hang.Entered()
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.Clear()
	if err := <-results; err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestProbeOfMemDirAndFaultyStores(t *testing.T) {
	dir, err := OpenDir(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Store{NewMem(), dir, NewRetry(NewMeter(NewMem()), RetryPolicy{})} {
		r, err := Probe(t.Context(), s, "c1")
		if err != nil || !r.FirstUse || !r.ListAfterPut || !r.GoneAfterDel || !r.Conditional || len(r.Warnings) != 0 {
			t.Errorf("%s: %+v, %v", s.Name(), r, err)
		}
		if r, err = Probe(t.Context(), s, "c1"); err != nil || r.FirstUse {
			t.Errorf("%s again: %+v, %v", s.Name(), r, err)
		}
		if _, err = Probe(t.Context(), s, "c2"); !errors.Is(err, ErrForeign) {
			t.Errorf("%s for another: %v", s.Name(), err)
		}
		if _, err = Probe(t.Context(), s, "../c"); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%s: %v", s.Name(), err)
		}
		page, err := s.List(t.Context(), "", "", 0)
		if err != nil || len(page.Objects) != 1 {
			t.Errorf("%s holds %+v, %v", s.Name(), page.Objects, err)
		}
	}
	for name, c := range map[string]struct {
		rule *Rule
		want error
	}{
		"away":          {&Rule{Do: Fail(ErrUnavailable)}, ErrUnavailable},
		"denied delete": {&Rule{Op: OpDelete, Do: Fail(ErrDenied)}, ErrDenied},
		"rotten":        {&Rule{Op: OpGet, Key: "probe/", Do: FlipBit(100)}, errUnexpected},
		"cutting":       {&Rule{Op: OpPut, Key: "probe/", Do: Truncate(50)}, io.ErrUnexpectedEOF},
	} {
		_, err := Probe(t.Context(), NewFault(NewMem(), c.rule), "c1")
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak := NewFault(NewMem(), &Rule{Op: OpList, Key: "probe/", Do: Missing()})
	if r, err := Probe(t.Context(), weak, "c1"); err != nil || r.ListAfterPut || len(r.Warnings) != 1 {
		t.Errorf("eventual LIST: %+v, %v", r, err)
	}
}

func TestProbeOfTwoClustersAtOnceHasOneWinner(t *testing.T) {
	for range 20 {
		mem := NewMem()
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, id := range []string{"c1", "c2"} {
			wg.Go(func() { _, errs[i] = Probe(t.Context(), mem, id) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), ErrForeign) {
			t.Fatalf("%v", errs)
		}
	}
}
