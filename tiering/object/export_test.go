package object

import (
	"context"

	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

// SetPartSizes makes multipart uploads small enough for tests.
func SetPartSizes(s Store, single, part int64) {
	s3 := s.(*S3)
	s3.singlePut, s3.part = single, part
}

// UnfinishedUploads counts multipart uploads of key; MinIO lists those of a whole
// key only.
func UnfinishedUploads(ctx context.Context, s Store, key string) (int, error) {
	s3 := s.(*S3)
	res, err := s3.plain.ListMultipartUploads(ctx, s3.cfg.Bucket, s3.full(key), "", "", "", 1000)
	return len(res.Uploads), err
}

// SetLifecycle replaces the rules of s's bucket.
func SetLifecycle(ctx context.Context, s Store, c *lifecycle.Configuration) error {
	s3 := s.(*S3)
	return s3.plain.SetBucketLifecycle(ctx, s3.cfg.Bucket, c)
}

// Prefix is s's prefix in its bucket.
func Prefix(s Store) string { return s.(*S3).full("") }
