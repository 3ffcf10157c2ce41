//go:build !linux

package vfs

import "golang.org/x/sys/unix"

// Sync is the full fsync: there is no portable fdatasync.
func (o *osFile) Sync() error { return markSpace(o.f.Sync()) }

// Allocate has no portable form that keeps the length.
func (o *osFile) Allocate(_, _ int64) error { return nil }

func (o *osFile) StartWriteback(_, _ int64) {}

func (o *osFile) DropCache(_, _ int64) {}

// Resident cannot be told here, so it answers true and files that were sent are never recycled.
func (o *osFile) Resident(_, _ int64) (bool, error) { return true, nil }

func usageOf(st *unix.Statfs_t) Usage {
	return Usage{Total: int64(st.Blocks) * int64(st.Bsize), Free: int64(st.Bavail) * int64(st.Bsize)}
}
