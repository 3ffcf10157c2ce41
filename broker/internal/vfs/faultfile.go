package vfs

import "errors"

// faultFile puts the rules of its Fault before every operation of a file.
type faultFile struct {
	File
	f *Fault
}

func (f *faultFile) check(op Op) error { return f.f.check(op, f.Name()) }

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.check(OpRead); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	rule, err := f.f.meet(OpWrite, f.Name())
	if err == nil {
		return f.File.WriteAt(p, off)
	}
	n := 0
	if first := min(rule.WriteFirst, len(p)); first > 0 {
		var werr error
		n, werr = f.File.WriteAt(p[:first], off)
		err = errors.Join(err, werr)
	}
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.check(OpTruncate); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Allocate(off, n int64) error {
	if err := f.check(OpAllocate); err != nil {
		return err
	}
	return f.File.Allocate(off, n)
}

func (f *faultFile) Sync() error {
	err := f.check(OpSync)
	if err == nil {
		return f.File.Sync()
	}
	if l, ok := f.File.(interface{ LoseUnsynced() }); ok {
		l.LoseUnsynced()
	}
	return err
}

func (f *faultFile) DropCache(off, n int64) {
	if f.check(OpDropCache) == nil {
		f.File.DropCache(off, n)
	}
}

func (f *faultFile) Resident(off, n int64) (bool, error) {
	if err := f.check(OpResident); err != nil {
		return true, err
	}
	return f.File.Resident(off, n)
}

func (f *faultFile) Close() error {
	return errors.Join(f.check(OpClose), f.File.Close())
}
