package tiering

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"varve/tiering/object"
)

// twoObjects uploads two segments and reopens, so that nothing is cached.
func twoObjects(t *testing.T, change func(*Config)) (*world, []Entry) {
	w := newWorld(t, change)
	w.upload(w.segment(40, 3, 500, false))
	w.upload(w.segment(40, 3, 500, false))
	entries := w.entries()
	w.reopen()
	return w, entries
}

func (w *world) readErr(offset int64) error {
	d, err := w.p.Read(context.Background(), offset, 1000, true)
	if err == nil {
		d.Release()
	}
	return err
}

func TestAMissingObjectIsATypedErrorAndOthersGoOn(t *testing.T) {
	w, entries := twoObjects(t, nil)
	w.fault.Add(&object.Rule{Op: object.OpGet, Key: entries[0].Key, Do: object.Missing()})
	for range 2 {
		err := w.readErr(5)
		var missing *MissingError
		if !errors.Is(err, ErrMissing) || !errors.As(err, &missing) || !strings.HasSuffix(missing.Key, entries[0].Key) {
			t.Fatalf("read of a missing object: %v", err)
		}
	}
	if err := w.readErr(entries[1].First); err != nil {
		t.Fatalf("the object beside it: %v", err)
	}
	if s := w.tier.Stats(); s.Missing != 2 {
		t.Fatalf("%d missing counted", s.Missing)
	}
	w.fault.Clear()
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func TestAMissingManifestIsATypedError(t *testing.T) {
	w, _ := twoObjects(t, nil)
	w.fault.Add(&object.Rule{Op: object.OpGet, Key: "manifest/", Do: object.Missing()})
	if err := w.readErr(5); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	w.fault.Clear()
	if err := w.readErr(5); err != nil {
		t.Fatalf("the error was kept: %v", err)
	}
}

func TestATruncatedObjectIsCorrupt(t *testing.T) {
	w, entries := twoObjects(t, nil)
	for _, n := range []int64{0, 10, entries[0].StoredBytes / 2, entries[0].StoredBytes - 1} {
		w.fault.Add(&object.Rule{Op: object.OpGet, Key: entries[0].Key, Do: object.Truncate(n)})
		var corrupt *CorruptError
		if err := w.readErr(60); !errors.As(err, &corrupt) {
			t.Fatalf("object cut to %d bytes: %v", n, err)
		}
		if err := w.readErr(entries[1].First); err != nil {
			t.Fatalf("the object beside it: %v", err)
		}
		w.fault.Clear()
	}
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

// Every bit that a read depends on: a sample of all bytes of the object.
func TestAnyFlippedBitIsCorruptAndNeverData(t *testing.T) {
	w, entries := twoObjects(t, nil)
	e := entries[0]
	if _, err := w.p.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	skip := e.StoredBytes - e.IndexLen - skipHead - int64(len("producers as of 120"))
	for bit := int64(0); bit < e.StoredBytes*8; bit += 101 {
		if at := bit / 8; at >= skip && at < e.StoredBytes-e.IndexLen {
			continue // trailer head and producer snapshot: not read here
		}
		rule := &object.Rule{Op: object.OpGet, Key: e.Key, Do: object.FlipBit(bit)}
		w.fault.Add(rule)
		var corrupt *CorruptError
		var err error
		for at := e.First; at <= e.Last && err == nil; at += 3 {
			err = w.readErr(at)
		}
		if !errors.As(err, &corrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		w.fault.Clear()
		w.reopen()
	}
	w.fault.Add(&object.Rule{Op: object.OpGet, Key: e.Key, Do: object.FlipBit((skip + skipHead) * 8)})
	if _, _, err := w.p.Producers(context.Background()); err != nil {
		t.Fatalf("the newest object is whole: %v", err)
	}
	w.fault.Clear()
}

func TestAFlippedBitInTheProducerSnapshotIsCorrupt(t *testing.T) {
	w, entries := twoObjects(t, nil)
	e := entries[1]
	bit := (e.StoredBytes - e.IndexLen - 1) * 8
	w.fault.Add(&object.Rule{Op: object.OpGet, Key: e.Key, Do: object.FlipBit(bit)})
	var corrupt *CorruptError
	if _, _, err := w.p.Producers(context.Background()); !errors.As(err, &corrupt) {
		t.Fatal(err)
	}
	w.fault.Clear()
	b, asOf, err := w.p.Producers(context.Background())
	if err != nil || asOf != w.ptr.TieredEnd || string(b) != fmt.Sprintf("producers as of %d", asOf) {
		t.Fatalf("%q as of %d: %v", b, asOf, err)
	}
}

func TestAFlippedBitInTheManifestIsCorrupt(t *testing.T) {
	w, _ := twoObjects(t, nil)
	for bit := int64(0); bit < 4000; bit += 37 {
		w.fault.Add(&object.Rule{Op: object.OpGet, Key: "manifest/", Do: object.FlipBit(bit)})
		var corrupt *CorruptError
		if err := w.readErr(5); !errors.As(err, &corrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		w.fault.Clear()
	}
}

func TestAnotherObjectUnderTheKeyIsCorrupt(t *testing.T) {
	w, entries := twoObjects(t, nil)
	other := w.object(resolve(w.p.dir, entries[1].Key))
	key := resolve(w.p.dir, entries[0].Key)
	if _, err := w.mem.Put(context.Background(), key, object.Bytes(other), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if err := w.readErr(5); !errors.As(err, &corrupt) {
		t.Fatal(err)
	}
}

func TestErrorsAreNeverCached(t *testing.T) {
	w, _ := twoObjects(t, nil)
	rule := &object.Rule{Op: object.OpGet, Count: 1, Do: object.Fail(object.ErrUnavailable)}
	for range 3 { // manifest, index, chunk
		w.fault.Add(rule)
		if err := w.readErr(5); !errors.Is(err, ErrUnavailable) || !IsRetriable(err) {
			t.Fatal(err)
		}
		w.fault.Clear()
		rule = &object.Rule{Op: object.OpGet, Nth: rule.Nth + 1, Count: 1, Do: object.Fail(object.ErrUnavailable)}
		if rule.Nth == 1 {
			rule.Nth = 2
		}
		w.reopen()
	}
	if err := w.readErr(5); err != nil {
		t.Fatal(err)
	}
}

func TestAStaleReaderFollowsThePointer(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(40, 3, 500, false))
	old := w.ptr
	w.upload(w.segment(40, 3, 500, false))
	newPtr := w.ptr
	w.ptr = old
	w.reopen()
	// The old manifest is gone, as collection would do; this replica hears of the
	// new pointer only while it waits for the old one.
	rule := &object.Rule{Op: object.OpGet, Key: old.Name, Do: object.Hang()}
	w.fault.Add(rule, &object.Rule{Op: object.OpGet, Key: old.Name, Do: object.Missing()})
	done := make(chan error, 1)
	go func() { done <- w.readErr(5) }()
	<-rule.Entered()
	w.ptr = newPtr
	w.p.SetPointer(newPtr)
	rule.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAManifestPutThatLandsAfterItsRetryChangesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(10, 3, 100, false))
	lost := &object.Rule{Op: object.OpPut, Key: "/manifest/", Count: 1, Do: object.FailAfter(object.ErrUnavailable)}
	w.fault.Add(lost)
	w.upload(w.segment(10, 3, 100, false))
	if w.fault.Fired(lost) != 1 {
		t.Fatal("the fault did not fire")
	}
	names := map[string]bool{}
	for _, k := range w.keys() {
		if i := strings.Index(k, "/manifest/"); i >= 0 {
			names[k[i:]] = true
		}
	}
	if len(names) != 3 {
		t.Fatalf("manifests %v: the retry must use another name", names)
	}
	w.reopen()
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func TestAnObjectPutIsRetriedUnderAnotherKeyFromTheStart(t *testing.T) {
	w := newWorld(t, nil)
	w.fault.Add(&object.Rule{Op: object.OpPut, Key: segmentSuffix, Count: 2, Do: object.FailAfter(object.ErrThrottled)})
	w.upload(w.segment(30, 3, 500, false))
	segments := 0
	for _, k := range w.keys() {
		if strings.HasSuffix(k, segmentSuffix) {
			segments++
		}
	}
	if segments != 3 {
		t.Fatalf("%d objects after two lost answers", segments)
	}
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func TestAStoreThatKeepsLessThanItWasGivenIsNoticed(t *testing.T) {
	for name, do := range map[string]object.Action{"truncated": object.Truncate(100), "bit flipped": object.FlipBit(333)} {
		w := newWorld(t, nil)
		w.fault.Add(&object.Rule{Op: object.OpPut, Key: segmentSuffix, Do: do})
		b := w.segment(30, 3, 500, false)
		_, err := w.p.Upload(context.Background(), w.rangeOf(b), &sliceReader{batches: b})
		if err == nil {
			t.Fatalf("%s: upload says that all is well", name)
		}
	}
}

func TestAnUploadWhosePointerMovedIsStale(t *testing.T) {
	w := newWorld(t, func(c *Config) {})
	w.upload(w.segment(10, 3, 100, false))
	b := w.segment(10, 3, 100, false)
	hang := &object.Rule{Op: object.OpPut, Key: "/manifest/", Do: object.Hang()}
	w.fault.Add(hang)
	done := make(chan error, 1)
	go func() {
		_, err := w.p.Upload(context.Background(), w.rangeOf(b), &sliceReader{batches: b})
		done <- err
	}()
	<-hang.Entered()
	moved := w.ptr
	moved.Name = manifestName(8, 9, "deadbeef")
	w.p.SetPointer(moved) // another leader
	hang.Release()
	if err := <-done; !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}
}

// A crash after any step of an upload leaves the committed range as it was, and
// what it wrote is an orphan that the next upload does not meet.
func TestACrashAtAnyUploadStepLeavesOnlyOrphans(t *testing.T) {
	steps := []string{"upload.spooled", "upload.object-put", "upload.page-put", "upload.manifest-put"}
	for _, crashAt := range steps {
		t.Run(crashAt, func(t *testing.T) {
			armed := false
			w := newWorld(t, func(c *Config) {
				c.PageEntries = 2
				c.OnStep = func(step string) {
					if armed && step == crashAt {
						panic(crash{})
					}
				}
			})
			w.upload(w.segment(10, 3, 100, false))
			w.upload(w.segment(10, 3, 100, false))
			b := w.segment(10, 3, 100, false)
			armed = true
			if !crashing(t, func() {
				_, _ = w.p.Upload(context.Background(), w.rangeOf(b), &sliceReader{batches: b})
			}) {
				t.Fatalf("no crash at %s", crashAt)
			}
			armed = false
			w.reopen()
			w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
			w.upload(b)
			w.reopen()
			w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
		})
	}
}
