package object

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

// probeBucket checks that the bucket exists, or makes it if the URL allows, and
// that no rule of its will take our objects away.
func (s *S3) probeBucket(ctx context.Context, r *ProbeReport) error {
	if err := s.begin(ctx, OpBucket, ""); err != nil {
		return err
	}
	// LIST and not HEAD bucket: a HEAD's refusal has no body that says why.
	_, err := s.List(ctx, MarkerKey, "", 1)
	if errors.Is(err, ErrNoBucket) && s.cfg.CreateBucket {
		if err = s.makeBucket(ctx); err == nil {
			_, err = s.List(ctx, MarkerKey, "", 1)
		}
	}
	if err != nil {
		return err
	}
	if err := s.probeLifecycle(ctx, r); err != nil {
		return err
	}
	return s.probeVersioning(ctx, r)
}

func (s *S3) makeBucket(ctx context.Context) error {
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	err := s.plain.MakeBucket(rctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region})
	switch minio.ToErrorResponse(err).Code {
	case "BucketAlreadyOwnedByYou", "BucketAlreadyExists": // another broker was faster; LIST tells whether it is ours
		return nil
	}
	if err != nil {
		return s.fail(rctx, OpBucket, "", err)
	}
	s.log.Info("made bucket", "store", s.name, "bucket", s.cfg.Bucket)
	return nil
}

// probeLifecycle refuses a bucket whose rules expire current objects under our
// prefix. A store that does not tell its rules gets a warning.
func (s *S3) probeLifecycle(ctx context.Context, r *ProbeReport) error {
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	rules, err := s.plain.GetBucketLifecycle(rctx, s.cfg.Bucket)
	if minio.ToErrorResponse(err).Code == "NoSuchLifecycleConfiguration" {
		return nil
	}
	if err != nil {
		err = s.fail(rctx, OpBucket, "", err)
		if IsRetriable(err) || ctx.Err() != nil {
			return err
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("lifecycle rules unknown, make sure that none expires objects: %v", err))
		return nil
	}
	for _, rule := range rules.Rules {
		if !reaches(rule, s.full("")) {
			continue
		}
		id := rule.ID
		if id == "" {
			id = "(without id)"
		}
		if what := expires(rule); what != "" {
			return &Error{
				Op: OpBucket, Store: s.name, Kind: ErrExpires,
				Detail: fmt.Sprintf("lifecycle rule %q %s", id, what),
				Hint:   "remove the rule or limit it to another prefix: retention.ms and retention.bytes of each topic decide what is deleted",
			}
		}
		if class := rule.Transition.StorageClass; archives(class) {
			r.Warnings = append(r.Warnings, fmt.Sprintf(
				"lifecycle rule %q moves objects to %s, from where they cannot be read at once", id, class))
		}
	}
	return nil
}

// reaches reports whether an enabled rule can select objects under prefix. Rules
// that select by tag do not: our objects have none.
func reaches(rule lifecycle.Rule, prefix string) bool {
	if !strings.EqualFold(rule.Status, "Enabled") {
		return false
	}
	if !rule.RuleFilter.Tag.IsEmpty() || len(rule.RuleFilter.And.Tags) > 0 {
		return false
	}
	for _, p := range []string{rule.Prefix, rule.RuleFilter.Prefix, rule.RuleFilter.And.Prefix} {
		if !strings.HasPrefix(p, prefix) && !strings.HasPrefix(prefix, p) {
			return false
		}
	}
	return true
}

func expires(rule lifecycle.Rule) string {
	switch {
	case !rule.Expiration.IsDaysNull():
		return fmt.Sprintf("deletes objects after %d days", rule.Expiration.Days)
	case !rule.Expiration.IsDateNull():
		return "deletes objects on " + rule.Expiration.Date.Format("2006-01-02")
	case !rule.AllVersionsExpiration.IsNull():
		return fmt.Sprintf("deletes all versions after %d days", rule.AllVersionsExpiration.Days)
	}
	return ""
}

// archives names the classes that need a restore before a GET.
func archives(class string) bool {
	return slices.Contains([]string{"GLACIER", "DEEP_ARCHIVE"}, strings.ToUpper(class))
}

const maxStorageClass = 64

// CheckStorageClass tells whether objects of a class can be read at any time, as far
// as its name tells; empty is the bucket's default.
func CheckStorageClass(class string) error {
	if archives(class) {
		return fmt.Errorf("objects of class %s cannot be read at once; GLACIER_IR can", class)
	}
	if len(class) > maxStorageClass || strings.ContainsFunc(class, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return fmt.Errorf("%.80q is no name of a storage class, such as STANDARD_IA", class)
	}
	return nil
}

func (s *S3) probeVersioning(ctx context.Context, r *ProbeReport) error {
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	v, err := s.plain.GetBucketVersioning(rctx, s.cfg.Bucket)
	if err != nil {
		err = s.fail(rctx, OpBucket, "", err)
		if IsRetriable(err) || ctx.Err() != nil {
			return err
		}
		return nil // most stores have none, and nothing depends on it
	}
	if r.Versioned = v.Enabled(); r.Versioned {
		r.Warnings = append(r.Warnings, "the bucket keeps old versions: deleted objects go on costing until a rule for noncurrent versions removes them")
	}
	return nil
}

// probeUpload finds the cheapest way of sending bytes with a checksum that this
// store takes, and whether it looks at it.
func (s *S3) probeUpload(ctx context.Context, key string, r *ProbeReport) error {
	body := []byte(strings.Repeat(rand.Text(), 4))
	modes := []struct {
		mode checksumMode
		name string
	}{{checksumTrailer, "trailer"}, {checksumHeader, "header"}, {checksumNone, "none"}}
	var err error
	for _, m := range modes {
		if err = s.tryUpload(ctx, key, body, m.mode); err == nil {
			r.Checksum = m.name
			s.checksums.Store(int32(m.mode))
			break
		}
		if IsRetriable(err) || errors.Is(err, ErrDenied) || ctx.Err() != nil {
			return err
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("PUT with checksum %s: %v", m.name, err))
	}
	if err != nil {
		return err
	}
	if r.Checksum != "none" {
		if r.Verified, err = s.tryWrongChecksum(ctx, key, body); err != nil {
			return err
		}
	}
	if !r.Verified {
		r.Warnings = append(r.Warnings, "the store does not check uploads against their CRC32C; what was damaged on its way is found at its first read")
	}
	if err := s.tryMultipart(ctx, key, body); err != nil {
		if IsRetriable(err) || ctx.Err() != nil {
			return err
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("multipart upload, objects over %d MiB will fail: %v", singlePutBytes>>20, err))
	} else {
		r.Multipart = true
	}
	return s.Delete(ctx, key)
}

// tryUpload stores and reads body with one checksum mode.
func (s *S3) tryUpload(ctx context.Context, key string, body []byte, mode checksumMode) error {
	client, po := s.plain, s.putOptions(PutOptions{})
	switch mode {
	case checksumTrailer:
		client, po.Checksum = s.trailer, minio.ChecksumCRC32C
	case checksumHeader:
		po.UserMetadata = map[string]string{crcHeader: encodeCRC(crc32.Checksum(body, castagnoli))}
	case checksumNone:
	}
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	r := newBodyReader(Bytes(body), int64(len(body)))
	_, err := client.PutObject(rctx, s.cfg.Bucket, s.full(key), r, int64(len(body)), "", "", po)
	if err != nil {
		return s.fail(rctx, OpPut, key, err)
	}
	got := make([]byte, len(body))
	if _, err := s.GetRange(ctx, key, 0, got); err != nil {
		return err
	}
	if !bytes.Equal(got, body) { // some stores keep the framing of a trailer as content
		return s.unexpected(OpPut, key, "a GET returned other bytes than were PUT", "")
	}
	return nil
}

func (s *S3) tryWrongChecksum(ctx context.Context, key string, body []byte) (refused bool, err error) {
	po := s.putOptions(PutOptions{})
	po.UserMetadata = map[string]string{crcHeader: encodeCRC(^crc32.Checksum(body, castagnoli))}
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	r := newBodyReader(Bytes(body), int64(len(body)))
	_, err = s.plain.PutObject(rctx, s.cfg.Bucket, s.full(key), r, int64(len(body)), "", "", po)
	if err == nil {
		return false, nil
	}
	if err = s.fail(rctx, OpPut, key, err); IsRetriable(err) || ctx.Err() != nil {
		return false, err
	}
	return true, nil
}

// tryMultipart is an upload of one part, which may be small because it is the last.
func (s *S3) tryMultipart(ctx context.Context, key string, body []byte) error {
	if _, err := s.putParts(ctx, key, Bytes(body), PutOptions{}); err != nil {
		return err
	}
	got := make([]byte, len(body))
	if _, err := s.GetRange(ctx, key, 0, got); err != nil {
		return err
	}
	if !bytes.Equal(got, body) {
		return s.unexpected(OpPut, key, "a multipart upload changed the bytes", "")
	}
	return nil
}
