package tiering

import (
	"context"
	"errors"
	"testing"

	"varve/tiering/object"
)

// plainStore keeps no checksums, as some S3-compatible stores do not.
type plainStore struct{ object.Store }

func (s plainStore) Put(ctx context.Context, key string, body object.Body, opt object.PutOptions) (object.Info, error) {
	opt.CRC32C = object.Checksum{}
	info, err := s.Store.Put(ctx, key, body, opt)
	info.CRC32C = object.Checksum{}
	return info, err
}

func (s plainStore) Head(ctx context.Context, key string) (object.Info, error) {
	info, err := s.Store.Head(ctx, key)
	info.CRC32C = object.Checksum{}
	return info, err
}

func TestAnUploadToAStoreWithoutChecksumsIsReadBackAndComparedWhole(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Store = plainStore{c.Store} })
	var batches []Batch
	puts := w.counted(object.OpPut, func() {
		batches = w.segment(6, 5, 700_000, true) // more than one verifyBytes
		w.upload(batches)
	})
	if puts != 2 {
		t.Errorf("%d PUTs for one segment, want 2", puts)
	}
	if gets := w.count(object.OpGet); gets < 3 {
		t.Errorf("%d GETs cannot have read %d bytes back", gets, len(joinBatches(batches)))
	}
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
	size := w.entries()[0].StoredBytes
	next := w.segment(6, 5, 700_000, true)
	for _, bit := range []int64{0, size * 4, size*8 - 1} { // first byte, one in the middle, last byte
		rule := &object.Rule{Op: object.OpPut, Key: segmentSuffix, Do: object.FlipBit(bit)}
		w.fault.Add(rule)
		_, err := w.p.Upload(context.Background(), w.rangeOf(next), &sliceReader{batches: next})
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("bit %d was flipped on its way: %v", bit, err)
		}
		w.fault.Clear()
	}
	w.upload(next)
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func TestAStoreWithChecksumsIsNotReadBack(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(3, 5, 500, false))
	if gets, heads := w.count(object.OpGet), w.count(object.OpHead); gets+heads != 0 {
		t.Errorf("%d GETs and %d HEADs for an upload whose checksum the store has answered", gets, heads)
	}
}

func TestTheStorageClassIsSentWithObjectsAloneAndRecorded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.StorageClass, c.PageEntries = "STANDARD_IA", 2 })
	for range 4 {
		w.upload(w.segment(3, 5, 500, false))
	}
	classes := map[string]string{}
	err := object.ListAll(context.Background(), w.mem, "", func(i object.Info) error {
		classes[i.Key] = i.StorageClass
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range w.entries() {
		if e.StorageClass != "STANDARD_IA" || classes[w.p.Key(&e)] != "STANDARD_IA" {
			t.Errorf("object %s: the manifest says %q, the store %q", e.Key, e.StorageClass, classes[w.p.Key(&e)])
		}
		delete(classes, w.p.Key(&e))
	}
	for key, class := range classes {
		if class != "" {
			t.Errorf("%s, which is read first, has class %q", key, class)
		}
	}
	if len(classes) < 5 { // four manifests and a page
		t.Errorf("%d other objects", len(classes))
	}
}
