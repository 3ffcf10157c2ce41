package object

import (
	"context"
	"errors"

	"github.com/minio/minio-go/v7"
)

// Put stores body as one request, or in parts if it is over singlePutBytes or the
// store refuses a single one of its size.
func (s *S3) Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	if err := checkPut(s.name, key, body); err != nil {
		return Info{}, err
	}
	if err := s.begin(ctx, OpPut, key); err != nil {
		return Info{}, err
	}
	if body.Size > s.singlePut {
		return s.putParts(ctx, key, body, opt)
	}
	info, err := s.putSingle(ctx, key, body, opt)
	if errors.Is(err, ErrTooLarge) && body.Size > minPartBytes {
		return s.putParts(ctx, key, body, opt)
	}
	return info, err
}

func (s *S3) putSingle(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	ctx, cancel := s.request(ctx, body.Size)
	defer cancel()
	po := s.putOptions(opt)
	client := s.plain
	crc := opt.CRC32C
	mode := checksumMode(s.checksums.Load())
	switch {
	case mode == checksumTrailer && !crc.Known && body.Size > upfrontCRCBytes:
		client, po.Checksum = s.trailer, minio.ChecksumCRC32C
	case mode != checksumNone:
		if !crc.Known {
			var err error
			if crc, err = crcOf(ctx, s.name, key, body); err != nil {
				return Info{}, err
			}
		}
		po.UserMetadata = map[string]string{crcHeader: encodeCRC(crc.Value)}
	}
	r := newBodyReader(body, body.Size)
	up, err := client.PutObject(ctx, s.cfg.Bucket, s.full(key), r, body.Size, "", "", po)
	// net/http may still be reading when an early answer is here.
	if rerr := r.detach(); rerr != nil {
		return Info{}, bodyError(s.name, key, r.at, body.Size, rerr)
	}
	if err != nil {
		return Info{}, s.fail(ctx, OpPut, key, err)
	}
	got := decodeCRC(up.ChecksumCRC32C)
	if crc.Known && got.Known && crc != got {
		return Info{}, checksumError(s.name, key, crc.Value, got.Value)
	}
	return Info{Key: key, Size: body.Size, CRC32C: got, ModTime: s.now(), StorageClass: opt.StorageClass}, nil
}

func (s *S3) putOptions(opt PutOptions) minio.PutObjectOptions {
	po := minio.PutObjectOptions{
		ContentType:  opt.ContentType,
		StorageClass: opt.StorageClass,
		// The CRC32C protects the bytes at a fortieth of the cost; SHA-256 would be
		// two thirds of an upload's CPU.
		DisableContentSha256: true,
	}
	if opt.IfAbsent {
		po.SetMatchETagExcept("*")
	}
	return po
}
