package tiering

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"varve/tiering/object"
)

var jsonOptions = object.PutOptions{ContentType: "application/json"}

// put stores one object once and checks size and checksum of what arrived, for
// local bytes go when it is committed. A store that neither answers with a checksum
// of its own nor keeps one is read back whole: a sample would not prove the rest.
func (p *Partition) put(ctx context.Context, key string, body object.Body, crc uint32, opt object.PutOptions) (object.Info, error) {
	t := p.t
	rctx, cancel := t.request(ctx, body.Size)
	defer cancel()
	opt.CRC32C, opt.Once = object.CRC(crc), true
	info, err := t.store.Put(rctx, key, body, opt)
	if err != nil {
		return info, storeError(ctx, "put", key, err)
	}
	if !info.CRC32C.Known {
		class := info.StorageClass
		if info, err = t.store.Head(rctx, key); err != nil {
			return info, storeError(ctx, "verify", key, err)
		}
		if info.StorageClass == "" { // S3 does not name its default in a HEAD
			info.StorageClass = class
		}
	}
	got := info.CRC32C.Value
	if info.Size == body.Size && !info.CRC32C.Known {
		if got, err = p.readBack(ctx, key, body.Size); err != nil {
			return info, err
		}
	}
	if info.Size != body.Size || got != crc {
		return info, corruptf(key, 0, "stored %d bytes with CRC32C %08x, sent %d with %08x", info.Size, got, body.Size, crc)
	}
	return info, nil
}

// readBack computes the CRC32C of what the store has under key, by GETs of at most
// verifyBytes.
func (p *Partition) readBack(ctx context.Context, key string, size int64) (uint32, error) {
	t := p.t
	buf, crc := make([]byte, min(size, verifyBytes)), uint32(0)
	for pos := int64(0); pos < size; {
		b := buf[:min(int64(len(buf)), size-pos)]
		if err := pace(ctx, t.rates.read.Load, int64(len(b))); err != nil {
			return 0, fmt.Errorf("verify %s: %w", key, err)
		}
		rctx, cancel := t.request(ctx, int64(len(b)))
		_, err := t.store.GetRange(rctx, key, pos, b)
		cancel()
		if err != nil {
			return 0, storeError(ctx, "verify", key, err)
		}
		crc = crc32.Update(crc, castagnoli, b)
		pos += int64(len(b))
	}
	return crc, nil
}

// try repeats fn a few times while its error says that this may help. Waiting
// longer is the caller's business, who may have other partitions to serve.
func (t *Tier) try(ctx context.Context, fn func() error) error {
	for i := 1; ; i++ {
		err := fn()
		if err == nil || i == uploadTries || !IsRetriable(err) || ctx.Err() != nil {
			return err
		}
		wait := uploadBackoff << (i - 1)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}
