// Package vfs is the file-system seam under everything that Varve makes durable: the operating
// system, a memory file system that can be cloned as a power cut would leave it, and a decorator
// that injects faults. It knows files and directories and nothing of logs or batches.
//
// An FS and its Files may be used from several goroutines at once. Names are slash-separated
// and, for OS, relative to the process or absolute.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrNoSpace is what an FS returns, wrapped, when it cannot get the space asked for (ENOSPC,
// EDQUOT). It is the one write error that is not final: nothing was half done.
var ErrNoSpace = errors.New("no space left on device")

// FS is one file system. Errors are *fs.PathError where there is a name to tell.
type FS interface {
	// Create makes a new file for reading and writing; it fails with fs.ErrExist if the name is
	// taken. The name is durable only after SyncDir of its directory.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Rename replaces newName atomically. It is durable only after SyncDir of both directories,
	// and the content only if the file was synced before.
	Rename(oldName, newName string) error
	// Remove deletes one file or empty directory.
	Remove(name string) error
	// RemoveAll deletes a tree; a name that is not there is no error.
	RemoveAll(name string) error
	// MkdirAll makes a directory and its parents; each new name is durable after SyncDir of its parent.
	MkdirAll(name string) error
	// ReadDir lists a directory sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive advisory lock on a file, which it creates if needed. It fails at
	// once if another process (or another Lock of this FS) holds it.
	Lock(name string) (io.Closer, error)
	// Usage tells the size and the free bytes of the file system that holds name.
	Usage(name string) (Usage, error)
}

// Usage is what statfs tells, in bytes. Free is what an unprivileged writer may still take.
type Usage struct{ Total, Free int64 }

// File is one open file. ReadAt and WriteAt have the io contracts.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Name is the name it was opened by.
	Name() string
	// Size is the current length in bytes.
	Size() (int64, error)
	// Truncate sets the length; what is cut is gone, what is added reads as zeros.
	Truncate(size int64) error
	// Allocate reserves disk space for [off, off+n) without changing the length, so that a later
	// write there cannot fail with ErrNoSpace. Where the file system cannot, it does nothing.
	Allocate(off, n int64) error
	// Sync is fdatasync: contents and the length are durable after it. After an error it must
	// not be called again on this file (a second call can report success for lost pages).
	Sync() error
	// StartWriteback asks for [off, off+n) to be written soon, without waiting and without any
	// promise (sync_file_range).
	StartWriteback(off, n int64)
	// DropCache asks the cache to forget clean pages of [off, off+n); n 0 means to the end.
	DropCache(off, n int64)
	// Resident tells whether any page of [off, off+n) is in the page cache (mincore). Where it
	// cannot be told it answers true.
	Resident(off, n int64) (bool, error)
	// FD is the descriptor for sendfile; ok is false for files that have none.
	FD() (fd uintptr, ok bool)
}
