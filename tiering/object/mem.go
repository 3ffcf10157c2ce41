package object

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Mem is a Store in memory, for tests and simulations. It behaves like a strongly
// consistent S3 and does nothing by itself: no goroutines, no randomness, no
// clock but the one it was given.
type Mem struct {
	name string
	now  func() time.Time

	mu struct {
		sync.RWMutex
		objects map[string]memObject
		keys    []string // sorted; exactly the keys of objects
	}
}

type memObject struct {
	info Info
	data []byte // never changed after it was stored
}

// NewMem returns an empty store.
func NewMem() *Mem { return newNamedMem("mem://", time.Now) }

func newNamedMem(name string, now func() time.Time) *Mem {
	m := &Mem{name: name, now: now}
	m.mu.objects = make(map[string]memObject)
	return m
}

// Name is "mem://name".
func (m *Mem) Name() string { return m.name }

// Close does nothing: what is in memory stays for the next one who asks.
func (m *Mem) Close() error { return nil }

// Put copies body.
func (m *Mem) Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	if err := checkPut(m.name, key, body); err != nil {
		return Info{}, err
	}
	if ctx.Err() != nil {
		return Info{}, canceled(ctx, OpPut, m.name, key)
	}
	data := make([]byte, body.Size)
	if body.Size > 0 {
		if n, err := body.Reader.ReadAt(data, 0); n < len(data) {
			return Info{}, bodyError(m.name, key, int64(n), body.Size, err)
		}
	}
	crc := crc32.Checksum(data, castagnoli)
	if opt.CRC32C.Known && opt.CRC32C.Value != crc {
		return Info{}, checksumError(m.name, key, opt.CRC32C.Value, crc)
	}
	info := Info{Key: key, Size: body.Size, CRC32C: CRC(crc), ModTime: m.now(), StorageClass: opt.StorageClass}

	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return Info{}, canceled(ctx, OpPut, m.name, key)
	}
	if _, ok := m.mu.objects[key]; ok {
		if opt.IfAbsent {
			return Info{}, &Error{Op: OpPut, Store: m.name, Key: key, Kind: ErrExists}
		}
	} else {
		i, _ := slices.BinarySearch(m.mu.keys, key)
		m.mu.keys = slices.Insert(m.mu.keys, i, key)
	}
	m.mu.objects[key] = memObject{info: info, data: data}
	return info, nil
}

// GetRange copies out of the object.
func (m *Mem) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	if err := checkGet(m.name, key, off); err != nil {
		return 0, err
	}
	if len(dst) == 0 {
		return 0, nil
	}
	obj, err := m.object(ctx, OpGet, key)
	if err != nil {
		return 0, err
	}
	if off >= obj.info.Size {
		return 0, badRange(m.name, key, off, obj.info.Size)
	}
	n := copy(dst, obj.data[off:])
	if n < len(dst) {
		return n, shortRead(m.name, key, off, n, len(dst))
	}
	return n, nil
}

// Head describes an object.
func (m *Mem) Head(ctx context.Context, key string) (Info, error) {
	if err := checkKey(OpHead, m.name, key); err != nil {
		return Info{}, err
	}
	obj, err := m.object(ctx, OpHead, key)
	return obj.info, err
}

func (m *Mem) object(ctx context.Context, op Op, key string) (memObject, error) {
	if ctx.Err() != nil {
		return memObject{}, canceled(ctx, op, m.name, key)
	}
	m.mu.RLock()
	obj, ok := m.mu.objects[key]
	m.mu.RUnlock()
	if !ok {
		return memObject{}, &Error{Op: op, Store: m.name, Key: key, Kind: ErrNotFound}
	}
	return obj, nil
}

// Delete forgets an object.
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := checkKey(OpDelete, m.name, key); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return canceled(ctx, OpDelete, m.name, key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.objects[key]; ok {
		delete(m.mu.objects, key)
		i, _ := slices.BinarySearch(m.mu.keys, key)
		m.mu.keys = slices.Delete(m.mu.keys, i, i+1)
	}
	return nil
}

// List returns one page of keys.
func (m *Mem) List(ctx context.Context, prefix, after string, limit int) (Page, error) {
	if ctx.Err() != nil {
		return Page{}, canceled(ctx, OpList, m.name, prefix)
	}
	if err := checkPrefix(m.name, prefix); err != nil {
		return Page{}, err
	}
	if limit <= 0 {
		limit = MaxListPage
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	i, found := slices.BinarySearch(m.mu.keys, max(prefix, after))
	if found && m.mu.keys[i] == after {
		i++
	}
	var page Page
	for ; i < len(m.mu.keys) && strings.HasPrefix(m.mu.keys[i], prefix); i++ {
		if len(page.Objects) == limit {
			page.Next = page.Objects[limit-1].Key
			break
		}
		page.Objects = append(page.Objects, m.mu.objects[m.mu.keys[i]].info)
	}
	return page, nil
}

// Mutate replaces the bytes of an object with what change returns, as rot in the
// store would; change gets a copy. It reports whether the object exists.
func (m *Mem) Mutate(key string, change func([]byte) []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.mu.objects[key]
	if ok {
		obj.data = change(slices.Clone(obj.data))
		obj.info.Size = int64(len(obj.data))
		m.mu.objects[key] = obj
	}
	return ok
}

func badRange(store, key string, off, size int64) error {
	return &Error{
		Op: OpGet, Store: store, Key: key, Kind: ErrBadRange,
		Detail: fmt.Sprintf("offset %d, size %d", off, size),
	}
}

func checksumError(store, key string, want, got uint32) error {
	return &Error{
		Op: OpPut, Store: store, Key: key, Kind: ErrChecksum,
		Detail: fmt.Sprintf("crc32c of the body is %08x, expected %08x", got, want),
	}
}

// bodyError is a Put whose own source could not be read: final, and not the
// store's fault.
func bodyError(store, key string, got, want int64, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // ReaderAt promises the bare value
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("put %s: read byte %d of %d of the body: %w", join(store, key), got, want, err)
}
