package object

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// minPartBytes is S3's least size of all parts but the last.
const minPartBytes = 5 << 20

// putParts stores a large body as a multipart upload. Parts go straight from
// body's reader; nothing of an upload that failed stays behind.
func (s *S3) putParts(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	size := max(s.part, (body.Size+maxParts-1)/maxParts)
	count := int((body.Size + size - 1) / size)
	po := s.putOptions(PutOptions{ContentType: opt.ContentType, StorageClass: opt.StorageClass})
	checksums := checksumMode(s.checksums.Load()) != checksumNone
	if checksums {
		po.UserMetadata = map[string]string{"x-amz-checksum-algorithm": "CRC32C"}
	}
	id, err := s.createMultipart(ctx, key, po)
	if err != nil {
		return Info{}, err
	}
	done := false
	defer func() {
		if !done {
			s.abort(ctx, key, id)
		}
	}()

	parts := make([]minio.CompletePart, count)
	crcs := make([]uint32, count)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partParallel)
	for i := range parts {
		g.Go(func() error {
			off := int64(i) * size
			p := part{number: i + 1, off: off, size: min(size, body.Size-off), checksum: checksums}
			var err error
			parts[i], crcs[i], err = s.putPart(gctx, key, id, body, p)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Info{}, err
	}
	if checksums && opt.CRC32C.Known {
		if got := combineCRCs(crcs, size, body.Size); got != opt.CRC32C.Value {
			return Info{}, checksumError(s.name, key, opt.CRC32C.Value, got)
		}
	}
	cpo := minio.PutObjectOptions{}
	if opt.IfAbsent {
		cpo.SetMatchETagExcept("*")
	}
	cctx, cancel := s.request(ctx, body.Size) // stores copy the parts before they answer
	defer cancel()
	if _, err := s.plain.CompleteMultipartUpload(cctx, s.cfg.Bucket, s.full(key), id, parts, cpo); err != nil {
		return Info{}, s.fail(ctx, OpCompleteMultipart, key, err)
	}
	done = true
	info := Info{Key: key, Size: body.Size, ModTime: s.now(), StorageClass: opt.StorageClass}
	if checksums { // each part's was checked by the store, so the whole's is as good as checked
		info.CRC32C = CRC(combineCRCs(crcs, size, body.Size))
	}
	return info, nil
}

func (s *S3) createMultipart(ctx context.Context, key string, po minio.PutObjectOptions) (string, error) {
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	id, err := s.plain.NewMultipartUpload(rctx, s.cfg.Bucket, s.full(key), po)
	if err != nil {
		return "", s.fail(ctx, OpCreateMultipart, key, err)
	}
	return id, nil
}

type part struct {
	number    int
	off, size int64
	checksum  bool
}

// partAttempts is how often one part is tried: sending a gigabyte again because
// its ninth part met a SlowDown would make matters worse.
const partAttempts = 4

func (s *S3) putPart(ctx context.Context, key, id string, body Body, p part) (minio.CompletePart, uint32, error) {
	section := Body{Reader: io.NewSectionReader(body.Reader, p.off, p.size), Size: p.size}
	crc, err := crcOf(ctx, s.name, key, section)
	if err != nil {
		return minio.CompletePart{}, 0, err
	}
	for try := 1; ; try++ {
		out, err := s.putPartOnce(ctx, key, id, section, p, crc)
		if err == nil {
			return out, crc.Value, nil
		}
		if !IsRetriable(err) || try == partAttempts {
			return out, 0, err
		}
		if !pause(ctx, DefaultRetryPolicy.delay(try, jitter)) {
			return out, 0, err
		}
	}
}

func (s *S3) putPartOnce(ctx context.Context, key, id string, section Body, p part, crc Checksum) (minio.CompletePart, error) {
	rctx, cancel := s.request(ctx, p.size)
	defer cancel()
	po := minio.PutObjectPartOptions{DisableContentSha256: true}
	if p.checksum {
		po.CustomHeader = map[string][]string{"X-Amz-Checksum-Crc32c": {encodeCRC(crc.Value)}}
	}
	r := newBodyReader(section, p.size)
	out, err := s.plain.PutObjectPart(rctx, s.cfg.Bucket, s.full(key), id, p.number, r, p.size, po)
	if rerr := r.detach(); rerr != nil {
		return minio.CompletePart{}, bodyError(s.name, key, p.off+r.at, p.size, rerr)
	}
	if err != nil {
		return minio.CompletePart{}, s.fail(ctx, OpPutPart, key, err)
	}
	return minio.CompletePart{PartNumber: p.number, ETag: out.ETag, ChecksumCRC32C: out.ChecksumCRC32C}, nil
}

// abort removes the parts of an upload that will not be finished, also when the
// caller has gone.
func (s *S3) abort(ctx context.Context, key, id string) {
	ctx, cancel := tidyContext(ctx)
	defer cancel()
	if err := s.plain.AbortMultipartUpload(ctx, s.cfg.Bucket, s.full(key), id); err != nil {
		s.log.Warn("parts of an unfinished upload stay in the bucket until they are cleaned up",
			"error", s.fail(ctx, OpAbortMultipart, key, err))
	}
}

const (
	tidyTimeout = 5 * time.Second // a store that is slower is not worth waiting for
	// stopTidyTimeout is what a shutdown can spare: a stop of the broker promises three seconds in
	// all, and a probe tidies up twice.
	stopTidyTimeout = 500 * time.Millisecond
)

// tidyContext outlives ctx, so that what a broken-off request left can be removed, but not by much
// once ctx has ended.
func tidyContext(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := tidyTimeout
	if ctx.Err() != nil {
		limit = stopTidyTimeout
	}
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// AbortStaleUploads removes multipart uploads under this store's prefix that were
// begun before `before` and never finished, and returns how many. They cost
// storage and appear in no LIST. (MinIO lists uploads of whole keys only, and
// removes stale ones itself after a day.)
func (s *S3) AbortStaleUploads(ctx context.Context, before time.Time) (int, error) {
	if err := s.begin(ctx, OpListMultipart, ""); err != nil {
		return 0, err
	}
	prefix, aborted := s.full(""), 0
	keyMarker, idMarker := "", ""
	for {
		rctx, cancel := s.request(ctx, 0)
		res, err := s.plain.ListMultipartUploads(rctx, s.cfg.Bucket, prefix, keyMarker, idMarker, "", 1000)
		cancel()
		if err != nil {
			return aborted, s.fail(ctx, OpListMultipart, "", err)
		}
		for _, up := range res.Uploads {
			key, ok := s.relative(up.Key)
			if !ok || !up.Initiated.Before(before) {
				continue
			}
			rctx, cancel := s.request(ctx, 0)
			err := s.plain.AbortMultipartUpload(rctx, s.cfg.Bucket, up.Key, up.UploadID)
			cancel()
			if err != nil {
				if err = s.fail(ctx, OpAbortMultipart, key, err); !errors.Is(err, ErrNotFound) {
					return aborted, err
				}
				continue
			}
			aborted++
		}
		if !res.IsTruncated || (res.NextKeyMarker == keyMarker && res.NextUploadIDMarker == idMarker) {
			return aborted, nil
		}
		keyMarker, idMarker = res.NextKeyMarker, res.NextUploadIDMarker
	}
}
