package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	accessKey = "minioadmin"
	secretKey = "minioadmin"
	bucket    = "bench"
)

// minioServer is a MinIO process of a row.
type minioServer struct {
	*process
	addr string
}

func (l *lab) startMinIO() (*minioServer, error) {
	addrs, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	m := &minioServer{addr: addrs[0]}
	m.process, err = startProcess([]string{
		"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
	}, l.minio, "server", "--quiet", "--address", m.addr, filepath.Join(l.dir, "minio"))
	if err != nil {
		return nil, err
	}
	l.atEnd(m.kill)
	return m, m.until(func() error {
		resp, err := http.Get("http://" + m.addr + "/minio/health/cluster")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s", resp.Status)
		}
		return nil
	})
}

// storeAt is the store URL of the bench bucket behind a host:port, which may be a proxy's.
func storeAt(addr string) string {
	return fmt.Sprintf("s3://%s/varve?endpoint=http://%s&region=us-east-1&path_style=true&create_bucket=true", bucket, addr)
}

func s3Client(addr string, transport http.RoundTripper) (*minio.Core, error) {
	return minio.NewCore(addr, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1",
		BucketLookup: minio.BucketLookupPath, Transport: transport, MaxRetries: 1,
	})
}

// object is one cold object in the bucket.
type object struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
}

// coldObjects lists the data objects of a topic, in key order.
func coldObjects(addr, topic string) ([]object, error) {
	c, err := s3Client(addr, nil)
	if err != nil {
		return nil, err
	}
	var out []object
	for o := range c.ListObjectsIter(context.Background(), bucket, minio.ListObjectsOptions{Prefix: "varve/", Recursive: true}) {
		if o.Err != nil {
			return nil, fmt.Errorf("list %s: %w", bucket, o.Err)
		}
		if strings.HasSuffix(o.Key, ".seg.lz4") && strings.Contains(o.Key, "/topics/"+topic+".") {
			out = append(out, object{o.Key, o.Size})
		}
	}
	return out, nil
}
